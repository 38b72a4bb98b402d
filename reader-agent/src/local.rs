//! What does the agent that runs on this machine say of itself?

use std::fs;
use std::time::Duration;

use crate::app::KIOSK_ADDRESS;
use crate::authority::tls;
use crate::config::Config;
use crate::error::AgentError;
use crate::health::Report;

/// How long the running agent may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const ANSWER_MAX: usize = 65_536;

/// Why it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silent {
    #[error("it has not run here yet")]
    NeverRan,
    #[error("{detail}")]
    NoAnswer { detail: String },
    #[error("another program answers in its place ({detail})")]
    Stranger { detail: String },
}

/// Asks over loopback, at the address that the agent left.
pub async fn report(config: &Config) -> Result<Report, Silent> {
    let path = config.data_dir.join(KIOSK_ADDRESS);
    let address = fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Silent::NeverRan,
        _ => no_answer(format!("{}: {error}", path.display())),
    })?;
    let url = format!("http://{}/ready", address.trim());
    let client = client().map_err(no_answer)?;
    let answer = client.get(url).send().await;
    let answer = answer.map_err(|error| no_answer(error.without_url()))?;
    let body = whole(answer).await?;
    let report: Report = serde_json::from_slice(&body).map_err(stranger)?;
    if report.terminal != config.terminal.to_string() {
        let other = format!("the agent of terminal {}", report.terminal);
        return Err(stranger(other));
    }
    Ok(report)
}

/// For plain HTTP on this machine or in its network.
pub(crate) fn client() -> Result<reqwest::Client, AgentError> {
    reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls::none()?)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_TIMEOUT)
        .build()
        .map_err(AgentError::bug)
}

async fn whole(mut answer: reqwest::Response) -> Result<Vec<u8>, Silent> {
    let mut all = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(no_answer)? {
        if all.len() + part.len() > ANSWER_MAX {
            return Err(stranger(format!("more than {ANSWER_MAX} bytes")));
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

fn no_answer(detail: impl std::fmt::Display) -> Silent {
    Silent::NoAnswer {
        detail: detail.to_string(),
    }
}

fn stranger(detail: impl std::fmt::Display) -> Silent {
    Silent::Stranger {
        detail: detail.to_string(),
    }
}

//! How is a bank, a wallet or a carrier asked over HTTP?
//!
//! JSON over TLS, signed with the request key. An answer counts if its status is 200, it repeats key and
//! amount, and it is one that the call may have; whatever else comes back is unknown, never a refusal.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::money::Money;
use protocol::receipt::Payee;
use protocol::typ;
use protocol::wire::rails::{
    AUTHORISE, CAPTURE, OrderCall, Outcome, QUERY, RAIL_ANSWER_MAX, REFUND, REVERSE, RailAnswer,
    RefundCall,
};
use reqwest::{Certificate, Client, StatusCode, Url, redirect};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{Answer, Order, REFERENCE_CHARS_MAX, Rail, RailKey, Reason, Refund, Standing};
use crate::config::RailConfig;
use crate::services::requests::{Request, Requests};
use crate::services::sign_in::keys::chain;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A rail's section of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("rail {name}: {problem}")]
pub struct RailError {
    pub name: String,
    pub problem: String,
}

/// One rail that speaks HTTP.
pub struct HttpRail {
    url: String,
    client: Client,
    requests: Requests,
    /// From the call to the last byte of the answer.
    deadline: Duration,
    /// Calls at a time; one more waits within its deadline.
    calls: Semaphore,
}

impl HttpRail {
    pub fn new(config: &RailConfig, requests: Requests) -> Result<Self, RailError> {
        let failed = |problem: String| RailError {
            name: config.name.clone(),
            problem,
        };
        let url = Url::parse(&config.url).map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            client: client(config, &url).map_err(failed)?,
            url: config.url.trim_end_matches('/').to_owned(),
            requests,
            deadline: Duration::from_millis(config.deadline_ms),
            calls: Semaphore::new(config.calls_max),
        })
    }

    async fn order(&self, verb: &str, order: &Order) -> Result<RailAnswer, String> {
        let call = OrderCall {
            key: order.key.0,
            payment: order.payment,
            account: order.account.clone(),
            amount: order.amount,
            payee: Payee {
                id: order.payee,
                name: order.payee_name.clone(),
            },
            terminal: order.terminal,
            charge: order.charge,
        };
        self.call(verb, order.key, order.amount, &call).await
    }

    async fn call(
        &self,
        verb: &str,
        key: RailKey,
        amount: Money,
        body: &impl Serialize,
    ) -> Result<RailAnswer, String> {
        let calling = async {
            let _place = self.calls.acquire().await.map_err(|e| e.to_string())?;
            let bytes = self.exchange(verb, key, body).await?;
            let answer: RailAnswer =
                serde_json::from_slice(&bytes).map_err(|error| format!("it answers {error}"))?;
            if (answer.key, answer.amount) != (key.0, amount) {
                return Err("it answers about something else".to_owned());
            }
            Ok(answer)
        };
        match tokio::time::timeout(self.deadline, calling).await {
            Ok(answered) => answered,
            Err(_) => Err("it did not answer in time".to_owned()),
        }
    }

    async fn exchange(
        &self,
        verb: &str,
        key: RailKey,
        body: &impl Serialize,
    ) -> Result<Vec<u8>, String> {
        let url = format!("{}/{verb}", self.url);
        let body = serde_json::to_vec(body).expect("ids, amounts and texts serialize");
        let signing = Request {
            url: &url,
            tag: typ::RAIL_REQUEST,
            idempotency_key: &key.to_string(),
            body: &body,
        };
        let headers = self.requests.sign(&signing).await;
        let headers = headers.map_err(|error| error.to_string())?;
        let mut request = self.client.post(&url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(chain)?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers {}", response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(chain)? {
            if bytes.len() + chunk.len() > RAIL_ANSWER_MAX {
                return Err(format!("it answers more than {RAIL_ANSWER_MAX} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

#[async_trait]
impl Rail for HttpRail {
    async fn authorise(&self, order: &Order) -> Answer {
        answer(self.order(AUTHORISE, order).await)
    }

    async fn capture(&self, order: &Order) -> Answer {
        answer(self.order(CAPTURE, order).await)
    }

    async fn reverse(&self, order: &Order) -> Answer {
        answer(self.order(REVERSE, order).await)
    }

    async fn refund(&self, refund: &Refund) -> Answer {
        let call = RefundCall {
            key: refund.key.0,
            of: refund.of.0,
            account: refund.account.clone(),
            amount: refund.amount,
        };
        answer(self.call(REFUND, refund.key, refund.amount, &call).await)
    }

    async fn query(&self, order: &Order) -> Standing {
        standing(self.order(QUERY, order).await)
    }
}

fn answer(said: Result<RailAnswer, String>) -> Answer {
    let unknown = |why| Answer::Unknown { why };
    let said = match said {
        Ok(said) => said,
        Err(why) => return unknown(why),
    };
    match said.outcome {
        Outcome::Done => match reference(said) {
            Ok(reference) => Answer::Done { reference },
            Err(why) => unknown(why),
        },
        Outcome::Declined => Answer::Declined {
            reason: reason(&said),
        },
        other => unknown(format!("it answers {other:?}")),
    }
}

fn standing(said: Result<RailAnswer, String>) -> Standing {
    let unknown = |why| Standing::Unknown { why };
    let said = match said {
        Ok(said) => said,
        Err(why) => return unknown(why),
    };
    match said.outcome {
        Outcome::Unseen => Standing::Unseen,
        Outcome::Reversed => Standing::Reversed,
        Outcome::Declined => Standing::Declined {
            reason: reason(&said),
        },
        Outcome::Authorised => match reference(said) {
            Ok(reference) => Standing::Authorised { reference },
            Err(why) => unknown(why),
        },
        Outcome::Captured => match reference(said) {
            Ok(reference) => Standing::Captured { reference },
            Err(why) => unknown(why),
        },
        Outcome::Done => unknown("it answers Done to a query".to_owned()),
    }
}

/// It goes into receipts and statements, so it is short and can be printed.
fn reference(said: RailAnswer) -> Result<String, String> {
    let reference = said.reference.unwrap_or_default();
    let long = reference.chars().count() > REFERENCE_CHARS_MAX;
    if reference.is_empty() || long || reference.chars().any(char::is_control) {
        return Err("it answers without a reference that can be kept".to_owned());
    }
    Ok(reference)
}

/// A word that is not known is a refusal all the same.
fn reason(said: &RailAnswer) -> Reason {
    let given = said.reason.as_deref().and_then(|it| it.parse().ok());
    match given {
        Some(Reason::Silent | Reason::Cancelled) | None => Reason::Refused,
        Some(reason) => reason,
    }
}

fn client(config: &RailConfig, url: &Url) -> Result<Client, String> {
    // The one provider of this process; whoever comes second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .timeout(Duration::from_millis(config.deadline_ms))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .https_only(url.scheme() == "https");
    let builder = match &config.ca_file {
        None => builder,
        Some(path) => {
            let failed = |error: String| format!("{}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|e| failed(e.to_string()))?;
            builder.tls_certs_only(roots)
        }
    };
    builder.build().map_err(chain)
}

/// The rails of the configuration.
pub(super) fn all(rails: &[RailConfig], requests: &Requests) -> Result<super::Rails, RailError> {
    let made = rails.iter().map(|config| {
        let rail: Arc<dyn Rail> = Arc::new(HttpRail::new(config, requests.clone())?);
        Ok((config.name.clone(), rail))
    });
    Ok(super::Rails::new(made.collect::<Result<Vec<_>, _>>()?))
}

//! What is wrong with this terminal, how bad is it, and who does what about it?
//!
//! ```text
//!  the agent, if it runs ─┐
//!  files, disk ───────────┼─▶ looks (I/O, each bounded) ─▶ facts ─▶ judgements ─▶ [`Diagnosis`]
//!  card service, network ─┘
//! ```
//! Nothing is changed by looking, and nothing is asked that only one process may ask: where the agent
//! runs, it owns the reader and is asked about it.

mod agent;
mod cards;
mod disk;
mod files;
mod kept;
mod network;
mod wear;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::config::{Config, TagPath};
use crate::error::{AgentError, Whose};
use crate::local;
use kept::Kept;
use network::Place;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// It works, but not for long or not all of it.
    Attention,
    /// It does not do its work.
    Broken,
}

/// Who acts next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mover {
    /// Whoever stands at the terminal.
    Merchant,
    /// Who set this machine up, and may change it.
    Installer,
    /// Who runs the authority.
    Operator,
    /// It passes by itself.
    Nobody,
}

/// What to do, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    pub whose: Mover,
    pub what: String,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub subject: &'static str,
    pub verdict: Verdict,
    pub says: String,
    pub fix: Option<Fix>,
}

/// All findings of one examination.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// None: there is no configuration that says.
    pub terminal: Option<String>,
    pub version: &'static str,
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
}

/// Looks at everything. Takes half a minute at most, whatever hangs.
pub async fn examine(config_path: &Path) -> Diagnosis {
    let config = match Config::load(config_path) {
        Ok(config) => config,
        Err(error) => return Diagnosis::of(None, vec![no_configuration(&error)]),
    };
    let shown = config_path.display();
    let mut findings = vec![Finding::ok("configuration", format!("{shown} is sound"))];
    findings.extend(files::look(&config.data_dir));
    findings.push(disk::look(&config.data_dir));
    let answer = local::report(&config).await;
    findings.push(agent::judge(&answer));
    let report = answer.ok();
    let kept = Kept::read(&config);
    let place = Place::of(&config.authority);
    let reached = network::look(&place, &config.authority, &kept).await;
    findings.push(network::judge(&place, &reached));
    findings.extend(kept::judge(&kept, report.as_ref(), &reached));
    if let TagPath::Pcsc { reader_name } = &config.tag {
        findings.extend(cards::look(reader_name.as_deref(), report.as_ref()).await);
        findings.extend(report.as_ref().and_then(wear::judge));
    }
    Diagnosis::of(Some(config.terminal.to_string()), findings)
}

fn no_configuration(error: &AgentError) -> Finding {
    let whose = match error.whose() {
        Whose::Ours => Mover::Operator,
        _ => Mover::Installer,
    };
    let says = format!("{error}; nothing else can be looked at before this is right");
    Finding::broken("configuration", says, whose, error.hint())
}

/// A call that may never return gets a thread of its own, and this waits no longer than `limit` for it.
async fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, answer) = tokio::sync::oneshot::channel();
    // Nobody waits for it any more if it is late.
    std::thread::spawn(move || drop(done.send(call())));
    tokio::time::timeout(limit, answer).await.ok()?.ok()
}

impl Diagnosis {
    fn of(terminal: Option<String>, findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.verdict).max();
        Self {
            terminal,
            version: env!("CARGO_PKG_VERSION"),
            verdict: worst.unwrap_or(Verdict::Ok),
            findings,
        }
    }

    /// How many findings are this bad.
    pub fn count(&self, verdict: Verdict) -> usize {
        let such = self.findings.iter().filter(|it| it.verdict == verdict);
        such.count()
    }
}

impl Finding {
    fn ok(subject: &'static str, says: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Ok,
            says: says.into(),
            fix: None,
        }
    }

    fn attention(
        subject: &'static str,
        says: impl Into<String>,
        whose: Mover,
        what: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Attention,
            fix: Some(Fix::new(whose, what)),
            ..Self::ok(subject, says)
        }
    }

    fn broken(
        subject: &'static str,
        says: impl Into<String>,
        whose: Mover,
        what: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Broken,
            ..Self::attention(subject, says, whose, what)
        }
    }
}

impl Fix {
    fn new(whose: Mover, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { whose, what }
    }
}

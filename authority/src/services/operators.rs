//! What may an operator ask for?
//!
//! Each verb is a request type with its answer; the running daemon takes it over HTTP, and a stopped
//! one through `--offline`: the same function either way.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::app::App;

mod accounts;
mod audit;
mod certificates;
mod merchants;
mod terminals;
pub mod trust;

pub use accounts::{AccountCredit, AccountOpen, AccountView, LedgerCheck, LedgerView};
pub use audit::{AuditVerify, AuditView};
pub use certificates::{CertificateIssue, Holder, IssuedView};
pub use merchants::{MerchantAdd, MerchantList, MerchantView, Merchants};
pub use terminals::{
    JoinView, TerminalAdd, TerminalBan, TerminalJoin, TerminalList, TerminalShow, TerminalView,
    Terminals,
};
pub use trust::{TrustInstall, TrustPlan, TrustShow, TrustView};

/// Longest name of a terminal or merchant, in bytes: it is shown on phones and screens.
pub const NAME_MAX: usize = 80;
/// Most entries of one list.
pub const LIST_MAX: u32 = 1_000;

/// How many people a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The one who asks.
    One,
    /// As many more as the approval policy says.
    Approved,
}

/// One thing an operator can ask for.
pub trait Verb: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The last part of its address, and its name in the audit chain.
    const NAME: &'static str;
    /// Whether it changes anything: then the audit chain says who asked.
    const CHANGES: bool;
    /// Largest request, in bytes.
    const BODY_MAX: u64 = 16 * 1024;
    /// Whether other operators must agree before it is carried out.
    fn gate(&self) -> Gate {
        Gate::One
    }
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    fn run(self, app: &App) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

/// Carries out `verb` for the operator `by`.
pub async fn carry_out<V: Verb>(app: &App, by: &str, verb: V) -> Result<V::Answer, Failure> {
    if V::CHANGES {
        let body = serde_json::json!({ "operator": by, "verb": V::NAME }).to_string();
        app.store
            .note("operator.asked", body, app.clock.now())
            .await?;
    }
    let done = verb.run(app).await;
    tracing::info!(
        operator = by,
        verb = V::NAME,
        ok = done.is_ok(),
        "operator verb"
    );
    done
}

fn check_name(name: &str) -> Result<(), Failure> {
    let printable = !name.trim().is_empty() && !name.chars().any(char::is_control);
    if printable && name.len() <= NAME_MAX {
        return Ok(());
    }
    Err(malformed(format!(
        "a name has 1 to {NAME_MAX} bytes and no control characters"
    )))
}

fn malformed(detail: impl std::fmt::Display) -> Failure {
    refused(protocol::problem::ProblemType::MalformedRequest, detail)
}

fn refused(problem: protocol::problem::ProblemType, detail: impl std::fmt::Display) -> Failure {
    protocol::problem::Problem::new(problem)
        .with_detail(detail)
        .into()
}

//! What may an operator ask for?
//!
//! Each verb is a request type with its answer; the running daemon takes it over HTTP, and a stopped
//! one through `--offline`: the same function either way.

use std::sync::Arc;

use protocol::problem::ProblemType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::consent::{Admission, Wanted, admit};
use super::neighbours;
use super::rotation::Asked;
use super::to_the_end::to_the_end;
use crate::app::App;
use crate::store::{RequestId, asked_by, may_lag, unhurried};

mod accounts;
mod alarms;
mod audit;
mod books;
mod ceremonies;
mod certificates;
mod consents;
mod disputes;
mod every;
mod fence;
mod intents;
mod join_tokens;
mod keys;
mod lost;
mod merchants;
mod nodes;
mod operations;
mod people;
mod policy;
mod seeds;
mod shoppers;
mod tag_forecast;
mod tags;
mod terminals;
pub mod trust;
mod webhooks;

pub use accounts::{AccountCredit, AccountOpen, AccountView, LedgerCheck, LedgerView};
pub use alarms::{AlarmClose, AlarmList, AlarmView, Alarms, TagAlarmView};
pub use audit::{AuditVerify, AuditView};
pub use books::{
    MerchantHistory, MerchantPin, MerchantSet, MerchantShow, Piece, RefundGive, SettlementClose,
    SettlementExport, SettlementList, SettlementView, SettlementsView, TermsView,
};
pub use ceremonies::{Agreed, IssuingAgree, RootAgree};
pub use certificates::{
    CertificateIssue, CertificateList, CertificateRevoke, CertificateShow, CertificateView,
    Certificates, Issued, IssuedView,
};
pub use consents::{
    CarriedOut, ConsentAsk, ConsentCarryOut, ConsentDraft, ConsentList, ConsentRefuse, ConsentShow,
    ConsentSign, Drafted, RequestView, Requests, ShownRequest,
};
pub use disputes::{DisputeShow, DisputeView};
pub use every::{Named, every_verb, named, names};
pub use fence::{FenceRaise, FenceStatus, FenceView, RaisedView};
pub use intents::{IntentList, IntentShow, IntentView, IntentsView, OpenView};
pub use join_tokens::{JoinTokenList, JoinTokenRevoke, JoinTokenView, JoinTokens};
pub use keys::{KeyList, KeyStep, KeyView, Keys, Planned};
pub use lost::{ComparedView, FenceCompare};
pub use merchants::{MerchantAdd, MerchantList, MerchantView, Merchants};
pub use nodes::{
    NodeForget, NodeForgotten, NodeList, NodeRenew, NodeState, NodeView, Nodes, ReplicaView,
};
pub use operations::{
    OperationList, OperationShow, OperationTranscript, OperationView, OperationsView,
    TranscriptView,
};
pub use people::{OperatorAdd, OperatorList, OperatorRevoke, OperatorView, Operators, Renewal};
pub use policy::{PolicySet, PolicyShow, PolicyView};
pub use seeds::{Fleet, SeedRotate, TerminalUnban};
pub use shoppers::{
    MerchantLimit, MerchantLimitView, ShopperLock, ShopperShow, ShopperUnlock, ShopperView,
    StandingView,
};
pub use tag_forecast::{
    EndingView, FORECAST_MAX_DAYS, ForecastView, MonthView, TagForecast, WornView,
};
pub use tags::{KeyText, TagKeys, TagKeysView, TagList, TagRetire, TagShow, TagView, Tags};
pub use terminals::{
    JoinView, SlowedView, TerminalAdd, TerminalBan, TerminalJoin, TerminalList, TerminalShow,
    TerminalView, Terminals,
};
pub use trust::{RootState, TrustInstall, TrustPlan, TrustShow, TrustStage, TrustView};
pub use webhooks::{
    RetriedView, WebhookList, WebhookRemove, WebhookRetry, WebhookSet, WebhookView, WebhooksView,
};

/// Longest name of a terminal or merchant, in bytes: it is shown on phones and screens.
pub const NAME_MAX: usize = 80;
/// Most entries of one list.
pub const LIST_MAX: u32 = 1_000;

/// Most verbs that are carried out at the same time, those of askers who hung up among them.
pub const VERBS_MAX: usize = 64;

/// How many people a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The one who asks.
    One,
    /// As many more as the consent policy says.
    Consented,
}

/// One thing an operator can ask for.
pub trait Verb: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The last part of its address, and its name in the audit chain.
    const NAME: &'static str;
    /// Whether it changes anything: then the audit chain says who asked.
    const CHANGES: bool;
    /// Largest request, in bytes.
    const BODY_MAX: u64 = 17 * 1024;
    /// Whether it may be carried out while the database is behind the world and nothing is served.
    const WHILE_FENCED: bool = false;
    /// Whether it only looks, and may look at a copy of the database that is a little behind. Never true of what
    /// decides about money, keys, tokens or bans.
    const MAY_LAG: bool = false;
    /// Whether other operators must consent before it is carried out.
    fn gate(&self) -> Gate {
        Gate::One
    }
    /// Whether its answer holds no secret, so that it may be kept for an asker who did not hear it.
    const ANSWER_KEPT: bool = false;
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    fn run(self, app: &App) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// The same, for a verb that records who asked.
    fn run_as(
        self,
        app: &App,
        asker: &Asker,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send {
        let _ = asker;
        self.run(app)
    }
}

/// Who asks, and what others agreed to.
#[derive(Debug, Clone)]
pub struct Asker {
    pub by: String,
    /// The request that other operators consented to.
    pub consent: Option<String>,
}

impl Asker {
    /// Nobody who could be named: a caller inside the house.
    fn unnamed() -> Self {
        Self {
            by: "authority".into(),
            consent: None,
        }
    }

    fn of(&self, verb: &'static str) -> Asked {
        Asked {
            verb,
            by: self.by.clone(),
            consent: self.consent.clone(),
        }
    }
}

/// Carries out `verb` for the operator `by`, if as many others consented as the policy says.
pub async fn carry_out<V: Verb>(app: &App, by: &str, verb: V) -> Result<V::Answer, Failure> {
    carry_out_request(app, by, verb, None).await
}

/// The same for an asker who may hang up: a verb that has begun runs to its end, so that what it commits
/// is announced, and the request that others consented to is ended.
pub async fn carry_out_to_the_end<V: Verb>(
    app: &Arc<App>,
    by: &str,
    verb: V,
) -> Result<V::Answer, Failure> {
    let under_way = app.verbs.clone().try_acquire_owned().map_err(|_| {
        protocol::problem::Problem::new(ProblemType::Busy)
            .with_detail(format!("{VERBS_MAX} verbs are being carried out"))
            .with_retry_after(1)
    })?;
    let (app, by) = (app.clone(), by.to_owned());
    let running = async move {
        let _under_way = under_way;
        carry_out(&app, &by, verb).await
    };
    let ended = to_the_end(running).await;
    ended.unwrap_or_else(|| Err(ProblemType::Internal.into()))
}

/// The one place that everything operators ask for passes. `request`: the one that others consented
/// to; none: whichever is for exactly this.
async fn carry_out_request<V: Verb>(
    app: &App,
    by: &str,
    verb: V,
    request: Option<RequestId>,
) -> Result<V::Answer, Failure> {
    if let Some(problem) = app.fence.operator_problem().filter(|_| !V::WHILE_FENCED) {
        return Err(problem.into());
    }
    // What others did to keys and bans is not known here now: another node carries it out.
    let changes = V::CHANGES && !V::WHILE_FENCED;
    if let Some(problem) = neighbours::problem(app).filter(|_| changes) {
        return Err(problem.into());
    }
    let admission = match verb.gate() {
        Gate::One => Admission::NotNeeded,
        Gate::Consented => {
            let (verb, body) = (V::NAME, written(&verb)?);
            let body = &body;
            admit(
                app,
                by,
                &Wanted {
                    verb,
                    body,
                    request,
                },
            )
            .await?
        }
    };
    let grant = match admission {
        Admission::NotNeeded => None,
        Admission::Granted(grant) => Some(grant),
        Admission::Done(answer) => return said_before::<V>(answer),
    };
    let asker = Asker {
        by: by.to_owned(),
        consent: grant.as_ref().map(|grant| grant.id().to_string()),
    };
    note_asked::<V>(app, &asker).await?;
    // An operator waits: an audit of years takes longer than a counter may.
    let running = unhurried(asked_by(by, verb.run_as(app, &asker)));
    let done = match V::MAY_LAG {
        false => running.await,
        true => may_lag(running).await,
    };
    let ok = done.is_ok();
    tracing::info!(operator = by, verb = V::NAME, ok, "operator verb");
    let answer = done?;
    if let Some(grant) = grant {
        let kept = V::ANSWER_KEPT.then(|| written(&answer)).transpose()?;
        grant.end(kept).await?;
    }
    Ok(answer)
}

async fn note_asked<V: Verb>(app: &App, asker: &Asker) -> Result<(), Failure> {
    if !V::CHANGES {
        return Ok(());
    }
    let mut body = serde_json::json!({ "operator": asker.by, "verb": V::NAME });
    if let Some(consent) = &asker.consent {
        body["consent"] = consent.as_str().into();
    }
    let now = app.clock.now();
    Ok(app
        .store
        .note("operator.asked", body.to_string(), now)
        .await?)
}

/// A request is carried out once; who did not hear the answer gets the same again, if it was kept.
fn said_before<V: Verb>(answer: Option<String>) -> Result<V::Answer, Failure> {
    let answer = answer.and_then(|answer| serde_json::from_str(&answer).ok());
    answer.ok_or_else(|| {
        let detail = "it was carried out before, and its answer is not kept";
        refused(ProblemType::ConsentRefused, detail)
    })
}

/// The same value is always written the same way.
fn written(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(malformed)
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
    refused(ProblemType::MalformedRequest, detail)
}

fn refused(problem: ProblemType, detail: impl std::fmt::Display) -> Failure {
    protocol::problem::Problem::new(problem)
        .with_detail(detail)
        .into()
}

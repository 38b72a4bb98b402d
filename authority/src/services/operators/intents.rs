//! Which payments does an outside rail still owe an answer for?

use std::collections::BTreeSet;

use protocol::ids::{ChargeId, ClaimId, MerchantId, PaymentId};
use protocol::money::Money;
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, refused};
use crate::app::App;
use crate::services::Failure;
use crate::store::{Intent, RailKey};

/// What is open, the oldest first; with `all` what is over, too, the latest first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentList {
    #[serde(default)]
    pub rail: Option<String>,
    #[serde(default)]
    pub all: bool,
    /// Only those before this one; with `all`.
    #[serde(default)]
    pub before: Option<PaymentId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentShow {
    pub payment: PaymentId,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct IntentsView {
    /// How many are open, listed or not.
    pub open: Vec<OpenView>,
    pub intents: Vec<IntentView>,
    /// There are more than are listed.
    pub more: bool,
}

/// Open intents of one rail in one state.
#[derive(Debug, Serialize, Deserialize)]
pub struct OpenView {
    pub rail: String,
    pub state: String,
    pub count: u64,
    /// When the oldest of them started.
    pub oldest: Timestamp,
    /// Whether the configuration has this rail.
    pub configured: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct IntentView {
    pub payment: PaymentId,
    pub claim: ClaimId,
    pub charge: ChargeId,
    pub merchant: MerchantId,
    pub amount: Money,
    pub rail: String,
    /// Whether the configuration has this rail.
    pub configured: bool,
    /// What every call about it carried: the rail finds it by that.
    pub rail_key: RailKey,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rail_reference: Option<String>,
    pub state: String,
    /// Why it is declined or taken back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Calls without an answer since the last change of state.
    pub tries: u32,
    pub started_at: Timestamp,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When it is taken up again; absent: it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_at: Option<Timestamp>,
}

impl Verb for IntentList {
    const NAME: &'static str = "intent-list";
    const CHANGES: bool = false;
    type Answer = IntentsView;

    async fn run(self, app: &App) -> Result<IntentsView, Failure> {
        let (store, rails) = (&app.store, configured(app));
        let of_rail = |rail: &str| self.rail.as_deref().is_none_or(|only| only == rail);
        let counts = store.count_open_intents().await?;
        let open = counts.into_iter().filter(|count| of_rail(&count.rail));
        let open = open.map(|count| OpenView {
            configured: rails.contains(count.rail.as_str()),
            rail: count.rail,
            state: count.state.name().into(),
            count: count.count,
            oldest: count.oldest,
        });
        let open = open.collect();
        let mut found = match self.all {
            true => store.latest_intents(self.rail.clone(), self.before, LIST_MAX + 1),
            false => store.open_intents(self.rail.clone(), LIST_MAX + 1),
        }
        .await?;
        let more = found.len() > LIST_MAX as usize;
        found.truncate(LIST_MAX as usize);
        let intents = found.into_iter().map(|it| view(it, &rails)).collect();
        Ok(IntentsView {
            open,
            intents,
            more,
        })
    }
}

impl Verb for IntentShow {
    const NAME: &'static str = "intent-show";
    const CHANGES: bool = false;
    type Answer = IntentView;

    async fn run(self, app: &App) -> Result<IntentView, Failure> {
        let found = app.store.intent(self.payment).await?;
        let found = found.ok_or_else(|| {
            let detail = format!("no rail was asked for {}", self.payment);
            refused(ProblemType::Unknown, detail)
        })?;
        Ok(view(found, &configured(app)))
    }
}

fn configured(app: &App) -> BTreeSet<&str> {
    let names = app.config.rails.iter().map(|rail| rail.name.as_str());
    names.collect()
}

fn view(intent: Intent, rails: &BTreeSet<&str>) -> IntentView {
    let claimed = intent.approved.claimed();
    IntentView {
        payment: intent.payment,
        claim: claimed.claim,
        charge: claimed.charge,
        merchant: claimed.payee,
        amount: intent.approved.amount(),
        configured: rails.contains(intent.rail.as_str()),
        rail: intent.rail,
        rail_key: intent.key,
        rail_reference: intent.rail_reference,
        state: intent.state.name().into(),
        reason: intent.reason.map(|reason| reason.name().into()),
        tries: intent.tries,
        started_at: intent.started_at,
        since: intent.changed_at,
        next_at: intent.next_at,
    }
}

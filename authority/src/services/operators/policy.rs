//! How many operators must consent to what?

use pki::consent::Policy;
use serde::{Deserialize, Serialize};

use super::{Asker, Gate, Verb, malformed, refused};
use crate::app::App;
use crate::services::Failure;
use crate::store::Bar;
use protocol::problem::ProblemType;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyShow {}

/// Replaces the policy.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySet {
    pub policy: Policy,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PolicyView {
    pub policy: Policy,
    /// How many operators can sign.
    pub able: u32,
}

impl Verb for PolicyShow {
    const NAME: &'static str = "policy-show";
    const CHANGES: bool = false;
    type Answer = PolicyView;

    async fn run(self, app: &App) -> Result<PolicyView, Failure> {
        view(app).await
    }
}

impl Verb for PolicySet {
    const NAME: &'static str = "policy-set";
    const CHANGES: bool = true;
    const ANSWER_KEPT: bool = true;
    type Answer = PolicyView;

    fn gate(&self) -> Gate {
        Gate::Consented
    }

    async fn run(self, app: &App) -> Result<PolicyView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<PolicyView, Failure> {
        self.policy.check().map_err(malformed)?;
        let now = app.clock.now();
        let set = app.store.set_consent_policy(self.policy, &asker.by, now);
        match set.await? {
            Bar::Done | Bar::Unknown => view(app).await,
            Bar::Stranded { able, required } => Err(stranded(able, required)),
        }
    }
}

async fn view(app: &App) -> Result<PolicyView, Failure> {
    let operators = app.store.operators(app.clock.now()).await?;
    let able = operators.iter().filter(|it| it.can_sign()).count();
    Ok(PolicyView {
        policy: app.store.consent_policy().await?,
        able: u32::try_from(able).unwrap_or(u32::MAX),
    })
}

/// Nothing on the list could be carried out any more.
pub(super) fn stranded(able: u32, required: u32) -> Failure {
    let detail = format!(
        "{able} operators could sign, and the policy needs {required} besides the one who asks"
    );
    refused(ProblemType::WouldStrand, detail)
}

//! What do operators consent to that is done at the signer or at the offline root?
//!
//! These verbs do nothing but write down that it was agreed to. The transcript of the request is what
//! counts, there: `m2key-pki issuing … --transcript`, `m2key-pki root … --transcript`.

use pki::consent::{CeremonyStep, IssuingStep, RootStep};
use serde::{Deserialize, Serialize};

use super::{Asker, Gate, Verb, written};
use crate::app::App;
use crate::services::Failure;

/// A step of an issuing key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssuingAgree(pub IssuingStep);

/// A signature of a root.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootAgree(pub RootStep);

/// What was agreed to, and is not done by that.
#[derive(Debug, Serialize, Deserialize)]
pub struct Agreed {
    pub step: String,
}

impl Verb for IssuingAgree {
    const NAME: &'static str = IssuingStep::VERB;
    const CHANGES: bool = true;
    // The issuing CA may be what has to be replaced before anything can be served.
    const WHILE_FENCED: bool = true;
    const ANSWER_KEPT: bool = true;
    type Answer = Agreed;

    fn gate(&self) -> Gate {
        Gate::Consented
    }

    async fn run(self, app: &App) -> Result<Agreed, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<Agreed, Failure> {
        note(app, &self.0, asker).await
    }
}

impl Verb for RootAgree {
    const NAME: &'static str = RootStep::VERB;
    const CHANGES: bool = true;
    // As above.
    const WHILE_FENCED: bool = true;
    const ANSWER_KEPT: bool = true;
    type Answer = Agreed;

    fn gate(&self) -> Gate {
        Gate::Consented
    }

    async fn run(self, app: &App) -> Result<Agreed, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<Agreed, Failure> {
        note(app, &self.0, asker).await
    }
}

async fn note<S: CeremonyStep>(app: &App, step: &S, asker: &Asker) -> Result<Agreed, Failure> {
    let body = serde_json::json!({
        "verb": S::VERB, "step": step.body(), "operator": asker.by, "consent": asker.consent,
    });
    let now = app.clock.now();
    app.store
        .note("ceremony.agreed", written(&body)?, now)
        .await?;
    Ok(Agreed { step: step.words() })
}

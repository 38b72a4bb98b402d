//! Which keys are there, and how are those of the HSM replaced?

use pki::lifecycle::KeyState;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::operations::OperationView;
use super::{Asker, Gate, Verb};
use crate::app::App;
use crate::clock::unix_seconds;
use crate::services::Failure;
use crate::services::operators::trust::states;
use crate::services::readiness::Watched;
use crate::services::rotation::{self, Asked, KeyVerb, Plan, StepWanted, due};
use crate::store::{KeyPurpose, KeyRecord};

/// Every key whose life somebody must answer for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyList {}

#[derive(Debug, Serialize, Deserialize)]
pub struct Keys {
    pub keys: Vec<KeyView>,
}

/// One key, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// schedule, receipt, checkpoint, request, sealing, binding, tag; root, issuing; listener, operator.
    pub purpose: String,
    /// The label in the HSM, or whose certificate it is in.
    pub name: String,
    /// Kid, fingerprint or serial.
    pub id: String,
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub made_at: Option<Timestamp>,
    /// By when its next step, or its next certificate, is due.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due_at: Option<Timestamp>,
    pub overdue: bool,
    /// Who took the last step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// The request that others consented to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consent: Option<String>,
}

/// One step of one key of the HSM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStep {
    pub step: KeyVerb,
    /// A purpose, a kid or a label.
    pub key: String,
    /// Activates a key that others cannot have fetched yet.
    #[serde(default)]
    pub now: bool,
    /// Says what it would do, and does nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Planned {
    pub says: Vec<String>,
    /// None when nothing was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<OperationView>,
}

impl Verb for KeyList {
    const NAME: &'static str = "key-list";
    const CHANGES: bool = false;
    type Answer = Keys;

    async fn run(self, app: &App) -> Result<Keys, Failure> {
        let now = app.clock.now();
        let mut keys = certificates_above(app, now);
        for key in app.store.keys().await? {
            keys.push(of_record(app, key, now).await?);
        }
        keys.extend(listeners(app, now));
        for certificate in app.store.operator_certificates(now).await? {
            keys.push(KeyView {
                made_at: Some(certificate.issued_at),
                ..in_use(
                    "operator",
                    certificate.operator,
                    certificate.serial,
                    certificate.not_after,
                    now,
                )
            });
        }
        Ok(Keys { keys })
    }
}

impl Verb for KeyStep {
    const NAME: &'static str = "key-step";
    const CHANGES: bool = true;
    type Answer = Planned;

    /// Whoever has the sealing key and its PIN has every seed.
    fn gate(&self) -> Gate {
        match keeps_seeds(&self.key) && !self.dry_run {
            true => Gate::Consented,
            false => Gate::One,
        }
    }

    async fn run(self, app: &App) -> Result<Planned, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<Planned, Failure> {
        let wanted = StepWanted {
            verb: self.step,
            key: &self.key,
            now: self.now,
        };
        let plan = rotation::plan_step(app, &wanted).await?;
        let verb = match self.step {
            KeyVerb::Prepare => "key prepare",
            KeyVerb::Activate => "key activate",
            KeyVerb::Taint => "key taint",
            KeyVerb::Retire => "key retire",
        };
        carry_out(app, asker.of(verb), plan, self.dry_run).await
    }
}

/// The plan, and unless this is a dry run what came of it.
pub(super) async fn carry_out(
    app: &App,
    asked: Asked,
    plan: Plan,
    dry_run: bool,
) -> Result<Planned, Failure> {
    let operation = match dry_run {
        true => None,
        false => Some(rotation::carry_out(app, asked, plan.work).await?),
    };
    Ok(Planned {
        says: plan.says,
        operation: operation.map(|operation| OperationView::new(app, operation)),
    })
}

/// Their kid is their label, so that a name always tells the purpose.
fn keeps_seeds(key: &str) -> bool {
    let named = |purpose: &KeyPurpose| {
        key == purpose.name() || key.starts_with(&format!("m2key-{}-", purpose.name()))
    };
    KeyPurpose::ALL
        .iter()
        .filter(|purpose| purpose.keeps_seeds())
        .any(named)
}

async fn of_record(app: &App, key: KeyRecord, now: Timestamp) -> Result<KeyView, Failure> {
    let operation = match key.operation {
        Some(id) => app.store.operation(id).await?,
        None => None,
    };
    let due_at = due::due(&key);
    Ok(KeyView {
        purpose: key.purpose.name().into(),
        state: key.state.name().into(),
        made_at: Some(key.made_at),
        due_at,
        overdue: due_at.is_some_and(|due| due < now),
        by: operation.as_ref().map(|it| it.asked_by.clone()),
        consent: operation.and_then(|it| it.consent),
        name: key.label.0,
        id: key.kid,
    })
}

/// Roots and issuing CAs.
fn certificates_above(app: &App, now: Timestamp) -> Vec<KeyView> {
    let mut found: Vec<KeyView> = Vec::new();
    let (cas, trust) = (app.issuer.issuing_cas(), app.trust());
    let roots = states(&trust).map(|(root, state)| ("root", root, state));
    let issuing = cas
        .iter()
        .map(|ca| ("issuing", ca.chain.issuing(), ca.state));
    for (purpose, certificate, state) in roots.chain(issuing) {
        let id = certificate.fingerprint().to_string();
        if found.iter().any(|known| known.id == id) {
            continue;
        }
        let ends = time(certificate.not_after());
        found.push(KeyView {
            state: state.name().into(),
            made_at: Some(time(certificate.not_before())),
            ..in_use(purpose, format!("{purpose} CA"), id, ends, now)
        });
    }
    found
}

fn listeners(app: &App, now: Timestamp) -> Vec<KeyView> {
    let listener = |watched: Watched| {
        let name = watched.name.to_owned();
        in_use(
            "certificate",
            name,
            "-".into(),
            time(watched.not_after),
            now,
        )
    };
    app.watchlist
        .listeners()
        .into_iter()
        .map(listener)
        .collect()
}

fn in_use(purpose: &str, name: String, id: String, ends: Timestamp, now: Timestamp) -> KeyView {
    KeyView {
        purpose: purpose.into(),
        name,
        id,
        state: KeyState::Active.name().into(),
        made_at: None,
        due_at: Some(ends),
        overdue: unix_seconds(ends) <= unix_seconds(now),
        by: None,
        consent: None,
    }
}

fn time(seconds: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

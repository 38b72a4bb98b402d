//! What does each step do to a key, and what follows from it?
//!
//! The database first, the HSM after it: a key that is retired is not used while it is destroyed.
//! Only in `prepare` the HSM is first, and the operation names the label, so that a key whose row was
//! never written is found again.

use hsm::{HsmError, KeyKind, KeyLabel};
use pki::lifecycle::{KeyState, Step};
use protocol::problem::ProblemType;

use super::plan::next_label;
use super::{Advance, name_all, refused, reload, reseed};
use crate::app::App;
use crate::services::Failure;
use crate::services::changes::Change;
use crate::store::{KeyPurpose, KeyRecord, KeyStep, Operation, Stepped, When, Whose};

pub(super) async fn prepare(
    app: &App,
    operation: &Operation,
    purpose: KeyPurpose,
    label: &str,
) -> Result<Advance, Failure> {
    let label = KeyLabel(label.to_owned());
    match app.hsm.generate_key(purpose.kind(), &label).await {
        Ok(()) => {}
        Err(HsmError::LabelTaken { .. }) => adopt(app, purpose, &label).await?,
        Err(error) => return Err(error.into()),
    }
    let point = match purpose.kind() {
        KeyKind::Signing => Some(app.hsm.public_key(&label).await?),
        KeyKind::Sealing | KeyKind::Binding | KeyKind::Cmac => None,
    };
    let now = app.clock.now();
    let key = KeyRecord {
        operation: Some(operation.id),
        ..KeyRecord::new(purpose, KeyState::Prepared, label.clone(), point, now)
    };
    let kid = key.kid.clone();
    if !app.store.add_prepared_key(key).await? {
        let detail = format!("another {purpose} key is prepared, or {} is taken", label.0);
        return Err(refused(ProblemType::AlreadyExists, detail));
    }
    follow(app).await?;
    Ok(Advance::Done(format!("{} is prepared, kid {kid}", label.0)))
}

/// A key that is used at once, because the active one is not believed. Nothing is recorded here; one
/// that never is only takes up a label.
pub async fn successor(app: &App, purpose: KeyPurpose) -> Result<KeyRecord, Failure> {
    let label = KeyLabel(next_label(app, app.keyring().records(), purpose).await?);
    app.hsm.generate_key(purpose.kind(), &label).await?;
    let point = match purpose.kind() {
        KeyKind::Signing => Some(app.hsm.public_key(&label).await?),
        KeyKind::Sealing | KeyKind::Binding | KeyKind::Cmac => None,
    };
    let now = app.clock.now();
    Ok(KeyRecord::new(purpose, KeyState::Active, label, point, now))
}

/// The key of an earlier try, if it is as we make them: this operation has chosen the label before
/// anything was made under it.
async fn adopt(app: &App, purpose: KeyPurpose, label: &KeyLabel) -> Result<(), Failure> {
    let reports = app.hsm.inventory().await?;
    let mine = reports.iter().filter(|report| report.label == *label);
    let as_made =
        |report: &hsm::KeyReport| report.kind == Some(purpose.kind()) && report.findings.is_empty();
    if mine.clone().count() > 0 && mine.clone().all(as_made) {
        return Ok(());
    }
    let detail = format!(
        "the HSM holds a key labelled {} that is not as M2Key makes them; `check-hsm` says why",
        label.0
    );
    Err(refused(ProblemType::AlreadyExists, detail))
}

pub(super) async fn activate(
    app: &App,
    operation: &Operation,
    kid: &str,
) -> Result<Advance, Failure> {
    let key = step(app, operation, kid, Step::Activate).await?;
    if !key.purpose.keeps_seeds() {
        return Ok(Advance::Done(format!("{} is active", key.label.0)));
    }
    let keys = app.keyring().sealing().clone();
    let whose = Whose::NotUnder {
        sealing: keys.sealing.0,
        binding: keys.binding.0,
    };
    reseed::batch(app, operation, whose, When::Planned).await
}

pub(super) async fn taint(app: &App, operation: &Operation, kid: &str) -> Result<Advance, Failure> {
    let key = step(app, operation, kid, Step::Taint).await?;
    if !key.purpose.keeps_seeds() {
        return Ok(Advance::Done(format!("{} is tainted", key.label.0)));
    }
    let whose = Whose::Under(key.label.0);
    reseed::batch(app, operation, whose, When::Compromised).await
}

pub(super) async fn retire(
    app: &App,
    operation: &Operation,
    kid: &str,
) -> Result<Advance, Failure> {
    let key = step(app, operation, kid, Step::Retire).await?;
    match app.hsm.destroy_key(&key.label).await {
        // Gone since an earlier try.
        Ok(()) | Err(HsmError::KeyUnknown { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let label = &key.label.0;
    Ok(Advance::Done(format!("{label} is retired and destroyed")))
}

async fn step(
    app: &App,
    operation: &Operation,
    kid: &str,
    step: Step,
) -> Result<KeyRecord, Failure> {
    let stepped = app.store.step_key(KeyStep {
        operation: operation.id,
        kid: kid.to_owned(),
        step,
        at: app.clock.now(),
    });
    let key = match stepped.await? {
        Stepped::Done(key) => *key,
        Stepped::Unknown => return Err(refused(ProblemType::Unknown, format!("no key {kid}"))),
        Stepped::Wrong(wrong) => {
            let detail = format!("{kid}: {wrong}; {}", wrong.hint());
            return Err(refused(ProblemType::WrongKeyState, detail));
        }
        Stepped::Stranded(stranded) => {
            let detail = format!("terminals depend on {kid}: {}", name_all(&stranded));
            return Err(refused(ProblemType::WouldStrand, detail));
        }
    };
    follow(app).await?;
    Ok(key)
}

/// From here on everybody in the house uses the keys as they are now.
async fn follow(app: &App) -> Result<(), Failure> {
    let before = app.keyring().tag().to_owned();
    reload(app).await?;
    if app.keyring().tag() != before {
        app.changes.announce(Change::Keys);
    }
    Ok(())
}

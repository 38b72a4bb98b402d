//! Which hours may this terminal show tokens of?

use hsm::Priority;
use pki::SpiffeId;
use protocol::ids::TerminalId;
use protocol::live::LoadedEpoch;
use protocol::problem::ProblemType;
use protocol::schedule::{EpochCheck, ScheduleClaims, validity};
use protocol::time::Timestamp;
use protocol::window::EpochClock;
use protocol::wire::schedules::{EpochKeyEntry, ScheduleQuery, ScheduleResponse};

use super::{Failure, keyring};
use crate::app::App;

/// A signed schedule for the terminal in the certificate, with the keys it has check values of.
pub async fn issue(
    app: &App,
    terminal: TerminalId,
    query: &ScheduleQuery,
) -> Result<ScheduleResponse, Failure> {
    let issued = try_issue(app, terminal, query).await;
    let outcome = if issued.is_ok() { "issued" } else { "refused" };
    app.metrics.schedules.with_label_values(&[outcome]).inc();
    issued
}

async fn try_issue(
    app: &App,
    terminal: TerminalId,
    query: &ScheduleQuery,
) -> Result<ScheduleResponse, Failure> {
    let now = app.clock.now();
    let epochs = wanted(app, terminal, query, now)?;
    let loaded = app
        .epoch_keys
        .load(terminal, &epochs, Priority::Renewal)
        .await?;
    let (first, last) = (epochs[0], epochs[epochs.len() - 1]);
    let recorded = app
        .store
        .record_schedule(terminal, first, last, now)
        .await?;
    let sequence = recorded.ok_or(ProblemType::TerminalRefused)?;
    let claims = claims(app, terminal, sequence, &loaded, now)?;
    let signing = keyring::sign(&app.hsm, app.keyring.schedule(), &claims, Priority::Renewal);
    let schedule = signing.await?;
    app.push.has_schedule(terminal);
    tracing::info!(%terminal, sequence, first, last, "schedule issued");
    Ok(ScheduleResponse {
        schedule,
        epoch_keys: loaded.into_iter().map(entry).collect(),
    })
}

/// From the current epoch, or after the one named, up to the horizon.
fn wanted(
    app: &App,
    terminal: TerminalId,
    query: &ScheduleQuery,
    now: Timestamp,
) -> Result<Vec<u32>, Failure> {
    let current = EpochClock::of(terminal).epoch_at(now);
    let end = current.saturating_add(app.config.schedule.horizon_epochs);
    let first = query
        .after
        .map_or(current, |after| after.saturating_add(1).max(current));
    if first >= end {
        return Err(ProblemType::EpochOutOfHorizon.into());
    }
    Ok((first..end).collect())
}

fn claims(
    app: &App,
    terminal: TerminalId,
    sequence: u64,
    loaded: &[LoadedEpoch],
    now: Timestamp,
) -> Result<ScheduleClaims, Failure> {
    let epochs: Vec<_> = loaded
        .iter()
        .map(|entry| EpochCheck::new(entry.epoch, entry.version, &entry.key))
        .collect();
    let (valid_from, valid_until) =
        validity(terminal, &epochs).ok_or(ProblemType::EpochOutOfHorizon)?;
    Ok(ScheduleClaims {
        iss: app.issuer_uri(),
        sub: SpiffeId::Terminal(terminal).uri(&app.config.trust.domain),
        iat: now.secs(),
        terminal,
        generation: app.generation,
        sequence,
        valid_from,
        valid_until,
        policy: *app.config.policy.get(),
        link_host: app.config.public.link_host.as_str().to_owned(),
        epochs,
    })
}

fn entry(loaded: LoadedEpoch) -> EpochKeyEntry {
    EpochKeyEntry {
        epoch: loaded.epoch,
        version: loaded.version,
        key: loaded.key,
    }
}

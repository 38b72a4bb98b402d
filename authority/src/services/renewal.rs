//! How does a terminal get its next certificate, whatever answer is lost on the way?
//!
//! ```text
//!              same key again: the same successor, byte for byte
//!                  ┌──────────┐
//! certificate ──asked──▶ successor ──first use──▶ certificate refused from now on
//!      └── asked with another key: refused, and a clone alarm
//! ```
//! The proof of the old key is the TLS connection itself, also when the certificate has ended.

use pki::Certificate;
use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};

use super::enrolment::{check_request, issue, read};
use super::{Failure, issuing};
use crate::app::App;
use crate::store::{AlarmKind, CloneAlarm, Recorded, Renewal, RenewalLimit, Right};

/// Certificates that one terminal is issued within [`RENEWALS_WITHIN_MS`]. One in three and a half days
/// is usual; a terminal that asks without end costs the HSM nothing.
pub const RENEWALS_MAX: u32 = 64;
pub const RENEWALS_WITHIN_MS: Millis = 24 * 3_600_000;
/// How long a terminal that has had that many waits.
const TOO_MANY_RETRY_S: u32 = 3_600;
/// How long a terminal waits for an issuing CA that is believed.
const NOT_BELIEVED_RETRY_S: u32 = 30;
/// An alarm that is raised again within this time is not written again.
pub const ALARM_QUIET_MS: Millis = 60_000;

/// Issues the successor of `serial`, a certificate that `terminal` has proven to hold.
pub async fn renew(
    app: &App,
    terminal: TerminalId,
    serial: &str,
    request: &[u8],
) -> Result<Certificate, Failure> {
    let renewed = try_renew(app, terminal, serial, request).await;
    let outcome = super::outcome(&renewed, "issued");
    app.metrics.renewals.with_label_values(&[outcome]).inc();
    renewed
}

async fn try_renew(
    app: &App,
    terminal: TerminalId,
    serial: &str,
    request: &[u8],
) -> Result<Certificate, Failure> {
    let csr = check_request(app, terminal, request)?;
    let (key, now) = (csr.spki_sha256(), app.clock.now());
    match app.store.renewal(serial, key, now, limit(now)).await? {
        Renewal::Open { .. } => {}
        Renewal::Answered(der) => {
            let successor = read(&der)?;
            if issuing::is_believed(app, &successor) {
                return Ok(successor);
            }
            set_aside(app, terminal, &successor).await?;
        }
        Renewal::OtherKey => return Err(second_key(app, terminal, serial, key).await),
        Renewal::Refused => return Err(refused()),
        Renewal::KeyReused => return Err(ProblemType::KeyReused.into()),
        Renewal::TooMany => return Err(too_many()),
    }
    let (issued, recorded) = issue(app, terminal, csr, Right::Renews(serial.into())).await?;
    match recorded {
        Recorded::New => {
            let next = issued.serial_hex();
            tracing::info!(%terminal, serial, next, "certificate renewed");
            Ok(issued)
        }
        Recorded::Before(der) => read(&der),
        Recorded::OtherKey => Err(second_key(app, terminal, serial, key).await),
        Recorded::Refused => Err(refused()),
        Recorded::KeyReused => Err(ProblemType::KeyReused.into()),
    }
}

/// A successor that was never used, and that nobody believes any more, is no answer: another one takes
/// its place. Not before there can be one.
async fn set_aside(
    app: &App,
    terminal: TerminalId,
    successor: &Certificate,
) -> Result<(), Failure> {
    if issuing::is_down(app) {
        return Err(not_believed());
    }
    let serial = successor.serial_hex();
    tracing::warn!(%terminal, serial, "its successor is believed no more and is replaced");
    match app.store.set_aside(&serial, app.clock.now()).await? {
        true => Ok(()),
        // It was used in the meantime, so the terminal has it.
        false => Err(refused()),
    }
}

/// Two machines hold the key of this certificate, or one has lost its new one: people must look.
async fn second_key(app: &App, terminal: TerminalId, serial: &str, key: [u8; 32]) -> Failure {
    let alarm = CloneAlarm {
        terminal,
        kind: AlarmKind::SecondKey,
        certificate: serial.into(),
        other: key.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    match raise(app, alarm, app.clock.now()).await {
        Ok(()) => ProblemType::SuccessorExists.into(),
        Err(failure) => failure,
    }
}

/// Counts and records a clone alarm.
pub async fn raise(app: &App, alarm: CloneAlarm, now: Timestamp) -> Result<(), Failure> {
    app.metrics.clone_alarms.inc();
    tracing::warn!(terminal = %alarm.terminal, kind = alarm.kind.name(),
        certificate = alarm.certificate, other = alarm.other, "clone alarm");
    app.store.raise_alarm(alarm, ALARM_QUIET_MS, now).await?;
    Ok(())
}

fn limit(now: Timestamp) -> RenewalLimit {
    RenewalLimit {
        most: RENEWALS_MAX,
        since: now - RENEWALS_WITHIN_MS,
    }
}

fn not_believed() -> Failure {
    Problem::new(ProblemType::NotReady)
        .with_detail("the issuing CA of its successor is not believed any more")
        .with_retry_after(NOT_BELIEVED_RETRY_S)
        .into()
}

fn refused() -> Failure {
    Problem::new(ProblemType::CertificateRefused)
        .with_detail("it, or what it was renewed to, is no longer in force")
        .into()
}

fn too_many() -> Failure {
    Problem::new(ProblemType::Busy)
        .with_detail(format!(
            "at most {RENEWALS_MAX} certificates of one terminal in a day"
        ))
        .with_retry_after(TOO_MANY_RETRY_S)
        .into()
}

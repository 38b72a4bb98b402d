//! Who sends this request, proven?
//!
//! Only these filters make [`AuthenticatedTerminal`], [`ExpiredTerminal`] and [`AuthenticatedOperator`];
//! a handler that takes one as its first argument cannot be reached without.

use std::sync::Arc;

use pki::{Peer, SpiffeId};
use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};
use warp::Filter;
use warp::filters::BoxedFilter;

use super::problem::refuse;
use crate::app::App;
use crate::services::{Failure, adoption, renewal};
use crate::store::{
    AlarmKind, CloneAlarm, FirstUse, RequestJudging, Revocation, Subject, TerminalStatus,
};

/// How long what a terminal began with its old certificate may still be under way.
const UNDER_WAY_MS: Millis = 5 * 60_000;

/// A terminal with a certificate we issued and recorded, in its time, not revoked, not superseded by a
/// later one, and not banned.
#[derive(Debug, Clone)]
pub struct AuthenticatedTerminal {
    id: TerminalId,
    serial: String,
}

impl AuthenticatedTerminal {
    pub fn id(&self) -> TerminalId {
        self.id
    }

    /// Of the certificate it came with, lower-case hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }
}

/// The same, but its certificate has ended, no longer ago than the grace. It proved that it still holds
/// the key; only renewal takes it.
#[derive(Debug, Clone)]
pub struct ExpiredTerminal {
    id: TerminalId,
    serial: String,
}

/// A terminal that may renew its certificate.
#[derive(Debug, Clone)]
pub enum Renewing {
    InTime(AuthenticatedTerminal),
    Expired(ExpiredTerminal),
}

impl Renewing {
    pub fn id(&self) -> TerminalId {
        match self {
            Self::InTime(terminal) => terminal.id,
            Self::Expired(terminal) => terminal.id,
        }
    }

    /// Of the certificate that is to be renewed.
    pub fn serial(&self) -> &str {
        match self {
            Self::InTime(terminal) => &terminal.serial,
            Self::Expired(terminal) => &terminal.serial,
        }
    }
}

/// An operator with a certificate we issued and recorded, in its time.
#[derive(Debug, Clone)]
pub struct AuthenticatedOperator {
    name: String,
}

impl AuthenticatedOperator {
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The certificate at the other end of this connection, verified by TLS. Only the private listener
/// puts it into a request.
#[derive(Debug, Clone)]
pub(crate) struct PeerCertificate {
    pub(crate) read: Arc<Result<Peer, Problem>>,
    pub(crate) der: Arc<[u8]>,
}

/// Demands a terminal.
pub fn terminal(app: &Arc<App>) -> BoxedFilter<(AuthenticatedTerminal,)> {
    let app = app.clone();
    peer()
        .and_then(move |peer| {
            let app = app.clone();
            async move { prove_terminal(&app, peer).await.map_err(refuse) }
        })
        .boxed()
}

/// Demands a terminal whose certificate may have ended: for renewal alone.
pub fn renewing(app: &Arc<App>) -> BoxedFilter<(Renewing,)> {
    let app = app.clone();
    peer()
        .and_then(move |peer| {
            let app = app.clone();
            async move { prove_renewing(&app, peer).await.map_err(refuse) }
        })
        .boxed()
}

/// Demands an operator.
pub fn operator(app: &Arc<App>) -> BoxedFilter<(AuthenticatedOperator,)> {
    let app = app.clone();
    peer()
        .and_then(move |peer| {
            let app = app.clone();
            async move { prove_operator(&app, peer).await.map_err(refuse) }
        })
        .boxed()
}

type Seen = Option<PeerCertificate>;

fn peer() -> BoxedFilter<(Seen,)> {
    warp::ext::optional().boxed()
}

async fn prove_terminal(app: &App, seen: Seen) -> Result<AuthenticatedTerminal, Failure> {
    let (id, peer) = known_terminal(app, seen).await?;
    match ended_ago_ms(app, &peer) {
        Some(_) => Err(certificate_refused("it has expired").into()),
        None => Ok(AuthenticatedTerminal {
            id,
            serial: peer.serial,
        }),
    }
}

async fn prove_renewing(app: &App, seen: Seen) -> Result<Renewing, Failure> {
    let (id, peer) = known_terminal(app, seen).await?;
    let serial = peer.serial.clone();
    match ended_ago_ms(app, &peer) {
        None => Ok(Renewing::InTime(AuthenticatedTerminal { id, serial })),
        Some(ago) if ago <= app.config.enrolment.renewal_grace_ms => {
            Ok(Renewing::Expired(ExpiredTerminal { id, serial }))
        }
        Some(_) => Err(ProblemType::RenewalTooLate.into()),
    }
}

/// A terminal that is not banned, with a certificate that we issued and that is in force, ended or
/// not. Coming with it is its first use, from which on older ones are refused.
async fn known_terminal(app: &App, seen: Seen) -> Result<(TerminalId, Peer), Failure> {
    let (peer, der) = peer_of(seen)?;
    let SpiffeId::Terminal(id) = peer.id else {
        return Err(wrong_role(&peer, "a terminal").into());
    };
    let judging = match judging(app, &peer, id).await? {
        Some(judging) => judging,
        None => adopted(app, &peer, id, &der).await?,
    };
    match judging.terminal {
        None => return Err(certificate_refused("its terminal is not known here").into()),
        Some(TerminalStatus::Active) => {}
        Some(TerminalStatus::Banned { .. }) => {
            return Err(Problem::new(ProblemType::TerminalRefused)
                .with_detail(format!("terminal {id} is banned"))
                .into());
        }
    }
    note_superseded(app, id, &peer.serial, judging.superseded_at).await?;
    in_force(judging.revoked, judging.superseded_at)?;
    if judging.used_at.is_none() {
        let used = app.store.use_certificate(&peer.serial, app.clock.now());
        if used.await? == FirstUse::Refused {
            return Err(certificate_refused("it is no longer in force").into());
        }
    }
    Ok((id, peer))
}

/// The terminal itself has not shown this one since it has a later one, but for what was under way:
/// whoever does has a copy of its key, or of its disk.
async fn note_superseded(
    app: &App,
    terminal: TerminalId,
    serial: &str,
    superseded_at: Option<Timestamp>,
) -> Result<(), Failure> {
    let now = app.clock.now();
    match superseded_at {
        Some(since) if now - since > UNDER_WAY_MS => {
            let alarm = CloneAlarm {
                terminal,
                kind: AlarmKind::Superseded,
                certificate: serial.to_owned(),
                other: String::new(),
            };
            renewal::raise(app, alarm, now).await
        }
        _ => Ok(()),
    }
}

async fn prove_operator(app: &App, seen: Seen) -> Result<AuthenticatedOperator, Failure> {
    let (peer, _) = peer_of(seen)?;
    let SpiffeId::Operator(name) = &peer.id else {
        return Err(wrong_role(&peer, "an operator").into());
    };
    let name = name.as_str().to_owned();
    not_revoked_outside(app, &peer)?;
    let record = app.store.certificate(&peer.serial).await?;
    let record = record.ok_or_else(lost_or_unknown)?;
    let certificate = &record.certificate;
    let is_for = Subject::Operator(name.clone());
    if certificate.subject != is_for || certificate.spki_sha256 != peer.spki_sha256 {
        return Err(unknown().into());
    }
    in_force(record.revoked, record.superseded_at)?;
    if ended_ago_ms(app, &peer).is_some() {
        return Err(certificate_refused("it has expired").into());
    }
    let operator = app.store.operator(&name, app.clock.now()).await?;
    let revoked = app.fence.is_operator_revoked_outside(&name);
    if revoked || operator.is_none_or(|operator| operator.revoked.is_some()) {
        return Err(certificate_refused(format!("{name} is no operator")).into());
    }
    Ok(AuthenticatedOperator { name })
}

fn peer_of(seen: Seen) -> Result<(Peer, Arc<[u8]>), Problem> {
    match seen {
        None => Err(Problem::new(ProblemType::CertificateNeeded)),
        Some(PeerCertificate { read, der }) => Ok(((*read).clone()?, der)),
    }
}

/// Ours, and for whom it says; none if it is not known here.
async fn judging(
    app: &App,
    peer: &Peer,
    id: TerminalId,
) -> Result<Option<RequestJudging>, Failure> {
    not_revoked_outside(app, peer)?;
    let is_for = Subject::Terminal(id);
    let found = app.store.request_judging(&peer.serial, id).await?;
    match &found {
        Some(it) if it.subject != is_for || it.spki_sha256 != peer.spki_sha256 => {
            Err(unknown().into())
        }
        _ => Ok(found),
    }
}

fn not_revoked_outside(app: &App, peer: &Peer) -> Result<(), Problem> {
    match app.fence.is_revoked_outside(&peer.serial) {
        true => Err(certificate_refused("it was revoked")),
        false => Ok(()),
    }
}

/// One that a restore has lost is taken in; any other unknown one is refused.
async fn adopted(
    app: &App,
    peer: &Peer,
    id: TerminalId,
    der: &[u8],
) -> Result<RequestJudging, Failure> {
    if adoption::adopt(app, id, der).await? {
        return Ok(judging(app, peer, id).await?.ok_or_else(unknown)?);
    }
    Err(unknown().into())
}

fn unknown() -> Problem {
    certificate_refused("it was not issued here")
}

/// A terminal's is adopted; an operator's is renewed by whoever holds its key.
fn lost_or_unknown() -> Problem {
    certificate_refused(
        "it was not issued here; if a restore has lost it: stop the daemon, then \
         `m2key-authority --offline renew operator`",
    )
}

fn in_force(revoked: Option<Revocation>, superseded_at: Option<Timestamp>) -> Result<(), Problem> {
    if let Some(revoked) = revoked {
        let detail = format!("it was revoked ({})", revoked.reason);
        return Err(certificate_refused(detail));
    }
    if superseded_at.is_some() {
        let why = "a later certificate of this terminal is in use";
        return Err(certificate_refused(why));
    }
    Ok(())
}

/// How long ago it ended; none while it is good. It is good to the end of its last second.
fn ended_ago_ms(app: &App, peer: &Peer) -> Option<Millis> {
    let not_after = i64::try_from(peer.not_after).unwrap_or(i64::MAX);
    let ago = app.clock.now() - Timestamp::from_secs(not_after.saturating_add(1));
    (ago >= 0).then_some(ago)
}

fn wrong_role(peer: &Peer, wanted: &str) -> Problem {
    let role = peer.id.role();
    certificate_refused(format!(
        "it names the {role} {}, and this takes {wanted}",
        peer.id.name()
    ))
}

fn certificate_refused(detail: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::CertificateRefused).with_detail(detail)
}

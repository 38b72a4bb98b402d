//! Who sends this request, proven?
//!
//! Only these filters make [`AuthenticatedTerminal`] and [`AuthenticatedOperator`]; a handler that
//! takes one as its first argument cannot be reached without.

use std::sync::Arc;

use pki::{Peer, SpiffeId};
use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use warp::{Filter, Rejection};

use super::problem::refuse;
use crate::app::App;
use crate::clock::unix_seconds;
use crate::services::Failure;
use crate::store::{Subject, TerminalStatus};

/// A terminal with a certificate we issued and recorded, in its time, not banned.
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
pub(crate) struct PeerCertificate(pub(crate) Arc<Result<Peer, Problem>>);

/// Demands a terminal.
pub fn terminal(
    app: &Arc<App>,
) -> impl Filter<Extract = (AuthenticatedTerminal,), Error = Rejection> + Clone + use<> {
    let app = app.clone();
    peer().and_then(move |peer| {
        let app = app.clone();
        async move { prove_terminal(&app, peer).await.map_err(refuse) }
    })
}

/// Demands an operator.
pub fn operator(
    app: &Arc<App>,
) -> impl Filter<Extract = (AuthenticatedOperator,), Error = Rejection> + Clone + use<> {
    let app = app.clone();
    peer().and_then(move |peer| {
        let app = app.clone();
        async move { prove_operator(&app, peer).await.map_err(refuse) }
    })
}

type Seen = Option<PeerCertificate>;

fn peer() -> impl Filter<Extract = (Seen,), Error = std::convert::Infallible> + Clone {
    warp::ext::optional()
}

async fn prove_terminal(app: &App, seen: Seen) -> Result<AuthenticatedTerminal, Failure> {
    let peer = peer_of(seen)?;
    let SpiffeId::Terminal(id) = peer.id else {
        return Err(wrong_role(&peer, "a terminal").into());
    };
    check_certificate(app, &peer, &Subject::Terminal(id)).await?;
    match app.store.terminal(id).await? {
        None => Err(certificate_refused("its terminal is not known here").into()),
        Some(terminal) => match terminal.status {
            TerminalStatus::Active => Ok(AuthenticatedTerminal {
                id,
                serial: peer.serial,
            }),
            TerminalStatus::Banned { .. } => Err(Problem::new(ProblemType::TerminalRefused)
                .with_detail(format!("terminal {id} is banned"))
                .into()),
        },
    }
}

async fn prove_operator(app: &App, seen: Seen) -> Result<AuthenticatedOperator, Failure> {
    let peer = peer_of(seen)?;
    let SpiffeId::Operator(name) = &peer.id else {
        return Err(wrong_role(&peer, "an operator").into());
    };
    let name = name.as_str().to_owned();
    check_certificate(app, &peer, &Subject::Operator(name.clone())).await?;
    Ok(AuthenticatedOperator { name })
}

fn peer_of(seen: Seen) -> Result<Peer, Problem> {
    match seen {
        None => Err(Problem::new(ProblemType::CertificateNeeded)),
        Some(PeerCertificate(read)) => (*read).clone(),
    }
}

/// Ours, in its time, and for whom it says.
async fn check_certificate(app: &App, peer: &Peer, subject: &Subject) -> Result<(), Failure> {
    if unix_seconds(app.clock.now()) > peer.not_after {
        return Err(certificate_refused("it has expired").into());
    }
    if app.fence.is_revoked_outside(&peer.serial) {
        return Err(certificate_refused("it was revoked").into());
    }
    match app.store.certificate(&peer.serial).await? {
        Some(recorded)
            if recorded.subject == *subject && recorded.spki_sha256 == peer.spki_sha256 =>
        {
            Ok(())
        }
        _ => Err(certificate_refused("it was not issued here").into()),
    }
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

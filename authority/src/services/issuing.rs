//! Does what is issued now lead to a root that is believed?
//!
//! The signer has roots of its own, and an issuing CA may become active under one that nobody here
//! believes: a wrong file, or a step taken too early. A certificate of such a CA would be refused by
//! whoever asked for it. So none is asked for, nobody is told to renew, and readiness says why.

use pki::{Certificate, IssueRequest, IssuedCertificate, IssuerHealth, IssuingCa};

use super::Failure;
use super::trust::Trust;
use crate::app::App;
use crate::clock::unix_seconds;

/// The active issuing CA hangs on no root that is believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing is issued: the active issuing CA {serial} hangs on no root that is believed here. Sign its \
     request under a root of `trust show` (m2key-pki issuing request, root sign) and install that"
)]
pub struct Unbelieved {
    serial: String,
}

/// Signs a certificate that leads to a believed root, or none.
pub async fn issue(app: &App, request: IssueRequest) -> Result<IssuedCertificate, Failure> {
    check(app)?;
    let issued = app.issuer.issue(request).await?;
    // The signer may have gone on to another issuing CA since we looked.
    let certificate = Certificate::from_der(&issued.der).map_err(pki::PkiError::from)?;
    match is_believed(app, &certificate) {
        true => Ok(issued),
        false => Err(Unbelieved::of(app).into()),
    }
}

/// Whether anything that is issued now would be believed.
pub fn check(app: &App) -> Result<(), Unbelieved> {
    match hangs(app, &app.trust()) {
        true => Ok(()),
        false => Err(Unbelieved::of(app)),
    }
}

/// Whether the active issuing key hangs on a root of `trust`, by a certificate that is good today.
pub fn hangs(app: &App, trust: &Trust) -> bool {
    let (now, active) = (unix_seconds(app.clock.now()), app.issuer.chain());
    let hangs = |ca: &IssuingCa| {
        let issuing = ca.chain.issuing();
        issuing.spki_sha256() == active.issuing().spki_sha256()
            && (issuing.not_before()..=issuing.not_after()).contains(&now)
            && trust.anchors().chain_of(issuing).is_ok()
    };
    app.issuer.issuing_cas().iter().any(hangs)
}

/// Whether a certificate was issued by a CA that is believed, and hangs on a believed root.
pub fn is_believed(app: &App, certificate: &Certificate) -> bool {
    let trust = app.trust();
    app.issuer.issuing_cas().iter().any(|ca| {
        let issuing = ca.chain.issuing();
        ca.state.is_believed()
            && certificate.is_issued_by(issuing)
            && trust.anchors().chain_of(issuing).is_ok()
    })
}

/// The signer's health; down, too, if nobody believes what it would sign.
pub fn health(app: &App) -> IssuerHealth {
    match (app.issuer.health(), check(app)) {
        (down @ IssuerHealth::Down(_), _) => down,
        (_, Err(unbelieved)) => IssuerHealth::Down(unbelieved.to_string()),
        (health, Ok(())) => health,
    }
}

pub fn is_down(app: &App) -> bool {
    matches!(health(app), IssuerHealth::Down(_))
}

impl Unbelieved {
    fn of(app: &App) -> Self {
        let serial = app.issuer.chain().issuing().serial_hex();
        Self { serial }
    }
}

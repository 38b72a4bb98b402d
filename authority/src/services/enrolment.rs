//! How does a machine become a terminal?
//!
//! ```text
//! request checked ─▶ names only itself ─▶ join token redeemed for this key ─▶ issued ─▶ recorded ─▶ answered
//! ```
//! Whatever is refused before the join token costs nothing; after it, the same key may ask again and
//! gets the same certificate.

use pki::{Certificate, CheckedCsr, IssueRequest, IssueTo, IssuedCertificate, SpiffeId, csr};
use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;

use super::join::JoinToken;
use super::{Failure, issuing};
use crate::app::App;
use crate::clock::unix_seconds;
use crate::store::{self, Recorded, Redeem, Right, Subject};

/// Every issuing CA and every root that is believed, as /cacerts shows them.
pub fn chain(app: &App) -> Vec<Certificate> {
    let trust = app.trust();
    let mut all: Vec<Certificate> = Vec::new();
    let believed = app.issuer.issuing_cas().into_iter().filter(|ca| {
        ca.state.is_believed() && trust.anchors().chain_of(ca.chain.issuing()).is_ok()
    });
    let issuing = believed.map(|ca| ca.chain.issuing().clone());
    for certificate in issuing.chain(trust.roots().iter().cloned()) {
        if !all.contains(&certificate) {
            all.push(certificate);
        }
    }
    all
}

/// Issues a terminal's first certificate against a join token.
pub async fn enrol(app: &App, token: &JoinToken, request: &[u8]) -> Result<Certificate, Failure> {
    let enrolled = try_enrol(app, token, request).await;
    let outcome = super::outcome(&enrolled, "issued");
    app.metrics.enrolments.with_label_values(&[outcome]).inc();
    enrolled
}

async fn try_enrol(app: &App, token: &JoinToken, request: &[u8]) -> Result<Certificate, Failure> {
    let terminal = token.terminal();
    let csr = check_request(app, terminal, request)?;
    let now = app.clock.now();
    let (hash, key) = (token.hash(), csr.spki_sha256());
    match app
        .store
        .redeem_join_token(terminal, hash, key, now)
        .await?
    {
        Redeem::Good => {}
        Redeem::Answered(der) => return read(&der),
        Redeem::Refused => return Err(ProblemType::JoinTokenRefused.into()),
        Redeem::Banned => return Err(banned(terminal)),
        Redeem::KeyReused => return Err(ProblemType::KeyReused.into()),
    }
    let (issued, recorded) = issue(app, terminal, csr, Right::JoinToken(hash)).await?;
    match recorded {
        Recorded::New => {
            tracing::info!(%terminal, serial = issued.serial_hex(), "terminal enrolled");
            Ok(issued)
        }
        Recorded::Before(der) => read(&der),
        Recorded::OtherKey | Recorded::Refused => Err(ProblemType::JoinTokenRefused.into()),
        Recorded::KeyReused => Err(ProblemType::KeyReused.into()),
    }
}

/// The request, if it is whole and names nobody but this terminal.
pub(super) fn check_request(
    app: &App,
    terminal: TerminalId,
    request: &[u8],
) -> Result<CheckedCsr, Failure> {
    let csr = csr::check(request).map_err(refuse_request)?;
    let own_name = SpiffeId::Terminal(terminal);
    csr.agrees_with(&own_name, app.issuer.trust_domain())
        .map_err(refuse_request)?;
    Ok(csr)
}

/// Signs a terminal's certificate, then lets the store judge whether it may be handed out: nothing is
/// signed inside a transaction, so what was decided before is decided again with the record.
pub(super) async fn issue(
    app: &App,
    terminal: TerminalId,
    csr: CheckedCsr,
    right: Right,
) -> Result<(Certificate, Recorded), Failure> {
    let now = app.clock.now();
    let request = IssueRequest {
        csr,
        to: IssueTo::Terminal(terminal),
        now: unix_seconds(now),
    };
    let issued = issuing::issue(app, request).await?;
    let row = record(&issued, Subject::Terminal(terminal));
    let recorded = app.store.add_terminal_certificate(row, right, now).await?;
    Ok((read(&issued.der)?, recorded))
}

/// What the store keeps of a certificate.
pub fn record(issued: &IssuedCertificate, subject: Subject) -> store::Certificate {
    let time = |seconds: u64| Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    let issuer_key = Certificate::from_der(&issued.der)
        .ok()
        .and_then(|certificate| certificate.issuer_key_id_hex());
    store::Certificate {
        serial: issued.serial.clone(),
        subject,
        spki_sha256: issued.spki_sha256,
        not_before: time(issued.not_before),
        not_after: time(issued.not_after),
        // Without one it is on every list: rather too often than never.
        issuer_key: issuer_key.unwrap_or_default(),
        der: issued.der.clone(),
    }
}

pub(super) fn read(der: &[u8]) -> Result<Certificate, Failure> {
    Ok(Certificate::from_der(der).map_err(pki::PkiError::from)?)
}

pub(super) fn banned(terminal: TerminalId) -> Failure {
    Problem::new(ProblemType::TerminalRefused)
        .with_detail(format!("terminal {terminal} is banned"))
        .into()
}

fn refuse_request(error: pki::BadCsr) -> Failure {
    Problem::new(ProblemType::RequestRefused)
        .with_detail(error)
        .into()
}

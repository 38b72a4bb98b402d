//! How does a machine become a terminal?
//!
//! ```text
//! request checked ─▶ names only itself ─▶ join token redeemed for this key ─▶ issued ─▶ recorded ─▶ answered
//! ```
//! Whatever is refused before the join token costs nothing; after it, the same key may ask again.

use pki::{Certificate, IssueRequest, IssueTo, IssuedCertificate, SpiffeId, csr};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;

use super::Failure;
use super::join::JoinToken;
use crate::app::App;
use crate::clock::unix_seconds;
use crate::store::{self, Redeem, Subject};

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
    let outcome = match &enrolled {
        Ok(_) => "issued",
        Err(Failure::Refused(problem)) => slug(problem),
        Err(_) => "failed",
    };
    app.metrics.enrolments.with_label_values(&[outcome]).inc();
    enrolled
}

async fn try_enrol(app: &App, token: &JoinToken, request: &[u8]) -> Result<Certificate, Failure> {
    let terminal = token.terminal();
    let csr = csr::check(request).map_err(refuse_request)?;
    let own_name = SpiffeId::Terminal(terminal);
    csr.agrees_with(&own_name, app.issuer.trust_domain())
        .map_err(refuse_request)?;
    let now = app.clock.now();
    let (hash, key) = (token.hash(), csr.spki_sha256());
    match app
        .store
        .redeem_join_token(terminal, hash, key, now)
        .await?
    {
        Redeem::Good => {}
        Redeem::Refused => return Err(ProblemType::JoinTokenRefused.into()),
        Redeem::Banned => {
            let detail = format!("terminal {terminal} is banned");
            return Err(Problem::new(ProblemType::TerminalRefused)
                .with_detail(detail)
                .into());
        }
    }
    let request = IssueRequest {
        csr,
        to: IssueTo::Terminal(terminal),
        now: unix_seconds(now),
    };
    let issued = app.issuer.issue(request).await?;
    let row = record(&issued, Subject::Terminal(terminal));
    app.store.add_certificate(row, now).await?;
    tracing::info!(%terminal, serial = issued.serial, "terminal enrolled");
    Ok(Certificate::from_der(&issued.der).map_err(pki::PkiError::from)?)
}

/// What the store keeps of a certificate.
pub fn record(issued: &IssuedCertificate, subject: Subject) -> store::Certificate {
    let time = |seconds: u64| Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    store::Certificate {
        serial: issued.serial.clone(),
        subject,
        spki_sha256: issued.spki_sha256,
        not_before: time(issued.not_before),
        not_after: time(issued.not_after),
    }
}

fn refuse_request(error: pki::BadCsr) -> Failure {
    Problem::new(ProblemType::RequestRefused)
        .with_detail(error)
        .into()
}

fn slug(problem: &Problem) -> &'static str {
    problem.problem_type().map_or("refused", ProblemType::slug)
}

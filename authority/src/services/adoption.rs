//! What becomes of a terminal whose certificate a restore has lost?
//!
//! Issued between the backup and the raise, it is unknown here, although the machine did nothing wrong.
//! It is taken in when it is shown: TLS has verified it to our root, an issuing CA that is believed has
//! issued it, its terminal is known and active, nobody revoked it, it is from before the raise, and no
//! later one is known. Everything else stays unknown and is refused.

use pki::{Certificate, IssuedCertificate, PkiError};
use protocol::ids::TerminalId;

use super::{Failure, enrolment};
use crate::app::App;
use crate::store::{Adopted, Subject};

/// Takes the certificate in if a restore has lost it; answers whether it is known now.
pub async fn adopt(app: &App, terminal: TerminalId, der: &[u8]) -> Result<bool, Failure> {
    // Almost always: an unknown certificate then costs no write.
    if app.store.raises(1).await?.is_empty() {
        return Ok(false);
    }
    let certificate = Certificate::from_der(der).map_err(PkiError::from)?;
    if !is_believed(app, &certificate) {
        let serial = certificate.serial_hex();
        app.metrics
            .adoptions
            .with_label_values(&["not-believed"])
            .inc();
        tracing::warn!(%terminal, serial, "an unknown certificate of an issuing CA that is not believed");
        return Ok(false);
    }
    let issued = IssuedCertificate::from(certificate);
    let row = enrolment::record(&issued, Subject::Terminal(terminal));
    let adopted = app.store.adopt_certificate(row, app.clock.now()).await?;
    let counter = &app.metrics.adoptions;
    counter.with_label_values(&[outcome(adopted)]).inc();
    match adopted {
        Adopted::Yes => tracing::info!(%terminal, serial = issued.serial, "certificate adopted"),
        refused => tracing::warn!(%terminal, serial = issued.serial, ?refused,
            "an unknown certificate is not adopted"),
    }
    Ok(adopted == Adopted::Yes)
}

/// Whoever has the key of a tainted issuing CA can date what it signs before any raise. The signer knows
/// its state, and is not restored with the database.
fn is_believed(app: &App, certificate: &Certificate) -> bool {
    let cas = app.issuer.issuing_cas();
    cas.iter()
        .any(|ca| ca.state.is_believed() && certificate.is_issued_by(ca.chain.issuing()))
}

fn outcome(adopted: Adopted) -> &'static str {
    match adopted {
        Adopted::Yes => "adopted",
        Adopted::NotLost => "not-lost",
        Adopted::Revoked => "revoked",
        Adopted::NoTerminal => "no-terminal",
        Adopted::Older => "older",
        Adopted::ForeignKey => "foreign-key",
    }
}

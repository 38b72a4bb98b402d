//! What becomes of a terminal whose certificate a restore has lost?
//!
//! Issued between the backup and the raise, it is unknown here, although the machine did nothing wrong.
//! It is taken in when it is shown: TLS has verified it to our root, the issuing CA above it is one that
//! the signer names and that is believed, its terminal is known and active, nobody revoked it, it is from
//! before the raise and no longer than ours are, and no later one is known. All that for as long as a
//! certificate lives: then whatever was lost has ended. Everything else stays unknown and is refused.

use pki::profiles::{BACKDATE_SECONDS, TERMINAL_LIFETIME_SECONDS};
use pki::{Certificate, IssuedCertificate, PkiError};
use protocol::ids::TerminalId;
use protocol::time::Millis;

use super::{Failure, enrolment, issuing};
use crate::app::App;
use crate::store::{Adopted, RaiseRecord, Subject};

/// How long after a raise certificates are taken in.
pub const ADOPTED_WITHIN_MS: Millis = TERMINAL_LIFETIME_SECONDS as Millis * 1000;

/// Takes the certificate in if a restore has lost it; answers whether it is known now.
pub async fn adopt(app: &App, terminal: TerminalId, der: &[u8]) -> Result<bool, Failure> {
    // Almost always: an unknown certificate then costs no write.
    let Some(raised) = app.store.raises(1).await?.pop() else {
        return Ok(false);
    };
    let certificate = Certificate::from_der(der).map_err(PkiError::from)?;
    let (serial, counter) = (certificate.serial_hex(), &app.metrics.adoptions);
    if let Some(why) = forged(app, &certificate, &raised) {
        counter.with_label_values(&[why]).inc();
        tracing::warn!(%terminal, serial, why, "an unknown certificate is not adopted");
        return Ok(false);
    }
    let issued = IssuedCertificate::from(certificate);
    let row = enrolment::record(&issued, Subject::Terminal(terminal));
    let adopted = app.store.adopt_certificate(row, app.clock.now()).await?;
    counter.with_label_values(&[outcome(adopted)]).inc();
    match adopted {
        Adopted::Yes => tracing::info!(%terminal, serial, "certificate adopted"),
        refused => tracing::warn!(%terminal, serial, ?refused,
            "an unknown certificate is not adopted"),
    }
    Ok(adopted == Adopted::Yes)
}

/// Why this may be the work of somebody who holds a key of a CA, and is not one of ours that was lost.
fn forged(app: &App, certificate: &Certificate, raised: &RaiseRecord) -> Option<&'static str> {
    if app.clock.now() - raised.at > ADOPTED_WITHIN_MS {
        Some("late")
    } else if !issuing::is_believed(app, certificate) {
        Some("unbelieved")
    } else if lives_too_long(certificate) {
        Some("too-long")
    } else {
        None
    }
}

/// Longer than the profile of terminals has it.
fn lives_too_long(certificate: &Certificate) -> bool {
    let (begins, ends) = (certificate.not_before(), certificate.not_after());
    ends.saturating_sub(begins) > TERMINAL_LIFETIME_SECONDS + BACKDATE_SECONDS
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_that_lasts_for_years_is_none_of_a_terminal() {
        let key = pki::RootKey::generate().unwrap();
        assert!(lives_too_long(&key.certificate(1_795_435_200).unwrap()));
    }
}

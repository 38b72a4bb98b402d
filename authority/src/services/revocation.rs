//! How does a terminal, or a single certificate, stop being good?
//!
//! ```text
//! committed ──▶ refused from here on, whoever asks the store
//!     └──────▶ announced: open connections and streams are cut, the list is made anew
//! ```
//! These functions are the only ways there. Whoever asks may hang up in between: operators' verbs run
//! to their end all the same ([`super::operators::carry_out_to_the_end`]). What is committed after its
//! caller went away, or when nobody could say whether it was, the store tells this node as news.

use pki::crl::Reason;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use super::Failure;
use crate::app::App;
use crate::store::{Bar, CONNECTED_MAX, CertificateRecord, Connected, StoreError, Terminal};

/// Bans a terminal and revokes its certificates; none if there is no such terminal.
pub async fn ban(
    app: &App,
    terminal: TerminalId,
    reason: String,
    now: Timestamp,
) -> Result<Option<Terminal>, Failure> {
    let banned = app.store.ban_terminal(terminal, reason, now).await;
    if is_committed(&banned) {
        app.bans.announce(terminal);
    }
    let banned = banned?;
    if banned.is_some() {
        count(app, Reason::PrivilegeWithdrawn);
    }
    Ok(banned)
}

/// Revokes one certificate; none if it was not issued here.
pub async fn revoke(
    app: &App,
    serial: &str,
    reason: Reason,
    now: Timestamp,
) -> Result<Option<Box<CertificateRecord>>, Failure> {
    let revoked = app.store.revoke_certificate(serial, reason, now).await;
    if is_committed(&revoked) {
        app.bans.announce_revoked(serial);
    }
    let revoked = revoked?;
    if revoked.is_some() {
        count(app, reason);
    }
    Ok(revoked)
}

/// Also if the journal could not be written: then it holds, and only the acknowledgement is missing.
fn is_committed<T>(written: &Result<Option<T>, StoreError>) -> bool {
    matches!(written, Ok(Some(_)) | Err(StoreError::Unjournalled { .. }))
}

/// Revokes one certificate of an operator, unless too few could sign then.
pub async fn revoke_voice(
    app: &App,
    serial: &str,
    reason: Reason,
    now: Timestamp,
) -> Result<Bar, Failure> {
    let revoked = app.store.revoke_voice(serial, reason, now).await;
    let unjournalled = matches!(revoked, Err(StoreError::Unjournalled { .. }));
    if unjournalled || revoked == Ok(Bar::Done) {
        app.bans.announce_revoked(serial);
    }
    let revoked = revoked?;
    if revoked == Bar::Done {
        count(app, reason);
    }
    Ok(revoked)
}

/// Bans and revocations may have been missed: whoever is connected is looked up, in pieces, and cut as soon as their
/// piece is known.
pub async fn look_again(app: &App) -> Result<(), Failure> {
    app.bans.announce_missed();
    let watched = app.bans.watched();
    let (terminals, certificates) = (watched.terminals, watched.certificates);
    let terminals = terminals.chunks(CONNECTED_MAX).map(|piece| Connected {
        terminals: piece.to_vec(),
        certificates: Vec::new(),
    });
    let certificates = certificates.chunks(CONNECTED_MAX).map(|piece| Connected {
        terminals: Vec::new(),
        certificates: piece.to_vec(),
    });
    for piece in terminals.chain(certificates) {
        let refused = app.store.refused(piece).await?;
        let terminals = refused.terminals.into_iter();
        terminals.for_each(|it| app.bans.announce(it));
        let certificates = refused.certificates.iter();
        certificates.for_each(|it| app.bans.announce_revoked(it));
    }
    Ok(())
}

fn count(app: &App, reason: Reason) {
    let counter = &app.metrics.revocations;
    counter.with_label_values(&[reason.name()]).inc();
}

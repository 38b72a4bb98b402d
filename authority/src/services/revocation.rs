//! How does a terminal, or a single certificate, stop being good?
//!
//! ```text
//! committed ──▶ refused from here on, whoever asks the store
//!     └──────▶ announced: open connections and streams are cut, the list is made anew
//! ```
//! These two functions are the only ways there: what must be known outside of the database before it
//! is acknowledged is known here.

use pki::crl::Reason;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use super::Failure;
use crate::app::App;
use crate::store::{CertificateRecord, Terminal};

/// Bans a terminal and revokes its certificates; none if there is no such terminal.
pub async fn ban(
    app: &App,
    terminal: TerminalId,
    reason: String,
    now: Timestamp,
) -> Result<Option<Terminal>, Failure> {
    let banned = app.store.ban_terminal(terminal, reason, now).await?;
    // Committed: now whatever is open is cut.
    app.bans.announce(terminal);
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
    let revoked = app.store.revoke_certificate(serial, reason, now).await?;
    if revoked.is_some() {
        app.bans.announce_revoked(serial);
        count(app, reason);
    }
    Ok(revoked)
}

fn count(app: &App, reason: Reason) {
    let counter = &app.metrics.revocations;
    counter.with_label_values(&[reason.name()]).inc();
}

//! Is every payment followed by its receipt?
//!
//! The payment is committed with its receipt due; signing comes after, outside any transaction. If
//! the HSM is away then, the resumer signs later, and the first receipt stored is the receipt.

use hsm::Priority;
use protocol::receipt::{Payee, ReceiptClaims};

use super::{Failure, keyring};
use crate::app::App;
use crate::store::Payment;

/// The rail of this version.
const LEDGER: &str = "ledger";
/// Most receipts one round of the resumer signs.
const RESUME_MAX: u32 = 256;

/// The payment's receipt: the stored one, or signed and stored now.
pub async fn settle(app: &App, payment: &Payment) -> Result<String, Failure> {
    if let Some(stored) = &payment.receipt_jws {
        return Ok(stored.clone());
    }
    let claims = claims(app, payment);
    let signed = keyring::sign(&app.hsm, app.keyring.receipt(), &claims, Priority::Payment).await;
    let outcome = if signed.is_ok() { "signed" } else { "due" };
    app.metrics.receipts.with_label_values(&[outcome]).inc();
    let stored = app
        .store
        .store_receipt(payment.id, signed?, app.clock.now())
        .await?;
    app.push.changed(payment.approved.claimed().terminal);
    Ok(stored)
}

/// Signs what is due; how many were. Stops at the first failure: the next round goes on.
pub async fn resume(app: &App) -> Result<usize, Failure> {
    let due = app.store.receipts_due(RESUME_MAX).await?;
    for payment in &due {
        settle(app, payment).await?;
        tracing::info!(claim = %payment.approved.claimed().claim, "a receipt that was due is signed");
    }
    Ok(due.len())
}

fn claims(app: &App, payment: &Payment) -> ReceiptClaims {
    let claimed = payment.approved.claimed();
    ReceiptClaims {
        iss: app.issuer_uri(),
        sub: payment.pseudonym.clone(),
        jti: payment.receipt.to_string(),
        iat: payment.paid_at.secs(),
        receipt: payment.receipt,
        payment: payment.id,
        claim: claimed.claim,
        charge: claimed.charge,
        kind: claimed.kind,
        reference: claimed.reference.clone(),
        terminal: claimed.terminal,
        channel: claimed.token.window.channel,
        payee: Payee {
            id: claimed.payee,
            name: payment.payee_name.clone(),
        },
        amount: payment.approved.amount(),
        mark: claimed.mark,
        rail: LEDGER.to_owned(),
        rail_reference: payment.rail_reference.clone(),
    }
}

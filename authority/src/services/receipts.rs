//! Where is the signed statement of this payment?
//!
//! A payment commits with its receipt due; signing comes after, and whoever comes first is stored
//! for ever. What is still due is taken up at the start and again and again.

use std::sync::Arc;

use hsm::Priority;
use protocol::receipt::{Payee, ReceiptClaims};
use protocol::time::Timestamp;
use tracing::Instrument;

use super::push::Push;
use super::{Failure, claim_span, keyring};
use crate::app::App;
use crate::store::{NewReceipt, Payment};

/// Receipts taken up at a time.
pub const RESUME_BATCH: u32 = 64;

/// Signs and stores receipts.
pub struct Receipts {
    app: Arc<App>,
    push: Arc<Push>,
}

impl Receipts {
    pub fn new(app: Arc<App>, push: Arc<Push>) -> Self {
        Self { app, push }
    }

    /// The receipt of a payment: the stored one, or signed and stored now.
    pub async fn of(&self, payment: &Payment, now: Timestamp) -> Result<String, Failure> {
        if let Some(stored) = &payment.receipt_jws {
            return Ok(stored.clone());
        }
        let signed = self.sign_and_store(payment, now).await;
        let outcome = super::outcome(&signed, "stored");
        let counter = &self.app.metrics.receipts;
        counter.with_label_values(&[outcome]).inc();
        signed
    }

    /// Takes up what is due, oldest first; answers how many are stored now.
    ///
    /// One that fails does not keep the others from theirs.
    pub async fn resume(&self, now: Timestamp) -> Result<usize, Failure> {
        let due = self.app.store.receipts_due(RESUME_BATCH).await?;
        let mut stored = 0;
        for payment in &due {
            let claimed = payment.approved.claimed();
            let span = claim_span(claimed.claim);
            match self.of(payment, now).instrument(span).await {
                Ok(_) => {
                    stored += 1;
                    self.push.changed(claimed.terminal);
                }
                Err(why) => {
                    tracing::warn!(claim = %claimed.claim, error = %why, "a receipt is still due");
                }
            }
        }
        Ok(stored)
    }

    async fn sign_and_store(&self, payment: &Payment, now: Timestamp) -> Result<String, Failure> {
        let claims = claims_of(payment, self.app.issuer_uri());
        let keys = self.app.keyring();
        let jws = keyring::sign(&self.app.hsm, keys.receipt(), &claims, Priority::Payment).await?;
        let receipt = NewReceipt::of(payment, jws, now);
        let stored = self.app.store.store_receipt(receipt).await?;
        tracing::info!(receipt = %payment.receipt, "receipt stored");
        Ok(stored)
    }
}

fn claims_of(payment: &Payment, iss: String) -> ReceiptClaims {
    let claimed = payment.approved.claimed();
    ReceiptClaims {
        iss,
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
        rail: payment.rail.clone(),
        rail_reference: payment.rail_reference.clone(),
    }
}

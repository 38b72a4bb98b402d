//! Which payments has a restore lost? Only their receipts still know.

use protocol::ids::{MerchantId, PaymentId, ReceiptId, TerminalId};
use protocol::jws;
use protocol::money::Money;
use protocol::problem::ProblemType;
use protocol::receipt::ReceiptClaims;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Verb, refused};
use crate::app::App;
use crate::services::Failure;

/// Compares a receipt that a shopper or a till holds with the books.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceCompare {
    /// Compact JWS.
    pub receipt: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ComparedView {
    /// We signed it, and the books know nothing of it.
    pub lost: bool,
    pub receipt: ReceiptId,
    pub payment: PaymentId,
    pub paid_at: Timestamp,
    pub amount: Money,
    pub payee: MerchantId,
    /// The payer's pseudonym towards this payee.
    pub payer: String,
    pub terminal: TerminalId,
}

impl Verb for FenceCompare {
    const NAME: &'static str = "fence-compare";
    const CHANGES: bool = false;
    const WHILE_FENCED: bool = true;
    type Answer = ComparedView;

    async fn run(self, app: &App) -> Result<ComparedView, Failure> {
        let ring = app.keyring();
        let verified = jws::verify::<ReceiptClaims>(self.receipt.trim(), ring.jwks());
        let claims = verified.map_err(|error| {
            let detail = format!("this receipt was not signed here: {error}");
            refused(ProblemType::MalformedRequest, detail)
        })?;
        let claims = claims.into_claims();
        let known = app.store.payment_of(claims.claim).await?;
        Ok(ComparedView {
            lost: known.is_none_or(|payment| payment.id != claims.payment),
            receipt: claims.receipt,
            payment: claims.payment,
            paid_at: Timestamp::from_secs(claims.iat),
            amount: claims.amount,
            payee: claims.payee.id,
            payer: claims.sub,
            terminal: claims.terminal,
        })
    }
}

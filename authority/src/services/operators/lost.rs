//! Which payments has a restore lost? Only their receipts still know.

use protocol::ids::{MerchantId, PaymentId, ReceiptId, TerminalId};
use protocol::jws::{self, Verified};
use protocol::money::Money;
use protocol::problem::ProblemType;
use protocol::receipt::ReceiptClaims;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::fence::unwritten;
use super::{Verb, refused};
use crate::app::App;
use crate::journal::Known;
use crate::services::Failure;
use crate::services::fence::lost_keys;
use crate::services::keyring::set_of;
use crate::store::Payment;

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
    /// Since when its key is tainted; it is in the books then, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tainted_at: Option<Timestamp>,
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
        let receipt = self.receipt.trim();
        let verified = verify(app, receipt).await?;
        let tainted_at = verified.tainted_at().map(Timestamp::from_secs);
        let claims = verified.into_claims();
        let known = app.store.payment_of(claims.claim).await?;
        if let Some(since) = tainted_at {
            check_same(known.as_ref(), receipt, since)?;
        }
        Ok(ComparedView {
            lost: known.is_none_or(|payment| payment.id != claims.payment),
            tainted_at,
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

/// Before the raise the copy does not know the keys of the lost time, and may say so only of others.
async fn verify(app: &App, receipt: &str) -> Result<Verified<ReceiptClaims>, Failure> {
    let unknown = match jws::verify_kept(receipt, app.keyring().jwks()) {
        Ok(verified) => return Ok(verified),
        Err(error) => error,
    };
    let lost = lost_keys(app, &known_outside(app).await?).await?;
    jws::verify_kept(receipt, &set_of(&lost.found)).map_err(|_| {
        let gone: Vec<&str> = lost.gone.iter().map(|key| key.label.as_str()).collect();
        let detail = match gone.as_slice() {
            [] => format!("this receipt was not signed here: {unknown}"),
            gone => format!(
                "this receipt was not signed here, unless by a key that is gone from the HSM \
                 ({}): {unknown}",
                gone.join(", ")
            ),
        };
        refused(ProblemType::MalformedRequest, detail)
    })
}

/// Nothing where nobody keeps a journal.
async fn known_outside(app: &App) -> Result<Known, Failure> {
    match app.fence.journal() {
        Some(journal) => journal.known().await.map_err(unwritten),
        None => Ok(Known::nothing(String::new(), String::new())),
    }
}

/// Whoever took a key can sign any receipt: then only the one in the books is ours.
fn check_same(known: Option<&Payment>, receipt: &str, since: Timestamp) -> Result<(), Failure> {
    let stored = known.and_then(|payment| payment.receipt_jws.as_deref());
    if stored == Some(receipt) {
        return Ok(());
    }
    let books = match stored {
        Some(_) => "the books have another receipt of this payment",
        None => "the books have no receipt of such a payment",
    };
    let detail =
        format!("its key is tainted since {since}, and {books}: somebody else may have signed it");
    Err(refused(ProblemType::MalformedRequest, detail))
}

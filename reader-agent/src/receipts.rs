//! Is it really paid?
//!
//! The screen says "paid" and the till is told only with a [`PaidReceipt`], and only [`check`] makes
//! one: signed by the authority, for this terminal, this charge and this claim.

use protocol::charge::Mark;
use protocol::ids::{ChargeId, ClaimId, TerminalId};
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws};
use protocol::money::Money;
use protocol::receipt::ReceiptClaims;
use protocol::refund::RefundClaims;
use protocol::wire::refunds::RefundRequest;

/// What the authority says was paid, before anybody believes it.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub charge: ChargeId,
    pub claim: ClaimId,
    pub mark: Mark,
    pub amount: Option<Money>,
    pub receipt: &'a str,
}

/// A receipt that was verified for this terminal, charge and claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidReceipt(ReceiptClaims);

/// Why a receipt is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReceipt {
    #[error("it is not signed by a key of this authority: {0}")]
    Signature(BadJws),
    #[error("it is of another terminal")]
    Terminal,
    #[error("it is for another charge")]
    Charge,
    #[error("it is for another claim")]
    Claim,
    #[error("it is for another refund")]
    Refund,
    #[error("its amount is not what was asked for")]
    Amount,
}

/// Verifies a receipt for `terminal`.
pub fn check(
    said: Said<'_>,
    terminal: TerminalId,
    keys: &JwkSet,
) -> Result<PaidReceipt, BadReceipt> {
    let verified =
        jws::verify::<ReceiptClaims>(said.receipt, keys).map_err(BadReceipt::Signature)?;
    let claims = verified.into_claims();
    if claims.terminal != terminal {
        return Err(BadReceipt::Terminal);
    }
    if claims.charge != said.charge {
        return Err(BadReceipt::Charge);
    }
    if claims.claim != said.claim || claims.mark != said.mark {
        return Err(BadReceipt::Claim);
    }
    if said.amount.is_some_and(|asked| asked != claims.amount) {
        return Err(BadReceipt::Amount);
    }
    Ok(PaidReceipt(claims))
}

/// Verifies what says that exactly this was given back at `terminal`.
pub fn check_refund(
    receipt: &str,
    asked: &RefundRequest,
    terminal: TerminalId,
    keys: &JwkSet,
) -> Result<(), BadReceipt> {
    let verified = jws::verify::<RefundClaims>(receipt, keys).map_err(BadReceipt::Signature)?;
    let claims = verified.claims();
    if claims.terminal != Some(terminal) {
        return Err(BadReceipt::Terminal);
    }
    if claims.refund != asked.refund {
        return Err(BadReceipt::Refund);
    }
    if claims.charge != asked.charge {
        return Err(BadReceipt::Charge);
    }
    if claims.amount != asked.amount {
        return Err(BadReceipt::Amount);
    }
    Ok(())
}

/// Keeps only keys that are what their names say, so that a name never comes to mean another key.
pub fn trustworthy(mut keys: JwkSet) -> JwkSet {
    keys.keys
        .retain(|key| key.kid.as_deref() == Some(key.thumbprint().as_str()));
    keys.keys.truncate(KEYS_MAX);
    keys
}

/// Most keys that are kept of an authority; it has three at a time and drops none of its receipts'.
pub const KEYS_MAX: usize = 512;

impl PaidReceipt {
    pub fn claims(&self) -> &ReceiptClaims {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Signer, charge_id, claim_id, mark, money, receipt_claims, terminal};

    fn said<'a>(receipt: &'a str) -> Said<'a> {
        Said {
            charge: charge_id(1),
            claim: claim_id(1),
            mark: mark(7),
            amount: Some(money(420)),
            receipt,
        }
    }

    #[test]
    fn a_receipt_for_another_terminal_charge_claim_or_amount_is_not_believed() {
        let signer = Signer::new(1);
        let good = receipt_claims(terminal(1), 420);
        let check = |claims| check(said(&signer.sign(&claims)), terminal(1), &signer.keys());
        assert!(check(good.clone()).is_ok());
        let mut other = good.clone();
        other.charge = charge_id(2);
        assert_eq!(check(other), Err(BadReceipt::Charge));
        let mut other = good.clone();
        other.claim = claim_id(2);
        assert_eq!(check(other), Err(BadReceipt::Claim));
        let mut other = good.clone();
        other.terminal = terminal(2);
        assert_eq!(check(other), Err(BadReceipt::Terminal));
        let mut other = good;
        other.amount = money(1);
        assert_eq!(check(other), Err(BadReceipt::Amount));
    }

    #[test]
    fn a_receipt_of_a_stranger_or_with_one_letter_changed_is_not_believed() {
        let (signer, stranger) = (Signer::new(1), Signer::new(2));
        let claims = receipt_claims(terminal(1), 420);
        let foreign = stranger.sign(&claims);
        assert_eq!(
            check(said(&foreign), terminal(1), &signer.keys()),
            Err(BadReceipt::Signature(BadJws::UnknownKey))
        );
        let mut bent = signer.sign(&claims).into_bytes();
        let payload = bent.iter().position(|b| *b == b'.').unwrap() + 20;
        bent[payload] = if bent[payload] == b'A' { b'B' } else { b'A' };
        let bent = String::from_utf8(bent).unwrap();
        assert_eq!(
            check(said(&bent), terminal(1), &signer.keys()),
            Err(BadReceipt::Signature(BadJws::Signature))
        );
    }

    #[test]
    fn a_key_under_another_keys_name_is_not_kept() {
        let mut keys = Signer::new(1).keys();
        keys.keys[0].kid = Signer::new(2).keys().keys[0].kid.clone();
        assert!(trustworthy(keys).keys.is_empty());
        assert_eq!(trustworthy(Signer::new(1).keys()).keys.len(), 1);
    }
}

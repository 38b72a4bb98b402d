//! What does a passkey sign when a shopper confirms one payment?
//!
//! A challenge that is a hash over the payment (PSD2 RTS, Article 5): another amount, payee or account
//! is another challenge, and the signature is of no use for it. Every field is of fixed length, so no
//! two payments can be the same bytes.

use sha2::{Digest, Sha256};

use crate::ids::{AccountId, ClaimId, MerchantId};
use crate::money::Money;
use crate::time::Millis;

const PAYMENT: &[u8] = b"m2key/step-up/1\0";

/// How long a challenge waits for its signature, once.
pub const CHALLENGE_LIFE_MS: Millis = 300_000;

/// One payment that is to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmable {
    pub claim: ClaimId,
    pub amount: Money,
    pub payee: MerchantId,
    /// The service account that pays.
    pub account: AccountId,
    /// Random, for this challenge alone.
    pub nonce: [u8; 32],
}

impl Confirmable {
    /// What the passkey signs, as the `challenge` of WebAuthn.
    pub fn challenge(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(PAYMENT);
        hash.update(self.claim.0.as_bytes());
        hash.update(self.amount.amount_minor().to_be_bytes());
        hash.update(self.amount.currency().code().as_bytes());
        hash.update(self.payee.0.as_bytes());
        hash.update(self.account.0.as_bytes());
        hash.update(self.nonce);
        hash.finalize().into()
    }
}

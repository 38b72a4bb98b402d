//! Was this proof of possession shown before?

use async_trait::async_trait;
use protocol::dpop::Thumbprint;
use protocol::time::Timestamp;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Result;

/// What makes the nonces of proofs. Mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NonceKey(pub [u8; 32]);

impl std::fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKey(..)")
    }
}

/// A proof that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownProof {
    pub key: Thumbprint,
    /// SHA-256 of its `jti`.
    pub jti: [u8; 32],
    /// Too old from then on.
    pub until: Timestamp,
}

#[async_trait]
pub trait Proofs {
    /// The one key of this database; `candidate` if there was none yet.
    async fn nonce_key(&self, candidate: NonceKey, at: Timestamp) -> Result<NonceKey>;

    /// True once for each (key, jti). No audit row: a proof is of a request, and what the request does
    /// has its own.
    async fn show_proof(&self, proof: ShownProof) -> Result<bool>;

    /// Forgets proofs that were too old before `before`, at most so many; answers how many.
    async fn forget_proofs(&self, before: Timestamp, limit: u32) -> Result<usize>;
}

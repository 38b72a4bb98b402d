//! Does this request come from the holder of the key that its access token is bound to?
//!
//! ```text
//! cnf.jkt of the access token ─▶ proof: key and request (protocol::dpop) ─▶ nonce: ours, and young
//!                                                   └─▶ jti: for the first time, says the database
//! ```
//! Asked after the access token is known to be good, so that strangers write nothing.

use std::sync::{Arc, OnceLock};

use protocol::dpop::{BadProof, Proof, SignedProof, Target, Thumbprint};
use protocol::jwk::Jwk;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use sha2::{Digest, Sha256};

use super::nonces::Nonces;
use crate::app::App;
use crate::ids;
use crate::services::Failure;
use crate::store::{NonceKey, ShownProof, StoreError};

/// What a request brings to say who sends it.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub access_token: &'a str,
    /// With the scheme DPoP; none with the scheme Bearer.
    pub proof: Option<&'a str>,
    pub method: &'a str,
    /// As it stands in the request.
    pub path: &'a str,
}

/// What an access token says of the key that it is bound to.
pub(super) enum Confirmation {
    /// Nothing: whoever has it is its holder.
    None,
    Key(Thumbprint),
    /// Something that is not understood here.
    Other,
}

/// The key of a wallet that proved to hold it.
#[derive(Debug, Clone)]
pub struct WalletKey {
    jwk: Jwk,
    thumbprint: Thumbprint,
}

impl WalletKey {
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }
}

/// Why nobody is taken for the holder. For the log: strangers hear less.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum BadPossession {
    #[error("its access token is bound to no key")]
    Unbound,
    #[error("its access token is bound in a way that is not known here")]
    Binding,
    #[error("its access token is bound to a key, and comes without a proof")]
    NoProof,
    #[error("its access token is bound to no key, and comes with a proof")]
    NothingToProve,
    #[error("the proof is not good: {0}")]
    Proof(#[from] BadProof),
    #[error("the proof is of another key")]
    OtherKey,
    #[error("the proof has no nonce of ours, or an old one")]
    Nonce,
    #[error("the proof was shown before")]
    Again,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BadPossession> for Failure {
    fn from(bad: BadPossession) -> Self {
        let problem = match bad {
            BadPossession::Unbound | BadPossession::Binding | BadPossession::NoProof => {
                Problem::new(ProblemType::SignInRefused).with_detail(bad)
            }
            BadPossession::NothingToProve => Problem::new(ProblemType::SignInRefused),
            BadPossession::Proof(_) | BadPossession::OtherKey | BadPossession::Again => {
                Problem::new(ProblemType::ProofRefused).with_detail(bad)
            }
            BadPossession::Nonce => Problem::new(ProblemType::NonceNeeded),
            BadPossession::Store(error) => return error.into(),
        };
        problem.into()
    }
}

/// Judges proofs.
pub(super) struct Possession {
    app: Arc<App>,
    /// Where we are, for `htu`: from the configuration, whatever a request says.
    origin: String,
    nonces: OnceLock<Nonces>,
}

impl Possession {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self {
            origin: app.config.public.origin(),
            app,
            nonces: OnceLock::new(),
        }
    }

    /// The nonce for the next proof.
    pub(super) async fn nonce(&self, now: Timestamp) -> Result<String, StoreError> {
        Ok(self.nonces(now).await?.issue(now))
    }

    /// The key that the sender holds; none for an access token that need not be bound to one.
    pub(super) async fn prove(
        &self,
        shown: &Shown<'_>,
        confirmed: Confirmation,
        required: bool,
        now: Timestamp,
    ) -> Result<Option<WalletKey>, BadPossession> {
        let bound_to = match confirmed {
            Confirmation::Key(thumbprint) => thumbprint,
            Confirmation::Other => return Err(BadPossession::Binding),
            Confirmation::None if required => return Err(BadPossession::Unbound),
            Confirmation::None if shown.proof.is_some() => {
                return Err(BadPossession::NothingToProve);
            }
            Confirmation::None => return Ok(None),
        };
        let text = shown.proof.ok_or(BadPossession::NoProof)?;
        let target = Target {
            method: shown.method,
            origin: &self.origin,
            path: shown.path,
        };
        let proof = SignedProof::read(text)?.check(&target, Some(shown.access_token), now)?;
        if proof.thumbprint() != bound_to {
            return Err(BadPossession::OtherKey);
        }
        self.is_fresh(&proof, now).await?;
        Ok(Some(WalletKey {
            thumbprint: proof.thumbprint(),
            jwk: proof.key().clone(),
        }))
    }

    async fn is_fresh(&self, proof: &Proof, now: Timestamp) -> Result<(), BadPossession> {
        let nonces = self.nonces(now).await?;
        if !proof.nonce().is_some_and(|nonce| nonces.knows(nonce, now)) {
            return Err(BadPossession::Nonce);
        }
        let shown = ShownProof {
            key: proof.thumbprint(),
            jti: Sha256::digest(proof.jti().as_bytes()).into(),
            until: proof.until(),
        };
        match self.app.store.show_proof(shown).await? {
            true => Ok(()),
            false => Err(BadPossession::Again),
        }
    }

    async fn nonces(&self, now: Timestamp) -> Result<&Nonces, StoreError> {
        if let Some(known) = self.nonces.get() {
            return Ok(known);
        }
        // Each asks for itself: nobody waits for another one's wait, and all get the same key.
        let candidate = NonceKey(ids::random());
        let nonces = Nonces::of(self.app.store.nonce_key(candidate, now).await?);
        Ok(self.nonces.get_or_init(|| nonces))
    }
}

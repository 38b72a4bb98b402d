//! Who signs as the root when nobody should care where its key lies?

use std::fmt;
#[cfg(feature = "ca")]
use std::sync::Arc;

#[cfg(feature = "ca")]
use hsm::{Hsm, KeyLabel, Priority};
use p256::ecdsa::VerifyingKey;

use super::{RootKey, check_own, unsigned_issuing, unsigned_root};
use crate::certificate::{Certificate, point, spki_sha256};
use crate::crl::{self, CrlRequest, SignedCrl};
use crate::csr::CheckedCsr;
use crate::error::PkiError;
use crate::profiles::CrlBase;
use crate::signing::Unsigned;

/// A root key that can sign, in a file under a passphrase or in an HSM token.
pub struct RootSigner {
    key: Place,
    public: VerifyingKey,
}

enum Place {
    Memory(RootKey),
    #[cfg(feature = "ca")]
    Hsm(Arc<dyn Hsm>, KeyLabel),
}

impl RootSigner {
    /// The key `label` of an HSM token that is open already.
    #[cfg(feature = "ca")]
    pub async fn in_hsm(hsm: Arc<dyn Hsm>, label: KeyLabel) -> Result<Self, PkiError> {
        let point = hsm.public_key(&label).await?;
        Ok(Self {
            public: VerifyingKey::from_sec1_bytes(&point).map_err(PkiError::bug)?,
            key: Place::Hsm(hsm, label),
        })
    }

    /// The public key as an uncompressed SEC 1 point.
    pub fn public_point(&self) -> [u8; 65] {
        point(&self.public)
    }

    /// SHA-256 of the subject public key info, as the root's certificates have it.
    pub fn spki_sha256(&self) -> [u8; 32] {
        spki_sha256(&self.public)
    }

    /// The self-signed root certificate, from `now` on (Unix seconds).
    pub async fn certificate(&self, now: u64) -> Result<Certificate, PkiError> {
        self.sign(unsigned_root(&self.public, now)?).await
    }

    /// An issuing certificate under `root` for whoever holds the key of the request; it says where the
    /// root's revocation list is, if anywhere.
    pub async fn sign_issuing(
        &self,
        root: &Certificate,
        request: &CheckedCsr,
        crl_base: Option<&CrlBase>,
        now: u64,
    ) -> Result<Certificate, PkiError> {
        check_own(root, &self.public)?;
        request.asks_only_for(&[])?;
        let unsigned = unsigned_issuing(root, &request.public_point(), crl_base, now)?;
        self.sign(unsigned).await
    }

    /// The list of issuing certificates that `root` no longer stands for.
    pub async fn sign_crl(
        &self,
        root: &Certificate,
        request: &CrlRequest,
    ) -> Result<SignedCrl, PkiError> {
        check_own(root, &self.public)?;
        let unsigned = crl::Unsigned::new(root, request)?;
        let signature = self.sign_digest(unsigned.digest()).await?;
        unsigned.assemble(signature)
    }

    /// ECDSA P-256 over a SHA-256 digest: `r || s`.
    pub async fn sign_digest(&self, digest: [u8; 32]) -> Result<[u8; 64], PkiError> {
        match &self.key {
            Place::Memory(key) => key.sign_digest(digest),
            #[cfg(feature = "ca")]
            Place::Hsm(hsm, label) => Ok(hsm.sign(label, digest, Priority::Payment).await?),
        }
    }

    async fn sign(&self, unsigned: Unsigned) -> Result<Certificate, PkiError> {
        let signature = self.sign_digest(unsigned.digest()).await?;
        unsigned.assemble(signature)
    }
}

impl From<RootKey> for RootSigner {
    fn from(key: RootKey) -> Self {
        Self {
            public: *key.0.verifying_key(),
            key: Place::Memory(key),
        }
    }
}

impl fmt::Debug for RootSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSigner(..)")
    }
}

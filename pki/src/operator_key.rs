//! Where is the key that an operator signs with: in a file, or in an HSM token or smart card?

use std::fmt;
#[cfg(feature = "ca")]
use std::sync::Arc;

#[cfg(feature = "ca")]
use hsm::{Hsm, KeyLabel, Priority};
#[cfg(feature = "ca")]
use sha2::{Digest, Sha256};

use crate::certificate::Certificate;
use crate::consent::Unsigned;
#[cfg(feature = "ca")]
use crate::csr::UnsignedRequest;
use crate::error::PkiError;
use crate::keys::SoftwareKey;
use crate::names::{SpiffeId, TrustDomain};

/// A P-256 key that signs, wherever it is.
pub enum OperatorKey {
    File(SoftwareKey),
    #[cfg(feature = "ca")]
    Hsm {
        hsm: Arc<dyn Hsm>,
        label: KeyLabel,
        point: [u8; 65],
    },
}

impl OperatorKey {
    /// The key `label` of an HSM token that is open already.
    #[cfg(feature = "ca")]
    pub async fn in_hsm(hsm: Arc<dyn Hsm>, label: KeyLabel) -> Result<Self, PkiError> {
        let point = hsm.public_key(&label).await?;
        Ok(Self::Hsm { hsm, label, point })
    }

    /// The public key as an uncompressed SEC 1 point.
    pub fn public_point(&self) -> [u8; 65] {
        match self {
            Self::File(key) => key.public_point(),
            #[cfg(feature = "ca")]
            Self::Hsm { point, .. } => *point,
        }
    }

    /// ECDSA with SHA-256 over `message`: `r || s`.
    pub async fn sign(&self, message: &[u8]) -> Result<[u8; 64], PkiError> {
        match self {
            Self::File(key) => Ok(key.sign(message)),
            #[cfg(feature = "ca")]
            Self::Hsm { hsm, label, .. } => {
                let digest = Sha256::digest(message).into();
                Ok(hsm.sign(label, digest, Priority::Payment).await?)
            }
        }
    }

    /// A statement under these certificates, the key's own first.
    pub async fn state<C: protocol::jws::Purpose>(
        &self,
        claims: &C,
        certificates: &[Certificate],
    ) -> Result<String, PkiError> {
        let unsigned = Unsigned::new(claims, certificates);
        let signature = self.sign(unsigned.message()).await?;
        Ok(unsigned.with_signature(&signature))
    }

    /// A certificate request (DER) for this name.
    pub async fn request(&self, id: &SpiffeId, domain: &TrustDomain) -> Result<Vec<u8>, PkiError> {
        match self {
            Self::File(key) => crate::csr::new(key, id, domain),
            #[cfg(feature = "ca")]
            Self::Hsm { hsm, label, point } => {
                let unsigned = UnsignedRequest::new(point, id, domain)?;
                let signature = hsm.sign(label, unsigned.digest(), Priority::Payment);
                unsigned.assemble(&signature.await?)
            }
        }
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorKey(..)")
    }
}

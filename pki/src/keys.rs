//! Where does a machine without an HSM keep its key?

use std::fmt;
use std::path::Path;

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use zeroize::Zeroizing;

use crate::certificate::{point, spki_sha256};
use crate::error::PkiError;
use crate::files::{self, BadFile, Replace};

/// A P-256 key of an agent or an operator, in memory and in a file of mode 0600. It is zeroized when
/// it is dropped.
pub struct SoftwareKey(SigningKey);

impl SoftwareKey {
    pub fn generate() -> Result<Self, PkiError> {
        random_scalar().map(Self)
    }

    /// Writes PKCS#8 PEM, whole or not at all; an older key under this name is replaced.
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).map_err(PkiError::bug)?;
        files::write_private(path, pem.as_bytes(), Replace::Yes)
    }

    /// Reads PKCS#8 PEM and refuses a file that others can read.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let pem = files::read_private(path)?;
        SigningKey::from_pkcs8_pem(&pem)
            .map(Self)
            .map_err(|_| BadFile::NotKey.at(path))
    }

    /// PKCS#8 DER, as TLS libraries take it.
    pub fn pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        let document = self.0.to_pkcs8_der().map_err(PkiError::bug)?;
        Ok(document.to_bytes())
    }

    /// The public key as an uncompressed SEC 1 point.
    pub fn public_point(&self) -> [u8; 65] {
        point(self.0.verifying_key())
    }

    /// SHA-256 of the subject public key info, as certificates of this key have it.
    pub fn spki_sha256(&self) -> [u8; 32] {
        spki_sha256(self.0.verifying_key())
    }

    /// ECDSA with SHA-256 over `message`: `r || s`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature: p256::ecdsa::Signature = self.0.sign(message);
        signature.to_bytes().into()
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.0
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoftwareKey(..)")
    }
}

pub(crate) fn random_scalar() -> Result<SigningKey, PkiError> {
    let mut bytes = Zeroizing::new([0; 32]);
    loop {
        getrandom::fill(bytes.as_mut()).map_err(|_| PkiError::NoRandom)?;
        // All but one in 2^32 draws lie below the order of the curve.
        if let Ok(key) = SigningKey::from_slice(bytes.as_ref()) {
            return Ok(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_never_shows_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        let key = SoftwareKey::generate().unwrap();
        key.save(&path).unwrap();
        let back = SoftwareKey::load(&path).unwrap();
        assert_eq!(back.public_point(), key.public_point());
        assert_eq!(format!("{back:?}"), "SoftwareKey(..)");
    }

    #[test]
    fn a_damaged_key_file_is_named_and_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        SoftwareKey::generate().unwrap().save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let error = SoftwareKey::load(&path).unwrap_err();
        assert!(error.to_string().contains("agent.key"));
        assert_eq!(error, BadFile::NotKey.at(&path));
    }
}

//! How is the root key made, kept offline, and used once in a while?
//!
//! The same functions serve the offline ceremony and the authority's `init`. The key lies in a file
//! under a passphrase ([`RootKey`]) or in an HSM token; [`RootSigner`] is either.

mod bar;
mod ceremony;
mod log;
mod place;
mod plans;
mod refusal;
mod signer;
mod trusting;
mod vouching;

pub use bar::{CONSENTS_FILE, Consents};
pub use ceremony::Ceremony;
pub use place::KeyPlace;
pub use plans::{CrlPlan, CrlWish, IssuingPlan};
pub use refusal::BadCeremony;
pub use signer::RootSigner;
pub use trusting::TrustPlan;
pub use vouching::VouchPlan;

use std::fmt;
use std::path::Path;

use der::Encode;
use der::asn1::OctetStringRef;
use der::pem::PemLabel;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::pkcs5::scrypt;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

use crate::certificate::{Certificate, spki_sha256};
use crate::crl::{self, CrlRequest, SignedCrl};
use crate::error::PkiError;
use crate::files::{self, BadFile, Replace};
use crate::keys::random_scalar;
use crate::pem;
use crate::profiles::{self, CrlBase};
use crate::signing::{Period, Unsigned};

/// How long a passphrase may be.
pub const PASSPHRASE_MIN_BYTES: usize = 12;
pub const PASSPHRASE_MAX_BYTES: usize = 1024;

/// scrypt with N = 2^14, r = 8, p = 5: as hard as OWASP asks for, and within the 32 MiB that OpenSSL
/// grants, so that the key opens without us.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 5;

/// The root's private key. It is zeroized when it is dropped.
pub struct RootKey(SigningKey);

/// What opens the file of a root key.
pub struct Passphrase(Zeroizing<String>);

impl RootKey {
    pub fn generate() -> Result<Self, PkiError> {
        random_scalar().map(Self)
    }

    /// Writes encrypted PKCS#8 PEM of mode 0600. A file that is there is never replaced.
    pub fn save(&self, path: &Path, passphrase: &Passphrase) -> Result<(), PkiError> {
        self.save_under(path, passphrase, encryption_scheme()?)
    }

    fn save_under(
        &self,
        path: &Path,
        passphrase: &Passphrase,
        scheme: Parameters,
    ) -> Result<(), PkiError> {
        let plain = self.0.to_pkcs8_der().map_err(PkiError::bug)?;
        let encrypted = scheme
            .encrypt(passphrase.0.as_bytes(), plain.as_bytes())
            .map_err(PkiError::bug)?;
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: scheme.into(),
            encrypted_data: OctetStringRef::new(&encrypted).map_err(PkiError::bug)?,
        };
        let der = info.to_der().map_err(PkiError::bug)?;
        let text = pem::armour(EncryptedPrivateKeyInfoRef::PEM_LABEL, &der);
        files::write_private(path, text.as_bytes(), Replace::Never)
    }

    pub fn load(path: &Path, passphrase: &Passphrase) -> Result<Self, PkiError> {
        let text = files::read_private(path)?;
        decrypt(&text, passphrase)
            .map(Self)
            .map_err(|problem| problem.at(path))
    }

    /// The self-signed root certificate, from `now` on (Unix seconds).
    pub fn certificate(&self, now: u64) -> Result<Certificate, PkiError> {
        self.sign(unsigned_root(self.0.verifying_key(), now)?)
    }

    /// An issuing certificate for the public key of an HSM (SEC 1 point, 65 bytes), under `root`.
    pub fn sign_issuing(
        &self,
        root: &Certificate,
        point: &[u8; 65],
        now: u64,
    ) -> Result<Certificate, PkiError> {
        check_own(root, self.0.verifying_key())?;
        self.sign(unsigned_issuing(root, point, None, now)?)
    }

    /// The list of issuing certificates that `root` no longer stands for.
    pub fn sign_crl(
        &self,
        root: &Certificate,
        request: &CrlRequest,
    ) -> Result<SignedCrl, PkiError> {
        check_own(root, self.0.verifying_key())?;
        let unsigned = crl::Unsigned::new(root, request)?;
        let signature = self.sign_digest(unsigned.digest())?;
        unsigned.assemble(signature)
    }

    fn sign(&self, unsigned: Unsigned) -> Result<Certificate, PkiError> {
        let signature = self.sign_digest(unsigned.digest())?;
        unsigned.assemble(signature)
    }

    pub(crate) fn sign_digest(&self, digest: [u8; 32]) -> Result<[u8; 64], PkiError> {
        let signature: Signature = self.0.sign_prehash(&digest).map_err(PkiError::bug)?;
        Ok(signature.to_bytes().into())
    }
}

/// A root certificate without its signature.
fn unsigned_root(key: &VerifyingKey, now: u64) -> Result<Unsigned, PkiError> {
    let profile = profiles::root(&spki_sha256(key))?;
    let issuer = profile.subject().clone();
    let period = Period::of(&profile, now, u64::MAX);
    Unsigned::new(profile, issuer, *key, key, period)
}

/// An issuing certificate under `root` without its signature.
fn unsigned_issuing(
    root: &Certificate,
    point: &[u8; 65],
    crl_base: Option<&CrlBase>,
    now: u64,
) -> Result<Unsigned, PkiError> {
    let subject_key = VerifyingKey::from_sec1_bytes(point).map_err(PkiError::bug)?;
    let profile = profiles::issuing(&spki_sha256(&subject_key))?.listed_at(crl_base);
    let period = Period::of(&profile, now, root.not_after());
    let issuer = root.x509().tbs_certificate().subject().clone();
    let root_key = *root.verifying_key();
    Unsigned::new(profile, issuer, root_key, &subject_key, period)
}

fn check_own(root: &Certificate, key: &VerifyingKey) -> Result<(), PkiError> {
    if root.verifying_key() == key {
        Ok(())
    } else {
        Err(PkiError::ForeignRootKey)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

impl Passphrase {
    /// The first line of a file that only its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, PkiError> {
        let text = files::read_private(path)?;
        let line = text.lines().next().unwrap_or_default();
        if (PASSPHRASE_MIN_BYTES..=PASSPHRASE_MAX_BYTES).contains(&line.len()) {
            Ok(Self(Zeroizing::new(line.into())))
        } else {
            Err(BadFile::PassphraseLength.at(path))
        }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// PBES2 knows a wrong passphrase only by padding or, once in 256, by content that makes no sense.
fn decrypt(text: &str, passphrase: &Passphrase) -> Result<SigningKey, BadFile> {
    let (label, der) = SecretDocument::from_pem(text).map_err(|_| BadFile::NotKey)?;
    EncryptedPrivateKeyInfoRef::validate_pem_label(label).map_err(|_| BadFile::NotKey)?;
    let sealed =
        EncryptedPrivateKeyInfoRef::try_from(der.as_bytes()).map_err(|_| BadFile::NotKey)?;
    let plain = sealed.decrypt(passphrase.0.as_bytes());
    let plain = plain.map_err(|_| BadFile::WrongPassphrase)?;
    SigningKey::from_pkcs8_der(plain.as_bytes()).map_err(|_| BadFile::WrongPassphrase)
}

fn encryption_scheme() -> Result<Parameters, PkiError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).map_err(|_| PkiError::NoRandom)?;
    getrandom::fill(&mut iv).map_err(|_| PkiError::NoRandom)?;
    let params = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(PkiError::bug)?;
    Parameters::generate_scrypt_aes256cbc(params, &salt, iv).map_err(PkiError::bug)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Enough that a wrong passphrase unpads to nonsense several times: once in 256.
    const GUESSES: u32 = 2_000;

    #[test]
    fn every_wrong_passphrase_is_called_wrong_even_if_what_it_opens_looks_padded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        let cheap = scrypt::Params::new(1, 1, 1).unwrap();
        let scheme = Parameters::generate_scrypt_aes256cbc(cheap, &[7; 16], [7; 16]).unwrap();
        let right = Passphrase(Zeroizing::new("the right passphrase".into()));
        let key = RootKey::generate().unwrap();
        key.save_under(&path, &right, scheme).unwrap();
        assert!(RootKey::load(&path, &right).is_ok());
        for guess in 0..GUESSES {
            let wrong = Passphrase(Zeroizing::new(format!("wrong passphrase {guess}")));
            let refused = RootKey::load(&path, &wrong).unwrap_err();
            assert_eq!(refused, BadFile::WrongPassphrase.at(&path), "{guess}");
        }
    }
}

//! How is the root key made, kept offline, and used once in a while?
//!
//! The same functions serve the offline ceremony and the authority's `init`.

use std::fmt;
use std::path::Path;

use der::Encode;
use der::asn1::OctetStringRef;
use der::pem::PemLabel;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::pkcs5::scrypt;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef};
use zeroize::Zeroizing;

use crate::certificate::{Certificate, spki_sha256};
use crate::error::PkiError;
use crate::files::{self, BadFile, Replace};
use crate::keys::random_scalar;
use crate::pem;
use crate::profiles;
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
        let plain = self.0.to_pkcs8_der().map_err(PkiError::bug)?;
        let scheme = encryption_scheme()?;
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
        let key = SigningKey::from_pkcs8_encrypted_pem(&text, passphrase.0.as_bytes());
        key.map(Self).map_err(|error| {
            match error {
                // PBES2 knows a wrong passphrase only by padding or content that make no sense.
                pkcs8::Error::EncryptedPrivateKey(_) => BadFile::WrongPassphrase,
                _ => BadFile::NotKey,
            }
            .at(path)
        })
    }

    /// The self-signed root certificate, from `now` on (Unix seconds).
    pub fn certificate(&self, now: u64) -> Result<Certificate, PkiError> {
        let key = self.0.verifying_key();
        let profile = profiles::root(&spki_sha256(key))?;
        let issuer = profile.subject().clone();
        let period = Period::of(&profile, now, u64::MAX);
        self.sign(Unsigned::new(profile, issuer, *key, key, period)?)
    }

    /// An issuing certificate for the public key of an HSM (SEC 1 point, 65 bytes), under `root`.
    pub fn sign_issuing(
        &self,
        root: &Certificate,
        point: &[u8; 65],
        now: u64,
    ) -> Result<Certificate, PkiError> {
        if root.verifying_key() != self.0.verifying_key() {
            return Err(PkiError::ForeignRootKey);
        }
        let subject_key = VerifyingKey::from_sec1_bytes(point).map_err(PkiError::bug)?;
        let profile = profiles::issuing(&spki_sha256(&subject_key))?;
        let period = Period::of(&profile, now, root.not_after());
        let issuer = root.x509().tbs_certificate().subject().clone();
        let key = *self.0.verifying_key();
        self.sign(Unsigned::new(profile, issuer, key, &subject_key, period)?)
    }

    fn sign(&self, unsigned: Unsigned) -> Result<Certificate, PkiError> {
        let signature: Signature = self
            .0
            .sign_prehash(&unsigned.digest())
            .map_err(PkiError::bug)?;
        unsigned.assemble(signature.to_bytes().into())
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

fn encryption_scheme() -> Result<Parameters, PkiError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).map_err(|_| PkiError::NoRandom)?;
    getrandom::fill(&mut iv).map_err(|_| PkiError::NoRandom)?;
    let params = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(PkiError::bug)?;
    Parameters::generate_scrypt_aes256cbc(params, &salt, iv).map_err(PkiError::bug)
}

//! As which operator do these verbs speak, and with which key do they sign?

use std::sync::Arc;

use hsm::{Hsm, KeyLabel, Module, OpenOptions, Pin, Pkcs11Hsm};
use p256::ecdsa::Signature;
use pki::{BadCertificate, Certificate, OperatorKey, PkiError, SoftwareKey, SpiffeId, identity_of};
use protocol::jws::Purpose;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::{CliError, Exit};
use crate::app::load_certificates;
use crate::config::{Asking, CertificateFiles, OperatorHsm, OperatorKeyPlace};
use crate::listen::pair;

/// An operator: name, certificates (the own one first) and key.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) name: String,
    pub(super) chain: Vec<Certificate>,
    key: Arc<OperatorKey>,
}

impl Own {
    /// As `[operator]` or the file of `--as` say.
    pub(super) async fn load(config: &Asking) -> Result<Self, CliError> {
        let path = &config.operator.certificate;
        if let OperatorKeyPlace::File(key) = &config.operator.key {
            // A renewal may have been interrupted.
            let (certificate, key) = (path.clone(), key.clone());
            pair::mend(&CertificateFiles { certificate, key })?;
        }
        let chain = load_certificates(path)?;
        let leaf = chain
            .first()
            .ok_or(PkiError::Certificate(BadCertificate::NotPem))?;
        let SpiffeId::Operator(name) = identity_of(leaf.der(), &config.trust.domain)?.id else {
            return Err(CliError::new(
                Exit::OperatorNeeded,
                format!("{}: it is not an operator's certificate", path.display()),
                "check [operator], or the file given with --as",
            ));
        };
        let key = open_key(&config.operator.key).await?;
        if key.public_point() != leaf.public_point() {
            return Err(CliError::operator(
                format!("{}: the operator's key is another one", path.display()),
                "give the certificate and the key that belong together in [operator]",
            ));
        }
        Ok(Self {
            name: name.to_string(),
            key: Arc::new(key),
            chain,
        })
    }

    /// Claims, signed; the certificates go with them.
    pub(super) async fn state<C: Purpose>(&self, claims: &C) -> Result<String, CliError> {
        Ok(self.key.state(claims, &self.chain).await?)
    }

    /// A certificate request (DER) for the key as it is.
    pub(super) async fn request(&self, config: &Asking) -> Result<Vec<u8>, CliError> {
        let id = SpiffeId::Operator(self.name.parse().map_err(PkiError::from)?);
        Ok(self.key.request(&id, &config.trust.domain).await?)
    }

    /// Shows the certificate to a server that asks, and signs with the key wherever it is.
    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        let chain = self
            .chain
            .iter()
            .map(|it| CertificateDer::from(it.der().to_vec()));
        let key = Arc::new(TlsKey(self.key.clone()));
        Arc::new(CertifiedKey::new(chain.collect(), key).into())
    }
}

async fn open_key(place: &OperatorKeyPlace) -> Result<OperatorKey, CliError> {
    match place {
        OperatorKeyPlace::File(path) => Ok(OperatorKey::File(SoftwareKey::load(path)?)),
        OperatorKeyPlace::Hsm(place) => {
            let hsm: Arc<dyn Hsm> = Arc::new(open_hsm(place)?);
            Ok(OperatorKey::in_hsm(hsm, KeyLabel(place.key_label.clone())).await?)
        }
    }
}

/// The HSM token of an operator's key. Blocks while it opens.
pub(super) fn open_hsm(place: &OperatorHsm) -> Result<Pkcs11Hsm, CliError> {
    let module = Module::load(&place.module)?;
    let options = OpenOptions::new(&place.token_label, Pin::from_file(&place.pin_file)?);
    Ok(Pkcs11Hsm::open(&module, options)?)
}

/// The key as TLS wants it.
#[derive(Debug)]
struct TlsKey(Arc<OperatorKey>);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let ours = SignatureScheme::ECDSA_NISTP256_SHA256;
        offered
            .contains(&ours)
            .then(|| Box::new(Self(self.0.clone())) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    /// An HSM answers later, and TLS cannot wait but by blocking: this process has nothing else to do.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let failed = |error: String| rustls::Error::General(error);
        let signing = self.0.sign(message);
        let handle = tokio::runtime::Handle::current();
        let signature = tokio::task::block_in_place(|| handle.block_on(signing))
            .map_err(|error| failed(error.to_string()))?;
        let signature =
            Signature::from_slice(&signature).map_err(|error| failed(error.to_string()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

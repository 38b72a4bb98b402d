//! May a client come with a certificate that has ended?
//!
//! A terminal may, for one thing: the handshake proves that it still holds the key, and the route of
//! renewals alone takes it. Its chain must have been good until its own end. Everybody else is refused
//! here, by name: "certificate expired". And nobody comes by a key that the list of roots denies.

use std::sync::Arc;

use pki::{Certificate, Denied, SpiffeId, TrustDomain};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// The rules of another verifier, and terminals whose certificates have ended.
#[derive(Debug)]
pub(super) struct EndedTerminals {
    rules: Arc<dyn ClientCertVerifier>,
    domain: TrustDomain,
}

impl EndedTerminals {
    pub(super) fn also(rules: Arc<dyn ClientCertVerifier>, domain: TrustDomain) -> Self {
        Self { rules, domain }
    }

    /// When this certificate ended, if it is a terminal's and that was before `now`.
    fn ended(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Option<UnixTime> {
        let identity = pki::identity_of(leaf, &self.domain).ok()?;
        let SpiffeId::Terminal(_) = identity.id else {
            return None;
        };
        let ended = Certificate::from_der(leaf).ok()?.not_after();
        let ended = UnixTime::since_unix_epoch(std::time::Duration::from_secs(ended));
        (ended < now).then_some(ended)
    }
}

impl ClientCertVerifier for EndedTerminals {
    fn offer_client_auth(&self) -> bool {
        self.rules.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.rules.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.rules.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.rules.verify_client_cert(leaf, issuers, now);
        match &verified {
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => match self.ended(leaf, now) {
                Some(ended) => self.rules.verify_client_cert(leaf, issuers, ended),
                None => verified,
            },
            _ => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}

/// The rules of another verifier, and no way over a key that is denied.
#[derive(Debug)]
pub(super) struct NotDenied {
    rules: Arc<dyn ClientCertVerifier>,
    denied: Denied,
}

impl NotDenied {
    pub(super) fn by(rules: Arc<dyn ClientCertVerifier>, denied: Denied) -> Arc<Self> {
        Arc::new(Self { rules, denied })
    }
}

impl ClientCertVerifier for NotDenied {
    fn offer_client_auth(&self) -> bool {
        self.rules.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.rules.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.rules.root_hint_subjects()
    }

    /// What the client shows of a denied key is as if it had not been shown.
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.denied.denies_der(leaf) {
            return Err(CertificateError::Revoked.into());
        }
        let admitted = issuers.iter().filter(|der| !self.denied.denies_der(der));
        let admitted: Vec<_> = admitted.cloned().collect();
        self.rules.verify_client_cert(leaf, &admitted, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}

//! Is this really the authority, and how do we show who we are?
//!
//! A server is the authority when its chain leads to a trusted root by no key that is denied, its name is
//! the one that was dialled, and its SPIFFE ID is that of an authority. All of it, or no byte is sent.

use std::sync::Arc;
use std::time::Duration;

use pki::{Certificate, Denied, SpiffeId, TrustAnchors, TrustDomain};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::clock::Clock;
use crate::error::AgentError;
use crate::identity::Identity;

/// Trusts these roots, and shows `identity` if there is one.
pub(super) fn verified(
    trust: &TrustAnchors,
    identity: Option<&Identity>,
    clock: Option<Arc<Clock>>,
) -> Result<ClientConfig, AgentError> {
    let verifier = Arc::new(AuthorityVerifier::new(
        trust,
        identity.map(|i| i.domain().clone()),
        clock,
    )?);
    let builder = builder()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = identity.key_der()?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
            builder
                .with_client_auth_cert(identity.chain_der(), key)
                .map_err(AgentError::bug)?
        }
    };
    // No tickets: every connection proves anew who is there.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Trusts anybody: only for looking at what proves itself, `/cacerts` before the fingerprint is compared
/// and a trust bundle before its signatures are checked.
pub(super) fn unverified() -> Result<ClientConfig, AgentError> {
    Ok(builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(algorithms())))
        .with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, AgentError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(AgentError::bug)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

struct AuthorityVerifier {
    web: Arc<WebPkiServerVerifier>,
    /// Keys that count for nothing, whatever root they hang on.
    denied: Denied,
    /// Known once this terminal has an identity; before that any domain under the pinned root.
    domain: Option<TrustDomain>,
    clock: Option<Arc<Clock>>,
}

impl std::fmt::Debug for AuthorityVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthorityVerifier({:?})", self.domain)
    }
}

impl AuthorityVerifier {
    fn new(
        trust: &TrustAnchors,
        domain: Option<TrustDomain>,
        clock: Option<Arc<Clock>>,
    ) -> Result<Self, AgentError> {
        let mut roots = RootCertStore::empty();
        for root in chain_der(trust.roots()) {
            roots.add(root).map_err(AgentError::bug)?;
        }
        let web = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(AgentError::bug)?;
        Ok(Self {
            web,
            denied: trust.denied().clone(),
            domain,
            clock,
        })
    }

    /// The authority's time, if it has said; anybody can set this machine's clock.
    fn authority_time(&self) -> Option<UnixTime> {
        let now = self.clock.as_ref()?.now()?;
        let since_epoch = Duration::from_secs(now.secs().max(0).unsigned_abs());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }

    fn is_authority(&self, leaf: &[u8]) -> bool {
        let Some(domain) = self.domain.clone().or_else(|| domain_in(leaf)) else {
            return false;
        };
        let peer = pki::identity_of(leaf, &domain);
        matches!(peer, Ok(peer) if matches!(peer.id, SpiffeId::Authority(_)))
    }
}

impl ServerCertVerifier for AuthorityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // A way over a denied key is no way; a leaf of one is nobody.
        if self.denied.denies_der(end_entity) {
            return Err(CertificateError::Revoked.into());
        }
        let shown = intermediates.iter();
        let intermediates: Vec<_> = shown
            .filter(|der| !self.denied.denies_der(der))
            .cloned()
            .collect();
        let verify = |at| {
            let (web, others) = (&self.web, &intermediates);
            web.verify_server_cert(end_entity, others, server_name, ocsp_response, at)
        };
        // Either clock may be wrong, and neither locks the terminal out: dates hold by one of them.
        let verified = match (verify(now), self.authority_time()) {
            (Err(error), Some(there)) if is_about_dates(&error) => verify(there)?,
            (verified, _) => verified?,
        };
        if self.is_authority(end_entity) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.web.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.web.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.web.supported_verify_schemes()
    }
}

fn is_about_dates(error: &rustls::Error) -> bool {
    use CertificateError as Bad;
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. }
        )
    )
}

#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The trust domain a certificate seems to name. Only a guess: [`pki::identity_of`] then judges
/// whether the certificate really holds exactly that name.
pub(crate) fn domain_in(der: &[u8]) -> Option<TrustDomain> {
    const SCHEME: &[u8] = b"spiffe://";
    let start = der.windows(SCHEME.len()).position(|w| w == SCHEME)? + SCHEME.len();
    let length = der[start..].iter().position(|b| *b == b'/')?;
    std::str::from_utf8(&der[start..start + length])
        .ok()?
        .parse()
        .ok()
}

pub(crate) fn chain_der(chain: &[Certificate]) -> Vec<CertificateDer<'static>> {
    let der = |c: &Certificate| CertificateDer::from(c.der().to_vec());
    chain.iter().map(der).collect()
}

/// For calls on this machine that use no TLS: trusts nobody.
pub(crate) fn none() -> Result<ClientConfig, AgentError> {
    Ok(builder()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

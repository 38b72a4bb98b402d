//! Which TLS do we speak, and whose certificates do we believe?
//!
//! TLS 1.2 and 1.3 with ring, no session tickets and no resumption: an identity is proven on every
//! connection, so a ban or an expiry is never overtaken by a resumed session.

use std::path::Path;
use std::sync::Arc;

use pki::{Denied, TrustDomain};
use protocol::problem::{Problem, ProblemType};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConnection, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

use super::client_verifier::{EndedTerminals, NotDenied};
use super::connection::Guest;
use crate::config::CertificateFiles;
use crate::http::extract::PeerCertificate;

/// A listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct TlsError {
    pub path: String,
    pub problem: String,
}

/// A certificate chain and its key, which belong together.
#[derive(Debug, Clone)]
pub struct Own(Arc<CertifiedKey>);

impl Own {
    pub fn load(files: &CertificateFiles) -> Result<Self, TlsError> {
        let (chain, key) = (chain(&files.certificate)?, private_key(&files.key)?);
        let own = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| failed(&files.certificate, error))?;
        Ok(Self(Arc::new(own)))
    }

    /// Its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }

    /// The same key and certificate, and these ways from it to a root.
    pub fn with_ways(&self, ways: &[pki::Certificate]) -> Self {
        let mut own = CertifiedKey::clone(&self.0);
        own.cert.truncate(1);
        let ways = ways
            .iter()
            .map(|way| CertificateDer::from(way.der().to_vec()));
        own.cert.extend(ways);
        Self(Arc::new(own))
    }
}

/// For phones: no client certificates.
pub fn public(own: &Own) -> Result<Arc<ServerConfig>, rustls::Error> {
    Ok(serving(builder()?.with_no_client_auth(), own))
}

/// For terminals and operators: a client certificate is verified against `believed` (roots, and issuing
/// CAs that hang on them) when it comes; whether one must come is for the route to say.
///
/// A terminal's certificate that has ended is let through, for the route of renewals; one that leads to a
/// root by a key that is `denied` is not, whoever shows it.
pub fn private(
    own: &Own,
    believed: &[pki::Certificate],
    denied: &Denied,
    domain: &TrustDomain,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let verifier = Arc::new(EndedTerminals::also(
        NotDenied::by(verifier(believed)?, denied.clone()),
        domain.clone(),
    ));
    Ok(serving(builder()?.with_client_cert_verifier(verifier), own))
}

fn verifier(believed: &[pki::Certificate]) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in believed {
        roots.add(CertificateDer::from(certificate.der()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// The one crypto provider of this process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Certificates of a PEM file, in order, at least one.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(path, error))?
        .collect();
    match read.map_err(|error| failed(path, error))? {
        empty if empty.is_empty() => Err(failed(path, "no certificate in it")),
        chain => Ok(chain),
    }
}

/// The private key of a PEM file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| failed(path, error))
}

pub(super) fn guest_of(connection: &ServerConnection, domain: &TrustDomain) -> Guest {
    let leaf = connection
        .peer_certificates()
        .and_then(|chain| chain.first());
    Guest::with(leaf.map(|der| {
        let identity = pki::identity_of(der, domain)
            .map_err(|error| Problem::new(ProblemType::CertificateRefused).with_detail(error));
        PeerCertificate {
            read: Arc::new(identity),
            der: der.as_ref().into(),
        }
    }))
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, rustls::Error> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn serving(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    own: &Own,
) -> Arc<ServerConfig> {
    let resolver = SingleCertAndKey::from(own.0.clone());
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

pub(super) fn failed(path: &Path, problem: impl ToString) -> TlsError {
    TlsError {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}

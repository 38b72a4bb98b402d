//! Which TLS do we speak, and whose certificates do we believe?
//!
//! TLS 1.2 and 1.3 with ring, no session tickets and no resumption: an identity is proven on every
//! connection, so a ban or an expiry is never overtaken by a resumed session.

use std::path::Path;
use std::sync::Arc;

use pki::TrustDomain;
use protocol::problem::{Problem, ProblemType};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConnection, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::client_verifier::EndedTerminals;
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

/// For phones: no client certificates.
pub fn public(files: &CertificateFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = builder().map_err(|problem| failed(&files.certificate, problem))?;
    with_certificate(builder.with_no_client_auth(), files)
}

/// For terminals and operators: a client certificate is verified against `root` when it comes;
/// whether one must come is for the route to say.
///
/// A terminal's certificate that has ended is let through, for the route of renewals.
pub fn private(
    files: &CertificateFiles,
    root: &Path,
    domain: &TrustDomain,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = builder().map_err(|problem| failed(&files.certificate, problem))?;
    let mut roots = RootCertStore::empty();
    for certificate in chain(root)? {
        roots
            .add(certificate)
            .map_err(|error| failed(root, error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(root, error))?;
    let verifier = Arc::new(EndedTerminals::also(verifier, domain.clone()));
    with_certificate(builder.with_client_cert_verifier(verifier), files)
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
        PeerCertificate(Arc::new(identity))
    }))
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, rustls::Error> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn with_certificate(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    files: &CertificateFiles,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = (chain(&files.certificate)?, private_key(&files.key)?);
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| failed(&files.certificate, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn failed(path: &Path, problem: impl ToString) -> TlsError {
    TlsError {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}

//! How do phones, tills and operators of the harness speak HTTP?

use std::path::Path;
use std::time::Duration;

use protocol::problem::Problem;
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response};
use serde::de::DeserializeOwned;

use crate::Failure;

const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// An answer, or the refusal that came instead.
pub type Answer<T> = Result<Result<T, Problem>, Failure>;

/// A client that trusts this root (a PEM file) and no other.
pub fn trusting(root: &Path) -> Result<Client, Failure> {
    trusting_each(&[root])
}

/// A client that trusts these roots and no others.
pub fn trusting_each(roots: &[&Path]) -> Result<Client, Failure> {
    let roots: Vec<_> = roots
        .iter()
        .map(|root| certificate(root))
        .collect::<Result<_, _>>()?;
    build(builder().tls_certs_only(roots))
}

/// The same, with a client certificate.
pub fn identified(root: &Path, certificate_file: &Path, key: &Path) -> Result<Client, Failure> {
    let mut pem = read(key)?;
    pem.push(b'\n');
    pem.extend(read(certificate_file)?);
    let identity = Identity::from_pem(&pem).map_err(Failure::of(certificate_file.display()))?;
    let root = certificate(root)?;
    build(builder().tls_certs_only([root]).identity(identity))
}

/// A client for loopback addresses, without TLS.
pub fn plain() -> Result<Client, Failure> {
    build(builder().tls_certs_only([]))
}

/// Reads a body, or the problem that stands in its place.
pub async fn read_answer<T: DeserializeOwned>(response: Response) -> Answer<T> {
    match read_bytes(response).await? {
        Ok(bytes) => Ok(Ok(parse(&bytes)?)),
        Err(problem) => Ok(Err(problem)),
    }
}

/// The same, before it is parsed: for what must be the same byte for byte.
pub async fn read_bytes(response: Response) -> Answer<Vec<u8>> {
    let (status, url) = (response.status(), response.url().clone());
    let bytes = response.bytes().await.map_err(|e| sent(&e))?.to_vec();
    if status.is_success() {
        return Ok(Ok(bytes));
    }
    let text = String::from_utf8_lossy(&bytes);
    let problem = serde_json::from_slice(&bytes);
    problem
        .map(Err)
        .map_err(Failure::of(format!("{url} answers {status}: {text}")))
}

/// The body as this type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let text = String::from_utf8_lossy(bytes);
    serde_json::from_slice(bytes).map_err(Failure::of(format!("unexpected: {text}")))
}

/// What reqwest says, with its causes: alone it says only that sending failed.
pub fn sent(error: &reqwest::Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    Failure::new(text)
}

fn builder() -> ClientBuilder {
    // A world of its own goes through nobody's proxy.
    let redirects = reqwest::redirect::Policy::none();
    Client::builder()
        .redirect(redirects)
        .no_proxy()
        .timeout(REQUEST_LIMIT)
}

fn build(builder: ClientBuilder) -> Result<Client, Failure> {
    let provider = rustls::crypto::ring::default_provider();
    // Installed already, by the client before: the same one.
    let _ = provider.install_default();
    builder.build().map_err(|error| sent(&error))
}

fn certificate(path: &Path) -> Result<Certificate, Failure> {
    Certificate::from_pem(&read(path)?).map_err(Failure::of(path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(Failure::of(path.display()))
}

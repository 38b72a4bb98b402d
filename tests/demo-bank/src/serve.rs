//! How does the bank listen? TLS 1.2 or 1.3, or plain HTTP on a loopback address.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::{Bank, NoRandom, Tls, routes};

/// Most connections at a time; one more waits.
const CONNECTIONS_MAX: usize = 256;
/// How long one connection may last, handshake and all.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// Why the bank does not open.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Random(#[from] NoRandom),
    #[error("without [tls] the bank listens on a loopback address only")]
    NotLoopback,
    #[error("{} cannot be used: {reason}", .path.display())]
    File { path: PathBuf, reason: String },
    #[error("cannot listen: {0}")]
    Listen(#[from] io::Error),
}

/// Serves until `end`.
pub async fn serve(bank: Arc<Bank>, end: impl Future<Output = ()>) -> Result<(), ServeError> {
    let config = &bank.config;
    if config.tls.is_none() && !config.listen.ip().is_loopback() {
        return Err(ServeError::NotLoopback);
    }
    let acceptor = config.tls.as_ref().map(acceptor).transpose()?;
    let listener = TcpListener::bind(config.listen).await?;
    tracing::info!(address = %listener.local_addr()?, issuer = config.issuer, "the bank is open");
    tokio::select! {
        () = accept(listener, acceptor, routes(&bank)) => {}
        () = end => {}
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    routes: BoxedFilter<(Response,)>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await;
        let Ok((socket, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: the next connection that ends frees one.
            tokio::task::yield_now().await;
            continue;
        };
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_LIMIT, talk(socket, acceptor, routes)).await;
            drop(place);
        });
    }
}

async fn talk(socket: TcpStream, acceptor: Option<TlsAcceptor>, routes: BoxedFilter<(Response,)>) {
    match acceptor {
        None => answer(socket, routes).await,
        Some(acceptor) => match acceptor.accept(socket).await {
            Ok(stream) => answer(stream, routes).await,
            Err(error) => tracing::info!(%error, "a handshake failed"),
        },
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: BoxedFilter<(Response,)>,
) {
    let service = TowerToHyperService::new(warp::service(routes));
    let http = Builder::new(TokioExecutor::new());
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServeError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&tls.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unusable(&tls.key, &error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| unusable(&tls.certificate, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> ServeError {
    ServeError::File {
        path: path.into(),
        reason: error.to_string(),
    }
}

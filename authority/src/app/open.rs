//! How is the whole App built from its configuration?
//!
//! Opens the HSM tokens, the issuing CA and the store; whatever does not fit is told before anything
//! is served.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hsm::{HsmError, Module, OpenOptions, Pin, Pkcs11Hsm};
use pki::{Certificate, HsmIssuer, PkiError, TrustDomain};

use super::{App, AssembleError, Parts};
use crate::clock::SystemClock;
use crate::config::{Config, HsmConfig};
use crate::metrics::Metrics;
use crate::services::trust::Trust;
use crate::store::StoreError;
use crate::store::sqlite::{SqliteOptions, SqliteStore};

/// Why the App cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("HSM token {token:?}: {error}")]
    Hsm { token: String, error: HsmError },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("{path}: {error}")]
    Store { path: String, error: StoreError },
    #[error(transparent)]
    Assemble(#[from] AssembleError),
}

/// Builds the App. Blocks while HSM and store open: call it while starting up.
pub async fn open(config: Config) -> Result<Arc<App>, OpenError> {
    let metrics = Metrics::new();
    let hsm = Arc::new(open_hsm(&config.hsm, &metrics)?);
    let issuing_hsm = Arc::new(open_issuing(&config, &metrics)?);
    let trust = Trust::load(&config.trust)?;
    let issuing = load_certificate(&config.trust.issuing)?;
    let chain = trust.anchors().chain_of(&issuing).map_err(PkiError::from)?;
    let label = hsm::KeyLabel(config.issuing.key_label.clone());
    let domain: TrustDomain = config.trust.domain.clone();
    let issuer = HsmIssuer::open(issuing_hsm, label, chain, domain).await?;
    let store = open_store(&config)?;
    let parts = Parts {
        config,
        clock: Arc::new(SystemClock),
        hsm,
        store: Arc::new(store),
        issuer: Arc::new(issuer),
        metrics,
        trust,
    };
    Ok(App::assemble(parts).await?)
}

/// The HSM token of seeds and signatures.
pub fn open_hsm(config: &HsmConfig, metrics: &Arc<Metrics>) -> Result<Pkcs11Hsm, OpenError> {
    open_token(config, &config.token_label, &config.pin_file, metrics)
}

/// The HSM token of the issuing CA: the same module, its own PIN.
pub fn open_issuing(config: &Config, metrics: &Arc<Metrics>) -> Result<Pkcs11Hsm, OpenError> {
    let issuing = &config.issuing;
    open_token(
        &config.hsm,
        &issuing.token_label,
        &issuing.pin_file,
        metrics,
    )
}

fn open_token(
    config: &HsmConfig,
    label: &str,
    pin_file: &Path,
    metrics: &Arc<Metrics>,
) -> Result<Pkcs11Hsm, OpenError> {
    let failed = |error| OpenError::Hsm {
        token: label.into(),
        error,
    };
    let module = Module::load(&config.module).map_err(failed)?;
    let options = OpenOptions {
        workers: config.workers,
        queue_max: config.queue_max,
        deadline: Duration::from_millis(config.deadline_ms),
        observer: Some(metrics.clone()),
        ..OpenOptions::new(label, Pin::from_file(pin_file).map_err(failed)?)
    };
    Pkcs11Hsm::open(&module, options).map_err(failed)
}

fn open_store(config: &Config) -> Result<SqliteStore, OpenError> {
    let failed = |error| OpenError::Store {
        path: config.store.path.display().to_string(),
        error,
    };
    if !config.store.path.exists() {
        return Err(failed(StoreError::Unusable {
            detail: "there is no such file".into(),
        }));
    }
    let options = SqliteOptions {
        node: config.node.to_string(),
        queue_max: config.store.queue_max,
        readers: config.store.readers,
    };
    SqliteStore::open(&config.store.path, options).map_err(failed)
}

/// The first certificate of a PEM file of our own PKI.
pub fn load_certificate(path: &Path) -> Result<Certificate, PkiError> {
    let all = load_certificates(path)?;
    all.into_iter()
        .next()
        .ok_or(PkiError::Certificate(pki::BadCertificate::NotPem))
}

/// All of them, in order.
pub fn load_certificates(path: &Path) -> Result<Vec<Certificate>, PkiError> {
    let text = std::fs::read_to_string(path).map_err(|error| PkiError::File {
        path: path.display().to_string(),
        problem: match error.kind() {
            std::io::ErrorKind::NotFound => pki::BadFile::Missing,
            std::io::ErrorKind::PermissionDenied => pki::BadFile::Forbidden,
            other => pki::BadFile::Io(other),
        },
    })?;
    Ok(pki::chain::certificates_from_pem(&text)?)
}

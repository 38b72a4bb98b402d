//! How is the whole App built from its configuration?
//!
//! Opens the HSM tokens and the store, and finds the signer; whatever does not fit is told before anything
//! is served.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hsm::HsmError;
use pki::signer::{ClientOptions, SignerClient};
use pki::{Certificate, Issuer, PkiError};

use super::{App, AssembleError, Parts, open_hsm};
use crate::clock::SystemClock;
use crate::config::{Config, StorePlace};
use crate::metrics::Metrics;
use crate::services::fence::{self, JournalError};
use crate::services::same_keys::{self, OtherKeys};
use crate::services::trust::{Trust, TrustFileError};
use crate::store::postgres::{self, PostgresOptions};
use crate::store::sqlite::{self, SqliteOptions};
use crate::store::{SqlStore, StoreError, unhurried};

/// Why the App cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("HSM token {token:?}: {error}")]
    Hsm { token: String, error: HsmError },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Trust(#[from] TrustFileError),
    #[error("the issuing CA of the signer does not hang on a root in {root}")]
    ForeignSigner { root: String },
    #[error("{path}: {error}")]
    Store { path: String, error: StoreError },
    #[error("the journal outside the database: {0}")]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error(transparent)]
    Keys(#[from] OtherKeys),
}

/// Builds the App. Blocks while HSM and store open: call it while starting up.
pub async fn open(config: Config) -> Result<Arc<App>, OpenError> {
    unhurried(open_all(config)).await
}

async fn open_all(config: Config) -> Result<Arc<App>, OpenError> {
    let metrics = Metrics::new();
    let hsm = open_hsm(&config.hsm, &metrics).await?.whole;
    let trust = Trust::load(&config.trust)?;
    let issuer = open_signer(&config, &trust).await?;
    let store = open_store(&config)?;
    let beginning = fence::begin(config.node.as_str(), &config.fence.journal)?;
    store.attach(beginning.journal.clone());
    let parts = Parts {
        config,
        clock: Arc::new(SystemClock),
        hsm,
        store: Arc::new(store),
        issuer: Arc::new(issuer),
        metrics,
        trust,
    };
    let app = App::assemble(parts).await?;
    fence::judge(&app, beginning).await?;
    same_keys::prove(&app).await?;
    Ok(app)
}

/// The way to the issuing CA in its own process. It may be away if it was seen before.
pub async fn open_signer(config: &Config, trust: &Trust) -> Result<SignerClient, OpenError> {
    let options = ClientOptions {
        socket: config.signer.socket.clone(),
        deadline: Duration::from_millis(config.signer.deadline_ms),
        queue_max: config.signer.queue_max,
        domain: config.trust.domain.clone(),
        known: config.trust.issuing.clone(),
        roots: trust.roots().to_vec(),
    };
    let signer = SignerClient::open(options).await?;
    let hangs = trust.anchors().chain_of(signer.chain().issuing());
    if hangs.is_err() {
        return Err(OpenError::ForeignSigner {
            root: config.trust.root.display().to_string(),
        });
    }
    Ok(signer)
}

fn open_store(config: &Config) -> Result<SqlStore, OpenError> {
    let failed = |error| OpenError::Store {
        path: config.store.place.name(),
        error,
    };
    let node = config.node.to_string();
    let (queue_max, readers) = (config.store.queue_max, config.store.readers);
    match &config.store.place {
        StorePlace::Sqlite(path) if !path.exists() => Err(failed(StoreError::Unusable {
            detail: "there is no such file".into(),
        })),
        StorePlace::Sqlite(path) => {
            let options = SqliteOptions {
                node,
                queue_max,
                readers,
            };
            sqlite::open(path, options).map_err(failed)
        }
        StorePlace::Postgres {
            place,
            lanes,
            replicas,
            ..
        } => {
            let options = PostgresOptions {
                node,
                place: place.clone(),
                queue_max,
                lanes: *lanes,
                readers,
                replicas: replicas.hosts.clone(),
                replica_lag_max_ms: replicas.lag_max_ms,
            };
            postgres::open(options).map_err(failed)
        }
    }
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

//! How does an authority come into being?
//!
//! ```text
//! DIR.partial ─▶ signer: HSM token, root, issuing CA, ─▶ authority: HSM token and keys, store,
//!      │         first certificates, configuration        configuration
//!      └─────────────────────── renamed to DIR when all of it is there ───────────────────┘
//! ```
//! Where SoftHSM is the HSM, each half is made by a process of its own, because each gets a token folder
//! that the other does not see.
//!
//! An init that is interrupted leaves no DIR; the next one begins afresh.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use pki::{DnsName, Fingerprint, Segment, TrustDomain};
use protocol::link::LinkHost;

use crate::app::OpenError;
use crate::config::{CertificateFiles, ConfigError};
use crate::listen::tls::TlsError;

mod certificates;
mod configuration;
mod files;
mod hsm_tokens;
mod make;
mod signer;

pub use files::Workplace;
pub use make::{make_authority, make_signer};

/// The HSM token of seeds and signatures, if the operator names no other.
pub const TOKEN_LABEL: &str = "m2key-authority";
/// The HSM token of the issuing CA.
pub const ISSUING_TOKEN_LABEL: &str = "m2key-issuing";
/// Where the authority asks the signer, from DIR.
pub const SIGNER_SOCKET: &str = "signer/run/signer.sock";
/// Debian's software HSM.
pub const SOFTHSM_MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Plan {
    pub module: PathBuf,
    pub node: Segment,
    pub domain: TrustDomain,
    pub link_host: LinkHost,
    /// What agents, operators and (without a public certificate) phones call this machine.
    pub dns: Vec<DnsName>,
    pub addresses: Vec<IpAddr>,
    /// The WebPKI certificate of the public listener, kept where it is.
    pub public: Option<CertificateFiles>,
    pub operator: Segment,
    pub listen: Listen,
    /// HSM tokens that exist already: PIN files of the two, and nothing is initialised.
    pub existing_tokens: Option<PinFiles>,
}

#[derive(Debug, Clone, Copy)]
pub struct Listen {
    pub public: SocketAddr,
    pub agents: SocketAddr,
    pub loopback: SocketAddr,
}

#[derive(Debug, Clone)]
pub struct PinFiles {
    pub authority: PathBuf,
    pub issuing: PathBuf,
}

/// What was made, for people.
#[derive(Debug, Clone)]
pub struct Made {
    pub dir: PathBuf,
    pub config: PathBuf,
    pub signer_config: PathBuf,
    pub root_fingerprint: Fingerprint,
    /// True when the public listener has a certificate of our own issuing CA.
    pub public_is_ours: bool,
    /// `SOFTHSM2_CONF`, if the module is SoftHSM.
    pub softhsm_conf: Option<String>,
}

/// Why nothing was made. Whatever was begun is gone or will be at the next try.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{} is initialised already", .0.display())]
    AlreadyThere(PathBuf),
    #[error("{} is not empty, and not an authority either", .0.display())]
    ForeignFolder(PathBuf),
    #[error("cannot write {} ({error})", .path.display())]
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("there is an HSM token labelled {0:?} already")]
    TokenExists(String),
    #[error(transparent)]
    Hsm(#[from] hsm::HsmError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error("the store cannot be made: {0}")]
    Store(#[from] crate::store::StoreError),
    #[error("the public certificate cannot be used: {0}")]
    Public(#[from] TlsError),
    #[error("the new configuration does not hold: {0}")]
    Config(#[from] ConfigError),
}

impl InitError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |error| Self::Io { path, error }
    }
}

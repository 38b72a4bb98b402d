//! How does the issuing CA sign for an authority that must not hold it?
//!
//! In a process of its own, `m2key-pki signer`, with its own HSM token, PIN and clock. What parses the
//! internet asks over a local socket; it cannot sign.
//!
//! ```text
//!  m2key-authority             │ m2key-pki signer                                   m2key-pki issuing
//!  ───────────────             │ ────────────────                                   ─────────────────
//!  SignerClient ──signer.sock──┼─▶ server ─▶ Signer ◀─ server ◀──admin.sock──────── prepare, install,
//!   issue, sign_crl            │             │ clocks agree? profile (issuer, profiles)   activate, …
//!                              │             ├─▶ log: a line, fsync
//!                              │             ├─▶ HSM: a signature
//!                              │             └─▶ the answer
//! ```
//! Every signature has its line in the `log` before it is made. Several issuing keys may live side by
//! side; one is active, and each that is not retired signs its own revocation list.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use hsm::{HealthState, Hsm, HsmError, KeyLabel};
use tokio::sync::{Mutex, RwLock as AsyncRwLock};

use crate::certificate::hex;
use crate::chain::{Chain, certificates_from_pem};
use crate::error::PkiError;
use crate::hsm_issuer::HsmIssuer;
use crate::issuer::{IssueRequest, IssueTo, IssuedCertificate, IssuerHealth, IssuingCa};
use crate::lifecycle::KeyState;
use crate::names::TrustDomain;
use crate::profiles::CrlBase;
use crate::root::Consents;

mod bar;
mod client;
mod config;
mod error;
mod lists;
mod lock;
mod log;
mod room;
mod server;
mod state;
mod steps;
mod wire;

pub use client::{ClientOptions, SignerClient, ask_admin};
pub use config::{Access, LogFormat, SOCKET_PATH_MAX_BYTES, SignerConfig, SignerHsm, SignerLog};
pub use error::{SignerError, Told};
pub use lists::{LIST_LIFETIME_MAX_SECONDS, LIST_NUMBER_MAX, LIST_NUMBER_STEP_MAX};
pub use lock::SignerLock;
pub use log::{Entry, Line, SEGMENT_MAX_BYTES};
pub use server::{CONNECTIONS_MAX, Doors, Uids};
pub use state::{KEY_LABEL_BEGIN, LIVE_KEYS_MAX, StepConsents};
pub use steps::{AdminAnswer, KeyView};
pub use wire::{AdminAsk, AdminStep};

use lists::Lists;
use log::Log;
use state::State;

/// Further than this apart, one of the two clocks is wrong, and nothing is dated by it.
pub const CLOCKS_APART_MAX_S: u64 = 10 * 60;
const LOG_FOLDER: &str = "log";

/// Tells the time; the process has a clock, tests bring their own.
pub trait Clock: Send + Sync + 'static {
    /// Unix seconds.
    fn now(&self) -> u64;
}

/// The issuing CA itself: keys in an HSM token, their states, and the log of what they signed.
pub struct Signer {
    hsm: Arc<dyn Hsm>,
    domain: TrustDomain,
    roots: PathBuf,
    crl_base: Option<CrlBase>,
    consents: Consents,
    state_dir: PathBuf,
    clock: Arc<dyn Clock>,
    log: Log,
    lists: Lists,
    state: Mutex<State>,
    /// Read while something is signed, written by a step: after a step nothing is signed as before.
    cas: AsyncRwLock<Vec<Ca>>,
    /// What others are shown, without waiting for anything.
    shown: RwLock<Shown>,
}

/// Checks the whole log of a signer, and calls `see` for every line: the count of lines.
pub fn read_log(config: &SignerConfig, see: impl FnMut(&Line)) -> Result<u64, PkiError> {
    Ok(log::read_all(&config.state_dir.join(LOG_FOLDER), see)?)
}

/// One issuing key that has a certificate and is not retired.
#[derive(Clone)]
struct Ca {
    label: String,
    state: KeyState,
    issuer: Arc<HsmIssuer>,
}

#[derive(Debug, Clone, Default)]
struct Shown {
    revision: u64,
    cas: Vec<IssuingCa>,
}

impl Signer {
    /// Reads keys and log, and refuses what does not fit together. The lock is the caller's.
    pub async fn open(
        config: &SignerConfig,
        hsm: Arc<dyn Hsm>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PkiError> {
        let state_dir = config.state_dir.clone();
        crate::files::make_private_directory(&state_dir)?;
        let signer = Self {
            hsm,
            domain: config.trust_domain.clone(),
            roots: config.roots.clone(),
            crl_base: config.crl_base.clone(),
            consents: config.consents.clone(),
            log: Log::open(&state_dir.join(LOG_FOLDER))?,
            lists: Lists::new(&state_dir),
            state: Mutex::new(State::load(&state_dir)?),
            state_dir,
            clock,
            cas: AsyncRwLock::new(Vec::new()),
            shown: RwLock::default(),
        };
        signer.note_consents().await?;
        let state = signer.state.lock().await.clone();
        let cas = signer.open_cas(&state).await?;
        signer.show(&state, &cas);
        *signer.cas.write().await = cas;
        Ok(signer)
    }

    /// Signs one certificate under the active issuing CA.
    pub async fn issue(&self, request: IssueRequest) -> Result<IssuedCertificate, PkiError> {
        let now = self.agree_on(request.now)?;
        let cas = self.cas.read().await;
        let active = cas.iter().find(|ca| ca.state == KeyState::Active);
        let active = active.ok_or(SignerError::NoneActive)?;
        let unsigned = active.issuer.prepare(&request)?;
        let line = Entry::Certificate {
            key: active.label.clone(),
            kind: kind(&request.to).into(),
            name: request.to.spiffe_id().uri(&self.domain),
            serial: unsigned.serial_hex(),
            ends: unsigned.not_after(),
            subject_key: hex(&request.csr.spki_sha256()),
            digest: hex(&unsigned.digest()),
        };
        self.log.write(now, line).await?;
        let (serial, ends) = (unsigned.serial_hex(), unsigned.not_after());
        self.lists.issued(serial, ends);
        active.issuer.sign(unsigned).await
    }

    /// The domain all names issued here belong to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Every issuing CA that is not retired, the active one first.
    pub fn issuing_cas(&self) -> Vec<IssuingCa> {
        self.shown().cas
    }

    /// Whether certificates can be issued; never blocks and never asks the HSM.
    pub fn health(&self) -> IssuerHealth {
        let health = self.hsm.health();
        let reason = health.reason.unwrap_or_else(|| "no reason given".into());
        match health.state {
            HealthState::Down | HealthState::Recovering => {
                IssuerHealth::Down(format!("its HSM: {reason}"))
            }
            _ if !self.has_active() => IssuerHealth::Down(SignerError::NoneActive.to_string()),
            HealthState::Degraded => IssuerHealth::Degraded(format!("its HSM: {reason}")),
            HealthState::Ready => IssuerHealth::Ready,
        }
    }

    fn has_active(&self) -> bool {
        let is_active = |ca: &IssuingCa| ca.state == KeyState::Active;
        self.shown().cas.iter().any(is_active)
    }

    fn shown(&self) -> Shown {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    fn show(&self, state: &State, cas: &[Ca]) {
        let mut all: Vec<IssuingCa> = cas.iter().map(Ca::view).collect();
        all.sort_by_key(|ca| ca.state != KeyState::Active);
        let fresh = Shown {
            revision: state.revision,
            cas: all,
        };
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// The own time, if the asker's is near it.
    fn agree_on(&self, theirs: u64) -> Result<u64, SignerError> {
        let own = self.clock.now();
        let seconds = own.abs_diff(theirs);
        if seconds > CLOCKS_APART_MAX_S {
            return Err(SignerError::ClocksApart { seconds });
        }
        Ok(own)
    }

    /// Every key of this state that can sign; each must be in the HSM and fit its certificate.
    async fn open_cas(&self, state: &State) -> Result<Vec<Ca>, PkiError> {
        let mut cas = Vec::new();
        for key in state.keys.iter().filter(|k| k.state != KeyState::Retired) {
            let Some(chain) = &key.chain else { continue };
            let chain = read_chain(chain)?;
            let (hsm, label) = (self.hsm.clone(), KeyLabel(key.label.clone()));
            let opened = HsmIssuer::open(hsm, label, chain, self.domain.clone()).await;
            match opened {
                Ok(issuer) => cas.push(Ca {
                    label: key.label.clone(),
                    state: key.state,
                    issuer: Arc::new(issuer.listed_at(self.crl_base.clone())),
                }),
                // A tainted key that is gone already cannot be missed.
                Err(PkiError::Hsm(HsmError::KeyUnknown { .. }))
                    if key.state == KeyState::Tainted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(cas)
    }
}

impl Ca {
    fn view(&self) -> IssuingCa {
        IssuingCa {
            chain: self.issuer.own_chain().clone(),
            state: self.state,
        }
    }
}

fn read_chain(pem: &str) -> Result<Chain, PkiError> {
    let mut all = certificates_from_pem(pem)?.into_iter();
    match (all.next(), all.next()) {
        (Some(issuing), Some(root)) => Ok(Chain::new(issuing, root)?),
        _ => Err(crate::certificate::BadCertificate::NotPem.into()),
    }
}

fn kind(to: &IssueTo) -> &'static str {
    match to {
        IssueTo::Terminal(_) => "terminal",
        IssueTo::Operator(_) => "operator",
        IssueTo::Authority { .. } => "authority",
        IssueTo::Statement(_) => STATEMENT,
    }
}

const STATEMENT: &str = "statement";

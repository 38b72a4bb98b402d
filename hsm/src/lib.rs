//! How do other crates use an HSM without knowing PKCS#11?
//!
//! Through [`Hsm`]: a handful of verbs over owned data. Behind it stand [`Pkcs11Hsm`] and, in tests,
//! a memory stand-in; both pass the same conformance suite.
//!
//! ```text
//!  async callers                    owner threads                     the library of the process
//!  ─────────────                    ─────────────                     ──────────────────────────
//!  Hsm::sign ─▶ limits ─▶ breaker ─▶ queue ──pop──▶ worker ─▶ link ─▶ gate of the Module ─▶ C_*
//!     ▲                 (fit to be   payments       one retry  session   generation n
//!     │                  asked?)     before         at most    and key
//!     │                              renewals          │       handles
//!     └──────────── reply, once ◀──────────────────────┤
//!       or Busy, at the deadline                       ├─ CKR code ─▶ table ─▶ what to do
//!                                                      └─ lost device, or too many destroyed
//!                                                         objects ─▶ restart ─▶ generation n + 1
//! ```
//! One [`Module`] per library and process; any number of HSM tokens on it, each with its own PIN,
//! queue, breaker and workers. A restart of the library waits for every request in hand, of all HSM
//! tokens, and every session is made again when it is next needed.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use async_trait::async_trait;

#[cfg(feature = "bare")]
pub mod bare;
mod binding;
mod breaker;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod failure;
mod limits;
#[cfg(feature = "memory")]
mod memory;
#[cfg(all(test, feature = "loom"))]
mod model;
mod observer;
mod pin;
mod pkcs11;
mod queue;
mod reply;
mod spread;
mod sync;
mod types;
mod worker;

pub use error::HsmError;
#[cfg(feature = "memory")]
pub use memory::MemoryHsm;
pub use observer::{COMMANDS, Observer};
pub use pin::{PIN_LEN_MAX, PIN_LEN_MIN, Pin};
pub use pkcs11::{
    BINDINGS_MAX, Module, OpenOptions, Pkcs11Hsm, QUEUE_MAX, RECYCLE_AFTER_DESTROYED, Requirement,
    TOKEN_LABEL_MAX, VERIFIED_EVERY, WORKERS_MAX,
};
pub use spread::{MEMBERS_MAX, Member, Spread};
pub use types::{
    Cmac, Health, HealthState, KeyKind, KeyLabel, KeyReport, Mac, Priority, SealedSeed, SealingKeys,
};

/// Most random bytes one call may ask for.
pub const RANDOM_MAX: usize = 1024;
/// Most messages one batch may carry: 31 days of epochs.
pub const BATCH_MAX: usize = 744;
/// Longest message of a batch, in bytes.
pub const MESSAGE_MAX: usize = 1024;
/// Longest context of a sealed seed, in bytes.
pub const CONTEXT_MAX: usize = 1024;
/// Longest key label, in bytes.
pub const LABEL_MAX: usize = 64;

/// What an HSM token does for the rest of the system.
///
/// Every call is bounded: it answers [`HsmError::Busy`] when the queue is full or its deadline
/// passes before the device took it.
#[async_trait]
pub trait Hsm: Send + Sync + 'static {
    /// Makes a 256-bit seed inside the HSM and returns it wrapped (RFC 3394) under the sealing key
    /// and bound to `context`, the caller's header: whose seed, which version, which is current.
    async fn seal_new_seed(
        &self,
        keys: &SealingKeys,
        context: Vec<u8>,
        priority: Priority,
    ) -> Result<SealedSeed, HsmError>;

    /// Unseals `seed`, answers HMAC-SHA-256 of every message under it, and destroys it again.
    ///
    /// A binding that does not verify answers [`HsmError::NotOurKey`] before anything is unwrapped. That it held may be
    /// remembered, as long as the binding key is the same.
    async fn hmac_batch(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Mac>, HsmError>;

    /// Has the device compute the binding of `seed` now, whatever is remembered of it; [`HsmError::NotOurKey`] if it
    /// does not hold.
    async fn prove_binding(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        priority: Priority,
    ) -> Result<(), HsmError>;

    /// ECDSA P-256 over a SHA-256 digest: `r || s`, 64 bytes, low s.
    async fn sign(
        &self,
        key: &KeyLabel,
        digest: [u8; 32],
        priority: Priority,
    ) -> Result<[u8; 64], HsmError>;

    /// AES-CMAC (RFC 4493) of every message under `key`, in order; limits as of [`Hsm::hmac_batch`].
    async fn cmac_batch(
        &self,
        key: &KeyLabel,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Cmac>, HsmError>;

    /// The public key as an uncompressed SEC 1 point (65 bytes).
    async fn public_key(&self, key: &KeyLabel) -> Result<[u8; 65], HsmError>;

    /// What is signed under this label verifies under this point, whatever an HSM token shows: so say
    /// the caller's books. Never blocks and never asks the device.
    fn believe(&self, key: &KeyLabel, point: &[u8; 65]) {
        let _ = (key, point);
    }

    /// What this label answered here so far is not to be believed. Never blocks and never asks the device.
    fn disown(&self, key: &KeyLabel) {
        let _ = key;
    }

    /// `len` random bytes, at most [`RANDOM_MAX`].
    async fn random(&self, len: usize) -> Result<Vec<u8>, HsmError>;

    /// Makes a key of `kind` under `label`; a label that is taken answers [`HsmError::LabelTaken`].
    async fn generate_key(&self, kind: KeyKind, label: &KeyLabel) -> Result<(), HsmError>;

    /// Destroys the key labelled `label`, both halves of a pair, for ever. One that is not there
    /// answers [`HsmError::KeyUnknown`]: whoever repeats it after a crash takes that for done.
    async fn destroy_key(&self, label: &KeyLabel) -> Result<(), HsmError>;

    /// Every key object of this HSM token, with the attributes that decide how safe it is.
    async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError>;

    /// What readiness and metrics show; never blocks and never asks the device.
    fn health(&self) -> Health;
}

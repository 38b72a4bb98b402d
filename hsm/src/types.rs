//! What travels between callers and the HSM?

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The label of a key object, e.g. `m2key-receipt-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyLabel(pub String);

/// The pair of keys a seed is kept under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealingKeys {
    /// AES-256, locked: wraps and unwraps seeds and does nothing else.
    pub sealing: KeyLabel,
    /// HMAC-SHA-256: binds a sealed seed to its header.
    pub binding: KeyLabel,
}

/// A seed as it lies in the database: ciphertext, its header, and the mac over both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSeed {
    /// The caller's header, opaque here.
    pub context: Vec<u8>,
    /// RFC 3394 wrap of the 32-byte seed, 40 bytes.
    pub blob: Vec<u8>,
    /// HMAC-SHA-256 under the binding key over length-prefixed sealing label, context and blob.
    pub binding: [u8; 32],
}

/// One HMAC-SHA-256 result. It may be a secret of the caller's, so it is mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Mac(pub [u8; 32]);

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mac(..)")
    }
}

/// One AES-CMAC. It may be a key of the caller's, so it is mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Cmac(pub [u8; 16]);

impl std::fmt::Debug for Cmac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cmac(..)")
    }
}

/// Who goes first when requests queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A person is waiting.
    Payment,
    /// A machine renews something in good time.
    Renewal,
}

/// What a generated key is locked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// AES-256 that only wraps and unwraps seeds (decision 3.1).
    Sealing,
    /// HMAC-SHA-256 that only signs and verifies bindings.
    Binding,
    /// ECDSA P-256 that only signs.
    Signing,
    /// AES-128 that only makes CMACs.
    Cmac,
}

/// One key object as an auditor wants to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReport {
    pub label: KeyLabel,
    pub kind: Option<KeyKind>,
    pub sensitive: bool,
    pub extractable: bool,
    pub modifiable: bool,
    pub copyable: bool,
    /// What is wrong with it, in words; empty when it is as M2Key made it.
    pub findings: Vec<String>,
    /// The HSM tokens of a spread that do not hold it.
    pub lacked_by: Vec<String>,
    /// Those that could not show whether they hold it.
    pub unseen_on: Vec<String>,
}

/// The breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    Ready,
    Degraded,
    Down,
    Recovering,
}

impl HealthState {
    /// Whether requests are served.
    pub fn is_fit(self) -> bool {
        match self {
            Self::Ready | Self::Degraded => true,
            Self::Down | Self::Recovering => false,
        }
    }
}

/// A snapshot for readiness and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub state: HealthState,
    /// Requests waiting, and how many may wait.
    pub queued: usize,
    pub queue_max: usize,
    /// The last failure in words, if the state is not ready.
    pub reason: Option<String>,
    /// What an operator should see to although everything is served.
    pub remarks: Vec<String>,
    /// Of a spread: each HSM token by its name.
    pub members: Vec<(String, Health)>,
}

impl Health {
    /// Of one HSM token.
    pub fn of_one(state: HealthState, queue: (usize, usize), reason: Option<String>) -> Self {
        let (queued, queue_max) = queue;
        Self {
            state,
            queued,
            queue_max,
            reason,
            remarks: Vec::new(),
            members: Vec::new(),
        }
    }
}

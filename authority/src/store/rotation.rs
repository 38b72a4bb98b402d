//! Which keys are there, who asked to replace them, and how far is it?
//!
//! An operation is recorded before the HSM is asked for anything, and says exactly what it will do, so
//! that whoever finds it running after a crash carries on where it stands.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use hsm::{KeyKind, KeyLabel, SealedSeed, SealingKeys};
use pki::lifecycle::{KeyState, Step, WrongStep};
use protocol::ids::{MerchantId, TerminalId};
use protocol::jwk::Jwk;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Result, StoredRow};

/// Most terminals that a refusal names.
pub const NAMED_MAX: u32 = 20;
/// Most audit rows that one operation keeps for its transcript; a mass re-seed has more.
pub const OPERATION_ROWS_MAX: u32 = 200;

/// What a key is for, as the keys table and the label `m2key-<purpose>-<n>` say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyPurpose {
    Sealing,
    Binding,
    Schedule,
    Receipt,
    Checkpoint,
    /// Requests to others over HTTP. A database from before there were any has none until one is made.
    Request,
    /// Keys of tags follow from it. A database from before tags signed has none until one is made.
    Tag,
}

/// A key in the HSM and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// RFC 7638 thumbprint; for keys without a public half, the label.
    pub kid: String,
    pub purpose: KeyPurpose,
    pub state: KeyState,
    pub label: KeyLabel,
    /// Uncompressed SEC 1 point, for signing keys.
    pub public_point: Option<[u8; 65]>,
    /// PEM: its own certificate, then the issuing one.
    pub certificates: Option<String>,
    pub made_at: Timestamp,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Since when the daemon tells others of it.
    pub published_at: Option<Timestamp>,
    /// Since when nothing it signs is believed, whatever became of it afterwards.
    pub tainted_at: Option<Timestamp>,
    /// What brought it into this state; none: it was made with the authority.
    pub operation: Option<OperationId>,
}

/// One verb of an operator that is carried out in steps. UUIDv7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub Uuid);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub id: OperationId,
    /// The name of the verb.
    pub verb: String,
    pub work: Work,
    pub asked_by: String,
    /// The request that other operators consented to.
    pub consent: Option<String>,
    pub state: OperationState,
    /// What came of it, in words.
    pub outcome: Option<String>,
    /// How many terminals it concerns, once they are counted.
    pub total: Option<u64>,
    pub done: u64,
    /// The last terminal that is done.
    pub after: Option<TerminalId>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Goes on by itself, also after a restart.
    Running,
    Done,
    /// It cannot be carried out; what was not done will not be.
    Refused,
}

/// What an operation does, exactly: nothing is chosen later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Work {
    /// Makes a key in the HSM under this label.
    Prepare { purpose: KeyPurpose, label: String },
    /// Uses it from now on; for keys of seeds, every terminal gets a seed under it.
    Activate { kid: String },
    /// Believes it no more; for keys of seeds, every seed under it is replaced now.
    Taint { kid: String },
    /// Destroys it in the HSM.
    Retire { kid: String },
    /// New seeds.
    Reseed {
        whose: Whose,
        when: When,
        reason: String,
    },
    /// A new seed for a banned terminal, which is not banned any more.
    Unban {
        terminal: TerminalId,
        reason: String,
    },
}

/// Which terminals get a new seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    Terminal(TerminalId),
    /// One that is banned; every other choice passes banned ones over.
    Banned(TerminalId),
    Merchant(MerchantId),
    All,
    /// A restore has lost the seed that replaced theirs after a compromise.
    Void,
    /// Their newest seed is under another pair of keys.
    NotUnder {
        sealing: String,
        binding: String,
    },
    /// A seed that still counts is under this key.
    Under(String),
}

/// When a new seed takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// At the first epoch that was not issued to the terminal: it notices nothing.
    Planned,
    /// Now: tokens and schedules of the old seed are refused from the commit on.
    Compromised,
}

/// A terminal whose turn it is, and the version its next seed will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToReseed {
    pub terminal: TerminalId,
    pub version: u32,
}

/// A sealed seed on its way into the database; from which epoch it counts is decided there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSeed {
    pub terminal: TerminalId,
    pub version: u32,
    pub keys: SealingKeys,
    pub sealed: SealedSeed,
}

/// One batch of new seeds of one operation: all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reseed {
    pub operation: OperationId,
    pub seeds: Vec<NewSeed>,
    pub when: When,
    /// The terminals are not banned any more.
    pub lift_ban: bool,
    /// How many terminals the whole operation concerns.
    pub total: u64,
    pub at: Timestamp,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reseeded {
    Done,
    /// A terminal was banned, or a key changed, since the seeds were sealed: look again.
    Moved,
}

/// One step of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStep {
    pub operation: OperationId,
    pub kid: String,
    pub step: Step,
    pub at: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stepped {
    /// It is in the state now, perhaps since before.
    Done(Box<KeyRecord>),
    Unknown,
    Wrong(WrongStep),
    /// These terminals still depend on it. Nothing was changed.
    Stranded(Stranded),
}

/// Who would be left without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stranded {
    pub count: u64,
    /// At most [`NAMED_MAX`] of them.
    pub first: Vec<TerminalId>,
}

/// An operator's certificate that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorCertificate {
    pub serial: String,
    pub operator: String,
    pub issued_at: Timestamp,
    pub not_after: Timestamp,
}

#[async_trait]
pub trait Rotation {
    /// Records what is going to be done. What others consented to is done once: the operation that was
    /// begun with the same consent is answered, and nothing new begins.
    async fn begin_operation(&self, operation: Operation) -> Result<OperationId>;

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>>;

    /// The newest first, before `before`.
    async fn operations(&self, before: Option<OperationId>, limit: u32) -> Result<Vec<Operation>>;

    /// The oldest first.
    async fn running_operations(&self) -> Result<Vec<Operation>>;

    /// It does not run any more. Ending it twice is ending it once.
    async fn end_operation(
        &self,
        id: OperationId,
        state: OperationState,
        outcome: String,
        at: Timestamp,
    ) -> Result<()>;

    /// The audit rows of an operation, at most [`OPERATION_ROWS_MAX`].
    async fn operation_rows(&self, id: OperationId) -> Result<Vec<StoredRow>>;

    /// Records the key that an operation made; the same again is fine.
    async fn add_prepared_key(&self, key: KeyRecord) -> Result<bool>;

    /// Takes one step; a step that was taken before is taken.
    async fn step_key(&self, step: KeyStep) -> Result<Stepped>;

    /// Every key counts as published from `at` on, unless it was before; how many were new.
    async fn publish_keys(&self, at: Timestamp) -> Result<usize>;

    /// Replaces the certificates of a key.
    async fn certify_key(&self, kid: String, certificates: String, at: Timestamp) -> Result<()>;

    /// Whom this key still serves at `at`: seeds under it that count, or schedules signed by it.
    async fn dependents(&self, kid: String, at: Timestamp) -> Result<Stranded>;

    /// How many terminals `whose` means for this operation, at `at`.
    async fn count_to_reseed(
        &self,
        operation: OperationId,
        whose: Whose,
        at: Timestamp,
    ) -> Result<u64>;

    /// Whose turn it is after `after`, in order of id; terminals that have their new seed of this
    /// operation are passed over.
    async fn to_reseed(
        &self,
        operation: OperationId,
        whose: Whose,
        after: Option<TerminalId>,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<ToReseed>>;

    /// New seeds, in one transaction with the progress of their operation.
    async fn reseed(&self, batch: Reseed) -> Result<Reseeded>;

    /// Operators' certificates that are good at `at`.
    async fn operator_certificates(&self, at: Timestamp) -> Result<Vec<OperatorCertificate>>;
}

impl KeyPurpose {
    pub const ALL: [Self; 7] = [
        Self::Sealing,
        Self::Binding,
        Self::Schedule,
        Self::Receipt,
        Self::Checkpoint,
        Self::Request,
        Self::Tag,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sealing => "sealing",
            Self::Binding => "binding",
            Self::Schedule => "schedule",
            Self::Receipt => "receipt",
            Self::Checkpoint => "checkpoint",
            Self::Request => "request",
            Self::Tag => "tag",
        }
    }

    pub fn kind(self) -> KeyKind {
        match self {
            Self::Sealing => KeyKind::Sealing,
            Self::Binding => KeyKind::Binding,
            Self::Schedule | Self::Receipt | Self::Checkpoint | Self::Request => KeyKind::Signing,
            Self::Tag => KeyKind::Cmac,
        }
    }

    /// Whether seeds are kept under it.
    pub fn keeps_seeds(self) -> bool {
        matches!(self, Self::Sealing | Self::Binding)
    }

    /// The label of the n-th key of this purpose.
    pub fn label(self, n: u32) -> KeyLabel {
        KeyLabel(format!("m2key-{}-{n}", self.name()))
    }

    /// The n of such a label.
    pub fn number_of(self, label: &KeyLabel) -> Option<u32> {
        let rest = label.0.strip_prefix("m2key-")?.strip_prefix(self.name())?;
        rest.strip_prefix('-')?.parse().ok()
    }
}

/// No purpose has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a purpose of a key: sealing, binding, schedule, receipt, checkpoint, request or tag")]
pub struct NoSuchPurpose;

impl FromStr for KeyPurpose {
    type Err = NoSuchPurpose;

    fn from_str(text: &str) -> std::result::Result<Self, NoSuchPurpose> {
        let named = |purpose: &Self| purpose.name() == text;
        Self::ALL.into_iter().find(named).ok_or(NoSuchPurpose)
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl KeyRecord {
    /// A key that was just made.
    pub fn new(
        purpose: KeyPurpose,
        state: KeyState,
        label: KeyLabel,
        public_point: Option<[u8; 65]>,
        made_at: Timestamp,
    ) -> Self {
        let jwk = public_point.and_then(|point| Jwk::from_point(&point).ok());
        Self {
            kid: jwk.map_or_else(|| label.0.clone(), |jwk| jwk.thumbprint()),
            purpose,
            state,
            label,
            public_point,
            certificates: None,
            made_at,
            since: made_at,
            published_at: None,
            tainted_at: None,
            operation: None,
        }
    }
}

impl OperationId {
    pub fn from_parts(unix_ms: u64, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid())
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for OperationId {
    type Err = protocol::ids::BadId;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| protocol::ids::BadId::Uuid)
    }
}

impl OperationState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

impl Work {
    /// Compromised goes before planned.
    pub fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::Taint { .. }
                | Self::Unban { .. }
                | Self::Reseed {
                    when: When::Compromised,
                    ..
                }
        )
    }
}

//! Who are the operators, and what have they consented to?
//!
//! ```text
//!  ask ──▶ open ──begin (enough consents, in time)──▶ begun ──end──▶ done
//!           └──withdraw──▶ withdrawn          └─ after a crash: begin again
//! ```
//! Signatures are verified before a verb here is called; what the database knows (who is an operator,
//! which certificate is revoked, what the policy says) is judged in the transaction.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use pki::consent::Policy;
use pki::crl::Reason;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Certificate, Result};

/// Most operators there have ever been.
pub const OPERATORS_MAX: u32 = 64;
/// Most requests that one operator keeps open.
pub const OPEN_REQUESTS_MAX: u32 = 32;

/// One request of an operator for others' consent. UUIDv7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRecord {
    pub name: String,
    pub added_by: String,
    pub added_at: Timestamp,
    pub revoked: Option<OperatorRevoked>,
    /// End of the last certificate that is neither over nor revoked; none: they cannot sign.
    pub good_until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRevoked {
    pub by: String,
    pub at: Timestamp,
}

/// What becomes of a new operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddOperator {
    Added,
    /// There is, or was, one of this name.
    NameTaken,
    /// Some certificate holds this key already: nobody is two operators.
    KeyReused,
    TooMany,
}

/// What becomes of a change that could leave too few operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    Done,
    Unknown,
    /// So many operators can sign, and the policy needs this many besides the one who asks.
    Stranded {
        able: u32,
        required: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    Open,
    /// Being carried out, or a crash came in between.
    Begun,
    Done,
    /// By the one who asked.
    Withdrawn,
}

/// A request as the one who asks signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    pub id: RequestId,
    pub verb: String,
    /// JSON, as the verb writes itself.
    pub body: String,
    pub asked_by: String,
    pub statement: String,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What becomes of a new request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddRequest {
    Added,
    /// A request of this id is there.
    IdTaken,
    /// The one who asks is no operator any more.
    NotOperator,
    TooMany,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    pub request: NewRequest,
    pub state: RequestState,
    pub begun_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub answer: Option<String>,
    /// In order of the operators' names.
    pub voices: Vec<Voice>,
}

/// What one operator says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    pub operator: String,
    pub consents: bool,
    /// Of the certificate it is signed under.
    pub serial: String,
    pub statement: String,
    pub at: Timestamp,
}

/// What becomes of a voice, or of a withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Done,
    Unknown,
    /// It is carried out, withdrawn or expired.
    Closed,
    /// Nobody consents to their own.
    Own,
    /// Revoked in the meantime, or not the one who asked.
    NotOperator,
}

/// A consent whose signature was verified just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub operator: String,
    pub serial: String,
}

/// What becomes of carrying out a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    Begun,
    /// So many count, and so many are needed, by the policy as it is now or was then.
    TooFew {
        counted: Vec<String>,
        required: u32,
    },
    /// It is carried out, withdrawn or expired, or the one who asked is no operator any more.
    Closed,
}

#[async_trait]
pub trait Consents {
    /// All there ever were, by name.
    async fn operators(&self, at: Timestamp) -> Result<Vec<OperatorRecord>>;

    async fn operator(&self, name: &str, at: Timestamp) -> Result<Option<OperatorRecord>>;

    /// A new operator with their first certificate.
    async fn add_operator(
        &self,
        certificate: Certificate,
        by: &str,
        at: Timestamp,
    ) -> Result<AddOperator>;

    /// From this commit on they are no operator; their certificates are revoked one by one after it.
    async fn revoke_operator(&self, name: &str, by: &str, at: Timestamp) -> Result<Bar>;

    /// Revokes one certificate, unless it is the last of an operator without whom too few could sign.
    async fn revoke_voice(&self, serial: &str, reason: Reason, at: Timestamp) -> Result<Bar>;

    /// Whether a restore has lost this certificate of somebody who is an operator: unknown here, in its
    /// time, not revoked, from before the last raise or, if `behind`, before the one to come, and newer
    /// than everything that is known of them.
    async fn is_lost_voice(
        &self,
        certificate: Certificate,
        behind: bool,
        at: Timestamp,
    ) -> Result<bool>;

    async fn consent_policy(&self) -> Result<Policy>;

    async fn set_consent_policy(&self, policy: Policy, by: &str, at: Timestamp) -> Result<Bar>;

    async fn add_consent_request(&self, request: NewRequest) -> Result<AddRequest>;

    async fn consent_request(&self, id: RequestId) -> Result<Option<RequestRecord>>;

    /// Newest first; open or begun and in time, or all.
    async fn consent_requests(
        &self,
        all: bool,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<RequestRecord>>;

    /// The newest request for exactly this that is open or begun, and in time; of one operator, or of
    /// anybody.
    async fn request_for(
        &self,
        by: Option<&str>,
        verb: &str,
        body: &str,
        at: Timestamp,
    ) -> Result<Option<RequestRecord>>;

    /// Records what an operator says; a later word of theirs replaces it. A yes can be taken back for as
    /// long as the request is not done.
    async fn add_voice(&self, id: RequestId, voice: Voice) -> Result<Heard>;

    async fn withdraw_request(&self, id: RequestId, by: &str, at: Timestamp) -> Result<Heard>;

    /// Judges once more what the database knows, and marks the request as begun; again after a crash.
    /// `asked_under`: how many the request itself says that it needs; the policy of now may need more.
    async fn begin_request(
        &self,
        id: RequestId,
        counted: Vec<Counted>,
        asked_under: u32,
        at: Timestamp,
    ) -> Result<Begin>;

    /// It was carried out; false if it had been before.
    async fn end_request(
        &self,
        id: RequestId,
        answer: Option<String>,
        at: Timestamp,
    ) -> Result<bool>;
}

impl RequestId {
    pub fn from_parts(unix_ms: u64, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RequestId {
    type Err = protocol::ids::BadId;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| protocol::ids::BadId::Uuid)
    }
}

impl RequestState {
    pub const ALL: [Self; 4] = [Self::Open, Self::Begun, Self::Done, Self::Withdrawn];

    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl OperatorRecord {
    /// Whether their word counts at the moment they were asked about.
    pub fn can_sign(&self) -> bool {
        self.revoked.is_none() && self.good_until.is_some()
    }
}

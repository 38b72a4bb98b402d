//! Which certificates did we issue, and who may still ask for one?

use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use super::Result;
use super::revocations::Revocation;
use super::terminals::TerminalStatus;

/// A one-time permission to enrol, kept as a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub terminal: TerminalId,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    pub expires_at: Timestamp,
}

/// A join token and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRecord {
    pub token: JoinToken,
    pub added_at: Timestamp,
    /// When a key was first enrolled with it.
    pub redeemed_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// What becomes of a request for a join token's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeem {
    /// Good, now bound to this key. The same key again is good until the token expires, so that a
    /// lost answer locks nobody out.
    Good,
    /// It was answered with this certificate (DER): the same one again.
    Answered(Vec<u8>),
    /// Unknown, for another terminal, expired, revoked, or used with another key.
    Refused,
    Banned,
    /// Some certificate holds this key already.
    KeyReused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Terminal(TerminalId),
    Operator(String),
    Authority(String),
}

/// A certificate as it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Lower-case hex.
    pub serial: String,
    pub subject: Subject,
    pub spki_sha256: [u8; 32],
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Key identifier of the issuing CA, lower-case hex; empty where it was not kept.
    pub issuer_key: String,
    /// Empty where it was not kept.
    pub der: Vec<u8>,
}

/// A certificate and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRecord {
    pub certificate: Certificate,
    pub issued_at: Timestamp,
    /// Serial of the certificate it was issued under.
    pub renews: Option<String>,
    /// When its terminal first came with it.
    pub used_at: Option<Timestamp>,
    /// Refused since then, because a later one of the terminal has been used.
    pub superseded_at: Option<Timestamp>,
    pub revoked: Option<Revocation>,
}

/// By what right a terminal's certificate is issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// The hash of a join token that was redeemed for its key.
    JoinToken([u8; 32]),
    /// The serial of the certificate that it is asked for under.
    Renews(String),
}

/// What becomes of a terminal's new certificate: what was decided before it was signed is decided
/// again with it, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It may be handed out.
    New,
    /// Another request with the same right and key came first: hand out this one (DER).
    Before(Vec<u8>),
    /// The right has been used for another key.
    OtherKey,
    /// The terminal was banned, or the right taken back, in the meantime.
    Refused,
    KeyReused,
}

/// How a certificate may be renewed for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// Nobody has renewed `serial`: its successor may be issued for this key.
    Open {
        serial: String,
    },
    /// It was renewed with this key, and the answer is still good (DER).
    Answered(Vec<u8>),
    /// It was renewed with another key.
    OtherKey,
    /// It, or what it was renewed to, is revoked, superseded or unknown.
    Refused,
    KeyReused,
    /// So many were issued to this terminal since the time asked about.
    TooMany,
}

/// What a first use comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstUse {
    Good,
    /// Superseded, revoked or unknown in the meantime.
    Refused,
}

/// How many certificates of one kind are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    pub kind: &'static str,
    pub certificates: u64,
    /// When the first of them ends; none if there is none.
    pub first_end: Option<Timestamp>,
}

/// What a request of a terminal is judged by: how the certificate it came with stands, and how the terminal does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestJudging {
    /// Whose it is; whoever judges compares it, and the key.
    pub subject: Subject,
    pub spki_sha256: [u8; 32],
    pub used_at: Option<Timestamp>,
    pub superseded_at: Option<Timestamp>,
    pub revoked: Option<Revocation>,
    /// None: no such terminal is known.
    pub terminal: Option<TerminalStatus>,
}

#[async_trait]
pub trait Identities {
    /// Adds a further join token for a terminal that exists; false if it does not, or is banned.
    async fn add_join_token(&self, token: JoinToken, at: Timestamp) -> Result<bool>;

    /// Binds a join token to a key, before anything is signed.
    async fn redeem_join_token(
        &self,
        terminal: TerminalId,
        hash: [u8; 32],
        spki_sha256: [u8; 32],
        at: Timestamp,
    ) -> Result<Redeem>;

    /// Newest first; of one terminal or of all, those that were good then or all.
    async fn join_tokens(
        &self,
        terminal: Option<TerminalId>,
        good_at: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<JoinTokenRecord>>;

    /// Takes back the join token whose hash begins with `prefix`, used or not: it answers nothing any
    /// more. None if there is no such one; taking it back twice answers the first time.
    async fn revoke_join_token(
        &self,
        prefix: [u8; 8],
        at: Timestamp,
    ) -> Result<Option<JoinTokenRecord>>;

    /// Records a certificate of an operator or an authority before it is handed out.
    async fn add_certificate(&self, certificate: Certificate, at: Timestamp) -> Result<()>;

    /// Records a terminal's certificate before it is handed out, if `right` still stands.
    async fn add_terminal_certificate(
        &self,
        certificate: Certificate,
        right: Right,
        at: Timestamp,
    ) -> Result<Recorded>;

    /// How this certificate of a terminal may be renewed for this key.
    async fn renewal(
        &self,
        serial: &str,
        spki_sha256: [u8; 32],
        at: Timestamp,
        limit: RenewalLimit,
    ) -> Result<Renewal>;

    /// A successor that was never used is believed no more: it is refused from now on, and what it
    /// renews may be renewed again for the same key. False if it has been used, or is none.
    async fn set_aside(&self, serial: &str, at: Timestamp) -> Result<bool>;

    /// A terminal came with this certificate: from now on those issued to it before are refused.
    async fn use_certificate(&self, serial: &str, at: Timestamp) -> Result<FirstUse>;

    async fn certificate(&self, serial: &str) -> Result<Option<CertificateRecord>>;

    /// The certificate with this serial, whoever's it is, and how `terminal` stands. None: nothing is known by this
    /// serial.
    async fn request_judging(
        &self,
        serial: &str,
        terminal: TerminalId,
    ) -> Result<Option<RequestJudging>>;

    /// Whether any certificate holds this key.
    async fn is_key_certified(&self, spki_sha256: [u8; 32]) -> Result<bool>;

    /// What one subject was issued, newest first.
    async fn certificates_of(&self, subject: Subject, limit: u32)
    -> Result<Vec<CertificateRecord>>;

    /// What is neither over nor superseded at `at`, the first to end first.
    async fn certificates_to_end(
        &self,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<CertificateRecord>>;

    /// What is neither over, superseded nor revoked, by kind.
    async fn certificates_in_force(&self, at: Timestamp) -> Result<Vec<InForce>>;
}

/// How many certificates one terminal may be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalLimit {
    pub most: u32,
    pub since: Timestamp,
}

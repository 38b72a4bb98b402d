//! Which certificates did we issue, and who may still ask for one?

use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use super::Result;

/// A one-time permission to enrol, kept as a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub terminal: TerminalId,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    pub expires_at: Timestamp,
}

/// What became of a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redeem {
    /// Good, now bound to this key. The same key again is good until the token expires, so that a
    /// lost answer locks nobody out.
    Good,
    /// Unknown, for another terminal, expired, or used with another key.
    Refused,
    Banned,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Terminal(TerminalId),
    Operator(String),
    Authority(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Lower-case hex.
    pub serial: String,
    pub subject: Subject,
    pub spki_sha256: [u8; 32],
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

#[async_trait]
pub trait Identities {
    /// Adds a further join token for a terminal that exists; false if it does not, or is banned.
    async fn add_join_token(&self, token: JoinToken, at: Timestamp) -> Result<bool>;

    async fn redeem_join_token(
        &self,
        terminal: TerminalId,
        hash: [u8; 32],
        spki_sha256: [u8; 32],
        at: Timestamp,
    ) -> Result<Redeem>;

    /// Records a certificate before it is handed out.
    async fn add_certificate(&self, certificate: Certificate, at: Timestamp) -> Result<()>;

    async fn certificate(&self, serial: &str) -> Result<Option<Certificate>>;
}

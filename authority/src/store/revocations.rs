//! Which certificates are no longer good, which lists say so, and who was in two places at once?

use async_trait::async_trait;
use pki::crl::Reason;
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};

use super::{CertificateRecord, Result};

/// The longest time after its end in which a certificate may be renewed, as configured at most. A ban
/// revokes what ended within it as well.
pub const RENEWAL_GRACE_MAX_MS: Millis = 90 * 24 * 3_600_000;

/// Since when a certificate is refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    pub at: Timestamp,
    pub reason: Reason,
}

/// What a revocation list says of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedSerial {
    /// Lower-case hex.
    pub serial: String,
    pub revocation: Revocation,
}

/// A revocation list as it was last signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlRecord {
    /// The highest number given out, signed or not.
    pub number: u64,
    /// Of the last one that was signed.
    pub this_update: Option<Timestamp>,
    pub next_update: Option<Timestamp>,
}

/// Terminals, and certificates, of which it is asked at once whether they are refused.
pub const CONNECTED_MAX: usize = 1_024;

/// Whom connections are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connected {
    pub terminals: Vec<TerminalId>,
    /// Serials.
    pub certificates: Vec<String>,
}

/// What was seen twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmKind {
    /// A certificate was to be renewed with a second key.
    SecondKey,
    /// Two event streams at the same time that one machine does not open.
    SecondStream,
    /// A certificate came long after a later one of this terminal had taken its place.
    Superseded,
}

/// Somebody may hold a copy of a terminal's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneAlarm {
    pub terminal: TerminalId,
    pub kind: AlarmKind,
    /// Serial of the certificate it was seen with.
    pub certificate: String,
    /// What contradicts it: SHA-256 of another key, or the serial of another certificate; empty if it
    /// contradicts itself.
    pub other: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmRecord {
    pub alarm: CloneAlarm,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub times: u64,
}

#[async_trait]
pub trait Revocations {
    /// Revokes: from this commit on the certificate is refused. None if it was never issued here;
    /// revoking twice answers the first revocation.
    async fn revoke_certificate(
        &self,
        serial: &str,
        reason: Reason,
        at: Timestamp,
    ) -> Result<Option<Box<CertificateRecord>>>;

    /// Revoked certificates of this issuing CA that end at `ends_from` or later, by serial.
    async fn revoked(&self, issuer_key: &str, ends_from: Timestamp) -> Result<Vec<RevokedSerial>>;

    /// Those of `asked` that are banned or revoked; at most [`CONNECTED_MAX`] of each are looked at.
    async fn refused(&self, asked: Connected) -> Result<Connected>;

    async fn crl(&self, issuer_key: &str) -> Result<Option<CrlRecord>>;

    /// Gives out the next number, above every one before and above `above`.
    async fn next_crl_number(&self, issuer_key: &str, above: u64, at: Timestamp) -> Result<u64>;

    /// A list was signed and is published from now on.
    async fn crl_signed(
        &self,
        issuer_key: &str,
        number: u64,
        entries: u64,
        this_update: Timestamp,
        next_update: Timestamp,
    ) -> Result<()>;

    /// Records an alarm, or counts it if it is there; false if it was counted within `quiet_ms`, and
    /// then nothing is written: whoever holds a copied key must not fill the disk with it.
    async fn raise_alarm(&self, alarm: CloneAlarm, quiet_ms: Millis, at: Timestamp)
    -> Result<bool>;

    /// Latest first.
    async fn alarms(&self, terminal: Option<TerminalId>, limit: u32) -> Result<Vec<AlarmRecord>>;
}

impl AlarmKind {
    pub const ALL: [Self; 3] = [Self::SecondKey, Self::SecondStream, Self::Superseded];

    pub fn name(self) -> &'static str {
        match self {
            Self::SecondKey => "second-key",
            Self::SecondStream => "second-stream",
            Self::Superseded => "superseded",
        }
    }
}

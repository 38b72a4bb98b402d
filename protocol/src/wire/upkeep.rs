//! Terminal and authority: what else must a terminal look after, besides what it shows?
//!
//! Its certificate, the roots it trusts, the keys that verify, and what it last saw of the audit.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// `GET /v1/trust`: which roots are trusted, signed by roots; proves itself, so it takes no client
/// certificate. Agents' listener.
pub const TRUST_PATH: &str = "/v1/trust";
/// Renewal (RFC 7030, 4.2.2), under the certificate that is renewed.
pub const REENROL_PATH: &str = "/.well-known/est/simplereenroll";
/// Request header of `GET /v1/events`: sequence of the trust bundle that this terminal follows.
pub const TRUST_HEADER: &str = "m2key-trust";
/// Request header of `GET /v1/events`: the last audit checkpoint this terminal saw, compact JWS. An
/// authority that is behind it has been restored, and serves nothing.
pub const CHECKPOINT_HEADER: &str = "m2key-checkpoint";
/// Request header of `GET /v1/events`: a random name of the process that asks, the same for all its
/// streams. One that comes back after another one has had the stream is a copy of the terminal, or the
/// terminal itself beside its copy.
pub const INSTANCE_HEADER: &str = "m2key-instance";
/// Longest name that counts, in bytes.
pub const INSTANCE_MAX: usize = 64;
/// Longest checkpoint that travels in that header, in bytes.
pub const CHECKPOINT_MAX: usize = 4_096;

/// Part of every state frame; what is not said changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upkeep {
    /// Renew the certificate now: its issuing CA is not believed for much longer.
    pub renew_now: bool,
    /// Sequence of the trust bundle in force; fetch [`TRUST_PATH`] if it is above one's own.
    pub trust_sequence: u64,
    /// Changes whenever the key set changes; fetch the keys if it is another than the last.
    pub keys_tag: String,
    /// What this asks for may be done within this time, at a moment that the terminal draws: many were asked at
    /// once. A terminal that takes its time anyway takes the longer one.
    pub spread_ms: u32,
    /// The last audit checkpoint, compact JWS: keep it, and show it at the next connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

//! How does a terminal learn at once what changed? On the agents' listener, by server-sent events.
//!
//! Every frame is the whole state, never a difference: a frame that is lost, doubled or late is
//! harmless. `id` is the revision, `event` is `state`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::charge::{ChargeKind, Mark};
use crate::ids::{ChargeId, ClaimId};
use crate::money::Money;
use crate::time::Timestamp;
use crate::turn::TurnState;
use crate::wire::upkeep::Upkeep;

/// `GET /v1/events`, `Accept: text/event-stream`, `Last-Event-ID` with the last revision seen.
pub const EVENTS_PATH: &str = "/v1/events";
/// The `event` field of a state frame.
pub const STATE_EVENT: &str = "state";
/// A comment line at least this often, so that both sides notice a dead connection.
pub const KEEP_ALIVE_S: u64 = 15;

/// Everything the authority tells a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalState {
    /// Rises with every change; a terminal ignores a lower one on the same stream. A new stream
    /// starts anew, because a restored authority counts from an earlier number; turns never go back.
    pub revision: u64,
    /// The authority's clock when this frame was made, so that the terminal can follow it.
    pub now: Timestamp,
    /// Every turn above 0 of a window that still counts.
    pub turns: Vec<TurnState>,
    /// The charge on offer, held, or just paid.
    pub charge: Option<ChargeState>,
    /// Fetch a schedule: policy or seed version changed, or the authority was started anew.
    pub schedule_due: bool,
    /// Within this time, at a moment that the terminal draws: many were asked at once. 0 means now, and so it
    /// does for a terminal that has nothing to show.
    #[serde(default)]
    pub schedule_within_ms: u32,
    /// What to look after besides.
    #[serde(default)]
    pub upkeep: Upkeep,
}

/// One charge as till and screen show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChargeState {
    pub charge: ChargeId,
    pub kind: ChargeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(flatten)]
    pub stage: ChargeStage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ChargeStage {
    /// Tap, scan or type.
    Offered { until: Timestamp },
    /// A phone has it.
    Held {
        claim: ClaimId,
        mark: Mark,
        until: Timestamp,
    },
    /// Done: the receipt is a compact JWS and the terminal verifies it before it shows "paid".
    Paid {
        claim: ClaimId,
        mark: Mark,
        receipt: String,
    },
    /// Cancelled by the till, released too often, or out of time.
    Ended { reason: EndReason },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EndReason {
    Cancelled,
    Released,
    Expired,
}

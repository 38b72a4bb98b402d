//! What does the till ask for? The same bodies on the agent's loopback and on the agents' listener.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::ids::ChargeId;
use crate::money::Money;
use crate::time::Timestamp;
use crate::wire::push::ChargeState;

/// `POST` starts a charge, `GET …/{id}` looks, `DELETE …/{id}` cancels.
pub const CHARGES_PATH: &str = "/v1/charges";

/// Start a charge. The same id with the same contents is the same charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChargeRequest {
    /// A UUIDv7 of the till's own making.
    pub charge: ChargeId,
    pub amount: Money,
    /// The till's own number for this sale: at most 64 bytes, no control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A charge as the terminal tells it to the till.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TillCharge {
    #[serde(flatten)]
    pub state: ChargeState,
    /// True while the authority is away: then this is what it said last, and it may be otherwise by now.
    pub stale: bool,
    /// When this was so, by the authority's clock.
    pub as_of: Timestamp,
}

//! What does the till ask for? The same bodies on the agent's loopback and on the agents' listener.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::ids::ChargeId;
use crate::money::Money;

/// `POST` starts a charge, `GET …/{id}` looks, `DELETE …/{id}` cancels.
pub const CHARGES_PATH: &str = "/v1/charges";

/// Start a charge. The same id with the same contents is the same charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeRequest {
    /// A UUIDv7 of the till's own making.
    pub charge: ChargeId,
    pub amount: Money,
    /// The till's own number for this sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

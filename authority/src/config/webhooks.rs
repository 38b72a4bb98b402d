//! Where may merchants have themselves told?

use serde::Deserialize;

/// The same as it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Also at addresses of the authority's own network, and on its own machine without TLS.
    pub private_addresses: bool,
}

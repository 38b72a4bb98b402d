//! How does an operator have this node's certificate renewed before its time?

use serde::{Deserialize, Serialize};

use super::Verb;
use crate::app::App;
use crate::services::Failure;
use crate::services::node::{Listener, NodeRenewed};

/// A new key and certificate for a listener, now; both are made by the authority itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRenew {
    pub listener: Listener,
}

impl Verb for NodeRenew {
    const NAME: &'static str = "node-renew";
    const CHANGES: bool = true;
    type Answer = NodeRenewed;

    async fn run(self, app: &App) -> Result<NodeRenewed, Failure> {
        app.wishes.renew(self.listener).await
    }
}

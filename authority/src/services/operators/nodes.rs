//! Which nodes are there, and how does an operator have one's certificate renewed, or one forgotten?

use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, refused};
use crate::app::App;
use crate::services::Failure;
use crate::services::node::{Listener, NodeRenewed};
use crate::store::{
    CertificateRecord, FORGET_AFTER_MS, ForgetNode, NodeRecord, ReplicaState, Subject,
};

/// A node that asks for news is seen every five seconds.
const LISTENS_WITHIN_MS: Millis = 15_000;
/// Most certificates that are named.
const NAMED_MAX: usize = 5;

/// A new key and certificate for a listener, now; both are made by the authority itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRenew {
    pub listener: Listener,
}

/// All nodes of this authority, in order of name, and the replicas of the one that answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeList {}

/// Forgets a node that left for good.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeForget {
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Nodes {
    pub nodes: Vec<NodeView>,
    /// That the one that answers reads from, as it sees them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub replicas: Vec<ReplicaView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    pub host: String,
    /// What may lag is read there, not from the primary.
    pub usable: bool,
    /// How far behind it is at most; none while that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lag_ms: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    pub name: String,
    /// The one that answers.
    pub is_this: bool,
    /// `listens`: it hears the others. `silent`: its process is there, and hears nothing. `gone`: nobody has its
    /// name.
    pub state: NodeState,
    /// Since its program was started, or found the database again.
    pub since: Timestamp,
    /// When it was heard last, within five seconds.
    pub heard: Timestamp,
    /// Of its program.
    pub version: String,
    /// Steps of the schema that it knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schema: Option<u32>,
    /// How far its clock is ahead of the database's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock_ahead_ms: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    Listens,
    Silent,
    Gone,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct NodeForgotten {
    pub name: String,
}

impl Verb for NodeRenew {
    const NAME: &'static str = "node-renew";
    const CHANGES: bool = true;
    type Answer = NodeRenewed;

    async fn run(self, app: &App) -> Result<NodeRenewed, Failure> {
        app.wishes.renew(self.listener).await
    }
}

impl Verb for NodeList {
    const NAME: &'static str = "node-list";
    const CHANGES: bool = false;
    const WHILE_FENCED: bool = true;
    type Answer = Nodes;

    async fn run(self, app: &App) -> Result<Nodes, Failure> {
        let own = app.config.node.as_str();
        let found = app.store.nodes().await?;
        let nodes = found.into_iter().map(|it| NodeView::of(it, own)).collect();
        let replicas = app.store.replicas().into_iter().map(Into::into).collect();
        Ok(Nodes { nodes, replicas })
    }
}

impl Verb for NodeForget {
    const NAME: &'static str = "node-forget";
    const CHANGES: bool = true;
    type Answer = NodeForgotten;

    async fn run(self, app: &App) -> Result<NodeForgotten, Failure> {
        let Self { name } = self;
        let now = app.clock.now();
        let of = Subject::Authority(name.clone());
        let held = app.store.certificates_of(of, LIST_MAX).await?;
        let in_force = |it: &&CertificateRecord| {
            it.revoked.is_none() && it.superseded_at.is_none() && it.certificate.not_after >= now
        };
        let serials: Vec<_> = held
            .iter()
            .filter(in_force)
            .map(|it| it.certificate.serial.as_str())
            .collect();
        if name == app.config.node.as_str() {
            return Err(strands("it is the node that answers".into()));
        }
        if !serials.is_empty() && is_known(app, &name).await? {
            let named = serials[..serials.len().min(NAMED_MAX)].join(", ");
            return Err(strands(format!(
                "whoever has its keys can still speak for it: first `certificate revoke SERIAL --reason \
                 cessation-of-operation` for {named}"
            )));
        }
        match app.store.forget_node(name.clone(), now).await? {
            ForgetNode::Forgotten => Ok(NodeForgotten { name }),
            ForgetNode::Unknown => Err(refused(ProblemType::Unknown, "no node has this name")),
            ForgetNode::Runs => Err(strands(
                "a process with this name is at work: stop it".into(),
            )),
            ForgetNode::SeenLately => Err(strands(format!(
                "it was there less than {} s ago, and may be on its way back",
                FORGET_AFTER_MS / 1_000
            ))),
        }
    }
}

async fn is_known(app: &App, name: &str) -> Result<bool, Failure> {
    let nodes = app.store.nodes().await?;
    Ok(nodes.iter().any(|node| node.name == name))
}

fn strands(detail: String) -> Failure {
    refused(ProblemType::WouldStrand, detail)
}

impl From<ReplicaState> for ReplicaView {
    fn from(state: ReplicaState) -> Self {
        Self {
            host: state.host,
            usable: state.is_current,
            lag_ms: state.lag_ms,
        }
    }
}

impl NodeView {
    fn of(record: NodeRecord, own: &str) -> Self {
        let state = match record.runs {
            true if record.silent_ms < LISTENS_WITHIN_MS => NodeState::Listens,
            true => NodeState::Silent,
            false => NodeState::Gone,
        };
        Self {
            is_this: record.name == own,
            name: record.name,
            state,
            since: record.since,
            heard: record.seen,
            version: record.says.version,
            schema: record.says.schema,
            clock_ahead_ms: record.says.ahead_ms,
        }
    }
}

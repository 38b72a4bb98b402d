//! `m2key-authority node …`: which nodes are there, and which left for good?

use clap::Subcommand;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{
    NodeForget, NodeForgotten, NodeList, NodeState, NodeView, Nodes, ReplicaView,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the nodes of this authority: version, when each was heard last, its clock, the schema it knows; and the replicas
    List,
    /// Forget a node that left for good; its audit chain stays
    Forget {
        /// As in the list
        name: String,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::List => tell(arguments, &ask(arguments, NodeList {})?),
        Verb::Forget { name } => {
            let name = name.clone();
            tell(arguments, &ask(arguments, NodeForget { name })?);
        }
    }
    Ok(())
}

impl Say for Nodes {
    fn say(&self) -> String {
        if self.nodes.is_empty() {
            return "this authority is one process over an embedded store".into();
        }
        let replicas = self.replicas.iter().map(line_of_replica);
        let lines: Vec<_> = self.nodes.iter().map(line).chain(replicas).collect();
        lines.join("\n")
    }
}

fn line(node: &NodeView) -> String {
    let state = match node.state {
        NodeState::Listens => "listens",
        NodeState::Silent => "silent",
        NodeState::Gone => "gone",
    };
    let schema = node.schema.map_or("?".into(), |it| it.to_string());
    let clock = match node.clock_ahead_ms {
        None => "?".into(),
        Some(ms) => format!("{ms:+} ms"),
    };
    let this = if node.is_this { "  (answers)" } else { "" };
    format!(
        "{}  {state:7}  heard {}  version {}  schema {schema}  clock {clock}{this}",
        node.name, node.heard, node.version
    )
}

fn line_of_replica(replica: &ReplicaView) -> String {
    let usable = match replica.usable {
        true => "read from",
        false => "not read from",
    };
    let lag = match replica.lag_ms {
        None => "?".into(),
        Some(ms) => format!("{ms} ms"),
    };
    format!("replica {}  {usable}  behind {lag}", replica.host)
}

impl Say for NodeForgotten {
    fn say(&self) -> String {
        format!(
            "{} is forgotten: keep its journal with the backups",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use protocol::time::Timestamp;

    use super::*;

    #[test]
    fn replicas_are_told_after_the_nodes_with_what_is_known_of_them() {
        let replica = |host: &str, usable, lag_ms| ReplicaView {
            host: host.into(),
            usable,
            lag_ms,
        };
        let node = NodeView {
            name: "authority-1".into(),
            is_this: true,
            state: NodeState::Listens,
            since: Timestamp::from_ms(0),
            heard: Timestamp::from_ms(0),
            version: "1.2.0".into(),
            schema: Some(2),
            clock_ahead_ms: Some(-3),
        };
        let said = Nodes {
            nodes: vec![node],
            replicas: vec![
                replica("copy-1", true, Some(12)),
                replica("copy-2", false, None),
            ],
        }
        .say();
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0].starts_with("authority-1  listens"), "{said}");
        assert_eq!(
            lines[1..],
            [
                "replica copy-1  read from  behind 12 ms",
                "replica copy-2  not read from  behind ?"
            ]
        );
    }
}

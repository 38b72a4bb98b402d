//! `m2key-authority node …`: which nodes are there, and which left for good?

use clap::Subcommand;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{NodeForget, NodeForgotten, NodeList, NodeState, NodeView, Nodes};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the nodes of this authority: version, when each was heard last, its clock, the schema it knows
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
        let lines: Vec<_> = self.nodes.iter().map(line).collect();
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

impl Say for NodeForgotten {
    fn say(&self) -> String {
        format!(
            "{} is forgotten: keep its journal with the backups",
            self.name
        )
    }
}

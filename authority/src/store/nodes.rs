//! What do other nodes of this authority do, and does this one hear of it?
//!
//! The database judges, whichever node asks it; what a node holds open or in memory has to follow. A store
//! that is one process's own has no other nodes: it hears nothing, and leads everything.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use hsm::{SealedSeed, SealingKeys};
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Result;

/// How often a node asks what is new, at the least.
pub const NEWS_EVERY: Duration = Duration::from_millis(200);
/// A node that could not ask for so long closes. With the time to notice it is less than a second.
pub const LOST_AFTER: Duration = Duration::from_millis(800);
/// Most calls that a slow listener may be behind; past it, some were missed.
pub const CALLS_BEHIND_MAX: usize = 65_536;
/// The same of rows: then anything may have changed.
pub const ROWS_BEHIND_MAX: usize = 16_384;
/// The same of both where there are no other nodes.
const NARROW_BEHIND_MAX: usize = 1_024;
/// A node that was seen later than this ago is not forgotten.
pub const FORGET_AFTER_MS: Millis = 60_000;
/// A node's clock and the database's may be so far apart.
pub const SKEW_MAX_MS: Millis = 500;

/// Something that another node has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// What this terminal is told.
    Terminal(TerminalId),
    Banned(TerminalId),
    /// Serial of a certificate.
    Revoked(String),
    /// Older seeds of this terminal do not count.
    Reseeded(TerminalId),
    Keys,
    Operations,
    Generation,
    /// Something else that a journal keeps.
    Fact,
    /// The terminal's stream is at another node from now on: it came with this certificate (serial), and its
    /// process calls itself so.
    Opened {
        terminal: TerminalId,
        certificate: String,
        instance: Option<String>,
    },
    /// The terminal's stream is at another node.
    Listens(TerminalId),
    /// It was, and has ended.
    Closed(TerminalId),
    /// Another node has just come, and does not know who listens where.
    Hello,
    /// Calls were missed: who listens where, and what terminals are told, may have changed. What refuses is a row.
    Missed,
    /// Rows were missed: anything may have changed, and anybody may have been banned.
    All,
}

/// Work that nobody asks for, and that one node does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chore {
    /// What is overdue at terminals.
    Overdue,
    Receipts,
    /// Outside rails, and refunds on them.
    Rails,
    Webhooks,
    Settlements,
    Taps,
    Texts,
    Operations,
    /// What is too old to matter.
    Forgetting,
}

/// Whether this node hears the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// There are no others.
    Alone,
    /// It does, and the database's clock shows this now.
    Kept { database_now: Timestamp },
    /// Not for [`LOST_AFTER`], and why.
    Lost { why: String },
}

/// A node that is there, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRecord {
    pub name: String,
    pub since: Timestamp,
    /// When it asked for news last, by the database's clock, within some seconds.
    pub seen: Timestamp,
    /// For how long it has not been seen.
    pub silent_ms: Millis,
    /// A process holds this name, whether it asks or not.
    pub runs: bool,
    pub says: NodeSays,
}

/// What a node says of itself, kept as its version with build metadata (`1.2.0+schema.3.clock.-12`), so that
/// nodes of every version can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSays {
    /// Of its program.
    pub version: String,
    /// How many steps of the schema it knows; none: it is from before nodes said so.
    pub schema: Option<u32>,
    /// How far its clock is ahead of the database's.
    pub ahead_ms: Option<Millis>,
}

/// Of a node that is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgetNode {
    Forgotten,
    Unknown,
    /// A process holds its name.
    Runs,
    /// It was there a moment ago: it may only be on its way back.
    SeenLately,
}

/// A copy of the database that what may lag is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    pub host: String,
    /// How far behind it is at most; none: it is gone, or that is not known.
    pub lag_ms: Option<Millis>,
    /// Whether it is read from.
    pub is_current: bool,
    /// How often it was.
    pub reads: u64,
    /// How often such a read failed, and was done at the primary.
    pub failed: u64,
    /// Why it cannot be read from, as far as it says so itself.
    pub trouble: Option<String>,
}

/// A seed of nobody, sealed under these keys: whoever can use it holds the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProof {
    pub keys: SealingKeys,
    pub sealed: SealedSeed,
}

#[async_trait]
pub trait Nodes {
    /// Everything that other nodes commit from now on.
    fn news(&self) -> NewsListener;

    /// Has other nodes hear what is only called out. Never waits; what is lost heals by itself.
    fn call(&self, news: &[News]);

    /// Never blocks and never asks the database.
    fn contact(&self) -> Contact;

    /// Whether this is the node that does `chore` at the moment. It may end before the work does: what is
    /// done twice must come to the same.
    fn leads(&self, chore: Chore) -> bool;

    /// The copies that what may lag is read from. Never asks them.
    fn replicas(&self) -> Vec<ReplicaState>;

    /// From now on other nodes do all chores.
    fn resign(&self);

    /// In order of name; none where there are no others.
    async fn nodes(&self) -> Result<Vec<NodeRecord>>;

    /// Forgets a node that left for good, and which journal was its own. Its audit chain stays.
    async fn forget_node(&self, name: String, at: Timestamp) -> Result<ForgetNode>;

    /// The one that was sealed under these keys first.
    async fn key_proof(&self, keys: SealingKeys) -> Result<Option<KeyProof>>;

    /// The first of these keys stays.
    async fn add_key_proof(&self, proof: KeyProof) -> Result<()>;
}

/// Tells this process what others have committed, in two lanes: rows, which refuse or replace something, and what is
/// only called out. However much of the latter there is, a ban does not wait behind it.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    rows: broadcast::Sender<News>,
    calls: broadcast::Sender<News>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self::of(ROWS_BEHIND_MAX, CALLS_BEHIND_MAX)
    }

    /// For a store whose news are its own only, and few.
    pub(super) fn narrow() -> Self {
        Self::of(NARROW_BEHIND_MAX, NARROW_BEHIND_MAX)
    }

    fn of(rows: usize, calls: usize) -> Self {
        Self {
            rows: broadcast::Sender::new(rows),
            calls: broadcast::Sender::new(calls),
        }
    }

    pub(super) fn tell(&self, news: News) {
        let lane = match news.is_kept() {
            true => &self.rows,
            false => &self.calls,
        };
        // Nobody listening is fine: then nothing is open.
        let _ = lane.send(news);
    }

    pub(super) fn listen(&self) -> NewsListener {
        NewsListener {
            rows: self.rows.subscribe(),
            calls: self.calls.subscribe(),
        }
    }
}

/// Hears everything since it was made.
#[derive(Debug)]
pub struct NewsListener {
    rows: broadcast::Receiver<News>,
    calls: broadcast::Receiver<News>,
}

impl NewsListener {
    /// Rows first.
    pub async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            row = next_of(&mut self.rows, News::All) => row,
            call = next_of(&mut self.calls, News::Missed) => call,
        }
    }

    /// Whether everything that was heard was taken.
    pub fn is_caught_up(&self) -> bool {
        self.rows.is_empty() && self.calls.is_empty()
    }
}

async fn next_of(lane: &mut broadcast::Receiver<News>, missed: News) -> News {
    match lane.recv().await {
        Ok(news) => news,
        Err(RecvError::Lagged(_)) => missed,
        // The store is going down.
        Err(RecvError::Closed) => std::future::pending().await,
    }
}

impl NodeSays {
    const SCHEMA: &str = "schema";
    const CLOCK: &str = "clock";

    /// What cannot be read was not said.
    pub(super) fn read(text: &str) -> Self {
        let (version, rest) = text.split_once('+').unwrap_or((text, ""));
        let words: Vec<&str> = rest.split('.').collect();
        let after = |name: &str| {
            let place = words.iter().position(|word| *word == name)?;
            words.get(place + 1).copied()
        };
        Self {
            version: version.into(),
            schema: after(Self::SCHEMA).and_then(|it| it.parse().ok()),
            ahead_ms: after(Self::CLOCK).and_then(|it| it.parse().ok()),
        }
    }
}

impl fmt::Display for NodeSays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)?;
        let mut between = '+';
        let said = [
            (Self::SCHEMA, self.schema.map(i64::from)),
            (Self::CLOCK, self.ahead_ms),
        ];
        for (name, number) in said {
            if let Some(number) = number {
                write!(f, "{between}{name}.{number}")?;
                between = '.';
            }
        }
        Ok(())
    }
}

impl Chore {
    pub const ALL: [Self; 9] = [
        Self::Overdue,
        Self::Receipts,
        Self::Rails,
        Self::Webhooks,
        Self::Settlements,
        Self::Taps,
        Self::Texts,
        Self::Operations,
        Self::Forgetting,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Overdue => "overdue",
            Self::Receipts => "receipts",
            Self::Rails => "rails",
            Self::Webhooks => "webhooks",
            Self::Settlements => "settlements",
            Self::Taps => "taps",
            Self::Texts => "texts",
            Self::Operations => "operations",
            Self::Forgetting => "forgetting",
        }
    }
}

impl fmt::Display for Chore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn terminal(number: usize) -> TerminalId {
        let number = u32::try_from(number).ok();
        let found = number.and_then(|it| TerminalId::from_number(it).ok());
        found.expect("a number of seven digits")
    }

    /// What is there without waiting.
    fn all_of(news: &mut NewsListener) -> Vec<News> {
        std::iter::from_fn(|| news.next().now_or_never()).collect()
    }

    #[test]
    fn a_ban_overtakes_a_fleet_that_is_told_of() {
        let lanes = Lanes::new();
        let mut news = lanes.listen();
        let fleet = CALLS_BEHIND_MAX / 2;
        (0..fleet).for_each(|n| lanes.tell(News::Listens(terminal(n))));
        lanes.tell(News::Banned(terminal(7)));
        lanes.tell(News::Keys);
        assert!(!news.is_caught_up());
        let heard = all_of(&mut news);
        assert_eq!(heard[..2], [News::Banned(terminal(7)), News::Keys]);
        assert_eq!(heard.len(), fleet + 2, "and nothing of the rest is lost");
        assert!(news.is_caught_up());
    }

    #[test]
    fn more_calls_than_there_is_room_for_lose_no_ban() {
        let lanes = Lanes::new();
        let mut news = lanes.listen();
        lanes.tell(News::Banned(terminal(7)));
        (0..100_000).for_each(|n| lanes.tell(News::Listens(terminal(n))));
        lanes.tell(News::Revoked("0a".into()));
        let heard = all_of(&mut news);
        let first = [
            News::Banned(terminal(7)),
            News::Revoked("0a".into()),
            News::Missed,
        ];
        assert_eq!(heard[..3], first);
        assert!(!heard.contains(&News::All), "no row was missed");
    }

    #[test]
    fn rows_that_are_missed_are_everything() {
        let lanes = Lanes::new();
        let mut news = lanes.listen();
        (0..=ROWS_BEHIND_MAX).for_each(|n| lanes.tell(News::Banned(terminal(n))));
        assert_eq!(news.next().now_or_never(), Some(News::All));
    }

    #[test]
    fn what_a_node_says_of_itself_is_read_by_every_version() {
        let whole = NodeSays {
            version: "1.2.0".into(),
            schema: Some(3),
            ahead_ms: Some(-12),
        };
        assert_eq!(whole.to_string(), "1.2.0+schema.3.clock.-12");
        let less = |schema, ahead_ms| NodeSays {
            schema,
            ahead_ms,
            ..whole.clone()
        };
        for says in [
            whole.clone(),
            less(None, None),
            less(Some(1), None),
            less(None, Some(0)),
        ] {
            assert_eq!(NodeSays::read(&says.to_string()), says);
        }
        let later = NodeSays::read("2.0.0+roles.clock.schema.4.clock.7");
        assert_eq!((later.schema, later.ahead_ms), (Some(4), None));
        assert_eq!(NodeSays::read("1.2.0+schema.many").schema, None);
    }
}

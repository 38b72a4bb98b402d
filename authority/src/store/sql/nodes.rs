//! What must other nodes hear of a write, and where does it stand until they have?
//!
//! What refuses or replaces something is a row, written with the fact: a node that dies after the commit takes
//! none of it along. That a terminal's state moved on is only called out; its stream looks again anyway.

use async_trait::async_trait;
use hsm::{SealedSeed, SealingKeys};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::conn::{Conn, Row, params};
use super::control::{Subject, Touches};
use super::row::{all, count, find, get, one, signed, time};
use super::writer::Tx;
use crate::journal::Fact;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Chore, Contact, FORGET_AFTER_MS, ForgetNode, KeyProof, News, NewsListener, NodeRecord,
    NodeSays, Nodes, ReplicaState, Result,
};

/// Rows of news that are kept; a node that is further behind takes everything for changed.
const NEWS_KEPT: i64 = 10_000;
/// What PostgreSQL's clock shows.
const NOW_MS: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

#[async_trait]
impl Nodes for SqlStore {
    fn news(&self) -> NewsListener {
        match &self.neighbours {
            Some(neighbours) => neighbours.news(),
            None => self.own_news.listen(),
        }
    }

    fn call(&self, news: &[News]) {
        if let Some(neighbours) = &self.neighbours {
            neighbours.caller().call(news);
        }
    }

    fn contact(&self) -> Contact {
        let neighbours = self.neighbours.as_ref();
        neighbours.map_or(Contact::Alone, |it| it.contact())
    }

    fn leads(&self, chore: Chore) -> bool {
        let neighbours = self.neighbours.as_ref();
        neighbours.is_none_or(|it| it.leads(chore))
    }

    fn replicas(&self) -> Vec<ReplicaState> {
        let both = self.replicas.as_ref().zip(self.neighbours.as_ref());
        both.map_or_else(Vec::new, |(replicas, it)| replicas.states(it))
    }

    fn resign(&self) {
        if let Some(neighbours) = &self.neighbours {
            neighbours.resign();
        }
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        if self.neighbours.is_none() {
            return Ok(Vec::new());
        }
        self.read(|conn| {
            let sql = format!("SELECT nodes.*, {NOW_MS} AS now_ms FROM nodes ORDER BY name");
            let mut nodes = all(conn, &sql, params![], read_node)?;
            for node in &mut nodes {
                node.runs = is_held(conn, &node.name)?;
            }
            Ok(nodes)
        })
        .await
    }

    async fn forget_node(&self, name: String, at: Timestamp) -> Result<ForgetNode> {
        if self.neighbours.is_none() {
            return Ok(ForgetNode::Unknown);
        }
        self.write(move |tx| Ok(forget(tx, &name, at)?)).await
    }

    async fn key_proof(&self, keys: SealingKeys) -> Result<Option<KeyProof>> {
        self.read(move |conn| find_proof(conn, &keys)).await
    }

    async fn add_key_proof(&self, proof: KeyProof) -> Result<()> {
        let KeyProof { keys, sealed } = proof;
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO key_proofs (sealing_label, binding_label, context, blob, binding)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                params![
                    keys.sealing.0,
                    keys.binding.0,
                    sealed.context,
                    sealed.blob,
                    sealed.binding
                ],
            )?;
            Ok(())
        })
        .await
    }
}

fn find_proof(conn: &Conn, keys: &SealingKeys) -> Result<Option<KeyProof>> {
    let sql = "SELECT * FROM key_proofs WHERE sealing_label = ?1 AND binding_label = ?2";
    find(conn, sql, params![keys.sealing.0, keys.binding.0], |row| {
        Ok(KeyProof {
            keys: keys.clone(),
            sealed: SealedSeed {
                context: get(row, "context")?,
                blob: get(row, "blob")?,
                binding: get(row, "binding")?,
            },
        })
    })
}

impl News {
    /// What others must hear of a fact that the journal keeps. Each node journals its own checkpoints.
    pub(super) fn of(fact: &Fact) -> Option<Self> {
        Some(match fact {
            Fact::Banned { terminal, .. } => Self::Banned(*terminal),
            Fact::Revoked(revoked) => Self::Revoked(revoked.serial.clone()),
            Fact::Reseeded { terminal, .. } => Self::Reseeded(*terminal),
            Fact::Made(_) | Fact::Tainted(_) => Self::Keys,
            Fact::Generation { .. } => Self::Generation,
            Fact::OperatorRevoked { .. }
            | Fact::ShopperLocked(_)
            | Fact::ShopperUnlocked { .. }
            | Fact::PasskeyRemoved(_)
            | Fact::TagRetired(_)
            | Fact::Policy(_)
            | Fact::Crl { .. } => Self::Fact,
            Fact::Opened { .. } | Fact::Checkpoint { .. } | Fact::Shown { .. } => return None,
        })
    }

    /// How it is kept; none: it is only called out.
    fn written(&self) -> Option<(&'static str, Option<String>)> {
        Some(match self {
            Self::Terminal(_)
            | Self::Opened { .. }
            | Self::Listens(_)
            | Self::Closed(_)
            | Self::Hello
            | Self::Missed => return None,
            Self::Banned(terminal) => ("banned", Some(terminal.to_string())),
            Self::Revoked(serial) => ("revoked", Some(serial.clone())),
            Self::Reseeded(terminal) => ("reseeded", Some(terminal.to_string())),
            Self::Keys => ("keys", None),
            Self::Operations => ("operations", None),
            Self::Generation => ("generation", None),
            Self::Fact => ("fact", None),
            Self::All => ("all", None),
        })
    }

    /// One of a later version is not known here: then anything may have changed.
    fn read(kind: &str, about: Option<String>) -> Result<Self> {
        let terminal = |about: Option<String>| -> Result<TerminalId> {
            let found = about.and_then(|it| it.parse().ok());
            found.ok_or_else(|| corrupt("news of no terminal"))
        };
        Ok(match kind {
            "banned" => Self::Banned(terminal(about)?),
            "revoked" => Self::Revoked(about.ok_or_else(|| corrupt("news of no certificate"))?),
            "reseeded" => Self::Reseeded(terminal(about)?),
            "keys" => Self::Keys,
            "operations" => Self::Operations,
            "generation" => Self::Generation,
            "fact" => Self::Fact,
            _ => Self::All,
        })
    }

    /// Whether it is a row.
    pub fn is_kept(&self) -> bool {
        self.written().is_some()
    }
}

/// Writes what is kept of `news`. Numbers rise in the order of commits: whoever takes one holds the lock of
/// it until then.
pub(super) fn keep(conn: &Conn, node: &str, news: &[News]) -> Result<()> {
    let written: Vec<_> = news.iter().filter_map(News::written).collect();
    if written.is_empty() {
        return Ok(());
    }
    conn.lock(&Touches::these(&[Subject::Named("news", &[])]))?;
    for (kind, about) in written {
        conn.execute(
            "INSERT INTO news (number, node, kind, about)
             VALUES ((SELECT coalesce(max(number), 0) + 1 FROM news), ?1, ?2, ?3)",
            params![node, kind, about],
        )?;
    }
    let sql = "DELETE FROM news WHERE number <= (SELECT max(number) FROM news) - ?1";
    conn.execute(sql, [NEWS_KEPT])?;
    Ok(())
}

/// The number of the last row; 0 when there is none.
pub(in crate::store) fn newest(conn: &Conn) -> Result<u64> {
    let sql = "SELECT coalesce(max(number), 0) AS number FROM news";
    one(conn, sql, params![], |row| count(row, "number"))
}

/// What was written after `last`, except by the node `but`, and the number of the last row.
pub(in crate::store) fn since(
    conn: &Conn,
    but: Option<&str>,
    last: u64,
) -> Result<(Vec<News>, u64)> {
    let newest = newest(conn)?;
    if newest == last {
        return Ok((Vec::new(), last));
    }
    let sql = "SELECT * FROM news WHERE number > ?1 AND number <= ?2 ORDER BY number";
    let rows = all(conn, sql, params![signed(last), signed(newest)], |row| {
        let (kind, about): (String, _) = (get(row, "kind")?, get(row, "about")?);
        let is_left_out = but == Some(&get::<String>(row, "node")?);
        Ok((!is_left_out).then_some(News::read(&kind, about)?))
    })?;
    // Some were deleted before they were read, or the database is an earlier one.
    if rows.len() as u64 != newest.wrapping_sub(last) {
        return Ok((vec![News::All], newest));
    }
    Ok((rows.into_iter().flatten().collect(), newest))
}

fn read_node(row: &Row<'_>) -> Result<NodeRecord> {
    let seen = time(row, "seen_ms")?;
    Ok(NodeRecord {
        name: get(row, "name")?,
        since: time(row, "since_ms")?,
        silent_ms: time(row, "now_ms")? - seen,
        seen,
        runs: false,
        says: NodeSays::read(&get::<String>(row, "version")?),
    })
}

/// Whether a session holds the lock of the node's own chain, as one does for as long as its process is there.
fn is_held(conn: &Conn, name: &str) -> Result<bool> {
    let Touches::These(keys) = Touches::these(&[Subject::Named("chain", name.as_bytes())]) else {
        return Ok(false);
    };
    let key = keys.first().copied().unwrap_or_default();
    // As PostgreSQL shows a lock of one number: its halves.
    let (high, low) = ((key >> 32) & 0xffff_ffff, key & 0xffff_ffff);
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND CAST(classid AS BIGINT) = ?1 AND CAST(objid AS BIGINT) = ?2) AS held";
    one(conn, sql, [high, low], |row| get(row, "held"))
}

fn forget(tx: &mut Tx<'_>, name: &str, at: Timestamp) -> Result<ForgetNode> {
    let sql = format!("SELECT nodes.*, {NOW_MS} AS now_ms FROM nodes WHERE name = ?1");
    let Some(node) = find(tx.conn, &sql, params![name], read_node)? else {
        return Ok(ForgetNode::Unknown);
    };
    if is_held(tx.conn, name)? {
        return Ok(ForgetNode::Runs);
    }
    if node.silent_ms < FORGET_AFTER_MS {
        return Ok(ForgetNode::SeenLately);
    }
    tx.execute("DELETE FROM nodes WHERE name = ?1", params![name])?;
    tx.execute("DELETE FROM fence WHERE node = ?1", params![name])?;
    tx.record("node.forgotten", at, &json!({ "node": name }))?;
    Ok(ForgetNode::Forgotten)
}

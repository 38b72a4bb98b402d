//! Where does it stand which roots a terminal trusts?

use crate::store::sql::conn::{Row, params};
use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::row::{all, count, find, get, one, signed, terminal as terminal_of, time};
use super::subjects;
use super::writer::{Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{Behind, Follower, Holders, Result, TrustFollowers};

#[async_trait]
impl TrustFollowers for SqlStore {
    async fn follow_trust(&self, terminal: TerminalId, sequence: u64, at: Timestamp) -> Result<()> {
        self.write_on(subjects::at(terminal), move |tx| {
            follow(tx, terminal, sequence, at)
        })
        .await
    }

    async fn follower(&self, terminal: TerminalId) -> Result<Option<Follower>> {
        self.read(move |conn| {
            find(
                conn,
                "SELECT * FROM trust_followers WHERE terminal = ?1",
                [terminal.value()],
                read_follower,
            )
        })
        .await
    }

    async fn followers(&self, seen_since: Timestamp) -> Result<Vec<(u64, u64)>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT trust_followers.sequence AS list, count(*) AS terminals FROM trust_followers
                 JOIN terminals ON id = terminal
                 WHERE banned_at_ms IS NULL AND seen_at_ms >= ?1
                 GROUP BY list ORDER BY list",
                [seen_since.ms()],
                |row| Ok((count(row, "list")?, count(row, "terminals")?)),
            )
        })
        .await
    }

    async fn behind(&self, below: u64, seen_since: Timestamp, limit: u32) -> Result<Behind> {
        self.read(move |conn| {
            let known = params![signed(below), seen_since.ms()];
            let total = one(conn, &behind("count(*) AS terminals", ""), known, |row| {
                count(row, "terminals")
            })?;
            let first = all(
                conn,
                &behind("terminal", "ORDER BY terminal LIMIT ?3"),
                params![signed(below), seen_since.ms(), limit],
                |row| terminal_of(row, "terminal"),
            )?;
            Ok(Behind {
                count: total,
                first,
            })
        })
        .await
    }

    async fn holders(
        &self,
        issuer_keys: Vec<String>,
        ended_since: Timestamp,
        at: Timestamp,
        limit: u32,
    ) -> Result<Holders> {
        let keys = json!(issuer_keys).to_string();
        self.read(move |conn| {
            let terminals = format!("SELECT DISTINCT subject {HELD} AND subject_kind = 'terminal'");
            let known = params![keys, ended_since.ms()];
            let counting = format!("SELECT count(*) AS terminals FROM ({terminals}) held");
            let total = one(conn, &counting, known, |row| count(row, "terminals"))?;
            let first = all(
                conn,
                &format!("{terminals} ORDER BY subject LIMIT ?3"),
                params![keys, ended_since.ms(), limit],
                |row| terminal_named(&get::<String>(row, "subject")?),
            )?;
            let operators = all(
                conn,
                &format!("SELECT DISTINCT subject {HELD} {NEWEST} ORDER BY subject"),
                params![keys, at.ms()],
                |row| get(row, "subject"),
            )?;
            Ok(Holders {
                terminals: Behind {
                    count: total,
                    first,
                },
                operators,
            })
        })
        .await
    }
}

/// Of these issuing CAs, in force and not ended.
const HELD: &str = "FROM certificates c
    WHERE issuer_key IN (SELECT value FROM json_each(?1)) AND superseded_at_ms IS NULL
      AND not_after_ms >= ?2
      AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)";

/// An operator's certificates stay in force beside each other: the newest one is used.
const NEWEST: &str = "AND subject_kind = 'operator' AND NOT EXISTS (
    SELECT 1 FROM certificates n
    WHERE n.subject_kind = 'operator' AND n.subject = c.subject AND n.issued_at_ms > c.issued_at_ms
      AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = n.serial))";

fn terminal_named(id: &str) -> Result<TerminalId> {
    id.parse()
        .map_err(|error| corrupt(format!("terminal {id}: {error}")))
}

fn behind(what: &str, more: &str) -> String {
    format!(
        "SELECT {what} FROM trust_followers JOIN terminals ON id = terminal
         WHERE banned_at_ms IS NULL AND trust_followers.sequence < ?1 AND seen_at_ms >= ?2 {more}"
    )
}

fn follow(tx: &mut Tx<'_>, terminal: TerminalId, sequence: u64, at: Timestamp) -> Verdict<()> {
    let before = find(
        tx.conn,
        "SELECT * FROM trust_followers WHERE terminal = ?1",
        [terminal.value()],
        read_follower,
    )?;
    tx.execute_one(
        "INSERT INTO trust_followers (terminal, sequence, seen_at_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (terminal) DO UPDATE SET sequence = excluded.sequence,
             seen_at_ms = max(trust_followers.seen_at_ms, excluded.seen_at_ms)",
        params![terminal.value(), signed(sequence), at.ms()],
    )?;
    if before.map_or(0, |before| before.sequence) != sequence {
        let body = json!({ "terminal": terminal, "sequence": sequence });
        tx.record("trust.followed", at, &body)?;
    }
    Ok(())
}

fn read_follower(row: &Row<'_>) -> Result<Follower> {
    Ok(Follower {
        sequence: count(row, "sequence")?,
        seen_at: time(row, "seen_at_ms")?,
    })
}

//! What does this file lack that the journal has, and how is it made safe?

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::sql::conn::{Bind, Conn, Row, params};
use async_trait::async_trait;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::certificates::insert_adopted;
use super::identities::revoke_open_join_tokens;
use super::row::{all, count, find, get, signed, time};
use super::sessions::end_all as end_all_sessions;
use super::terminals::find_terminal;
use super::terms::clear_pins;
use super::writer::{Stop, Tx, Verdict};
use crate::journal::{Fact, Known, Last};
use crate::store::{
    Adopted, Certificate, Difference, Fences, Raise, RaiseRecord, Raised, Result, StoredCheckpoint,
    Subject, TerminalStatus,
};

mod again;
pub(super) mod missing;
mod shoppers;
mod tags;

use again::{end_charges, refuse};
use missing::{contains, differs, generation, is_revoked, known_heads};

#[async_trait]
impl Fences for SqlStore {
    async fn differs_from(&self, known: Arc<Known>) -> Result<Difference> {
        self.read(move |conn| differs(conn, &known)).await
    }

    async fn remember_journal(&self, last: Last) -> Result<()> {
        self.write(move |tx| Ok(remember(tx, &last)?)).await
    }

    async fn raise(&self, raise: Raise, at: Timestamp) -> Result<Option<Raised>> {
        self.write(move |tx| raise_generation(tx, &raise, at)).await
    }

    async fn raises(&self, limit: u32) -> Result<Vec<RaiseRecord>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM raises ORDER BY generation DESC LIMIT ?1",
                [limit],
                read_raise,
            )
        })
        .await
    }

    async fn adopt_certificate(&self, certificate: Certificate, at: Timestamp) -> Result<Adopted> {
        self.write(move |tx| adopt(tx, &certificate, at)).await
    }

    async fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>> {
        self.read(|conn| {
            find(
                conn,
                "SELECT at_ms, jws FROM checkpoints ORDER BY number DESC LIMIT 1",
                params![],
                |row| {
                    Ok(StoredCheckpoint {
                        at: time(row, "at_ms")?,
                        jws: get(row, "jws")?,
                    })
                },
            )
        })
        .await
    }
}

pub(super) fn remember(tx: &Tx<'_>, last: &Last) -> Result<()> {
    tx.execute_one(
        "INSERT INTO fence (node, journal, line, hash) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (node) DO UPDATE SET journal = excluded.journal, line = excluded.line,
             hash = excluded.hash",
        params![last.node, last.journal, signed(last.n), last.hash],
    )
}

fn raise_generation(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Verdict<Option<Raised>> {
    let was = generation(tx.conn)?;
    if raise.generation <= was {
        return Ok(None);
    }
    tx.catch_up()?;
    let mut raised = Raised {
        was,
        lost_rows: lost_rows(tx.conn, &raise.known)?,
        ..Raised::default()
    };
    tx.execute_one("UPDATE meta SET generation = ?1", [raise.generation])?;
    tx.tell(
        at,
        Fact::Generation {
            generation: raise.generation,
        },
    );
    refuse(tx, raise, &mut raised, at).map_err(Stop::undone)?;
    // One that was redeemed in the lost time looks unused here: none of them is good any more.
    raised.join_tokens = revoke_open_join_tokens(tx, at)?;
    raised.charges = end_charges(tx, at)?;
    // One that was signed out in the lost time looks open here, and a PIN that was changed is the old one.
    raised.sessions = end_all_sessions(tx, at)?;
    raised.pins = clear_pins(tx)?;
    note_raise(tx, raise, &raised, at)?;
    Ok(Some(raised))
}

fn note_raise(tx: &mut Tx<'_>, raise: &Raise, raised: &Raised, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "INSERT INTO raises (generation, raised_at_ms, reason, lost_rows)
         VALUES (?1, ?2, ?3, ?4)",
        params![
            raise.generation,
            at.ms(),
            raise.reason,
            signed(raised.lost_rows)
        ],
    )?;
    let body = json!({
        "generation": raise.generation,
        "was": raised.was,
        "reason": raise.reason,
        "banned_again": raised.bans,
        "revoked_again": raised.revocations,
        "keys_found": raise.found.iter().map(|key| &key.label.0).collect::<Vec<_>>(),
        "keys_tainted_again": raised.keys,
        "seeds_void": raised.seeds,
        "shoppers_locked_again": raised.locks,
        "passkeys_removed_again": raised.passkeys,
        "tags_retired_again": raised.tags,
        "operators_revoked_again": raised.operators,
        "policy_set_again": raised.policy,
        "join_tokens_ended": raised.join_tokens,
        "charges_ended": raised.charges,
        "sessions_ended": raised.sessions,
        "pins_cleared": raised.pins,
        "lost_rows": raised.lost_rows,
    });
    tx.record("generation.raised", at, &body)
}

/// How many rows of each chain are known to have been here once, by the journal or by a terminal; there
/// may have been more.
fn lost_rows(conn: &Conn, known: &Known) -> Result<u64> {
    let mut lost = BTreeMap::new();
    for head in known_heads(known, generation(conn)?) {
        if !contains(conn, head)? {
            let checked = last_checkpointed(conn, &head.node)?;
            let of_node: &mut u64 = lost.entry(&head.node).or_default();
            // A running database that was found out late has checkpoints of its own by then.
            *of_node = (*of_node).max(head.sequence.saturating_sub(checked)).max(1);
        }
    }
    Ok(lost.values().sum())
}

/// Rows written since the restore do not count as found again.
fn last_checkpointed(conn: &Conn, node: &str) -> Result<u64> {
    let found = find(
        conn,
        "SELECT max(sequence) AS sequence FROM audit_rows WHERE node = ?1 AND at_ms <=
             (SELECT at_ms FROM checkpoints ORDER BY number DESC LIMIT 1)",
        [node],
        |row| get::<Option<i64>>(row, "sequence"),
    )?;
    Ok(found.flatten().map_or(0, |sequence| sequence.max(0) as u64))
}

fn adopt(tx: &mut Tx<'_>, certificate: &Certificate, at: Timestamp) -> Verdict<Adopted> {
    let refused = why_not(tx.conn, certificate)?;
    if let Some(refused) = refused {
        return Ok(refused);
    }
    insert_adopted(tx, certificate, at)?;
    Ok(Adopted::Yes)
}

fn why_not(conn: &Conn, certificate: &Certificate) -> Result<Option<Adopted>> {
    let Subject::Terminal(id) = certificate.subject else {
        return Ok(Some(Adopted::NotLost));
    };
    let raised = find(
        conn,
        "SELECT * FROM raises ORDER BY generation DESC LIMIT 1",
        params![],
        read_raise,
    )?;
    let Some(raised) = raised.filter(|raised| certificate.not_before <= raised.at) else {
        return Ok(Some(Adopted::NotLost));
    };
    if is_revoked(conn, &certificate.serial)? {
        return Ok(Some(Adopted::Revoked));
    }
    let here = find_terminal(conn, id)?;
    let is_meant =
        here.is_some_and(|it| it.status == TerminalStatus::Active && it.added_at <= raised.at);
    if !is_meant {
        return Ok(Some(Adopted::NoTerminal));
    }
    let (subject, spki) = (id.to_string(), certificate.spki_sha256);
    let exists = |sql, params: &[&dyn Bind]| {
        find(conn, sql, params, |_| Ok(())).map(|found| found.is_some())
    };
    let later = exists(
        "SELECT 1 FROM certificates WHERE subject_kind = 'terminal' AND subject = ?1
             AND not_before_ms > ?2",
        &[&subject, &certificate.not_before.ms()],
    )?;
    if later {
        return Ok(Some(Adopted::Older));
    }
    let foreign = exists(
        "SELECT 1 FROM certificates WHERE spki_sha256 = ?1
             AND NOT (subject_kind = 'terminal' AND subject = ?2)",
        &[&spki, &subject],
    )?;
    Ok(foreign.then_some(Adopted::ForeignKey))
}

fn read_last(row: &Row<'_>) -> Result<Last> {
    Ok(Last {
        node: get(row, "node")?,
        journal: get(row, "journal")?,
        n: count(row, "line")?,
        hash: get(row, "hash")?,
    })
}

fn read_raise(row: &Row<'_>) -> Result<RaiseRecord> {
    Ok(RaiseRecord {
        generation: get(row, "generation")?,
        at: time(row, "raised_at_ms")?,
        reason: get(row, "reason")?,
        lost_rows: count(row, "lost_rows")?,
    })
}

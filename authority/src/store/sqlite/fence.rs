//! What does this file lack that the journal has, and how is it made safe?

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use protocol::audit::Head;
use protocol::ids::{ChargeId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::push::EndReason;
use rusqlite::{Connection, Row, params};
use serde_json::json;

use super::SqliteStore;
use super::certificates::insert_adopted;
use super::persons::hex;
use super::revocations::{pass_number, revoke_again};
use super::row::{all, count, find, get, one, signed, terminal, time, uuid};
use super::settle::{end, find_charge};
use super::terminals::{ban, find_terminal};
use super::turns::raise_revision;
use super::writer::{Tx, Verdict};
use crate::journal::{Fact, Known, Last, Revoked};
use crate::store::fence::Missing;
use crate::store::{
    Adopted, Certificate, Difference, Fences, Raise, RaiseRecord, Raised, Result, StoredCheckpoint,
    Subject, TerminalStatus,
};

#[async_trait]
impl Fences for SqliteStore {
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
                [],
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
        "INSERT INTO fence (only_row, journal, line, hash) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET journal = excluded.journal, line = excluded.line,
             hash = excluded.hash",
        params![last.journal, signed(last.n), last.hash],
    )
}

fn differs(conn: &Connection, known: &Known) -> Result<Difference> {
    let generation = generation(conn)?;
    Ok(Difference {
        generation,
        wrote: find(conn, "SELECT * FROM fence", [], read_last)?,
        missing: Missing {
            bans: missing_bans(conn, known, generation)?,
            revocations: missing_revocations(conn, known, generation)?,
            heads: missing_heads(conn, known, generation)?,
            crls: missing_numbers(conn, known)?,
        },
        unjournalled: unjournalled(conn, known, generation)?,
    })
}

fn generation(conn: &Connection) -> Result<u32> {
    one(conn, "SELECT generation FROM meta", [], |row| {
        get(row, "generation")
    })
}

/// What was journalled before this generation was begun was carried out again when it was.
fn missing_bans(conn: &Connection, known: &Known, generation: u32) -> Result<Vec<TerminalId>> {
    let mut missing = Vec::new();
    for (id, ban) in &known.bans {
        let holds = match find_terminal(conn, *id)? {
            // Unbanned since, under a new seed.
            Some(found) if found.version > ban.version => true,
            Some(found) => found.status != TerminalStatus::Active,
            None => false,
        };
        if !holds && ban.generation >= generation {
            missing.push(*id);
        }
    }
    Ok(missing)
}

fn missing_revocations(conn: &Connection, known: &Known, generation: u32) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (serial, revocation) in &known.revoked {
        if revocation.generation >= generation && !is_revoked(conn, serial)? {
            missing.push(serial.clone());
        }
    }
    Ok(missing)
}

fn is_revoked(conn: &Connection, serial: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM revocations WHERE serial = ?1";
    Ok(find(conn, sql, [serial], |_| Ok(()))?.is_some())
}

fn missing_numbers(conn: &Connection, known: &Known) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (issuer_key, number) in &known.crls {
        let here = find(
            conn,
            "SELECT number FROM crls WHERE issuer_key = ?1",
            [issuer_key],
            |row| count(row, "number"),
        )?;
        if here.unwrap_or(0) < *number {
            missing.push(issuer_key.clone());
        }
    }
    Ok(missing)
}

fn missing_heads(conn: &Connection, known: &Known, generation: u32) -> Result<Vec<Head>> {
    let mut missing = Vec::new();
    for head in known_heads(known, generation) {
        if !contains(conn, head)? {
            missing.push(head.clone());
        }
    }
    Ok(missing)
}

/// What the journal and terminals say of the chains, of this generation or a later one.
fn known_heads(known: &Known, generation: u32) -> impl Iterator<Item = &Head> {
    let shown = known
        .shown
        .iter()
        .filter(move |it| it.generation >= generation);
    let journalled = known
        .heads
        .values()
        .filter(move |_| known.generation >= generation);
    journalled.chain(shown.flat_map(|it| &it.heads))
}

fn contains(conn: &Connection, head: &Head) -> Result<bool> {
    let hash = find(
        conn,
        "SELECT hash FROM audit_rows WHERE node = ?1 AND sequence = ?2",
        params![head.node, signed(head.sequence)],
        |row| get::<[u8; 32]>(row, "hash"),
    )?;
    Ok(hash.is_some_and(|hash| hex(&hash) == head.hash))
}

fn unjournalled(
    conn: &Connection,
    known: &Known,
    generation: u32,
) -> Result<Vec<(Timestamp, Fact)>> {
    let mut facts = Vec::new();
    let begun = latest(conn)?;
    if generation > known.generation {
        facts.push((begun, Fact::Generation { generation }));
    }
    for (id, fact, at) in banned(conn)? {
        let Fact::Banned { version, .. } = &fact else {
            continue;
        };
        let journalled = known
            .bans
            .get(&id)
            .is_some_and(|ban| ban.version >= *version);
        if !journalled {
            facts.push((at, fact));
        }
    }
    facts.extend(revoked(conn)?.into_iter().filter_map(|revoked| {
        let journalled = known.revoked.contains_key(&revoked.serial);
        (!journalled).then_some((revoked.revoked_at, Fact::Revoked(revoked)))
    }));
    facts.extend(
        list_numbers(conn)?
            .into_iter()
            .filter_map(|(issuer_key, number)| {
                let journalled = known.crls.get(&issuer_key).is_some_and(|it| *it >= number);
                (!journalled).then_some((begun, Fact::Crl { issuer_key, number }))
            }),
    );
    Ok(facts)
}

fn revoked(conn: &Connection) -> Result<Vec<Revoked>> {
    all(
        conn,
        "SELECT * FROM revocations ORDER BY serial",
        [],
        |row| {
            Ok(Revoked {
                serial: get(row, "serial")?,
                issuer_key: get(row, "issuer_key")?,
                not_after: time(row, "not_after_ms")?,
                revoked_at: time(row, "revoked_at_ms")?,
                reason: get(row, "reason")?,
            })
        },
    )
}

fn list_numbers(conn: &Connection) -> Result<Vec<(String, u64)>> {
    all(conn, "SELECT * FROM crls ORDER BY issuer_key", [], |row| {
        Ok((get(row, "issuer_key")?, count(row, "number")?))
    })
}

/// When the newest audit row was written; facts without a time of their own get this one.
fn latest(conn: &Connection) -> Result<Timestamp> {
    let found = find(
        conn,
        "SELECT max(at_ms) AS at_ms FROM audit_rows",
        [],
        |row| get::<Option<i64>>(row, "at_ms"),
    )?;
    Ok(Timestamp::from_ms(found.flatten().unwrap_or(0)))
}

fn banned(conn: &Connection) -> Result<Vec<(TerminalId, Fact, Timestamp)>> {
    all(
        conn,
        "SELECT id, version, banned_at_ms, ban_reason FROM terminals
         WHERE banned_at_ms IS NOT NULL ORDER BY id",
        [],
        |row| {
            let (id, at) = (terminal(row, "id")?, time(row, "banned_at_ms")?);
            let fact = Fact::Banned {
                terminal: id,
                version: get(row, "version")?,
                banned_at: at,
                reason: get(row, "ban_reason")?,
            };
            Ok((id, fact, at))
        },
    )
}

fn raise_generation(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Verdict<Option<Raised>> {
    let was = generation(tx.conn)?;
    if raise.generation <= was {
        return Ok(None);
    }
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
    raised.bans = ban_again(tx, &raise.known, at)?;
    for revocation in raise.known.revoked.values() {
        let added = revoke_again(tx, &revocation.certificate, at)?;
        raised.revocations += u64::from(added);
    }
    for (issuer_key, number) in &raise.known.crls {
        pass_number(tx, issuer_key, *number)?;
    }
    raised.join_tokens = kill_join_tokens(tx, at)?;
    raised.charges = end_charges(tx, at)?;
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
        "join_tokens_ended": raised.join_tokens,
        "charges_ended": raised.charges,
        "lost_rows": raised.lost_rows,
    });
    tx.record("generation.raised", at, &body)
}

/// How many rows of each chain are known to have been here once, by the journal or by a terminal; there
/// may have been more.
fn lost_rows(conn: &Connection, known: &Known) -> Result<u64> {
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
fn last_checkpointed(conn: &Connection, node: &str) -> Result<u64> {
    let found = find(
        conn,
        "SELECT max(sequence) AS sequence FROM audit_rows WHERE node = ?1 AND at_ms <=
             (SELECT at_ms FROM checkpoints ORDER BY number DESC LIMIT 1)",
        [node],
        |row| get::<Option<i64>>(row, "sequence"),
    )?;
    Ok(found.flatten().map_or(0, |sequence| sequence.max(0) as u64))
}

fn ban_again(tx: &mut Tx<'_>, known: &Known, at: Timestamp) -> Result<Vec<TerminalId>> {
    let mut again = Vec::new();
    for (id, journalled) in &known.bans {
        let found = find_terminal(tx.conn, *id)?;
        let needed = found.is_some_and(|found| {
            found.status == TerminalStatus::Active && found.version <= journalled.version
        });
        if needed {
            ban(tx, *id, &journalled.reason, at)?;
            again.push(*id);
        }
    }
    Ok(again)
}

/// One that was redeemed in the lost time looks unused here: none of them is good any more.
fn kill_join_tokens(tx: &mut Tx<'_>, at: Timestamp) -> Result<u64> {
    let killed = tx.execute(
        "UPDATE join_tokens SET revoked_at_ms = ?1
         WHERE expires_at_ms > ?1 AND revoked_at_ms IS NULL",
        [at.ms()],
    )?;
    Ok(killed as u64)
}

/// A charge that is on offer or held here may have been paid in the lost time: it must not be paid
/// again. What is held is released with it.
fn end_charges(tx: &mut Tx<'_>, at: Timestamp) -> Result<u64> {
    let open = all(
        tx.conn,
        "SELECT id, terminal FROM charges WHERE state IN ('offered', 'held')",
        [],
        |row| Ok((ChargeId(uuid(row, "id")?), terminal(row, "terminal")?)),
    )?;
    for (id, terminal) in &open {
        if let Some(charge) = find_charge(tx.conn, *id)? {
            end(tx, &charge, EndReason::Cancelled, at)?;
            raise_revision(tx, *terminal)?;
        }
    }
    Ok(open.len() as u64)
}

fn adopt(tx: &mut Tx<'_>, certificate: &Certificate, at: Timestamp) -> Verdict<Adopted> {
    let refused = why_not(tx.conn, certificate)?;
    if let Some(refused) = refused {
        return Ok(refused);
    }
    insert_adopted(tx, certificate, at)?;
    Ok(Adopted::Yes)
}

fn why_not(conn: &Connection, certificate: &Certificate) -> Result<Option<Adopted>> {
    let Subject::Terminal(id) = certificate.subject else {
        return Ok(Some(Adopted::NotLost));
    };
    let raised = find(
        conn,
        "SELECT * FROM raises ORDER BY generation DESC LIMIT 1",
        [],
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
    let exists = |sql, params: &[&dyn rusqlite::ToSql]| {
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

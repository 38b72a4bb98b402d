//! Whose seed is next, and from which epoch does the new one count?

use crate::store::sql::conn::{Conn, Row, Value, params};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use protocol::window::{EPOCH_MS, EpochClock};
use serde_json::json;

use crate::journal::Fact;
use crate::store::sql::rotation::is_running;
use crate::store::sql::row::{all, count, find, get, one, terminal};
use crate::store::sql::terminals::{find_terminal, insert_seed};
use crate::store::sql::turns::raise_revision;
use crate::store::sql::writer::{Stop, Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    NewSeed, OperationId, Reseed, Reseeded, Result, Seed, Terminal, TerminalStatus, ToReseed, When,
    Whose,
};

/// Seed `u` is still what some epoch is derived from: no later version covers epoch `?2`, the floor,
/// and all that follow.
pub(super) const COUNTS: &str = "NOT EXISTS (
    SELECT 1 FROM seeds n WHERE n.terminal = u.terminal AND n.version > u.version
    AND n.from_epoch <= ?2)";

/// Above every version that terminal `t` ever had, also those that a restore has lost.
const NEXT_VERSION: &str = "max(t.version + 1, t.void_below)";

/// No token of an epoch before this one is taken by any terminal at `at`: hours begin at each
/// terminal's own offset, and the hour before has its grace.
pub(super) fn floor(at: Timestamp) -> i64 {
    at.ms() / EPOCH_MS - 2
}

pub(super) fn next(
    conn: &Conn,
    operation: OperationId,
    whose: &Whose,
    after: Option<TerminalId>,
    at: Timestamp,
    limit: u32,
) -> Result<Vec<ToReseed>> {
    let from = from_terminals(whose);
    let sql = format!(
        "SELECT t.id, {NEXT_VERSION} AS next {from} AND t.id > ?3 ORDER BY t.id LIMIT {limit}"
    );
    let after = after.map_or(-1, |id| i64::from(id.value()));
    all(
        conn,
        &sql,
        parameters(&operation, whose, at, Some(after)),
        |row: &Row<'_>| {
            Ok(ToReseed {
                terminal: terminal(row, "id")?,
                version: get(row, "next")?,
            })
        },
    )
}

pub(super) fn count_of(
    conn: &Conn,
    operation: OperationId,
    whose: &Whose,
    at: Timestamp,
) -> Result<u64> {
    let sql = format!(
        "SELECT count(*) AS found {} AND CAST(?3 AS BIGINT) IS NULL",
        from_terminals(whose)
    );
    let parameters = parameters(&operation, whose, at, None);
    one(conn, &sql, parameters, |row| count(row, "found"))
}

/// ?1 the operation, ?2 the floor, ?3 the cursor, ?4 and ?5 whose.
fn from_terminals(whose: &Whose) -> String {
    let banned = match whose {
        Whose::Banned(_) => "NOT NULL",
        _ => "NULL",
    };
    let mine = match whose {
        Whose::Terminal(_) | Whose::Banned(_) => "t.id = ?4 AND CAST(?5 AS TEXT) IS NULL".to_owned(),
        Whose::Merchant(_) => "t.merchant = ?4 AND CAST(?5 AS TEXT) IS NULL".to_owned(),
        Whose::All => "CAST(?4 AS TEXT) IS NULL AND CAST(?5 AS TEXT) IS NULL".to_owned(),
        Whose::Void => "t.version < t.void_below AND CAST(?4 AS TEXT) IS NULL AND CAST(?5 AS TEXT) IS NULL".to_owned(),
        Whose::NotUnder { .. } => "(s.sealing_label <> ?4 OR s.binding_label <> ?5)".to_owned(),
        Whose::Under(_) => format!(
            "EXISTS (SELECT 1 FROM seeds u WHERE u.terminal = t.id
             AND (u.sealing_label = ?4 OR u.binding_label = ?4) AND {COUNTS}) AND CAST(?5 AS TEXT) IS NULL"
        ),
    };
    format!(
        "FROM terminals t JOIN seeds s ON s.terminal = t.id AND s.version = t.version
         WHERE t.banned_at_ms IS {banned} AND s.operation IS DISTINCT FROM ?1 AND ?2 IS NOT NULL AND {mine}"
    )
}

fn parameters<'a>(
    operation: &'a OperationId,
    whose: &'a Whose,
    at: Timestamp,
    after: Option<i64>,
) -> [Value<'a>; 5] {
    let (fourth, fifth) = match whose {
        Whose::Terminal(id) | Whose::Banned(id) => (Value::Integer(id.value().into()), Value::Null),
        Whose::Merchant(id) => (Value::Blob(id.0.as_bytes()), Value::Null),
        Whose::All | Whose::Void => (Value::Null, Value::Null),
        Whose::NotUnder { sealing, binding } => (Value::Text(sealing), Value::Text(binding)),
        Whose::Under(label) => (Value::Text(label), Value::Null),
    };
    [
        Value::Blob(operation.0.as_bytes()),
        Value::Integer(floor(at)),
        after.map_or(Value::Null, Value::Integer),
        fourth,
        fifth,
    ]
}

/// The batch and its progress are one transaction: a seed that is there is counted.
pub(super) fn reseed(tx: &mut Tx<'_>, batch: &Reseed) -> Verdict<Reseeded> {
    if !is_running(tx.conn, batch.operation)? {
        return Err(Stop::Refused(Reseeded::Moved));
    }
    for new in &batch.seeds {
        let Some(terminal) = ready_for(tx.conn, new, batch.lift_ban)? else {
            return Err(Stop::Refused(Reseeded::Moved));
        };
        replace(tx, batch, new, &terminal)?;
    }
    let last = batch.seeds.last().map(|new| new.terminal.value());
    tx.execute_one(
        "UPDATE operations SET total = ?2, done = done + ?3, after_id = coalesce(?4, after_id)
         WHERE id = ?1",
        params![
            batch.operation.0.as_bytes(),
            i64::try_from(batch.total).unwrap_or(i64::MAX),
            i64::try_from(batch.seeds.len()).unwrap_or(i64::MAX),
            last
        ],
    )?;
    Ok(Reseeded::Done)
}

/// The terminal, if this seed still is its next one and the keys it is under are the active ones.
fn ready_for(conn: &Conn, new: &NewSeed, lift_ban: bool) -> Result<Option<Terminal>> {
    let keys = &new.keys;
    let current = is_active(conn, &keys.sealing.0)? && is_active(conn, &keys.binding.0)?;
    let sql = format!("SELECT {NEXT_VERSION} AS next FROM terminals t WHERE t.id = ?1");
    let next: Option<u32> = find(conn, &sql, [new.terminal.value()], |row| get(row, "next"))?;
    let ready = |terminal: &Terminal| {
        let active = terminal.status == TerminalStatus::Active;
        next == Some(new.version) && current && active != lift_ban
    };
    Ok(find_terminal(conn, new.terminal)?.filter(ready))
}

fn is_active(conn: &Conn, label: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM keys WHERE label = ?1 AND state = 'active'";
    Ok(find(conn, sql, [label], |_| Ok(()))?.is_some())
}

fn replace(tx: &mut Tx<'_>, batch: &Reseed, new: &NewSeed, terminal: &Terminal) -> Result<()> {
    let seed = Seed {
        terminal: new.terminal,
        version: new.version,
        from_epoch: first_epoch(batch, terminal)?,
        keys: new.keys.clone(),
        sealed: new.sealed.clone(),
    };
    insert_seed(tx, &seed, Some(batch.operation), batch.at)?;
    tx.execute_one(
        "UPDATE terminals SET version = ?2, refetch = max(refetch, ?3) WHERE id = ?1",
        params![
            new.terminal.value(),
            new.version,
            batch.when == When::Compromised
        ],
    )?;
    if batch.lift_ban {
        lift_ban(tx, batch, new.terminal)?;
    }
    if batch.when == When::Compromised {
        void_the_others(tx, new, batch.at)?;
        raise_revision(tx, new.terminal);
    }
    Ok(())
}

/// A restored copy has an older seed only, and must not use it.
fn void_the_others(tx: &mut Tx<'_>, new: &NewSeed, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE terminals SET void_below = ?2 WHERE id = ?1",
        params![new.terminal.value(), new.version],
    )?;
    tx.tell(
        at,
        Fact::Reseeded {
            terminal: new.terminal,
            version: new.version,
        },
    );
    Ok(())
}

/// A planned one waits for the first hour the terminal knows nothing of; after a compromise no hour
/// whose tokens are still taken keeps the old one.
fn first_epoch(batch: &Reseed, terminal: &Terminal) -> Result<u32> {
    match batch.when {
        When::Planned => {
            let unknown = terminal
                .issued_until
                .map_or(0, |last| last.saturating_add(1));
            Ok(unknown.max(EpochClock::of(terminal.id).epoch_at(batch.at)))
        }
        When::Compromised => {
            let floor = floor(batch.at).max(0);
            u32::try_from(floor).map_err(|_| corrupt("the clock is past the last epoch"))
        }
    }
}

fn lift_ban(tx: &mut Tx<'_>, batch: &Reseed, terminal: TerminalId) -> Result<()> {
    tx.execute_one(
        "UPDATE terminals SET banned_at_ms = NULL, ban_reason = NULL
         WHERE id = ?1 AND banned_at_ms IS NOT NULL",
        [terminal.value()],
    )?;
    let body = json!({ "terminal": terminal, "operation": batch.operation });
    tx.record_for(batch.operation, "terminal.unbanned", batch.at, &body)
}

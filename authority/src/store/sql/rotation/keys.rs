//! Which key is in which state, and who would be left without it?

use crate::store::sql::conn::{Conn, Row, params};
use hsm::KeyLabel;
use pki::lifecycle::{KeyState, Step};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::seeds::{COUNTS, floor};
use crate::journal::{Fact, TaintedKey};
use crate::store::sql::fence::missing::{made_key, tainted_key};
use crate::store::sql::row::{all, find, get, one, terminal, time};
use crate::store::sql::writer::{Stop, Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    KeyPurpose, KeyRecord, KeyStep, NAMED_MAX, News, OperationId, Result, Stepped, Stranded,
};

pub(in crate::store::sql) fn all_keys(conn: &Conn) -> Result<Vec<KeyRecord>> {
    all(
        conn,
        "SELECT * FROM keys ORDER BY made_at_ms, kid",
        params![],
        read_key,
    )
}

pub(in crate::store::sql) fn find_key(conn: &Conn, kid: &str) -> Result<Option<KeyRecord>> {
    find(conn, "SELECT * FROM keys WHERE kid = ?1", [kid], read_key)
}

/// A key that was made with the authority, or that an operation made.
pub(in crate::store::sql) fn add(tx: &mut Tx<'_>, key: &KeyRecord) -> Verdict<bool> {
    let added = tx.execute(
        "INSERT INTO keys (kid, purpose, state, label, public_point, made_at_ms, since_ms,
                           published_at_ms, operation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        params![
            key.kid,
            key.purpose.name(),
            key.state.name(),
            key.label.0,
            key.public_point,
            key.made_at.ms(),
            key.since.ms(),
            key.published_at.map(Timestamp::ms),
            key.operation.map(|id| id.0.into_bytes())
        ],
    )?;
    if added == 0 {
        return Ok(false);
    }
    tx.spread(News::Keys);
    let body = json!({
        "kid": key.kid,
        "purpose": key.purpose,
        "state": key.state.name(),
        "label": key.label.0,
        "operation": key.operation,
    });
    if let Some(made) = made_key(key) {
        tx.tell(key.made_at, Fact::Made(made));
    }
    match key.operation {
        Some(operation) => tx.record_for(operation, "key.added", key.made_at, &body)?,
        None => tx.record("key.added", key.made_at, &body)?,
    }
    Ok(true)
}

/// False if another key of this purpose is prepared.
pub(super) fn add_prepared(tx: &mut Tx<'_>, key: &KeyRecord) -> Verdict<bool> {
    let same = |known: KeyRecord| known.label == key.label && known.operation == key.operation;
    if find_key(tx.conn, &key.kid)?.is_some_and(same) {
        return Ok(true);
    }
    add(tx, key)
}

/// All checks and the step itself see one state of the database.
pub(super) fn step(tx: &mut Tx<'_>, step: &KeyStep) -> Verdict<Stepped> {
    let Some(key) = find_key(tx.conn, &step.kid)? else {
        return Ok(Stepped::Unknown);
    };
    let to = match key.state.after(step.step) {
        Ok(to) if to == key.state => return Ok(Stepped::Done(Box::new(key))),
        Ok(to) => to,
        Err(wrong) => return Ok(Stepped::Wrong(wrong)),
    };
    if to == KeyState::Retired {
        let stranded = dependents(tx.conn, &key, step.at)?;
        if stranded.count > 0 {
            return Ok(Stepped::Stranded(stranded));
        }
    }
    if to == KeyState::Active {
        supersede(tx, step, key.purpose)?;
    }
    put(tx, step, &key, to)?;
    let now = find_key(tx.conn, &step.kid)?;
    now.map(|key| Stepped::Done(Box::new(key)))
        .ok_or_else(|| Stop::Failed(corrupt("a key vanished")))
}

/// What is active gives its place to another.
fn supersede(tx: &mut Tx<'_>, step: &KeyStep, purpose: KeyPurpose) -> Result<()> {
    let active = find(
        tx.conn,
        "SELECT * FROM keys WHERE purpose = ?1 AND state = 'active'",
        [purpose.name()],
        read_key,
    )?;
    let Some(active) = active else {
        return Ok(());
    };
    let to = active
        .state
        .after(Step::Supersede)
        .map_err(|wrong| corrupt(wrong.to_string()))?;
    put(tx, step, &active, to)
}

fn put(tx: &mut Tx<'_>, step: &KeyStep, key: &KeyRecord, to: KeyState) -> Result<()> {
    let tainted = (to == KeyState::Tainted).then_some(step.at.ms());
    tx.execute_one(
        "UPDATE keys SET state = ?2, since_ms = ?3, operation = ?4,
             tainted_at_ms = coalesce(tainted_at_ms, ?5) WHERE kid = ?1",
        params![
            key.kid,
            to.name(),
            step.at.ms(),
            step.operation.0.as_bytes(),
            tainted
        ],
    )?;
    let body = json!({
        "kid": key.kid,
        "purpose": key.purpose,
        "label": key.label.0,
        "from": key.state.name(),
        "to": to.name(),
        "operation": step.operation,
    });
    tx.record_for(step.operation, "key.stepped", step.at, &body)?;
    tx.spread(News::Keys);
    if tainted.is_some() {
        tell_taint(tx, &key.kid, step.at)?;
    }
    Ok(())
}

fn tell_taint(tx: &mut Tx<'_>, kid: &str, at: Timestamp) -> Result<()> {
    let now = find_key(tx.conn, kid)?;
    if let Some(key) = now.as_ref().and_then(tainted_key) {
        tx.tell(at, Fact::Tainted(key));
    }
    Ok(())
}

/// A restore has forgotten that this key was tainted. An active one gives its place to `successor`.
pub(in crate::store::sql) fn taint_again(
    tx: &mut Tx<'_>,
    key: &KeyRecord,
    tainted_at: Timestamp,
    successor: Option<&KeyRecord>,
    operation: OperationId,
    at: Timestamp,
) -> Verdict<()> {
    let to = match key.state {
        KeyState::Retired => KeyState::Retired,
        _ => KeyState::Tainted,
    };
    tx.execute_one(
        "UPDATE keys SET state = ?2, since_ms = ?3, operation = ?4, tainted_at_ms = ?5
         WHERE kid = ?1",
        params![
            key.kid,
            to.name(),
            at.ms(),
            operation.0.as_bytes(),
            tainted_at.ms()
        ],
    )?;
    if key.state == KeyState::Active {
        let successor = successor.ok_or_else(|| corrupt("a tainted key has no successor"))?;
        let made = KeyRecord {
            operation: Some(operation),
            ..successor.clone()
        };
        if !add(tx, &made).map_err(Stop::undone)? {
            return Err(corrupt("the successor of a tainted key is there before it").into());
        }
    }
    let body = json!({
        "kid": key.kid,
        "purpose": key.purpose,
        "label": key.label.0,
        "from": key.state.name(),
        "to": to.name(),
        "operation": operation,
        "by": "fence-raise",
    });
    Ok(tx.record_for(operation, "key.stepped", at, &body)?)
}

/// A tainted key whose row is lost: its label is not given again, and it can be retired.
pub(in crate::store::sql) fn add_unknown(
    tx: &mut Tx<'_>,
    lost: &TaintedKey,
    at: Timestamp,
) -> Result<()> {
    let point = lost.public_point.as_deref().map(point_of).transpose()?;
    tx.execute_one(
        "INSERT INTO keys (kid, purpose, state, label, public_point, made_at_ms, since_ms,
                           tainted_at_ms)
         VALUES (?1, ?2, 'tainted', ?3, ?4, ?5, ?6, ?6)",
        params![
            lost.kid,
            lost.purpose,
            lost.label,
            point,
            lost.made_at.ms(),
            lost.tainted_at.ms()
        ],
    )?;
    let body = json!({
        "kid": lost.kid,
        "purpose": lost.purpose,
        "state": "tainted",
        "label": lost.label,
        "by": "fence-raise",
    });
    tx.record("key.added", at, &body)
}

/// A key whose row is lost, and that the HSM still has: it verifies what it signed, and can be retired.
pub(in crate::store::sql) fn add_found(
    tx: &mut Tx<'_>,
    found: &KeyRecord,
    at: Timestamp,
) -> Result<()> {
    let state = KeyState::Superseded.name();
    tx.execute_one(
        "INSERT INTO keys (kid, purpose, state, label, public_point, made_at_ms, since_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            found.kid,
            found.purpose.name(),
            state,
            found.label.0,
            found.public_point,
            found.made_at.ms(),
            at.ms()
        ],
    )?;
    let body = json!({
        "kid": found.kid,
        "purpose": found.purpose,
        "state": state,
        "label": found.label.0,
        "by": "fence-raise",
    });
    tx.record("key.added", at, &body)
}

fn point_of(text: &str) -> Result<[u8; 65]> {
    let odd = || corrupt("the journal has a key that is no point");
    let mut point = [0; 65];
    if text.len() != 2 * point.len() || !text.is_ascii() {
        return Err(odd());
    }
    for (place, byte) in point.iter_mut().enumerate() {
        let digits = &text[2 * place..2 * place + 2];
        *byte = u8::from_str_radix(digits, 16).map_err(|_| odd())?;
    }
    Ok(point)
}

pub(super) fn publish(tx: &mut Tx<'_>, at: Timestamp) -> Verdict<usize> {
    let fresh = tx.execute(
        "UPDATE keys SET published_at_ms = ?1 WHERE published_at_ms IS NULL",
        [at.ms()],
    )?;
    if fresh > 0 {
        tx.spread(News::Keys);
        tx.record("keys.published", at, &json!({ "keys": fresh }))?;
    }
    Ok(fresh)
}

pub(super) fn certify(
    tx: &mut Tx<'_>,
    kid: &str,
    certificates: &str,
    at: Timestamp,
) -> Verdict<()> {
    tx.execute_one(
        "UPDATE keys SET certificates = ?2 WHERE kid = ?1",
        params![kid, certificates],
    )?;
    tx.spread(News::Keys);
    Ok(tx.record("key.certified", at, &json!({ "kid": kid }))?)
}

/// What is not believed any more serves nobody; what keeps seeds or signs schedules may.
pub(super) fn dependents(conn: &Conn, key: &KeyRecord, at: Timestamp) -> Result<Stranded> {
    match (key.purpose, key.state) {
        (KeyPurpose::Sealing, _) => seeds_under(conn, "sealing_label", key, at),
        (KeyPurpose::Binding, _) => seeds_under(conn, "binding_label", key, at),
        (KeyPurpose::Schedule, KeyState::Active | KeyState::Superseded) => {
            schedules_under(conn, key, at)
        }
        (KeyPurpose::Tag, KeyState::Active | KeyState::Superseded) => tags_under(conn, key),
        (
            KeyPurpose::Schedule
            | KeyPurpose::Receipt
            | KeyPurpose::Checkpoint
            | KeyPurpose::Request
            | KeyPurpose::Tag,
            _,
        ) => Ok(Stranded::default()),
    }
}

fn seeds_under(conn: &Conn, column: &str, key: &KeyRecord, at: Timestamp) -> Result<Stranded> {
    let found = format!(
        "FROM terminals t WHERE t.banned_at_ms IS NULL AND EXISTS (
             SELECT 1 FROM seeds u WHERE u.terminal = t.id AND u.{column} = ?1 AND {COUNTS})"
    );
    stranded(conn, &found, &key.label.0, floor(at))
}

/// Its last schedule, or one it holds besides, is signed by this key and has not ended.
fn schedules_under(conn: &Conn, key: &KeyRecord, at: Timestamp) -> Result<Stranded> {
    let found = "FROM terminals t WHERE t.banned_at_ms IS NULL AND (
             (t.schedule_kid = ?1 AND t.issued_until > ?2)
             OR (t.schedule_kid <> ?1 AND t.former_until > ?2))";
    stranded(conn, found, &key.kid, floor(at))
}

/// A tag whose keys follow from this key, and whose links count.
fn tags_under(conn: &Conn, key: &KeyRecord) -> Result<Stranded> {
    let found = "FROM terminals t WHERE t.banned_at_ms IS NULL AND ?2 = ?2 AND EXISTS (
             SELECT 1 FROM tags g WHERE g.terminal = t.id AND g.master = ?1
             AND g.retired_at_ms IS NULL)";
    stranded(conn, found, &key.kid, 0)
}

fn stranded(conn: &Conn, found: &str, key: &str, floor: i64) -> Result<Stranded> {
    let count = format!("SELECT count(*) AS found {found}");
    let first = format!("SELECT t.id {found} ORDER BY t.id LIMIT {NAMED_MAX}");
    let params = params![key, floor];
    let named = |row: &Row<'_>| -> Result<TerminalId> { terminal(row, "id") };
    Ok(Stranded {
        count: one(conn, &count, params, |row| {
            crate::store::sql::row::count(row, "found")
        })?,
        first: all(conn, &first, params, named)?,
    })
}

fn read_key(row: &Row<'_>) -> Result<KeyRecord> {
    let (kid, purpose): (String, String) = (get(row, "kid")?, get(row, "purpose")?);
    let state: String = get(row, "state")?;
    let odd = |what: &str| corrupt(format!("the {what} of key {kid}"));
    let time_or_none = |column: &str| -> Result<Option<Timestamp>> {
        let ms: Option<i64> = get(row, column)?;
        Ok(ms.map(Timestamp::from_ms))
    };
    let operation: Option<[u8; 16]> = get(row, "operation")?;
    Ok(KeyRecord {
        purpose: purpose.parse().map_err(|_| odd("purpose"))?,
        state: state.parse().map_err(|_| odd("state"))?,
        label: KeyLabel(get(row, "label")?),
        public_point: get(row, "public_point")?,
        certificates: get(row, "certificates")?,
        made_at: time(row, "made_at_ms")?,
        since: time(row, "since_ms")?,
        published_at: time_or_none("published_at_ms")?,
        tainted_at: time_or_none("tainted_at_ms")?,
        operation: operation.map(|id| OperationId(Uuid::from_bytes(id))),
        kid,
    })
}

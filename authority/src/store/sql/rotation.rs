//! Where are operations kept, and how far are they?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::SqlStore;
use super::audit::read_row;
use super::row::{all, count, find, get, time, uuid};
use super::writer::{Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    KeyRecord, KeyStep, News, Operation, OperationId, OperationState, OperatorCertificate, Reseed,
    Reseeded, Result, Rotation, Stepped, StoredRow, Stranded, ToReseed, Whose, Work,
};

pub(super) mod keys;
pub(super) mod seeds;

#[async_trait]
impl Rotation for SqlStore {
    async fn begin_operation(&self, operation: Operation) -> Result<OperationId> {
        self.write(move |tx| begin(tx, &operation)).await
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>> {
        self.read(move |conn| find_operation(conn, id)).await
    }

    async fn operations(&self, before: Option<OperationId>, limit: u32) -> Result<Vec<Operation>> {
        let before = before.map_or(Uuid::max(), |id| id.0);
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM operations WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
                params![before.as_bytes(), limit],
                read_operation,
            )
        })
        .await
    }

    async fn running_operations(&self) -> Result<Vec<Operation>> {
        self.read(|conn| {
            all(
                conn,
                "SELECT * FROM operations WHERE state = 'running' ORDER BY id",
                params![],
                read_operation,
            )
        })
        .await
    }

    async fn end_operation(
        &self,
        id: OperationId,
        state: OperationState,
        outcome: String,
        at: Timestamp,
    ) -> Result<()> {
        self.write(move |tx| end(tx, id, state, &outcome, at)).await
    }

    async fn operation_rows(&self, id: OperationId) -> Result<Vec<StoredRow>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT r.* FROM operation_rows o
                 JOIN audit_rows r ON r.node = o.node AND r.sequence = o.sequence
                 WHERE o.operation = ?1 ORDER BY o.node, o.sequence",
                [id.0.as_bytes()],
                read_row,
            )
        })
        .await
    }

    async fn add_prepared_key(&self, key: KeyRecord) -> Result<bool> {
        self.write(move |tx| keys::add_prepared(tx, &key)).await
    }

    async fn step_key(&self, step: KeyStep) -> Result<Stepped> {
        self.write(move |tx| keys::step(tx, &step)).await
    }

    async fn publish_keys(&self, at: Timestamp) -> Result<usize> {
        self.write(move |tx| keys::publish(tx, at)).await
    }

    async fn certify_key(&self, kid: String, certificates: String, at: Timestamp) -> Result<()> {
        self.write(move |tx| keys::certify(tx, &kid, &certificates, at))
            .await
    }

    async fn dependents(&self, kid: String, at: Timestamp) -> Result<Stranded> {
        self.read(move |conn| match keys::find_key(conn, &kid)? {
            Some(key) => keys::dependents(conn, &key, at),
            None => Ok(Stranded::default()),
        })
        .await
    }

    async fn count_to_reseed(
        &self,
        operation: OperationId,
        whose: Whose,
        at: Timestamp,
    ) -> Result<u64> {
        self.read(move |conn| seeds::count_of(conn, operation, &whose, at))
            .await
    }

    async fn to_reseed(
        &self,
        operation: OperationId,
        whose: Whose,
        after: Option<TerminalId>,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<ToReseed>> {
        self.read(move |conn| seeds::next(conn, operation, &whose, after, at, limit))
            .await
    }

    async fn reseed(&self, batch: Reseed) -> Result<Reseeded> {
        self.write(move |tx| seeds::reseed(tx, &batch)).await
    }

    async fn operator_certificates(&self, at: Timestamp) -> Result<Vec<OperatorCertificate>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM certificates c WHERE subject_kind = 'operator' AND not_after_ms > ?1
                 AND superseded_at_ms IS NULL
                 AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
                 ORDER BY subject, issued_at_ms",
                [at.ms()],
                |row| {
                    Ok(OperatorCertificate {
                        serial: get(row, "serial")?,
                        operator: get(row, "subject")?,
                        issued_at: time(row, "issued_at_ms")?,
                        not_after: time(row, "not_after_ms")?,
                    })
                },
            )
        })
        .await
    }
}

fn begin(tx: &mut Tx<'_>, operation: &Operation) -> Verdict<OperationId> {
    let before = find(
        tx.conn,
        "SELECT id FROM operations WHERE consent = ?1",
        [&operation.consent],
        |row| uuid(row, "id"),
    )?;
    if let Some(before) = before {
        return Ok(OperationId(before));
    }
    let work =
        serde_json::to_string(&operation.work).map_err(|error| corrupt(error.to_string()))?;
    tx.execute_one(
        "INSERT INTO operations (id, verb, work, asked_by, consent, state, done, started_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, 'running', 0, ?6)",
        params![
            operation.id.0.as_bytes(),
            operation.verb,
            work,
            operation.asked_by,
            operation.consent,
            operation.started_at.ms()
        ],
    )?;
    tx.spread(News::Operations);
    let body = json!({
        "operation": operation.id,
        "verb": operation.verb,
        "work": operation.work,
        "operator": operation.asked_by,
        "consent": operation.consent,
    });
    tx.record_for(
        operation.id,
        "operation.started",
        operation.started_at,
        &body,
    )?;
    Ok(operation.id)
}

/// One that nobody waits for: it goes on at the next start.
pub(super) fn begin_for(
    tx: &mut Tx<'_>,
    id: OperationId,
    verb: &str,
    by: &str,
    work: Work,
    at: Timestamp,
) -> Verdict<OperationId> {
    let operation = Operation {
        id,
        verb: verb.into(),
        work,
        asked_by: by.into(),
        consent: None,
        state: OperationState::Running,
        outcome: None,
        total: None,
        done: 0,
        after: None,
        started_at: at,
        ended_at: None,
    };
    begin(tx, &operation)
}

fn end(
    tx: &mut Tx<'_>,
    id: OperationId,
    state: OperationState,
    outcome: &str,
    at: Timestamp,
) -> Verdict<()> {
    Ok(finish(tx, id, state, outcome, at)?)
}

fn finish(
    tx: &mut Tx<'_>,
    id: OperationId,
    state: OperationState,
    outcome: &str,
    at: Timestamp,
) -> Result<()> {
    tx.spread(News::Operations);
    let ended = tx.execute(
        "UPDATE operations SET state = ?2, outcome = ?3, ended_at_ms = ?4
         WHERE id = ?1 AND state = 'running'",
        params![id.0.as_bytes(), state.name(), outcome, at.ms()],
    )?;
    if ended == 0 {
        return Ok(());
    }
    let body = json!({ "operation": id, "state": state, "outcome": outcome });
    tx.record_for(id, "operation.ended", at, &body)
}

/// A later ban overrides an unban that could not be carried out yet: nobody lifts it unasked.
pub(super) fn refuse_unbans(tx: &mut Tx<'_>, banned: TerminalId, at: Timestamp) -> Result<()> {
    let running = all(
        tx.conn,
        "SELECT * FROM operations WHERE state = 'running' ORDER BY id",
        params![],
        read_operation,
    )?;
    for operation in running {
        if matches!(&operation.work, Work::Unban { terminal, .. } if *terminal == banned) {
            let why = "the terminal was banned again meanwhile";
            finish(tx, operation.id, OperationState::Refused, why, at)?;
        }
    }
    Ok(())
}

pub(super) fn is_running(conn: &Conn, id: OperationId) -> Result<bool> {
    let found = find_operation(conn, id)?;
    Ok(found.is_some_and(|it| it.state == OperationState::Running))
}

fn find_operation(conn: &Conn, id: OperationId) -> Result<Option<Operation>> {
    find(
        conn,
        "SELECT * FROM operations WHERE id = ?1",
        [id.0.as_bytes()],
        read_operation,
    )
}

fn read_operation(row: &Row<'_>) -> Result<Operation> {
    let (work, state): (String, String) = (get(row, "work")?, get(row, "state")?);
    let total: Option<i64> = get(row, "total")?;
    let after: Option<u32> = get(row, "after_id")?;
    let ended: Option<i64> = get(row, "ended_at_ms")?;
    let id = OperationId(uuid(row, "id")?);
    let states = [
        OperationState::Running,
        OperationState::Done,
        OperationState::Refused,
    ];
    Ok(Operation {
        id,
        verb: get(row, "verb")?,
        work: serde_json::from_str(&work)
            .map_err(|error| corrupt(format!("the work of operation {id}: {error}")))?,
        asked_by: get(row, "asked_by")?,
        consent: get(row, "consent")?,
        state: states
            .into_iter()
            .find(|known| known.name() == state)
            .ok_or_else(|| corrupt(format!("an operation is {state}")))?,
        outcome: get(row, "outcome")?,
        total: total.map(|_| count(row, "total")).transpose()?,
        done: count(row, "done")?,
        after: after
            .map(|_| super::row::terminal(row, "after_id"))
            .transpose()?,
        started_at: time(row, "started_at_ms")?,
        ended_at: ended.map(|_| time(row, "ended_at_ms")).transpose()?,
    })
}

//! How does every fact get its audit row, in the transaction of the fact?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::audit::{AuditRow, GENESIS, Head};
use protocol::time::Timestamp;
use serde_json::Value;

use super::SqlStore;
use super::control::Touches;
use super::fence::remember;
use super::persons::random;
use super::row::{all, count, find, get, one, signed, time};
use super::subjects::only;
use super::writer::Tx;
use crate::journal::hex;
use crate::journal::{Fact, Journal};
use crate::store::{
    AuditLog, OPERATION_ROWS_MAX, OperationId, Result, StoredCheckpoint, StoredRow,
};

/// The end of this node's chain, as the writer knows it.
pub(in crate::store) struct Chain {
    node: String,
    /// Sequence and hash of the last row; none: look it up.
    head: Option<(u64, [u8; 32])>,
}

impl Chain {
    pub(in crate::store) fn of(node: String) -> Self {
        Self { node, head: None }
    }

    /// After a rollback the database alone knows the end.
    pub(super) fn forget(&mut self) {
        self.head = None;
    }

    /// After a job that was undone the end is what it was before.
    pub(super) fn goes_back(&mut self, before: Option<(u64, [u8; 32])>) {
        self.head = before;
    }

    /// The end that is known here; none: the database knows it.
    pub(super) fn known(&self) -> Option<(u64, [u8; 32])> {
        self.head
    }

    pub(super) fn name(&self) -> &str {
        &self.node
    }

    /// Whether the database holds this row of the chain.
    pub(super) fn reaches(&self, conn: &Conn, (sequence, hash): (u64, [u8; 32])) -> Result<bool> {
        let found = find(
            conn,
            "SELECT hash FROM audit_rows WHERE node = ?1 AND sequence = ?2",
            params![self.node, signed(sequence)],
            |row| get::<[u8; 32]>(row, "hash"),
        )?;
        Ok(found == Some(hash))
    }

    fn head(&mut self, conn: &Conn) -> Result<(u64, [u8; 32])> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let stored = find(
            conn,
            "SELECT sequence, hash FROM audit_rows WHERE node = ?1
             ORDER BY sequence DESC LIMIT 1",
            [&self.node],
            |row| Ok((count(row, "sequence")?, get(row, "hash")?)),
        )?;
        Ok(stored.unwrap_or((0, GENESIS)))
    }
}

impl Tx<'_> {
    /// Appends the audit row of what this transaction does. It says `by` whom it was asked for, if an
    /// operator did.
    pub(super) fn record(&mut self, kind: &str, at: Timestamp, body: &Value) -> Result<()> {
        let Some(by) = &self.by else {
            return self.record_text(kind, at, text_of(body));
        };
        let mut body = body.clone();
        if let Some(members) = body.as_object_mut() {
            let said = members.entry("by").or_insert(Value::Null);
            if said.is_null() {
                *said = by.as_str().into();
            }
        }
        self.record_text(kind, at, text_of(&body))
    }

    /// The same, kept for the transcript of an operation as long as it is not too long.
    pub(super) fn record_for(
        &mut self,
        operation: OperationId,
        kind: &str,
        at: Timestamp,
        body: &Value,
    ) -> Result<()> {
        self.record(kind, at, body)?;
        let (sequence, _) = self.chain.head(self.conn)?;
        self.execute(
            "INSERT INTO operation_rows (operation, node, sequence) SELECT ?1, ?2, ?3
             WHERE (SELECT count(*) FROM (SELECT 1 FROM operation_rows WHERE operation = ?1
                                          LIMIT ?4) rows) < ?4 OR ?5 = 1",
            params![
                operation.0.as_bytes(),
                self.chain.node,
                signed(sequence),
                OPERATION_ROWS_MAX,
                // How it ended is part of every transcript.
                kind == "operation.ended"
            ],
        )?;
        Ok(())
    }

    fn record_text(&mut self, kind: &str, at: Timestamp, body: String) -> Result<()> {
        let (sequence, previous) = self.chain.head(self.conn)?;
        let row = AuditRow {
            node: self.chain.node.clone(),
            sequence: sequence + 1,
            previous,
            at,
            kind: kind.into(),
            body,
        };
        let hash = row.hash();
        self.chain.head = Some((row.sequence, hash));
        let is_much = self.together.borrow_mut().add_row(row, hash);
        if is_much {
            self.catch_up()?;
        }
        Ok(())
    }
}

/// The bytes that `Display` writes, of which the row's hash is made, without a formatter in between.
fn text_of(body: &Value) -> String {
    serde_json::to_string(body).expect("a JSON value is written as JSON")
}

#[async_trait]
impl AuditLog for SqlStore {
    async fn audit_heads(&self) -> Result<Vec<Head>> {
        self.read(heads).await
    }

    async fn audit_rows(&self, node: &str, after: u64, limit: u32) -> Result<Vec<StoredRow>> {
        let node = node.to_owned();
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM audit_rows WHERE node = ?1 AND sequence > ?2
                 ORDER BY sequence LIMIT ?3",
                params![node, signed(after), limit],
                read_row,
            )
        })
        .await
    }

    async fn add_checkpoint(&self, checkpoint: StoredCheckpoint, heads: Vec<Head>) -> Result<()> {
        self.write_on(only("checkpoint", &[]), move |tx| {
            let heads = heads.clone();
            tx.tell(checkpoint.at, Fact::Checkpoint { heads });
            // The line before this checkpoint's own, which is written after the commit.
            let last = tx.journal().map(Journal::last).filter(|last| last.n > 0);
            if let Some(last) = last {
                remember(tx, &last)?;
            }
            tx.execute_one(
                "INSERT INTO checkpoints (number, at_ms, jws)
                 VALUES ((SELECT coalesce(max(number), 0) + 1 FROM checkpoints), ?1, ?2)",
                params![checkpoint.at.ms(), checkpoint.jws],
            )?;
            Ok(())
        })
        .await
    }

    async fn checkpoints(&self, skip: u64, limit: u32) -> Result<Vec<StoredCheckpoint>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT at_ms, jws FROM checkpoints WHERE number > ?1 ORDER BY number LIMIT ?2",
                params![signed(skip), limit],
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

    async fn note(&self, kind: &str, body: String, at: Timestamp) -> Result<()> {
        let kind = kind.to_owned();
        self.write_on(Touches::These(Vec::new()), move |tx| {
            Ok(tx.record_text(&kind, at, body.clone())?)
        })
        .await
    }

    async fn probe(&self) -> Result<()> {
        let value: [u8; 16] = random()?;
        self.write_on(only("probe", &[]), move |tx| {
            tx.execute_one(
                "INSERT INTO probe (only_row, value) VALUES (1, ?1)
                 ON CONFLICT (only_row) DO UPDATE SET value = excluded.value",
                [value],
            )?;
            Ok(())
        })
        .await?;
        // Another probe may have come in between: that one was written, too.
        self.read(|conn| {
            one(conn, "SELECT value FROM probe", params![], |row| {
                get(row, "value")
            })
        })
        .await
        .map(|_: [u8; 16]| ())
    }
}

/// One seek per node, because a checkpoint asks every second.
fn heads(conn: &Conn) -> Result<Vec<Head>> {
    all(
        conn,
        "WITH RECURSIVE nodes (node) AS (
             SELECT min(node) FROM audit_rows
             UNION ALL
             SELECT (SELECT min(node) FROM audit_rows WHERE node > nodes.node)
             FROM nodes WHERE node IS NOT NULL
         )
         SELECT r.node, r.sequence, r.hash FROM nodes
         JOIN audit_rows r ON r.node = nodes.node AND r.sequence =
             (SELECT max(sequence) FROM audit_rows WHERE node = nodes.node)",
        params![],
        |row| {
            let stored = get::<[u8; 32]>(row, "hash")?;
            Ok(Head {
                node: get(row, "node")?,
                sequence: count(row, "sequence")?,
                hash: hex(&stored),
            })
        },
    )
}

pub(super) fn read_row(row: &Row<'_>) -> Result<StoredRow> {
    Ok(StoredRow {
        row: AuditRow {
            node: get(row, "node")?,
            sequence: count(row, "sequence")?,
            previous: get(row, "previous")?,
            at: time(row, "at_ms")?,
            kind: get(row, "kind")?,
            body: get(row, "body")?,
        },
        hash: get(row, "hash")?,
    })
}

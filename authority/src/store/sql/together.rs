//! What do all jobs of a batch write together?
//!
//! Their audit rows, and that terminals have something new to be told. No job reads either, but for a raise of the
//! fence, which says so ([`Tx::catch_up`]); so both wait for the end of the batch and are a few statements there,
//! where each job had two or three of its own.

use std::sync::LazyLock;

use protocol::audit::AuditRow;
use protocol::ids::TerminalId;

use super::conn::{Bind, Conn};
use super::row::{listed, signed};
use super::writer::Tx;
use crate::store::Result;

/// Audit rows of one statement, largest first: any number is a sum of these, and these are all texts there are.
const ROWS_AT_ONCE: [usize; 6] = [32, 16, 8, 4, 2, 1];
/// Terminals of one statement: the smallest that has room for those that are left.
const TERMINALS_AT_ONCE: [usize; 4] = [1, 4, 16, 64];
/// Rows that wait; with one more, all are written. A job that changes a whole fleet has one for each terminal.
const WAITING_MAX: usize = 1_024;

/// What waits until the jobs of a batch have run.
#[derive(Default)]
pub(super) struct Together {
    rows: Vec<(AuditRow, [u8; 32])>,
    terminals: Vec<TerminalId>,
}

/// How much waited before a job.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    rows: usize,
    terminals: usize,
}

impl Together {
    /// True if so much waits that it is to be written now.
    pub(super) fn add_row(&mut self, row: AuditRow, hash: [u8; 32]) -> bool {
        self.rows.push((row, hash));
        self.rows.len() > WAITING_MAX
    }

    pub(super) fn add_terminal(&mut self, terminal: TerminalId) {
        self.terminals.push(terminal);
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            rows: self.rows.len(),
            terminals: self.terminals.len(),
        }
    }

    /// What came since then was of a job that is undone.
    pub(super) fn goes_back(&mut self, before: Waiting) {
        self.rows.truncate(before.rows);
        self.terminals.truncate(before.terminals);
    }

    /// Writes what waits; nothing does afterwards.
    pub(super) fn write(&mut self, conn: &Conn) -> Result<()> {
        self.write_rows(conn)?;
        self.write_terminals(conn)
    }

    fn write_rows(&mut self, conn: &Conn) -> Result<()> {
        let mut left = &self.rows[..];
        for (count, sql) in INSERTING.iter() {
            while let Some((some, others)) = left.split_at_checked(*count) {
                insert(conn, sql, some)?;
                left = others;
            }
        }
        self.rows.clear();
        Ok(())
    }

    /// One more for each terminal, however many jobs there have something to tell it.
    fn write_terminals(&mut self, conn: &Conn) -> Result<()> {
        self.terminals.sort_unstable();
        self.terminals.dedup();
        let [.., most] = TERMINALS_AT_ONCE;
        for some in self.terminals.chunks(most) {
            raise(conn, some)?;
        }
        self.terminals.clear();
        Ok(())
    }
}

impl Tx<'_> {
    /// Writes what waits: before it is read in the same transaction.
    pub(super) fn catch_up(&self) -> Result<()> {
        self.together.borrow_mut().write(self.conn)
    }
}

/// The statement for each number of rows.
static INSERTING: LazyLock<[(usize, String); 6]> =
    LazyLock::new(|| ROWS_AT_ONCE.map(|count| (count, inserting(count))));
/// The statement for each number of terminals.
static RAISING: LazyLock<[(usize, String); 4]> =
    LazyLock::new(|| TERMINALS_AT_ONCE.map(|count| (count, raising(count))));

fn insert(conn: &Conn, sql: &str, rows: &[(AuditRow, [u8; 32])]) -> Result<()> {
    let numbers: Vec<(i64, i64)> = rows
        .iter()
        .map(|(row, _)| (signed(row.sequence), row.at.ms()))
        .collect();
    let mut values: Vec<&dyn Bind> = Vec::with_capacity(rows.len() * 7);
    for ((row, hash), (sequence, at_ms)) in rows.iter().zip(&numbers) {
        values.extend([
            &row.node as &dyn Bind,
            sequence,
            &row.previous,
            at_ms,
            &row.kind,
            &row.body,
            hash,
        ]);
    }
    conn.execute_exactly(rows.len(), sql, &values[..])
}

fn inserting(count: usize) -> String {
    let rows: Vec<String> = (0..count)
        .map(|row| listed(7 * row + 1..=7 * row + 7))
        .collect();
    format!(
        "INSERT INTO audit_rows (node, sequence, previous, at_ms, kind, body, hash) VALUES {}",
        rows.join(", ")
    )
}

/// It is the same statement for many numbers of them: what is lacking is the first one again.
fn raise(conn: &Conn, terminals: &[TerminalId]) -> Result<()> {
    let Some(first) = terminals.first() else {
        return Ok(());
    };
    let [.., most] = &*RAISING;
    let (count, sql) = RAISING
        .iter()
        .find(|(count, _)| *count >= terminals.len())
        .unwrap_or(most);
    let all = terminals.iter().chain(std::iter::repeat(first));
    let all: Vec<u32> = all.take(*count).map(|it| it.value()).collect();
    let values: Vec<&dyn Bind> = all.iter().map(|it| it as &dyn Bind).collect();
    conn.execute_exactly(terminals.len(), sql, &values[..])
}

fn raising(count: usize) -> String {
    format!(
        "UPDATE terminals SET revision = revision + 1 WHERE id IN {}",
        listed(1..=count)
    )
}

#[cfg(test)]
mod tests;

//! Where is what the terminals saw, each event once?

use crate::store::sql::conn::params;
use async_trait::async_trait;
use protocol::ids::{EventId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::reports::TerminalEvent;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::SqlStore;
use super::retention::report_fence;
use super::row::{all, find, get, terminal as terminal_of};
use super::subjects;
use super::tags::follow_report;
use super::taps;
use super::wear::take_wear;
use super::writer::{Tx, Verdict};
use crate::journal::hex;
use crate::store::sqlite::error::corrupt;
use crate::store::{Reports, Result};

#[async_trait]
impl Reports for SqlStore {
    async fn add_reports(
        &self,
        terminal: TerminalId,
        events: Vec<TerminalEvent>,
        at: Timestamp,
    ) -> Result<Vec<EventId>> {
        self.write_on(subjects::at(terminal), move |tx| {
            add(tx, terminal, &events, at)
        })
        .await
    }

    async fn reports(&self, terminal: TerminalId, limit: u32) -> Result<Vec<TerminalEvent>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT event FROM reports WHERE terminal = ?1
                 ORDER BY at_ms DESC, id DESC LIMIT ?2",
                params![terminal.value(), limit],
                |row| read_event(&get::<String>(row, "event")?),
            )
        })
        .await
    }
}

fn add(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    events: &[TerminalEvent],
    at: Timestamp,
) -> Verdict<Vec<EventId>> {
    let mut safe = Vec::with_capacity(events.len());
    let (mut stored, mut too_old, mut digest) = (0_u32, 0_u32, Sha256::new());
    let fence = report_fence(tx.conn)?;
    for event in events {
        if event.at < fence {
            // It was kept as long as it is worth keeping, or comes too late for anything: the terminal may forget it.
            safe.push(event.id);
            too_old += 1;
            continue;
        }
        let text = serde_json::to_string(event).map_err(|error| corrupt(error.to_string()))?;
        if insert(tx, terminal, event, &text)? {
            digest.update((text.len() as u32).to_be_bytes());
            digest.update(text.as_bytes());
            taps::take(tx, terminal, event, at)?;
            stored += 1;
            safe.push(event.id);
            follow_report(tx, terminal, &event.what, at)?;
            take_wear(tx, terminal, event, at)?;
        } else if is_theirs(tx, terminal, event.id)? {
            safe.push(event.id);
        }
    }
    if stored > 0 {
        let body = json!({
            "terminal": terminal,
            "events": stored,
            "sha256": hex(&digest.finalize()),
        });
        tx.record("reports.stored", at, &body)?;
    }
    if too_old > 0 {
        // A terminal whose clock is wrong says so, too: what it saw is lost, and that it was is not.
        let body = json!({ "terminal": terminal, "events": too_old });
        tx.record("reports.too-old", at, &body)?;
    }
    Ok(safe)
}

/// False if the id is taken.
fn insert(tx: &Tx<'_>, terminal: TerminalId, event: &TerminalEvent, text: &str) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO reports (id, terminal, at_ms, event) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
        params![event.id.0.as_bytes(), terminal.value(), event.at.ms(), text],
    )?;
    Ok(added == 1)
}

fn is_theirs(tx: &Tx<'_>, terminal: TerminalId, id: EventId) -> Result<bool> {
    let owner = find(
        tx.conn,
        "SELECT terminal FROM reports WHERE id = ?1",
        [id.0.as_bytes()],
        |row| terminal_of(row, "terminal"),
    )?;
    Ok(owner == Some(terminal))
}

fn read_event(text: &str) -> Result<TerminalEvent> {
    serde_json::from_str(text).map_err(|error| corrupt(format!("a stored event: {error}")))
}

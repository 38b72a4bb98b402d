//! Where is what the till asks for, and what is overdue?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::charge::ChargeKind;
use protocol::ids::{ChargeId, ClaimId};
use protocol::time::Timestamp;
use protocol::token::WindowId;
use protocol::wire::push::EndReason;
use serde_json::json;

use super::SqlStore;
use super::merchants::find_merchant;
use super::row::{all, get, terminal, uuid};
use super::settle::{end, find_charge, kind_text, till_charge};
use super::subjects::at;
use super::terminals::active_terminal;
use super::turns::{move_all, raise_revision};
use super::writer::{Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    ChargeRecord, ChargeStatus, Charges, Due, Merchant, NewCharge, Result, StartCharge,
};

#[async_trait]
impl Charges for SqlStore {
    async fn start_charge(&self, charge: NewCharge) -> Result<StartCharge> {
        self.write_on(at(charge.terminal), move |tx| start(tx, &charge))
            .await
    }

    async fn charge(&self, id: ChargeId) -> Result<Option<ChargeRecord>> {
        self.read(move |conn| find_charge(conn, id)).await
    }

    async fn end_charge(
        &self,
        id: ChargeId,
        reason: EndReason,
        moved: Vec<WindowId>,
        at: Timestamp,
    ) -> Result<Option<ChargeRecord>> {
        let touches = self.at_charge(id).await?;
        self.write_on(touches, move |tx| end_charge(tx, id, reason, &moved, at))
            .await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>> {
        self.read(move |conn| due(conn, now, limit)).await
    }
}

fn start(tx: &mut Tx<'_>, charge: &NewCharge) -> Verdict<StartCharge> {
    let Some(terminal) = active_terminal(tx.conn, charge.terminal)? else {
        return Ok(StartCharge::TerminalRefused);
    };
    if let Some(known) = find_charge(tx.conn, charge.id)? {
        return Ok(if is_same(&known, charge) {
            StartCharge::Already(known)
        } else {
            StartCharge::Differs
        });
    }
    let merchant = find_merchant(tx.conn, terminal.merchant)?
        .ok_or_else(|| corrupt("a terminal without its merchant"))?;
    if charge.amount.currency() != merchant.currency {
        return Ok(StartCharge::Currency);
    }
    if let Some(other) = clear_the_way(tx, charge)? {
        return Ok(StartCharge::OtherOpen(other));
    }
    insert(tx, charge, &merchant)?;
    move_all(tx, charge.terminal, &charge.moved)?;
    raise_revision(tx, charge.terminal);
    let record = find_charge(tx.conn, charge.id)?.ok_or_else(|| corrupt("a charge vanished"))?;
    Ok(StartCharge::Started(record))
}

fn is_same(known: &ChargeRecord, charge: &NewCharge) -> bool {
    known.kind == ChargeKind::Till
        && known.terminal == charge.terminal
        && known.amount == Some(charge.amount)
        && known.reference == charge.reference
}

/// The till's charge that is in the way. One whose time is over is ended here, so that the till need
/// not wait for whoever ends such charges.
fn clear_the_way(tx: &mut Tx<'_>, charge: &NewCharge) -> Result<Option<ChargeId>> {
    let Some(last) = till_charge(tx.conn, charge.terminal)? else {
        return Ok(None);
    };
    match last.status {
        ChargeStatus::Offered if last.until <= charge.at => {
            end(tx, &last, EndReason::Expired, charge.at)?;
            Ok(None)
        }
        ChargeStatus::Offered | ChargeStatus::Held(_) => Ok(Some(last.id)),
        ChargeStatus::Paid(_) | ChargeStatus::Ended(_) => Ok(None),
    }
}

fn insert(tx: &mut Tx<'_>, charge: &NewCharge, merchant: &Merchant) -> Result<()> {
    tx.execute_one(
        "INSERT INTO charges (id, terminal, merchant, kind, currency, asked_minor, reference,
                              state, until_ms, releases, started_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'offered', ?8, 0, ?9)",
        params![
            charge.id.0.as_bytes(),
            charge.terminal.value(),
            merchant.id.0.as_bytes(),
            kind_text(ChargeKind::Till),
            merchant.currency.code(),
            charge.amount.amount_minor(),
            charge.reference,
            charge.until.ms(),
            charge.at.ms()
        ],
    )?;
    tx.execute_one(
        "UPDATE terminals SET till_charge = ?2 WHERE id = ?1",
        params![charge.terminal.value(), charge.id.0.as_bytes()],
    )?;
    let body = json!({
        "charge": charge.id,
        "terminal": charge.terminal,
        "merchant": merchant.id,
        "amount": charge.amount,
    });
    tx.record("charge.started", charge.at, &body)
}

fn end_charge(
    tx: &mut Tx<'_>,
    id: ChargeId,
    reason: EndReason,
    moved: &[WindowId],
    at: Timestamp,
) -> Verdict<Option<ChargeRecord>> {
    let Some(charge) = find_charge(tx.conn, id)? else {
        return Ok(None);
    };
    if matches!(
        charge.status,
        ChargeStatus::Paid(_) | ChargeStatus::Ended(_)
    ) {
        return Ok(Some(charge));
    }
    if !end(tx, &charge, reason, at)? {
        return Ok(Some(charge));
    }
    move_all(tx, charge.terminal, moved)?;
    raise_revision(tx, charge.terminal);
    Ok(find_charge(tx.conn, id)?)
}

fn due(conn: &Conn, now: Timestamp, limit: u32) -> Result<Vec<Due>> {
    all(
        conn,
        "SELECT * FROM (
             SELECT claims.id AS id, charges.terminal AS terminal, held_until_ms AS over, 1 AS held
             FROM claims JOIN charges ON charges.id = claims.charge
             WHERE claims.state = 'held' AND held_until_ms <= ?1
             ORDER BY held_until_ms LIMIT ?2) claimed
         UNION ALL
         SELECT * FROM (
             SELECT id, terminal, until_ms AS over, 0 AS held FROM charges
             WHERE state = 'offered' AND until_ms <= ?1
             ORDER BY until_ms LIMIT ?2) offered
         ORDER BY over, id LIMIT ?2",
        params![now.ms(), limit],
        read_due,
    )
}

fn read_due(row: &Row<'_>) -> Result<Due> {
    let (id, terminal) = (uuid(row, "id")?, terminal(row, "terminal")?);
    Ok(if get(row, "held")? {
        Due::Claim(ClaimId(id), terminal)
    } else {
        Due::Charge(ChargeId(id), terminal)
    })
}

//! How do a charge and its claim look in the tables, and how do they come to rest?

use std::sync::LazyLock;

use crate::store::sql::conn::{Conn, Row, params};
use protocol::charge::{ChargeKind, Claimed, Mark};
use protocol::ids::{AccountId, ChargeId, ClaimId, MerchantId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::claims::ClaimState;
use protocol::wire::push::EndReason;
use serde_json::json;
use uuid::Uuid;

use super::intents::turn_back_for;
use super::row::{
    currency, find, get, money, terminal, time, time_or_none, token, uuid, uuid_or_none,
};
use super::writer::Tx;
use crate::store::sqlite::error::corrupt;
use crate::store::{ChargeRecord, ChargeStatus, ClaimRecord, Result};

/// What [`read_charge`] reads, in its order.
const CHARGE: &str = "charges.currency, charges.asked_minor, charges.paid_minor, charges.id,
    charges.terminal, charges.kind, charges.reference, charges.state, charges.claim,
    charges.end_reason, charges.until_ms, charges.releases";

pub(super) fn find_charge(conn: &Conn, id: ChargeId) -> Result<Option<ChargeRecord>> {
    static STATEMENT: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {CHARGE} FROM charges WHERE charges.id = ?1"));
    find(conn, &STATEMENT, [id.0.as_bytes()], read_charge)
}

/// The charge that the terminal's till started last, whatever became of it.
pub(super) fn till_charge(conn: &Conn, terminal: TerminalId) -> Result<Option<ChargeRecord>> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {CHARGE} FROM terminals JOIN charges ON charges.id = terminals.till_charge
             WHERE terminals.id = ?1"
        )
    });
    find(conn, &STATEMENT, [terminal.value()], read_charge)
}

/// A claim and what only the store knows of it.
pub(super) struct StoredClaim {
    pub(super) record: ClaimRecord,
    /// The row of the person who claimed, when that was known.
    pub(super) person: Option<Uuid>,
    /// Where the ledger puts the payee's money.
    pub(super) payee_account: AccountId,
    /// Its terminal is banned.
    pub(super) banned: bool,
}

impl StoredClaim {
    pub(super) fn is_paid(&self) -> bool {
        self.record.state == ClaimState::Paid
    }
}

pub(super) fn find_claim(conn: &Conn, id: ClaimId) -> Result<Option<StoredClaim>> {
    find(
        conn,
        "SELECT claims.state, charges.currency, claims.id,
                claims.channel, charges.terminal, claims.version, claims.epoch, claims.\"window\",
                claims.turn, charges.merchant, charges.id AS charge, charges.kind,
                charges.asked_minor, charges.cap_minor, charges.reference, claims.mark,
                claims.claimed_at_ms, claims.held_until_ms, merchants.name AS payee_name,
                claims.phone, claims.person, merchants.account AS payee_account,
                terminals.banned_at_ms
         FROM claims
         JOIN charges ON charges.id = claims.charge
         JOIN merchants ON merchants.id = charges.merchant
         JOIN terminals ON terminals.id = charges.terminal
         WHERE claims.id = ?1",
        [id.0.as_bytes()],
        read_claim,
    )
}

/// Ends a charge that is offered or held; who holds it is released with it. False, and nothing changed,
/// if its money is just being taken.
pub(super) fn end(
    tx: &mut Tx<'_>,
    charge: &ChargeRecord,
    reason: EndReason,
    at: Timestamp,
) -> Result<bool> {
    if let ChargeStatus::Held(claim) = charge.status {
        if !turn_back_for(tx, claim, at)? {
            return Ok(false);
        }
        release(tx, claim, at)?;
    }
    tx.execute_one(
        "UPDATE charges SET state = 'ended', claim = NULL, end_reason = ?2
         WHERE id = ?1 AND state IN ('offered', 'held')",
        params![charge.id.0.as_bytes(), reason_text(reason)],
    )?;
    let body = json!({
        "charge": charge.id,
        "terminal": charge.terminal,
        "reason": reason,
    });
    tx.record("charge.ended", at, &body)?;
    Ok(true)
}

/// A held claim holds no more; its charge is the caller's to settle.
pub(super) fn release(tx: &mut Tx<'_>, claim: ClaimId, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE claims SET state = 'released' WHERE id = ?1 AND state = 'held'",
        [claim.0.as_bytes()],
    )?;
    tx.record("claim.released", at, &json!({ "claim": claim }))
}

pub(super) fn kind_text(kind: ChargeKind) -> &'static str {
    match kind {
        ChargeKind::Till => "till",
        ChargeKind::Fixed => "fixed",
        ChargeKind::Open => "open",
    }
}

fn reason_text(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Cancelled => "cancelled",
        EndReason::Released => "released",
        EndReason::Expired => "expired",
    }
}

fn read_charge(row: &Row<'_>) -> Result<ChargeRecord> {
    let currency = currency(row, "currency")?;
    let asked = money(row, "asked_minor", currency)?;
    let paid = money(row, "paid_minor", currency)?;
    Ok(ChargeRecord {
        id: ChargeId(uuid(row, "id")?),
        terminal: terminal(row, "terminal")?,
        kind: read_kind(row)?,
        amount: asked.or(paid),
        reference: get(row, "reference")?,
        status: read_status(row)?,
        until: time(row, "until_ms")?,
        releases: get(row, "releases")?,
    })
}

fn read_status(row: &Row<'_>) -> Result<ChargeStatus> {
    let state: String = get(row, "state")?;
    let claim = uuid_or_none(row, "claim")?.map(ClaimId);
    match (state.as_str(), claim) {
        ("offered", None) => Ok(ChargeStatus::Offered),
        ("held", Some(claim)) => Ok(ChargeStatus::Held(claim)),
        ("paid", Some(claim)) => Ok(ChargeStatus::Paid(claim)),
        ("ended", None) => Ok(ChargeStatus::Ended(read_reason(row)?)),
        _ => Err(corrupt(format!("a charge that is {state}"))),
    }
}

fn read_reason(row: &Row<'_>) -> Result<EndReason> {
    match get::<String>(row, "end_reason")?.as_str() {
        "cancelled" => Ok(EndReason::Cancelled),
        "released" => Ok(EndReason::Released),
        "expired" => Ok(EndReason::Expired),
        other => Err(corrupt(format!("a charge ended because {other}"))),
    }
}

fn read_kind(row: &Row<'_>) -> Result<ChargeKind> {
    match get::<String>(row, "kind")?.as_str() {
        "till" => Ok(ChargeKind::Till),
        "fixed" => Ok(ChargeKind::Fixed),
        "open" => Ok(ChargeKind::Open),
        other => Err(corrupt(format!("a charge of kind {other}"))),
    }
}

fn read_claim(row: &Row<'_>) -> Result<StoredClaim> {
    let (state, paying) = read_claim_state(row)?;
    let record = ClaimRecord {
        claimed: read_claimed(row)?,
        payee_name: get(row, "payee_name")?,
        state,
        paying,
        phone: get(row, "phone")?,
    };
    Ok(StoredClaim {
        record,
        person: uuid_or_none(row, "person")?,
        payee_account: AccountId(uuid(row, "payee_account")?),
        banned: time_or_none(row, "banned_at_ms")?.is_some(),
    })
}

fn read_claimed(row: &Row<'_>) -> Result<Claimed> {
    let currency = currency(row, "currency")?;
    let (claim, token) = (ClaimId(uuid(row, "id")?), token(row)?);
    Ok(Claimed {
        claim,
        token,
        terminal: token.window.terminal,
        payee: MerchantId(uuid(row, "merchant")?),
        charge: ChargeId(uuid(row, "charge")?),
        kind: read_kind(row)?,
        asked: money(row, "asked_minor", currency)?,
        cap: money(row, "cap_minor", currency)?,
        reference: get(row, "reference")?,
        mark: read_mark(row)?,
        claimed_at: time(row, "claimed_at_ms")?,
        held_until: time(row, "held_until_ms")?,
    })
}

fn read_mark(row: &Row<'_>) -> Result<Mark> {
    Mark::try_from(get::<u8>(row, "mark")?).map_err(corrupt)
}

/// Whether an open intent works on it is nothing that phones are told as a state of its own.
fn read_claim_state(row: &Row<'_>) -> Result<(ClaimState, bool)> {
    match get::<String>(row, "state")?.as_str() {
        "held" => Ok((ClaimState::Held, false)),
        "paying" => Ok((ClaimState::Held, true)),
        "released" => Ok((ClaimState::Released, false)),
        "paid" => Ok((ClaimState::Paid, false)),
        other => Err(corrupt(format!("a claim that is {other}"))),
    }
}

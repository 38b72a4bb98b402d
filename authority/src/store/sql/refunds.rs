//! How is money given back once, and never more than was paid?
//!
//! Two guarded updates decide, each of one row: `payments.refunded_minor` never passes the amount, and
//! the merchant's day never passes its cap. What is asked counts already; what a rail declines, no more.

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::{AccountId, ChargeId, MerchantId, PaymentId, ReceiptId, RefundId};
use protocol::money::Money;
use protocol::time::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::SqlStore;
use super::bookings::Booked;
use super::ledger::{Movement, give_back};
use super::merchants::find_merchant;
use super::payments::{find_payment, payment_of};
use super::row::{all, find, get, one, terminal, time, uuid};
use super::settle::find_charge;
use super::terminals::active_terminal;
use super::terms::find_terms;
use super::writer::{Stop, Tx, Verdict};
use crate::journal::hex;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    ChargeStatus, LEDGER, NewRefund, Payment, Refund, RefundAsker, RefundOutcome, RefundState,
    RefundStep, Refunds, Result,
};

#[async_trait]
impl Refunds for SqlStore {
    async fn refund(&self, refund: NewRefund) -> Result<RefundOutcome> {
        self.write(move |tx| refund_now(tx, &refund)).await
    }

    async fn refund_of(&self, id: RefundId) -> Result<Option<Refund>> {
        self.read(move |conn| find_refund(conn, id)).await
    }

    async fn step_refund(
        &self,
        id: RefundId,
        step: RefundStep,
        at: Timestamp,
    ) -> Result<Option<Refund>> {
        self.write(move |tx| take_step(tx, id, &step, at)).await
    }

    async fn refunds_due(&self, rail: String, now: Timestamp, limit: u32) -> Result<Vec<Refund>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT refunds.*, NULL AS jws FROM refunds
                 JOIN payments ON payments.id = refunds.payment
                 WHERE refunds.state = 'asked' AND refunds.next_at_ms <= ?2 AND payments.rail = ?1
                 ORDER BY refunds.next_at_ms, refunds.id LIMIT ?3",
                params![rail, now.ms(), limit],
                |row| read_refund(conn, row),
            )
        })
        .await
    }

    async fn rails_that_owe_refunds(&self) -> Result<Vec<String>> {
        self.read(|conn| {
            all(
                conn,
                "SELECT DISTINCT payments.rail FROM refunds
                 JOIN payments ON payments.id = refunds.payment
                 WHERE refunds.state = 'asked' ORDER BY payments.rail",
                params![],
                |row| get(row, "rail"),
            )
        })
        .await
    }

    async fn refunds_of_charge(&self, charge: ChargeId) -> Result<Vec<Refund>> {
        self.read(move |conn| of_charge(conn, charge)).await
    }

    async fn store_refund_receipt(
        &self,
        refund: RefundId,
        jws: String,
        at: Timestamp,
    ) -> Result<String> {
        self.write(move |tx| store_receipt(tx, refund, &jws, at))
            .await
    }

    async fn refund_receipts_due(&self, limit: u32) -> Result<Vec<Refund>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT refunds.*, NULL AS jws FROM refund_receipts_due
                 JOIN refunds ON refunds.id = refund_receipts_due.refund
                 ORDER BY refund_receipts_due.ended_at_ms, refund_receipts_due.refund LIMIT ?1",
                [limit],
                |row| read_refund(conn, row),
            )
        })
        .await
    }
}

/// A step of a refund: it goes on, or it is refused and nothing moved.
type Step<T> = std::result::Result<T, Stop<RefundOutcome>>;

fn refused<T>(outcome: RefundOutcome) -> Step<T> {
    Err(Stop::Refused(outcome))
}

fn refund_now(tx: &mut Tx<'_>, refund: &NewRefund) -> Verdict<RefundOutcome> {
    let asked_for = merchant_of_asker(tx.conn, &refund.asker)?;
    if let Some(known) = find_refund(tx.conn, refund.id)? {
        return Ok(if is_same(&known, refund, asked_for) {
            RefundOutcome::Already(Box::new(known))
        } else {
            RefundOutcome::Differs
        });
    }
    let payment = payment_to_refund(tx.conn, refund, asked_for)?;
    take_from_payment(tx, refund, payment.id)?;
    take_from_day(tx, refund, payment.approved.claimed().payee)?;
    insert(tx, refund, payment.id)?;
    record(tx, refund, &payment)?;
    let asked = find_refund(tx.conn, refund.id)?.ok_or_else(|| corrupt("a refund vanished"))?;
    if payment.rail != LEDGER {
        return Ok(RefundOutcome::Asked(Box::new(asked)));
    }
    let reference = asked.movement.to_string();
    let done = complete(tx, &asked, &reference, refund.at)?;
    Ok(RefundOutcome::Refunded(Box::new(done)))
}

fn take_step(
    tx: &mut Tx<'_>,
    id: RefundId,
    step: &RefundStep,
    at: Timestamp,
) -> Verdict<Option<Refund>> {
    let Some(refund) = find_refund(tx.conn, id)? else {
        return Ok(None);
    };
    if refund.state != RefundState::Asked {
        return Ok(Some(refund));
    }
    match step {
        RefundStep::Refunded { reference } => {
            return Ok(Some(complete(tx, &refund, reference, at)?));
        }
        RefundStep::Declined { reason } => decline(tx, &refund, reason, at)?,
        RefundStep::Unanswered { next_at } => tx.execute_one(
            "UPDATE refunds SET tries = tries + 1, next_at_ms = ?2 WHERE id = ?1",
            params![id.0.as_bytes(), next_at.ms()],
        )?,
    }
    Ok(find_refund(tx.conn, id)?)
}

/// The money has moved, or moves in this transaction: ledger, books, receipt due.
fn complete(tx: &mut Tx<'_>, refund: &Refund, reference: &str, at: Timestamp) -> Result<Refund> {
    tx.execute_one(
        "UPDATE refunds SET state = 'refunded', rail_reference = ?2, ended_at_ms = ?3
         WHERE id = ?1 AND state = 'asked'",
        params![refund.id.0.as_bytes(), reference, at.ms()],
    )?;
    tx.execute_one(
        "INSERT INTO refund_receipts_due (ended_at_ms, refund) VALUES (?1, ?2)",
        params![at.ms(), refund.id.0.as_bytes()],
    )?;
    give_back_in_ledger(tx, refund, reference, at)?;
    let body = json!({
        "refund": refund.id,
        "payment": refund.payment.id,
        "receipt": refund.receipt,
        "amount": refund.amount,
        "rail": refund.payment.rail,
    });
    tx.record("payment.refunded", at, &body)?;
    find_refund(tx.conn, refund.id)?.ok_or_else(|| corrupt("a refund vanished"))
}

/// What it took from the payment and from the day's cap may be asked for again.
fn decline(tx: &mut Tx<'_>, refund: &Refund, reason: &str, at: Timestamp) -> Result<()> {
    let amount_minor = refund.amount.amount_minor();
    tx.execute_one(
        "UPDATE refunds SET state = 'declined', decline_reason = ?2, ended_at_ms = ?3
         WHERE id = ?1 AND state = 'asked'",
        params![refund.id.0.as_bytes(), reason, at.ms()],
    )?;
    tx.execute_one(
        "UPDATE payments SET refunded_minor = refunded_minor - ?2 WHERE id = ?1",
        params![refund.payment.id.0.as_bytes(), amount_minor],
    )?;
    tx.execute_one(
        "UPDATE refund_days SET refunded_minor = refunded_minor - ?3
         WHERE merchant = ?1 AND day = (SELECT day FROM refunds WHERE id = ?2)",
        params![
            refund.payment.approved.claimed().payee.0.as_bytes(),
            refund.id.0.as_bytes(),
            amount_minor
        ],
    )?;
    let body = json!({ "refund": refund.id, "reason": reason });
    tx.record("refund.declined", at, &body)
}

/// Whose payments a terminal may refund; an operator any.
fn merchant_of_asker(conn: &Conn, asker: &RefundAsker) -> Step<Option<MerchantId>> {
    match asker {
        RefundAsker::Operator(_) => Ok(None),
        RefundAsker::Terminal(id) => match active_terminal(conn, *id)? {
            Some(terminal) => Ok(Some(terminal.merchant)),
            None => refused(RefundOutcome::TerminalRefused),
        },
    }
}

fn is_same(known: &Refund, refund: &NewRefund, asked_for: Option<MerchantId>) -> bool {
    let claimed = known.payment.approved.claimed();
    claimed.charge == refund.charge
        && known.amount == refund.amount
        && known.reason == refund.reason
        && asked_for.is_none_or(|merchant| merchant == claimed.payee)
}

fn payment_to_refund(
    conn: &Conn,
    refund: &NewRefund,
    asked_for: Option<MerchantId>,
) -> Step<Payment> {
    let Some(merchant) = merchant_of_charge(conn, refund.charge)? else {
        return refused(RefundOutcome::ChargeUnknown);
    };
    if asked_for.is_some_and(|own| own != merchant) {
        return refused(RefundOutcome::ChargeUnknown);
    }
    let charge = find_charge(conn, refund.charge)?.ok_or_else(|| corrupt("a charge vanished"))?;
    let ChargeStatus::Paid(claim) = charge.status else {
        return refused(RefundOutcome::Unpaid);
    };
    let payment = payment_of(conn, claim)?.ok_or_else(|| corrupt("paid without a payment"))?;
    if payment.approved.amount().currency() != refund.amount.currency() {
        return refused(RefundOutcome::Currency);
    }
    if payment.rail == LEDGER && is_payer_gone(conn, payment.id)? {
        return refused(RefundOutcome::PayerGone);
    }
    Ok(payment)
}

/// No identity opens the profile any more: what came to its account would lie there for ever.
fn is_payer_gone(conn: &Conn, payment: PaymentId) -> Result<bool> {
    one(
        conn,
        "SELECT NOT EXISTS (SELECT 1 FROM payments
             JOIN accounts ON accounts.id = payments.account
             JOIN identities ON identities.person = accounts.person
             WHERE payments.id = ?1) AS gone",
        [payment.0.as_bytes()],
        |row| get(row, "gone"),
    )
}

fn merchant_of_charge(conn: &Conn, charge: ChargeId) -> Result<Option<MerchantId>> {
    find(
        conn,
        "SELECT merchant FROM charges WHERE id = ?1",
        [charge.0.as_bytes()],
        |row| Ok(MerchantId(uuid(row, "merchant")?)),
    )
}

/// Never more than was paid, however many ask at once.
fn take_from_payment(tx: &Tx<'_>, refund: &NewRefund, payment: PaymentId) -> Step<()> {
    let touched = tx.execute(
        "UPDATE payments SET refunded_minor = refunded_minor + ?2
         WHERE id = ?1 AND refunded_minor + ?2 <= amount_minor",
        params![payment.0.as_bytes(), refund.amount.amount_minor()],
    )?;
    if touched == 1 {
        return Ok(());
    }
    let left_minor = one(
        tx.conn,
        "SELECT amount_minor - refunded_minor AS remaining FROM payments WHERE id = ?1",
        [payment.0.as_bytes()],
        |row| get(row, "remaining"),
    )?;
    refused(RefundOutcome::TooMuch { left_minor })
}

/// Never more on one day than the merchant may.
fn take_from_day(tx: &Tx<'_>, refund: &NewRefund, merchant: MerchantId) -> Step<()> {
    let max = find_terms(tx.conn, merchant)?.refund_day_max_minor;
    let max = max.unwrap_or(refund.day_max_minor);
    tx.execute(
        "INSERT INTO refund_days (merchant, day, refunded_minor) VALUES (?1, ?2, 0)
         ON CONFLICT DO NOTHING",
        params![merchant.0.as_bytes(), refund.day],
    )?;
    let amount_minor = refund.amount.amount_minor();
    let touched = tx.execute(
        "UPDATE refund_days SET refunded_minor = refunded_minor + ?3
         WHERE merchant = ?1 AND day = ?2 AND refunded_minor + ?3 <= ?4",
        params![merchant.0.as_bytes(), refund.day, amount_minor, max],
    )?;
    if touched == 1 {
        return Ok(());
    }
    let so_far: i64 = one(
        tx.conn,
        "SELECT refunded_minor FROM refund_days WHERE merchant = ?1 AND day = ?2",
        params![merchant.0.as_bytes(), refund.day],
        |row| get(row, "refunded_minor"),
    )?;
    refused(RefundOutcome::OverCap {
        left_minor: (max - so_far).max(0),
    })
}

fn insert(tx: &Tx<'_>, refund: &NewRefund, payment: PaymentId) -> Result<()> {
    let (terminal, operator) = match &refund.asker {
        RefundAsker::Terminal(id) => (Some(id.value()), None),
        RefundAsker::Operator(name) => (None, Some(name)),
    };
    tx.execute_one(
        "INSERT INTO refunds (id, payment, movement, receipt, amount_minor, reason, terminal,
             operator, day, state, tries, next_at_ms, asked_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'asked', 0, ?10, ?10)",
        params![
            refund.id.0.as_bytes(),
            payment.0.as_bytes(),
            refund.movement.as_bytes(),
            refund.receipt.0.as_bytes(),
            refund.amount.amount_minor(),
            refund.reason,
            terminal,
            operator,
            refund.day,
            refund.at.ms()
        ],
    )
}

/// To what the ledger took it from, and to nothing else: the account that paid, or the clearing account
/// of its rail.
fn give_back_in_ledger(tx: &Tx<'_>, refund: &Refund, reference: &str, at: Timestamp) -> Result<()> {
    let (payment, claimed) = (&refund.payment, refund.payment.approved.claimed());
    let merchant = find_merchant(tx.conn, claimed.payee)?
        .ok_or_else(|| corrupt("a payment without its payee"))?;
    let (account, person) = payer(tx.conn, payment.id)?;
    let amount_minor = refund.amount.amount_minor();
    let movement = Movement {
        id: refund.movement,
        from: merchant.account,
        to: account,
        amount_minor,
    };
    movement.enter(tx)?;
    if payment.rail == LEDGER {
        give_back(tx, account, amount_minor)?;
    }
    let booked = Booked {
        movement: refund.movement,
        payment: payment.id,
        refund: Some(refund.id),
        merchant: merchant.id,
        charge: claimed.charge,
        person,
        terminal: match refund.asker {
            RefundAsker::Terminal(id) => id,
            RefundAsker::Operator(_) => claimed.terminal,
        },
        amount_minor: -amount_minor,
        rail: &payment.rail,
        rail_reference: reference,
        at,
    };
    booked.enter(tx)
}

/// The account that paid, and who.
fn payer(conn: &Conn, payment: PaymentId) -> Result<(AccountId, [u8; 16])> {
    one(
        conn,
        "SELECT payments.account, bookings.person FROM payments
         JOIN bookings ON bookings.movement = payments.id WHERE payments.id = ?1",
        [payment.0.as_bytes()],
        |row| Ok((AccountId(uuid(row, "account")?), get(row, "person")?)),
    )
}

fn record(tx: &mut Tx<'_>, refund: &NewRefund, payment: &Payment) -> Result<()> {
    let mut body = json!({
        "refund": refund.id,
        "payment": payment.id,
        "receipt": refund.receipt,
        "charge": refund.charge,
        "payee": payment.approved.claimed().payee,
        "amount": refund.amount,
    });
    match &refund.asker {
        RefundAsker::Terminal(id) => body["terminal"] = json!(id),
        RefundAsker::Operator(name) => body["operator"] = json!(name),
    }
    tx.record("refund.asked", refund.at, &body)
}

fn store_receipt(tx: &mut Tx<'_>, id: RefundId, jws: &str, at: Timestamp) -> Verdict<String> {
    let known = find_refund(tx.conn, id)?
        .ok_or_else(|| corrupt(format!("a receipt of no refund: {id}")))?;
    if let Some(first) = known.receipt_jws {
        return Ok(first);
    }
    let RefundState::Refunded { at: ended_at, .. } = known.state else {
        return Err(corrupt(format!("a receipt of a refund that is none: {id}")).into());
    };
    tx.execute_one(
        "INSERT INTO refund_receipts (refund, jws, stored_at_ms) VALUES (?1, ?2, ?3)",
        params![id.0.as_bytes(), jws, at.ms()],
    )?;
    tx.execute_one(
        "DELETE FROM refund_receipts_due WHERE ended_at_ms = ?1 AND refund = ?2",
        params![ended_at.ms(), id.0.as_bytes()],
    )?;
    let body = json!({
        "refund": id,
        "receipt": known.receipt,
        "jws_sha256": hex(&Sha256::digest(jws.as_bytes())),
    });
    tx.record("refund-receipt.stored", at, &body)?;
    Ok(jws.to_owned())
}

fn find_refund(conn: &Conn, id: RefundId) -> Result<Option<Refund>> {
    find(
        conn,
        "SELECT refunds.*, refund_receipts.jws FROM refunds
         LEFT JOIN refund_receipts ON refund_receipts.refund = refunds.id WHERE refunds.id = ?1",
        [id.0.as_bytes()],
        |row| read_refund(conn, row),
    )
}

fn of_charge(conn: &Conn, charge: ChargeId) -> Result<Vec<Refund>> {
    all(
        conn,
        "SELECT refunds.*, refund_receipts.jws FROM claims
         JOIN payments ON payments.claim = claims.id
         JOIN refunds ON refunds.payment = payments.id
         LEFT JOIN refund_receipts ON refund_receipts.refund = refunds.id
         WHERE claims.charge = ?1 AND claims.state <> 'released'
         ORDER BY refunds.asked_at_ms, refunds.id",
        [charge.0.as_bytes()],
        |row| read_refund(conn, row),
    )
}

fn read_refund(conn: &Conn, row: &Row<'_>) -> Result<Refund> {
    let payment = PaymentId(uuid(row, "payment")?);
    let payment =
        find_payment(conn, payment)?.ok_or_else(|| corrupt("a refund without its payment"))?;
    let amount_minor: i64 = get(row, "amount_minor")?;
    let amount = Money::new(amount_minor, payment.approved.amount().currency());
    Ok(Refund {
        id: RefundId(uuid(row, "id")?),
        movement: uuid(row, "movement")?,
        receipt: ReceiptId(uuid(row, "receipt")?),
        amount: amount.map_err(|error| corrupt(error.to_string()))?,
        reason: get(row, "reason")?,
        asker: read_asker(row)?,
        state: read_state(row)?,
        tries: get(row, "tries")?,
        asked_at: time(row, "asked_at_ms")?,
        receipt_jws: get(row, "jws")?,
        payment,
    })
}

fn read_asker(row: &Row<'_>) -> Result<RefundAsker> {
    Ok(match get::<Option<String>>(row, "operator")? {
        Some(name) => RefundAsker::Operator(name),
        None => RefundAsker::Terminal(terminal(row, "terminal")?),
    })
}

fn read_state(row: &Row<'_>) -> Result<RefundState> {
    match get::<String>(row, "state")?.as_str() {
        "asked" => Ok(RefundState::Asked),
        "refunded" => Ok(RefundState::Refunded {
            at: time(row, "ended_at_ms")?,
            rail_reference: get(row, "rail_reference")?,
        }),
        "declined" => Ok(RefundState::Declined {
            at: time(row, "ended_at_ms")?,
            reason: get(row, "decline_reason")?,
        }),
        other => Err(corrupt(format!("a refund that is {other}"))),
    }
}

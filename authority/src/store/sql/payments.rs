//! How does an approval move money once, and its receipt stay the first?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::charge::Claimed;
use protocol::ids::{AccountId, ClaimId, PaymentId, ReceiptId};
use protocol::wire::claims::ClaimState;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::SqlStore;
use super::allowances::spend;
use super::booking::{Booking, approved_again};
use super::caps;
use super::caps::Capped;
use super::intents::begin;
use super::ledger::debit;
use super::persons::{Person, find_person};
use super::row::{all, find, get, time, uuid};
use super::service_accounts::choose;
use super::settle::{StoredClaim, find_claim};
use super::subjects::{self, of_payment};
use super::turns::raise_revision;
use super::writer::{Stop, Tx, Verdict};
use crate::journal::hex;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    LEDGER, NewReceipt, Pay, PayOutcome, Payment, Payments, PersonKey, Result, ServiceAccount,
};

#[async_trait]
impl Payments for SqlStore {
    async fn pay(&self, pay: Pay) -> Result<PayOutcome> {
        self.write_on(of_payment(&pay), move |tx| carry_out(tx, &pay))
            .await
    }

    async fn store_receipt(&self, receipt: NewReceipt) -> Result<String> {
        self.write_on(subjects::at(receipt.terminal), move |tx| {
            store_receipt(tx, &receipt)
        })
        .await
    }

    async fn payment_of(&self, claim: ClaimId) -> Result<Option<Payment>> {
        self.look(move |conn| payment_of(conn, claim)).await
    }

    async fn receipts_due(&self, limit: u32) -> Result<Vec<Payment>> {
        self.read(move |conn| receipts_due(conn, limit)).await
    }
}

/// The stored receipt of a paid claim.
pub(super) fn receipt_of_claim(conn: &Conn, claim: ClaimId) -> Result<Option<String>> {
    find(
        conn,
        "SELECT jws FROM payments JOIN receipts ON receipts.payment = payments.id
         WHERE payments.claim = ?1",
        [claim.0.as_bytes()],
        |row| get(row, "jws"),
    )
}

/// A step of a payment: it goes on, or the payment is refused and no money moved.
pub(super) type Step<T> = std::result::Result<T, Stop<PayOutcome>>;

fn carry_out(tx: &mut Tx<'_>, pay: &Pay) -> Verdict<PayOutcome> {
    let claim = find_claim(tx.conn, pay.approved.claimed().claim)?;
    if let Some(paid) = claim.as_ref().filter(|it| it.is_paid()) {
        let earlier = payment_of(tx.conn, paid.record.claimed.claim)?;
        let earlier = earlier.ok_or_else(|| corrupt("a paid claim without its payment"))?;
        return Ok(repeated(tx.conn, earlier, pay)?);
    }
    let claim = claim_to_pay(claim, pay)?;
    let (person, account) = payer(tx.conn, pay, &claim)?;
    if account.rail != LEDGER || claim.record.paying {
        return begin(tx, pay, &claim, &person, &account);
    }
    spend(tx, pay, &person, account.id)?;
    capped(tx, pay, &account)?;
    if !debit(tx, account.id, pay.approved.amount().amount_minor())? {
        return Err(Stop::Refused(PayOutcome::FundsShort));
    }
    let reference = pay.payment.to_string();
    let booking = Booking {
        payment: pay.payment,
        receipt: pay.receipt,
        approved: &pay.approved,
        person: &person,
        service_account: account.id,
        from: account.id,
        to: claim.payee_account,
        rail: LEDGER,
        rail_reference: &reference,
        claim_state: "held",
        approved_at: pay.at,
        paid_at: pay.at,
        moved: &pay.moved,
    };
    booking.enter(tx)?;
    Ok(PayOutcome::Paid(Box::new(booking.made(claim.record)?)))
}

/// What the account may pay at once and in a month: judged where the payment, or its intent, is written.
/// Answers whether it counts there.
pub(super) fn capped(tx: &Tx<'_>, pay: &Pay, account: &ServiceAccount) -> Step<bool> {
    let amount = pay.approved.amount();
    match caps::spend(tx, &account.rail, &account.reference, amount, pay.at)? {
        Capped::Taken => Ok(true),
        Capped::None => Ok(false),
        Capped::Reached => Err(Stop::Refused(PayOutcome::CapReached)),
    }
}

/// The same approval again by the same person has its payment already; any other comes too late.
fn repeated(conn: &Conn, earlier: Payment, pay: &Pay) -> Result<PayOutcome> {
    let same_amount = earlier.approved.amount() == pay.approved.amount();
    Ok(if same_amount && is_payer(conn, earlier.id, &pay.person)? {
        PayOutcome::Already(Box::new(earlier))
    } else {
        PayOutcome::ClaimOver
    })
}

pub(super) fn is_payer(conn: &Conn, payment: PaymentId, person: &PersonKey) -> Result<bool> {
    let row = find(
        conn,
        "SELECT 1 FROM payments
         JOIN service_accounts ON service_accounts.id = payments.service_account
         JOIN identities ON identities.person = service_accounts.person
         WHERE payments.id = ?1 AND identities.issuer = ?2 AND identities.subject = ?3",
        params![payment.0.as_bytes(), person.issuer, person.subject],
        |_| Ok(()),
    )?;
    Ok(row.is_some())
}

/// The claim as it stands now, if this approval still fits it.
fn claim_to_pay(claim: Option<StoredClaim>, pay: &Pay) -> Step<StoredClaim> {
    let refused = |outcome| Err(Stop::Refused(outcome));
    let approved = &pay.approved;
    let Some(claim) = claim else {
        return refused(PayOutcome::ClaimOver);
    };
    if claim.banned {
        return refused(PayOutcome::TerminalRefused);
    }
    let over = pay.at >= claim.record.claimed.held_until;
    if over || claim.record.state != ClaimState::Held {
        return refused(PayOutcome::ClaimOver);
    }
    // A sign-in in another tab may have prolonged it in between.
    let held_until = approved.claimed().held_until;
    let stored = Claimed {
        held_until,
        ..claim.record.claimed.clone()
    };
    if stored != *approved.claimed() {
        return Err(corrupt("an approval of another claim than the stored one").into());
    }
    Ok(claim)
}

/// Who pays from which account. A claim that a known person made is paid by nobody else.
fn payer(conn: &Conn, pay: &Pay, claim: &StoredClaim) -> Step<(Person, ServiceAccount)> {
    let refused = |outcome| Err(Stop::Refused(outcome));
    let person = find_person(conn, &pay.person)?;
    let claimed_by = claim.person.map(|id| *id.as_bytes());
    if claimed_by.is_some_and(|id| person.as_ref().is_none_or(|person| person.id != id)) {
        return refused(PayOutcome::ClaimOver);
    }
    let Some(person) = person else {
        return refused(PayOutcome::NoAccount);
    };
    let currency = pay.approved.amount().currency();
    match choose(conn, &person.id, pay.account, currency)? {
        Some(account) => Ok((person, account)),
        None => refused(PayOutcome::NoAccount),
    }
}

/// The first one stays; one that is due is the first.
fn store_receipt(tx: &mut Tx<'_>, new: &NewReceipt) -> Verdict<String> {
    let payment = new.payment;
    let was_due = tx.execute(
        "DELETE FROM receipts_due WHERE paid_at_ms = ?1 AND payment = ?2",
        params![new.paid_at.ms(), payment.0.as_bytes()],
    )?;
    if was_due == 0 {
        let first = receipt(tx.conn, payment)?;
        let none = || corrupt(format!("a receipt of no payment: {payment}"));
        return Ok(first.ok_or_else(none)?);
    }
    // Whose it is said to be is whose it is.
    tx.execute_one(
        "INSERT INTO receipts (payment, jws, stored_at_ms)
         SELECT payments.id, ?2, ?3 FROM payments
         JOIN claims ON claims.id = payments.claim
         JOIN charges ON charges.id = claims.charge
         WHERE payments.id = ?1 AND payments.receipt = ?4 AND charges.terminal = ?5",
        params![
            payment.0.as_bytes(),
            new.jws,
            new.at.ms(),
            new.receipt.0.as_bytes(),
            new.terminal.value()
        ],
    )?;
    raise_revision(tx, new.terminal);
    let body = json!({
        "payment": payment,
        "receipt": new.receipt,
        "jws_sha256": hex(&Sha256::digest(new.jws.as_bytes())),
    });
    tx.record("receipt.stored", new.at, &body)?;
    Ok(new.jws.clone())
}

fn receipt(conn: &Conn, payment: PaymentId) -> Result<Option<String>> {
    find(
        conn,
        "SELECT jws FROM receipts WHERE payment = ?1",
        [payment.0.as_bytes()],
        |row| get(row, "jws"),
    )
}

pub(super) fn find_payment(conn: &Conn, id: PaymentId) -> Result<Option<Payment>> {
    find(
        conn,
        "SELECT payments.*, receipts.jws FROM payments
         LEFT JOIN receipts ON receipts.payment = payments.id WHERE payments.id = ?1",
        [id.0.as_bytes()],
        |row| read_payment(conn, row),
    )
}

pub(super) fn payment_of(conn: &Conn, claim: ClaimId) -> Result<Option<Payment>> {
    find(
        conn,
        "SELECT payments.*, receipts.jws FROM payments
         LEFT JOIN receipts ON receipts.payment = payments.id WHERE payments.claim = ?1",
        [claim.0.as_bytes()],
        |row| read_payment(conn, row),
    )
}

fn receipts_due(conn: &Conn, limit: u32) -> Result<Vec<Payment>> {
    all(
        conn,
        "SELECT payments.*, NULL AS jws FROM receipts_due
         JOIN payments ON payments.id = receipts_due.payment
         ORDER BY receipts_due.paid_at_ms, receipts_due.payment LIMIT ?1",
        [limit],
        |row| read_payment(conn, row),
    )
}

fn read_payment(conn: &Conn, row: &Row<'_>) -> Result<Payment> {
    let claim = find_claim(conn, ClaimId(uuid(row, "claim")?))?
        .ok_or_else(|| corrupt("a payment without its claim"))?
        .record;
    let approved_at = time(row, "approved_at_ms")?;
    let amount_minor: i64 = get(row, "amount_minor")?;
    Ok(Payment {
        id: PaymentId(uuid(row, "id")?),
        receipt: ReceiptId(uuid(row, "receipt")?),
        payee_name: claim.payee_name.clone(),
        approved: approved_again(claim.claimed, amount_minor, approved_at)?,
        pseudonym: get(row, "pseudonym")?,
        paid_at: time(row, "paid_at_ms")?,
        service_account: AccountId(uuid(row, "service_account")?),
        rail: get(row, "rail")?,
        rail_reference: get(row, "rail_reference")?,
        receipt_jws: get(row, "jws")?,
    })
}

//! How does a payment that is certain come into the books?

use crate::store::sql::conn::params;
use protocol::charge::{Approval, Approved, Claimed};
use protocol::ids::{AccountId, PaymentId, ReceiptId};
use protocol::money::Money;
use protocol::time::Timestamp;
use protocol::token::WindowId;
use serde_json::json;

use super::bookings::Booked;
use super::ledger::Movement;
use super::persons::Person;
use super::turns::{move_all, raise_revision};
use super::writer::Tx;
use crate::store::sqlite::error::corrupt;
use crate::store::{ClaimRecord, Payment, Result};

/// A payment whose money has moved, or moves in this transaction.
pub(super) struct Booking<'a> {
    pub(super) payment: PaymentId,
    pub(super) receipt: ReceiptId,
    pub(super) approved: &'a Approved,
    pub(super) person: &'a Person,
    pub(super) service_account: AccountId,
    /// What the ledger takes it from.
    pub(super) from: AccountId,
    /// Where it puts it: the payee's account.
    pub(super) to: AccountId,
    pub(super) rail: &'a str,
    pub(super) rail_reference: &'a str,
    /// How its claim stands until now.
    pub(super) claim_state: &'static str,
    pub(super) approved_at: Timestamp,
    pub(super) paid_at: Timestamp,
    pub(super) moved: &'a [WindowId],
}

impl Booking<'_> {
    /// Ledger, claim, charge, payment, receipt due, books, turns, revision and audit.
    pub(super) fn enter(&self, tx: &mut Tx<'_>) -> Result<()> {
        let terminal = self.approved.claimed().terminal;
        self.move_money(tx)?;
        self.settle(tx)?;
        self.insert(tx)?;
        self.book(tx)?;
        move_all(tx, terminal, self.moved)?;
        raise_revision(tx, terminal);
        self.record(tx)
    }

    /// The payment as it is read again, of the claim as it was stored.
    pub(super) fn made(&self, claim: ClaimRecord) -> Result<Payment> {
        let amount_minor = self.approved.amount().amount_minor();
        Ok(Payment {
            id: self.payment,
            receipt: self.receipt,
            pseudonym: self.person.pseudonym(claim.claimed.payee),
            payee_name: claim.payee_name,
            approved: approved_again(claim.claimed, amount_minor, self.approved_at)?,
            paid_at: self.paid_at,
            service_account: self.service_account,
            rail: self.rail.into(),
            rail_reference: self.rail_reference.into(),
            receipt_jws: None,
        })
    }

    fn move_money(&self, tx: &Tx<'_>) -> Result<()> {
        let movement = Movement {
            id: self.payment.0,
            from: self.from,
            to: self.to,
            amount_minor: self.approved.amount().amount_minor(),
        };
        movement.enter(tx)
    }

    /// Claim and charge are paid.
    fn settle(&self, tx: &Tx<'_>) -> Result<()> {
        let claimed = self.approved.claimed();
        tx.execute_one(
            "UPDATE claims SET state = 'paid' WHERE id = ?1 AND state = ?2",
            params![claimed.claim.0.as_bytes(), self.claim_state],
        )?;
        tx.execute_one(
            "UPDATE charges SET state = 'paid', paid_minor = ?3
             WHERE id = ?1 AND state = 'held' AND claim = ?2",
            params![
                claimed.charge.0.as_bytes(),
                claimed.claim.0.as_bytes(),
                self.approved.amount().amount_minor()
            ],
        )
    }

    fn insert(&self, tx: &Tx<'_>) -> Result<()> {
        let claimed = self.approved.claimed();
        tx.execute_one(
            "INSERT INTO payments (id, receipt, claim, service_account, account, amount_minor,
                                   pseudonym, rail, rail_reference, approved_at_ms, paid_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                self.payment.0.as_bytes(),
                self.receipt.0.as_bytes(),
                claimed.claim.0.as_bytes(),
                self.service_account.0.as_bytes(),
                self.from.0.as_bytes(),
                self.approved.amount().amount_minor(),
                self.person.pseudonym(claimed.payee),
                self.rail,
                self.rail_reference,
                self.approved_at.ms(),
                self.paid_at.ms()
            ],
        )?;
        tx.execute_one(
            "INSERT INTO receipts_due (paid_at_ms, payment) VALUES (?1, ?2)",
            params![self.paid_at.ms(), self.payment.0.as_bytes()],
        )
    }

    /// Into the merchant's books, and the shopper's history.
    fn book(&self, tx: &Tx<'_>) -> Result<()> {
        let claimed = self.approved.claimed();
        let booked = Booked {
            movement: self.payment.0,
            payment: self.payment,
            refund: None,
            merchant: claimed.payee,
            charge: claimed.charge,
            person: self.person.id,
            terminal: claimed.terminal,
            amount_minor: self.approved.amount().amount_minor(),
            rail: self.rail,
            rail_reference: self.rail_reference,
            at: self.paid_at,
        };
        booked.enter(tx)
    }

    fn record(&self, tx: &mut Tx<'_>) -> Result<()> {
        let claimed = self.approved.claimed();
        let body = json!({
            "payment": self.payment,
            "receipt": self.receipt,
            "claim": claimed.claim,
            "charge": claimed.charge,
            "terminal": claimed.terminal,
            "payee": claimed.payee,
            "amount": self.approved.amount(),
            "rail": self.rail,
            "person": self.person.commitment(),
        });
        tx.record("payment.paid", self.paid_at, &body)
    }
}

/// What was approved then passes the same check again, or the rows were changed.
pub(super) fn approved_again(
    claimed: Claimed,
    amount_minor: i64,
    approved_at: Timestamp,
) -> Result<Approved> {
    let currency = claimed
        .asked
        .or(claimed.cap)
        .map(Money::currency)
        .ok_or_else(|| corrupt("a charge with neither amount nor cap"))?;
    let amount = Money::new(amount_minor, currency).map_err(|error| corrupt(error.to_string()))?;
    let payee = claimed.payee;
    claimed
        .approve(&Approval { amount, payee }, approved_at)
        .map_err(|error| corrupt(format!("a payment that does not fit its claim: {error}")))
}

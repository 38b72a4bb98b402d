//! Where is what moved on a merchant's account, and who reads it?

use crate::store::sql::conn::{Conn, Row, Value, params};
use async_trait::async_trait;
use protocol::ids::{ChargeId, MerchantId, PaymentId, ReceiptId, RefundId, TerminalId};
use protocol::money::{Currency, Money};
use protocol::receipt::Payee;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::wire::history::{EntryKind, HistoryEntry};
use uuid::Uuid;

use super::SqlStore;
use super::persons::find_person;
use super::row::{all, count, currency, find, get, terminal, time, uuid, uuid_or_none};
use super::webhooks::Happened;
use super::writer::Tx;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Bookings, Cursor, DayTotals, HistoryOf, NoticeEvent, PersonKey, RailSum, Result,
};

#[async_trait]
impl Bookings for SqlStore {
    async fn history(
        &self,
        of: HistoryOf,
        before: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<(Cursor, HistoryEntry)>> {
        self.read(move |conn| history(conn, &of, before, limit))
            .await
    }

    async fn booked_at_terminal(
        &self,
        terminal: TerminalId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<DayTotals> {
        self.read(move |conn| {
            let sql = format!(
                "SELECT {SUMS} FROM bookings
                 WHERE terminal = ?1 AND booked_at_ms >= ?2 AND booked_at_ms < ?3
                 GROUP BY rail ORDER BY rail"
            );
            let params = params![terminal.value(), from.ms(), until.ms()];
            all(conn, &sql, params, read_sum)
        })
        .await
    }

    async fn own_receipt(&self, person: PersonKey, receipt: ReceiptId) -> Result<Option<String>> {
        self.read(move |conn| own_receipt(conn, &person, receipt))
            .await
    }

    async fn booked(&self, movement: Uuid) -> Result<Option<HistoryEntry>> {
        self.read(move |conn| {
            let sql = format!("{ENTRIES} WHERE bookings.movement = ?1");
            find(conn, &sql, [movement.as_bytes()], read_entry)
        })
        .await
    }
}

/// One movement of a merchant's account.
pub(super) struct Booked<'a> {
    pub(super) movement: Uuid,
    pub(super) payment: PaymentId,
    /// None: it is the payment itself.
    pub(super) refund: Option<RefundId>,
    pub(super) merchant: MerchantId,
    pub(super) charge: ChargeId,
    pub(super) person: [u8; 16],
    pub(super) terminal: TerminalId,
    /// To the merchant if positive.
    pub(super) amount_minor: i64,
    pub(super) rail: &'a str,
    pub(super) rail_reference: &'a str,
    pub(super) at: Timestamp,
}

impl Booked<'_> {
    /// Into the books, and to whom it is to be told.
    pub(super) fn enter(&self, tx: &Tx<'_>) -> Result<()> {
        tx.execute_one(
            "INSERT INTO bookings (movement, refund, payment, merchant, person, terminal,
                                   amount_minor, rail, rail_reference, booked_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.movement.as_bytes(),
                self.refund.as_ref().map(|refund| refund.0.as_bytes()),
                self.payment.0.as_bytes(),
                self.merchant.0.as_bytes(),
                self.person,
                self.terminal.value(),
                self.amount_minor,
                self.rail,
                self.rail_reference,
                self.at.ms()
            ],
        )?;
        self.tell(tx)
    }

    fn tell(&self, tx: &Tx<'_>) -> Result<()> {
        let movement = self.movement;
        let happened = Happened {
            merchant: self.merchant,
            about: match self.refund {
                None => NoticeEvent::Paid { movement },
                Some(_) => NoticeEvent::Refunded { movement },
            },
            charge: Some(self.charge),
            at: self.at,
        };
        happened.tell(tx)
    }
}

/// All that an entry says; a condition on `bookings` follows.
pub(super) const ENTRIES: &str =
    "SELECT bookings.movement, bookings.refund, bookings.payment, bookings.terminal,
            bookings.amount_minor, bookings.rail, bookings.rail_reference, bookings.booked_at_ms,
            payments.receipt, payments.pseudonym, payments.refunded_minor,
            claims.channel, charges.id AS charge, charges.reference, charges.currency,
            merchants.id AS merchant, merchants.name, refunds.receipt AS refund_receipt
     FROM bookings
     JOIN payments ON payments.id = bookings.payment
     JOIN claims ON claims.id = payments.claim
     JOIN charges ON charges.id = claims.charge
     JOIN merchants ON merchants.id = bookings.merchant
     LEFT JOIN refunds ON refunds.id = bookings.refund";

/// What a rail moved, of the bookings that a condition finds.
pub(super) const SUMS: &str = "rail,
     count(*) FILTER (WHERE amount_minor > 0) AS credits,
     CAST(coalesce(sum(amount_minor) FILTER (WHERE amount_minor > 0), 0) AS BIGINT) AS credit_minor,
     count(*) FILTER (WHERE amount_minor < 0) AS debits,
     -CAST(coalesce(sum(amount_minor) FILTER (WHERE amount_minor < 0), 0) AS BIGINT) AS debit_minor";

pub(super) fn read_sum(row: &Row<'_>) -> Result<RailSum> {
    Ok(RailSum {
        rail: get(row, "rail")?,
        credits: count(row, "credits")?,
        credit_minor: get(row, "credit_minor")?,
        debits: count(row, "debits")?,
        debit_minor: get(row, "debit_minor")?,
    })
}

pub(super) fn read_placed(row: &Row<'_>) -> Result<(Cursor, HistoryEntry)> {
    let place = Cursor {
        at: time(row, "booked_at_ms")?,
        movement: uuid(row, "movement")?,
    };
    Ok((place, read_entry(row)?))
}

fn read_entry(row: &Row<'_>) -> Result<HistoryEntry> {
    let (currency, channel): (Currency, u8) = (currency(row, "currency")?, get(row, "channel")?);
    let refund = uuid_or_none(row, "refund")?.map(RefundId);
    let refund_receipt = uuid_or_none(row, "refund_receipt")?.map(ReceiptId);
    let amount_minor: i64 = get(row, "amount_minor")?;
    let amount = Money::new(amount_minor.abs(), currency);
    Ok(HistoryEntry {
        kind: match refund {
            None => EntryKind::Payment,
            Some(_) => EntryKind::Refund,
        },
        at: time(row, "booked_at_ms")?,
        amount: amount.map_err(|error| corrupt(error.to_string()))?,
        payee: Payee {
            id: MerchantId(uuid(row, "merchant")?),
            name: get(row, "name")?,
        },
        terminal: terminal(row, "terminal")?,
        channel: Channel::from_byte(channel)
            .ok_or_else(|| corrupt(format!("channel {channel}")))?,
        pseudonym: get(row, "pseudonym")?,
        charge: ChargeId(uuid(row, "charge")?),
        reference: get(row, "reference")?,
        payment: PaymentId(uuid(row, "payment")?),
        refund,
        receipt: match refund_receipt {
            Some(receipt) => receipt,
            None => ReceiptId(uuid(row, "receipt")?),
        },
        rail: get(row, "rail")?,
        rail_reference: get(row, "rail_reference")?,
        refunded_minor: match refund {
            None => get(row, "refunded_minor")?,
            Some(_) => 0,
        },
    })
}

fn history(
    conn: &Conn,
    of: &HistoryOf,
    before: Option<Cursor>,
    limit: u32,
) -> Result<Vec<(Cursor, HistoryEntry)>> {
    let person = match of {
        HistoryOf::Person(key) => find_person(conn, key)?,
        _ => None,
    };
    let (column, whose) = match of {
        HistoryOf::Person(_) => match &person {
            Some(person) => ("person", Value::Blob(&person.id)),
            None => return Ok(Vec::new()),
        },
        HistoryOf::Merchant(id) => ("merchant", Value::Blob(id.0.as_bytes())),
        HistoryOf::Terminal(id) => ("terminal", Value::Integer(id.value().into())),
    };
    let sql = format!(
        "{ENTRIES} WHERE bookings.{column} = ?1
             AND (bookings.booked_at_ms, bookings.movement) < (?2, ?3)
         ORDER BY bookings.booked_at_ms DESC, bookings.movement DESC LIMIT ?4"
    );
    let before = before.unwrap_or(Cursor {
        at: Timestamp::from_ms(i64::MAX),
        movement: Uuid::max(),
    });
    let params = params![whose, before.at.ms(), before.movement.as_bytes(), limit];
    all(conn, &sql, params, read_placed)
}

fn own_receipt(conn: &Conn, person: &PersonKey, receipt: ReceiptId) -> Result<Option<String>> {
    let Some(person) = find_person(conn, person)? else {
        return Ok(None);
    };
    find(
        conn,
        "SELECT jws FROM receipts
             JOIN payments ON payments.id = receipts.payment
             JOIN bookings ON bookings.movement = payments.id
             WHERE payments.receipt = ?1 AND bookings.person = ?2
         UNION ALL
         SELECT jws FROM refund_receipts
             JOIN refunds ON refunds.id = refund_receipts.refund
             JOIN bookings ON bookings.movement = refunds.movement
             WHERE refunds.receipt = ?1 AND bookings.person = ?2",
        params![receipt.0.as_bytes(), person.id],
        |row| get(row, "jws"),
    )
}

//! How does a day close so that its file is the change of the ledger account, and stays it?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::MerchantId;
use protocol::settlement::{RailTotals, Totals};
use protocol::time::Timestamp;
use protocol::wire::history::HistoryEntry;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::SqlStore;
use super::bookings::{ENTRIES, SUMS, read_placed, read_sum};
use super::merchants::find_merchant;
use super::row::{all, count, currency, find, get, one, signed, time, time_or_none, uuid};
use super::webhooks::Happened;
use super::writer::{Stop, Tx, Verdict};
use crate::journal::hex;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    CloseDay, CloseOutcome, Cursor, Merchant, NoticeEvent, RailSum, Result, Settlement,
    Settlements, Unsettled,
};

#[async_trait]
impl Settlements for SqlStore {
    async fn close_day(&self, close: CloseDay) -> Result<CloseOutcome> {
        self.write(move |tx| close_day(tx, &close)).await
    }

    async fn unsettled(&self, after: Option<MerchantId>, limit: u32) -> Result<Vec<Unsettled>> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        self.read(move |conn| unsettled(conn, after, limit)).await
    }

    async fn settlements(
        &self,
        merchant: MerchantId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Settlement>> {
        let before = before.map_or(i64::MAX, signed);
        self.read(move |conn| {
            let sql = format!(
                "{SETTLEMENTS} WHERE settlements.merchant = ?1 AND settlements.number < ?2
                 ORDER BY settlements.number DESC LIMIT ?3"
            );
            let params = params![merchant.0.as_bytes(), before, limit];
            all(conn, &sql, params, |row| read_settlement(conn, row))
        })
        .await
    }

    async fn settlement(&self, merchant: MerchantId, number: u64) -> Result<Option<Settlement>> {
        self.read(move |conn| find_settlement(conn, merchant, number))
            .await
    }

    async fn settlement_lines(
        &self,
        merchant: MerchantId,
        number: u64,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<(Cursor, HistoryEntry)>> {
        self.read(move |conn| lines(conn, merchant, number, after, limit))
            .await
    }

    async fn store_statement(
        &self,
        merchant: MerchantId,
        number: u64,
        jws: String,
        at: Timestamp,
    ) -> Result<String> {
        self.write(move |tx| store_statement(tx, merchant, number, &jws, at))
            .await
    }

    async fn statements_due(&self, limit: u32) -> Result<Vec<Settlement>> {
        self.read(move |conn| {
            let sql = format!(
                "{SETTLEMENTS} JOIN settlement_statements_due AS due
                     ON due.merchant = settlements.merchant AND due.number = settlements.number
                 LIMIT ?1"
            );
            all(conn, &sql, [limit], |row| read_settlement(conn, row))
        })
        .await
    }
}

const SETTLEMENTS: &str = "SELECT settlements.*, merchants.name, merchants.currency, statements.jws
     FROM settlements
     JOIN merchants ON merchants.id = settlements.merchant
     LEFT JOIN settlement_statements AS statements
         ON statements.merchant = settlements.merchant AND statements.number = settlements.number";

/// What is about to be closed.
struct Closing {
    merchant: Merchant,
    number: u64,
    from: Timestamp,
    first: Timestamp,
    last: Timestamp,
    totals: Totals,
}

fn close_day(tx: &mut Tx<'_>, close: &CloseDay) -> Verdict<CloseOutcome> {
    let Some(merchant) = find_merchant(tx.conn, close.merchant)? else {
        return Ok(CloseOutcome::Refused);
    };
    let last = last_of(tx.conn, merchant.id)?;
    let from = last.as_ref().map_or(merchant.added_at, |last| last.to);
    if close.to <= from {
        return Ok(CloseOutcome::Refused);
    }
    let Some((first, latest)) = range(tx.conn, close)? else {
        return Ok(CloseOutcome::Nothing);
    };
    let mut closing = Closing {
        number: last.as_ref().map_or(0, |last| last.number) + 1,
        from,
        first,
        last: latest,
        totals: Totals {
            opening_minor: last.as_ref().map_or(0, |last| last.totals.closing_minor),
            ..Totals::default()
        },
        merchant,
    };
    take_bookings(tx, close, &closing)?;
    let sums = sums_of(tx.conn, &closing)?;
    add_up(&mut closing.totals, &sums);
    prove(tx.conn, &closing)?;
    insert(tx, close, &closing)?;
    insert_rails(tx, &closing, &rails_before(last.as_ref()), sums)?;
    record(tx, close, &closing)?;
    tell(tx, close, &closing)?;
    let done = find_settlement(tx.conn, close.merchant, closing.number)?;
    let done = done.ok_or_else(|| corrupt("a closed day vanished"))?;
    Ok(CloseOutcome::Closed(Box::new(done)))
}

fn last_of(conn: &Conn, merchant: MerchantId) -> Result<Option<Settlement>> {
    let sql = format!(
        "{SETTLEMENTS} WHERE settlements.merchant = ?1 ORDER BY settlements.number DESC LIMIT 1"
    );
    find(conn, &sql, [merchant.0.as_bytes()], |row| {
        read_settlement(conn, row)
    })
}

/// First and last booking in no file and before the cut.
fn range(conn: &Conn, close: &CloseDay) -> Result<Option<(Timestamp, Timestamp)>> {
    one(
        conn,
        "SELECT min(booked_at_ms) AS first_ms, max(booked_at_ms) AS last_ms FROM bookings
         WHERE merchant = ?1 AND settlement IS NULL AND booked_at_ms < ?2",
        params![close.merchant.0.as_bytes(), close.to.ms()],
        |row| {
            let first = time_or_none(row, "first_ms")?;
            Ok(first.zip(time_or_none(row, "last_ms")?))
        },
    )
}

fn take_bookings(tx: &Tx<'_>, close: &CloseDay, closing: &Closing) -> Result<()> {
    tx.execute(
        "UPDATE bookings SET settlement = ?3
         WHERE merchant = ?1 AND settlement IS NULL AND booked_at_ms < ?2",
        params![
            close.merchant.0.as_bytes(),
            close.to.ms(),
            signed(closing.number)
        ],
    )?;
    Ok(())
}

fn sums_of(conn: &Conn, closing: &Closing) -> Result<Vec<RailSum>> {
    let sql = format!(
        "SELECT {SUMS} FROM bookings WHERE merchant = ?1 AND settlement = ?2
             AND booked_at_ms BETWEEN ?3 AND ?4
         GROUP BY rail ORDER BY rail"
    );
    let params = params![
        closing.merchant.id.0.as_bytes(),
        signed(closing.number),
        closing.first.ms(),
        closing.last.ms()
    ];
    all(conn, &sql, params, read_sum)
}

fn add_up(totals: &mut Totals, sums: &[RailSum]) {
    totals.closing_minor = totals.opening_minor;
    for sum in sums {
        add(totals, sum);
    }
}

fn add(totals: &mut Totals, sum: &RailSum) {
    totals.credits += sum.credits;
    totals.credit_minor += sum.credit_minor;
    totals.debits += sum.debits;
    totals.debit_minor += sum.debit_minor;
    totals.closing_minor += sum.credit_minor - sum.debit_minor;
}

/// The file is what the ledger says: every line is its ledger entry, and the whole account is what all
/// files hold and what is in none yet.
fn prove(conn: &Conn, closing: &Closing) -> std::result::Result<(), Stop<CloseOutcome>> {
    let differs = |file_minor, ledger_minor| {
        Err(Stop::Refused(CloseOutcome::Differs {
            file_minor,
            ledger_minor,
        }))
    };
    let totals = &closing.totals;
    let (lines, entered) = in_ledger(conn, closing)?;
    let change = totals.credit_minor - totals.debit_minor;
    if (lines, entered) != (totals.credits + totals.debits, change) {
        return differs(change, entered);
    }
    let account = sum(
        conn,
        "SELECT CAST(coalesce(sum(amount_minor), 0) AS BIGINT) AS total FROM ledger_entries WHERE account = ?1",
        closing.merchant.account.0.as_bytes(),
    )?;
    let open = sum(
        conn,
        "SELECT CAST(coalesce(sum(amount_minor), 0) AS BIGINT) AS total FROM bookings
         WHERE merchant = ?1 AND settlement IS NULL",
        closing.merchant.id.0.as_bytes(),
    )?;
    if account != totals.closing_minor + open {
        return differs(totals.closing_minor + open, account);
    }
    Ok(())
}

/// How many lines have an entry of the same amount in the merchant's ledger account, and their sum.
fn in_ledger(conn: &Conn, closing: &Closing) -> Result<(u64, i64)> {
    one(
        conn,
        "SELECT count(*) AS lines, CAST(coalesce(sum(ledger_entries.amount_minor), 0) AS BIGINT) AS total
         FROM bookings
         JOIN ledger_entries ON ledger_entries.account = ?5
             AND ledger_entries.movement = bookings.movement
             AND ledger_entries.amount_minor = bookings.amount_minor
         WHERE merchant = ?1 AND settlement = ?2 AND booked_at_ms BETWEEN ?3 AND ?4",
        params![
            closing.merchant.id.0.as_bytes(),
            signed(closing.number),
            closing.first.ms(),
            closing.last.ms(),
            closing.merchant.account.0.as_bytes()
        ],
        |row| Ok((count(row, "lines")?, get(row, "total")?)),
    )
}

fn sum(conn: &Conn, sql: &str, of: &[u8; 16]) -> Result<i64> {
    one(conn, sql, [of], |row| get(row, "total"))
}

fn insert(tx: &Tx<'_>, close: &CloseDay, closing: &Closing) -> Result<()> {
    let totals = &closing.totals;
    tx.execute_one(
        "INSERT INTO settlements (merchant, number, day, zone, from_ms, to_ms, first_ms, last_ms,
             opening_minor, closing_minor, credits, credit_minor, debits, debit_minor,
             closed_by, closed_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            close.merchant.0.as_bytes(),
            signed(closing.number),
            close.day,
            close.zone,
            closing.from.ms(),
            close.to.ms(),
            closing.first.ms(),
            closing.last.ms(),
            totals.opening_minor,
            totals.closing_minor,
            signed(totals.credits),
            totals.credit_minor,
            signed(totals.debits),
            totals.debit_minor,
            close.by,
            close.at.ms()
        ],
    )?;
    tx.execute_one(
        "INSERT INTO settlement_statements_due (merchant, number) VALUES (?1, ?2)",
        params![close.merchant.0.as_bytes(), signed(closing.number)],
    )
}

/// What each rail had brought until the cut before.
fn rails_before(last: Option<&Settlement>) -> Vec<(String, i64)> {
    let rails = last.map(|last| last.rails.as_slice()).unwrap_or_default();
    let closing = |it: &RailTotals| (it.rail.clone(), it.totals.closing_minor);
    rails.iter().map(closing).collect()
}

/// A rail that moved nothing stays in the list, so that openings and closings go on from file to file.
fn insert_rails(
    tx: &Tx<'_>,
    closing: &Closing,
    before: &[(String, i64)],
    mut sums: Vec<RailSum>,
) -> Result<()> {
    for (rail, _) in before {
        if !sums.iter().any(|sum| sum.rail == *rail) {
            let rail = rail.clone();
            sums.push(RailSum {
                rail,
                ..RailSum::default()
            });
        }
    }
    for sum in &sums {
        let known = before.iter().find(|(rail, _)| *rail == sum.rail);
        let opening_minor = known.map_or(0, |(_, minor)| *minor);
        let mut totals = Totals {
            opening_minor,
            closing_minor: opening_minor,
            ..Totals::default()
        };
        add(&mut totals, sum);
        insert_rail(tx, closing, &sum.rail, &totals)?;
    }
    Ok(())
}

fn insert_rail(tx: &Tx<'_>, closing: &Closing, rail: &str, totals: &Totals) -> Result<()> {
    tx.execute_one(
        "INSERT INTO settlement_rails (merchant, number, rail, opening_minor, closing_minor,
             credits, credit_minor, debits, debit_minor)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            closing.merchant.id.0.as_bytes(),
            signed(closing.number),
            rail,
            totals.opening_minor,
            totals.closing_minor,
            signed(totals.credits),
            totals.credit_minor,
            signed(totals.debits),
            totals.debit_minor
        ],
    )
}

fn record(tx: &mut Tx<'_>, close: &CloseDay, closing: &Closing) -> Result<()> {
    let body = json!({
        "merchant": close.merchant,
        "number": closing.number,
        "day": close.day,
        "to": close.to,
        "closing_minor": closing.totals.closing_minor,
        "entries": closing.totals.credits + closing.totals.debits,
        "by": close.by,
    });
    tx.record("settlement.closed", close.at, &body)
}

fn tell(tx: &Tx<'_>, close: &CloseDay, closing: &Closing) -> Result<()> {
    let happened = Happened {
        merchant: close.merchant,
        about: NoticeEvent::Closed {
            number: closing.number,
        },
        charge: None,
        at: close.at,
    };
    happened.tell(tx)
}

fn unsettled(conn: &Conn, after: Uuid, limit: u32) -> Result<Vec<Unsettled>> {
    all(
        conn,
        "SELECT * FROM (
             SELECT merchants.id AS merchant, merchant_terms.zone,
                 (SELECT min(booked_at_ms) FROM bookings
                  WHERE bookings.merchant = merchants.id AND settlement IS NULL) AS oldest_ms,
                 (SELECT to_ms FROM settlements WHERE settlements.merchant = merchants.id
                  ORDER BY number DESC LIMIT 1) AS cut_ms
             FROM merchants LEFT JOIN merchant_terms ON merchant_terms.merchant = merchants.id
             WHERE merchants.id > ?1) open
         WHERE oldest_ms IS NOT NULL ORDER BY merchant LIMIT ?2",
        params![after.as_bytes(), limit],
        |row| {
            Ok(Unsettled {
                merchant: MerchantId(uuid(row, "merchant")?),
                zone: get(row, "zone")?,
                oldest: time(row, "oldest_ms")?,
                last_cut: time_or_none(row, "cut_ms")?,
            })
        },
    )
}

fn find_settlement(conn: &Conn, merchant: MerchantId, number: u64) -> Result<Option<Settlement>> {
    let sql = format!("{SETTLEMENTS} WHERE settlements.merchant = ?1 AND settlements.number = ?2");
    let params = params![merchant.0.as_bytes(), signed(number)];
    find(conn, &sql, params, |row| read_settlement(conn, row))
}

fn lines(
    conn: &Conn,
    merchant: MerchantId,
    number: u64,
    after: Option<Cursor>,
    limit: u32,
) -> Result<Vec<(Cursor, HistoryEntry)>> {
    let sql = format!(
        "{ENTRIES}
         JOIN settlements ON settlements.merchant = bookings.merchant
             AND settlements.number = bookings.settlement
         WHERE bookings.merchant = ?1 AND bookings.settlement = ?2
             AND bookings.booked_at_ms BETWEEN settlements.first_ms AND settlements.last_ms
             AND (bookings.booked_at_ms, bookings.movement) > (?3, ?4)
         ORDER BY bookings.booked_at_ms, bookings.movement LIMIT ?5"
    );
    let after = after.unwrap_or(Cursor {
        at: Timestamp::from_ms(i64::MIN),
        movement: Uuid::nil(),
    });
    let params = params![
        merchant.0.as_bytes(),
        signed(number),
        after.at.ms(),
        after.movement.as_bytes(),
        limit
    ];
    all(conn, &sql, params, read_placed)
}

fn store_statement(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    number: u64,
    jws: &str,
    at: Timestamp,
) -> Verdict<String> {
    let known = find_settlement(tx.conn, merchant, number)?
        .ok_or_else(|| corrupt("a statement of no closed day"))?;
    if let Some(first) = known.statement {
        return Ok(first);
    }
    tx.execute_one(
        "INSERT INTO settlement_statements (merchant, number, jws, stored_at_ms)
         VALUES (?1, ?2, ?3, ?4)",
        params![merchant.0.as_bytes(), signed(number), jws, at.ms()],
    )?;
    tx.execute_one(
        "DELETE FROM settlement_statements_due WHERE merchant = ?1 AND number = ?2",
        params![merchant.0.as_bytes(), signed(number)],
    )?;
    let body = json!({
        "merchant": merchant,
        "number": number,
        "jws_sha256": hex(&Sha256::digest(jws.as_bytes())),
    });
    tx.record("settlement.signed", at, &body)?;
    Ok(jws.to_owned())
}

fn read_settlement(conn: &Conn, row: &Row<'_>) -> Result<Settlement> {
    let (merchant, number) = (MerchantId(uuid(row, "merchant")?), count(row, "number")?);
    Ok(Settlement {
        merchant,
        payee_name: get(row, "name")?,
        number,
        day: get(row, "day")?,
        zone: get(row, "zone")?,
        from: time(row, "from_ms")?,
        to: time(row, "to_ms")?,
        currency: currency(row, "currency")?,
        totals: read_totals(row)?,
        rails: rails(conn, merchant, number)?,
        closed_by: get(row, "closed_by")?,
        closed_at: time(row, "closed_at_ms")?,
        statement: get(row, "jws")?,
    })
}

fn rails(conn: &Conn, merchant: MerchantId, number: u64) -> Result<Vec<RailTotals>> {
    all(
        conn,
        "SELECT * FROM settlement_rails WHERE merchant = ?1 AND number = ?2 ORDER BY rail",
        params![merchant.0.as_bytes(), signed(number)],
        |row| {
            Ok(RailTotals {
                rail: get(row, "rail")?,
                totals: read_totals(row)?,
            })
        },
    )
}

fn read_totals(row: &Row<'_>) -> Result<Totals> {
    Ok(Totals {
        opening_minor: get(row, "opening_minor")?,
        closing_minor: get(row, "closing_minor")?,
        credits: count(row, "credits")?,
        credit_minor: get(row, "credit_minor")?,
        debits: count(row, "debits")?,
        debit_minor: get(row, "debit_minor")?,
    })
}

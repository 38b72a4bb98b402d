//! What does a bookkeeper read, line by line?
//!
//! The words of ISO 20022's camt.053 where it has them: entry reference, booking and value date, credit
//! or debit (CRDT, DBIT), opening and closing balance booked (OPBD, CLBD), counter reference. CSV as
//! RFC 4180 writes it, and JSON. The same rows make the same bytes for ever: a statement holds their
//! digest, so a change here needs a new form.

use protocol::ids::{ChargeId, MerchantId, PaymentId, ReceiptId, TerminalId};
use protocol::money::Currency;
use protocol::settlement::{RailTotals, Totals};
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::wire::history::{EntryKind, HistoryEntry};
use serde::{Deserialize, Serialize};

use crate::store::Settlement;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    Csv,
    Json,
}

/// Columns of the CSV form. `record` is opening, entry, rail or closing.
const COLUMNS: &str = "record,entry_reference,booking_date,booked_at,value_date,credit_debit,amount,\
     amount_minor,currency,rail,counter_reference,terminal,channel,charge,charge_reference,payment,\
     receipt,pseudonym,fees_minor\r\n";

impl Form {
    pub(super) fn head(self, settlement: &Settlement) -> String {
        match self {
            Self::Csv => {
                let opening = settlement.totals.opening_minor;
                format!("{COLUMNS}{}", balance("opening", opening, settlement))
            }
            Self::Json => {
                let mut head = written(&described(settlement));
                // Its entries follow.
                head.pop();
                head + ",\"entries\":["
            }
        }
    }

    /// `day`: the business day of the file.
    pub(super) fn line(self, entry: &HistoryEntry, day: &str, is_first: bool) -> String {
        let line = line(entry, day);
        match self {
            Self::Csv => csv(&cells(&line)),
            Self::Json => {
                let comma = if is_first { "" } else { "," };
                format!("{comma}\n{}", written(&line))
            }
        }
    }

    pub(super) fn foot(self, settlement: &Settlement) -> String {
        match self {
            Self::Csv => {
                let rails: String = settlement
                    .rails
                    .iter()
                    .map(|rail| rail_line(rail, settlement))
                    .collect();
                let closing = settlement.totals.closing_minor;
                rails + &balance("closing", closing, settlement)
            }
            Self::Json => "\n]}\n".into(),
        }
    }
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings, numbers and times of the store")
}

/// Structs, not maps: their members have one order whatever else is built in.
#[derive(Serialize)]
struct Described<'a> {
    form: &'static str,
    merchant: MerchantId,
    name: &'a str,
    number: u64,
    day: &'a str,
    zone: &'a str,
    from: Timestamp,
    to: Timestamp,
    currency: Currency,
    #[serde(flatten)]
    sums: Sums,
    rails: Vec<RailSums<'a>>,
}

#[derive(Serialize)]
struct RailSums<'a> {
    rail: &'a str,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Serialize)]
struct Sums {
    balances: [Balance; 2],
    credits: Side,
    debits: Side,
}

#[derive(Serialize)]
struct Balance {
    #[serde(rename = "type")]
    type_: &'static str,
    amount: String,
    amount_minor: i64,
}

#[derive(Serialize)]
struct Side {
    entries: u64,
    amount: String,
    amount_minor: i64,
}

#[derive(Serialize)]
struct Line<'a> {
    entry_reference: String,
    booking_date: &'a str,
    booked_at: Timestamp,
    value_date: &'a str,
    credit_debit: &'static str,
    amount: String,
    amount_minor: i64,
    currency: Currency,
    rail: &'a str,
    counter_reference: &'a str,
    terminal: TerminalId,
    channel: Channel,
    charge: ChargeId,
    charge_reference: Option<&'a str>,
    payment: PaymentId,
    receipt: ReceiptId,
    pseudonym: &'a str,
    fees_minor: i64,
}

fn described(settlement: &Settlement) -> Described<'_> {
    let currency = settlement.currency;
    Described {
        form: "m2key-settlement-1",
        merchant: settlement.merchant,
        name: &settlement.payee_name,
        number: settlement.number,
        day: &settlement.day,
        zone: &settlement.zone,
        from: settlement.from,
        to: settlement.to,
        currency,
        sums: sums(&settlement.totals, currency),
        rails: settlement
            .rails
            .iter()
            .map(|it| RailSums {
                rail: &it.rail,
                sums: sums(&it.totals, currency),
            })
            .collect(),
    }
}

fn sums(totals: &Totals, currency: Currency) -> Sums {
    let balance = |type_, minor| Balance {
        type_,
        amount: decimal(minor, currency),
        amount_minor: minor,
    };
    let side = |entries, minor| Side {
        entries,
        amount: decimal(minor, currency),
        amount_minor: minor,
    };
    Sums {
        balances: [
            balance("OPBD", totals.opening_minor),
            balance("CLBD", totals.closing_minor),
        ],
        credits: side(totals.credits, totals.credit_minor),
        debits: side(totals.debits, totals.debit_minor),
    }
}

fn line<'a>(entry: &'a HistoryEntry, day: &'a str) -> Line<'a> {
    let (minor, currency) = (entry.amount.amount_minor(), entry.amount.currency());
    Line {
        entry_reference: reference(entry),
        booking_date: day,
        booked_at: entry.at,
        value_date: day,
        credit_debit: indicator(entry),
        amount: decimal(minor, currency),
        amount_minor: minor,
        currency,
        rail: &entry.rail,
        counter_reference: &entry.rail_reference,
        terminal: entry.terminal,
        channel: entry.channel,
        charge: entry.charge,
        charge_reference: entry.reference.as_deref(),
        payment: entry.payment,
        receipt: entry.receipt,
        pseudonym: &entry.pseudonym,
        fees_minor: 0,
    }
}

fn cells(line: &Line<'_>) -> Vec<String> {
    vec![
        "entry".into(),
        line.entry_reference.clone(),
        line.booking_date.into(),
        line.booked_at.to_string(),
        line.value_date.into(),
        line.credit_debit.into(),
        line.amount.clone(),
        line.amount_minor.to_string(),
        line.currency.to_string(),
        line.rail.into(),
        line.counter_reference.into(),
        line.terminal.to_string(),
        line.channel.to_string(),
        line.charge.to_string(),
        line.charge_reference.unwrap_or_default().into(),
        line.payment.to_string(),
        line.receipt.to_string(),
        line.pseudonym.into(),
        line.fees_minor.to_string(),
    ]
}

/// The payment, or the refund: no other entry has it.
fn reference(entry: &HistoryEntry) -> String {
    match entry.refund {
        Some(refund) => refund.to_string(),
        None => entry.payment.to_string(),
    }
}

fn indicator(entry: &HistoryEntry) -> &'static str {
    match entry.kind {
        EntryKind::Payment => "CRDT",
        EntryKind::Refund => "DBIT",
    }
}

fn balance(record: &str, minor: i64, settlement: &Settlement) -> String {
    summary(record, minor, "", settlement)
}

/// What the rail moved in this file.
fn rail_line(rail: &RailTotals, settlement: &Settlement) -> String {
    let change = rail.totals.credit_minor - rail.totals.debit_minor;
    summary("rail", change, &rail.rail, settlement)
}

fn summary(record: &str, minor: i64, rail: &str, settlement: &Settlement) -> String {
    let mut cells = vec![String::new(); 19];
    cells[0] = record.into();
    cells[2] = settlement.day.clone();
    cells[5] = if minor < 0 { "DBIT" } else { "CRDT" }.into();
    cells[6] = decimal(minor.abs(), settlement.currency);
    cells[7] = minor.abs().to_string();
    cells[8] = settlement.currency.to_string();
    cells[9] = rail.into();
    csv(&cells)
}

fn csv(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| quoted(cell)).collect();
    cells.join(",") + "\r\n"
}

/// A cell that a spreadsheet would take for a formula begins with an apostrophe.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if formula {
        format!("'{cell}")
    } else {
        cell.to_owned()
    };
    if cell.contains(['"', ',', '\r', '\n', ';']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

/// `4.20`, without the currency; sums may be zero or negative, which money may not.
fn decimal(minor: i64, currency: Currency) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let exponent = currency.exponent() as usize;
    let digits = format!("{:0width$}", minor.unsigned_abs(), width = exponent + 1);
    let (whole, part) = digits.split_at(digits.len() - exponent);
    match exponent {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use protocol::money::Money;

    use super::*;

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        let said = |minor, code: &str| decimal(minor, code.parse().unwrap());
        assert_eq!(said(420, "EUR"), "4.20");
        assert_eq!(said(5, "EUR"), "0.05");
        assert_eq!(said(-420, "JPY"), "-420");
        assert_eq!(said(0, "KWD"), "0.000");
        for minor in [1, 99, 100, 123_456] {
            let money = Money::new(minor, Currency::EUR).unwrap();
            assert_eq!(format!("{} EUR", said(minor, "EUR")), money.to_string());
        }
    }

    #[test]
    fn a_cell_is_no_formula_and_breaks_no_line() {
        assert_eq!(quoted("sale 7"), "sale 7");
        assert_eq!(quoted("=1+1"), "'=1+1");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(COLUMNS.trim_end().split(',').count(), 19);
    }
}

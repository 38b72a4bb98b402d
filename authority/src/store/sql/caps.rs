//! How do payments that race share one cap?
//!
//! The row of an account is read and raised in the transaction that pays, or that records the intent, and
//! that has one writer. What comes to nothing gives back.

use crate::store::sql::conn::{Conn, params};
use async_trait::async_trait;
use protocol::money::Money;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::row::{find, get};
use super::subjects::hold_cap;
use super::writer::{Tx, Verdict};
use crate::store::{AccountCaps, Caps, Result};

#[async_trait]
impl Caps for SqlStore {
    async fn cap_account(&self, caps: AccountCaps, at: Timestamp) -> Result<()> {
        self.write(move |tx| cap(tx, &caps, at)).await
    }

    async fn spent_of_cap(
        &self,
        rail: String,
        reference: String,
        at: Timestamp,
    ) -> Result<Option<i64>> {
        self.read(move |conn| {
            let row = find_cap(conn, &rail, &reference)?;
            Ok(row.map(|cap| cap.spent_in(&month(at))))
        })
        .await
    }
}

/// What [`spend`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capped {
    Taken,
    /// The account has no caps.
    None,
    Reached,
}

/// Takes `amount` off the caps of this account.
pub(super) fn spend(
    tx: &Tx<'_>,
    rail: &str,
    reference: &str,
    amount: Money,
    at: Timestamp,
) -> Result<Capped> {
    hold_cap(tx.conn, rail, reference)?;
    let Some(cap) = find_cap(tx.conn, rail, reference)? else {
        return Ok(Capped::None);
    };
    // A clock that went back, or a payment that lost a race over the boundary, makes no month new.
    let (minor, month) = (amount.amount_minor(), month(at).max(cap.month.clone()));
    // Amounts are far below overflow, and so is the sum of two.
    let spent = cap.spent_in(&month) + minor;
    let fits = cap.currency == amount.currency().code();
    if !fits || minor > cap.payment_max_minor || spent > cap.month_max_minor {
        return Ok(Capped::Reached);
    }
    count(tx, rail, reference, &month, spent)?;
    Ok(Capped::Taken)
}

/// What was taken off at `spent_at` was not paid after all.
pub(super) fn give_back(
    tx: &Tx<'_>,
    rail: &str,
    reference: &str,
    amount: Money,
    spent_at: Timestamp,
) -> Result<()> {
    let month = month(spent_at);
    hold_cap(tx.conn, rail, reference)?;
    match find_cap(tx.conn, rail, reference)? {
        // Of a month that is over there is nothing to give back.
        Some(cap) if cap.month == month => {
            let spent = (cap.spent_minor - amount.amount_minor()).max(0);
            count(tx, rail, reference, &month, spent)
        }
        _ => Ok(()),
    }
}

struct Cap {
    currency: String,
    payment_max_minor: i64,
    month_max_minor: i64,
    month: String,
    spent_minor: i64,
}

impl Cap {
    fn spent_in(&self, month: &str) -> i64 {
        match self.month == month {
            true => self.spent_minor,
            false => 0,
        }
    }
}

fn find_cap(conn: &Conn, rail: &str, reference: &str) -> Result<Option<Cap>> {
    find(
        conn,
        "SELECT * FROM account_caps WHERE rail = ?1 AND reference = ?2",
        [rail, reference],
        |row| {
            Ok(Cap {
                currency: get(row, "currency")?,
                payment_max_minor: get(row, "payment_max_minor")?,
                month_max_minor: get(row, "month_max_minor")?,
                month: get(row, "month")?,
                spent_minor: get(row, "spent_minor")?,
            })
        },
    )
}

fn count(tx: &Tx<'_>, rail: &str, reference: &str, month: &str, spent_minor: i64) -> Result<()> {
    tx.execute_one(
        "UPDATE account_caps SET month = ?3, spent_minor = ?4 WHERE rail = ?1 AND reference = ?2",
        params![rail, reference, month, spent_minor],
    )
}

/// Changes nothing, and says nothing, where they are in force already.
fn cap(tx: &mut Tx<'_>, caps: &AccountCaps, at: Timestamp) -> Verdict<()> {
    let touched = tx.execute(
        "INSERT INTO account_caps (rail, reference, currency, payment_max_minor, month_max_minor,
                                   month, spent_minor)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)
         ON CONFLICT (rail, reference) DO UPDATE
             SET currency = ?3, payment_max_minor = ?4, month_max_minor = ?5
         WHERE account_caps.currency <> ?3 OR account_caps.payment_max_minor <> ?4
             OR account_caps.month_max_minor <> ?5",
        params![
            caps.rail,
            caps.reference,
            caps.payment_max.currency().code(),
            caps.payment_max.amount_minor(),
            caps.month_max.amount_minor(),
            month(at)
        ],
    )?;
    if touched == 1 {
        let body = json!({
            "rail": caps.rail,
            "payment_max": caps.payment_max,
            "month_max": caps.month_max,
        });
        tx.record("account.capped", at, &body)?;
    }
    Ok(())
}

/// The calendar month, UTC: `2026-11`.
fn month(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..7).unwrap_or(&text).to_owned()
}

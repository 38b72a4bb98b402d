//! Where is what was decided for a merchant, and how are wrong PINs counted?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::MerchantId;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::merchants::find_merchant;
use super::row::{find, get, time_or_none};
use super::writer::{Tx, Verdict};
use crate::store::{
    MerchantTerms, NewTerms, PIN_DAY_MISSES_MAX, PIN_LOCK_MS, PIN_MISSES_MAX, PIN_TRIES_MAX,
    PinHash, PinTry, Result, Terms, day_of, end_of_day,
};

#[async_trait]
impl Terms for SqlStore {
    async fn terms(&self, merchant: MerchantId) -> Result<MerchantTerms> {
        self.read(move |conn| find_terms(conn, merchant)).await
    }

    async fn set_terms(
        &self,
        merchant: MerchantId,
        terms: NewTerms,
        at: Timestamp,
    ) -> Result<bool> {
        self.write(move |tx| set(tx, merchant, &terms, at)).await
    }

    async fn set_pin(&self, merchant: MerchantId, pin: PinHash, at: Timestamp) -> Result<bool> {
        self.write(move |tx| set_pin(tx, merchant, &pin, at)).await
    }

    async fn begin_pin_try(&self, merchant: MerchantId, at: Timestamp) -> Result<PinTry> {
        self.write(move |tx| begin_try(tx, merchant, at)).await
    }

    async fn pin_was_right(&self, merchant: MerchantId, at: Timestamp) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE merchant_terms SET pin_misses = 0, pin_locked_until_ms = NULL,
                     pin_day_misses = CASE pin_day WHEN ?2 THEN max(0, pin_day_misses - 1)
                                                   ELSE pin_day_misses END
                 WHERE merchant = ?1",
                params![merchant.0.as_bytes(), day_of(at)],
            )?;
            Ok(())
        })
        .await
    }
}

pub(super) fn find_terms(conn: &Conn, merchant: MerchantId) -> Result<MerchantTerms> {
    let found = find(
        conn,
        "SELECT * FROM merchant_terms WHERE merchant = ?1",
        [merchant.0.as_bytes()],
        read_terms,
    )?;
    Ok(found.unwrap_or_default())
}

fn set(tx: &mut Tx<'_>, merchant: MerchantId, terms: &NewTerms, at: Timestamp) -> Verdict<bool> {
    if !has_row(tx, merchant)? {
        return Ok(false);
    }
    tx.execute_one(
        "UPDATE merchant_terms SET zone = coalesce(?2, zone),
             refund_day_max_minor = coalesce(?3, refund_day_max_minor) WHERE merchant = ?1",
        params![
            merchant.0.as_bytes(),
            terms.zone,
            terms.refund_day_max_minor
        ],
    )?;
    let body = json!({
        "merchant": merchant,
        "zone": terms.zone,
        "refund_day_max_minor": terms.refund_day_max_minor,
    });
    tx.record("merchant.terms", at, &body)?;
    Ok(true)
}

fn set_pin(tx: &mut Tx<'_>, merchant: MerchantId, pin: &PinHash, at: Timestamp) -> Verdict<bool> {
    if !has_row(tx, merchant)? {
        return Ok(false);
    }
    tx.execute_one(
        "UPDATE merchant_terms SET pin_salt = ?2, pin_hash = ?3, pin_cost = ?4, pin_set_at_ms = ?5,
             pin_misses = 0, pin_locked_until_ms = NULL, pin_day_misses = 0 WHERE merchant = ?1",
        params![merchant.0.as_bytes(), pin.salt, pin.hash, pin.cost, at.ms()],
    )?;
    tx.record("merchant.pin-set", at, &json!({ "merchant": merchant }))?;
    Ok(true)
}

/// Until it is set again no till refunds. Who asks writes the audit row; answers of how many merchants.
pub(super) fn clear_pins(tx: &Tx<'_>) -> Result<u64> {
    let cleared = tx.execute(
        "UPDATE merchant_terms SET pin_salt = NULL, pin_hash = NULL, pin_cost = NULL,
             pin_set_at_ms = NULL, pin_misses = 0, pin_locked_until_ms = NULL
         WHERE pin_salt IS NOT NULL",
        params![],
    )?;
    Ok(cleared as u64)
}

/// Makes the row of a merchant; false if there is no such merchant.
fn has_row(tx: &Tx<'_>, merchant: MerchantId) -> Result<bool> {
    if find_merchant(tx.conn, merchant)?.is_none() {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO merchant_terms (merchant) VALUES (?1) ON CONFLICT DO NOTHING",
        [merchant.0.as_bytes()],
    )?;
    Ok(true)
}

fn begin_try(tx: &mut Tx<'_>, merchant: MerchantId, at: Timestamp) -> Verdict<PinTry> {
    let terms = find_terms(tx.conn, merchant)?;
    let Some(pin) = find_pin(tx.conn, merchant)? else {
        return Ok(PinTry::NotSet);
    };
    if terms.pin_misses >= PIN_MISSES_MAX {
        return Ok(PinTry::Locked(None));
    }
    if let Some(until) = terms.pin_locked_until.filter(|until| at < *until) {
        return Ok(PinTry::Locked(Some(until)));
    }
    // Never a day back: a clock that does so would make the day new.
    let day = terms.pin_day.max(day_of(at));
    let of_day = if day == terms.pin_day {
        terms.pin_day_misses
    } else {
        0
    };
    if of_day >= PIN_DAY_MISSES_MAX {
        return Ok(PinTry::Locked(Some(end_of_day(day))));
    }
    let misses = terms.pin_misses + 1;
    let locked = (misses % PIN_TRIES_MAX == 0).then(|| (at + PIN_LOCK_MS).ms());
    tx.execute_one(
        "UPDATE merchant_terms SET pin_misses = ?2, pin_locked_until_ms = ?3, pin_day = ?4,
             pin_day_misses = ?5
         WHERE merchant = ?1",
        params![merchant.0.as_bytes(), misses, locked, day, of_day + 1],
    )?;
    let body = json!({ "merchant": merchant, "since_right": misses, "of_day": of_day + 1 });
    tx.record("merchant.pin-tried", at, &body)?;
    Ok(PinTry::Check(pin))
}

fn find_pin(conn: &Conn, merchant: MerchantId) -> Result<Option<PinHash>> {
    find(
        conn,
        "SELECT pin_salt, pin_hash, pin_cost FROM merchant_terms
         WHERE merchant = ?1 AND pin_salt IS NOT NULL",
        [merchant.0.as_bytes()],
        |row| {
            Ok(PinHash {
                salt: get(row, "pin_salt")?,
                hash: get(row, "pin_hash")?,
                cost: get(row, "pin_cost")?,
            })
        },
    )
}

fn read_terms(row: &Row<'_>) -> Result<MerchantTerms> {
    Ok(MerchantTerms {
        zone: get(row, "zone")?,
        refund_day_max_minor: get(row, "refund_day_max_minor")?,
        pin_set_at: time_or_none(row, "pin_set_at_ms")?,
        pin_misses: get(row, "pin_misses")?,
        pin_locked_until: time_or_none(row, "pin_locked_until_ms")?,
        pin_day: get(row, "pin_day")?,
        pin_day_misses: get(row, "pin_day_misses")?,
    })
}

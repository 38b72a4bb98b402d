//! Is there room for this payment, judged where it is made?
//!
//! ```text
//! pay, intend ─▶ spend: locked? ─▶ evidence used up, once ─▶ where the shopper stands ─▶ merchant's day
//! intent declined ─▶ give_back
//! ```
//! Inside the transaction of the payment: of two at once the second sees what the first has taken.

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::{AccountId, MerchantId};
use protocol::money::Currency;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::merchants::find_merchant;
use super::parted::{PartingKey, lift_waiting, waiting_lock};
use super::passkeys::use_up;
use super::payments::Step;
use super::persons::{Person, find_person, person};
use super::row::{all, currency, find, get, one, time, time_or_none};
use super::service_accounts::choose;
use super::subjects::{Held, hold};
use super::writer::{Stop, Tx, Verdict};
use crate::journal::{Fact, LockedShopper, hex};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Allowances, Barred, Intent, Limit, Locked, OwnLimits, Pay, PayOutcome, PersonKey, Result,
    Spend, Standing, Strength, day_of,
};

#[async_trait]
impl Allowances for SqlStore {
    async fn standings(&self, person: PersonKey) -> Result<Vec<(Currency, Standing)>> {
        self.read(move |conn| match find_person(conn, &person)? {
            Some(person) => standings(conn, &person),
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn set_own_limits(
        &self,
        key: PersonKey,
        currency: Currency,
        own: OwnLimits,
        at: Timestamp,
    ) -> Result<()> {
        self.write(move |tx| {
            let person = person(tx, &key, at)?;
            let standing = standing(tx.conn, &person, currency)?;
            write(tx, &person, currency, &Standing { own, ..standing })?;
            let body = json!({
                "person": person.commitment(),
                "currency": currency,
                "each_minor": own.each_minor,
                "day_minor": own.day_minor,
            });
            Ok(tx.record("shopper.limited", at, &body)?)
        })
        .await
    }

    async fn set_merchant_limit(
        &self,
        merchant: MerchantId,
        day_minor: Option<i64>,
        by: String,
        at: Timestamp,
    ) -> Result<bool> {
        self.write(move |tx| limit_merchant(tx, merchant, day_minor, &by, at))
            .await
    }

    async fn merchant_limit(&self, merchant: MerchantId) -> Result<Option<i64>> {
        self.read(move |conn| merchant_limit(conn, merchant)).await
    }

    async fn lock(
        &self,
        person: PersonKey,
        reason: String,
        by: Option<String>,
        at: Timestamp,
    ) -> Result<Locked> {
        self.write(move |tx| lock(tx, &person, &reason, by.as_deref(), at))
            .await
    }

    async fn unlock(
        &self,
        person: PersonKey,
        reason: String,
        by: String,
        at: Timestamp,
    ) -> Result<Locked> {
        self.write(move |tx| unlock(tx, &person, &reason, &by, at))
            .await
    }

    async fn lock_of(&self, person: PersonKey) -> Result<Option<(Timestamp, String)>> {
        self.read(move |conn| {
            let Some(person) = find_person(conn, &person)? else {
                let waiting = waiting_lock(conn, &person)?;
                return Ok(waiting.map(|it| (it.locked_at, it.reason)));
            };
            find(
                conn,
                "SELECT locked_at_ms, lock_reason FROM persons
                 WHERE id = ?1 AND locked_at_ms IS NOT NULL",
                [person.id],
                |row| {
                    let at = Timestamp::from_ms(get(row, "locked_at_ms")?);
                    Ok((at, get(row, "lock_reason")?))
                },
            )
        })
        .await
    }

    async fn account_to_pay(
        &self,
        person: PersonKey,
        chosen: Option<AccountId>,
        currency: Currency,
    ) -> Result<Option<AccountId>> {
        self.read(move |conn| {
            let Some(person) = find_person(conn, &person)? else {
                return Ok(None);
            };
            Ok(choose(conn, &person.id, chosen, currency)?.map(|account| account.id))
        })
        .await
    }
}

/// Takes the payment's amount out of what this shopper and this merchant may move, or refuses it. Answers
/// whether it counts for the merchant.
pub(super) fn spend(tx: &mut Tx<'_>, pay: &Pay, person: &Person, account: AccountId) -> Step<bool> {
    if person.locked {
        return barred(Barred::Locked);
    }
    hold(tx.conn, Held::Person, &person.id)?;
    if let Strength::Passkey(confirmation) = &pay.strength {
        use_up(tx, pay, person, account, confirmation)?;
    }
    take_from_shopper(tx, pay, person)?;
    take_from_merchant(tx, pay)
}

fn barred<T>(why: Barred) -> Step<T> {
    Err(Stop::Refused(PayOutcome::Barred(why)))
}

fn take_from_shopper(tx: &Tx<'_>, pay: &Pay, person: &Person) -> Step<()> {
    let amount = pay.approved.amount();
    let mut spend = Spend {
        amount_minor: amount.amount_minor(),
        strength: &pay.strength,
        rules: &pay.rules,
        payments_elsewhere: 0,
        at: pay.at,
    };
    let mut here = Standing::default();
    for (currency, standing) in standings(tx.conn, person)? {
        if currency == amount.currency() {
            here = standing;
            continue;
        }
        let refreshed = match spend.strength.covers_payment() {
            true => standing.authenticated(spend.at),
            false => standing.refreshed(&spend),
        };
        if refreshed != standing {
            write(tx, person, currency, &refreshed)?;
        }
        spend.payments_elsewhere += refreshed.unaided_payments;
    }
    match here.after(&spend) {
        Ok(next) => Ok(write(tx, person, amount.currency(), &next)?),
        Err(why) => barred(why),
    }
}

/// Only merchants with a limit have a row of their day, so that the others' payments share none.
fn take_from_merchant(tx: &Tx<'_>, pay: &Pay) -> Step<bool> {
    let payee = pay.approved.claimed().payee;
    let amount_minor = pay.approved.amount().amount_minor();
    let own = merchant_limit(tx.conn, payee)?;
    let Some(limit) = own.or(pay.rules.merchant_day_minor) else {
        return Ok(false);
    };
    hold(tx.conn, Held::Merchant, payee.0.as_bytes())?;
    let today = day_of(pay.at);
    let taken = find(
        tx.conn,
        "SELECT taken_minor FROM merchant_days WHERE merchant = ?1 AND day >= ?2",
        params![payee.0.as_bytes(), today],
        |row| get::<i64>(row, "taken_minor"),
    )?;
    let taken = taken.unwrap_or(0).saturating_add(amount_minor);
    if taken > limit {
        return barred(Limit::MerchantDay.of_day(Some(limit), amount_minor, pay.at));
    }
    tx.execute_one(
        "INSERT INTO merchant_days (merchant, day, taken_minor) VALUES (?1, ?2, ?3)
         ON CONFLICT (merchant) DO UPDATE SET day = max(merchant_days.day, ?2), taken_minor = ?3",
        params![payee.0.as_bytes(), today, taken],
    )?;
    Ok(true)
}

/// An intent came to nothing: what it took is free again, once, where it was taken.
pub(super) fn give_back(tx: &Tx<'_>, intent: &Intent, person: &Person) -> Result<()> {
    hold(tx.conn, Held::Person, &person.id)?;
    let amount = intent.approved.amount();
    if takes_back(tx, "took_of_shopper", intent)? {
        let standing = standing(tx.conn, person, amount.currency())?;
        let without = standing.without(amount.amount_minor(), intent.started_at);
        if without != standing {
            write(tx, person, amount.currency(), &without)?;
        }
    }
    if !takes_back(tx, "took_of_merchant", intent)? {
        return Ok(());
    }
    tx.execute(
        "UPDATE merchant_days SET taken_minor = max(0, taken_minor - ?3)
         WHERE merchant = ?1 AND day = ?2",
        params![
            intent.approved.claimed().payee.0.as_bytes(),
            day_of(intent.started_at),
            amount.amount_minor()
        ],
    )?;
    Ok(())
}

/// Whether the intent was counted there, and not given back before; it is not counted any more.
pub(super) fn takes_back(tx: &Tx<'_>, took: &str, intent: &Intent) -> Result<bool> {
    let sql = format!("UPDATE intents SET {took} = 0 WHERE payment = ?1 AND {took} = 1");
    let touched = tx.execute(&sql, [intent.payment.0.as_bytes()])?;
    Ok(touched == 1)
}

pub(super) fn standings(conn: &Conn, person: &Person) -> Result<Vec<(Currency, Standing)>> {
    all(
        conn,
        "SELECT * FROM allowances WHERE person = ?1 ORDER BY currency",
        [person.id],
        |row| Ok((currency(row, "currency")?, read(row)?)),
    )
}

pub(super) fn standing(conn: &Conn, person: &Person, currency: Currency) -> Result<Standing> {
    let found = find(
        conn,
        "SELECT * FROM allowances WHERE person = ?1 AND currency = ?2",
        params![person.id, currency.code()],
        read,
    )?;
    Ok(found.unwrap_or_default())
}

fn read(row: &Row<'_>) -> Result<Standing> {
    Ok(Standing {
        strong_at: time_or_none(row, "strong_at_ms")?,
        unaided_minor: get(row, "unaided_minor")?,
        unaided_payments: get(row, "unaided_payments")?,
        unaided_at: time_or_none(row, "unaided_at_ms")?,
        day: get(row, "day")?,
        day_minor: get(row, "day_minor")?,
        own: OwnLimits {
            each_minor: get(row, "own_each_minor")?,
            day_minor: get(row, "own_day_minor")?,
        },
    })
}

pub(super) fn write(tx: &Tx<'_>, person: &Person, currency: Currency, it: &Standing) -> Result<()> {
    tx.execute_one(
        "INSERT INTO allowances
             (person, currency, strong_at_ms, unaided_minor, unaided_payments, unaided_at_ms, day,
              day_minor, own_each_minor, own_day_minor)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (person, currency) DO UPDATE SET strong_at_ms = excluded.strong_at_ms,
             unaided_minor = excluded.unaided_minor, unaided_payments = excluded.unaided_payments,
             unaided_at_ms = excluded.unaided_at_ms, day = excluded.day,
             day_minor = excluded.day_minor, own_each_minor = excluded.own_each_minor,
             own_day_minor = excluded.own_day_minor",
        params![
            person.id,
            currency.code(),
            it.strong_at.map(Timestamp::ms),
            it.unaided_minor,
            it.unaided_payments,
            it.unaided_at.map(Timestamp::ms),
            it.day,
            it.day_minor,
            it.own.each_minor,
            it.own.day_minor
        ],
    )
}

fn merchant_limit(conn: &Conn, merchant: MerchantId) -> Result<Option<i64>> {
    find(
        conn,
        "SELECT day_minor FROM merchant_limits WHERE merchant = ?1",
        [merchant.0.as_bytes()],
        |row| get(row, "day_minor"),
    )
}

fn limit_merchant(
    tx: &mut Tx<'_>,
    merchant: MerchantId,
    day_minor: Option<i64>,
    by: &str,
    at: Timestamp,
) -> Verdict<bool> {
    if find_merchant(tx.conn, merchant)?.is_none() {
        return Ok(false);
    }
    match day_minor {
        Some(limit) => tx.execute_one(
            "INSERT INTO merchant_limits (merchant, day_minor, set_at_ms) VALUES (?1, ?2, ?3)
             ON CONFLICT (merchant) DO UPDATE SET day_minor = ?2, set_at_ms = ?3",
            params![merchant.0.as_bytes(), limit, at.ms()],
        )?,
        None => {
            tx.execute(
                "DELETE FROM merchant_limits WHERE merchant = ?1",
                [merchant.0.as_bytes()],
            )?;
        }
    }
    let body = json!({ "merchant": merchant, "day_minor": day_minor, "by": by });
    tx.record("merchant.limited", at, &body)?;
    Ok(true)
}

fn lock(
    tx: &mut Tx<'_>,
    key: &PersonKey,
    reason: &str,
    by: Option<&str>,
    at: Timestamp,
) -> Verdict<Locked> {
    let Some(person) = find_person(tx.conn, key)? else {
        return Ok(Locked::Unknown);
    };
    match lock_person(tx, &person, reason, by, at)? {
        true => Ok(Locked::Done),
        false => Ok(Locked::Already),
    }
}

/// False if it was locked already.
pub(super) fn lock_person(
    tx: &mut Tx<'_>,
    person: &Person,
    reason: &str,
    by: Option<&str>,
    at: Timestamp,
) -> Result<bool> {
    let touched = tx.execute(
        "UPDATE persons SET locked_at_ms = ?2, lock_reason = ?3, lock_turn = lock_turn + 1
         WHERE id = ?1 AND locked_at_ms IS NULL",
        params![person.id, at.ms(), reason],
    )?;
    if touched == 0 {
        return Ok(false);
    }
    let fact = lock_fact(tx.conn, &person.id)?;
    tx.tell(at, fact.ok_or_else(|| corrupt("a lock vanished"))?);
    let body = json!({ "person": person.commitment(), "reason": reason, "by": by });
    tx.record("shopper.locked", at, &body)?;
    Ok(true)
}

/// What a restored copy must not forget of a lock; none if there is none.
pub(super) fn lock_fact(conn: &Conn, person: &[u8; 16]) -> Result<Option<Fact>> {
    let key = PartingKey::of(conn)?;
    let identities = all(
        conn,
        "SELECT issuer, subject FROM identities WHERE person = ?1 ORDER BY issuer, subject",
        [person],
        |row| {
            let identity = PersonKey {
                issuer: get(row, "issuer")?,
                subject: get(row, "subject")?,
            };
            Ok(hex(&key.digest(&identity)))
        },
    )?;
    find(
        conn,
        "SELECT lock_turn, locked_at_ms, lock_reason FROM persons
         WHERE id = ?1 AND locked_at_ms IS NOT NULL",
        [person],
        |row| {
            Ok(Fact::ShopperLocked(LockedShopper {
                person: hex(person),
                turn: get(row, "lock_turn")?,
                key: key.name(),
                identities: identities.clone(),
                locked_at: time(row, "locked_at_ms")?,
                reason: get(row, "lock_reason")?,
            }))
        },
    )
}

fn unlock(
    tx: &mut Tx<'_>,
    key: &PersonKey,
    reason: &str,
    by: &str,
    at: Timestamp,
) -> Verdict<Locked> {
    let Some(person) = find_person(tx.conn, key)? else {
        return unlock_waiting(tx, key, reason, by, at);
    };
    let touched = tx.execute(
        "UPDATE persons SET locked_at_ms = NULL, lock_reason = NULL, lock_turn = lock_turn + 1
         WHERE id = ?1 AND locked_at_ms IS NOT NULL",
        [person.id],
    )?;
    if touched == 0 {
        return Ok(Locked::Already);
    }
    let turn = one(
        tx.conn,
        "SELECT lock_turn FROM persons WHERE id = ?1",
        [person.id],
        |row| get(row, "lock_turn"),
    )?;
    let fact = Fact::ShopperUnlocked {
        person: hex(&person.id),
        turn,
    };
    tx.tell(at, fact);
    let body = json!({ "person": person.commitment(), "reason": reason, "by": by });
    tx.record("shopper.unlocked", at, &body)?;
    Ok(Locked::Done)
}

/// A lock that a raise left for somebody who has not come since.
fn unlock_waiting(
    tx: &mut Tx<'_>,
    key: &PersonKey,
    reason: &str,
    by: &str,
    at: Timestamp,
) -> Verdict<Locked> {
    let Some(lock) = waiting_lock(tx.conn, key)? else {
        return Ok(Locked::Unknown);
    };
    lift_waiting(tx, &lock)?;
    let person = hex(&lock.person);
    let body = json!({ "lost_profile": person, "reason": reason, "by": by });
    let turn = lock.turn + 1;
    tx.tell(at, Fact::ShopperUnlocked { person, turn });
    tx.record("shopper.unlocked", at, &body)?;
    Ok(Locked::Done)
}

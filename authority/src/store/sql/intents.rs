//! How does a payment that somebody else carries out stay certain?
//!
//! One statement guards every step: the state it leads from stands in its `WHERE`.

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::{AccountId, ClaimId, PaymentId, ReceiptId};
use protocol::time::Timestamp;
use protocol::token::WindowId;
use serde_json::json;

use super::SqlStore;
use super::allowances::{give_back, spend, takes_back};
use super::booking::{Booking, approved_again};
use super::caps;
use super::ledger::clearing;
use super::payments::{Step, capped};
use super::persons::{Person, person_of_account};
use super::row::{all, count, find, get, time, time_or_none, uuid};
use super::settle::{StoredClaim, find_claim};
use super::writer::{Stop, Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Intent, IntentCount, IntentState, IntentStep, Intents, Pay, PayOutcome, PersonKey, RailKey,
    Reason, Result, ServiceAccount,
};

/// How long after its start an intent is taken up by whoever looks, if nobody has carried it on.
const TAKE_UP_AFTER_MS: i64 = 5_000;

#[async_trait]
impl Intents for SqlStore {
    async fn intent(&self, payment: PaymentId) -> Result<Option<Intent>> {
        self.read(move |conn| find_intent(conn, payment)).await
    }

    async fn intents_of(&self, claim: ClaimId) -> Result<Vec<Intent>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM intents WHERE claim = ?1 ORDER BY started_at_ms, payment",
                [claim.0.as_bytes()],
                |row| read_intent(conn, row),
            )
        })
        .await
    }

    async fn is_intent_of(&self, payment: PaymentId, person: PersonKey) -> Result<bool> {
        self.read(move |conn| is_payer(conn, payment, &person))
            .await
    }

    async fn step_intent(
        &self,
        payment: PaymentId,
        step: IntentStep,
        at: Timestamp,
    ) -> Result<Option<Intent>> {
        let touches = self.at_payment(payment).await?;
        self.write_on(touches, move |tx| take(tx, payment, &step, at))
            .await
    }

    async fn intents_due(&self, rail: String, now: Timestamp, limit: u32) -> Result<Vec<Intent>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM intents WHERE rail = ?1 AND next_at_ms <= ?2
                 ORDER BY next_at_ms, payment LIMIT ?3",
                params![rail, now.ms(), limit],
                |row| read_intent(conn, row),
            )
        })
        .await
    }

    async fn open_intents(&self, rail: Option<String>, limit: u32) -> Result<Vec<Intent>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM intents WHERE next_at_ms IS NOT NULL AND (?1 IS NULL OR rail = ?1)
                 ORDER BY started_at_ms, payment LIMIT ?2",
                params![rail, limit],
                |row| read_intent(conn, row),
            )
        })
        .await
    }

    async fn latest_intents(
        &self,
        rail: Option<String>,
        before: Option<PaymentId>,
        limit: u32,
    ) -> Result<Vec<Intent>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM intents
                 WHERE (?1 IS NULL OR rail = ?1) AND (?2 IS NULL OR payment < ?2)
                 ORDER BY payment DESC LIMIT ?3",
                params![rail, before.map(|it| *it.0.as_bytes()), limit],
                |row| read_intent(conn, row),
            )
        })
        .await
    }

    async fn count_open_intents(&self) -> Result<Vec<IntentCount>> {
        self.read(|conn| {
            all(
                conn,
                "SELECT rail, state, count(*) AS open, min(started_at_ms) AS oldest FROM intents
                 WHERE next_at_ms IS NOT NULL GROUP BY rail, state ORDER BY rail, state",
                params![],
                |row| {
                    Ok(IntentCount {
                        rail: get(row, "rail")?,
                        state: read_named(row, "state")?,
                        count: count(row, "open")?,
                        oldest: time(row, "oldest")?,
                    })
                },
            )
        })
        .await
    }
}

/// The intent of this approval, committed before anybody is asked; or the one there is already.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    pay: &Pay,
    claim: &StoredClaim,
    person: &Person,
    account: &ServiceAccount,
) -> Step<PayOutcome> {
    let id = pay.approved.claimed().claim;
    let amount_minor = pay.approved.amount().amount_minor();
    if let Some(asked) = asked_before(tx.conn, id, account.id, amount_minor)? {
        return Ok(PayOutcome::Asked(Box::new(asked)));
    }
    if claim.record.paying {
        return match active(tx.conn, id)? {
            Some(other) if is_payer(tx.conn, other.payment, &pay.person)? => {
                Ok(PayOutcome::Asked(Box::new(other)))
            }
            _ => Err(Stop::Refused(PayOutcome::ClaimOver)),
        };
    }
    let took = Took {
        of_merchant: spend(tx, pay, person, account.id)?,
        of_account: capped(tx, pay, account)?,
    };
    insert(tx, pay, account, &took)?;
    move_claim(tx, id, "held", "paying")?;
    let body = json!({
        "payment": pay.payment,
        "claim": id,
        "rail": account.rail,
        "key": pay.key,
        "amount": pay.approved.amount(),
        "person": person.commitment(),
    });
    tx.record("intent.begun", pay.at, &body)?;
    let begun = find_intent(tx.conn, pay.payment)?.ok_or_else(|| corrupt("an intent vanished"))?;
    Ok(PayOutcome::Begun(Box::new(begun)))
}

/// A claim that is about to end: what its rail was not yet told to take is taken back. False if the money
/// is just being taken.
pub(super) fn turn_back_for(tx: &mut Tx<'_>, claim: ClaimId, at: Timestamp) -> Result<bool> {
    match active(tx.conn, claim)? {
        None => Ok(true),
        Some(intent) if intent.state == IntentState::Authorising => {
            turn_back(tx, &intent, Reason::Cancelled, at)?;
            Ok(true)
        }
        Some(_) => Ok(false),
    }
}

/// What an intent counts against besides the shopper's own limits: only what is there when it begins.
struct Took {
    of_merchant: bool,
    of_account: bool,
}

fn insert(tx: &Tx<'_>, pay: &Pay, account: &ServiceAccount, took: &Took) -> Result<()> {
    tx.execute_one(
        "INSERT INTO intents (payment, receipt, claim, service_account, rail, rail_account,
                              amount_minor, rail_key, state, tries, next_at_ms, started_at_ms,
                              changed_at_ms, took_of_shopper, took_of_merchant, took_of_account)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'authorising', 0, ?9, ?10, ?10, 1, ?11, ?12)",
        params![
            pay.payment.0.as_bytes(),
            pay.receipt.0.as_bytes(),
            pay.approved.claimed().claim.0.as_bytes(),
            account.id.0.as_bytes(),
            account.rail,
            account.reference,
            pay.approved.amount().amount_minor(),
            pay.key.0.as_bytes(),
            (pay.at + TAKE_UP_AFTER_MS).ms(),
            pay.at.ms(),
            took.of_merchant,
            took.of_account
        ],
    )
}

fn take(
    tx: &mut Tx<'_>,
    payment: PaymentId,
    step: &IntentStep,
    at: Timestamp,
) -> Verdict<Option<Intent>> {
    use IntentState::{Authorising, Capturing, Reversing};
    let Some(intent) = find_intent(tx.conn, payment)? else {
        return Ok(None);
    };
    match (intent.state, step) {
        (Authorising, IntentStep::Authorised { reference }) => {
            authorised(tx, &intent, reference, at)?;
        }
        (Capturing, IntentStep::Captured { reference, moved }) => {
            captured(tx, &intent, reference, moved, at)?;
        }
        (Authorising, IntentStep::Declined { reason }) => declined(tx, &intent, *reason, at)?,
        (Capturing, IntentStep::Declined { reason })
        | (Authorising | Capturing, IntentStep::TurnedBack { reason }) => {
            turn_back(tx, &intent, *reason, at)?;
        }
        (Reversing, IntentStep::Reversed) => reversed(tx, &intent, at)?,
        (state, IntentStep::Unanswered { next_at }) if state.is_open() => {
            unanswered(tx, &intent, *next_at, at)?;
        }
        // Too late, or heard before.
        _ => return Ok(Some(intent)),
    }
    Ok(find_intent(tx.conn, payment)?)
}

fn authorised(tx: &mut Tx<'_>, intent: &Intent, reference: &str, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE intents SET state = 'capturing', rail_reference = ?2, tries = 0, next_at_ms = ?3,
                            changed_at_ms = ?4
         WHERE payment = ?1 AND state = 'authorising'",
        params![
            intent.payment.0.as_bytes(),
            reference,
            (at + TAKE_UP_AFTER_MS).ms(),
            at.ms()
        ],
    )?;
    record(tx, "intent.authorised", intent, None, at)
}

fn captured(
    tx: &mut Tx<'_>,
    intent: &Intent,
    reference: &str,
    moved: &[WindowId],
    at: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "UPDATE intents SET state = 'paid', rail_reference = ?2, next_at_ms = NULL,
                            changed_at_ms = ?3
         WHERE payment = ?1 AND state = 'capturing'",
        params![intent.payment.0.as_bytes(), reference, at.ms()],
    )?;
    let person = person_of_account(tx.conn, intent.service_account)?
        .ok_or_else(|| corrupt("a service account of nobody"))?;
    let claim = intent.approved.claimed().claim;
    let claim =
        find_claim(tx.conn, claim)?.ok_or_else(|| corrupt("an intent without its claim"))?;
    let booking = Booking {
        payment: intent.payment,
        receipt: intent.receipt,
        approved: &intent.approved,
        person: &person,
        service_account: intent.service_account,
        from: clearing(tx, &intent.rail, intent.approved.amount().currency(), at)?,
        to: claim.payee_account,
        rail: &intent.rail,
        rail_reference: reference,
        claim_state: "paying",
        approved_at: intent.started_at,
        paid_at: at,
        moved,
    };
    booking.enter(tx)
}

fn declined(tx: &mut Tx<'_>, intent: &Intent, reason: Reason, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE intents SET state = 'declined', reason = ?2, next_at_ms = NULL, changed_at_ms = ?3
         WHERE payment = ?1 AND state = 'authorising'",
        params![intent.payment.0.as_bytes(), reason.name(), at.ms()],
    )?;
    let claim = intent.approved.claimed().claim;
    move_claim(tx, claim, "paying", "held")?;
    free(tx, intent)?;
    uncount(tx, intent)?;
    record(tx, "intent.declined", intent, Some(reason), at)
}

/// From here on it is never paid, so its claim need not wait for the rail.
fn turn_back(tx: &mut Tx<'_>, intent: &Intent, reason: Reason, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE intents SET state = 'reversing', reason = ?2, tries = 0, next_at_ms = ?3,
                            changed_at_ms = ?3
         WHERE payment = ?1 AND state IN ('authorising', 'capturing')",
        params![intent.payment.0.as_bytes(), reason.name(), at.ms()],
    )?;
    let claim = intent.approved.claimed().claim;
    move_claim(tx, claim, "paying", "held")?;
    free(tx, intent)?;
    record(tx, "intent.reversing", intent, Some(reason), at)
}

/// What was counted for it is the shopper's again.
fn free(tx: &Tx<'_>, intent: &Intent) -> Result<()> {
    let person = person_of_account(tx.conn, intent.service_account)?
        .ok_or_else(|| corrupt("a service account of nobody"))?;
    give_back(tx, intent, &person)
}

fn reversed(tx: &mut Tx<'_>, intent: &Intent, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE intents SET state = 'reversed', next_at_ms = NULL, changed_at_ms = ?2
         WHERE payment = ?1 AND state = 'reversing'",
        params![intent.payment.0.as_bytes(), at.ms()],
    )?;
    uncount(tx, intent)?;
    record(tx, "intent.reversed", intent, intent.reason, at)
}

/// It is certain now that nothing was taken: the account's caps have it back.
fn uncount(tx: &Tx<'_>, intent: &Intent) -> Result<()> {
    if !takes_back(tx, "took_of_account", intent)? {
        return Ok(());
    }
    let (rail, reference) = (&intent.rail, &intent.rail_account);
    let amount = intent.approved.amount();
    caps::give_back(tx, rail, reference, amount, intent.started_at)
}

fn unanswered(tx: &mut Tx<'_>, intent: &Intent, next_at: Timestamp, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE intents SET tries = tries + 1, next_at_ms = ?2
         WHERE payment = ?1 AND next_at_ms IS NOT NULL",
        params![intent.payment.0.as_bytes(), next_at.ms()],
    )?;
    record(tx, "intent.unanswered", intent, None, at)
}

fn move_claim(tx: &Tx<'_>, claim: ClaimId, from: &str, to: &str) -> Result<()> {
    tx.execute_one(
        "UPDATE claims SET state = ?3 WHERE id = ?1 AND state = ?2",
        params![claim.0.as_bytes(), from, to],
    )
}

fn record(
    tx: &mut Tx<'_>,
    kind: &str,
    intent: &Intent,
    reason: Option<Reason>,
    at: Timestamp,
) -> Result<()> {
    let body = json!({
        "payment": intent.payment,
        "claim": intent.approved.claimed().claim,
        "rail": intent.rail,
        "state": intent.state.name(),
        "reason": reason.map(Reason::name),
    });
    tx.record(kind, at, &body)
}

fn is_payer(conn: &Conn, payment: PaymentId, person: &PersonKey) -> Result<bool> {
    let row = find(
        conn,
        "SELECT 1 FROM intents
         JOIN service_accounts ON service_accounts.id = intents.service_account
         JOIN identities ON identities.person = service_accounts.person
         WHERE intents.payment = ?1 AND identities.issuer = ?2 AND identities.subject = ?3",
        params![payment.0.as_bytes(), person.issuer, person.subject],
        |_| Ok(()),
    )?;
    Ok(row.is_some())
}

fn find_intent(conn: &Conn, payment: PaymentId) -> Result<Option<Intent>> {
    find(
        conn,
        "SELECT * FROM intents WHERE payment = ?1",
        [payment.0.as_bytes()],
        |row| read_intent(conn, row),
    )
}

fn asked_before(
    conn: &Conn,
    claim: ClaimId,
    account: AccountId,
    amount_minor: i64,
) -> Result<Option<Intent>> {
    find(
        conn,
        "SELECT * FROM intents
         WHERE claim = ?1 AND service_account = ?2 AND amount_minor = ?3",
        params![claim.0.as_bytes(), account.0.as_bytes(), amount_minor],
        |row| read_intent(conn, row),
    )
}

/// The intent that this claim waits for.
fn active(conn: &Conn, claim: ClaimId) -> Result<Option<Intent>> {
    find(
        conn,
        "SELECT * FROM intents WHERE claim = ?1 AND state IN ('authorising', 'capturing')",
        [claim.0.as_bytes()],
        |row| read_intent(conn, row),
    )
}

fn read_intent(conn: &Conn, row: &Row<'_>) -> Result<Intent> {
    let claim = find_claim(conn, ClaimId(uuid(row, "claim")?))?
        .ok_or_else(|| corrupt("an intent without its claim"))?
        .record;
    let started_at = time(row, "started_at_ms")?;
    let reason = get::<Option<String>>(row, "reason")?;
    Ok(Intent {
        payment: PaymentId(uuid(row, "payment")?),
        receipt: ReceiptId(uuid(row, "receipt")?),
        payee_name: claim.payee_name,
        approved: approved_again(claim.claimed, get(row, "amount_minor")?, started_at)?,
        service_account: AccountId(uuid(row, "service_account")?),
        rail: get(row, "rail")?,
        rail_account: get(row, "rail_account")?,
        key: RailKey(uuid(row, "rail_key")?),
        state: read_named(row, "state")?,
        reason: reason.map(|text| named(&text)).transpose()?,
        rail_reference: get(row, "rail_reference")?,
        tries: get(row, "tries")?,
        next_at: time_or_none(row, "next_at_ms")?,
        started_at,
        changed_at: time(row, "changed_at_ms")?,
    })
}

fn read_named<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<T> {
    named(&get::<String>(row, column)?)
}

fn named<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| corrupt(format!("an intent that says {text}")))
}

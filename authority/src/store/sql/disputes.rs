//! Where is everything that is kept of one charge?

use crate::store::sql::conn::{Conn, Row};
use async_trait::async_trait;
use protocol::ids::{ChargeId, MerchantId};
use protocol::time::Timestamp;
use protocol::token::Channel;
use uuid::Uuid;

use super::SqlStore;
use super::row::{all, find, get, terminal, time, time_or_none, uuid};
use crate::store::sqlite::error::corrupt;
use crate::store::{Dispute, Disputes, Moment, Result, Source};

mod evidence;
mod taps;

#[async_trait]
impl Disputes for SqlStore {
    async fn dispute(&self, id: Uuid) -> Result<Option<Dispute>> {
        self.read(move |conn| dispute(conn, id)).await
    }
}

fn dispute(conn: &Conn, id: Uuid) -> Result<Option<Dispute>> {
    let Some(charge) = charge_of(conn, id)? else {
        return Ok(None);
    };
    let mut moments = Vec::new();
    let mut found = head(conn, charge)?;
    for gather in [
        charges,
        claims,
        intents,
        payments,
        evidence::approvals,
        evidence::receipts,
        refunds,
        evidence::refund_receipts,
        notices,
        settlements,
    ] {
        moments.append(&mut gather(conn, charge)?);
    }
    moments.append(&mut taps::taps(conn, &found)?);
    // Same moments in the order of what leads to what.
    moments.sort_by_key(|moment| (moment.at, moment.source));
    found.moments = moments;
    Ok(Some(found))
}

/// Ids of different kinds are UUIDs and never the same.
fn charge_of(conn: &Conn, id: Uuid) -> Result<Option<ChargeId>> {
    find(
        conn,
        "SELECT id AS charge FROM charges WHERE id = ?1
         UNION ALL SELECT charge FROM claims WHERE id = ?1
         UNION ALL SELECT claims.charge FROM payments
             JOIN claims ON claims.id = payments.claim
             WHERE payments.id = ?1 OR payments.receipt = ?1
         UNION ALL SELECT claims.charge FROM refunds
             JOIN payments ON payments.id = refunds.payment
             JOIN claims ON claims.id = payments.claim
             WHERE refunds.id = ?1 OR refunds.receipt = ?1
         UNION ALL SELECT claims.charge FROM intents
             JOIN claims ON claims.id = intents.claim
             WHERE intents.payment = ?1 OR intents.receipt = ?1
         LIMIT 1",
        [id.as_bytes()],
        |row| Ok(ChargeId(uuid(row, "charge")?)),
    )
}

fn head(conn: &Conn, charge: ChargeId) -> Result<Dispute> {
    let found = find(
        conn,
        "SELECT charges.terminal, charges.merchant, merchants.name FROM charges
         JOIN merchants ON merchants.id = charges.merchant WHERE charges.id = ?1",
        [charge.0.as_bytes()],
        |row| {
            Ok(Dispute {
                charge,
                merchant: MerchantId(uuid(row, "merchant")?),
                payee_name: get(row, "name")?,
                terminal: terminal(row, "terminal")?,
                moments: Vec::new(),
            })
        },
    )?;
    found.ok_or_else(|| corrupt("a charge vanished"))
}

fn moment(at: Timestamp, source: Source, what: &str) -> Moment {
    Moment {
        at,
        source,
        what: what.into(),
        facts: Default::default(),
        kept: None,
        proof: None,
    }
}

trait With: Sized {
    fn with(self, name: &str, value: impl ToString) -> Self;

    /// Left out when there is none.
    fn with_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl With for Moment {
    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.facts.insert(name.into(), value.to_string());
        self
    }
}

fn id_of(row: &Row<'_>, column: &str) -> Result<String> {
    Ok(uuid(row, column)?.to_string())
}

fn charges(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    all(
        conn,
        "SELECT * FROM charges WHERE id = ?1",
        [charge.0.as_bytes()],
        |row| {
            let started = moment(
                time(row, "started_at_ms")?,
                Source::Authority,
                "charge started",
            );
            Ok(started
                .with("kind", get::<String>(row, "kind")?)
                .with("currency", get::<String>(row, "currency")?)
                .with_some("asked_minor", get::<Option<i64>>(row, "asked_minor")?)
                .with_some("cap_minor", get::<Option<i64>>(row, "cap_minor")?)
                .with_some("reference", get::<Option<String>>(row, "reference")?)
                .with("now", get::<String>(row, "state")?)
                .with_some("ended", get::<Option<String>>(row, "end_reason")?)
                .with("releases", get::<i64>(row, "releases")?))
        },
    )
}

/// The token that was spent, and what became of the claim.
fn claims(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    all(
        conn,
        "SELECT * FROM claims WHERE charge = ?1 ORDER BY claimed_at_ms",
        [charge.0.as_bytes()],
        |row| {
            let channel: u8 = get(row, "channel")?;
            let channel = Channel::from_byte(channel).ok_or_else(|| corrupt("a channel"))?;
            let claimed = moment(
                time(row, "claimed_at_ms")?,
                Source::Authority,
                "token spent",
            );
            Ok(claimed
                .with("claim", id_of(row, "id")?)
                .with("channel", channel)
                .with("seed_version", get::<u32>(row, "version")?)
                .with("epoch", get::<u32>(row, "epoch")?)
                .with("window", get::<u32>(row, "window")?)
                .with("turn", get::<u32>(row, "turn")?)
                .with("mark", format!("{:02}", get::<u8>(row, "mark")?))
                .with("held_until", time(row, "held_until_ms")?)
                .with("now", get::<String>(row, "state")?))
        },
    )
}

/// What an outside rail was asked for, and how it stands there.
fn intents(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    let pairs = all(
        conn,
        "SELECT intents.* FROM intents JOIN claims ON claims.id = intents.claim
         WHERE claims.charge = ?1 ORDER BY intents.started_at_ms",
        [charge.0.as_bytes()],
        |row| {
            let (rail, payment): (String, _) = (get(row, "rail")?, id_of(row, "payment")?);
            let asked = moment(time(row, "started_at_ms")?, Source::Authority, "rail asked")
                .with("rail", &rail)
                .with("payment", &payment)
                .with("amount_minor", get::<i64>(row, "amount_minor")?);
            let state: String = get(row, "state")?;
            let stands = format!("rail stands at {state}");
            let stands = moment(time(row, "changed_at_ms")?, Source::Rail, &stands)
                .with("rail", rail)
                .with("payment", payment)
                .with("tries", get::<i64>(row, "tries")?)
                .with_some("reason", get::<Option<String>>(row, "reason")?)
                .with_some(
                    "rail_reference",
                    get::<Option<String>>(row, "rail_reference")?,
                );
            Ok([asked, stands])
        },
    )?;
    Ok(pairs.into_iter().flatten().collect())
}

fn payments(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    let all = all(
        conn,
        "SELECT payments.* FROM payments JOIN claims ON claims.id = payments.claim
         WHERE claims.charge = ?1",
        [charge.0.as_bytes()],
        |row| {
            let approved = moment(time(row, "approved_at_ms")?, Source::Authority, "approved")
                .with("claim", id_of(row, "claim")?)
                .with("amount_minor", get::<i64>(row, "amount_minor")?)
                .with("payer", get::<String>(row, "pseudonym")?);
            let paid = moment(time(row, "paid_at_ms")?, Source::Authority, "paid")
                .with("payment", id_of(row, "id")?)
                .with("receipt", id_of(row, "receipt")?)
                .with("rail", get::<String>(row, "rail")?)
                .with("rail_reference", get::<String>(row, "rail_reference")?)
                .with("refunded_minor", get::<i64>(row, "refunded_minor")?);
            Ok([approved, paid])
        },
    )?;
    Ok(all.into_iter().flatten().collect())
}

fn refunds(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    let all = all(
        conn,
        "SELECT refunds.* FROM refunds
         JOIN payments ON payments.id = refunds.payment
         JOIN claims ON claims.id = payments.claim
         WHERE claims.charge = ?1 ORDER BY refunds.asked_at_ms",
        [charge.0.as_bytes()],
        |row| {
            let (refund, receipt) = (id_of(row, "id")?, id_of(row, "receipt")?);
            let at_terminal = get::<Option<u32>>(row, "terminal")?;
            let asked = moment(
                time(row, "asked_at_ms")?,
                Source::Authority,
                "refund asked for",
            )
            .with("refund", &refund)
            .with("amount_minor", get::<i64>(row, "amount_minor")?)
            .with_some("terminal", at_terminal.map(|id| format!("{id:08}")))
            .with_some("operator", get::<Option<String>>(row, "operator")?)
            .with_some("reason", get::<Option<String>>(row, "reason")?)
            .with("tries", get::<i64>(row, "tries")?);
            let state: String = get(row, "state")?;
            let ended = time_or_none(row, "ended_at_ms")?.map(|at| {
                moment(at, Source::Authority, &state)
                    .with("refund", &refund)
                    .with("receipt", &receipt)
            });
            let ended = match ended {
                Some(ended) => Some(
                    ended
                        .with_some("why", get::<Option<String>>(row, "decline_reason")?)
                        .with_some(
                            "rail_reference",
                            get::<Option<String>>(row, "rail_reference")?,
                        ),
                ),
                None => None,
            };
            Ok([Some(asked), ended])
        },
    )?;
    Ok(all.into_iter().flatten().flatten().collect())
}

fn notices(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    let all = all(
        conn,
        "SELECT * FROM notices WHERE charge = ?1 ORDER BY id",
        [charge.0.as_bytes()],
        |row| {
            let notice = id_of(row, "id")?;
            let made = moment(
                time(row, "made_at_ms")?,
                Source::Authority,
                "merchant to be told",
            )
            .with("notice", &notice)
            .with("event", get::<String>(row, "kind")?)
            .with("now", get::<String>(row, "state")?)
            .with("tries", get::<i64>(row, "tries")?)
            .with_some("problem", get::<Option<String>>(row, "last_problem")?);
            let taken = time_or_none(row, "delivered_at_ms")?;
            let taken = taken
                .map(|at| moment(at, Source::Merchant, "webhook taken").with("notice", &notice));
            Ok([Some(made), taken])
        },
    )?;
    Ok(all.into_iter().flatten().flatten().collect())
}

fn settlements(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    all(
        conn,
        "SELECT DISTINCT settlements.number, settlements.day, settlements.closed_at_ms,
                settlements.closed_by
         FROM claims
         JOIN payments ON payments.claim = claims.id
         JOIN bookings ON bookings.payment = payments.id
         JOIN settlements ON settlements.merchant = bookings.merchant
             AND settlements.number = bookings.settlement
         WHERE claims.charge = ?1",
        [charge.0.as_bytes()],
        |row| {
            let closed = moment(time(row, "closed_at_ms")?, Source::Authority, "day closed");
            Ok(closed
                .with("settlement", get::<i64>(row, "number")?)
                .with("day", get::<String>(row, "day")?)
                .with("by", get::<String>(row, "closed_by")?))
        },
    )
}

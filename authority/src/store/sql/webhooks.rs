//! Where is what merchants are to be told, in order and at least once?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::{ChargeId, MerchantId, NoticeId};
use protocol::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::SqlStore;
use super::merchants::find_merchant;
use super::persons::random;
use super::row::{all, count, find, get, one, signed, time, uuid, uuid_or_none};
use super::writer::{Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{NoticeEvent, NoticeRecord, Result, Webhook, Webhooks};

#[async_trait]
impl Webhooks for SqlStore {
    async fn set_webhook(
        &self,
        merchant: MerchantId,
        url: Option<String>,
        at: Timestamp,
    ) -> Result<bool> {
        self.write(move |tx| set(tx, merchant, url.as_deref(), at))
            .await
    }

    async fn webhooks(&self, after: Option<MerchantId>, limit: u32) -> Result<Vec<Webhook>> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        self.read(move |conn| {
            all(
                conn,
                "SELECT webhooks.*,
                     (SELECT count(*) FROM notices WHERE notices.merchant = webhooks.merchant
                      AND state = 'waiting') AS waiting,
                     (SELECT count(*) FROM notices WHERE notices.merchant = webhooks.merchant
                      AND state = 'parked') AS parked
                 FROM webhooks WHERE merchant > ?1 ORDER BY merchant LIMIT ?2",
                params![after.as_bytes(), limit],
                read_webhook,
            )
        })
        .await
    }

    async fn merchants_to_tell(&self, now: Timestamp, limit: u32) -> Result<Vec<MerchantId>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT merchant, min(next_at_ms) AS first_ms FROM notices
                 WHERE state = 'waiting' AND next_at_ms <= ?1
                 GROUP BY merchant ORDER BY first_ms LIMIT ?2",
                params![now.ms(), limit],
                |row| Ok(MerchantId(uuid(row, "merchant")?)),
            )
        })
        .await
    }

    async fn next_notice(
        &self,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<Option<NoticeRecord>> {
        self.read(move |conn| next(conn, merchant, now)).await
    }

    async fn notice_delivered(&self, id: NoticeId, at: Timestamp) -> Result<()> {
        self.write(move |tx| delivered(tx, id, at)).await
    }

    async fn notice_failed(
        &self,
        id: NoticeId,
        problem: String,
        next_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<()> {
        self.write(move |tx| failed(tx, id, &problem, next_at, at))
            .await
    }

    async fn retry_notices(&self, merchant: MerchantId, at: Timestamp) -> Result<u64> {
        self.write(move |tx| retry(tx, merchant, at)).await
    }

    async fn count_parked(&self) -> Result<u64> {
        self.read(|conn| {
            let sql = "SELECT count(*) AS parked FROM notices WHERE state = 'parked'";
            one(conn, sql, params![], |row| count(row, "parked"))
        })
        .await
    }
}

/// What happened to this merchant's books; nothing is written where nobody is told.
pub(super) struct Happened {
    pub(super) merchant: MerchantId,
    pub(super) about: NoticeEvent,
    pub(super) charge: Option<ChargeId>,
    pub(super) at: Timestamp,
}

impl Happened {
    /// Milliseconds for the id: notices of one charge are told in the order of their ids, and several may
    /// happen in one millisecond.
    fn later_than_before(&self, tx: &Tx<'_>) -> Result<u64> {
        let now = u64::try_from(self.at.ms()).unwrap_or(0);
        let Some(charge) = self.charge else {
            return Ok(now);
        };
        let last = find(
            tx.conn,
            "SELECT id FROM notices WHERE charge = ?1 AND state <> 'delivered'
             ORDER BY id DESC LIMIT 1",
            [charge.0.as_bytes()],
            |row| uuid(row, "id"),
        )?;
        // A UUIDv7 begins with its 48 bits of milliseconds.
        let last = last.map_or(0, |id| (id.as_u128() >> 80) as u64 + 1);
        Ok(now.max(last))
    }

    pub(super) fn tell(&self, tx: &Tx<'_>) -> Result<()> {
        let (kind, movement, settlement) = match self.about {
            NoticeEvent::Paid { movement } => ("payment.paid", Some(movement), None),
            NoticeEvent::Refunded { movement } => ("payment.refunded", Some(movement), None),
            NoticeEvent::Closed { number } => ("settlement.closed", None, Some(signed(number))),
        };
        let of_merchant = [self.merchant.0.as_bytes()];
        let webhook = "SELECT 1 FROM webhooks WHERE merchant = ?1";
        if find(tx.conn, webhook, of_merchant, |_| Ok(()))?.is_none() {
            return Ok(());
        }
        let id = NoticeId::from_parts(self.later_than_before(tx)?, &random()?);
        tx.execute_one(
            "INSERT INTO notices (id, merchant, kind, charge, movement, settlement, state, tries,
                                  next_at_ms, made_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting', 0, ?7, ?7)",
            params![
                id.0.as_bytes(),
                self.merchant.0.as_bytes(),
                kind,
                self.charge.as_ref().map(|charge| charge.0.as_bytes()),
                movement.as_ref().map(Uuid::as_bytes),
                settlement,
                self.at.ms()
            ],
        )
    }
}

fn set(tx: &mut Tx<'_>, merchant: MerchantId, url: Option<&str>, at: Timestamp) -> Verdict<bool> {
    if find_merchant(tx.conn, merchant)?.is_none() {
        return Ok(false);
    }
    let id = merchant.0.as_bytes();
    match url {
        Some(url) => {
            tx.execute_one(
                "INSERT INTO webhooks (merchant, url, set_at_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT (merchant) DO UPDATE SET url = ?2, set_at_ms = ?3",
                params![id, url, at.ms()],
            )?;
        }
        None => {
            tx.execute("DELETE FROM webhooks WHERE merchant = ?1", [id])?;
            tx.execute(
                "UPDATE notices SET state = 'parked', last_problem = 'the webhook was removed'
                 WHERE merchant = ?1 AND state = 'waiting'",
                [id],
            )?;
        }
    }
    tx.record(
        "webhook.set",
        at,
        &json!({ "merchant": merchant, "url": url }),
    )?;
    Ok(true)
}

fn next(conn: &Conn, merchant: MerchantId, now: Timestamp) -> Result<Option<NoticeRecord>> {
    find(
        conn,
        "SELECT notices.*, webhooks.url,
             coalesce(receipts.jws, refund_receipts.jws, statements.jws) AS document
         FROM notices
         JOIN webhooks ON webhooks.merchant = notices.merchant
         LEFT JOIN bookings ON bookings.movement = notices.movement
         LEFT JOIN receipts ON receipts.payment = bookings.payment AND bookings.refund IS NULL
         LEFT JOIN refund_receipts ON refund_receipts.refund = bookings.refund
         LEFT JOIN settlement_statements AS statements
             ON statements.merchant = notices.merchant AND statements.number = notices.settlement
         WHERE notices.merchant = ?1 AND notices.state = 'waiting' AND notices.next_at_ms <= ?2
             AND coalesce(receipts.jws, refund_receipts.jws, statements.jws) IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM notices AS earlier
                             WHERE earlier.charge = notices.charge AND earlier.id < notices.id
                                 AND earlier.state <> 'delivered')
         ORDER BY notices.next_at_ms, notices.id LIMIT 1",
        params![merchant.0.as_bytes(), now.ms()],
        read_notice,
    )
}

fn delivered(tx: &mut Tx<'_>, id: NoticeId, at: Timestamp) -> Verdict<()> {
    tx.execute_one(
        "UPDATE notices SET state = 'delivered', tries = tries + 1, delivered_at_ms = ?2
         WHERE id = ?1",
        params![id.0.as_bytes(), at.ms()],
    )?;
    Ok(tx.record("notice.delivered", at, &json!({ "notice": id }))?)
}

fn failed(
    tx: &mut Tx<'_>,
    id: NoticeId,
    problem: &str,
    next_at: Option<Timestamp>,
    at: Timestamp,
) -> Verdict<()> {
    let state = if next_at.is_some() {
        "waiting"
    } else {
        "parked"
    };
    // One that was delivered meanwhile, or parked with its webhook, stays so.
    tx.execute(
        "UPDATE notices SET state = ?2, tries = tries + 1, next_at_ms = ?3, last_problem = ?4
         WHERE id = ?1 AND state = 'waiting'",
        params![id.0.as_bytes(), state, next_at.unwrap_or(at).ms(), problem],
    )?;
    if next_at.is_none() {
        let body = json!({ "notice": id, "problem": problem });
        tx.record("notice.parked", at, &body)?;
    }
    Ok(())
}

fn retry(tx: &mut Tx<'_>, merchant: MerchantId, at: Timestamp) -> Verdict<u64> {
    let again = tx.execute(
        "UPDATE notices SET state = 'waiting', tries = 0, next_at_ms = ?2
         WHERE merchant = ?1 AND state = 'parked'
             AND EXISTS (SELECT 1 FROM webhooks WHERE merchant = ?1)",
        params![merchant.0.as_bytes(), at.ms()],
    )?;
    let body = json!({ "merchant": merchant, "notices": again });
    tx.record("webhook.retried", at, &body)?;
    Ok(again as u64)
}

fn read_webhook(row: &Row<'_>) -> Result<Webhook> {
    Ok(Webhook {
        merchant: MerchantId(uuid(row, "merchant")?),
        url: get(row, "url")?,
        set_at: time(row, "set_at_ms")?,
        waiting: count(row, "waiting")?,
        parked: count(row, "parked")?,
    })
}

fn read_notice(row: &Row<'_>) -> Result<NoticeRecord> {
    Ok(NoticeRecord {
        id: NoticeId(uuid(row, "id")?),
        merchant: MerchantId(uuid(row, "merchant")?),
        url: get(row, "url")?,
        about: read_about(row)?,
        charge: uuid_or_none(row, "charge")?.map(ChargeId),
        tries: get(row, "tries")?,
        made_at: time(row, "made_at_ms")?,
        last_problem: get(row, "last_problem")?,
        document: get(row, "document")?,
    })
}

fn read_about(row: &Row<'_>) -> Result<NoticeEvent> {
    let movement = || uuid(row, "movement");
    match get::<String>(row, "kind")?.as_str() {
        "payment.paid" => Ok(NoticeEvent::Paid {
            movement: movement()?,
        }),
        "payment.refunded" => Ok(NoticeEvent::Refunded {
            movement: movement()?,
        }),
        "settlement.closed" => Ok(NoticeEvent::Closed {
            number: count(row, "settlement")?,
        }),
        other => Err(corrupt(format!("a notice of {other}"))),
    }
}

//! What is a merchant to be told, and what has it taken?

use async_trait::async_trait;
use protocol::ids::{ChargeId, MerchantId, NoticeId};
use protocol::time::Timestamp;
use uuid::Uuid;

use super::Result;

/// Where a merchant is told, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub merchant: MerchantId,
    pub url: String,
    pub set_at: Timestamp,
    pub waiting: u64,
    pub parked: u64,
}

/// One thing a merchant is to be told. Written in the transaction of its fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeRecord {
    pub id: NoticeId,
    pub merchant: MerchantId,
    pub url: String,
    pub about: NoticeEvent,
    /// None: of a closed day.
    pub charge: Option<ChargeId>,
    pub tries: u32,
    pub made_at: Timestamp,
    /// Why the last try failed.
    pub last_problem: Option<String>,
    /// The signed document that goes with it.
    pub document: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeEvent {
    Paid { movement: Uuid },
    Refunded { movement: Uuid },
    Closed { number: u64 },
}

#[async_trait]
pub trait Webhooks {
    /// From now on this merchant is told there; none: nowhere, and what waits is parked. False if there
    /// is no such merchant.
    async fn set_webhook(
        &self,
        merchant: MerchantId,
        url: Option<String>,
        at: Timestamp,
    ) -> Result<bool>;

    /// In order of merchant, after `after`.
    async fn webhooks(&self, after: Option<MerchantId>, limit: u32) -> Result<Vec<Webhook>>;

    /// Merchants that have something to be told now.
    async fn merchants_to_tell(&self, now: Timestamp, limit: u32) -> Result<Vec<MerchantId>>;

    /// What this merchant is to be told next: due, its document signed, and nothing earlier of its charge
    /// left. What is parked holds back the rest of its charge.
    async fn next_notice(
        &self,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<Option<NoticeRecord>>;

    async fn notice_delivered(&self, id: NoticeId, at: Timestamp) -> Result<()>;

    /// Tried again at `next_at`; none: parked.
    async fn notice_failed(
        &self,
        id: NoticeId,
        problem: String,
        next_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<()>;

    /// What is parked waits again, as if it were new; answers how much.
    async fn retry_notices(&self, merchant: MerchantId, at: Timestamp) -> Result<u64>;

    async fn count_parked(&self) -> Result<u64>;
}

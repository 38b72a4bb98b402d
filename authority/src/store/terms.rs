//! On which terms does a merchant keep its books and give money back?

use async_trait::async_trait;
use protocol::ids::MerchantId;
use protocol::time::{Millis, Timestamp};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Result;

/// Wrong PINs in a row before the next has to wait.
pub const PIN_TRIES_MAX: u32 = 5;
/// How long it waits.
pub const PIN_LOCK_MS: Millis = 15 * 60_000;
/// Wrong PINs in a row before only an operator can help: at most 20 of a million guesses.
pub const PIN_MISSES_MAX: u32 = 20;

/// Wrong PINs of a day before the next has to wait for another day: right ones in between help nobody who
/// guesses.
pub const PIN_DAY_MISSES_MAX: u32 = 10;

/// What an operator decided for a merchant; what is None is the configuration's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerchantTerms {
    /// IANA name of the time zone of its business days.
    pub zone: Option<String>,
    /// The most that is refunded on one business day, minor units.
    pub refund_day_max_minor: Option<i64>,
    pub pin_set_at: Option<Timestamp>,
    /// Tries since the last right one.
    pub pin_misses: u32,
    pub pin_locked_until: Option<Timestamp>,
    /// Days since 1970, UTC.
    pub pin_day: i64,
    /// Tries of that day that were not right.
    pub pin_day_misses: u32,
}

/// What is to change; None leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTerms {
    pub zone: Option<String>,
    pub refund_day_max_minor: Option<i64>,
}

/// scrypt over a PIN, with r = 8 and p = 1. Mute.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PinHash {
    pub salt: [u8; 16],
    pub hash: [u8; 32],
    /// log2 N.
    pub cost: u8,
}

impl std::fmt::Debug for PinHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinHash(..)")
    }
}

/// What [`Terms::begin_pin_try`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinTry {
    /// Counted as a miss already: [`Terms::pin_was_right`] takes it back.
    Check(PinHash),
    NotSet,
    /// None: until an operator sets a new PIN.
    Locked(Option<Timestamp>),
}

#[async_trait]
pub trait Terms {
    async fn terms(&self, merchant: MerchantId) -> Result<MerchantTerms>;

    /// False if there is no such merchant.
    async fn set_terms(&self, merchant: MerchantId, terms: NewTerms, at: Timestamp)
    -> Result<bool>;

    /// Sets the PIN and forgets misses and lock; false if there is no such merchant.
    async fn set_pin(&self, merchant: MerchantId, pin: PinHash, at: Timestamp) -> Result<bool>;

    /// Counts a try before it is checked, so that many at once are not more than so many.
    async fn begin_pin_try(&self, merchant: MerchantId, at: Timestamp) -> Result<PinTry>;

    /// The try of `at` was right: the run of wrong ones is over, and it counts for its day no more. What
    /// was wrong that day goes on to count.
    async fn pin_was_right(&self, merchant: MerchantId, at: Timestamp) -> Result<()>;
}

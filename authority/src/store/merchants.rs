//! Who is paid?

use async_trait::async_trait;
use protocol::ids::{AccountId, MerchantId};
use protocol::money::{Currency, Money};
use protocol::time::Timestamp;

use super::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merchant {
    pub id: MerchantId,
    pub name: String,
    pub currency: Currency,
    /// Where the money goes in the built-in ledger; made with the merchant.
    pub account: AccountId,
    /// What every shopper pays when the till asks for nothing.
    pub fixed: Option<Money>,
    /// The most a shopper may choose to pay when the till asks for nothing.
    pub open_cap: Option<Money>,
    pub added_at: Timestamp,
}

#[async_trait]
pub trait Merchants {
    /// Adds a merchant and its ledger account; false if the id is taken.
    async fn add_merchant(&self, merchant: Merchant) -> Result<bool>;

    async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>>;

    /// In order of id, after `after`.
    async fn merchants(&self, after: Option<MerchantId>, limit: u32) -> Result<Vec<Merchant>>;
}

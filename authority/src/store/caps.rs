//! How much may be paid from one account?

use async_trait::async_trait;
use protocol::money::Money;
use protocol::time::Timestamp;

use super::Result;

/// The most that a service account pays, whoever pays from it and however: a phone's bill, for example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountCaps {
    pub rail: String,
    /// What the rail calls the account.
    pub reference: String,
    pub payment_max: Money,
    /// Of one calendar month, UTC; in the same currency.
    pub month_max: Money,
}

#[async_trait]
pub trait Caps {
    /// Puts these caps in force; what was spent this month still counts.
    async fn cap_account(&self, caps: AccountCaps, at: Timestamp) -> Result<()>;

    /// What was paid, or is being paid, in the month of `at`, in minor units. None without caps.
    async fn spent_of_cap(
        &self,
        rail: String,
        reference: String,
        at: Timestamp,
    ) -> Result<Option<i64>>;
}

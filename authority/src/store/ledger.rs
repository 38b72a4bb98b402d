//! Whose money is where?
//!
//! Double entry: every movement is two entries that sum to zero. Only shoppers' accounts have a
//! guarded balance; every other account is the sum of its entries.

use async_trait::async_trait;
use protocol::ids::AccountId;
use protocol::money::{Currency, Money};
use protocol::time::Timestamp;

use super::Result;

/// A shopper as the identity provider names them: never an e-mail address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PersonKey {
    pub issuer: String,
    pub subject: String,
}

impl std::fmt::Debug for PersonKey {
    /// Mute: who paid is not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PersonKey({}, ..)", self.issuer)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    pub id: AccountId,
    pub person: PersonKey,
    pub currency: Currency,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub currency: Currency,
    /// Minor units; never negative.
    pub balance_minor: i64,
}

/// Money that comes in from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    pub account: AccountId,
    pub amount: Money,
    /// The operator's own reference; the same one again is the same credit.
    pub reference: String,
    pub at: Timestamp,
}

/// What [`Ledger::credit`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    Is(Account),
    NoAccount,
    Currency,
    /// The reference was used for another credit.
    ReferenceTaken,
}

/// The books in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerReport {
    pub entries: u64,
    /// Sum of all entries per currency; not zero means the books are broken.
    pub sums: Vec<(Currency, i64)>,
    /// Shoppers' accounts whose balance is not the sum of its entries, or negative.
    pub wrong_accounts: Vec<AccountId>,
}

#[async_trait]
pub trait Ledger {
    /// Opens an account; one per person and currency. False if that exists.
    async fn open_account(&self, account: NewAccount) -> Result<bool>;

    async fn accounts_of(&self, person: PersonKey) -> Result<Vec<Account>>;

    async fn credit(&self, credit: Credit) -> Result<Balance>;

    /// What was paid to a merchant's account, minor units.
    async fn merchant_balance(&self, account: AccountId) -> Result<i64>;

    async fn ledger_report(&self) -> Result<LedgerReport>;
}

//! What can this person pay from?

use async_trait::async_trait;
use protocol::ids::AccountId;
use protocol::money::Currency;
use protocol::time::Timestamp;

use super::{PersonKey, Result};

/// The rail that needs no asking: its money moves in the payment's own transaction.
pub const LEDGER: &str = "ledger";

/// Something a person pays from: an account in the ledger, or one that a rail keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    pub id: AccountId,
    /// [`LEDGER`], or a rail of the configuration.
    pub rail: String,
    /// What the rail calls it.
    pub reference: String,
    /// What the shopper calls it.
    pub name: String,
    pub currency: Currency,
    /// Offered first.
    pub default: bool,
    /// The identity that brought it; none in the ledger.
    pub brought_by: Option<PersonKey>,
    pub added_at: Timestamp,
}

/// An account that a rail keeps for this person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewServiceAccount {
    pub id: AccountId,
    pub person: PersonKey,
    /// Not [`LEDGER`]: there, opening an account makes it.
    pub rail: String,
    pub reference: String,
    pub name: String,
    pub currency: Currency,
    pub at: Timestamp,
}

#[async_trait]
pub trait ServiceAccounts {
    /// What is open, as it is offered: the default one first, then the oldest.
    async fn service_accounts(&self, person: PersonKey) -> Result<Vec<ServiceAccount>>;

    /// Adds what this identity brings; answers the one that is open with this rail and reference.
    async fn bring_service_account(&self, account: NewServiceAccount) -> Result<ServiceAccount>;
}

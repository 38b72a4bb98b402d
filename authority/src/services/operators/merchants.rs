//! How are merchants added?

use protocol::ids::{AccountId, MerchantId};
use protocol::money::{Currency, Money};
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, check_name, malformed, refused};
use crate::app::App;
use crate::ids;
use crate::services::Failure;
use crate::store::Merchant;

/// Adds a merchant, with an account of the built-in ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantAdd {
    pub name: String,
    pub currency: Currency,
    /// What every shopper pays when the till asks for nothing.
    #[serde(default)]
    pub fixed_minor: Option<i64>,
    /// The most a shopper may choose to pay when the till asks for nothing.
    #[serde(default)]
    pub open_cap_minor: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantList {
    #[serde(default)]
    pub after: Option<MerchantId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Merchants {
    pub merchants: Vec<MerchantView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct MerchantView {
    pub merchant: MerchantId,
    pub name: String,
    pub currency: Currency,
    pub account: AccountId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fixed: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub open_cap: Option<Money>,
    /// What was paid to it, in minor units.
    pub paid_minor: i64,
    pub added_at: Timestamp,
}

impl Verb for MerchantAdd {
    const NAME: &'static str = "merchant-add";
    const CHANGES: bool = true;
    type Answer = MerchantView;

    async fn run(self, app: &App) -> Result<MerchantView, Failure> {
        check_name(&self.name)?;
        if self.fixed_minor.is_some() && self.open_cap_minor.is_some() {
            return Err(malformed(
                "a merchant takes a fixed amount or an open one, not both",
            ));
        }
        let now = app.clock.now();
        let money = |minor| Money::new(minor, self.currency).map_err(malformed);
        let merchant = Merchant {
            id: ids::fresh(now, MerchantId::from_parts),
            name: self.name.clone(),
            currency: self.currency,
            account: ids::fresh(now, AccountId::from_parts),
            fixed: self.fixed_minor.map(money).transpose()?,
            open_cap: self.open_cap_minor.map(money).transpose()?,
            added_at: now,
        };
        if !app.store.add_merchant(merchant.clone()).await? {
            return Err(refused(
                ProblemType::AlreadyExists,
                "that merchant id is taken",
            ));
        }
        Ok(view(merchant, 0))
    }
}

impl Verb for MerchantList {
    const NAME: &'static str = "merchant-list";
    const CHANGES: bool = false;
    type Answer = Merchants;

    async fn run(self, app: &App) -> Result<Merchants, Failure> {
        let mut merchants = Vec::new();
        for merchant in app.store.merchants(self.after, LIST_MAX).await? {
            let paid = app.store.merchant_balance(merchant.account).await?;
            merchants.push(view(merchant, paid));
        }
        Ok(Merchants { merchants })
    }
}

fn view(merchant: Merchant, paid_minor: i64) -> MerchantView {
    MerchantView {
        merchant: merchant.id,
        name: merchant.name,
        currency: merchant.currency,
        account: merchant.account,
        fixed: merchant.fixed,
        open_cap: merchant.open_cap,
        paid_minor,
        added_at: merchant.added_at,
    }
}

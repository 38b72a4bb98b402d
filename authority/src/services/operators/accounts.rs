//! How does a shopper get an account, and money on it?

use protocol::ids::AccountId;
use protocol::money::{Currency, Money};
use protocol::problem::ProblemType;
use serde::{Deserialize, Serialize};

use super::{Verb, malformed, refused};
use crate::app::App;
use crate::ids;
use crate::services::Failure;
use crate::store::{Account, Balance, Credit, NewAccount, PersonKey};

/// Longest issuer, subject or reference, in bytes.
const TEXT_MAX: usize = 255;

/// Opens an account for the person that this identity provider calls `subject`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountOpen {
    pub issuer: String,
    pub subject: String,
    pub currency: Currency,
}

/// Puts money on an account. The same reference again is the same credit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountCredit {
    pub account: AccountId,
    pub amount: Money,
    pub reference: String,
}

/// Adds up the books.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerCheck {}

#[derive(Debug, Serialize, Deserialize)]
pub struct AccountView {
    pub account: AccountId,
    pub currency: Currency,
    pub balance_minor: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct LedgerView {
    pub balanced: bool,
    pub entries: u64,
    pub wrong_accounts: Vec<AccountId>,
}

impl Verb for AccountOpen {
    const NAME: &'static str = "account-open";
    const CHANGES: bool = true;
    type Answer = AccountView;

    async fn run(self, app: &App) -> Result<AccountView, Failure> {
        check_text(&self.issuer)?;
        check_text(&self.subject)?;
        let now = app.clock.now();
        let account = NewAccount {
            id: ids::fresh(now, AccountId::from_parts),
            person: PersonKey {
                issuer: self.issuer,
                subject: self.subject,
            },
            currency: self.currency,
            at: now,
        };
        if !app.store.open_account(account.clone()).await? {
            let detail = format!("this person has an account in {} already", self.currency);
            return Err(refused(ProblemType::AlreadyExists, detail));
        }
        Ok(AccountView {
            account: account.id,
            currency: account.currency,
            balance_minor: 0,
        })
    }
}

impl Verb for AccountCredit {
    const NAME: &'static str = "account-credit";
    const CHANGES: bool = true;
    type Answer = AccountView;

    async fn run(self, app: &App) -> Result<AccountView, Failure> {
        check_text(&self.reference)?;
        let credit = Credit {
            account: self.account,
            amount: self.amount,
            reference: self.reference,
            at: app.clock.now(),
        };
        match app.store.credit(credit).await? {
            Balance::Is(account) => Ok(account.into()),
            Balance::NoAccount => {
                let detail = format!("no account {}", self.account);
                Err(refused(ProblemType::Unknown, detail))
            }
            Balance::Currency => Err(malformed("the account is in another currency")),
            Balance::ReferenceTaken => Err(refused(
                ProblemType::AlreadyExists,
                "this reference belongs to another credit",
            )),
        }
    }
}

impl Verb for LedgerCheck {
    const NAME: &'static str = "ledger-check";
    const CHANGES: bool = false;
    type Answer = LedgerView;

    async fn run(self, app: &App) -> Result<LedgerView, Failure> {
        let report = app.store.ledger_report().await?;
        let sums_are_zero = report.sums.iter().all(|(_, sum)| *sum == 0);
        Ok(LedgerView {
            balanced: sums_are_zero && report.wrong_accounts.is_empty(),
            entries: report.entries,
            wrong_accounts: report.wrong_accounts,
        })
    }
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            account: account.id,
            currency: account.currency,
            balance_minor: account.balance_minor,
        }
    }
}

fn check_text(text: &str) -> Result<(), Failure> {
    if text.is_empty() || text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return Err(malformed(format!(
            "issuer, subject and reference have 1 to {TEXT_MAX} bytes"
        )));
    }
    Ok(())
}

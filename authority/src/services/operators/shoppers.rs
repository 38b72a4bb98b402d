//! How is a shopper's profile locked, and how much does a merchant take in a day?

use protocol::ids::MerchantId;
use protocol::money::{AMOUNT_MINOR_MAX, Currency};
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Asker, Gate, Verb, check_name, malformed, refused};
use crate::app::App;
use crate::services::Failure;
use crate::store::{Locked, PersonKey, Standing};

/// Locks the profile that this identity opens: from then on it claims and pays nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopperLock {
    pub issuer: String,
    pub subject: String,
    pub reason: String,
}

/// Takes the lock away, whoever put it there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopperUnlock {
    pub issuer: String,
    pub subject: String,
    pub reason: String,
}

/// Shows lock, limits and what counts towards them; nothing of what was bought.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopperShow {
    pub issuer: String,
    pub subject: String,
}

/// Sets the most that a merchant is paid in a day; none: what the configuration says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantLimit {
    pub merchant: MerchantId,
    #[serde(default)]
    pub day_minor: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ShopperView {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub locked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock_reason: Option<String>,
    pub passkeys: usize,
    pub standings: Vec<StandingView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct StandingView {
    pub currency: Currency,
    /// Days since 1970, UTC.
    pub day: i64,
    pub day_minor: i64,
    pub unaided_minor: i64,
    pub unaided_payments: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub strong_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub own_each_minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub own_day_minor: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct MerchantLimitView {
    pub merchant: MerchantId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub day_minor: Option<i64>,
}

impl Verb for ShopperLock {
    const NAME: &'static str = "shopper-lock";
    const CHANGES: bool = true;
    type Answer = ShopperView;

    async fn run(self, app: &App) -> Result<ShopperView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<ShopperView, Failure> {
        check_name(&self.reason)?;
        let person = person(self.issuer, self.subject);
        let (by, now) = (Some(asker.by.clone()), app.clock.now());
        let locked = app.store.lock(person.clone(), self.reason, by, now).await?;
        done(locked, "it is locked already")?;
        show(app, person).await
    }
}

impl Verb for ShopperUnlock {
    const NAME: &'static str = "shopper-unlock";
    const CHANGES: bool = true;
    type Answer = ShopperView;

    async fn run(self, app: &App) -> Result<ShopperView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<ShopperView, Failure> {
        check_name(&self.reason)?;
        let person = person(self.issuer, self.subject);
        let (by, now) = (asker.by.clone(), app.clock.now());
        let unlocked = app.store.unlock(person.clone(), self.reason, by, now);
        done(unlocked.await?, "it is not locked")?;
        show(app, person).await
    }
}

impl Verb for ShopperShow {
    const NAME: &'static str = "shopper-show";
    const CHANGES: bool = false;
    type Answer = ShopperView;

    async fn run(self, app: &App) -> Result<ShopperView, Failure> {
        show(app, person(self.issuer, self.subject)).await
    }
}

impl Verb for MerchantLimit {
    const NAME: &'static str = "merchant-limit";
    const CHANGES: bool = true;
    type Answer = MerchantLimitView;

    /// Without a number of its own, or with a higher one, a merchant that defrauds takes more.
    fn gate(&self) -> Gate {
        Gate::Consented
    }

    async fn run(self, app: &App) -> Result<MerchantLimitView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<MerchantLimitView, Failure> {
        if self
            .day_minor
            .is_some_and(|it| !(0..=AMOUNT_MINOR_MAX).contains(&it))
        {
            let detail = format!("a limit is 0 to {AMOUNT_MINOR_MAX} minor units");
            return Err(malformed(detail));
        }
        let (by, now) = (asker.by.clone(), app.clock.now());
        let store = &app.store;
        let known = store.set_merchant_limit(self.merchant, self.day_minor, by, now);
        if !known.await? {
            let detail = format!("no merchant {}", self.merchant);
            return Err(refused(ProblemType::Unknown, detail));
        }
        Ok(MerchantLimitView {
            merchant: self.merchant,
            day_minor: self.day_minor,
        })
    }
}

fn person(issuer: String, subject: String) -> PersonKey {
    PersonKey { issuer, subject }
}

fn done(locked: Locked, already: &str) -> Result<(), Failure> {
    match locked {
        Locked::Done => Ok(()),
        Locked::Already => Err(refused(ProblemType::AlreadyExists, already)),
        Locked::Unknown => Err(nobody()),
    }
}

fn nobody() -> Failure {
    refused(ProblemType::Unknown, "nobody has this identity here")
}

async fn show(app: &App, person: PersonKey) -> Result<ShopperView, Failure> {
    let passkeys = app.store.passkeys(person.clone()).await?;
    let passkeys = passkeys.ok_or_else(nobody)?.passkeys.len();
    let lock = app.store.lock_of(person.clone()).await?;
    let standings = app.store.standings(person).await?;
    Ok(ShopperView {
        locked_at: lock.as_ref().map(|(at, _)| *at),
        lock_reason: lock.map(|(_, reason)| reason),
        passkeys,
        standings: standings.into_iter().map(view).collect(),
    })
}

fn view((currency, it): (Currency, Standing)) -> StandingView {
    StandingView {
        currency,
        day: it.day,
        day_minor: it.day_minor,
        unaided_minor: it.unaided_minor,
        unaided_payments: it.unaided_payments,
        strong_at: it.strong_at,
        own_each_minor: it.own.each_minor,
        own_day_minor: it.own.day_minor,
    }
}

//! What does a shopper allow themselves, and who locks a profile?

use std::sync::Arc;

use protocol::money::{AMOUNT_MINOR_MAX, Currency};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;

use super::Failure;
use super::sign_in::SignedIn;
use crate::app::App;
use crate::store::{Locked, OwnLimits, SpendRules, Standing, day_of};

/// What the audit and the shopper read of a lock that the shopper made.
const OWN_LOCK: &str = "locked by the shopper";

/// A shopper's own limits and lock.
pub struct Shoppers {
    app: Arc<App>,
}

/// Where a shopper stands in one currency, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    pub currency: Currency,
    pub own: OwnLimits,
    /// Paid today.
    pub day_minor: i64,
    /// Paid without strong authentication since the last one, and in how many payments.
    pub unaided_minor: i64,
    pub unaided_payments: u32,
    pub rules: SpendRules,
}

impl Shoppers {
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Where the shopper stands in each currency they have paid or limited.
    pub async fn allowances(
        &self,
        signed_in: &SignedIn,
        now: Timestamp,
    ) -> Result<Vec<Allowance>, Failure> {
        let found = self.app.store.standings(signed_in.person().clone()).await?;
        let shown = |(currency, standing): (Currency, Standing)| Allowance {
            currency,
            own: standing.own,
            day_minor: match standing.day == day_of(now) {
                true => standing.day_minor,
                false => 0,
            },
            unaided_minor: standing.unaided_minor,
            unaided_payments: standing.unaided_payments,
            rules: self.app.config.spending.rules(currency),
        };
        Ok(found.into_iter().map(shown).collect())
    }

    /// A lower limit holds at once; a higher one wants a sign-in of the last minutes, because a thief
    /// would lift it.
    pub async fn limit(
        &self,
        signed_in: &SignedIn,
        currency: Currency,
        own: OwnLimits,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let person = signed_in.person().clone();
        for limit in [own.each_minor, own.day_minor].into_iter().flatten() {
            check_limit(limit)?;
        }
        let standings = self.app.store.standings(person.clone()).await?;
        let mut before = standings.into_iter().filter(|(it, _)| *it == currency);
        let before = before.next().map_or(OwnLimits::default(), |(_, it)| it.own);
        if lifts(before.each_minor, own.each_minor) || lifts(before.day_minor, own.day_minor) {
            signed_in.demand_fresh(now)?;
        }
        let store = &self.app.store;
        Ok(store.set_own_limits(person, currency, own, now).await?)
    }

    /// From now on nothing is paid, until an operator unlocks: whoever stole the phone could unlock, too.
    pub async fn lock(&self, signed_in: &SignedIn, now: Timestamp) -> Result<(), Failure> {
        let (store, person) = (&self.app.store, signed_in.person().clone());
        match store.lock(person, OWN_LOCK.into(), None, now).await? {
            Locked::Done | Locked::Already => {
                tracing::info!("a shopper locked their profile");
                Ok(())
            }
            Locked::Unknown => Err(ProblemType::NoAccount.into()),
        }
    }
}

/// None is higher than any number.
fn lifts(before: Option<i64>, after: Option<i64>) -> bool {
    match (before, after) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(before), Some(after)) => after > before,
    }
}

fn check_limit(minor: i64) -> Result<(), Failure> {
    match (0..=AMOUNT_MINOR_MAX).contains(&minor) {
        true => Ok(()),
        false => Err(Problem::new(ProblemType::MalformedRequest)
            .with_detail(format!("a limit is 0 to {AMOUNT_MINOR_MAX} minor units"))
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::lifts;

    #[test]
    fn a_limit_is_lifted_by_a_higher_one_or_by_none() {
        assert!(lifts(Some(5), Some(6)) && lifts(Some(5), None));
        assert!(!lifts(Some(5), Some(5)) && !lifts(Some(5), Some(0)) && !lifts(None, Some(5)));
    }
}

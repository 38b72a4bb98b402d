//! May this shopper pay so much, and is being signed in enough for it?
//!
//! The judgement is a function of what stands in the rows; the store calls it inside the paying
//! transaction, so that two payments at once cannot both find room for one.

use std::cmp::Ordering;

use async_trait::async_trait;
use protocol::ids::{AccountId, MerchantId};
use protocol::money::Currency;
use protocol::time::{Millis, Timestamp};

use super::{PersonKey, Result};

const DAY_MS: Millis = 24 * 3_600_000;

/// What is allowed in one currency, as the operator decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendRules {
    /// None: every payment needs strong authentication.
    pub exemption: Option<Exemption>,
    /// The most a shopper pays in a day.
    pub shopper_day_minor: Option<i64>,
    /// The most a merchant is paid in a day, if it has no limit of its own.
    pub merchant_day_minor: Option<i64>,
}

/// What may be paid without strong authentication (PSD2 RTS, Article 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemption {
    /// The most in one payment.
    pub each_minor: i64,
    /// The most in all since the last strong authentication.
    pub in_all_minor: i64,
    /// The most payments since then.
    pub payments: u32,
}

/// How strongly the shopper of a payment is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strength {
    SignedIn,
    /// The sign-in was strong customer authentication, at that time: what was paid before it counts no
    /// more, and this payment counts.
    StrongSignIn(Timestamp),
    /// A passkey signed exactly this payment.
    Passkey(Box<Confirmation>),
    /// The wallet's own key signed exactly this payment, after the wallet had authenticated strongly.
    Wallet,
    /// The phone whose invoice pays replied with the number that was sent to it. What has no strong
    /// authentication there has caps of its own instead (PSD2, Article 3(l)).
    Reply,
}

/// An assertion that was verified, for one payment. Kept as evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    pub challenge: [u8; 32],
    pub passkey: Vec<u8>,
    /// What the authenticator says its counter is.
    pub counter: u32,
    pub authenticator_data: Vec<u8>,
    pub client_data: Vec<u8>,
    pub signature: Vec<u8>,
}

/// Why nothing may be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// The profile is locked.
    Locked,
    Limit {
        which: Limit,
        /// When there is room again; none: not by waiting.
        until: Option<Timestamp>,
    },
    StepUp(StepUpCause),
    /// The challenge was used, is over, or was for another payment or person.
    ChallengeOver,
    /// The passkey is removed, or its counter went back: there may be two of it.
    PasskeyRefused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The shopper's own, per payment.
    OwnEach,
    /// The shopper's own, per day.
    OwnDay,
    /// The operator's, per shopper and day.
    ShopperDay,
    /// Per merchant and day.
    MerchantDay,
}

/// What makes strong authentication necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepUpCause {
    /// Nothing in this currency goes without.
    Currency,
    Each,
    InAll,
    Payments,
}

/// A shopper's own limits in one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnLimits {
    pub each_minor: Option<i64>,
    pub day_minor: Option<i64>,
}

/// Where a shopper stands in one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub strong_at: Option<Timestamp>,
    /// Paid since without strong authentication, and in how many payments.
    pub unaided_minor: i64,
    pub unaided_payments: u32,
    pub unaided_at: Option<Timestamp>,
    pub day: i64,
    pub day_minor: i64,
    pub own: OwnLimits,
}

/// One payment as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Spend<'a> {
    pub amount_minor: i64,
    pub strength: &'a Strength,
    pub rules: &'a SpendRules,
    /// Unaided payments in other currencies: they count as payments here, too.
    pub payments_elsewhere: u32,
    pub at: Timestamp,
}

impl Strength {
    /// Whether this very payment was authenticated strongly.
    pub fn covers_payment(&self) -> bool {
        match self {
            Self::SignedIn | Self::StrongSignIn(_) | Self::Reply => false,
            Self::Passkey(_) | Self::Wallet => true,
        }
    }
}

impl Standing {
    /// Where the shopper stands after this payment, or why there is none.
    pub fn after(self, spend: &Spend<'_>) -> std::result::Result<Self, Barred> {
        let today = self.on(day_of(spend.at)).refreshed(spend);
        today.check_limits(spend)?;
        let mut next = today;
        next.day_minor += spend.amount_minor;
        if spend.strength.covers_payment() {
            return Ok(next.authenticated(spend.at));
        }
        next.unaided_minor += spend.amount_minor;
        next.unaided_payments += 1;
        next.unaided_at = Some(spend.at);
        // A reply needs nothing more, but is no strong authentication either: it ends no count.
        if *spend.strength != Strength::Reply {
            next.check_exemption(spend)?;
        }
        Ok(next)
    }

    /// A payment of that time came to nothing.
    pub fn without(mut self, amount_minor: i64, paid_at: Timestamp) -> Self {
        if self.day == day_of(paid_at) {
            self.day_minor = (self.day_minor - amount_minor).max(0);
        }
        // What was authenticated strongly, or lies before it, does not count any more.
        if self.strong_at.is_none_or(|strong| strong < paid_at) {
            self.unaided_minor = (self.unaided_minor - amount_minor).max(0);
            self.unaided_payments = self.unaided_payments.saturating_sub(1);
        }
        self
    }

    /// The higher count of both; limits and strong authentications are the own ones.
    pub fn worse(self, brought: Self) -> Self {
        let (day, day_minor) = match brought.day.cmp(&self.day) {
            Ordering::Less => (self.day, self.day_minor),
            Ordering::Equal => (self.day, self.day_minor.max(brought.day_minor)),
            Ordering::Greater => (brought.day, brought.day_minor),
        };
        Self {
            unaided_minor: self.unaided_minor.max(brought.unaided_minor),
            unaided_payments: self.unaided_payments.max(brought.unaided_payments),
            unaided_at: self.unaided_at.max(brought.unaided_at),
            day,
            day_minor,
            ..self
        }
    }

    /// The same after a strong authentication.
    pub fn authenticated(self, at: Timestamp) -> Self {
        Self {
            strong_at: Some(at),
            unaided_minor: 0,
            unaided_payments: 0,
            unaided_at: None,
            ..self
        }
    }

    /// A strong sign-in since the last unaided payment ends the count, once.
    pub fn refreshed(self, spend: &Spend<'_>) -> Self {
        match spend.strength {
            Strength::StrongSignIn(at) if self.is_ended_by(*at) && *at <= spend.at => {
                self.authenticated(*at)
            }
            _ => self,
        }
    }

    fn is_ended_by(&self, sign_in: Timestamp) -> bool {
        let is_later = |it: Option<Timestamp>| it.is_none_or(|it| it < sign_in);
        is_later(self.strong_at) && is_later(self.unaided_at)
    }

    /// Never a day back: a clock that does so, or a race over midnight, would make the day new.
    fn on(self, day: i64) -> Self {
        match day <= self.day {
            true => self,
            false => Self {
                day,
                day_minor: 0,
                ..self
            },
        }
    }

    fn check_limits(&self, spend: &Spend<'_>) -> std::result::Result<(), Barred> {
        let amount = spend.amount_minor;
        let with_this = self.day_minor.saturating_add(amount);
        let over = |limit: Option<i64>, it: i64| limit.is_some_and(|limit| it > limit);
        if over(self.own.each_minor, amount) {
            return Err(Barred::Limit {
                which: Limit::OwnEach,
                until: None,
            });
        }
        for (limit, which) in [
            (self.own.day_minor, Limit::OwnDay),
            (spend.rules.shopper_day_minor, Limit::ShopperDay),
        ] {
            if over(limit, with_this) {
                return Err(which.of_day(limit, amount, spend.at));
            }
        }
        Ok(())
    }

    fn check_exemption(&self, spend: &Spend<'_>) -> std::result::Result<(), Barred> {
        let cause = match spend.rules.exemption {
            None => StepUpCause::Currency,
            Some(exempt) if spend.amount_minor > exempt.each_minor => StepUpCause::Each,
            Some(exempt) if self.unaided_minor > exempt.in_all_minor => StepUpCause::InAll,
            Some(exempt)
                if self
                    .unaided_payments
                    .saturating_add(spend.payments_elsewhere)
                    > exempt.payments =>
            {
                StepUpCause::Payments
            }
            Some(_) => return Ok(()),
        };
        Err(Barred::StepUp(cause))
    }
}

impl Limit {
    /// The refusal by a limit per day; waiting helps unless the amount alone is too much.
    pub fn of_day(self, limit: Option<i64>, amount_minor: i64, at: Timestamp) -> Barred {
        let fits = limit.is_none_or(|limit| amount_minor <= limit);
        Barred::Limit {
            which: self,
            until: fits.then(|| end_of_day(day_of(at))),
        }
    }
}

/// When the day after begins.
pub fn end_of_day(day: i64) -> Timestamp {
    Timestamp::from_ms((day + 1) * DAY_MS)
}

/// Days since 1970, UTC.
pub fn day_of(at: Timestamp) -> i64 {
    at.ms().div_euclid(DAY_MS)
}

/// What [`Allowances::lock`] and `unlock` answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Done,
    /// It was so already.
    Already,
    /// Nobody has this identity.
    Unknown,
}

#[async_trait]
pub trait Allowances {
    /// Where this person stands in each currency they have paid or limited.
    async fn standings(&self, person: PersonKey) -> Result<Vec<(Currency, Standing)>>;

    async fn set_own_limits(
        &self,
        person: PersonKey,
        currency: Currency,
        own: OwnLimits,
        at: Timestamp,
    ) -> Result<()>;

    /// The most this merchant is paid in a day; none: what the configuration says. False if there is no
    /// such merchant.
    async fn set_merchant_limit(
        &self,
        merchant: MerchantId,
        day_minor: Option<i64>,
        by: String,
        at: Timestamp,
    ) -> Result<bool>;

    async fn merchant_limit(&self, merchant: MerchantId) -> Result<Option<i64>>;

    /// From the commit on nothing is claimed or paid for this profile. `by` is an operator; none: the
    /// shopper.
    async fn lock(
        &self,
        person: PersonKey,
        reason: String,
        by: Option<String>,
        at: Timestamp,
    ) -> Result<Locked>;

    async fn unlock(
        &self,
        person: PersonKey,
        reason: String,
        by: String,
        at: Timestamp,
    ) -> Result<Locked>;

    /// Since when a profile is locked, and why.
    async fn lock_of(&self, person: PersonKey) -> Result<Option<(Timestamp, String)>>;

    /// The account that an approval would be paid from.
    async fn account_to_pay(
        &self,
        person: PersonKey,
        chosen: Option<AccountId>,
        currency: Currency,
    ) -> Result<Option<AccountId>>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);
    const RULES: SpendRules = SpendRules {
        exemption: Some(Exemption {
            each_minor: 3_000,
            in_all_minor: 10_000,
            payments: 5,
        }),
        shopper_day_minor: None,
        merchant_day_minor: None,
    };

    fn spend<'a>(amount_minor: i64, strength: &'a Strength, rules: &'a SpendRules) -> Spend<'a> {
        Spend {
            amount_minor,
            strength,
            rules,
            payments_elsewhere: 0,
            at: NOW,
        }
    }

    fn pays(standing: Standing, amounts: &[i64]) -> std::result::Result<Standing, Barred> {
        amounts.iter().try_fold(standing, |it, amount| {
            it.after(&spend(*amount, &Strength::SignedIn, &RULES))
        })
    }

    const fn step_up<T>(cause: StepUpCause) -> std::result::Result<T, Barred> {
        Err(Barred::StepUp(cause))
    }

    #[test]
    fn thirty_each_a_hundred_in_all_five_payments() {
        let fresh = Standing::default();
        assert!(pays(fresh, &[3_000, 3_000, 3_000, 1_000]).is_ok());
        assert_eq!(pays(fresh, &[3_001]), step_up(StepUpCause::Each));
        assert_eq!(
            pays(fresh, &[3_000, 3_000, 3_000, 1_001]),
            step_up(StepUpCause::InAll)
        );
        assert!(pays(fresh, &[1; 5]).is_ok());
        assert_eq!(pays(fresh, &[1; 6]), step_up(StepUpCause::Payments));
    }

    #[test]
    fn payments_in_another_currency_count_as_payments() {
        let mut sixth = spend(1, &Strength::SignedIn, &RULES);
        sixth.payments_elsewhere = 5;
        assert_eq!(
            Standing::default().after(&sixth),
            step_up(StepUpCause::Payments)
        );
    }

    #[test]
    fn a_currency_without_numbers_always_needs_strong_authentication() {
        let (rules, fresh) = (SpendRules::default(), Standing::default());
        let unaided = fresh.after(&spend(1, &Strength::SignedIn, &rules));
        assert_eq!(unaided, step_up(StepUpCause::Currency));
        assert!(
            fresh
                .after(&spend(99_999, &Strength::Wallet, &rules))
                .is_ok()
        );
    }

    #[test]
    fn what_is_authenticated_strongly_ends_the_count_and_is_not_in_it() {
        let full = pays(Standing::default(), &[2_000; 5]).unwrap();
        let after = full
            .after(&spend(50_000, &Strength::Wallet, &RULES))
            .unwrap();
        assert_eq!((after.unaided_minor, after.unaided_payments), (0, 0));
        assert_eq!(after.strong_at, Some(NOW));
        assert_eq!(after.day_minor, 60_000);
    }

    #[test]
    fn a_strong_sign_in_ends_the_count_once_and_lifts_no_limit_of_one_payment() {
        let full = pays(Standing::default(), &[2_000; 5]).unwrap();
        let later = Strength::StrongSignIn(NOW + 1_000);
        let mut next = spend(3_000, &later, &RULES);
        next.at = NOW + 2_000;
        let mut standing = full;
        for _ in 0..3 {
            standing = standing.after(&next).unwrap();
        }
        assert_eq!(
            (standing.unaided_minor, standing.unaided_payments),
            (9_000, 3)
        );
        assert_eq!(standing.after(&next), step_up(StepUpCause::InAll));
        next.amount_minor = 3_001;
        assert_eq!(full.after(&next), step_up(StepUpCause::Each));
    }

    #[test]
    fn a_strong_sign_in_from_before_the_last_payment_or_from_the_future_ends_nothing() {
        let full = pays(Standing::default(), &[2_000; 5]).unwrap();
        for at in [NOW - 1_000, NOW, NOW + 1_000] {
            let strength = Strength::StrongSignIn(at);
            let refused = full.after(&spend(1, &strength, &RULES));
            assert_eq!(refused, step_up(StepUpCause::InAll));
        }
    }

    #[test]
    fn limits_go_before_strong_authentication_and_say_when_they_end() {
        let own = OwnLimits {
            each_minor: Some(1_000),
            day_minor: Some(1_500),
        };
        let limited = Standing {
            own,
            ..Standing::default()
        };
        let strong = |amount, it: Standing| it.after(&spend(amount, &Strength::Wallet, &RULES));
        let refused = |which, until| Err(Barred::Limit { which, until });
        assert_eq!(strong(1_001, limited), refused(Limit::OwnEach, None));
        let once = strong(1_000, limited).unwrap();
        let midnight = Timestamp::from_ms((day_of(NOW) + 1) * DAY_MS);
        assert_eq!(strong(501, once), refused(Limit::OwnDay, Some(midnight)));
        assert!(strong(500, once).is_ok());
        let rules = SpendRules {
            shopper_day_minor: Some(100),
            ..RULES
        };
        let capped = Standing::default().after(&spend(101, &Strength::Wallet, &rules));
        assert_eq!(capped, refused(Limit::ShopperDay, None));
    }

    #[test]
    fn a_reply_from_the_phone_that_pays_needs_no_more_and_ends_no_count() {
        let full = pays(Standing::default(), &[2_000; 5]).unwrap();
        let after = full.after(&spend(5_000, &Strength::Reply, &RULES)).unwrap();
        assert_eq!((after.unaided_minor, after.unaided_payments), (15_000, 6));
        let refused = after.after(&spend(1, &Strength::SignedIn, &RULES));
        assert_eq!(refused, step_up(StepUpCause::InAll));
        assert_eq!(after.without(5_000, NOW).unaided_minor, 10_000);
    }

    #[test]
    fn tomorrow_is_another_day() {
        let rules = SpendRules {
            shopper_day_minor: Some(2_000),
            ..RULES
        };
        let mut next = spend(2_000, &Strength::Wallet, &rules);
        let standing = Standing::default().after(&next).unwrap();
        assert!(standing.after(&next).is_err());
        next.at = NOW + DAY_MS;
        assert_eq!(standing.after(&next).unwrap().day_minor, 2_000);
    }

    #[test]
    fn no_day_is_new_because_the_clock_went_back() {
        let rules = SpendRules {
            shopper_day_minor: Some(2_000),
            ..RULES
        };
        let mut next = spend(1_500, &Strength::Wallet, &rules);
        let today = Standing::default().after(&next).unwrap();
        next.at = NOW - DAY_MS;
        assert!(today.after(&next).is_err());
        next.amount_minor = 500;
        let back = today.after(&next).unwrap();
        assert_eq!((back.day, back.day_minor), (today.day, 2_000));
    }

    proptest! {
        /// However they come, unaided payments since the last strong one keep the three numbers, and
        /// what comes to nothing leaves no trace.
        #[test]
        fn the_count_never_passes_the_exemption(
            payments in proptest::collection::vec((1_i64..4_000, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let exempt = RULES.exemption.unwrap();
            let mut standing = Standing::default();
            let (mut total, mut count) = (0, 0);
            for (place, (amount, strong, declined)) in payments.into_iter().enumerate() {
                let at = NOW + place as i64;
                let strength = if strong { Strength::Wallet } else { Strength::SignedIn };
                let spend = Spend { at, ..spend(amount, &strength, &RULES) };
                let Ok(next) = standing.after(&spend) else { continue };
                standing = next;
                if declined {
                    standing = standing.without(amount, at);
                }
                (total, count) = match (strong, declined) {
                    (true, _) => (0, 0),
                    (false, true) => (total, count),
                    (false, false) => (total + amount, count + 1),
                };
                prop_assert_eq!((standing.unaided_minor, standing.unaided_payments), (total, count));
                prop_assert!(total <= exempt.in_all_minor && count <= exempt.payments);
            }
        }
    }
}

//! How much may be paid without strong authentication, in a day, and from one address?

use std::collections::BTreeMap;

use protocol::money::{AMOUNT_MINOR_MAX, Currency};
use serde::Deserialize;

use super::check::Mistakes;
use crate::store::{Exemption, SpendRules};

/// Bounds of every number of requests here.
const REQUESTS_MAX: u64 = 1_000_000;

/// What shoppers may pay, by currency, and what one phone or address may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendingConfig {
    rules: BTreeMap<String, SpendRules>,
    pub traffic: TrafficConfig,
}

/// What one phone, shopper or address may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficConfig {
    /// Claims that one shopper holds at once.
    pub claims_per_shopper: u32,
    /// Payments that one wallet key asks for in a day.
    pub payments_per_wallet_key: u32,
    /// Claims, approvals and other changes that one address asks for in a minute.
    pub acts_per_address: u32,
    /// Looks at tokens and claims in a minute.
    pub looks_per_address: u32,
    /// Sign-ins, and changes of passkeys, in a minute.
    pub sign_ins_per_address: u32,
    /// Connections open at once.
    pub connections_per_address: u32,
}

impl SpendingConfig {
    /// What holds for payments in this currency.
    pub fn rules(&self, currency: Currency) -> SpendRules {
        let rules = self.rules.get(currency.code()).copied();
        rules.unwrap_or_default()
    }
}

/// `[step_up.EUR]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExemption {
    each_minor: i64,
    in_all_minor: i64,
    payments: u32,
}

/// `[limits]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    claims_per_shopper: u32,
    payments_per_wallet_key: u32,
    acts_per_address: u32,
    looks_per_address: u32,
    sign_ins_per_address: u32,
    connections_per_address: u32,
    shopper_day_minor: BTreeMap<String, i64>,
    merchant_day_minor: BTreeMap<String, i64>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            claims_per_shopper: 2,
            payments_per_wallet_key: 1_000,
            acts_per_address: 240,
            looks_per_address: 600,
            sign_ins_per_address: 240,
            connections_per_address: 256,
            shopper_day_minor: BTreeMap::new(),
            merchant_day_minor: BTreeMap::new(),
        }
    }
}

/// What the regulation allows in its own currency; in any other, an operator says it or nothing goes
/// without.
pub(super) fn exemptions() -> BTreeMap<String, RawExemption> {
    let of_the_regulation = RawExemption {
        each_minor: 3_000,
        in_all_minor: 10_000,
        payments: 5,
    };
    BTreeMap::from([(Currency::EUR.code().to_owned(), of_the_regulation)])
}

pub(super) fn check(
    exemptions: &BTreeMap<String, RawExemption>,
    limits: &RawLimits,
    m: &mut Mistakes,
) {
    let max = AMOUNT_MINOR_MAX as u64;
    let minor = |it: i64| u64::try_from(it).unwrap_or(u64::MAX);
    for (currency, exempt) in exemptions {
        let key = |field: &str| format!("step_up.{currency}.{field}");
        check_currency(&format!("step_up.{currency}"), currency, m);
        let in_all = minor(exempt.in_all_minor);
        m.range(&key("in_all_minor"), in_all, 0, max);
        m.range(
            &key("each_minor"),
            minor(exempt.each_minor),
            0,
            in_all.min(max),
        );
        m.range(
            &key("payments"),
            u64::from(exempt.payments),
            0,
            REQUESTS_MAX,
        );
    }
    for (name, caps) in [
        ("shopper_day_minor", &limits.shopper_day_minor),
        ("merchant_day_minor", &limits.merchant_day_minor),
    ] {
        for (currency, cap) in caps {
            let key = format!("limits.{name}.{currency}");
            check_currency(&key, currency, m);
            m.range(&key, minor(*cap), 0, i64::MAX as u64 / 2);
        }
    }
    for (name, number) in [
        ("claims_per_shopper", limits.claims_per_shopper),
        ("payments_per_wallet_key", limits.payments_per_wallet_key),
        ("acts_per_address", limits.acts_per_address),
        ("looks_per_address", limits.looks_per_address),
        ("sign_ins_per_address", limits.sign_ins_per_address),
        ("connections_per_address", limits.connections_per_address),
    ] {
        m.range(
            &format!("limits.{name}"),
            u64::from(number),
            1,
            REQUESTS_MAX,
        );
    }
}

fn check_currency(key: &str, code: &str, m: &mut Mistakes) {
    m.take(
        key,
        code.parse::<Currency>(),
        "a code of ISO 4217, e.g. EUR",
    );
}

pub(super) fn resolve(
    exemptions: BTreeMap<String, RawExemption>,
    limits: RawLimits,
) -> SpendingConfig {
    let mut rules: BTreeMap<String, SpendRules> = BTreeMap::new();
    for (currency, it) in exemptions {
        rules.entry(currency).or_default().exemption = Some(Exemption {
            each_minor: it.each_minor,
            in_all_minor: it.in_all_minor,
            payments: it.payments,
        });
    }
    for (currency, cap) in limits.shopper_day_minor {
        rules.entry(currency).or_default().shopper_day_minor = Some(cap);
    }
    for (currency, cap) in limits.merchant_day_minor {
        rules.entry(currency).or_default().merchant_day_minor = Some(cap);
    }
    SpendingConfig {
        rules,
        traffic: TrafficConfig {
            claims_per_shopper: limits.claims_per_shopper,
            payments_per_wallet_key: limits.payments_per_wallet_key,
            acts_per_address: limits.acts_per_address,
            looks_per_address: limits.looks_per_address,
            sign_ins_per_address: limits.sign_ins_per_address,
            connections_per_address: limits.connections_per_address,
        },
    }
}

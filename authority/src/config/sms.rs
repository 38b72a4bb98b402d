//! Through which gateway do shoppers pay by SMS, who may, and how much?

use std::path::{Path, PathBuf};

use pki::Segment;
use protocol::money::{Currency, Money};
use serde::Deserialize;

use super::check::Mistakes;
use super::rails::RawRail;
use crate::sms::{Language, Prefix};
use crate::store::LEDGER;

/// PSD2, Article 3(l): what a carrier may put on its invoice without a licence, 50 EUR at a time.
const PAYMENT_MAX_MINOR: i64 = 5_000;
/// And 300 EUR a month.
const MONTH_MAX_MINOR: i64 = 30_000;
/// Digits of a short number.
const SHORT_NUMBER: std::ops::RangeInclusive<usize> = 2..=15;

/// Payment by SMS, for the customers of one carrier.
#[derive(Debug, Clone)]
pub struct SmsConfig {
    /// The carrier's name, in the identity of its customers.
    pub carrier: Segment,
    /// What shoppers write to, and get their answers from.
    pub short_number: String,
    /// Links of the gateway that bring texts of the carrier's own customers only.
    pub on_net: Vec<String>,
    /// How the numbers of its customers begin.
    pub prefixes: Vec<Prefix>,
    /// What moves the money: the carrier's invoice.
    pub rail: String,
    /// The most of one payment, and of one number and month.
    pub payment_max: Money,
    pub month_max: Money,
    /// Until a shopper chooses another.
    pub language: Language,
    /// What the gateway shows when it brings a text.
    pub secret_file: PathBuf,
    pub send: SmsSend,
}

/// How the gateway takes what is sent.
#[derive(Debug, Clone)]
pub struct SmsSend {
    pub url: String,
    pub user: String,
    pub password_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSms {
    carrier: String,
    short_number: String,
    on_net: Vec<String>,
    prefixes: Vec<String>,
    rail: String,
    #[serde(default = "euro")]
    currency: String,
    #[serde(default = "payment_max_minor")]
    payment_max_minor: i64,
    #[serde(default = "month_max_minor")]
    month_max_minor: i64,
    #[serde(default)]
    language: Language,
    secret_file: PathBuf,
    #[serde(default = "send_url")]
    send_url: String,
    send_user: String,
    send_password_file: PathBuf,
}

/// The section as it counts, unless there are mistakes in it.
pub(super) fn check(
    raw: Option<RawSms>,
    rails: &[RawRail],
    folder: &Path,
    m: &mut Mistakes,
) -> Option<SmsConfig> {
    let raw = raw?;
    let before = m.count();
    let carrier = m.take(
        "sms.carrier",
        raw.carrier.parse(),
        "1 to 64 of a-z 0-9 . _ -",
    );
    check_names(&raw, m);
    check_rail(&raw.rail, rails, m);
    let prefixes = raw.prefixes.iter().filter_map(|prefix| {
        m.take(
            "sms.prefixes",
            prefix.parse(),
            "how numbers begin, with the country: +336",
        )
    });
    let prefixes = prefixes.collect();
    let (payment_max, month_max) = caps(&raw, m)?;
    if m.count() > before {
        return None;
    }
    Some(SmsConfig {
        carrier: carrier?,
        short_number: raw.short_number,
        on_net: raw.on_net,
        prefixes,
        rail: raw.rail,
        payment_max,
        month_max,
        language: raw.language,
        secret_file: folder.join(raw.secret_file),
        send: SmsSend {
            url: raw.send_url,
            user: raw.send_user,
            password_file: folder.join(raw.send_password_file),
        },
    })
}

fn check_names(raw: &RawSms, m: &mut Mistakes) {
    let short = &raw.short_number;
    if !SHORT_NUMBER.contains(&short.len()) || !short.bytes().all(|it| it.is_ascii_digit()) {
        m.add("sms.short_number", "not a short number", "2 to 15 digits");
    }
    if raw.on_net.is_empty() {
        let hint = "the smsc-id of the link that brings the carrier's own customers";
        m.add("sms.on_net", "nobody may pay", hint);
    }
    if raw.prefixes.is_empty() {
        m.add(
            "sms.prefixes",
            "nobody may pay",
            "how numbers begin: [\"+336\", \"+337\"]",
        );
    }
    if !crate::services::sign_in::is_trustworthy(&raw.send_url) {
        let hint = "https, or http on this machine: the number that approves goes there";
        m.add("sms.send_url", "not an address that keeps a secret", hint);
    }
}

/// The account is a phone number there, or one that an operator opened in the ledger.
fn check_rail(rail: &str, rails: &[RawRail], m: &mut Mistakes) {
    if rail != LEDGER && !rails.iter().any(|it| it.is_invoice(rail)) {
        let hint = "the name of one of [[rails]] with kind = \"invoice\"";
        m.add("sms.rail", "no such rail of phone bills", hint);
    }
}

fn caps(raw: &RawSms, m: &mut Mistakes) -> Option<(Money, Money)> {
    let hint = "a currency of ISO 4217, e.g. EUR";
    let currency: Currency = m.take("sms.currency", raw.currency.parse(), hint)?;
    let most = |minor| Money::new(minor, currency);
    let hint = "minor units, above zero";
    let payment = m.take("sms.payment_max_minor", most(raw.payment_max_minor), hint);
    let month = m.take("sms.month_max_minor", most(raw.month_max_minor), hint);
    let (payment, month) = (payment?, month?);
    if month.amount_minor() < payment.amount_minor() {
        let hint = "at least as much as one payment";
        m.add("sms.month_max_minor", "less than one payment", hint);
    }
    Some((payment, month))
}

fn euro() -> String {
    "EUR".into()
}

fn payment_max_minor() -> i64 {
    PAYMENT_MAX_MINOR
}

fn month_max_minor() -> i64 {
    MONTH_MAX_MINOR
}

fn send_url() -> String {
    "http://127.0.0.1:13013/cgi-bin/sendsms".into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;

    const FULL: &str = include_str!("../../../config/authority.full.toml");
    const MINIMAL: &str = include_str!("../../../config/authority.toml");

    fn parse(text: &str) -> Result<Config, super::super::ConfigError> {
        Config::parse(text, Path::new("/etc/m2key/authority.toml"))
    }

    #[test]
    fn without_the_section_nobody_pays_by_sms() {
        assert!(parse(MINIMAL).unwrap().sms.is_none());
    }

    #[test]
    fn the_sample_shows_the_defaults_of_the_law() {
        let sms = parse(FULL).unwrap().sms.unwrap();
        assert_eq!(sms.payment_max.to_string(), "50.00 EUR");
        assert_eq!(sms.month_max.to_string(), "300.00 EUR");
        assert_eq!((sms.send.url, sms.language), (send_url(), Language::En));
    }

    #[test]
    fn every_mistake_is_told_by_its_key() {
        let text = FULL
            .replace("carrier = \"home\"", "carrier = \"Home Telecom\"")
            .replace("short_number = \"12345\"", "short_number = \"M2KEY\"")
            .replace("on_net = [\"home\"]", "on_net = []")
            .replace("[\"+336\", \"+337\"]", "[\"0033\"]")
            .replace("rail = \"carrier\"", "rail = \"bank\"")
            .replace("month_max_minor = 30000", "month_max_minor = 4999")
            .replace("http://127.0.0.1:13013", "http://gateway.example");
        let error = parse(&text).unwrap_err();
        let keys: Vec<_> = error.mistakes.iter().map(|it| it.key.as_str()).collect();
        let expected = [
            "sms.carrier",
            "sms.short_number",
            "sms.on_net",
            "sms.send_url",
            "sms.rail",
            "sms.prefixes",
            "sms.month_max_minor",
        ];
        assert_eq!(keys, expected);
    }
}

//! How are amounts and times written for people?

use protocol::money::{Currency, Money};
use protocol::time::Timestamp;

use super::words::Language;

/// Digits with groups longer than this need smaller type.
const LONG_FROM: usize = 8;
/// Longest amount that is read, in characters as typed.
const TYPED_MAX: usize = 20;
const NO_BREAK: char = '\u{a0}';
const NARROW: char = '\u{202f}';

/// An amount in two parts, so that the number can be large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) number: String,
    pub(super) currency: String,
}

/// A moment, for machines and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) machine: String,
    pub(super) words: String,
}

impl Figure {
    pub(super) fn of(money: Money, language: Language) -> Self {
        let (minor, currency) = (money.amount_minor(), money.currency());
        let whole = grouped(minor / unit(currency), group_mark(language));
        Self {
            number: whole + &fraction(minor, currency, language),
            currency: currency.to_string(),
        }
    }

    pub(super) fn is_long(&self) -> bool {
        self.number.chars().count() > LONG_FROM
    }

    /// `4.20 EUR` in one line.
    pub(super) fn line(&self) -> String {
        format!("{}{NO_BREAK}{}", self.number, self.currency)
    }
}

/// The amount in one line.
pub(super) fn line(money: Money, language: Language) -> String {
    Figure::of(money, language).line()
}

/// What a field for an amount begins with: no groups, so that [`read_amount`] takes it back.
pub(super) fn plain(minor: i64, currency: Currency, language: Language) -> String {
    (minor / unit(currency)).to_string() + &fraction(minor, currency, language)
}

fn unit(currency: Currency) -> i64 {
    10i64.pow(currency.exponent())
}

/// The decimal mark and what stands behind it.
fn fraction(minor: i64, currency: Currency, language: Language) -> String {
    match currency.exponent() as usize {
        0 => String::new(),
        width => format!(
            "{}{:0width$}",
            decimal_mark(language),
            minor % unit(currency)
        ),
    }
}

/// What a shopper typed, if it can only mean one amount.
///
/// Point and comma are both taken as the decimal mark, once; who writes both means the later one. One
/// mark with more digits behind it than the currency has is refused: it might group thousands.
pub(super) fn read_amount(text: &str, currency: Currency) -> Option<Money> {
    let blank = |c: &char| !c.is_whitespace() && *c != '\'' && *c != '’';
    let text: String = text.chars().filter(blank).collect();
    if text.is_empty() || text.len() > TYPED_MAX {
        return None;
    }
    let (whole, fraction) = split(&text)?;
    let width = currency.exponent() as usize;
    if fraction.len() > width {
        return None;
    }
    let digits = format!("{whole}{fraction:0<width$}");
    let plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    let minor = plain.then(|| digits.parse().ok()).flatten()?;
    Money::new(minor, currency).ok()
}

/// Whole part without its groups, and fraction.
fn split(text: &str) -> Option<(String, String)> {
    let Some(place) = text.rfind(['.', ',']) else {
        return Some((text.to_owned(), String::new()));
    };
    let (whole, fraction) = (&text[..place], &text[place + 1..]);
    let mark = &text[place..=place];
    if whole.contains(mark) || fraction.is_empty() {
        return None;
    }
    let groups: Vec<&str> = whole.split(['.', ',']).collect();
    let threes = groups.iter().skip(1).all(|group| group.len() == 3);
    threes.then(|| (groups.concat(), fraction.to_owned()))
}

impl Moment {
    /// To the minute, in UTC: the server does not know where the phone is. The script of the page says
    /// it in the phone's own time.
    pub(super) fn of(at: Timestamp, language: Language) -> Self {
        let machine = at.to_string();
        let words = in_words(&machine, language).unwrap_or_else(|| machine.clone());
        Self { machine, words }
    }
}

/// `26 November 2026, 10:05 UTC` from RFC 3339.
fn in_words(machine: &str, language: Language) -> Option<String> {
    let (date, time) = machine.split_once('T')?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month: usize = month.parse().ok()?;
    let names = months(language);
    let month = names.get(month.checked_sub(1)?)?;
    let day: u8 = day.parse().ok()?;
    let (hour, minute) = (time.get(..2)?, time.get(3..5)?);
    Some(match language {
        Language::English => format!("{day} {month} {year}, {hour}:{minute} UTC"),
        Language::French => {
            format!("{day} {month} {year}, {hour}{NO_BREAK}h{NO_BREAK}{minute} UTC")
        }
    })
}

fn months(language: Language) -> [&'static str; 12] {
    match language {
        Language::English => [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
        Language::French => [
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ],
    }
}

fn decimal_mark(language: Language) -> char {
    match language {
        Language::English => '.',
        Language::French => ',',
    }
}

fn group_mark(language: Language) -> char {
    match language {
        Language::English => ',',
        Language::French => NARROW,
    }
}

fn grouped(number: i64, mark: char) -> String {
    let digits = number.to_string();
    let mut written = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            written.push(mark);
        }
        written.push(digit);
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(minor: i64, currency: &str, language: Language) -> String {
        let money = Money::new(minor, currency.parse().unwrap()).unwrap();
        line(money, language).replace([NO_BREAK, NARROW], "_")
    }

    #[test]
    fn amounts_are_written_as_the_language_and_the_currency_have_it() {
        let (english, french) = (Language::English, Language::French);
        assert_eq!(written(420, "EUR", english), "4.20_EUR");
        assert_eq!(written(420, "EUR", french), "4,20_EUR");
        assert_eq!(written(123_456_705, "EUR", english), "1,234,567.05_EUR");
        assert_eq!(written(123_456_705, "EUR", french), "1_234_567,05_EUR");
        assert_eq!(written(1_000, "JPY", english), "1,000_JPY");
        assert_eq!(written(5, "KWD", french), "0,005_KWD");
        assert_eq!(
            written(100_000_000_000, "JPY", french),
            "100_000_000_000_JPY"
        );
    }

    #[test]
    fn a_typed_amount_is_read_only_if_it_can_mean_one_thing() {
        let read = |text: &str, currency: &str| {
            read_amount(text, currency.parse().unwrap()).map(Money::amount_minor)
        };
        for (text, currency, minor) in [
            ("4.20", "EUR", 420),
            ("4,2", "EUR", 420),
            (" 12 ", "EUR", 1_200),
            ("1 234,50", "EUR", 123_450),
            ("1,234.50", "EUR", 123_450),
            ("1.234.567,89", "EUR", 123_456_789),
            ("1,234", "KWD", 1_234),
            ("500", "JPY", 500),
        ] {
            assert_eq!(read(text, currency), Some(minor), "{text} {currency}");
        }
        for (text, currency) in [
            ("", "EUR"),
            ("0", "EUR"),
            ("-4", "EUR"),
            ("4.", "EUR"),
            ("1,234", "EUR"),
            ("1.234", "JPY"),
            ("1,2,3", "EUR"),
            ("4e2", "EUR"),
            ("٤", "EUR"),
            ("12,34.50", "EUR"),
            ("99999999999999999999", "EUR"),
            ("1000000000.01", "EUR"),
        ] {
            assert_eq!(read(text, currency), None, "{text} {currency}");
        }
    }

    #[test]
    fn what_a_field_begins_with_is_read_back() {
        for (minor, currency, shown) in [
            (1_234_567, "EUR", "12345.67"),
            (5_000, "JPY", "5000"),
            (1_250, "KWD", "1.250"),
        ] {
            let currency: Currency = currency.parse().unwrap();
            assert_eq!(plain(minor, currency, Language::English), shown);
            for language in Language::ALL {
                let read = read_amount(&plain(minor, currency, language), currency);
                assert_eq!(read.map(Money::amount_minor), Some(minor));
            }
        }
        assert_eq!(plain(0, Currency::EUR, Language::French), "0,00");
    }

    #[test]
    fn a_time_is_said_in_words() {
        let at = Timestamp::from_ms(1_795_449_600_000);
        let english = Moment::of(at, Language::English);
        assert_eq!(english.machine, "2026-11-23T16:00:00.000Z");
        assert_eq!(english.words, "23 November 2026, 16:00 UTC");
        let french = Moment::of(at, Language::French)
            .words
            .replace(NO_BREAK, " ");
        assert_eq!(french, "23 novembre 2026, 16 h 00 UTC");
    }
}

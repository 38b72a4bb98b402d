//! What does this text want?
//!
//! People type on phones of every kind, in any grouping, with what their keyboard makes of it. What can
//! be read in one way only is read; everything else is refused with the reason, and nothing is guessed:
//! a wrong reading would cost somebody money, a refusal one more text.
//!
//! ```text
//! text ─▶ plain characters ─▶ words and numbers ─▶ one reading? ─▶ Heard
//! ```

use protocol::code::{BadCode, TYPED_CODE_DIGITS, TypedCode};
use protocol::money::Currency;

use super::amount::TypedAmount;
use super::say::Language;

mod plain;
mod tokens;

use self::tokens::{Number, Token};

/// Longest text that is read, in characters: three parts of a long SMS.
pub const TEXT_CHARS_MAX: usize = 459;
/// Digits of the number that is sent back to approve.
pub const ONE_TIME_DIGITS: usize = 6;

/// A text that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The code of a terminal, and how much if the shopper says so.
    Pay {
        code: Code,
        amount: Option<TypedAmount>,
    },
    /// Six digits: perhaps the number that approves.
    Reply(Reply),
    Amount(TypedAmount),
    No,
    Stop,
    Help,
    Speak(Language),
    Unclear(Unclear),
}

impl Heard {
    /// The code or number in it: what no two texts share but by being the same.
    pub fn reading(&self) -> Option<String> {
        match self {
            Self::Pay { code, amount } => {
                let amount = amount.map(|amount| amount.to_string());
                Some(format!("{} {}", code.0.shown(), amount.unwrap_or_default()))
            }
            Self::Reply(Reply(digits)) => Some(String::from_utf8_lossy(digits).into_owned()),
            _ => None,
        }
    }
}

/// A typed code whose check digit fits.
#[derive(Debug, Clone, Copy)]
pub struct Code(pub TypedCode);

impl PartialEq for Code {
    /// By what the terminal shows, for tests and duplicates; nothing secret depends on the time it takes.
    fn eq(&self, other: &Self) -> bool {
        self.0.shown() == other.0.shown()
    }
}

impl Eq for Code {}

/// Six digits, mute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply([u8; ONE_TIME_DIGITS]);

impl Reply {
    pub(super) fn digits(&self) -> &[u8; ONE_TIME_DIGITS] {
        &self.0
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply(..)")
    }
}

/// Why a text is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclear {
    /// Neither digits nor a word we know.
    Words,
    /// The code has another number of digits than a code has.
    Digits(usize),
    /// The check digit does not fit.
    Slip,
    /// The amount can be read in more than one way.
    Amount,
    TooLong,
}

/// Reads a text.
pub fn read(text: &str) -> Heard {
    if text.chars().count() > TEXT_CHARS_MAX {
        return Heard::Unclear(Unclear::TooLong);
    }
    let plain = plain::plain(text);
    if plain.trim() == "?" {
        return Heard::Help;
    }
    match tokens::tokens(&plain) {
        Some(tokens) => understand(&tokens),
        None => Heard::Unclear(Unclear::Amount),
    }
}

fn understand(tokens: &[Token]) -> Heard {
    let mut numbers: Vec<Number> = Vec::new();
    let mut command = None;
    let mut currency = None;
    for token in tokens {
        match token {
            Token::Number(number) => numbers.push(number.clone()),
            Token::Currency(it) if currency.is_some_and(|known| known != *it) => {
                return Heard::Unclear(Unclear::Amount);
            }
            Token::Currency(it) => currency = Some(*it),
            Token::Word(word) => match vocabulary(word) {
                Some(Meaning::Command(Heard::Stop)) => return Heard::Stop,
                Some(Meaning::Command(it)) if command.is_none() => command = Some(it),
                Some(Meaning::Filler) => {}
                Some(Meaning::Command(_)) | None => return Heard::Unclear(Unclear::Words),
            },
        }
    }
    match (command, numbers.is_empty()) {
        (Some(command), true) if currency.is_none() => command,
        (None, false) => understand_numbers(&numbers, currency),
        _ => Heard::Unclear(Unclear::Words),
    }
}

enum Meaning {
    Command(Heard),
    /// Politeness, and what the screen may have told people to write.
    Filler,
}

fn vocabulary(word: &str) -> Option<Meaning> {
    Some(match word {
        "stop" | "arret" | "stopp" | "unsubscribe" => Meaning::Command(Heard::Stop),
        "no" | "non" | "cancel" | "annuler" | "refuser" => Meaning::Command(Heard::No),
        "help" | "aide" | "info" => Meaning::Command(Heard::Help),
        "en" | "english" | "anglais" => Meaning::Command(Heard::Speak(Language::En)),
        "fr" | "french" | "francais" => Meaning::Command(Heard::Speak(Language::Fr)),
        "pay" | "payer" | "paye" | "code" | "amount" | "montant" | "m2key" | "please" | "pls"
        | "svp" | "stp" | "thanks" | "merci" | "ok" | "yes" | "oui" => Meaning::Filler,
        _ => return None,
    })
}

/// One of the numbers may be the amount, and the others are the groups of one code.
fn understand_numbers(numbers: &[Number], currency: Option<Currency>) -> Heard {
    let amounts: Vec<usize> = places(numbers, |number| number.is_amount_only());
    match amounts[..] {
        [] => understand_plain(numbers, currency),
        [place] => with_amount(numbers, place, currency),
        _ => Heard::Unclear(Unclear::Amount),
    }
}

/// No number says by itself that it is an amount.
fn understand_plain(numbers: &[Number], currency: Option<Currency>) -> Heard {
    let all = digits(numbers.iter());
    match (all.len(), currency) {
        (TYPED_CODE_DIGITS, None) => pay(&all, None),
        (ONE_TIME_DIGITS, None) => reply(&all),
        _ => understand_split(numbers, currency, all.len()),
    }
}

/// A code and a whole amount before or behind it, if that can be read in one way only.
fn understand_split(numbers: &[Number], currency: Option<Currency>, digits_in_all: usize) -> Heard {
    let last = numbers.len() - 1;
    let leaves_a_code = |place: &usize| digits(without(numbers, *place)).len() == TYPED_CODE_DIGITS;
    let ends = if last == 0 { vec![0] } else { vec![0, last] };
    let splits: Vec<usize> = ends.into_iter().filter(leaves_a_code).collect();
    match splits[..] {
        [place] => with_amount(numbers, place, currency),
        [] if last == 0 && digits_in_all < ONE_TIME_DIGITS => with_amount(numbers, 0, currency),
        [] if last == 0 && currency.is_some() => with_amount(numbers, 0, currency),
        [] => Heard::Unclear(Unclear::Digits(digits_in_all)),
        _ => Heard::Unclear(Unclear::Amount),
    }
}

/// The number at `place` is the amount; the others, if there are any, are the code.
fn with_amount(numbers: &[Number], place: usize, currency: Option<Currency>) -> Heard {
    let Some(amount) = numbers[place].amount() else {
        return Heard::Unclear(Unclear::Amount);
    };
    let amount = match (amount.currency, currency) {
        (Some(own), Some(other)) if own != other => return Heard::Unclear(Unclear::Amount),
        (None, Some(currency)) => amount.in_currency(currency),
        _ => amount,
    };
    let code = digits(without(numbers, place));
    match code.len() {
        0 => Heard::Amount(amount),
        TYPED_CODE_DIGITS => pay(&code, Some(amount)),
        other => Heard::Unclear(Unclear::Digits(other)),
    }
}

fn pay(digits: &str, amount: Option<TypedAmount>) -> Heard {
    match TypedCode::parse(digits) {
        Ok(code) => Heard::Pay {
            code: Code(code),
            amount,
        },
        Err(BadCode::Slip) => Heard::Unclear(Unclear::Slip),
        Err(BadCode::Length) => Heard::Unclear(Unclear::Digits(digits.len())),
    }
}

fn reply(digits: &str) -> Heard {
    match digits.as_bytes().try_into() {
        Ok(digits) => Heard::Reply(Reply(digits)),
        Err(_) => Heard::Unclear(Unclear::Digits(digits.len())),
    }
}

fn places(numbers: &[Number], fits: impl Fn(&Number) -> bool) -> Vec<usize> {
    let fitting = numbers
        .iter()
        .enumerate()
        .filter(|(_, number)| fits(number));
    fitting.map(|(place, _)| place).collect()
}

fn without(numbers: &[Number], place: usize) -> impl Iterator<Item = &Number> {
    let others = numbers
        .iter()
        .enumerate()
        .filter(move |(at, _)| *at != place);
    others.map(|(_, number)| number)
}

fn digits<'a>(numbers: impl Iterator<Item = &'a Number>) -> String {
    numbers.map(Number::digits).collect()
}

#[cfg(test)]
mod tests;

//! Which words and numbers stand in a plain text?

use protocol::money::Currency;

use crate::sms::amount::TypedAmount;

/// A piece of a text between blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Number(Number),
    Currency(Currency),
}

/// Digits, with or without points and commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    digits: String,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Digits alone: a group of a code, or a whole amount.
    Either,
    Amount(TypedAmount),
    /// Points between groups of digits.
    Groups,
    /// One point and three digits behind it: a thousand to some, decimals to others, or groups.
    Thousands,
}

impl Number {
    pub(super) fn digits(&self) -> &str {
        &self.digits
    }

    pub(super) fn is_amount_only(&self) -> bool {
        matches!(self.reading, Reading::Amount(_))
    }

    /// The amount it is, if it can be one, and only one.
    pub(super) fn amount(&self) -> Option<TypedAmount> {
        match self.reading {
            Reading::Amount(amount) => Some(amount),
            Reading::Either => TypedAmount::of(&self.digits, ""),
            Reading::Groups | Reading::Thousands => None,
        }
    }
}

/// None where a sign stands for more than one currency, or an amount is written with two.
pub(super) fn tokens(plain: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    for piece in plain.split_whitespace() {
        let piece = piece.trim_matches([',', '.', '?']);
        if !piece.is_empty() {
            push(&mut tokens, piece)?;
        }
    }
    Some(tokens)
}

fn push(tokens: &mut Vec<Token>, piece: &str) -> Option<()> {
    if let Some(number) = number(piece) {
        tokens.push(Token::Number(number));
        return Some(());
    }
    if let Some(currency) = currency(piece) {
        tokens.push(Token::Currency(currency?));
        return Some(());
    }
    tokens.push(attached(piece)?);
    Some(())
}

/// A number with its currency before it, behind it, or instead of the point: `€4`, `4eur`, `4€20`.
fn attached(piece: &str) -> Option<Token> {
    let is_sign = |it: char| !it.is_ascii_digit() && it != ',' && it != '.';
    let ends = piece.trim_matches(is_sign);
    let inner = piece.split(['€', '£']).collect::<Vec<_>>();
    if let [whole, decimals] = inner[..]
        && !whole.is_empty()
        && decimals.len() == 2
    {
        let sign = piece
            .chars()
            .find(|it| "€£".contains(*it))
            .map(String::from);
        let amount = number(whole).zip(number(decimals));
        let amount = amount.and_then(|(w, d)| TypedAmount::of(&w.digits, &d.digits));
        let currency = sign.and_then(|sign| currency(&sign)).flatten();
        return Some(Token::Number(with_currency(amount?, currency?)));
    }
    let around = piece.replacen(ends, "", 1);
    match (number(ends), currency(&around)) {
        (Some(number), Some(currency)) => {
            Some(Token::Number(with_currency(number.amount()?, currency?)))
        }
        _ => Some(Token::Word(piece.to_lowercase())),
    }
}

fn with_currency(amount: TypedAmount, currency: Currency) -> Number {
    Number {
        digits: String::new(),
        reading: Reading::Amount(amount.in_currency(currency)),
    }
}

/// Some(None): a sign that more than one currency has.
fn currency(text: &str) -> Option<Option<Currency>> {
    match text.to_lowercase().as_str() {
        "€" | "eur" | "euro" | "euros" => Some(Some(Currency::EUR)),
        "£" => Some("GBP".parse().ok()),
        "$" | "¥" => Some(None),
        _ => text.to_uppercase().parse().ok().map(Some),
    }
}

/// Digits, letters that look like digits, and points and commas between them.
fn number(piece: &str) -> Option<Number> {
    let fits = |it: char| digit(it).is_some() || it == '.' || it == ',';
    let has_digit = piece.chars().any(|it| it.is_ascii_digit());
    if !piece.chars().all(fits) || !(has_digit || is_group(piece)) {
        return None;
    }
    Some(Number {
        digits: piece.chars().filter_map(digit).collect(),
        // Letters alone are never how much somebody pays.
        reading: if has_digit {
            reading(piece)?
        } else {
            Reading::Groups
        },
    })
}

/// A group of a code in which a digit was taken for a letter every time, `OO1` or `OOOOO`.
fn is_group(piece: &str) -> bool {
    const LETTERS_MIN: usize = 2;
    piece.chars().count() >= LETTERS_MIN && piece.chars().any(|it| digit(it) == Some('0'))
}

fn digit(character: char) -> Option<char> {
    match character {
        '0'..='9' => Some(character),
        'O' | 'o' => Some('0'),
        'I' | 'i' | 'l' | 'L' => Some('1'),
        _ => None,
    }
}

fn reading(piece: &str) -> Option<Reading> {
    let groups: Vec<String> = piece
        .split(['.', ','])
        .map(|group| group.chars().filter_map(digit).collect())
        .collect();
    if groups.iter().any(String::is_empty) {
        return None;
    }
    let signs: Vec<char> = piece.chars().filter(|it| digit(*it).is_none()).collect();
    Some(match (&groups[..], &signs[..]) {
        ([_], _) => Reading::Either,
        ([whole, decimals], _) if decimals.len() < 3 => decimal(whole, decimals),
        ([_, decimals], _) if decimals.len() == 3 => Reading::Thousands,
        ([thousands @ .., decimals], [first @ .., last])
            if decimals.len() < 3 && !first.contains(last) && are_thousands(thousands) =>
        {
            decimal(&thousands.concat(), decimals)
        }
        _ => Reading::Groups,
    })
}

fn decimal(whole: &str, decimals: &str) -> Reading {
    TypedAmount::of(whole, decimals).map_or(Reading::Groups, Reading::Amount)
}

fn are_thousands(groups: &[String]) -> bool {
    let (first, rest) = groups
        .split_first()
        .expect("a split has at least one piece");
    first.len() <= 3 && rest.iter().all(|group| group.len() == 3)
}

#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use protocol::ids::TerminalId;
use protocol::money::Money;

use super::*;

/// 15 digits whose check digit fits.
fn digits(terminal: u32, rotating: u32) -> String {
    let code = TypedCode::new(TerminalId::from_number(terminal).unwrap(), rotating);
    code.shown().replace('-', "")
}

fn example() -> String {
    digits(4_711_042, 1_234_567)
}

/// What is paid: the code's digits, and minor units of EUR.
fn paid(text: &str) -> Option<(String, Option<i64>)> {
    match read(text) {
        Heard::Pay { code, amount } => {
            let money = amount.map(|it| it.money(Currency::EUR).unwrap());
            Some((
                code.0.shown().replace('-', ""),
                money.map(Money::amount_minor),
            ))
        }
        _ => None,
    }
}

/// The example in another guise: `{}` are its groups of five.
fn guise(form: &str) -> String {
    let code = example();
    let groups = [&code[..5], &code[5..10], &code[10..]];
    groups
        .iter()
        .fold(form.to_owned(), |text, group| text.replacen("{}", group, 1))
}

#[test]
fn a_code_is_read_in_any_grouping_and_any_blanks() {
    for form in [
        "{}{}{}",
        "{} {} {}",
        "{}-{}-{}",
        "{}.{}.{}",
        "  {}\t{}\n{}  ",
        "{}\u{a0}{}\u{202f}{}",
        "{}\u{200b}{}\u{feff}{}",
        "\u{202a}{} {} {}\u{202c}",
        "{} \u{2013} {} \u{2014} {}",
        "{}/{}/{}",
        "Pay {} {} {}",
        "PAYER {} {} {} svp",
        "code: {} {} {}.",
        "\u{1f600} {} {} {} \u{1f44d}\u{1f3fd}",
        "«{} {} {}»",
        "m2key {},{},{} merci!",
    ] {
        assert_eq!(paid(&guise(form)), Some((example(), None)), "{form}");
    }
}

#[test]
fn letters_that_look_like_digits_are_digits() {
    for zero in ["O", "o", "О", "ο", "Ｏ"] {
        assert_eq!(
            paid(&example().replace('0', zero)),
            Some((example(), None)),
            "{zero}"
        );
    }
    for one in ["I", "l", "|", "І"] {
        assert_eq!(
            paid(&example().replace('1', one)),
            Some((example(), None)),
            "{one}"
        );
    }
}

#[test]
fn digits_of_other_scripts_are_digits() {
    for zero in ['٠', '۰', '０', '०', '𝟎', '𝟶'] {
        let other = |it: char| match it.to_digit(10) {
            Some(value) => char::from_u32(zero as u32 + value).unwrap(),
            None => it,
        };
        let text: String = guise("{} {} {} 4,20").chars().map(other).collect();
        assert_eq!(paid(&text), Some((example(), Some(420))), "{text}");
    }
    let keycaps: String = example()
        .chars()
        .flat_map(|it| [it, '\u{fe0f}', '\u{20e3}'])
        .collect();
    assert_eq!(paid(&keycaps), Some((example(), None)));
}

#[test]
fn an_amount_stands_before_or_behind_the_code() {
    for (form, minor) in [
        ("4,20 {} {} {}", 420),
        ("pay 4.20 {} {} {}", 420),
        ("{} {} {} 4,20", 420),
        ("{}{}{} 5", 500),
        ("5 {} {} {}", 500),
        ("{} {} {} 4,2", 420),
        ("{} {} {} €4.20", 420),
        ("{} {} {} 4,20€", 420),
        ("{} {} {} 4€20", 420),
        ("{} {} {} 4,20 EUR", 420),
        ("eur 12 {} {} {}", 1_200),
        ("12euros {} {} {}", 1_200),
        ("{} {} {} 1.234,50", 123_450),
        ("{} {} {} 1,234.50", 123_450),
        ("{} {} {} 4٫20", 420),
        ("montant 0,05 code {} {} {}", 5),
    ] {
        assert_eq!(paid(&guise(form)), Some((example(), Some(minor))), "{form}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for form in [
        "1.234 {} {} {}",     // a thousand, or one and a bit
        "4,20 5,30 {} {} {}", // two amounts
        "$5 {} {} {}",        // whose dollars
        "4,20 EUR GBP {} {} {}",
        "4€ GBP {} {} {}",
    ] {
        assert_eq!(
            read(&guise(form)),
            Heard::Unclear(Unclear::Amount),
            "{form}"
        );
    }
    // Either end could be the amount.
    assert_eq!(
        read("5 1234 1234 1234 123 7"),
        Heard::Unclear(Unclear::Digits(17))
    );
    assert_eq!(
        read("1 23456 78901 2345 6"),
        Heard::Unclear(Unclear::Amount)
    );
}

#[test]
fn a_text_with_words_we_do_not_know_is_not_a_code() {
    for form in [
        "don't pay {} {} {}",
        "{} {} {} or not",
        "my number is {} {} {}",
        "no {} {} {}",
    ] {
        assert_eq!(read(&guise(form)), Heard::Unclear(Unclear::Words), "{form}");
    }
    for text in [
        "",
        " ",
        "hello",
        "lol",
        "il",
        "ok",
        "merci",
        "\u{1f600}",
        "€",
    ] {
        let unclear = read(text);
        assert!(matches!(unclear, Heard::Unclear(_)), "{text}: {unclear:?}");
    }
}

#[test]
fn a_slip_or_a_missing_digit_is_said() {
    let code = example();
    let slip = format!("{}{}", (code.as_bytes()[0] - b'0' + 1) % 10, &code[1..]);
    assert_eq!(read(&slip), Heard::Unclear(Unclear::Slip));
    assert_eq!(read(&code[1..]), Heard::Unclear(Unclear::Digits(14)));
    assert_eq!(
        read(&format!("{code}12")),
        Heard::Unclear(Unclear::Digits(17))
    );
    assert_eq!(read(&"1".repeat(460)), Heard::Unclear(Unclear::TooLong));
}

#[test]
fn commands_are_heard_in_both_languages() {
    for (text, heard) in [
        ("STOP", Heard::Stop),
        ("Arrêt", Heard::Stop),
        ("ＳＴＯＰ", Heard::Stop),
        ("please stop", Heard::Stop),
        ("stop it now", Heard::Stop),
        ("No.", Heard::No),
        ("non merci", Heard::No),
        ("help", Heard::Help),
        ("AIDE", Heard::Help),
        ("?", Heard::Help),
        (" ? ", Heard::Help),
        ("FR", Heard::Speak(Language::Fr)),
        ("Français", Heard::Speak(Language::Fr)),
        ("english", Heard::Speak(Language::En)),
    ] {
        assert_eq!(read(text), heard, "{text}");
    }
}

#[test]
fn six_digits_are_a_reply_and_fewer_an_amount() {
    for text in ["123456", "123 456", "OK 12-34-56", "１２３４５６", "l23456"] {
        assert!(matches!(read(text), Heard::Reply(_)), "{text}");
    }
    for text in ["5", "4,20", "4.20 EUR", "€ 12", "12345"] {
        assert!(matches!(read(text), Heard::Amount(_)), "{text}");
    }
    assert_eq!(read("1.234"), Heard::Unclear(Unclear::Amount));
    assert_eq!(read("0"), Heard::Unclear(Unclear::Amount));
    assert_eq!(read("loi"), Heard::Unclear(Unclear::Amount));
}

proptest! {
    #[test]
    fn whatever_is_texted_is_read_without_a_panic(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn digits_and_signs_in_any_order_are_read_without_a_panic(text in "[0-9OIl.,€£$ eurEUR-]{0,80}") {
        let _ = read(&text);
    }

    /// However the digits are grouped, the code is the one on the screen, or none.
    #[test]
    fn no_grouping_makes_another_code(
        terminal in 0u32..10_000_000,
        rotating in 0u32..10_000_000,
        cuts in proptest::collection::btree_set(1usize..15, 0..6),
        blank in "[ \u{a0}\u{200b}./-]{1,2}",
    ) {
        let code = digits(terminal, rotating);
        let mut text = code.clone();
        for cut in cuts.iter().rev() {
            text.insert_str(*cut, &blank);
        }
        if let Heard::Pay { code: read, amount } = read(&text) {
            prop_assert_eq!(read.0.shown().replace('-', ""), code);
            prop_assert_eq!(amount, None);
        }
    }

    /// An amount with decimals is the amount, wherever it stands.
    #[test]
    fn an_amount_with_decimals_is_never_taken_for_digits_of_the_code(
        terminal in 0u32..10_000_000,
        rotating in 0u32..10_000_000,
        minor in 1i64..10_000_000,
        first in any::<bool>(),
        sign in "[.,]",
    ) {
        let code = digits(terminal, rotating);
        let amount = format!("{}{sign}{:02}", minor / 100, minor % 100);
        let text = if first { format!("{amount} {code}") } else { format!("{code} {amount}") };
        prop_assert_eq!(paid(&text), Some((code, Some(minor))));
    }
}

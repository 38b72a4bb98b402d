//! Does this text fit into one SMS?
//!
//! The default alphabet of 3GPP TS 23.038 takes 7 bits a character; one character outside it, and the
//! whole text goes as UCS-2 with 16.

/// One SMS in the default alphabet, in septets.
pub const GSM_MAX: usize = 160;
/// One SMS in UCS-2, in UTF-16 code units.
pub const UCS2_MAX: usize = 70;

/// The basic table, without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
     ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// The extension table: an escape and one more septet each.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// How a text is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// The default alphabet.
    Gsm,
    Ucs2,
}

/// The coding that takes every character of `text`, and the shorter one if both do.
pub fn coding(text: &str) -> Coding {
    match septets(text) {
        Some(_) => Coding::Gsm,
        None => Coding::Ucs2,
    }
}

/// Whether `text` is one SMS; the gateway cuts a longer one into parts.
pub fn is_one(text: &str) -> bool {
    match septets(text) {
        Some(septets) => septets <= GSM_MAX,
        None => text.encode_utf16().count() <= UCS2_MAX,
    }
}

/// How long `text` is in the default alphabet; none if that lacks a character of it.
fn septets(text: &str) -> Option<usize> {
    let septets_of = |character: char| match character {
        it if BASIC.contains(it) => Some(1),
        it if EXTENSION.contains(it) => Some(2),
        _ => None,
    };
    text.chars().map(septets_of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_hold_every_septet_once() {
        // 128 places, one of which is the escape.
        assert_eq!(BASIC.chars().count(), 127);
        assert_eq!(EXTENSION.chars().count(), 10);
        for (place, character) in BASIC.char_indices() {
            assert!(!BASIC[place + character.len_utf8()..].contains(character));
            assert!(!EXTENSION.contains(character));
        }
    }

    #[test]
    fn one_foreign_character_makes_a_text_ucs_2() {
        assert_eq!(coding("Café à Évry, 4,20 €"), Coding::Gsm);
        for text in ["garçon", "crêpe", "☕", "فوري"] {
            assert_eq!(coding(text), Coding::Ucs2, "{text}");
        }
    }

    #[test]
    fn the_euro_sign_counts_twice_and_an_emoji_two_units() {
        assert!(is_one(&"a".repeat(160)));
        assert!(!is_one(&"a".repeat(161)));
        assert!(is_one(&"€".repeat(80)));
        assert!(!is_one(&format!("{}a", "€".repeat(80))));
        assert!(is_one(&"ç".repeat(70)));
        assert!(is_one(&"😀".repeat(35)));
        assert!(!is_one(&"😀".repeat(36)));
    }
}

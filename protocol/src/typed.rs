//! What did the person mean to type?

/// `N` decimal digits, read from what a person typed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digits<const N: usize>([u8; N]);

/// Longest text worth reading: the digits with separators between all of them.
const TYPED_MAX_BYTES: usize = 64;

/// The text is not `N` digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDigits;

impl<const N: usize> Digits<N> {
    /// Drops blanks and hyphens, reads `O` as 0 and `I`, `l` as 1, and wants exactly `N` digits.
    pub fn parse(text: &str) -> Result<Self, NotDigits> {
        if text.len() > TYPED_MAX_BYTES {
            return Err(NotDigits);
        }
        let mut digits = [0; N];
        let mut count = 0;
        for character in text.chars().filter(|c| !is_separator(*c)) {
            *digits.get_mut(count).ok_or(NotDigits)? = digit(character).ok_or(NotDigits)?;
            count += 1;
        }
        if count == N {
            Ok(Self(digits))
        } else {
            Err(NotDigits)
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().copied()
    }

    /// The digits as one number (`N` is at most 19).
    pub fn value(&self) -> u64 {
        self.iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit))
    }
}

fn is_separator(character: char) -> bool {
    character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '.')
}

fn digit(character: char) -> Option<u8> {
    match character {
        '0'..='9' => Some(character as u8 - b'0'),
        'O' | 'o' => Some(0),
        'I' | 'i' | 'l' | 'L' => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confusable_letters_and_blanks_are_read_as_meant() {
        let digits = Digits::<5>::parse(" lO-I 2\u{a0}3 ").map(|d| d.value());
        assert_eq!(digits, Ok(10_123));
    }

    #[test]
    fn too_few_too_many_and_foreign_characters_are_refused() {
        for text in ["", "1234", "123456", "1234x", "١٢٣٤٥"] {
            assert!(Digits::<5>::parse(text).is_err(), "{text}");
        }
    }
}

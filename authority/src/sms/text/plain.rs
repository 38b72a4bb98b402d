//! Which characters did the phone make of what was typed?

/// Digits of other scripts, by their zero: each block has ten in a row.
const ZEROS: [char; 9] = [
    '\u{660}',   // Arabic-Indic
    '\u{6f0}',   // Persian, Urdu
    '\u{966}',   // Devanagari
    '\u{9e6}',   // Bengali
    '\u{e50}',   // Thai
    '\u{ff10}',  // full-width
    '\u{1d7ce}', // mathematical bold
    '\u{1d7d8}', // mathematical double-struck
    '\u{1d7f6}', // mathematical monospace
];
/// Full-width forms lie this far from ASCII.
const FULL_WIDTH: u32 = 0xfee0;

/// The same text in ASCII digits and letters, commas, points, currency signs and single blanks; whatever
/// else it holds separates like a blank or, where it has no width, is not there.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .filter(|it| !is_nothing(*it))
        .map(plain_character)
        .collect()
}

/// Has no width: joiners, marks of direction, variation selectors, the keycap around a digit.
fn is_nothing(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{20e3}'
        | '\u{300}'..='\u{36f}' | '\'' | '\u{2019}')
}

fn plain_character(character: char) -> char {
    if let Some(digit) = digit(character) {
        return digit;
    }
    let character = narrow(character);
    match character {
        ',' | '.' | '?' | '€' | '£' | '$' | '¥' => character,
        // Arabic decimal sign and comma.
        '\u{66b}' | '\u{60c}' => ',',
        // Letters of other scripts that look like O and I.
        'О' | 'о' | 'Ο' | 'ο' => 'O',
        'І' | 'і' | 'Ι' | 'ι' | '|' => 'I',
        'à' | 'â' | 'ä' => 'a',
        'ç' | 'Ç' => 'c',
        'é' | 'è' | 'ê' | 'ë' | 'É' | 'È' | 'Ê' => 'e',
        it if it.is_alphabetic() => it,
        it if it.is_ascii_digit() => it,
        _ => ' ',
    }
}

fn digit(character: char) -> Option<char> {
    let value = |zero: &char| {
        (character as u32)
            .checked_sub(*zero as u32)
            .filter(|it| *it < 10)
    };
    char::from_digit(ZEROS.iter().find_map(value)?, 10)
}

/// Full-width letters and signs as ASCII.
fn narrow(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(character as u32 - FULL_WIDTH).unwrap_or(character)
        }
        other => other,
    }
}

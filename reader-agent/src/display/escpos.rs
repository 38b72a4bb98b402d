//! Which bytes does a customer display want?
//!
//! Epson's commands, from *DM-D110 Specification (Standard)*, sheets 41 to 44: `ESC @` (1B 40) takes all
//! settings back, clears the screen and moves to the upper left; `ESC t n` (1B 74 n, n 0 to 5 and 16 to 19)
//! selects a page of characters; and from the *EPSON ESC/POS command list* in the manuals of displays that
//! speak it beside CD5220, UTC and others (P07303 section 7.8, XP8200 section 4.1.2, VFD-450 mode 1), which
//! agree: `CLR` (0C) clears, `US $ x y` (1F 24 x y, x 1 to 20, y 1 or 2) moves, `US MD1` (1F 01) overwrites,
//! `US C 0` (1F 43 00) hides the cursor.
//!
//! Nothing else is used, so that whatever calls itself compatible understands it.

use serde::Deserialize;

use super::lines::{COLUMNS, Lines};

const INITIALISE: &[u8] = b"\x1b@";
const OVERWRITE: &[u8] = b"\x1f\x01";
const NO_CURSOR: &[u8] = b"\x1fC\x00";
/// What leaves nothing on the glass.
pub const CLEAR: &[u8] = b"\x0c";

/// In which table a display looks up letters beyond ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodePage {
    /// The first IBM PC; every display has it.
    Pc437,
    /// Its western European successor.
    Pc850,
    /// The same, with € in the place of ı.
    #[default]
    Pc858,
    /// Windows, western European.
    Wpc1252,
}

/// What the first byte of letters 0x80 to 0xaf means in the three pages of the PC; a dot is no letter of ours.
const PC_LOWER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ.£...áíóúñÑ..¿.......";
/// Letters that only the later pages have.
const PC_850: [(char, u8); 18] = [
    ('ø', 0x9b),
    ('Ø', 0x9d),
    ('Á', 0xb5),
    ('Â', 0xb6),
    ('À', 0xb7),
    ('ã', 0xc6),
    ('Ã', 0xc7),
    ('Ê', 0xd2),
    ('Ë', 0xd3),
    ('È', 0xd4),
    ('Í', 0xd6),
    ('Î', 0xd7),
    ('Ï', 0xd8),
    ('Ó', 0xe0),
    ('Ô', 0xe2),
    ('Ú', 0xe9),
    ('Û', 0xea),
    ('Ù', 0xeb),
];
/// Without its accent, where a page lacks it.
const PLAIN: [(&str, u8); 8] = [
    ("ÀÁÂÃ", b'A'),
    ("ÈÊË", b'E'),
    ("ÍÎÏ", b'I'),
    ("ÓÔÕØ", b'O'),
    ("ÙÚÛ", b'U'),
    ("ãõ", b'a'),
    ("øœ", b'o'),
    ("€", b'E'),
];

/// What a display is told first.
pub fn start(page: CodePage) -> Vec<u8> {
    [
        INITIALISE,
        &[0x1b, b't', page.number()],
        OVERWRITE,
        NO_CURSOR,
        CLEAR,
    ]
    .concat()
}

/// Only the lines that say something else than before, each in full.
pub fn changes(before: Option<&Lines>, now: &Lines, page: CodePage) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (row, line) in now.iter().enumerate() {
        if before.is_some_and(|before| before[row] == *line) {
            continue;
        }
        bytes.extend([0x1f, b'$', 1, row as u8 + 1]);
        let padded = format!("{line:<COLUMNS$}");
        bytes.extend(padded.chars().map(|letter| page.byte(letter)));
    }
    bytes
}

impl CodePage {
    fn number(self) -> u8 {
        match self {
            Self::Pc437 => 0,
            Self::Pc850 => 2,
            Self::Wpc1252 => 16,
            Self::Pc858 => 19,
        }
    }

    /// Never a control character, whatever the text.
    fn byte(self, letter: char) -> u8 {
        match letter {
            ' '..='~' => letter as u8,
            '\u{a0}' | '\u{202f}' => b' ',
            '’' | '‘' => b'\'',
            '“' | '”' => b'"',
            '–' | '—' => b'-',
            _ => self
                .beyond(letter)
                .or_else(|| plain(letter))
                .unwrap_or(b'?'),
        }
    }

    fn beyond(self, letter: char) -> Option<u8> {
        match (self, letter) {
            (Self::Wpc1252, '€') => Some(0x80),
            (Self::Wpc1252, 'œ') => Some(0x9c),
            (Self::Wpc1252, '\u{a1}'..='\u{ff}') => u8::try_from(letter).ok(),
            (Self::Wpc1252, _) => None,
            (Self::Pc858, '€') => Some(0xd5),
            (_, 'ß') => Some(0xe1),
            (Self::Pc437, _) => of_pc(letter),
            (Self::Pc850 | Self::Pc858, _) => of_pc(letter).or_else(|| {
                let found = PC_850.iter().find(|(it, _)| *it == letter);
                found.map(|(_, byte)| *byte)
            }),
        }
    }
}

fn of_pc(letter: char) -> Option<u8> {
    let place = PC_LOWER.chars().position(|it| it == letter && it != '.')?;
    Some(0x80 + place as u8)
}

fn plain(letter: char) -> Option<u8> {
    let found = PLAIN.iter().find(|(letters, _)| letters.contains(letter));
    found.map(|(_, byte)| *byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(page: CodePage, text: &str) -> Vec<u8> {
        text.chars().map(|letter| page.byte(letter)).collect()
    }

    #[test]
    fn letters_and_the_euro_are_where_each_page_has_them() {
        let text = "é€àèçôûÀÉ";
        let of = |page| bytes(page, text);
        assert_eq!(of(CodePage::Pc437), b"\x82E\x85\x8a\x87\x93\x96A\x90");
        assert_eq!(of(CodePage::Pc850), b"\x82E\x85\x8a\x87\x93\x96\xb7\x90");
        assert_eq!(of(CodePage::Pc858), b"\x82\xd5\x85\x8a\x87\x93\x96\xb7\x90");
        assert_eq!(
            of(CodePage::Wpc1252),
            b"\xe9\x80\xe0\xe8\xe7\xf4\xfb\xc0\xc9"
        );
        assert_eq!(
            bytes(CodePage::Pc858, "1\u{202f}234’ñ£ß"),
            b"1 234'\xa4\x9c\xe1"
        );
    }

    #[test]
    fn no_text_becomes_a_command() {
        let all = (0..=0x2fff).filter_map(char::from_u32);
        for page in [
            CodePage::Pc437,
            CodePage::Pc850,
            CodePage::Pc858,
            CodePage::Wpc1252,
        ] {
            assert!(all.clone().all(|letter| page.byte(letter) >= 0x20));
        }
    }

    #[test]
    fn a_line_that_stays_is_not_written_again() {
        let page = CodePage::Pc858;
        let old = ["To pay".to_owned(), "1".to_owned()];
        let new = ["To pay".to_owned(), "2".to_owned()];
        assert_eq!(changes(Some(&old), &old, page), b"");
        assert_eq!(
            changes(Some(&old), &new, page),
            b"\x1f$\x01\x022                   "
        );
        assert_eq!(changes(None, &new, page).len(), 48);
    }
}

//! Which bytes are inside this armour?
//!
//! Tools disagree about line lengths and about what may stand between blocks, so reading is tolerant
//! of blanks and of text outside the blocks, and of nothing else.

use base64ct::{Base64, Encoding};

/// Most blocks one file may hold.
pub(crate) const BLOCKS_MAX: usize = 32;

/// Characters per line that everyone reads (RFC 7468).
const LINE_WIDTH: usize = 64;

/// The text is not what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadArmour;

/// One `-----BEGIN …-----` block.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    body: &'a str,
}

impl Block<'_> {
    pub(crate) fn der(&self) -> Result<Vec<u8>, BadArmour> {
        unbase64(self.body)
    }
}

/// Every block of a text, in order. A text without one gives an empty list.
pub(crate) fn blocks(mut text: &str) -> Result<Vec<Block<'_>>, BadArmour> {
    let mut found = Vec::new();
    while let Some((_, rest)) = text.split_once("-----BEGIN ") {
        let (label, rest) = rest.split_once("-----").ok_or(BadArmour)?;
        let end = format!("-----END {label}-----");
        let (body, rest) = rest.split_once(&end).ok_or(BadArmour)?;
        if found.len() == BLOCKS_MAX {
            return Err(BadArmour);
        }
        found.push(Block { label, body });
        text = rest;
    }
    Ok(found)
}

/// Base64 with its padding, blanks and line breaks anywhere.
pub(crate) fn unbase64(text: &str) -> Result<Vec<u8>, BadArmour> {
    let dense: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    Base64::decode_vec(&dense).map_err(|_| BadArmour)
}

/// Base64 in lines.
pub(crate) fn base64_lines(bytes: &[u8]) -> String {
    let dense = Base64::encode_string(bytes);
    let mut lines = String::with_capacity(dense.len() + dense.len() / LINE_WIDTH + 1);
    for (index, character) in dense.chars().enumerate() {
        if index > 0 && index % LINE_WIDTH == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines.push('\n');
    lines
}

pub(crate) fn armour(label: &str, der: &[u8]) -> String {
    let body = base64_lines(der);
    format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_around_the_blocks_is_overlooked_and_an_open_block_is_not() {
        let one = armour("A", b"one");
        let two = armour("B C", b"two");
        let text = format!("subject=x\n{one}\nissuer=y\n{two}bye");
        let found = blocks(&text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[1].label, found[1].der().unwrap()),
            ("B C", b"two".to_vec())
        );
        assert!(blocks(one.trim_end().strip_suffix('-').unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_armoured_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = armour("X", &bytes);
            prop_assert!(text.lines().all(|line| line.len() <= LINE_WIDTH));
            prop_assert_eq!(blocks(&text).unwrap()[0].der().unwrap(), bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(-----(BEGIN|END) A-----|\\PC){0,40}") {
            let _ = blocks(&text).map(|found| found.iter().map(|block| block.der().is_ok()).count());
        }
    }
}

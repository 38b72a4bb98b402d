//! What does a phone read from the tag or the QR code?
//!
//! `https://<host>/t/<terminal>.<token>`: the terminal's 8 digits, then the 16 token bytes as 26
//! characters of Crockford base32. The token is last and of fixed length, so a rewritten tag
//! changes only its last pages.

use alloc::format;
use alloc::string::String;

use crate::ids::TerminalId;
use crate::token::MachineToken;

/// Longest host name in a link; leaves room for a tag's own message data in one frame.
pub const HOST_MAX: usize = 24;
/// Characters of a token in base32: ⌈128 / 5⌉.
pub const TOKEN_CHARS: usize = 26;
/// Digits of a terminal id.
pub const TERMINAL_CHARS: usize = 8;
/// Longest link worth reading.
pub const LINK_MAX: usize = 512;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 26 characters hold 130 bits; the last 2 are zero.
const PADDING_BITS: u32 = 2;

/// The host (and port) that links lead to, in the form they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkHost(String);

impl LinkHost {
    /// A host name in lower case, perhaps `:` and a port; at most [`HOST_MAX`] characters in all.
    pub fn parse(text: &str) -> Result<Self, BadLink> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        if text.len() <= HOST_MAX && name.split('.').all(is_label) && port.is_none_or(is_port) {
            Ok(Self(text.into()))
        } else {
            Err(BadLink::Host)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The link of a token.
    pub fn link(&self, terminal: TerminalId, token: &MachineToken) -> String {
        format!("https://{}/t/{terminal}.{}", self.0, encode(token))
    }
}

/// Reads `<terminal>.<token>`, alone or at the end of a link to any host: the token decides, not the
/// host it was served under.
pub fn parse(text: &str) -> Result<(TerminalId, MachineToken), BadLink> {
    let (terminal, token) = tail(text)?.split_once('.').ok_or(BadLink::Shape)?;
    Ok((
        terminal.parse().map_err(|_| BadLink::Terminal)?,
        decode(token)?,
    ))
}

/// What comes behind the host and `/t/` of a link, or all of what is not a link.
pub(crate) fn tail(text: &str) -> Result<&str, BadLink> {
    let text = text.trim();
    if text.len() > LINK_MAX {
        return Err(BadLink::Shape);
    }
    match text.split_once("://") {
        None => Ok(text),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            let (host, path) = rest.split_once('/').ok_or(BadLink::Shape)?;
            let tail = path.strip_prefix("t/").ok_or(BadLink::Shape)?;
            host.bytes()
                .all(is_host_byte)
                .then_some(tail)
                .ok_or(BadLink::Shape)
        }
        Some(_) => Err(BadLink::Shape),
    }
}

/// Crockford base32 of the token, 26 upper-case characters.
pub fn encode(token: &MachineToken) -> String {
    let number = u128::from_be_bytes(*token.as_bytes());
    (0..TOKEN_CHARS as u32)
        .map(|place| {
            let bits = 5 * (TOKEN_CHARS as u32 - 1 - place);
            let digit = match bits.checked_sub(PADDING_BITS) {
                Some(shift) => number >> shift,
                None => number << (PADDING_BITS - bits),
            };
            char::from(ALPHABET[(digit & 31) as usize])
        })
        .collect()
}

/// Reads what [`encode`] wrote; lower case and the confusable letters O, I, L are understood.
pub fn decode(text: &str) -> Result<MachineToken, BadLink> {
    if text.len() != TOKEN_CHARS {
        return Err(BadLink::Token);
    }
    let mut number: u128 = 0;
    for (place, character) in text.bytes().enumerate() {
        let digit = u128::from(value(character).ok_or(BadLink::Token)?);
        if place + 1 < TOKEN_CHARS {
            number = (number << 5) | digit;
        } else if digit & ((1 << PADDING_BITS) - 1) == 0 {
            number = (number << (5 - PADDING_BITS)) | (digit >> PADDING_BITS);
        } else {
            return Err(BadLink::Token);
        }
    }
    Ok(MachineToken::from_bytes(number.to_be_bytes()))
}

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    #[error(
        "a link host is a host name in lower case, perhaps with a port, of at most {HOST_MAX} characters"
    )]
    Host,
    #[error("this is not a link from a terminal")]
    Shape,
    #[error("the terminal id in the link has a slip in it")]
    Terminal,
    #[error("the token in the link is damaged")]
    Token,
}

fn is_label(label: &str) -> bool {
    let plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !label.is_empty()
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// 1 to 65535, written without leading zeros.
fn is_port(port: &str) -> bool {
    let digits = port.bytes().all(|c| c.is_ascii_digit());
    digits && !port.starts_with('0') && port.parse::<u16>().is_ok()
}

/// No user names, no escapes: what stands before a link's path is a host and perhaps a port.
fn is_host_byte(character: u8) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, b'-' | b'.' | b':' | b'[' | b']')
}

fn value(character: u8) -> Option<u8> {
    let upper = match character.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    ALPHABET.iter().position(|c| *c == upper).map(|i| i as u8)
}

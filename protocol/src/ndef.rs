//! What lies on the tag?
//!
//! One NDEF message with one URI record (NFC Forum RTD URI 1.0): header D1, type length 1, payload
//! length, type `U`, prefix code, rest of the URI. The tag's own framing (TLV, NLEN) is the
//! writer's.

use alloc::string::String;
use alloc::vec::Vec;

/// First and last record, short, well-known type.
const HEADER: u8 = 0xD1;
const TYPE_URI: u8 = b'U';
/// URI prefix code of `https://`.
const HTTPS: u8 = 0x04;
const HTTPS_TEXT: &str = "https://";
/// A short record holds at most 255 bytes of payload, prefix code included.
const PAYLOAD_MAX: usize = 255;

/// The message for an `https://` link.
pub fn uri_message(link: &str) -> Result<Vec<u8>, BadNdef> {
    let rest = link.strip_prefix(HTTPS_TEXT).ok_or(BadNdef::Scheme)?;
    let length = rest.len() + 1;
    if length > PAYLOAD_MAX {
        return Err(BadNdef::TooLong);
    }
    let mut message = Vec::with_capacity(length + 4);
    message.extend_from_slice(&[HEADER, 1, length as u8, TYPE_URI, HTTPS]);
    message.extend_from_slice(rest.as_bytes());
    Ok(message)
}

/// Reads the message [`uri_message`] makes.
pub fn read_uri(message: &[u8]) -> Result<String, BadNdef> {
    let [HEADER, 1, length, TYPE_URI, HTTPS, rest @ ..] = message else {
        return Err(BadNdef::Shape);
    };
    if usize::from(*length) != rest.len() + 1 {
        return Err(BadNdef::Shape);
    }
    let rest = core::str::from_utf8(rest).map_err(|_| BadNdef::Shape)?;
    Ok(alloc::format!("{HTTPS_TEXT}{rest}"))
}

/// Why a link cannot be written, or a message not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNdef {
    #[error("only https links go on a tag")]
    Scheme,
    #[error("the link is longer than a short record holds")]
    TooLong,
    #[error("not one URI record")]
    Shape,
}

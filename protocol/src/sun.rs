//! Was this link read from that tag, just now?
//!
//! An NTAG 424 DNA that answers a phone writes two things into the link as it is read:
//!
//! ```text
//!  https://<host>/t/<terminal>.<token>.<who and how often>.<mac>
//!                   └────────────── covered ─────────────┘
//!                                      32 hex digits      16 hex digits
//! ```
//! *Who and how often* is the tag's UID and its read counter under the key *meta*; the mac is under a
//! key that follows from the key *mac*, the UID and the counter. What the tag was written with is
//! covered too, so a mac does not lend itself to another token.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::aes_key::{AES_BYTES, AesKey, MAC_BYTES};
use crate::ids::TerminalId;
use crate::link::{self, BadLink, LinkHost};
use crate::token::MachineToken;

/// Hexadecimal digits of UID and counter, encrypted.
pub const PICC_CHARS: usize = 2 * AES_BYTES;
/// Hexadecimal digits of the mac.
pub const MAC_CHARS: usize = 2 * MAC_BYTES;
/// Bytes of a tag's UID.
pub const UID_BYTES: usize = 7;
/// The counter has 24 bits, and the tag mirrors no more after its end.
pub const COUNTER_MAX: u32 = 0x00FF_FFFF;

/// UID mirrored, counter mirrored, a UID of seven bytes.
const PICC_TAG: u8 = 0xC7;
const SESSION_MAC: [u8; 6] = [0x3C, 0xC3, 0x00, 0x01, 0x00, 0x80];
const SEPARATOR: &str = ".";

/// Which key of a tag does what; the number is the tag's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeySlot {
    /// Changes keys and settings; a terminal has it while it personalises the tag, and keeps it nowhere.
    Master = 0,
    /// Writes the link; the terminal's.
    Write = 1,
    /// Hides UID and counter in the link; the authority's.
    Meta = 2,
    /// Makes the mac of the link; the authority's.
    Mac = 3,
    /// Opens nothing; set so that nobody else sets it.
    Spare = 4,
}

impl KeySlot {
    pub const ALL: [Self; 5] = [
        Self::Master,
        Self::Write,
        Self::Meta,
        Self::Mac,
        Self::Spare,
    ];

    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a key file calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Write => "write",
            Self::Meta => "meta",
            Self::Mac => "mac",
            Self::Spare => "spare",
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.number() == number)
    }
}

/// What a tag's key is diversified by: this tag, this slot, this version.
pub fn key_input(uid: TagUid, slot: KeySlot, version: u8) -> [u8; 18] {
    let mut input = *b"0123456m2key/tag\0\0";
    input[..UID_BYTES].copy_from_slice(&uid.0);
    input[16] = slot.number();
    input[17] = version;
    input
}

/// The UID of one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagUid([u8; UID_BYTES]);

impl TagUid {
    pub const fn from_bytes(bytes: [u8; UID_BYTES]) -> Self {
        Self(bytes)
    }

    /// `None` for the UID of another kind of tag.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads 14 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        hex_bytes(&text.to_ascii_uppercase()).map(Self)
    }

    pub const fn as_bytes(&self) -> &[u8; UID_BYTES] {
        &self.0
    }
}

impl FromStr for TagUid {
    type Err = BadUid;

    fn from_str(text: &str) -> Result<Self, BadUid> {
        Self::parse(text).ok_or(BadUid)
    }
}

impl Serialize for TagUid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TagUid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Not the UID of a tag that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the UID of an NTAG 424 DNA has 14 hexadecimal digits")]
pub struct BadUid;

impl fmt::Display for TagUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// The file of one tag's keys, as whoever makes keys writes it and a terminal reads it. `keys` by the
/// numbers of their slots; `host`: whose links the tag signs.
pub fn key_file(uid: TagUid, version: u8, keys: &[AesKey; 5], host: Option<&LinkHost>) -> KeyFile {
    let mut text = format!("uid = \"{uid}\"\nversion = {version}\n");
    if let Some(host) = host {
        text += &format!("host = \"{}\"\n", host.as_str());
    }
    text.reserve(KEY_LINES_BYTES);
    for (slot, key) in KeySlot::ALL.into_iter().zip(keys) {
        text += slot.name();
        text += " = \"";
        for byte in key.expose() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from(LOWER_HEX[usize::from(digit)]));
            }
        }
        text += "\"\n";
    }
    KeyFile(text)
}

const LOWER_HEX: &[u8; 16] = b"0123456789abcdef";
/// Room for the keys' lines, so that no copy of them is left behind where the text grew.
const KEY_LINES_BYTES: usize = 5 * 64;

/// The text of a key file. Mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyFile(String);

impl KeyFile {
    /// The text, for the one place that writes it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(..)")
    }
}

/// The keys that check one tag's links.
#[derive(Debug, Clone)]
pub struct SunKeys {
    pub meta: AesKey,
    pub mac: AesKey,
}

/// A link with what a tag put into it. Nobody has checked it yet.
#[derive(Clone)]
pub struct SunLink {
    terminal: TerminalId,
    token: MachineToken,
    covered: String,
    picc: [u8; AES_BYTES],
    mac: [u8; MAC_BYTES],
}

impl SunLink {
    /// Reads a whole link, to any host, or what comes behind its `/t/`.
    pub fn parse(text: &str) -> Result<Self, BadSun> {
        let tail = link::tail(text)?;
        let (covered, mac) = tail.rsplit_once(SEPARATOR).ok_or(BadSun::Shape)?;
        let (plain, picc) = covered.rsplit_once(SEPARATOR).ok_or(BadSun::Shape)?;
        let (terminal, token) = link::parse(plain)?;
        Ok(Self {
            terminal,
            token,
            covered: format!("{covered}{SEPARATOR}"),
            picc: hex_bytes(picc).ok_or(BadSun::Shape)?,
            mac: hex_bytes(mac).ok_or(BadSun::Shape)?,
        })
    }

    pub fn terminal(&self) -> TerminalId {
        self.terminal
    }

    /// The token that was on the tag; whether it may be spent is another question.
    pub fn token(&self) -> &MachineToken {
        &self.token
    }

    /// All of it behind the `/t/`, as the tag wrote it.
    pub fn written(&self) -> String {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02X}")).collect() };
        format!("{}{}", self.covered, hex(&self.mac))
    }

    /// Who was tapped, if it was the tag with these keys. The same time for every wrong link.
    pub fn verify(&self, keys: &SunKeys) -> Result<Tap, BadSun> {
        opened(keys, self.picc, self.covered.as_bytes(), &self.mac)
    }
}

impl fmt::Debug for SunLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SunLink({}, ..)", self.terminal)
    }
}

fn opened(
    keys: &SunKeys,
    mut picc: [u8; AES_BYTES],
    covered: &[u8],
    mac: &[u8; MAC_BYTES],
) -> Result<Tap, BadSun> {
    // One block is a whole block.
    let whole = keys.meta.decrypt([0; AES_BYTES], &mut picc);
    let [tag, uid @ .., low, middle, high, _, _, _, _, _] = picc;
    let session = AesKey::from_bytes(keys.mac.cmac(&[&SESSION_MAC, &uid, &[low, middle, high]]));
    let expected = session.short_mac(&[covered]);
    let genuine = expected.ct_eq(mac) & tag.ct_eq(&PICC_TAG) & Choice::from(u8::from(whole));
    let tap = Tap {
        uid: TagUid(uid),
        counter: u32::from_le_bytes([low, middle, high, 0]),
    };
    bool::from(genuine).then_some(tap).ok_or(BadSun::Mac)
}

/// A tag was read: this one, for this time. Only a mac that holds makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    uid: TagUid,
    counter: u32,
}

impl Tap {
    pub fn uid(&self) -> TagUid {
        self.uid
    }

    /// Rises with every tap, sometimes by more than one.
    pub fn counter(&self) -> u32 {
        self.counter
    }
}

/// Why a link does not prove a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSun {
    #[error("this link does not come from a tag that signs its links")]
    Shape,
    #[error(transparent)]
    Link(#[from] BadLink),
    #[error("the tag's mac does not hold")]
    Mac,
}

/// The link as it is written to the tag: with room for what the tag puts in.
pub fn template(link: &str) -> String {
    format!(
        "{link}{SEPARATOR}{picc}{SEPARATOR}{mac}",
        picc = "0".repeat(PICC_CHARS),
        mac = "0".repeat(MAC_CHARS),
    )
}

/// Where in a template, in characters from its end, a tag begins to cover and to mirror.
pub struct FromEnd;

impl FromEnd {
    pub const MAC: usize = MAC_CHARS;
    pub const PICC: usize = MAC_CHARS + 1 + PICC_CHARS;
    pub const COVERED: usize = Self::PICC + 1 + link::TOKEN_CHARS + 1 + link::TERMINAL_CHARS;
}

/// Upper case only, as tags write it: what is covered has one spelling.
fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let is_upper = |c: &u8| matches!(c, b'0'..=b'9' | b'A'..=b'F');
    if digits.len() != 2 * N || !digits.iter().all(is_upper) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;

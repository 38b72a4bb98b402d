//! Which keys does a tag get?
//!
//! The file is of one tag and one version, and whoever holds the master keys makes it; a terminal
//! never sees those. It is needed to personalise and to reset, and goes away after that.

use std::fmt;

use protocol::aes_key::AesKey;
use protocol::link::LinkHost;
use protocol::sun::{self, KeyFile, KeySlot, TagUid};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::TagError;

/// Longest file worth reading, in bytes.
pub const KEY_FILE_MAX: u64 = 4_096;

/// The five keys of one tag.
#[derive(Clone)]
pub struct TagKeys {
    pub uid: TagUid,
    version: u8,
    keys: [AesKey; 5],
    /// Of the authority that made the keys and verifies what the tag signs.
    host: Option<LinkHost>,
}

/// Why a file is none of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeyFile {
    #[error(
        "it does not name uid, version, perhaps host, master, write, meta, mac and spare, and nothing else"
    )]
    Shape,
    #[error("uid is not 14 hexadecimal digits")]
    Uid,
    #[error("version is not a number from 1 to 255")]
    Version,
    #[error("a key is not 32 hexadecimal digits, or is the delivery key")]
    Key,
    #[error("host is not the host of an authority's links")]
    Host,
    #[error("two slots have the same key")]
    Doubled,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    uid: String,
    version: u8,
    host: Option<String>,
    master: KeyText,
    write: KeyText,
    meta: KeyText,
    mac: KeyText,
    spare: KeyText,
}

/// A key as it is written; `None` if it is none.
struct KeyText(Option<AesKey>);

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        Ok(Self(key_of(&text)))
    }
}

impl TagKeys {
    pub fn new(uid: TagUid, version: u8, keys: [AesKey; 5]) -> Result<Self, BadKeyFile> {
        if version == super::record::DELIVERED_VERSION {
            return Err(BadKeyFile::Version);
        }
        for (n, key) in keys.iter().enumerate() {
            let same = |other: &AesKey| key.expose() == other.expose();
            if same(&AesKey::DELIVERY) {
                return Err(BadKeyFile::Key);
            }
            if keys[..n].iter().any(same) {
                return Err(BadKeyFile::Doubled);
            }
        }
        Ok(Self {
            uid,
            version,
            keys,
            host: None,
        })
    }

    /// Reads TOML. What is wrong is said without quoting a line of it.
    pub fn parse(text: &str) -> Result<Self, BadKeyFile> {
        let raw: Raw = toml::from_str(text).map_err(|_| BadKeyFile::Shape)?;
        let uid = TagUid::parse(&raw.uid).ok_or(BadKeyFile::Uid)?;
        let mut keys = [AesKey::DELIVERY; 5];
        let texts = [raw.master, raw.write, raw.meta, raw.mac, raw.spare];
        for (key, text) in keys.iter_mut().zip(texts) {
            *key = text.0.ok_or(BadKeyFile::Key)?;
        }
        let host = raw.host.as_deref().map(LinkHost::parse).transpose();
        let host = host.map_err(|_| BadKeyFile::Host)?;
        Ok(Self {
            host,
            ..Self::new(uid, raw.version, keys)?
        })
    }

    /// Keys of chance, of the first version.
    pub fn random(uid: TagUid) -> Result<Self, TagError> {
        let mut keys = [AesKey::DELIVERY; 5];
        for key in &mut keys {
            let mut bytes = Zeroizing::new([0; 16]);
            getrandom::fill(&mut *bytes).map_err(|_| TagError::Bug)?;
            *key = AesKey::from_bytes(*bytes);
        }
        Self::new(uid, 1, keys).map_err(|_| TagError::Bug)
    }

    /// The file that [`Self::parse`] reads.
    pub fn text(&self) -> KeyFile {
        sun::key_file(self.uid, self.version, &self.keys, self.host.as_ref())
    }

    /// Whose links the tag is to sign; none if nobody verifies them.
    pub fn host(&self) -> Option<&LinkHost> {
        self.host.as_ref()
    }

    pub fn version(&self) -> u8 {
        self.version
    }

    pub fn key(&self, slot: KeySlot) -> &AesKey {
        &self.keys[usize::from(slot.number())]
    }
}

impl fmt::Debug for TagKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagKeys({} version {})", self.uid, self.version)
    }
}

fn key_of(text: &str) -> Option<AesKey> {
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 16]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(AesKey::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(uid: &str, version: &str, first: &str) -> String {
        let rest = ["write", "meta", "mac", "spare"].iter().enumerate();
        let rest: String = rest
            .map(|(n, name)| format!("{name} = \"{}\"\n", format!("1{n}").repeat(16)))
            .collect();
        format!("uid = \"{uid}\"\nversion = {version}\nmaster = \"{first}\"\n{rest}")
    }

    const UID: &str = "04010203040506";
    const KEY: &str = "000102030405060708090A0B0C0D0E0F";

    #[test]
    fn a_file_of_five_keys_is_read_and_does_not_print_them() {
        let keys = TagKeys::parse(&file(UID, "7", KEY)).unwrap();
        assert_eq!(keys.key(KeySlot::Master).expose()[15], 0x0F);
        assert_eq!(keys.key(KeySlot::Spare).expose(), &[0x13; 16]);
        assert_eq!(format!("{keys:?}"), "TagKeys(04010203040506 version 7)");
    }

    #[test]
    fn keys_of_chance_are_read_again_and_no_two_files_are_alike() {
        let uid = TagUid::parse(UID).unwrap();
        let (one, other) = (TagKeys::random(uid).unwrap(), TagKeys::random(uid).unwrap());
        let again = TagKeys::parse(one.text().expose()).unwrap();
        assert_eq!(again.text().expose(), one.text().expose());
        assert_ne!(other.text().expose(), one.text().expose());
        assert!(again.host().is_none());
    }

    #[test]
    fn the_file_that_an_authority_makes_names_the_host_of_its_links() {
        let host = LinkHost::parse("pay.example:8443").unwrap();
        let keys = [1, 2, 3, 4, 5].map(|byte| AesKey::from_bytes([byte; 16]));
        let file = sun::key_file(TagUid::parse(UID).unwrap(), 3, &keys, Some(&host));
        let read = TagKeys::parse(file.expose()).unwrap();
        assert_eq!(read.host(), Some(&host));
        assert_eq!((read.uid.to_string().as_str(), read.version()), (UID, 3));
        assert_eq!(read.key(KeySlot::Mac).expose(), &[4; 16]);
        assert_eq!(read.text().expose(), file.expose());
        let other = file.expose().replace("pay.example", "PAY example");
        assert_eq!(TagKeys::parse(&other).unwrap_err(), BadKeyFile::Host);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let parse = |uid: &str, version: &str, key: &str| {
            TagKeys::parse(&file(uid, version, key)).unwrap_err()
        };
        assert_eq!(parse("04", "1", KEY), BadKeyFile::Uid);
        assert_eq!(parse(UID, "0", KEY), BadKeyFile::Version);
        assert_eq!(parse(UID, "256", KEY), BadKeyFile::Shape);
        assert_eq!(parse(UID, "1", &"0".repeat(32)), BadKeyFile::Key);
        assert_eq!(parse(UID, "1", "0g"), BadKeyFile::Key);
        assert_eq!(parse(UID, "1", &"10".repeat(16)), BadKeyFile::Doubled);
        assert_eq!(TagKeys::parse("uid = 1").unwrap_err(), BadKeyFile::Shape);
        let more = file(UID, "1", KEY) + "other = 1\n";
        assert_eq!(TagKeys::parse(&more).unwrap_err(), BadKeyFile::Shape);
    }
}

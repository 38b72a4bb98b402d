//! What has to happen on an NFC tag so that a phone finds the right link, and never half of one?
//!
//! ```text
//!  reader ──Card──▶ family ─┬─▶ ntag21x   pages, a password
//!                           └─▶ ntag424   a file, keys, links signed at every tap
//!                    record: what is written down before a tag is changed
//! ```
//! Nothing here knows PC/SC: whatever lies on a reader is a [`Card`].

mod card;
mod error;
mod family;
mod key_file;
mod ntag21x;
mod ntag424;
mod record;
mod taps;
mod wear;

pub use card::{Card, uid};
pub use error::{NativeError, TagError};
pub use family::{Done, Errand, LeftOn, Recognised, TagMemory, Wish};
pub use key_file::{BadKeyFile, KEY_FILE_MAX, TagKeys};
pub use record::{
    KeyRecord, KeyState, Password, PasswordRecord, PasswordStage, TagRecord, TagSafe,
};
#[cfg(test)]
pub(crate) use taps::Counted;
pub use taps::LastCounter;
pub use wear::Programming;

/// Bytes of a page.
pub const PAGE: usize = 4;
/// Bytes of one read: four pages.
pub const READ: usize = 16;

/// Bytes as people, visits and reports write them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A tag as every PC/SC reader offers it.
trait StorageCard {
    /// Four pages from `page` on.
    fn read(&mut self, page: u8) -> Result<[u8; READ], TagError>;
    fn write(&mut self, page: u8, data: [u8; PAGE]) -> Result<(), TagError>;
}

/// A way past the reader to the chip's own commands; each reader family has its own.
pub trait NativeTransceive {
    /// One command without CRC; the answer without CRC.
    fn transceive(&mut self, command: &[u8]) -> Result<Vec<u8>, NativeError>;
}

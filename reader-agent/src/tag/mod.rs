//! What has to happen on an NFC tag so that a phone finds the right link, and never half of one?
//!
//! Nothing here knows PC/SC: pages are read and written through [`StorageCard`], native commands
//! through [`NativeTransceive`]; `reader` has both over a real reader.

mod counter;
mod error;
mod ntag21x;
mod rewrite;

pub use counter::{CounterAccess, LastCounter, TapLedger, ensure_enabled};
pub use error::{NativeError, TagError};
pub use ntag21x::{Header, Image, PageWrite, WritePlan};
pub use rewrite::{Rewritten, rewrite};

/// Bytes of a page.
pub const PAGE: usize = 4;
/// Bytes of one read: four pages.
pub const READ: usize = 16;

/// A tag as every PC/SC reader offers it.
pub trait StorageCard {
    /// Four pages from `page` on.
    fn read(&mut self, page: u8) -> Result<[u8; READ], TagError>;
    fn write(&mut self, page: u8, data: [u8; PAGE]) -> Result<(), TagError>;
}

/// A way past the reader to the chip's own commands; each reader family has its own.
pub trait NativeTransceive {
    /// One command without CRC; the answer without CRC.
    fn transceive(&mut self, command: &[u8]) -> Result<Vec<u8>, NativeError>;
}

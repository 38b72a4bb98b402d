//! How do tests get a reader and a tag without hardware, under a real pcscd?
//!
//! ```text
//!  VirtualTag ─ VirtualReader ══socket══ IFD handler in a private pcscd ══socket══ Probe (a process
//!  (memory)     (ACR122U talk)          (tests/virtual-reader)                    with the agent's code)
//! ```

mod acr122u;
mod in_hand;
mod pcscd;
mod probe;
mod virtual_424;
mod virtual_reader;
mod virtual_tag;
mod vpcd;

pub use in_hand::{Agent, Cut, InHand};
pub use pcscd::{Pcscd, ReaderEntry};
pub use probe::Probe;
pub use virtual_424::VirtualNtag424;
pub use virtual_reader::{InReadersField, VirtualReader};
pub use virtual_tag::{ForeignTag, Frame, TagModel, VirtualTag};
pub use vpcd::VpcdTag;

//! How does the agent reach the tag, whatever happens to reader, tag and PC/SC service?
//!
//! ```text
//!  driver (async)          OS threads, because every PC/SC call blocks
//!  ─────────────           ──────────────────────────────────────────
//!  TagService::show ─▶ desk ─▶ worker    one visit: field on, write, read back, field off
//!              ◀─ Visit  │  ◀─ watchdog  a call that never returns: Stuck, and a fresh worker
//!  TagEvent    ◀──────── └──── watcher   readers and tags come and go, pcscd too
//! ```

mod acr122u;
mod card;
mod clock;
mod desk;
mod field;
mod identiv;
mod kept;
mod native;
mod pcsc_error;
mod service;
mod transparent;
mod watchdog;
mod watcher;
mod worker;

pub use service::{FieldControl, TagConfig, TagEvent, TagService, TagStatus, Visit};

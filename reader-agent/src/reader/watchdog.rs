//! Who notices that a PC/SC call never returns?
//!
//! `transmit` has no time limit and cannot be cancelled, so a hanging worker is left behind with its
//! context and a fresh one takes its place.

use super::desk::{Desk, Watch};
use super::worker;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

/// How long to wait before trying again to start a thread.
const SPAWN_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn spawn(desk: Arc<Desk>) -> io::Result<()> {
    let run = move || {
        while let Watch::Spawn(lease) = desk.watch() {
            // A lease that no thread takes is dropped, and the desk asks for a worker again.
            if let Err(error) = worker::spawn(lease) {
                tracing::error!(%error, "no thread for the reader's worker");
                desk.pause(SPAWN_PAUSE);
            }
        }
    };
    thread::Builder::new()
        .name("tag-watchdog".into())
        .spawn(run)?;
    Ok(())
}

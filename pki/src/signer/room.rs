//! How much memory can those who ask make the signer hold?
//!
//! Sixteen connections with sixty-four questions of sixteen megabytes each would be all there is. So a
//! frame waits, unread, until there is room for it, and room is given back when its answer is out; a list
//! is large as an answer, too, and only a few are under way. Each door has its own: who fills one keeps
//! nobody from the other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::wire::FRAME_MAX_BYTES;

/// Frames of one door that are not answered yet, together.
pub(super) const FRAMES_MAX_BYTES: u32 = 4 * FRAME_MAX_BYTES;
/// Revocation lists of one door that are made, or wait to be read.
const LISTS_MAX: usize = 4;
/// What room is counted in.
const UNIT_BYTES: u32 = 1024;

/// The room of one door.
#[derive(Clone)]
pub(super) struct Room {
    frames: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

/// Given back when it is dropped.
pub(super) struct Held(Vec<OwnedSemaphorePermit>);

impl Room {
    pub(super) fn new() -> Self {
        let units = FRAMES_MAX_BYTES / UNIT_BYTES;
        Self {
            frames: Arc::new(Semaphore::new(units as usize)),
            lists: Arc::new(Semaphore::new(LISTS_MAX)),
        }
    }

    /// Returns once a frame of this length, at most [`FRAME_MAX_BYTES`], has room.
    pub(super) async fn for_frame(&self, length: u32) -> Held {
        let units = length.div_ceil(UNIT_BYTES);
        Held(vec![taken(&self.frames, units).await])
    }

    /// Returns once one more list may be made.
    pub(super) async fn for_list(&self, held: &mut Held) {
        held.0.push(taken(&self.lists, 1).await);
    }
}

async fn taken(from: &Arc<Semaphore>, units: u32) -> OwnedSemaphorePermit {
    let taken = from.clone().acquire_many_owned(units).await;
    taken.expect("nobody closes it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_waits_until_there_is_room_for_it() {
        let room = Room::new();
        let mut all = Vec::new();
        for _ in 0..FRAMES_MAX_BYTES / FRAME_MAX_BYTES {
            all.push(room.for_frame(FRAME_MAX_BYTES).await);
        }
        tokio::select! {
            biased;
            _ = room.for_frame(1) => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        all.pop();
        room.for_frame(FRAME_MAX_BYTES).await;
    }

    #[tokio::test]
    async fn a_list_waits_until_another_is_out() {
        let room = Room::new();
        let mut held = room.for_frame(1).await;
        for _ in 0..LISTS_MAX {
            room.for_list(&mut held).await;
        }
        let mut more = room.for_frame(1).await;
        tokio::select! {
            biased;
            () = room.for_list(&mut more) => panic!("enough are under way"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        room.for_list(&mut more).await;
    }
}

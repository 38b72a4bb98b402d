#![allow(clippy::unwrap_used)]
use super::*;
use crate::reader::kept::Kept;
use crate::tag::{Counted, Done, Programming, TagRecord, TagSafe};

/// Says of every question whether the watchdog looked on.
struct Looked(Mutex<Option<Arc<Desk>>>);

impl TagSafe for Looked {
    fn recall(&self, _: &[u8]) -> Result<Option<TagRecord>, TagError> {
        let desk = self.0.lock().unwrap().clone().unwrap();
        let is_watched = desk.locked().call.is_some();
        match is_watched {
            true => Err(TagError::Bug),
            false => Ok(None),
        }
    }

    fn keep(&self, _: &[u8], _: &TagRecord) -> Result<(), TagError> {
        Err(TagError::Bug)
    }

    fn forget(&self, _: &[u8]) -> Result<(), TagError> {
        Err(TagError::Bug)
    }

    fn adopt(&self, _: &[u8]) -> Result<(), TagError> {
        Err(TagError::Bug)
    }

    fn count(&self, uid: &[u8], _: &Programming) -> Result<(), TagError> {
        self.recall(uid).map(|_| ())
    }

    fn own(&self) -> Result<Option<Vec<u8>>, TagError> {
        self.recall(&[]).map(|_| None)
    }
}

fn desk() -> (Arc<Desk>, mpsc::Receiver<TagEvent>) {
    let safe = Arc::new(Looked(Mutex::new(None)));
    let (events, receiver) = mpsc::channel(9);
    let desk = Arc::new(Desk::new(TagConfig::new(safe.clone()), events));
    *safe.0.lock().unwrap() = Some(desk.clone());
    (desk, receiver)
}

#[test]
fn no_watchdog_looks_on_while_the_disk_is_asked() {
    let (desk, _events) = desk();
    let lease = desk.lease(0);
    let is_watched = || desk.locked().call.is_some();
    assert!(lease.call(is_watched).unwrap());
    let programming = Programming {
        cycles: 2,
        pages: 9,
        endurance: 100_000,
        per_link: 2,
    };
    let kept = Kept(&lease);
    assert!(kept.recall(&[]).unwrap().is_none());
    kept.count(&[], &programming).unwrap();
    kept.own().unwrap();
    assert!(is_watched(), "what follows is the reader's again");
    // A worker that was given up touches nothing.
    desk.locked().generation += 1;
    assert_eq!(kept.count(&[], &programming), Err(TagError::Stuck));
}

#[test]
fn taps_are_told_once_somebody_has_heard_of_the_visit() {
    let (desk, _events) = desk();
    let lease = desk.lease(0);
    let visit = |found, left| {
        let (uid, mut memory) = (&[4, 1][..], desk.remembered());
        let taps = memory.taps.begin(uid, found, Counted::Everybody);
        memory.taps.settle(uid, left);
        let done = Done {
            taps,
            ..Done::default()
        };
        (taps, Visit::of(uid, done))
    };
    let end = |visit, is_heard: bool| {
        let (reply, answer) = oneshot::channel();
        desk.locked().running = Some(reply);
        let answer = is_heard.then_some(answer);
        lease.finish(Ok(visit));
        drop(answer);
    };
    end(visit(9, 10).1, true);
    let (taps, nobody_heard) = visit(12, 13);
    assert_eq!(taps, Some(2));
    end(nobody_heard, false);
    let (taps, heard) = visit(14, 15);
    assert_eq!(taps, Some(3));
    end(heard, true);
    assert_eq!(visit(15, 16).0, Some(0));
}

#[test]
fn event_counts_are_ordered_across_their_wrap() {
    assert!(is_before(1, 2));
    assert!(!is_before(2, 2));
    assert!(!is_before(3, 2));
    assert!(is_before(0xFFFF, 0));
    assert!(!is_before(0, 0xFFFF));
}

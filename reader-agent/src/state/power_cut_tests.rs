//! What is found again when power is cut anywhere in the log that an operation wrote?
//!
//! What was there before it or after it, never a part.
//! A process that is killed leaves less behind than that: the system still writes what it was given.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::checkpoint::Checkpoint;
use crate::testing::{Issue, Signer, checkpoint, event, event_id, rank};

const FIRST: u32 = 500_000;

/// What can be told of a database from outside.
#[derive(Debug, PartialEq)]
struct Picture {
    reports: Vec<TerminalEvent>,
    tag: Option<CountedTag>,
    rank: Option<Rank>,
    revision: Option<u64>,
    keys: Option<JwkSet>,
    keys_tag: String,
    checkpoint: Option<Checkpoint>,
    schedules: Vec<(Option<u32>, String)>,
    clock: Option<Remembered>,
}

impl Picture {
    fn of(state: &State) -> Self {
        let resumed = state.resume().unwrap();
        let after = |fetch| match fetch {
            Fetch::Whole => None,
            Fetch::After(epoch) => Some(epoch),
        };
        let schedules = resumed.schedules.into_iter();
        Self {
            reports: state.oldest(1_000).unwrap(),
            tag: state.last_tag().unwrap(),
            rank: resumed.rank,
            revision: resumed.revision,
            keys: resumed.keys,
            keys_tag: resumed.keys_tag,
            checkpoint: resumed.checkpoint,
            schedules: schedules
                .map(|(it, fetch)| (after(fetch), it.schedule))
                .collect(),
            clock: state.clock().unwrap(),
        }
    }
}

type Operation = (&'static str, fn(&State));

/// One of each kind, in an order in which an agent may come to them.
const OPERATIONS: [Operation; 10] = [
    ("keys", |state| {
        let (keys, tag) = (Signer::new(1).keys(), "one".into());
        state.save(&Save::Keys { keys, tag }).unwrap();
    }),
    ("whole schedule", |state| {
        schedule(state, 1, FIRST..FIRST + 3, Fetch::Whole)
    }),
    ("revision", |state| state.save(&Save::Revision(7)).unwrap()),
    ("renewed schedule", |state| {
        schedule(state, 2, FIRST + 3..FIRST + 4, Fetch::After(FIRST + 2));
    }),
    ("visit with taps", |state| {
        visit(state, &[event(1), event(2)])
    }),
    ("report", |state| state.push(&event(3)).unwrap()),
    ("clock", |state| {
        let boot = SinceBoot {
            boot_id: 7,
            authority_minus_ticks_ms: 9,
        };
        let clock = Remembered {
            authority_minus_wall_ms: 5,
            last_seen: Timestamp::from_ms(6),
            boot: Some(boot),
        };
        state.save_clock(clock).unwrap();
    }),
    ("half an answer", |state| {
        state.forget(&[event_id(1), event_id(3)]).unwrap()
    }),
    ("checkpoint", |state| {
        state.save(&Save::Checkpoint(checkpoint(1, 2, 3))).unwrap();
    }),
    ("another whole schedule", |state| {
        schedule(state, 3, FIRST + 1..FIRST + 5, Fetch::Whole);
    }),
];

fn schedule(state: &State, sequence: u64, epochs: std::ops::Range<u32>, fetch: Fetch) {
    let save = Save::Schedule {
        response: Issue::new(sequence).epochs(epochs),
        rank: rank(sequence),
        fetch,
    };
    state.save(&save).unwrap();
}

fn visit(state: &State, events: &[TerminalEvent]) {
    let visit = TagVisited {
        uid: "04A1",
        counter: Some(5),
        at: Timestamp::from_ms(1),
    };
    state.tag_visited(&visit, events).unwrap();
}

fn log_of(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("agent.db-wal")).unwrap_or_default()
}

/// A start after a cut that left this much of the log.
fn found_again(database: &[u8], log: &[u8]) -> Picture {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.db"), database).unwrap();
    std::fs::write(dir.path().join("agent.db-wal"), log).unwrap();
    Picture::of(&State::open(&dir.path().join("agent.db")).unwrap())
}

#[test]
fn power_that_is_cut_anywhere_leaves_what_was_before_or_after_and_never_a_part() {
    /// From one cut to the next, in bytes; a page of the log has some four thousand.
    const STEP: usize = 499;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    let state = State::open(&path).unwrap();
    state
        .lock()
        .pragma_update(None, "wal_autocheckpoint", 0)
        .unwrap();
    let mut cuts = 0;
    for (name, operate) in OPERATIONS {
        let (before, log_before) = (Picture::of(&state), log_of(dir.path()));
        operate(&state);
        let (after, log) = (Picture::of(&state), log_of(dir.path()));
        assert_ne!(before, after, "{name}");
        assert!(log.len() > log_before.len(), "{name}");
        let database = std::fs::read(&path).unwrap();
        let mut was_after = false;
        let ends = (log_before.len()..log.len()).step_by(STEP);
        for end in ends.chain([log.len() - 1, log.len()]) {
            let found = found_again(&database, &log[..end]);
            assert!(
                found == before || found == after,
                "{name}, cut at {end}: {found:?}"
            );
            was_after |= found == after;
            assert!(
                !was_after || found == after,
                "{name}, cut at {end}: it went back"
            );
            cuts += 1;
        }
        assert!(was_after, "{name}: what was returned from is on the disk");
    }
    assert!(cuts > 100, "{cuts}");
}

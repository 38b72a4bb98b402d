#![allow(clippy::unwrap_used)]
use super::*;
use crate::tag::{
    LeftOn, Password, PasswordRecord, PasswordStage, Programming, TagRecord, TagSafe,
};
use crate::testing::{event, event_id};

/// A link on an NTAG21x.
const LINK: Programming = Programming {
    cycles: 2,
    pages: 11,
    endurance: 100_000,
    per_link: 2,
};

fn open(dir: &tempfile::TempDir) -> State {
    State::open(&dir.path().join("agent.db")).unwrap()
}

#[test]
fn reports_survive_a_cut_in_their_order_and_are_not_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    for n in [3, 1, 2, 1] {
        state.push(&event(n)).unwrap();
    }
    // A power cut leaves the log behind: copy the files as they lie there, without closing.
    let after = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), after.path().join(file.file_name())).unwrap();
    }
    let again = open(&after);
    assert_eq!(
        again.oldest(10).unwrap(),
        vec![event(3), event(1), event(2)]
    );
    again.forget(&[event_id(1), event_id(9)]).unwrap();
    assert_eq!(again.oldest(10).unwrap(), vec![event(3), event(2)]);
    assert_eq!(again.oldest(1).unwrap(), vec![event(3)]);
}

#[test]
fn what_is_programmed_is_counted_before_the_visit_and_counter_and_reports_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let visit = |counter, at| TagVisited {
        uid: "04A1",
        counter: Some(counter),
        at: Timestamp::from_ms(at),
    };
    let state = open(&dir);
    TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap();
    // A cut: the visit is not heard of again.
    drop(state);
    let state = open(&dir);
    assert_eq!(state.tag("04A1").unwrap().unwrap().cycles, 2);
    TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap();
    state.tag_visited(&visit(5, 1), &[event(1)]).unwrap();
    state.tag_visited(&visit(6, 2), &[event(2)]).unwrap();
    drop(state);
    let state = open(&dir);
    let worn = state.last_tag().unwrap().unwrap();
    assert_eq!((worn.uid.as_str(), worn.counter), ("04A1", Some(6)));
    assert_eq!((worn.writes, worn.pages, worn.cycles), (2, 22, 4));
    assert_eq!(state.outbox_length().unwrap(), 2);
    assert_eq!(state.tag("04A2").unwrap(), None);
}

#[test]
fn the_pace_is_measured_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let hour = 3_600_000;
    for n in 0..48 {
        let state = open(&dir);
        TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap();
        let visited = TagVisited {
            uid: "04A1",
            counter: None,
            at: Timestamp::from_ms(n * hour),
        };
        state.tag_visited(&visited, &[]).unwrap();
        let tag = state.last_tag().unwrap().unwrap();
        assert_eq!(tag.is_measured(), n >= 24, "{n}");
    }
    let wear = open(&dir).last_tag().unwrap().unwrap().wear(None);
    assert_eq!((wear.cycles, wear.cycles_per_day), (96, 48));
    assert_eq!((wear.endurance, wear.per_link), (100_000, 2));
}

#[test]
fn a_tag_that_was_written_elsewhere_begins_at_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    state.count_elsewhere("04A1", 40_000).unwrap();
    TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap();
    // Less is known already.
    state.count_elsewhere("04A1", 30_000).unwrap();
    assert_eq!(state.tag("04A1").unwrap().unwrap().cycles, 40_002);
}

#[test]
fn visits_that_version_2_counted_are_cycles() {
    let dir = tempfile::tempdir().unwrap();
    let old = Connection::open(dir.path().join("agent.db")).unwrap();
    old.execute_batch(SCHEMA).unwrap();
    old.execute_batch(TAG_RECORDS).unwrap();
    old.pragma_update(None, "user_version", 2).unwrap();
    let insert = "INSERT INTO tag (uid, writes, pages, counter, last_visit_ms)
        VALUES ('04A1', 700, 7000, 9, 5)";
    old.execute(insert, []).unwrap();
    drop(old);
    let tag = open(&dir).last_tag().unwrap().unwrap();
    assert_eq!((tag.cycles, tag.writes, tag.counter), (1_400, 700, Some(9)));
    assert_eq!(tag.wear(None).left(), 98_600);
}

#[test]
fn a_full_disk_is_called_one_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    state.push(&event(1)).unwrap();
    let pages: i64 = state
        .lock()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    state
        .lock()
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    let full = (2..10_000).find_map(|n| Some((n, state.push(&event(n)).err()?)));
    let (first_waiting, full) = full.unwrap();
    assert!(matches!(full, StateError::DiskFull), "{full:?}");
    // A visit keeps its order behind it, and nothing that is on the disk is harmed.
    let visit = TagVisited {
        uid: "04A1",
        counter: Some(3),
        at: Timestamp::from_ms(1),
    };
    let last = first_waiting + 1;
    assert!(state.tag_visited(&visit, &[event(last)]).is_err());
    assert_eq!(state.oldest(1).unwrap(), vec![event(1)]);
    let withheld = |waiting, lost| Withheld {
        waiting,
        lost,
        cycles: 0,
    };
    assert_eq!(state.withheld(), withheld(2, 0));
    assert_eq!(state.last_tag().unwrap(), None);

    state
        .lock()
        .pragma_update(None, "max_page_count", 10 * pages)
        .unwrap();
    let all: Vec<_> = (1..=last).map(event).collect();
    assert_eq!(state.oldest(10_000).unwrap(), all, "there is room again");
    assert_eq!(state.withheld(), withheld(0, 0));
    assert_eq!(state.last_tag().unwrap().unwrap().counter, Some(3));
}

/// Fills the disk; the report that found no room, and so waits. Later ones have higher numbers.
fn fill(state: &State) -> u64 {
    let connection = state.lock();
    let pages: i64 = connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    drop(connection);
    (1..10_000)
        .find(|n| state.push(&event(*n)).is_err())
        .unwrap()
}

fn make_room(state: &State) {
    let connection = state.lock();
    connection
        .pragma_update(None, "max_page_count", 10_000)
        .unwrap();
}

#[test]
fn what_waits_in_memory_goes_to_the_authority_behind_what_is_on_the_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    let first_waiting = fill(&state);
    let last = first_waiting + 2;
    for n in first_waiting + 1..=last {
        assert!(state.push(&event(n)).is_err());
    }
    let all: Vec<_> = (1..=last).map(event).collect();
    assert_eq!(state.oldest(10_000).unwrap(), all);
    assert_eq!(
        state.oldest(last as usize - 1).unwrap(),
        all[..all.len() - 1]
    );
    let _ = state.forget(&[event_id(first_waiting), event_id(last)]);
    assert_eq!(state.withheld().waiting, 1);
    make_room(&state);
    let kept = state.oldest(10_000).unwrap();
    assert_eq!(kept.last(), Some(&event(last - 1)));
    assert_eq!(kept.len() as u64, last - 2);
}

#[test]
fn a_visit_that_waited_is_marked_with_the_cycles_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap();
    fill(&state);
    let visit = TagVisited {
        uid: "04A1",
        counter: None,
        at: Timestamp::from_ms(1),
    };
    assert!(state.tag_visited(&visit, &[event(20_000)]).is_err());
    for _ in 0..10 {
        TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap();
    }
    make_room(&state);
    state.oldest(1).unwrap();
    let marked: (i64, i64) = state
        .lock()
        .query_row("SELECT since_ms, since_cycles FROM tag", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(marked, (1, 2));
}

#[test]
fn wear_that_cannot_be_written_down_is_told_all_the_same_and_written_down_later() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    let read_only = |is: bool| state.lock().pragma_update(None, "query_only", is).unwrap();
    let cycles = |state: &State| state.tag("04A1").unwrap().unwrap().cycles;
    TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap();
    read_only(true);
    for _ in 0..2 {
        TagSafe::count(&state, &[4, 0xA1], &LINK).unwrap_err();
    }
    assert_eq!((cycles(&state), state.withheld().cycles), (6, 4));
    assert_eq!(cycles(&open(&dir)), 2, "a cut takes them");
    read_only(false);
    state.oldest(1).unwrap();
    assert_eq!((cycles(&state), state.withheld().cycles), (6, 0));
    assert_eq!(cycles(&open(&dir)), 6);
}

#[test]
fn what_waits_for_a_full_disk_is_bounded_and_the_oldest_that_are_lost_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    let limit = |pages: i64| {
        let connection = state.lock();
        connection
            .pragma_update(None, "max_page_count", pages)
            .unwrap();
    };
    limit(1);
    let mut last = 0;
    while state.withheld().lost < 3 {
        last += 1;
        let _ = state.push(&event(last));
    }
    assert_eq!(state.withheld().waiting, WAITING_MAX as u64);
    limit(10_000);
    let kept = state.oldest(100_000).unwrap();
    assert_eq!(kept.len() as u64, last - 3);
    assert!(kept.is_sorted_by_key(|event| event.at));
    assert_eq!(kept.last(), Some(&event(last)));
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    state.push(&event(1)).unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir)
        .lock()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = State::open(&dir.path().join("agent.db")).err().unwrap();
    assert!(error.to_string().contains("newer version"), "{error}");
}

fn record(stage: PasswordStage) -> TagRecord {
    TagRecord::Ntag21x(PasswordRecord {
        password: Password {
            word: [1, 2, 3, 4],
            answer: [5, 6],
        },
        stage,
    })
}

fn stage(state: &State, uid: &[u8]) -> Option<PasswordStage> {
    match state.recall(uid).unwrap()? {
        TagRecord::Ntag21x(record) => Some(record.stage),
        TagRecord::Ntag424(_) => None,
    }
}

#[test]
fn a_record_of_a_tag_is_on_the_disk_when_it_is_kept_and_one_tag_is_the_own_one() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (&[4, 1][..], &[4, 2][..]);
    let state = open(&dir);
    state
        .keep(first, &record(PasswordStage::Protecting))
        .unwrap();
    assert_eq!(state.own().unwrap(), None);
    state
        .keep(first, &record(PasswordStage::Protected))
        .unwrap();
    state
        .keep(second, &record(PasswordStage::Releasing))
        .unwrap();
    for uid in [first, second, first] {
        state.adopt(uid).unwrap();
        let again = open(&dir);
        assert_eq!(again.own().unwrap().as_deref(), Some(uid));
        assert_eq!(stage(&again, first), Some(PasswordStage::Protected));
        assert_eq!(stage(&again, second), Some(PasswordStage::Releasing));
    }
    TagSafe::forget(&state, first).unwrap();
    assert_eq!((state.own().unwrap(), stage(&state, first)), (None, None));
}

#[test]
fn a_database_of_the_first_version_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let old = Connection::open(dir.path().join("agent.db")).unwrap();
    old.execute_batch(SCHEMA).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    push_event(&old, &event(7)).unwrap();
    drop(old);
    let state = open(&dir);
    assert_eq!(state.oldest(10).unwrap(), vec![event(7)]);
    state.keep(&[4], &record(PasswordStage::Protected)).unwrap();
    assert_eq!(stage(&open(&dir), &[4]), Some(PasswordStage::Protected));
}

#[test]
fn what_was_left_on_the_tag_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let left = LeftOn::new(&[4, 1], b"what a phone finds");
    open(&dir).keep_left_on_tag(&left).unwrap();
    let state = open(&dir);
    assert_eq!(state.take_left_on_tag().unwrap(), Some(left));
    // A cut comes before the run ends in good order.
    assert_eq!(open(&dir).take_left_on_tag().unwrap(), None);
}

#[test]
fn a_tag_that_gets_keys_begins_a_new_count() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    let visit = TagVisited {
        uid: "0401",
        counter: Some(5),
        at: Timestamp::from_ms(1),
    };
    state.tag_visited(&visit, &[]).unwrap();
    let counter = || state.last_tag().unwrap().unwrap().counter;
    let kept = state.keep(&[4, 2], &record(PasswordStage::Protecting));
    assert_eq!((kept, counter()), (Ok(()), Some(5)), "another tag's");
    let kept = state.keep(&[4, 1], &record(PasswordStage::Protecting));
    assert_eq!((kept, counter()), (Ok(()), None));
}

#[test]
fn a_start_on_a_full_disk_is_told_so_and_nobody_is_sent_to_move_the_database_away() {
    let opening = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
    let error = StateError::from(rusqlite::Error::SqliteFailure(opening, None));
    assert!(matches!(error, StateError::DiskFull), "{error}");
    assert!(error.hint().contains("free some space"));
}

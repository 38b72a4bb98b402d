//! Does a restored copy learn again which tags were retired?

use authority::journal::Fact;
use authority::store::{ClaimOutcome, StoreError, TapRefusal};
use protocol::ids::TerminalId;
use protocol::sun::TagUid;
use protocol::token::Channel;

use crate::fence::{Place, Start, assert_contained, contents};
use crate::suite::tags::{self, add, record, refuses, report, takes, tap, terminal_with_tag};
use crate::world::{NOW, World};

async fn retire(world: &World, uid: TagUid) -> Result<Option<u32>, StoreError> {
    world.store.retire_tag(uid, "stolen".into(), NOW).await
}

/// A terminal with a tag that signs, and its copy.
async fn furnished() -> (Place, TerminalId, TagUid) {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let (terminal, uid) = terminal_with_tag(&start.world, 1).await;
    takes(&start.world, terminal, Some(tap(uid, 1, 1))).await;
    start.stop();
    place.back_up();
    (place, terminal, uid)
}

fn retired_up_to(place: &Place, uid: TagUid) -> u8 {
    contents(&place.journal()).known.retired_up_to(uid)
}

async fn next(start: &Start, uid: TagUid) -> Option<u8> {
    let known = start.journal.known().await.unwrap();
    let next = start
        .world
        .store
        .next_key_version(uid, known.retired_up_to(uid));
    next.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_retires_again_what_was_retired() {
    let (place, terminal, uid) = furnished().await;
    let start = place.start().await;
    assert_eq!(retired_up_to(&place, uid), 0);
    assert_eq!(retire(&start.world, uid).await, Ok(Some(1)));
    assert_eq!(retired_up_to(&place, uid), 1, "acknowledged");
    start.stop();
    let unrestored = place.start().await;
    assert_contained(&unrestored);
    assert_eq!(unrestored.difference.unjournalled, []);
    unrestored.stop();
    place.restore();
    let start = place.start().await;
    assert_eq!(start.difference.missing.tags, [uid]);
    assert_eq!(record(&start.world, uid, 1).await.retired, None);
    assert_eq!(start.raise().await.tags, [uid]);
    let refused = Some(tap(uid, 1, 2));
    refuses(&start.world, terminal, refused, TapRefusal::Retired).await;
    assert_eq!(next(&start, uid).await, Some(2));
    start.world.check_books_and_audit().await;
    start.stop();
    let raised = place.start().await;
    assert_contained(&raised);
    assert_eq!(raised.difference.unjournalled, []);
}

/// The copy knows its first keys; those that were retired with them, and all of another tag, are lost.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_version_that_was_retired_are_not_made_again_where_their_row_is_lost() {
    let (place, terminal, uid) = furnished().await;
    let start = place.start().await;
    let lost = tags::uid(7);
    for (uid, version) in [(uid, 2), (uid, 3), (lost, 1)] {
        add(&start.world, terminal, uid, version).await;
    }
    assert_eq!(retire(&start.world, uid).await, Ok(Some(3)));
    assert_eq!(retire(&start.world, lost).await, Ok(Some(1)));
    start.stop();
    place.restore();
    let start = place.start().await;
    assert_eq!(start.difference.missing.tags, [uid, lost]);
    assert_eq!(
        start.raise().await.tags,
        [uid],
        "of the other nothing counts"
    );
    assert_eq!(next(&start, uid).await, Some(4));
    assert_eq!(next(&start, lost).await, Some(2));
    let unknown = Some(tap(lost, 1, 9));
    refuses(&start.world, terminal, unknown, TapRefusal::Unknown).await;
    start.stop();
    let mut raised = place.start().await;
    assert_contained(&raised);
    raised.catch_up().await;
    // Found again, both count with their next keys, and no start speaks against that.
    add(&raised.world, terminal, lost, 2).await;
    takes(&raised.world, terminal, Some(tap(lost, 2, 1))).await;
    raised.stop();
    assert_contained(&place.start().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_has_new_keys_since_is_retired_up_to_the_old_ones_alone() {
    let (place, terminal, uid) = furnished().await;
    let start = place.start().await;
    assert_eq!(retire(&start.world, uid).await, Ok(Some(1)));
    add(&start.world, terminal, uid, 2).await;
    report(&start.world, terminal, uid, 2, 3).await;
    start.stop();
    place.back_up();
    place.restore();
    let start = place.start().await;
    assert_contained(&start);
    assert_eq!(start.difference.unjournalled, []);
    assert_eq!(start.raise().await.tags, []);
    takes(&start.world, terminal, Some(tap(uid, 2, 4))).await;
}

/// What new keys ended is no fact of the journal: they are made again, and end it again.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_later_ones_ended_are_nothing_that_a_copy_must_know() {
    let (place, terminal, uid) = furnished().await;
    let start = place.start().await;
    add(&start.world, terminal, uid, 2).await;
    report(&start.world, terminal, uid, 2, 3).await;
    assert!(record(&start.world, uid, 1).await.retired.is_some());
    start.stop();
    let start = place.start().await;
    assert_eq!(start.difference.unjournalled, []);
    assert_eq!(retired_up_to(&place, uid), 0);
    start.stop();
    place.restore();
    assert_contained(&place.start().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_that_the_journal_does_not_take_holds_and_is_not_acknowledged() {
    let (place, terminal, uid) = furnished().await;
    let start = place.start().await;
    let in_the_way = place.journal().with_extension("new");
    std::fs::create_dir(&in_the_way).unwrap();
    // Asked again, it is no better.
    for _ in 0..2 {
        let refused = retire(&start.world, uid).await;
        let is_owed = matches!(refused, Err(StoreError::Unjournalled { .. }));
        assert!(is_owed, "{refused:?}");
    }
    let tapped = Some(tap(uid, 1, 2));
    refuses(&start.world, terminal, tapped, TapRefusal::Retired).await;
    start.world.start(terminal, 100).await;
    let paid = start.world.claim(terminal, Channel::Code).await;
    let goes_on = matches!(paid, ClaimOutcome::Claimed(_));
    assert!(goes_on, "what needs no journal: {paid:?}");
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(retire(&start.world, uid).await, Ok(Some(0)));
    assert_eq!(retired_up_to(&place, uid), 1);
    start.stop();
    assert_contained(&place.start().await);
}

/// As a crash between commit and journal leaves it, or a database of the version before.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_kept_from_the_journal_is_owed_to_it() {
    let (place, _, uid) = furnished().await;
    let store = crate::open(&place.database());
    let world = World::new(std::sync::Arc::new(store));
    assert_eq!(retire(&world, uid).await, Ok(Some(1)));
    drop(world);
    let mut start = place.start().await;
    assert_contained(&start);
    let owed = &start.difference.unjournalled;
    let is_it = |fact: &Fact| matches!(fact, Fact::TagRetired(tag) if tag.uid == uid);
    assert_eq!(owed.iter().filter(|(_, fact)| is_it(fact)).count(), 1);
    start.catch_up().await;
    assert_eq!(start.difference.unjournalled, []);
    assert_eq!(retired_up_to(&place, uid), 1);
}

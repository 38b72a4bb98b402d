//! Which taps spend a token, and which do not?

use authority::store::{
    Claim, ClaimOutcome, KeyPurpose, KeyedTap, NewTag, Stepped, TAGS_PER_TERMINAL_MAX, TagAdded,
    TagRecord, TapRefusal, Work,
};
use pki::lifecycle::{KeyState, Step};
use protocol::ids::{EventId, TerminalId};
use protocol::sun::{COUNTER_MAX, TagUid};
use protocol::token::Channel;
use protocol::wire::reports::{Seen, SeenWindow, TagSigns, TerminalEvent};

use crate::suite::rotation::{add_key, begin, step};
use crate::tapping::tapped;
use crate::world::{NOW, World, eur};

const MASTER: &str = "m2key-tag-1";

/// A terminal that takes a fixed amount, so that one claim after the other finds something to pay.
pub(crate) async fn terminal_with_tag(world: &World, n: u32) -> (TerminalId, TagUid) {
    let merchant = world.merchant_with(Some(eur(100)), None).await;
    let terminal = world.terminal_of(&merchant, n).await;
    if n == 1 {
        add_key(world, KeyPurpose::Tag, KeyState::Active, 1).await;
    }
    let uid = uid(n);
    assert_eq!(add(world, terminal, uid, 1).await, TagAdded::Added);
    (terminal, uid)
}

pub(crate) fn uid(n: u32) -> TagUid {
    let [a, b, c, d] = n.to_be_bytes();
    TagUid::from_bytes([4, 1, 2, a, b, c, d])
}

pub(crate) async fn add(
    world: &World,
    terminal: TerminalId,
    uid: TagUid,
    key_version: u8,
) -> TagAdded {
    let tag = NewTag {
        uid,
        key_version,
        terminal,
        master: MASTER.into(),
        at: NOW,
    };
    world.store.add_tag(tag).await.unwrap()
}

pub(crate) fn tap(uid: TagUid, key_version: u8, counter: u32) -> KeyedTap {
    KeyedTap {
        tap: tapped(uid, counter),
        key_version,
    }
}

/// A claim of what the terminal's tag shows now, by this tap or by none.
async fn claim_by(world: &World, terminal: TerminalId, tap: Option<KeyedTap>) -> ClaimOutcome {
    let claim = Claim {
        tap,
        ..world.claim_of(world.shown(terminal, Channel::Nfc).await)
    };
    let id = claim.id;
    let token = claim.live.token();
    // A look is refused as the claim is.
    let looked = world.store.tap_refusal(terminal, tap).await.unwrap();
    let outcome = world.store.claim(claim).await.unwrap();
    match &outcome {
        ClaimOutcome::Claimed(_) => assert_eq!(looked, None),
        ClaimOutcome::Tap(refusal) => {
            assert_eq!(looked, Some(*refusal));
            assert_eq!(world.store.claim_record(id).await, Ok(None));
            assert_eq!(world.store.is_spent(token).await, Ok(false));
        }
        other => panic!("{other:?}"),
    }
    outcome
}

pub(crate) async fn takes(world: &World, terminal: TerminalId, tap: Option<KeyedTap>) {
    let outcome = claim_by(world, terminal, tap).await;
    let ClaimOutcome::Claimed(record) = outcome else {
        panic!("{tap:?}: {outcome:?}");
    };
    let id = record.claimed.claim;
    let released = world.store.release_claim(id, Vec::new(), NOW).await;
    assert_eq!(released, Ok(true));
}

pub(crate) async fn refuses(
    world: &World,
    terminal: TerminalId,
    tap: Option<KeyedTap>,
    why: TapRefusal,
) {
    let outcome = claim_by(world, terminal, tap).await;
    assert_eq!(outcome, ClaimOutcome::Tap(why), "{tap:?}");
}

pub(crate) async fn report(
    world: &World,
    from: TerminalId,
    uid: TagUid,
    key_version: u8,
    counter: u32,
) {
    let event = TerminalEvent {
        id: EventId(world.charge_id().0),
        at: NOW,
        what: Seen::TagWritten {
            tag_uid: uid.to_string(),
            pages: 1,
            window: SeenWindow {
                channel: Channel::Nfc,
                version: 1,
                epoch: 1,
                window: 1,
                turn: 0,
            },
            signs: Some(TagSigns {
                key_version,
                counter,
            }),
            wear: None,
            counter: None,
        },
    };
    let stored = world.store.add_reports(from, vec![event], NOW).await;
    assert_eq!(stored.unwrap().len(), 1);
}

pub(crate) async fn record(world: &World, uid: TagUid, key_version: u8) -> TagRecord {
    let all = world.store.tag(uid).await.unwrap();
    let of_version = |tag: &TagRecord| tag.key_version == key_version;
    all.into_iter().find(of_version).unwrap()
}

pub(crate) async fn a_counter_spends_one_token_and_a_lower_one_above_the_floor_another(
    world: &World,
) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    report(world, terminal, uid, 1, 5).await;
    takes(world, terminal, Some(tap(uid, 1, 9))).await;
    refuses(world, terminal, Some(tap(uid, 1, 9)), TapRefusal::Repeated).await;
    takes(world, terminal, Some(tap(uid, 1, 7))).await;
    takes(world, terminal, Some(tap(uid, 1, COUNTER_MAX))).await;
    refuses(world, terminal, Some(tap(uid, 1, 7)), TapRefusal::Repeated).await;
    assert_eq!(record(world, uid, 1).await.taps, 3);
}

pub(crate) async fn a_link_that_was_read_before_the_last_write_is_refused(world: &World) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    report(world, terminal, uid, 1, 5).await;
    for counter in [0, 4, 5] {
        refuses(
            world,
            terminal,
            Some(tap(uid, 1, counter)),
            TapRefusal::Stale,
        )
        .await;
    }
    takes(world, terminal, Some(tap(uid, 1, 6))).await;
    // It never goes down, and nothing but its own terminal moves it.
    let (other, _) = terminal_with_tag(world, 2).await;
    report(world, terminal, uid, 1, 2).await;
    report(world, other, uid, 1, 900).await;
    report(world, terminal, uid, 1, COUNTER_MAX + 1).await;
    report(world, terminal, uid, 2, 900).await;
    assert_eq!(record(world, uid, 1).await.read_floor, 5);
    report(world, terminal, uid, 1, 8).await;
    assert_eq!(record(world, uid, 1).await.read_floor, 8);
    refuses(world, terminal, Some(tap(uid, 1, 8)), TapRefusal::Stale).await;
}

pub(crate) async fn a_terminal_whose_tag_signs_takes_no_unsigned_link_from_it(world: &World) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    // Keys that nobody has seen on a tag change nothing.
    takes(world, terminal, None).await;
    report(world, terminal, uid, 1, 0).await;
    assert_eq!(record(world, uid, 1).await.signing_since, Some(NOW));
    refuses(world, terminal, None, TapRefusal::Unsigned).await;
    for channel in [Channel::Qr, Channel::Code] {
        let outcome = world.claim(terminal, channel).await;
        let ClaimOutcome::Claimed(record) = outcome else {
            panic!("{channel}: {outcome:?}");
        };
        let id = record.claimed.claim;
        world
            .store
            .release_claim(id, Vec::new(), NOW)
            .await
            .unwrap();
    }
    // A link proves it as well as a report does.
    let (other, of_other) = terminal_with_tag(world, 2).await;
    takes(world, other, Some(tap(of_other, 1, 1))).await;
    refuses(world, other, None, TapRefusal::Unsigned).await;
}

pub(crate) async fn a_tag_counts_at_its_own_terminal_with_keys_that_were_made_for_it(
    world: &World,
) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    let (other, of_other) = terminal_with_tag(world, 2).await;
    refuses(
        world,
        terminal,
        Some(tap(of_other, 1, 1)),
        TapRefusal::Elsewhere,
    )
    .await;
    refuses(world, other, Some(tap(uid, 1, 1)), TapRefusal::Elsewhere).await;
    refuses(world, terminal, Some(tap(uid, 2, 1)), TapRefusal::Unknown).await;
    let nobodys = tap(TagUid::from_bytes([9; 7]), 1, 1);
    refuses(world, terminal, Some(nobodys), TapRefusal::Unknown).await;
    takes(world, terminal, Some(tap(uid, 1, 1))).await;
}

pub(crate) async fn a_retired_tag_is_refused_and_does_not_bind_its_terminal(world: &World) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    takes(world, terminal, Some(tap(uid, 1, 1))).await;
    let retire = |why: &str| world.store.retire_tag(uid, why.into(), NOW);
    assert_eq!(retire("stolen").await, Ok(Some(1)));
    assert_eq!(retire("again").await, Ok(Some(0)));
    let kept = record(world, uid, 1).await.retired;
    assert_eq!(kept, Some((NOW, "stolen".into())), "the first stays");
    refuses(world, terminal, Some(tap(uid, 1, 2)), TapRefusal::Retired).await;
    // What it tells, or is told of it, brings nothing back.
    report(world, terminal, uid, 1, 7).await;
    assert_eq!(record(world, uid, 1).await.read_floor, 0);
    takes(world, terminal, None).await;
    let nobodys = TagUid::from_bytes([9; 7]);
    let unknown = world.store.retire_tag(nobodys, "lost".into(), NOW).await;
    assert_eq!(unknown, Ok(None));
    // Found again, it gets other keys.
    assert_eq!(add(world, terminal, uid, 2).await, TagAdded::Added);
    takes(world, terminal, Some(tap(uid, 2, 1))).await;
}

pub(crate) async fn new_keys_end_the_old_ones_once_the_tag_has_them(world: &World) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    report(world, terminal, uid, 1, 40).await;
    assert_eq!(world.store.next_key_version(uid, 0).await, Ok(Some(2)));
    assert_eq!(add(world, terminal, uid, 2).await, TagAdded::Added);
    // They may never reach the tag.
    takes(world, terminal, Some(tap(uid, 1, 41))).await;
    report(world, terminal, uid, 2, 3).await;
    refuses(world, terminal, Some(tap(uid, 1, 42)), TapRefusal::Retired).await;
    refuses(world, terminal, Some(tap(uid, 2, 3)), TapRefusal::Stale).await;
    takes(world, terminal, Some(tap(uid, 2, 4))).await;
    // A report that was on its way.
    report(world, terminal, uid, 1, 90).await;
    assert_eq!(record(world, uid, 1).await.read_floor, 40);
    assert_eq!(record(world, uid, 2).await.read_floor, 3);
}

pub(crate) async fn only_an_operator_unbinds_a_terminal_whose_tag_signs(world: &World) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    let (other, _) = terminal_with_tag(world, 2).await;
    // Made for the wrong terminal, and seen on no tag: they bind nobody.
    assert_eq!(add(world, other, uid, 2).await, TagAdded::Added);
    report(world, terminal, uid, 1, 5).await;
    // What the other terminal says, or the tag proves there, is no operator's word.
    report(world, other, uid, 2, 0).await;
    refuses(world, terminal, None, TapRefusal::Unsigned).await;
    takes(world, other, Some(tap(uid, 2, 1))).await;
    refuses(world, terminal, None, TapRefusal::Unsigned).await;
    assert_eq!(record(world, uid, 1).await.retired, None);
    assert_eq!(add(world, other, uid, 3).await, TagAdded::SignsElsewhere);
    // Retired, it may move: it counts there alone, and binds the one it left no more.
    let retired = world.store.retire_tag(uid, "moved".into(), NOW).await;
    assert_eq!(retired, Ok(Some(2)));
    assert_eq!(add(world, other, uid, 3).await, TagAdded::Added);
    takes(world, other, Some(tap(uid, 3, 1))).await;
    refuses(world, terminal, Some(tap(uid, 3, 2)), TapRefusal::Elsewhere).await;
    refuses(world, terminal, Some(tap(uid, 1, 6)), TapRefusal::Retired).await;
    takes(world, terminal, None).await;
}

pub(crate) async fn keys_are_made_once_of_each_version_and_for_few_tags(world: &World) {
    let (terminal, tag) = terminal_with_tag(world, 1).await;
    assert_eq!(add(world, terminal, tag, 1).await, TagAdded::Moved);
    for n in 2..=TAGS_PER_TERMINAL_MAX {
        assert_eq!(add(world, terminal, uid(n), 1).await, TagAdded::Added);
    }
    assert_eq!(add(world, terminal, uid(90), 1).await, TagAdded::TooMany);
    let counting = world.store.tags_of(terminal).await.unwrap();
    assert_eq!(counting.len(), TAGS_PER_TERMINAL_MAX as usize);
    let retired = world.store.retire_tag(uid(2), "lost".into(), NOW).await;
    assert_eq!(retired, Ok(Some(1)));
    assert_eq!(add(world, terminal, uid(90), 1).await, TagAdded::Added);
    let listed = |after| world.store.tags(Some(terminal), after, 4);
    let first = listed(None).await.unwrap();
    let last = first.last().map(|tag| (tag.uid, tag.key_version));
    let second = listed(last).await.unwrap();
    let both: Vec<TagUid> = first.iter().chain(&second).map(|tag| tag.uid).collect();
    assert_eq!(both, (1..=8).map(uid).collect::<Vec<_>>());
    assert_eq!(add(world, terminal, uid(3), 255).await, TagAdded::TooMany);
    for n in 1..=4 {
        let retired = world.store.retire_tag(uid(n), "worn".into(), NOW).await;
        assert!(retired.is_ok());
    }
    assert_eq!(add(world, terminal, uid(3), 255).await, TagAdded::Added);
    assert_eq!(world.store.next_key_version(uid(3), 0).await, Ok(None));
    let nowhere = crate::world::number(77);
    assert_eq!(
        add(world, nowhere, uid(91), 1).await,
        TagAdded::TerminalRefused
    );
}

pub(crate) async fn a_tag_counts_while_its_master_key_is_believed_and_keeps_it(world: &World) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    let next = add_key(world, KeyPurpose::Tag, KeyState::Prepared, 2).await;
    let work = |kid: &str| Work::Activate { kid: kid.into() };
    let operation = begin(world, work(&next)).await;
    let stepped = step(world, operation, &next, Step::Activate).await;
    assert!(matches!(stepped, Stepped::Done(_)), "{stepped:?}");
    // Keys of the old one are not made any more, and those that were made go on.
    assert_eq!(add(world, terminal, uid, 2).await, TagAdded::Moved);
    takes(world, terminal, Some(tap(uid, 1, 1))).await;
    let retired = step(world, operation, MASTER, Step::Retire).await;
    let Stepped::Stranded(stranded) = retired else {
        panic!("{retired:?}");
    };
    assert_eq!((stranded.count, stranded.first), (1, vec![terminal]));
    let tainted = step(world, operation, MASTER, Step::Taint).await;
    assert!(matches!(tainted, Stepped::Done(_)), "{tainted:?}");
    refuses(
        world,
        terminal,
        Some(tap(uid, 1, 2)),
        TapRefusal::Disbelieved,
    )
    .await;
    refuses(world, terminal, None, TapRefusal::Unsigned).await;
    let retired = step(world, operation, MASTER, Step::Retire).await;
    assert!(matches!(retired, Stepped::Done(_)), "{retired:?}");
}

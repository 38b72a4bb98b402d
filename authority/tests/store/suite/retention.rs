//! What is forgotten, and is anything forgotten that could be accepted again?

use authority::store::{ClaimOutcome, DAY_EPOCHS};
use protocol::ids::{EventId, TerminalId};
use protocol::live::Live;
use protocol::token::Channel;
use protocol::wire::reports::{Seen, TerminalEvent};

use crate::world::{NOW, World, epoch_now, eur, live, live_at};

const DAY_MS: i64 = 24 * 3_600_000;

/// A terminal where one claim after the other finds something to pay.
async fn open_terminal(world: &World) -> TerminalId {
    let merchant = world.merchant_with(Some(eur(100)), None).await;
    world.terminal_of(&merchant, 1).await
}

async fn claim(world: &World, live: Live) -> ClaimOutcome {
    world.store.claim(world.claim_of(live)).await.unwrap()
}

async fn spend(world: &World, live: Live) {
    let outcome = claim(world, live).await;
    assert!(matches!(outcome, ClaimOutcome::Claimed(_)), "{outcome:?}");
}

/// Makes all places there should be, and deletes all that may go.
pub(crate) async fn keep_house(world: &World, epoch: u32) {
    while world.store.make_day(epoch, 2).await.unwrap() {}
    while world.store.forget_behind_fence().await.unwrap() {}
}

pub(crate) async fn the_fence_only_rises_and_no_token_below_it_is_accepted(world: &World) {
    let terminal = open_terminal(world).await;
    let store = &world.store;
    let epoch = epoch_now(terminal);
    assert_eq!(store.epoch_fence().await, Ok(0));
    assert_eq!(store.raise_epoch_fence(epoch, NOW).await, Ok(epoch));
    spend(world, live(terminal, Channel::Nfc, 0)).await;
    assert_eq!(store.raise_epoch_fence(epoch + 1, NOW).await, Ok(epoch + 1));
    let fresh = live(terminal, Channel::Qr, 0);
    let revision = world.revision(terminal).await;
    assert_eq!(claim(world, fresh).await, ClaimOutcome::Spent);
    assert_eq!(store.is_spent(fresh.token()).await, Ok(false));
    assert_eq!(world.revision(terminal).await, revision, "nothing happened");
    assert_eq!(store.raise_epoch_fence(5, NOW).await, Ok(epoch + 1));
    assert_eq!(store.epoch_fence().await, Ok(epoch + 1));
    let kinds = world.audit_kinds().await;
    let raised = kinds.iter().filter(|kind| *kind == "epochs.fenced");
    assert_eq!(raised.count(), 2);
}

pub(crate) async fn what_is_behind_the_fence_goes_and_is_not_accepted_again(world: &World) {
    let terminal = open_terminal(world).await;
    let store = &world.store;
    let at = |days: i64| live_at(NOW - days * DAY_MS, terminal, Channel::Nfc, 0);
    for days in 0..5 {
        spend(world, at(days)).await;
    }
    let epoch = epoch_now(terminal);
    let day = |days: u32| epoch / DAY_EPOCHS * DAY_EPOCHS - days * DAY_EPOCHS;
    keep_house(world, epoch).await;
    assert_eq!(store.rows_without_day().await, Ok(0));
    for days in 0..5 {
        let spent = store.is_spent(at(days).token()).await;
        assert_eq!(spent, Ok(true), "no fence, {days} days ago");
    }
    // Half a day stays whole where days are kept apart, and goes where they are not: both are behind.
    store.raise_epoch_fence(day(2), NOW).await.unwrap();
    keep_house(world, epoch).await;
    for days in 0..5 {
        let spent = store.is_spent(at(days).token()).await;
        assert_eq!(spent, Ok(days < 3), "{days} days ago");
    }
    let windows = (0..5).map(|days| at(days).token().window).collect();
    let turns = store.turns(windows).await;
    assert_eq!(turns, Ok(vec![1, 1, 1, 0, 0]));
    for days in 3..5 {
        assert_eq!(claim(world, at(days)).await, ClaimOutcome::Spent);
    }
}

pub(crate) async fn a_report_goes_behind_its_fence_and_is_not_kept_again(world: &World) {
    let terminal = open_terminal(world).await;
    let store = &world.store;
    let event = |days: i64| TerminalEvent {
        id: EventId::from_parts((NOW - days * DAY_MS).ms() as u64, &[5; 10]),
        at: NOW - days * DAY_MS,
        what: Seen::TagFailed {
            reason: format!("{days} days ago"),
        },
    };
    let events: Vec<_> = (0..6).map(event).collect();
    let ids: Vec<_> = events.iter().map(|it| it.id).collect();
    let stored = store.add_reports(terminal, events.clone(), NOW).await;
    assert_eq!(stored, Ok(ids.clone()));
    let kept = async || store.reports(terminal, 9).await.unwrap().len();
    assert_eq!(store.forget_reports().await, Ok(false), "no fence");
    assert_eq!(kept().await, 6);
    let below = NOW - 3 * DAY_MS;
    assert_eq!(store.raise_report_fence(below, NOW).await, Ok(below));
    assert_eq!(store.forget_reports().await, Ok(false));
    assert_eq!(kept().await, 4, "the one at the fence stays");
    let too_old = async || {
        let rows = store.audit_rows(crate::NODE, 0, u32::MAX).await.unwrap();
        let rows = rows.into_iter().map(|it| it.row);
        let told = rows.filter(|row| row.kind == "reports.too-old");
        told.map(|row| row.body).collect::<Vec<_>>()
    };
    assert_eq!(too_old().await, [""; 0], "nothing came too late");
    let again = store.add_reports(terminal, events, NOW).await;
    assert_eq!(again, Ok(ids), "all may be forgotten by their terminal");
    assert_eq!(kept().await, 4);
    let body: serde_json::Value = serde_json::from_str(&too_old().await.concat()).unwrap();
    let said = serde_json::json!({ "terminal": terminal, "events": 2 });
    assert_eq!(body, said, "that it was lost is not lost");
    let lower = store.raise_report_fence(NOW - 9 * DAY_MS, NOW).await;
    assert_eq!(lower, Ok(below), "it only rises");
    assert_eq!(store.report_fence().await, Ok(below));
    let kinds = world.audit_kinds().await;
    let told = |kind: &str| kinds.iter().filter(|it| *it == kind).count();
    assert_eq!((told("reports.fenced"), told("reports.stored")), (1, 1));
}

//! Who wins when several come at the same moment, and is there only one?

#![expect(
    clippy::disallowed_methods,
    reason = "the big race is bounded in time as well as in rounds"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::store::{
    ChargeStatus, Claim, ClaimOutcome, ClaimRecord, CloseOutcome, Pay, PayOutcome, Redeem,
    RefundOutcome, TapRefusal, TerminalStatus, unhurried,
};
use futures_util::future::join_all;
use protocol::ids::TerminalId;
use protocol::token::Channel;
use protocol::wire::claims::ClaimState;
use protocol::wire::push::EndReason;

use crate::suite::tags::{tap, terminal_with_tag};
use crate::world::{LATER, NOW, World, eur, join_hash, live, number};

/// Rounds of the big race, unless its time is over before.
const ROUNDS: usize = 1_000;
/// How many phones race in each.
const PHONES: usize = 200;
/// Tokens that two nodes are asked for at the same moment, of so many terminals at a time.
const TOKENS: usize = 10_000;
const TERMINALS: u32 = 100;
/// Rounds of a race of two.
const DUELS: u32 = 100;
/// After this long no further round begins.
const TIME: Duration = Duration::from_secs(15);

pub(crate) async fn a_token_is_spent_once_even_when_two_hundred_phones_race(world: &World) {
    let merchant = world.merchant_with(Some(eur(100)), None).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let (begun, mut rounds) = (Instant::now(), 0);
    while rounds < ROUNDS && begun.elapsed() < TIME {
        let shown = world.shown(terminal, Channel::Nfc).await;
        let claims = (0..PHONES).map(|_| world.claim_of(shown));
        let outcomes = all_at_once(claims.map(|claim| {
            let store = world.any_node();
            async move { store.claim(claim).await.unwrap() }
        }))
        .await;
        let won = |outcome: &&ClaimOutcome| matches!(outcome, ClaimOutcome::Claimed(_));
        assert_eq!(outcomes.iter().filter(won).count(), 1, "round {rounds}");
        let lost = outcomes
            .iter()
            .filter(|o| **o == ClaimOutcome::Spent)
            .count();
        assert_eq!(lost, PHONES - 1);
        rounds += 1;
    }
    println!(
        "{rounds} rounds of {PHONES} phones in {:?}",
        begun.elapsed()
    );
}

pub(crate) async fn a_token_that_two_nodes_are_asked_for_is_spent_at_one_ten_thousand_times(
    world: &World,
) {
    let merchant = world.merchant_with(Some(eur(100)), None).await;
    let mut terminals = Vec::new();
    for n in 1..=TERMINALS {
        terminals.push(world.terminal_of(&merchant, n).await);
    }
    let nodes = world.all_nodes();
    let [one, other] = [&nodes[0], &nodes[nodes.len() - 1]];
    for _ in 0..TOKENS / terminals.len() {
        let shown = terminals.iter().map(|it| world.shown(*it, Channel::Nfc));
        let shown = join_all(shown).await;
        let claims = shown.iter().flat_map(|shown| {
            [one, other].map(|node| {
                let (node, claim) = (node.clone(), world.claim_of(*shown));
                async move { node.claim(claim).await.unwrap() }
            })
        });
        let outcomes = all_at_once(claims).await;
        let spenders = shown.iter().map(|it| world.store.spender(it.token()));
        let spenders = join_all(spenders).await;
        for (duel, spender) in outcomes.chunks(2).zip(spenders) {
            let winner = match duel {
                [ClaimOutcome::Claimed(won), ClaimOutcome::Spent]
                | [ClaimOutcome::Spent, ClaimOutcome::Claimed(won)] => won.claimed.claim,
                neither_or_both => panic!("{neither_or_both:?}"),
            };
            assert_eq!(spender, Ok(Some(winner)));
        }
    }
}

/// Of a tag whose counter went back, or of a copy: the same count in two windows' links.
pub(crate) async fn a_tap_spends_one_token_even_when_two_links_with_its_counter_race(
    world: &World,
) {
    let (terminal, uid) = terminal_with_tag(world, 1).await;
    for counter in 1..=DUELS {
        let tap = Some(tap(uid, 1, counter));
        let here = world.shown(terminal, Channel::Nfc).await;
        let mut there = world.shown(terminal, Channel::Qr).await;
        if counter % 2 == 0 {
            there = here;
        }
        let duel = [here, there].map(|live| {
            let (store, claim) = (world.any_node(), world.claim_of(live));
            async move { store.claim(Claim { tap, ..claim }).await.unwrap() }
        });
        let outcomes = all_at_once(duel.into_iter()).await;
        let won = |outcome: &&ClaimOutcome| matches!(outcome, ClaimOutcome::Claimed(_));
        assert_eq!(outcomes.iter().filter(won).count(), 1, "{outcomes:?}");
        let lost = match counter % 2 {
            0 => ClaimOutcome::Spent,
            _ => ClaimOutcome::Tap(TapRefusal::Repeated),
        };
        assert!(outcomes.contains(&lost), "{outcomes:?}");
        for outcome in outcomes {
            if let ClaimOutcome::Claimed(record) = outcome {
                let id = record.claimed.claim;
                let released = world.store.release_claim(id, Vec::new(), NOW).await;
                assert_eq!(released, Ok(true));
            }
        }
    }
    let spent = world.store.tag(uid).await.unwrap()[0].taps;
    assert_eq!(spent, u64::from(DUELS));
}

pub(crate) async fn a_charge_is_held_by_one_of_two_phones(world: &World) {
    let merchant = world.merchant().await;
    for n in 0..DUELS {
        let terminal = world.terminal_of(&merchant, n).await;
        world.start(terminal, 420).await;
        let tapped = world.claim_of(live(terminal, Channel::Nfc, 0));
        let scanned = world.claim_of(live(terminal, Channel::Qr, 0));
        let (here, there) = (world.any_node(), world.any_node());
        let (a, b) = tokio::join!(here.claim(tapped), there.claim(scanned));
        let outcomes = [a.unwrap(), b.unwrap()];
        let held = outcomes
            .iter()
            .filter(|o| **o == ClaimOutcome::Held)
            .count();
        assert_eq!(held, 1, "{outcomes:?}");
        // The loser's token was not spent: its window is still at turn 0.
        let windows = [Channel::Nfc, Channel::Qr].map(|c| live(terminal, c, 0).token().window);
        let turns = world.store.turns(windows.to_vec()).await.unwrap();
        assert_eq!(turns.iter().sum::<u16>(), 1);
    }
}

pub(crate) async fn a_claim_is_paid_once_even_when_asked_twice(world: &World) {
    let anna = world.shopper("anna", 100_000).await;
    let merchant = world.merchant().await;
    for n in 0..DUELS {
        let record = held(world, world.terminal_of(&merchant, n).await).await;
        let (one, two) = (pay(world, &record), pay(world, &record));
        let (here, there) = (world.any_node(), world.any_node());
        let (a, b) = tokio::join!(here.pay(one), there.pay(two));
        let payments = [a.unwrap(), b.unwrap()].map(|outcome| match outcome {
            PayOutcome::Paid(payment) => (1, *payment),
            PayOutcome::Already(payment) => (0, *payment),
            other => panic!("{other:?}"),
        });
        assert_eq!(payments[0].0 + payments[1].0, 1);
        assert_eq!(payments[0].1, payments[1].1);
    }
    assert_eq!(world.balance(&anna).await, 100_000 - 420 * i64::from(DUELS));
}

pub(crate) async fn a_claim_is_paid_or_released_never_both(world: &World) {
    world.shopper("anna", 100_000).await;
    let merchant = world.merchant().await;
    for n in 0..DUELS {
        let record = held(world, world.terminal_of(&merchant, n).await).await;
        let claim = record.claimed.claim;
        let payment = pay(world, &record);
        let there = world.any_node();
        let release = there.release_claim(claim, Vec::new(), NOW);
        let (paid, released) = in_turns(n, world.store.pay(payment), release).await;
        let state = world
            .store
            .claim_record(claim)
            .await
            .unwrap()
            .unwrap()
            .state;
        match (paid.unwrap(), released.unwrap()) {
            (PayOutcome::Paid(_), false) => assert_eq!(state, ClaimState::Paid),
            (PayOutcome::ClaimOver, true) => assert_eq!(state, ClaimState::Released),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_charge_is_paid_or_ended_never_both(world: &World) {
    world.shopper("anna", 100_000).await;
    let merchant = world.merchant().await;
    for n in 0..DUELS {
        let record = held(world, world.terminal_of(&merchant, n).await).await;
        let charge = record.claimed.charge;
        let payment = pay(world, &record);
        let end = world
            .store
            .end_charge(charge, EndReason::Cancelled, Vec::new(), NOW);
        let (paid, ended) = in_turns(n, world.store.pay(payment), end).await;
        let ended = ended.unwrap().unwrap().status;
        match paid.unwrap() {
            PayOutcome::Paid(_) => assert_eq!(ended, ChargeStatus::Paid(record.claimed.claim)),
            PayOutcome::ClaimOver => assert_eq!(ended, ChargeStatus::Ended(EndReason::Cancelled)),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_ban_and_a_claim_leave_nothing_held(world: &World) {
    let merchant = world.merchant_with(Some(eur(100)), None).await;
    for n in 0..DUELS {
        let terminal = world.terminal_of(&merchant, n).await;
        let claim = world.claim_of(live(terminal, Channel::Nfc, 0));
        let id = claim.id;
        let there = world.any_node();
        let ban = there.ban_terminal(terminal, "stolen".into(), NOW);
        let (claimed, banned) = in_turns(n, world.store.claim(claim), ban).await;
        let status = banned.unwrap().unwrap().status;
        assert!(matches!(status, TerminalStatus::Banned { .. }));
        let state = world.store.claim_record(id).await.unwrap();
        match claimed.unwrap() {
            ClaimOutcome::Claimed(_) => assert_eq!(state.unwrap().state, ClaimState::Released),
            ClaimOutcome::TerminalRefused => assert_eq!(state, None),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn an_account_is_never_overdrawn(world: &World) {
    let anna = world.shopper("anna", 10 * 420 + 1).await;
    let merchant = world.merchant().await;
    let mut payments = Vec::new();
    for n in 0..40 {
        let record = held(world, world.terminal_of(&merchant, n).await).await;
        payments.push(pay(world, &record));
    }
    let outcomes = all_at_once(payments.into_iter().map(|payment| {
        let store = world.any_node();
        async move { store.pay(payment).await.unwrap() }
    }))
    .await;
    let short = outcomes
        .iter()
        .filter(|o| **o == PayOutcome::FundsShort)
        .count();
    assert_eq!(short, 30);
    assert_eq!(world.balance(&anna).await, 1);
    let earned = world
        .store
        .merchant_balance(merchant.account)
        .await
        .unwrap();
    assert_eq!(earned, 10 * 420);
}

pub(crate) async fn a_join_token_serves_one_of_two_keys(world: &World) {
    let merchant = world.merchant().await;
    for n in 0..DUELS {
        let terminal = world.terminal_of(&merchant, n).await;
        let redeem = |key| {
            world
                .store
                .redeem_join_token(terminal, join_hash(n), [key; 32], NOW)
        };
        let (a, b) = tokio::join!(redeem(1), redeem(2));
        let mut outcomes = [a.unwrap(), b.unwrap()];
        outcomes.sort_by_key(|outcome| *outcome == Redeem::Refused);
        assert_eq!(outcomes, [Redeem::Good, Redeem::Refused]);
    }
}

pub(crate) async fn claims_of_many_terminals_share_commits(world: &World) {
    let merchant = world.merchant_with(Some(eur(100)), None).await;
    let mut claims = Vec::new();
    for n in 0..512 {
        let terminal = world.terminal_of(&merchant, n).await;
        claims.push(world.claim_of(live(terminal, Channel::Nfc, 0)));
    }
    let begun = Instant::now();
    let outcomes = all_at_once(claims.into_iter().map(|claim| {
        let store = world.any_node();
        async move { store.claim(claim).await.unwrap() }
    }))
    .await;
    println!("{} claims in {:?}", outcomes.len(), begun.elapsed());
    for outcome in outcomes {
        assert!(matches!(outcome, ClaimOutcome::Claimed(_)), "{outcome:?}");
    }
    assert_eq!(
        number(0),
        world.store.terminals(None, 1).await.unwrap()[0].id
    );
}

async fn held(world: &World, terminal: TerminalId) -> ClaimRecord {
    world.start(terminal, 420).await;
    world.claimed(terminal).await
}

fn pay(world: &World, record: &ClaimRecord) -> Pay {
    world.pay_of(record, &crate::world::person("anna"), eur(420))
}

/// Both at once; the second is polled first in every other round, so that either can win.
async fn in_turns<A, B>(
    round: u32,
    a: impl Future<Output = A>,
    b: impl Future<Output = B>,
) -> (A, B) {
    if round.is_multiple_of(2) {
        tokio::join!(a, b)
    } else {
        let (b, a) = tokio::join!(b, a);
        (a, b)
    }
}

/// Each in its own task, all let go at one barrier.
async fn all_at_once<T: Send + 'static>(
    runs: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let runs: Vec<_> = runs.collect();
    let barrier = Arc::new(tokio::sync::Barrier::new(runs.len()));
    let tasks: Vec<_> = runs
        .into_iter()
        .map(|run| {
            let barrier = Arc::clone(&barrier);
            tokio::spawn(unhurried(async move {
                barrier.wait().await;
                run.await
            }))
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

pub(crate) async fn refunds_that_race_never_give_back_more_than_was_paid(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 100_000).await;
    for round in 0..DUELS {
        let (charge, _) = world.sold(terminal, &anna, 300).await;
        let before = world.balance(&anna).await;
        // Eight askers of 100 each; three fit.
        let asked = (0..8).map(|_| world.refund_of(charge, terminal, 100));
        let outcomes = all_at_once(asked.map(|refund| {
            let store = world.any_node();
            async move { store.refund(refund).await.unwrap() }
        }))
        .await;
        let given = |outcome: &&RefundOutcome| matches!(outcome, RefundOutcome::Refunded(_));
        assert_eq!(outcomes.iter().filter(given).count(), 3, "round {round}");
        let refused = RefundOutcome::TooMuch { left_minor: 0 };
        let lost = outcomes.iter().filter(|o| **o == refused).count();
        assert_eq!(lost, 5, "{outcomes:?}");
        assert_eq!(world.balance(&anna).await, before + 300);
    }
    let earned = world.store.merchant_balance(merchant.account).await;
    assert_eq!(earned, Ok(0));
}

pub(crate) async fn what_is_booked_while_a_day_closes_is_in_exactly_one_file(world: &World) {
    let merchant = world.merchant().await;
    let anna = world.shopper("anna", 1_000_000).await;
    let mut records = Vec::new();
    for n in 0..40 {
        let terminal = world.terminal_of(&merchant, n).await;
        world.start(terminal, 420).await;
        records.push(world.claimed(terminal).await);
    }
    let pays = records.iter().map(|record| {
        let (store, pay) = (world.any_node(), world.pay_of(record, &anna, eur(420)));
        async move {
            let paid = store.pay(pay).await.unwrap();
            assert!(matches!(paid, PayOutcome::Paid(_)), "{paid:?}");
        }
    });
    let closes = (0..8_i64).map(|n| {
        let (store, merchant) = (world.any_node(), merchant.id);
        async move {
            let closed = store
                .close_day(crate::suite::books::close(merchant, LATER + n))
                .await;
            assert!(!matches!(closed.unwrap(), CloseOutcome::Differs { .. }));
        }
    });
    let all =
        pays.map(|pay| Box::pin(pay) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>)
            .chain(closes.map(|close| {
                Box::pin(close) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
            }));
    all_at_once(all.collect::<Vec<_>>().into_iter()).await;
    let last = crate::suite::books::close(merchant.id, LATER + 100);
    world.store.close_day(last).await.unwrap();
    let files = world
        .store
        .settlements(merchant.id, None, 99)
        .await
        .unwrap();
    let lines: u64 = files.iter().map(|file| file.totals.credits).sum();
    assert_eq!(lines, 40);
    let numbers: Vec<_> = files.iter().rev().map(|file| file.number).collect();
    assert_eq!(numbers, (1..=files.len() as u64).collect::<Vec<_>>());
    assert_eq!(files[0].totals.closing_minor, 40 * 420);
}

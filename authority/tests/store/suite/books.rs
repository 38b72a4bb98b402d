//! What do a merchant's books hold, and what do they refuse?

use authority::store::{
    CloseDay, CloseOutcome, Cursor, Deleted, HistoryOf, NewRefund, NewTerms, PIN_DAY_MISSES_MAX,
    PIN_LOCK_MS, PIN_MISSES_MAX, PIN_TRIES_MAX, PinHash, PinTry, RefundAsker, RefundOutcome,
    day_of, end_of_day,
};
use protocol::ids::MerchantId;
use protocol::time::Timestamp;
use protocol::wire::history::{EntryKind, HistoryEntry};

use crate::world::{LATER, NOW, World, eur, person};

const DAY_MS: i64 = 24 * 3_600_000;

/// Closes whatever was booked before `to`.
pub(crate) fn close(merchant: MerchantId, to: Timestamp) -> CloseDay {
    CloseDay {
        merchant,
        day: "2026-11-23".into(),
        zone: "UTC".into(),
        to,
        by: "authority".into(),
        at: to,
    }
}

pub(crate) async fn money_goes_back_to_the_account_that_paid_and_never_more(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let (anna, ben) = (
        world.shopper("anna", 1_000).await,
        world.shopper("ben", 1_000).await,
    );
    let (charge, payment) = world.sold(terminal, &anna, 420).await;
    let first = world.refunded(world.refund_of(charge, terminal, 120)).await;
    assert_eq!(first.payment.id, payment.id);
    assert_eq!(world.balance(&anna).await, 700);
    let too_much = world
        .store
        .refund(world.refund_of(charge, terminal, 301))
        .await;
    assert_eq!(too_much, Ok(RefundOutcome::TooMuch { left_minor: 300 }));
    world.refunded(world.refund_of(charge, terminal, 300)).await;
    let one_more = world
        .store
        .refund(world.refund_of(charge, terminal, 1))
        .await;
    assert_eq!(one_more, Ok(RefundOutcome::TooMuch { left_minor: 0 }));
    assert_eq!(world.balance(&anna).await, 1_000);
    assert_eq!(world.balance(&ben).await, 1_000);
    let earned = world.store.merchant_balance(merchant.account).await;
    assert_eq!(earned, Ok(0));
    let all = world.store.refunds_of_charge(charge).await.unwrap();
    assert_eq!(all.len(), 2);
    let due = world.store.refund_receipts_due(9).await.unwrap();
    assert_eq!(due.len(), 2);
    let store = |jws: &str| world.store.store_refund_receipt(first.id, jws.into(), NOW);
    assert_eq!(store("first").await.unwrap(), "first");
    assert_eq!(store("second").await.unwrap(), "first");
    assert_eq!(world.store.refund_receipts_due(9).await.unwrap().len(), 1);
}

pub(crate) async fn a_refund_is_one_however_often_it_is_asked_for(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 1_000).await;
    let (charge, _) = world.sold(terminal, &anna, 420).await;
    let refund = world.refund_of(charge, terminal, 120);
    let done = world.refunded(refund.clone()).await;
    let later = NewRefund {
        at: LATER,
        receipt: world.refund_of(charge, terminal, 1).receipt,
        ..refund.clone()
    };
    let again = world.store.refund(later).await.unwrap();
    assert_eq!(again, RefundOutcome::Already(Box::new(done)));
    let mut other = refund.clone();
    other.amount = eur(121);
    assert_eq!(world.store.refund(other).await, Ok(RefundOutcome::Differs));
    let stranger = world.terminal(2).await;
    let mut other = refund;
    other.asker = RefundAsker::Terminal(stranger);
    assert_eq!(world.store.refund(other).await, Ok(RefundOutcome::Differs));
    assert_eq!(world.balance(&anna).await, 700);
}

pub(crate) async fn a_refund_that_is_refused_moves_nothing(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let (sister, stranger) = (
        world.terminal_of(&merchant, 2).await,
        world.terminal(3).await,
    );
    let anna = world.shopper("anna", 1_000).await;
    let (charge, _) = world.sold(terminal, &anna, 420).await;
    let ask = |refund| world.store.refund(refund);
    let foreign = ask(world.refund_of(charge, stranger, 1)).await;
    assert_eq!(foreign, Ok(RefundOutcome::ChargeUnknown));
    let nothing = ask(world.refund_of(world.charge_id(), terminal, 1)).await;
    assert_eq!(nothing, Ok(RefundOutcome::ChargeUnknown));
    let mut yen = world.refund_of(charge, terminal, 1);
    yen.amount = protocol::money::Money::new(1, "JPY".parse().unwrap()).unwrap();
    assert_eq!(ask(yen).await, Ok(RefundOutcome::Currency));
    let offered = world.start(terminal, 100).await;
    let unpaid = ask(world.refund_of(offered, terminal, 1)).await;
    assert_eq!(unpaid, Ok(RefundOutcome::Unpaid));
    world
        .store
        .ban_terminal(terminal, "lost".into(), NOW)
        .await
        .unwrap();
    let banned = ask(world.refund_of(charge, terminal, 1)).await;
    assert_eq!(banned, Ok(RefundOutcome::TerminalRefused));
    assert_eq!(world.balance(&anna).await, 580);
    // Another terminal of the same merchant may.
    world.refunded(world.refund_of(charge, sister, 420)).await;
    assert_eq!(world.balance(&anna).await, 1_000);
}

pub(crate) async fn nothing_is_given_back_to_a_profile_that_is_deleted(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 420).await;
    let (charge, _) = world.sold(terminal, &anna, 420).await;
    let deleted = world.store.delete_profile(anna.clone(), LATER).await;
    assert_eq!(deleted, Ok(Deleted::Done));
    let ask = || world.store.refund(world.refund_of(charge, terminal, 1));
    assert_eq!(ask().await, Ok(RefundOutcome::PayerGone));
    // The same person comes back, to a new profile: it is not the one that paid.
    world.shopper("anna", 0).await;
    assert_eq!(ask().await, Ok(RefundOutcome::PayerGone));
    assert_eq!(world.balance(&anna).await, 0);
    let earned = world.store.merchant_balance(merchant.account).await;
    assert_eq!(earned, Ok(420), "it is the merchant's still");
}

pub(crate) async fn the_refunds_of_a_day_end_at_the_cap(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 1_000).await;
    let (charge, _) = world.sold(terminal, &anna, 420).await;
    let (other, _) = world.sold(terminal, &anna, 420).await;
    let terms = NewTerms {
        refund_day_max_minor: Some(500),
        ..NewTerms::default()
    };
    assert_eq!(
        world.store.set_terms(merchant.id, terms, NOW).await,
        Ok(true)
    );
    world.refunded(world.refund_of(charge, terminal, 420)).await;
    let over = world
        .store
        .refund(world.refund_of(other, terminal, 81))
        .await;
    assert_eq!(over, Ok(RefundOutcome::OverCap { left_minor: 80 }));
    let mut operator = world.refund_of(other, terminal, 81);
    operator.asker = RefundAsker::Operator("ann".into());
    let over = world.store.refund(operator).await;
    assert_eq!(over, Ok(RefundOutcome::OverCap { left_minor: 80 }));
    // What was refused counts for nothing, on neither limit.
    world.refunded(world.refund_of(other, terminal, 80)).await;
    let mut next_day = world.refund_of(other, terminal, 340);
    next_day.day = "2026-11-24".into();
    world.refunded(next_day).await;
    assert_eq!(world.balance(&anna).await, 1_000);
}

async fn read_all(world: &World, of: HistoryOf, limit: u32) -> Vec<HistoryEntry> {
    let (mut all, mut before): (Vec<_>, Option<Cursor>) = (Vec::new(), None);
    loop {
        let page = world
            .store
            .history(of.clone(), before, limit)
            .await
            .unwrap();
        let Some((last, _)) = page.last() else {
            return all;
        };
        // As it travels.
        before = Some(last.to_string().parse().unwrap());
        all.extend(page.into_iter().map(|(_, entry)| entry));
    }
}

pub(crate) async fn both_sides_read_the_same_history_page_by_page(world: &World) {
    let merchant = world.merchant().await;
    let (one, two) = (
        world.terminal_of(&merchant, 1).await,
        world.terminal_of(&merchant, 2).await,
    );
    let other = world.terminal(3).await;
    let anna = world.shopper("anna", 10_000).await;
    let ben = world.shopper("ben", 10_000).await;
    let (charge, payment) = world.sold(one, &anna, 420).await;
    let refund = world.refunded(world.refund_of(charge, two, 120)).await;
    world.sold(two, &anna, 77).await;
    world.sold(one, &ben, 5).await;
    world.sold(other, &anna, 9).await;
    let shopper = read_all(world, HistoryOf::Person(anna.clone()), 2).await;
    let shop = read_all(world, HistoryOf::Merchant(merchant.id), 1).await;
    assert_eq!((shopper.len(), shop.len()), (4, 4));
    assert!(shopper.is_sorted_by(|a, b| a.at >= b.at));
    // The same facts on both sides, field by field: the entries are equal as a whole.
    let at_shop: Vec<_> = shopper
        .iter()
        .filter(|it| it.payee.id == merchant.id)
        .collect();
    let of_anna: Vec<_> = shop
        .iter()
        .filter(|it| it.pseudonym == payment.pseudonym)
        .collect();
    assert_eq!(at_shop, of_anna);
    let paid = shop
        .iter()
        .find(|it| it.payment == payment.id && it.refund.is_none());
    let paid = paid.unwrap();
    let claimed = payment.approved.claimed();
    assert_eq!((paid.kind, paid.amount), (EntryKind::Payment, eur(420)));
    assert_eq!((paid.terminal, paid.at), (one, payment.paid_at));
    assert_eq!(paid.channel, claimed.token.window.channel);
    assert_eq!((paid.charge, &paid.reference), (charge, &claimed.reference));
    assert_eq!((paid.receipt, paid.refunded_minor), (payment.receipt, 120));
    assert_eq!(paid.rail_reference, payment.rail_reference);
    let back = shop.iter().find(|it| it.refund == Some(refund.id)).unwrap();
    assert_eq!((back.kind, back.amount), (EntryKind::Refund, eur(120)));
    assert_eq!((back.terminal, back.receipt), (two, refund.receipt));
    assert_eq!(read_all(world, HistoryOf::Terminal(two), 9).await.len(), 2);
    assert_eq!(
        read_all(world, HistoryOf::Person(person("nobody")), 9).await,
        []
    );
    world.receipt(&payment, "j.w.s").await.unwrap();
    let own = |who| world.store.own_receipt(who, payment.receipt);
    assert_eq!(own(anna).await.unwrap().as_deref(), Some("j.w.s"));
    assert_eq!(own(ben).await, Ok(None));
}

pub(crate) async fn a_closed_day_is_the_change_of_the_ledger_and_stays_it(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 10_000).await;
    let nothing = world.store.close_day(close(merchant.id, LATER)).await;
    assert_eq!(nothing, Ok(CloseOutcome::Nothing));
    let (charge, _) = world.sold(terminal, &anna, 420).await;
    world.sold(terminal, &anna, 100).await;
    world.refunded(world.refund_of(charge, terminal, 20)).await;
    let closed = world
        .store
        .close_day(close(merchant.id, LATER))
        .await
        .unwrap();
    let CloseOutcome::Closed(first) = closed else {
        panic!("{closed:?}")
    };
    let t = first.totals;
    assert_eq!(
        (first.number, t.opening_minor, t.closing_minor),
        (1, 0, 500)
    );
    assert_eq!(
        (t.credits, t.credit_minor, t.debits, t.debit_minor),
        (2, 520, 1, 20)
    );
    assert_eq!((first.rails.len(), first.rails[0].totals), (1, t));
    assert_eq!((first.from, first.to), (merchant.added_at, LATER));
    let lines = |after, limit| world.store.settlement_lines(merchant.id, 1, after, limit);
    let two = lines(None, 2).await.unwrap();
    let rest = lines(Some(two[1].0), 9).await.unwrap();
    assert_eq!((two.len(), rest.len()), (2, 1));
    // A cut that is not later is refused; what comes late is in the next file.
    let again = world.store.close_day(close(merchant.id, LATER)).await;
    assert_eq!(again, Ok(CloseOutcome::Refused));
    let (_, late) = world.sold(terminal, &anna, 7).await;
    assert!(late.paid_at < LATER);
    let next = world
        .store
        .close_day(close(merchant.id, LATER + 1))
        .await
        .unwrap();
    let CloseOutcome::Closed(second) = next else {
        panic!("{next:?}")
    };
    let t = second.totals;
    assert_eq!(
        (second.number, t.opening_minor, t.closing_minor),
        (2, 500, 507)
    );
    assert_eq!(second.from, LATER);
    assert_eq!(lines(None, 9).await.unwrap().len(), 3);
    assert_eq!(
        world.store.settlement(merchant.id, 1).await,
        Ok(Some(*first.clone()))
    );
    let due = world.store.statements_due(9).await.unwrap();
    assert_eq!(due.len(), 2);
    let store = |jws: &str| world.store.store_statement(merchant.id, 1, jws.into(), NOW);
    assert_eq!(store("first").await.unwrap(), "first");
    assert_eq!(store("second").await.unwrap(), "first");
    let listed = world.store.settlements(merchant.id, None, 9).await.unwrap();
    let numbers: Vec<_> = listed.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(world.store.unsettled(None, 9).await, Ok(Vec::new()));
}

pub(crate) async fn a_cut_that_is_not_later_closes_nothing(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 10_000).await;
    world.sold(terminal, &anna, 420).await;
    let unsettled = world.store.unsettled(None, 9).await.unwrap();
    assert_eq!((unsettled.len(), unsettled[0].merchant), (1, merchant.id));
    assert_eq!(unsettled[0].last_cut, None);
    let stranger = close(MerchantId(world.charge_id().0), LATER);
    assert_eq!(
        world.store.close_day(stranger).await,
        Ok(CloseOutcome::Refused)
    );
    let before = world
        .store
        .close_day(close(merchant.id, merchant.added_at))
        .await;
    assert_eq!(before, Ok(CloseOutcome::Refused));
}

pub(crate) async fn pins_are_counted_before_they_are_compared(world: &World) {
    let merchant = world.merchant().await.id;
    let pin = PinHash {
        salt: [1; 16],
        hash: [2; 32],
        cost: 15,
    };
    let begin = |at| world.store.begin_pin_try(merchant, at);
    assert_eq!(begin(NOW).await, Ok(PinTry::NotSet));
    let nobody = MerchantId(world.charge_id().0);
    assert_eq!(
        world.store.set_pin(nobody, pin.clone(), NOW).await,
        Ok(false)
    );
    assert_eq!(
        world.store.set_pin(merchant, pin.clone(), NOW).await,
        Ok(true)
    );
    let check = Ok(PinTry::Check(pin.clone()));
    for _ in 0..PIN_TRIES_MAX {
        assert_eq!(begin(NOW).await, check);
    }
    let until = NOW + PIN_LOCK_MS;
    assert_eq!(begin(until - 1).await, Ok(PinTry::Locked(Some(until))));
    // The right one takes the count back.
    assert_eq!(begin(until).await, check);
    world.store.pin_was_right(merchant, until).await.unwrap();
    let mut at = until;
    for n in 0..PIN_MISSES_MAX {
        // A few each day, so that the limit of a day is not what stops them.
        assert_eq!(begin(at).await, check, "{n}");
        at = at + DAY_MS / 4;
    }
    assert_eq!(
        begin(at + 100 * PIN_LOCK_MS).await,
        Ok(PinTry::Locked(None))
    );
    assert_eq!(world.store.set_pin(merchant, pin, at).await, Ok(true));
    assert_eq!(begin(at).await, check);
    let terms = world.store.terms(merchant).await.unwrap();
    assert_eq!((terms.pin_misses, terms.pin_set_at), (1, Some(at)));
}

/// Somebody at the till guesses between the right entries of whoever knows it.
pub(crate) async fn right_pins_in_between_do_not_give_a_guesser_more_than_a_days_misses(
    world: &World,
) {
    let merchant = world.merchant().await.id;
    let pin = PinHash {
        salt: [1; 16],
        hash: [2; 32],
        cost: 15,
    };
    let store = &world.store;
    assert_eq!(store.set_pin(merchant, pin.clone(), NOW).await, Ok(true));
    let begin = |at| store.begin_pin_try(merchant, at);
    let check = Ok(PinTry::Check(pin));
    for n in 0..i64::from(PIN_DAY_MISSES_MAX) {
        assert_eq!(begin(NOW + 2 * n).await, check, "guess {n}");
        // The last right one would be one try too many.
        if n + 1 < i64::from(PIN_DAY_MISSES_MAX) {
            assert_eq!(begin(NOW + 2 * n + 1).await, check, "right one {n}");
            store
                .pin_was_right(merchant, NOW + 2 * n + 1)
                .await
                .unwrap();
        }
    }
    let tomorrow = end_of_day(day_of(NOW));
    let locked = Ok(PinTry::Locked(Some(tomorrow)));
    assert_eq!(begin(NOW + 100).await, locked);
    assert_eq!(begin(tomorrow - 1).await, locked);
    assert_eq!(begin(tomorrow).await, check, "another day");
    let terms = store.terms(merchant).await.unwrap();
    assert_eq!((terms.pin_misses, terms.pin_day_misses), (2, 1));
    assert_eq!(begin(NOW).await, check, "a clock that goes back");
    let terms = store.terms(merchant).await.unwrap();
    assert_eq!(terms.pin_day_misses, 2, "makes no day new");
}

//! Is a token taken once, in its time, at its terminal, and never otherwise?

use authority::store::{Merchant, Terminals};
use protocol::ids::TerminalId;
use protocol::token::Channel;
use protocol::wire::push::{ChargeStage, EndReason};

use crate::world::{MINUTE, World, eur};

#[tokio::test]
async fn tapped_scanned_and_typed_tokens_are_paid_and_answer_a_receipt() {
    let world = World::new().await;
    for channel in Channel::ALL {
        world.charge(420).await;
        let token = world.shown(channel).await;
        let access_token = world.sign_in("ann");
        let signed_in = (channel == Channel::Code).then_some(access_token.as_str());
        let phone = world.claimed(&token, signed_in).await;
        assert_eq!(phone.view["channel"], channel.name());
        assert_eq!(phone.view["amount"]["amount_minor"], 420);
        assert_eq!(phone.view["payee"]["name"], "Corner Café");
        let paid = world.approve(&phone, "ann", 420).await;
        assert_eq!(paid.status, 200, "{paid:?}");
    }
    assert_eq!(world.balance("ann").await, 5_000 - 3 * 420);
}

#[tokio::test]
async fn a_spent_token_is_refused_to_another_shopper_and_says_how_long_to_wait() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    world.claimed(&link, None).await;
    let boundary = world.boundary(Channel::Qr).await;
    let again = world.claim(&link, None).await;
    again.refused(409, "token-spent");
    let wait = (boundary - world.now() + 999) / 1000;
    assert_eq!(again.retry_after, Some(wait as u32));
}

#[tokio::test]
async fn a_token_is_spent_once_even_when_phones_race() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    let racing: Vec<_> = (0..8).map(|_| world.claim(&link, None)).collect();
    let answers = futures_util::future::join_all(racing).await;
    assert_eq!(answers.iter().filter(|it| it.status == 201).count(), 1);
    for lost in answers.iter().filter(|it| it.status != 201) {
        lost.refused(409, "token-spent");
    }
}

#[tokio::test]
async fn a_token_whose_window_has_passed_is_refused() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    world.advance(2 * MINUTE);
    world.claim(&link, None).await.refused(410, "token-passed");
}

#[tokio::test]
async fn a_token_still_counts_in_its_grace_and_not_after() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    let closes = world.boundary(Channel::Qr).await;
    world.advance(closes - world.now() + 30_000);
    world.claim(&link, None).await.refused(410, "token-passed");
    world.advance(-1);
    world.claimed(&link, None).await;
}

#[tokio::test]
async fn forged_foreign_and_unknown_tokens_are_refused_alike() {
    let world = World::new().await;
    let other = TerminalId::from_number(1).unwrap();
    world.add_terminal(other).await;
    world.charge(420).await;
    let foreign = world.shown_at(other, Channel::Qr).await;
    let as_ours = foreign.replace(&other.to_string(), &world.terminal.to_string());
    let nobody = TerminalId::from_number(2).unwrap();
    let of_nobody = foreign.replace(&other.to_string(), &nobody.to_string());
    let forged = format!("{}.{}", world.terminal, "0".repeat(26));
    for token in [as_ours, of_nobody, forged] {
        let answer = world.claim(&token, None).await;
        answer.refused(403, "token-unknown");
    }
    // At its own terminal nobody asks for anything.
    world
        .claim(&foreign, None)
        .await
        .refused(409, "nothing-to-pay");
}

#[tokio::test]
async fn what_is_no_token_is_told_so() {
    let world = World::new().await;
    for text in ["", "hello", "https://pay.example/x", "12345-67890-12346"] {
        world
            .claim(text, None)
            .await
            .refused(400, "malformed-token");
    }
    let form = world.post_text("/v1/claims", "text/plain", "{\"token\":\"x\"}".into());
    form.await.refused(400, "malformed-request");
    let big = format!("{{\"token\":\"{}\"}}", "x".repeat(5_000));
    let big = world.post_text("/v1/claims", "application/json", big).await;
    big.refused(413, "body-too-large");
}

#[tokio::test]
async fn a_held_charge_is_not_held_by_a_second_phone_and_its_token_is_not_spent() {
    let world = World::new().await;
    world.held(420).await;
    let link = world.shown(Channel::Qr).await;
    world.claim(&link, None).await.refused(409, "charge-held");
    world.claim(&link, None).await.refused(409, "charge-held");
}

#[tokio::test]
async fn a_token_shown_before_a_charge_cannot_claim_it() {
    let world = World::new().await;
    for channel in [Channel::Qr, Channel::Code] {
        let early = world.shown(channel).await;
        let charge = world.charge(420).await;
        let access_token = world.sign_in("ann");
        let answer = world.claim(&early, Some(&access_token)).await;
        answer.refused(409, "token-spent");
        let (charges, now) = (&world.journey.charges, world.now());
        charges
            .cancel(world.terminal, charge.charge, now)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_typed_code_needs_to_know_who_types() {
    let world = World::new().await;
    world.charge(420).await;
    let code = world.shown(Channel::Code).await;
    let refused = world.claim(&code, None).await;
    refused.refused(401, "sign-in-needed");
    assert_eq!(refused.headers["www-authenticate"], "DPoP algs=\"ES256\"");
    let spoken = code.replace('0', "O").replace('1', "l").replace('-', " ");
    world.claimed(&spoken, Some(&world.sign_in("ann"))).await;
}

#[tokio::test]
async fn fixed_and_open_charges_need_no_till() {
    let fixed = |merchant| Merchant {
        fixed: Some(eur(300)),
        ..merchant
    };
    let world = World::with(fixed).await;
    let phone = world.claimed(&world.shown(Channel::Nfc).await, None).await;
    assert_eq!(phone.view["kind"], "fixed");
    world
        .approve(&phone, "ann", 299)
        .await
        .refused(409, "amount-differs");
    assert_eq!(world.approve(&phone, "ann", 300).await.status, 200);

    let open = |merchant| Merchant {
        open_cap: Some(eur(1_000)),
        ..merchant
    };
    let world = World::with(open).await;
    let phone = world.claimed(&world.shown(Channel::Nfc).await, None).await;
    assert_eq!(phone.view["cap"]["amount_minor"], 1_000);
    world
        .approve(&phone, "ann", 1_001)
        .await
        .refused(409, "amount-differs");
    assert_eq!(world.approve(&phone, "ann", 777).await.status, 200);
    assert_eq!(world.balance("ann").await, 5_000 - 777);
}

#[tokio::test]
async fn an_unclaimed_hold_is_released_and_the_third_release_ends_the_charge() {
    let world = World::new().await;
    let charge = world.charge(420).await.charge;
    for _ in 0..3 {
        let link = world.shown(Channel::Qr).await;
        world.claimed(&link, None).await;
        assert_eq!(world.journey.sweep(world.now()).await.unwrap(), 0);
        world.advance(MINUTE);
        assert_eq!(world.journey.sweep(world.now()).await.unwrap(), 1);
    }
    let state = world
        .journey
        .charges
        .look(world.terminal, charge)
        .await
        .unwrap();
    let reason = EndReason::Released;
    assert_eq!(state.stage, ChargeStage::Ended { reason });
    let link = world.shown(Channel::Qr).await;
    world
        .claim(&link, None)
        .await
        .refused(409, "nothing-to-pay");
}

#[tokio::test]
async fn who_is_signed_in_holds_for_five_minutes() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    let phone = world.claimed(&link, Some(&world.sign_in("ann"))).await;
    world.advance(5 * MINUTE - 1);
    assert_eq!(world.journey.sweep(world.now()).await.unwrap(), 0);
    assert_eq!(world.view(&phone).await.json()["state"], "held");
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
}

#[tokio::test]
async fn a_banned_terminals_tokens_are_refused() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    let (terminal, now) = (world.terminal, world.now());
    world
        .store
        .ban_terminal(terminal, "stolen".into(), now)
        .await
        .unwrap();
    world
        .claim(&link, None)
        .await
        .refused(403, "terminal-refused");
    assert_eq!(world.journey.epoch_keys.terminals_kept(), 0);
}

#[tokio::test]
async fn opening_a_link_in_a_browser_spends_nothing_and_is_kept_nowhere() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    let path = link.strip_prefix("https://pay.example").unwrap();
    let page = world.get(path).await;
    assert_eq!(page.status, 200);
    // Not no-referrer: a form would then come without its origin.
    assert_eq!(page.headers["referrer-policy"], "strict-origin");
    assert_eq!(page.headers["cache-control"], "no-store");
    world.claimed(&link, None).await;
}

#[tokio::test]
async fn an_hsm_that_is_down_refuses_before_anything_is_spent() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    world.journey.epoch_keys.forget(world.terminal);
    world.hsm_fails_once();
    let refused = world.claim(&link, None).await;
    refused.refused(503, "not-ready");
    assert!(refused.retry_after.is_some());
    world.claimed(&link, None).await;
}

#[tokio::test]
async fn a_seed_row_that_stands_in_for_another_makes_no_keys() {
    let world = World::new().await;
    world.charge(420).await;
    let link = world.shown(Channel::Qr).await;
    let other = TerminalId::from_number(9).unwrap();
    world.add_terminal(other).await;
    let whole_row = "UPDATE seeds SET (context, blob, binding) =
        (SELECT context, blob, binding FROM seeds WHERE terminal = ?1) WHERE terminal = ?2";
    let database = rusqlite::Connection::open(world.database()).unwrap();
    let rows = (other.value(), world.terminal.value());
    assert_eq!(database.execute(whole_row, rows).unwrap(), 1);
    world.journey.epoch_keys.forget(world.terminal);
    world.claim(&link, None).await.refused(500, "internal");

    // With a header that names the right terminal it is the HSM that refuses.
    let header = authority::services::seeds::context(world.terminal, 1, 1);
    let renamed = "UPDATE seeds SET context = ?1 WHERE terminal = ?2";
    let changes = (header, world.terminal.value());
    assert_eq!(database.execute(renamed, changes).unwrap(), 1);
    world.claim(&link, None).await.refused(500, "internal");

    // What it stood in for is as it was.
    let query = protocol::wire::schedules::ScheduleQuery::default();
    let issued = world
        .journey
        .schedules
        .issue(other, &query, world.now())
        .await;
    assert!(issued.is_ok());
}

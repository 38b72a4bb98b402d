//! How far does somebody get who guesses typed codes?

use authority::services::limiter::{PERSON_MISSES_MAX, WINDOW_MISSES_MAX};
use protocol::code::TypedCode;
use protocol::token::Channel;

use crate::world::{MINUTE, World};

/// Codes of the terminal that are not the one it shows.
async fn wrong_codes(world: &World, count: u32) -> Vec<String> {
    let right = TypedCode::parse(&world.shown(Channel::Code).await).unwrap();
    let wrong = (0..).filter(|digits| !right.matches(*digits));
    let shown = |digits| TypedCode::new(world.terminal, digits).shown();
    wrong.take(count as usize).map(shown).collect()
}

#[tokio::test]
async fn a_person_has_five_guesses_in_fifteen_minutes_and_the_sixth_is_not_judged() {
    let world = World::new().await;
    world.charge(420).await;
    for code in wrong_codes(&world, PERSON_MISSES_MAX).await {
        let answer = world.claim(&code, Some(&world.sign_in("eve"))).await;
        answer.refused(403, "token-unknown");
    }
    let right = world.shown(Channel::Code).await;
    let refused = world.claim(&right, Some(&world.sign_in("eve"))).await;
    refused.refused(429, "too-many-misses");
    assert_eq!(refused.retry_after, Some(900));
    world.claimed(&right, Some(&world.sign_in("ann"))).await;
}

#[tokio::test]
async fn after_fifteen_minutes_a_person_may_try_again() {
    let world = World::new().await;
    world.charge(420).await;
    for code in wrong_codes(&world, PERSON_MISSES_MAX).await {
        world.claim(&code, Some(&world.sign_in("eve"))).await;
    }
    world.advance(15 * MINUTE + 1);
    world.journey.sweep(world.now()).await.unwrap();
    world.charge(420).await;
    let right = world.shown(Channel::Code).await;
    world.claimed(&right, Some(&world.sign_in("eve"))).await;
}

#[tokio::test]
async fn ten_misses_by_anybody_pause_the_code_until_the_next_window() {
    let world = World::new().await;
    world.charge(420).await;
    for (place, code) in wrong_codes(&world, WINDOW_MISSES_MAX)
        .await
        .iter()
        .enumerate()
    {
        let somebody = world.sign_in(&format!("stranger {}", place / 4));
        world
            .claim(code, Some(&somebody))
            .await
            .refused(403, "token-unknown");
    }
    let closes = world.boundary(Channel::Code).await;
    let right = world.shown(Channel::Code).await;
    let paused = world.claim(&right, Some(&world.sign_in("ann"))).await;
    paused.refused(429, "code-paused");
    let wait = (closes - world.now() + 999) / 1000;
    assert_eq!(paused.retry_after, Some(wait as u32));
    let link = world.shown(Channel::Qr).await;
    world.claimed(&link, None).await;

    world.advance(closes - world.now());
    let next = world.shown(Channel::Code).await;
    let answer = world.claim(&next, Some(&world.sign_in("ann"))).await;
    assert_ne!(answer.status, 429, "{answer:?}");
}

#[tokio::test]
async fn guesses_made_at_once_are_counted_one_by_one() {
    let world = World::new().await;
    world.charge(420).await;
    let eve = world.sign_in("eve");
    let codes = wrong_codes(&world, 30).await;
    let guesses = codes.iter().map(|code| world.claim(code, Some(&eve)));
    let answers = futures_util::future::join_all(guesses).await;
    let judged = answers.iter().filter(|answer| answer.status == 403).count();
    assert_eq!(judged, PERSON_MISSES_MAX as usize);
}

#[tokio::test]
async fn a_spent_code_and_a_terminal_that_is_not_there_count_as_misses() {
    let world = World::new().await;
    world.charge(420).await;
    let eve = world.sign_in("eve");
    let spent = world.shown(Channel::Code).await;
    world.claimed(&spent, Some(&world.sign_in("ann"))).await;
    for _ in 0..2 {
        world
            .claim(&spent, Some(&eve))
            .await
            .refused(409, "token-spent");
    }
    let nobody = protocol::ids::TerminalId::from_number(3).unwrap();
    for digits in 0..3 {
        let code = TypedCode::new(nobody, digits).shown();
        world
            .claim(&code, Some(&eve))
            .await
            .refused(403, "token-unknown");
    }
    world
        .claim(&spent, Some(&eve))
        .await
        .refused(429, "too-many-misses");
}

#[tokio::test]
async fn a_slip_is_no_guess() {
    let world = World::new().await;
    let eve = world.sign_in("eve");
    for _ in 0..10 {
        world
            .claim("12345-67890-12346", Some(&eve))
            .await
            .refused(400, "malformed-token");
    }
    world.charge(420).await;
    world
        .claimed(&world.shown(Channel::Code).await, Some(&eve))
        .await;
}

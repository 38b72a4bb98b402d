//! Is a browser signed in exactly as long as it should be, and by its own sign-in?

use authority::store::{
    ATTEMPTS_MAX, ATTEMPTS_OF_VISITOR_MAX, BeginSignIn, Begun, ClaimOutcome, EndReason, Locked,
    LoggedOut, NewSession, ProviderLogout, Purpose, SESSIONS_MAX, SessionRecord, Started, Taken,
};
use protocol::charge::{HOLD_MS, HOLD_SIGNED_IN_MS, HOLD_SIGNING_IN_MS};
use protocol::ids::{ClaimId, SessionId};
use protocol::time::{Millis, Timestamp};

use protocol::token::Channel;

use crate::world::{LATER, NOW, World, number, person};

/// SHA-256 of the n-th secret, as far as a store can tell.
pub(crate) fn hash(n: u8) -> [u8; 32] {
    [n; 32]
}

pub(crate) fn begin(n: u8, at: Timestamp) -> BeginSignIn {
    BeginSignIn {
        state: hash(n),
        visitor: hash(100),
        provider: "bank".into(),
        purpose: Purpose::Pay,
        claim: None,
        session: None,
        fresh: false,
        at,
        expires_at: at + 600_000,
        hold_ms: HOLD_SIGNING_IN_MS,
        waiting_max: ATTEMPTS_MAX,
    }
}

/// The n-th session, of `name`, that takes the place of the n-th visitor's.
pub(crate) fn new_session(n: u8, name: &str, at: Timestamp) -> NewSession {
    NewSession {
        id: SessionId::from_parts(u64::try_from(at.ms()).unwrap(), &[n; 10]),
        secret: hash(n),
        instead_of: hash(200),
        state: hash(n),
        person: person(name),
        provider: "Example Bank".into(),
        provider_session: Some(format!("sid {n}")),
        authenticated_at: at,
        strong: n % 2 == 1,
        claim: None,
        hold_ms: HOLD_SIGNED_IN_MS,
        held_max: 9,
        brought: None,
        at,
    }
}

pub(crate) async fn start(world: &World, session: &NewSession) -> Started {
    world.store.start_session(session.clone()).await.unwrap()
}

pub(crate) async fn session(world: &World, n: u8) -> Option<SessionRecord> {
    world.store.session(hash(n)).await.unwrap()
}

pub(crate) async fn ended(world: &World, n: u8) -> Option<EndReason> {
    session(world, n).await.unwrap().ended.map(|(_, why)| why)
}

pub(crate) async fn a_session_is_found_by_its_secret_until_it_ends(world: &World) {
    let new = new_session(1, "ann", NOW);
    assert_eq!(session(world, 1).await, None);
    start(world, &new).await;
    let found = session(world, 1).await.unwrap();
    let expected = SessionRecord {
        id: new.id,
        person: person("ann"),
        provider: "Example Bank".into(),
        authenticated_at: NOW,
        strong: true,
        started_at: NOW,
        seen_at: NOW,
        ended: None,
    };
    assert_eq!(found, expected);
    world.store.touch_session(new.id, LATER).await.unwrap();
    world.store.touch_session(new.id, NOW).await.unwrap();
    assert_eq!(session(world, 1).await.unwrap().seen_at, LATER);
    assert_eq!(world.store.end_session(new.id, LATER).await, Ok(true));
    assert_eq!(world.store.end_session(new.id, LATER).await, Ok(false));
    let found = session(world, 1).await.unwrap();
    assert_eq!(found.ended, Some((LATER, EndReason::SignedOut)));
    assert_eq!(
        world.audit_kinds().await,
        ["session.started", "session.ended"]
    );
}

pub(crate) async fn a_new_sign_in_of_a_browser_ends_the_one_before(world: &World) {
    start(world, &new_session(1, "ann", NOW)).await;
    start(world, &new_session(2, "ann", NOW)).await;
    let third = NewSession {
        instead_of: hash(1),
        ..new_session(3, "bob", LATER)
    };
    start(world, &third).await;
    assert_eq!(ended(world, 1).await, Some(EndReason::Replaced));
    assert_eq!(ended(world, 2).await, None, "another browser of hers");
    let of = |name| world.store.sessions_of(person(name), 9);
    let seen = of("ann").await.unwrap();
    assert_eq!(seen.len(), 2);
    let everywhere = world.store.end_all_sessions(person("ann"), LATER).await;
    assert_eq!(everywhere, Ok(1));
    assert_eq!(ended(world, 2).await, Some(EndReason::Everywhere));
    assert_eq!(ended(world, 3).await, None, "somebody else's");
    assert_eq!(of("nobody").await, Ok(Vec::new()));
}

pub(crate) async fn a_sign_in_comes_back_once_and_to_its_own_browser(world: &World) {
    let begun = world.store.begin_sign_in(begin(1, NOW)).await;
    assert_eq!(begun, Ok(Begun::Begun(None)));
    let take = |state, visitor, at| world.store.take_attempt(hash(state), hash(visitor), at);
    assert_eq!(
        take(1, 101, NOW).await,
        Ok(Taken::Unknown),
        "another browser"
    );
    assert_eq!(take(2, 100, NOW).await, Ok(Taken::Unknown), "another state");
    let late = NOW + 600_000;
    assert_eq!(take(1, 100, late).await, Ok(Taken::Unknown), "too late");
    let Ok(Taken::Taken(attempt)) = take(1, 100, NOW + 1).await else {
        panic!("not taken")
    };
    assert_eq!((attempt.provider.as_str(), attempt.claim), ("bank", None));
    let again = take(1, 100, NOW + 2).await;
    assert_eq!(again, Ok(Taken::Again(attempt.clone(), None)));
    let opened = new_session(1, "ann", NOW);
    start(world, &opened).await;
    let again = take(1, 1, NOW + 3).await;
    assert_eq!(again, Ok(Taken::Again(attempt, Some(opened.id))));
}

async fn held_until(world: &World, claim: ClaimId) -> Millis {
    let record = world.store.claim_record(claim).await.unwrap().unwrap();
    record.claimed.held_until - NOW
}

pub(crate) async fn a_claim_is_held_longer_while_signing_in_and_after_it_once(world: &World) {
    let terminal = world.terminal(1).await;
    world.start(terminal, 420).await;
    let claim = world.claimed(terminal).await.claimed.claim;
    assert_eq!(held_until(world, claim).await, HOLD_MS);
    let revision = world.revision(terminal).await;
    let of_claim = |n, at| BeginSignIn {
        claim: Some(claim),
        ..begin(n, at)
    };
    let begun = world.store.begin_sign_in(of_claim(1, NOW + 1_000)).await;
    assert_eq!(begun, Ok(Begun::Begun(Some(terminal))));
    assert_eq!(held_until(world, claim).await, HOLD_SIGNING_IN_MS);
    assert!(world.revision(terminal).await > revision);
    let begun = world.store.begin_sign_in(of_claim(2, NOW + 50_000)).await;
    assert_eq!(begun, Ok(Begun::Begun(None)), "again, and no longer");
    assert_eq!(held_until(world, claim).await, HOLD_SIGNING_IN_MS);
    let signed_in = |n, ms| NewSession {
        claim: Some(claim),
        ..new_session(n, "ann", NOW + ms)
    };
    let started = start(world, &signed_in(1, 100_000)).await;
    assert_eq!(started.held, Some(terminal));
    let longer = 100_000 + HOLD_SIGNED_IN_MS;
    assert_eq!(held_until(world, claim).await, longer);
    let started = start(world, &signed_in(2, 200_000)).await;
    assert_eq!(started.held, None);
    assert_eq!(held_until(world, claim).await, longer);
    let released = world.store.release_claim(claim, Vec::new(), LATER).await;
    assert_eq!(released, Ok(true));
    let begun = world.store.begin_sign_in(of_claim(3, NOW)).await;
    assert_eq!(begun, Ok(Begun::Begun(None)), "nothing is held");

    let late = world.claimed(terminal).await.claimed.claim;
    let session = NewSession {
        claim: Some(late),
        ..new_session(4, "ann", NOW + HOLD_MS)
    };
    assert_eq!(start(world, &session).await.held, None, "it is over");
    assert_eq!(held_until(world, late).await, HOLD_MS);
}

/// Whoever claims first and signs in afterwards holds no more than whoever signs in first.
pub(crate) async fn signing_in_afterwards_holds_no_more_claims(world: &World) {
    let mut claims = Vec::new();
    for n in 1..=4 {
        let terminal = world.terminal(n).await;
        world.start(terminal, 420).await;
        claims.push(world.claimed(terminal).await.claimed.claim);
    }
    let signs_in = async |n: u8, claim: usize, name: &str| {
        let session = NewSession {
            claim: Some(claims[claim]),
            held_max: 2,
            ..new_session(n, name, NOW + i64::from(n))
        };
        start(world, &session).await.held.is_some()
    };
    assert!(signs_in(1, 0, "ann").await && signs_in(2, 1, "ann").await);
    assert!(!signs_in(3, 2, "ann").await, "the third");
    assert_eq!(held_until(world, claims[2]).await, HOLD_MS);
    assert!(signs_in(4, 2, "bob").await, "somebody else may");
    let mut known = world.claim_of(world.shown(number(1), Channel::Qr).await);
    (known.person, known.held_max) = (Some(person("ann")), 2);
    let charged = world.terminal(5).await;
    world.start(charged, 420).await;
    known.live = world.shown(charged, Channel::Qr).await;
    let claimed = world.store.claim(known.clone()).await;
    assert_eq!(claimed, Ok(ClaimOutcome::TooMany), "they count as hers");
    let released = world.store.release_claim(claims[0], Vec::new(), NOW);
    assert_eq!(released.await, Ok(true));
    let claimed = world.store.claim(known).await.unwrap();
    assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
    let locked = world.store.lock(person("eve"), "lost".into(), None, NOW);
    assert_eq!(locked.await, Ok(Locked::Unknown));
    start(world, &new_session(8, "eve", NOW)).await;
    let locked = world.store.lock(person("eve"), "lost".into(), None, NOW);
    assert_eq!(locked.await, Ok(Locked::Done));
    assert!(!signs_in(5, 3, "eve").await, "she is locked");
}

pub(crate) async fn what_a_provider_opened_ends_when_it_is_gone(world: &World) {
    for n in 1..=3 {
        start(world, &new_session(n, "ann", NOW)).await;
    }
    let end = |issuers: &[&str], limit| {
        let issuers = issuers.iter().map(|it| (*it).to_owned()).collect();
        world.store.end_sessions_of_others(issuers, LATER, limit)
    };
    assert_eq!(end(&["https://id.example", "https://b"], 9).await, Ok(0));
    assert_eq!(end(&["https://b"], 2).await, Ok(2));
    assert_eq!(end(&[], 2).await, Ok(1));
    assert_eq!(end(&[], 2).await, Ok(0));
    for n in 1..=3 {
        assert_eq!(ended(world, n).await, Some(EndReason::Provider));
    }
}

pub(crate) async fn one_browser_begins_so_many_sign_ins_and_no_more(world: &World) {
    let most = u8::try_from(ATTEMPTS_OF_VISITOR_MAX).unwrap();
    for n in 0..most {
        let begun = world.store.begin_sign_in(begin(n, NOW)).await;
        assert_eq!(begun, Ok(Begun::Begun(None)));
    }
    let one_more = world.store.begin_sign_in(begin(most, NOW)).await;
    assert_eq!(one_more, Ok(Begun::TooMany));
    let of_another = BeginSignIn {
        visitor: hash(101),
        ..begin(most, NOW)
    };
    let another = world.store.begin_sign_in(of_another).await;
    assert_eq!(another, Ok(Begun::Begun(None)));
    let taken = world.store.take_attempt(hash(0), hash(100), NOW).await;
    assert!(matches!(taken, Ok(Taken::Taken(_))));
    let room = world.store.begin_sign_in(begin(most + 1, NOW)).await;
    assert_eq!(room, Ok(Begun::Begun(None)), "one has come back");
}

pub(crate) async fn a_full_table_of_sign_ins_refuses_nobody(world: &World) {
    const FULL: u8 = 5;
    let of_visitor = |n: u8| BeginSignIn {
        visitor: [n; 32],
        waiting_max: FULL.into(),
        ..begin(n, NOW + Millis::from(n))
    };
    for n in 0..=FULL {
        let begun = world.store.begin_sign_in(of_visitor(n)).await;
        assert_eq!(begun, Ok(Begun::Begun(None)));
    }
    let now = NOW + Millis::from(FULL);
    let taken = async |it: &BeginSignIn| {
        let taken = world.store.take_attempt(it.state, it.visitor, now).await;
        taken.unwrap()
    };
    let first = taken(&of_visitor(0)).await;
    assert!(matches!(first, Taken::Unknown), "the oldest made room");
    let second = taken(&of_visitor(1)).await;
    assert!(matches!(second, Taken::Taken(_)), "and nobody else");
    assert!(matches!(taken(&of_visitor(FULL)).await, Taken::Taken(_)));
}

pub(crate) async fn a_profile_has_so_many_sessions_and_no_more(world: &World) {
    let most = u8::try_from(SESSIONS_MAX).unwrap();
    for n in 0..=most {
        let at = NOW + Millis::from(n);
        start(world, &new_session(n, "ann", at)).await;
    }
    assert_eq!(ended(world, 0).await, Some(EndReason::TooMany));
    assert_eq!(ended(world, 1).await, None);
}

pub(crate) async fn a_provider_ends_sessions_of_its_own_and_says_so_once(world: &World) {
    for (n, name) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        start(world, &new_session(n, name, NOW)).await;
    }
    let logout = |jti: &str, subject: Option<&str>, sid: Option<&str>| ProviderLogout {
        issuer: person("ann").issuer,
        subject: subject.map(Into::into),
        provider_session: sid.map(Into::into),
        jti: jti.into(),
        at: LATER,
        forget_at: LATER + 600_000,
    };
    let end = |logout| world.store.end_by_provider(logout);
    let foreign = ProviderLogout {
        issuer: "https://other.example".into(),
        ..logout("0", Some("ann"), None)
    };
    assert_eq!(end(foreign).await, Ok(LoggedOut::Ended(0)));
    let others_sid = logout("1", Some("bob"), Some("sid 1"));
    assert_eq!(end(others_sid).await, Ok(LoggedOut::Ended(0)));
    let by_sid = logout("2", None, Some("sid 1"));
    assert_eq!(end(by_sid.clone()).await, Ok(LoggedOut::Ended(1)));
    assert_eq!(ended(world, 1).await, Some(EndReason::Provider));
    assert_eq!(ended(world, 2).await, None);
    let by_subject = logout("3", Some("ann"), None);
    assert_eq!(end(by_subject.clone()).await, Ok(LoggedOut::Ended(1)));
    assert_eq!(ended(world, 3).await, None, "somebody else's");
    start(world, &new_session(4, "ann", LATER)).await;
    assert_eq!(end(by_subject).await, Ok(LoggedOut::Replayed));
    assert_eq!(ended(world, 4).await, None, "it was said before");
}

pub(crate) async fn what_is_over_is_forgotten(world: &World) {
    world.store.begin_sign_in(begin(1, NOW)).await.unwrap();
    start(world, &new_session(1, "ann", NOW)).await;
    let logout = ProviderLogout {
        issuer: "https://id.example".into(),
        subject: Some("bob".into()),
        provider_session: None,
        jti: "1".into(),
        at: NOW,
        forget_at: NOW + 1_000,
    };
    world.store.end_by_provider(logout).await.unwrap();
    let forget = |before, now| world.store.forget_sign_ins(before, now, 100);
    assert_eq!(forget(NOW - 1, NOW).await, Ok(0));
    assert_eq!(forget(NOW - 1, NOW + 1_000).await, Ok(1));
    assert_eq!(forget(NOW - 1, LATER).await, Ok(1));
    assert!(session(world, 1).await.is_some());
    assert_eq!(forget(NOW, LATER).await, Ok(1));
    assert_eq!(session(world, 1).await, None);
}

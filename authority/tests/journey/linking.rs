//! Does an account join the profile that its owner means, and no other?

use authority::services::profiles::OwnProfile;
use authority::services::sign_in::FRESH_MS;
use protocol::problem::Problem;
use rusqlite::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::browser::{Browser, location};
use crate::openid::OpenId;
use crate::relying::{back, begin, sign_in};
use crate::world::World;

struct Place {
    world: World,
    bank: OpenId,
    wallet: OpenId,
}

async fn place() -> Place {
    let (bank, wallet) = (OpenId::start("bank").await, OpenId::start("wallet").await);
    let both = [(&bank, Some("bank")), (&wallet, Some("wallet"))];
    let world = World::where_browsers_sign_in(&both).await;
    Place {
        world,
        bank,
        wallet,
    }
}

impl Place {
    async fn profile(&self, browser: &Browser) -> OwnProfile {
        let visitor = browser.visitor(&self.world).await;
        let session = visitor.session().expect("signed in");
        self.world.journey.profiles.of(session).await.unwrap()
    }

    /// A signed-in browser goes to the wallet to link `subject`; answers the offered link.
    async fn offer(&self, browser: &Browser, subject: &str) -> Uuid {
        // Identities are listed as they came.
        self.world.advance(1_000);
        let (world, wallet) = (&self.world, &self.wallet);
        let request = begin(world, wallet, browser, &[("purpose", "link")]).await;
        assert_eq!(request["prompt"], "login");
        let code = wallet.code(wallet.claims(&request, subject, world.now().secs()));
        let answer = back(world, wallet, browser, &request, &code).await;
        let place = location(&answer);
        let link = place.strip_prefix("/me/link/").unwrap();
        link.parse().unwrap()
    }

    async fn join(&self, browser: &Browser, link: Uuid) -> Result<(), Problem> {
        let visitor = browser.visitor(&self.world).await;
        let session = visitor.demand_session().map_err(|it| it.into_problem())?;
        let (profiles, now) = (&self.world.journey.profiles, self.world.now());
        let joined = profiles.join(session, link, now).await;
        joined.map_err(|failure| failure.into_problem())
    }
}

fn names(profile: &OwnProfile) -> Vec<&str> {
    let providers = profile.identities.iter().map(|it| it.provider.as_str());
    providers.collect()
}

#[track_caller]
fn refused(result: Result<(), Problem>, slug: &str) {
    let problem = result.unwrap_err();
    assert_eq!(problem.problem_type().unwrap().slug(), slug);
}

#[tokio::test]
async fn two_accounts_open_one_profile_once_its_owner_has_seen_which() {
    let place = place().await;
    let world = &place.world;
    let browser = Browser::new();
    sign_in(world, &place.bank, &browser, "ann").await;
    let link = place.offer(&browser, "ann-w").await;
    assert_eq!(
        names(&place.profile(&browser).await),
        ["Wallet bank"],
        "not yet"
    );
    let visitor = browser.visitor(world).await;
    let session = visitor.session().unwrap();
    let profiles = &world.journey.profiles;
    let joining = profiles.joining(session, link, world.now()).await.unwrap();
    assert_eq!(joining.provider, "Wallet wallet");
    assert_eq!(joining.accounts[0].name, "Wallet wallet");
    assert_eq!(names(&joining.profile), ["Wallet bank"]);
    place.join(&browser, link).await.unwrap();
    let profile = place.profile(&browser).await;
    assert_eq!(names(&profile), ["Wallet bank", "Wallet wallet"]);
    assert_eq!(profile.accounts.len(), 2);
    assert!(profile.identities[0].is_current && !profile.identities[1].is_current);
    let other = Browser::new();
    sign_in(world, &place.wallet, &other, "ann-w").await;
    assert_eq!(place.profile(&other).await.identities.len(), 2);
    assert_eq!(place.profile(&other).await.accounts.len(), 2);
    refused(place.join(&browser, link).await, "sign-in-over");
}

#[tokio::test]
async fn nobody_is_lured_to_link_an_account_to_a_strangers_profile() {
    let place = place().await;
    let world = &place.world;
    let (mallory, victim) = (Browser::new(), Browser::new());
    sign_in(world, &place.bank, &mallory, "mallory").await;
    // Mallory begins, and the victim's browser comes back with the victim's code.
    let request = begin(world, &place.wallet, &mallory, &[("purpose", "link")]).await;
    let wallet = &place.wallet;
    let claims = wallet.claims(&request, "victim", world.now().secs());
    let code = wallet.code(claims);
    let answer = back(world, wallet, &victim, &request, &code).await;
    answer.refused(410, "sign-in-over");
    assert_eq!(place.profile(&mallory).await.identities.len(), 1);
    // A link that was offered to Mallory is nobody else's to confirm.
    let link = place.offer(&mallory, "mallory-w").await;
    sign_in(world, &place.bank, &victim, "victim").await;
    refused(place.join(&victim, link).await, "sign-in-over");
}

#[tokio::test]
async fn a_link_ends_with_the_session_that_began_it() {
    let place = place().await;
    let world = &place.world;
    let browser = Browser::new();
    sign_in(world, &place.bank, &browser, "ann").await;
    let request = begin(world, &place.wallet, &browser, &[("purpose", "link")]).await;
    let visitor = browser.visitor(world).await;
    let session = visitor.session().unwrap();
    world
        .journey
        .sessions
        .end(session, world.now())
        .await
        .unwrap();
    let wallet = &place.wallet;
    let code = wallet.code(wallet.claims(&request, "ann-w", world.now().secs()));
    let answer = back(world, wallet, &browser, &request, &code).await;
    answer.refused(410, "sign-in-over");
    assert_eq!(world.rows("SELECT count(*) FROM offered_links"), 0);
}

#[tokio::test]
async fn a_link_needs_a_fresh_sign_in_on_both_sides() {
    let place = place().await;
    let world = &place.world;
    let browser = Browser::new();
    let answer = browser
        .post(world, "/sign-in/wallet", &[("purpose", "link")])
        .await;
    answer.refused(401, "sign-in-needed");
    sign_in(world, &place.bank, &browser, "ann").await;
    world.advance(FRESH_MS + 1_000);
    let answer = browser
        .post(world, "/sign-in/wallet", &[("purpose", "link")])
        .await;
    answer.refused(403, "fresh-sign-in-needed");
    let fields = [("purpose", "profile"), ("fresh", "1")];
    let request = begin(world, &place.bank, &browser, &fields).await;
    assert_eq!(request["prompt"], "login");
    let bank = &place.bank;
    let code = bank.code(bank.claims(&request, "ann", world.now().secs()));
    back(world, bank, &browser, &request, &code).await;
    // The provider does not ask for the password again, although it was told to.
    for auth_time in [json!(world.now().secs() - 400), json!(null)] {
        let wallet = &place.wallet;
        let request = begin(world, wallet, &browser, &[("purpose", "link")]).await;
        let mut claims = wallet.claims(&request, "ann-w", world.now().secs());
        claims["auth_time"] = auth_time;
        let code = wallet.code(claims);
        let answer = back(world, wallet, &browser, &request, &code).await;
        answer.refused(502, "provider-refused");
    }
    let link = place.offer(&browser, "ann-w").await;
    world.advance(FRESH_MS);
    refused(place.join(&browser, link).await, "sign-in-over");
}

#[tokio::test]
async fn an_account_of_another_profile_is_refused_with_words() {
    let place = place().await;
    let world = &place.world;
    let (ann, bob) = (Browser::new(), Browser::new());
    sign_in(world, &place.bank, &ann, "ann").await;
    sign_in(world, &place.bank, &bob, "bob").await;
    let link = place.offer(&bob, "shared").await;
    place.join(&bob, link).await.unwrap();
    let link = place.offer(&ann, "shared").await;
    refused(place.join(&ann, link).await, "identity-taken");
    assert_eq!(place.profile(&bob).await.identities.len(), 2);
    // One that was only ever looked at moves.
    let looked = Browser::new();
    sign_in(world, &place.wallet, &looked, "empty").await;
    let link = place.offer(&ann, "empty").await;
    place.join(&ann, link).await.unwrap();
    assert_eq!(place.profile(&ann).await.identities.len(), 2);
    assert!(!looked.is_signed_in(world).await);
}

#[tokio::test]
async fn an_account_is_unlinked_by_a_fresh_sign_in_and_not_the_last() {
    let place = place().await;
    let world = &place.world;
    let browser = Browser::new();
    sign_in(world, &place.bank, &browser, "ann").await;
    let link = place.offer(&browser, "ann-w").await;
    place.join(&browser, link).await.unwrap();
    let handles: Vec<_> = {
        let profile = place.profile(&browser).await;
        profile.identities.into_iter().map(|it| it.handle).collect()
    };
    let unlink = async |handle: &str| {
        let visitor = browser.visitor(world).await;
        let session = visitor.session().unwrap();
        let done = world.journey.profiles.unlink(session, handle, world.now());
        done.await.map_err(|failure| failure.into_problem())
    };
    refused(unlink("another").await, "unknown");
    unlink(&handles[1]).await.unwrap();
    let profile = place.profile(&browser).await;
    assert_eq!(names(&profile), ["Wallet bank"]);
    assert_eq!(profile.accounts.len(), 1);
    refused(unlink(&handles[0]).await, "identity-last");
    world.advance(FRESH_MS + 1_000);
    refused(unlink(&handles[0]).await, "fresh-sign-in-needed");
}

#[tokio::test]
async fn a_locked_profile_is_not_left_by_any_door() {
    let place = place().await;
    let world = &place.world;
    let (browser, other) = (Browser::new(), Browser::new());
    sign_in(world, &place.bank, &browser, "ann").await;
    let link = place.offer(&browser, "ann-w").await;
    place.join(&browser, link).await.unwrap();
    sign_in(world, &place.bank, &other, "bob").await;
    sign_in(world, &place.wallet, &Browser::new(), "locked").await;
    let conn = Connection::open(world.database()).unwrap();
    let sql = "UPDATE persons SET locked_at_ms = 1, lock_reason = 'lost phone'";
    conn.execute(sql, []).unwrap();
    let visitor = browser.visitor(world).await;
    let (session, now) = (visitor.session().unwrap(), world.now());
    let profiles = &world.journey.profiles;
    let handle = profiles.of(session).await.unwrap().identities[1]
        .handle
        .clone();
    let problem = |done: Result<(), authority::services::Failure>| {
        done.map_err(|failure| failure.into_problem())
    };
    let unlinked = profiles.unlink(session, &handle, now).await;
    refused(problem(unlinked), "profile-locked");
    refused(
        problem(profiles.delete(session, now).await),
        "profile-locked",
    );
    // Whoever holds a locked profile leaves no key of theirs in it, either.
    let link = place.offer(&other, "locked").await;
    refused(place.join(&other, link).await, "profile-locked");
    let unlocked = "UPDATE persons SET locked_at_ms = NULL, lock_reason = NULL WHERE id IN
        (SELECT person FROM identities WHERE subject = 'bob')";
    conn.execute(unlocked, []).unwrap();
    let link = place.offer(&other, "locked").await;
    refused(place.join(&other, link).await, "identity-taken");
}

#[tokio::test]
async fn whoever_leaves_is_forgotten_and_their_sign_ins_end() {
    let place = place().await;
    let world = &place.world;
    let browser = Browser::new();
    sign_in(world, &place.bank, &browser, "ann").await;
    let visitor = browser.visitor(world).await;
    let session = visitor.session().unwrap();
    let profiles = &world.journey.profiles;
    let seen = profiles.sign_ins(session).await.unwrap();
    assert_eq!((seen.len(), seen[0].is_current), (1, true));
    profiles.delete(session, world.now()).await.unwrap();
    assert!(!browser.is_signed_in(world).await);
    let conn = Connection::open(world.database()).unwrap();
    for table in ["identities", "sessions", "service_accounts"] {
        let sql = format!("SELECT count(*) FROM {table} WHERE subject = 'ann'");
        let found: u32 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        // The world's own Ann, of another provider, is somebody else.
        assert_eq!(found, u32::from(table == "identities"), "{table}");
    }
}

#[tokio::test]
async fn accounts_come_with_the_sign_in_and_stay_when_the_provider_cannot_be_asked() {
    let place = place().await;
    let (world, bank) = (&place.world, &place.bank);
    let browser = Browser::new();
    let accounts = async || {
        let profile = place.profile(&browser).await;
        let all = profile.accounts.into_iter();
        all.map(|it| (it.rail, it.name)).collect::<Vec<_>>()
    };
    let named = |names: &[&str]| {
        let pair = |name: &&str| ("bank".to_owned(), (*name).to_owned());
        names.iter().map(pair).collect::<Vec<_>>()
    };
    let says = |accounts: Value| {
        let answer = json!({ "sub": "ann", "m2key_accounts": accounts });
        bank.script().user_info = Some(answer);
    };
    says(json!([
        { "id": "1", "name": "Current", "currency": "EUR" },
        { "id": "2", "name": "Savings", "currency": "EUR" },
    ]));
    sign_in(world, bank, &browser, "ann").await;
    assert_eq!(accounts().await, named(&["Current", "Savings"]));
    for broken in [json!({ "sub": "bob", "m2key_accounts": [] }), json!([])] {
        bank.script().user_info = Some(broken);
        let answer = sign_in(world, bank, &browser, "ann").await;
        assert_eq!(location(&answer), "/me", "the sign-in itself is good");
        assert_eq!(accounts().await, named(&["Current", "Savings"]));
    }
    says(json!([{ "id": "2", "name": "Savings", "currency": "EUR" }]));
    sign_in(world, bank, &browser, "ann").await;
    assert_eq!(accounts().await, named(&["Savings"]));
    says(json!([]));
    sign_in(world, bank, &browser, "ann").await;
    assert_eq!(accounts().await, named(&[]));
}

//! Does a profile belong to whoever its identities are, and to nobody else?

use authority::store::{
    Brought, BroughtAccount, ClaimOutcome, Deleted, EndReason, Linked, NewSession, OfferLink,
    PersonKey, Profile, Unlinked,
};
use protocol::money::Currency;
use protocol::token::Channel;
use uuid::Uuid;

use crate::world::{LATER, NOW, World, person};

use super::sign_ins::{ended, new_session, start};

fn accounts(rail: &str, all: &[(&str, &str)]) -> Brought {
    let account = |(reference, name): &(&str, &str)| BroughtAccount {
        reference: (*reference).into(),
        name: (*name).into(),
        currency: Currency::EUR,
    };
    Brought {
        rail: rail.into(),
        accounts: all.iter().map(account).collect(),
    }
}

async fn profile(world: &World, name: &str) -> Option<Profile> {
    world.store.profile(person(name)).await.unwrap()
}

async fn names(world: &World, name: &str) -> Vec<String> {
    let profile = profile(world, name).await.unwrap();
    profile.accounts.into_iter().map(|it| it.name).collect()
}

async fn opened_by(world: &World, name: &str) -> Vec<PersonKey> {
    let profile = profile(world, name).await.unwrap();
    profile.identities.into_iter().map(|it| it.key).collect()
}

fn offer(n: u8, session: &NewSession, name: &str, brought: Option<Brought>) -> OfferLink {
    OfferLink {
        id: Uuid::from_bytes([n; 16]),
        session: session.id,
        identity: person(name),
        provider: "Example Wallet".into(),
        brought,
        at: NOW,
        expires_at: NOW + 300_000,
    }
}

/// `name` joins the profile of `session`.
pub(super) async fn link(world: &World, n: u8, session: &NewSession, name: &str) -> Linked {
    let offer = offer(n, session, name, None);
    let (id, of) = (offer.id, offer.session);
    world.store.offer_link(offer).await.unwrap();
    world.store.link(id, of, NOW + 1).await.unwrap()
}

pub(crate) async fn an_identity_brings_its_accounts_and_takes_them_back(world: &World) {
    let sign_in = async |n, all: &[(&str, &str)]| {
        let session = NewSession {
            brought: Some(accounts("bank", all)),
            ..new_session(n, "ann", NOW)
        };
        start(world, &session).await;
        names(world, "ann").await
    };
    let two = [("1", "Current"), ("2", "Savings")];
    assert_eq!(sign_in(1, &two).await, ["Current", "Savings"]);
    let ids = |profile: Profile| {
        profile
            .accounts
            .into_iter()
            .map(|it| it.id)
            .collect::<Vec<_>>()
    };
    let before = ids(profile(world, "ann").await.unwrap());
    let renamed = [("1", "Daily"), ("2", "Savings")];
    assert_eq!(sign_in(2, &renamed).await, ["Daily", "Savings"]);
    assert_eq!(ids(profile(world, "ann").await.unwrap()), before);
    assert_eq!(sign_in(3, &[("2", "Savings")]).await, ["Savings"]);
    assert_eq!(sign_in(4, &[]).await, [""; 0]);
    assert_eq!(sign_in(5, &[("1", "Current")]).await, ["Current"]);
    let kinds = world.audit_kinds().await;
    let count = |kind: &str| kinds.iter().filter(|it| *it == kind).count();
    assert_eq!(count("service-account.brought"), 3);
    assert_eq!(count("service-account.closed"), 2);
}

pub(crate) async fn an_identity_joins_the_profile_of_the_session_that_asked(world: &World) {
    let (ann, mallory) = (new_session(1, "ann", NOW), new_session(2, "mallory", NOW));
    start(world, &ann).await;
    start(world, &mallory).await;
    let brought = Some(accounts("wallet", &[("9", "Wallet")]));
    let offered = offer(1, &ann, "ann at the wallet", brought);
    let id = offered.id;
    world.store.offer_link(offered).await.unwrap();
    let store = &world.store;
    let shown = store.offered_link(id, ann.id, NOW).await.unwrap().unwrap();
    assert_eq!(shown.provider, "Example Wallet");
    assert_eq!(shown.accounts[0].name, "Wallet");
    assert_eq!(store.offered_link(id, mallory.id, NOW).await, Ok(None));
    let late = NOW + 300_000;
    assert_eq!(store.offered_link(id, ann.id, late).await, Ok(None));
    assert_eq!(store.link(id, mallory.id, NOW).await, Ok(Linked::Unknown));
    assert_eq!(store.link(id, ann.id, late).await, Ok(Linked::Unknown));
    assert_eq!(store.link(id, ann.id, NOW).await, Ok(Linked::Done));
    assert_eq!(store.link(id, ann.id, NOW).await, Ok(Linked::Unknown));
    let both = [person("ann"), person("ann at the wallet")];
    assert_eq!(opened_by(world, "ann at the wallet").await, both);
    assert_eq!(names(world, "ann").await, ["Wallet"]);
    assert_eq!(
        link(world, 2, &ann, "ann at the wallet").await,
        Linked::Already
    );
    assert_eq!(opened_by(world, "mallory").await, [person("mallory")]);
    store.end_session(ann.id, NOW).await.unwrap();
    assert_eq!(link(world, 3, &ann, "other").await, Linked::Unknown);
}

pub(crate) async fn an_identity_of_a_profile_in_use_does_not_move(world: &World) {
    let ann = new_session(1, "ann", NOW);
    start(world, &ann).await;
    world.shopper("bob", 0).await;
    assert_eq!(link(world, 1, &ann, "bob").await, Linked::Taken);
    let carl = new_session(2, "carl", NOW);
    start(world, &carl).await;
    assert_eq!(
        link(world, 2, &carl, "carl at the bank").await,
        Linked::Done
    );
    assert_eq!(link(world, 3, &ann, "carl").await, Linked::Taken);
    assert_eq!(opened_by(world, "ann").await, [person("ann")]);
    assert_eq!(opened_by(world, "carl").await.len(), 2);
}

pub(crate) async fn an_identity_of_an_empty_profile_moves(world: &World) {
    let ann = new_session(1, "ann", NOW);
    start(world, &ann).await;
    let elsewhere = NewSession {
        brought: Some(accounts("wallet", &[("9", "Wallet")])),
        ..new_session(2, "ann at the wallet", NOW)
    };
    start(world, &elsewhere).await;
    let offered = offer(1, &ann, "ann at the wallet", elsewhere.brought.clone());
    let id = offered.id;
    world.store.offer_link(offered).await.unwrap();
    assert_eq!(world.store.link(id, ann.id, NOW).await, Ok(Linked::Done));
    assert_eq!(opened_by(world, "ann").await.len(), 2);
    assert_eq!(names(world, "ann").await, ["Wallet"]);
    let gone = world.store.session(elsewhere.secret).await;
    assert_eq!(gone, Ok(None), "its session went with its profile");
    let kinds = world.audit_kinds().await;
    assert!(kinds.contains(&"profile.deleted".into()), "{kinds:?}");
}

pub(crate) async fn an_identity_leaves_and_the_last_one_stays(world: &World) {
    let ann = new_session(1, "ann", NOW);
    start(world, &ann).await;
    let brought = Some(accounts("wallet", &[("9", "Wallet")]));
    let offered = offer(1, &ann, "wallet ann", brought.clone());
    let id = offered.id;
    world.store.offer_link(offered).await.unwrap();
    world.store.link(id, ann.id, NOW).await.unwrap();
    let second = NewSession {
        brought,
        ..new_session(2, "wallet ann", NOW)
    };
    start(world, &second).await;
    let unlink = |by, it| world.store.unlink(person(by), person(it), LATER);
    assert_eq!(unlink("ann", "nobody").await, Ok(Unlinked::Unknown));
    start(world, &new_session(3, "bob", NOW)).await;
    assert_eq!(unlink("bob", "wallet ann").await, Ok(Unlinked::Unknown));
    assert_eq!(unlink("ann", "wallet ann").await, Ok(Unlinked::Done));
    assert_eq!(ended(world, 2).await, Some(EndReason::Unlinked));
    assert_eq!(ended(world, 1).await, None);
    assert_eq!(names(world, "ann").await, [""; 0]);
    assert_eq!(profile(world, "wallet ann").await, None);
    assert_eq!(unlink("ann", "ann").await, Ok(Unlinked::Last));
}

pub(crate) async fn a_default_account_is_offered_first(world: &World) {
    let session = NewSession {
        brought: Some(accounts("bank", &[("1", "Current"), ("2", "Savings")])),
        ..new_session(1, "ann", NOW)
    };
    start(world, &session).await;
    world.shopper("bob", 0).await;
    let offered = profile(world, "ann").await.unwrap().accounts;
    let (current, savings) = (offered[0].id, offered[1].id);
    let pays_from = |chosen| {
        let account = world
            .store
            .account_to_pay(person("ann"), chosen, Currency::EUR);
        async { account.await.unwrap() }
    };
    assert_eq!(pays_from(None).await, Some(current));
    assert_eq!(pays_from(Some(savings)).await, Some(savings));
    let set = |name, id| world.store.set_default_account(person(name), id, NOW);
    assert_eq!(set("bob", savings).await, Ok(false), "not his");
    assert_eq!(set("ann", savings).await, Ok(true));
    assert_eq!(names(world, "ann").await, ["Savings", "Current"]);
    assert_eq!(pays_from(None).await, Some(savings));
    assert_eq!(pays_from(Some(current)).await, Some(current));
    let fewer = NewSession {
        brought: Some(accounts("bank", &[("1", "Current")])),
        ..new_session(2, "ann", NOW)
    };
    start(world, &fewer).await;
    assert_eq!(set("ann", savings).await, Ok(false), "it is closed");
    assert!(!profile(world, "ann").await.unwrap().accounts[0].is_default);
}

pub(crate) async fn a_profile_that_is_deleted_names_nobody_and_comes_not_back(world: &World) {
    let session = NewSession {
        brought: Some(accounts("bank", &[("1", "Current")])),
        ..new_session(1, "ann", NOW)
    };
    start(world, &session).await;
    let merchant = world.merchant().await;
    let deleted = world.store.delete_profile(person("ann"), LATER).await;
    assert_eq!(deleted, Ok(Deleted::Done));
    assert_eq!(profile(world, "ann").await, None);
    let gone = world.store.session(session.secret).await;
    assert_eq!(gone, Ok(None));
    let again = world.store.delete_profile(person("ann"), LATER).await;
    assert_eq!(again, Ok(Deleted::Unknown));
    start(world, &new_session(2, "ann", LATER)).await;
    assert_eq!(names(world, "ann").await, [""; 0], "a new profile");
    let rows = world.store.audit_rows(crate::NODE, 0, u32::MAX).await;
    for row in rows.unwrap() {
        assert!(!row.row.body.contains("\"ann\""), "{}", row.row.body);
    }
    drop(merchant);
}

pub(crate) async fn a_profile_with_money_or_a_claim_is_not_deleted(world: &World) {
    let rich = world.shopper("rich", 1).await;
    let delete = |who: &PersonKey| world.store.delete_profile(who.clone(), LATER);
    assert_eq!(delete(&rich).await, Ok(Deleted::BalanceLeft));
    let poor = world.shopper("poor", 0).await;
    let terminal = world.terminal(1).await;
    world.start(terminal, 420).await;
    let mut claim = world.claim_of(world.shown(terminal, Channel::Code).await);
    claim.person = Some(poor.clone());
    let id = claim.id;
    let claimed = world.store.claim(claim).await.unwrap();
    assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
    assert_eq!(delete(&poor).await, Ok(Deleted::Unsettled));
    world
        .store
        .release_claim(id, Vec::new(), LATER)
        .await
        .unwrap();
    assert_eq!(delete(&poor).await, Ok(Deleted::Done));
}

//! Does a link that its tag signed pay wherever a link is taken, once, and nothing else in its place?

use authority::services::operators::{TagKeys, TagRetire, TagShow, TagView, Tags, Verb, carry_out};
use authority::services::unproven::UNPROVEN_MAX;
use authority::store::Reports as _;
use protocol::aes_key::AesKey;
use protocol::ids::{EventId, TerminalId};
use protocol::sun::{SunKeys, TagUid};
use protocol::token::Channel;
use protocol::wire::reports::{Seen, SeenWindow, TagSigns, TerminalEvent};
use protocol::wire::wallet::WalletView;

use crate::browser::{Browser, location};
use crate::pages::{Place, says};
use crate::tapping::signed;
use crate::wallet::{App, app::read, paid};
use crate::world::World;

/// A tag on the terminal's reader, and what whoever made its keys knows.
pub struct Tag {
    uid: TagUid,
    keys: SunKeys,
}

impl Tag {
    pub async fn of(world: &World, terminal: TerminalId, uid: u8) -> Self {
        let uid = TagUid::from_bytes([4, 1, 2, 3, 4, 5, uid]);
        let made = ask(world, TagKeys { terminal, uid }).await;
        let key = |name: &str| {
            let line = made
                .file
                .expose()
                .lines()
                .find(|it| it.starts_with(name))
                .unwrap();
            let hex = line.split('"').nth(1).unwrap();
            let byte = |at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
            AesKey::from_bytes(std::array::from_fn(byte))
        };
        let keys = SunKeys {
            meta: key("meta"),
            mac: key("mac"),
        };
        Self { uid, keys }
    }

    /// What a phone reads when it is the `counter`th.
    pub fn read(&self, link: &str, counter: u32) -> String {
        let plain = link.rsplit('/').next().unwrap();
        let link = link.strip_suffix(plain).unwrap();
        format!("{link}{}", signed(&self.keys, self.uid, counter, plain))
    }
}

async fn ask<V: Verb>(world: &World, verb: V) -> V::Answer {
    carry_out(&world.app, "olga", verb).await.unwrap()
}

async fn shown(world: &World, uid: TagUid) -> TagView {
    let Tags { mut tags } = ask(world, TagShow { uid }).await;
    tags.remove(0)
}

/// What the agent tells when it has written on it.
async fn written(world: &World, tag: &Tag, counter: u32) {
    let window = SeenWindow {
        channel: Channel::Nfc,
        version: 1,
        epoch: 1,
        window: 1,
        turn: 0,
    };
    let event = TerminalEvent {
        id: EventId::from_parts(u64::from(counter), &[9; 10]),
        at: world.now(),
        what: Seen::TagWritten {
            tag_uid: tag.uid.to_string(),
            pages: 1,
            window,
            signs: Some(TagSigns {
                key_version: 1,
                counter,
            }),
            wear: None,
            counter: None,
        },
    };
    let stored = world
        .store
        .add_reports(world.terminal, vec![event], world.now());
    assert_eq!(stored.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_signed_link_pays_once_and_another_of_the_tag_pays_again() {
    let world = World::new().await;
    let tag = Tag::of(&world, world.terminal, 1).await;
    world.charge(420).await;
    let link = world.shown(Channel::Nfc).await;
    let read = tag.read(&link, 7);
    let phone = world.claimed(&read, None).await;
    assert_eq!(phone.view["channel"], "nfc");
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
    for again in [&read, &tag.read(&link, 8), &link] {
        world.claim(again, None).await.refused(409, "token-spent");
    }
    let shown = shown(&world, tag.uid).await;
    assert_eq!((shown.state.as_str(), shown.taps), ("signing", 1));
    world.charge(420).await;
    let next = world.shown(Channel::Nfc).await;
    // The same tap with another token has no mac; the tag's counter does not repeat.
    let moved = format!("{next}{}", &read[link.len()..]);
    world.claim(&moved, None).await.refused(403, "tag-refused");
    let repeated = tag.read(&next, 7);
    world
        .claim(&repeated, None)
        .await
        .refused(409, "token-spent");
    // Whoever was slower than the one before, and taps the new token.
    world.claimed(&tag.read(&next, 6), None).await;
}

#[tokio::test]
async fn a_look_and_a_claim_refuse_alike_what_is_no_tap_that_counts() {
    let world = World::new().await;
    let tag = Tag::of(&world, world.terminal, 1).await;
    let other = TerminalId::from_number(1).unwrap();
    world.add_terminal(other).await;
    let of_other = Tag::of(&world, other, 2).await;
    world.charge(420).await;
    let link = world.shown(Channel::Nfc).await;
    let qr = world.shown(Channel::Qr).await;
    let refused = async |link: &str, status: u16, slug: &str| {
        let looked = Browser::new().get(&world, path_of(link)).await;
        assert_eq!(looked.status, status, "{slug}");
        world.claim(link, None).await.refused(status, slug);
    };
    let damaged = |link: String| {
        let last = if link.ends_with('0') { "1" } else { "0" };
        format!("{}{last}", &link[..link.len() - 1])
    };
    refused(&damaged(tag.read(&link, 9)), 403, "tag-refused").await;
    refused(&of_other.read(&link, 9), 403, "tag-refused").await;
    // What a tag signs is what was written on it.
    refused(&tag.read(&qr, 9), 403, "token-unknown").await;
    refused(&format!("{}A", tag.read(&link, 9)), 400, "malformed-token").await;
    written(&world, &tag, 5).await;
    refused(&tag.read(&link, 5), 410, "token-passed").await;
    refused(&link, 403, "tap-unsigned").await;
    let reason = String::new();
    let uid = tag.uid;
    ask(&world, TagRetire { uid, reason }).await;
    refused(&tag.read(&link, 6), 403, "tag-refused").await;
    // It does not bind the terminal any more.
    let looked = Browser::new().get(&world, path_of(&link)).await;
    assert_eq!(looked.status, 200);
    world.claimed(&link, None).await;
}

#[tokio::test]
async fn a_token_that_is_not_good_now_costs_the_hsm_nothing() {
    let world = World::new().await;
    let tag = Tag::of(&world, world.terminal, 1).await;
    world.charge(420).await;
    let link = world.shown(Channel::Nfc).await;
    world.claimed(&tag.read(&link, 1), None).await;
    world.hsm_fails_once();
    world
        .claim(&tag.read(&link, 2), None)
        .await
        .refused(409, "token-spent");
    // The failure still waits for whoever asks the HSM.
    let uid = tag.uid;
    let terminal = world.terminal;
    let asked = carry_out(&world.app, "olga", TagKeys { terminal, uid }).await;
    assert!(asked.is_err());
}

#[tokio::test]
async fn macs_that_do_not_hold_cost_the_hsm_so_many_and_then_the_tag_pauses() {
    let world = World::new().await;
    let tag = Tag::of(&world, world.terminal, 1).await;
    world.charge(420).await;
    let link = world.shown(Channel::Nfc).await;
    let good = tag.read(&link, 1);
    let look = async |link: &str| Browser::new().get(&world, path_of(link)).await;
    // Links that hold count nothing, however many there are.
    for _ in 0..=UNPROVEN_MAX {
        assert_eq!(look(&good).await.status, 200);
    }
    let last = if good.ends_with('0') { "1" } else { "0" };
    let bad = format!("{}{last}", &good[..good.len() - 1]);
    for _ in 1..UNPROVEN_MAX {
        assert_eq!(look(&bad).await.status, 403);
    }
    // A try that the HSM did not answer is no miss.
    world.hsm_fails_once();
    assert_eq!(look(&good).await.status, 503);
    world.claim(&bad, None).await.refused(403, "tag-refused");
    // The failure waits for whoever asks the HSM.
    world.hsm_fails_once();
    for link in [&bad, &good] {
        let looked = look(link).await;
        assert_eq!(looked.status, 429);
        says(&looked, "The tag of this terminal pauses");
        assert!(looked.headers.contains_key("retry-after"));
        world.claim(link, None).await.refused(429, "tag-paused");
    }
    let (uid, terminal) = (tag.uid, world.terminal);
    let asked = carry_out(&world.app, "olga", TagKeys { terminal, uid }).await;
    assert!(asked.is_err());
    world.claimed(&world.shown(Channel::Qr).await, None).await;
}

#[tokio::test]
async fn a_browser_that_presses_or_taps_twice_has_one_claim() {
    let place = Place::new().await;
    let tag = Tag::of(&place.world, place.world.terminal, 1).await;
    place.world.charge(420).await;
    let link = place.link(Channel::Nfc).await;
    let (first, second) = (tag.read(&link, 1), tag.read(&link, 2));
    let browser = Browser::new();
    let looked = browser.get(&place.world, &first).await;
    assert_eq!(looked.status, 200);
    says(&looked, &first[3..]);
    let claim = place.claim(&browser, &first).await;
    for link in [&first, &second] {
        let again = place.claim(&Browser::with(&browser.secret()), link).await;
        assert_eq!(again, claim, "the answer to the first press was lost");
    }
    for link in [&first, &second] {
        let looked = browser.get(&place.world, link).await;
        assert_eq!(location(&looked), claim, "to what it is paying already");
        assert_eq!(place.claim(&browser, link).await, claim);
    }
    let stranger = Browser::new();
    for link in [&first, &second] {
        let answer = stranger
            .post(&place.world, "/claim", &[("token", &link[3..])])
            .await;
        assert_eq!(answer.status, 409);
    }
}

#[tokio::test]
async fn a_wallet_looks_and_pays_with_a_signed_link_and_asks_again_for_the_same() {
    let world = World::new().await;
    let tag = Tag::of(&world, world.terminal, 1).await;
    written(&world, &tag, 3).await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let link = world.shown(Channel::Nfc).await;
    ann.view(&link).await.refused(403, "tap-unsigned");
    let token = tag.read(&link, 4);
    let view: WalletView = read(&ann.view(&token).await);
    assert_eq!(view.payee.id, world.merchant);
    let payment = ann.signed(&token, 420).await;
    let first = paid(&ann.pay("one", &payment).await);
    let again = paid(&ann.pay("one", &payment).await);
    assert_eq!(again, first);
    assert_eq!(world.balance("ann").await, 5_000 - 420);
    assert_eq!(shown(&world, tag.uid).await.taps, 1);
}

fn path_of(link: &str) -> &str {
    link.strip_prefix("https://pay.example").unwrap()
}

//! Does a tag whose keys follow from the authority's HSM prove every tap, and is nothing taken in its
//! place?

use std::os::unix::fs::PermissionsExt;

use harness::pcsc::VirtualNtag424;
use harness::terminal::Terminal;
use harness::{World, wait};
use protocol::problem::ProblemType;
use protocol::sun::SunLink;
use protocol::token::Channel;
use serde_json::Value;

use super::{assert_refused, offer};

#[tokio::test]
async fn a_tag_with_keys_of_the_authority_pays_by_links_that_are_good_once() {
    let mut world = World::new().await.unwrap();
    let tag = VirtualNtag424::new(7);
    let uid = give_keys(&world, 0, &tag, "tag.keys");
    keys_are_in_their_file_alone(&world, &uid);
    personalise(&mut world, 0, tag).await;
    let charge = offer(&world).await;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let stranger = world.signed_in_phone("shopper-two").await.unwrap();
    let link = phone.tap(world.terminal()).await.unwrap();
    SunLink::parse(&link).unwrap();
    until(&world, &uid, "signing", |tag| tag["state"] == "signing").await;

    let unsigned = stranger.claim(plain(&link)).await.unwrap().err();
    assert_refused(unsigned, ProblemType::TapUnsigned);
    let mut forged = link.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == '0' { '1' } else { '0' });
    let refused = stranger.claim(&forged).await.unwrap().err();
    assert_refused(refused, ProblemType::TagRefused);

    let claim = phone.must_claim(&link).await.unwrap();
    assert_eq!(claim.view.channel, Channel::Nfc);
    let replayed = stranger.claim(&link).await.unwrap().err();
    assert_refused(replayed, ProblemType::TokenSpent);
    phone.must_approve(&claim).await.unwrap();
    world
        .terminal()
        .till()
        .unwrap()
        .paid(charge.charge)
        .await
        .unwrap();
    let tag = &shown(&world, &uid)[0];
    assert_eq!(
        (&tag["taps"], &tag["state"]),
        (&1.into(), &"signing".into())
    );

    // The tag has moved on; what was read before does not come back.
    let next = phone.tap_other_than(world.terminal(), &link).await.unwrap();
    assert_ne!(plain(&next), plain(&link));
    offer(&world).await;
    let scanned = phone.scan(world.terminal()).await.unwrap();
    phone.must_claim(&scanned).await.unwrap();
    let audit = world.authority.verb(&["audit", "verify"]).unwrap();
    assert_eq!(audit["holds"], true);
}

#[tokio::test]
async fn a_link_that_was_read_before_the_last_write_is_refused_though_its_token_is_good() {
    let mut world = World::new().await.unwrap();
    let tag = VirtualNtag424::new(7);
    let uid = give_keys(&world, 0, &tag, "tag.keys");
    personalise(&mut world, 0, tag).await;
    offer(&world).await;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let (harvested, fresh) = loop {
        let harvested = phone.tap(world.terminal()).await.unwrap();
        // It is blanked when the agent stops, and written again with what is shown now.
        world.terminal_mut().stop_agent().await.unwrap();
        world.terminal_mut().run().await.unwrap();
        let fresh = phone.tap(world.terminal()).await.unwrap();
        if plain(&harvested) == plain(&fresh) {
            break (harvested, fresh);
        }
    };
    until(&world, &uid, "a floor", |tag| {
        tag["read_floor"].as_u64() > Some(0)
    })
    .await;
    let refused = phone.claim(&harvested).await.unwrap().err();
    assert_refused(refused, ProblemType::TokenPassed);
    let claim = phone.must_claim(&fresh).await.unwrap();
    phone.must_approve(&claim).await.unwrap();
}

#[tokio::test]
async fn a_tag_of_another_terminal_and_a_retired_one_are_refused() {
    let mut world = World::new().await.unwrap();
    world.add_terminal().await.unwrap();
    let (own, astray) = (VirtualNtag424::new(7), VirtualNtag424::new(8));
    let uid = give_keys(&world, 0, &own, "tag.keys");
    // Keys that were made for the first terminal, on a tag at the second.
    let strayed = give_keys(&world, 0, &astray, "astray.keys");
    let file = |n: usize, name: &str| world.terminals[n].file(name);
    std::fs::copy(file(0, "astray.keys"), file(1, "tag.keys")).unwrap();
    personalise(&mut world, 0, own).await;
    personalise(&mut world, 1, astray).await;
    offer(&world).await;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let link = phone.tap(world.terminal()).await.unwrap();
    let elsewhere = phone.tap(&world.terminals[1]).await.unwrap();
    let refused = phone.claim(&elsewhere).await.unwrap().err();
    assert_refused(refused, ProblemType::TagRefused);
    // What the second terminal shows, with a tap of the first one's tag.
    let copied = format!("{}{}", plain(&elsewhere), &link[plain(&link).len()..]);
    let refused = phone.claim(&copied).await.unwrap().err();
    assert_refused(refused, ProblemType::TagRefused);
    assert_eq!(shown(&world, &strayed)[0]["state"], "made");

    until(&world, &uid, "signing", |tag| tag["state"] == "signing").await;
    let retire = ["tag", "retire", &uid, "--reason", "stolen"];
    let retired = world.authority.verb(&retire).unwrap();
    assert_eq!(retired["tags"][0]["retired_because"], "stolen");
    let refused = phone.claim(&link).await.unwrap().err();
    assert_refused(refused, ProblemType::TagRefused);
    // Until it has another tag that signs, its links are taken as they were before it had one.
    let claim = phone.must_claim(plain(&link)).await.unwrap();
    phone.must_approve(&claim).await.unwrap();
}

/// The tag's number, once the authority has made its keys in this file of the terminal's.
fn give_keys(world: &World, terminal: usize, tag: &VirtualNtag424, file: &str) -> String {
    let terminal = &world.terminals[terminal];
    let uid: String = tag.uid().iter().map(|b| format!("{b:02X}")).collect();
    let out = terminal.file(file);
    let id = terminal.id().to_string();
    let out = out.to_str().unwrap();
    let keys = [
        "tag",
        "keys",
        "--terminal",
        &id,
        "--uid",
        &uid,
        "--out",
        out,
    ];
    let made = world.authority.verb(&keys).unwrap();
    assert_eq!(made["key_version"], 1);
    uid
}

fn keys_are_in_their_file_alone(world: &World, uid: &str) {
    let out = world.terminal().file("tag.keys");
    let mode = std::fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_to_string(&out).unwrap();
    let id = world.terminal().id().to_string();
    let out = out.to_str().unwrap();
    let keys = ["tag", "keys", "--terminal", &id, "--uid", uid, "--out", out];
    let again = world.authority.say(&keys).unwrap();
    assert_ne!(again.code, 0, "a file that is there is never written over");
    assert_eq!(std::fs::read_to_string(out).unwrap(), kept);
    let made = shown(world, uid);
    assert_eq!(
        made.as_array().unwrap().len(),
        1,
        "and nothing was asked for"
    );
    let keys: Vec<&str> = kept.lines().filter_map(|it| it.split('"').nth(1)).collect();
    let said = format!("{made}{}{}", again.out, again.err);
    for key in keys.iter().filter(|it| it.len() == 32) {
        assert!(!said.contains(key));
        for log in std::fs::read_dir(world.logs()).unwrap() {
            let log = std::fs::read(log.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&log).contains(key));
        }
    }
}

/// Lays the tag on the reader and makes it the terminal's own.
async fn personalise(world: &mut World, terminal: usize, tag: VirtualNtag424) {
    let terminal: &mut Terminal = &mut world.terminals[terminal];
    terminal.kill_agent();
    terminal.replace_tag(tag).unwrap();
    terminal
        .tag_verb(&["personalise", "--keys", "tag.keys"])
        .unwrap();
    let checked = terminal.tag_verb(&["check"]).unwrap();
    assert!(
        checked.out.contains("signed at every tap"),
        "{}",
        checked.out
    );
    terminal.run().await.unwrap();
}

/// The link without what the tag added.
fn plain(link: &str) -> &str {
    let ends = link.rmatch_indices('.').nth(1).unwrap().0;
    &link[..ends]
}

fn shown(world: &World, uid: &str) -> Value {
    let mut shown = world.authority.verb(&["tag", "show", uid]).unwrap();
    shown["tags"].take()
}

async fn until(world: &World, uid: &str, what: &str, is: impl Fn(&Value) -> bool) {
    let look = async || is(&shown(world, uid)[0]).then_some(());
    wait::until(what, look).await.unwrap();
}

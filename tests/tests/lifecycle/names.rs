//! An issuing key, a root, a terminal's or an operator's key is in other hands: do the verbs of its page in
//! docs/OPERATIONS.md put things right?
//!
//! One page, one test.

use std::process::Command;

use harness::process::Said;
use harness::wait;
use protocol::problem::ProblemType;

use crate::desk::Desk;
use crate::fleet::Fleet;
use crate::thief::Copied;

/// What `openssl verify` says of an issuing certificate, with the root's list in hand.
fn judged(fleet: &Fleet, issuing: &str, list: &str) -> Said {
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-crl_check", "-CRLfile", list, "-CAfile"]);
    verify.arg(fleet.world.authority.root());
    Said::by(verify.arg(issuing)).unwrap()
}

async fn nothing_else_was_disturbed(fleet: &Fleet, desk: &Desk<'_>) {
    let verified = fleet.world.authority.verb(&["audit", "verify"]).unwrap();
    assert_eq!(verified["holds"], true);
    assert_eq!(desk.ok("account check")["balanced"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stolen_issuing_key_signs_opens_nothing_and_everybody_else_is_told() {
    let fleet = Fleet::of(2).await.unwrap();
    let (desk, authority) = (fleet.desk(), &fleet.world.authority);
    desk.adds_operator("bob");
    desk.ok("policy set --required 1");
    let first = fleet.scratch("issuing-1.pem");
    std::fs::copy(authority.file("issuing.pem"), &first).unwrap();
    let place = fleet.world.dir().join("copied");
    let copied = Copied::from(&fleet.world.terminals[0], authority, &place).unwrap();

    // The thief makes himself an operator: good to everybody who asks the root alone.
    let dir = authority.file("");
    desk.ok(&format!("operator request mallory --dir {}", dir.display()));
    fleet.thief_becomes("mallory", &first).ok().unwrap();
    let said = desk.say_as("mallory", "terminal list");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("it was not issued here"), "{said:?}");

    let next = fleet.next_issuing(&desk);
    desk.issuing("taint m2key-issuing-1");
    fleet.all_renewed().await;
    // A consent under the tainted issuing CA counts for nothing: operators renew first.
    desk.ok("renew operator");
    desk.ok_as("bob", "renew operator");
    desk.ok("renew agents");
    desk.agreed("bob", "seed rotate --all --planned");
    for n in 0..2 {
        fleet.shopper_pays(n).await.unwrap();
    }
    // What was superseded is good for nothing here, and the thief's is not either.
    assert_eq!(copied.asks("/v1/schedule", None).await.unwrap(), 403);
    let said = desk.say_as("mallory", "terminal list");
    assert_eq!(said.code, 1, "{said:?}");

    // Terminals hear of it by the list of roots; whoever comes by that key does not get through TLS.
    let (denying, root) = (fleet.scratch("deny.json"), fleet.first_root());
    let root_pem = authority.root().display().to_string();
    desk.pki(&format!(
        "root trust deny {first} --first {root_pem} --out {denying}"
    ));
    desk.pki(&format!("root trust sign {denying} {root} --yes"));
    desk.agreed("bob", &format!("trust install {denying}"));
    fleet.follow(&desk, 1, 2).await;
    let at_the_door = async || {
        let said = desk.say_as("mallory", "terminal list");
        said.err.contains("do not trust each other").then_some(())
    };
    wait::until("the thief to be refused in TLS", at_the_door)
        .await
        .unwrap();
    for n in 0..2 {
        fleet.pays_again(n).await.unwrap();
    }

    let list = fleet.scratch("root.crl");
    desk.pki(&format!(
        "root crl --out {list} --revoke {first} {root} --yes"
    ));
    let said = judged(&fleet, &first, &list);
    assert!(said.err.contains("certificate revoked"), "{said:?}");
    // The listeners have left it, too: then its key goes.
    for listener in ["agents.pem", "public.pem"] {
        let file = authority.file(listener);
        let moved = async || fleet.is_issued_by(&file, &next).then_some(());
        wait::until("the listener to renew", moved).await.unwrap();
    }
    desk.issuing("retire m2key-issuing-1 --dry-run");
    desk.issuing("retire m2key-issuing-1");
    let said = fleet.thief_becomes("mallory", &first);
    assert_ne!(said.code, 0, "the key is gone: {said:?}");
    nothing_else_was_disturbed(&fleet, &desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_adopts_no_certificate_of_a_tainted_issuing_ca() {
    let mut fleet = Fleet::of(1).await.unwrap();
    let first = fleet.scratch("issuing-1.pem");
    std::fs::copy(fleet.world.authority.file("issuing.pem"), &first).unwrap();
    let place = fleet.world.dir().join("copied");
    let authority = &fleet.world.authority;
    let mut thief = Copied::from(&fleet.world.terminals[0], authority, &place).unwrap();
    let desk = fleet.desk();
    fleet.next_issuing(&desk);
    desk.issuing("taint m2key-issuing-1");
    fleet.all_renewed().await;
    // Newer than everything that is known of the terminal, and from before the raise: as if it were lost.
    let name = format!("terminal/{}", fleet.id(0));
    thief
        .replaced(|request, to| fleet.thief_certifies(&name, &first, request, to))
        .unwrap();
    assert_eq!(thief.asks("/v1/schedule", None).await.unwrap(), 403);
    desk.ok("fence raise --anyway --reason drill");
    fleet.world.authority.stop().await.unwrap();
    fleet.world.authority.serve().await.unwrap();
    assert_eq!(thief.asks("/v1/schedule", None).await.unwrap(), 403);
    fleet.pays_again(0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_root_is_replaced_without_waiting_for_whoever_is_away() {
    let mut fleet = Fleet::of(2).await.unwrap();
    fleet.world.terminals[1].kill_agent();
    let desk = fleet.desk();
    let (old, new) = (fleet.first_root(), fleet.second_root());
    desk.pki(&format!("root init {new}"));
    let old_pem = fleet.world.authority.root().display().to_string();
    let new_pem = fleet.scratch("new-root/root.pem");
    let bundle = fleet
        .world
        .authority
        .file("trust.json")
        .display()
        .to_string();
    let list = |n: u32, draft: String, signers: &[&str]| {
        let file = fleet.scratch(&format!("{n}.json"));
        desk.pki(&format!("{draft} --out {file}"));
        for signer in signers {
            desk.pki(&format!("root trust sign {file} {signer} --yes"));
        }
        file
    };
    let prepare = format!("root trust prepare {new_pem} --first {old_pem}");
    let first = list(1, prepare, &[&old, &new]);
    desk.ok(&format!("trust install {first}"));
    fleet.follow(&desk, 1, 1).await;
    fleet.reissue(&desk, "m2key-issuing-1", &new, &new_pem);

    let change = |verb: &str, root: &str| format!("root trust {verb} {root} --bundle {bundle}");
    let second = list(2, change("activate", &new_pem), &[&old, &new]);
    desk.refused(&format!("trust install {second}"), &fleet.id(1));
    desk.ok(&format!("trust install {second} --now"));
    desk.ok("renew operator");
    let third = list(3, change("taint", &old_pem), &[&old, &new]);
    desk.ok(&format!("trust install {third} --now"));
    fleet.follow(&desk, 3, 1).await;
    fleet.shopper_pays(0).await.unwrap();

    // From here on what the old root signs is nothing: neither a list of roots nor an issuing CA.
    let draft = fleet.scratch("thief.json");
    let back = change("activate", &old_pem);
    let said = desk.say_pki(&format!("{back} --out {draft}"));
    assert_eq!(
        said.code, 1,
        "a tainted root is never active again: {said:?}"
    );
    assert!(!fleet.is_served_under(&old_pem));
    assert!(fleet.is_served_under(&new_pem));

    // Whoever was away follows from the root it pinned, by itself.
    fleet.world.terminals[1].run().await.unwrap();
    let desk = fleet.desk();
    fleet.follow(&desk, 3, 2).await;
    fleet.pays_again(1).await.unwrap();
    nothing_else_was_disturbed(&fleet, &desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_terminal_rings_the_alarm_and_a_ban_cuts_machine_and_copy() {
    let fleet = Fleet::of(2).await.unwrap();
    let (desk, authority) = (fleet.desk(), &fleet.world.authority);
    let place = fleet.world.dir().join("copied");
    let copied = Copied::from(&fleet.world.terminals[1], authority, &place).unwrap();
    let first = fleet.scratch("issuing-1.pem");
    std::fs::copy(authority.file("issuing.pem"), &first).unwrap();
    let serial = desk.ok(&format!("certificate list --terminal {}", fleet.id(1)));
    let serial = serial["certificates"][0]["serial"]
        .as_str()
        .unwrap()
        .to_owned();

    // The thief renews first; the machine, which is told to renew next, comes too late.
    assert_eq!(copied.renews().await.unwrap(), 200);
    fleet.next_issuing(&desk);
    let rung = async || {
        let alarms = desk.ok("alarm list");
        (alarms["alarms"][0]["kind"] == "second-key").then_some(alarms)
    };
    let alarms = wait::until("the clone alarm", rung).await.unwrap();
    assert_eq!(alarms["alarms"][0]["terminal"], fleet.id(1), "{alarms}");

    let shown = fleet.link(1).await.unwrap();
    desk.ok(&format!("terminal ban {} --reason copied", fleet.id(1)));
    fleet.refuses(&shown, ProblemType::TerminalRefused).await;
    fleet.world.terminals[1]
        .kiosk()
        .shows("out-of-service")
        .await
        .unwrap();
    assert_eq!(fleet.metric(1, "m2key_agent_online").await.unwrap(), 0.0);
    assert_eq!(copied.asks("/v1/schedule", None).await.unwrap(), 403);
    fleet.is_listed(&first, &serial).await;
    fleet.shopper_pays(0).await.unwrap();
    nothing_else_was_disturbed(&fleet, &desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_operators_key_is_refused_at_once_and_what_it_signed_counts_no_more() {
    let fleet = Fleet::of(1).await.unwrap();
    let (desk, authority) = (fleet.desk(), &fleet.world.authority);
    for name in ["bob", "carl", "dora"] {
        desk.adds_operator(name);
    }
    desk.ok("policy set --required 1");
    let before = desk.agreed("bob", "seed rotate --all --planned");
    let consent = before["operation"]["consent"].as_str().unwrap().to_owned();
    let said = desk.say("key prepare sealing");
    let pending = crate::desk::request_in(&said.err);
    desk.ok_as("bob", &format!("consent sign {pending} --yes"));
    let serial = desk.ok("certificate list --operator bob")["certificates"][0]["serial"].clone();

    desk.agreed("carl", "operator revoke bob --reason key-compromise");
    let said = desk.say_as("bob", "terminal list");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("revoked"), "{said:?}");
    let said = desk.say(&format!("consent carry-out {pending}"));
    assert_eq!(said.code, 4, "{said:?}");
    desk.ok_as("carl", &format!("consent sign {pending} --yes"));
    desk.ok(&format!("consent carry-out {pending}"));
    // What was agreed before stands, and shows who agreed then.
    let file = fleet.scratch("consent.json");
    std::fs::write(&file, desk.text(&format!("consent transcript {consent}"))).unwrap();
    let root = authority.root().display().to_string();
    let said = desk.pki(&format!("transcript verify {file} --root {root}"));
    assert!(said.contains("bob"), "{said}");
    let issuing = authority.file("issuing.pem").display().to_string();
    fleet.is_listed(&issuing, serial.as_str().unwrap()).await;
    nothing_else_was_disturbed(&fleet, &desk).await;
}

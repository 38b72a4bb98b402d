//! Does an operator come back whose certificate a restore has lost, and nobody who was revoked?

use authority::services::consent::OFFLINE_OPERATOR;
use authority::services::operators::{CertificateIssue, Renewal, carry_out};
use authority::store::Consents;
use pki::{OperatorKey, SoftwareKey};
use protocol::problem::ProblemType::ConsentRefused;

use crate::certificates::{Shown, operator};
use crate::house::{House, Said};
use crate::room::{Person, Room, adding, certify, refused, row};
use crate::stage::DAY_MS;
use crate::two_people::{as_bob, bob, request_in};

const RENEW: [&str; 2] = ["renew", "operator"];
const OFFLINE_RENEW: [&str; 3] = ["--offline", "renew", "operator"];
const OFFLINE_RAISE: [&str; 5] = ["--offline", "fence", "raise", "--reason", "disk lost"];

#[track_caller]
fn done(said: &Said) {
    assert_eq!(said.code, 0, "{said:?}");
}

/// A copy of the operator's certificate and key as they are now.
fn kept(house: &House, name: &str) -> Shown {
    let (pem, key) = (house.scratch(&format!("{name}.pem")), house.scratch(name));
    std::fs::copy(operator(house).certificate(), &pem).unwrap();
    std::fs::copy(operator(house).key(), &key).unwrap();
    Shown::of(pem, key)
}

#[test]
fn two_operators_who_both_renewed_in_the_lost_time_raise_the_generation_together() {
    let house = House::new();
    let daemon = house.serve();
    let bob = bob(&house, &[]);
    done(&house.verb(&["policy", "set", "--required", "1"]));
    house.back_up();
    done(&house.verb(&RENEW));
    done(&as_bob(&house, &bob, &RENEW));
    assert_eq!(daemon.stop(), 0);
    house.restore();
    let daemon = house.serve();
    let unknown = house.verb(&["fence", "status"]);
    unknown.refused(1, "--offline renew operator", "certificate");
    assert_eq!(daemon.stop(), 0);

    let without = house.verb(&OFFLINE_RAISE);
    without.refused(1, "one of the operator operator", "");
    done(&house.verb(&OFFLINE_RENEW));
    done(&as_bob(&house, &bob, &OFFLINE_RENEW));
    let waits = house.verb(&OFFLINE_RAISE);
    waits.refused(4, "0 of 1 consents", "consent sign");
    let sign = ["--offline", "consent", "sign", &request_in(&waits), "--yes"];
    done(&as_bob(&house, &bob, &sign));
    let raised = house.verb(&OFFLINE_RAISE);
    assert!(raised.out.contains("generation 2, was 1"), "{raised:?}");
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
    done(&house.verb(&["operator", "list"]));
    done(&as_bob(&house, &bob, &["operator", "list"]));
}

#[test]
fn an_operator_comes_back_after_the_raise_as_well() {
    let house = House::new();
    let daemon = house.serve();
    house.back_up();
    done(&house.verb(&RENEW));
    assert_eq!(daemon.stop(), 0);
    house.restore();
    done(&house.verb(&OFFLINE_RAISE));
    let daemon = house.serve();
    let unknown = house.verb(&["operator", "list"]);
    unknown.refused(1, "--offline renew operator", "certificate");
    assert_eq!(daemon.stop(), 0);
    done(&house.verb(&OFFLINE_RENEW));
    let _daemon = house.serve();
    done(&house.verb(&["operator", "list"]));
}

#[test]
fn a_certificate_that_was_revoked_in_the_lost_time_raises_nothing_and_is_not_renewed() {
    let house = House::new();
    let daemon = house.serve();
    let first = kept(&house, "first");
    house.back_up();
    done(&house.verb(&RENEW));
    let second = kept(&house, "second");
    done(&house.verb(&RENEW));
    let third = kept(&house, "third");
    for stolen in [&first, &second] {
        let (serial, reason) = (stolen.serial(), "key-compromise");
        done(&house.verb(&["certificate", "revoke", &serial, "--reason", reason]));
    }
    assert_eq!(daemon.stop(), 0);
    house.restore();
    first.use_for_verbs(&house);
    let daemon = house.serve();
    let raise = house.verb(&OFFLINE_RAISE[1..]);
    raise.refused(1, "it was revoked", "certificate");
    assert_eq!(daemon.stop(), 0);
    let comes_back = |shown: &Shown| {
        shown.use_for_verbs(&house);
        house.verb(&OFFLINE_RENEW)
    };
    comes_back(&second).refused(1, "one of the operator operator", "");
    done(&house.verb(&OFFLINE_RAISE));
    for stolen in [&first, &second] {
        comes_back(stolen).refused(1, "one of the operator operator", "");
    }
    done(&comes_back(&third));
}

#[test]
fn a_voice_that_was_revoked_in_the_lost_time_does_not_count_towards_the_raise() {
    let house = House::new();
    let daemon = house.serve();
    let bob = bob(&house, &[]);
    done(&house.verb(&["policy", "set", "--required", "1"]));
    let raise = [&OFFLINE_RAISE[1..], &["--anyway"]].concat();
    let waits = house.verb(&raise);
    let id = request_in(&waits);
    done(&as_bob(&house, &bob, &["consent", "sign", &id, "--yes"]));
    let (pem, key) = (house.scratch("bob.pem"), house.scratch("bob.key"));
    let stolen = Shown::of(house.scratch("old.pem"), house.scratch("old.key"));
    std::fs::copy(&pem, stolen.certificate()).unwrap();
    std::fs::copy(&key, stolen.key()).unwrap();
    house.back_up();
    done(&as_bob(&house, &bob, &RENEW));
    let (serial, reason) = (stolen.serial(), "key-compromise");
    let revoke = ["certificate", "revoke", &serial, "--reason", reason];
    done(&as_bob(&house, &bob, &revoke));
    assert_eq!(daemon.stop(), 0);
    house.restore();
    let offline = [&["--offline"], &raise[..]].concat();
    house.verb(&offline).refused(4, "0 of 1 consents", "");
    std::fs::copy(stolen.certificate(), &pem).unwrap();
    std::fs::copy(stolen.key(), &key).unwrap();
    let sign = ["--offline", "consent", "sign", &id, "--yes"];
    let again = as_bob(&house, &bob, &sign);
    again.refused(1, "one of the operator bob", "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_a_restore_can_have_lost_is_renewed() {
    let room = Room::new().await;
    let (app, store) = (&room.stage.app, &room.stage.store);
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let (own, issuing) = certify(&room.stage, "bob", &key).await;
    let now = app.clock.now();
    let lost = async |name: &str, behind| {
        let certificate = row(&own, name);
        store.is_lost_voice(certificate, behind, now).await.unwrap()
    };
    assert!(lost("bob", true).await);
    assert!(!lost("bob", false).await, "nothing was restored");
    assert!(!lost("zoe", true).await, "she is no operator");
    let later = now + 400 * DAY_MS;
    let ended = store.is_lost_voice(row(&own, "bob"), true, later).await;
    assert!(!ended.unwrap());
    let (of_ann, _) = certify(&room.stage, "bob", &room.ann.key).await;
    let foreign = store.is_lost_voice(row(&of_ann, "bob"), true, now).await;
    assert!(!foreign.unwrap(), "ann's key");
    let mut older = row(&own, "bob");
    older.not_before = older.not_before + -DAY_MS;
    assert!(!store.is_lost_voice(older, true, now).await.unwrap());

    let proof = async |again: &Person| {
        let fresh = OperatorKey::File(SoftwareKey::generate().unwrap());
        let request = adding(&room, "bob", &fresh).await.request;
        let proof = Renewal::new("bob", &request, room.now_s());
        let proof = Some(again.state(&proof).await);
        let operator = "bob".into();
        let verb = CertificateIssue {
            request,
            operator,
            proof,
        };
        carry_out(app, OFFLINE_OPERATOR, verb).await
    };
    let chain = vec![own.clone(), issuing];
    let name = "bob";
    let never_recorded = proof(&Person { name, key, chain }).await;
    refused(never_recorded, ConsentRefused, "one of the operator bob");
    room.tamper("INSERT INTO raises VALUES (2, 9000000000000, 'restored', 0)");
    assert!(lost("bob", false).await, "from before a raise");
    room.tamper("UPDATE raises SET raised_at_ms = 1");
    assert!(!lost("bob", false).await, "from after it");
    room.tamper("UPDATE operators SET revoked_by = 'x', revoked_at_ms = 1 WHERE name = 'bob'");
    assert!(!lost("bob", true).await);
}

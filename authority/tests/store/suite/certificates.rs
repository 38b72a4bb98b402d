//! Which certificate follows which, and what do revocations and alarms leave behind?

use authority::store::{
    AlarmKind, Certificate, CloneAlarm, FirstUse, JoinToken, Recorded, Redeem, Renewal,
    RenewalLimit, RequestJudging, Right, Subject, TerminalStatus,
};
use pki::crl::Reason;
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};

use crate::world::{NOW, World, join_hash, number};

const DAY: Millis = 24 * 3_600_000;
pub(crate) const ISSUER: &str = "aa01";
const NO_LIMIT: RenewalLimit = RenewalLimit {
    most: u32::MAX,
    since: NOW,
};

/// A week long, of key `key`; the bytes are its name.
pub(crate) fn certificate(
    terminal: TerminalId,
    serial: &str,
    key: u8,
    from: Timestamp,
) -> Certificate {
    Certificate {
        serial: serial.into(),
        subject: Subject::Terminal(terminal),
        spki_sha256: [key; 32],
        not_before: from,
        not_after: from + 7 * DAY,
        issuer_key: ISSUER.into(),
        der: serial.as_bytes().to_vec(),
    }
}

fn under(serial: &str) -> Right {
    Right::Renews(serial.into())
}

/// A terminal that enrolled with key 1: its certificate has the serial `01`.
async fn enrolled(world: &World) -> TerminalId {
    let terminal = world.terminal(1).await;
    let hash = join_hash(1);
    let redeemed = world
        .store
        .redeem_join_token(terminal, hash, [1; 32], NOW)
        .await;
    assert_eq!(redeemed, Ok(Redeem::Good));
    let first = certificate(terminal, "01", 1, NOW);
    let recorded = add(world, first, Right::JoinToken(hash), NOW).await;
    assert_eq!(recorded, Recorded::New);
    terminal
}

async fn add(world: &World, certificate: Certificate, right: Right, at: Timestamp) -> Recorded {
    let added = world.store.add_terminal_certificate(certificate, right, at);
    added.await.unwrap()
}

async fn renewal(world: &World, serial: &str, key: u8, at: Timestamp) -> Renewal {
    let found = world.store.renewal(serial, [key; 32], at, NO_LIMIT);
    found.await.unwrap()
}

pub(crate) async fn a_join_token_is_answered_with_the_same_certificate(world: &World) {
    let terminal = enrolled(world).await;
    let hash = join_hash(1);
    let redeem = |key: u8| {
        world
            .store
            .redeem_join_token(terminal, hash, [key; 32], NOW + 1)
    };
    assert_eq!(redeem(1).await, Ok(Redeem::Answered(b"01".to_vec())));
    assert_eq!(redeem(2).await, Ok(Redeem::Refused));
    let raced = certificate(terminal, "02", 1, NOW);
    let recorded = add(world, raced, Right::JoinToken(hash), NOW).await;
    assert_eq!(recorded, Recorded::Before(b"01".to_vec()));
    let other = certificate(terminal, "02", 2, NOW);
    let recorded = add(world, other, Right::JoinToken(hash), NOW).await;
    assert_eq!(recorded, Recorded::OtherKey);
    assert_eq!(world.store.certificate("02").await, Ok(None));

    let further = JoinToken {
        terminal,
        hash: [9; 32],
        expires_at: NOW + DAY,
    };
    assert!(world.store.add_join_token(further, NOW).await.unwrap());
    let again = world
        .store
        .redeem_join_token(terminal, [9; 32], [1; 32], NOW);
    assert_eq!(again.await, Ok(Redeem::KeyReused));
}

pub(crate) async fn a_join_token_that_was_taken_back_answers_nothing(world: &World) {
    let terminal = enrolled(world).await;
    let hash = join_hash(1);
    let prefix = hash[..8].try_into().unwrap();
    let revoke = |at| world.store.revoke_join_token(prefix, at);
    assert_eq!(world.store.revoke_join_token([7; 8], NOW).await, Ok(None));
    let revoked = revoke(NOW + 1).await.unwrap().unwrap();
    assert_eq!(
        (revoked.revoked_at, revoked.redeemed_at),
        (Some(NOW + 1), Some(NOW))
    );
    assert_eq!(revoke(NOW + 2).await.unwrap().unwrap(), revoked);
    let again = world
        .store
        .redeem_join_token(terminal, hash, [1; 32], NOW + 3)
        .await;
    assert_eq!(again, Ok(Redeem::Refused));
    let late = certificate(terminal, "02", 1, NOW);
    let recorded = add(world, late, Right::JoinToken(hash), NOW + 3).await;
    assert_eq!(recorded, Recorded::Refused);
    let listed = async |terminal, good_at, limit| {
        let listed = world.store.join_tokens(terminal, good_at, limit).await;
        listed.unwrap()
    };
    let all = vec![revoked];
    assert_eq!(listed(Some(terminal), None, 10).await, all);
    assert_eq!(listed(Some(number(2)), None, 10).await, []);
    assert_eq!(listed(None, None, 10).await, all);
    // Whoever looks for good ones finds them behind any number of others.
    let good = JoinToken {
        hash: [9; 32],
        terminal,
        expires_at: NOW + 20,
    };
    assert!(world.store.add_join_token(good, NOW - 1).await.unwrap());
    assert_eq!(listed(None, None, 1).await, all);
    assert_eq!(listed(None, Some(NOW), 1).await[0].token.hash, [9; 32]);
    assert_eq!(listed(None, Some(NOW + 20), 1).await, []);
}

pub(crate) async fn a_certificate_has_one_successor(world: &World) {
    let terminal = enrolled(world).await;
    let open = Renewal::Open {
        serial: "01".into(),
    };
    assert_eq!(renewal(world, "01", 2, NOW).await, open);
    assert_eq!(renewal(world, "01", 1, NOW).await, Renewal::KeyReused);
    assert_eq!(renewal(world, "77", 2, NOW).await, Renewal::Refused);
    let next = certificate(terminal, "02", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW).await, Recorded::New);

    let answered = Renewal::Answered(b"02".to_vec());
    assert_eq!(renewal(world, "01", 2, NOW).await, answered);
    assert_eq!(renewal(world, "01", 3, NOW).await, Renewal::OtherKey);
    let raced = certificate(terminal, "03", 2, NOW);
    let recorded = add(world, raced, under("01"), NOW).await;
    assert_eq!(recorded, Recorded::Before(b"02".to_vec()));
    let stolen = certificate(terminal, "03", 3, NOW);
    let recorded = add(world, stolen, under("01"), NOW).await;
    assert_eq!(recorded, Recorded::OtherKey);
    assert_eq!(world.store.certificate("03").await, Ok(None));
    let stored = world.store.certificate("02").await.unwrap().unwrap();
    assert_eq!(stored.renews.as_deref(), Some("01"));
}

pub(crate) async fn a_successor_that_was_set_aside_unused_is_renewed_in_its_turn(world: &World) {
    let terminal = enrolled(world).await;
    let aside = |serial: &'static str, at| world.store.set_aside(serial, at);
    let next = certificate(terminal, "02", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW).await, Recorded::New);
    // Neither the first certificate of a terminal nor one that nobody knows is a successor.
    assert_eq!(aside("01", NOW + 1).await, Ok(false));
    assert_eq!(aside("77", NOW + 1).await, Ok(false));
    assert_eq!(aside("02", NOW + 1).await, Ok(true));
    assert_eq!(aside("02", NOW + 2).await, Ok(false));
    let refused = world.store.use_certificate("02", NOW + 2).await;
    assert_eq!(refused, Ok(FirstUse::Refused));
    let open = Renewal::Open {
        serial: "02".into(),
    };
    assert_eq!(renewal(world, "01", 2, NOW + 2).await, open);
    assert_eq!(renewal(world, "01", 3, NOW + 2).await, Renewal::OtherKey);

    let next = certificate(terminal, "03", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW + 3).await, Recorded::New);
    let answered = Renewal::Answered(b"03".to_vec());
    assert_eq!(renewal(world, "01", 2, NOW + 4).await, answered);
    let used = world.store.use_certificate("03", NOW + 5).await;
    assert_eq!(used, Ok(FirstUse::Good));
    assert_eq!(aside("03", NOW + 6).await, Ok(false));
    assert_eq!(renewal(world, "01", 2, NOW + 6).await, Renewal::Refused);
}

pub(crate) async fn holders_are_those_whose_certificates_can_still_be_used(world: &World) {
    let terminal = enrolled(world).await;
    let ends = NOW + 7 * DAY;
    let holders = |ended_since, at| {
        let keys = vec!["00".to_owned(), ISSUER.to_owned()];
        world.store.holders(keys, ended_since, at, 10)
    };
    let found = holders(NOW, NOW).await.unwrap();
    assert_eq!(
        (found.terminals.count, found.terminals.first),
        (1, vec![terminal])
    );
    assert_eq!(found.operators, Vec::<String>::new());
    let ended = holders(ends + 1, ends + 1).await.unwrap();
    assert_eq!(ended.terminals.count, 0);
    // Until its successor of another issuing CA is used.
    let next = Certificate {
        issuer_key: "bb02".into(),
        ..certificate(terminal, "02", 2, NOW)
    };
    assert_eq!(add(world, next, under("01"), NOW).await, Recorded::New);
    assert_eq!(holders(NOW, NOW).await.unwrap().terminals.count, 1);
    let used = world.store.use_certificate("02", NOW + 1).await;
    assert_eq!(used, Ok(FirstUse::Good));
    assert_eq!(holders(NOW, NOW).await.unwrap().terminals.count, 0);

    let of_ann = |serial: &str, key: u8, issuer_key: &str| Certificate {
        subject: Subject::Operator("ann".into()),
        issuer_key: issuer_key.into(),
        ..certificate(terminal, serial, key, NOW)
    };
    let add = |certificate, at| world.store.add_certificate(certificate, at);
    add(of_ann("0a", 10, ISSUER), NOW).await.unwrap();
    assert_eq!(holders(NOW, NOW).await.unwrap().operators, ["ann"]);
    assert!(holders(NOW, ends + 1).await.unwrap().operators.is_empty());
    // Her newest one counts, whatever else is in force.
    add(of_ann("0b", 11, "bb02"), NOW + 1).await.unwrap();
    assert!(holders(NOW, NOW).await.unwrap().operators.is_empty());
}

pub(crate) async fn the_old_certificate_is_good_until_the_new_one_is_used(world: &World) {
    let terminal = enrolled(world).await;
    let first_use = |serial: &'static str, at| world.store.use_certificate(serial, at);
    let record = |serial: &'static str| async move {
        world.store.certificate(serial).await.unwrap().unwrap()
    };
    assert_eq!(first_use("01", NOW + 1).await, Ok(FirstUse::Good));
    let next = certificate(terminal, "02", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW + 2).await, Recorded::New);
    assert_eq!(record("01").await.superseded_at, None);
    assert_eq!(first_use("01", NOW + 3).await, Ok(FirstUse::Good));
    assert_eq!(record("01").await.used_at, Some(NOW + 1));

    assert_eq!(first_use("02", NOW + 4).await, Ok(FirstUse::Good));
    assert_eq!(record("01").await.superseded_at, Some(NOW + 4));
    assert_eq!(record("02").await.superseded_at, None);
    assert_eq!(first_use("01", NOW + 5).await, Ok(FirstUse::Refused));
    assert_eq!(renewal(world, "01", 2, NOW + 5).await, Renewal::Refused);
    let late = certificate(terminal, "03", 3, NOW);
    let recorded = add(world, late, under("01"), NOW + 5).await;
    assert_eq!(recorded, Recorded::Refused);
    assert_eq!(first_use("77", NOW).await, Ok(FirstUse::Refused));
}

pub(crate) async fn a_request_is_judged_by_its_certificate_and_by_its_terminal(world: &World) {
    let terminal = enrolled(world).await;
    let next = certificate(terminal, "02", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW).await, Recorded::New);
    // What is asked in one question is what two would have answered.
    let judging = |serial: &'static str, by: TerminalId| async move {
        let record = world.store.certificate(serial).await.unwrap();
        let terminal = world.store.terminal(by).await.unwrap();
        let expected = record.map(|record| RequestJudging {
            subject: record.certificate.subject,
            spki_sha256: record.certificate.spki_sha256,
            used_at: record.used_at,
            superseded_at: record.superseded_at,
            revoked: record.revoked,
            terminal: terminal.map(|terminal| terminal.status),
        });
        let judging = world.store.request_judging(serial, by).await;
        assert_eq!(judging, Ok(expected), "{serial}");
        judging.unwrap()
    };
    let new = judging("01", terminal).await.unwrap();
    assert_eq!((new.used_at, new.superseded_at), (None, None));
    assert_eq!(new.subject, Subject::Terminal(terminal));
    assert_eq!(new.terminal, Some(TerminalStatus::Active));
    assert_eq!(judging("77", terminal).await, None);
    assert_eq!(judging("01", number(9)).await.unwrap().terminal, None);

    let used = world.store.use_certificate("02", NOW + 4).await;
    assert_eq!(used, Ok(FirstUse::Good));
    let old = judging("01", terminal).await.unwrap();
    assert_eq!(old.superseded_at, Some(NOW + 4));
    assert_eq!(
        judging("02", terminal).await.unwrap().used_at,
        Some(NOW + 4)
    );

    let banned = world.store.ban_terminal(terminal, "stolen".into(), NOW + 5);
    assert!(banned.await.unwrap().is_some());
    let banned = judging("02", terminal).await.unwrap();
    assert!(banned.revoked.is_some(), "{banned:?}");
    let stolen = TerminalStatus::Banned {
        at: NOW + 5,
        reason: "stolen".into(),
    };
    assert_eq!(banned.terminal, Some(stolen));
}

pub(crate) async fn a_replaced_machine_is_refused_once_its_successor_came(world: &World) {
    let terminal = enrolled(world).await;
    let further = JoinToken {
        terminal,
        hash: [9; 32],
        expires_at: NOW + DAY,
    };
    assert!(world.store.add_join_token(further, NOW).await.unwrap());
    let redeemed = world
        .store
        .redeem_join_token(terminal, [9; 32], [5; 32], NOW);
    assert_eq!(redeemed.await, Ok(Redeem::Good));
    let new = certificate(terminal, "05", 5, NOW);
    let recorded = add(world, new, Right::JoinToken([9; 32]), NOW + 1).await;
    assert_eq!(recorded, Recorded::New);
    let used = world.store.use_certificate("01", NOW + 2).await;
    assert_eq!(used, Ok(FirstUse::Good), "until the new machine comes");
    let newer = world.store.certificate("05").await.unwrap().unwrap();
    assert_eq!(newer.superseded_at, None, "an old one supersedes nothing");
    let used = world.store.use_certificate("05", NOW + 3).await;
    assert_eq!(used, Ok(FirstUse::Good));
    let used = world.store.use_certificate("01", NOW + 4).await;
    assert_eq!(used, Ok(FirstUse::Refused));
}

pub(crate) async fn a_successor_that_ended_unused_is_renewed_in_its_turn(world: &World) {
    let terminal = enrolled(world).await;
    let next = certificate(terminal, "02", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW).await, Recorded::New);
    let late = NOW + 8 * DAY;
    let open = Renewal::Open {
        serial: "02".into(),
    };
    assert_eq!(renewal(world, "01", 2, late).await, open);
    assert_eq!(renewal(world, "01", 3, late).await, Renewal::OtherKey);
    let fresh = certificate(terminal, "03", 2, late);
    assert_eq!(add(world, fresh, under("01"), late).await, Recorded::New);
    let stored = world.store.certificate("03").await.unwrap().unwrap();
    assert_eq!(stored.renews.as_deref(), Some("02"));
    let answered = Renewal::Answered(b"03".to_vec());
    assert_eq!(renewal(world, "01", 2, late + 1).await, answered);
    let used = world.store.use_certificate("03", late + 2).await;
    assert_eq!(used, Ok(FirstUse::Good));
    assert_eq!(renewal(world, "01", 2, late + 3).await, Renewal::Refused);
}

pub(crate) async fn one_terminal_is_issued_so_many_and_no_more(world: &World) {
    let terminal = enrolled(world).await;
    let limit = |most, since| RenewalLimit { most, since };
    let asked = |limit| world.store.renewal("01", [2; 32], NOW + 1, limit);
    assert_eq!(asked(limit(1, NOW)).await, Ok(Renewal::TooMany));
    let open = Ok(Renewal::Open {
        serial: "01".into(),
    });
    assert_eq!(asked(limit(2, NOW)).await, open);
    assert_eq!(asked(limit(1, NOW + 1)).await, open);
    let next = certificate(terminal, "02", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW).await, Recorded::New);
    let answered = Ok(Renewal::Answered(b"02".to_vec()));
    assert_eq!(asked(limit(1, NOW)).await, answered, "it is not a new one");
}

pub(crate) async fn a_ban_revokes_what_could_still_be_renewed(world: &World) {
    let terminal = enrolled(world).await;
    let next = certificate(terminal, "02", 2, NOW);
    assert_eq!(add(world, next, under("01"), NOW).await, Recorded::New);
    // Ended, and within the longest grace.
    let at = NOW + 60 * DAY;
    let banned = world.store.ban_terminal(terminal, "stolen".into(), at);
    banned.await.unwrap().unwrap();
    for serial in ["01", "02"] {
        let revoked = world.store.certificate(serial).await.unwrap().unwrap();
        let revoked = revoked.revoked.unwrap();
        assert_eq!(
            (revoked.at, revoked.reason),
            (at, Reason::PrivilegeWithdrawn)
        );
    }
    assert_eq!(renewal(world, "02", 3, at).await, Renewal::Refused);
    let signed_before = certificate(terminal, "03", 3, at);
    let recorded = add(world, signed_before, under("02"), at).await;
    assert_eq!(recorded, Recorded::Refused);
    let kinds = world.audit_kinds().await;
    let revoked = kinds.iter().filter(|kind| *kind == "certificate.revoked");
    assert_eq!(revoked.count(), 2);
}

pub(crate) async fn a_ban_between_join_token_and_record_leaves_no_certificate(world: &World) {
    let terminal = world.terminal(1).await;
    let hash = join_hash(1);
    let redeemed = world
        .store
        .redeem_join_token(terminal, hash, [1; 32], NOW)
        .await;
    assert_eq!(redeemed, Ok(Redeem::Good));
    let banned = world.store.ban_terminal(terminal, "stolen".into(), NOW);
    banned.await.unwrap().unwrap();
    let signed = certificate(terminal, "01", 1, NOW);
    let recorded = add(world, signed, Right::JoinToken(hash), NOW).await;
    assert_eq!(recorded, Recorded::Refused);
    assert_eq!(world.store.certificate("01").await, Ok(None));
}

pub(crate) async fn a_revoked_certificate_stays_on_its_list_until_it_ended(world: &World) {
    let terminal = enrolled(world).await;
    let mut other = certificate(terminal, "0b", 9, NOW);
    (other.subject, other.issuer_key) = (Subject::Operator("ops".into()), "bb02".into());
    world.store.add_certificate(other, NOW).await.unwrap();
    let revoke =
        |serial: &'static str, reason, at| world.store.revoke_certificate(serial, reason, at);
    assert_eq!(revoke("77", Reason::Superseded, NOW).await, Ok(None));
    let first = revoke("01", Reason::KeyCompromise, NOW + 1).await.unwrap();
    let again = revoke("01", Reason::Superseded, NOW + 2).await.unwrap();
    assert_eq!(first, again, "the first revocation stays");
    revoke("0b", Reason::CessationOfOperation, NOW + 3)
        .await
        .unwrap()
        .unwrap();
    let used = world.store.use_certificate("01", NOW + 4).await;
    assert_eq!(used, Ok(FirstUse::Refused));

    let list = |issuer: &'static str, from| world.store.revoked(issuer, from);
    let serials = |found: Result<Vec<authority::store::RevokedSerial>, _>| {
        let found: Vec<_> = found.unwrap().into_iter().map(|it| it.serial).collect();
        found
    };
    assert_eq!(serials(list(ISSUER, NOW).await), ["01"]);
    assert_eq!(serials(list("bb02", NOW).await), ["0b"]);
    assert_eq!(serials(list(ISSUER, NOW + 7 * DAY).await), ["01"]);
    assert!(serials(list(ISSUER, NOW + 7 * DAY + 1).await).is_empty());
}

pub(crate) async fn numbers_of_lists_never_go_back(world: &World) {
    let next = |issuer: &'static str, above| world.store.next_crl_number(issuer, above, NOW);
    assert_eq!(next("aa", 0).await, Ok(1));
    assert_eq!(next("aa", 0).await, Ok(2));
    assert_eq!(next("bb", 0).await, Ok(1));
    assert_eq!(next("aa", 40).await, Ok(41));
    assert_eq!(next("aa", 7).await, Ok(42));
    assert_eq!(next("cc", 9).await, Ok(10));
    let signed = world.store.crl_signed("aa", 42, 5, NOW, NOW + DAY).await;
    assert_eq!(signed, Ok(()));
    let stored = world.store.crl("aa").await.unwrap().unwrap();
    assert_eq!((stored.number, stored.this_update), (42, Some(NOW)));
    assert_eq!(world.store.crl("dd").await, Ok(None));
}

pub(crate) async fn an_alarm_is_counted_and_does_not_fill_the_disk(world: &World) {
    let terminal = enrolled(world).await;
    let alarm = |other: &str| CloneAlarm {
        terminal,
        kind: AlarmKind::SecondKey,
        certificate: "01".into(),
        other: other.into(),
    };
    let raise = |other: &'static str, at| world.store.raise_alarm(alarm(other), 1_000, at);
    assert_eq!(raise("k2", NOW).await, Ok(true));
    assert_eq!(raise("k3", NOW + 999).await, Ok(false));
    assert_eq!(raise("k4", NOW + 1_000).await, Ok(true));
    let alarms = world.store.alarms(None, 10).await.unwrap();
    let [only] = alarms.as_slice() else {
        panic!("{alarms:?}")
    };
    assert_eq!(only.alarm, alarm("k4"));
    assert_eq!(
        (only.first_at, only.last_at, only.times),
        (NOW, NOW + 1_000, 2)
    );
    let kinds = world.audit_kinds().await;
    assert_eq!(kinds.iter().filter(|k| *k == "alarm.raised").count(), 2);
}

pub(crate) async fn what_is_in_force_is_counted_by_kind(world: &World) {
    let terminal = enrolled(world).await;
    let mut operator = certificate(terminal, "0b", 9, NOW + DAY);
    operator.subject = Subject::Operator("ops".into());
    world
        .store
        .add_certificate(operator.clone(), NOW)
        .await
        .unwrap();
    let count = |at| async move {
        let found = world.store.certificates_in_force(at).await.unwrap();
        let found: Vec<_> = found
            .into_iter()
            .map(|it| (it.kind, it.certificates, it.first_end))
            .collect();
        found
    };
    let (ends, later) = (NOW + 7 * DAY, NOW + 8 * DAY);
    let terminals = |number, end| [("terminal", number, end), ("operator", 1, Some(later))];
    let none = [("authority", 0, None)];
    let all = |number, end| [&terminals(number, end)[..], &none[..]].concat();
    assert_eq!(count(NOW).await, all(1, Some(ends)));
    assert_eq!(count(ends + 1).await, all(0, None));
    let to_end = world.store.certificates_to_end(NOW, 1).await.unwrap();
    assert_eq!(to_end[0].certificate.serial, "01");
    let of = world.store.certificates_of(operator.subject.clone(), 5);
    assert_eq!(of.await.unwrap()[0].certificate, operator);
    let revoke = world
        .store
        .revoke_certificate("01", Reason::KeyCompromise, NOW);
    revoke.await.unwrap().unwrap();
    assert_eq!(count(NOW).await, all(0, None));
    assert!(world.store.is_key_certified([9; 32]).await.unwrap());
    assert!(!world.store.is_key_certified([8; 32]).await.unwrap());
}

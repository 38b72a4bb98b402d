//! Does every form read back as it was written, and does nothing panic, whatever comes in?
#![allow(clippy::unwrap_used)]

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::aes_key::AesKey;
use protocol::audit::{CheckpointClaims, Head};
use protocol::charge::{Approval, ChargeKind, Claimed, Mark};
use protocol::code::{BadCode, TypedCode};
use protocol::derive::EpochKey;
use protocol::ids::{ChargeId, ClaimId, EventId, MerchantId, TerminalId};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::{Parts, Unsigned, verify};
use protocol::link::{self, LinkHost};
use protocol::live::{LoadedEpoch, candidates, epochs_needed, explain, recognise};
use protocol::money::{AMOUNT_MINOR_MAX, Currency, Money};
use protocol::ndef;
use protocol::presented::Presented;
use protocol::receipt::ReceiptClaims;
use protocol::schedule::{EpochCheck, NfcPace, Rank, ScheduleClaims, accept, validity};
use protocol::sun::{SunKeys, SunLink, template};
use protocol::time::Timestamp;
use protocol::token::{Channel, MachineToken, WindowId};
use protocol::turn::{KnownTurns, TurnState};
use protocol::window::{
    Behind, CheckedPolicy, EARLY_MS, EPOCH_MS, EpochClock, GRACE_MAX_MS, NfcWindows, Policy,
    SHORTEST_MIN_MS, WindowPlan, WindowPolicy,
};
use protocol::wire::push::{ChargeStage, ChargeState, EndReason, TerminalState};
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TagSigns, TerminalEvent};
use protocol::wire::schedules::{EpochKeyEntry, ScheduleResponse};
use protocol::wire::upkeep::Upkeep;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[path = "properties/schedules.rs"]
mod schedules;

use schedules::follow;

fn terminal() -> impl Strategy<Value = TerminalId> {
    (0..10_000_000u32).prop_map(|number| TerminalId::from_number(number).unwrap())
}

fn channel() -> impl Strategy<Value = Channel> {
    prop::sample::select(&Channel::ALL[..])
}

fn key() -> impl Strategy<Value = EpochKey> {
    any::<[u8; 32]>().prop_map(EpochKey::from_bytes)
}

fn limits() -> impl Strategy<Value = WindowPolicy> {
    (SHORTEST_MIN_MS..=EPOCH_MS / 2, 0..=GRACE_MAX_MS).prop_flat_map(|(shortest_ms, grace_ms)| {
        (2 * shortest_ms..=EPOCH_MS).prop_map(move |longest_ms| WindowPolicy {
            shortest_ms,
            longest_ms,
            grace_ms,
        })
    })
}

/// Short windows now and then: a plan of 3 600 windows is the extreme.
fn any_limits() -> impl Strategy<Value = WindowPolicy> {
    let short =
        (1_000..1_100i64, 2_200..4_000i64).prop_map(|(shortest_ms, longest_ms)| WindowPolicy {
            shortest_ms,
            longest_ms,
            grace_ms: 0,
        });
    prop_oneof![4 => limits(), 1 => short]
}

fn policy() -> impl Strategy<Value = CheckedPolicy> {
    any_limits().prop_map(|one| same(one).check().unwrap())
}

fn same(one: WindowPolicy) -> Policy {
    Policy {
        nfc: one,
        qr: one,
        code: one,
    }
}

fn wild_policy() -> impl Strategy<Value = Policy> {
    let number = || {
        prop_oneof![
            any::<i64>(),
            Just(i64::MIN),
            Just(i64::MAX),
            0..10_000_000i64
        ]
    };
    (number(), number(), number()).prop_map(|(shortest_ms, longest_ms, grace_ms)| {
        same(WindowPolicy {
            shortest_ms,
            longest_ms,
            grace_ms,
        })
    })
}

fn money() -> impl Strategy<Value = Money> {
    let currency = prop::sample::select(vec!["EUR", "JPY", "KWD", "USD", "XCG"]);
    (1..=AMOUNT_MINOR_MAX, currency)
        .prop_map(|(minor, code)| Money::new(minor, code.parse().unwrap()).unwrap())
}

fn epoch() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), 490_000..500_000u32]
}

fn moment() -> impl Strategy<Value = Timestamp> {
    let ms = prop_oneof![
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX),
        0..4_000_000_000_000i64
    ];
    ms.prop_map(Timestamp::from_ms)
}

fn writable_time() -> impl Strategy<Value = Timestamp> {
    (-62_167_219_200_000..=253_402_207_200_000i64).prop_map(Timestamp::from_ms)
}

fn json_round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

fn window_id() -> impl Strategy<Value = WindowId> {
    (terminal(), any::<u32>(), channel(), epoch(), any::<u16>()).prop_map(
        |(terminal, version, channel, epoch, window)| WindowId {
            terminal,
            version,
            channel,
            epoch,
            window,
        },
    )
}

fn stage() -> impl Strategy<Value = ChargeStage> {
    let claim = |n| ClaimId::from_parts(n, &[7; 10]);
    let mark = |n: u64| Mark::try_from((n % 100) as u8).unwrap();
    prop_oneof![
        writable_time().prop_map(|until| ChargeStage::Offered { until }),
        (any::<u64>(), writable_time()).prop_map(move |(n, until)| ChargeStage::Held {
            claim: claim(n),
            mark: mark(n),
            until
        }),
        (any::<u64>(), ".*").prop_map(move |(n, receipt)| ChargeStage::Paid {
            claim: claim(n),
            mark: mark(n),
            receipt
        }),
        Just(ChargeStage::Ended {
            reason: EndReason::Expired
        }),
    ]
}

proptest! {
    #[test]
    fn terminal_ids_read_back(id in terminal()) {
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(TerminalId::from_number(id.number()), Ok(id));
        json_round_trip(&id);
    }

    #[test]
    fn a_terminals_number_is_judged_as_its_digits_are(value in 0..200_000_000u32) {
        prop_assert_eq!(TerminalId::from_value(value), format!("{value:08}").parse());
    }

    #[test]
    fn uuids_read_back_and_are_version_7(unix_ms in any::<u64>(), random: [u8; 10]) {
        let id = ChargeId::from_parts(unix_ms, &random);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(id.0.get_version_num(), 7);
        json_round_trip(&id);
    }

    #[test]
    fn tokens_and_links_read_back(id in terminal(), bytes: [u8; 16], host in "[a-z]{1,10}(\\.[a-z0-9]{1,6})?(:[1-9][0-9]{0,3})?") {
        let token = MachineToken::from_bytes(bytes);
        prop_assert!(link::decode(&link::encode(&token)).unwrap().matches(&token));
        let link = LinkHost::parse(&host).unwrap().link(id, &token);
        let (terminal, read) = link::parse(&link).unwrap();
        prop_assert!(terminal == id && read.matches(&token));
        prop_assert_eq!(ndef::read_uri(&ndef::uri_message(&link).unwrap()).unwrap(), link);
    }

    #[test]
    fn a_token_has_one_spelling_in_upper_case(bytes: [u8; 16], place in 0..26usize, other in 0..32usize) {
        let mut text = link::encode(&MachineToken::from_bytes(bytes)).into_bytes();
        let letter = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[other];
        prop_assume!(text[place] != letter);
        text[place] = letter;
        if let Ok(read) = link::decode(std::str::from_utf8(&text).unwrap()) {
            prop_assert!(read.as_bytes() != &bytes);
        }
    }

    #[test]
    fn typed_codes_read_back(id in terminal(), rotating in 0..10_000_000u32) {
        let code = TypedCode::parse(&TypedCode::new(id, rotating).shown()).unwrap();
        prop_assert!(code.terminal() == id && code.matches(rotating));
    }

    #[test]
    fn a_wrong_digit_and_a_swap_of_neighbours_in_a_code_are_caught(
        id in terminal(), rotating in 0..10_000_000u32, place in 0..15usize, by in 1..10u8,
    ) {
        let digits: Vec<u8> = TypedCode::new(id, rotating).shown().bytes().filter(|c| *c != b'-').collect();
        let said = |digits: Vec<u8>| TypedCode::parse(&String::from_utf8(digits).unwrap()).err();
        let mut slip = digits.clone();
        slip[place] = b'0' + (slip[place] - b'0' + by) % 10;
        prop_assert_eq!(said(slip), Some(BadCode::Slip));
        if place > 0 && digits[place] != digits[place - 1] {
            let mut swapped = digits;
            swapped.swap(place, place - 1);
            prop_assert_eq!(said(swapped), Some(BadCode::Slip));
        }
    }

    #[test]
    fn money_and_times_read_back(money in money(), time in writable_time()) {
        json_round_trip(&money);
        json_round_trip(&time);
    }

    #[test]
    fn a_time_is_written_so_that_it_reads_back_or_not_at_all(time in moment()) {
        if let Ok(text) = serde_json::to_string(&time) {
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
        }
        let _ = (time.to_string(), time.secs(), time + i64::MAX, time - i64::MAX, time - Timestamp::from_ms(i64::MIN));
    }

    #[test]
    fn frames_events_and_heads_read_back(
        revision: u64, now in writable_time(), turns in vec((window_id(), any::<u16>()), 0..5),
        amount in proptest::option::of(money()), stage in stage(), due: bool,
    ) {
        let turns: Vec<_> = turns.into_iter().map(|(window, turn)| TurnState { window, turn }).collect();
        let charge = Some(ChargeState {
            charge: ChargeId::from_parts(1, &[1; 10]),
            kind: ChargeKind::Open,
            amount,
            reference: None,
            stage,
        });
        let (spread_ms, schedule_within_ms) = (revision as u32, revision as u32);
        let upkeep = Upkeep { renew_now: due, trust_sequence: revision, keys_tag: String::new(), spread_ms, checkpoint: None };
        json_round_trip(&TerminalState { revision, now, turns, charge, schedule_due: due, schedule_within_ms, upkeep });
        json_round_trip(&Head { node: "one".into(), sequence: revision, hash: String::new() });
    }

    #[test]
    fn events_read_back(at in writable_time(), id in window_id(), turn: u16, uid in ".*", count: u32) {
        let window = SeenWindow { channel: id.channel, version: id.version, epoch: id.epoch, window: id.window, turn };
        let counter = TagCounter { found: (turn % 2 == 0).then_some(count), left: count };
        for what in [
            Seen::Tap { tag_uid: uid.clone(), count, window: None, counter: None },
            Seen::Tap { tag_uid: uid.clone(), count, window: None, counter: Some(counter) },
            Seen::Tap { tag_uid: uid.clone(), count, window: Some(window), counter: None },
            Seen::TagWritten { tag_uid: uid.clone(), pages: count, window, signs: None, wear: None, counter: None },
            Seen::TagWritten {
                tag_uid: uid.clone(),
                pages: count,
                window,
                signs: Some(TagSigns { key_version: 1, counter: count }),
                wear: None,
                counter: Some(counter),
            },
            Seen::TagFailed { reason: uid.clone() },
        ] {
            json_round_trip(&TerminalEvent { id: EventId::from_parts(1, &[2; 10]), at, what });
        }
    }

    #[test]
    fn epoch_keys_travel_whole_and_are_never_printed(key in key(), epoch in epoch()) {
        let answer = ScheduleResponse {
            schedule: "a.b.c".into(),
            epoch_keys: vec![EpochKeyEntry { epoch, version: 1, key: key.clone() }],
        };
        let text = serde_json::to_string(&answer).unwrap();
        let read: ScheduleResponse = serde_json::from_str(&text).unwrap();
        prop_assert!(read.epoch_keys[0].key.matches(&key));
        prop_assert_eq!(format!("{read:?} {key:?}"), "ScheduleResponse(1 epochs, ..) EpochKey(..)");
    }

    #[test]
    fn what_is_signed_verifies_and_what_is_changed_does_not(
        secret in any::<[u8; 32]>(), iat: i64, flip in any::<prop::sample::Index>(), bit in 0..6u32,
    ) {
        let Ok(signer) = SigningKey::from_slice(&secret) else { return Ok(()) };
        let point = signer.verifying_key().to_sec1_point(false);
        let jwk = Jwk::from_point(&point.as_bytes().try_into().unwrap()).unwrap();
        let kid = jwk.thumbprint();
        let keys = JwkSet { keys: vec![jwk] };
        let claims = CheckpointClaims { iss: "spiffe://a/authority/b".into(), iat, generation: 1, heads: vec![] };
        let unsigned = Unsigned::new(&claims, &kid);
        let signature: Signature = signer.sign_prehash(&unsigned.digest()).unwrap();
        let jws = unsigned.with_signature(&signature.to_bytes().into());
        let verified = verify::<CheckpointClaims>(&jws, &keys).unwrap();
        prop_assert_eq!((verified.claims(), verified.kid()), (&claims, kid.as_str()));
        let mut changed = jws.clone().into_bytes();
        changed[flip.index(jws.len())] ^= 1 << bit;
        if let Ok(changed) = String::from_utf8(changed) {
            prop_assert!(verify::<CheckpointClaims>(&changed, &keys).is_err(), "{}", changed);
        }
        prop_assert!(verify::<ReceiptClaims>(&jws, &keys).is_err());
    }

    #[test]
    fn windows_touch_stay_inside_the_policy_and_fill_the_epoch(
        key in key(), policy in policy(), channel in channel(), id in terminal(), epoch in epoch(),
    ) {
        let clock = EpochClock::of(id);
        let plan = WindowPlan::draw(&key, &policy, channel, &clock, epoch);
        let (windows, limits) = (plan.windows(), policy.of(channel));
        prop_assert_eq!(windows[0].opens, clock.opens(epoch));
        prop_assert_eq!(windows[windows.len() - 1].closes, clock.closes(epoch));
        for (index, window) in windows.iter().enumerate() {
            prop_assert_eq!(usize::from(window.index), index);
            let length = window.closes - window.opens;
            prop_assert!((limits.shortest_ms..=limits.longest_ms).contains(&length), "{}", length);
        }
        prop_assert!(windows.is_sorted_by(|a, b| a.closes == b.opens));
    }

    #[test]
    fn at_finds_exactly_the_window(
        key in key(), policy in policy(), id in terminal(), epoch in epoch(), into in -5_000..EPOCH_MS + 5_000,
    ) {
        let clock = EpochClock::of(id);
        let plan = WindowPlan::draw(&key, &policy, Channel::Qr, &clock, epoch);
        let now = clock.opens(epoch) + into;
        let expected = plan.windows().iter().find(|w| w.opens <= now && now < w.closes);
        prop_assert_eq!(plan.at(now), expected);
        prop_assert_eq!(expected.is_some(), (0..EPOCH_MS).contains(&into));
        for window in plan.windows().iter().take(20) {
            prop_assert_eq!(plan.at(window.opens), Some(window));
            prop_assert_eq!(plan.at(window.closes - 1), Some(window));
        }
    }

    #[test]
    fn a_window_accepts_exactly_between_its_borders(
        key in key(), policy in policy(), id in terminal(), pick in any::<prop::sample::Index>(),
    ) {
        let clock = EpochClock::of(id);
        let plan = WindowPlan::draw(&key, &policy, Channel::Qr, &clock, 495_000);
        let (window, limits) = (plan.windows()[pick.index(plan.windows().len())], policy.of(Channel::Qr));
        let end = window.closes + limits.grace_ms;
        let accepts = |now| window.accepts(now, limits);
        prop_assert!(!accepts(window.opens - EARLY_MS - 1) && accepts(window.opens - EARLY_MS));
        prop_assert!(accepts(end - 1) && !accepts(end));
    }

    #[test]
    fn the_epoch_of_a_moment_contains_it(id in terminal(), now in moment()) {
        let clock = EpochClock::of(id);
        let epoch = clock.epoch_at(now);
        let inside = clock.opens(epoch) <= now && now < clock.closes(epoch);
        let outside = now < clock.opens(0) || clock.closes(u32::MAX) <= now;
        prop_assert!(inside != outside);
    }

    #[test]
    fn a_policy_of_any_numbers_is_refused_or_can_be_drawn(policy in wild_policy(), key in key(), now in moment()) {
        if let Ok(policy) = policy.check() {
            let plan = WindowPlan::draw(&key, &policy, Channel::Nfc, &EpochClock::of("00000000".parse().unwrap()), 7);
            prop_assert!(plan.windows().len() <= 3_600);
            let _ = plan.at(now);
        }
    }

    #[test]
    fn windows_that_are_behind_are_not_missed_whenever_they_were_noted(
        id in terminal(), key in key(), into in 0..EPOCH_MS, notes in vec(-200_000..200_000i64, 1..4),
    ) {
        let clock = EpochClock::of(id);
        let now = clock.opens(495_000) + into;
        let policy = Policy::default().check().unwrap();
        let load = |epoch| LoadedEpoch { version: 1, epoch, key: key.clone(), policy, behind: Behind::default() };
        let whole: Vec<_> = epochs_needed(id, now).into_iter().map(load).collect();
        let mut noted = whole.clone();
        for (hour, plain) in noted.iter_mut().zip(&whole) {
            for (channel, note) in Channel::ALL.into_iter().zip(notes.iter().cycle()) {
                hour.behind.follow(plain.windows(channel, &clock), now + *note);
            }
        }
        let windows = |loaded: &[LoadedEpoch]| -> Vec<_> {
            let found = candidates(id, now, loaded, &Channel::ALL);
            found.into_iter().map(|it| (it.id, it.window)).collect()
        };
        let all = windows(&whole);
        prop_assert!(all.len() >= 3);
        prop_assert_eq!(windows(&noted), all);
    }

    #[test]
    fn no_moment_and_no_epoch_makes_the_judge_panic(
        id in terminal(), key in key(), epochs in vec(epoch(), 0..3), now in moment(), bytes: [u8; 16],
    ) {
        let policy = Policy::default().check().unwrap();
        let mut epochs = epochs;
        epochs.extend(epochs_needed(id, now));
        let loaded: Vec<_> = epochs.into_iter().map(|epoch| LoadedEpoch { version: 1, epoch, key: key.clone(), policy, behind: Behind::default() }).collect();
        let presented = Presented::Machine { terminal: id, token: MachineToken::from_bytes(bytes) };
        let found = candidates(id, now, &loaded, &Channel::ALL);
        prop_assert!(recognise(&presented, &found).is_err());
        if loaded.len() < 3 {
            let _ = explain(&presented, now, &loaded);
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in ".*", tokenish in "[0-9OIl .-]{0,20}(\\.[0-9A-Za-z]{0,30})?") {
        for text in [text, tokenish] {
            let _ = (text.parse::<TerminalId>(), text.parse::<ClaimId>(), text.parse::<Currency>());
            let _ = (TypedCode::parse(&text), link::parse(&text), link::decode(&text).is_ok());
            let _ = (LinkHost::parse(&text), Presented::parse(&text), ndef::uri_message(&text));
            let _ = (Parts::split(&text).is_ok(), verify::<ReceiptClaims>(&text, &JwkSet::default()));
            let _ = serde_json::from_value::<Timestamp>(text.into());
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = ndef::read_uri(&bytes);
        let _ = serde_json::from_slice::<TerminalState>(&bytes).is_ok();
        let _ = serde_json::from_slice::<ScheduleResponse>(&bytes).is_ok();
        let _ = serde_json::from_slice::<JwkSet>(&bytes).is_ok();
    }

    #[test]
    fn no_turns_make_a_terminal_forget_what_is_higher(states in vec((window_id(), any::<u16>()), 0..40)) {
        let mut known = KnownTurns::default();
        let states: Vec<_> = states.into_iter().map(|(window, turn)| TurnState { window, turn }).collect();
        known.absorb(states.clone());
        let mut backwards = KnownTurns::default();
        backwards.absorb(states.iter().rev().copied());
        prop_assert_eq!(&known, &backwards);
        prop_assert!(!known.clone().absorb(states.clone()));
        prop_assert!(states.iter().all(|state| known.of(&state.window) >= state.turn));
    }

    #[test]
    fn a_schedule_of_any_numbers_is_refused_or_followed(
        id in terminal(), epochs in vec(epoch(), 0..4), policy in wild_policy(), sound: bool, sequence: u64,
        host in prop_oneof![Just("pay.example".to_string()), ".*"], generation: u32,
    ) {
        let key = EpochKey::from_bytes([1; 32]);
        let epochs: Vec<_> = epochs.into_iter().map(|epoch| EpochCheck::new(epoch, 1, &key)).collect();
        let (valid_from, valid_until) = validity(id, &epochs).unwrap_or((i64::MIN, i64::MAX));
        let claims = ScheduleClaims {
            iss: "spiffe://example.org/authority/one".into(), sub: format!("spiffe://example.org/terminal/{id}"),
            iat: 0, terminal: id, generation, sequence, valid_from, valid_until,
            policy: if sound { Policy::default() } else { policy }, nfc_paces: Vec::new(), link_host: host, epochs,
        };
        let rising = claims.epochs.is_sorted_by(|a, b| a.epoch < b.epoch) && !claims.epochs.is_empty();
        let good = rising && claims.policy.check().is_ok() && LinkHost::parse(&claims.link_host).is_ok();
        prop_assert_eq!(follow(&claims, id, None).is_ok(), good);
        let newer = Rank { generation, sequence: sequence.saturating_add(1) };
        prop_assert!(follow(&claims, id, Some(newer)).is_err() || sequence == u64::MAX || !good);
    }
}

#[test]
fn an_approval_fits_its_charge_exactly_or_is_refused() {
    use protocol::charge::ApprovalRefusal::*;
    let euros = |minor| Money::new(minor, Currency::EUR).unwrap();
    let payee = MerchantId::from_parts(1, &[1; 10]);
    let claimed = |kind, asked, cap| Claimed {
        claim: ClaimId::from_parts(1, &[2; 10]),
        token: window().turn(0),
        terminal: window().terminal,
        payee,
        charge: ChargeId::from_parts(1, &[3; 10]),
        kind,
        asked,
        cap,
        reference: None,
        mark: Mark::from_random([0, 7]),
        claimed_at: Timestamp::from_ms(0),
        held_until: Timestamp::from_ms(1_000),
    };
    let till = || claimed(ChargeKind::Till, Some(euros(420)), None);
    let open = || claimed(ChargeKind::Open, None, Some(euros(500)));
    let say = |claimed: Claimed, amount, payee, now| {
        let approved = claimed.approve(&Approval { amount, payee }, Timestamp::from_ms(now));
        approved.map(|a| a.amount()).err()
    };
    assert_eq!(say(till(), euros(420), payee, 999), None);
    assert_eq!(say(till(), euros(420), payee, 1_000), Some(Late));
    assert_eq!(say(till(), euros(421), payee, 0), Some(Amount));
    let yen = Money::new(420, "JPY".parse().unwrap()).unwrap();
    assert_eq!(say(till(), yen, payee, 0), Some(Amount));
    assert_eq!(
        say(till(), euros(420), MerchantId::from_parts(2, &[1; 10]), 0),
        Some(Payee)
    );
    assert_eq!(say(open(), euros(500), payee, 0), None);
    assert_eq!(say(open(), euros(501), payee, 0), Some(Amount));
    assert_eq!(say(open(), yen, payee, 0), Some(Amount));
    let capped_till = claimed(ChargeKind::Till, None, Some(euros(500)));
    assert_eq!(say(capped_till, euros(1), payee, 0), Some(Amount));
}

fn window() -> WindowId {
    WindowId {
        terminal: TerminalId::from_number(1).unwrap(),
        version: 1,
        channel: Channel::Qr,
        epoch: 1,
        window: 1,
    }
}

#[test]
fn a_key_set_with_keys_of_other_kinds_still_gives_ours() {
    let (signer, other) = (
        SigningKey::from_slice(&[7; 32]).unwrap(),
        r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#,
    );
    let point = signer.verifying_key().to_sec1_point(false);
    let jwk = Jwk::from_point(&point.as_bytes().try_into().unwrap()).unwrap();
    let text = format!(
        r#"{{"keys":[{other},{{"kty":"RSA","n":"AQ","e":"AQAB"}},7,{}]}}"#,
        serde_json::to_string(&jwk).unwrap()
    );
    let keys: JwkSet = serde_json::from_str(&text).unwrap();
    assert_eq!(keys.keys, std::slice::from_ref(&jwk));
    for (member, value) in [
        ("use", "enc"),
        ("alg", "ES384"),
        ("crv", "P-384"),
        ("kty", "RSA"),
        ("x", "AA"),
        ("y", &jwk.x),
    ] {
        let mut spoiled = serde_json::to_value(&jwk).unwrap();
        spoiled[member] = value.into();
        let spoiled: Jwk = serde_json::from_value(spoiled).unwrap();
        assert!(spoiled.verifying_key().is_err(), "{member}");
    }
}

#[test]
fn secrets_are_mute() {
    use protocol::wire::claims::ClaimRequest;
    let token = MachineToken::from_bytes([0xAB; 16]);
    let id = TerminalId::from_number(1).unwrap();
    let code = TypedCode::new(id, 7_654_321);
    let request = ClaimRequest {
        token: code.shown(),
    };
    let presented = Presented::Machine {
        terminal: id,
        token,
    };
    let said = format!(
        "{token:?} {code:?} {request:?} {presented:?} {:?}",
        Presented::Typed(code)
    );
    for secret in ["171", "ab", "AB", "7654321", "765", "54321"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_signed_link_panic_and_none_proves_a_tap_by_chance(
        text in "\\PC{0,120}",
        tail in "[0-9A-F.]{0,80}",
    ) {
        let keys = SunKeys {
            meta: AesKey::from_bytes([1; 16]),
            mac: AesKey::from_bytes([2; 16]),
        };
        let plain = "https://pay.example/t/47110422.448FT7303N447EFB8H2JK8WRP4";
        for text in [text, format!("{plain}.{tail}"), template(plain) + &tail] {
            let proven = SunLink::parse(&text).and_then(|link| link.verify(&keys));
            prop_assert!(proven.is_err());
        }
    }
}

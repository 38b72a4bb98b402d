//! Does a terminal get its schedule, its pushes and its charges, and nobody else's?

use authority::http::agents;
use authority::listen::{self, Listening, Plain};
use authority::services::push::Frame;
use authority::services::schedules::Due;
use authority::store::{
    AlarmKind, Certificate, Identities, JoinToken, Recorded, Redeem, Revocations, Right, Subject,
    Terminals,
};
use pki::crl::Reason;
use protocol::charge::REFERENCE_MAX;
use protocol::ids::{EventId, TerminalId};
use protocol::jws;
use protocol::schedule::{ScheduleClaims, accept};
use protocol::token::Channel;
use protocol::window::EpochClock;
use protocol::wire::push::{ChargeStage, TerminalState};
use protocol::wire::reports::{ReportRequest, Seen, TerminalEvent};
use protocol::wire::schedules::ScheduleQuery;
use tokio::sync::mpsc::Receiver;

use crate::world::{MINUTE, World, eur};

pub fn slug<T: std::fmt::Debug>(result: Result<T, authority::services::Failure>) -> String {
    let problem = result.unwrap_err().into_problem();
    problem.problem_type().unwrap().slug().into()
}

pub async fn state(frames: &mut Receiver<Frame>) -> TerminalState {
    match frames.recv().await {
        Some(Frame::State(state)) => *state,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_route_of_the_agents_answers_without_a_certificate() {
    let world = World::new().await;
    let listening = Listening::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listening.address();
    let listener = listen::private(listening, agents::routes(&world.journey)).over(Plain);
    tokio::spawn(listener.run(world.app.clone()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let charge = "/v1/charges/01a209b4-e5e0-7368-a172-676520202020";
    let routes = [
        ("GET", "/v1/schedule"),
        ("GET", "/v1/events"),
        ("POST", "/v1/charges"),
        ("GET", charge),
        ("DELETE", charge),
        ("POST", "/v1/reports"),
        ("GET", "/.well-known/jwks.json"),
    ];
    for (method, path) in routes {
        let method = method.parse().unwrap();
        let request = http.request(method, format!("http://{address}{path}"));
        let answer = request.body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        assert!(
            answer.text().await.unwrap().contains("certificate-needed"),
            "{path}"
        );
    }
    for path in ["/v1/schedule", "/v1/events", charge] {
        world.get(path).await.refused(404, "not-found");
    }
}

#[tokio::test]
async fn a_schedule_reaches_the_horizon_and_never_past_it() {
    let world = World::new().await;
    let (terminal, now) = (world.terminal, world.now());
    let present = EpochClock::of(terminal).epoch_at(now);
    let issue = |after| {
        let query = ScheduleQuery { after };
        let world = &world;
        async move { world.journey.schedules.issue(terminal, &query, now).await }
    };
    let all = issue(None).await.unwrap();
    assert_eq!(all.epoch_keys.len(), 25);
    assert_eq!(all.epoch_keys[0].epoch, present);
    let rest = issue(Some(present + 22)).await.unwrap();
    let epochs: Vec<u32> = rest.epoch_keys.iter().map(|it| it.epoch).collect();
    assert_eq!(epochs, [present + 23, present + 24]);
    let past = issue(Some(1)).await.unwrap();
    assert_eq!(past.epoch_keys[0].epoch, present, "the past is nobody's");
    for after in [present + 24, u32::MAX] {
        assert_eq!(slug(issue(Some(after)).await), "epoch-out-of-horizon");
    }
}

#[tokio::test]
async fn schedules_rise_and_verify_and_are_of_one_terminal() {
    let world = World::new().await;
    let issue = || async {
        let query = ScheduleQuery::default();
        world
            .journey
            .schedules
            .issue(world.terminal, &query, world.now())
            .await
            .unwrap()
    };
    let read = |jws: &str| jws::verify::<ScheduleClaims>(jws, world.app.keyring().jwks()).unwrap();
    let first = issue().await;
    let schedule = accept(read(&first.schedule), world.terminal, None).unwrap();
    assert_eq!(
        schedule.claims().sub,
        format!("spiffe://pay.example/terminal/{}", world.terminal)
    );
    for (entry, check) in first.epoch_keys.iter().zip(&schedule.claims().epochs) {
        assert!(check.fits(&entry.key));
    }
    let second = issue().await;
    let rank = schedule.rank();
    let second = accept(read(&second.schedule), world.terminal, Some(rank)).unwrap();
    assert!(second.rank() > rank);
    assert!(accept(read(&first.schedule), world.terminal, Some(second.rank())).is_err());
    let other = TerminalId::from_number(5).unwrap();
    assert!(accept(read(&first.schedule), other, None).is_err());
}

#[tokio::test]
async fn a_banned_or_unknown_terminal_gets_no_schedule() {
    let world = World::new().await;
    let query = ScheduleQuery::default();
    let now = world.now();
    world
        .store
        .ban_terminal(world.terminal, "gone".into(), now)
        .await
        .unwrap();
    let nobody = TerminalId::from_number(8).unwrap();
    for terminal in [world.terminal, nobody] {
        let refused = world.journey.schedules.issue(terminal, &query, now).await;
        assert_eq!(slug(refused), "terminal-refused");
    }
}

#[tokio::test]
async fn the_first_frame_is_the_whole_state_and_every_change_is_another() {
    let world = World::new().await;
    let mut frames = world.journey.push.open(world.terminal, "01", None);
    let first = state(&mut frames).await;
    assert!(first.charge.is_none() && first.schedule_due);
    let phone = world.held(420).await;
    let mut last = state(&mut frames).await;
    while !matches!(
        last.charge.as_ref().map(|it| &it.stage),
        Some(ChargeStage::Held { .. })
    ) {
        let next = state(&mut frames).await;
        assert!(next.revision >= last.revision);
        last = next;
    }
    assert!(!last.turns.is_empty() && !last.schedule_due);
    world.approve(&phone, "ann", 420).await;
    loop {
        let next = state(&mut frames).await;
        if let Some(ChargeStage::Paid { receipt, .. }) = next.charge.map(|it| it.stage) {
            assert!(!receipt.is_empty());
            break;
        }
    }
}

#[tokio::test]
async fn a_second_stream_ends_the_first_and_rings_the_alarm() {
    let world = World::new().await;
    let mut older = world.journey.push.open(world.terminal, "01", None);
    state(&mut older).await;
    let mut newer = world.journey.push.open(world.terminal, "02", None);
    state(&mut newer).await;
    assert_eq!(older.recv().await, None);
    assert_eq!(world.app.metrics.clone_alarms.get(), 1);
    world.charge(420).await;
    assert!(state(&mut newer).await.charge.is_some());
}

/// A certificate of the world's terminal with this serial and key, by a right of its own.
pub async fn issued(world: &World, serial: &str, key: u8, renews: Option<&str>) {
    let now = world.now();
    let certificate = Certificate {
        serial: serial.into(),
        subject: Subject::Terminal(world.terminal),
        spki_sha256: [key; 32],
        not_before: now,
        not_after: now + 24 * 60 * MINUTE,
        issuer_key: "aa".into(),
        der: Vec::new(),
    };
    let store = &world.store;
    let right = match renews {
        Some(renewed) => Right::Renews(renewed.into()),
        None => {
            let token = JoinToken {
                terminal: world.terminal,
                hash: [key; 32],
                expires_at: now + MINUTE,
            };
            let (hash, key) = (token.hash, certificate.spki_sha256);
            assert!(store.add_join_token(token, now).await.unwrap());
            let redeemed = store.redeem_join_token(world.terminal, hash, key, now);
            assert_eq!(redeemed.await, Ok(Redeem::Good));
            Right::JoinToken(hash)
        }
    };
    let recorded = store.add_terminal_certificate(certificate, right, now);
    assert_eq!(recorded.await, Ok(Recorded::New));
}

#[tokio::test]
async fn a_stream_under_the_renewed_certificate_rings_no_alarm() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    issued(&world, "02", 2, Some("01")).await;
    let mut older = world.journey.push.open(world.terminal, "01", None);
    state(&mut older).await;
    let mut newer = world.journey.push.open(world.terminal, "02", None);
    state(&mut newer).await;
    assert_eq!(older.recv().await, None);
    assert_eq!(world.store.alarms(None, 9).await, Ok(Vec::new()));
    let mut oldest = world.journey.push.open(world.terminal, "01", None);
    state(&mut oldest).await;
    let alarms = world.store.alarms(None, 9).await.unwrap();
    let [alarm] = alarms.as_slice() else {
        panic!("the old one came back: {alarms:?}")
    };
    assert_eq!(alarm.alarm.kind, AlarmKind::SecondStream);
    assert_eq!(
        (alarm.alarm.certificate.as_str(), alarm.alarm.other.as_str()),
        ("01", "02")
    );
}

#[tokio::test]
async fn two_machines_with_one_certificate_ring_the_alarm_and_a_bad_network_does_not() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    let comes_back = async |times: u32, after_ms: i64| {
        for _ in 0..times {
            world.advance(after_ms);
            let mut frames = world.journey.push.open(world.terminal, "01", None);
            state(&mut frames).await;
        }
    };
    comes_back(20, 20_000).await;
    assert_eq!(world.store.alarms(None, 9).await, Ok(Vec::new()));
    comes_back(7, 1_000).await;
    let alarms = world.store.alarms(None, 9).await.unwrap();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
}

#[tokio::test]
async fn a_copy_that_takes_its_time_rings_the_alarm_all_the_same() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    let comes = async |after_ms: i64| {
        world.advance(after_ms);
        let mut frames = world.journey.push.open(world.terminal, "01", None);
        state(&mut frames).await;
        frames
    };
    let mut terminals = comes(1_000).await;
    for _ in 0..7 {
        // It listens for a moment and leaves; the terminal comes back at once.
        drop(comes(60_000).await);
        assert_eq!(terminals.recv().await, None, "displaced");
        terminals = comes(1_000).await;
    }
    let alarms = world.store.alarms(None, 9).await.unwrap();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(alarms[0].alarm.kind, AlarmKind::SecondStream);
}

#[tokio::test]
async fn a_process_that_comes_back_for_its_stream_rings_the_alarm_and_a_restarted_one_does_not() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    let listens = async |process: &str| {
        world.advance(1_000);
        let name = Some(process.to_owned());
        let mut frames = world.journey.push.open(world.terminal, "01", name);
        state(&mut frames).await;
    };
    for _ in 0..20 {
        listens("before").await;
    }
    for _ in 0..20 {
        listens("restarted").await;
    }
    assert_eq!(world.store.alarms(None, 9).await, Ok(Vec::new()));
    listens("before").await;
    let alarms = world.store.alarms(None, 9).await.unwrap();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(alarms[0].alarm.kind, AlarmKind::SecondStream);
}

#[tokio::test]
async fn a_ban_ends_the_stream_and_a_banned_terminal_gets_none() {
    let world = World::new().await;
    let mut frames = world.journey.push.open(world.terminal, "01", None);
    state(&mut frames).await;
    let (terminal, now) = (world.terminal, world.now());
    world
        .store
        .ban_terminal(terminal, "stolen".into(), now)
        .await
        .unwrap();
    world.app.bans.announce(terminal);
    assert_eq!(frames.recv().await, None);
    let mut again = world.journey.push.open(terminal, "01", None);
    assert_eq!(again.recv().await, None);
}

#[tokio::test]
async fn a_stream_that_was_not_woken_is_found_by_the_next_look_around() {
    let world = World::new().await;
    let mut frames = world.journey.push.open(world.terminal, "01", None);
    state(&mut frames).await;
    assert_eq!(world.journey.push.look_around().await.unwrap(), 0);
    // As if whoever committed it had been cut off before the wake.
    let (terminal, now) = (world.terminal, world.now());
    let banned = world.store.ban_terminal(terminal, "stolen".into(), now);
    banned.await.unwrap().unwrap();
    assert_eq!(world.journey.push.look_around().await.unwrap(), 1);
    assert_eq!(frames.recv().await, None);
    assert_eq!(world.journey.push.look_around().await.unwrap(), 0);
}

#[tokio::test]
async fn a_terminal_hears_whether_its_schedule_is_due_now_or_may_wait() {
    let world = World::new().await;
    let mut frames = world.journey.push.open(world.terminal, "01", None);
    let first = state(&mut frames).await;
    // A fleet of one has nobody to wait for.
    let told = (first.schedule_due, first.schedule_within_ms);
    assert_eq!(told, (true, 0));
    let terminal = world.store.terminal(world.terminal).await.unwrap().unwrap();
    assert_eq!(world.journey.schedules.due(&terminal), Due::Spread);
}

#[tokio::test]
async fn a_charge_is_started_once_and_seen_by_its_own_terminal_only() {
    let world = World::new().await;
    let other = TerminalId::from_number(6).unwrap();
    world.add_terminal(other).await;
    let (charges, now) = (&world.journey.charges, world.now());
    let request = world.charge_request(420);
    let first = charges
        .start(world.terminal, request.clone(), now)
        .await
        .unwrap();
    let again = charges
        .start(world.terminal, request.clone(), now)
        .await
        .unwrap();
    assert_eq!(first, again);
    let mut differs = request.clone();
    differs.amount = eur(421);
    assert_eq!(
        slug(charges.start(world.terminal, differs, now).await),
        "charge-differs"
    );
    let second = world.charge_request(420);
    assert_eq!(
        slug(charges.start(world.terminal, second, now).await),
        "charge-open"
    );
    let id = request.charge;
    assert_eq!(slug(charges.look(other, id).await), "charge-unknown");
    assert_eq!(slug(charges.cancel(other, id, now).await), "charge-unknown");
    assert!(matches!(
        charges.look(world.terminal, id).await.unwrap().stage,
        ChargeStage::Offered { .. }
    ));
}

#[tokio::test]
async fn bad_charges_are_refused() {
    let world = World::new().await;
    let (charges, now) = (&world.journey.charges, world.now());
    let mut long = world.charge_request(420);
    long.reference = Some("x".repeat(REFERENCE_MAX + 1));
    let mut control = world.charge_request(420);
    control.reference = Some("a\u{7}".into());
    let mut dollars = world.charge_request(420);
    dollars.amount = protocol::money::Money::new(1, "USD".parse().unwrap()).unwrap();
    for bad in [long, control, dollars] {
        assert_eq!(
            slug(charges.start(world.terminal, bad, now).await),
            "malformed-request"
        );
    }
}

#[tokio::test]
async fn an_offer_expires_and_a_paid_charge_cannot_be_cancelled() {
    let world = World::new().await;
    let charge = world.charge(420).await.charge;
    world.advance(10 * MINUTE);
    assert_eq!(world.journey.sweep(world.now()).await.unwrap(), 1);
    let (charges, terminal) = (&world.journey.charges, world.terminal);
    let ended = charges.look(terminal, charge).await.unwrap();
    assert!(matches!(ended.stage, ChargeStage::Ended { .. }));

    let charge = world.charge(420).await.charge;
    let phone = world.claimed(&world.shown(Channel::Qr).await, None).await;
    world.approve(&phone, "ann", 420).await;
    let state = charges.cancel(terminal, charge, world.now()).await.unwrap();
    assert!(matches!(state.stage, ChargeStage::Paid { .. }));
    assert_eq!(world.balance("ann").await, 4_580);
}

#[tokio::test]
async fn a_repeated_report_is_stored_once_and_too_much_is_refused() {
    let world = World::new().await;
    let event = |n: u8| TerminalEvent {
        id: EventId::from_parts(1, &[n; 10]),
        at: world.now(),
        what: Seen::TagFailed {
            reason: "no tag".into(),
        },
    };
    let (reports, now) = (&world.journey.reports, world.now());
    let events = vec![event(1), event(2)];
    for _ in 0..2 {
        let request = ReportRequest {
            events: events.clone(),
        };
        let stored = reports
            .take(world.terminal, request, now)
            .await
            .unwrap()
            .stored;
        assert_eq!(stored.len(), 2);
    }
    let events = vec![event(1); 257];
    let request = ReportRequest { events };
    assert_eq!(
        slug(reports.take(world.terminal, request, now).await),
        "malformed-request"
    );
}

#[tokio::test]
async fn a_stream_under_a_revoked_certificate_ends_at_its_next_look_whoever_announced_it() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    let mut frames = world.journey.push.open(world.terminal, "01", None);
    state(&mut frames).await;
    let (store, now) = (&world.store, world.now());
    let revoked = store.revoke_certificate("01", Reason::KeyCompromise, now);
    revoked.await.unwrap().unwrap();
    world.journey.push.changed(world.terminal);
    assert_eq!(frames.recv().await, None);
}

#[tokio::test]
async fn a_stream_does_not_outlive_its_certificate() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    let mut frames = world.journey.push.open(world.terminal, "01", None);
    state(&mut frames).await;
    world.advance(24 * 60 * MINUTE);
    world.journey.push.changed(world.terminal);
    assert!(
        frames.recv().await.is_some(),
        "to the end of its last second"
    );
    world.advance(1_000);
    world.journey.push.changed(world.terminal);
    assert_eq!(frames.recv().await, None);
}

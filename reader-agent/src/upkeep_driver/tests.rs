#![allow(clippy::unwrap_used)]
//! Real files and real TLS; the server has the authority's rules (`testing/authority.rs`).
use super::*;
use crate::authority::push::{Follower, Pushed};
use crate::authority::{CallError, Greeting};
use crate::identity::disk::{NEXT_CHAIN_FILE, NEXT_KEY_FILE};
use crate::state::State;
use crate::testing::authority::{Ca, DUE, Days, EXPIRED, FRESH, FakeAuthority, Root, signed};
use crate::upkeep::SPREAD_MS;
use pki::TrustBundle;
use pki::trust::{Change, Draft};
use protocol::wire::upkeep::Upkeep;
use std::path::Path;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything of an agent that has to do with its upkeep.
struct Agent {
    driver: UpkeepDriver,
    line: Arc<Line>,
    state: Arc<State>,
    noticed: Arc<watch::Sender<Noticed>>,
    kept: watch::Receiver<Kept>,
    stop: watch::Sender<bool>,
}

impl Agent {
    /// Starts from what is on the disk.
    fn of(dir: &Path, authority: &FakeAuthority) -> Self {
        let identity_files = IdentityFiles::in_dir(dir);
        let trust_files = TrustFiles::in_dir(dir);
        let found = identity_files.load().unwrap();
        let trust = trust_files.load().unwrap();
        let clock = Arc::new(Clock::start(None));
        let line = Line::new(&authority.base, found.current, trust, clock.clone());
        let line = Arc::new(line.unwrap());
        let noticed = Arc::new(watch::Sender::default());
        let (kept, stop) = (watch::Sender::default(), watch::Sender::new(false));
        let kept_out = kept.subscribe();
        let driver = UpkeepDriver::new(Supplies {
            spread_ms: SPREAD_MS,
            line: line.clone(),
            next: found.next,
            identity_files,
            trust_files,
            clock,
            metrics: Arc::new(Metrics::new()),
            noticed: noticed.subscribe(),
            kept,
            stop: stop.subscribe(),
        });
        Self {
            driver,
            line,
            state: Arc::new(State::open(&dir.join("agent.db")).unwrap()),
            noticed,
            kept: kept_out,
            stop,
        }
    }

    /// Runs the upkeep and the stream; what the stream tells the screen comes out.
    fn run(
        self,
    ) -> (
        Arc<Line>,
        watch::Receiver<Kept>,
        mpsc::Receiver<Pushed>,
        watch::Sender<bool>,
    ) {
        let (heard, out) = mpsc::channel(1_000);
        let follower = Follower {
            line: self.line.clone(),
            state: self.state,
            last: None,
            heard,
            noticed: self.noticed,
            instance: "a".into(),
        };
        tokio::spawn(follower.follow());
        tokio::spawn(self.driver.run());
        (self.line, self.kept, out, self.stop)
    }

    /// Opens a stream as the follower would, and says what came of it.
    async fn call(&self) -> Result<(), CallError> {
        let footing = self.line.now();
        let opened = footing.client.events(&Greeting::default()).await;
        self.noticed.send_modify(|noticed| match &opened {
            Ok(_) => noticed.up_under = Some(footing.number),
            Err(error) => noticed.refused = Some((footing.number, error.clone())),
        });
        if opened.is_ok() {
            self.line.prove(footing.number);
        }
        opened.map(|_| ())
    }

    /// Does the next thing there is to do: a step, or the first use of what is on trial.
    async fn go_on(&mut self) -> Option<Op> {
        self.driver.hear();
        match self.driver.keeper.poll(self.driver.at()) {
            Some(step) => {
                self.driver.take(step).await;
                Some(Op::Step(step))
            }
            None if self.line.now().standing == Standing::OnTrial => {
                self.call().await.unwrap();
                Some(Op::Use)
            }
            None => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Step(Step),
    Use,
}

/// A renewal as a list of operations, with the first use of the new certificate where it happens.
const OPERATIONS: [Op; 7] = [
    Op::Step(Step::MakeKey),
    Op::Step(Step::Ask),
    Op::Step(Step::KeepAnswer),
    Op::Step(Step::Try),
    Op::Use,
    Op::Step(Step::PromoteKey),
    Op::Step(Step::PromoteChain),
];

async fn enrolled(days: Days) -> (FakeAuthority, tempfile::TempDir) {
    let authority = FakeAuthority::start().await;
    let dir = tempfile::tempdir().unwrap();
    authority.enrol(dir.path(), days);
    (authority, dir)
}

fn serial(dir: &Path) -> String {
    let found = IdentityFiles::in_dir(dir).load().unwrap();
    found.current.leaf().serial_hex()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.expect("it happens within a minute")
}

async fn until_settled(kept: &mut watch::Receiver<Kept>) {
    let settled =
        kept.wait_for(|k| k.renews_at.is_some() && !k.is_renewing && k.troubles.is_empty());
    within(settled).await.unwrap();
}

async fn until_troubled(kept: &mut watch::Receiver<Kept>) -> Trouble {
    let troubled = within(kept.wait_for(|k| !k.troubles.is_empty())).await;
    troubled.unwrap().troubles[0].clone()
}

#[tokio::test]
async fn a_renewal_is_the_list_of_operations_that_the_cuts_are_made_in() {
    let (authority, dir) = enrolled(DUE).await;
    let mut agent = Agent::of(dir.path(), &authority);
    let mut done = Vec::new();
    while let Some(op) = agent.go_on().await {
        done.push(op);
    }
    assert_eq!(done, OPERATIONS);
}

#[tokio::test]
async fn a_cut_after_any_operation_and_after_any_again_locks_nobody_out() {
    for first in 0..=OPERATIONS.len() {
        for second in 0..=OPERATIONS.len() - first {
            let (authority, dir) = enrolled(DUE).await;
            let old = serial(dir.path());
            for cut in [first, second] {
                let mut agent = Agent::of(dir.path(), &authority);
                for _ in 0..cut {
                    agent.go_on().await;
                }
            }
            let mut agent = Agent::of(dir.path(), &authority);
            while agent.go_on().await.is_some() {}
            let cuts = format!("cut after {first} and {second}");
            assert!(agent.call().await.is_ok(), "{cuts}");
            assert_ne!(serial(dir.path()), old, "{cuts}");
            assert_eq!(authority.seen().borrow().clone_alarms, 0, "{cuts}");
            for left in [NEXT_KEY_FILE, NEXT_CHAIN_FILE] {
                assert!(!dir.path().join(left).exists(), "{cuts}: {left}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_on_the_way_is_asked_for_again_under_the_same_key() {
    let (authority, dir) = enrolled(DUE).await;
    authority.world().answers_lost = 1;
    let mut agent = Agent::of(dir.path(), &authority);
    agent.go_on().await;
    let key = agent
        .driver
        .identity_files
        .next_key()
        .unwrap()
        .spki_sha256();
    assert_eq!(agent.go_on().await, Some(Op::Step(Step::Ask)));
    drop(agent);
    let mut agent = Agent::of(dir.path(), &authority);
    while agent.go_on().await.is_some() {}
    let found = IdentityFiles::in_dir(dir.path()).load().unwrap().current;
    assert_eq!(found.leaf().spki_sha256(), key);
    assert_eq!(authority.seen().borrow().clone_alarms, 0);
}

#[tokio::test]
async fn the_stream_is_never_lost_while_the_certificate_is_renewed() {
    let (authority, dir) = enrolled(DUE).await;
    let old = serial(dir.path());
    let (line, mut kept, mut out, _stop) = Agent::of(dir.path(), &authority).run();
    let mut seen = authority.seen();
    let twice = seen.wait_for(|seen| seen.streams.iter().any(|(serial, ..)| *serial != old));
    within(twice).await.unwrap();
    until_settled(&mut kept).await;
    assert_ne!(line.now().identity.leaf().serial_hex(), old);
    assert_eq!(line.now().standing, Standing::Taken);
    // A frame after the change still comes, and nothing before it was a loss.
    let asks = Upkeep {
        keys_tag: "after".into(),
        ..Upkeep::default()
    };
    authority.push(asks.clone());
    loop {
        match within(out.recv()).await.unwrap() {
            Pushed::State(state) if state.upkeep == asks => break,
            Pushed::Lost(error) => panic!("{error}"),
            Pushed::State(_) | Pushed::Connected { .. } | Pushed::Alive | Pushed::Left => {}
        }
    }
}

#[tokio::test]
async fn an_expired_terminal_comes_back_by_itself() {
    let (authority, dir) = enrolled(EXPIRED).await;
    let (line, mut kept, _out, _stop) = Agent::of(dir.path(), &authority).run();
    let mut seen = authority.seen();
    within(seen.wait_for(|seen| !seen.streams.is_empty()))
        .await
        .unwrap();
    until_settled(&mut kept).await;
    let until = line.now().identity.not_after();
    assert!(until > crate::clock::wall());
    assert_eq!(
        IdentityFiles::in_dir(dir.path())
            .load()
            .unwrap()
            .current
            .not_after(),
        until
    );
}

#[tokio::test]
async fn a_successor_that_expired_before_it_was_used_locks_nobody_out_even_with_a_late_clock() {
    let (authority, dir) = enrolled((-20, 1)).await;
    authority.world().issued_for = EXPIRED;
    let agent = Agent::of(dir.path(), &authority);
    let late = crate::clock::wall() - 5 * 24 * 3_600_000;
    agent.driver.clock.heard(late);
    let (line, mut kept, _out, _stop) = agent.run();
    let refused = kept.wait_for(|k| k.troubles.iter().any(|t| t.words.contains("not taken")));
    drop(within(refused).await.unwrap());
    authority.world().issued_for = FRESH;
    let mut changes = line.changes();
    let fresh = changes.wait_for(|held| {
        held.standing == Standing::Taken && held.identity.not_after() > crate::clock::wall()
    });
    drop(within(fresh).await.unwrap());
    until_settled(&mut kept).await;
    assert!(!authority.seen().borrow().streams.is_empty());
}

#[tokio::test]
async fn a_renewal_that_comes_too_late_says_in_words_whom_to_ask() {
    let (authority, dir) = enrolled(EXPIRED).await;
    authority.world().renewal_refused = Some(ProblemType::RenewalTooLate);
    let (_line, mut kept, _out, _stop) = Agent::of(dir.path(), &authority).run();
    let trouble = until_troubled(&mut kept).await;
    assert!(trouble.is_final);
    assert!(
        trouble.words.contains("expired too long ago"),
        "{}",
        trouble.words
    );
    assert!(
        trouble.words.contains("new join token"),
        "{}",
        trouble.words
    );
}

#[tokio::test]
async fn a_second_key_for_this_certificate_is_told_as_what_it_may_be() {
    let (authority, dir) = enrolled(DUE).await;
    let mut agent = Agent::of(dir.path(), &authority);
    for _ in 0..2 {
        agent.go_on().await;
    }
    // As if a copy of this directory had been renewed elsewhere: its key is not here.
    agent.driver.identity_files.drop_next().unwrap();
    let mut agent = Agent::of(dir.path(), &authority);
    while agent.go_on().await.is_some() {}
    let troubles = agent.driver.keeper.troubles();
    assert!(
        troubles[0].is_final && troubles[0].words.contains("copy"),
        "{troubles:?}"
    );
    assert!(
        agent.call().await.is_ok(),
        "the old certificate is good until the other was used"
    );
    assert_eq!(authority.seen().borrow().clone_alarms, 1);
}

#[tokio::test]
async fn a_renewed_certificate_that_is_refused_leaves_the_stream_of_the_old_one_open() {
    let (authority, dir) = enrolled(DUE).await;
    let old = serial(dir.path());
    authority.world().successors_refused = true;
    let (line, mut kept, mut out, _stop) = Agent::of(dir.path(), &authority).run();
    let trouble = until_troubled(&mut kept).await;
    assert!(
        !trouble.is_final && trouble.words.contains("not taken"),
        "{trouble:?}"
    );
    let mut changes = line.changes();
    let back = changes.wait_for(|held| held.identity.leaf().serial_hex() == old);
    assert_eq!(within(back).await.unwrap().standing, Standing::Taken);
    while let Ok(pushed) = out.try_recv() {
        assert!(!matches!(pushed, Pushed::Lost(_)), "{pushed:?}");
    }
    authority.world().successors_refused = false;
    until_settled(&mut kept).await;
    assert_ne!(serial(dir.path()), old);
}

#[tokio::test]
async fn a_certificate_that_leads_to_another_root_is_not_taken() {
    let (authority, dir) = enrolled(DUE).await;
    let stranger = Ca::new("stranger");
    authority.world().ca.issuing = stranger.issuing.clone();
    let mut agent = Agent::of(dir.path(), &authority);
    while agent.go_on().await.is_some() {}
    let troubles = agent.driver.keeper.troubles();
    assert!(troubles[0].words.contains("trusted root"), "{troubles:?}");
    assert!(!dir.path().join(NEXT_CHAIN_FILE).exists());
}

#[tokio::test]
async fn a_certificate_for_another_terminal_is_not_taken() {
    let (authority, dir) = enrolled(DUE).await;
    authority.world().issued_to = crate::testing::terminal(2);
    let mut agent = Agent::of(dir.path(), &authority);
    while agent.go_on().await.is_some() {}
    let troubles = agent.driver.keeper.troubles();
    assert!(
        troubles[0].words.contains("not one for this terminal"),
        "{troubles:?}"
    );
    assert!(!dir.path().join(NEXT_CHAIN_FILE).exists());
}

/// Root A with a second one prepared beside it, then the second one active, then A tainted.
fn bundles(a: &Root, b: &Root) -> [TrustBundle; 3] {
    let (root_a, root_b) = (a.certificate.clone(), b.certificate.clone());
    let (print_a, print_b) = (root_a.fingerprint(), root_b.fingerprint());
    let prepare = Change::Prepare(Box::new(root_b));
    let first = signed(Draft::first(root_a, &prepare, 1).unwrap(), &[a, b]);
    let activate = Change::Activate(print_b);
    let second = signed(Draft::after(&first, &activate, 2).unwrap(), &[a, b]);
    let taint = Change::Taint(print_a);
    let third = signed(Draft::after(&second, &taint, 3).unwrap(), &[a, b]);
    [first, second, third]
}

#[tokio::test]
async fn a_terminal_follows_its_roots_while_it_runs_and_drops_a_tainted_one() {
    let (authority, dir) = enrolled(FRESH).await;
    let (a, b) = (authority.world().ca.root.clone(), Ca::new("B"));
    let [first, second, third] = bundles(&a, &b.root);
    let (root_a, root_b) = (a.certificate, b.root.certificate.clone());
    let mut agent = Agent::of(dir.path(), &authority);
    authority.world().bundle = first.to_json();
    agent.driver.take(Step::FetchTrust).await;
    assert_eq!(agent.line.now().trust.roots(), [root_a, root_b.clone()]);
    assert_eq!(agent.line.now().goes_on_from, 1, "no root was dropped");
    authority.world().bundle = second.to_json();
    agent.driver.take(Step::FetchTrust).await;
    authority.world().bundle = third.to_json();
    agent.driver.take(Step::FetchTrust).await;
    let footing = agent.line.now();
    assert_eq!(footing.trust.roots(), [root_b]);
    assert_eq!(footing.goes_on_from, footing.number, "a root was dropped");
    let refused = agent.call().await.unwrap_err();
    assert!(
        matches!(refused, CallError::ForeignServer { .. }),
        "{refused}"
    );
    authority.move_to(b);
    assert!(agent.call().await.is_ok());
    drop(agent);
    let again = TrustFiles::in_dir(dir.path()).load().unwrap();
    assert_eq!((again.sequence(), again.roots().len()), (3, 1));
}

#[tokio::test]
async fn whoever_holds_a_denied_issuing_key_is_not_the_authority_for_any_terminal() {
    let (authority, dir) = enrolled(FRESH).await;
    let (root, stolen) = {
        let ca = &authority.world().ca;
        (ca.root.clone(), ca.issuing.clone())
    };
    let mut agent = Agent::of(dir.path(), &authority);
    assert!(
        agent.call().await.is_ok(),
        "the key is stolen, and nobody knows"
    );
    let deny = Change::Deny(pki::KeyId::of(&stolen));
    let denying = Draft::first(root.certificate.clone(), &deny, 1).unwrap();
    let denying = signed(denying, &[&root]).to_json();
    authority.world().bundle = denying.clone();
    agent.driver.take(Step::FetchTrust).await;
    let footing = agent.line.now();
    assert_eq!(footing.trust.roots(), [root.certificate]);
    assert_eq!(footing.goes_on_from, footing.number, "a key was denied");
    let refused = agent.call().await.unwrap_err();
    assert!(
        matches!(refused, CallError::ForeignServer { .. }),
        "{refused}"
    );
    drop(agent);
    // After a restart, too; and it has another issuing CA of the same root for the authority.
    let agent = Agent::of(dir.path(), &authority);
    assert!(agent.call().await.is_err());
    let next = authority.world().ca.next_issuing();
    authority.move_to(next);
    assert!(agent.call().await.is_ok());
}

#[tokio::test]
async fn after_a_long_absence_the_pinned_root_leads_to_the_new_one_without_anybodys_help() {
    let (authority, dir) = enrolled(FRESH).await;
    let (a, b) = (authority.world().ca.root.clone(), Ca::new("B"));
    let [.., third] = bundles(&a, &b.root);
    authority.world().bundle = third.to_json();
    authority.move_to(b);
    let (line, mut kept, _out, _stop) = Agent::of(dir.path(), &authority).run();
    let mut seen = authority.seen();
    within(seen.wait_for(|seen| !seen.streams.is_empty()))
        .await
        .unwrap();
    until_settled(&mut kept).await;
    assert_eq!(line.now().trust.sequence(), 3);
    assert_eq!(
        seen.borrow().streams[0].1,
        "3",
        "the authority is told which bundle is followed"
    );
}

#[tokio::test]
async fn a_stranger_with_a_bundle_of_its_own_is_not_believed() {
    let (authority, dir) = enrolled(FRESH).await;
    let (mallory, other) = (Ca::new("M"), Ca::new("N"));
    let [.., third] = bundles(&mallory.root, &other.root);
    authority.world().bundle = third.to_json();
    authority.move_to(other);
    let (line, mut kept, _out, _stop) = Agent::of(dir.path(), &authority).run();
    let trouble = until_troubled(&mut kept).await;
    assert!(trouble.words.contains("not believed"), "{}", trouble.words);
    assert_eq!(line.now().trust.sequence(), 0);
    assert!(authority.seen().borrow().streams.is_empty());
    assert!(!dir.path().join(crate::trust::TRUST_FILE).exists());
}

#[tokio::test]
async fn the_last_checkpoint_is_shown_when_the_stream_is_opened() {
    let (authority, dir) = enrolled(FRESH).await;
    let agent = Agent::of(dir.path(), &authority);
    let checkpoint = crate::testing::checkpoint(1, 7, 3);
    let save = crate::core::Save::Checkpoint(checkpoint.clone());
    agent.state.save(&save).unwrap();
    let (_line, _kept, _out, _stop) = agent.run();
    let mut seen = authority.seen();
    let seen = within(seen.wait_for(|seen| !seen.streams.is_empty())).await;
    let (_, trust, shown) = seen.unwrap().streams[0].clone();
    assert_eq!((trust.as_str(), shown), ("0", Some(checkpoint.jws)));
}

#[tokio::test]
async fn what_leads_to_the_new_root_takes_the_place_of_what_led_to_the_old_one() {
    let (authority, dir) = enrolled(FRESH).await;
    let (a, b) = (authority.world().ca.root.clone(), Ca::new("B"));
    let [.., third] = bundles(&a, &b.root);
    authority.world().bundle = third.to_json();
    let under_b = authority.world().ca.issuing_under(&b);
    authority.world().ca.issuing = under_b.clone();
    let mut agent = Agent::of(dir.path(), &authority);
    let before = serial(dir.path());
    agent.driver.take(Step::FetchTrust).await;
    let kept = IdentityFiles::in_dir(dir.path()).load().unwrap().current;
    for issuing in [agent.line.now().identity.issuing(), kept.issuing()] {
        assert_eq!(issuing, std::slice::from_ref(&under_b));
    }
    assert_eq!(kept.leaf().serial_hex(), before);
}

#[tokio::test]
async fn a_stream_that_leans_on_a_root_that_is_trusted_no_more_is_cut() {
    let (authority, dir) = enrolled(FRESH).await;
    let (line, _kept, mut out, _stop) = Agent::of(dir.path(), &authority).run();
    while !matches!(within(out.recv()).await.unwrap(), Pushed::State(_)) {}
    let footing = line.now();
    let others = Trust::pinned(Ca::new("B").root.certificate);
    line.step_onto(footing.identity.clone(), others, Standing::Taken)
        .unwrap();
    loop {
        match within(out.recv()).await.unwrap() {
            Pushed::Lost(CallError::ForeignServer { .. }) => break,
            Pushed::Lost(error) => panic!("{error}"),
            Pushed::State(_) | Pushed::Connected { .. } | Pushed::Alive | Pushed::Left => {}
        }
    }
}

#[tokio::test]
async fn a_call_that_was_on_its_way_while_the_certificate_changed_is_made_again() {
    let (authority, dir) = enrolled(DUE).await;
    let mut agent = Agent::of(dir.path(), &authority);
    while agent.go_on().await != Some(Op::Step(Step::KeepAnswer)) {}
    let files = agent.driver.identity_files.clone();
    let (line, made) = (agent.line.clone(), std::sync::atomic::AtomicUsize::new(0));
    let answer = line.call(|old| {
        let next = Arc::new(files.next_identity().unwrap());
        let is_first = made.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let line = line.clone();
        async move {
            if is_first {
                line.identify(next, Standing::OnTrial).unwrap();
                // The first use of the new certificate: the old one is refused from now on.
                line.now().client.keys().await.unwrap();
            }
            old.keys().await
        }
    });
    assert!(answer.await.is_ok());
}

#[tokio::test]
async fn dates_that_hold_by_the_authoritys_clock_or_by_this_machines_are_taken() {
    let (authority, dir) = enrolled(FRESH).await;
    let agent = Agent::of(dir.path(), &authority);
    let (a_year, now) = (365 * 24 * 3_600_000, crate::clock::wall());
    agent.driver.clock.heard(now + a_year);
    assert!(agent.call().await.is_ok(), "by this machine's clock");
    authority.world().serve_in_days((364, 366));
    assert!(agent.call().await.is_ok(), "by the authority's clock");
    agent.driver.clock.heard(now);
    assert!(agent.call().await.is_err(), "by neither");
}

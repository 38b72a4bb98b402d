#![allow(clippy::unwrap_used)]
//! The task that owns the core, under a clock that a test moves.
use super::*;
use crate::core::Resumed;
use crate::identity::disk::IdentityFiles;
use crate::rotation::Fetch;
use crate::testing::authority::{FRESH, FakeAuthority};
use crate::testing::{Issue, Signer, frame, terminal, till_charge};
use crate::trust::TrustFiles;
use pki::manager::Manager;
use protocol::token::Channel;
use protocol::window::EpochClock;
use protocol::wire::push::ChargeStage;
use std::sync::atomic::{AtomicI64, Ordering};

const FIRST: u32 = 500_000;
const HOUR: Millis = 3_600_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A driver at work that has heard the authority once, at [`opening`].
struct Bench {
    ticks: Arc<AtomicI64>,
    clock: Arc<Clock>,
    pushed: mpsc::Sender<Pushed>,
    doubts: watch::Receiver<()>,
    board: watch::Receiver<Board>,
    stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
    key_missing: Arc<Notify>,
    errands: mpsc::Receiver<Errand>,
    _answers: mpsc::Sender<Answer>,
}

fn opening() -> Timestamp {
    EpochClock::of(terminal(1)).opens(FIRST)
}

fn state(revision: u64, now: Timestamp) -> Pushed {
    Pushed::State(Box::new(frame(revision, now, None)))
}

impl Bench {
    async fn at_work() -> Self {
        let authority = FakeAuthority::start().await;
        let dir = tempfile::tempdir().unwrap();
        authority.enrol(dir.path(), FRESH);
        let ticks = Arc::new(AtomicI64::new(0));
        let clock = Arc::new(crate::testing::clock_by_hand(ticks.clone()));
        let identity = IdentityFiles::in_dir(dir.path()).load().unwrap().current;
        let trust = TrustFiles::in_dir(dir.path()).load().unwrap();
        let line = Line::new(&authority.base, identity, trust, clock.clone()).unwrap();
        let line = Arc::new(line);
        let mut core = Core::resume(terminal(1), Resumed::default());
        core.handle_keys(Signer::new(1).keys(), opening());
        let day = Issue::new(1).epochs(FIRST..FIRST + 24);
        core.handle_schedule(day, Fetch::Whole, opening())
            .1
            .unwrap();
        let (pushed_in, pushed) = mpsc::channel(INBOX_MAX);
        let (errands, errands_out) = mpsc::channel(1);
        let (answers_in, answers) = mpsc::channel(INBOX_MAX);
        let (board, boards) = watch::channel(empty_board(terminal(1)));
        let (stop, stopped) = watch::channel(false);
        let key_missing = Arc::new(Notify::new());
        let driver = Driver {
            core,
            clock: clock.clone(),
            state: Arc::new(State::open(&dir.path().join("agent.db")).unwrap()),
            metrics: Arc::new(Metrics::new()),
            line: line.clone(),
            kept: watch::Sender::default().subscribe(),
            pushed,
            errands,
            answers,
            key_missing: key_missing.clone(),
            board,
            pulse: Pulse::new(Arc::new(Manager::default())),
            stop: stopped,
            asked: None,
            alive: None,
        };
        tokio::spawn(driver.run());
        let mut bench = Self {
            ticks,
            clock,
            pushed: pushed_in,
            doubts: line.doubts(),
            board: boards,
            stop,
            _dir: dir,
            key_missing,
            errands: errands_out,
            _answers: answers_in,
        };
        bench.push(Pushed::Connected { asked: 0 }).await;
        bench.push(state(1, opening())).await;
        bench
            .until(|board| board.online && board.faces.qr.is_ok())
            .await;
        bench
    }

    async fn push(&self, pushed: Pushed) {
        self.pushed.send(pushed).await.unwrap();
    }

    async fn until(&mut self, wanted: impl FnMut(&Board) -> bool) -> Board {
        let waiting = tokio::time::timeout(PATIENCE, self.board.wait_for(wanted));
        waiting.await.unwrap().unwrap().clone()
    }

    /// Until everything was read that was pushed so far; these words say so.
    async fn until_read(&mut self, words: &str) -> Board {
        self.push(Pushed::Lost(CallError::answer(words))).await;
        let is_read = |board: &Board| {
            board
                .away
                .as_ref()
                .is_some_and(|it| it.words.contains(words))
        };
        self.until(is_read).await
    }

    /// The machine sleeps: everything stands still but the clock.
    fn sleep(&mut self, ms: Millis) {
        self.board.mark_unchanged();
        self.ticks.fetch_add(ms, Ordering::SeqCst);
    }

    /// What the screens are told first after a sleep.
    async fn next(&mut self) -> Board {
        let changed = tokio::time::timeout(PATIENCE, self.board.changed());
        changed.await.unwrap().unwrap();
        self.board.borrow().clone()
    }

    fn there(&self) -> Timestamp {
        opening() + self.ticks.load(Ordering::SeqCst)
    }
}

fn assert_of_now(board: &Board, now: Timestamp) {
    for channel in Channel::ALL {
        let face = board.faces.of(channel).as_ref().unwrap();
        assert!(face.opens <= now && now < face.closes, "{channel}");
    }
}

#[tokio::test]
async fn the_first_thing_after_a_sleep_is_the_right_token_or_none() {
    let mut bench = Bench::at_work().await;
    bench.sleep(2 * HOUR);
    let board = bench.next().await;
    assert_of_now(&board, bench.there());
    bench.sleep(58 * HOUR);
    let board = bench.next().await;
    for channel in Channel::ALL {
        let past = Err(Blank::PastHorizon {
            ended: opening() + 24 * HOUR,
        });
        assert_eq!(*board.faces.of(channel), past);
    }
    assert_eq!(board.shown.name(), "out-of-service");
    bench.stop.send_replace(true);
}

#[tokio::test]
async fn frames_that_waited_while_the_machine_slept_bring_no_old_token_back_and_are_asked_for_anew()
{
    let mut bench = Bench::at_work().await;
    let asked = bench.ticks.load(Ordering::SeqCst);
    bench.sleep(2 * HOUR + HOUR / 2);
    assert_of_now(&bench.next().await, bench.there());
    // One on the stream that was open, and one of a stream that was asked for before the sleep.
    bench.push(state(2, opening() + 1)).await;
    let doubted = tokio::time::timeout(PATIENCE, bench.doubts.changed());
    doubted.await.expect("the frame is doubted").unwrap();
    bench.push(Pushed::Connected { asked }).await;
    bench.push(state(3, opening() + 2)).await;
    bench
        .push(Pushed::Lost(CallError::answer("a sign that all was read")))
        .await;
    let board = bench.until(|board| !board.online).await;
    assert_of_now(&board, bench.there());
    assert_eq!(bench.clock.now(), Some(bench.there()));

    // What is answered now counts: the authority's clock was set.
    let asked = bench.ticks.load(Ordering::SeqCst);
    let set = bench.there() + -HOUR / 4;
    bench.push(Pushed::Connected { asked }).await;
    bench.push(state(4, set)).await;
    let board = bench.until(|board| board.online).await;
    assert_of_now(&board, set);
    bench.stop.send_replace(true);
}

/// A frame of this revision with a charge on offer.
fn offer(revision: u64, now: Timestamp) -> Pushed {
    let until = opening() + 100 * HOUR;
    let charge = till_charge(ChargeStage::Offered { until });
    Pushed::State(Box::new(frame(revision, now, Some(charge))))
}

fn told(board: &Board) -> (bool, Timestamp) {
    let charge = board.charge.as_ref().unwrap();
    (charge.stale, charge.as_of)
}

#[tokio::test]
async fn after_a_sleep_the_till_is_told_an_old_word_until_the_authority_has_answered_anew() {
    let mut bench = Bench::at_work().await;
    bench.sleep(7_000);
    bench.push(offer(2, bench.there())).await;
    bench.until(|board| board.charge.is_some()).await;
    bench.sleep(SILENT_MS - 1);
    bench.push(Pushed::Alive).await;
    let alive = bench.there();
    // The time alone is no news.
    let heard = async {
        while told(&bench.board.borrow()) != (false, alive) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();

    bench.sleep(20 * HOUR);
    let board = bench.next().await;
    assert_eq!((board.online, told(&board)), (false, (true, alive)));
    let doubted = tokio::time::timeout(PATIENCE, bench.doubts.changed());
    doubted.await.expect("the stream is doubted").unwrap();
    // What waited in it says nothing, nor does one that was asked for before.
    bench.push(Pushed::Alive).await;
    bench.push(offer(3, alive + 1)).await;
    let board = bench.until_read("all of the old one").await;
    assert_eq!((board.online, told(&board)), (false, (true, alive)));
    assert!(!bench.doubts.has_changed().unwrap(), "once is enough");
    bench.push(Pushed::Connected { asked: 7_000 }).await;
    bench.push(offer(4, alive + 2)).await;
    let board = bench.until_read("all of the next one").await;
    assert_eq!((board.online, told(&board)), (false, (true, alive)));

    let (asked, monday) = (bench.ticks.load(Ordering::SeqCst), bench.there());
    bench.push(Pushed::Connected { asked }).await;
    bench.push(offer(5, monday)).await;
    let seen = bench.until(|board| board.online).await;
    assert_eq!(told(&seen), (false, monday));
    bench.stop.send_replace(true);
}

#[tokio::test]
async fn after_a_loss_no_buffered_frame_is_taken_for_the_answer() {
    let mut bench = Bench::at_work().await;
    bench.sleep(30_000);
    let asked = bench.ticks.load(Ordering::SeqCst);
    bench.push(Pushed::Connected { asked }).await;
    bench.push(Pushed::Lost(CallError::answer("cut"))).await;
    bench.push(state(2, opening() + 10_000)).await;
    let board = bench.until_read("all there was").await;
    assert_of_now(&board, bench.there());
    assert_eq!(bench.clock.now(), Some(bench.there()));
    bench.stop.send_replace(true);
}

#[tokio::test]
async fn a_key_that_the_till_needs_is_fetched() {
    let mut bench = Bench::at_work().await;
    bench.key_missing.notify_one();
    let fetched = async { while bench.errands.recv().await != Some(Errand::Keys) {} };
    tokio::time::timeout(PATIENCE, fetched).await.unwrap();
    bench.stop.send_replace(true);
}

//! The agent's own parts, from core to database, on clocks and a reader that the test moves.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use harness::pcsc::{Cut, InHand, TagModel};
use harness::simulated::enrolled;
use pki::manager::Manager;
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use reader_agent::authority::line::Line;
use reader_agent::authority::push::Pushed;
use reader_agent::clock::{Clock, Hands};
use reader_agent::core::{Board, Core, Errand as Wanted};
use reader_agent::driver::{Answer, Driver, INBOX_MAX, empty_board};
use reader_agent::metrics::Metrics;
use reader_agent::pulse::Pulse;
use reader_agent::reader::TagEvent;
use reader_agent::state::State;
use reader_agent::tag::{Done, Errand, LastCounter, LeftOn, Recognised, TagError, TagMemory, uid};
use reader_agent::tag_driver::{Memory, TagDriver};
use reader_agent::tag_writer::{TagFailure, TagHealth, TagVisit, TagWriter};
use reader_agent::upkeep_driver::Kept;
use tokio::sync::{Notify, mpsc, watch};

/// The hand-moved clocks of one machine.
#[derive(Default)]
pub(crate) struct Times {
    /// True milliseconds since 1970: the authority's clock, and what ticks count from.
    pub(crate) now_ms: AtomicI64,
    /// By how much the wall clock is wrong.
    pub(crate) wall_off_ms: AtomicI64,
    /// When the machine was started last; it names the start as well.
    pub(crate) boot_ms: AtomicI64,
}

impl Times {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_ms.load(Ordering::Relaxed))
    }
}

struct SimulatedHands(Arc<Times>);

impl Hands for SimulatedHands {
    fn ticks_ms(&self) -> Millis {
        self.0.now().ms() - self.0.boot_ms.load(Ordering::Relaxed)
    }

    fn wall(&self) -> Timestamp {
        self.0.now() + self.0.wall_off_ms.load(Ordering::Relaxed)
    }

    fn boot_id(&self) -> Option<u128> {
        u128::try_from(self.0.boot_ms.load(Ordering::Relaxed)).ok()
    }
}

/// Reader and tag, which outlive the agent.
pub(crate) struct Place {
    pub(crate) tag: Option<TagModel>,
    pub(crate) lies_there: bool,
    pub(crate) plugged: bool,
    pub(crate) cut: Option<Cut>,
    /// The agent is killed in its next visit, after so many commands.
    pub(crate) crash: Option<usize>,
    pub(crate) taps: Taps,
    /// Visits that came to no good end.
    pub(crate) torn: u32,
    /// Since the last visit.
    pub(crate) is_scrawled_on: bool,
}

/// Reads by phones, and what becomes of them.
#[derive(Default)]
pub(crate) struct Taps {
    pub(crate) all: u32,
    /// At the last good visit.
    pub(crate) settled: u32,
    /// Good visits.
    pub(crate) visits: u32,
    /// The last run of the agent did not end in good order.
    pub(crate) is_cut: bool,
    /// Nobody can tell these of an NTAG21x, which counts our reads as well, from our own.
    pub(crate) untold: u32,
}

impl Taps {
    fn settle(&mut self) {
        if std::mem::take(&mut self.is_cut) {
            self.untold += self.all - self.settled;
        }
        self.settled = self.all;
        self.visits += 1;
    }
}

/// The process ends in the middle of a visit.
struct Killed;

/// The seam between rotation and readers, at a tag in the tester's hand.
pub(crate) struct Bench {
    pub(crate) place: Arc<Mutex<Place>>,
    memory: Mutex<TagMemory>,
    state: Arc<State>,
}

impl Bench {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn taken_away(&self) {
        self.memory.lock().unwrap().handle_gone();
    }

    /// One visit. A cut means that the tag was taken away.
    pub(crate) fn visit(&self, errand: &Errand) -> Result<(Vec<u8>, Done), TagError> {
        let mut place = self.place();
        if !place.plugged {
            return Err(TagError::NoReader { wanted: None });
        }
        if !place.lies_there {
            return Err(TagError::NoTag);
        }
        let crash = place.crash.take();
        let after = |after| Cut {
            after,
            is_heard: false,
        };
        let cut = crash.map(after).or_else(|| place.cut.take());
        let hand = InHand::cut(place.tag.take().unwrap(), cut);
        let visit = uid(&hand).and_then(|uid| {
            let found = Recognised::find(&hand, &uid, &*self.state, &self.memory)?;
            let done = found.carry_out(errand)?;
            self.memory.lock().unwrap().handle_told(&uid, done.taps);
            Ok((uid, done))
        });
        place.tag = Some(hand.into_tag());
        if crash.is_some() {
            place.torn += 1;
            drop(place);
            resume_unwind(Box::new(Killed));
        }
        place.is_scrawled_on &= visit.is_err();
        if visit.is_ok() {
            place.taps.settle();
        }
        if visit.is_err() {
            place.torn += 1;
            place.lies_there = cut.is_none();
        }
        visit
    }

    fn told(&self, errand: &Errand) -> Result<TagVisit, TagFailure> {
        match self.visit(errand) {
            Ok((uid, done)) => Ok(TagVisit {
                uid: uid.iter().map(|b| format!("{b:02X}")).collect(),
                pages: done.writes,
                taps: done.taps,
                counter_found: done.counter_found,
                counter: done.counter,
                signs: done.signs,
                was_altered: done.was_altered,
                left: LeftOn::new(&uid, &done.area),
            }),
            Err(error) => Err(TagFailure {
                kind: error.kind(),
                reason: error.to_string(),
                may_have_worn: error.may_have_worn(),
            }),
        }
    }
}

#[async_trait]
impl TagWriter for Bench {
    async fn show(&self, message: Vec<u8>) -> Result<TagVisit, TagFailure> {
        self.told(&Errand::Show(message))
    }

    async fn blank(&self) -> Result<TagVisit, TagFailure> {
        self.told(&Errand::Show(Vec::new()))
    }

    fn status(&self) -> TagHealth {
        TagHealth::default()
    }
}

/// One run of an agent.
pub(crate) struct Terminal {
    pub(crate) driver: Driver,
    tag_driver: TagDriver,
    pub(crate) memory: Memory,
    pub(crate) board: watch::Receiver<Board>,
    pub(crate) state: Arc<State>,
    pub(crate) bench: Arc<Bench>,
    errands: mpsc::Receiver<Wanted>,
    /// Kept open: a closed channel would mean that a task ended.
    _rest: Rest,
    remembered: Option<Timestamp>,
    doubts: watch::Receiver<()>,
}

/// What other tasks of an agent hold.
struct Rest {
    _pushed: mpsc::Sender<Pushed>,
    _answers: mpsc::Sender<Answer>,
    _events: mpsc::Sender<TagEvent>,
    _stop: watch::Sender<bool>,
    _kept: watch::Sender<Kept>,
}

impl Terminal {
    /// Starts as the agent's `app` does.
    pub(crate) fn start(
        dir: &Path,
        terminal: TerminalId,
        times: &Arc<Times>,
        place: &Arc<Mutex<Place>>,
    ) -> Self {
        let state = Arc::new(State::open(&dir.join("agent.db")).unwrap());
        let hands = Box::new(SimulatedHands(times.clone()));
        let clock = Arc::new(Clock::with(hands, state.clock().unwrap()));
        let (identity, trust) = enrolled(terminal);
        let line = Line::new("https://127.0.0.1:1", identity, trust, clock.clone()).unwrap();
        let doubts = line.doubts();
        let metrics = Arc::new(Metrics::new());
        let last = state.last_tag().unwrap().and_then(|tag| {
            let pairs = tag.uid.as_bytes().chunks(2);
            let byte = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
            Some(LastCounter {
                tag_uid: pairs.map(byte).collect(),
                value: tag.counter?,
            })
        });
        let left = state.take_left_on_tag().unwrap();
        let bench = Arc::new(Bench {
            place: place.clone(),
            memory: Mutex::new(TagMemory::resume(last, left)),
            state: state.clone(),
        });
        let (board_in, board) = watch::channel(empty_board(terminal));
        let (pushed_in, pushed) = mpsc::channel(1);
        let (answers_in, answers) = mpsc::channel(1);
        let (events_in, events) = mpsc::channel(1);
        let (errands_in, errands) = mpsc::channel(INBOX_MAX);
        let (stop_in, stop) = watch::channel(false);
        let (kept_in, kept) = watch::channel(Kept::default());
        let driver = Driver {
            core: Core::resume(terminal, state.resume().unwrap()),
            clock: clock.clone(),
            state: state.clone(),
            metrics: metrics.clone(),
            line: Arc::new(line),
            kept,
            pushed,
            errands: errands_in,
            answers,
            key_missing: Arc::default(),
            board: board_in,
            pulse: Pulse::new(Arc::new(Manager::default())),
            stop: stop.clone(),
            asked: None,
            alive: None,
        };
        let tag_driver = TagDriver {
            writer: bench.clone(),
            events,
            board: board.clone(),
            state: state.clone(),
            clock,
            metrics,
            reports: Arc::new(Notify::new()),
            stop,
        };
        Self {
            driver,
            tag_driver,
            memory: Memory::default(),
            board,
            state,
            bench,
            errands,
            _rest: Rest {
                _pushed: pushed_in,
                _answers: answers_in,
                _events: events_in,
                _stop: stop_in,
                _kept: kept_in,
            },
            remembered: None,
            doubts,
        }
    }

    /// What follows from the time, on the screen.
    pub(crate) fn look(&mut self) {
        self.driver.look(&mut self.remembered);
    }

    /// What follows from the board, on the tag; false if the process was killed over it. A visit here
    /// takes no time.
    pub(crate) fn tend_tag(&mut self) -> bool {
        survives(|| now(self.tag_driver.step(&mut self.memory)))
    }

    pub(crate) fn reader_says(&mut self, event: &TagEvent) {
        if *event == TagEvent::TagRemoved {
            self.bench.taken_away();
        }
        self.tag_driver.heard(&mut self.memory, event);
    }

    /// What to fetch, if there is something.
    pub(crate) fn wants(&mut self) -> Option<Wanted> {
        self.errands.try_recv().ok()
    }

    /// Whether it wants its stream opened anew.
    pub(crate) fn doubts(&mut self) -> bool {
        let doubts = self.doubts.has_changed().unwrap();
        self.doubts.mark_unchanged();
        doubts
    }

    /// Ends in good order.
    pub(crate) fn stop(mut self) {
        // Killed over it or not, this run is over.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        survives(|| runtime.block_on(self.tag_driver.end(&mut self.memory)));
    }
}

/// False if the process was killed over it.
fn survives(work: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(()) => true,
        Err(killed) if killed.is::<Killed>() => false,
        Err(trouble) => resume_unwind(trouble),
    }
}

/// What takes no time is done at the first look.
fn now<T>(work: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(work).expect("nothing here waits")
}

//! One terminal, its authority and the people around it, on one clock; and what must hold of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use harness::pcsc::TagModel;
use harness::simulated::Authority;
use protocol::ids::{EventId, TerminalId};
use protocol::ndef;
use protocol::time::{Millis, Timestamp};
use protocol::token::WindowId;
use protocol::wire::push::TerminalState;
use protocol::wire::reports::{REPORTS_MAX, Seen};
use reader_agent::authority::CallError;
use reader_agent::authority::push::{Pushed, SILENCE_MAX};
use reader_agent::core::Errand as Wanted;
use reader_agent::driver::{Answer, TICK_MAX};
use reader_agent::reader::TagEvent;
use reader_agent::rotation::{Face, Faces};
use reader_agent::tag::Errand;
use reader_agent::tag_plan::FRUITLESS_WRITES_MAX;

use super::op::Op;
use super::terminal::{Place, Taps, Terminal, Times};

#[path = "invariants.rs"]
mod invariants;

/// Longest time between two looks at the terminal: less often than in the field, where it is
/// [`TICK_MAX`], so that a year is short.
const STRIDE_MS: Millis = 30_000;
const HOUR_MS: Millis = 3_600_000;
/// Frames that are kept to arrive once more.
const OLD_FRAMES_MAX: usize = 8;
/// One settling needs no more rounds.
const ROUNDS_MAX: usize = 20;
/// User pages of an NTAG213.
const FIRST_PAGE: u8 = 4;
const LAST_PAGE: u8 = 40;
/// Begins on a Thursday in 2026.
const BEGIN_MS: Millis = 1_795_000_000_000;

pub(crate) struct World {
    times: Arc<Times>,
    authority: Authority,
    place: Arc<Mutex<Place>>,
    terminal: Option<Terminal>,
    dir: tempfile::TempDir,
    id: TerminalId,
    is_guarded: bool,
    /// The authority has said the time since the machine was started.
    knows_time: bool,
    /// How long what it knows the time from was under way: so late its clock is, and no later.
    late: Millis,
    worn_before: u32,
    net: Net,
    phone: Option<String>,
    nfc_claims: VecDeque<Timestamp>,
    /// Reports in the order in which the terminal made them.
    made: Vec<EventId>,
    noted: BTreeSet<EventId>,
    /// How many waited when it was looked at last.
    outbox: u64,
    /// Turns that the terminal was told, in whatever run: what is spent is never shown again.
    told: BTreeMap<WindowId, u16>,
    /// What was last found to be right: it is not looked at again before something has changed.
    right: Option<Faces>,
    /// What happened, for whoever reads a failure.
    pub(crate) diary: String,
}

/// Between terminal and authority.
struct Net {
    is_up: bool,
    has_stream: bool,
    holds: bool,
    held: Vec<TerminalState>,
    old: VecDeque<TerminalState>,
    pushed: Option<TerminalState>,
    /// The stream has died and nobody has told the agent, which notices by itself from then on.
    silent_until: Option<Timestamp>,
    loses_answer: bool,
}

impl World {
    /// A terminal that was set up in peace: its tag is written.
    pub(crate) fn new(tag: TagModel, personalise: Option<&Errand>) -> Self {
        let id = TerminalId::from_number(1_234_001).unwrap();
        let times = Arc::new(Times::default());
        times.now_ms.store(BEGIN_MS, Ordering::Relaxed);
        times.boot_ms.store(BEGIN_MS, Ordering::Relaxed);
        let place = Arc::new(Mutex::new(Place {
            tag: Some(tag),
            lies_there: true,
            plugged: true,
            cut: None,
            crash: None,
            taps: Taps::default(),
            torn: 0,
            is_scrawled_on: false,
        }));
        // In memory where there is such a place: a simulated power cut is a killed process.
        let shm = Path::new("/dev/shm");
        let dir = match shm.is_dir() {
            true => tempfile::tempdir_in(shm),
            false => tempfile::tempdir(),
        }
        .unwrap();
        let mut world = Self {
            terminal: Some(Terminal::start(dir.path(), id, &times, &place)),
            authority: Authority::new(id),
            times,
            place,
            dir,
            id,
            is_guarded: personalise.is_some(),
            knows_time: false,
            late: 0,
            worn_before: 0,
            net: Net {
                is_up: true,
                has_stream: false,
                holds: false,
                held: Vec::new(),
                old: VecDeque::new(),
                pushed: None,
                silent_until: None,
                loses_answer: false,
            },
            phone: None,
            nfc_claims: VecDeque::new(),
            made: Vec::new(),
            noted: BTreeSet::new(),
            outbox: 0,
            told: BTreeMap::new(),
            right: None,
            diary: String::new(),
        };
        if let Some(errand) = personalise {
            world.terminal().bench.visit(errand).unwrap();
        }
        // Keys and settings lie elsewhere than links.
        world.worn_before = world.worn();
        world.settle();
        world
    }

    pub(crate) fn play(&mut self, op: Op) {
        writeln!(self.diary, "{} {op}", self.now()).unwrap();
        self.right = None;
        match op {
            Op::Pass(seconds) => return self.pass(Millis::from(seconds) * 1000),
            Op::Sleep(seconds) => self.sleep(Millis::from(seconds) * 1000),
            Op::Tap => self.tap(),
            Op::Claim => self.claim(),
            Op::Scan => self.scan(),
            Op::Burn(count) => self.burn(count),
            Op::Scrawl => self.scrawl(),
            Op::Tear(cut) => self.place().cut = Some(cut),
            Op::TakeTag => self.take_tag(),
            Op::BringTag => self.bring_tag(),
            Op::Unplug => self.unplug(),
            Op::Plug => self.plug(),
            Op::Lose => self.lose(),
            Op::Find => self.net.is_up = true,
            Op::LoseAnswer => self.net.loses_answer = true,
            Op::Hold => self.net.holds = true,
            Op::Release => self.release(),
            Op::Echo => self.echo(),
            Op::Kill => self.start_anew(),
            Op::Crash(after) => self.place().crash = Some(after),
            Op::PowerCut => {
                self.times.boot_ms.store(self.now().ms(), Ordering::Relaxed);
                self.knows_time = false;
                self.start_anew();
            }
            Op::Restart => {
                let before = self.place().taps.visits;
                self.terminal.take().unwrap().stop();
                let in_good_order = self.place().taps.visits > before;
                self.start_anew();
                self.place().taps.is_cut = !in_good_order;
            }
            Op::Policy(number) => self.authority.change_policy(number),
            Op::Reboot => {
                self.authority.reboot();
                self.drop_stream();
            }
            Op::SetWall(seconds) => {
                let off = Millis::from(seconds) * 1000;
                self.times.wall_off_ms.store(off, Ordering::Relaxed);
            }
        }
        self.settle();
        self.assert_counted();
    }

    /// Everything is as it should be again, and time enough passes: what is told adds up.
    pub(crate) fn end(&mut self) {
        self.times.wall_off_ms.store(0, Ordering::Relaxed);
        (self.place().cut, self.place().crash) = (None, None);
        self.net.loses_answer = false;
        for op in [
            Op::Plug,
            Op::BringTag,
            Op::Find,
            Op::Release,
            Op::Pass(7_200),
        ] {
            self.play(op);
        }
        self.assert_shown(true);
        self.assert_told();
    }

    fn pass(&mut self, time: Millis) {
        let until = self.now() + time;
        loop {
            self.settle();
            let now = self.now();
            if now >= until {
                return;
            }
            let next = self.next_look().clamp(now + 1, now + STRIDE_MS);
            self.times
                .now_ms
                .store(next.min(until).ms(), Ordering::Relaxed);
        }
    }

    /// The next moment at which something happens by itself.
    fn next_look(&mut self) -> Timestamp {
        let now = self.now();
        let terminal = self.terminal();
        let told = terminal.driver.clock.now();
        let turn = told.and_then(|told| Some(terminal.driver.core.poll_timeout(told)? - told));
        let ticks = terminal.driver.clock.ticks_ms();
        let retry = terminal.memory.next_try().map(|at| at - ticks);
        let wait = [turn, retry].into_iter().flatten().min();
        now + wait.unwrap_or(STRIDE_MS).max(1)
    }

    /// Whatever follows at this moment has followed, and holds.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.terminal().look();
            let moved = self.exchange();
            self.terminal().look();
            if !self.terminal().tend_tag() {
                self.start_anew();
                continue;
            }
            self.note_what_was_torn();
            self.upload();
            if !moved {
                break;
            }
        }
        self.assert_shown(false);
    }

    /// Network: true if something went over it.
    fn exchange(&mut self) -> bool {
        if !self.net.is_up {
            return false;
        }
        let now = self.now();
        let mut moved = false;
        let doubts = self.terminal().doubts();
        if self.net.silent_until.is_some_and(|until| until <= now) {
            self.lost();
        } else if self.net.silent_until.is_some() && !doubts {
            return false;
        }
        if doubts || self.net.silent_until.take().is_some() {
            self.drop_stream_silently();
        }
        if !self.net.has_stream {
            self.net.has_stream = true;
            self.net.pushed = None;
            let terminal = self.terminal();
            let asked = terminal.driver.clock.ticks_ms();
            terminal.driver.heard(Pushed::Connected { asked });
            moved = true;
        }
        let frame = self.authority.frame(now);
        let is_new = |last: &TerminalState| {
            last.revision != frame.revision
                || last.turns != frame.turns
                || last.schedule_due != frame.schedule_due
        };
        if self.net.pushed.as_ref().is_none_or(is_new) {
            self.net.pushed = Some(frame.clone());
            match self.net.holds {
                true => self.net.held.push(frame),
                false => self.deliver(frame),
            }
            moved = true;
        }
        moved | self.run_errand(now)
    }

    fn run_errand(&mut self, now: Timestamp) -> bool {
        let answer = match self.terminal().wants() {
            None => return false,
            Some(Wanted::Keys) => Answer::Keys(self.authority.keys()),
            Some(Wanted::Schedule(fetch)) => match self.authority.schedule(fetch, now) {
                Some(response) => Answer::Schedule(response, fetch),
                None => Answer::NothingNew,
            },
        };
        self.terminal().driver.answered(answer);
        true
    }

    fn deliver(&mut self, frame: TerminalState) {
        let late = self.now() - frame.now;
        self.late = match self.knows_time {
            true => self.late.min(late),
            false => late,
        };
        for state in &frame.turns {
            let told = self.told.entry(state.window).or_default();
            *told = state.turn.max(*told);
        }
        self.net.old.push_back(frame.clone());
        if self.net.old.len() > OLD_FRAMES_MAX {
            self.net.old.pop_front();
        }
        self.terminal().driver.heard(Pushed::State(Box::new(frame)));
    }

    fn release(&mut self) {
        self.net.holds = false;
        while let Some(frame) = self.net.held.pop() {
            if self.net.has_stream {
                self.deliver(frame);
            }
        }
    }

    fn echo(&mut self) {
        let old = self.net.old.front().cloned();
        if let Some(frame) = old.filter(|_| self.net.has_stream && !self.net.holds) {
            self.deliver(frame);
        }
    }

    fn upload(&mut self) {
        self.note_reports();
        if !self.net.is_up || self.outbox == 0 {
            return;
        }
        let state = self.terminal().state.clone();
        loop {
            let batch = state.oldest(REPORTS_MAX).unwrap();
            if batch.is_empty() {
                return;
            }
            let stored = self.authority.report(&batch);
            if std::mem::take(&mut self.net.loses_answer) {
                return;
            }
            state.forget(&stored).unwrap();
            self.outbox = 0;
        }
    }

    /// What waits in the outbox was made in this order.
    fn note_reports(&mut self) {
        let state = self.terminal().state.clone();
        let length = state.outbox_length().unwrap();
        if length == self.outbox {
            return;
        }
        for event in state.oldest(usize::MAX >> 1).unwrap() {
            if self.noted.insert(event.id) {
                self.made.push(event.id);
            }
        }
        self.outbox = length;
    }

    fn sleep(&mut self, time: Millis) {
        self.net.held.clear();
        let woken = self.now() + time + TICK_MAX.as_millis() as Millis;
        self.times.now_ms.store(woken.ms(), Ordering::Relaxed);
        // The first thing after the sleep, before the network is back.
        self.terminal().look();
        self.assert_board();
        if !self.terminal().tend_tag() {
            return self.start_anew();
        }
        self.note_what_was_torn();
        if self.net.has_stream {
            self.net.silent_until = Some(woken + SILENCE_MAX.as_millis() as Millis);
        }
    }

    fn tap(&mut self) {
        let mut place = self.place();
        if !place.lies_there {
            return;
        }
        let message = place.tag.as_mut().unwrap().read_by_phone();
        place.taps.all += 1;
        drop(place);
        self.phone = message.and_then(|message| ndef::read_uri(&message).ok());
    }

    fn claim(&mut self) {
        let now = self.now();
        let Some(link) = self.phone.take() else {
            return;
        };
        if self.authority.claim(unsigned(&link), now) {
            self.nfc_claims.push_back(now);
        }
    }

    fn scan(&mut self) {
        let now = self.now();
        let qr = self.terminal().board.borrow().faces.qr.clone();
        if let Ok(face) = qr {
            self.authority.claim(face.text(), now);
        }
    }

    fn burn(&mut self, count: u8) {
        for _ in 0..count {
            self.tap();
            self.claim();
            self.settle();
        }
    }

    /// A passer-by with an app; what guards the tag is not known to him.
    fn scrawl(&mut self) {
        let mut place = self.place();
        if !place.lies_there {
            return;
        }
        place.is_scrawled_on = true;
        let tag = place.tag.as_mut().unwrap();
        tag.power_up();
        match tag {
            TagModel::Ntag213(tag) => {
                for page in 6..8 {
                    tag.transceive(&[0xA2, page, b's', b'p', b'a', b'm']);
                }
            }
            TagModel::Ntag424(tag) => {
                let select = [0x00, 0xA4, 0x04, 0x0C, 7, 0xD2, 0x76, 0, 0, 0x85, 1, 1];
                tag.transmit(&select);
                tag.transmit(&[0x00, 0xA4, 0x00, 0x0C, 2, 0xE1, 0x04]);
                tag.transmit(&[0x00, 0xD6, 0x00, 0x08, 4, b's', b'p', b'a', b'm']);
            }
            TagModel::Foreign(_) => {}
        }
        drop(place);
        // What he wears off nobody counts.
        self.worn_before += u32::from(!self.is_guarded);
    }

    fn take_tag(&mut self) {
        let lay = std::mem::take(&mut self.place().lies_there);
        if lay && self.place().plugged {
            self.terminal().reader_says(&TagEvent::TagRemoved);
        }
    }

    fn bring_tag(&mut self) {
        let lay = std::mem::replace(&mut self.place().lies_there, true);
        if !lay && self.place().plugged {
            self.terminal()
                .reader_says(&TagEvent::TagArrived { uid: Vec::new() });
        }
    }

    fn unplug(&mut self) {
        if std::mem::take(&mut self.place().plugged) {
            self.terminal().reader_says(&TagEvent::ReaderGone);
        }
    }

    fn plug(&mut self) {
        if !std::mem::replace(&mut self.place().plugged, true) {
            let name = "ACS ACR122U PICC Interface".into();
            self.terminal()
                .reader_says(&TagEvent::ReaderArrived { name });
        }
    }

    /// A visit that was cut took the tag away.
    fn note_what_was_torn(&mut self) {
        let is_away = !self.place().lies_there;
        if is_away {
            self.terminal().reader_says(&TagEvent::TagRemoved);
        }
    }

    fn lose(&mut self) {
        self.net.is_up = false;
        self.drop_stream();
    }

    fn drop_stream(&mut self) {
        self.drop_stream_silently();
        self.net.silent_until = None;
        self.lost();
    }

    fn drop_stream_silently(&mut self) {
        self.net.has_stream = false;
        self.net.held.clear();
    }

    fn lost(&mut self) {
        let detail = "the line is cut".into();
        let lost = Pushed::Lost(CallError::Unreachable { detail });
        self.terminal().driver.heard(lost);
    }

    fn start_anew(&mut self) {
        self.note_reports_of_the_dead();
        self.terminal = None;
        self.place().taps.is_cut = true;
        self.drop_stream_silently();
        self.net.silent_until = None;
        self.terminal = Some(Terminal::start(
            self.dir.path(),
            self.id,
            &self.times,
            &self.place,
        ));
    }

    fn note_reports_of_the_dead(&mut self) {
        if self.terminal.is_some() {
            self.note_reports();
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.times.now()
    }

    /// How long this has lasted, in simulated milliseconds.
    pub(crate) fn lasted_ms(&self) -> Millis {
        self.now().ms() - BEGIN_MS
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn terminal(&mut self) -> &mut Terminal {
        self.terminal.as_mut().unwrap()
    }
}

/// A link without what the tag put behind it.
fn unsigned(link: &str) -> &str {
    let start = link.rfind("/t/").map_or(0, |at| at + 3);
    match link[start..].match_indices('.').nth(1) {
        Some((at, _)) => &link[..start + at],
        None => link,
    }
}

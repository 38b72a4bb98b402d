//! How does one node fare for a while?

use super::desk::{self, Desk, Next, Waiting};
use super::dice::Dice;
use super::task::{Kind, PAID, Step, Takes, Task};
use super::waits::Waits;
use super::writer::{self, Writer};
use super::{Calendar, Event};

/// A phone asks again so often, and its shopper gives up.
const PAYMENT_TRIES_MAX: u32 = 4;
/// `RECEIPT_RETRY_S`, and what a refused phone waits.
const PAYMENT_PAUSE_S: f64 = 2.0;
/// The agent's back-off: a lost stream comes back within the first, an errand begins with the second.
const LOST_S: f64 = 5.0;
const FIRST_S: f64 = 0.5;
const LONGEST_S: f64 = 30.0;
const CHECKPOINT_S: f64 = 1.0;

/// A node, what it has, and what is asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub seed: u64,
    pub span_s: f64,
    /// What the first seconds do is not counted: the queues are empty then.
    pub warm_up_s: f64,
    pub payments_per_s: f64,
    pub renewals_per_s: f64,
    /// Hours of other nodes' terminals, loaded ahead of time.
    pub ahead_per_s: f64,
    pub reports_per_s: f64,
    pub checkpoints: bool,
    /// How often for a payment; at most twice.
    pub loads_keys: f64,
    pub taps: f64,
    /// So many agents lose their stream at the end of the warm-up, and fetch a whole schedule each.
    pub restarted: usize,
    /// Schedules under way at once; one more is refused before it costs anything.
    pub door_max: usize,
    pub workers: usize,
    pub takes: Takes,
    pub hsm: desk::Rules,
    pub store: writer::Rules,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub hsm_busy: f64,
    pub writer_busy: f64,
    /// At the HSM, for each request.
    pub payment_waits: Waits,
    pub renewal_waits: Waits,
    /// Of a whole payment, people's own time not counted.
    pub payments: Waits,
    pub renewals: Waits,
    pub commits_per_s: f64,
    /// Requests of payments, and of the others, that were refused: they ask again.
    pub refused_payments: u64,
    pub refused_renewals: u64,
    /// Payments that asked in vain so often that nobody waits any more.
    pub given_up: u64,
    /// When the last agent had its schedule after the restart.
    pub all_back_s: f64,
    pub still_out: usize,
}

impl Node {
    pub fn run(&self) -> Outcome {
        let mut run = Run::new(self);
        run.begin();
        while let Some((now_s, event)) = run.calendar.next() {
            if now_s >= self.span_s {
                break;
            }
            run.handle(now_s, event);
        }
        run.end()
    }
}

struct Run<'a> {
    node: &'a Node,
    dice: Dice,
    calendar: Calendar,
    desk: Desk,
    writer: Writer,
    tasks: Vec<Task>,
    free: Vec<usize>,
    outcome: Outcome,
    now_s: f64,
    still_out: usize,
    inside: usize,
}

impl<'a> Run<'a> {
    fn new(node: &'a Node) -> Self {
        Self {
            node,
            dice: Dice::of(node.seed),
            calendar: Calendar::default(),
            desk: Desk::new(node.workers, node.hsm),
            writer: Writer::new(node.store),
            tasks: Vec::new(),
            free: Vec::new(),
            outcome: Outcome::default(),
            now_s: 0.0,
            still_out: node.restarted,
            inside: 0,
        }
    }

    fn begin(&mut self) {
        for kind in [
            Kind::Payment,
            Kind::Renewal,
            Kind::Ahead,
            Kind::Report,
            Kind::Checkpoint,
        ] {
            self.expect_next(kind);
        }
        for _ in 0..self.node.restarted {
            let at_s = self.node.warm_up_s + self.dice.even() * LOST_S;
            let task = self.enter(Kind::Fetch, at_s);
            self.calendar.at(at_s, Event::Ask(task));
        }
    }

    fn handle(&mut self, now_s: f64, event: Event) {
        self.now_s = now_s;
        match event {
            Event::Arrival(kind) => {
                self.expect_next(kind);
                let task = self.enter(kind, now_s);
                self.ask(task);
            }
            Event::Ask(task) => self.ask(task),
            Event::Worked(task) => {
                self.desk.free_workers += 1;
                self.step(task);
                self.serve();
            }
            Event::Committed => {
                for task in self.writer.committed() {
                    self.step(task);
                }
                self.commit();
            }
        }
    }

    fn expect_next(&mut self, kind: Kind) {
        let per_s = match kind {
            Kind::Payment => self.node.payments_per_s,
            Kind::Renewal => self.node.renewals_per_s,
            Kind::Ahead => self.node.ahead_per_s,
            Kind::Report => self.node.reports_per_s,
            Kind::Checkpoint if self.node.checkpoints => {
                return self
                    .calendar
                    .at(self.now_s + CHECKPOINT_S, Event::Arrival(kind));
            }
            Kind::Checkpoint | Kind::Fetch => 0.0,
        };
        if per_s > 0.0 {
            let at_s = self.now_s + self.dice.until_next_s(per_s);
            self.calendar.at(at_s, Event::Arrival(kind));
        }
    }

    fn enter(&mut self, kind: Kind, began_s: f64) -> usize {
        let task = Task {
            kind,
            began_s,
            step: 0,
            tries: 0,
            loads_keys: [(); 2].map(|()| self.dice.happens(self.node.loads_keys / 2.0)),
            taps: self.dice.happens(self.node.taps),
            inside: false,
        };
        match self.free.pop() {
            Some(place) => {
                self.tasks[place] = task;
                place
            }
            None => {
                self.tasks.push(task);
                self.tasks.len() - 1
            }
        }
    }

    /// The task's step is done.
    fn step(&mut self, task: usize) {
        self.tasks[task].step += 1;
        if self.tasks[task].kind == Kind::Payment {
            self.tasks[task].tries = 0;
        }
        self.ask(task);
    }

    fn ask(&mut self, task: usize) {
        if !self.lets_in(task) {
            return self.refuse(task);
        }
        let step = self.tasks[task].stand(&self.node.takes);
        match step {
            Some(Step::Hsm(takes_s)) => {
                let (since_s, priority) = (self.now_s, self.tasks[task].priority());
                let waiting = Waiting {
                    task,
                    since_s,
                    takes_s,
                };
                match self.desk.push(waiting, priority) {
                    true => self.serve(),
                    false => self.refuse(task),
                }
            }
            Some(Step::Write) => match self.writer.push(task) {
                true => self.commit(),
                false => self.refuse(task),
            },
            None => self.done(task),
        }
    }

    fn lets_in(&mut self, place: usize) -> bool {
        let task = &mut self.tasks[place];
        if !task.is_schedule() || task.inside {
            return true;
        }
        task.inside = self.inside < self.node.door_max;
        self.inside += usize::from(task.inside);
        task.inside
    }

    fn goes_out(&mut self, place: usize) {
        let was_inside = std::mem::take(&mut self.tasks[place].inside);
        self.inside -= usize::from(was_inside);
    }

    /// Every free worker takes what is next.
    fn serve(&mut self) {
        loop {
            match self.desk.next(self.now_s) {
                Next::Nothing => return,
                Next::Late(late) => self.refuse(late.task),
                Next::Work(work, priority) => {
                    self.note_wait(self.now_s - work.since_s, priority);
                    let at_s = self.now_s + work.takes_s;
                    self.calendar.at(at_s, Event::Worked(work.task));
                }
            }
        }
    }

    fn commit(&mut self) {
        if let Some(takes_s) = self.writer.begin() {
            self.calendar.at(self.now_s + takes_s, Event::Committed);
        }
    }

    /// It asks again after a pause, unless nobody waits for it any more.
    fn refuse(&mut self, place: usize) {
        self.goes_out(place);
        let task = &mut self.tasks[place];
        task.tries += 1;
        let (kind, tries, paid) = (task.kind, task.tries, task.step >= PAID);
        let payment = kind == Kind::Payment;
        if self.is_counted() {
            match payment {
                true => self.outcome.refused_payments += 1,
                false => self.outcome.refused_renewals += 1,
            }
        }
        // Once paid, the receipt is taken up until it is signed.
        if payment && tries >= PAYMENT_TRIES_MAX && !paid {
            self.outcome.given_up += u64::from(self.is_counted());
            self.free.push(place);
            return;
        }
        let pause_s = match payment {
            true => PAYMENT_PAUSE_S,
            false => {
                // A schedule is asked for anew: what was derived for it is forgotten.
                self.tasks[place].step = 0;
                self.back_off_s(tries)
            }
        };
        self.calendar.at(self.now_s + pause_s, Event::Ask(place));
    }

    fn back_off_s(&mut self, tries: u32) -> f64 {
        let doublings = (tries - 1).min(16);
        let ceiling = (FIRST_S * f64::from(1_u32 << doublings)).min(LONGEST_S);
        self.dice.even() * ceiling
    }

    fn done(&mut self, place: usize) {
        self.goes_out(place);
        let task = self.tasks[place];
        self.free.push(place);
        let took_s = self.now_s - task.began_s;
        match task.kind {
            Kind::Payment if self.is_counted() => self.outcome.payments.add(took_s),
            Kind::Renewal if self.is_counted() => self.outcome.renewals.add(took_s),
            Kind::Fetch => {
                self.still_out -= 1;
                self.outcome.all_back_s = self.now_s - self.node.warm_up_s;
            }
            _ => {}
        }
    }

    fn note_wait(&mut self, waited_s: f64, priority: desk::Priority) {
        if self.is_counted() {
            match priority {
                desk::Priority::Payment => self.outcome.payment_waits.add(waited_s),
                desk::Priority::Renewal => self.outcome.renewal_waits.add(waited_s),
            }
        }
    }

    fn is_counted(&self) -> bool {
        self.now_s >= self.node.warm_up_s
    }

    fn end(mut self) -> Outcome {
        let span_s = self.node.span_s;
        self.outcome.hsm_busy = self.desk.worked_s / (self.node.workers as f64 * span_s);
        self.outcome.writer_busy = self.writer.worked_s / span_s;
        self.outcome.commits_per_s = self.writer.commits as f64 / span_s;
        self.outcome.still_out = self.still_out;
        self.outcome
    }
}

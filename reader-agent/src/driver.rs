//! Who carries out what the core decides?
//!
//! One task owns the core. It hears from the push stream and from the errand runner, keeps what must
//! survive, and puts the board where screen, till and tag see it.

use std::sync::Arc;
use std::time::Duration;

use protocol::jwk::JwkSet;
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use protocol::wire::charges::TillCharge;
use protocol::wire::push::{ChargeState, TerminalState};
use protocol::wire::schedules::ScheduleResponse;
use tokio::sync::{Notify, mpsc, watch};

use crate::authority::CallError;
use crate::authority::line::Line;
use crate::authority::push::{Pushed, SILENCE_MAX};
use crate::backoff::Backoff;
use crate::clock::{Alarm, Clock, LATE_MS, Told};
use crate::core::{Away, Board, Core, Errand, Save};
use crate::identity::Lasts;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::rotation::{Blank, Faces};
use crate::shown::Shown;
use crate::state::State;
use crate::upkeep::WAIT_MAX_MS;
use crate::upkeep_driver::Kept;

/// Looks at the clock at least this often, whatever timers do.
pub const TICK_MAX: Duration = Duration::from_millis(1_000);
/// The shortest sleep, so that a boundary in the past makes no busy loop.
pub const TICK_MIN: Duration = Duration::from_millis(5);
/// How often the clock is remembered for the next start.
pub const REMEMBER_EVERY_MS: Millis = 60_000;
/// A stream that was silent for this long, time asleep included, is not believed any more. While the machine
/// is awake the stream's own timer rings before.
pub const SILENT_MS: Millis = SILENCE_MAX.as_millis() as Millis + LATE_MS;
/// Errands and frames that may wait for the driver.
pub const INBOX_MAX: usize = 16;

/// What the driver works with.
pub struct Driver {
    pub core: Core,
    pub clock: Arc<Clock>,
    pub state: Arc<State>,
    pub metrics: Arc<Metrics>,
    pub line: Arc<Line>,
    pub kept: watch::Receiver<Kept>,
    pub pushed: mpsc::Receiver<Pushed>,
    pub errands: mpsc::Sender<Errand>,
    pub answers: mpsc::Receiver<Answer>,
    /// Rung by the till's interface.
    pub key_missing: Arc<Notify>,
    pub board: watch::Sender<Board>,
    pub pulse: Pulse,
    pub stop: watch::Receiver<bool>,
    /// When the stream was asked for whose first frame has not come.
    pub asked: Option<Millis>,
    /// When the stream that is heard last gave a sign of life, in ticks; none while none is heard.
    pub alive: Option<Millis>,
}

/// What an errand brought.
pub enum Answer {
    Keys(JwkSet),
    Schedule(ScheduleResponse, crate::rotation::Fetch),
    NothingNew,
    Refused(Errand, CallError),
}

impl Driver {
    pub async fn run(mut self) {
        let mut remembered: Option<Timestamp> = None;
        let mut alarm = Alarm::new();
        while !*self.stop.borrow() {
            self.look(&mut remembered);
            let pause = self.pause();
            tokio::select! {
                _ = self.stop.changed() => {}
                () = alarm.after(pause) => {}
                Some(pushed) = self.pushed.recv() => self.heard(pushed),
                Some(answer) = self.answers.recv() => self.answered(answer),
                () = self.key_missing.notified() => self.core.handle_key_missing(),
            }
        }
        self.remember();
    }

    /// Everything that follows from the time alone. `remembered` is when the clock last was.
    pub fn look(&mut self, remembered: &mut Option<Timestamp>) {
        self.notice_silence();
        let now = self.clock.now();
        let board = self.core.poll(now);
        let before = self.board.borrow().clone();
        self.metrics.board_changed(&before.faces, &board);
        if before.shown.name() != board.shown.name() {
            log_shown(&board.shown);
        }
        self.board.send_if_modified(|held| {
            let changed = held.faces != board.faces
                || held.shown != board.shown
                || held.online != board.online
                || held.charge.as_ref().map(said) != board.charge.as_ref().map(said)
                || held.away != board.away;
            *held = board;
            changed
        });
        self.send_errand();
        self.measure(now);
        let due = |last: Timestamp| now.is_some_and(|now| now - last >= REMEMBER_EVERY_MS);
        if self.clock.is_heard() && remembered.is_none_or(due) {
            self.remember();
            *remembered = now;
        }
        self.pulse.beat(self.clock.ticks_ms());
    }

    fn pause(&self) -> Duration {
        let next = self
            .clock
            .now()
            .and_then(|now| Some(self.core.poll_timeout(now)? - now));
        let next = next.map(|ms| Duration::from_millis(ms.max(0) as u64 + 1));
        next.unwrap_or(TICK_MAX).clamp(TICK_MIN, TICK_MAX)
    }

    /// The push stream has something to say.
    pub fn heard(&mut self, pushed: Pushed) {
        self.notice_silence();
        match pushed {
            Pushed::Connected { asked } => {
                self.core.handle_connected();
                self.asked = Some(asked);
                self.alive = Some(asked);
            }
            // It waited in a stream that is not believed any more.
            Pushed::State(_) | Pushed::Alive if self.alive.is_none() => {}
            Pushed::State(state) => self.told(*state),
            Pushed::Alive => {
                self.alive = Some(self.clock.ticks_ms());
                self.core.handle_alive(self.clock.now_or_wall());
            }
            Pushed::Left => self.leave(),
            Pushed::Lost(error) => self.lost(&error),
        }
    }

    fn told(&mut self, state: TerminalState) {
        if self.tell_time(state.now) == Told::Doubtful {
            tracing::info!("a frame is older than the clock allows: the stream is opened anew");
            return self.doubt();
        }
        self.alive = Some(self.clock.ticks_ms());
        let saves = self.core.handle_state(state, self.clock.now_or_wall());
        self.keep(saves);
    }

    /// The stream's timer stands still while the machine sleeps; the clock does not.
    fn notice_silence(&mut self) {
        let now = self.clock.ticks_ms();
        if self.alive.is_some_and(|alive| now - alive > SILENT_MS) {
            tracing::info!("nothing was heard for too long: the stream is opened anew");
            self.doubt();
        }
    }

    /// Nobody knows whether this is still so: the next stream says.
    fn doubt(&mut self) {
        self.leave();
        self.line.ask_anew();
    }

    fn leave(&mut self) {
        self.asked = None;
        self.alive = None;
        self.core.handle_disconnected();
    }

    /// The first frame of a stream answers a question of ours. A later one may have waited anywhere, also
    /// while this machine slept; where it contradicts the clock, the question is asked anew.
    fn tell_time(&mut self, there: Timestamp) -> Told {
        match self.asked.take() {
            Some(asked) => self.clock.answered(there, asked),
            None => self.clock.overheard(there),
        }
    }

    fn lost(&mut self, error: &CallError) {
        self.leave();
        self.core.handle_away(Away {
            is_stranger: error.is_stranger(),
            words: format!("{error}. Next: {}.", error.hint()),
        });
        self.metrics.push_lost();
        let hint = error.hint();
        tracing::warn!(hint, "no push from the authority: {error}");
        if !error.is_refusal() {
            return;
        }
        // A certificate that has expired is renewed: it is no refusal before that has failed.
        let now = self.clock.now_or_wall();
        if let Some(reason) = self.refusal(error, now) {
            self.core.handle_refused(None, reason, now);
        }
    }

    /// An errand has come to an end.
    pub fn answered(&mut self, answer: Answer) {
        let now = self.clock.now_or_wall();
        match answer {
            Answer::Keys(keys) => {
                let saves = self.core.handle_keys(keys, now);
                self.keep(saves);
            }
            Answer::Schedule(response, fetch) => {
                let (saves, result) = self.core.handle_schedule(response, fetch, now);
                self.keep(saves);
                if let Err(error) = result {
                    tracing::error!("a schedule is not followed: {error}");
                }
            }
            Answer::NothingNew => self.core.handle_nothing_new(now),
            Answer::Refused(errand, error) => match self.refusal(&error, now) {
                Some(reason) => self.core.handle_refused(Some(errand), reason, now),
                None => self.core.handle_put_off(errand, now),
            },
        }
    }

    /// The refusal in plain words; none while its cause is being put right.
    fn refusal(&self, error: &CallError, now: Timestamp) -> Option<String> {
        let lasts = self.line.now().identity.lasts(now);
        let is_expired = matches!(lasts, Lasts::Expired { .. }) && error.is_about_certificate();
        if !is_expired {
            return Some(format!("{error}. Next: {}", error.hint()));
        }
        let kept = self.kept.borrow();
        let last_word = kept.troubles.iter().find(|trouble| trouble.is_final);
        last_word.map(|trouble| trouble.words.clone())
    }

    fn send_errand(&mut self) {
        // Room first: an errand is handed out once.
        let Ok(room) = self.errands.try_reserve() else {
            return;
        };
        if let Some(errand) = self.core.poll_errand(self.clock.now_or_wall()) {
            room.send(errand);
        }
    }

    fn measure(&self, now: Option<Timestamp>) {
        let horizon = self.board.borrow().horizon;
        let horizon = now.and_then(|now| Some(horizon? - now));
        let left = self.line.now().identity.not_after() - self.clock.now_or_wall();
        self.metrics.times(
            horizon.unwrap_or(0) / 1000,
            self.clock.offset_ms().unwrap_or(0),
            left / 1000,
        );
    }

    fn keep(&self, saves: Vec<Save>) {
        for save in saves {
            if let Err(error) = self.state.save(&save) {
                self.metrics.storage_failed();
                tracing::error!(hint = error.hint(), "not kept for the next start: {error}");
            }
        }
    }

    fn remember(&self) {
        let Some(clock) = self.clock.remember() else {
            return;
        };
        if let Err(error) = self.state.save_clock(clock) {
            self.metrics.storage_failed();
            tracing::error!(hint = error.hint(), "the clock is not remembered: {error}");
        }
    }
}

/// What is on the board before anything was heard.
pub fn empty_board(terminal: protocol::ids::TerminalId) -> Board {
    Board {
        terminal,
        now: None,
        faces: Faces::blank(Blank::NoTime),
        shown: Shown::Starting,
        charge: None,
        online: false,
        horizon: None,
        away: None,
        nfc: None,
    }
}

/// What is news to the till when it changes; the time alone is not.
fn said(charge: &TillCharge) -> (&ChargeState, bool) {
    (&charge.state, charge.stale)
}

pub fn expired(since: Timestamp) -> String {
    format!(
        "This terminal's certificate expired at {since}; it is renewed as soon as the authority answers."
    )
}

pub fn expiring(until: Timestamp) -> String {
    format!("This terminal's certificate expires at {until} and should have been renewed by now.")
}

/// Runs the core's errands one after the other, each until it is answered.
pub async fn run_errands(
    line: Arc<Line>,
    mut errands: mpsc::Receiver<Errand>,
    answers: mpsc::Sender<Answer>,
) {
    while let Some(errand) = errands.recv().await {
        let mut backoff = Backoff::default();
        let answer = loop {
            match run_errand(&line, errand).await {
                Ok(answer) => break answer,
                Err(error) if error.is_refusal() => {
                    tracing::warn!(hint = error.hint(), "{error}");
                    break Answer::Refused(errand, error);
                }
                Err(error) => {
                    tracing::debug!(?errand, "tried again later: {error}");
                    let asked = Duration::from_millis(wait_ms(&error));
                    tokio::time::sleep(asked + backoff.pause()).await;
                }
            }
        };
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}

/// As long as the authority asks for, within reason.
fn wait_ms(error: &CallError) -> u64 {
    let asked = error.retry_after_ms().clamp(0, WAIT_MAX_MS);
    u64::try_from(asked).unwrap_or(0)
}

async fn run_errand(line: &Line, errand: Errand) -> Result<Answer, CallError> {
    match errand {
        Errand::Keys => {
            let keys = line.call(|client| async move { client.keys().await });
            keys.await.map(Answer::Keys)
        }
        Errand::Schedule(fetch) => {
            match line.call(|c| async move { c.schedule(fetch).await }).await {
                Ok(response) => Ok(Answer::Schedule(response, fetch)),
                Err(error) if error.is(ProblemType::EpochOutOfHorizon) => Ok(Answer::NothingNew),
                Err(error) => Err(error),
            }
        }
    }
}

fn log_shown(shown: &Shown) {
    let claim = shown.claim().map(|c| c.to_string());
    match shown {
        Shown::OutOfService { reason } => tracing::warn!(shown = shown.name(), "{reason}"),
        _ => tracing::info!(shown = shown.name(), claim, "screen"),
    }
}

#[cfg(test)]
mod tests;

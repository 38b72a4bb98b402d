//! What follows here from what other nodes have committed, and what if this node cannot hear of it?
//!
//! ```text
//! store: news, rows first ──▶ follow: streams are woken, bans cut; keys are owed, read beside it; facts journalled
//!   ├─ rows were missed ──▶ whoever is connected is looked up first, in pieces
//!   └─ none for most of a second ──▶ closed: streams end, nothing is issued, claimed or paid
//!                                      └─ heard again, and all of it followed ──▶ open
//! ```
//! The database refuses what is banned, whichever node it is asked by; a node that cannot hear must not go
//! on showing, issuing and promising meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::problem::{Problem, ProblemType};
use protocol::time::Millis;
use tokio::sync::{Notify, watch};

use super::changes::Change;
use super::journey::Journey;
use super::owed::{Duty, Lane, Next, Opened, Owed};
use super::{Failure, fence, revocation, same_keys};
use crate::app::{App, AssembleError};
use crate::store::{Contact, News, NewsListener, SKEW_MAX_MS};

/// How often it is looked whether the others are heard.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// From news of a fact to its line in the journal here, so that many make one look.
const JOURNAL_DEBOUNCE: Duration = Duration::from_millis(500);
/// After bans could not be read, keys could not be read, and they could not be compared.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const READ_AGAIN: Duration = Duration::from_secs(1);
const PROVE_AGAIN: Duration = Duration::from_secs(30);
/// What was closed because of a moment's silence is tried again soon.
const RETRY_S: u32 = 1;

/// Whether this node hears the others.
#[derive(Debug)]
pub struct Neighbours {
    /// Why nothing is served.
    closed: watch::Sender<Option<Arc<str>>>,
    /// A fact of another node is not in the journal here yet.
    owes: Notify,
    /// What is to be read and compared again because of them.
    owed: Owed,
    /// What is wrong with the HSM token since keys were replaced elsewhere.
    keys: Mutex<Option<String>>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self {
            closed: watch::Sender::new(None),
            owes: Notify::new(),
            owed: Owed::default(),
            keys: Mutex::default(),
        }
    }
}

impl Neighbours {
    /// Returns once this node has closed.
    pub async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is part of `self`, so it cannot be gone while this waits.
        let _ = closed.wait_for(Option::is_some).await;
    }

    /// Whether bans, keys or the generation of others are still to be read.
    pub fn is_in_the_dark(&self) -> bool {
        self.owed.in_the_dark()
    }

    fn note_keys(&self, trouble: Option<String>) {
        *self.keys() = trouble;
    }

    fn keys(&self) -> MutexGuard<'_, Option<String>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, why: &str) {
        let is_new = self.closed.borrow().is_none();
        if is_new {
            tracing::error!(why, "closed: other nodes are not heard");
            self.closed.send_replace(Some(why.into()));
        }
    }

    fn open(&self) {
        if self.closed.borrow().is_some() {
            tracing::info!("open again: other nodes are heard");
            self.closed.send_replace(None);
        }
    }
}

/// Why nothing is served at the moment; none while the others are heard, or where there are none.
pub fn closed(app: &App) -> Option<Arc<str>> {
    if let Contact::Lost { why } = app.store.contact() {
        return Some(why.into());
    }
    app.neighbours.closed.borrow().clone()
}

/// The answer to everything meanwhile. Strangers do not hear why.
pub fn problem(app: &App) -> Option<Problem> {
    let not_ready = || Problem::new(ProblemType::NotReady).with_retry_after(RETRY_S);
    closed(app).map(|_| not_ready())
}

/// What readiness says of it.
pub fn reasons(app: &App) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(why) = closed(app) {
        reasons.push(format!("closed, because other nodes are not heard: {why}"));
    }
    reasons.extend(skew(app).and_then(in_words));
    reasons.extend(app.neighbours.keys().clone());
    reasons
}

/// How far this node's clock is ahead of the database's.
fn skew(app: &App) -> Option<Millis> {
    match app.store.contact() {
        Contact::Kept { database_now } => Some(app.clock.now() - database_now),
        Contact::Alone | Contact::Lost { .. } => None,
    }
}

fn in_words(skew: Millis) -> Option<String> {
    let side = if skew > 0 { "ahead of" } else { "behind" };
    let is_off = skew.abs() > SKEW_MAX_MS;
    is_off.then(|| {
        format!(
            "the clock of this node is {} ms {side} the database's, and may be {SKEW_MAX_MS}",
            skew.abs()
        )
    })
}

/// Follows the others until the drain starts.
pub async fn run(journey: &Journey) {
    let app = &journey.app;
    tokio::select! {
        () = hear(journey) => {}
        () = keep_up(journey, Lane::Urgent) => {}
        () = keep_up(journey, Lane::Rest) => {}
        () = keep_journal(app) => {}
        () = app.draining() => {}
    }
}

async fn hear(journey: &Journey) {
    let app = &journey.app;
    let mut news = app.store.news();
    if app.store.contact() == Contact::Alone {
        // What this process committed and nobody who asked for it heard of.
        loop {
            follow(journey, news.next().await);
        }
    }
    // What was committed between the first read of the keys and now.
    follow(journey, News::All);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            heard = news.next() => follow(journey, heard),
            _ = looks.tick() => look(app, &news),
        }
    }
}

/// Closes as soon as nothing is heard, and opens when all is followed.
fn look(app: &App, news: &NewsListener) {
    let neighbours = &app.neighbours;
    if let Contact::Lost { why } = app.store.contact() {
        return neighbours.close(&why);
    }
    if let Some(late) = neighbours.owed.too_late() {
        return neighbours.close(late.in_words());
    }
    if !neighbours.is_in_the_dark() && news.is_caught_up() {
        neighbours.open();
    }
}

/// Does what this process would have done, had it committed that itself. What takes its time is owed, and done
/// beside this: the next news may be a ban.
fn follow(journey: &Journey, news: News) {
    let app = &journey.app;
    let owed = &app.neighbours.owed;
    if news.is_kept() && news != News::Operations {
        app.neighbours.owes.notify_one();
    }
    match news {
        News::Terminal(terminal) => journey.push.changed(terminal),
        News::Banned(terminal) => app.bans.announce(terminal),
        News::Revoked(serial) => app.bans.announce_revoked(&serial),
        News::Reseeded(terminal) => journey.follow(&Change::Terminals([terminal].into())),
        News::Operations => app.operations.moved_elsewhere(),
        News::Opened {
            terminal,
            certificate,
            instance,
        } => owed.opened(Opened {
            terminal,
            certificate,
            instance,
        }),
        News::Listens(terminal) => journey.push.listens_elsewhere(terminal),
        News::Closed(terminal) => journey.push.closed_elsewhere(terminal),
        News::Hello => owed.owe(Duty::Answer),
        News::Keys => owed.owe(Duty::Keys),
        News::Generation => owed.owe(Duty::Generation),
        News::Fact => {}
        News::Missed => follow_all(journey),
        News::All => {
            // A herd is woken over a minute: whoever is banned does not wait for its turn.
            owed.owe(Duty::Bans);
            follow_all(journey);
        }
    }
}

/// Anything but a ban may have been missed.
fn follow_all(journey: &Journey) {
    let app = &journey.app;
    journey.follow(&Change::All);
    app.operations.moved_elsewhere();
    // Who listens where is asked, and told, anew.
    for duty in [Duty::Generation, Duty::Keys, Duty::Hello] {
        app.neighbours.owed.owe(duty);
    }
}

/// Does what is owed, one after the other.
async fn keep_up(journey: &Journey, lane: Lane) {
    let owed = &journey.app.neighbours.owed;
    loop {
        let (duty, turn) = match owed.next(lane).await {
            Next::Duty(duty, turn) => (duty, turn),
            Next::Opened(Opened {
                terminal,
                certificate,
                instance,
            }) => {
                let push = &journey.push;
                push.opened_elsewhere(terminal, &certificate, instance.as_deref())
                    .await;
                continue;
            }
        };
        match attend(journey, duty).await {
            Ok(()) => owed.done(duty, turn),
            Err(why) => {
                tracing::warn!(?duty, error = %why, "what another node did is not followed yet");
                owed.later(duty, again_after(duty));
            }
        }
    }
}

async fn attend(journey: &Journey, duty: Duty) -> Result<(), Failure> {
    let app = &journey.app;
    match duty {
        Duty::Bans => revocation::look_again(app).await,
        Duty::Generation => read_generation(app).await,
        Duty::Keys => read_keys(journey).await,
        Duty::Proof => {
            let proven = same_keys::prove(app).await;
            app.neighbours
                .note_keys(proven.as_ref().err().map(ToString::to_string));
            proven.map_err(|why| Problem::new(ProblemType::Internal).with_detail(why).into())
        }
        Duty::Answer => {
            journey.push.tell_who_listens().await;
            Ok(())
        }
        Duty::Hello => {
            app.store.call(&[News::Hello]);
            journey.push.tell_who_listens().await;
            Ok(())
        }
    }
}

/// A proof costs the HSM a command for every key.
fn again_after(duty: Duty) -> Duration {
    match duty {
        Duty::Proof => PROVE_AGAIN,
        Duty::Bans => LOOK_AGAIN,
        Duty::Generation | Duty::Keys | Duty::Answer | Duty::Hello => READ_AGAIN,
    }
}

async fn read_keys(journey: &Journey) -> Result<(), Failure> {
    let app = &journey.app;
    app.reload_keyring().await.map_err(|error| match error {
        AssembleError::Store(error) => Failure::from(error),
        AssembleError::Keys(error) => Problem::new(ProblemType::Internal)
            .with_detail(error)
            .into(),
    })?;
    journey.follow(&Change::Keys);
    app.neighbours.owed.owe(Duty::Proof);
    Ok(())
}

/// A process that has the old generation must not go on with it.
async fn read_generation(app: &App) -> Result<(), Failure> {
    let generation = app.store.generation().await?;
    if generation != app.generation {
        app.fence.put_up_raised(generation, app.clock.now());
    }
    Ok(())
}

/// Each node's journal knows what all of them refuse, so that any of them tells a restored database.
async fn keep_journal(app: &App) {
    loop {
        app.neighbours.owes.notified().await;
        tokio::time::sleep(JOURNAL_DEBOUNCE).await;
        if app.fence.fenced().is_some() {
            continue;
        }
        if let Err(why) = fence::catch_up(app).await {
            tracing::warn!(error = %why, "the journal lacks what other nodes did, and is written again");
            app.neighbours.owes.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_named_with_its_side() {
        assert_eq!(in_words(500), None);
        assert_eq!(in_words(-500), None);
        let ahead = in_words(501);
        assert!(ahead.is_some_and(|it| it.contains("501 ms ahead of the database's")));
        let behind = in_words(-1_234);
        assert!(behind.is_some_and(|it| it.contains("1234 ms behind the database's")));
    }
}

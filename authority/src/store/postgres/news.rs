//! How does a node hear what others have committed, and they what it has?
//!
//! ```text
//! writer ──COMMIT──▶ caller: one thread, NOTIFY ─ ─ ─ ─ ─ ─ ─▶ listener of every node: one thread, LISTEN
//!    └──rows of `news`, with the fact ───────────────────────▶ read when called, and five times a second
//! ```
//! NOTIFY takes a lock of the whole cluster until its commit, so it has a connection of its own, whose
//! commits wait for no disk. A call that is lost loses nothing that refuses: that is a row. The listener's
//! session also holds the locks of the chores that this node does, so they move when it is gone.

mod words;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};

use self::words::{EVERYTHING, ROWS};
use super::conn::{Begins, CHANNEL, PgConn};
use super::connect::Connect;
use super::schema;
use crate::clock::{Clock, Moment, SystemClock};
use crate::store::nodes::Lanes;
use crate::store::sql::conn::{Conn, params};
use crate::store::sql::control::{Subject, Touches};
use crate::store::sql::nodes::{newest, since};
use crate::store::sql::row::{all, get, one};
use crate::store::sqlite::error::unusable;
use crate::store::{
    Chore, Contact, LOST_AFTER, NEWS_EVERY, News, NewsListener, NodeSays, Result, Server,
};

/// Commits whose news wait to be called out; past it others are told that some are missing.
const CALLS_MAX: usize = 4_096;
/// PostgreSQL takes less than 8 000 bytes in one call.
const CALL_BYTES_MAX: usize = 7_500;
/// Calls that are heard in a row before the rows are read again, however many wait.
const HEARD_MAX: usize = 32;
/// After a failure, before the next try.
const PAUSE: Duration = Duration::from_millis(100);
/// An answer that took longer says nothing of the database's clock.
const CLOCK_WITHIN: Duration = Duration::from_millis(200);
/// How often chores that others do are asked for.
const CHORES_EVERY: Duration = Duration::from_secs(1);
/// How often the row of this node is written.
const SEEN_EVERY: Duration = Duration::from_secs(5);
/// The same where replicas are judged by it.
const SEEN_AT_REPLICAS_EVERY: Duration = Duration::from_secs(1);

/// What a store has to do with its neighbours. Dropping it ends both threads.
pub(in crate::store) struct Neighbours {
    shared: Arc<Shared>,
    caller: Caller,
    _listens: Sender<()>,
}

/// Calls out what was committed.
#[derive(Clone)]
pub(in crate::store) struct Caller {
    calls: SyncSender<Call>,
    shared: Arc<Shared>,
}

/// What one commit has to say.
#[derive(Default)]
struct Call {
    /// Whose state moved on.
    terminals: BTreeSet<TerminalId>,
    /// What is only called out besides, in order.
    others: Vec<String>,
}

/// The same in as many calls as it takes.
#[derive(Default)]
struct Said {
    calls: Vec<String>,
    /// Some of it fits into no call.
    has_dropped: bool,
}

struct Shared {
    node: String,
    seen_every: Duration,
    news: Lanes,
    heard: Mutex<Heard>,
    chores: Mutex<BTreeSet<Chore>>,
    has_resigned: AtomicBool,
    /// Calls were lost before they were sent.
    has_lost: AtomicBool,
    /// There are rows that others have not been told of; said before all that waits.
    has_rows: AtomicBool,
    /// Lanes whose last commit may have happened.
    doubts: AtomicUsize,
    /// One began, or ended, since rows were read last.
    has_doubted: AtomicBool,
    /// Which backend calls out for this node.
    own_backend: AtomicI32,
}

#[derive(Default)]
struct Heard {
    /// When the database was asked for what it then answered.
    at: Option<Moment>,
    /// The database's clock, and when it showed that.
    clock: Option<(Moment, Timestamp)>,
    trouble: Option<String>,
}

impl Neighbours {
    /// Begins to listen; blocks until it does.
    pub(super) fn start(connect: &Arc<Connect>, node: &str, is_copied: bool) -> Result<Self> {
        let shared = Arc::new(Shared {
            node: node.into(),
            seen_every: match is_copied {
                false => SEEN_EVERY,
                true => SEEN_AT_REPLICAS_EVERY,
            },
            news: Lanes::new(),
            heard: Mutex::default(),
            chores: Mutex::default(),
            has_resigned: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
            has_rows: AtomicBool::new(false),
            doubts: AtomicUsize::new(0),
            has_doubted: AtomicBool::new(false),
            own_backend: AtomicI32::new(0),
        });
        let conn = PgConn::open_as(connect.clone(), Begins::Listening)?;
        let listener = Listener::new(Conn::Postgres(Box::new(conn)), shared.clone())?;
        let (listens, ended) = channel();
        spawn("store-listener", move || listener.run(&ended))?;
        let conn = PgConn::open_as(connect.clone(), Begins::CallingOut)?;
        let (calls, waiting) = sync_channel(CALLS_MAX);
        let voice = Voice {
            conn,
            shared: shared.clone(),
        };
        spawn("store-caller", move || voice.run(&waiting))?;
        let caller = Caller {
            calls,
            shared: shared.clone(),
        };
        caller.call(&[News::Hello]);
        Ok(Self {
            shared,
            caller,
            _listens: listens,
        })
    }

    pub(in crate::store) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(in crate::store) fn news(&self) -> NewsListener {
        self.shared.news.listen()
    }

    pub(in crate::store) fn lanes(&self) -> &Lanes {
        &self.shared.news
    }

    pub(in crate::store) fn contact(&self) -> Contact {
        self.shared.contact()
    }

    pub(in crate::store) fn leads(&self, chore: Chore) -> bool {
        let holds = self.shared.chores().contains(&chore);
        holds && matches!(self.contact(), Contact::Kept { .. })
    }

    pub(in crate::store) fn resign(&self) {
        self.shared.has_resigned.store(true, Ordering::SeqCst);
        self.shared.chores().clear();
    }
}

impl Caller {
    /// Who calls: all lanes of a node are one.
    pub(in crate::store) fn node(&self) -> &str {
        &self.shared.node
    }

    /// Call after the commit. Never waits.
    pub(in crate::store) fn call(&self, news: &[News]) {
        if news.is_empty() {
            return;
        }
        let call = Call {
            terminals: news.iter().filter_map(terminal_of).collect(),
            others: news.iter().filter_map(words::of).collect(),
        };
        if news.iter().any(News::is_kept) {
            self.shared.has_rows.store(true, Ordering::SeqCst);
        }
        if let Err(TrySendError::Full(_)) = self.calls.try_send(call) {
            self.shared.has_lost.store(true, Ordering::SeqCst);
        }
    }

    /// A lane gave up a commit that may have happened, or still may: nobody here followed it. Until it is settled
    /// this node's own rows are news to itself, and those that were passed over already are made good.
    pub(in crate::store) fn doubt(&self) {
        self.shared.doubts.fetch_add(1, Ordering::SeqCst);
        self.shared.has_doubted.store(true, Ordering::SeqCst);
    }

    /// That lane appends to its chain again, so that what was in doubt has happened or never will.
    pub(in crate::store) fn settle(&self) {
        self.shared.doubts.fetch_sub(1, Ordering::SeqCst);
        self.shared.has_doubted.store(true, Ordering::SeqCst);
    }
}

fn terminal_of(news: &News) -> Option<TerminalId> {
    match news {
        News::Terminal(id) => Some(*id),
        _ => None,
    }
}

impl Shared {
    fn contact(&self) -> Contact {
        let heard = self.heard();
        let age = heard.at.map(Moment::age);
        match (age.filter(|age| *age < LOST_AFTER), heard.clock) {
            (Some(_), Some((at, clock))) => Contact::Kept {
                database_now: clock + millis(at.age()),
            },
            _ => Contact::Lost {
                why: heard.trouble.clone().unwrap_or_else(|| {
                    let ms = age.map_or(0, millis);
                    format!("PostgreSQL has not answered for {ms} ms")
                }),
            },
        }
    }

    /// What others are told of this node.
    fn says(&self) -> NodeSays {
        let clock = self.heard().clock;
        let ahead = clock.map(|(at, shown)| SystemClock.now() - (shown + millis(at.age())));
        NodeSays {
            version: env!("CARGO_PKG_VERSION").into(),
            schema: Some(schema::known()),
            ahead_ms: ahead,
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chores(&self) -> MutexGuard<'_, BTreeSet<Chore>> {
        self.chores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose rows are no news here: this node's own, as long as it knows of all of them how they ended.
    fn left_out(&self) -> Option<&str> {
        let is_sure = self.doubts.load(Ordering::SeqCst) == 0;
        is_sure.then_some(&self.node)
    }
}

/// The thread that hears.
struct Listener {
    conn: Conn,
    shared: Arc<Shared>,
    /// The number of the last row that was read, and where.
    last: u64,
    server: Option<Server>,
    asked_for_chores: Option<Moment>,
    seen: Option<Moment>,
}

impl Listener {
    /// Whatever is committed from here on is heard.
    fn new(conn: Conn, shared: Arc<Shared>) -> Result<Self> {
        let last = newest(&conn)?;
        let mut listener = Self {
            conn,
            shared,
            last,
            server: None,
            asked_for_chores: None,
            seen: None,
        };
        listener.server = listener.postgres()?.server();
        listener.look()?;
        Ok(listener)
    }

    fn run(mut self, ended: &Receiver<()>) {
        let mut pause = Duration::ZERO;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
            pause = match self.turn() {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    self.lose(error.to_string());
                    PAUSE
                }
            };
        }
    }

    /// Waits for a call, and looks.
    fn turn(&mut self) -> Result<()> {
        let conn = self.postgres()?;
        // The server before may still be there, and knows nothing of what others do.
        if conn.trouble().is_some() || !conn.leads_home()? {
            conn.ready_again()?;
            self.count_anew()?;
            self.seen = None;
            // Calls may have been lost, not rows.
            self.look()?;
            self.shared.news.tell(News::Missed);
        }
        let mut calls = Vec::new();
        self.postgres()?.hear(NEWS_EVERY, &mut |by, said| {
            calls.push((by, said.to_owned()));
            calls.len() < HEARD_MAX && !said.split(' ').any(|word| word == ROWS)
        })?;
        let own = self.shared.own_backend.load(Ordering::SeqCst);
        for (_, said) in calls.iter().filter(|(by, _)| *by != own) {
            self.take(said);
        }
        self.look()
    }

    /// Another server may have other rows by the same numbers.
    fn count_anew(&mut self) -> Result<()> {
        let server = self.postgres()?.server();
        if server != self.server {
            self.last = newest(&self.conn)?;
            self.shared.news.tell(News::All);
            self.server = server;
        }
        Ok(())
    }

    fn take(&self, said: &str) {
        for word in said.split(' ').filter(|word| *word != ROWS) {
            self.shared.news.tell(words::read(word));
        }
    }

    /// Reads the rows that are new, and the database's clock.
    fn look(&mut self) -> Result<()> {
        let asked = Moment::now();
        let sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms,
             CAST(pg_current_wal_flush_lsn() - '0/0'::pg_lsn AS BIGINT) AS log_end";
        let (clock, log_end) = one(&self.conn, sql, params![], |row| {
            Ok((get::<i64>(row, "now_ms")?, get(row, "log_end")?))
        })?;
        let took = asked.age();
        self.postgres()?.reached(log_end);
        self.read_rows()?;
        {
            let mut heard = self.shared.heard();
            heard.at = Some(asked);
            heard.trouble = None;
            if took < CLOCK_WITHIN || heard.clock.is_none() {
                let shown = Timestamp::from_ms(clock) - millis(took) / 2;
                heard.clock = Some((asked, shown));
            }
        }
        self.take_chores()?;
        self.be_seen()
    }

    fn read_rows(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let (news, last) = since(&self.conn, shared.left_out(), self.last)?;
        self.last = last;
        if shared.has_doubted.swap(false, Ordering::SeqCst) {
            shared.news.tell(News::All);
        }
        news.into_iter().for_each(|it| shared.news.tell(it));
        Ok(())
    }

    /// Asks for what nobody does.
    fn take_chores(&mut self) -> Result<()> {
        if self.shared.has_resigned.load(Ordering::SeqCst) {
            return self.postgres()?.batch("SELECT pg_advisory_unlock_all()");
        }
        if !is_due(&mut self.asked_for_chores, CHORES_EVERY) {
            return Ok(());
        }
        let held = self.shared.chores().clone();
        let lacking = Chore::ALL.into_iter().filter(|it| !held.contains(it));
        let keys: Vec<String> = lacking.map(|it| format!("({})", key_of(it))).collect();
        if keys.is_empty() {
            return Ok(());
        }
        // In one question: a line that is slow must not make a node deaf that asks for nine chores.
        let sql = format!(
            "SELECT key FROM (VALUES {}) chores (key) WHERE pg_try_advisory_lock(key)",
            keys.join(", ")
        );
        let taken: Vec<i64> = all(&self.conn, &sql, params![], |row| get(row, "key"))?;
        for chore in Chore::ALL {
            if taken.contains(&key_of(chore)) {
                self.shared.chores().insert(chore);
                tracing::info!(%chore, "this node does it from now on");
            }
        }
        Ok(())
    }

    fn be_seen(&mut self) -> Result<()> {
        let is_first = self.seen.is_none();
        if !is_due(&mut self.seen, self.shared.seen_every) {
            return Ok(());
        }
        let sql = "INSERT INTO nodes (name, since_ms, seen_ms, version)
             SELECT ?1, now_ms, now_ms, ?2 FROM (
                 SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms) clock
             ON CONFLICT (name) DO UPDATE SET seen_ms = excluded.seen_ms, version = excluded.version,
                 since_ms = CASE WHEN ?3 = 1 THEN excluded.since_ms ELSE nodes.since_ms END";
        let says = self.shared.says().to_string();
        self.conn
            .execute(sql, params![self.shared.node, says, is_first])?;
        // A step that this program cannot work with closes the node, rather than each statement by itself.
        schema::check(&self.conn)
    }

    /// Whoever holds no session holds no chore.
    fn lose(&mut self, why: String) {
        self.shared.chores().clear();
        self.asked_for_chores = None;
        let mut heard = self.shared.heard();
        if heard.trouble.is_none() {
            tracing::warn!(%why, "other nodes are not heard");
        }
        heard.trouble = Some(why);
    }

    fn postgres(&self) -> Result<&PgConn> {
        match &self.conn {
            Conn::Postgres(conn) => Ok(conn),
            Conn::Sqlite(_) => Err(unusable("a file has no neighbours")),
        }
    }
}

/// The thread that calls out.
struct Voice {
    conn: PgConn,
    shared: Arc<Shared>,
}

impl Voice {
    fn run(self, waiting: &Receiver<Call>) {
        while let Ok(first) = waiting.recv() {
            let mut call = first;
            while let Ok(more) = waiting.try_recv() {
                call.terminals.extend(more.terminals);
                call.others.extend(more.others);
            }
            let mut said = call.said();
            let has_lost = self.shared.has_lost.swap(false, Ordering::SeqCst);
            if has_lost || said.has_dropped {
                said.calls.insert(0, EVERYTHING.to_owned());
            }
            in_turn(&said.calls, &self.shared.has_rows, |said| self.say(said));
        }
    }

    /// What cannot be said now is made good by the next call, and rows are read without any.
    fn say(&self, said: &str) {
        let sql = format!("SELECT pg_notify('{CHANNEL}', '{said}')");
        if let Err(error) = self.backend_known().and_then(|()| self.conn.batch(&sql)) {
            tracing::warn!(%error, "other nodes were not told");
            self.shared.has_lost.store(true, Ordering::SeqCst);
        }
    }

    /// A new connection has another backend; one to a server that is not served from any more is made anew.
    fn backend_known(&self) -> Result<()> {
        let own = &self.shared.own_backend;
        let is_well = self.conn.trouble().is_none() && self.conn.leads_home()?;
        if own.load(Ordering::SeqCst) != 0 && is_well {
            return Ok(());
        }
        self.conn.ready_again()?;
        own.store(self.conn.backend()?, Ordering::SeqCst);
        Ok(())
    }
}

/// Says these, and that there are rows as soon as there are, however many calls still wait.
fn in_turn(calls: &[String], has_rows: &AtomicBool, mut say: impl FnMut(&str)) {
    for next in calls.iter().map(Some).chain([None]) {
        if has_rows.swap(false, Ordering::SeqCst) {
            say(ROWS);
        }
        next.into_iter().for_each(|said| say(said));
    }
}

impl Call {
    /// Words of digits, letters and slashes: nothing needs to be quoted. No call is empty, because that reads as
    /// everything.
    fn said(&self) -> Said {
        let mut all = Said::default();
        let terminals = self.terminals.iter().map(ToString::to_string);
        terminals
            .chain(self.others.iter().cloned())
            .for_each(|word| all.add(&word));
        all
    }
}

impl Said {
    fn add(&mut self, word: &str) {
        if word.len() > CALL_BYTES_MAX {
            self.has_dropped = true;
            return;
        }
        match self.calls.last_mut() {
            Some(call) if call.len() + 1 + word.len() <= CALL_BYTES_MAX => {
                call.push(' ');
                call.push_str(word);
            }
            _ => self.calls.push(word.to_owned()),
        }
    }
}

/// Whether `every` has passed since; then it counts from now.
fn is_due(since: &mut Option<Moment>, every: Duration) -> bool {
    let is_due = since.is_none_or(|it| it.age() >= every);
    if is_due {
        *since = Some(Moment::now());
    }
    is_due
}

fn key_of(chore: Chore) -> i64 {
    match Touches::these(&[Subject::Named("chore", chore.name().as_bytes())]) {
        Touches::These(keys) => keys.first().copied().unwrap_or_default(),
        Touches::Everything => 0,
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.map_err(|error| unusable(format!("no thread for {name}: {error}")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(others: &[String]) -> (Vec<String>, bool) {
        let call = Call {
            terminals: TerminalId::from_number(7).into_iter().collect(),
            others: others.to_vec(),
        };
        let said = call.said();
        (said.calls, said.has_dropped)
    }

    #[test]
    fn what_fits_into_one_call_is_in_one() {
        let seven = TerminalId::from_number(7).expect("below the limit");
        let (calls, has_dropped) = said(&["hello".into()]);
        assert_eq!(calls, [format!("{seven} hello")]);
        assert!(!has_dropped);
        assert!(Call::default().said().calls.is_empty());
    }

    #[test]
    fn a_ban_is_called_out_before_a_fleet_that_waits() {
        let (fleet, has_rows) = (vec!["listens".to_owned(); 5], AtomicBool::new(false));
        let mut order = Vec::new();
        in_turn(&fleet, &has_rows, |said| {
            order.push(said.to_owned());
            // Committed while the second call was under way.
            has_rows.fetch_or(order.len() == 2, Ordering::SeqCst);
        });
        assert_eq!(order.iter().position(|said| said == ROWS), Some(2));
        assert_eq!(order.len(), fleet.len() + 1);
        let mut alone = Vec::new();
        has_rows.store(true, Ordering::SeqCst);
        in_turn(&[], &has_rows, |said| alone.push(said.to_owned()));
        assert_eq!(alone, [ROWS]);
    }

    #[test]
    fn no_call_is_empty_or_longer_than_postgresql_takes_and_no_word_is_lost_between_two() {
        let word = "a".repeat(1_000);
        let words = vec![word.clone(); 20];
        let (calls, has_dropped) = said(&words);
        assert!(!has_dropped);
        let bounded = |it: &String| (1..=CALL_BYTES_MAX).contains(&it.len());
        assert!(calls.len() > 1 && calls.iter().all(bounded));
        let heard = calls.iter().flat_map(|it| it.split(' '));
        assert_eq!(heard.filter(|it| *it == word).count(), words.len());
    }

    #[test]
    fn a_word_that_fits_into_no_call_is_dropped_alone_and_told_of() {
        let longest = "a".repeat(CALL_BYTES_MAX);
        let alone = Call {
            others: vec![longest.clone()],
            ..Call::default()
        };
        assert!(alone.said().calls.iter().eq([&longest]));
        assert!(!alone.said().has_dropped);
        let (calls, has_dropped) = said(&[longest + "a", "hello".into()]);
        let seven = TerminalId::from_number(7).expect("below the limit");
        assert_eq!(calls, [format!("{seven} hello")]);
        assert!(has_dropped);
    }
}

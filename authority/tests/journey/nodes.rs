//! Is it one authority, whichever of its nodes is asked?

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use authority::listen::{self, Listening, Plain};
use authority::serve;
use authority::services::bans::Watch;
use authority::services::journey::Journey;
use authority::services::operators::{MerchantAdd, carry_out};
use authority::services::push::Frame;
use authority::services::{neighbours, readiness, revocation, same_keys};
use authority::store::{CONNECTED_MAX, News, Nodes};
use futures_util::FutureExt;
use hsm::{Hsm, KeyKind};
use protocol::ids::TerminalId;
use protocol::money::Currency;
use protocol::token::Channel;
use protocol::wire::push::{ChargeStage, TerminalState};
use protocol::wire::schedules::ScheduleQuery;
use protocol::wire::upkeep::INSTANCE_MAX;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

use crate::cluster::Database;
use crate::terminals::slug;
use crate::world::{Answer, World, answer};

/// Far more than anything here takes; a fact that does not come about fails by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// The world at one node, and another one that follows it.
pub(crate) struct Two {
    pub(crate) database: Database,
    pub(crate) here: World,
    pub(crate) there: Arc<Journey>,
}

impl Two {
    pub(crate) async fn new() -> Self {
        let database = Database::new();
        let here = World::over(Arc::new(database.open("node-1", 2))).await;
        let there = here.beside(Arc::new(database.open("node-2", 2))).await;
        for journey in [&here.journey, &there] {
            follows(journey).await;
        }
        Self {
            database,
            here,
            there,
        }
    }

    /// The other node has read what it missed before it began.
    pub(crate) async fn has_begun_there(&self) {
        has_begun(&self.there).await;
    }

    /// What a phone hears that claims at the other node.
    pub(crate) async fn claim_there(&self, link: &str) -> Answer {
        let listening = Listening::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let url = format!("http://{}/v1/claims", listening.address());
        let routes = serve::public_routes(&self.there);
        let listener = listen::public(listening, routes).over(Plain);
        tokio::spawn(listener.run(self.there.app.clone()));
        let body = serde_json::json!({ "token": link });
        answer(self.here.http.post(url).json(&body)).await
    }

    /// The terminal's stream at the other node, after its first frame.
    async fn listens_there(&self) -> Receiver<Frame> {
        let mut frames = self.there.push.open(self.here.terminal, "01", None);
        state(&mut frames).await;
        frames
    }
}

/// From here on this node follows what it is told, and has heard that it may have missed everything before.
async fn follows(journey: &Arc<Journey>) {
    let (begun, has_begun) = oneshot::channel();
    let journey = journey.clone();
    tokio::spawn(async move {
        let mut run = pin!(neighbours::run(&journey));
        assert!(run.as_mut().now_or_never().is_none());
        begun.send(()).unwrap();
        run.await;
    });
    has_begun.await.unwrap();
}

/// It has read what it missed before it began.
async fn has_begun(node: &Journey) {
    let neighbours = &node.app.neighbours;
    let has_begun = || !neighbours.is_in_the_dark();
    becomes_true("it never begins", has_begun).await;
}

/// This connection is cut because it is known that its terminal is banned, not because somebody looked.
async fn is_banned(watch: &Watch) {
    let cut = tokio::time::timeout(PATIENCE, watch.until_cut()).await;
    assert_eq!(cut, Ok("banned"));
}

/// What the stream tells next; a look that finds nothing new, as after whatever another node says, is no more than
/// a sign of life.
async fn state(frames: &mut Receiver<Frame>) -> TerminalState {
    loop {
        match frames.recv().await {
            Some(Frame::State(state)) => return *state,
            Some(Frame::KeepAlive) => {}
            None => panic!("the stream is over"),
        }
    }
}

async fn ends(mut frames: Receiver<Frame>) {
    let over = async { while frames.recv().await.is_some() {} };
    let over = tokio::time::timeout(PATIENCE, over).await;
    assert!(over.is_ok(), "the stream goes on");
}

pub(crate) async fn becomes_true(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, waited).await;
    assert!(came.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_at_one_node_moves_the_stream_at_another() {
    let two = Two::new().await;
    let mut frames = two.listens_there().await;
    let phone = two.here.held(420).await;
    let held = async {
        loop {
            let told = state(&mut frames).await;
            let stage = told.charge.map(|charge| charge.stage);
            if matches!(stage, Some(ChargeStage::Held { .. })) {
                return;
            }
        }
    };
    let held = tokio::time::timeout(PATIENCE, held).await;
    assert!(
        held.is_ok(),
        "the terminal does not hear that it is claimed"
    );
    let paid = two.here.approve(&phone, "ann", 420).await;
    assert_eq!(paid.status, 200, "{paid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_spent_at_one_node_is_spent_at_another() {
    let two = Two::new().await;
    two.here.charge(420).await;
    let link = two.here.shown(Channel::Qr).await;
    two.here.claimed(&link, None).await;
    two.claim_there(&link).await.refused(409, "token-spent");
    let silence = two.database.silence("node-2");
    becomes_true("it does not close", || {
        neighbours::problem(&two.there.app).is_some()
    })
    .await;
    two.claim_there(&link).await.refused(503, "not-ready");
    drop(silence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_at_another_node_ends_the_first_and_rings_the_alarm() {
    let two = Two::new().await;
    let (terminal, here) = (two.here.terminal, &two.here.journey.push);
    let frames = two.listens_there().await;
    becomes_true("it is not known where the terminal listens", || {
        here.hears(terminal)
    })
    .await;
    let mut newer = here.open(terminal, "02", None);
    state(&mut newer).await;
    ends(frames).await;
    let rung = || two.there.app.metrics.clone_alarms.get() == 1;
    becomes_true("the alarm does not ring", rung).await;
    assert!(two.there.push.hears(terminal), "at the other node");
    drop(newer);
    two.here.charge(420).await;
    let closed = || !two.there.push.hears(terminal);
    becomes_true("it is not known that nobody listens", closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_at_one_node_ends_the_stream_at_another_and_is_refused_there() {
    let two = Two::new().await;
    let frames = two.listens_there().await;
    let (terminal, now) = (two.here.terminal, two.here.now());
    two.has_begun_there().await;
    let watch = two.there.app.bans.watch(Some(terminal), None);
    let banned = revocation::ban(&two.here.app, terminal, "stolen".into(), now).await;
    assert!(banned.unwrap().is_some());
    is_banned(&watch).await;
    ends(frames).await;
    let query = ScheduleQuery::default();
    let asked = two.there.schedules.issue(terminal, &query, now);
    assert_eq!(slug(asked.await), "terminal-refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_nothing_closes_and_opens_when_it_has_caught_up() {
    let two = Two::new().await;
    let frames = two.listens_there().await;
    let app = &two.there.app;
    let silence = two.database.silence("node-2");
    ends(frames).await;
    assert!(neighbours::problem(app).is_some(), "it answers nothing");
    let said = readiness::check(app).await.reasons.join("; ");
    assert!(said.contains("other nodes are not heard"), "{said}");
    let merchant = MerchantAdd {
        name: "Corner Bakery".into(),
        currency: Currency::EUR,
        fixed_minor: None,
        open_cap_minor: None,
    };
    let refused = carry_out(app, "ops", merchant).await;
    assert_eq!(
        slug(refused),
        "not-ready",
        "nor do operators change anything"
    );
    let (terminal, now) = (two.here.terminal, two.here.now());
    let banned = revocation::ban(&two.here.app, terminal, "stolen".into(), now).await;
    assert!(banned.unwrap().is_some());
    drop(silence);
    becomes_true("it stays closed", || neighbours::problem(app).is_none()).await;
    let mut frames = two.there.push.open(terminal, "01", None);
    assert_eq!(frames.recv().await, None, "banned meanwhile");
}

/// Rows as another node writes them whose version is a later one: whatever they say, anything may have changed.
pub(crate) const OF_A_LATER_VERSION: &str = "INSERT INTO news (number, node, kind)
    SELECT coalesce(max(number), 0) + 1, 'node-9', 'of a later version' FROM news";

#[tokio::test(flavor = "multi_thread")]
async fn bans_whose_rows_were_missed_are_looked_up_for_everybody_who_is_connected() {
    let two = Two::new().await;
    let app = &two.there.app;
    let number = |n: usize| TerminalId::from_number(u32::try_from(n).unwrap()).unwrap();
    let serial = |n: usize| format!("{n:04x}");
    // More than are looked up at once, so that these two are in the last piece.
    let crowd: Vec<Watch> = (0..=CONNECTED_MAX)
        .map(|n| app.bans.watch(Some(number(n)), Some(&serial(n))))
        .collect();
    let last = serial(CONNECTED_MAX);
    let banned = app.bans.watch(Some(two.here.terminal), None);
    let frames = two.listens_there().await;
    two.has_begun_there().await;
    two.database.sql(&format!(
        "UPDATE terminals SET banned_at_ms = 1, ban_reason = 'stolen' WHERE id = {};
         INSERT INTO revocations (serial, issuer_key, not_after_ms, revoked_at_ms, reason, revoked_by)
             VALUES ('{last}', '', 1, 1, 'unspecified', 'certificate-revoke');
         {OF_A_LATER_VERSION}",
        two.here.terminal.value()
    ));
    let cut = tokio::time::timeout(PATIENCE, async {
        (
            banned.until_cut().await,
            crowd[CONNECTED_MAX].until_cut().await,
        )
    });
    assert_eq!(cut.await, Ok(("banned", "revoked")));
    ends(frames).await;
    let others = crowd[..CONNECTED_MAX].iter();
    let spared = others.filter(|it| it.until_cut().now_or_never().is_none());
    assert_eq!(spared.count(), CONNECTED_MAX, "and nobody else is cut");
}

/// What this node of two says when it is fenced.
pub(crate) async fn fenced(two: &Two) -> String {
    let app = &two.there.app;
    becomes_true("it is not fenced", || app.fence.fenced().is_some()).await;
    let fenced = app.fence.fenced().unwrap();
    fenced.reasons.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_was_raised_elsewhere_fences_also_if_its_row_was_missed() {
    for news in [
        &OF_A_LATER_VERSION.replace("of a later version", "generation"),
        OF_A_LATER_VERSION,
    ] {
        let two = Two::new().await;
        two.has_begun_there().await;
        two.database
            .sql(&format!("UPDATE meta SET generation = 2; {news}"));
        let said = fenced(&two).await;
        assert!(said.contains("raised to 2"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_revoked_elsewhere_is_cut() {
    let two = Two::new().await;
    let bans = &two.there.app.bans;
    let (revoked, other) = (bans.watch(None, Some("0a")), bans.watch(None, Some("0b")));
    two.database.sql(
        "INSERT INTO news (number, node, kind, about)
             SELECT coalesce(max(number), 0) + 1, 'node-9', 'revoked', '0a' FROM news",
    );
    let cut = tokio::time::timeout(PATIENCE, revoked.until_cut()).await;
    assert_eq!(cut, Ok("revoked"));
    assert_eq!(other.until_cut().now_or_never(), None);
}

/// Between the start of a process and its first news.
#[tokio::test(flavor = "multi_thread")]
async fn a_ban_from_before_a_node_followed_the_others_cuts_who_is_connected() {
    let database = Database::new();
    let here = World::over(Arc::new(database.open("node-1", 2))).await;
    let there = here.beside(Arc::new(database.open("node-2", 2))).await;
    let watch = there.app.bans.watch(Some(here.terminal), None);
    let banned = revocation::ban(&here.app, here.terminal, "stolen".into(), here.now()).await;
    assert!(banned.unwrap().is_some());
    // It has been heard, and nobody listened.
    let mut news = there.app.store.news();
    here.app.store.call(&[News::Closed(here.terminal)]);
    while news.next().await != News::Closed(here.terminal) {}
    follows(&there).await;
    is_banned(&watch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_read_bans_that_it_may_have_missed_closes() {
    let two = Two::new().await;
    let app = &two.there.app;
    let frames = two.listens_there().await;
    let revoked = app.bans.watch(None, Some("0a"));
    closes(
        &two,
        "revocations",
        OF_A_LATER_VERSION,
        "bans may have been missed",
    )
    .await;
    ends(frames).await;
    assert!(
        neighbours::problem(&two.here.app).is_none(),
        "nobody is connected there"
    );
    assert_eq!(revoked.until_cut().now_or_never(), None);
    opens(&two, "revocations").await;
}

/// Other words than keys may have been among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_read_keys_that_may_have_changed_closes() {
    let two = Two::new().await;
    closes(&two, "keys", OF_A_LATER_VERSION, "keys changed there").await;
    opens(&two, "keys").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_read_keys_that_changed_elsewhere_closes() {
    let two = Two::new().await;
    two.here.charge(420).await;
    let link = two.here.shown(Channel::Qr).await;
    let frames = two.listens_there().await;
    let changed = "INSERT INTO news (number, node, kind)
        SELECT coalesce(max(number), 0) + 1, 'node-1', 'keys' FROM news";
    closes(&two, "keys", changed, "keys changed there").await;
    ends(frames).await;
    two.claim_there(&link).await.refused(503, "not-ready");
    let wants = readiness::check(&two.there.app).await;
    assert!(!wants.ready, "{wants:?}");
    opens(&two, "keys").await;
    let mut frames = two.listens_there().await;
    two.claim_there(&link).await;
    state(&mut frames).await;
}

/// The other node closes, and says why, when this table is away and this is news.
async fn closes(two: &Two, table: &str, news: &str, why: &str) {
    let app = &two.there.app;
    two.has_begun_there().await;
    two.database
        .sql(&format!("ALTER TABLE {table} RENAME TO away; {news}"));
    let closed = tokio::time::timeout(PATIENCE, app.neighbours.until_closed());
    assert!(closed.await.is_ok(), "it does not close");
    let said = neighbours::closed(app).unwrap();
    assert!(said.contains(why), "{said}");
}

async fn opens(two: &Two, table: &str) {
    let app = &two.there.app;
    two.database
        .sql(&format!("ALTER TABLE away RENAME TO {table}"));
    becomes_true("it stays closed", || neighbours::closed(app).is_none()).await;
}

/// The embedded store has no other nodes, and a caller that goes away there as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_ban_whose_caller_went_away_ends_the_streams_of_its_own_node() {
    let two = Two::new().await;
    let alone = World::new().await;
    follows(&alone.journey).await;
    for world in [&two.here, &alone] {
        has_begun(&world.journey).await;
        let watch = world.app.bans.watch(Some(world.terminal), None);
        let mut frames = world.journey.push.open(world.terminal, "01", None);
        state(&mut frames).await;
        // Nothing is written before its caller went away.
        let file = rusqlite::Connection::open(alone.database()).unwrap();
        file.execute_batch("BEGIN IMMEDIATE").unwrap();
        let writes = two.database.hold_writes().await;
        let ban = revocation::ban(&world.app, world.terminal, "stolen".into(), world.now());
        assert!(ban.now_or_never().is_none(), "it waits for its commit");
        file.execute_batch("ROLLBACK").unwrap();
        writes.let_go().await;
        is_banned(&watch).await;
        ends(frames).await;
    }
}

/// The clock of these tests stands in a moment of its own, far from the database's.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_off_the_databases_is_not_ready_and_says_whose() {
    let two = Two::new().await;
    let readiness = readiness::check(&two.there.app).await;
    let said = readiness.reasons.join("; ");
    assert!(!readiness.ready);
    assert!(said.contains("the clock of this node is"), "{said}");
    assert!(said.contains("the database's"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_down_gives_its_chores_back() {
    let two = Two::new().await;
    let here = two.here.store.clone();
    let leads = |store: &dyn Nodes| {
        authority::store::Chore::ALL
            .iter()
            .all(|chore| store.leads(*chore))
    };
    becomes_true("nobody does the chores", || leads(&*here)).await;
    here.resign();
    let there = two.there.app.store.clone();
    becomes_true("nobody takes them over", || {
        authority::store::Chore::ALL
            .iter()
            .all(|chore| there.leads(*chore))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_hsm_token_holds_other_keys_is_refused() {
    let two = Two::new().await;
    same_keys::prove(&two.here.app).await.unwrap();
    same_keys::prove(&two.there.app).await.unwrap();
    let keys = two.there.app.keyring();
    for (label, kind) in [
        (&keys.sealing().sealing, KeyKind::Sealing),
        (&keys.sealing().binding, KeyKind::Binding),
        (&keys.schedule().label, KeyKind::Signing),
    ] {
        // Under the same label, as two HSM tokens that were initialised apart have it.
        two.here.hsm.destroy_key(label).await.unwrap();
        let said = refused(&two.there).await;
        assert!(said.contains("lacks") && said.contains(&label.0), "{said}");
        two.here.hsm.generate_key(kind, label).await.unwrap();
        let said = refused(&two.there).await;
        assert!(said.contains("another key"), "{said}");
    }
}

async fn refused(node: &Journey) -> String {
    same_keys::prove(&node.app).await.unwrap_err().to_string()
}

/// What comes in a header may be as long as a head.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_too_long_a_name_has_none_at_any_node() {
    let two = Two::new().await;
    let mut news = two.there.app.store.news();
    for (named, counts) in [(INSTANCE_MAX, true), (INSTANCE_MAX + 1, false)] {
        let name = "n".repeat(named);
        let push = &two.here.journey.push;
        let _frames = push.open(two.here.terminal, "01", Some(name.clone()));
        let opened = async {
            loop {
                if let News::Opened { instance, .. } = news.next().await {
                    return instance;
                }
            }
        };
        let opened = tokio::time::timeout(PATIENCE, opened).await;
        assert_eq!(opened.unwrap(), counts.then_some(name));
    }
}

//! What is left when the database dies, stops, fills up, or is another one in the middle of payments?
//!
//! Real clusters whose commits are on the disk. Three nodes claim and pay at eight terminals meanwhile; an
//! error is an answer, and whoever got one asks again. What was acknowledged is looked for afterwards.

mod line;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authority::journal::Known;
use authority::store::postgres::{PostgresPlace, migrate};
use authority::store::{
    Claim, ClaimOutcome, ClaimRecord, Connected, News, NewsListener, PayOutcome, PersonKey, Store,
    StoreError, unhurried,
};
use own_postgres::{Cluster, Durability, SMALL};
use protocol::ids::{ClaimId, PaymentId, TerminalId};
use protocol::token::Channel;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::NODE;
use crate::cluster::{open, place_of};
use crate::world::{NOW, World, eur, live, person};
use line::{Cut, Line};

const NODES: [&str; 3] = [NODE, "node-2", "node-3"];
const TERMINALS: u32 = 8;
/// Payments that are acknowledged before something happens, and after it.
const PAYMENTS: usize = 60;
/// Between two tries of one who got an error.
const PAUSE: Duration = Duration::from_millis(20);
/// Far more than anything here takes; a fact that does not come about fails by it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any statement may take.
const LONG: Duration = Duration::from_secs(11);

/// What was acknowledged.
type Paid = BTreeMap<ClaimId, PaymentId>;

/// Shoppers at every terminal, until they are told to go home.
struct Rush {
    paid: watch::Receiver<Paid>,
    over: Arc<AtomicBool>,
    shoppers: JoinSet<()>,
}

impl Rush {
    async fn begin(world: &Arc<World>) -> Self {
        let merchant = world.merchant_with(Some(eur(1)), None).await;
        let (tell, paid) = watch::channel(Paid::new());
        let (tell, over) = (Arc::new(tell), Arc::new(AtomicBool::new(false)));
        let mut shoppers = JoinSet::new();
        for n in 0..TERMINALS {
            let terminal = world.terminal_of(&merchant, n).await;
            // Of their own: payments of one shopper wait for each other.
            let shopper = world.shopper(&format!("shopper {n}"), 1_000_000).await;
            let (world, tell, over) = (world.clone(), tell.clone(), over.clone());
            shoppers.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let (claim, payment) = buy(&world, terminal, &shopper).await;
                    tell.send_modify(|all| {
                        all.insert(claim, payment);
                    });
                }
            });
        }
        Self {
            paid,
            over,
            shoppers,
        }
    }

    /// Waits until so many more were acknowledged.
    async fn goes_on(&mut self) {
        let wanted = self.paid.borrow().len() + PAYMENTS;
        self.paid
            .wait_for(|paid| paid.len() >= wanted)
            .await
            .unwrap();
    }

    async fn ends(mut self) -> Paid {
        self.over.store(true, Ordering::SeqCst);
        while let Some(shopper) = self.shoppers.join_next().await {
            shopper.unwrap();
        }
        self.paid.borrow().clone()
    }
}

/// Claims and pays by any node, and asks again as long as there is no answer.
async fn buy(world: &World, terminal: TerminalId, shopper: &PersonKey) -> (ClaimId, PaymentId) {
    let record = claimed(world, terminal).await;
    let pay = world.pay_of(&record, shopper, eur(1));
    loop {
        match world.any_node().pay(pay.clone()).await {
            Ok(PayOutcome::Paid(payment) | PayOutcome::Already(payment)) => {
                assert_eq!(payment.id, pay.payment, "a claim is paid once");
                return (record.claimed.claim, payment.id);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => pause(&error).await,
        }
    }
}

/// A claim whose answer was lost holds its token; the next one is shown then.
async fn claimed(world: &World, terminal: TerminalId) -> ClaimRecord {
    loop {
        let window = live(terminal, Channel::Nfc, 0).token().window;
        let turn = match world.any_node().turns(vec![window]).await {
            Ok(turns) => turns[0],
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let claim = world.claim_of(live(terminal, Channel::Nfc, turn));
        match world.any_node().claim(claim).await {
            Ok(ClaimOutcome::Claimed(record)) => return *record,
            Ok(ClaimOutcome::Spent) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &StoreError) {
    assert!(!matches!(error, StoreError::Corrupt { .. }), "{error}");
    tokio::time::sleep(PAUSE).await;
}

fn full() -> Cluster {
    let cluster = Cluster::start(Durability::Full);
    migrate(&place_of(&cluster, "postgres")).unwrap();
    cluster
}

fn nodes(place: &PostgresPlace) -> Arc<World> {
    let stores = NODES.map(|node| Arc::new(open(place.clone(), node, 2)) as Arc<dyn Store>);
    Arc::new(World::among(stores.into()))
}

/// Everything that was acknowledged is there, nothing twice, and the books hold.
async fn assert_whole(cluster: &Cluster, paid: &Paid) {
    let world = World::new(Arc::new(open(place_of(cluster, "postgres"), "looker", 1)));
    for (claim, id) in paid {
        let payment = world.store.payment_of(*claim).await.unwrap();
        assert_eq!(
            payment.map(|it| it.id),
            Some(*id),
            "an acknowledged payment"
        );
    }
    let twice =
        "SELECT count(*) FROM (SELECT 1 FROM claims JOIN charges ON charges.id = claims.charge
         GROUP BY terminal, epoch, version, channel, \"window\", turn HAVING count(*) > 1) twice";
    assert_eq!(cluster.sql("postgres", twice), "0");
    let spent = cluster.sql("postgres", "SELECT count(*) FROM spent");
    assert_eq!(
        spent,
        cluster.sql("postgres", "SELECT count(*) FROM claims")
    );
    world.check_books_and_audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_loses_nothing_and_everybody_comes_back() {
    let cluster = full();
    let world = nodes(&place_of(&cluster, "postgres"));
    let mut rush = Rush::begin(&world).await;
    let over = Arc::new(AtomicBool::new(false));
    let comparing = comparing(&world, &over);
    for _ in 0..3 {
        rush.goes_on().await;
        cluster.kill();
        cluster.start_again();
    }
    rush.goes_on().await;
    let paid = rush.ends().await;
    over.store(true, Ordering::SeqCst);
    assert!(comparing.await.unwrap() >= NODES.len(), "each node asked");
    assert!(paid.len() >= 4 * PAYMENTS);
    assert_whole(&cluster, &paid).await;
}

/// Compares as the daemon does, until it is told to stop.
fn comparing(world: &World, over: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (stores, over) = (world.all_nodes(), over.clone());
    tokio::spawn(async move {
        let mut answered = 0;
        while !over.load(Ordering::SeqCst) {
            for store in &stores {
                answered += usize::from(compare(&**store).await);
            }
            tokio::time::sleep(PAUSE).await;
        }
        answered
    })
}

async fn compare(store: &dyn Store) -> bool {
    let Some(server) = store.server_in_question() else {
        return false;
    };
    let known = Arc::new(Known::nothing("journal".into(), NODE.into()));
    let Ok(difference) = store.differs_in_question(known).await else {
        return false;
    };
    assert_eq!(
        difference.missing.heads,
        [],
        "what was acknowledged is there"
    );
    store.accept_server(server);
    true
}

/// Both servers, the one that writes first.
fn either(primary: &Cluster, standby: &Cluster) -> PostgresPlace {
    let hosts = [primary, standby].map(|it| it.socket().display().to_string());
    PostgresPlace {
        hosts: hosts.into(),
        ..place_of(primary, "postgres")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_standby_takes_over_in_the_middle_and_has_everything() {
    let primary = full();
    let standby = primary.standby("twin");
    primary.waits_for("twin");
    let world = nodes(&either(&primary, &standby));
    assert_eq!(world.store.synchronous_standbys().await, Ok(1));
    let mut rush = Rush::begin(&world).await;
    rush.goes_on().await;
    let over = Arc::new(AtomicBool::new(false));
    let comparing = comparing(&world, &over);
    primary.kill();
    standby.promote();
    rush.goes_on().await;
    let paid = rush.ends().await;
    over.store(true, Ordering::SeqCst);
    assert_eq!(
        comparing.await.unwrap(),
        NODES.len(),
        "each node asked once"
    );
    assert_eq!(world.store.synchronous_standbys().await, Ok(0));
    assert_whole(&standby, &paid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lacks_what_was_acknowledged_is_found_out_before_it_serves() {
    let primary = full();
    let late = primary.standby("late");
    let store = open(either(&primary, &late), NODE, 1);
    let world = World::new(Arc::new(store));
    world.shopper("anna", 100).await;
    primary.wait_for("SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()");
    late.kill();
    world.shopper("ben", 100).await;
    primary.kill();
    late.start_again();
    late.promote();
    let mut refused = world.store.audit_heads().await;
    while world.store.server_in_question().is_none() {
        refused = world.store.audit_heads().await;
    }
    let refused = refused.and(world.store.audit_heads().await).unwrap_err();
    assert!(
        refused.to_string().contains("compared with the journal"),
        "{refused}"
    );
    let written = world.store.note("nothing", "{}".into(), NOW).await;
    assert!(
        matches!(written, Err(StoreError::Unusable { .. })),
        "{written:?}"
    );
    let known = Arc::new(Known::nothing("journal".into(), NODE.into()));
    let difference = world.store.differs_in_question(known).await.unwrap();
    let missing = difference.missing.heads;
    assert_eq!(missing.len(), 1, "the row that was acknowledged last");
    assert_eq!(missing[0].node, NODE);
    let server = world.store.server_in_question().unwrap();
    world.store.accept_server(server);
    assert_eq!(world.balance(&person("ben")).await, 0);
    assert_eq!(world.balance(&person("anna")).await, 100);
    world.check_books_and_audit().await;
}

/// The server before is still there for whoever asks it, and both count their news by the same numbers.
#[tokio::test(flavor = "multi_thread")]
async fn news_are_of_the_server_that_is_served_from() {
    let old = full();
    let new = old.standby("new");
    // Whichever of them writes, the new one first.
    let store = Arc::new(open(either(&new, &old), NODE, 1)) as Arc<dyn Store>;
    let terminal = World::new(store.clone()).terminal(1).await;
    let mut news = store.news();
    old.wait_for("SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()");
    new.promote();
    let tells = |server: &Cluster, kind: &str| {
        let row = format!(
            "INSERT INTO news (number, node, kind, about)
             SELECT coalesce(max(number), 0) + 1, 'node-9', '{kind}', '{terminal}' FROM news"
        );
        server.sql("postgres", &row);
    };
    tells(&old, "fact");
    until(&mut news, &News::Fact).await;
    tells(&new, "banned");
    // Only those who hear and call out are left there.
    old.sql(
        "postgres",
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'm2key-authority {NODE}' AND query NOT LIKE '%pg_notify%'"
        ),
    );
    while store.server_in_question().is_none() {
        // The first that asks finds it out.
        let _ = store.audit_heads().await;
    }
    store.accept_server(store.server_in_question().unwrap());
    until(&mut news, &News::All).await;
    tells(&new, "banned");
    until(&mut news, &News::Banned(terminal)).await;
    store.call(&[News::Closed(terminal)]);
    new.wait_for("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_notify%'");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_stands_still_for_longer_than_a_statement_may_take_loses_nothing() {
    let cluster = full();
    let world = nodes(&place_of(&cluster, "postgres"));
    let mut rush = Rush::begin(&world).await;
    rush.goes_on().await;
    cluster.pause();
    tokio::time::sleep(LONG).await;
    cluster.resume();
    rush.goes_on().await;
    let paid = rush.ends().await;
    assert_whole(&cluster, &paid).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_only_reads_is_said_so_and_is_written_to_afterwards() {
    let cluster = full();
    let world = nodes(&place_of(&cluster, "postgres"));
    let mut rush = Rush::begin(&world).await;
    rush.goes_on().await;
    let set = |on: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
        cluster.sql("postgres", &sql);
        cluster.sql("postgres", "SELECT pg_reload_conf()");
    };
    set("on");
    let refused = loop {
        if let Err(error) = world.store.note("try", "{}".into(), NOW).await {
            break error;
        }
    };
    assert!(matches!(refused, StoreError::Unusable { .. }), "{refused}");
    set("off");
    rush.goes_on().await;
    let paid = rush.ends().await;
    assert_whole(&cluster, &paid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_so_and_loses_nothing() {
    let cluster = Cluster::with_small_disk();
    let place = place_of(&cluster, SMALL);
    migrate(&place).unwrap();
    let world = World::new(Arc::new(open(place, NODE, 1)));
    let body = format!("\"{}\"", noise(6_000));
    let mut noted = 0;
    let error = loop {
        match world.store.note("filler", body.clone(), NOW).await {
            Ok(()) => noted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::CannotWrite { .. }), "{error}");
    assert!(noted > 0);
    let heads = world.store.audit_heads().await.unwrap();
    assert_eq!(heads[0].sequence, noted);
    world.check_books_and_audit().await;
    cluster.sql(SMALL, "DROP TABLE ballast");
    world
        .store
        .note("space.again", "{}".into(), NOW)
        .await
        .unwrap();
    world.check_books_and_audit().await;
}

/// What no compression makes smaller.
fn noise(length: usize) -> String {
    let mut bytes = vec![0; length / 2];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A world of one lane, and its line to the server.
fn over_a_line(cluster: &Cluster) -> (Line, World) {
    let line = Line::to(cluster);
    let place = PostgresPlace {
        hosts: vec![line.socket().display().to_string()],
        ..place_of(cluster, "postgres")
    };
    let world = World::new(Arc::new(open(place, NODE, 1)));
    (line, world)
}

/// Cuts the line of many commits, and looks whether each was done once.
async fn cut_commits(cut: Cut) {
    let cluster = full();
    let (line, world) = over_a_line(&cluster);
    let terminal = world.terminal(1).await;
    let anna = world.shopper("anna", 1_000).await;
    for n in 0..5 {
        line.cut_next_commit(cut);
        world
            .store
            .note(&format!("note.{n}"), "{}".into(), NOW)
            .await
            .unwrap();
        assert!(line.is_cut());
        world.start(terminal, 10).await;
        let record = world.claimed(terminal).await;
        line.cut_next_commit(cut);
        world.paid(&record, &anna).await;
        assert!(line.is_cut());
    }
    let kinds = world.audit_kinds().await;
    for n in 0..5 {
        let noted = kinds.iter().filter(|kind| **kind == format!("note.{n}"));
        assert_eq!(noted.count(), 1, "note.{n}");
    }
    assert_eq!(world.balance(&anna).await, 950);
    world.check_books_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_reached_the_server_is_made_again() {
    cut_commits(Cut::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_not_made_again() {
    cut_commits(Cut::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_looked_up_is_missed_where_it_is_not() {
    let cluster = full();
    let (line, world) = over_a_line(&cluster);
    line.cut_next_commit(Cut::After);
    world.store.note("noted", "{}".into(), NOW).await.unwrap();
    assert!(line.is_cut());
    cluster.sql("postgres", "DELETE FROM audit_rows WHERE kind = 'noted'");
    let known = Arc::new(Known::nothing("journal".into(), NODE.into()));
    let difference = world.store.differs_in_question(known).await.unwrap();
    assert_eq!(difference.missing.heads.len(), 1, "it was acknowledged");
}

/// What a job that was undone has done to the chain is undone with it: the end that was committed is still known.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_in_doubt_is_not_made_again_because_its_last_job_was_refused() {
    let cluster = full();
    let (line, world) = over_a_line(&cluster);
    for number in 1..=5 {
        let terminal = world.terminal(number).await;
        world.start(terminal, 10).await;
        let claim = world.claim_of(world.shown(terminal, Channel::Qr).await);
        let again = Claim {
            id: world.claim_id(),
            ..claim.clone()
        };
        // The only lane is busy with a commit in doubt, so what comes now shares the next one.
        line.cut_next_commit(Cut::After);
        let store = world.store.clone();
        let noted = tokio::spawn(async move { store.note("filler", "{}".into(), NOW).await });
        while !line.is_cut() {
            tokio::task::yield_now().await;
        }
        line.cut_next_commit(Cut::After);
        let (first, second) = tokio::join!(world.store.claim(claim), world.store.claim(again));
        assert!(matches!(first, Ok(ClaimOutcome::Claimed(_))), "{first:?}");
        assert_eq!(second, Ok(ClaimOutcome::Spent));
        assert!(line.is_cut());
        noted.await.unwrap().unwrap();
    }
    world.check_books_and_audit().await;
}

/// What is heard next; what never comes about fails by it.
async fn heard(news: &mut NewsListener) -> News {
    let heard = tokio::time::timeout(PATIENCE, news.next()).await;
    heard.expect("nothing is heard")
}

async fn until(news: &mut NewsListener, wanted: &News) -> Vec<News> {
    let mut before = Vec::new();
    loop {
        match heard(news).await {
            it if it == *wanted => return before,
            other => before.push(other),
        }
    }
}

/// Whoever asked for the ban got an error, and this node holds the terminal's stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_ban_that_nobody_could_look_up_is_news_to_its_own_node_until_it_is_settled() {
    let cluster = full();
    let (line, world) = over_a_line(&cluster);
    let [first, later, second, fourth] = [
        world.terminal(1).await,
        world.terminal(2).await,
        world.terminal(3).await,
        world.terminal(5).await,
    ];
    let mut news = world.store.news();
    let ban = |terminal| world.store.ban_terminal(terminal, "stolen".into(), NOW);
    line.cut_next_commit(Cut::Last);
    let refused = ban(first).await;
    assert!(
        matches!(refused, Err(StoreError::Unusable { .. })),
        "{refused:?}"
    );
    until(&mut news, &News::All).await;
    let asked = Connected {
        terminals: vec![first, later],
        certificates: Vec::new(),
    };
    let refused = world.store.refused(asked).await.unwrap();
    assert_eq!(refused.terminals, [first], "it has happened");
    // As of a commit of this node that is seen only now.
    let row = format!(
        "INSERT INTO news (number, node, kind, about)
         SELECT max(number) + 1, '{NODE}', 'banned', '{later}' FROM news"
    );
    cluster.sql("postgres", &row);
    until(&mut news, &News::Banned(later)).await;
    line.open();
    // The same lane once more: what it settles next is both.
    line.cut_next_commit(Cut::Last);
    while ban(fourth).await.is_ok() || !line.is_cut() {
        tokio::task::yield_now().await;
    }
    line.open();
    while ban(second).await.is_err() {
        tokio::task::yield_now().await;
    }
    // What was committed until it was settled may have been passed over once more.
    until(&mut news, &News::All).await;
    let third = world.terminal(4).await;
    ban(third).await.unwrap();
    cluster.sql("postgres", &row.replace(NODE, "node-2"));
    let before = until(&mut news, &News::Banned(later)).await;
    assert!(!before.contains(&News::Banned(third)), "its caller knows");
}

/// A server that has started anew, or lost the session, shows what its standby may not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_in_doubt_is_acknowledged_once_its_standby_has_it() {
    let primary = full();
    let standby = primary.standby("twin");
    primary.waits_for("twin");
    let world = Arc::new(World::new(Arc::new(open(
        place_of(&primary, "postgres"),
        NODE,
        1,
    ))));
    standby.kill();
    let noting = world.store.clone();
    let noted = tokio::spawn(async move {
        // A standby may take its time to come back.
        unhurried(noting.note("noted", "{}".into(), NOW)).await
    });
    let waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let commits = format!("{waits} AND query LIKE '%COMMIT%'");
    primary.wait_for(&commits);
    let ended = primary.sql(
        "postgres",
        &format!("SELECT pg_terminate_backend(({commits}))"),
    );
    assert_eq!(ended, "t");
    let seen = "SELECT 1 FROM audit_rows WHERE kind = 'noted'";
    primary.wait_for(seen);
    let confirms = format!("{waits} AND query LIKE '%looked up%'");
    primary.wait_for(&confirms);
    // Told to wait no longer, the server only warns: then it is asked again, over another line.
    let first = primary.sql("postgres", &confirms);
    primary.sql("postgres", &format!("SELECT pg_cancel_backend({first})"));
    primary.wait_for(&format!("{confirms} AND pid <> {first}"));
    assert!(!noted.is_finished(), "it is on one machine only");
    standby.start_again();
    noted.await.unwrap().unwrap();
    primary.kill();
    standby.promote();
    assert_eq!(standby.sql("postgres", seen), "1");
}

//! Does the journal know what the database acknowledged, and does a restored copy learn it again?

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use authority::journal::{Contents, Found, Journal, Known, Line, read};
use authority::services::fence::begin;
use authority::store::{
    Adopted, Certificate, ChargeStatus, Difference, FirstUse, KeyRecord, Missing, Raise, Raised,
    Recorded, Redeem, Right, StoreError, StoredCheckpoint, TerminalStatus,
};
use pki::crl::Reason;
use protocol::audit::Head;
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};

use crate::crash::{DATABASE, spawn};
use crate::suite::certificates::{ISSUER, certificate};
use crate::world::{NOW, World, join_hash, number};

const MINUTE: Millis = 60_000;
/// When every raise here happens; join tokens are still good then.
pub(crate) const RAISED_AT: Timestamp = Timestamp::from_ms(NOW.ms() + 50 * MINUTE);
/// How often the child is killed, and how many bans it has told of by then.
const KILLS: u32 = 6;
const BANS: usize = 25;

/// A database, its journal, and a place for copies.
pub(crate) struct Place(tempfile::TempDir);

/// Both, open, as a start finds them.
pub(crate) struct Start {
    pub(crate) world: World,
    pub(crate) journal: Journal,
    pub(crate) difference: Difference,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.path().join("m2key.db")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        journal_of(&self.database())
    }

    pub(crate) async fn start(&self) -> Start {
        start(&self.database()).await
    }

    pub(crate) fn back_up(&self) {
        std::fs::copy(self.database(), self.0.path().join("backup")).unwrap();
    }

    pub(crate) fn restore(&self) {
        std::fs::copy(self.0.path().join("backup"), self.database()).unwrap();
    }
}

fn journal_of(database: &Path) -> PathBuf {
    database.with_file_name("fence.journal")
}

async fn start(database: &Path) -> Start {
    let store = crate::open(database);
    let beginning = begin(crate::NODE, &journal_of(database)).unwrap();
    store.attach(beginning.journal.clone());
    let world = World::new(Arc::new(store));
    let journal = beginning.journal;
    let difference = differs(&world, &journal).await;
    Start {
        world,
        journal,
        difference,
    }
}

async fn differs(world: &World, journal: &Journal) -> Difference {
    let known = Arc::new(journal.known().await.unwrap());
    world.store.differs_from(known).await.unwrap()
}

impl Start {
    /// Writes what the journal is owed, as a start does that finds nothing against the database.
    pub(crate) async fn catch_up(&mut self) {
        let owed = std::mem::take(&mut self.difference.unjournalled);
        self.journal.written(owed).await.unwrap();
        let last = self.journal.last();
        self.world.store.remember_journal(last).await.unwrap();
        self.difference = differs(&self.world, &self.journal).await;
    }

    pub(crate) fn is_behind(&self) -> bool {
        let missing = &self.difference.missing;
        *missing != Missing::default()
    }

    async fn checkpoint(&self) {
        let heads = self.world.store.audit_heads().await.unwrap();
        let checkpoint = StoredCheckpoint {
            at: NOW,
            jws: "e30.e30.".into(),
        };
        let added = self.world.store.add_checkpoint(checkpoint, heads);
        added.await.unwrap();
    }

    pub(crate) async fn raise(&self) -> Raised {
        self.raise_with(Vec::new()).await.unwrap()
    }

    /// With these keys in the places of active ones that are not believed any more.
    pub(crate) async fn raise_with(
        &self,
        successors: Vec<KeyRecord>,
    ) -> Result<Raised, StoreError> {
        self.raise_finding(successors, Vec::new()).await
    }

    /// And with keys of the lost time that the HSM holds.
    pub(crate) async fn raise_finding(
        &self,
        successors: Vec<KeyRecord>,
        found: Vec<KeyRecord>,
    ) -> Result<Raised, StoreError> {
        let known = self.journal.known().await.unwrap();
        let raise = Raise {
            generation: known.highest_generation() + 1,
            known: Arc::new(known),
            since: self.difference.generation,
            reason: "restored".into(),
            by: "olga".into(),
            successors,
            found,
        };
        let raised = self.world.store.raise(raise, RAISED_AT).await?;
        Ok(raised.unwrap())
    }

    /// Ends both, so that their files can be copied.
    pub(crate) fn stop(self) {}
}

pub(crate) async fn ban(world: &World, terminal: TerminalId) -> Result<(), StoreError> {
    let banned = world.store.ban_terminal(terminal, "stolen".into(), NOW);
    banned.await.map(|_| ())
}

pub(crate) fn contents(path: &Path) -> Contents {
    match read(path).unwrap() {
        Found::Journal(contents) => *contents,
        Found::Nothing => panic!("there is no journal"),
    }
}

/// The journal says nothing that the database does not hold.
pub(crate) fn assert_contained(start: &Start) {
    assert!(!start.is_behind(), "{:?}", start.difference);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_acknowledged_stands_in_the_journal() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let world = &start.world;
    let terminal = enrolled(world, 1, "01", 1).await;
    let known = || contents(&place.journal()).known;
    ban(world, world.terminal(2).await).await.unwrap();
    assert_eq!(known().bans.len(), 1);
    world
        .store
        .revoke_certificate("01", Reason::KeyCompromise, NOW)
        .await
        .unwrap();
    assert_eq!(known().revoked["01"].certificate.reason, "key-compromise");
    let number = world.store.next_crl_number(ISSUER, 4, NOW).await.unwrap();
    assert_eq!(known().crls[ISSUER], number);
    start.checkpoint().await;
    let head: Head = known().heads[crate::NODE].clone();
    assert_eq!(
        vec![head],
        world.store.audit_heads().await.unwrap(),
        "a checkpoint leaves no row of its own"
    );
    ban(world, terminal).await.unwrap();
    assert_eq!(known().bans.len(), 2);
    start.catch_up().await;
    assert_contained(&start);
    assert_eq!(start.difference.unjournalled, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_point_leaves_nothing_that_speaks_against_its_database() {
    let place = Place::new();
    let mut acknowledged = Vec::new();
    for _ in 0..KILLS {
        let exe = std::env::current_exe().unwrap();
        let mut child = spawn(
            &mut Command::new(exe),
            "fence::child_that_bans",
            &place.database(),
        );
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.map_while(Result::ok);
        let told = told.filter_map(|line| line.strip_prefix("banned ")?.parse().ok());
        acknowledged.extend(told.take(BANS).collect::<Vec<TerminalId>>());
        child.kill().unwrap();
        child.wait().unwrap();
        let known = contents(&place.journal()).known;
        let missing = acknowledged.iter().find(|id| !known.bans.contains_key(id));
        assert_eq!(missing, None, "acknowledged, and not in the journal");
        let start = place.start().await;
        assert_contained(&start);
    }
    assert_eq!(acknowledged.len(), KILLS as usize * BANS);
}

/// The child: bans terminals, several at once, and takes checkpoints, until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_bans() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let mut start = start(Path::new(&path)).await;
    start.catch_up().await;
    let from = start.world.store.terminals(None, u32::MAX).await.unwrap();
    for n in from.len() as u32.. {
        let (first, second) = (2 * n, 2 * n + 1);
        let world = &start.world;
        let ids = [world.terminal(first).await, world.terminal(second).await];
        let (one, two, ()) =
            tokio::join!(ban(world, ids[0]), ban(world, ids[1]), start.checkpoint());
        one.and(two).unwrap();
        let mut out = std::io::stdout().lock();
        for id in ids {
            if writeln!(out, "\nbanned {id}")
                .and_then(|()| out.flush())
                .is_err()
            {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_commit_and_journal_is_put_right_by_the_next_start() {
    let place = Place::new();
    let mut first = place.start().await;
    first.catch_up().await;
    let terminal = first.world.terminal(1).await;
    first.stop();
    // The next journal is written anew beside the old one: there it waits for ever.
    let fresh = place.journal().with_extension("new");
    let made = Command::new("mkfifo").arg(&fresh).status().unwrap();
    assert!(made.success());
    let exe = std::env::current_exe().unwrap();
    let child = "fence::child_that_bans_one";
    let mut child = spawn(&mut Command::new(exe), child, &place.database());
    wait_until_banned(&place.database(), terminal);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&fresh).unwrap();
    assert!(contents(&place.journal()).known.bans.is_empty());
    let mut next = place.start().await;
    assert_contained(&next);
    assert_eq!(next.difference.unjournalled.len(), 1);
    next.catch_up().await;
    assert!(
        contents(&place.journal())
            .known
            .bans
            .contains_key(&terminal)
    );
}

/// The child: bans the one terminal there is, and never hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_bans_one() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let start = start(Path::new(&path)).await;
    ban(&start.world, number(1)).await.unwrap();
}

/// From outside, through a connection of its own: the commit is visible then.
fn wait_until_banned(database: &Path, terminal: TerminalId) {
    let conn = rusqlite::Connection::open(database).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(5))
        .unwrap();
    let sql = "SELECT count(*) FROM terminals WHERE id = ?1 AND banned_at_ms IS NOT NULL";
    for _ in 0..6_000 {
        let banned: u32 = conn
            .query_row(sql, [terminal.value()], |row| row.get(0))
            .unwrap();
        if banned == 1 {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    panic!("the child does not ban");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_that_the_journal_does_not_take_holds_and_is_not_acknowledged() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let [one, two] = [start.world.terminal(1).await, start.world.terminal(2).await];
    let start = {
        start.stop();
        place.start().await
    };
    let in_the_way = place.journal().with_extension("new");
    std::fs::create_dir(&in_the_way).unwrap();
    let refused = ban(&start.world, one).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Unjournalled { .. }),
        "{refused}"
    );
    let found = start.world.store.terminal(one).await.unwrap().unwrap();
    assert_ne!(found.status, TerminalStatus::Active, "it is in force");
    assert!(ban(&start.world, one).await.is_err(), "and again");
    let note = start.world.store.note("other", "{}".into(), NOW).await;
    assert_eq!(note, Ok(()), "what needs no journal goes on");
    std::fs::remove_dir(&in_the_way).unwrap();
    ban(&start.world, two).await.unwrap();
    let known = contents(&place.journal()).known;
    assert!(known.bans.contains_key(&one) && known.bans.contains_key(&two));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_tells_the_journal_nothing() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let before = start.journal.last().n;
    ban(&start.world, number(7)).await.unwrap();
    let revoked = start
        .world
        .store
        .revoke_certificate("77", Reason::Unspecified, NOW);
    assert_eq!(revoked.await, Ok(None));
    assert_eq!(start.journal.last().n, before);
}

/// A terminal with a certificate.
async fn enrolled(world: &World, n: u32, serial: &str, key: u8) -> TerminalId {
    let terminal = world.terminal(n).await;
    let hash = join_hash(n);
    let redeemed = world
        .store
        .redeem_join_token(terminal, hash, [key; 32], NOW);
    assert_eq!(redeemed.await, Ok(Redeem::Good));
    let first = certificate(terminal, serial, key, NOW);
    assert_eq!(
        add(world, first, Right::JoinToken(hash)).await,
        Recorded::New
    );
    terminal
}

async fn add(world: &World, certificate: Certificate, right: Right) -> Recorded {
    let added = world
        .store
        .add_terminal_certificate(certificate, right, NOW);
    added.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_is_found_to_be_behind_in_every_way_it_is() {
    type Step = fn(&World) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>;
    let steps: [(&str, Step); 4] = [
        ("ban", |world| {
            Box::pin(async { ban(world, number(1)).await.unwrap() })
        }),
        ("revocation", |world| {
            Box::pin(async {
                let revoked = world
                    .store
                    .revoke_certificate("01", Reason::Superseded, NOW);
                revoked.await.unwrap().unwrap();
            })
        }),
        ("list number", |world| {
            Box::pin(async {
                world.store.next_crl_number(ISSUER, 0, NOW).await.unwrap();
            })
        }),
        ("checkpoint", |world| {
            Box::pin(async {
                world.store.note("paid", "{}".into(), NOW).await.unwrap();
                let heads = world.store.audit_heads().await.unwrap();
                let checkpoint = StoredCheckpoint {
                    at: NOW,
                    jws: "e30.e30.".into(),
                };
                world.store.add_checkpoint(checkpoint, heads).await.unwrap();
            })
        }),
    ];
    for (what, step) in steps {
        let place = Place::new();
        let mut start = place.start().await;
        start.catch_up().await;
        enrolled(&start.world, 1, "01", 1).await;
        start.stop();
        place.back_up();
        let mut start = place.start().await;
        start.catch_up().await;
        step(&start.world).await;
        start.stop();
        let unrestored = place.start().await;
        assert_contained(&unrestored);
        unrestored.stop();
        place.restore();
        let restored = place.start().await;
        assert!(restored.is_behind(), "a lost {what} is not noticed");
        restored.raise().await;
        restored.stop();
        let raised = place.start().await;
        assert_contained(&raised);
        assert_eq!(raised.difference.generation, 2, "after a lost {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_makes_everything_refused_that_was_refused_and_ends_what_is_open() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let world = &start.world;
    let banned_later = enrolled(world, 1, "01", 1).await;
    let active = enrolled(world, 2, "02", 2).await;
    let open = world.terminal(3).await;
    let offered = world.start(open, 420).await;
    let held = world.start(active, 420).await;
    let claim = world.claimed(active).await;
    start.stop();
    place.back_up();
    let start = place.start().await;
    let world = &start.world;
    ban(world, banned_later).await.unwrap();
    let store = &world.store;
    store
        .revoke_certificate("02", Reason::KeyCompromise, NOW)
        .await
        .unwrap();
    // Issued and revoked in the lost time.
    let unknown = certificate(active, "03", 3, NOW);
    add(world, unknown, Right::Renews("02".into())).await;
    enrolled(world, 4, "04", 4).await;
    store
        .revoke_certificate("04", Reason::KeyCompromise, NOW)
        .await
        .unwrap();
    let number_before = store.next_crl_number(ISSUER, 40, NOW).await.unwrap();
    start.checkpoint().await;
    start.stop();
    place.restore();
    let start = place.start().await;
    let raised = start.raise().await;
    assert_eq!((raised.was, raised.bans), (1, vec![banned_later]));
    assert_eq!((raised.join_tokens, raised.charges), (3, 2));
    assert!(raised.lost_rows > 0);
    let store = &start.world.store;
    let banned = store.terminal(banned_later).await.unwrap().unwrap();
    assert_ne!(banned.status, TerminalStatus::Active);
    let revoked = store.certificate("02").await.unwrap().unwrap();
    assert_eq!(revoked.revoked.unwrap().reason, Reason::KeyCompromise);
    let listed = store.revoked(ISSUER, NOW).await.unwrap();
    let serials: Vec<&str> = listed.iter().map(|it| it.serial.as_str()).collect();
    assert_eq!(serials, ["01", "02", "04"], "04 without its certificate");
    let number_after = store.next_crl_number(ISSUER, 0, NOW).await.unwrap();
    assert!(number_after > number_before);
    for charge in [offered, held] {
        let charge = store.charge(charge).await.unwrap().unwrap();
        assert!(
            matches!(charge.status, ChargeStatus::Ended(_)),
            "{charge:?}"
        );
    }
    let again = store.redeem_join_token(open, join_hash(3), [9; 32], NOW);
    assert_eq!(again.await, Ok(Redeem::Refused));
    let late = start.world.pay_of(
        &claim,
        &start.world.shopper("anna", 900).await,
        claim.claimed.asked.unwrap(),
    );
    let late = store.pay(late).await.unwrap();
    assert!(
        !matches!(late, authority::store::PayOutcome::Paid(_)),
        "{late:?}"
    );
    assert_eq!(store.raises(9).await.unwrap()[0].generation, 2);
    start.world.check_books_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_was_unbanned_under_a_new_seed_is_not_missing_a_ban() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let terminal = start.world.terminal(1).await;
    ban(&start.world, terminal).await.unwrap();
    start.stop();
    let conn = rusqlite::Connection::open(place.database()).unwrap();
    let unban = "UPDATE terminals SET banned_at_ms = NULL, ban_reason = NULL, version = ?1";
    conn.execute(unban, [2]).unwrap();
    assert_contained(&place.start().await);
    conn.execute(unban, [1]).unwrap();
    assert!(place.start().await.is_behind(), "under the same seed");
    conn.execute(unban, [2]).unwrap();
    assert_eq!(place.start().await.raise().await.bans, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_went_on_to_the_same_row_is_behind_all_the_same() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    start.stop();
    place.back_up();
    let note = async |kind: &str| {
        let start = place.start().await;
        let noted = start.world.store.note(kind, "{}".into(), NOW).await;
        noted.unwrap();
        start
    };
    let start = note("paid").await;
    start.checkpoint().await;
    start.stop();
    place.restore();
    note("lost").await.stop();
    let start = place.start().await;
    assert_eq!(start.difference.missing.heads.len(), 1);
    assert_eq!(start.raise().await.lost_rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_never_lowered_or_given_twice() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    assert_eq!(start.raise().await.was, 1);
    let known = Arc::new(Known::nothing("j".into(), crate::NODE.into()));
    for generation in [1, 2] {
        let raise = Raise {
            generation,
            known: known.clone(),
            since: 0,
            reason: "again".into(),
            by: "olga".into(),
            successors: Vec::new(),
            found: Vec::new(),
        };
        let refused = start.world.store.raise(raise, RAISED_AT).await;
        assert_eq!(refused, Ok(None));
    }
    assert_eq!(contents(&place.journal()).known.generation, 2);
}

/// A raised database that knows terminal 1 with certificate `01`, and what is asked of it.
async fn after_a_raise() -> (Place, Start, TerminalId) {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let terminal = enrolled(&start.world, 1, "01", 1).await;
    start.raise().await;
    (place, start, terminal)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_certificate_is_adopted_and_its_use_supersedes_what_was_known() {
    let (_place, start, terminal) = after_a_raise().await;
    let store = &start.world.store;
    let lost = certificate(terminal, "02", 2, NOW + MINUTE);
    let adopted = store.adopt_certificate(lost, RAISED_AT).await;
    assert_eq!(adopted, Ok(Adopted::Yes));
    let used = store.use_certificate("02", RAISED_AT).await;
    assert_eq!(used, Ok(FirstUse::Good));
    let older = store.certificate("01").await.unwrap().unwrap();
    assert!(older.superseded_at.is_some());
    let kinds = start.world.audit_kinds().await;
    assert!(kinds.contains(&"certificate.adopted".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_adopted_only_if_a_restore_lost_it() {
    let before = Place::new();
    let start = before.start().await;
    let terminal = enrolled(&start.world, 1, "01", 1).await;
    let lost = || certificate(terminal, "02", 2, NOW + MINUTE);
    let without_a_raise = start.world.store.adopt_certificate(lost(), RAISED_AT).await;
    assert_eq!(without_a_raise, Ok(Adopted::NotLost));

    let (_place, start, terminal) = after_a_raise().await;
    let store = &start.world.store;
    let adopt = async |certificate, expected| {
        let adopted = store.adopt_certificate(certificate, RAISED_AT).await;
        assert_eq!(adopted, Ok(expected));
    };
    let after: Timestamp = RAISED_AT + 1;
    adopt(certificate(terminal, "03", 3, after), Adopted::NotLost).await;
    adopt(certificate(number(9), "04", 4, NOW), Adopted::NoTerminal).await;
    adopt(certificate(terminal, "05", 5, NOW - 1), Adopted::Older).await;
    let other = enrolled(&start.world, 2, "06", 6).await;
    adopt(certificate(terminal, "07", 6, NOW + 1), Adopted::ForeignKey).await;
    ban(&start.world, other).await.unwrap();
    adopt(certificate(other, "08", 8, NOW + 1), Adopted::NoTerminal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_revoked_in_the_lost_time_is_not_adopted() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let terminal = enrolled(&start.world, 1, "01", 1).await;
    start.stop();
    place.back_up();
    let start = place.start().await;
    let lost = || certificate(terminal, "02", 2, NOW + 1);
    add(&start.world, lost(), Right::Renews("01".into())).await;
    let revoked = start
        .world
        .store
        .revoke_certificate("02", Reason::KeyCompromise, NOW);
    revoked.await.unwrap().unwrap();
    start.stop();
    place.restore();
    let start = place.start().await;
    assert_eq!(start.raise().await.revocations, 1);
    let adopted = start.world.store.adopt_certificate(lost(), RAISED_AT).await;
    assert_eq!(adopted, Ok(Adopted::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_added_after_the_raise_is_not_the_lost_one_of_the_same_number() {
    let (place, start, terminal) = after_a_raise().await;
    start.stop();
    let conn = rusqlite::Connection::open(place.database()).unwrap();
    conn.execute(
        "UPDATE terminals SET added_at_ms = ?1",
        [RAISED_AT.ms() + 1],
    )
    .unwrap();
    let start = place.start().await;
    let lost = certificate(terminal, "02", 2, NOW + 1);
    let adopted = start.world.store.adopt_certificate(lost, RAISED_AT).await;
    assert_eq!(adopted, Ok(Adopted::NoTerminal));
}

#[test]
fn a_line_names_its_place_and_the_line_before_it() {
    let line = Line {
        n: 1,
        at: NOW,
        fact: authority::journal::Fact::Generation { generation: 1 },
    };
    let (text, hash) = line.write(&authority::journal::GENESIS);
    let (other, _) = line.write(&hash);
    assert_ne!(text, other);
    assert!(text.ends_with(
        "{\"n\":1,\"at\":\"2026-11-23T18:40:00.000Z\",\"fact\":\"generation\",\"generation\":1}\n"
    ));
}

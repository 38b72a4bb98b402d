//! What if yesterday's backup is put in the place of the database?
//!
//! The drill of docs/OPERATIONS.md, "Restore": the copy is made with SQLite's own backup while the
//! daemon serves, and put back with nothing else of the authority touched.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::certificates::{Shown, operator};
use crate::enrolling::enrol;
use crate::house::{Daemon, House, Reply};
use crate::revoking::{fetched_list, number_of};

pub(crate) const SCHEDULE: &str = "/v1/schedule";
const EVENTS: &str = "/v1/events";

impl House {
    fn store(&self) -> PathBuf {
        self.dir().join("store.sqlite")
    }

    fn journal(&self) -> PathBuf {
        self.dir().join("fence.journal")
    }

    /// `sqlite3 store.sqlite ".backup …"`, while the daemon serves.
    pub fn back_up(&self) {
        let live = rusqlite::Connection::open(self.store()).unwrap();
        live.backup("main", self.scratch("backup.sqlite"), None::<fn(_)>)
            .unwrap();
    }

    pub fn restore(&self) {
        std::fs::copy(self.scratch("backup.sqlite"), self.store()).unwrap();
        for log in ["store.sqlite-wal", "store.sqlite-shm"] {
            // A clean stop leaves none.
            let _ = std::fs::remove_file(self.dir().join(log));
        }
    }

    fn ban(&self, terminal: &str) {
        let said = self.verb(&["terminal", "ban", terminal, "--reason", "stolen"]);
        assert_eq!(said.code, 0, "{said:?}");
    }

    pub fn raise(&self) -> Value {
        let said = self.verb(&["fence", "raise", "--reason", "disk lost", "--json"]);
        said.json()
    }

    /// The last signed checkpoint of the database as it is.
    fn last_checkpoint(&self) -> String {
        let live = rusqlite::Connection::open(self.store()).unwrap();
        let sql = "SELECT jws FROM checkpoints ORDER BY number DESC LIMIT 1";
        live.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Enrolled, with what it shows to TLS.
    pub(crate) fn enrolled(&self, daemon: &Daemon) -> (String, Shown) {
        let (terminal, token) = self.terminal();
        let shown = enrol(self, daemon, &terminal, &token);
        (terminal, shown)
    }
}

pub(crate) fn ask(daemon: &Daemon, path: &str, shown: &Shown) -> Reply {
    daemon.agents(path, &shown.curl())
}

/// Opens the event stream for a moment, with this checkpoint.
fn listen(daemon: &Daemon, shown: &Shown, checkpoint: &str) -> Reply {
    let header = format!("m2key-checkpoint: {checkpoint}");
    let mut arguments = vec!["-H", &header, "--max-time", "2"];
    arguments.extend(shown.curl());
    daemon.agents(EVENTS, &arguments)
}

pub(crate) fn reasons(daemon: &Daemon) -> String {
    let ready = daemon.loopback("/ready");
    assert_eq!(ready.status, 503, "{ready:?}");
    ready.json()["reasons"].to_string()
}

/// Everything but health, and the fence's own verbs.
fn assert_serves_nothing(house: &House, daemon: &Daemon, shown: &Shown) {
    assert_eq!(daemon.loopback("/live").status, 200);
    let metrics = daemon.loopback("/metrics").body;
    assert!(metrics.contains("m2key_authority_fenced 1"), "{metrics}");
    for path in ["/t/0000", "/.well-known/jwks.json", "/nothing"] {
        daemon.public(path, &[]).problem(503, "fenced");
    }
    let post = ["-X", "POST", "-d", "{}"];
    daemon.public("/v1/claims", &post).problem(503, "fenced");
    for path in [SCHEDULE, EVENTS, "/.well-known/est/cacerts", "/nothing"] {
        ask(daemon, path, shown).problem(503, "fenced");
    }
    daemon
        .agents("/.well-known/est/simpleenroll", &post)
        .problem(503, "fenced");
    for verb in [&["terminal", "list"][..], &["audit", "verify"]] {
        let said = house.verb(verb);
        said.refused(4, "older than the world", "raise its generation");
    }
}

#[test]
fn after_a_restore_nothing_is_served_until_the_raise_and_nothing_refused_is_good_again() {
    let house = House::new();
    let daemon = house.serve();
    let (stolen, of_stolen) = house.enrolled(&daemon);
    let (_, of_active) = house.enrolled(&daemon);
    let (_, of_revoked) = house.enrolled(&daemon);
    let (lost_certificate, token) = house.terminal();
    let (unused, unused_token) = house.terminal();
    house.back_up();

    house.ban(&stolen);
    let serial = of_revoked.serial();
    let revoke = [
        "certificate",
        "revoke",
        &serial,
        "--reason",
        "key-compromise",
    ];
    assert_eq!(house.verb(&revoke).code, 0);
    let of_lost_certificate = enrol(&house, &daemon, &lost_certificate, &token);
    let (_, of_lost_terminal) = house.enrolled(&daemon);
    for shown in [&of_active, &of_lost_certificate, &of_lost_terminal] {
        assert_eq!(ask(&daemon, SCHEDULE, shown).status, 200);
    }
    let names_it = |list: &str| list.contains("Key Compromise");
    let before = number_of(&fetched_list(&house, &daemon, names_it));
    assert_eq!(daemon.stop(), 0);
    house.restore();

    let daemon = house.serve();
    assert!(daemon.log.contains("fenced"), "{}", daemon.log);
    let why = reasons(&daemon);
    assert!(why.contains(&stolen) && why.contains(&serial), "{why}");
    assert!(why.contains("audit chain"), "{why}");
    assert_serves_nothing(&house, &daemon, &of_active);
    let status = house.verb(&["fence", "status"]);
    status.refused(4, "behind the world", "fence raise");
    assert!(status.out.contains(&stolen), "{status:?}");

    let raised = house.raise();
    assert_eq!(raised["generation"], 2);
    assert_eq!(raised["banned_again"][0], stolen);
    assert!(raised["lost_rows"].as_u64().unwrap() > 3, "{raised}");
    ask(&daemon, SCHEDULE, &of_active).problem(503, "fenced");
    assert_eq!(daemon.stop(), 0);

    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
    let issued = ask(&daemon, SCHEDULE, &of_active);
    assert_eq!(issued.status, 200, "{issued:?}");
    ask(&daemon, SCHEDULE, &of_stolen).problem(403, "terminal-refused");
    ask(&daemon, SCHEDULE, &of_revoked).problem(403, "certificate-refused");
    let adopted = ask(&daemon, SCHEDULE, &of_lost_certificate);
    assert_eq!(adopted.status, 200, "{adopted:?}");
    let refused = ask(&daemon, SCHEDULE, &of_lost_terminal);
    refused.problem(403, "certificate-refused");
    let after = number_of(&fetched_list(&house, &daemon, names_it));
    assert!(after > before, "{after} after {before}");
    let metrics = daemon.loopback("/metrics").body;
    assert!(metrics.contains("adoptions_total{outcome=\"adopted\"} 1"));
    let late = crate::enrolling::try_enrol(&house, &daemon, &unused, &unused_token);
    late.problem(401, "join-token-refused");
    let audit = house.verb(&["audit", "verify", "--json"]).json();
    assert_eq!(audit["holds"], true, "{audit}");
    let status = house.verb(&["fence", "status", "--json"]).json();
    assert_eq!(status["raises"][0]["reason"], "disk lost");
}

/// Kids that the public listener tells.
fn published(daemon: &Daemon) -> Vec<String> {
    let set = daemon.public("/.well-known/jwks.json", &[]).json();
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_verifies_receipts_of_the_lost_time_is_published_again_after_the_raise() {
    let house = House::new();
    let daemon = house.serve();
    house.back_up();
    for step in [
        &["prepare", "receipt"][..],
        &["activate", "receipt", "--now"],
    ] {
        let said = house.verb(&[&["key"], step].concat());
        assert_eq!(said.code, 0, "{said:?}");
    }
    let before = published(&daemon);
    assert_eq!(daemon.stop(), 0);
    house.restore();
    let daemon = house.serve();
    let why = reasons(&daemon);
    assert!(why.contains("missing: m2key-receipt-2"), "{why}");
    let raised = house.raise();
    assert_eq!(raised["keys_found"][0], "m2key-receipt-2", "{raised}");
    assert_eq!(daemon.stop(), 0);
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
    let after = published(&daemon);
    assert!(
        before.iter().all(|kid| after.contains(kid)),
        "{before:?} {after:?}"
    );
    let retired = house.verb(&["key", "retire", "m2key-receipt-2"]);
    assert_eq!(retired.code, 0, "{retired:?}");
}

#[test]
fn a_start_after_a_crash_is_not_a_restore() {
    let house = House::new();
    for _ in 0..2 {
        let daemon = house.serve();
        let (terminal, _) = house.enrolled(&daemon);
        house.ban(&terminal);
        // Killed, not stopped.
        drop(daemon);
    }
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
    let status = house.verb(&["fence", "status", "--json"]).json();
    assert_eq!(status["journal"]["bans"], 2, "{status}");
}

#[test]
fn a_journal_that_is_gone_short_broken_or_foreign_fences() {
    type Damage = fn(&House, &Path);
    let damages: [(&str, Damage); 4] = [
        ("is gone", |_, path| std::fs::remove_file(path).unwrap()),
        ("not the one this database saw", |house, path| {
            std::fs::copy(house.scratch("old.journal"), path).unwrap();
        }),
        ("cannot be believed", |_, path| {
            let text = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, text.replace("stolen", "strayed")).unwrap();
        }),
        ("not the one of this database", |_, path| {
            let other = House::of_its_own();
            other.start_signer();
            other.serve().stop();
            std::fs::copy(other.journal(), path).unwrap();
        }),
    ];
    let house = House::new();
    house.serve().stop();
    for (expected, damage) in damages {
        std::fs::copy(house.journal(), house.scratch("old.journal")).unwrap();
        let daemon = house.serve();
        let (terminal, shown) = house.enrolled(&daemon);
        house.ban(&terminal);
        assert_eq!(daemon.stop(), 0);
        damage(&house, &house.journal());
        let daemon = house.serve();
        let why = reasons(&daemon);
        assert!(why.contains(expected), "{expected}: {why}");
        assert_serves_nothing(&house, &daemon, &shown);
        let raised = house.raise();
        let aside = raised["journal_set_aside"].as_str();
        assert_eq!(aside.is_some(), expected != "is gone", "{raised}");
        assert_eq!(daemon.stop(), 0);
        let daemon = house.serve();
        assert_eq!(daemon.loopback("/ready").status, 200, "{expected}");
        ask(&daemon, SCHEDULE, &shown).problem(403, "terminal-refused");
        assert_eq!(daemon.stop(), 0);
    }
}

#[test]
fn a_terminal_that_saw_a_later_database_fences_a_running_one_for_good() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, shown) = house.enrolled(&daemon);
    house.back_up();
    let journal = house.scratch("journal.backup");
    std::fs::copy(house.journal(), &journal).unwrap();
    house.verb(&["merchant", "add", "--name", "Lost", "--currency", "EUR"]);
    assert_eq!(daemon.stop(), 0);
    let later = house.last_checkpoint();
    house.restore();
    std::fs::copy(&journal, house.journal()).unwrap();

    // Both are of yesterday: they agree, and only somebody outside knows better.
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
    let own = house.last_checkpoint();
    let listened = listen(&daemon, &shown, &own);
    assert_eq!(
        listened.status, 200,
        "its own past fences nothing: {listened:?}"
    );
    assert!(
        listened.body.contains("\"checkpoint\":\"ey"),
        "{listened:?}"
    );
    let (head, _) = later.rsplit_once('.').unwrap();
    let (_, foreign_signature) = own.rsplit_once('.').unwrap();
    let forged = format!("{head}.{foreign_signature}");
    assert_eq!(listen(&daemon, &shown, &forged).status, 200, "a forged one");
    assert_eq!(listen(&daemon, &shown, "rubbish").status, 200);
    let stranger = ["-H", &format!("m2key-checkpoint: {later}")];
    daemon
        .agents(EVENTS, &stranger)
        .problem(401, "certificate-needed");
    assert_eq!(daemon.loopback("/ready").status, 200);

    listen(&daemon, &shown, &later).problem(503, "fenced");
    assert!(reasons(&daemon).contains(&terminal));
    assert_serves_nothing(&house, &daemon, &shown);
    let metrics = daemon.loopback("/metrics").body;
    assert!(metrics.contains("m2key_authority_fence_alarms_total 1"));
    assert_eq!(daemon.stop(), 0);
    let daemon = house.serve();
    assert!(
        reasons(&daemon).contains("audit chain"),
        "a restart forgets nothing"
    );
    assert_eq!(house.raise()["generation"], 2);
    assert_eq!(daemon.stop(), 0);
    let daemon = house.serve();
    assert_eq!(ask(&daemon, SCHEDULE, &shown).status, 200);
    let listened = listen(&daemon, &shown, &later);
    assert_eq!(
        listened.status, 200,
        "an old generation's checkpoint: {listened:?}"
    );
}

#[test]
fn a_terminal_that_saw_a_checkpoint_under_a_key_of_the_lost_time_fences() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, shown) = house.enrolled(&daemon);
    house.back_up();
    let journal = house.scratch("journal.backup");
    std::fs::copy(house.journal(), &journal).unwrap();
    for step in [
        &["prepare", "checkpoint"][..],
        &["activate", "checkpoint", "--now"],
    ] {
        let said = house.verb(&[&["key"], step].concat());
        assert_eq!(said.code, 0, "{said:?}");
    }
    house.verb(&["merchant", "add", "--name", "Lost", "--currency", "EUR"]);
    let before = published(&daemon);
    assert_eq!(daemon.stop(), 0);
    let later = house.last_checkpoint();
    house.restore();
    std::fs::copy(&journal, house.journal()).unwrap();
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
    listen(&daemon, &shown, &later).problem(503, "fenced");
    assert!(reasons(&daemon).contains(&terminal));
    let raised = house.raise();
    assert_eq!(raised["keys_found"][0], "m2key-checkpoint-2", "{raised}");
    assert_eq!(daemon.stop(), 0);
    let after = published(&house.serve());
    assert!(
        before.iter().all(|kid| after.contains(kid)),
        "{before:?} {after:?}"
    );
}

#[test]
fn a_terminal_that_saw_a_later_generation_fences_and_the_next_one_is_above_it() {
    let house = House::new();
    let daemon = house.serve();
    let (_, shown) = house.enrolled(&daemon);
    house.back_up();
    let journal = house.scratch("journal.backup");
    std::fs::copy(house.journal(), &journal).unwrap();
    let raise = ["fence", "raise", "--reason", "a drill", "--anyway"];
    assert_eq!(house.verb(&raise).code, 0);
    assert_eq!(daemon.stop(), 0);
    // Its end is bound by a checkpoint of generation 2.
    assert_eq!(house.serve().stop(), 0);
    let later = house.last_checkpoint();
    house.restore();
    std::fs::copy(&journal, house.journal()).unwrap();
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
    listen(&daemon, &shown, &later).problem(503, "fenced");
    assert!(reasons(&daemon).contains("generation 2"));
    assert_eq!(house.raise()["generation"], 3);
}

#[test]
fn the_generation_is_raised_on_a_stopped_authority_as_well() {
    let house = House::new();
    let daemon = house.serve();
    house.back_up();
    let (terminal, _) = house.enrolled(&daemon);
    house.ban(&terminal);
    assert_eq!(daemon.stop(), 0);
    house.restore();
    let said = house.verb(&["--offline", "terminal", "list"]);
    said.refused(4, "older than the world", "raise its generation");
    let raise = ["--offline", "fence", "raise", "--reason", "disk lost"];
    let said = house.verb(&raise);
    assert!(said.out.contains("generation 2, was 1"), "{said:?}");
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/ready").status, 200);
}

#[test]
fn a_generation_is_not_raised_by_mistake() {
    let house = House::new();
    let daemon = house.serve();
    let raise = ["fence", "raise", "--reason", "just so"];
    house
        .verb(&raise)
        .refused(1, "nothing speaks against this database", "Wait");
    assert_eq!(daemon.loopback("/ready").status, 200);
    let said = house.verb(&[&raise[..], &["--anyway"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let list = ask(&daemon, "/v1/operator/terminal-list", &operator(&house));
    assert_ne!(list.status, 200);
    assert!(reasons(&daemon).contains("start the daemon again"));
    assert_eq!(daemon.stop(), 0);
    let status = {
        let _daemon = house.serve();
        house.verb(&["fence", "status", "--json"]).json()
    };
    assert_eq!(
        (&status["generation"], &status["fenced"]),
        (&2.into(), &false.into())
    );
}

#[test]
fn a_journal_that_cannot_be_written_is_told_before_anything_is_served() {
    let house = House::new();
    house.edit_config(
        "journal = \"fence.journal\"",
        "journal = \"nowhere/fence.journal\"",
    );
    house
        .verb(&["serve"])
        .refused(4, "nowhere/fence.journal", "[fence] journal");
}

//! Does everything on a payment's way find its rows by an index, on both databases?
//!
//! A whole journey runs over a PostgreSQL that writes every statement into its log, with the plan it has where reading
//! a whole table is its last resort: what reads one all the same has no index that helps. The texts of that log are
//! then planned by SQLite, too, because a verb is written once for both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use authority::store::sqlite::{self, SqliteOptions};
use authority::store::{Certificate, Identities as _, Subject};
use protocol::ids::EventId;
use protocol::token::Channel;
use protocol::wire::reports::{ReportRequest, Seen, TerminalEvent};
use rusqlite::Connection;
use serde_json::Value;

use crate::cluster::Database;
use crate::wallet::App;
use crate::world::{MINUTE, World};

/// Tables that grow with terminals, shoppers, merchants or payments.
const GROWING: [&str; 43] = [
    "accounts",
    "allowances",
    "audit_rows",
    "bookings",
    "certificate_bytes",
    "certificates",
    "charges",
    "checkpoints",
    "claims",
    "confirmations",
    "credits",
    "identities",
    "intents",
    "join_tokens",
    "ledger_entries",
    "merchant_days",
    "merchant_limits",
    "merchant_terms",
    "merchants",
    "misses",
    "nfc_paces",
    "notices",
    "payments",
    "persons",
    "proofs",
    "receipts",
    "receipts_due",
    "refunds",
    "reports",
    "revocations",
    "seeds",
    "service_accounts",
    "sessions",
    "signed_approvals",
    "spent",
    "tag_links",
    "tag_watches",
    "tag_wear",
    "taps",
    "tags",
    "terminals",
    "turns",
    "wallet_requests",
];

/// How statements begin that must have been seen: what was watched was the whole way.
const WATCHED: [(&str, &str); 26] = [
    ("schedule", "UPDATE terminals SET sequence = sequence + 1"),
    ("schedule", "SELECT version FROM seeds WHERE terminal ="),
    ("schedule", "SELECT * FROM seeds WHERE terminal ="),
    (
        "schedule",
        "SELECT from_epoch, shortest_ms, longest_ms FROM nfc_paces WHERE terminal =",
    ),
    ("agent", "SELECT c.subject_kind, c.subject,"),
    ("every", "SELECT id, merchant, name, banned_at_ms,"),
    ("till", "INSERT INTO charges"),
    ("push", "WITH RECURSIVE later (epoch) AS"),
    ("push", "SELECT revision FROM terminals WHERE id ="),
    ("claim", "SELECT below FROM epoch_fence"),
    ("claim", "SELECT turn FROM turns WHERE epoch ="),
    ("claim", "INSERT INTO spent"),
    ("claim", "INSERT INTO turns"),
    ("claim", "INSERT INTO claims"),
    ("claim", "SELECT (SELECT count(*) FROM claims"),
    ("claim", "UPDATE terminals SET revision = revision + 1"),
    (
        "approve",
        "UPDATE accounts SET balance_minor = balance_minor -",
    ),
    ("approve", "INSERT INTO ledger_entries"),
    ("approve", "INSERT INTO payments"),
    ("approve", "INSERT INTO bookings"),
    ("receipt", "INSERT INTO receipts (payment"),
    ("receipt", "DELETE FROM receipts_due"),
    ("every", "INSERT INTO audit_rows"),
    ("wallet", "INSERT INTO wallet_requests"),
    ("wallet", "INSERT INTO signed_approvals"),
    ("report", "INSERT INTO reports"),
];

/// How the statements begin that SQLite may make a table for: they are run for what comes seldom, not in each payment.
const SELDOM: [&str; 10] = [
    "DELETE FROM proofs",
    "DELETE FROM wallet_requests",
    "INSERT INTO accounts",
    "INSERT INTO certificates",
    "INSERT INTO keys",
    "SELECT * FROM ( SELECT claims.id",
    "SELECT 1 FROM keys WHERE label IN",
    "UPDATE certificates",
    "WITH RECURSIVE later (epoch) AS ( SELECT min(epoch) FROM turns",
    "WITH RECURSIVE nodes (node) AS ( SELECT min(node) FROM audit_rows",
];

/// What statements of PostgreSQL alone have in them: SQLite has one writer, no neighbours, and functions of its own.
const POSTGRES_ALONE: [&str; 12] = [
    "LISTEN",
    "pg_",
    "to_regclass",
    "current_database",
    "clock_timestamp",
    " news",
    "FOR NO KEY UPDATE",
    "FOR KEY SHARE",
    "schema_version",
    "body::json",
    "SELECT greatest",
    "SELECT least",
];

/// What has every statement's plan in the log, as JSON, and whole reads only where nothing else is possible.
const LOGS_PLANS: [&str; 7] = [
    "session_preload_libraries = 'auto_explain'",
    "auto_explain.log_min_duration = 0",
    "auto_explain.log_nested_statements = on",
    "auto_explain.log_format = json",
    "enable_seqscan = off",
    // These read both sides whole, and are chosen for tables that are small, as they are here.
    "enable_mergejoin = off",
    "enable_hashjoin = off",
];

/// One statement, and what the plan of it reads without an index.
type Ran = BTreeMap<String, BTreeSet<String>>;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_a_payments_way_reads_a_whole_table() {
    let database = Database::new();
    let name = database.sql("SELECT current_database()");
    let settings = LOGS_PLANS.map(|it| format!("ALTER DATABASE {name} SET {it}"));
    database.sql(&settings.join(";"));
    let partial = partial_indexes(&database);
    let world = World::over(Arc::new(database.open("node-1", 1))).await;
    journey(&world).await;
    let ran = ran(&database.log(), &partial);
    assert_watched(&ran);
    let bad: Vec<_> = ran.iter().filter(|(_, reads)| !reads.is_empty()).collect();
    assert!(bad.is_empty(), "PostgreSQL reads whole tables: {bad:#?}");
    let bad = scanned_by_sqlite(&ran);
    assert!(bad.is_empty(), "SQLite reads whole tables: {bad:#?}");
    let bad = with_tables_of_their_own(&ran);
    assert!(bad.is_empty(), "SQLite makes a table for each: {bad:#?}");
}

/// Schedules, a till, phones that look, claim, let go and pay, a wallet, a stream, reports, and what goes on besides.
async fn journey(world: &World) {
    let (terminal, now) = (world.terminal, world.now());
    let certificate = Certificate {
        serial: "4a".into(),
        subject: Subject::Terminal(terminal),
        spki_sha256: [1; 32],
        not_before: now,
        not_after: now + 60 * MINUTE,
        issuer_key: String::new(),
        der: vec![1],
    };
    world.store.add_certificate(certificate, now).await.unwrap();
    world.store.use_certificate("4a", now).await.unwrap();
    let judging = world.store.request_judging("4a", terminal).await;
    judging.unwrap().unwrap();
    world.schedule(terminal).await;
    let mut frames = world.journey.push.open(terminal, "4a", None);
    frames.recv().await.unwrap();
    let phone = world.held(420).await;
    world.view(&phone).await;
    let paid = world.approve(&phone, "ann", 420).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    world.view(&phone).await;
    world.charge(300).await;
    let link = world.shown(Channel::Nfc).await;
    let known = world.claimed(&link, Some(&world.sign_in("bob"))).await;
    let claim = known.claim.parse().unwrap();
    world.journey.claims.release(claim, now).await.unwrap();
    let ann = App::of(world, "ann");
    let token = world.shown(Channel::Qr).await;
    ann.view(&token).await;
    let payment = ann.signed(&token, 300).await;
    let answered = ann.pay("one", &payment).await;
    assert_eq!(answered.status, 201, "{answered:?}");
    let failed = TerminalEvent {
        id: EventId::from_parts(now.ms() as u64, &[3; 10]),
        at: now,
        what: Seen::TagFailed {
            reason: "no tag".into(),
        },
    };
    let reports = ReportRequest {
        events: vec![failed],
    };
    world
        .journey
        .reports
        .take(terminal, reports, now)
        .await
        .unwrap();
    world.journey.sweep(now).await.unwrap();
    world.journey.resume(now).await.unwrap();
    world.journey.prefetch(now).await.unwrap();
    world.journey.checkpoint(now).await.unwrap();
    world.journey.forget(now).await.unwrap();
}

/// Small ones, because what they hold does not stay.
fn partial_indexes(database: &Database) -> BTreeSet<String> {
    let said = database.sql(
        "SELECT indexrelid::regclass FROM pg_index WHERE indpred IS NOT NULL
         AND indrelid::regclass::text NOT LIKE 'pg_%'",
    );
    said.lines().map(str::to_owned).collect()
}

/// What the log says was run, each statement once.
fn ran(log: &str, partial: &BTreeSet<String>) -> Ran {
    let mut ran = Ran::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.trim_end().ends_with("plan:") {
            continue;
        }
        let mut text = String::new();
        while let Some(more) = lines.next_if(|line| line.starts_with('\t')) {
            text.push_str(more.trim_start_matches('\t'));
            text.push('\n');
        }
        let plan: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        let query = plan["Query Text"].as_str().unwrap();
        let words = query.split_whitespace().collect::<Vec<_>>().join(" ");
        let reads = ran.entry(words).or_default();
        whole_reads(&plan["Plan"], false, partial, reads);
    }
    ran
}

/// Every growing table that this node, or one below it, reads from end to end.
fn whole_reads(
    node: &Value,
    limited: bool,
    partial: &BTreeSet<String>,
    reads: &mut BTreeSet<String>,
) {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    let index = node["Index Name"].as_str().unwrap_or_default();
    let table = node["Relation Name"].as_str().unwrap_or_default();
    let looks_up = node.get("Index Cond").is_some() || limited || partial.contains(index);
    let is_whole = match kind {
        "Seq Scan" => true,
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => !looks_up,
        _ => false,
    };
    if is_whole && (grows(table) || kind == "Bitmap Index Scan") {
        reads.insert(format!("{kind} of {table}{index}"));
    }
    // What sorts or adds up has read everything before its first row.
    let limits = match kind {
        "Limit" => true,
        "Sort" | "Incremental Sort" | "Aggregate" | "Hash" | "Hash Join" => false,
        _ => limited,
    };
    for below in node["Plans"].as_array().into_iter().flatten() {
        whole_reads(below, limits, partial, reads);
    }
}

/// A partition is a part of what it is named after.
fn grows(table: &str) -> bool {
    GROWING.iter().any(|grows| {
        let part = table
            .strip_prefix(grows)
            .and_then(|it| it.strip_prefix('_'));
        table == *grows
            || part.is_some_and(|it| it == "rest" || it.bytes().all(|it| it.is_ascii_digit()))
    })
}

fn assert_watched(ran: &Ran) {
    let lacks = |begins: &str| !ran.keys().any(|query| query.starts_with(begins));
    let lacking: Vec<_> = WATCHED.iter().filter(|(_, it)| lacks(it)).collect();
    let queries: Vec<_> = ran.keys().collect();
    assert!(
        lacking.is_empty(),
        "nothing was run that begins with {lacking:#?}, but {queries:#?}"
    );
}

/// The statements that SQLite reads a growing table for, with its words.
fn scanned_by_sqlite(ran: &Ran) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m2key.db");
    drop(sqlite::open(&file, SqliteOptions::new("node-1")).unwrap());
    let conn = Connection::open(file).unwrap();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql LIKE '% WHERE %'";
    let mut statement = conn.prepare(sql).unwrap();
    let partial = statement.query_map([], |row| row.get(0)).unwrap();
    let partial: BTreeSet<String> = partial.map(Result::unwrap).collect();
    let mut bad = Vec::new();
    for query in ran.keys() {
        if POSTGRES_ALONE.iter().any(|it| query.contains(it)) {
            continue;
        }
        let explained = format!("EXPLAIN QUERY PLAN {}", query.replace('$', "?"));
        let mut statement = conn
            .prepare(&explained)
            .unwrap_or_else(|why| panic!("{why}: {query}"));
        let steps = statement
            .raw_query()
            .mapped(|row| row.get::<_, String>("detail"));
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        let sorts = steps.iter().any(|it| it.starts_with("USE TEMP B-TREE"));
        let limited = query.contains(" LIMIT ") && !sorts;
        for step in &steps {
            let Some(scanned) = step.strip_prefix("SCAN ") else {
                continue;
            };
            let table = scanned.split(' ').next().unwrap_or_default();
            let is_small = partial.iter().any(|index| scanned.contains(index.as_str()));
            if grows(&table_of(query, table)) && !is_small && !limited {
                bad.push((query.clone(), step.clone()));
            }
        }
    }
    bad
}

/// The statements for which SQLite makes a table of its own, each time: for a CHECK against a list, or to find the first
/// of an order.
fn with_tables_of_their_own(ran: &Ran) -> Vec<&String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m2key.db");
    drop(sqlite::open(&file, SqliteOptions::new("node-1")).unwrap());
    let conn = Connection::open(file).unwrap();
    let is_often = |query: &&String| {
        let is_elsewhere = POSTGRES_ALONE.iter().any(|it| query.contains(it));
        !is_elsewhere && !SELDOM.iter().any(|it| query.starts_with(it))
    };
    let makes_one = |query: &&String| {
        let explained = format!("EXPLAIN {}", query.replace('$', "?"));
        let mut statement = conn.prepare(&explained).unwrap();
        let steps = statement
            .raw_query()
            .mapped(|row| row.get::<_, String>("opcode"));
        let mut steps = steps.map(Result::unwrap);
        steps.any(|it| ["OpenEphemeral", "OpenAutoindex"].contains(&it.as_str()))
    };
    ran.keys().filter(is_often).filter(makes_one).collect()
}

/// The table that goes by this name in the query.
fn table_of(query: &str, name: &str) -> String {
    let words: Vec<&str> = query.split([' ', ',', '(', ')']).collect();
    let renamed = words.windows(2).find(|two| two[1] == name && grows(two[0]));
    renamed.map_or(name, |two| two[0]).to_owned()
}

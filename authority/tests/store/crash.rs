//! What is left when the process dies, or the disk is full, in the middle?
//!
//! The dying is done by a child: this test binary again, running one test by name, told by a
//! variable which database to work on. Without the variable those tests have nothing to do.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use authority::store::{ClaimOutcome, Merchant, PayOutcome, PersonKey, StoreError};
use protocol::ids::{ClaimId, TerminalId};
use protocol::token::Channel;

use crate::world::{NOW, World, eur, new_terminal, number, person};

pub(crate) const DATABASE: &str = "M2KEY_TEST_CHILD_DATABASE";
/// How often the child is killed.
const KILLS: usize = 4;
/// How many payments it has told of by then.
const PAYMENTS: usize = 60;
const TERMINALS: u32 = 8;
/// A file may grow to this many blocks of 512 bytes (or of 1 024, as the shell counts) in the child.
const FILE_BLOCKS: u32 = 2_048;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_and_nothing_is_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let mut acknowledged = Vec::new();
    for _ in 0..KILLS {
        let exe = std::env::current_exe().unwrap();
        let mut child = spawn(&mut Command::new(exe), "crash::child_that_pays", &path);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.map_while(Result::ok).filter_map(|line| paid(&line));
        acknowledged.extend(told.take(PAYMENTS));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(acknowledged.len(), KILLS * PAYMENTS);
    let world = World::new(Arc::new(crate::open(&path)));
    for claim in acknowledged {
        let payment = world.store.payment_of(claim).await.unwrap().unwrap();
        let token = payment.approved.claimed().token;
        assert!(world.store.is_spent(token).await.unwrap());
    }
    world.check_books_and_audit().await;
}

/// The child: pays at many terminals at once until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_pays() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let world = Arc::new(World::new(Arc::new(crate::open(Path::new(&path)))));
    let merchant = settled_merchant(&world).await;
    let anna = rich_shopper(&world).await;
    let payers = (0..TERMINALS).map(|n| {
        let (world, anna) = (Arc::clone(&world), anna.clone());
        let merchant = merchant.clone();
        tokio::spawn(async move {
            let (terminal, seed, token) = new_terminal(merchant.id, n);
            let store = &world.store;
            store.add_terminal(terminal, seed, token).await.unwrap();
            while pay_once(&world, number(n), &anna).await {}
        })
    });
    for payer in payers.collect::<Vec<_>>() {
        payer.await.unwrap();
    }
}

/// The merchant of the first run, or a new one.
async fn settled_merchant(world: &World) -> Merchant {
    let known = world.store.merchants(None, 1).await.unwrap().pop();
    match known {
        Some(merchant) => merchant,
        None => world.merchant_with(Some(eur(1)), None).await,
    }
}

async fn rich_shopper(world: &World) -> PersonKey {
    let anna = person("anna");
    if world
        .store
        .accounts_of(anna.clone())
        .await
        .unwrap()
        .is_empty()
    {
        world.shopper("anna", 100_000_000).await;
    }
    anna
}

/// False once nobody listens any more.
async fn pay_once(world: &World, terminal: TerminalId, anna: &PersonKey) -> bool {
    let ClaimOutcome::Claimed(record) = world.claim(terminal, Channel::Nfc).await else {
        panic!("not claimed")
    };
    let pay = world.pay_of(&record, anna, eur(1));
    let PayOutcome::Paid(payment) = world.store.pay(pay).await.unwrap() else {
        panic!("not paid")
    };
    let claim = payment.approved.claimed().claim;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\npaid {claim}").is_ok() && out.flush().is_ok()
}

fn paid(line: &str) -> Option<ClaimId> {
    line.strip_prefix("paid ")?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_so_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    drop(crate::open(&path));
    let mut shell = Command::new("sh");
    // The signal is ignored, so that the write fails as on a full disk instead of killing.
    let script = format!("trap '' XFSZ; ulimit -f {FILE_BLOCKS}; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(script);
    shell.arg(std::env::current_exe().unwrap());
    let child = spawn(&mut shell, "crash::child_that_fills_the_disk", &path);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let noted = text.lines().find_map(|line| line.strip_prefix("noted "));
    let noted: u64 = noted.unwrap().parse().unwrap();

    let world = World::new(Arc::new(crate::open(&path)));
    world.check_books_and_audit().await;
    let heads = world.store.audit_heads().await.unwrap();
    assert_eq!(heads[0].sequence, noted);
    world
        .store
        .note("space.again", "{}".into(), NOW)
        .await
        .unwrap();
    world.check_books_and_audit().await;
}

/// The child: writes until the disk is full, and looks whether what it wrote is still there.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_fills_the_disk() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let world = World::new(Arc::new(crate::open(Path::new(&path))));
    let body = format!("\"{}\"", "x".repeat(8_000));
    let mut noted = 0_u64;
    let error = loop {
        match world.store.note("filler", body.clone(), NOW).await {
            Ok(()) => noted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::CannotWrite { .. }), "{error}");
    assert!(noted > 0);
    world.check_books_and_audit().await;
    assert_eq!(world.audit_kinds().await.len() as u64, noted);
    println!("\nnoted {noted}");
}

/// Starts the test `name` of this binary on the database at `path`, through `command`.
pub(crate) fn spawn(command: &mut Command, name: &str, path: &Path) -> Child {
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(DATABASE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A copy of this binary that everybody may execute.
pub(crate) fn public_copy(dir: &Path) -> PathBuf {
    let copy = dir.join("child");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    copy
}

/// The child: finds that it may not write.
#[test]
fn child_that_may_not_write() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let options = authority::store::sqlite::SqliteOptions::new(crate::NODE);
    let opened = authority::store::sqlite::open(&path, options);
    let error = opened.err().expect("a read-only file does not open");
    assert!(matches!(error, StoreError::CannotWrite { .. }), "{error}");
    println!("\nrefused: {error}");
}

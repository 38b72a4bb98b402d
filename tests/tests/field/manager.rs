//! Does the service manager hear what is true: ready once everything listens, alive while the work goes
//! on, stopping when told to?

use std::net::TcpStream;
use std::time::Duration;

use harness::World;
use harness::authority::Pace;
use harness::manager::ServiceManager;
use harness::process::{Daemon, command};
use harness::world::Site;

const BEAT: &str = "WATCHDOG=1";
/// A beat is due three times in it.
const WATCHDOG: Duration = Duration::from_millis(1_500);

/// Everything up to this datagram, which must come.
fn hear(manager: &ServiceManager, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|it| it != last) {
        heard.push(manager.next().unwrap());
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_hears_of_an_agent_when_it_is_ready_alive_and_on_its_way_out() {
    let mut world = World::without_terminals(Pace::Default).await.unwrap();
    world.add_terminal().await.unwrap();
    world.terminal_mut().stop_agent().await.unwrap();
    std::fs::remove_file(world.terminal().file("kiosk.addr")).unwrap();

    let manager = ServiceManager::listen(world.dir()).unwrap();
    let mut run = command("m2key-agent").unwrap();
    run.arg("run")
        .arg("--config")
        .arg(world.terminal().file("agent.toml"));
    manager.over(&mut run, WATCHDOG);
    let mut agent = Daemon::start("watched-agent", run, world.dir()).unwrap();
    let heard = hear(&manager, "READY=1");
    // The address is asked once, and somebody is there.
    let address = std::fs::read_to_string(world.terminal().file("kiosk.addr")).unwrap();
    TcpStream::connect(address.trim()).unwrap();
    assert!(
        heard.iter().all(|it| it == BEAT || it == "READY=1"),
        "{heard:?}"
    );
    for _ in 0..3 {
        assert_eq!(manager.next().unwrap(), BEAT);
    }
    assert_eq!(agent.stop().await.unwrap(), Some(0));
    let last = hear(&manager, "STOPPING=1");
    assert!(last.iter().rev().skip(1).all(|it| it == BEAT), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_whose_store_is_stuck_beats_no_more_and_beats_again_when_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::prepare(dir.path(), Pace::Default).await.unwrap();
    site.authority.start_signer().await.unwrap();
    let manager = ServiceManager::listen(dir.path()).unwrap();
    let mut serve = command("m2key-authority").unwrap();
    serve
        .arg("--config")
        .arg(site.authority.file("authority.toml"))
        .arg("serve");
    manager.over(&mut serve, WATCHDOG);
    let mut daemon = Daemon::start("watched", serve, dir.path()).unwrap();
    assert_eq!(manager.next().unwrap(), "READY=1");
    let addresses = std::fs::read(site.authority.file("run/addresses.json")).unwrap();
    let addresses: authority::serve::Addresses = serde_json::from_slice(&addresses).unwrap();
    for address in [addresses.public, addresses.agents, addresses.loopback] {
        TcpStream::connect(address).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(manager.next().unwrap(), BEAT);
    }

    // Another process holds the database, as a broken backup would.
    let other = rusqlite::Connection::open(site.authority.file("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let while_stuck = manager.within(4 * WATCHDOG).unwrap();
    assert!(while_stuck.len() <= 1, "{while_stuck:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(manager.next().unwrap(), BEAT);

    assert_eq!(daemon.stop().await.unwrap(), Some(0));
    let last = hear(&manager, "STOPPING=1");
    assert!(last.iter().rev().skip(1).all(|it| it == BEAT), "{last:?}");
}

#![allow(clippy::unwrap_used)]
//! The whole agent against a server with the authority's rules.
use super::*;

#[path = "weather_tests.rs"]
mod weather;

use crate::testing::authority::{DUE, Days, EXPIRED, FRESH, FakeAuthority};
use crate::testing::terminal;
use protocol::problem::ProblemType;

const PATIENCE: Duration = Duration::from_secs(60);

struct Shop {
    authority: FakeAuthority,
    running: Running,
    dir: tempfile::TempDir,
    http: reqwest::Client,
}

impl Shop {
    async fn open(days: Days, prepare: impl FnOnce(&FakeAuthority)) -> Self {
        Self::with(days, |_| String::new(), prepare).await
    }

    /// A shop whose configuration says more; that may lie in its folder.
    async fn with(
        days: Days,
        more: impl FnOnce(&Path) -> String,
        prepare: impl FnOnce(&FakeAuthority),
    ) -> Self {
        Self::managed(days, more, prepare, Manager::default()).await
    }

    async fn managed(
        days: Days,
        more: impl FnOnce(&Path) -> String,
        prepare: impl FnOnce(&FakeAuthority),
        manager: Manager,
    ) -> Self {
        let authority = FakeAuthority::start().await;
        let base = authority.base.clone();
        Self::behind(&base, authority, days, more, prepare, manager).await
    }

    /// Whoever answers at this address, at times the authority.
    async fn behind(
        base: &str,
        authority: FakeAuthority,
        days: Days,
        more: impl FnOnce(&Path) -> String,
        prepare: impl FnOnce(&FakeAuthority),
        manager: Manager,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        authority.enrol(dir.path(), days);
        prepare(&authority);
        let text = Config::text(base, terminal(1));
        let text = format!("{text}tag = \"none\"\nkiosk_listen = \"127.0.0.1:0\"\n");
        let text = text + &more(dir.path());
        let mut config = Config::parse(&text).unwrap();
        config.data_dir = dir.path().into();
        let tls = crate::authority::tls::none().unwrap();
        let http = reqwest::Client::builder().no_proxy();
        let http = http.tls_backend_preconfigured(tls);
        Self {
            authority,
            running: start(config, Arc::new(manager)).await.unwrap(),
            dir,
            http: http
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
        }
    }

    async fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.running.address);
        let response = self.http.get(url).send().await.unwrap();
        response.text().await.unwrap()
    }

    /// Asks until the answer is as wanted.
    async fn until(&self, path: &str, wanted: impl Fn(&str) -> bool) -> String {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if wanted(&answer) {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        answer.expect("it is so within a minute")
    }
}

#[tokio::test]
async fn a_running_agent_renews_its_certificate_and_is_never_offline_for_it() {
    let shop = Shop::open(DUE, |_| {}).await;
    let renewed = "m2key_agent_certificate_renewals_total{outcome=\"renewed\"} 1";
    let metrics = shop.until("/metrics", |text| text.contains(renewed)).await;
    for line in [
        "m2key_agent_push_lost_total 0",
        "m2key_agent_trust_sequence 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let seen = shop.authority.seen().borrow().clone();
    let (serial, ..) = seen.streams.last().unwrap();
    let ready = shop.get("/ready").await;
    let report: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(report["certificate"]["serial"], serial.as_str());
    assert_eq!(report["certificate"]["is_renewing"], false);
    shop.running.stop().await;
    let found = IdentityFiles::in_dir(shop.dir.path()).load().unwrap();
    assert_eq!(found.current.leaf().serial_hex(), *serial);
}

#[tokio::test]
async fn a_terminal_that_may_not_renew_any_more_is_out_of_service_in_plain_words() {
    let refused = Some(ProblemType::RenewalTooLate);
    let shop = Shop::open(EXPIRED, |a| a.world().renewal_refused = refused).await;
    let wanted = |text: &str| text.contains("out-of-service");
    let ready = shop.until("/ready", wanted).await;
    let report: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(report["ready"], false);
    let problems = report["problems"].to_string();
    assert!(problems.contains("expired too long ago"), "{problems}");
    assert!(problems.contains("new join token"), "{problems}");
}

#[tokio::test]
async fn a_refused_theme_and_an_absent_display_are_told_and_keep_nobody_from_paying() {
    let theme = |dir: &Path| {
        let file = dir.join("theme.toml");
        std::fs::write(&file, "name = \"A\"\nscript = \"alert(1)\"\n").unwrap();
        let display = dir.join("ttyUSB0");
        format!("theme_file = {file:?}\ndisplay = {display:?}\n")
    };
    let shop = Shop::with(DUE, theme, |_| {}).await;
    let told = |text: &str| text.contains("\"online\":true") && text.contains("Customer display: ");
    let ready = shop.until("/ready", told).await;
    let report: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("Theme: ") && warnings.contains("script"),
        "{warnings}"
    );
}

/// How many of so many beats come, each in twice the time in which it is due. The runtime is given something
/// to do each time, so that a blocked thread does not hold up its timers.
#[cfg(unix)]
fn beats(
    socket: &std::os::unix::net::UnixDatagram,
    runtime: &tokio::runtime::Runtime,
    of: u32,
) -> u32 {
    let mut bytes = [0; 64];
    let mut heard = 0;
    for _ in 0..of {
        runtime.spawn(async {});
        let length = socket.recv(&mut bytes).unwrap_or(0);
        heard += u32::from(&bytes[..length] == b"WATCHDOG=1");
    }
    heard
}

/// The test stands outside the runtime: a loop that blocks may hold up whatever else runs in it.
#[cfg(unix)]
#[test]
fn an_agent_whose_main_loop_is_stuck_beats_no_more_until_it_turns_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let manager = Manager::at(path.as_os_str(), Some(3 * driver::TICK_MAX)).unwrap();
    let patience = manager.beat_every().unwrap() * 2;
    socket.set_read_timeout(Some(patience)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let shop = runtime.block_on(Shop::managed(FRESH, |_| String::new(), |_| {}, manager));
    assert!(beats(&socket, &runtime, 5) >= 2);

    // Whoever reads the board keeps the loop from writing it.
    let reading = shop.running.board.borrow();
    let while_stuck = beats(&socket, &runtime, 5);
    drop(reading);
    // One may have been on its way.
    assert!(while_stuck <= 1, "{while_stuck} beats");
    assert!(beats(&socket, &runtime, 5) >= 2);
    runtime.block_on(shop.running.stop());
}

#[tokio::test]
async fn an_agent_that_has_lost_a_part_does_not_go_on_without_it() {
    let mut shop = Shop::open(FRESH, |_| {}).await;
    shop.running.tasks[0].abort();
    shop.running.crippled().await;
    shop.running.stop().await;
}

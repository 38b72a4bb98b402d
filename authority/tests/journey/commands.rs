//! How many commands does a real HSM get of one terminal in a day?
//!
//! Counted where they go to the device, on SoftHSM: unwraps, macs and signatures. Read from
//! `docs/PERFORMANCE.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use hsm::{Hsm, Module, Observer, OpenOptions, Pin, Pkcs11Hsm};
use protocol::window::{EPOCH_MS, EpochClock};
use protocol::wire::schedules::ScheduleQuery;

use crate::world::{MINUTE, World};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PAGE: &str = include_str!("../../../docs/PERFORMANCE.md");
/// At most, of one terminal in a day; one per window of 30 s would be 2 880.
const COMMANDS_MAX: u64 = 50;
/// How often an agent with a day of hours asks for more.
const RENEWS_EVERY: u32 = 6;

#[tokio::test]
async fn a_terminals_day_costs_the_hsm_at_most_fifty_commands() {
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        return alone("a_terminals_day_costs_the_hsm_at_most_fifty_commands");
    }
    let counted = Arc::new(Counted::default());
    let idle = day(
        &World::on(softhsm("idle", counted.clone())).await,
        &counted,
        false,
    )
    .await;
    let used = day(
        &World::on(softhsm("used", counted.clone())).await,
        &counted,
        true,
    )
    .await;
    for (what, [first, steady]) in [("nobody pays", &idle), ("a payment a minute", &used)] {
        println!("HSM commands, {what}: first day {first:?}, every day after {steady:?}");
        assert!(sum(steady) <= COMMANDS_MAX, "{what}: {steady:?}");
    }
    for (what, counted) in [
        ("nobody pays, any day", &idle[1]),
        ("somebody pays every minute, any day", &used[1]),
        ("nobody pays, the day of its first schedule", &idle[0]),
        (
            "somebody pays every minute, the day of its first schedule",
            &used[0],
        ),
    ] {
        let row = row(what, counted);
        assert!(PAGE.contains(&row), "docs/PERFORMANCE.md lacks: {row}");
    }
}

/// As its row on the page begins.
fn row(what: &str, counted: &Commands) -> String {
    let of = |kind| counted.get(kind).copied().unwrap_or(0);
    let (macs, unwraps, signs) = (of("mac"), of("unwrap"), of("sign"));
    format!(
        "| {what} | {macs} | {unwraps} | {signs} | {} |",
        sum(counted)
    )
}

type Commands = BTreeMap<&'static str, u64>;

/// What the first day costs from its first schedule on, and what the one after that.
async fn day<H: Hsm>(world: &World<H>, counted: &Counted, is_used: bool) -> [Commands; 2] {
    counted.take();
    let clock = EpochClock::of(world.terminal);
    let mut last = None;
    let mut days = Vec::new();
    for _ in 0..2 {
        for hour in 0..24 {
            if hour % RENEWS_EVERY == 0 {
                let query = ScheduleQuery { after: last };
                let now = world.now();
                let issued = world.journey.schedules.issue(world.terminal, &query, now);
                last = issued.await.unwrap().epoch_keys.last().map(|it| it.epoch);
            }
            for _ in 0..EPOCH_MS / MINUTE {
                let now = world.now();
                if is_used {
                    let keys = &world.journey.epoch_keys;
                    let loaded = keys.present(world.terminal, now).await.unwrap();
                    assert!(loaded.iter().any(|it| it.epoch == clock.epoch_at(now)));
                }
                world.journey.prefetch(now).await.unwrap();
                world.advance(MINUTE);
            }
        }
        days.push(counted.take());
    }
    days.try_into().unwrap()
}

fn sum(commands: &Commands) -> u64 {
    ["unwrap", "mac", "sign"]
        .iter()
        .filter_map(|it| commands.get(it))
        .sum()
}

#[derive(Default)]
struct Counted(Mutex<Commands>);

impl Counted {
    fn take(&self) -> Commands {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Counted {
    fn observe(&self, _: &'static str, _: &'static str, _: f64) {}

    fn command(&self, kind: &'static str) {
        *self.0.lock().unwrap().entry(kind).or_default() += 1;
    }
}

fn softhsm(label: &str, counted: Arc<Counted>) -> Arc<Pkcs11Hsm> {
    let module = Module::load(Path::new(MODULE)).unwrap();
    let pin = |pin: &str| Pin::new(pin.into()).unwrap();
    let (so_pin, user_pin) = (pin("31415926"), pin("271828"));
    module.init_token(label, &so_pin, &user_pin).unwrap();
    let mut options = OpenOptions::new(label, user_pin);
    options.observer = Some(counted);
    Arc::new(Pkcs11Hsm::open(&module, options).unwrap())
}

/// SoftHSM reads its configuration from the environment: a process of its own for this test.
fn alone(test: &str) {
    let place = tempfile::tempdir().unwrap();
    let (tokens, conf) = (
        place.path().join("tokens"),
        place.path().join("softhsm2.conf"),
    );
    std::fs::create_dir(&tokens).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&conf, text).unwrap();
    let test = format!("commands::{test}");
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "--nocapture", &test]);
    let status = alone.env("SOFTHSM2_CONF", conf).status().unwrap();
    assert!(status.success(), "{status}");
}

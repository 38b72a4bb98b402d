//! How many commands does a real HSM get of one terminal in a day?
//!
//! Counted where they go to the device, on SoftHSM: unwraps, macs and signatures. Read from
//! `docs/PERFORMANCE.md`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hsm::{Hsm, Observer};
use protocol::window::{EPOCH_MS, EpochClock};
use protocol::wire::schedules::ScheduleQuery;

use crate::softhsm;
use crate::world::{MINUTE, World};

const PAGE: &str = include_str!("../../../docs/PERFORMANCE.md");
/// At most, of one terminal in a day; one per window of 30 s would be 2 880.
const COMMANDS_MAX: u64 = 50;
/// How often an agent with a day of hours asks for more.
const RENEWS_EVERY: u32 = 6;

#[tokio::test]
async fn a_terminals_day_costs_the_hsm_at_most_fifty_commands() {
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        return softhsm::alone("commands::a_terminals_day_costs_the_hsm_at_most_fifty_commands");
    }
    let counted = Arc::new(Counted::default());
    let idle = day(
        &World::on(softhsm::fresh("idle", counted.clone())).await,
        &counted,
        false,
    )
    .await;
    let used = day(
        &World::on(softhsm::fresh("used", counted.clone())).await,
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

//! How do the numbers get onto docs/CAPACITY.md and docs/DATA_MODEL.md?
//!
//! Every table stands between two marks; what the program prints is what stands there.

use std::path::{Path, PathBuf};

use super::costs::{self, Source};
use super::fleet::Fleet;
use super::growth::{self, TABLES};
use super::hsm::{self, Hsm};
use super::plan::{self, Hsms, Machines, Site};
use super::scenarios::{self, Scenario};
use super::simulation::node::Outcome;
use super::work::{Commands, Phones, terminal_day};

pub const SIZES: [f64; 3] = [100_000.0, 1_000_000.0, 10_000_000.0];
/// Of every simulation of the page.
const SEED: u64 = 1;
const LUNCH_S: f64 = 300.0;
/// Windows of a tag.
const TOLD_IN_AN_HOUR: f64 = 3_600.0 / costs::TAG_WINDOW_S.value;
const RESTART_S: f64 = 300.0;
const DOOR_S: f64 = 1_200.0;

/// One table, where it stands, and under which mark.
pub struct Place {
    pub file: &'static str,
    pub mark: &'static str,
    pub table: String,
}

/// Every table of the pages, with the defaults.
pub fn places() -> Vec<Place> {
    let capacity = |mark, table| Place {
        file: "CAPACITY.md",
        mark,
        table,
    };
    let machines = Machines::default();
    vec![
        capacity("site", site_table(&SIZES.map(Fleet::of), &machines)),
        capacity(
            "hsms",
            hsm_table(&SIZES.map(Fleet::of), &machines, &hsm::ALL),
        ),
        capacity("commands", commands_table()),
        capacity("levers", lever_table(&Fleet::of(SIZES[1]), &machines)),
        capacity(
            "simulation",
            simulation_table(&Fleet::of(SIZES[0]), &machines),
        ),
        capacity("classes", class_table()),
        capacity("costs", cost_table()),
        Place {
            file: "DATA_MODEL.md",
            mark: "growth",
            table: growth_table(),
        },
        Place {
            file: "DATA_MODEL.md",
            mark: "years",
            table: years_table(&SIZES.map(Fleet::of)),
        },
    ]
}

/// Replaces what stands between the marks.
pub fn write(place: &Place) -> std::io::Result<()> {
    let path = path(place.file);
    let text = std::fs::read_to_string(&path)?;
    let (before, _, after) = split(&text, place).ok_or_else(|| missing(place))?;
    std::fs::write(path, format!("{before}\n{}{after}", place.table))
}

/// What stands there now.
pub fn read(place: &Place) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path(place.file))?;
    let (_, table, _) = split(&text, place).ok_or_else(|| missing(place))?;
    Ok(table.trim_start_matches('\n').to_owned())
}

fn split<'a>(text: &'a str, place: &Place) -> Option<(&'a str, &'a str, &'a str)> {
    let begin = format!("<!-- {}: begin -->", place.mark);
    let end = format!("<!-- {}: end -->", place.mark);
    let from = text.find(&begin)? + begin.len();
    let to = from + text[from..].find(&end)?;
    Some((&text[..from], &text[from..to], &text[to..]))
}

fn missing(place: &Place) -> std::io::Error {
    std::io::Error::other(format!(
        "docs/{} has lost the mark {}",
        place.file, place.mark
    ))
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(file)
}

pub fn site_table(fleets: &[Fleet], machines: &Machines) -> String {
    let sites = fleets
        .iter()
        .map(|fleet| (fleet, plan::site(fleet, machines)));
    let mut rows: Vec<[String; 15]> = Vec::new();
    for (fleet, site) in sites {
        rows.push(site_row(fleet, &site));
    }
    let heads = [
        "terminals",
        "payments/s, busiest hour",
        "nodes, one of them spare",
        "what asks for most nodes",
        "terminals, GB and cores of a node",
        "network, Mbit/s",
        "writes/s",
        "reads/s",
        "commits/s",
        "I/O a second",
        "database cores",
        "what asks for most of them",
        "database servers",
        "disk after a year, with retention",
        "disk after three years",
    ];
    turned(&heads, &rows)
}

fn site_row(fleet: &Fleet, site: &Site) -> [String; 15] {
    let (whom, share) = site.database_for;
    [
        number(fleet.terminals),
        number(fleet.payments_at_peak_per_s()),
        number(site.nodes + 1.0),
        site.nodes_for.to_owned(),
        format!(
            "{}, {:.0} GB, {:.1}",
            number(fleet.terminals / site.nodes),
            site.node_memory_gb.ceil(),
            site.node_cores
        ),
        number(site.mbit_per_s),
        number(site.writes_per_s),
        number(site.reads_per_s),
        number(site.commits_per_s),
        number(site.iops),
        number(site.database_cores.ceil()),
        format!("{whom}, {:.0} %", share * 100.0),
        match site.shards <= 1.0 {
            true => "1 and its standby".to_owned(),
            false => format!("{} shards, each with its standby", number(site.shards)),
        },
        bytes(growth::held_after(fleet, 1.0) * growth::POSTGRESQL.value),
        bytes(growth::held_after(fleet, 3.0) * growth::POSTGRESQL.value),
    ]
}

pub fn hsm_table(fleets: &[Fleet], machines: &Machines, of: &[Hsm]) -> String {
    let mut text = String::from(
        "| terminals | HSM | HSMs, one of them spare | sessions of a node | busy | a payment waits | a renewal waits \
         | all schedules new after |\n|--:|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for fleet in fleets {
        let site = plan::site(fleet, machines);
        for hsm in of {
            let hsms = plan::hsms(fleet, machines, &site, hsm);
            text += &hsm_row(fleet, hsm, &hsms);
        }
    }
    text
}

fn hsm_row(fleet: &Fleet, hsm: &Hsm, hsms: &Hsms) -> String {
    format!(
        "| {} | {} | {} | {} | {:.0} % | {} | {} | {} |\n",
        number(fleet.terminals),
        hsm.name,
        number(hsms.working + 1.0),
        number(hsms.sessions),
        hsms.load.busy * 100.0,
        time(hsms.load.wait_first_s()),
        time(hsms.load.wait_second_s()),
        time(hsms.all_back_s)
    )
}

fn commands_table() -> String {
    let mut text = String::from(
        "| renewed every | schedules | judging tokens | receipts | together | seconds of a slow HSM |\n\
         |--:|--:|--:|--:|--:|--:|\n",
    );
    for renewal_h in [1.0, 6.0, 12.0] {
        let mut fleet = Fleet::of(1.0);
        fleet.renewal_h = renewal_h;
        let day = terminal_day(&fleet);
        let all: Commands = day.schedules + day.judging + day.receipts;
        text += &format!(
            "| {renewal_h:.0} h | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |\n",
            day.schedules.count(),
            day.judging.count(),
            day.receipts.count(),
            all.count(),
            hsm::SLOW.occupied_s(all)
        );
    }
    text
}

/// What each change would save; the last line has all of them.
fn lever_table(fleet: &Fleet, machines: &Machines) -> String {
    let mut text = String::from(
        "| what is changed | nodes | cloud HSMs | database cores | writes/s | disk after 3 years |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    let keys_kept = machines.connections;
    let mut all = (*fleet, *machines);
    all.0.told_together = TOLD_IN_AN_HOUR;
    (all.1.look_reads, all.1.keys_kept) = (0.0, keys_kept);
    all.1.phones = Phones::AtTheTerminals;
    let levers = [
        ("nothing", *fleet, *machines),
        (
            "phones come to the node of the terminal, which keeps the keys of all",
            *fleet,
            Machines {
                keys_kept,
                phones: Phones::AtTheTerminals,
                ..*machines
            },
        ),
        (
            "a stream never looks by itself",
            *fleet,
            Machines {
                look_reads: 0.0,
                ..*machines
            },
        ),
        (
            "reports are told once an hour",
            Fleet {
                told_together: TOLD_IN_AN_HOUR,
                ..*fleet
            },
            *machines,
        ),
        ("all of it", all.0, all.1),
    ];
    for (what, fleet, machines) in levers {
        text += &lever_row(what, &fleet, &machines);
    }
    text
}

fn lever_row(what: &str, fleet: &Fleet, machines: &Machines) -> String {
    let site = plan::site(fleet, machines);
    let hsms = plan::hsms(fleet, machines, &site, &hsm::CLOUD);
    format!(
        "| {what} | {} | {} | {} | {} | {} |\n",
        number(site.nodes + 1.0),
        number(hsms.working + 1.0),
        number(site.database_cores.ceil()),
        number(site.writes_per_s),
        bytes(growth::held_after(fleet, 3.0) * growth::POSTGRESQL.value)
    )
}

fn simulation_table(fleet: &Fleet, machines: &Machines) -> String {
    let mut text = SIMULATION_HEAD.to_owned();
    let site = plan::site(fleet, machines);
    for hsm in hsm::ALL {
        let hsms = plan::hsms(fleet, machines, &site, &hsm);
        // Nobody buys a slow one: two lines of it are enough.
        let shown = if hsm.name == hsm::SLOW.name {
            2
        } else {
            SCENARIOS.len()
        };
        for scenario in SCENARIOS.into_iter().take(shown) {
            let span_s = span_s(scenario);
            let node = scenarios::node(
                (fleet, machines, &site),
                (&hsm, &hsms),
                scenario,
                span_s,
                SEED,
            );
            text += &simulation_row(&hsm, &hsms, scenario, &node.run());
        }
    }
    text
}

pub const SIMULATION_HEAD: &str = "\
| HSM | what happens | busy, planned | busy | a request of a payment waits, p50 | p99 | of a renewal, p50 | p99 \
| a payment, p50 | p99 | asked again: payments | others | given up | all back |\n\
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";

/// One line of what was simulated.
pub fn simulation_row(hsm: &Hsm, hsms: &Hsms, scenario: Scenario, seen: &Outcome) -> String {
    let (happens, planned) = match scenario {
        Scenario::Lunch => ("lunch", percent(hsms.load.busy)),
        Scenario::HalfRate => ("half its rate", percent(hsms.load.busy * 2.0)),
        Scenario::Restart => ("restart", "–".to_owned()),
        Scenario::RestartWithDoor => ("restart, with a door", "–".to_owned()),
    };
    let back = match (scenario, seen.still_out) {
        (Scenario::Lunch | Scenario::HalfRate, _) => "–".to_owned(),
        (_, 0) => time(seen.all_back_s),
        (_, out) => format!("{} not yet", number(out as f64)),
    };
    let both = |waits: &super::simulation::waits::Waits| {
        format!(
            "{} | {}",
            time(waits.percentile_s(50.0)),
            time(waits.percentile_s(99.0))
        )
    };
    format!(
        "| {} | {happens} | {planned} | {} | {} | {} | {} | {} | {} | {} | {back} |\n",
        hsm.name,
        percent(seen.hsm_busy),
        both(&seen.payment_waits),
        both(&seen.renewal_waits),
        both(&seen.payments),
        number(seen.refused_payments as f64),
        number(seen.refused_renewals as f64),
        number(seen.given_up as f64)
    )
}

const SCENARIOS: [Scenario; 4] = [
    Scenario::Lunch,
    Scenario::HalfRate,
    Scenario::Restart,
    Scenario::RestartWithDoor,
];

fn span_s(scenario: Scenario) -> f64 {
    match scenario {
        Scenario::Lunch | Scenario::HalfRate => LUNCH_S,
        // Longer tells nothing new: they are still out.
        Scenario::Restart => RESTART_S,
        Scenario::RestartWithDoor => DOOR_S,
    }
}

fn class_table() -> String {
    let mut text = String::from(
        "| HSM | at once | signature | HMAC | unwrap | CMAC | destroy | who says so |\n\
         |---|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for hsm in hsm::ALL {
        text += &format!(
            "| {} | {:.0} | {} ms | {} ms | {} ms | {} ms | {} ms | {}; {} |\n",
            hsm.name,
            hsm.at_once,
            hsm.sign_ms,
            hsm.hmac_ms,
            hsm.unwrap_ms,
            hsm.cmac_ms,
            hsm.destroy_ms,
            source(hsm.sign_source),
            source(hsm.rest_source)
        );
    }
    text
}

fn cost_table() -> String {
    let mut text = String::from("| what | number | | who says so |\n|---|--:|---|---|\n");
    for cost in costs::ALL.iter().chain([&growth::POSTGRESQL]) {
        let (what, unit) = (cost.what, cost.unit);
        text += &format!(
            "| {what} | {} | {unit} | {} |\n",
            cost.value,
            source(cost.source)
        );
    }
    text
}

fn growth_table() -> String {
    let mut text = String::from(
        "| table | a row for each | bytes | of a terminal a day, kB | worth keeping there | then |\n\
         |---|---|--:|--:|--:|---|\n",
    );
    // Rows that do not grow with terminals are spread over the smallest fleet.
    let fleet = Fleet::of(SIZES[0]);
    for table in TABLES {
        let kept = table
            .kept_days
            .map_or("for ever".to_owned(), |days| format!("{days} days"));
        text += &format!(
            "| {} | {} | {} | {:.1} | {kept} | {} |\n",
            table.name,
            per(table.per),
            number(table.bytes),
            table.bytes_a_day(&fleet) / fleet.terminals / 1_000.0,
            table.why
        );
    }
    text
}

pub fn years_table(fleets: &[Fleet]) -> String {
    let mut text = String::from(
        "| terminals | a day | year 1, nothing goes | year 2 | year 3 | year 1, with retention | year 2 | year 3 |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for fleet in fleets {
        text += &years_row(fleet);
    }
    text
}

fn years_row(fleet: &Fleet) -> String {
    let times = growth::POSTGRESQL.value;
    let mut row = format!(
        "| {} | {} |",
        number(fleet.terminals),
        bytes(growth::bytes_a_day(fleet) * times)
    );
    for years in [1.0, 2.0, 3.0] {
        row += &format!(" {} |", bytes(growth::grown_after(fleet, years) * times));
    }
    for years in [1.0, 2.0, 3.0] {
        row += &format!(" {} |", bytes(growth::held_after(fleet, years) * times));
    }
    row + "\n"
}

fn per(per: growth::Per) -> &'static str {
    match per {
        growth::Per::Payment => "payment",
        growth::Per::Renewal => "renewal",
        growth::Per::TagWrite => "write of the tag",
        growth::Per::Report => "report",
        growth::Per::Checkpoint => "second",
        growth::Per::Certificate => "certificate",
    }
}

fn source(source: Source) -> String {
    match source {
        Source::Measured(how) => format!("measured: {how}"),
        Source::Code(where_) => format!("code: {where_}"),
        Source::Documented(by) => format!("data sheet: {by}"),
        Source::Assumed(what) => format!("assumed: {what}"),
    }
}

/// Heads down, one column for each row.
fn turned<const N: usize>(heads: &[&str; N], rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for (place, head) in heads.iter().enumerate() {
        text += &format!("| {head} |");
        for row in rows {
            text += &format!(" {} |", row[place]);
        }
        text += "\n";
        if place == 0 {
            text += &format!("|---|{}\n", "--:|".repeat(rows.len()));
        }
    }
    text
}

/// With a blank between thousands; what is small has two digits that count.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "∞".to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn time(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "without end".to_owned(),
        s if s < 0.000_1 => "0 ms".to_owned(),
        s if s < 0.01 => format!("{:.1} ms", s * 1_000.0),
        s if s < 1.0 => format!("{:.0} ms", s * 1_000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

fn bytes(value: f64) -> String {
    match value {
        b if b < 1e9 => format!("{:.0} MB", b / 1e6),
        b if b < 1e12 => format!("{:.0} GB", b / 1e9),
        b if b < 1e15 => format!("{:.1} TB", b / 1e12),
        b => format!("{:.1} PB", b / 1e15),
    }
}

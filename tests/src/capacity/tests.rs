//! Do arithmetic, simulation and known results agree?
#![allow(clippy::unwrap_used)]

use std::path::Path;

use clap::{CommandFactory, Parser};

use super::cli::{Arguments, run};
use super::fleet::Fleet;
use super::hsm::{self, Hsm};
use super::page;
use super::plan::{self, Machines};
use super::queueing::{Load, Stream};
use super::scenarios::{self, Scenario};
use super::simulation::desk;
use super::simulation::node::{Node, Outcome};
use super::simulation::task::Takes;
use super::simulation::writer;
use super::work::{Phones, SIGNATURE, epoch_keys_anew, loads, terminal_day};

const DAY_MS: f64 = 24.0 * 60.0 * 60.0 * 1_000.0;

/// One server, signatures only.
fn bare(takes_s: f64, payments_per_s: f64, renewals_per_s: f64) -> Node {
    Node {
        seed: 7,
        span_s: 2_000.0,
        warm_up_s: 10.0,
        payments_per_s,
        renewals_per_s,
        ahead_per_s: 0.0,
        reports_per_s: 0.0,
        checkpoints: false,
        loads_keys: 0.0,
        taps: 0.0,
        restarted: 0,
        door_max: usize::MAX,
        workers: 1,
        takes: Takes {
            keys_s: 0.0,
            tap_s: 0.0,
            renewal_keys_s: 0.0,
            ahead_keys_s: 0.0,
            fetch_keys_s: 0.0,
            signature_s: takes_s,
        },
        hsm: desk::Rules {
            queue_max: usize::MAX / 8,
            deadline_s: f64::INFINITY,
            payments_in_a_row: 8,
        },
        store: writer::Rules {
            batch_max: 256,
            queue_max: usize::MAX,
            commit_s: 0.0,
            write_s: 0.0,
        },
    }
}

fn within(ours: f64, known: f64, share: f64) -> bool {
    (ours - known).abs() <= known.abs() * share
}

#[test]
fn one_server_with_even_work_waits_as_pollaczek_and_khinchine_say() {
    for busy in [0.3, 0.6, 0.8] {
        let takes_s = 0.01;
        let outcome = bare(takes_s, busy / takes_s, 0.0).run();
        let known = busy * takes_s / (2.0 * (1.0 - busy));
        let ours = outcome.payment_waits.mean_s();
        assert!(within(ours, known, 0.05), "{busy}: {ours} beside {known}");
        let first = [Stream {
            per_s: busy / takes_s,
            takes_s,
        }];
        assert!(within(Load::of(1.0, &first, &[]).wait_s(), known, 1e-9));
        assert!(within(outcome.hsm_busy, busy, 0.02), "{}", outcome.hsm_busy);
    }
}

#[test]
fn many_servers_wait_as_erlang_says() {
    // Four servers, work of exponential length, 80 % busy: Erlang's C is 0.5964.
    let load = Load::of(
        4.0,
        &[Stream {
            per_s: 3.2,
            takes_s: 1.0,
        }],
        &[],
    );
    // Even work waits half as long as exponential work, by the approximation.
    assert!(
        within(load.wait_s(), 0.5964 / (4.0 * 0.2) / 2.0, 0.001),
        "{}",
        load.wait_s()
    );
}

/// Kleinrock: whoever goes first, the waits weighed by their work are what they are in one line.
#[test]
fn what_payments_gain_is_what_renewals_lose() {
    let (takes_s, payments, renewals) = (0.01, 50.0, 30.0);
    let outcome = bare(takes_s, payments, renewals).run();
    let (first, second) = (
        outcome.payment_waits.mean_s(),
        outcome.renewal_waits.mean_s(),
    );
    let load = Load::of(
        1.0,
        &[Stream {
            per_s: payments,
            takes_s,
        }],
        &[Stream {
            per_s: renewals,
            takes_s,
        }],
    );
    assert!(
        first < load.wait_s() && load.wait_s() < second,
        "{first} {second}"
    );
    let weighed = (payments * first + renewals * second) / (payments + renewals);
    assert!(
        within(weighed, load.wait_s(), 0.05),
        "{weighed} beside {}",
        load.wait_s()
    );
    // Cobham knows no turn after eight payments: payments wait a little longer than it says.
    assert!(
        within(first, load.wait_first_s(), 0.15),
        "{first} beside {}",
        load.wait_first_s()
    );
    assert!(
        within(second, load.wait_second_s(), 0.15),
        "{second} beside {}",
        load.wait_second_s()
    );
}

#[test]
fn a_writer_that_is_never_idle_commits_full_batches() {
    let mut node = bare(0.0, 4_000.0, 0.0);
    node.span_s = 30.0;
    node.warm_up_s = 10.0;
    node.store = writer::Rules {
        batch_max: 256,
        queue_max: 100_000_000,
        commit_s: 0.05,
        write_s: 0.0001,
    };
    let outcome = node.run();
    let full = 256.0 / (0.05 + 256.0 * 0.0001);
    assert!(
        within(outcome.commits_per_s * 256.0, full, 0.02),
        "{}",
        outcome.commits_per_s
    );
    assert!(outcome.writer_busy > 0.99);
}

#[test]
fn the_same_seed_is_the_same_day() {
    let run = |seed| {
        let mut node = bare(0.01, 60.0, 10.0);
        (node.seed, node.span_s) = (seed, 100.0);
        let outcome = node.run();
        (outcome.payments.count(), outcome.payment_waits.mean_s())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_full_queue_refuses_renewals_before_payments_and_loses_neither() {
    let mut node = bare(0.01, 40.0, 200.0);
    node.hsm = desk::Rules {
        queue_max: 64,
        deadline_s: 0.2,
        payments_in_a_row: 8,
    };
    node.span_s = 200.0;
    let outcome = node.run();
    assert!(
        outcome.refused_renewals > 1_000,
        "{}",
        outcome.refused_renewals
    );
    assert_eq!(outcome.refused_payments, 0);
    assert_eq!(outcome.given_up, 0);
    assert!(outcome.payment_waits.percentile_s(99.0) < 0.05);
}

fn lunch(terminals: f64, hsm: &Hsm, scenario: Scenario) -> (plan::Hsms, Outcome) {
    let (fleet, machines) = (Fleet::of(terminals), Machines::default());
    let site = plan::site(&fleet, &machines);
    let hsms = plan::hsms(&fleet, &machines, &site, hsm);
    let node = scenarios::node((&fleet, &machines, &site), (hsm, &hsms), scenario, 60.0, 3);
    (hsms, node.run())
}

#[test]
fn the_plan_and_the_simulation_say_the_same_of_every_hsm() {
    for hsm in hsm::ALL {
        let (hsms, outcome) = lunch(100_000.0, &hsm, Scenario::Lunch);
        let (planned, seen) = (hsms.load.busy, outcome.hsm_busy);
        assert!(
            within(seen, planned, 0.05),
            "{}: {seen} beside {planned}",
            hsm.name
        );
        // Whoever waits less than a tenth of a signature does not wait.
        let floor = hsm.sign_ms / 10_000.0;
        let first = outcome.payment_waits.mean_s();
        let known = hsms.load.wait_first_s();
        let alike = first.max(floor) <= 3.0 * known.max(floor)
            && known.max(floor) <= 3.0 * first.max(floor);
        assert!(alike, "{}: {first} beside {known}", hsm.name);
        assert!(
            first <= outcome.renewal_waits.mean_s() + floor,
            "{}",
            hsm.name
        );
        assert_eq!(outcome.refused_payments, 0, "{}", hsm.name);
    }
}

#[test]
fn an_hsm_at_half_its_rate_still_carries_the_payments() {
    let (_, outcome) = lunch(100_000.0, &hsm::NETWORK, Scenario::HalfRate);
    assert_eq!(outcome.given_up, 0);
    assert!(outcome.hsm_busy > 0.5);
}

#[test]
fn a_terminal_that_renews_every_six_hours_costs_few_commands() {
    // As docs/PERFORMANCE.md has it counted.
    let day = terminal_day(&Fleet::of(1.0));
    assert_eq!(day.schedules.count(), 32.0);
    assert_eq!(day.judging.count(), 50.0, "two for each tap");
    assert_eq!(epoch_keys_anew(24.0).count() + SIGNATURE.count(), 27.0);
}

#[test]
fn keys_that_a_node_keeps_are_loaded_ahead_and_others_for_each_payment() {
    let fleet = Fleet::of(10_000.0);
    let loads = |nodes, phones, kept| {
        let loads = loads(&fleet, nodes, phones, kept);
        (loads.per_payment, loads.ahead_per_s)
    };
    assert_eq!(loads(1.0, Phones::Anywhere, 10_000.0), (0.0, 0.0));
    assert_eq!(loads(2.0, Phones::Anywhere, 0.0), (2.0, 0.0));
    // Both nodes see every terminal within a day, and one of them is not its own: every six hours.
    let (per_payment, ahead_per_s) = loads(2.0, Phones::Anywhere, 10_000.0);
    assert!(per_payment < 1e-9);
    assert!(within(ahead_per_s, 10_000.0 / 21_600.0, 0.001));
    // The till's request finds its key sooner than the phone's at a node that is not the terminal's.
    let (per_payment, ahead_per_s) = loads(2.0, Phones::Anywhere, 5_000.0);
    assert!((0.5..1.0).contains(&per_payment), "{per_payment}");
    assert_eq!(ahead_per_s, 0.0);
    assert_eq!(loads(2.0, Phones::AtTheTerminals, 5_000.0), (0.0, 0.0));
    // One place is lacking: somebody gives way now and then.
    let (per_payment, ahead_per_s) = loads(2.0, Phones::Anywhere, 9_999.0);
    assert!(per_payment < 0.01, "{per_payment}");
    assert!(within(ahead_per_s, 10_000.0 / 21_600.0, 0.01));
    // Two hundred nodes: a phone seldom comes to one where somebody paid there lately.
    let (per_payment, _) = loads(200.0, Phones::Anywhere, 10_000.0);
    assert!((0.7..0.8).contains(&per_payment), "{per_payment}");
}

#[test]
fn twice_the_terminals_need_no_less_of_anything() {
    let machines = Machines::default();
    let mut before = 0.0;
    for doublings in 0..8 {
        let fleet = Fleet::of(50_000.0 * f64::from(1_u32 << doublings));
        let site = plan::site(&fleet, &machines);
        let hsms = plan::hsms(&fleet, &machines, &site, &hsm::CLOUD);
        let bought = site.nodes + site.database_cores + hsms.working;
        assert!(bought > before, "{doublings}");
        assert!(hsms.load.busy <= 1.0, "{}", hsms.load.busy);
        before = bought;
    }
}

#[test]
fn a_day_has_as_many_payments_as_it_says_whatever_its_peak() {
    for peak in [2.0, 4.0, 9.0] {
        let mut fleet = Fleet::of(1_000.0);
        fleet.peak = peak;
        let sum: f64 = (0..24)
            .map(|hour| fleet.payments_per_s(f64::from(hour)) * 3_600.0)
            .sum();
        assert!(
            within(sum, 1_000.0 * fleet.payments_a_day, 1e-9),
            "{peak}: {sum}"
        );
    }
}

/// Whoever changes one of them in the code is told that the model counts by it.
#[test]
fn the_model_counts_by_the_numbers_of_the_code() {
    let numbers = [
        ("hsm/src", "PAYMENTS_IN_A_ROW_MAX: u32 = 8;"),
        ("hsm/src", "RENEWAL_QUARTERS_MAX: usize = 3;"),
        ("hsm/src", "BINDINGS_MAX: usize = 131_072;"),
        ("authority/src/store", "BATCH_MAX: usize = 256;"),
        (
            "authority/src/services",
            "TERMINALS_KEPT_MAX: usize = 20_000;",
        ),
        (
            "authority/src/services",
            "IN_USE_MS: Millis = 26 * 3_600_000;",
        ),
        ("authority/src/services", "EPOCHS_AHEAD: u32 = 6;"),
        ("reader-agent/src", "GROWTH_SHARE: u32 = 4;"),
        ("reader-agent/src", "GROWTH_MAX_EPOCHS: u32 = 6;"),
        (
            "authority/src/services",
            "Duration::from_secs(KEEP_ALIVE_S * 2 / 3);",
        ),
        (
            "authority/src/services",
            "CHECKPOINT_EVERY: Duration = Duration::from_secs(1);",
        ),
        ("authority/src/config", "horizon_epochs: 24"),
        ("config", "queue_max = 1024"),
        ("config", "deadline_ms = 5000"),
        ("protocol/src/wire", "KEEP_ALIVE_S: u64 = 15;"),
        ("reader-agent/src", "LOST_MS: u64 = 5_000;"),
        ("reader-agent/src", "FIRST_MS: u64 = 500;"),
        ("reader-agent/src", "LONGEST_MS: u64 = 30_000;"),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let gone: Vec<_> = numbers
        .iter()
        .filter(|(below, number)| !is_said(&root.join(below), number))
        .collect();
    assert!(
        gone.is_empty(),
        "no longer so, nor in capacity/costs.rs: {gone:?}"
    );
}

/// What goes by itself is reckoned as long as a bank that says nothing keeps it.
#[test]
fn the_model_keeps_rows_as_long_as_the_configuration_does() {
    let sample = include_str!("../../../config/authority.toml");
    let file = Path::new("/etc/m2key/authority.toml");
    let kept = authority::config::Config::parse(sample, file)
        .unwrap()
        .retention;
    let days = |ms: i64| Some(ms as f64 / DAY_MS);
    for (name, kept) in [
        ("`spent`, `turns`", kept.spent_ms),
        ("`reports`", kept.reports_ms),
    ] {
        let table = super::growth::TABLES.iter().find(|it| it.name == name);
        assert_eq!(table.unwrap().kept_days, days(kept), "{name}");
    }
}

fn is_said(below: &Path, number: &str) -> bool {
    if below.is_dir() {
        let entries = std::fs::read_dir(below).unwrap();
        return entries
            .flatten()
            .any(|entry| is_said(&entry.path(), number));
    }
    std::fs::read_to_string(below).is_ok_and(|text| text.contains(number))
}

/// `m2key-capacity page --write` puts them right.
#[test]
fn the_pages_say_what_the_program_prints() {
    for place in page::places() {
        let stands = page::read(&place).unwrap();
        assert_eq!(stands, place.table, "docs/{}, {}", place.file, place.mark);
    }
}

#[test]
fn every_option_that_the_page_names_is_one_of_the_program() {
    let command = Arguments::command();
    let plan = command.find_subcommand("plan").unwrap();
    let known: Vec<_> = plan
        .get_arguments()
        .filter_map(|it| it.get_long())
        .collect();
    let page = include_str!("../../../docs/CAPACITY.md");
    let named = page.split("`--").skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_ascii_lowercase() && c != '-')
            .next()
    });
    for option in named {
        assert!(known.contains(&option), "--{option}");
    }
}

#[test]
fn numbers_that_no_fleet_has_are_refused() {
    let said = |option: &str| {
        let arguments = ["m2key-capacity", "plan", option];
        run(&Arguments::try_parse_from(arguments).unwrap())
    };
    for option in [
        "--peak=30",
        "--terminals=0",
        "--taps=2",
        "--renewal-h=0",
        "--hsm=quick",
    ] {
        assert!(said(option).is_err(), "{option}");
    }
    assert!(said("--terminals=250000").is_ok());
}

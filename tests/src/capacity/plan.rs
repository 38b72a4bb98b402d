//! What is enough for this fleet in its busiest hour, with one of each out of order?

use super::costs;
use super::fleet::Fleet;
use super::hsm::Hsm;
use super::queueing::{Load, Stream};
use super::work::{self, Loads, Phones, SIGNATURE, TAP, epoch_keys_anew};

/// What a bank's machines do.
#[derive(Debug, Clone, Copy)]
pub struct Machines {
    pub connections: f64,
    pub connection_kb: f64,
    pub node_cores: f64,
    pub database_cores: f64,
    pub commit_ms: f64,
    pub write_ms: f64,
    pub write_core_ms: f64,
    pub read_core_ms: f64,
    pub keys_kept: f64,
    pub phones: Phones,
    /// Of one look of a stream at its terminal.
    pub look_reads: f64,
    pub busy: f64,
}

impl Default for Machines {
    fn default() -> Self {
        Self {
            connections: costs::CONNECTIONS.value,
            connection_kb: costs::CONNECTION_KB.value,
            node_cores: costs::NODE_CORES.value,
            database_cores: costs::DATABASE_CORES.value,
            commit_ms: costs::COMMIT_MS.value,
            write_ms: costs::WRITE_MS.value,
            write_core_ms: costs::WRITE_CORE_MS.value,
            read_core_ms: costs::READ_CORE_MS.value,
            keys_kept: costs::KEYS_KEPT.value,
            phones: Phones::Anywhere,
            look_reads: costs::LOOK_READS.value,
            busy: costs::BUSY.value,
        }
    }
}

/// Nodes, database and wire; the same whatever the HSM.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// That work; one more is bought.
    pub nodes: f64,
    /// What asks for the most of them.
    pub nodes_for: &'static str,
    pub node_memory_gb: f64,
    pub node_cores: f64,
    pub writes_per_s: f64,
    pub reads_per_s: f64,
    pub commits_per_s: f64,
    pub database_cores: f64,
    /// What asks for the most of the cores, and which share.
    pub database_for: (&'static str, f64),
    pub shards: f64,
    pub iops: f64,
    pub mbit_per_s: f64,
}

/// The HSMs beside them.
#[derive(Debug, Clone, Copy)]
pub struct Hsms {
    /// That work; one more is bought.
    pub working: f64,
    /// Sessions, and so workers, of a node.
    pub sessions: f64,
    pub loads: Loads,
    pub load: Load,
    /// Until every terminal has a whole schedule again after all of them lost their streams.
    pub all_back_s: f64,
}

pub fn site(fleet: &Fleet, machines: &Machines) -> Site {
    let payments = fleet.payments_at_peak_per_s();
    let writes_per_s = work::writes_per_s(fleet);
    let cores = node_cores(fleet) / machines.busy;
    let commit_s = machines.commit_ms / 1_000.0;
    let write_s = machines.write_ms / 1_000.0;
    let batch = costs::BATCH_MAX.value;
    let writer_max = machines.busy * batch / (commit_s + batch * write_s);
    let wanted = [
        ("connections", fleet.terminals / machines.connections),
        ("cores", cores / machines.node_cores),
        ("the writer", writes_per_s / writer_max),
    ];
    let (nodes_for, most) = largest(&wanted);
    let nodes = most.ceil().max(1.0);
    let of_writer = writes_per_s / nodes;
    let commits = nodes * of_writer.min((1.0 - of_writer * write_s).max(0.0) / commit_s);
    let database = database_cores(fleet, machines);
    let database_all: f64 = database.iter().map(|it| it.1).sum();
    let (database_for, database_most) = largest(&database);
    let database_cores = database_all / machines.busy;
    Site {
        nodes,
        nodes_for,
        node_memory_gb: 1.0 + fleet.terminals / nodes * machines.connection_kb / 1_000_000.0,
        node_cores: cores / nodes,
        writes_per_s,
        reads_per_s: work::reads_per_s(fleet, machines.look_reads),
        commits_per_s: commits,
        database_cores,
        database_for: (database_for, database_most / database_all),
        shards: (database_cores / machines.database_cores).ceil(),
        iops: commits + writes_per_s * costs::PAGES.value,
        mbit_per_s: bytes_per_s(fleet, payments) * 8.0 / 1_000_000.0,
    }
}

pub fn hsms(fleet: &Fleet, machines: &Machines, site: &Site, hsm: &Hsm) -> Hsms {
    let loads = work::loads(fleet, site.nodes, machines.phones, machines.keys_kept);
    let (first, second) = streams(fleet, site, hsm, loads);
    let work = |of: &[Stream]| of.iter().map(|it| it.per_s * it.takes_s).sum::<f64>();
    let occupied = work(&first) + work(&second);
    let working = (occupied / (hsm.at_once * machines.busy)).ceil().max(1.0);
    // Every node has at least one session of its own.
    let working = working.max((site.nodes / hsm.at_once).ceil());
    let sessions = (working * hsm.at_once / site.nodes).floor().max(1.0);
    let of_node = |of: &[Stream]| -> Vec<Stream> {
        let part = |it: &Stream| Stream {
            per_s: it.per_s / site.nodes,
            ..*it
        };
        of.iter().map(part).collect()
    };
    let load = Load::of(sessions, &of_node(&first), &of_node(&second));
    let fetch = epoch_keys_anew(fleet.horizon_h + 1.0) + SIGNATURE;
    let left = working * hsm.at_once * (1.0 - load.busy).max(0.0);
    Hsms {
        working,
        sessions,
        loads,
        load,
        all_back_s: fleet.terminals * hsm.occupied_s(fetch) / left,
    }
}

/// Requests of all nodes: of payments, and of the others.
pub fn streams(fleet: &Fleet, site: &Site, hsm: &Hsm, loads: Loads) -> ([Stream; 3], [Stream; 4]) {
    let stream = |per_s, commands| Stream {
        per_s,
        takes_s: hsm.occupied_s(commands),
    };
    let payments = fleet.payments_at_peak_per_s();
    let renewals = fleet.renewals_per_s();
    let first = [
        stream(payments, SIGNATURE),
        stream(payments * loads.per_payment, loads.of_payment),
        stream(payments * fleet.taps, TAP),
    ];
    let second = [
        stream(renewals, loads.renewal),
        stream(renewals, SIGNATURE),
        stream(loads.ahead_per_s, loads.ahead),
        stream(site.nodes, SIGNATURE),
    ];
    (first, second)
}

/// Cores of all nodes in use, TLS and services together.
fn node_cores(fleet: &Fleet) -> f64 {
    let request = costs::REQUEST_CORE_MS.value;
    let payment = costs::PAYMENT_CORE_MS.value + costs::HANDSHAKE_CORE_MS.value;
    let ms = fleet.payments_at_peak_per_s() * payment
        + (fleet.renewals_per_s() + fleet.reports_per_s()) * (request + costs::WRITE_HERE_MS.value)
        + fleet.looks_per_s() * request
        + fleet.signs_per_s() * costs::SIGN_CORE_MS.value;
    ms / 1_000.0
}

fn database_cores(fleet: &Fleet, machines: &Machines) -> [(&'static str, f64); 4] {
    let (write, read) = (machines.write_core_ms, machines.read_core_ms);
    let payments = fleet.payments_at_peak_per_s();
    let of_payment = costs::PAYMENT_WRITES.value * write + costs::PAYMENT_READS.value * read;
    [
        ("payments", payments * of_payment / 1_000.0),
        (
            "looks",
            fleet.look_reads_per_s(machines.look_reads) * read / 1_000.0,
        ),
        ("reports of tags", fleet.reports_per_s() * write / 1_000.0),
        ("renewals", fleet.renewals_per_s() * write / 1_000.0),
    ]
}

fn bytes_per_s(fleet: &Fleet, payments: f64) -> f64 {
    payments * costs::PAYMENT_BYTES.value
        + fleet.renewals_per_s() * costs::RENEWAL_BYTES.value
        + fleet.reports_per_s() * costs::REPORT_BYTES.value
        + fleet.signs_per_s() * costs::KEEP_ALIVE_BYTES.value
}

fn largest(of: &[(&'static str, f64)]) -> (&'static str, f64) {
    let mut largest = ("", 0.0);
    for (name, value) in of {
        if *value > largest.1 {
            largest = (name, *value);
        }
    }
    largest
}

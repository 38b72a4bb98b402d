//! How do they stand beside each other?

use crate::Measured;
use crate::page::median;

/// One line with a target: at most so many times what nginx needs.
struct Line {
    what: &'static str,
    unit: &'static str,
    pair: [f64; 2],
    target: Option<f64>,
}

pub(crate) fn of(measured: &Measured) -> String {
    let pair = |pair: &[Vec<f64>; 2]| [median(&pair[0]), median(&pair[1])];
    let rounds = &measured.rounds;
    let lines = [
        Line {
            what: "mTLS handshake",
            unit: "µs",
            pair: pair(&rounds.handshake),
            target: Some(1.0 / 2.0),
        },
        Line {
            what: "the same with one request",
            unit: "µs",
            pair: pair(&rounds.handshake_and_request),
            target: None,
        },
        Line {
            what: "kept-alive mTLS request",
            unit: "µs",
            pair: pair(&rounds.request),
            target: Some(1.0 / 1.2),
        },
        Line {
            what: "connected idle agent, with its push stream",
            unit: "kB",
            pair: measured.idle.map(|bytes| bytes / 1_000.0),
            target: Some(1.5),
        },
    ];
    let mut text = String::from(
        "| server's cost of one | | ours | nginx | ratio | target | |\n|---|---|--:|--:|--:|--:|---|\n",
    );
    lines.iter().for_each(|line| text += &row(line));
    let storm = &measured.storm;
    text += &format!(
        "\nA kept-alive request of a terminal that is looked up in the store: {:.1} µs. \
         Memory is of {agents} connected terminals.\n\n\
         | terminals at once after a restart | half up, s | all up, s | tries that failed |\n|--:|--:|--:|--:|\n\
         | {agents} | {:.1} | {:.1} | {} |\n",
        median(&rounds.proven),
        storm.half_up_s,
        storm.all_up_s,
        storm.failed,
        agents = measured.agents,
    );
    text
}

fn row(line: &Line) -> String {
    let [ours, theirs] = line.pair;
    let ratio = ours / theirs;
    let judged = match line.target {
        Some(target) if ratio <= target => format!("≤ {target:.2} | met"),
        Some(target) => format!("≤ {target:.2} | missed"),
        None => " | ".into(),
    };
    format!(
        "| {} | {} | {ours:.1} | {theirs:.1} | {ratio:.2} | {judged} |\n",
        line.what, line.unit
    )
}

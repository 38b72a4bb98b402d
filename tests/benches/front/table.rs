//! How do they stand beside each other?

use crate::bare::Rates;
use crate::page::targets::{self, Target};
use crate::page::{Row, median, render_judged};
use crate::{Measured, Schedules};

/// One line: what it costs here, and what at nginx.
struct Line {
    what: &'static str,
    unit: &'static str,
    pair: [f64; 2],
    target: Option<&'static Target>,
}

/// What the targets at a glance say of it.
pub(crate) fn tell(measured: &Measured) -> std::io::Result<()> {
    for line in lines(measured) {
        if let Some(target) = line.target {
            targets::tell(target, line.ratio(), "")?;
        }
    }
    let schedules = schedules(&measured.schedules);
    targets::tell(&targets::SCHEDULES, schedules.ours / schedules.limit, "")
}

/// Beside what a schedule is made of, one after the other.
fn schedules(measured: &Schedules) -> Row {
    let bare =
        |rate: fn(&Rates) -> f64| median(&measured.bare.iter().map(rate).collect::<Vec<_>>());
    let (keys, signatures) = (bare(|it| it.epoch_keys), bare(|it| it.signatures));
    Row {
        what: "schedules/s: one new epoch, signed, over kept-alive mTLS",
        ours: median(&measured.issued),
        beside: "bare epoch key, bare signature and kept-alive request, one after the other",
        limit: 1.0 / (1.0 / keys + 1.0 / signatures + 1.0 / median(&measured.asked)),
    }
}

fn lines(measured: &Measured) -> [Line; 4] {
    let pair = |pair: &[Vec<f64>; 2]| [median(&pair[0]), median(&pair[1])];
    let rounds = &measured.rounds;
    [
        Line {
            what: "mTLS handshake",
            unit: "µs",
            pair: pair(&rounds.handshake),
            target: Some(&targets::HANDSHAKES),
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
            target: Some(&targets::REQUESTS),
        },
        Line {
            what: "connected idle agent, with its push stream",
            unit: "kB",
            pair: measured.idle.map(|bytes| bytes / 1_000.0),
            target: Some(&targets::IDLE),
        },
    ]
}

pub(crate) fn of(measured: &Measured) -> String {
    let rounds = &measured.rounds;
    let mut text = String::from(
        "| server's cost of one | | ours | nginx | ratio | target | |\n|---|---|--:|--:|--:|--:|---|\n",
    );
    lines(measured).iter().for_each(|line| text += &line.row());
    text += "\n";
    text += &render_judged(&[(schedules(&measured.schedules), Some(&targets::SCHEDULES))]);
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

impl Line {
    fn ratio(&self) -> f64 {
        self.pair[0] / self.pair[1]
    }

    fn row(&self) -> String {
        let ([ours, theirs], ratio) = (self.pair, self.ratio());
        let judged = self.target.map_or("– |".to_owned(), |it| it.cells(ratio));
        format!(
            "| {} | {} | {ours:.1} | {theirs:.1} | {ratio:.2} | {judged} |\n",
            self.what, self.unit
        )
    }
}

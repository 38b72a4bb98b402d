//! How is a run told, to people and to programs?

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::options::Run;
use super::record::{Record, Step, ms};
use super::run::Outcome;
use crate::Failure;

/// What is told of every histogram.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
/// Lines of an .hgrm file between one halving of the distance to 100 % and the next.
const TICKS_PER_HALF: u32 = 5;

/// Everything for a person at a terminal.
pub fn told(run: &Run, outcome: &Outcome) -> String {
    let mut text = summary(run, outcome);
    text += "\n";
    text += &steps_table(&outcome.record);
    text += "\nmilliseconds; from the intent: since the shopper wanted to pay, from the send: the request that worked\n";
    text += &counted("refused on the way", &outcome.record.troubles);
    text += &counted("went away", &outcome.record.refused);
    if outcome.record.refused_offline > 0 {
        text += &format!(
            "of those at terminals without a line: {}\n",
            outcome.record.refused_offline
        );
    }
    if outcome.streams_lost > 0 {
        text += &format!("push streams that broke: {}\n", outcome.streams_lost);
    }
    if let Some(renewed) = &outcome.renewed {
        let quantile = |q| ms(renewed.took.value_at_quantile(q));
        text += &format!(
            "schedules renewed: {} ({:.1} per second), ms p50 {:.1}, p99 {:.1}\n",
            renewed.took.len(),
            renewed.per_second(),
            quantile(0.5),
            quantile(0.99)
        );
        text += &counted("renewals refused", &renewed.refused);
    }
    for check in &outcome.checks {
        let mark = if check.ok { "ok" } else { "FAILED" };
        text += &format!("{mark:>6}  {}: {}\n", check.what, check.seen);
    }
    text
}

fn summary(run: &Run, outcome: &Outcome) -> String {
    let record = &outcome.record;
    let mut text = format!(
        "{} wanted to pay ({:.1} per second for {:.0} s, seed {}): {} paid, {} went away, {} unfinished, {} never \
         begun\n",
        record.wanted,
        run.rate,
        run.span.as_secs_f64(),
        run.seed,
        record.paid,
        record.refused_count(),
        record.unfinished,
        record.never_begun,
    );
    if let Some(known) = known_up_to(record) {
        // Who never came through is in no histogram, and would have been its longest values.
        text += &format!(
            "percentiles beyond {known:.3} % are not known: some did not come to their end\n"
        );
    }
    text
}

/// The share of payments that came to an end, in percent, if some did not.
fn known_up_to(record: &Record) -> Option<f64> {
    let cut_off = record.unfinished + record.never_begun;
    let ended = record.wanted.saturating_sub(cut_off);
    (cut_off > 0).then(|| 100.0 * ended as f64 / record.wanted.max(1) as f64)
}

/// Every step, from the intent and from the send, as a Markdown table.
pub fn steps_table(record: &Record) -> String {
    let mut text = String::from(
        "| step | count | from the intent: p50 | p90 | p99 | p99.9 | longest | from the send: p50 | p90 | p99 | p99.9 | longest |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for step in Step::ALL {
        let Some(both) = record.steps.get(&step) else {
            continue;
        };
        text += &format!(
            "| {} | {} | {} | {} |\n",
            step.name(),
            both.from_intent.len(),
            cells(&both.from_intent),
            cells(&both.from_send)
        );
    }
    text
}

fn cells(histogram: &Histogram<u64>) -> String {
    let quantiles = QUANTILES.map(|(_, q)| histogram.value_at_quantile(q));
    let all = quantiles.into_iter().chain([histogram.max()]);
    let cells: Vec<_> = all.map(|us| format!("{:.1}", ms(us))).collect();
    cells.join(" | ")
}

fn counted(what: &str, counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!("{what}: {}\n", counts.join(", "))
}

/// Everything for a program.
pub fn json(run: &Run, outcome: &Outcome) -> Value {
    let record = &outcome.record;
    let steps: BTreeMap<_, _> = record
        .steps
        .iter()
        .map(|(step, both)| {
            let both = json!({
                "count": both.from_intent.len(),
                "from_intent_ms": quantiles(&both.from_intent),
                "from_send_ms": quantiles(&both.from_send),
            });
            (step.name(), both)
        })
        .collect();
    let seconds = record.seconds.iter();
    json!({
        "asked": {
            "rate_per_s": run.rate,
            "for_s": run.span.as_secs_f64(),
            "seed": run.seed,
            "retries": run.retries,
            "in_flight_max": run.in_flight,
            "offline": run.offline.of_one(),
            "till": run.till.of_one(),
            "renew_all": run.renew_all,
        },
        "took_s": outcome.took.as_secs_f64(),
        "wanted": record.wanted,
        "paid": record.paid,
        "refused": record.refused,
        "refused_offline": record.refused_offline,
        "refused_on_the_way": record.troubles,
        "unfinished": record.unfinished,
        "never_begun": record.never_begun,
        "percentiles_known_up_to": known_up_to(record).unwrap_or(100.0),
        "streams_lost": outcome.streams_lost,
        "steps": steps,
        "seconds": seconds.map(|it| [it.wanted, it.paid]).collect::<Vec<_>>(),
        "renewed": outcome.renewed.as_ref().map(|renewed| json!({
            "count": renewed.took.len(),
            "per_s": renewed.per_second(),
            "ms": quantiles(&renewed.took),
            "refused": renewed.refused,
        })),
        "checks": outcome.checks,
    })
}

fn quantiles(histogram: &Histogram<u64>) -> BTreeMap<&'static str, f64> {
    let each = QUANTILES.map(|(name, q)| (name, ms(histogram.value_at_quantile(q))));
    each.into_iter()
        .chain([("longest", ms(histogram.max()))])
        .collect()
}

/// One file for each step and each way of counting, for HdrHistogram's own plotter.
pub fn write_hgrm(dir: &Path, record: &Record) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    for (step, both) in &record.steps {
        for (way, histogram) in [("intent", &both.from_intent), ("send", &both.from_send)] {
            let file = dir.join(format!("{}-from-{way}.hgrm", step.name()));
            std::fs::write(&file, hgrm(histogram)).map_err(Failure::of(file.display()))?;
        }
    }
    Ok(())
}

/// The percentile distribution, in milliseconds, as HdrHistogram writes it.
fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for at in histogram.iter_quantiles(TICKS_PER_HALF) {
        let (value, quantile) = (ms(at.value_iterated_to()), at.quantile_iterated_to());
        let count = histogram.count_between(0, at.value_iterated_to());
        let line = match quantile < 1.0 {
            true => format!(
                "{value:12.3} {quantile:.12} {count:10} {:14.2}\n",
                1.0 / (1.0 - quantile)
            ),
            false => format!("{value:12.3} {quantile:.12} {count:10}\n"),
        };
        text += &line;
    }
    let [mean, deviation] = [histogram.mean(), histogram.stdev()].map(|us| us / 1_000.0);
    let (most, count) = (ms(histogram.max()), histogram.len());
    // What readers of the format look for at its end.
    let _ = write!(
        text,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n\
         #[Max     = {most:12.3}, Total count    = {count:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.buckets(),
        2 * histogram.distinct_values() / (usize::from(histogram.buckets()) + 1),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Lap;
    use std::time::Duration;

    fn record() -> Record {
        let mut record = Record::default();
        for n in 1..=1_000 {
            let lap = Lap {
                due: Duration::ZERO,
                sent: Duration::from_millis(n / 2),
                done: Duration::from_millis(n),
            };
            record.want(lap.due);
            record.lap(Step::Whole, &lap);
            record.pay(lap.done);
        }
        record
    }

    #[test]
    fn the_table_tells_both_ways_of_counting() {
        let table = steps_table(&record());
        let row = table.lines().last().unwrap();
        assert!(
            row.starts_with("| whole | 1000 | 500.2 | 900.1 | 990.2 |"),
            "{row}"
        );
        assert!(row.contains("| 250.1 |"), "{row}");
    }

    #[test]
    fn a_distribution_ends_with_all_of_them() {
        let text = hgrm(&record().steps[&Step::Whole].from_intent);
        let numbers = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let rows: Vec<Vec<f64>> = numbers
            .skip(1)
            .map(|line| {
                line.split_whitespace()
                    .map(|it| it.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(
            rows.windows(2)
                .all(|pair| pair[0][1] <= pair[1][1] && pair[0][0] <= pair[1][0])
        );
        let last = rows.last().unwrap();
        assert_eq!(last[1..], [1.0, 1_000.0]);
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }

    #[test]
    fn who_never_came_through_limits_what_is_known() {
        let mut record = record();
        assert_eq!(known_up_to(&record), None);
        record.wanted += 10;
        record.unfinished = 10;
        let known = known_up_to(&record).unwrap();
        assert!((99.0..99.1).contains(&known), "{known}");
    }
}

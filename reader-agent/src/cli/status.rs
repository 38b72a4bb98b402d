//! How is the agent that runs here?

use crate::config::Config;
use crate::error::{AgentError, Whose};
use crate::health::{BudgetReport, ClockReport, HorizonReport, Report, TagReport};
use crate::local::{self, Silent};
use crate::spell;

/// Less than this nobody calls a wrong clock.
const SAME_TIME_MS: i64 = 1_000;

/// Prints what it says of itself; fails if it cannot take payments.
pub(super) async fn say(config: &Config, json: bool) -> Result<(), AgentError> {
    let report = local::report(config).await.map_err(silent)?;
    match json {
        true => {
            let text = serde_json::to_string_pretty(&report).map_err(AgentError::bug)?;
            println!("{text}");
        }
        false => print!("{}", in_words(&report)),
    }
    if report.ready {
        return Ok(());
    }
    Err(AgentError::operator(
        "this terminal cannot take payments at the moment",
        "see the problems above; each says what to do",
    ))
}

fn silent(silent: Silent) -> AgentError {
    AgentError::new(
        Whose::Later,
        format!("the agent does not answer ({silent})"),
        "start it (systemctl start m2key-agent, or m2key-agent run --config <file>); m2key-agent doctor \
         says what stands in its way",
    )
}

fn in_words(report: &Report) -> String {
    let certificate = &report.certificate;
    let mut lines = vec![
        line("terminal", &report.terminal),
        line("version", or_unknown(&report.version)),
        line("shown", &report.shown),
        line("online", yes(report.online)),
        line("lasts without the authority", horizon(&report.horizon)),
        line("clock", clock(&report.clock)),
        line("certificate", &certificate.serial),
        line("  until", &certificate.until),
    ];
    if let Some(from) = &certificate.renewed_from {
        lines.push(line("  renewed from", from));
    }
    lines.extend([
        line("  being renewed", yes(certificate.is_renewing)),
        line("trust bundle", report.trust.sequence),
    ]);
    lines.extend(report.trust.roots.iter().map(|root| line("  root", root)));
    if let Some(waiting) = report.outbox.waiting {
        lines.push(line("reports that wait for the authority", waiting));
    }
    lines.extend(report.tag.iter().flat_map(tag));
    lines.extend(report.problems.iter().map(|it| line("problem", it)));
    lines.extend(report.warnings.iter().map(|it| line("warning", it)));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name}: {value}")
}

fn yes(it_is: bool) -> &'static str {
    if it_is { "yes" } else { "no" }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn horizon(horizon: &HorizonReport) -> String {
    match (horizon.left_s, &horizon.until) {
        (Some(left), Some(until)) if left > 0 => {
            format!("{} (until {until})", spell::span(left * 1000))
        }
        _ => "not at all".into(),
    }
}

fn clock(clock: &ClockReport) -> String {
    let Some(offset) = clock.offset_ms else {
        return "the authority has not said yet what time it is".into();
    };
    let source = match clock.is_heard {
        true => "",
        false => ", as the last run remembers it",
    };
    let difference = match offset {
        _ if offset.abs() < SAME_TIME_MS => "this machine's is the authority's".into(),
        1.. => format!("this machine's is {} slow", spell::span(offset)),
        _ => format!("this machine's is {} fast", spell::span(offset)),
    };
    difference + source
}

fn tag(tag: &TagReport) -> Vec<String> {
    let mut lines = vec![line("reader", tag.reader.as_deref().unwrap_or("none"))];
    lines.extend(tag.wear.iter().map(|wear| {
        let (uid, writes, pages) = (&wear.uid, wear.writes, wear.pages);
        format!("last tag: {uid}, written {writes} times, {pages} pages")
    }));
    let budget = tag.wear.as_ref().and_then(|wear| wear.budget.as_ref());
    lines.extend(budget.into_iter().flat_map(wear));
    lines
}

fn wear(budget: &BudgetReport) -> Vec<String> {
    let BudgetReport {
        cycles,
        endurance,
        percent_used,
        cycles_per_day,
        days_left,
        ..
    } = budget;
    let pace = match budget.is_measured {
        true => "measured",
        false => "by the policy, not yet measured",
    };
    let replace = match budget.is_due {
        true => "now",
        false => &budget.replace_by,
    };
    vec![
        line(
            "  used",
            format!("{percent_used} %, {cycles} of {endurance}"),
        ),
        line("  a day", format!("{cycles_per_day}, {pace}")),
        line("  lasts", format!("{days_left} days")),
        line("  replace by", replace),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> serde_json::Value {
        serde_json::json!({
            "ready": false, "terminal": "12345671", "shown": "offline", "online": false,
            "certificate": {
                "serial": "0a1b", "from": "2026-11-20", "until": "2026-11-27",
                "renewed_from": "2026-11-23", "is_renewing": true,
            },
            "trust": { "sequence": 3, "roots": ["3f9a 01c2 until 2046"] },
            "problems": [], "warnings": ["Upkeep: the authority cannot be reached"],
        })
    }

    fn said(report: serde_json::Value) -> Vec<String> {
        let report = serde_json::from_value(report).unwrap();
        in_words(&report).lines().map(str::to_owned).collect()
    }

    #[test]
    fn status_says_certificate_renewal_roots_and_what_is_wrong_in_words() {
        let said = said(report());
        for line in [
            "terminal: 12345671",
            "online: no",
            "lasts without the authority: not at all",
            "clock: the authority has not said yet what time it is",
            "certificate: 0a1b",
            "  until: 2026-11-27",
            "  renewed from: 2026-11-23",
            "  being renewed: yes",
            "trust bundle: 3",
            "  root: 3f9a 01c2 until 2046",
            "warning: Upkeep: the authority cannot be reached",
        ] {
            assert!(said.iter().any(|said| said == line), "{line} in {said:?}");
        }
    }

    #[test]
    fn status_says_horizon_clock_outbox_and_wear_where_they_are_known() {
        let mut report = report();
        report["horizon"] = serde_json::json!({ "until": "2026-11-21", "left_s": 83_100 });
        report["clock"] = serde_json::json!({ "is_heard": true, "offset_ms": -183_000 });
        report["outbox"] = serde_json::json!({ "waiting": 4, "max": 100_000 });
        report["tag"] = serde_json::json!({
            "reader": "ACS ACR122U", "problem": null,
            "wear": { "uid": "04A1B2", "writes": 12, "pages": 90, "budget": {
                "cycles": 24_000, "endurance": 100_000, "percent_used": 24, "cycles_per_day": 640,
                "is_measured": true, "days_left": 118, "days_to_replace": 103,
                "replace_by": "2027-03-04T10:00:00Z", "is_due": false,
            } },
        });
        let said = said(report);
        for line in [
            "lasts without the authority: 23 h 5 min (until 2026-11-21)",
            "clock: this machine's is 3 min 3 s fast",
            "reports that wait for the authority: 4",
            "reader: ACS ACR122U",
            "last tag: 04A1B2, written 12 times, 90 pages",
            "  used: 24 %, 24000 of 100000",
            "  a day: 640, measured",
            "  lasts: 118 days",
            "  replace by: 2027-03-04T10:00:00Z",
        ] {
            assert!(said.iter().any(|said| said == line), "{line} in {said:?}");
        }
    }
}

//! Does the agent run, and as this version?

use super::{Finding, Mover};
use crate::health::Report;
use crate::local::Silent;

const SUBJECT: &str = "agent";

pub(super) fn judge(answer: &Result<Report, Silent>) -> Finding {
    match answer {
        Ok(report) => running(report),
        Err(Silent::NeverRan) => stopped("it has not run on this machine yet".into()),
        Err(Silent::NoAnswer { detail }) => stopped(format!("it does not run ({detail})")),
        Err(Silent::Stranger { .. }) => Finding::broken(
            SUBJECT,
            "it does not run, and another program holds its port",
            Mover::Installer,
            "stop that program, or set kiosk_listen in the configuration, then start the agent",
        ),
    }
}

fn running(report: &Report) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    if report.version != own {
        return Finding::attention(
            SUBJECT,
            format!("it runs, but as another version than is installed ({own})"),
            Mover::Merchant,
            "restart this PC at a quiet moment (or: systemctl restart m2key-agent)",
        );
    }
    if report.ready {
        return Finding::ok(SUBJECT, format!("it runs and shows \"{}\"", report.shown));
    }
    let what = report.problems.join(" ");
    Finding::broken(
        SUBJECT,
        format!("it runs, but takes no payments: {what}"),
        Mover::Merchant,
        "see the other findings; when they are right, this is right by itself",
    )
}

fn stopped(says: String) -> Finding {
    Finding::broken(
        SUBJECT,
        says,
        Mover::Merchant,
        "restart this PC (or: systemctl start m2key-agent); if it stops again, call your installer",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn an_agent_that_is_silent_or_not_ready_is_broken_and_an_older_one_wants_attention() {
        let mut report: Report = serde_json::from_value(serde_json::json!({
            "ready": true, "terminal": "12345671", "shown": "standing", "online": true,
            "certificate": { "serial": "1", "from": "", "until": "", "is_renewing": false },
            "trust": { "sequence": 0, "roots": [] }, "problems": [], "warnings": [],
        }))
        .unwrap();
        assert_eq!(judge(&Ok(report.clone())).verdict, Verdict::Attention);
        report.version = env!("CARGO_PKG_VERSION").into();
        assert_eq!(judge(&Ok(report.clone())).verdict, Verdict::Ok);
        report.ready = false;
        assert_eq!(judge(&Ok(report)).verdict, Verdict::Broken);
        assert_eq!(judge(&Err(Silent::NeverRan)).verdict, Verdict::Broken);
    }
}

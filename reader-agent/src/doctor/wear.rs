//! How long does the tag last?

use super::{Finding, Mover};
use crate::health::{BudgetReport, REPLACE_WARN_DAYS, Report};

const SUBJECT: &str = "tag wear";
const FIX: &str = "have a new tag made this terminal's own in its place: m2key-agent tag personalise, as \
    INSTALL says; QR and code go on meanwhile";

/// None: there was no tag yet, or the agent is of before and does not say.
pub(super) fn judge(report: &Report) -> Option<Finding> {
    let budget = report.tag.as_ref()?.wear.as_ref()?.budget.as_ref()?;
    let BudgetReport {
        percent_used: used,
        days_left: days,
        replace_by,
        ..
    } = budget;
    let says = match days {
        0 => format!("{used} % of the tag's writes are used: it may fail any day"),
        _ => format!("{used} % of the tag's writes are used; it lasts about {days} days more"),
    };
    if !budget.is_due && budget.days_to_replace >= REPLACE_WARN_DAYS {
        return Some(Finding::ok(SUBJECT, says));
    }
    let by = replace_by.get(..10).unwrap_or(replace_by);
    let fix = format!("by {by} {FIX}");
    Some(Finding::attention(SUBJECT, says, Mover::Installer, fix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Verdict;
    use super::*;

    fn judged(is_due: bool, days_to_replace: u32, days_left: u32) -> Finding {
        let report: Report = serde_json::from_value(serde_json::json!({
            "ready": true, "terminal": "12345671", "shown": "standing", "online": true,
            "certificate": { "serial": "1", "from": "", "until": "", "is_renewing": false },
            "trust": { "sequence": 0, "roots": [] }, "problems": [], "warnings": [],
            "tag": { "reader": "ACS ACR122U", "problem": null, "wear": {
                "uid": "04A1B2", "writes": 12, "pages": 90, "budget": {
                    "cycles": 1, "endurance": 100_000, "percent_used": 91, "cycles_per_day": 640,
                    "is_measured": true, "days_left": days_left,
                    "days_to_replace": days_to_replace, "replace_by": "2027-03-04T10:00:00Z",
                    "is_due": is_due,
                },
            } },
        }))
        .unwrap();
        judge(&report).unwrap()
    }

    #[test]
    fn a_tag_is_told_in_time_to_order_another_and_a_worn_out_one_is_not_called_broken() {
        assert_eq!(judged(false, REPLACE_WARN_DAYS, 40).verdict, Verdict::Ok);
        let soon = judged(false, REPLACE_WARN_DAYS - 1, 39);
        assert_eq!(soon.verdict, Verdict::Attention);
        assert!(soon.fix.unwrap().what.starts_with("by 2027-03-04 "));
        assert_eq!(judged(true, 0, 15).verdict, Verdict::Attention);
        let over = judged(true, 0, 0);
        assert_eq!(over.verdict, Verdict::Attention);
        assert!(over.says.contains("may fail any day"), "{over:?}");
    }
}

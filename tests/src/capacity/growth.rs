//! How many bytes does a fleet add, and how many are there in the third year?

use super::costs::{Cost, Source};
use super::fleet::{DAY_S, Fleet};

/// What makes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Payment,
    Renewal,
    /// One event of a tag; a request may hold many.
    TagWrite,
    Report,
    /// Once a second, whatever the number of nodes.
    Checkpoint,
    Certificate,
}

/// The rows of one cause in one table, with their indexes.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub name: &'static str,
    pub per: Per,
    /// On SQLite, measured by the store's own growth.
    pub bytes: f64,
    /// How long they are worth keeping where they are fast; none: for ever.
    pub kept_days: Option<f64>,
    pub why: &'static str,
}

/// A certificate of seven days renews at half its life.
const CERTIFICATES_A_DAY: f64 = 1.0 / 3.5;
const YEAR_DAYS: f64 = 365.0;

/// Rows of another engine are larger: a header of 23 bytes, and a pointer in every page.
pub const POSTGRESQL: Cost = Cost {
    what: "bytes of a row on PostgreSQL beside SQLite",
    value: 1.5,
    unit: "times",
    source: Source::Assumed("headers of rows and pages, room that vacuum leaves"),
};

const fn table(
    name: &'static str,
    per: Per,
    bytes: f64,
    kept_days: Option<f64>,
    why: &'static str,
) -> Table {
    Table {
        name,
        per,
        bytes,
        kept_days,
        why,
    }
}

pub const TABLES: [Table; 14] = [
    table(
        "`audit_rows`, 4 rows",
        Per::Payment,
        1_567.0,
        Some(400.0),
        "then an archive: a checkpoint binds it",
    ),
    table(
        "`receipts`",
        Per::Payment,
        1_403.0,
        None,
        "evidence; an archive after ten years",
    ),
    table("`bookings`", Per::Payment, 328.0, None, "books"),
    table("`payments`", Per::Payment, 266.0, None, "books"),
    table(
        "`claims`",
        Per::Payment,
        215.0,
        Some(400.0),
        "a dispute needs it",
    ),
    table("`charges`", Per::Payment, 113.0, Some(400.0), "as claims"),
    table(
        "`ledger_entries`, 2 rows",
        Per::Payment,
        92.0,
        None,
        "books",
    ),
    table(
        "`spent`, `turns`",
        Per::Payment,
        41.0,
        Some(90.0),
        "a day goes behind the fence that refuses it",
    ),
    table("`audit_rows`", Per::Renewal, 240.0, Some(400.0), "as above"),
    table(
        "`reports`",
        Per::TagWrite,
        455.0,
        Some(400.0),
        "go behind their fence; wear is kept apart",
    ),
    table("`audit_rows`", Per::Report, 240.0, Some(400.0), "as above"),
    table(
        "`tag_links`",
        Per::TagWrite,
        55.0,
        Some(40.0),
        "deleted already",
    ),
    table(
        "`checkpoints`",
        Per::Checkpoint,
        686.0,
        Some(400.0),
        "then one an hour",
    ),
    table(
        "`certificates`, `certificate_bytes`",
        Per::Certificate,
        1_900.0,
        Some(400.0),
        "revocation looks at what is in force",
    ),
];

impl Table {
    /// Of the whole fleet.
    pub fn bytes_a_day(&self, fleet: &Fleet) -> f64 {
        self.bytes * per_day(self.per, fleet)
    }

    /// After so many years, if what is not kept any more has gone.
    pub fn held_after(&self, fleet: &Fleet, years: f64) -> f64 {
        let days = years * YEAR_DAYS;
        let kept = self.kept_days.map_or(days, |kept| kept.min(days));
        self.bytes_a_day(fleet) * kept
    }
}

/// Everything of the fleet in one day.
pub fn bytes_a_day(fleet: &Fleet) -> f64 {
    TABLES.iter().map(|it| it.bytes_a_day(fleet)).sum()
}

/// Everything after so many years, with retention.
pub fn held_after(fleet: &Fleet, years: f64) -> f64 {
    TABLES.iter().map(|it| it.held_after(fleet, years)).sum()
}

/// Everything after so many years, if nothing ever goes.
pub fn grown_after(fleet: &Fleet, years: f64) -> f64 {
    bytes_a_day(fleet) * years * YEAR_DAYS
}

fn per_day(per: Per, fleet: &Fleet) -> f64 {
    match per {
        Per::Payment => fleet.terminals * fleet.payments_a_day,
        Per::Renewal => fleet.terminals * 24.0 / fleet.renewal_h,
        Per::TagWrite => fleet.tag_writes_per_s() * DAY_S,
        Per::Report => fleet.reports_per_s() * DAY_S,
        Per::Checkpoint => DAY_S,
        Per::Certificate => fleet.terminals * CERTIFICATES_A_DAY,
    }
}

//! Is the agent alive, and can this terminal take a payment?

use std::sync::Arc;

use pki::Certificate;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::authority::line::{Footing, Line};
use crate::clock::Clock;
use crate::core::Board;
use crate::driver::{expired, expiring};
use crate::identity::Lasts;
use crate::look::Look;
use crate::state::{CountedTag, OUTBOX_MAX, State, StateError, Withheld};
use crate::tag_writer::TagWriter;
use crate::upkeep_driver::Kept;

/// From this share of the outbox on, readiness warns.
pub const OUTBOX_WARN: u64 = OUTBOX_MAX / 2;
/// So many days before a tag is to be replaced, readiness and doctor say so: time to order one.
pub const REPLACE_WARN_DAYS: u32 = 21;

/// What readiness is computed from.
#[derive(Clone)]
pub struct Health {
    pub board: watch::Receiver<Board>,
    pub line: Arc<Line>,
    pub kept: watch::Receiver<Kept>,
    pub clock: Arc<Clock>,
    pub state: Arc<State>,
    pub tag: Option<Arc<dyn TagWriter>>,
    pub look: Arc<Look>,
    /// Why the customer display shows nothing.
    pub display: watch::Receiver<Option<String>>,
}

/// How the running agent is. An agent of another version may leave out what has a default.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Report {
    pub ready: bool,
    pub terminal: String,
    #[serde(default)]
    pub version: String,
    pub shown: String,
    pub online: bool,
    #[serde(default)]
    pub horizon: HorizonReport,
    #[serde(default)]
    pub clock: ClockReport,
    pub certificate: CertificateReport,
    pub trust: TrustReport,
    #[serde(default)]
    pub outbox: OutboxReport,
    /// None: this terminal has only a screen.
    #[serde(default)]
    pub tag: Option<TagReport>,
    /// What stands in the way of payments.
    pub problems: Vec<String>,
    /// What will, or what works only in part.
    pub warnings: Vec<String>,
}

/// How long tokens can be shown if the authority is not heard of again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct HorizonReport {
    pub until: Option<String>,
    pub left_s: Option<i64>,
}

/// The authority's time, as far as it is known.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ClockReport {
    /// From the authority itself in this run, not remembered.
    pub is_heard: bool,
    /// Authority minus this machine's clock.
    pub offset_ms: Option<i64>,
}

/// Reports that the authority does not have yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct OutboxReport {
    /// None: the database does not say.
    pub waiting: Option<u64>,
    pub max: u64,
    /// More that wait in memory, because the disk is full; a power cut takes them.
    #[serde(default)]
    pub in_memory: u64,
    /// Of this run, for want of room anywhere.
    #[serde(default)]
    pub lost: u64,
}

/// Reader and tag.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct TagReport {
    pub reader: Option<String>,
    pub problem: Option<String>,
    /// Of the tag that was visited last.
    pub wear: Option<WearReport>,
}

/// What this terminal has counted of one tag, and what that means.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WearReport {
    pub uid: String,
    /// Visits that programmed it.
    pub writes: u64,
    /// Pages or frames programmed.
    pub pages: u64,
    /// None: an agent of before does not say.
    #[serde(default)]
    pub budget: Option<BudgetReport>,
}

/// The programming cycles of the page or frame that is written most.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct BudgetReport {
    pub cycles: u32,
    /// What the data sheet promises.
    pub endurance: u32,
    pub percent_used: u32,
    pub cycles_per_day: u32,
    /// Otherwise it is what the policy's windows cost.
    pub is_measured: bool,
    pub days_left: u32,
    /// When a tenth is left.
    pub replace_by: String,
    pub days_to_replace: u32,
    /// The time has come.
    pub is_due: bool,
}

/// The certificate this terminal shows.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct CertificateReport {
    pub serial: String,
    pub from: String,
    pub until: String,
    /// When it is renewed by itself; earlier if the authority asks for it.
    pub renewed_from: Option<String>,
    pub is_renewing: bool,
}

/// The roots this terminal trusts.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct TrustReport {
    /// Of the bundle that is followed; 0 while only the pinned root is trusted.
    pub sequence: u64,
    /// Fingerprint and end of each.
    pub roots: Vec<String>,
}

impl Health {
    pub fn report(&self) -> Report {
        let board = self.board.borrow().clone();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let footing = self.line.now();
        let kept = self.kept.borrow().clone();
        self.certificate(&footing, &mut problems, &mut warnings);
        let troubles = kept.troubles.iter().map(|t| t.words.clone());
        warnings.extend(troubles.map(|words| format!("Upkeep: {words}")));
        for channel in [&board.faces.qr, &board.faces.code] {
            problems.extend(
                channel
                    .as_ref()
                    .err()
                    .map(|blank| format!("Blank: {blank}.")),
            );
        }
        problems.dedup();
        if let crate::shown::Shown::OutOfService { reason } = &board.shown {
            problems.push(reason.clone());
        }
        if !board.online {
            warnings.push("No connection to the authority: nothing is confirmed here.".into());
            let away = board.away.as_ref();
            warnings.extend(away.map(|away| format!("Network: {}", away.words)));
        }
        let outbox = self.outbox(&mut problems, &mut warnings);
        let tag = self.tag_report(&board, &mut problems);
        let tag_problem = tag.as_ref().and_then(|tag| tag.problem.as_ref());
        warnings.extend(tag_problem.map(|problem| format!("Tag: {problem}.")));
        let budget = tag
            .as_ref()
            .and_then(|tag| tag.wear.as_ref()?.budget.as_ref());
        warnings.extend(budget.and_then(BudgetReport::warning));
        let theme = self.look.trouble.as_ref();
        warnings.extend(theme.map(|trouble| format!("Theme: {trouble}")));
        let display = self.display.borrow().clone();
        warnings.extend(display.map(|trouble| format!("Customer display: {trouble}")));
        Report {
            ready: problems.is_empty(),
            terminal: board.terminal.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            shown: board.shown.name().into(),
            online: board.online,
            horizon: HorizonReport::of(board.now, board.horizon),
            clock: ClockReport {
                is_heard: self.clock.is_heard(),
                offset_ms: self.clock.offset_ms(),
            },
            certificate: CertificateReport::of(&footing, &kept),
            trust: TrustReport::of(&footing),
            outbox,
            tag,
            problems,
            warnings,
        }
    }

    fn certificate(
        &self,
        footing: &Footing,
        problems: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) {
        match footing.identity.lasts(self.clock.now_or_wall()) {
            Lasts::Long => {}
            Lasts::Expiring { until } => warnings.push(expiring(until)),
            Lasts::Expired { since } => problems.push(expired(since)),
        }
    }

    fn outbox(&self, problems: &mut Vec<String>, warnings: &mut Vec<String>) -> OutboxReport {
        let waiting = kept(self.state.outbox_length(), problems);
        if let Some(length) = waiting.filter(|length| *length >= OUTBOX_WARN) {
            warnings.push(format!(
                "{length} reports wait for the authority; at {OUTBOX_MAX} no more are kept."
            ));
        }
        let Withheld {
            waiting: in_memory,
            lost,
            cycles,
        } = self.state.withheld();
        if in_memory > 0 {
            warnings.push(format!(
                "The disk is full: {in_memory} reports wait in memory, and a power cut would take them. \
                 Next: free some space on the disk of the data directory."
            ));
        }
        if cycles > 0 {
            warnings.push(format!(
                "{cycles} writes of the tag are counted in memory only, and a power cut would take them. \
                 Next: see that the disk of the data directory can be written and has free space."
            ));
        }
        if lost > 0 {
            warnings.push(format!(
                "{lost} reports of taps and tags are lost since the start, because disk or outbox was full."
            ));
        }
        OutboxReport {
            waiting,
            max: OUTBOX_MAX,
            in_memory,
            lost,
        }
    }

    fn tag_report(&self, board: &Board, problems: &mut Vec<String>) -> Option<TagReport> {
        let status = self.tag.as_ref()?.status();
        let last = kept(self.state.last_tag(), problems).flatten();
        Some(TagReport {
            reader: status.reader,
            problem: status.problem,
            wear: last.map(|tag| WearReport {
                budget: Some(BudgetReport::of(&tag, board, self.clock.now_or_wall())),
                uid: tag.uid,
                writes: tag.writes,
                pages: tag.pages,
            }),
        })
    }
}

/// What the database says; that it says nothing is a problem.
fn kept<T>(read: Result<T, StateError>, problems: &mut Vec<String>) -> Option<T> {
    let problem = |error: StateError| format!("{error}. Next: {}.", error.hint());
    read.map_err(|error| problems.push(problem(error))).ok()
}

impl BudgetReport {
    fn of(tag: &CountedTag, board: &Board, now: Timestamp) -> Self {
        let wear = tag.wear(board.nfc.as_ref());
        let lasts = wear.lasts(now);
        Self {
            cycles: wear.cycles,
            endurance: wear.endurance,
            percent_used: wear.percent_used(),
            cycles_per_day: wear.cycles_per_day,
            is_measured: tag.is_measured(),
            days_left: lasts.days_left,
            replace_by: lasts.replace_by.to_string(),
            days_to_replace: lasts.days_to_replace,
            is_due: wear.is_due(),
        }
    }

    /// What to tell while there is time to do it, in words.
    pub fn warning(&self) -> Option<String> {
        if !self.is_due && self.days_to_replace >= REPLACE_WARN_DAYS {
            return None;
        }
        let (days, used) = (self.days_left, self.percent_used);
        let lasts = match days {
            0 => "it is written until it fails, and QR and code go on".to_owned(),
            _ => format!("it lasts about {days} days more at this pace"),
        };
        Some(format!(
            "Tag: {used} % of its writes are used; {lasts}. Next: replace it by {}.",
            self.replace_by.get(..10).unwrap_or(&self.replace_by)
        ))
    }
}

impl HorizonReport {
    fn of(now: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self {
            until: until.map(|until| until.to_string()),
            left_s: now.zip(until).map(|(now, until)| (until - now) / 1000),
        }
    }
}

impl CertificateReport {
    fn of(footing: &Footing, kept: &Kept) -> Self {
        let identity = &footing.identity;
        Self {
            serial: identity.leaf().serial_hex(),
            from: identity.not_before().to_string(),
            until: identity.not_after().to_string(),
            renewed_from: kept.renews_at.map(|at| at.to_string()),
            is_renewing: kept.is_renewing,
        }
    }
}

impl TrustReport {
    fn of(footing: &Footing) -> Self {
        let until = |seconds: u64| Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        let line = |root: &Certificate| {
            format!("{} until {}", root.fingerprint(), until(root.not_after()))
        };
        Self {
            sequence: footing.trust.sequence(),
            roots: footing.trust.roots().iter().map(line).collect(),
        }
    }
}

//! Is the agent alive, and can this terminal take a payment?

use std::sync::Arc;

use pki::Certificate;
use protocol::time::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::authority::line::{Footing, Line};
use crate::clock::Clock;
use crate::core::Board;
use crate::driver::{expired, expiring};
use crate::identity::Lasts;
use crate::look::Look;
use crate::state::{OUTBOX_MAX, State};
use crate::tag_writer::TagWriter;
use crate::upkeep_driver::Kept;

/// From this share of the outbox on, readiness warns.
pub const OUTBOX_WARN: u64 = OUTBOX_MAX / 2;

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

/// Readiness in words.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    pub ready: bool,
    pub terminal: String,
    pub shown: &'static str,
    pub online: bool,
    pub certificate: CertificateReport,
    pub trust: TrustReport,
    /// What stands in the way of payments.
    pub problems: Vec<String>,
    /// What will, or what works only in part.
    pub warnings: Vec<String>,
}

/// The certificate this terminal shows.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct CertificateReport {
    pub serial: String,
    pub from: String,
    pub until: String,
    /// When it is renewed by itself; earlier if the authority asks for it.
    pub renewed_from: Option<String>,
    pub is_renewing: bool,
}

/// The roots this terminal trusts.
#[derive(Debug, Serialize, PartialEq, Eq)]
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
        }
        self.storage(&mut problems, &mut warnings);
        let tag = self.tag.as_ref().and_then(|tag| tag.status().problem);
        warnings.extend(tag.map(|problem| format!("Tag: {problem}.")));
        let theme = self.look.trouble.as_ref();
        warnings.extend(theme.map(|trouble| format!("Theme: {trouble}")));
        let display = self.display.borrow().clone();
        warnings.extend(display.map(|trouble| format!("Customer display: {trouble}")));
        Report {
            ready: problems.is_empty(),
            terminal: board.terminal.to_string(),
            shown: board.shown.name(),
            online: board.online,
            certificate: CertificateReport::of(&footing, &kept),
            trust: TrustReport::of(&footing),
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

    fn storage(&self, problems: &mut Vec<String>, warnings: &mut Vec<String>) {
        match self.state.outbox_length() {
            Ok(length) if length >= OUTBOX_WARN => warnings.push(format!(
                "{length} reports wait for the authority; at {OUTBOX_MAX} no more are kept."
            )),
            Ok(_) => {}
            Err(error) => problems.push(format!("{error}. Next: {}.", error.hint())),
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

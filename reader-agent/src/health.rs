//! Is the agent alive, and can this terminal take a payment?

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::core::Board;
use crate::driver::{expired, expiring};
use crate::identity::{Identity, Lasts};
use crate::state::{OUTBOX_MAX, State};
use crate::tag_writer::TagWriter;

/// From this share of the outbox on, readiness warns.
pub const OUTBOX_WARN: u64 = OUTBOX_MAX / 2;

/// What readiness is computed from.
#[derive(Clone)]
pub struct Health {
    pub board: watch::Receiver<Board>,
    pub identity: Arc<Identity>,
    pub clock: Arc<Clock>,
    pub state: Arc<State>,
    pub tag: Option<Arc<dyn TagWriter>>,
}

/// Readiness in words.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    pub ready: bool,
    pub terminal: String,
    pub shown: &'static str,
    pub online: bool,
    pub certificate_until: String,
    /// What stands in the way of payments.
    pub problems: Vec<String>,
    /// What will, or what works only in part.
    pub warnings: Vec<String>,
}

impl Health {
    pub fn report(&self) -> Report {
        let board = self.board.borrow().clone();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        self.certificate(&mut problems, &mut warnings);
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
        Report {
            ready: problems.is_empty(),
            terminal: board.terminal.to_string(),
            shown: board.shown.name(),
            online: board.online,
            certificate_until: self.identity.not_after().to_string(),
            problems,
            warnings,
        }
    }

    fn certificate(&self, problems: &mut Vec<String>, warnings: &mut Vec<String>) {
        match self.identity.lasts(self.clock.now_or_wall()) {
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

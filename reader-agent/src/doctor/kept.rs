//! What does this terminal hold, and how long does it last?

use std::sync::Arc;

use protocol::time::{Millis, Timestamp};

use super::network::Reached;
use super::{Finding, Mover};
use crate::app::DATABASE;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::core::Core;
use crate::error::AgentError;
use crate::health::{OUTBOX_WARN, Report};
use crate::identity::disk::IdentityFiles;
use crate::identity::{Identity, Lasts};
use crate::spell;
use crate::state::{OUTBOX_MAX, State};
use crate::trust::{Trust, TrustFiles};

/// A clock that is this wrong confuses people who read logs and receipts.
const CLOCK_OFF_MS: Millis = 30_000;
/// A clock that is this wrong was set wrong: after a restart offline it shows nothing.
const CLOCK_WRONG_MS: Millis = 3_600_000;
/// Less than this is not enough for somebody to come and look.
const HORIZON_LOW_MS: Millis = 2 * 3_600_000;

/// The terminal's files, read without changing them.
pub(super) struct Kept {
    pub(super) identity: Result<Identity, AgentError>,
    pub(super) trust: Result<Trust, AgentError>,
    /// As the last run remembered it.
    pub(super) clock: Arc<Clock>,
    stock: Result<Option<Stock>, AgentError>,
}

/// What the database holds.
#[derive(Debug, Clone, Copy)]
struct Stock {
    /// Until when tokens can be shown; none if not even now.
    horizon: Option<Timestamp>,
    waiting: u64,
}

impl Kept {
    pub(super) fn read(config: &Config) -> Self {
        let dir = &config.data_dir;
        let state = State::look(&dir.join(DATABASE));
        let remembered = state.as_ref().ok().and_then(|state| state.as_ref());
        let remembered = remembered.and_then(|state| state.clock().ok().flatten());
        let clock = Arc::new(Clock::start(remembered));
        let stock = state.and_then(|state| {
            let read = |state: State| Stock::read(config, &state, clock.now());
            state.map(read).transpose()
        });
        Self {
            identity: IdentityFiles::in_dir(dir).look(),
            trust: TrustFiles::in_dir(dir).load(),
            clock,
            stock,
        }
    }
}

impl Stock {
    fn read(config: &Config, state: &State, now: Option<Timestamp>) -> Result<Self, AgentError> {
        let core = Core::resume(config.terminal, state.resume()?);
        Ok(Self {
            horizon: now.and_then(|now| core.horizon(now)),
            waiting: state.outbox_length()?,
        })
    }
}

/// Certificate, clock, horizon and reports: what the running agent says counts more than its files.
pub(super) fn judge(kept: &Kept, report: Option<&Report>, reached: &Reached) -> Vec<Finding> {
    let offset = offset(kept, report, reached);
    let now = clock::wall() + offset.unwrap_or(0);
    let is_connected = match report {
        Some(report) => report.online,
        None => matches!(reached, Reached::Answers { .. }),
    };
    let mut found = vec![certificate(&kept.identity, report, now), clock_of(offset)];
    match (&kept.stock, report) {
        (Err(error), _) => found.push(Finding::broken(
            "database",
            error.to_string(),
            Mover::Installer,
            error.hint(),
        )),
        (Ok(stock), report) => {
            let left = left(stock.as_ref(), report, now);
            found.push(horizon(left, is_connected));
            let waiting = report.and_then(|report| report.outbox.waiting);
            let waiting = waiting.or(stock.map(|stock| stock.waiting));
            found.push(reports(waiting.unwrap_or(0)));
        }
    }
    found
}

/// Authority's clock minus this machine's, from the best source there is.
fn offset(kept: &Kept, report: Option<&Report>, reached: &Reached) -> Option<Millis> {
    let heard = report.filter(|report| report.clock.is_heard);
    let heard = heard.and_then(|report| report.clock.offset_ms);
    heard.or(reached.offset_ms()).or(kept.clock.offset_ms())
}

fn left(stock: Option<&Stock>, report: Option<&Report>, now: Timestamp) -> Millis {
    match report {
        Some(report) => report.horizon.left_s.unwrap_or(0) * 1000,
        None => stock
            .and_then(|stock| stock.horizon)
            .map_or(0, |until| until - now),
    }
}

fn certificate(
    identity: &Result<Identity, AgentError>,
    report: Option<&Report>,
    now: Timestamp,
) -> Finding {
    const SUBJECT: &str = "certificate";
    let identity = match identity {
        Ok(identity) => identity,
        Err(error) => {
            return Finding::broken(SUBJECT, error.to_string(), Mover::Installer, error.hint());
        }
    };
    match identity.lasts(now) {
        Lasts::Long => {
            let renewed = report.and_then(|report| report.certificate.renewed_from.clone());
            let renewed = renewed.map(|from| format!(", and renews itself from {from}"));
            let (until, renewed) = (identity.not_after(), renewed.unwrap_or_default());
            Finding::ok(SUBJECT, format!("good until {until}{renewed}"))
        }
        Lasts::Expiring { until } => Finding::attention(
            SUBJECT,
            format!(
                "ends in {} ({until}) and should have renewed itself",
                spell::span(until - now)
            ),
            Mover::Merchant,
            "see network; with the agent running and connected it renews itself within minutes",
        ),
        Lasts::Expired { since } => Finding::broken(
            SUBJECT,
            format!("ended {} ago ({since})", spell::span(now - since)),
            Mover::Merchant,
            "see network; connected, it renews itself; if that is refused, ask the operator of the \
             payment service for a join token",
        ),
    }
}

fn clock_of(offset: Option<Millis>) -> Finding {
    const SUBJECT: &str = "clock";
    const FIX: &str = "set date and time of this PC to automatic";
    let Some(offset) = offset else {
        return Finding::attention(
            SUBJECT,
            "it is not known what time it is at the authority",
            Mover::Nobody,
            "see network; the authority says it as soon as it is reached",
        );
    };
    let which = if offset < 0 { "fast" } else { "slow" };
    let says = format!("this PC's clock is {} {which}", spell::span(offset));
    match offset.saturating_abs() {
        CLOCK_WRONG_MS.. => Finding::broken(SUBJECT, says, Mover::Merchant, FIX),
        CLOCK_OFF_MS.. => Finding::attention(SUBJECT, says, Mover::Merchant, FIX),
        _ => Finding::ok(SUBJECT, "this PC's clock agrees with the authority's"),
    }
}

fn horizon(left: Millis, is_connected: bool) -> Finding {
    const SUBJECT: &str = "horizon";
    let lasts = format!("{} without the authority", spell::span(left));
    match left {
        ..=0 if is_connected => Finding::attention(
            SUBJECT,
            "there are no tokens to show yet",
            Mover::Nobody,
            "they come with the connection, once the agent runs; look again in a minute",
        ),
        ..=0 => Finding::broken(
            SUBJECT,
            "there are no tokens to show, and the authority is away",
            Mover::Merchant,
            "see network; everything else follows by itself",
        ),
        ..HORIZON_LOW_MS if !is_connected => Finding::attention(
            SUBJECT,
            format!("this terminal lasts {lasts}"),
            Mover::Merchant,
            "see network before that time is over",
        ),
        _ => Finding::ok(SUBJECT, format!("this terminal would last {lasts}")),
    }
}

fn reports(waiting: u64) -> Finding {
    const SUBJECT: &str = "reports";
    let says = format!("{waiting} of at most {OUTBOX_MAX} wait for the authority");
    let fix = "see network; they go by themselves, and nothing must be deleted by hand";
    match waiting {
        OUTBOX_MAX.. => Finding::broken(SUBJECT, says, Mover::Merchant, fix),
        OUTBOX_WARN.. => Finding::attention(SUBJECT, says, Mover::Merchant, fix),
        _ => Finding::ok(SUBJECT, says),
    }
}

#[cfg(test)]
mod tests {
    use pki::SoftwareKey;

    use super::super::Verdict::{Attention, Broken, Ok as Fine};
    use super::*;
    use crate::testing::authority::{Ca, FRESH};

    #[test]
    fn a_wrong_clock_is_said_with_its_direction_and_an_unknown_one_wants_attention() {
        let judged = |ms| clock_of(ms).verdict;
        assert_eq!(judged(Some(CLOCK_OFF_MS - 1)), Fine);
        assert_eq!(judged(Some(-CLOCK_OFF_MS)), Attention);
        assert_eq!(judged(Some(CLOCK_WRONG_MS)), Broken);
        assert_eq!(judged(None), Attention);
        assert!(clock_of(Some(-183_000)).says.ends_with("3 min 3 s fast"));
        assert!(clock_of(Some(183_000)).says.ends_with("3 min 3 s slow"));
    }

    #[test]
    fn a_short_horizon_matters_only_while_the_authority_is_away() {
        assert_eq!(horizon(HORIZON_LOW_MS - 1, true).verdict, Fine);
        assert_eq!(horizon(HORIZON_LOW_MS - 1, false).verdict, Attention);
        assert_eq!(horizon(HORIZON_LOW_MS, false).verdict, Fine);
        assert_eq!(horizon(0, true).verdict, Attention);
        assert_eq!(horizon(-1, false).verdict, Broken);
    }

    #[test]
    fn a_full_outbox_is_broken_and_nobody_is_told_to_delete_it() {
        assert_eq!(reports(OUTBOX_WARN - 1).verdict, Fine);
        assert_eq!(reports(OUTBOX_WARN).verdict, Attention);
        assert_eq!(reports(OUTBOX_MAX).verdict, Broken);
        let fix = reports(OUTBOX_MAX).fix.unwrap();
        assert!(fix.what.contains("nothing must be deleted"), "{fix:?}");
    }

    #[test]
    fn a_certificate_is_fine_until_its_last_quarter_and_broken_after_its_end() {
        let key = SoftwareKey::generate().unwrap();
        let ca = Ca::new("A");
        let chain = vec![ca.terminal(&key, FRESH), ca.issuing.clone()];
        let identity = Identity::new(key, chain).unwrap();
        let (from, until) = (identity.not_before(), identity.not_after());
        let identity = Ok(identity);
        let judged = |now| certificate(&identity, None, now).verdict;
        assert_eq!(judged(from), Fine);
        assert_eq!(judged(until + -1), Attention);
        assert_eq!(judged(until + 1), Broken);
        let lost = Err(AgentError::operator("agent.pem is gone", "enrol again"));
        assert_eq!(certificate(&lost, None, from).verdict, Broken);
    }
}

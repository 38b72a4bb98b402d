//! What can an operator see from outside?

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::core::Board;
use crate::rotation::Faces;
use crate::tag_writer::TagVisit;
use protocol::token::Channel;
use protocol::wear::{Lasts, TagWear};

/// Everything under `m2key_agent_`.
pub struct Metrics {
    registry: Registry,
    faces: IntCounterVec,
    tag_writes: IntCounter,
    tag_pages: IntCounter,
    tag_failures: IntCounterVec,
    tag_in_order: IntGauge,
    taps: IntCounter,
    tag_cycles_left: IntGauge,
    tag_days_left: IntGauge,
    tag_replace: IntGauge,
    reconnects: IntCounter,
    storage_failures: IntCounter,
    horizon: IntGauge,
    offset: IntGauge,
    outbox: IntGauge,
    online: IntGauge,
    certificate: IntGauge,
    renewal: IntGauge,
    renewals: IntCounterVec,
    trust: IntGauge,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        Self {
            faces: counters(r, "face_changes_total", "Tokens shown anew", "channel"),
            tag_writes: counter(r, "tag_writes_total", "Visits that programmed the tag"),
            tag_pages: counter(r, "tag_pages_total", "Pages programmed: wear"),
            tag_failures: counters(r, "tag_failures_total", "Visits that failed", "kind"),
            tag_in_order: gauge(
                r,
                "tag_in_order",
                "1 while the tag lies there and was written last as it should be",
            ),
            taps: counter(r, "taps_total", "Reads of the tag by phones"),
            tag_cycles_left: gauge(
                r,
                "tag_cycles_left",
                "Programming cycles that the tag's data sheet still promises",
            ),
            tag_days_left: gauge(r, "tag_days_left", "How long they last at the present pace"),
            tag_replace: gauge(
                r,
                "tag_replace_by_seconds",
                "When a tenth of them is left, Unix time",
            ),
            reconnects: counter(r, "push_lost_total", "Push streams that ended"),
            storage_failures: counter(r, "storage_failures_total", "Facts that were not kept"),
            horizon: gauge(
                r,
                "schedule_horizon_seconds",
                "How far the schedule reaches",
            ),
            offset: gauge(
                r,
                "clock_offset_milliseconds",
                "Authority's clock minus this one's",
            ),
            outbox: gauge(
                r,
                "outbox_length",
                "Reports the authority does not have yet",
            ),
            online: gauge(r, "online", "1 while the push stream is up"),
            certificate: gauge(
                r,
                "certificate_seconds",
                "Until the own certificate expires",
            ),
            renewal: gauge(
                r,
                "certificate_renewal_seconds",
                "Until the own certificate is renewed by itself",
            ),
            renewals: counters(
                r,
                "certificate_renewals_total",
                "Steps of renewals that ended one",
                "outcome",
            ),
            trust: gauge(r, "trust_sequence", "The trust bundle that is followed"),
            registry,
        }
    }

    /// Compares two boards and counts what changed.
    pub fn board_changed(&self, before: &Faces, after: &Board) {
        for channel in Channel::ALL {
            if let Ok(face) = after.faces.of(channel)
                && !matches!(before.of(channel), Ok(old) if old.is_token_of(face))
            {
                self.faces.with_label_values(&[channel.name()]).inc();
            }
        }
        self.online.set(i64::from(after.online));
    }

    pub fn tag_visited(&self, visit: &TagVisit) {
        self.tag_writes.inc_by(u64::from(visit.pages > 0));
        self.tag_pages.inc_by(u64::from(visit.pages));
        self.taps.inc_by(u64::from(visit.taps.unwrap_or(0)));
    }

    pub fn tag_wear(&self, wear: &TagWear, lasts: Lasts) {
        self.tag_cycles_left.set(wear.left().into());
        self.tag_days_left.set(lasts.days_left.into());
        self.tag_replace.set(lasts.replace_by.secs());
    }

    pub fn tag_failed(&self, kind: &str) {
        self.tag_failures.with_label_values(&[kind]).inc();
    }

    pub fn tag_in_order(&self, is_so: bool) {
        self.tag_in_order.set(i64::from(is_so));
    }

    pub fn push_lost(&self) {
        self.reconnects.inc();
    }

    pub fn storage_failed(&self) {
        self.storage_failures.inc();
    }

    pub fn times(&self, horizon_s: i64, offset_ms: i64, certificate_s: i64) {
        self.horizon.set(horizon_s);
        self.offset.set(offset_ms);
        self.certificate.set(certificate_s);
    }

    pub fn renewal(&self, outcome: &str) {
        self.renewals.with_label_values(&[outcome]).inc();
    }

    pub fn upkeep(&self, renewal_s: i64, trust_sequence: u64) {
        self.renewal.set(renewal_s);
        self.trust
            .set(i64::try_from(trust_sequence).unwrap_or(i64::MAX));
    }

    pub fn outbox(&self, length: u64) {
        self.outbox.set(length as i64);
    }

    /// The text exposition format.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut out)
            .expect("writing to memory does not fail");
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const UNIQUE: &str = "each metric is registered once under its own valid name";

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("m2key_agent_{name}"), help)
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let made = IntCounter::with_opts(opts(name, help)).expect(UNIQUE);
    registry.register(Box::new(made.clone())).expect(UNIQUE);
    made
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let made = IntGauge::with_opts(opts(name, help)).expect(UNIQUE);
    registry.register(Box::new(made.clone())).expect(UNIQUE);
    made
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> IntCounterVec {
    let made = IntCounterVec::new(opts(name, help), &[label]).expect(UNIQUE);
    registry.register(Box::new(made.clone())).expect(UNIQUE);
    made
}

//! What can be seen from outside of every step of the journey?
//!
//! One registry per process, one field per fact; the names are in `docs/OPERATIONS.md`.

use std::sync::Arc;

use hsm::HealthState;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use crate::store::ReplicaState;

const PREFIX: &str = "m2key_authority_";
/// From a hundred microseconds to ten seconds.
const BUCKETS_S: [f64; 12] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// Every metric of the authority.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// By listener, route and status.
    pub http_requests: IntCounterVec,
    pub http_seconds: HistogramVec,
    /// By listener and why.
    pub connections_refused: IntCounterVec,
    /// By listener.
    pub connections_open: prometheus::IntGaugeVec,
    /// By listener: as many it takes.
    pub connections_max: prometheus::IntGaugeVec,
    /// By operation and outcome.
    pub hsm_operations: IntCounterVec,
    /// By operation.
    pub hsm_seconds: HistogramVec,
    /// By HSM token and command.
    pub hsm_commands: IntCounterVec,
    /// By HSM token: 0 down, 1 recovering, 2 degraded, 3 ready.
    pub hsm_state: prometheus::IntGaugeVec,
    /// By HSM token.
    pub hsm_queued: prometheus::IntGaugeVec,
    /// The signer: 0 down, 1 degraded, 2 ready.
    pub issuer_state: IntGauge,
    /// By whose: Unix seconds.
    pub certificate_ends: prometheus::IntGaugeVec,
    /// Of the list of roots in force.
    pub trust_sequence: IntGauge,
    /// By listener and outcome.
    pub credentials: IntCounterVec,
    /// By outcome.
    pub enrolments: IntCounterVec,
    pub renewals: IntCounterVec,
    /// By reason.
    pub revocations: IntCounterVec,
    /// By outcome.
    pub crls: IntCounterVec,
    /// By kind: what is neither over, superseded nor revoked.
    pub certificates_in_force: prometheus::IntGaugeVec,
    /// By kind: Unix seconds at which the first of them ends.
    pub certificates_first_end: prometheus::IntGaugeVec,
    /// By channel and outcome.
    pub claims: IntCounterVec,
    /// By outcome.
    pub payments: IntCounterVec,
    /// By rail and the state they came into.
    pub intents: IntCounterVec,
    /// By rail and state: what no rail has ended yet.
    pub intents_open: prometheus::IntGaugeVec,
    /// Of the oldest open intent.
    pub intent_oldest_seconds: IntGauge,
    /// By rail, what was asked for, and outcome.
    pub rail_calls: IntCounterVec,
    /// By rail.
    pub rail_seconds: HistogramVec,
    pub receipts: IntCounterVec,
    pub refunds: IntCounterVec,
    /// Merchants' PINs.
    pub pins: IntCounterVec,
    pub settlements: IntCounterVec,
    /// Calls of merchants' webhooks.
    pub notices: IntCounterVec,
    /// Given up until an operator has them tried again; each is an alarm.
    pub notices_parked: IntGauge,
    /// Merchants whose day cannot be closed because it does not add up to the ledger.
    pub books_differ: IntGauge,
    pub schedules: IntCounterVec,
    pub charges: IntCounterVec,
    pub sign_ins: IntCounterVec,
    pub browser_sign_ins: IntCounterVec,
    pub reports: IntCounterVec,
    /// Reads of tags by phones, as terminals told of them.
    pub taps: IntCounter,
    /// By kind.
    pub tag_alarms_open: prometheus::IntGaugeVec,
    /// By what was swept.
    pub sweeps: IntCounterVec,
    pub checkpoints: IntCounterVec,
    pub push_streams: IntGauge,
    pub push_frames: IntCounter,
    /// Streams cut because their reader took nothing.
    pub push_slow_readers: IntCounter,
    /// A second key or a second stream of one terminal.
    pub clone_alarms: IntCounter,
    pub code_misses: IntCounter,
    /// Minutes in which misses were many.
    pub guessing_alarms: IntCounter,
    /// By what was asked for: requests of an address that asks too often.
    pub throttled: IntCounterVec,
    /// By outcome: assertions of passkeys.
    pub step_ups: IntCounterVec,
    /// Passkeys whose counter went back.
    pub passkey_alarms: IntCounter,
    /// By what became of it.
    pub sms_texts: IntCounterVec,
    /// By outcome.
    pub sms_payments: IntCounterVec,
    pub sms_sent: IntCounterVec,
    /// SMS that the gateway has not taken yet.
    pub sms_waiting: IntGauge,
    /// By outcome.
    pub adoptions: IntCounterVec,
    /// Checkpoints shown that the database does not contain.
    pub fence_alarms: IntCounter,
    /// Shown by terminals, ahead of the database, and under a key that nobody knows here.
    pub unknown_checkpoints: IntCounter,
    /// That commits wait for, where a standby is configured.
    pub standbys: IntGauge,
    /// By host: how far behind it is at most; nothing while that is not known.
    pub replica_lag_seconds: prometheus::GaugeVec,
    /// By host: 1 while what may lag is read from it.
    pub replica_usable: prometheus::IntGaugeVec,
    /// By host: reads that failed there, and were done at the primary.
    pub replica_reads_failed: prometheus::IntGaugeVec,
    /// No token of an epoch below it is accepted.
    pub epoch_fence: IntGauge,
    /// Spent tokens and turns in no day's place.
    pub rows_without_day: IntGauge,
    /// 1 while nothing is served.
    pub fenced: IntGauge,
    /// By purpose and label of keys in the HSM: seconds since it was made.
    pub key_age: prometheus::IntGaugeVec,
    /// 0 prepared, 1 active, 2 superseded, 3 tainted, 4 retired.
    pub key_state: prometheus::IntGaugeVec,
    /// When its next step is due, Unix seconds; 0: never.
    pub key_due: prometheus::IntGaugeVec,
    /// Terminals that wait for a new seed of the operation in hand.
    pub seeds_to_replace: IntGauge,
    /// Tags by the days until they are to be replaced, each counted once, with the first that holds.
    pub tags_to_replace: prometheus::IntGaugeVec,
    /// From the call of a writing verb to its durable commit.
    pub store_write_seconds: Histogram,
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        let make = Make(&registry);
        Arc::new(Self {
            http_requests: make.counters(
                "http_requests_total",
                "Requests answered",
                &["listener", "route", "status"],
            ),
            http_seconds: make.histograms(
                "http_request_seconds",
                "Time to answer a request",
                &["listener", "route"],
            ),
            connections_refused: make.counters(
                "connections_refused_total",
                "Connections that never became requests",
                &["listener", "reason"],
            ),
            connections_open: make.gauges(
                "connections_open",
                "Connections open now",
                &["listener"],
            ),
            connections_max: make.gauges(
                "connections_max",
                "Connections that are taken at once",
                &["listener"],
            ),
            hsm_operations: make.counters(
                "hsm_operations_total",
                "Requests to the HSM",
                &["operation", "outcome"],
            ),
            hsm_seconds: make.histograms(
                "hsm_operation_seconds",
                "Time of a request to the HSM, queue included",
                &["operation"],
            ),
            hsm_commands: make.counters(
                "hsm_commands_total",
                "Commands that went to the device",
                &["token", "command"],
            ),
            hsm_state: make.gauges(
                "hsm_state",
                "0 down, 1 recovering, 2 degraded, 3 ready",
                &["token"],
            ),
            hsm_queued: make.gauges("hsm_queued", "Requests waiting for the HSM", &["token"]),
            issuer_state: make.gauge("issuer_state", "0 down, 1 degraded, 2 ready"),
            certificate_ends: make.gauges(
                "certificate_ends_seconds",
                "When a certificate in use ends, Unix time",
                &["certificate"],
            ),
            trust_sequence: make.gauge("trust_sequence", "The list of trusted roots in force"),
            credentials: make.counters(
                "credentials_total",
                "Certificates of listeners taken up, renewed or refused",
                &["listener", "outcome"],
            ),
            enrolments: make.outcomes("enrolments_total", "Certificate requests of terminals"),
            renewals: make.outcomes("renewals_total", "Renewals asked for by terminals"),
            revocations: make.counters(
                "revocations_total",
                "Certificates revoked, and bans",
                &["reason"],
            ),
            crls: make.outcomes("crls_total", "Revocation lists"),
            certificates_in_force: make.gauges(
                "certificates_in_force",
                "Certificates neither over, superseded nor revoked",
                &["kind"],
            ),
            certificates_first_end: make.gauges(
                "certificates_first_end_seconds",
                "When the first certificate in force ends, Unix time",
                &["kind"],
            ),
            claims: make.counters("claims_total", "Tokens presented", &["channel", "outcome"]),
            payments: make.outcomes("payments_total", "Approvals carried out or refused"),
            intents: make.counters(
                "intents_total",
                "Payments on outside rails, by the state they came into",
                &["rail", "state"],
            ),
            intents_open: make.gauges(
                "intents_open",
                "Payments on outside rails that no rail has ended yet",
                &["rail", "state"],
            ),
            intent_oldest_seconds: make.gauge(
                "intent_oldest_seconds",
                "Age of the oldest open payment on an outside rail; 0: none is open",
            ),
            rail_calls: make.counters(
                "rail_calls_total",
                "Calls to outside rails",
                &["rail", "call", "outcome"],
            ),
            rail_seconds: make.histograms(
                "rail_seconds",
                "Time from a call of an outside rail to its answer",
                &["rail"],
            ),
            receipts: make.outcomes("receipts_total", "Receipts signed and stored"),
            refunds: make.outcomes("refunds_total", "Refunds carried out or refused"),
            pins: make.outcomes("pins_total", "Merchants' PINs presented"),
            settlements: make.outcomes("settlements_total", "Business days closed or refused"),
            notices: make.outcomes("notices_total", "Calls of merchants' webhooks"),
            notices_parked: make.gauge(
                "notices_parked",
                "Notices that merchants could not be told; each is an alarm",
            ),
            books_differ: make.gauge(
                "books_differ",
                "Merchants whose day does not add up to the ledger; each is an alarm",
            ),
            schedules: make.outcomes("schedules_total", "Schedules asked for"),
            charges: make.outcomes("charges_total", "Charges of tills"),
            sign_ins: make.outcomes("sign_ins_total", "Access tokens presented"),
            browser_sign_ins: make.counters(
                "browser_sign_ins_total",
                "Sign-ins of browsers that began, and that came back",
                &["step", "outcome"],
            ),
            reports: make.outcomes("reports_total", "Events reported by terminals"),
            taps: make.counter("taps_total", "Reads of tags by phones, as terminals told"),
            tag_alarms_open: make.gauges(
                "tag_alarms_open",
                "Tags and claims that do not fit together, until an operator closes them",
                &["kind"],
            ),
            sweeps: make.counters("sweeps_total", "Overdue things put right", &["what"]),
            checkpoints: make.outcomes("checkpoints_total", "Audit checkpoints"),
            push_streams: make.gauge("push_streams", "Terminals listening now"),
            clone_alarms: make.counter(
                "clone_alarms_total",
                "Terminals that were in two places at once",
            ),
            push_frames: make.counter("push_frames_total", "States pushed to terminals"),
            push_slow_readers: make.counter(
                "push_slow_readers_total",
                "Streams cut because their terminal took nothing",
            ),
            code_misses: make.counter("code_misses_total", "Typed codes that fit no window"),
            guessing_alarms: make.counter(
                "guessing_alarms_total",
                "Minutes in which typed codes missed suspiciously often",
            ),
            throttled: make.counters(
                "throttled_total",
                "Requests of client addresses that ask too often",
                &["what"],
            ),
            step_ups: make.outcomes("step_ups_total", "Assertions of passkeys"),
            passkey_alarms: make
                .counter("passkey_alarms_total", "Passkeys whose counter went back"),
            sms_texts: make.outcomes("sms_texts_total", "Texts that the gateway brought"),
            sms_payments: make.outcomes("sms_payments_total", "Payments by SMS that ended"),
            sms_sent: make.outcomes("sms_sent_total", "SMS handed to the gateway"),
            sms_waiting: make.gauge("sms_waiting", "SMS that the gateway has not taken yet"),
            adoptions: make.outcomes(
                "adoptions_total",
                "Certificates that a restore had lost, when shown",
            ),
            fence_alarms: make.counter(
                "fence_alarms_total",
                "Checkpoints of ours that terminals showed and the database lacks",
            ),
            unknown_checkpoints: make.counter(
                "unknown_checkpoints_total",
                "Terminals that showed a later checkpoint under a key that is not known here",
            ),
            standbys: make.gauge(
                "standbys",
                "Synchronous standbys of PostgreSQL, where one is configured",
            ),
            replica_lag_seconds: make.fractions(
                "replica_lag_seconds",
                "How far behind a replica is at most",
                &["host"],
            ),
            replica_usable: make.gauges(
                "replica_usable",
                "1 while what may lag is read from it",
                &["host"],
            ),
            replica_reads_failed: make.gauges(
                "replica_reads_failed",
                "Reads that failed at a replica and were done at the primary",
                &["host"],
            ),
            epoch_fence: make.gauge("epoch_fence", "No token of an epoch below it is accepted"),
            rows_without_day: make.gauge(
                "rows_without_day",
                "Spent tokens and turns in no day's place; counted up to a few thousand",
            ),
            fenced: make.gauge(
                "fenced",
                "1 while the database is behind and nothing is served",
            ),
            key_age: make.gauges(
                "key_age_seconds",
                "How old a key in the HSM is",
                &["purpose", "label"],
            ),
            key_state: make.gauges(
                "key_state",
                "0 prepared, 1 active, 2 superseded, 3 tainted, 4 retired",
                &["purpose", "label"],
            ),
            key_due: make.gauges(
                "key_due_seconds",
                "When the next step of a key is due, Unix time; 0: never",
                &["purpose", "label"],
            ),
            seeds_to_replace: make.gauge(
                "seeds_to_replace",
                "Terminals that wait for a new seed of the operation in hand",
            ),
            tags_to_replace: make.gauges(
                "tags_to_replace",
                "Tags by the days until they are to be replaced; 0: overdue",
                &["within_days"],
            ),
            store_write_seconds: make.histogram(
                "store_write_seconds",
                "Time from a write to its durable commit",
            ),
            registry,
        })
    }

    /// Counts what one HSM token does.
    pub fn of_hsm_token(self: &Arc<Self>, name: &str) -> Arc<dyn hsm::Observer> {
        let command = |kind: &'static str| {
            let counter = self.hsm_commands.with_label_values(&[name, kind]);
            (kind, counter)
        };
        Arc::new(OfHsmToken {
            commands: hsm::COMMANDS.map(command),
            metrics: self.clone(),
        })
    }

    /// What is looked at rather than counted; `name` is that of an HSM token that serves alone.
    pub fn look_at_hsm(&self, name: &str, health: &hsm::Health) {
        if health.members.is_empty() {
            self.look_at_hsm_token(name, health);
        }
        for (name, health) in &health.members {
            self.look_at_hsm_token(name, health);
        }
    }

    fn look_at_hsm_token(&self, token: &str, health: &hsm::Health) {
        let state = match health.state {
            HealthState::Down => 0,
            HealthState::Recovering => 1,
            HealthState::Degraded => 2,
            HealthState::Ready => 3,
        };
        self.hsm_state.with_label_values(&[token]).set(state);
        let queued = i64::try_from(health.queued).unwrap_or(i64::MAX);
        self.hsm_queued.with_label_values(&[token]).set(queued);
    }

    /// The same of the issuing CA, as it was last seen.
    pub fn look_at_issuer(&self, health: &pki::IssuerHealth) {
        self.issuer_state.set(match health {
            pki::IssuerHealth::Down(_) => 0,
            pki::IssuerHealth::Degraded(_) => 1,
            pki::IssuerHealth::Ready => 2,
        });
    }

    /// The same of a copy of the database.
    pub fn look_at_replica(&self, replica: &ReplicaState) {
        let host = [replica.host.as_str()];
        match replica.lag_ms {
            Some(lag) => self
                .replica_lag_seconds
                .with_label_values(&host)
                .set(lag.max(0) as f64 / 1_000.0),
            // It may not be there: then there is nothing to take away.
            None => drop(self.replica_lag_seconds.remove_label_values(&host)),
        }
        let usable = i64::from(replica.is_current);
        self.replica_usable.with_label_values(&host).set(usable);
        let failed = i64::try_from(replica.failed).unwrap_or(i64::MAX);
        self.replica_reads_failed
            .with_label_values(&host)
            .set(failed);
    }

    /// The Prometheus text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        if let Err(error) = encoded {
            tracing::error!(%error, "metrics cannot be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// One HSM token as it is counted.
struct OfHsmToken {
    metrics: Arc<Metrics>,
    /// At hand, because there are many of them a second.
    commands: [(&'static str, IntCounter); hsm::COMMANDS.len()],
}

impl hsm::Observer for OfHsmToken {
    fn observe(&self, operation: &'static str, outcome: &'static str, seconds: f64) {
        let operations = &self.metrics.hsm_operations;
        operations.with_label_values(&[operation, outcome]).inc();
        let histogram = &self.metrics.hsm_seconds;
        histogram.with_label_values(&[operation]).observe(seconds);
    }

    fn command(&self, kind: &'static str) {
        let mut commands = self.commands.iter();
        if let Some((_, counter)) = commands.find(|(known, _)| *known == kind) {
            counter.inc();
        }
    }
}

struct Make<'a>(&'a Registry);

impl Make<'_> {
    fn outcomes(&self, name: &str, help: &str) -> IntCounterVec {
        self.counters(name, help, &["outcome"])
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::IntGaugeVec {
        self.register(prometheus::IntGaugeVec::new(opts(name, help), labels))
    }

    fn fractions(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::GaugeVec {
        self.register(prometheus::GaugeVec::new(opts(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(opts(name, help)))
    }

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        self.register(Histogram::with_opts(buckets(name, help)))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.register(HistogramVec::new(buckets(name, help), labels))
    }

    fn register<M>(&self, metric: prometheus::Result<M>) -> M
    where
        M: prometheus::core::Collector + Clone + 'static,
    {
        let metric = metric.expect("names and labels are constants of this file");
        self.0
            .register(Box::new(metric.clone()))
            .expect("every name of this file is used once");
        metric
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}{name}"), help)
}

fn buckets(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(BUCKETS_S.to_vec())
}

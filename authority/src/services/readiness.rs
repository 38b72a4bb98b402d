//! Can this authority serve, and if not, why?
//!
//! Computed from the HSM's health, a write to the store, and the certificates in use.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hsm::HealthState;
use pki::lifecycle::KeyState;
use pki::{Certificate, IssuerHealth};
use protocol::time::Timestamp;
use serde::Serialize;

use super::rotation::due;
use super::{issuing, neighbours};
use crate::app::App;
use crate::clock::{Stopwatch, unix_seconds};
use crate::services::crls::{CRL_LATE_MS, CRL_LIFE_MS};
use crate::services::operators::trust::states;

/// A certificate with less time left than this is a warning, not yet a reason.
pub const EXPIRY_WARNING_S: u64 = 7 * 24 * 3600;
/// The same for a root or an issuing CA: what hangs on it takes long to move.
pub const CA_EXPIRY_WARNING_S: u64 = 180 * 24 * 3600;

const NO_STANDBY: &str = "no synchronous standby streams from PostgreSQL, so what is committed is on one machine \
    only: start the standby, and name it in synchronous_standby_names";
/// A probe that takes longer found a store that nobody can work with.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// All looks at the store together: whoever asks for readiness is told in time, too.
const LOOKS_MAX: Duration = Duration::from_secs(7);

/// Ready, or the reasons why not; warnings do not make it less ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub reasons: Vec<String>,
    pub warnings: Vec<String>,
    pub at: Timestamp,
}

/// What each listener shows, kept by whoever serves it.
#[derive(Debug, Default)]
pub struct Watchlist(Mutex<BTreeMap<&'static str, Shown>>);

/// A certificate that is served, and what is wrong with the one that should take its place.
#[derive(Debug, Clone, Default)]
struct Shown {
    not_after: Option<u64>,
    /// Its own certificate first.
    chain: Vec<Certificate>,
    warning: Option<String>,
}

/// A certificate that this process serves with or believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    pub name: &'static str,
    /// Unix seconds.
    pub not_after: u64,
    /// How long before its end it is worth a warning.
    warning_s: u64,
}

impl Watchlist {
    /// This listener shows these certificates, its own first, which ends then (Unix seconds).
    pub fn shows(&self, listener: &'static str, not_after: u64, chain: Vec<Certificate>) {
        let mut all = self.lock();
        let shown = all.entry(listener).or_default();
        (shown.not_after, shown.chain) = (Some(not_after), chain);
    }

    /// What this listener shows, its own certificate first; nothing if nobody serves it here.
    pub fn chain(&self, listener: &str) -> Vec<Certificate> {
        let all = self.lock();
        all.get(listener)
            .map_or_else(Vec::new, |it| it.chain.clone())
    }

    /// What an operator has to look at, until it is taken back.
    pub fn warn(&self, listener: &'static str, warning: Option<String>) {
        self.lock().entry(listener).or_default().warning = warning;
    }

    /// What each listener shows.
    pub fn listeners(&self) -> Vec<Watched> {
        let watched = |(name, shown): (&&'static str, &Shown)| {
            shown.not_after.map(|not_after| Watched {
                name,
                not_after,
                warning_s: EXPIRY_WARNING_S,
            })
        };
        self.lock().iter().filter_map(watched).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at everything now.
pub async fn check(app: &App) -> Readiness {
    let now = app.clock.now();
    let mut readiness = Readiness {
        ready: false,
        reasons: Vec::new(),
        warnings: Vec::new(),
        at: now,
    };
    look_at_fence(app, &mut readiness);
    readiness.reasons.extend(neighbours::reasons(app));
    look_at_hsm("HSM", &app.hsm.health(), &mut readiness);
    look_at_issuer(app.issuer.health(), &mut readiness);
    let unbelieved = issuing::check(app).err();
    readiness
        .warnings
        .extend(unbelieved.map(|why| why.to_string()));
    if app.is_leaving() {
        readiness.reasons.push("the daemon is going down".into());
    }
    if neighbours::closed(app).is_none() {
        look_at_replicas(app, &mut readiness);
        look_at_store(app, now, &mut readiness).await;
    }
    for certificate in watched(app) {
        look_at_certificate(&certificate, unix_seconds(now), &mut readiness);
    }
    let shown: Vec<Shown> = app.watchlist.lock().values().cloned().collect();
    let warnings = shown.into_iter().filter_map(|shown| shown.warning);
    readiness.warnings.extend(warnings);
    let keys = app.keyring();
    readiness.warnings.extend(due::overdue(keys.records(), now));
    readiness
        .warnings
        .extend(app.operations.troubles_in_words());
    readiness.ready = readiness.reasons.is_empty();
    readiness
}

/// What only the database can say. A closed node does not wait for it to be told so.
async fn look_at_store(app: &App, now: Timestamp, readiness: &mut Readiness) {
    let looks = async {
        look_at_standby(app, readiness).await;
        look_at_writes(app, readiness).await;
        look_at_days(app, readiness).await;
        look_at_lists(app, now, readiness).await;
        look_at_operators(app, now, readiness).await;
    };
    if tokio::time::timeout(LOOKS_MAX, looks).await.is_err() {
        let secs = LOOKS_MAX.as_secs();
        readiness
            .reasons
            .push(format!("looking at the store takes longer than {secs} s"));
    }
}

async fn look_at_writes(app: &App, readiness: &mut Readiness) {
    let watch = Stopwatch::start();
    match tokio::time::timeout(PROBE_MAX, app.store.probe()).await {
        Ok(Ok(())) => app.metrics.store_write_seconds.observe(watch.seconds()),
        Ok(Err(error)) => readiness.reasons.push(error.to_string()),
        Err(_) => readiness.reasons.push(format!(
            "a write to the store takes longer than {} s",
            PROBE_MAX.as_secs()
        )),
    }
}

/// The same facts as gauges, for whoever draws curves.
pub fn measure(app: &App) {
    due::measure(app);
    let config = &app.config;
    let name = &config.hsm.first().name;
    app.metrics.look_at_hsm(name, &app.hsm.health());
    app.metrics.look_at_issuer(&issuing::health(app));
    let fenced = app.fence.fenced().is_some();
    app.metrics.fenced.set(i64::from(fenced));
    for watched in watched(app) {
        let ends = i64::try_from(watched.not_after).unwrap_or(i64::MAX);
        app.metrics
            .certificate_ends
            .with_label_values(&[watched.name])
            .set(ends);
    }
    for replica in app.store.replicas() {
        app.metrics.look_at_replica(&replica);
    }
    let sequence = i64::try_from(app.trust().sequence()).unwrap_or(i64::MAX);
    app.metrics.trust_sequence.set(sequence);
}

/// As of now: listeners, the active issuing CA and the active root.
fn watched(app: &App) -> Vec<Watched> {
    let ca = |name, certificate: &Certificate| Watched {
        name,
        not_after: certificate.not_after(),
        warning_s: CA_EXPIRY_WARNING_S,
    };
    let trust = app.trust();
    let active = states(&trust).find(|(_, state)| *state == KeyState::Active);
    let mut all = vec![ca("issuing CA", app.issuer.chain().issuing())];
    all.extend(active.map(|(root, _)| ca("root", root)));
    all.extend(app.watchlist.listeners());
    all
}

fn look_at_fence(app: &App, readiness: &mut Readiness) {
    if let Some(fenced) = app.fence.fenced() {
        let why = fenced.reasons.iter();
        readiness
            .reasons
            .extend(why.map(|reason| format!("fenced: {reason}")));
    }
    let shown_by = app.fence.unknown_shown_by();
    if !shown_by.is_empty() {
        readiness.warnings.push(format!(
            "{} showed a checkpoint that is ahead of this database, under a key that neither it nor \
             the HSM knows: if store and journal were restored, look for a later copy, or raise with \
             `fence raise --anyway`; if not, look at that terminal",
            shown_by.join(", ")
        ));
    }
    let failure = app.fence.journal().and_then(|journal| journal.failure());
    if let Some(failure) = failure {
        readiness
            .warnings
            .push(format!("the journal cannot be written: {failure}"));
    }
}

/// Where one is configured, what is acknowledged must be on two machines.
async fn look_at_standby(app: &App, readiness: &mut Readiness) {
    if !app.config.store.place.requires_standby() {
        return;
    }
    match app.store.synchronous_standbys().await {
        Ok(standbys) => {
            app.metrics.standbys.set(i64::from(standbys));
            let is_alone = (standbys == 0).then(|| NO_STANDBY.to_owned());
            readiness.reasons.extend(is_alone);
        }
        Err(error) => readiness.reasons.push(error.to_string()),
    }
}

/// What may lag is read from the primary then, beside payments.
fn look_at_replicas(app: &App, readiness: &mut Readiness) {
    let lost = app.store.replicas().into_iter();
    let warnings = lost.filter(|it| !it.is_current).map(|it| {
        let why = match (it.trouble, it.lag_ms) {
            (Some(why), _) => why,
            (None, Some(lag)) => format!("it is {} s behind", lag / 1_000),
            (None, None) => "it was not seen lately".into(),
        };
        format!("the replica {} is not read from: {why}", it.host)
    });
    readiness.warnings.extend(warnings);
}

/// A day that has no place costs more when it goes, and nobody has made places for a while.
async fn look_at_days(app: &App, readiness: &mut Readiness) {
    // A store that cannot be read is told above.
    let rows = app.store.rows_without_day().await.unwrap_or(0);
    if rows > 0 {
        readiness.warnings.push(format!(
            "{rows} or more spent tokens and turns lie in no day's place: the retention job has not run, or may \
             not make tables (the log says why)"
        ));
    }
}

/// Two people, and one to spare: a lost key must not stop what the policy guards.
async fn look_at_operators(app: &App, now: Timestamp, readiness: &mut Readiness) {
    // A store that cannot be read is told above.
    let (Ok(policy), Ok(operators)) = (
        app.store.consent_policy().await,
        app.store.operators(now).await,
    ) else {
        return;
    };
    let able = operators.iter().filter(|it| it.can_sign()).count();
    let needed = policy.strictest() as usize + 1;
    let said = match (needed, able) {
        (1, _) => "one operator can do everything alone: see `policy set`".into(),
        (needed, able) if able < needed => format!(
            "{able} operators can sign, and the policy needs {needed}: what it guards waits for `root vouch`"
        ),
        (needed, able) if able == needed => format!(
            "all of the {able} operators are needed: if one loses their key, only the root replaces it"
        ),
        _ => return,
    };
    readiness.warnings.push(said);
}

fn look_at_hsm(name: &str, health: &hsm::Health, readiness: &mut Readiness) {
    let said = health.reason.as_deref().unwrap_or("no reason given");
    match health.state {
        HealthState::Ready => {}
        HealthState::Degraded => readiness
            .warnings
            .push(format!("the {name} is degraded: {said}")),
        HealthState::Down => readiness
            .reasons
            .push(format!("the {name} is down: {said}")),
        HealthState::Recovering => {
            readiness
                .reasons
                .push(format!("the {name} is recovering: {said}"));
        }
    }
    readiness.warnings.extend(health.remarks.iter().cloned());
    if health.queued >= health.queue_max {
        readiness
            .reasons
            .push(format!("the queue of the {name} is full"));
    }
}

/// Without the issuing CA nobody enrols or renews, but payments go on.
fn look_at_issuer(health: IssuerHealth, readiness: &mut Readiness) {
    let said = match health {
        IssuerHealth::Ready => return,
        IssuerHealth::Degraded(why) => format!("the issuing CA is degraded: {why}"),
        IssuerHealth::Down(why) => format!("the issuing CA does not answer: {why}"),
    };
    readiness.warnings.push(said);
}

/// Others go on with the last list until its end; that it is not made anew is for us to see before.
async fn look_at_lists(app: &App, now: Timestamp, readiness: &mut Readiness) {
    for ca in app.issuer.issuing_cas() {
        let Some(key) = ca.chain.issuing().key_id_hex() else {
            continue;
        };
        // What is wrong with the store is said already.
        let list = app.store.crl(&key).await.ok().flatten();
        let Some(ends) = list.and_then(|list| list.next_update) else {
            continue;
        };
        if ends - now < CRL_LIFE_MS - CRL_LATE_MS {
            let hours = (ends - now).max(0) / 3_600_000;
            readiness.warnings.push(format!(
                "the revocation list of issuing CA {key} is not made anew, and ends in {hours} h"
            ));
        }
    }
}

fn look_at_certificate(certificate: &Watched, now: u64, readiness: &mut Readiness) {
    let Watched {
        name,
        not_after,
        warning_s,
    } = certificate;
    if now > *not_after {
        readiness
            .reasons
            .push(format!("the {name} certificate has expired"));
    } else if not_after - now < *warning_s {
        let hours = (not_after - now) / 3600;
        readiness
            .warnings
            .push(format!("the {name} certificate expires in {hours} h"));
    }
}

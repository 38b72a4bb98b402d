//! Who sees to it that the listeners never show an old certificate or believe an old root?
//!
//! Looks at the files, at the roots and at the issuing CAs every few seconds; renews what is our own at
//! half of its life, as soon as another issuing CA is active, or when an operator says so.

use std::sync::Arc;
use std::time::Duration;

use pki::{BadCertificate, Certificate, IssuedCertificate, PkiError, SoftwareKey, SpiffeId, csr};
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use super::credentials::{Credentials, count};
use super::pair;
use crate::app::App;
use crate::clock::unix_seconds;
use crate::services::node::{self, Listener, NodeRenewed, Wish};
use crate::services::trust::Trust;
use crate::services::{Failure, issuing};

/// How often files, roots and issuing CAs are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long after a renewal that failed the next one is tried.
const RENEWAL_RETRY_MS: Millis = 60_000;
/// How often that is doubled: an hour, in the end.
const RETRY_DOUBLINGS_MAX: u32 = 6;

/// Keeps what listeners show, until the drain.
pub struct Keeper {
    app: Arc<App>,
    listeners: Vec<Kept>,
    reload: Arc<Notify>,
    wishes: mpsc::Receiver<Wish>,
    /// The bundle on the disk that was looked at last.
    bundle: Option<String>,
}

struct Kept {
    credentials: Arc<Credentials>,
    pause: Pause,
}

/// When the next renewal is tried. Each that signs and comes to nothing leaves a certificate that nobody
/// needs, so the next one waits twice as long; under another issuing CA or other roots it may well come
/// to something, and what is shown may be believed no more.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Timestamp>,
    /// In a row.
    wasted: u32,
    under: Option<Under>,
}

/// The active issuing CA's key, and which list of roots is in force.
type Under = ([u8; 32], u64);

/// Why there is no other certificate yet.
enum NotRenewed {
    Unsigned(Failure),
    /// One was signed, and nobody will use it.
    Wasted(Failure),
}

impl Keeper {
    /// `reload` has the files read at once.
    pub fn new(
        app: Arc<App>,
        listeners: impl IntoIterator<Item = Arc<Credentials>>,
        reload: Arc<Notify>,
    ) -> Self {
        let kept = |credentials| Kept {
            credentials,
            pause: Pause::default(),
        };
        Self {
            wishes: app.wishes.receive(),
            bundle: app.trust().bundle().map(pki::TrustBundle::to_json),
            app,
            listeners: listeners.into_iter().map(kept).collect(),
            reload,
        }
    }

    pub async fn run(mut self) {
        let app = self.app.clone();
        let mut trust = app.trust_changes();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = tokio::select! {
                _ = ticks.tick() => false,
                _ = trust.changed() => false,
                () = self.reload.notified() => true,
                Some(wish) = self.wishes.recv() => {
                    self.grant(wish).await;
                    continue;
                }
                () = app.draining() => return,
            };
            self.look(again).await;
        }
    }

    /// On a stopped authority: renews what its operator asks for, and nothing else.
    pub async fn only_wishes(mut self) {
        while let Some(wish) = self.wishes.recv().await {
            self.grant(wish).await;
        }
    }

    async fn grant(&mut self, wish: Wish) {
        let name = wish.listener.name();
        let mut listeners = self.listeners.iter_mut();
        let renewed = match listeners.find(|it| it.credentials.name == name) {
            Some(listener) => listener.renew_now(&self.app, wish.listener).await,
            None => Err(ProblemType::NotFound.into()),
        };
        wish.answer(renewed);
    }

    async fn look(&mut self, again: bool) {
        self.reread_bundle();
        for listener in &mut self.listeners {
            listener.credentials.reread(&self.app, again);
            listener.credentials.follow(&self.app);
            listener.renew_if_due(&self.app).await;
        }
    }

    /// A bundle that came by another way than `trust install`, e.g. from the other node's folder.
    fn reread_bundle(&mut self) {
        const NAME: &str = "trust bundle";
        let path = &self.app.config.trust.bundle;
        let Ok(found) = std::fs::read_to_string(path) else {
            return;
        };
        if self.bundle.as_ref() == Some(&found) {
            return;
        }
        let now = self.app.trust();
        let read = pki::TrustBundle::load(path);
        let warning = match read {
            Ok(bundle) if now.bundle().is_some_and(|own| own.says_the_same(&bundle)) => None,
            Ok(bundle) => self.follow(&now, bundle),
            Err(error) => Some(error.to_string()),
        };
        self.bundle = Some(found);
        if let Some(warning) = &warning {
            tracing::warn!(warning, "the trust bundle on the disk is not followed");
        }
        let warning = warning.map(|warning| format!("{NAME}: {warning}"));
        self.app.watchlist.warn(NAME, warning);
    }

    fn follow(&self, now: &Trust, bundle: pki::TrustBundle) -> Option<String> {
        match now.followed_by(bundle) {
            Ok(next) => {
                tracing::info!(sequence = next.sequence(), "the roots have changed");
                self.app.set_trust(next);
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Kept {
    /// Whatever its age, if it is ours.
    async fn renew_now(&mut self, app: &App, listener: Listener) -> Result<NodeRenewed, Failure> {
        let leaf = self.credentials.leaf();
        let own = leaf.filter(|leaf| is_own(app, leaf, &self.credentials.shown()));
        let leaf = own.ok_or_else(|| foreign(listener))?;
        renew(app, &self.credentials).await.map_err(Failure::from)?;
        count(app, self.credentials.name, "renewed");
        self.credentials.reread(app, true);
        let shown = self.credentials.leaf().filter(|shown| *shown != leaf);
        let shown = shown.ok_or_else(|| not_shown(listener))?;
        let not_after = i64::try_from(shown.not_after()).unwrap_or(i64::MAX);
        Ok(NodeRenewed {
            serial: shown.serial_hex(),
            not_after: Timestamp::from_secs(not_after),
        })
    }

    async fn renew_if_due(&mut self, app: &App) {
        let now = app.clock.now();
        // Nothing is issued while the database is behind the world, or under a root that nobody believes.
        let nothing_issued = app.fence.fenced().is_some() || issuing::check(app).is_err();
        self.pause.is_under(under(app));
        let waits = nothing_issued || self.pause.waits(now);
        let Some(leaf) = self.credentials.leaf() else {
            return;
        };
        if waits || !is_due(app, &leaf, &self.credentials.shown()) {
            return;
        }
        let name = self.credentials.name;
        match renew(app, &self.credentials).await {
            Ok(()) => {
                count(app, name, "renewed");
                // What is refused now is refused again in five seconds: it waits, too.
                match self.credentials.reread(app, true) {
                    true => self.pause.is_over(),
                    false => self.pause.after_a_waste(now),
                }
            }
            Err(not_renewed) => {
                match &not_renewed {
                    NotRenewed::Unsigned(_) => self.pause.after_a_refusal(now),
                    NotRenewed::Wasted(_) => self.pause.after_a_waste(now),
                }
                let error = Failure::from(not_renewed);
                count(app, name, "not-renewed");
                tracing::warn!(listener = name, %error, "its certificate is not renewed yet");
                let warning = format!("{name}: its certificate cannot be renewed: {error}");
                app.watchlist.warn(name, Some(warning));
            }
        }
    }
}

impl Pause {
    /// Tries at once what may come to another end than before.
    fn is_under(&mut self, under: Under) {
        if self.under != Some(under) {
            self.is_over();
            self.under = Some(under);
        }
    }

    fn is_over(&mut self) {
        (self.until, self.wasted) = (None, 0);
    }

    fn waits(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn after_a_refusal(&mut self, now: Timestamp) {
        self.until = Some(now + RENEWAL_RETRY_MS);
    }

    fn after_a_waste(&mut self, now: Timestamp) {
        let doublings = self.wasted.min(RETRY_DOUBLINGS_MAX);
        self.until = Some(now + (RENEWAL_RETRY_MS << doublings));
        self.wasted += 1;
    }
}

impl NotRenewed {
    /// Whoever is told of an issuing CA that nobody believes asked one that was believed before: it has
    /// signed.
    fn unused(why: Failure) -> Self {
        match why {
            Failure::Unbelieved(_) => Self::Wasted(why),
            _ => Self::Unsigned(why),
        }
    }
}

impl From<NotRenewed> for Failure {
    fn from(not_renewed: NotRenewed) -> Self {
        let (NotRenewed::Unsigned(why) | NotRenewed::Wasted(why)) = not_renewed;
        why
    }
}

fn under(app: &App) -> Under {
    let active = app.issuer.chain();
    (active.issuing().spki_sha256(), app.trust().sequence())
}

/// Ours, and past half of its life, of another issuing CA than the active one, or under a root that is
/// believed no more.
fn is_due(app: &App, leaf: &Certificate, shown: &[Certificate]) -> bool {
    let (now, trust) = (unix_seconds(app.clock.now()), app.trust());
    if !is_own(app, leaf, shown) {
        return false;
    }
    is_past_half(leaf, now)
        || !leaf.is_issued_by(app.issuer.chain().issuing())
        || trust.anchors().verify(leaf, shown, now).is_err()
}

/// Issued here to this node. A certificate that the operator got elsewhere is renewed there.
fn is_own(app: &App, leaf: &Certificate, shown: &[Certificate]) -> bool {
    let own = SpiffeId::Authority(app.config.node.clone());
    let named = pki::identity_of(leaf.der(), &app.config.trust.domain);
    let now = unix_seconds(app.clock.now());
    named.is_ok_and(|peer| peer.id == own) && app.trust().is_ours(leaf, shown, now)
}

fn foreign(listener: Listener) -> Failure {
    let detail = format!(
        "the {}'s certificate was not issued here to this node: it is renewed at its CA",
        listener.name()
    );
    Problem::new(ProblemType::CertificateRefused)
        .with_detail(detail)
        .into()
}

/// `ready` says why.
fn not_shown(listener: Listener) -> Failure {
    let detail = format!(
        "the {} does not take up its new certificate",
        listener.name()
    );
    Problem::new(ProblemType::NotReady)
        .with_detail(detail)
        .into()
}

fn is_past_half(certificate: &Certificate, now: u64) -> bool {
    let (begins, ends) = (certificate.not_before(), certificate.not_after());
    now >= begins + ends.saturating_sub(begins) / 2
}

/// A new key, a certificate for it, and both in the place of the old ones.
async fn renew(app: &App, credentials: &Credentials) -> Result<(), NotRenewed> {
    let (key, issued) = ask(app).await.map_err(NotRenewed::unused)?;
    let put = put(app, credentials, &key, issued).await;
    put.map_err(NotRenewed::Wasted)
}

async fn ask(app: &App) -> Result<(SoftwareKey, IssuedCertificate), Failure> {
    let key = SoftwareKey::generate()?;
    let id = SpiffeId::Authority(app.config.node.clone());
    let request = csr::new(&key, &id, &app.config.trust.domain)?;
    let issued = node::issue(app, &csr::to_pem(&request)).await?;
    Ok((key, issued))
}

async fn put(
    app: &App,
    credentials: &Credentials,
    key: &SoftwareKey,
    issued: IssuedCertificate,
) -> Result<(), Failure> {
    node::keep(app, &issued).await?;
    let chain = issued.pem + &app.issuer.chain().issuing().pem();
    let chain = with_all_ways(credentials, &chain).map_err(PkiError::from)?;
    check_believed(app, &chain).map_err(PkiError::from)?;
    pair::write(&credentials.files, key, &chain)?;
    tracing::info!(
        listener = credentials.name,
        serial = issued.serial,
        "certificate renewed"
    );
    Ok(())
}

/// Before it takes the place of one that works: whether it leads to a root that is believed.
fn check_believed(app: &App, chain: &str) -> Result<(), BadCertificate> {
    let all = pki::chain::certificates_from_pem(chain)?;
    let (trust, now) = (app.trust(), unix_seconds(app.clock.now()));
    trust.anchors().verify(&all[0], &all[1..], now).map(drop)
}

/// The new chain, and what else leads from it to a root: terminals may know only one of the roots, and
/// after a restart only the file is left to tell.
fn with_all_ways(credentials: &Credentials, chain: &str) -> Result<String, BadCertificate> {
    let mut all = pki::chain::certificates_from_pem(chain)?;
    for other in credentials.shown() {
        if all[0].is_issued_by(&other) && !all.contains(&other) {
            all.push(other);
        }
    }
    Ok(all.iter().map(Certificate::pem).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_second_half_of_a_life_begins_in_its_middle() {
        let now = 1_795_435_200;
        let certificate = pki::RootKey::generate().unwrap().certificate(now).unwrap();
        let half = (certificate.not_before() + certificate.not_after()) / 2;
        for (at, past) in [
            (now, false),
            (half - 1, false),
            (half, true),
            (u64::MAX, true),
        ] {
            assert_eq!(is_past_half(&certificate, at), past, "{at}");
        }
    }

    #[test]
    fn certificates_that_nobody_takes_up_are_asked_for_ever_more_rarely() {
        let (mut pause, mut now) = (Pause::default(), Timestamp::from_ms(0));
        let mut waited = Vec::new();
        for _ in 0..8 {
            assert!(!pause.waits(now));
            pause.after_a_waste(now);
            let until = pause.until.unwrap();
            assert!(pause.waits(until - 1));
            waited.push((until - now) / RENEWAL_RETRY_MS);
            now = until;
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 64]);
        pause.after_a_refusal(now);
        assert_eq!(pause.until.unwrap() - now, RENEWAL_RETRY_MS);
    }

    #[test]
    fn under_another_issuing_key_or_other_roots_a_renewal_is_tried_at_once() {
        let now = Timestamp::from_ms(0);
        let mut pause = Pause::default();
        pause.is_under(([1; 32], 0));
        for other in [([2; 32], 0), ([2; 32], 1), ([1; 32], 1)] {
            pause.after_a_waste(now);
            pause.after_a_waste(now);
            pause.is_under(other);
            assert!(!pause.waits(now), "{other:?}");
            pause.after_a_waste(now);
            pause.is_under(other);
            assert_eq!(pause.until, Some(now + RENEWAL_RETRY_MS), "{other:?}");
        }
    }
}

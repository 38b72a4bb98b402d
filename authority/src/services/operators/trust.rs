//! How does the next list of trusted roots get into force, and whom would it leave behind?

use pki::lifecycle::KeyState;
use pki::{BadTrust, Certificate, Denied, IssuingCa, TrustBundle, TrustedRoot};
use protocol::ids::TerminalId;
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Gate, Verb, refused};
use crate::app::App;
use crate::clock::unix_seconds;
use crate::services::node::Listener;
use crate::services::trust::{Trust, staged};
use crate::services::{Failure, issuing};
use crate::store::{Behind, Holders};

/// Who was not seen for so long holds no change back: its certificate has ended, and the grace to renew
/// it, too, so that it must enrol again in any case.
pub const FORGOTTEN_AFTER_MS: Millis = 37 * 24 * 3_600_000;
/// How many terminals are named one by one.
const NAMED_MAX: u32 = 20;

/// Brings the document of a list of roots, which changes nothing yet: what others consent to is short.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustStage {
    /// What `m2key-pki root trust` made.
    pub bundle: String,
}

/// Puts a list of roots in force that was brought before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustInstall {
    pub sequence: u64,
    /// Of the document, in hexadecimal.
    pub sha256: String,
    /// Every root and its state, for those who consent.
    pub roots: Vec<RootState>,
    /// Every key that counts for nothing, for those who consent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Although terminals are left behind: they have to follow by themselves when they come back.
    #[serde(default)]
    pub now: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootState {
    pub fingerprint: String,
    pub state: String,
}

/// The roots, and how many terminals follow which list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustShow {}

#[derive(Debug, Serialize, Deserialize)]
pub struct TrustPlan {
    pub sequence: u64,
    /// False if it was only asked what would happen, or it was in force already.
    pub changed: bool,
    /// What changes, in words.
    pub changes: Vec<String>,
    pub behind: BehindView,
    /// Whose certificates lead to no root any more: they have to be enrolled again.
    #[serde(default)]
    pub cut_off: BehindView,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TrustView {
    pub sequence: u64,
    pub roots: Vec<RootView>,
    /// Keys that count for nothing: their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
    /// Terminals seen lately, by the list they follow.
    pub followers: Vec<FollowersView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RootView {
    pub fingerprint: String,
    pub state: String,
    pub not_after: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FollowersView {
    pub sequence: u64,
    pub terminals: u64,
}

/// Terminals that a change leaves behind.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct BehindView {
    pub count: u64,
    /// The first of them.
    pub first: Vec<TerminalId>,
}

impl Verb for TrustStage {
    const NAME: &'static str = "trust-stage";
    const CHANGES: bool = true;
    /// As JSON in JSON, with every quote and line break escaped.
    const BODY_MAX: u64 = pki::trust::TRUST_MAX_BYTES as u64 * 2;
    type Answer = TrustInstall;

    async fn run(self, app: &App) -> Result<TrustInstall, Failure> {
        let bundle = TrustBundle::parse(&self.bundle).map_err(|error| wrong(&error))?;
        let now = app.trust();
        let in_force = now.bundle().filter(|own| own.says_the_same(&bundle));
        if let Some(in_force) = in_force {
            return Ok(TrustInstall::of(in_force));
        }
        now.followed_by(bundle.clone())
            .map_err(|error| wrong(&error))?;
        staged::keep(&app.config.trust.bundle, &bundle)?;
        Ok(TrustInstall::of(&bundle))
    }
}

impl TrustInstall {
    fn of(bundle: &TrustBundle) -> Self {
        let state = |root: &TrustedRoot| RootState {
            fingerprint: root.certificate.fingerprint().to_string(),
            state: root.state.name().into(),
        };
        Self {
            sequence: bundle.sequence(),
            sha256: staged::sha256(bundle),
            roots: bundle.roots().iter().map(state).collect(),
            denied: ids(bundle.denied()),
            dry_run: false,
            now: false,
        }
    }

    /// Whether this is the document that was meant, and says what was consented to.
    fn means(&self, bundle: &TrustBundle) -> bool {
        let of = Self::of(bundle);
        (self.sequence, &self.sha256) == (of.sequence, &of.sha256)
            && (&self.roots, &self.denied) == (&of.roots, &of.denied)
    }
}

impl Verb for TrustInstall {
    const NAME: &'static str = "trust-install";
    const CHANGES: bool = true;
    const ANSWER_KEPT: bool = true;
    type Answer = TrustPlan;

    fn gate(&self) -> Gate {
        match self.dry_run {
            true => Gate::One,
            false => Gate::Consented,
        }
    }

    /// May be repeated after a crash: what is in force already changes nothing.
    async fn run(self, app: &App) -> Result<TrustPlan, Failure> {
        let now = app.trust();
        if now.bundle().is_some_and(|bundle| self.means(bundle)) {
            return Ok(plan(&now, Vec::new(), Behind::default(), Behind::default()));
        }
        let bundle = staged::find(&app.config.trust.bundle, &self.sha256)?;
        if !self.means(&bundle) {
            let detail = "the list that was brought is not the one that was asked for";
            return Err(refused(ProblemType::MalformedRequest, detail));
        }
        let next = now.followed_by(bundle).map_err(|error| wrong(&error))?;
        check_issuing(app, &next)?;
        let cut_off = cut_off(app, &now, &next).await?;
        check_operators(&cut_off)?;
        check_listener(app, &now, &next)?;
        let (behind, cut_off) = (behind(app, &next).await?, cut_off.terminals);
        if !self.now && !self.dry_run {
            check_terminals(&behind, "do not trust the new root yet")?;
            check_terminals(&cut_off, CUT_OFF)?;
        }
        let mut plan = plan(&next, changes(&now, &next), behind, cut_off);
        if !self.dry_run {
            put_in_force(app, next).await?;
            plan.changed = true;
        }
        Ok(plan)
    }
}

impl Verb for TrustShow {
    const NAME: &'static str = "trust-show";
    const CHANGES: bool = false;
    type Answer = TrustView;

    async fn run(self, app: &App) -> Result<TrustView, Failure> {
        let trust = app.trust();
        let followers = app.store.followers(seen_since(app)).await?;
        Ok(TrustView {
            sequence: trust.sequence(),
            roots: states(&trust)
                .map(|(root, state)| RootView {
                    fingerprint: root.fingerprint().to_string(),
                    state: state.name().into(),
                    not_after: Timestamp::from_secs(
                        i64::try_from(root.not_after()).unwrap_or(i64::MAX),
                    ),
                })
                .collect(),
            denied: ids(trust.denied()),
            followers: followers
                .into_iter()
                .map(|(sequence, terminals)| FollowersView {
                    sequence,
                    terminals,
                })
                .collect(),
        })
    }
}

/// Noted first, then in the file, then in force: a crash in between leaves a note of what was agreed to,
/// and the verb may be repeated.
async fn put_in_force(app: &App, next: Trust) -> Result<(), Failure> {
    let digest = next.bundle().map(staged::sha256);
    let body = serde_json::json!({ "sequence": next.sequence(), "sha256": digest }).to_string();
    app.store
        .note("trust.installed", body, app.clock.now())
        .await?;
    next.save(&app.config.trust.bundle)?;
    app.set_trust(next);
    staged::clear(&app.config.trust.bundle);
    Ok(())
}

/// The active issuing CA must still hang on a root, by a certificate that is good today: everything that
/// is shown or issued from now on is believed through it.
fn check_issuing(app: &App, next: &Trust) -> Result<(), Failure> {
    if issuing::hangs(app, next) {
        return Ok(());
    }
    let active = app.issuer.chain();
    if next.denied().denies(active.issuing()) {
        let detail = "the key of the active issuing CA would be denied: prepare, sign, install and \
                      activate another one first (m2key-pki issuing)";
        return Err(refused(ProblemType::WouldStrand, detail));
    }
    let detail = format!(
        "the active issuing CA {} hangs on no root that would be trusted: sign its request under the \
         new root (m2key-pki root sign) and install the certificate first",
        active.issuing().serial_hex()
    );
    Err(refused(ProblemType::WouldStrand, detail))
}

/// What is said of terminals that come with certificates of an issuing CA that will not be believed.
const CUT_OFF: &str = "hold certificates of an issuing CA that would not be believed, and would have to be \
    enrolled again; they renew when they connect, or, if its key is good, sign its request under a root \
    that stays";

/// Who holds certificates of issuing CAs that hang on a root now, and would on none.
async fn cut_off(app: &App, now: &Trust, next: &Trust) -> Result<Holders, Failure> {
    let leaves = |ca: &IssuingCa| {
        let leads = |trust: &Trust| trust.anchors().chain_of(ca.chain.issuing()).is_ok();
        leads(now) && !leads(next)
    };
    let leaving = app.issuer.issuing_cas().into_iter().filter(leaves);
    let keys: Vec<String> = leaving
        .filter_map(|ca| ca.chain.issuing().key_id_hex())
        .collect();
    if keys.is_empty() {
        return Ok(Holders::default());
    }
    let at = app.clock.now();
    let ended_since = at - app.config.enrolment.renewal_grace_ms;
    let holders = app.store.holders(keys, ended_since, at, NAMED_MAX);
    Ok(holders.await?)
}

/// In an emergency, too: they renew within seconds, and afterwards there is no way back for them.
fn check_operators(cut_off: &Holders) -> Result<(), Failure> {
    if cut_off.operators.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "the certificates of the operators {} would not be believed: each renews with \
         `renew operator` first, or is revoked",
        cut_off.operators.join(", ")
    );
    Err(refused(ProblemType::WouldStrand, detail))
}

/// In an emergency, too: whoever follows the list would refuse the listener itself. One that leads to no
/// root as it is holds nothing back.
fn check_listener(app: &App, now: &Trust, next: &Trust) -> Result<(), Failure> {
    let shown = shown_to_agents(app);
    let Some((leaf, ways)) = shown.split_first() else {
        return Ok(());
    };
    let issuing = app.issuer.issuing_cas().into_iter();
    let issuing = issuing.map(|ca| ca.chain.issuing().clone());
    let ways: Vec<Certificate> = ways.iter().cloned().chain(issuing).collect();
    let at = unix_seconds(app.clock.now());
    let leads = |trust: &Trust| trust.anchors().verify(leaf, &ways, at).is_ok();
    if !leads(now) || leads(next) {
        return Ok(());
    }
    let detail = format!(
        "the certificate {} of the {} would not be believed: `renew agents` first",
        leaf.serial_hex(),
        Listener::Agents.name()
    );
    Err(refused(ProblemType::WouldStrand, detail))
}

/// What the agents' listener shows; on a stopped authority, what it will.
fn shown_to_agents(app: &App) -> Vec<Certificate> {
    let shown = app.watchlist.chain(Listener::Agents.name());
    if !shown.is_empty() {
        return shown;
    }
    let file = std::fs::read_to_string(&app.config.agents.tls.certificate);
    let read = file.map(|pem| pki::chain::certificates_from_pem(&pem));
    // What cannot be read is not shown either: the next start says so.
    read.ok().and_then(Result::ok).unwrap_or_default()
}

/// Terminals in service that do not trust the root that will be active.
async fn behind(app: &App, next: &Trust) -> Result<Behind, Failure> {
    let Some(bundle) = next.bundle() else {
        return Ok(Behind::default());
    };
    let needed = bundle.believed_since(bundle.active());
    Ok(app.store.behind(needed, seen_since(app), NAMED_MAX).await?)
}

fn seen_since(app: &App) -> Timestamp {
    app.clock.now() - FORGOTTEN_AFTER_MS
}

fn wrong(error: &BadTrust) -> Failure {
    let detail = format!("the trust bundle is refused: {error}; {}", error.hint());
    refused(ProblemType::MalformedRequest, detail)
}

fn check_terminals(behind: &Behind, why: &str) -> Result<(), Failure> {
    if behind.count == 0 {
        return Ok(());
    }
    let named: Vec<String> = behind.first.iter().map(ToString::to_string).collect();
    let more = behind.count.saturating_sub(named.len() as u64);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let detail = format!(
        "{} terminals {why}: {}{more}",
        behind.count,
        named.join(", ")
    );
    Err(refused(ProblemType::WouldStrand, detail))
}

impl From<Behind> for BehindView {
    fn from(behind: Behind) -> Self {
        Self {
            count: behind.count,
            first: behind.first,
        }
    }
}

fn plan(next: &Trust, changes: Vec<String>, behind: Behind, cut_off: Behind) -> TrustPlan {
    TrustPlan {
        sequence: next.sequence(),
        changed: false,
        changes,
        behind: behind.into(),
        cut_off: cut_off.into(),
    }
}

/// Every root with its state; before the first bundle the pinned one is the active one.
pub fn states(trust: &Trust) -> impl Iterator<Item = (&Certificate, KeyState)> {
    let listed = trust.bundle().map(TrustBundle::roots).unwrap_or_default();
    let listed = listed.iter().map(|root| (&root.certificate, root.state));
    let pinned = match trust.bundle() {
        Some(_) => &[],
        None => trust.roots(),
    };
    listed.chain(pinned.iter().map(|root| (root, KeyState::Active)))
}

fn ids(denied: &Denied) -> Vec<String> {
    denied.keys().iter().map(ToString::to_string).collect()
}

fn changes(now: &Trust, next: &Trust) -> Vec<String> {
    let before: Vec<_> = states(now).collect();
    let state_of = |wanted: &Certificate| {
        let mut all = before.iter();
        all.find(|(root, _)| *root == wanted)
            .map(|(_, state)| *state)
    };
    let said = |(root, state): (&Certificate, KeyState)| {
        let fingerprint = root.fingerprint();
        match state_of(root) {
            Some(old) if old == state => None,
            Some(old) => Some(format!("root {fingerprint}: {old}, then {state}")),
            None => Some(format!("root {fingerprint}: new, then {state}")),
        }
    };
    let denied = next.denied().keys().iter();
    let denied = denied
        .filter(|key| !now.denied().keys().contains(key))
        .map(|key| format!("key {key}: nothing it signed is believed any more"));
    states(next).filter_map(said).chain(denied).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pki::RootKey;
    use pki::consent::request::BODY_MAX_BYTES;
    use pki::trust::{DENIED_MAX, ROOTS_MAX};

    #[test]
    fn the_longest_list_of_roots_fits_into_what_others_consent_to() {
        let root = RootKey::generate()
            .unwrap()
            .certificate(1_795_435_200)
            .unwrap();
        let state = RootState {
            fingerprint: root.fingerprint().to_string(),
            state: "superseded".into(),
        };
        let verb = TrustInstall {
            sequence: u64::MAX,
            sha256: "0".repeat(64),
            roots: vec![state; ROOTS_MAX],
            denied: vec!["0".repeat(64); DENIED_MAX],
            dry_run: false,
            now: false,
        };
        assert!(serde_json::to_string(&verb).unwrap().len() < BODY_MAX_BYTES);
    }
}

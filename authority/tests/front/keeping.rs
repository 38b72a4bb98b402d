//! Does the agents' listener go on showing a certificate that is believed no more?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use authority::clock::unix_seconds;
use authority::config::CertificateFiles;
use authority::listen::credentials::{Audience, Credentials};
use authority::listen::keeper::Keeper;
use authority::services::operators::{TrustInstall, TrustStage, Verb};
use pki::trust::{Change, Draft, sign_bundle};
use pki::{KeyId, KeyState, RootKey, RootSigner, TrustBundle};
use tokio::sync::Notify;

use crate::denying::denying;
use crate::house::{House, text};
use crate::signing::next_issuing_ca;
use crate::stage::Stage;

const LISTENER: &str = "agents listener";
const A_MINUTE_MS: i64 = 61_000;
/// Each look lets the keeper go on; so many take longer than it ever does.
const LOOKS_MAX: usize = 20_000_000;

/// A keeper of the stage's listener, whose certificate is due all the time.
struct Kept {
    stage: Stage,
    files: CertificateFiles,
    /// Has it look at once.
    look: Arc<Notify>,
    keeper: Option<Keeper>,
}

impl Kept {
    async fn new() -> Self {
        let stage = Stage::set().await;
        let at = |name: &str| stage.dir.path().join(name);
        let files = CertificateFiles {
            certificate: at("server.pem"),
            key: at("server.key"),
        };
        let shows = Credentials::open(&stage.app, LISTENER, &files, Audience::OurOwn).unwrap();
        stage.supersede_issuing(KeyState::Superseded).await;
        let look = Arc::new(Notify::new());
        let keeper = Keeper::new(stage.app.clone(), [shows], look.clone());
        Self {
            stage,
            files,
            look,
            keeper: Some(keeper),
        }
    }

    fn begin(&mut self) {
        tokio::spawn(self.keeper.take().unwrap().run());
    }

    fn counted(&self, outcome: &str) -> u64 {
        let counters = &self.stage.app.metrics.credentials;
        counters.with_label_values(&[LISTENER, outcome]).get()
    }

    async fn until_counted(&self, outcome: &str, n: u64) {
        for _ in 0..LOOKS_MAX {
            if self.counted(outcome) >= n {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{outcome}: never {n}, but {}", self.counted(outcome));
    }
}

async fn list(stage: &Stage, change: &Change) -> TrustBundle {
    let root = stage.app.trust().active().clone();
    let draft = Draft::first(root, change, 1).unwrap();
    let key = RootSigner::from(stage.root_key());
    sign_bundle(draft, &[&key]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_for_which_nothing_was_signed_is_tried_again_every_minute() {
    let mut kept = Kept::new().await;
    kept.stage.issuer.fails.store(true, Ordering::SeqCst);
    kept.begin();
    kept.until_counted("not-renewed", 1).await;
    for n in 2..=4 {
        kept.stage.clock.by(i64::try_from(n).unwrap() * A_MINUTE_MS);
        kept.look.notify_one();
        kept.until_counted("not-renewed", n).await;
    }
    kept.stage.issuer.fails.store(false, Ordering::SeqCst);
    kept.stage.clock.by(5 * A_MINUTE_MS);
    kept.look.notify_one();
    kept.until_counted("renewed", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_roots_has_a_wasted_renewal_tried_again_at_once() {
    let mut kept = Kept::new().await;
    // It is signed, and then there is no way to put it in its place.
    std::fs::remove_file(&kept.files.key).unwrap();
    std::fs::create_dir(&kept.files.key).unwrap();
    kept.begin();
    kept.until_counted("not-renewed", 1).await;
    let now = unix_seconds(kept.stage.app.clock.now());
    let stranger = RootKey::generate().unwrap().certificate(now).unwrap();
    let bundle = list(&kept.stage, &Change::Deny(KeyId::of(&stranger))).await;
    let app = &kept.stage.app;
    app.set_trust(app.trust().followed_by(bundle).unwrap());
    kept.until_counted("not-renewed", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_denies_what_the_agents_listener_shows_waits_for_its_renewal() {
    let stage = Stage::set().await;
    let shown_under = stage.app.issuer.chain().issuing().clone();
    stage.supersede_issuing(KeyState::Superseded).await;
    let bundle = list(&stage, &Change::Deny(KeyId::of(&shown_under))).await;
    let brought = TrustStage {
        bundle: bundle.to_json(),
    };
    let brought = brought.run(&stage.app).await.unwrap();
    for (dry_run, now) in [(true, false), (false, false), (false, true)] {
        let mut install: TrustInstall =
            serde_json::from_value(serde_json::to_value(&brought).unwrap()).unwrap();
        (install.dry_run, install.now) = (dry_run, now);
        let refused = install.run(&stage.app).await.unwrap_err().into_problem();
        assert_eq!(refused.problem_type().unwrap().slug(), "would-strand");
        let detail = refused.detail.unwrap();
        assert!(detail.contains("`renew agents` first"), "{detail}");
    }
    assert_eq!(stage.app.trust().sequence(), 0);
}

#[test]
fn on_a_stopped_authority_the_listeners_file_is_what_would_be_shown() {
    let house = House::new();
    let daemon = house.serve();
    let stolen = house.scratch("stolen.pem");
    std::fs::copy(house.dir().join("issuing.pem"), &stolen).unwrap();
    let list = denying(&house, text(&stolen));
    daemon.stop();
    next_issuing_ca(&house);
    assert_eq!(house.pki(&["issuing", "activate"]).code, 0);
    let verb = |words: &[&str]| house.verb(&[&["--offline"], words].concat());
    assert_eq!(verb(&["renew", "operator"]).code, 0);
    let install = ["trust", "install", &list, "--now"];
    verb(&install).refused(1, "`renew agents` first", "");
    let said = verb(&["renew", "agents"]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = verb(&install);
    assert_eq!(said.code, 0, "{said:?}");
}

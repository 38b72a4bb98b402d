//! Does a shopper sign in at a certified OpenID provider, and is it over when the provider says so?
//!
//! The real daemon with a real HSM token, `oidc-provider` from npm, and a browser without JavaScript.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use base64ct::{Base64UrlUnpadded, Encoding};
use harness::Failure;
use harness::authority::Authority;
use harness::browser::{Browser, Page};
use harness::identity_provider::{Customer, IdentityProvider};
use harness::wait;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

const COOKIE: &str = "__Host-m2key-session";

struct Place {
    _dir: tempfile::TempDir,
    authority: Authority,
    wallet: IdentityProvider,
}

async fn place() -> Result<Place, Failure> {
    let dir = tempfile::tempdir()?;
    let logs = dir.path().join("logs");
    std::fs::create_dir_all(&logs)?;
    let mut authority = Authority::init(&dir.path().join("authority"), &logs)?;
    let customers = vec![Customer::new("ann", true)?, Customer::new("bob", false)?];
    let (at, name) = (dir.path().join("wallet"), "Demo Wallet");
    let wallet = IdentityProvider::open(&at, &logs, "wallet", name, &authority, customers).await?;
    authority.sign_in_at(&wallet, "wallet", Some("wallet"))?;
    authority.serve().await?;
    Ok(Place {
        _dir: dir,
        authority,
        wallet,
    })
}

impl Place {
    fn browser(&self) -> Result<Browser, Failure> {
        Browser::trusting(&[&self.authority.root(), self.wallet.ca()])
    }

    /// A page of ours with the form that leads to the provider.
    fn start(&self, browser: &mut Browser) -> Page {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        let value = Base64UrlUnpadded::encode_string(&secret);
        browser.keep("localhost", &format!("{COOKIE}={value}"));
        let mut hash = Sha256::new();
        hash.update(b"m2key/form/1\0");
        hash.update(secret);
        let token = Base64UrlUnpadded::encode_string(&hash.finalize());
        Page {
            url: format!("{}/", self.authority.origin().unwrap())
                .parse()
                .unwrap(),
            status: 200,
            html: format!(
                "<form method=post action=/sign-in/wallet>\
                 <input name=form_token value={token}><input name=purpose value=profile></form>"
            ),
        }
    }

    /// To the provider's own form.
    async fn go(&self, browser: &mut Browser) -> Result<Page, Failure> {
        let page = self.start(browser);
        let form = page.form("/sign-in/wallet")?;
        browser.submit(&page, &form, &[]).await
    }

    async fn sign_in(&self, browser: &mut Browser, name: &str) -> Result<Page, Failure> {
        let page = self.go(browser).await?;
        let customer = self.wallet.customer(name)?;
        let form = page.form("/interaction/")?;
        let filled = [("login", name), ("password", customer.password.as_str())];
        browser.submit(&page, &form, &filled).await
    }

    /// One value that the database holds.
    fn look<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let file = self.authority.file("store.sqlite");
        let conn = Connection::open(file).unwrap();
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn open_sessions(&self) -> u32 {
        self.look("SELECT count(*) FROM sessions WHERE ended_at_ms IS NULL")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shopper_signs_in_at_a_certified_provider_and_brings_accounts() {
    let place = place().await.unwrap();
    let mut ann = place.browser().unwrap();
    let page = place.sign_in(&mut ann, "ann").await.unwrap();
    assert_eq!(page.url.path(), "/me", "{}", page.words());
    let issuer: String = place.look("SELECT issuer FROM sessions");
    assert_eq!(issuer, place.wallet.issuer());
    let subject: String = place.look("SELECT subject FROM sessions");
    assert_eq!(subject, "subject of ann");
    assert!(place.look::<bool>("SELECT strong FROM sessions"));
    let account: String = place.look("SELECT reference FROM service_accounts");
    assert_eq!(account, "account of ann", "by UserInfo");
    let mut bob = place.browser().unwrap();
    place.sign_in(&mut bob, "bob").await.unwrap();
    let strong: bool = place.look("SELECT strong FROM sessions WHERE subject = 'subject of bob'");
    assert!(!strong);
    assert_eq!(place.open_sessions(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_change_of_mind_sign_nobody_in() {
    let place = place().await.unwrap();
    let mut browser = place.browser().unwrap();
    let page = place.go(&mut browser).await.unwrap();
    let form = page.form("/interaction/").unwrap();
    let filled = [("login", "ann"), ("password", "wrong")];
    let page = browser.submit(&page, &form, &filled).await.unwrap();
    assert_eq!(page.status, 403);
    let forms = page.forms();
    let cancel = forms.iter().find(|it| it.action.path().ends_with("/abort"));
    let page = browser.submit(&page, cancel.unwrap(), &[]).await.unwrap();
    assert_eq!(page.url.path(), "/me");
    assert_eq!(place.open_sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_both_sides_change_and_shoppers_sign_in() {
    let place = place().await.unwrap();
    let mut browser = place.browser().unwrap();
    place.sign_in(&mut browser, "ann").await.unwrap();
    place.wallet.rotate().await.unwrap();
    place.wallet.rotate_client_key().unwrap();
    // The authority asks for new keys, but not at once: nobody may hammer a provider through it.
    let signed_in = async || {
        let mut other = place.browser().ok()?;
        place.sign_in(&mut other, "bob").await.ok()?;
        (place.open_sessions() >= 2).then_some(())
    };
    wait::until("a sign-in with the new keys", signed_in)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_at_the_provider_is_signed_out_here() {
    let place = place().await.unwrap();
    let (mut ann, mut bob) = (place.browser().unwrap(), place.browser().unwrap());
    place.sign_in(&mut ann, "ann").await.unwrap();
    place.sign_in(&mut bob, "bob").await.unwrap();
    let url = format!("{}/session/end", place.wallet.issuer());
    let page = ann.open(&url).await.unwrap();
    let form = page.form("/session/end/confirm").unwrap();
    ann.submit(&page, &form, &[("logout", "yes")])
        .await
        .unwrap();
    let ended = async || (place.open_sessions() == 1).then_some(());
    wait::until("the provider's word", ended).await.unwrap();
    let why: String = place.look("SELECT end_reason FROM sessions WHERE ended_at_ms IS NOT NULL");
    assert_eq!(why, "provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_gone_is_said_to_be_gone() {
    let mut place = place().await.unwrap();
    place.wallet.kill();
    let mut browser = place.browser().unwrap();
    let page = place.go(&mut browser).await.unwrap();
    assert_eq!(page.status, 503, "{}", page.words());
}

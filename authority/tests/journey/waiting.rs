//! What does a shopper read while a rail works and when it declines, and does the step that is offered work?

use std::sync::Arc;

use authority::ids;
use authority::services::payments::DOUBT_MAX_MS;
use authority::services::rails::{Rail, Rails};
use authority::store::{NewServiceAccount, PersonKey, ServiceAccounts};
use protocol::ids::AccountId;
use protocol::money::Currency;
use serde_json::{Value, json};

use crate::browser::{Browser, location};
use crate::fake_rail::{FakeRail, Mishap};
use crate::openid::{OpenId, SECRET};
use crate::pages::{Place, says, text};
use crate::world::{Answer, MINUTE, World};

const DECLINED: &str = "The account does not pay this";
const FUNDS_SHORT: &str = "The account does not hold enough";
const SILENT: &str = "Your bank did not answer in time";
const GIRO: &str = "ann-at-the-giro";
/// The giro does not hold it, and has never heard of it.
const EMPTY: &str = "ann-who-has-nothing";
const UNKNOWN: &str = "ann-whom-nobody-knows";

/// A shopper at the button, who has an account at the giro and one of the ledger.
struct Waiting {
    place: Place,
    giro: Arc<FakeRail>,
    browser: Browser,
    path: String,
    account: AccountId,
}

impl Waiting {
    async fn with_account(reference: &str, minor: i64) -> Self {
        let giro = Arc::new(FakeRail::with_account(GIRO, minor));
        giro.open(EMPTY, 1);
        let rail: Arc<dyn Rail> = giro.clone();
        let rails = Rails::new([("giro".to_owned(), rail)]);
        let bank = OpenId::start("bank").await;
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("client-secret");
        std::fs::write(&secret, SECRET).unwrap();
        let section = bank.section(&secret, None);
        let world = World::in_place(dir, section, |merchant| merchant, rails).await;
        let place = Place { world, bank };
        place.fund(5_000).await;
        let account = bring(&place, reference).await;
        let browser = Browser::new();
        let path = place.to_the_button(&browser, 420).await;
        Self {
            place,
            giro,
            browser,
            path,
            account,
        }
    }

    async fn new() -> Self {
        Self::with_account(GIRO, 5_000).await
    }

    async fn look(&self) -> Answer {
        self.browser.get(&self.place.world, &self.path).await
    }

    async fn state(&self) -> Value {
        let path = format!("{}/state", self.path);
        self.browser.get(&self.place.world, &path).await.json()
    }

    /// Presses the button with this account chosen.
    async fn press(&self, account: AccountId) -> Answer {
        let world = &self.place.world;
        let (payee, account) = (world.merchant.to_string(), account.to_string());
        let fields = [
            ("payee", payee.as_str()),
            ("currency", "EUR"),
            ("amount_minor", "420"),
            ("account", &account),
        ];
        self.browser.post(world, &self.path, &fields).await
    }

    async fn reconcile(&self) {
        let world = &self.place.world;
        world.journey.reconcile(world.now()).await.unwrap();
    }

    /// The page offers to pay, and from the other account that works.
    async fn pays_otherwise(&self, page: &Answer) {
        says(page, "Pay 4.20\u{a0}EUR</button>");
        let world = &self.place.world;
        let accounts = world
            .store
            .service_accounts(ann(&self.place))
            .await
            .unwrap();
        let other = accounts.iter().find(|it| it.id != self.account).unwrap().id;
        says(page, &format!("name=\"account\" value=\"{other}\""));
        assert_eq!(location(&self.press(other).await), self.path);
        says(&self.look().await, "Paid</h1>");
        assert_eq!(self.state().await, json!({ "state": "paid" }));
        assert_eq!(self.ledger().await, 5_000 - 420);
        assert_eq!(self.giro.captured(), 0);
    }

    async fn ledger(&self) -> i64 {
        let issuer = &self.place.bank.issuer;
        self.place.world.balance_at(issuer, "ann").await
    }
}

fn ann(place: &Place) -> PersonKey {
    PersonKey {
        issuer: place.bank.issuer.clone(),
        subject: "ann".into(),
    }
}

async fn bring(place: &Place, reference: &str) -> AccountId {
    let world = &place.world;
    let brought = world.store.bring_service_account(NewServiceAccount {
        id: ids::fresh(world.now(), AccountId::from_parts),
        person: ann(place),
        rail: "giro".into(),
        reference: reference.into(),
        name: "Everyday".into(),
        currency: Currency::EUR,
        at: world.now(),
    });
    brought.await.unwrap().id
}

#[tokio::test]
async fn while_the_rail_works_the_page_says_so_and_goes_on_by_itself() {
    let at = Waiting::new().await;
    at.giro.script("authorise", &[Mishap::Lost]);
    assert_eq!(location(&at.press(at.account).await), at.path);
    let pending = at.look().await;
    assert_eq!(pending.status, 200);
    says(&pending, "<h1>Payment under way</h1>");
    says(&pending, "Your bank is answering.");
    says(&pending, "4.20 <span class=\"currency\">EUR</span>");
    assert!(
        !text(&pending).contains("</button>\n</form>"),
        "nothing to press"
    );
    // With a script it asks here; without one it comes again, or the shopper looks again.
    says(
        &pending,
        &format!("data-poll=\"{}/state\" data-state=\"pending\"", at.path),
    );
    says(
        &pending,
        "<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>",
    );
    says(&pending, &format!("href=\"{}\">Look again</a>", at.path));
    assert_eq!(at.state().await, json!({ "state": "pending" }));
    let french = [("accept-language", "fr")];
    let world = &at.place.world;
    let french = at.browser.get_with(world, &at.path, &french).await;
    says(&french, "Paiement en cours");
    // Back and pressed once more: the same payment.
    assert_eq!(location(&at.press(at.account).await), at.path);
    assert_eq!(world.rows("SELECT count(*) FROM intents"), 1);

    world.advance(MINUTE / 4);
    at.reconcile().await;
    assert_eq!(at.state().await, json!({ "state": "receipt-due" }));
    says(&at.look().await, "The signed receipt follows in a moment.");
    world.journey.resume(world.now()).await.unwrap();
    assert_eq!(at.state().await, json!({ "state": "paid" }));
    says(&at.look().await, "Paid</h1>");
    assert_eq!(
        (at.giro.balance(GIRO), at.ledger().await),
        (5_000 - 420, 5_000)
    );
}

#[tokio::test]
async fn what_the_rail_declines_is_said_with_why_and_another_account_pays() {
    for (reference, mishap, says_why) in [
        (GIRO, Some(Mishap::Declines), DECLINED),
        (EMPTY, None, FUNDS_SHORT),
        (UNKNOWN, None, "The account is not known there any more."),
    ] {
        let at = Waiting::with_account(reference, 5_000).await;
        at.giro.script("authorise", mishap.as_slice());
        let declined = at.press(at.account).await;
        assert_eq!(declined.status, 402, "{reference}");
        assert_eq!(at.state().await, json!({ "state": "held" }));
        // Also for who comes back or reloads.
        let page = at.look().await;
        assert_eq!(page.status, 200);
        says(&page, says_why);
        at.pays_otherwise(&page).await;
    }
}

#[tokio::test]
async fn what_the_rail_never_answers_is_taken_back_and_another_account_pays() {
    let at = Waiting::new().await;
    let silent = [Mishap::Lost; 32];
    for verb in ["authorise", "query", "reverse"] {
        at.giro.script(verb, &silent);
    }
    at.press(at.account).await;
    at.place.world.advance(DOUBT_MAX_MS);
    at.reconcile().await;
    assert_eq!(at.state().await, json!({ "state": "held" }));
    let page = at.look().await;
    says(&page, SILENT);
    at.pays_otherwise(&page).await;
}

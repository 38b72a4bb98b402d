//! One authority of one test: a merchant, a terminal, two shoppers with money, and a clock in hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use authority::app::{App, Parts};
use authority::clock::{Clock, unix_seconds};
use authority::config::Config;
use authority::ids;
use authority::listen::{self, Listening, Plain};
use authority::metrics::Metrics;
use authority::serve;
use authority::services::journey::Journey;
use authority::services::keyring::KeyPurpose;
use authority::services::rails::Rails;
use authority::services::seeds;
use authority::services::trust::Trust;
use authority::store::SqlStore;
use authority::store::sqlite::{self, SqliteOptions};
use authority::store::{
    Credit, JoinToken, KeyRecord, Ledger, Merchant, Merchants, NewAccount, PersonKey, Seed,
    Terminal, TerminalStatus, Terminals, Tokens,
};
use hsm::{Hsm, HsmError, KeyKind, KeyLabel, MemoryHsm, Priority};
use pki::lifecycle::KeyState;
use pki::{Chain, HsmIssuer, Issuer, RootKey};
use protocol::code::TypedCode;
use protocol::ids::{AccountId, ChargeId, MerchantId, TerminalId};
use protocol::jws;
use protocol::link::LinkHost;
use protocol::money::{Currency, Money};
use protocol::schedule::{ScheduleClaims, accept};
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::window::{EpochClock, WindowPlan};
use protocol::wire::charges::ChargeRequest;
use protocol::wire::push::ChargeState;
use protocol::wire::schedules::{ScheduleQuery, ScheduleResponse};
use tempfile::TempDir;
use wallet_client::WalletKey;

use crate::openid::{OpenId, SECRET};
use crate::provider::{AUDIENCE, ISSUER, Provider, STRONG};

#[path = "world/phones.rs"]
mod phones;

pub use phones::{Answer, Phone, answer};

pub const START: Timestamp = Timestamp::from_ms(1_795_459_200_000);
pub const MINUTE: i64 = 60_000;
/// Where wallets find the authority, whatever socket the test speaks to.
pub const ORIGIN: &str = "https://pay.example";

pub struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::SeqCst))
    }
}

pub struct World<H = MemoryHsm> {
    dir: TempDir,
    pub clock: Arc<HandClock>,
    pub hsm: Arc<H>,
    pub provider: Provider,
    pub merchant: MerchantId,
    pub terminal: TerminalId,
    issuer: Arc<dyn Issuer>,
    pub store: Arc<SqlStore>,
    pub app: Arc<App>,
    pub journey: Arc<Journey>,
    pub phones: SocketAddr,
    pub http: reqwest::Client,
    /// The key of every phone that does not say otherwise.
    pub key: WalletKey,
    /// What the authority last said proofs must carry.
    nonce: Mutex<Option<String>>,
}

/// What a test has beside the usual: a piece of configuration, and rails.
#[derive(Clone, Default)]
pub struct More {
    pub config: String,
    pub rails: Rails,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|merchant| merchant).await
    }

    /// With outside rails.
    pub async fn with_rails(rails: Rails) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_place(dir, String::new(), |merchant| merchant, rails).await
    }

    /// With other limits, as in the configuration.
    pub async fn spending(text: &str) -> Self {
        Self::spending_at(text, |merchant| merchant).await
    }

    /// The same at a merchant of the test's own kind.
    pub async fn spending_at(text: &str, merchant: impl FnOnce(Merchant) -> Merchant) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SPENDING_FILE), text).unwrap();
        Self::in_place(dir, String::new(), merchant, Rails::default()).await
    }

    /// With a merchant of the test's own kind.
    pub async fn with(merchant: impl FnOnce(Merchant) -> Merchant) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_place(dir, String::new(), merchant, Rails::default()).await
    }

    pub async fn with_more(more: More, merchant: impl FnOnce(Merchant) -> Merchant) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_place(dir, more.config, merchant, more.rails).await
    }

    /// With a provider all of whose access tokens must be bound to a key, or not.
    pub async fn whose_provider_binds(constrained: bool) -> Self {
        let mut provider = Provider::start().await;
        provider.constrained = constrained;
        let dir = tempfile::tempdir().unwrap();
        Self::of_provider(dir, provider, |merchant| merchant, Rails::default()).await
    }

    /// The limits that ship, and access tokens that need no proof: for requests of a script.
    pub async fn of_scripts() -> Self {
        let mut provider = Provider::start().await;
        provider.constrained = false;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SPENDING_FILE), "").unwrap();
        Self::of_provider(dir, provider, |merchant| merchant, Rails::default()).await
    }

    /// The limits that ship, and a provider that can authenticate strongly.
    pub async fn whose_provider_can_be_strong() -> Self {
        let mut provider = Provider::start().await;
        provider.strong_acr = &[STRONG];
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SPENDING_FILE), "").unwrap();
        Self::of_provider(dir, provider, |merchant| merchant, Rails::default()).await
    }

    /// Where browsers sign in at these providers, which bring accounts of a rail.
    pub async fn where_browsers_sign_in(providers: &[(&OpenId, Option<&str>)]) -> Self {
        Self::where_they_sign_in_at(providers, |merchant| merchant).await
    }

    /// The same with a merchant of the test's own kind.
    pub async fn where_they_sign_in_at(
        providers: &[(&OpenId, Option<&str>)],
        merchant: impl FnOnce(Merchant) -> Merchant,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("client-secret");
        std::fs::write(&secret, SECRET).unwrap();
        let section = |(provider, rail): &(&OpenId, Option<&str>)| provider.section(&secret, *rail);
        let sections = providers.iter().map(section).collect();
        Self::in_place(dir, sections, merchant, Rails::default()).await
    }

    pub async fn in_place(
        dir: TempDir,
        sections: String,
        merchant: impl FnOnce(Merchant) -> Merchant,
        rails: Rails,
    ) -> Self {
        let mut provider = Provider::start().await;
        provider.sections = sections;
        Self::of_provider(dir, provider, merchant, rails).await
    }

    async fn of_provider(
        dir: TempDir,
        provider: Provider,
        merchant: impl FnOnce(Merchant) -> Merchant,
        rails: Rails,
    ) -> Self {
        let store = open(dir.path());
        let hsm = Arc::new(MemoryHsm::new());
        Self::of_parts(hsm, dir, provider, store, merchant, rails).await
    }

    /// Over this store, whatever database it is.
    pub async fn over(store: Arc<SqlStore>) -> Self {
        let (dir, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
        let (hsm, rails) = (Arc::new(MemoryHsm::new()), Rails::default());
        Self::of_parts(hsm, dir, provider, store, |merchant| merchant, rails).await
    }

    /// Another node of the same authority: the same HSM, clock and issuing CA.
    pub async fn beside(&self, store: Arc<SqlStore>) -> Arc<Journey> {
        let app = App::assemble(Parts {
            config: config(&self.provider, self.dir.path()),
            clock: self.clock.clone(),
            hsm: self.hsm.clone(),
            store,
            issuer: self.issuer.clone(),
            metrics: Metrics::new(),
            trust: Trust::pinned(self.issuer.chain().root().clone()),
        })
        .await
        .unwrap();
        Journey::with_rails(&app, Rails::default()).unwrap()
    }

    pub fn hsm_fails_once(&self) {
        let detail = "pulled".into();
        self.hsm.fail_next(HsmError::DeviceLost { detail });
    }
}

impl<H: Hsm> World<H> {
    /// On an HSM of the test's own kind.
    pub async fn on(hsm: Arc<H>) -> Self {
        let (dir, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
        let (store, rails) = (open(dir.path()), Rails::default());
        Self::of_parts(hsm, dir, provider, store, |merchant| merchant, rails).await
    }

    async fn of_parts(
        hsm: Arc<H>,
        dir: TempDir,
        provider: Provider,
        store: Arc<SqlStore>,
        merchant: impl FnOnce(Merchant) -> Merchant,
        rails: Rails,
    ) -> Self {
        let clock = Arc::new(HandClock(AtomicI64::new(START.ms())));
        make_keys(hsm.as_ref(), &store).await;
        let merchant = merchant(Merchant {
            id: ids::fresh(START, MerchantId::from_parts),
            name: "Corner Café".into(),
            currency: Currency::EUR,
            account: ids::fresh(START, AccountId::from_parts),
            fixed: None,
            open_cap: None,
            added_at: START,
        });
        let id = merchant.id;
        store.add_merchant(merchant).await.unwrap();
        let terminal = TerminalId::from_number(4_711_042).unwrap();
        let issuer = issuer().await;
        let mut world = Self::build(
            dir, clock, hsm, provider, store, issuer, id, terminal, rails,
        )
        .await;
        world.add_terminal(terminal).await;
        for person in ["ann", "bob"] {
            world.give(person, 5_000).await;
        }
        world.clock.0.fetch_add(2 * MINUTE, Ordering::SeqCst);
        world.terminal = terminal;
        world
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what outlives a process, each by its name"
    )]
    async fn build(
        dir: TempDir,
        clock: Arc<HandClock>,
        hsm: Arc<H>,
        provider: Provider,
        store: Arc<SqlStore>,
        issuer: Arc<dyn Issuer>,
        merchant: MerchantId,
        terminal: TerminalId,
        rails: Rails,
    ) -> Self {
        let app = App::assemble(Parts {
            config: config(&provider, dir.path()),
            clock: clock.clone(),
            hsm: hsm.clone(),
            store: store.clone(),
            issuer: issuer.clone(),
            metrics: Metrics::new(),
            trust: Trust::pinned(issuer.chain().root().clone()),
        })
        .await
        .unwrap();
        let journey = Journey::with_rails(&app, rails).unwrap();
        let listening = Listening::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let phones = listening.address();
        let listener = listen::public(listening, serve::public_routes(&journey)).over(Plain);
        tokio::spawn(listener.run(app.clone()));
        Self {
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            dir,
            clock,
            hsm,
            provider,
            merchant,
            terminal,
            issuer,
            store,
            app,
            journey,
            phones,
            key: WalletKey::generate().unwrap(),
            nonce: Mutex::default(),
        }
    }

    /// The same database and HSM, a new process.
    pub async fn restart(self) -> Self {
        let rails = self.journey.payments.rails().clone();
        self.restart_with(rails).await
    }

    /// The same with other rails.
    pub async fn restart_with(self, rails: Rails) -> Self {
        self.app.start_drain();
        let store = open(self.dir.path());
        self.built_again(store, rails).await
    }

    /// The same where what the database held is now in this store.
    pub async fn restart_over(self, store: SqlStore) -> Self {
        self.app.start_drain();
        let rails = self.journey.payments.rails().clone();
        self.built_again(Arc::new(store), rails).await
    }

    async fn built_again(self, store: Arc<SqlStore>, rails: Rails) -> Self {
        let Self {
            dir,
            clock,
            hsm,
            provider,
            merchant,
            terminal,
            issuer,
            key,
            ..
        } = self;
        let built = Self::build(
            dir, clock, hsm, provider, store, issuer, merchant, terminal, rails,
        )
        .await;
        Self { key, ..built }
    }

    /// For whoever edits rows by hand.
    pub fn database(&self) -> PathBuf {
        self.dir.path().join("store.sqlite")
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn advance(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub async fn add_terminal(&self, id: TerminalId) {
        let keys = self.app.keyring().sealing().clone();
        let header = seeds::context(id, 1, 1);
        let sealed = self
            .hsm
            .seal_new_seed(&keys, header, Priority::Renewal)
            .await
            .unwrap();
        let terminal = Terminal {
            id,
            merchant: self.merchant,
            name: "by the door".into(),
            status: TerminalStatus::Active,
            version: 1,
            sequence: 0,
            issued_until: None,
            refetch: false,
            added_at: self.now(),
        };
        let seed = Seed {
            terminal: id,
            version: 1,
            from_epoch: EpochClock::of(id).epoch_at(self.now()) - 1,
            keys,
            sealed,
        };
        let join = JoinToken {
            terminal: id,
            hash: ids::random(),
            expires_at: self.now(),
        };
        assert!(self.store.add_terminal(terminal, seed, join).await.unwrap());
    }

    pub async fn give(&self, person: &str, minor: i64) {
        self.give_at(ISSUER, person, minor).await;
    }

    /// Opens an account for somebody whom this provider knows.
    pub async fn give_at(&self, issuer: &str, person: &str, minor: i64) {
        let id = ids::fresh(self.now(), AccountId::from_parts);
        let (at, currency) = (self.now(), Currency::EUR);
        let person_key = PersonKey {
            issuer: issuer.into(),
            subject: person.into(),
        };
        let account = NewAccount {
            id,
            person: person_key,
            currency,
            at,
        };
        assert!(self.store.open_account(account).await.unwrap());
        let reference = format!("opening {person} at {issuer}");
        let credit = Credit {
            account: id,
            amount: eur(minor),
            reference,
            at,
        };
        self.store.credit(credit).await.unwrap();
    }

    pub fn person(&self, subject: &str) -> PersonKey {
        PersonKey {
            issuer: ISSUER.into(),
            subject: subject.into(),
        }
    }

    pub async fn balance(&self, person: &str) -> i64 {
        self.balance_at(ISSUER, person).await
    }

    pub async fn balance_at(&self, issuer: &str, person: &str) -> i64 {
        let person = PersonKey {
            issuer: issuer.into(),
            subject: person.into(),
        };
        self.store.accounts_of(person).await.unwrap()[0].balance_minor
    }

    pub async fn charge(&self, minor: i64) -> ChargeState {
        self.charge_at(self.terminal, minor).await
    }

    pub async fn charge_at(&self, terminal: TerminalId, minor: i64) -> ChargeState {
        let request = self.charge_request(minor);
        self.journey
            .charges
            .start(terminal, request, self.now())
            .await
            .unwrap()
    }

    pub fn charge_request(&self, minor: i64) -> ChargeRequest {
        ChargeRequest {
            charge: ids::fresh(self.now(), ChargeId::from_parts),
            amount: eur(minor),
            reference: Some("sale 1".into()),
        }
    }

    /// What an agent that follows its schedule shows now: a link, or the typed code.
    pub async fn shown(&self, channel: Channel) -> String {
        self.shown_at(self.terminal, channel).await
    }

    pub async fn shown_at(&self, terminal: TerminalId, channel: Channel) -> String {
        let now = self.now();
        let response = self.schedule(terminal).await;
        let verified = jws::verify::<ScheduleClaims>(&response.schedule, self.app.keyring().jwks());
        let schedule = accept(verified.unwrap(), terminal, None).unwrap();
        let clock = EpochClock::of(terminal);
        let epoch = clock.epoch_at(now);
        let entry = response
            .epoch_keys
            .iter()
            .find(|it| it.epoch == epoch)
            .unwrap();
        let plan = WindowPlan::draw(&entry.key, schedule.policy(), channel, &clock, epoch);
        let window = plan.at(now).unwrap().index;
        let version = entry.version;
        let id = WindowId {
            terminal,
            version,
            channel,
            epoch,
            window,
        };
        let turn = self.store.turns(vec![id]).await.unwrap()[0];
        match channel {
            Channel::Code => TypedCode::new(terminal, entry.key.code(window, turn)).shown(),
            Channel::Nfc | Channel::Qr => {
                let host = LinkHost::parse("pay.example").unwrap();
                host.link(terminal, &entry.key.token(channel, window, turn))
            }
        }
    }

    pub async fn schedule(&self, terminal: TerminalId) -> ScheduleResponse {
        let (query, now) = (ScheduleQuery::default(), self.now());
        let issued = self.journey.schedules.issue(terminal, &query, now).await;
        issued.unwrap()
    }

    /// Until when the window lasts that `channel` is in now.
    pub async fn boundary(&self, channel: Channel) -> Timestamp {
        let response = self.schedule(self.terminal).await;
        let clock = EpochClock::of(self.terminal);
        let epoch = clock.epoch_at(self.now());
        let entry = response
            .epoch_keys
            .iter()
            .find(|it| it.epoch == epoch)
            .unwrap();
        let policy = &self.app.config.policy;
        let plan = WindowPlan::draw(&entry.key, policy, channel, &clock, epoch);
        plan.at(self.now()).unwrap().closes
    }

    /// One number from the database.
    pub fn rows(&self, sql: &str) -> i64 {
        let conn = rusqlite::Connection::open(self.database()).unwrap();
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// One text from the database.
    pub fn text(&self, sql: &str) -> String {
        let conn = rusqlite::Connection::open(self.database()).unwrap();
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// What no verb does.
    pub fn edit(&self, sql: &str) {
        let conn = rusqlite::Connection::open(self.database()).unwrap();
        conn.execute(sql, []).unwrap();
    }
}

pub fn eur(minor: i64) -> Money {
    Money::new(minor, Currency::EUR).unwrap()
}

fn open(dir: &Path) -> Arc<SqlStore> {
    let options = SqliteOptions::new("one");
    Arc::new(sqlite::open(dir.join("store.sqlite"), options).unwrap())
}

async fn make_keys(hsm: &dyn Hsm, store: &SqlStore) {
    for purpose in KeyPurpose::ALL {
        let label = purpose.label(1);
        hsm.generate_key(purpose.kind(), &label).await.unwrap();
        let public_point = match purpose.kind() {
            KeyKind::Signing => Some(hsm.public_key(&label).await.unwrap()),
            KeyKind::Sealing | KeyKind::Binding | KeyKind::Cmac => None,
        };
        let key = KeyRecord {
            published_at: Some(START),
            ..KeyRecord::new(purpose, KeyState::Active, label, public_point, START)
        };
        assert!(store.add_key(key).await.unwrap());
    }
}

/// Much goes without strong authentication, and one address may ask a lot: all phones of these tests are
/// on it. What these limits are for is told in `step_up.rs`, with the numbers that ship.
pub const SPENDING: &str = r#"
        [step_up]
        EUR = { each_minor = 100000, in_all_minor = 10000000, payments = 1000000 }
        JPY = { each_minor = 100000000000, in_all_minor = 100000000000, payments = 1000000 }
        [limits]
        acts_per_address = 1000000
        looks_per_address = 1000000
        sign_ins_per_address = 1000000
        "#;

/// A private CA of merchants' servers, if a test has put one there.
pub const MERCHANTS_CA_FILE: &str = "merchants-ca.pem";

/// What a test puts in its place.
const SPENDING_FILE: &str = "spending.toml";

fn config(provider: &Provider, dir: &Path) -> Config {
    let spending = std::fs::read_to_string(dir.join(SPENDING_FILE));
    let spending = spending.unwrap_or_else(|_| SPENDING.into());
    let (url, constrained) = (&provider.url, provider.constrained);
    let strong_acr = provider.strong_acr;
    let ca = dir.join(MERCHANTS_CA_FILE);
    let ca_file = match ca.exists() {
        true => format!(", ca_file = {ca:?}"),
        false => String::new(),
    };
    let text = format!(
        r#"
        node = "one"
        trust = {{ domain = "pay.example", root = "root.pem", issuing = "issuing.pem" }}
        public = {{ certificate = "p.pem", key = "p.key", link_host = "pay.example" }}
        agents = {{ certificate = "a.pem", key = "a.key", names = ["localhost"] }}
        hsm = {{ module = "none.so", token_label = "m2key", pin_file = "pin" }}
        signer = {{ socket = "signer.sock" }}
        store = {{ path = "store.sqlite" }}
        webhooks = {{ private_addresses = true{ca_file} }}
        {spending}
        [[identity_providers]]
        name = "demo bank"
        issuer = "{ISSUER}"
        audience = "{AUDIENCE}"
        jwks_url = "{url}"
        algorithms = ["ES256", "RS256", "PS256"]
        sender_constrained = {constrained}
        strong_acr = {strong_acr:?}
        {}
        "#,
        provider.sections
    );
    Config::parse(&text, Path::new("/nowhere/authority.toml")).unwrap()
}

/// An issuing CA of one test: it certifies the keys that sign statements.
async fn issuer() -> Arc<dyn Issuer> {
    let (hsm, label) = (Arc::new(MemoryHsm::new()), KeyLabel("issuing".into()));
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let point = hsm.public_key(&label).await.unwrap();
    let now = unix_seconds(START);
    let root_key = RootKey::generate().unwrap();
    let root = root_key.certificate(now).unwrap();
    let issuing = root_key.sign_issuing(&root, &point, now).unwrap();
    let (chain, domain) = (
        Chain::new(issuing, root).unwrap(),
        "pay.example".parse().unwrap(),
    );
    Arc::new(HsmIssuer::open(hsm, label, chain, domain).await.unwrap())
}

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
use authority::services::sign_in::{Shown, SignedIn};
use authority::services::trust::Trust;
use authority::services::{Failure, seeds};
use authority::store::sqlite::{SqliteOptions, SqliteStore};
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
use serde_json::{Value, json};
use tempfile::TempDir;
use wallet_client::WalletKey;

use crate::openid::{OpenId, SECRET};
use crate::provider::{AUDIENCE, ISSUER, Provider};

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

pub struct World {
    dir: TempDir,
    pub clock: Arc<HandClock>,
    pub hsm: Arc<MemoryHsm>,
    pub provider: Provider,
    pub merchant: MerchantId,
    pub terminal: TerminalId,
    issuer: Arc<dyn Issuer>,
    pub store: Arc<SqliteStore>,
    pub app: Arc<App>,
    pub journey: Arc<Journey>,
    pub phones: SocketAddr,
    pub http: reqwest::Client,
    /// The key of every phone that does not say otherwise.
    pub key: WalletKey,
    /// What the authority last said proofs must carry.
    nonce: Mutex<Option<String>>,
}

/// What the public listener answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub cookie: Option<String>,
    pub retry_after: Option<u32>,
    pub headers: reqwest::header::HeaderMap,
}

/// A claim in a phone's hand.
#[derive(Debug, Clone)]
pub struct Phone {
    pub claim: String,
    /// `__Host-m2key-claim=…`
    pub cookie: String,
    pub view: Value,
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
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SPENDING_FILE), text).unwrap();
        Self::in_place(dir, String::new(), |merchant| merchant, Rails::default()).await
    }

    /// With a merchant of the test's own kind.
    pub async fn with(merchant: impl FnOnce(Merchant) -> Merchant) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_place(dir, String::new(), merchant, Rails::default()).await
    }

    /// With a provider all of whose access tokens must be bound to a key, or not.
    pub async fn whose_provider_binds(constrained: bool) -> Self {
        let mut provider = Provider::start().await;
        provider.constrained = constrained;
        let dir = tempfile::tempdir().unwrap();
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
        let clock = Arc::new(HandClock(AtomicI64::new(START.ms())));
        let hsm = Arc::new(MemoryHsm::new());
        let store = open(dir.path());
        make_keys(&hsm, &store).await;
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
        hsm: Arc<MemoryHsm>,
        provider: Provider,
        store: Arc<SqliteStore>,
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
        let store = open(dir.path());
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

    pub fn hsm_fails_once(&self) {
        let detail = "pulled".into();
        self.hsm.fail_next(HsmError::DeviceLost { detail });
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

    /// A fresh access token, for the world's key.
    pub fn sign_in(&self, subject: &str) -> String {
        self.sign_in_with(subject, &self.key)
    }

    /// The same for another key.
    pub fn sign_in_with(&self, subject: &str, key: &WalletKey) -> String {
        self.provider.token(&self.claims_of(subject, key))
    }

    pub fn claims_of(&self, subject: &str, key: &WalletKey) -> Value {
        let now_s = self.now().secs();
        self.provider.claims(subject, key.thumbprint(), now_s)
    }

    /// A proof by the world's key that leaves nothing to wish for, whatever the access token.
    pub async fn proof(&self, method: &str, path: &str, access_token: &str) -> String {
        let nonce = self.journey.sign_in.nonce(self.now()).await.unwrap();
        let address = format!("{ORIGIN}{path}");
        let proven = self.key.prove(
            method,
            &address,
            Some(access_token),
            Some(&nonce),
            self.now(),
        );
        proven.unwrap()
    }

    /// Who sends this access token with a good proof?
    pub async fn verify(&self, access_token: &str) -> Result<SignedIn, Failure> {
        let proof = self.proof("GET", "/", access_token).await;
        let shown = Shown {
            access_token,
            proof: Some(&proof),
            method: "GET",
            path: "/",
        };
        self.journey.sign_in.verify(&shown, self.now()).await
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

    pub async fn claim(&self, token: &str, access_token: Option<&str>) -> Answer {
        let body = json!({ "token": token });
        let request = self.http.post(self.url("/v1/claims")).json(&body);
        self.send(request, access_token).await
    }

    /// Sends it as the world's phone does: with a proof, and again where the nonce was old.
    pub async fn send(
        &self,
        request: reqwest::RequestBuilder,
        access_token: Option<&str>,
    ) -> Answer {
        match access_token {
            None => answer(request).await,
            Some(token) => self.send_with(request, token, &self.key).await,
        }
    }

    pub async fn send_with(
        &self,
        request: reqwest::RequestBuilder,
        access_token: &str,
        key: &WalletKey,
    ) -> Answer {
        let mut tries = 2;
        loop {
            tries -= 1;
            let again = request.try_clone().unwrap();
            let built = again.try_clone().unwrap().build().unwrap();
            let (method, path) = (built.method().as_str(), built.url().path());
            let nonce = self.nonce.lock().unwrap().clone();
            let address = format!("{ORIGIN}{path}");
            let (token, nonce) = (Some(access_token), nonce.as_deref());
            let proof = key.prove(method, &address, token, nonce, self.now());
            let again = again.header("authorization", format!("DPoP {access_token}"));
            let answered = answer(again.header("dpop", proof.unwrap())).await;
            let next = answered.headers.get("dpop-nonce");
            *self.nonce.lock().unwrap() = next.map(|it| it.to_str().unwrap().to_owned());
            if tries == 0 || !answered.wants_nonce() {
                return answered;
            }
        }
    }

    /// Claims what must succeed.
    pub async fn claimed(&self, token: &str, access_token: Option<&str>) -> Phone {
        let answer = self.claim(token, access_token).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let view = answer.json();
        Phone {
            claim: view["claim"].as_str().unwrap().into(),
            cookie: answer.cookie.unwrap(),
            view,
        }
    }

    /// A till's charge of `minor`, scanned.
    pub async fn held(&self, minor: i64) -> Phone {
        self.charge(minor).await;
        let link = self.shown(Channel::Qr).await;
        self.claimed(&link, None).await
    }

    pub async fn view(&self, phone: &Phone) -> Answer {
        let url = self.url(&format!("/v1/claims/{}", phone.claim));
        answer(self.http.get(url).header("cookie", &phone.cookie)).await
    }

    pub async fn approve(&self, phone: &Phone, person: &str, minor: i64) -> Answer {
        let body = self.approval(minor);
        self.approve_with(
            phone,
            Some(&phone.cookie),
            Some(&self.sign_in(person)),
            &body,
        )
        .await
    }

    pub fn approval(&self, minor: i64) -> Value {
        json!({ "amount": eur(minor), "payee": self.merchant })
    }

    pub async fn approve_with(
        &self,
        phone: &Phone,
        cookie: Option<&str>,
        access_token: Option<&str>,
        body: &Value,
    ) -> Answer {
        let url = self.url(&format!("/v1/claims/{}/approval", phone.claim));
        let mut request = self.http.post(url).json(body);
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        self.send(request, access_token).await
    }

    /// A request to the public listener that is sent as it stands.
    pub fn ask(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.http.request(method, self.url(path))
    }

    pub async fn post_as(
        &self,
        person: Option<&str>,
        path: &str,
        cookie: Option<&str>,
        body: &Value,
    ) -> Answer {
        let token = person.map(|person| self.sign_in(person));
        self.post_with(token.as_deref(), path, cookie, body).await
    }

    pub async fn post_with(
        &self,
        access_token: Option<&str>,
        path: &str,
        cookie: Option<&str>,
        body: &Value,
    ) -> Answer {
        let mut request = self.http.post(self.url(path)).json(body);
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        self.send(request, access_token).await
    }

    pub async fn get_as(&self, person: &str, path: &str) -> Answer {
        let request = self.http.get(self.url(path));
        self.send(request, Some(&self.sign_in(person))).await
    }

    pub async fn delete_as(&self, person: &str, path: &str) -> Answer {
        let request = self.http.delete(self.url(path));
        self.send(request, Some(&self.sign_in(person))).await
    }

    /// One number from the database.
    pub fn rows(&self, sql: &str) -> i64 {
        let conn = rusqlite::Connection::open(self.database()).unwrap();
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// What no verb does.
    pub fn edit(&self, sql: &str) {
        let conn = rusqlite::Connection::open(self.database()).unwrap();
        conn.execute(sql, []).unwrap();
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(self.url(path))).await
    }

    pub async fn post_text(&self, path: &str, media: &str, body: String) -> Answer {
        let request = self.http.post(self.url(path)).header("content-type", media);
        answer(request.body(body)).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.phones)
    }
}

impl Answer {
    fn wants_nonce(&self) -> bool {
        let asked = self.headers.get("www-authenticate");
        asked.is_some_and(|it| it.to_str().unwrap().contains("use_dpop_nonce"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Refused with this status and problem.
    #[track_caller]
    pub fn refused(&self, status: u16, slug: &str) -> &Self {
        let type_ = self.json()["type"].as_str().unwrap_or_default().to_owned();
        let expected = (status, format!("urn:m2key:problem:{slug}"));
        assert_eq!((self.status, type_), expected, "{self:?}");
        self
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let headers = response.headers().clone();
    let text = |name: &str| headers.get(name).map(|it| it.to_str().unwrap().to_owned());
    let cookie = text("set-cookie").map(|it| it.split(';').next().unwrap().to_owned());
    let retry_after = text("retry-after").map(|it| it.parse().unwrap());
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap().to_vec();
    Answer {
        status,
        body,
        cookie,
        retry_after,
        headers,
    }
}

pub fn eur(minor: i64) -> Money {
    Money::new(minor, Currency::EUR).unwrap()
}

fn open(dir: &Path) -> Arc<SqliteStore> {
    let options = SqliteOptions::new("one");
    Arc::new(SqliteStore::open(dir.join("store.sqlite"), options).unwrap())
}

async fn make_keys(hsm: &MemoryHsm, store: &SqliteStore) {
    for purpose in KeyPurpose::ALL {
        let label = purpose.label(1);
        hsm.generate_key(purpose.kind(), &label).await.unwrap();
        let public_point = match purpose.kind() {
            KeyKind::Signing => Some(hsm.public_key(&label).await.unwrap()),
            KeyKind::Sealing | KeyKind::Binding => None,
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
const SPENDING: &str = r#"
        step_up = { EUR = { each_minor = 100000, in_all_minor = 10000000, payments = 1000000 } }
        [limits]
        acts_per_address = 1000000
        looks_per_address = 1000000
        sign_ins_per_address = 1000000
        "#;

/// What a test puts in its place.
const SPENDING_FILE: &str = "spending.toml";

fn config(provider: &Provider, dir: &Path) -> Config {
    let spending = std::fs::read_to_string(dir.join(SPENDING_FILE));
    let spending = spending.unwrap_or_else(|_| SPENDING.into());
    let (url, constrained) = (&provider.url, provider.constrained);
    let text = format!(
        r#"
        node = "one"
        trust = {{ domain = "pay.example", root = "root.pem", issuing = "issuing.pem" }}
        public = {{ certificate = "p.pem", key = "p.key", link_host = "pay.example" }}
        agents = {{ certificate = "a.pem", key = "a.key", names = ["localhost"] }}
        hsm = {{ module = "none.so", token_label = "m2key", pin_file = "pin" }}
        signer = {{ socket = "signer.sock" }}
        store = {{ path = "store.sqlite" }}
        {spending}
        [[identity_providers]]
        name = "demo bank"
        issuer = "{ISSUER}"
        audience = "{AUDIENCE}"
        jwks_url = "{url}"
        algorithms = ["ES256", "RS256", "PS256"]
        sender_constrained = {constrained}
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

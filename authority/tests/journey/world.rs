//! One authority of one test: a merchant, a terminal, two shoppers with money, and a clock in hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use authority::app::{App, Parts};
use authority::clock::{Clock, unix_seconds};
use authority::config::Config;
use authority::ids;
use authority::listen::{self, Listening, Plain};
use authority::metrics::Metrics;
use authority::serve;
use authority::services::journey::Journey;
use authority::services::keyring::KeyPurpose;
use authority::services::seeds;
use authority::services::trust::Trust;
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

use crate::openid::{OpenId, SECRET};
use crate::provider::{AUDIENCE, ISSUER, Provider};

pub const START: Timestamp = Timestamp::from_ms(1_795_459_200_000);
pub const MINUTE: i64 = 60_000;

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
    phones: SocketAddr,
    pub http: reqwest::Client,
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

    /// With a merchant of the test's own kind.
    pub async fn with(merchant: impl FnOnce(Merchant) -> Merchant) -> Self {
        Self::in_place(tempfile::tempdir().unwrap(), String::new(), merchant).await
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
        Self::in_place(dir, sections, merchant).await
    }

    async fn in_place(
        dir: TempDir,
        sections: String,
        merchant: impl FnOnce(Merchant) -> Merchant,
    ) -> Self {
        let clock = Arc::new(HandClock(AtomicI64::new(START.ms())));
        let mut provider = Provider::start().await;
        provider.sections = sections;
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
        let mut world = Self::build(dir, clock, hsm, provider, store, issuer, id, terminal).await;
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
    ) -> Self {
        let app = App::assemble(Parts {
            config: config(&provider),
            clock: clock.clone(),
            hsm: hsm.clone(),
            store: store.clone(),
            issuer: issuer.clone(),
            metrics: Metrics::new(),
            trust: Trust::pinned(issuer.chain().root().clone()),
        })
        .await
        .unwrap();
        let journey = Journey::new(&app).unwrap();
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
        }
    }

    /// The same database and HSM, a new process.
    pub async fn restart(self) -> Self {
        self.app.start_drain();
        let Self {
            dir,
            clock,
            hsm,
            provider,
            merchant,
            terminal,
            issuer,
            ..
        } = self;
        let store = open(dir.path());
        Self::build(dir, clock, hsm, provider, store, issuer, merchant, terminal).await
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
        let reference = format!("opening {person}");
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

    /// A fresh access token.
    pub fn sign_in(&self, subject: &str) -> String {
        self.provider
            .token(&self.provider.claims(subject, self.now().secs()))
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
        let mut request = self.http.post(self.url("/v1/claims")).json(&body);
        if let Some(access_token) = access_token {
            request = request.bearer_auth(access_token);
        }
        answer(request).await
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
        if let Some(access_token) = access_token {
            request = request.bearer_auth(access_token);
        }
        answer(request).await
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

fn config(provider: &Provider) -> Config {
    let url = &provider.url;
    let text = format!(
        r#"
        node = "one"
        trust = {{ domain = "pay.example", root = "root.pem", issuing = "issuing.pem" }}
        public = {{ certificate = "p.pem", key = "p.key", link_host = "pay.example" }}
        agents = {{ certificate = "a.pem", key = "a.key", names = ["localhost"] }}
        hsm = {{ module = "none.so", token_label = "m2key", pin_file = "pin" }}
        signer = {{ socket = "signer.sock" }}
        store = {{ path = "store.sqlite" }}
        [[identity_providers]]
        name = "demo bank"
        issuer = "{ISSUER}"
        audience = "{AUDIENCE}"
        jwks_url = "{url}"
        algorithms = ["ES256", "RS256", "PS256"]
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

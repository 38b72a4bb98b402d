//! What does the authority do on the same HSM token and disk?
//!
//! The services themselves, without HTTP and TLS around them: those cost the same whatever is asked.

use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authority::app::{App, open};
use authority::config::Config;
use authority::services::journey::Journey;
use authority::services::operators::{
    AccountCredit, AccountOpen, MerchantAdd, TerminalAdd, carry_out,
};
use authority::services::sign_in::{Shown, SignedIn};
use authority::services::wallet::{self, Holder, Paid, Pay};
use demo_bank::{Bank, Shopper};
use hsm::{Priority, SealedSeed};
use protocol::dpop::PROOF_HEADER;
use protocol::ids::TerminalId;
use protocol::link::LinkHost;
use protocol::live::{LoadedEpoch, candidates};
use protocol::money::{Currency, Money};
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::window::EpochClock;
use protocol::wire::claims::{ApprovalRequest, CLAIMS_PATH};
use protocol::wire::schedules::ScheduleQuery;

use wallet_client::{Agreed, Wallet, WalletKey};

use super::Fault;
use super::table::EPOCHS;

/// How long one measurement takes.
pub(crate) const SPAN: Duration = Duration::from_millis(1_500);
/// Tills and phones at work side by side.
pub(crate) const TERMINALS: usize = 64;
const AUDIENCE: &str = "https://pay.example";
const SHOPPER: &str = "shopper-one";
/// Of a shopper who exists for this run only.
const PASSWORD: &str = "side-by-side";
/// How often, and how far apart, the bank is knocked at while it opens.
const OPENING_TRIES: usize = 100;
const OPENING_PAUSE: Duration = Duration::from_millis(20);
/// Enough for every payment of a run.
const PURSE_MINOR: i64 = 10_000_000_000;

/// An authority with terminals, a shopper, and a bank that vouches for them.
pub(crate) struct World {
    journey: Arc<Journey>,
    terminals: Vec<TerminalId>,
    /// The keys of this hour and the next, which each of them has from its schedule.
    held: HashMap<TerminalId, Vec<LoadedEpoch>>,
    shopper: SignedIn,
    /// The same shopper's app, and what they agree to at every terminal.
    wallet: Wallet,
    agreed: Agreed,
    sealed: SealedSeed,
    host: LinkHost,
}

impl World {
    pub(crate) async fn open(home: &Path) -> Result<Arc<Self>, Fault> {
        let bank = open_bank().await?;
        let app = open(config(home, &bank)?).await?;
        let journey = Journey::new(&app)?;
        let (terminals, agreed) = enrol(&app, &bank).await?;
        let now = app.clock.now();
        let key = WalletKey::generate()?;
        let token = access_token(&bank, &key, now).await?;
        let shopper = sign_in(&journey, &key, &token, now).await?;
        let epoch = EpochClock::of(terminals[0]).epoch_at(now);
        let judging = app.store.judging(terminals[0], vec![epoch]).await?;
        let (seed, _) = judging
            .and_then(|it| it.seeds.into_iter().next())
            .ok_or("no seed")?;
        let mut held = HashMap::new();
        for terminal in &terminals {
            let epoch = EpochClock::of(*terminal).epoch_at(now);
            let keys = &journey.epoch_keys;
            let loaded = keys.for_schedule(*terminal, &[epoch, epoch + 1]).await?;
            held.insert(*terminal, loaded);
        }
        let host = app.config.public.link_host.clone();
        Ok(Arc::new(Self {
            journey,
            terminals,
            held,
            shopper,
            wallet: Wallet::new(key, &app.config.public.origin(), &token),
            agreed,
            sealed: seed.sealed,
            host,
        }))
    }

    pub(crate) fn app(&self) -> &App {
        &self.journey.app
    }

    pub(crate) fn sealed(&self) -> &SealedSeed {
        &self.sealed
    }

    pub(crate) async fn epoch_keys(self: &Arc<Self>) -> Result<f64, Fault> {
        let messages: Vec<Vec<u8>> = (0..EPOCHS).map(|n| vec![n as u8; 34]).collect();
        self.rate(move |world, _| {
            let batch = messages.clone();
            async move {
                let keys = world.app().keyring().sealing().clone();
                let hsm = &world.app().hsm;
                let macs = hsm.hmac_batch(&keys, &world.sealed, batch, Priority::Payment);
                Ok(macs.await?.len())
            }
        })
        .await
    }

    pub(crate) async fn schedules(self: &Arc<Self>) -> Result<f64, Fault> {
        self.rate(async |world, terminal| {
            let (query, now) = (ScheduleQuery::default(), world.app().clock.now());
            world.journey.schedules.issue(terminal, &query, now).await?;
            Ok(1)
        })
        .await
    }

    /// Claim, approval, books, receipt; every phone at its own terminal. Answers the rate, and how long
    /// each payment took.
    pub(crate) async fn payments(self: &Arc<Self>) -> Result<(f64, Vec<Duration>), Fault> {
        let took = Arc::new(Mutex::new(Vec::new()));
        let all = took.clone();
        let rate = self.rate(move |world, terminal| {
            let all = all.clone();
            async move {
                let start = Instant::now();
                world.payment(terminal).await?;
                let took = start.elapsed();
                all.lock().expect("nobody panics with it").push(took);
                Ok(1)
            }
        });
        let rate = rate.await?;
        let took = std::mem::take(&mut *took.lock().expect("nobody panics with it"));
        Ok((rate, took))
    }

    async fn payment(&self, terminal: TerminalId) -> Result<(), Fault> {
        let now = self.app().clock.now();
        let link = self.link(terminal).await?;
        let claims = &self.journey.claims;
        let claim = claims.claim(&link, Some(&self.shopper), now).await?;
        let amount = Money::new(420, Currency::EUR)?;
        let request = ApprovalRequest {
            amount,
            payee: claim.view.payee.id,
            account: None,
            assertion: None,
        };
        let (id, cookie) = (claim.view.claim, Some(&claim.cookie));
        let approvals = &self.journey.approvals;
        approvals
            .approve(id, cookie, &self.shopper, &request, now)
            .await?;
        Ok(())
    }

    /// The same by a wallet in one call: its request, claim and signed approval, books, receipt.
    pub(crate) async fn wallet_payments(self: &Arc<Self>) -> Result<f64, Fault> {
        self.rate(async |world, terminal| {
            let holder = Holder::of(world.shopper.clone())?;
            let now = world.app().clock.now();
            let link = world.link(terminal).await?;
            let request = world.wallet.approve(&link, &world.agreed, now)?;
            let pay = Pay {
                name: &world.wallet.name()?,
                request: &request,
            };
            match wallet::pay(&world.journey, &holder, &pay, now).await? {
                Paid::Now(_) => Ok(1),
                other => Err(format!("not paid: {other:?}").into()),
            }
        })
        .await
    }

    /// What the terminal's QR code shows now.
    async fn link(&self, terminal: TerminalId) -> Result<String, Fault> {
        let now = self.app().clock.now();
        let loaded = self.held.get(&terminal).ok_or("no keys")?;
        let found = candidates(terminal, now, loaded, &[Channel::Qr]);
        let open = found
            .iter()
            .find(|it| it.window.contains(now))
            .ok_or("no window is open")?;
        let turn = self.app().store.turns(vec![open.id]).await?[0];
        let of_epoch = loaded
            .iter()
            .find(|it| it.epoch == open.id.epoch)
            .ok_or("no key")?;
        Ok(self.host.link(
            terminal,
            &of_epoch.key.token(Channel::Qr, open.id.window, turn),
        ))
    }

    /// How much a second all terminals do side by side, each as a task of its own.
    async fn rate<S, F>(self: &Arc<Self>, step: S) -> Result<f64, Fault>
    where
        S: Fn(Arc<Self>, TerminalId) -> F + Clone + Send + 'static,
        F: Future<Output = Result<usize, Fault>> + Send + 'static,
    {
        let start = Instant::now();
        let at_work = self.terminals.iter().map(|terminal| {
            let (world, terminal, step) = (self.clone(), *terminal, step.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while start.elapsed() < SPAN {
                    done += step(world.clone(), terminal).await?;
                }
                Ok::<_, Fault>(done)
            })
        });
        let mut done = 0;
        for of_terminal in futures_util::future::try_join_all(at_work).await? {
            done += of_terminal?;
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }
}

/// A demo bank on loopback, in this process; its address.
async fn open_bank() -> Result<String, Fault> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, harness::ports::free()?));
    let issuer = format!("http://{listen}");
    let shopper = Shopper {
        name: SHOPPER.into(),
        password: PASSWORD.into(),
        account: "Everyday".into(),
    };
    let bank = Bank::open(demo_bank::Config {
        listen,
        issuer: issuer.clone(),
        audience: AUDIENCE.into(),
        tls: None,
        relying_parties: Vec::new(),
        rail: None,
        shoppers: vec![shopper],
    });
    let bank = bank.map_err(|_| "no random bytes")?;
    tokio::spawn(demo_bank::serve(bank, std::future::pending()));
    Ok(issuer)
}

/// As the phone of this key would be known by a request of its own.
async fn sign_in(
    journey: &Journey,
    key: &WalletKey,
    access_token: &str,
    now: Timestamp,
) -> Result<SignedIn, Fault> {
    let address = format!("{}{CLAIMS_PATH}", journey.app.config.public.origin());
    let nonce = journey.sign_in.nonce(now).await?;
    let proof = key.prove("POST", &address, Some(access_token), Some(&nonce), now)?;
    let shown = Shown {
        access_token,
        proof: Some(&proof),
        method: "POST",
        path: CLAIMS_PATH,
    };
    Ok(journey.sign_in.verify(&shown, now).await?)
}

async fn access_token(bank: &str, key: &WalletKey, now: Timestamp) -> Result<String, Fault> {
    let form = format!("shopper={SHOPPER}&password={PASSWORD}");
    let ask = reqwest::Client::builder().no_proxy().build()?;
    let mut last = None;
    for _ in 0..OPENING_TRIES {
        let url = format!("{bank}/token");
        let proof = key.prove("POST", &url, None, None, now)?;
        let request = ask.post(url).header(PROOF_HEADER, proof).body(form.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        match request.send().await {
            Ok(answer) => {
                let body: serde_json::Value = answer.json().await?;
                return Ok(body["access_token"]
                    .as_str()
                    .ok_or("no access token")?
                    .to_owned());
            }
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(OPENING_PAUSE).await;
    }
    Err(last.map_or("the bank never opened".into(), Into::into))
}

fn config(home: &Path, bank: &str) -> Result<Config, Fault> {
    let path = home.join("authority.toml");
    let text = std::fs::read_to_string(&path)?;
    let provider = format!(
        "{text}\n[[identity_providers]]\nname = \"Demo Bank\"\nissuer = \"{bank}\"\n\
         audience = \"{AUDIENCE}\"\njwks_url = \"{bank}/.well-known/jwks.json\"\n\
         [step_up.EUR]\neach_minor = 1000000\nin_all_minor = 1000000000\npayments = 1000000\n\
         [limits]\nclaims_per_shopper = 1000000\npayments_per_wallet_key = 1000000\n"
    );
    Ok(Config::parse(&provider, &path)?)
}

/// A merchant who lets shoppers choose the amount, its terminals, and a shopper with a full purse.
async fn enrol(app: &App, bank: &str) -> Result<(Vec<TerminalId>, Agreed), Fault> {
    let merchant = MerchantAdd {
        name: "Corner Bakery".into(),
        currency: Currency::EUR,
        fixed_minor: None,
        open_cap_minor: Some(10_000),
    };
    let merchant = carry_out(app, "bench", merchant).await?.merchant;
    let mut terminals = Vec::with_capacity(TERMINALS);
    for n in 0..TERMINALS {
        let add = TerminalAdd {
            merchant,
            name: format!("Counter {n}"),
        };
        terminals.push(carry_out(app, "bench", add).await?.terminal);
    }
    let purse = AccountOpen {
        issuer: bank.into(),
        subject: SHOPPER.into(),
        currency: Currency::EUR,
    };
    let account = carry_out(app, "bench", purse).await?.account;
    let amount = Money::new(PURSE_MINOR, Currency::EUR)?;
    let credit = AccountCredit {
        account,
        amount,
        reference: "bench".into(),
    };
    carry_out(app, "bench", credit).await?;
    let agreed = Agreed {
        amount: Money::new(420, Currency::EUR)?,
        payee: merchant,
        account,
    };
    Ok((terminals, agreed))
}

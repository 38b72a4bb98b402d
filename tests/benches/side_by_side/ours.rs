//! What does the authority do on the same HSM token and disk?
//!
//! The services themselves, without HTTP and TLS around them: those cost the same whatever is asked.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authority::app::{App, open};
use authority::services::journey::Journey;
use authority::services::operators::{MerchantAdd, TerminalAdd, carry_out};
use authority::services::sign_in::SignedIn;
use authority::services::wallet::{self, Holder, Paid, Pay};
use hsm::{Priority, SealedSeed};
use protocol::ids::TerminalId;
use protocol::link::LinkHost;
use protocol::live::{LoadedEpoch, candidates};
use protocol::money::{Currency, Money};
use protocol::token::Channel;
use protocol::window::EpochClock;
use protocol::wire::claims::ApprovalRequest;
use protocol::wire::schedules::ScheduleQuery;

use wallet_client::{Agreed, Wallet, WalletKey};

use super::Fault;
use super::shoppers::{access_token, config, open_accounts, open_bank, sign_in, signed_in};
use super::table::EPOCHS;

/// How long one measurement takes.
pub(crate) const SPAN: Duration = Duration::from_millis(1_500);
/// Tills and phones at work side by side.
pub(crate) const TERMINALS: usize = 64;
/// The only one.
const SHOPPER: usize = 0;

/// An authority with terminals, a shopper, and a bank that vouches for them.
pub(crate) struct World {
    journey: Arc<Journey>,
    terminals: Vec<TerminalId>,
    /// The keys of this hour and the next, which each of them has from its schedule.
    held: HashMap<TerminalId, Vec<LoadedEpoch>>,
    /// Who stands at each of them.
    people: HashMap<TerminalId, SignedIn>,
    /// Who has an app, and what they agree to at every terminal.
    shopper: SignedIn,
    wallet: Wallet,
    agreed: Agreed,
    sealed: SealedSeed,
    host: LinkHost,
}

impl World {
    pub(crate) async fn open(home: &Path) -> Result<Arc<Self>, Fault> {
        let bank = open_bank(1 + TERMINALS).await?;
        let app = open(config(home, &bank)?).await?;
        let journey = Journey::new(&app)?;
        let (terminals, agreed) = enrol(&app, &bank).await?;
        let now = app.clock.now();
        let key = WalletKey::generate()?;
        let token = access_token(&bank, SHOPPER, &key, now).await?;
        let shopper = sign_in(&journey, &key, &token, now).await?;
        let everybody = SHOPPER + 1..SHOPPER + 1 + TERMINALS;
        let people = signed_in(&journey, &bank, everybody).await?;
        let people = terminals.iter().copied().zip(people).collect();
        let epoch = EpochClock::of(terminals[0]).epoch_at(now);
        let judging = app.store.judging(terminals[0], vec![epoch]).await?;
        let (seed, _) = judging
            .and_then(|it| it.seeds.into_iter().next())
            .ok_or("no seed")?;
        let mut held = HashMap::new();
        for terminal in &terminals {
            let epoch = EpochClock::of(*terminal).epoch_at(now);
            let keys = &journey.epoch_keys;
            let mut loaded = keys.for_schedule(*terminal, &[epoch, epoch + 1]).await?;
            // A terminal draws each window of its hour once.
            let clock = EpochClock::of(*terminal);
            for hour in &mut loaded {
                let mut behind = hour.behind;
                behind.follow(hour.windows(Channel::Qr, &clock), now);
                hour.behind = behind;
            }
            held.insert(*terminal, loaded);
        }
        let host = app.config.public.link_host.clone();
        Ok(Arc::new(Self {
            journey,
            terminals,
            held,
            people,
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
        let shopper = self.people.get(&terminal).ok_or("nobody stands there")?;
        let claim = claims.claim(&link, Some(shopper), now).await?;
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
            .approve(id, cookie, shopper, &request, now)
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
    let accounts = open_accounts(app, bank, 1 + TERMINALS).await?;
    let agreed = Agreed {
        amount: Money::new(420, Currency::EUR)?,
        payee: merchant,
        account: accounts[SHOPPER],
    };
    Ok((terminals, agreed))
}

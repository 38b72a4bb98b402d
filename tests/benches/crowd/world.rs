//! What does one database cost its authority, a schedule, a claim, a payment at a time?
//!
//! A process of its own, so that memory is told apart. It does what the lines on its input say, and answers each
//! by a line.

use std::future::Future;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use authority::app::{App, open};
use authority::services::journey::Journey;
use authority::services::operators::{MerchantAdd, TerminalAdd, carry_out};
use authority::services::sign_in::SignedIn;
use futures_util::future::try_join_all;
use protocol::ids::{EventId, TerminalId};
use protocol::live::candidates;
use protocol::money::{Currency, Money};
use protocol::token::Channel;
use protocol::wire::claims::ApprovalRequest;
use protocol::wire::reports::{Seen, SeenWindow, TerminalEvent};
use protocol::wire::schedules::ScheduleQuery;

use super::Fault;

use super::shoppers::{self, config};

/// Tills and phones at work side by side.
pub(crate) const CALLERS: usize = 64;
/// Terminals of one merchant.
const PER_MERCHANT: u32 = 3;
/// The terminals that are measured, a number a line, in the order of their drawing.
const MEASURED: &str = "measured";

/// An authority over one database.
pub(crate) struct World {
    journey: Arc<Journey>,
    shoppers: Vec<SignedIn>,
    terminals: Vec<TerminalId>,
    /// Where the next terminals are taken from.
    next: usize,
    /// Terminals of one measurement.
    each: usize,
}

impl World {
    pub(crate) async fn open(home: &Path, bank: &str, each: usize) -> Result<Self, Fault> {
        let app = open(config(home, bank)?).await?;
        let journey = Journey::new(&app)?;
        // As its background work would: days to come have a place.
        journey.retain(app.clock.now()).await?;
        let listed = std::fs::read_to_string(home.join(MEASURED))?;
        let terminals: Vec<TerminalId> =
            listed.lines().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            shoppers: shoppers::signed_in(&journey, bank, 0..CALLERS).await?,
            journey,
            next: 0,
            each: each.min(terminals.len()),
            terminals,
        })
    }

    /// Answers lines until there are no more: what was asked for, per second.
    pub(crate) async fn obey(mut self) -> Result<(), Fault> {
        for line in std::io::stdin().lock().lines() {
            let rate = match line?.as_str() {
                "schedules" => self.schedules().await?,
                "claims" => self.claims().await?,
                "payments" => self.payments().await?,
                other => return Err(format!("{other} is nothing that is measured").into()),
            };
            println!("{rate}");
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    async fn schedules(&mut self) -> Result<f64, Fault> {
        let (terminals, journey) = (self.take(), &self.journey);
        // Else a terminal that paid before would have hours ready.
        journey.epoch_keys.forget_all();
        rate(&terminals, async |_, terminal| {
            let (query, now) = (ScheduleQuery::default(), journey.app.clock.now());
            journey.schedules.issue(terminal, &query, now).await?;
            Ok(())
        })
        .await
    }

    async fn claims(&mut self) -> Result<f64, Fault> {
        let shown = self.shown().await?;
        let journey = &self.journey;
        rate(&shown, async |_, link| {
            let now = journey.app.clock.now();
            journey.claims.claim(&link, None, now).await?;
            Ok(())
        })
        .await
    }

    async fn payments(&mut self) -> Result<f64, Fault> {
        let shown = self.shown().await?;
        rate(&shown, async |caller, link| self.pay(caller, &link).await).await
    }

    async fn pay(&self, caller: usize, link: &str) -> Result<(), Fault> {
        let (journey, shopper) = (&self.journey, &self.shoppers[caller]);
        let now = journey.app.clock.now();
        let claim = journey.claims.claim(link, Some(shopper), now).await?;
        let request = ApprovalRequest {
            amount: Money::new(420, Currency::EUR)?,
            payee: claim.view.payee.id,
            account: None,
            assertion: None,
        };
        let (id, cookie) = (claim.view.claim, Some(&claim.cookie));
        let approvals = &journey.approvals;
        approvals
            .approve(id, cookie, shopper, &request, now)
            .await?;
        Ok(())
    }

    /// The next terminals in turn.
    fn take(&mut self) -> Vec<TerminalId> {
        let all = self.terminals.iter().cycle().skip(self.next);
        let taken = all.take(self.each).copied().collect();
        self.next = (self.next + self.each) % self.terminals.len();
        taken
    }

    /// What the next terminals show, each on its screen. Their hours are loaded by that.
    async fn shown(&mut self) -> Result<Vec<String>, Fault> {
        let mut links = Vec::with_capacity(self.each);
        for some in self.take().chunks(CALLERS) {
            let shown = some.iter().map(|terminal| link(&self.journey, *terminal));
            links.extend(try_join_all(shown).await?);
        }
        Ok(links)
    }
}

/// Adds so many merchants' terminals as operators do; the first time also shoppers, and one of everything that a
/// terminal comes to have.
pub(crate) async fn enrol(home: &Path, bank: &str, terminals: u32) -> Result<(), Fault> {
    let app = open(config(home, bank)?).await?;
    let listed = std::fs::read_to_string(home.join(MEASURED)).unwrap_or_default();
    let mut added = Vec::new();
    let mut left = terminals.saturating_sub(listed.lines().count() as u32);
    while left > 0 {
        let merchants = left.div_ceil(PER_MERCHANT).min(CALLERS as u32);
        let shops = (0..merchants).map(|n| {
            let here = left.saturating_sub(n * PER_MERCHANT).min(PER_MERCHANT);
            open_shop(&app, here)
        });
        let opened: Vec<Vec<TerminalId>> = try_join_all(shops).await?;
        let opened: Vec<TerminalId> = opened.into_iter().flatten().collect();
        left -= opened.len() as u32;
        added.extend(opened);
    }
    let lines = added.iter().map(|it| format!("{it}\n"));
    std::fs::write(
        home.join(MEASURED),
        listed.clone() + &lines.collect::<String>(),
    )?;
    if listed.is_empty() {
        shoppers::open_accounts(&app, bank, CALLERS).await?;
        let first = *added.first().ok_or("no terminal")?;
        one_of_everything(&app, bank, first).await?;
    }
    Ok(())
}

async fn open_shop(app: &App, terminals: u32) -> Result<Vec<TerminalId>, Fault> {
    let merchant = MerchantAdd {
        name: "Corner Bakery".into(),
        currency: Currency::EUR,
        fixed_minor: None,
        open_cap_minor: Some(10_000),
    };
    let merchant = carry_out(app, "bench", merchant).await?.merchant;
    let mut opened = Vec::with_capacity(terminals as usize);
    for n in 0..terminals {
        let add = TerminalAdd {
            merchant,
            name: format!("Counter {n}"),
        };
        opened.push(carry_out(app, "bench", add).await?.terminal);
    }
    Ok(opened)
}

/// A schedule, a payment with its receipt, a report: what the crowd's rows are like.
async fn one_of_everything(app: &Arc<App>, bank: &str, terminal: TerminalId) -> Result<(), Fault> {
    let journey = Journey::new(app)?;
    let now = app.clock.now();
    let query = ScheduleQuery::default();
    journey.schedules.issue(terminal, &query, now).await?;
    let world = World {
        shoppers: shoppers::signed_in(&journey, bank, 0..1).await?,
        journey,
        terminals: vec![terminal],
        next: 0,
        each: 1,
    };
    let link = link(&world.journey, terminal).await?;
    world.pay(0, &link).await?;
    let written = TerminalEvent {
        id: EventId::from_parts(now.ms() as u64, &[7; 10]),
        at: now,
        what: Seen::TagWritten {
            tag_uid: "04a1b2c3d4e5f6".into(),
            pages: 24,
            window: SeenWindow {
                channel: Channel::Nfc,
                version: 1,
                epoch: protocol::window::EpochClock::of(terminal).epoch_at(now),
                window: 7,
                turn: 0,
            },
            signs: None,
            wear: None,
            counter: None,
        },
    };
    app.store.add_reports(terminal, vec![written], now).await?;
    Ok(())
}

/// What the terminal's QR code shows now.
async fn link(journey: &Journey, terminal: TerminalId) -> Result<String, Fault> {
    let now = journey.app.clock.now();
    let loaded = journey.epoch_keys.present(terminal, now).await?;
    let found = candidates(terminal, now, &loaded, &[Channel::Qr]);
    let open = found
        .iter()
        .find(|it| it.window.contains(now))
        .ok_or("no window is open")?;
    let turn = journey.app.store.turns(vec![open.id]).await?[0];
    let of_epoch = loaded
        .iter()
        .find(|it| it.epoch == open.id.epoch)
        .ok_or("no key")?;
    let token = of_epoch.key.token(Channel::Qr, open.id.window, turn);
    Ok(journey.app.config.public.link_host.link(terminal, &token))
}

/// How much a second is done with every caller busy, each of `things` once.
async fn rate<T: Clone, F>(things: &[T], step: impl Fn(usize, T) -> F) -> Result<f64, Fault>
where
    F: Future<Output = Result<(), Fault>>,
{
    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let (own, step) = (things.iter().skip(caller).step_by(CALLERS), &step);
        async move {
            for thing in own {
                step(caller, thing.clone()).await?;
            }
            Ok::<_, Fault>(())
        }
    });
    try_join_all(callers).await?;
    Ok(things.len() as f64 / start.elapsed().as_secs_f64())
}

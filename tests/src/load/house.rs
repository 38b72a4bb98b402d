//! How does an authority come up with a whole fleet, for one run?
//!
//! Bank, HSM, signer and authority as everywhere in these tests, each a process of its own; merchants, terminals and
//! accounts by the verbs that operators use, over their own connection rather than one program start each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::http::operators::OPERATOR_PATH;
use authority::services::operators::{
    AccountCredit, AccountOpen, JoinView, MerchantAdd, TerminalAdd, Verb,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use pki::{Certificate, SoftwareKey};
use protocol::ids::MerchantId;
use protocol::money::{Currency, Money};
use reader_agent::authority::enrol::{self, JoinToken};
use reader_agent::identity::Identity;
use reqwest::Client;

use super::fleet::{BankAt, Customer, FLEET_FILE, Fleet};
use super::stopwatch::wall;
use crate::authority::Authority;
use crate::bank::Bank;
use crate::{Failure, web};

const AUDIENCE: &str = "https://pay.example";
/// What every shopper pays where no till says otherwise: 1.20 EUR.
const FIXED_MINOR: i64 = 120;
/// Enough for every payment of a run.
const PURSE_MINOR: i64 = 100_000_000;
const TERMINALS_PER_MERCHANT: u32 = 10;
/// Terminals and accounts that are made at one time.
const MADE_AT_ONCE: usize = 8;

/// Everything runs; dropped from the top: first who asks, then who answers.
pub struct House {
    pub fleet: Fleet,
    pub authority: Authority,
    _bank: Bank,
}

/// An operator's line to the authority.
struct Desk {
    http: Client,
    url: String,
}

/// Bank and authority, introduced to each other; the authority does not run yet.
pub struct Shell {
    pub authority: Authority,
    pub bank: Bank,
    dir: PathBuf,
    shoppers: Vec<String>,
}

impl House {
    /// In this folder, with the fleet in its `fleet.toml`.
    pub async fn open(dir: &Path, terminals: u32, shoppers: u32) -> Result<Self, Failure> {
        let mut shell = Shell::build(dir, shoppers).await?;
        shell.authority.serve().await?;
        let fleet = shell.furnish(terminals).await?;
        Ok(Self {
            fleet,
            authority: shell.authority,
            _bank: shell.bank,
        })
    }
}

impl Shell {
    pub async fn build(dir: &Path, shoppers: u32) -> Result<Self, Failure> {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs)?;
        let authority = Authority::init(&dir.join("authority"), &logs)?;
        let shoppers: Vec<_> = (1..=shoppers).map(|n| format!("shopper-{n}")).collect();
        let names: Vec<_> = shoppers.iter().map(String::as_str).collect();
        let origin = authority.origin()?;
        let bank = Bank::open(&dir.join("bank"), &logs, AUDIENCE, &names, &origin).await?;
        authority.trust(&bank, AUDIENCE)?;
        authority.allow_plenty()?;
        Ok(Self {
            authority,
            bank,
            dir: dir.to_owned(),
            shoppers,
        })
    }

    /// Terminals and accounts, by the running authority; also written down in `fleet.toml`.
    pub async fn furnish(&self, terminals: u32) -> Result<Fleet, Failure> {
        let (authority, bank) = (&self.authority, &self.bank);
        let desk = Desk::of(authority)?;
        let names: Vec<_> = self.shoppers.iter().map(String::as_str).collect();
        let fleet = Fleet {
            public: vec![authority.public_url()?],
            agents: vec![authority.agents_url()?],
            root: authority.root(),
            operator_config: Some(authority.config()),
            bank: BankAt {
                token_url: format!("{}/token", bank.issuer()),
                ca: bank.ca().to_owned(),
            },
            shoppers: customers(bank, &desk, &names).await?,
            terminals: place_terminals(&self.dir, authority, &desk, terminals).await?,
            origin: authority.origin()?,
        };
        fleet.save(&self.dir.join(FLEET_FILE))?;
        Ok(fleet)
    }
}

impl Desk {
    fn of(authority: &Authority) -> Result<Arc<Self>, Failure> {
        let [certificate, key] = ["operator.pem", "operator.key"].map(|name| authority.file(name));
        Ok(Arc::new(Self {
            http: web::identified(&authority.root(), &certificate, &key)?,
            url: format!("{}{OPERATOR_PATH}", authority.agents_url()?),
        }))
    }

    async fn ask<V: Verb>(&self, verb: V) -> Result<V::Answer, Failure> {
        let post = self.http.post(format!("{}/{}", self.url, V::NAME));
        let response = post.json(&verb).send().await;
        let answer = web::read_answer(response.map_err(|error| web::sent(&error))?).await?;
        answer.map_err(|problem| Failure::new(format!("{}: {}", V::NAME, problem.title)))
    }
}

/// Every customer of the bank, with a full purse here.
async fn customers(
    bank: &Bank,
    desk: &Arc<Desk>,
    names: &[&str],
) -> Result<Vec<Customer>, Failure> {
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let shopper = bank.shopper(name)?;
        all.push(Customer {
            name: shopper.name.clone(),
            password: shopper.password.clone(),
        });
    }
    let made = stream::iter(all).map(|customer| {
        let (desk, issuer) = (desk.clone(), bank.issuer().to_owned());
        async move {
            fill_purse(&desk, issuer, &customer.name).await?;
            Ok::<_, Failure>(customer)
        }
    });
    made.buffered(MADE_AT_ONCE).try_collect().await
}

async fn fill_purse(desk: &Desk, issuer: String, subject: &str) -> Result<(), Failure> {
    let purse = AccountOpen {
        issuer,
        subject: subject.into(),
        currency: Currency::EUR,
    };
    let credit = AccountCredit {
        account: desk.ask(purse).await?.account,
        amount: Money::new(PURSE_MINOR, Currency::EUR).map_err(Failure::new)?,
        reference: format!("opening {subject}"),
    };
    desk.ask(credit).await.map(drop)
}

/// Enrols every terminal; the folders of their enrolments.
async fn place_terminals(
    dir: &Path,
    authority: &Authority,
    desk: &Arc<Desk>,
    count: u32,
) -> Result<Vec<PathBuf>, Failure> {
    let root = Certificate::load(&authority.root()).map_err(Failure::of("root.pem"))?;
    let agents_url = authority.agents_url()?;
    let mut merchants = Vec::new();
    for number in 0..count.div_ceil(TERMINALS_PER_MERCHANT) {
        let add = MerchantAdd {
            name: format!("Shop {}", number + 1),
            currency: Currency::EUR,
            fixed_minor: Some(FIXED_MINOR),
            open_cap_minor: None,
        };
        merchants.push(desk.ask(add).await?.merchant);
    }
    let placed = stream::iter(0..count).map(|number| {
        let merchant = merchants[(number / TERMINALS_PER_MERCHANT) as usize];
        let place = dir.join(format!("terminals/{}", number + 1));
        let (desk, root, agents_url) = (desk.clone(), root.clone(), agents_url.clone());
        async move {
            place_terminal(&desk, &agents_url, &root, merchant, &place).await?;
            Ok::<_, Failure>(place)
        }
    });
    placed.buffered(MADE_AT_ONCE).try_collect().await
}

async fn place_terminal(
    desk: &Desk,
    agents_url: &str,
    root: &Certificate,
    merchant: MerchantId,
    place: &Path,
) -> Result<(), Failure> {
    std::fs::create_dir_all(place)?;
    let add = TerminalAdd {
        merchant,
        name: String::new(),
    };
    let JoinView { join_token, .. } = desk.ask(add).await?;
    let join = JoinToken::parse(&join_token);
    let join = join.ok_or_else(|| Failure::new("no join token of a terminal"))?;
    let key = SoftwareKey::generate().map_err(Failure::of("a terminal's key"))?;
    let enrolled = enrol::enrol(agents_url, root.fingerprint(), &join, &key, wall()).await;
    let enrolled = enrolled.map_err(Failure::of("an enrolment"))?;
    Identity::save(place, &key, &enrolled).map_err(Failure::of(place.display()))
}

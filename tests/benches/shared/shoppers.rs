//! Who pays in a benchmark, and who vouches for them?

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use authority::app::App;
use authority::config::Config;
use authority::services::journey::Journey;
use authority::services::operators::{AccountCredit, AccountOpen, carry_out};
use authority::services::sign_in::{Shown, SignedIn};
use demo_bank::{Bank, Shopper};
use protocol::dpop::PROOF_HEADER;
use protocol::ids::AccountId;
use protocol::money::{Currency, Money};
use protocol::time::Timestamp;
use protocol::wire::claims::CLAIMS_PATH;
use wallet_client::WalletKey;

use super::Fault;

const CONFIG: &str = "authority.toml";
const AUDIENCE: &str = "https://pay.example";
/// Of shoppers who exist for this run only.
const PASSWORD: &str = "for-a-run";
/// How often, and how far apart, the bank is knocked at while it opens.
const OPENING_TRIES: usize = 100;
const OPENING_PAUSE: Duration = Duration::from_millis(20);
/// Enough for every payment of a run.
const PURSE_MINOR: i64 = 10_000_000_000;

/// A demo bank on loopback, in this process, with so many shoppers; its address.
pub(crate) async fn open_bank(shoppers: usize) -> Result<String, Fault> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, harness::ports::free()?));
    let issuer = format!("http://{listen}");
    let shopper = |n| Shopper {
        name: name(n),
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
        shoppers: (0..shoppers).map(shopper).collect(),
    });
    let bank = bank.map_err(|_| "no random bytes")?;
    tokio::spawn(demo_bank::serve(bank, std::future::pending()));
    Ok(issuer)
}

/// The configuration of an authority where shoppers of this bank may pay as often as they can.
pub(crate) fn config(home: &Path, bank: &str) -> Result<Config, Fault> {
    let path = home.join(CONFIG);
    let text = std::fs::read_to_string(&path)?;
    let whole = format!(
        "{text}\n[[identity_providers]]\nname = \"Demo Bank\"\nissuer = \"{bank}\"\n\
         audience = \"{AUDIENCE}\"\njwks_url = \"{bank}/.well-known/jwks.json\"\n\
         [step_up.EUR]\neach_minor = 1000000\nin_all_minor = 1000000000\npayments = 1000000\n\
         [limits]\nclaims_per_shopper = 1000000\npayments_per_wallet_key = 1000000\n"
    );
    Ok(Config::parse(&whole, &path)?)
}

async fn open_account(app: &App, bank: &str, n: usize) -> Result<AccountId, Fault> {
    let purse = AccountOpen {
        issuer: bank.into(),
        subject: name(n),
        currency: Currency::EUR,
    };
    let account = carry_out(app, "bench", purse).await?.account;
    let credit = AccountCredit {
        account,
        amount: Money::new(PURSE_MINOR, Currency::EUR)?,
        reference: account.0.to_string(),
    };
    carry_out(app, "bench", credit).await?;
    Ok(account)
}

/// Gives each of so many shoppers an account with a full purse.
pub(crate) async fn open_accounts(
    app: &App,
    bank: &str,
    shoppers: usize,
) -> Result<Vec<AccountId>, Fault> {
    let mut accounts = Vec::with_capacity(shoppers);
    for n in 0..shoppers {
        accounts.push(open_account(app, bank, n).await?);
    }
    Ok(accounts)
}

/// As the phones of these shoppers would be known by requests of their own.
pub(crate) async fn signed_in(
    journey: &Journey,
    bank: &str,
    shoppers: std::ops::Range<usize>,
) -> Result<Vec<SignedIn>, Fault> {
    let mut known = Vec::with_capacity(shoppers.len());
    for n in shoppers {
        let (key, now) = (WalletKey::generate()?, journey.app.clock.now());
        let token = access_token(bank, n, &key, now).await?;
        known.push(sign_in(journey, &key, &token, now).await?);
    }
    Ok(known)
}

/// As the phone of this key would be known by a request of its own.
pub(crate) async fn sign_in(
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

/// What the bank gives this shopper's app, bound to its key.
pub(crate) async fn access_token(
    bank: &str,
    n: usize,
    key: &WalletKey,
    now: Timestamp,
) -> Result<String, Fault> {
    let form = format!("shopper={}&password={PASSWORD}", name(n));
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
                let token = body["access_token"].as_str().ok_or("no access token")?;
                return Ok(token.to_owned());
            }
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(OPENING_PAUSE).await;
    }
    Err(last.map_or("the bank never opened".into(), Into::into))
}

fn name(n: usize) -> String {
    format!("shopper-{n}")
}

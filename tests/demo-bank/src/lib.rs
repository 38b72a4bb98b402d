//! What must a bank offer so that its customers can pay with M2Key?
//!
//! For its app an access token for a customer who has signed in, for a browser an OpenID provider
//! (`connect.rs`), and the public keys that verify both. If it is the rail as well, and moves the money: it
//! is asked to set aside, take and give back, and keeps books of its own. Everything here is a demo of
//! those seams; a bank has an identity provider and a core system already.
//!
//! ```text
//!  phone ──POST /token (shopper, password), proof of its key──▶ bank    an access token for that key
//!  phone ──Authorization: DPoP …, a proof for this request────▶ authority
//!                         authority ──GET /.well-known/jwks.json──▶ bank
//!                         authority ──POST /rail/<verb>, signed───▶ bank  (`rail.rs`, `books.rs`)
//! ```
#![forbid(unsafe_code)]

mod books;
mod connect;
mod rail;
mod routes;
mod serve;
mod signatures;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::money::Money;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use books::{Books, Caps};
use rail::RailDesk;
pub use routes::routes;
pub use serve::{ServeError, serve};
pub use token::{AccessToken, LIFETIME_S, NoRandom, Signer};

/// The bank's configuration: one small TOML file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; without `tls` a loopback address only.
    pub listen: SocketAddr,
    /// `iss` of every access token: the address under which others reach this bank.
    pub issuer: String,
    /// `aud` of every access token: the payment service it is for.
    pub audience: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Sites on whose behalf customers sign in here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relying_parties: Vec<RelyingParty>,
    /// What the bank does as a rail; without it only sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rail: Option<RailConfig>,
    pub shoppers: Vec<Shopper>,
}

/// A site that sends its visitors here to sign in. A real bank keeps no secret in a file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelyingParty {
    pub client_id: String,
    pub client_secret: String,
    /// What the customer is told: to whom they go on.
    pub name: String,
    /// The one address they are sent back to.
    pub redirect_uri: String,
}

/// The bank as a rail. A carrier has the caps as well, and phone numbers for references.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RailConfig {
    /// The keys that the authority publishes: an https address, or a file.
    pub authority_keys: String,
    /// The CA that its TLS certificate leads to; the public ones otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_ca: Option<PathBuf>,
    /// A file that only grows.
    pub books: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_max_minor: Option<i64>,
    /// In any 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month_max_minor: Option<i64>,
    /// For tests alone: a JSON file that says what goes wrong on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mishaps: Option<PathBuf>,
    #[serde(default)]
    pub accounts: Vec<RailAccount>,
}

/// An account that pays, and what is in it at first.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RailAccount {
    pub reference: String,
    pub amount: Money,
}

/// Certificate chain and key, PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A customer. A real bank keeps no password in a file, and asks for two factors.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shopper {
    /// `sub` of the access tokens: stable, and never an e-mail address.
    pub name: String,
    pub password: String,
    /// What the customer calls the account that pays.
    pub account: String,
}

/// The bank at work: its customers and its signing key.
pub struct Bank {
    config: Config,
    signer: Signer,
    codes: connect::Codes,
    rail: Option<Arc<RailDesk>>,
}

/// Why the bank cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Random(#[from] NoRandom),
    #[error("the books cannot be opened: {0}")]
    Books(#[from] std::io::Error),
}

impl Bank {
    /// With a fresh signing key: access tokens of an earlier run are void.
    pub fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        let signer = Signer::generate()?;
        let rail = config.rail.as_ref();
        let rail = rail.map(|rail| RailDesk::open(rail, &config.issuer));
        Ok(Arc::new(Self {
            codes: connect::Codes::default(),
            rail: rail.transpose()?,
            config,
            signer,
        }))
    }

    /// The customer who knows this password.
    fn sign_in(&self, name: &str, password: &str) -> Option<&Shopper> {
        let shoppers = &self.config.shoppers;
        shoppers
            .iter()
            .find(|shopper| shopper.name == name)
            .filter(|shopper| shopper.knows(password))
    }
}

impl Shopper {
    /// Hashes are compared, so that the time it takes says nothing about the password.
    fn knows(&self, password: &str) -> bool {
        Sha256::digest(&self.password) == Sha256::digest(password)
    }
}

/// Unix seconds.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

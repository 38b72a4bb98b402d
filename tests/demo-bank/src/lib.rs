//! What must a bank offer so that its customers can pay with M2Key?
//!
//! For its app an access token for a customer who has signed in, for a browser an OpenID provider
//! (`connect.rs`), and the public keys that verify both. Everything here is a demo of that seam; a bank
//! has an identity provider already.
//!
//! ```text
//!  phone ──POST /token (shopper, password), proof of its key──▶ bank    an access token for that key
//!  phone ──Authorization: DPoP …, a proof for this request────▶ authority
//!                         authority ──GET /.well-known/jwks.json──▶ bank
//! ```
#![forbid(unsafe_code)]

mod connect;
mod routes;
mod serve;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
}

impl Bank {
    /// With a fresh signing key: access tokens of an earlier run are void.
    pub fn open(config: Config) -> Result<Arc<Self>, NoRandom> {
        let signer = Signer::generate()?;
        Ok(Arc::new(Self {
            config,
            signer,
            codes: connect::Codes::default(),
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

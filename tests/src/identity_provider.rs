//! How does a certified OpenID provider come up, with customers nobody else knows?
//!
//! `oidc-provider` of npm, as `tests/web/provider.mjs` sets it up: PKCE required, requests left beforehand
//! (PAR), its issuer in the answer (RFC 9207), back-channel logout, accounts by UserInfo.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use crate::authority::Authority;
use crate::bank::{make_certificates, random_password};
use crate::process::Daemon;
use crate::{Failure, ports, web};

const HOST: &str = "localhost";
/// What it calls strong customer authentication.
const STRONG_ACR: &str = "urn:demo:sca";
/// Where npm puts what the tests take from it.
const SCRIPT: &str = "web/provider.mjs";
const INSTALL: &str = "cd tests/web && npm ci";

/// A running provider, and what an operator registered there.
pub struct IdentityProvider {
    /// In addresses of the authority, e.g. `wallet`.
    pub id: String,
    /// As shoppers see it.
    pub name: String,
    issuer: String,
    ca: PathBuf,
    client_key: PathBuf,
    customers: Vec<Customer>,
    daemon: Daemon,
}

/// Somebody who can sign in there.
#[derive(Debug, Clone)]
pub struct Customer {
    pub name: String,
    pub password: String,
    /// What the provider calls them towards others.
    pub subject: String,
    /// Whether the sign-in counts as strong.
    pub strong: bool,
    /// Id, name and currency of what they pay from.
    pub accounts: Vec<(String, String, String)>,
}

impl Customer {
    /// With one account in euros, and a password of their own.
    pub fn new(name: &str, strong: bool) -> Result<Self, Failure> {
        Ok(Self {
            name: name.into(),
            password: random_password()?,
            subject: format!("subject of {name}"),
            strong,
            accounts: vec![(
                format!("account of {name}"),
                "Current account".into(),
                "EUR".into(),
            )],
        })
    }

    fn json(&self) -> Value {
        let account = |(id, name, currency): &(String, String, String)| json!({ "id": id, "name": name, "currency": currency });
        let accounts: Vec<_> = self.accounts.iter().map(account).collect();
        json!({
            "sub": self.subject,
            "password": self.password,
            "strong": self.strong,
            "accounts": accounts,
        })
    }
}

impl IdentityProvider {
    /// Opens it in `dir` for these customers, with the authority registered as its client. Of a process
    /// of its own, on HTTPS under a private CA.
    pub async fn open(
        dir: &Path,
        logs: &Path,
        id: &str,
        name: &str,
        authority: &Authority,
        customers: Vec<Customer>,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        make_certificates(dir).map_err(Failure::of("the provider's certificates"))?;
        let client_key = dir.join("client.pem");
        make_client_key(&client_key).map_err(Failure::of("the client's key"))?;
        let port = ports::free()?;
        let issuer = format!("https://{HOST}:{port}");
        let ours = authority.origin()?;
        let by_name = |customer: &Customer| (customer.name.clone(), customer.json());
        let config = json!({
            "port": port, "issuer": issuer, "name": name, "strong_acr": STRONG_ACR,
            "tls": { "key": dir.join("bank.key"), "cert": dir.join("bank.pem") },
            "client": {
                "client_id": "m2key",
                "redirect_uri": format!("{ours}/sign-in/callback"),
                "jwks_uri": format!("{ours}/sign-in/{id}/jwks.json"),
                "backchannel_logout_uri": format!("{ours}/logout/backchannel/{id}"),
            },
            "customers": customers.iter().map(by_name).collect::<Map<_, _>>(),
        });
        let file = dir.join("provider.json");
        std::fs::write(&file, config.to_string())?;
        let mut daemon = Daemon::start(&format!("provider-{id}"), node(&file, authority)?, logs)?;
        let ca = dir.join("ca.pem");
        let http = web::trusting(&ca)?;
        let metadata = format!("{issuer}/.well-known/openid-configuration");
        let open = async || http.get(&metadata).send().await.ok();
        daemon.ready("the provider to open", open).await?;
        Ok(Self {
            id: id.into(),
            name: name.into(),
            issuer,
            ca,
            client_key,
            customers,
            daemon,
        })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The CA that its TLS certificate leads to.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    pub fn customer(&self, name: &str) -> Result<&Customer, Failure> {
        let found = self.customers.iter().find(|it| it.name == name);
        found.ok_or_else(|| Failure::new(format!("{} has no customer {name}", self.name)))
    }

    /// What the authority's configuration says of it; `rail` moves its customers' money.
    pub fn section(&self, kind: &str, rail: Option<&str>) -> Result<String, Failure> {
        let mut section = String::from("\n[[identity_providers]]\n");
        let mut line = |key: &str, value: &str| {
            let value = toml::Value::String(value.into());
            writeln!(section, "{key} = {value}").map_err(Failure::of("the configuration"))
        };
        line("name", &self.name)?;
        line("issuer", &self.issuer)?;
        line("ca_file", &self.ca.display().to_string())?;
        section += &format!("strong_acr = [\"{STRONG_ACR}\"]\n[identity_providers.sign_in]\n");
        let mut line = |key: &str, value: &str| {
            let value = toml::Value::String(value.into());
            writeln!(section, "{key} = {value}").map_err(Failure::of("the configuration"))
        };
        line("id", &self.id)?;
        line("kind", kind)?;
        line("client_id", "m2key")?;
        line("client_key", &self.client_key.display().to_string())?;
        if let Some(rail) = rail {
            line("rail", rail)?;
            line("currency", "EUR")?;
        }
        section += "scopes = [\"openid\", \"accounts\"]\n";
        Ok(section)
    }

    /// It signs with a new key from now on, and publishes no other.
    pub async fn rotate(&self) -> Result<(), Failure> {
        let url = format!("{}/test/rotate", self.issuer);
        let sent = web::trusting(&self.ca)?.post(url).send().await;
        let status = sent.map_err(|error| web::sent(&error))?.status();
        match status {
            StatusCode::NO_CONTENT => Ok(()),
            other => Err(Failure::new(format!("the provider answers {other}"))),
        }
    }

    /// We show it another key from now on.
    pub fn rotate_client_key(&self) -> Result<(), Failure> {
        make_client_key(&self.client_key).map_err(Failure::of("the client's key"))
    }

    /// As if its power had gone.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }
}

fn node(file: &Path, authority: &Authority) -> Result<Command, Failure> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !tests.join("web/node_modules/oidc-provider").exists() {
        return Err(Failure::new(format!("oidc-provider is missing: {INSTALL}")));
    }
    let mut node = Command::new("node");
    node.arg(tests.join(SCRIPT)).arg(file);
    // It fetches our client's keys over TLS.
    node.env("NODE_EXTRA_CA_CERTS", authority.root());
    node.stdin(Stdio::null());
    Ok(node)
}

fn make_client_key(file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Renamed into place, so that nobody reads half of it.
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, key.serialize_pem())?;
    std::fs::rename(fresh, file)?;
    Ok(())
}

//! How does a demo bank of our own come up, with customers nobody else knows?

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use demo_bank::{Books, Caps, Config, RailConfig, RelyingParty, Shopper, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

use crate::process::{Daemon, command};
use crate::{Failure, ports, web};

/// The site's secret, in the bank's folder.
const SECRET_FILE: &str = "client-secret";
const HOST: &str = "localhost";
const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";
const JWKS_PATH: &str = "/.well-known/jwks.json";

/// A running demo bank with TLS under a private CA of its own.
pub struct Bank {
    config: Config,
    ca: PathBuf,
    _daemon: Daemon,
}

impl Bank {
    /// Opens a bank in `dir` for these customers; its access tokens are for `audience`, and the site at
    /// `origin` sends its visitors here to sign in.
    pub async fn open(
        dir: &Path,
        logs: &Path,
        audience: &str,
        names: &[&str],
        origin: &str,
    ) -> Result<Self, Failure> {
        let mut config = configuration(dir, audience, names)?;
        config.relying_parties.push(RelyingParty {
            client_id: "m2key".into(),
            client_secret: random_password()?,
            name: "the payment page".into(),
            redirect_uri: format!("{origin}/sign-in/callback"),
        });
        Self::start(dir, logs, config).await
    }

    /// One that no site sends visitors to; it may move money as a rail.
    pub async fn open_with(
        dir: &Path,
        logs: &Path,
        audience: &str,
        names: &[&str],
        rail: Option<RailConfig>,
    ) -> Result<Self, Failure> {
        let mut config = configuration(dir, audience, names)?;
        config.rail = rail;
        Self::start(dir, logs, config).await
    }

    async fn start(dir: &Path, logs: &Path, config: Config) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        make_certificates(dir).map_err(Failure::of("the bank's certificates"))?;
        let file = dir.join("demo-bank.toml");
        let text = toml::to_string(&config).map_err(Failure::of("the bank's configuration"))?;
        std::fs::write(&file, text)?;
        let mut program = command("demo-bank")?;
        program.arg("--config").arg(&file);
        let mut daemon = Daemon::start("demo-bank", program, logs)?;
        let ca = dir.join("ca.pem");
        let http = web::trusting(&ca)?;
        let metadata = format!("{}{METADATA_PATH}", config.issuer);
        let open = async || http.get(&metadata).send().await.ok();
        daemon.ready("the bank to open", open).await?;
        Ok(Self {
            config,
            ca,
            _daemon: daemon,
        })
    }

    /// How the site that the bank knows sends its visitors here to sign in: goes on from where its
    /// configuration trusts the bank, with its secret in a file beside the bank's.
    pub fn sign_in_section(&self) -> Result<String, Failure> {
        let party = self.config.relying_parties.first();
        let party = party.ok_or_else(|| Failure::new("the bank knows no site"))?;
        let file = self.ca.with_file_name(SECRET_FILE);
        std::fs::write(&file, &party.client_secret)?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        Ok(format!(
            "\n[identity_providers.sign_in]\nid = \"bank\"\nkind = \"bank\"\n\
             client_id = \"{}\"\nclient_secret = {}\n",
            party.client_id,
            toml::Value::String(file.display().to_string())
        ))
    }

    /// `iss` of its access tokens, and where it is reached.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS_PATH}", self.config.issuer)
    }

    /// Where it is asked as a rail.
    pub fn rail_url(&self) -> String {
        format!("{}/rail", self.config.issuer)
    }

    /// Its books as a rail, as they stand on the disk.
    pub fn books(&self) -> Result<Books, Failure> {
        let rail = self.config.rail.as_ref();
        let rail = rail.ok_or_else(|| Failure::new("the bank is no rail"))?;
        Ok(Books::open(&rail.books, Caps::default(), &[])?)
    }

    /// The CA that its TLS certificate leads to.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The name and password of a customer, as the shopper keeps them in mind.
    pub fn shopper(&self, name: &str) -> Result<&Shopper, Failure> {
        let found = self.config.shoppers.iter().find(|s| s.name == name);
        found.ok_or_else(|| Failure::new(format!("the bank has no customer {name}")))
    }
}

fn configuration(dir: &Path, audience: &str, names: &[&str]) -> Result<Config, Failure> {
    let port = ports::free()?;
    let shopper = |name: &&str| {
        Ok(Shopper {
            name: (*name).into(),
            password: random_password()?,
            account: format!("Everyday account of {name}"),
        })
    };
    Ok(Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        issuer: format!("https://{HOST}:{port}"),
        audience: audience.into(),
        tls: Some(Tls {
            certificate: dir.join("bank.pem"),
            key: dir.join("bank.key"),
        }),
        relying_parties: Vec::new(),
        rail: None,
        shoppers: names.iter().map(shopper).collect::<Result<_, Failure>>()?,
    })
}

pub(crate) fn random_password() -> Result<String, Failure> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(Failure::of("random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn make_certificates(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.distinguished_name = named("Demo bank CA");
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec![HOST.into()])?;
    leaf.distinguished_name = named("Demo bank");
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    std::fs::write(dir.join("ca.pem"), ca_certificate.pem())?;
    std::fs::write(dir.join("bank.pem"), certificate.pem())?;
    std::fs::write(dir.join("bank.key"), key.serialize_pem())?;
    Ok(())
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

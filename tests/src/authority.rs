//! How does an authority of our own come up, and how is it asked?

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use protocol::ids::{AccountId, MerchantId, TerminalId};
use protocol::jwk::JwkSet;
use protocol::wire::claims::JWKS_PATH;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::bank::Bank;
use crate::identity_provider::IdentityProvider;
use crate::process::{Daemon, Said, command};
use crate::{Failure, ports, tools, web};

const HOST: &str = "localhost";

/// Short windows, so that a person can watch them pass; the rules of `protocol::window` hold.
const QUICK_POLICY: &str = "
[policy.nfc]
shortest_ms = 8000
longest_ms = 16000
grace_ms = 6000

[policy.qr]
shortest_ms = 5000
longest_ms = 10000
grace_ms = 6000

[policy.code]
shortest_ms = 8000
longest_ms = 16000
grace_ms = 10000
";

/// Worlds pay often and with plain access tokens, all from one address: what that is limited for is tested
/// where it is built.
const PLENTY: &str = "
[step_up.EUR]
each_minor = 1000000
in_all_minor = 1000000000
payments = 1000000

[limits]
acts_per_address = 1000000
looks_per_address = 1000000
sign_ins_per_address = 1000000
claims_per_shopper = 1000
connections_per_address = 4096
";
const PLENTY_OF_AGENTS: &str = "[agents]\nstrangers_per_address = 1000000\n";

/// What nodes have in common, by section and key; each is a file.
const SHARED: [(&str, &str); 7] = [
    ("trust", "root"),
    ("public", "certificate"),
    ("public", "key"),
    ("operator", "certificate"),
    ("operator", "key"),
    ("hsm", "pin_file"),
    ("signer", "socket"),
];

/// How long tokens live in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As operators get it: half a minute for a QR code, minutes for a tag.
    Default,
    /// Seconds.
    Quick,
}

/// An authority in a folder, and its daemon while it runs.
pub struct Authority {
    dir: PathBuf,
    logs: PathBuf,
    root_fingerprint: String,
    daemon: Option<Daemon>,
    /// Ends after the daemon that asks it.
    signer: Option<Daemon>,
    /// It asks the signer of another node.
    is_guest: bool,
}

/// What `init` prints.
#[derive(Deserialize)]
struct Made {
    root_fingerprint: String,
}

/// What the running daemon writes.
#[derive(Deserialize)]
struct Addresses {
    public: SocketAddr,
    agents: SocketAddr,
    loopback: SocketAddr,
}

impl Authority {
    /// Makes HSM tokens, keys, certificates, store and configuration; nothing runs yet.
    pub fn init(dir: &Path, logs: &Path) -> Result<Self, Failure> {
        tools::softhsm()?;
        let public = ports::free()?;
        let mut init = command("m2key-authority")?;
        init.args(["init", "--non-interactive", "--json", "--dir"])
            .arg(dir);
        init.args(["--link-host", &format!("{HOST}:{public}")]);
        init.args(["--name", HOST]);
        let listeners = [
            ("--public-listen", public),
            ("--agents-listen", ports::free()?),
            ("--loopback-listen", ports::free()?),
        ];
        for (listener, port) in listeners {
            init.args([listener, &format!("127.0.0.1:{port}")]);
        }
        let made: Made = web::parse(Said::by(&mut init)?.ok()?.out.as_bytes())?;
        Ok(Self {
            dir: dir.to_owned(),
            logs: logs.to_owned(),
            root_fingerprint: made.root_fingerprint,
            daemon: None,
            signer: None,
            is_guest: false,
        })
    }

    /// A further node of the same authority, as the page about many nodes says: this one's configuration with a
    /// name, a journal, listeners and a certificate of its own. It asks this one's signer.
    pub fn beside(&self, node: &str, dir: &Path, store: toml::Table) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let text = std::fs::read_to_string(self.config())?;
        let mut config: toml::Table = text.parse().map_err(Failure::of("the configuration"))?;
        config.insert("node".into(), node.into());
        let loopback = format!("127.0.0.1:{}", ports::free()?);
        let [public, agents] = [ports::free()?, ports::free()?].map(|it| format!("127.0.0.1:{it}"));
        set(&mut config, "loopback", "listen", loopback);
        set(&mut config, "public", "listen", public);
        set(&mut config, "agents", "listen", agents);
        set(&mut config, "fence", "journal", "fence.journal");
        // What is shared stays where the first node has it; what is made anew has its name here.
        for (section, key) in SHARED {
            let shared = config[section][key].as_str().unwrap_or_default();
            let shared = self.dir.join(shared).display().to_string();
            set(&mut config, section, key, shared);
        }
        std::fs::copy(self.file("issuing.pem"), dir.join("issuing.pem"))?;
        config.insert("store".into(), store.into());
        let node = Self {
            dir: dir.to_owned(),
            logs: self.logs.join(node),
            root_fingerprint: self.root_fingerprint.clone(),
            daemon: None,
            signer: None,
            is_guest: true,
        };
        std::fs::create_dir_all(&node.logs)?;
        std::fs::write(node.config(), config.to_string())?;
        node.say(&["--offline", "renew", "agents"])?.ok()?;
        Ok(node)
    }

    /// Another configuration, from the next start on.
    pub fn change(&self, change: impl FnOnce(&mut toml::Table)) -> Result<(), Failure> {
        let text = std::fs::read_to_string(self.config())?;
        let mut config: toml::Table = text.parse().map_err(Failure::of("the configuration"))?;
        change(&mut config);
        Ok(std::fs::write(self.config(), config.to_string())?)
    }

    /// Accepts the access tokens of this bank from the next start on.
    pub fn trust(&self, bank: &Bank, audience: &str) -> Result<(), Failure> {
        let mut section = String::from("\n[[identity_providers]]\nname = \"Demo Bank\"\n");
        let values = [
            ("issuer", bank.issuer().to_owned()),
            ("audience", audience.to_owned()),
            ("jwks_url", bank.jwks_url()),
            ("ca_file", bank.ca().display().to_string()),
        ];
        for (key, value) in values {
            let value = toml::Value::String(value);
            writeln!(section, "{key} = {value}").map_err(Failure::of("the configuration"))?;
        }
        self.append(&section)
    }

    /// Another section of its configuration, from the next start on.
    pub fn configure(&self, section: &str) -> Result<(), Failure> {
        self.append(section)
    }

    /// Asks this bank as a rail of this name, from the next start on.
    pub fn ask_rail(&self, name: &str, bank: &Bank, deadline_ms: u64) -> Result<(), Failure> {
        let section = format!(
            "\n[[rails]]\nname = \"{name}\"\nurl = {}\nca_file = {}\ndeadline_ms = {deadline_ms}\n",
            toml::Value::String(bank.rail_url()),
            toml::Value::String(bank.ca().display().to_string()),
        );
        self.append(&section)
    }

    /// Where it publishes its keys, whether it runs or not.
    pub fn jwks_url(&self) -> Result<String, Failure> {
        let text = std::fs::read_to_string(self.config())?;
        let config = authority::config::Config::parse(&text, &self.config());
        let listen = config
            .map_err(Failure::of("the configuration"))?
            .public
            .listen;
        Ok(format!("https://{HOST}:{}{JWKS_PATH}", listen.port()))
    }

    /// Sends browsers to this provider from the next start on.
    pub fn sign_in_at(
        &self,
        provider: &IdentityProvider,
        kind: &str,
        rail: Option<&str>,
    ) -> Result<(), Failure> {
        self.append(&provider.section(kind, rail)?)
    }

    /// What browsers call its pages, running or not.
    pub fn origin(&self) -> Result<String, Failure> {
        let text = std::fs::read_to_string(self.config())?;
        let config: toml::Table = text.parse().map_err(Failure::of("the configuration"))?;
        let host = config["public"]["link_host"].as_str().unwrap_or_default();
        Ok(format!("https://{host}"))
    }

    /// Sets how long tokens live, from the next start on.
    pub fn set_pace(&self, pace: Pace) -> Result<(), Failure> {
        match pace {
            Pace::Default => Ok(()),
            Pace::Quick => self.append(QUICK_POLICY),
        }
    }

    /// Lets one shopper and one address do a lot, from the next start on.
    pub fn allow_plenty(&self) -> Result<(), Failure> {
        let text = std::fs::read_to_string(self.config())?;
        let text = text.replace("[agents]\n", PLENTY_OF_AGENTS);
        std::fs::write(self.config(), text)?;
        self.append(PLENTY)
    }

    /// Starts the signer, if it does not run, and waits until it answers.
    pub async fn start_signer(&mut self) -> Result<(), Failure> {
        if self.signer.is_some() || self.is_guest {
            return Ok(());
        }
        let mut run = command("m2key-pki")?;
        run.arg("signer").arg("--config").arg(self.signer_config());
        let mut signer = Daemon::start("m2key-pki-signer", run, &self.logs)?;
        let answers = async || self.issuing(&["list"]).ok()?.ok().ok().map(drop);
        signer.ready("the signer to answer", answers).await?;
        self.signer = Some(signer);
        Ok(())
    }

    /// SIGKILL for the signer alone.
    pub fn kill_signer(&mut self) {
        if let Some(mut signer) = self.signer.take() {
            signer.kill();
        }
    }

    /// Any verb of `m2key-pki issuing` at this authority's signer, whatever comes of it.
    pub fn issuing(&self, arguments: &[&str]) -> Result<Said, Failure> {
        let mut verb = command("m2key-pki")?;
        verb.arg("issuing")
            .arg("--config")
            .arg(self.signer_config());
        Said::by(verb.args(arguments))
    }

    /// Any verb of `m2key-pki`, whatever comes of it.
    pub fn pki(&self, arguments: &[&str]) -> Result<Said, Failure> {
        Said::by(command("m2key-pki")?.args(arguments))
    }

    /// Starts signer and daemon and waits until they are ready.
    pub async fn serve(&mut self) -> Result<(), Failure> {
        self.start(StatusCode::OK).await
    }

    /// Starts the daemon on a database that is behind the world: it answers, and is not ready.
    pub async fn serve_fenced(&mut self) -> Result<(), Failure> {
        self.start(StatusCode::SERVICE_UNAVAILABLE).await
    }

    async fn start(&mut self, expected: StatusCode) -> Result<(), Failure> {
        self.start_signer().await?;
        let mut serve = command("m2key-authority")?;
        serve.arg("--config").arg(self.config()).arg("serve");
        let mut daemon = Daemon::start("m2key-authority", serve, &self.logs)?;
        let http = web::plain()?;
        let ready = async || {
            let url = format!("http://{}/ready", self.addresses().ok()?.loopback);
            let answer = http.get(url).send().await.ok()?;
            (answer.status() == expected).then_some(())
        };
        daemon.ready("the authority to answer", ready).await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Of the daemon.
    pub fn pid(&self) -> Result<u32, Failure> {
        let daemon = self.daemon.as_ref().map(Daemon::pid);
        daemon.ok_or_else(|| Failure::new("the authority does not serve"))
    }

    /// Starts the daemon, and does not wait until it is ready.
    pub async fn serve_whatever_it_says(&mut self) -> Result<(), Failure> {
        self.start_signer().await?;
        let mut serve = command("m2key-authority")?;
        serve.arg("--config").arg(self.config()).arg("serve");
        self.daemon = Some(Daemon::start("m2key-authority", serve, &self.logs)?);
        Ok(())
    }

    /// A signal for the running daemon, by its name.
    pub fn signal(&self, name: &str) -> Result<(), Failure> {
        let daemon = self.daemon.as_ref();
        let daemon = daemon.ok_or_else(|| Failure::new("the daemon does not run"))?;
        daemon.signal(name)
    }

    /// SIGKILL for the daemon, as if the power had gone; its signer goes on.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Asks it to stop, and waits for its exit code.
    pub async fn stop(&mut self) -> Result<Option<i32>, Failure> {
        match self.daemon.take() {
            Some(mut daemon) => daemon.stop().await,
            None => Ok(None),
        }
    }

    // ── the operator's verbs ──────────────────────────────────────────────────────────────────

    /// Any verb of `m2key-authority`, with the JSON it answers.
    pub fn verb(&self, arguments: &[&str]) -> Result<Value, Failure> {
        self.say(arguments)?.ok()?.json()
    }

    /// Any verb, whatever comes of it.
    pub fn say(&self, arguments: &[&str]) -> Result<Said, Failure> {
        let mut verb = command("m2key-authority")?;
        verb.arg("--json").arg("--config").arg(self.config());
        Said::by(verb.args(arguments))
    }

    /// Any verb with another configuration, whatever comes of it.
    pub fn say_with(&self, config: &Path, arguments: &[&str]) -> Result<Said, Failure> {
        let mut verb = command("m2key-authority")?;
        verb.arg("--json").arg("--config").arg(config);
        Said::by(verb.args(arguments))
    }

    /// Any verb as another operator, the one in this file; whatever comes of it.
    pub fn say_as(&self, operator: &Path, arguments: &[&str]) -> Result<Said, Failure> {
        let mut verb = command("m2key-authority")?;
        verb.arg("--json").arg("--config").arg(self.config());
        Said::by(verb.arg("--as").arg(operator).args(arguments))
    }

    /// A merchant whose terminals take this much of every shopper without a till.
    pub fn add_merchant_at(&self, name: &str, fixed_minor: i64) -> Result<MerchantId, Failure> {
        let fixed = fixed_minor.to_string();
        let add = ["merchant", "add", "--name", name, "--currency", "EUR"];
        let view = self.verb(&[&add[..], &["--fixed-minor", &fixed]].concat())?;
        member(&view, "merchant")
    }

    pub fn add_merchant(&self, name: &str) -> Result<MerchantId, Failure> {
        let view = self.verb(&["merchant", "add", "--name", name, "--currency", "EUR"])?;
        member(&view, "merchant")
    }

    /// A terminal of this merchant; its join token goes into `file`.
    pub fn add_terminal(&self, merchant: MerchantId, file: &Path) -> Result<TerminalId, Failure> {
        let (merchant, file) = (merchant.to_string(), file.display().to_string());
        let arguments = [
            "terminal",
            "add",
            "--merchant",
            &merchant,
            "--join-token-file",
            &file,
        ];
        member(&self.verb(&arguments)?, "terminal")
    }

    /// An account for a customer of the bank, with money on it.
    pub fn open_account(
        &self,
        issuer: &str,
        subject: &str,
        minor: i64,
    ) -> Result<AccountId, Failure> {
        let open = [
            "account",
            "open",
            "--issuer",
            issuer,
            "--subject",
            subject,
            "--currency",
            "EUR",
        ];
        let account: AccountId = member(&self.verb(&open)?, "account")?;
        let (id, minor) = (account.to_string(), minor.to_string());
        let reference = format!("opening {subject}");
        self.verb(&[
            "account",
            "credit",
            "--account",
            &id,
            "--amount-minor",
            &minor,
            "--reference",
            &reference,
        ])?;
        Ok(account)
    }

    // ── what it publishes ─────────────────────────────────────────────────────────────────────

    /// Where phones reach it.
    pub fn public_url(&self) -> Result<String, Failure> {
        Ok(format!(
            "https://{HOST}:{}",
            self.addresses()?.public.port()
        ))
    }

    /// Where terminals and operators reach it.
    pub fn agents_url(&self) -> Result<String, Failure> {
        Ok(format!(
            "https://{HOST}:{}",
            self.addresses()?.agents.port()
        ))
    }

    /// Health and metrics.
    pub fn loopback_url(&self) -> Result<String, Failure> {
        Ok(format!("http://{}", self.addresses()?.loopback))
    }

    /// The published keys, as they were sent.
    pub async fn jwks(&self) -> Result<Vec<u8>, Failure> {
        let url = format!("{}{JWKS_PATH}", self.public_url()?);
        let response = web::trusting(&self.root())?.get(url).send().await;
        let answer = web::read_bytes(response.map_err(|e| web::sent(&e))?).await?;
        let bytes = answer.map_err(|problem| Failure::new(problem.title))?;
        web::parse::<JwkSet>(&bytes)?;
        Ok(bytes)
    }

    pub fn root_fingerprint(&self) -> &str {
        &self.root_fingerprint
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.file("root.pem")
    }

    pub fn signer_config(&self) -> PathBuf {
        self.file("signer/signer.toml")
    }

    pub fn config(&self) -> PathBuf {
        self.file("authority.toml")
    }

    fn addresses(&self) -> Result<Addresses, Failure> {
        let path = self.file("run/addresses.json");
        let text = std::fs::read(&path).map_err(Failure::of("the authority does not serve"))?;
        web::parse(&text)
    }

    fn append(&self, text: &str) -> Result<(), Failure> {
        let mut all = std::fs::read_to_string(self.config())?;
        all.push_str(text);
        Ok(std::fs::write(self.config(), all)?)
    }
}

/// One value of a configuration.
pub fn set(config: &mut toml::Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let section = config
        .entry(section)
        .or_insert_with(|| toml::Table::new().into());
    if let Some(section) = section.as_table_mut() {
        section.insert(key.into(), value.into());
    }
}

fn member<T: serde::de::DeserializeOwned>(view: &Value, name: &str) -> Result<T, Failure> {
    serde_json::from_value(view[name].clone()).map_err(Failure::of(format!("no {name} in {view}")))
}

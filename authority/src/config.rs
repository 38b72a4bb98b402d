//! What did the operator decide?
//!
//! One TOML file. Unknown keys are refused, all mistakes are told at once, and paths that are not
//! absolute start at the file's own folder. `config/authority.full.toml` shows every key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pki::{Segment, TrustDomain};
use protocol::link::LinkHost;
use protocol::time::Millis;
use protocol::window::CheckedPolicy;

mod books;
mod check;
mod hsm;
mod operator;
mod pages;
mod providers;
mod rails;
mod raw;
mod retention;
mod sessions;
mod sms;
mod spending;
mod store;
mod wear;
mod webhooks;

pub use books::BooksConfig;
pub use hsm::{HsmConfig, HsmTokenConfig};
pub use operator::{
    Asking, DaemonAt, OperatorConfig, OperatorFile, OperatorHsm, OperatorKeyPlace, check_address,
};
pub use pages::PagesConfig;
pub use providers::{BrowserSignIn, ClientKey, IdentityProvider, ProviderKind, ProviderRail};
pub use rails::{RailConfig, RailKind};
pub use raw::LogFormat;
pub use retention::RetentionConfig;
pub use sessions::SessionsConfig;
pub use sms::{SmsConfig, SmsSend};
pub use spending::{SpendingConfig, TrafficConfig};
pub use store::{Standby, StoreConfig, StorePlace};
pub use wear::SlowConfig;
pub use webhooks::WebhooksConfig;

/// A configuration whose rules hold; only [`Config::load`] and [`Config::parse`] make one.
#[derive(Debug, Clone)]
pub struct Config {
    pub node: Segment,
    pub trust: TrustConfig,
    pub public: PublicConfig,
    pub agents: AgentsConfig,
    pub loopback: LoopbackConfig,
    pub operator: OperatorConfig,
    pub hsm: HsmConfig,
    pub signer: SignerConfig,
    pub store: StoreConfig,
    pub fence: FenceConfig,
    pub policy: CheckedPolicy,
    pub wear: SlowConfig,
    pub schedule: ScheduleConfig,
    pub enrolment: EnrolmentConfig,
    pub books: BooksConfig,
    pub retention: RetentionConfig,
    pub webhooks: WebhooksConfig,
    pub identity_providers: Vec<IdentityProvider>,
    /// What moves money besides the ledger.
    pub rails: Vec<RailConfig>,
    pub pages: PagesConfig,
    pub sessions: SessionsConfig,
    pub spending: SpendingConfig,
    /// None: nobody pays by SMS.
    pub sms: Option<SmsConfig>,
    pub log: LogConfig,
    /// Where the running daemon leaves its addresses and its lock.
    pub run_dir: PathBuf,
}

#[derive(Debug, Clone)]
pub struct TrustConfig {
    pub domain: TrustDomain,
    /// The root that was there first; the bundle goes on from it.
    pub root: PathBuf,
    /// The issuing certificates as the signer last showed them; the daemon keeps it up to date.
    pub issuing: PathBuf,
    /// The lists of roots so far; there is none before the first rotation.
    pub bundle: PathBuf,
}

#[derive(Debug, Clone)]
pub struct PublicConfig {
    pub listen: SocketAddr,
    pub tls: CertificateFiles,
    /// The host in every link.
    pub link_host: LinkHost,
}

impl PublicConfig {
    /// What browsers call pages of ours: `https://` and the host of every link, without the port that goes
    /// without saying.
    pub fn origin(&self) -> String {
        let host = self.link_host.as_str();
        format!("https://{}", host.strip_suffix(":443").unwrap_or(host))
    }
}

#[derive(Debug, Clone)]
pub struct AgentsConfig {
    pub listen: SocketAddr,
    pub tls: CertificateFiles,
    /// What agents and operators call this listener.
    pub names: Vec<String>,
    /// Connections at once; each is a file descriptor.
    pub connections_max: usize,
    /// Those of one address whose handshake is not done, or that showed no certificate.
    pub strangers_per_address: u32,
}

#[derive(Debug, Clone)]
pub struct LoopbackConfig {
    pub listen: SocketAddr,
    /// How long readiness says that the node goes down before it does.
    pub notice: Duration,
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The process that holds the issuing CA.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    pub socket: PathBuf,
    /// From a question to its answer.
    pub deadline_ms: u64,
    /// Most questions that wait for their turn.
    pub queue_max: usize,
}

/// What a restored database is compared with.
#[derive(Debug, Clone)]
pub struct FenceConfig {
    /// The journal outside the database.
    pub journal: PathBuf,
}

#[derive(Debug, Clone, Copy)]
pub struct ScheduleConfig {
    pub horizon_epochs: u32,
}

#[derive(Debug, Clone, Copy)]
pub struct EnrolmentConfig {
    /// How long after its end a certificate of a terminal may still be renewed.
    pub renewal_grace_ms: Millis,
}

#[derive(Debug, Clone)]
pub struct LogConfig {
    pub format: LogFormat,
    /// In the syntax of `RUST_LOG`.
    pub filter: String,
}

/// One thing that is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub key: String,
    pub problem: String,
    pub hint: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .path.display(), list(.mistakes))]
pub struct ConfigError {
    pub path: PathBuf,
    pub mistakes: Vec<Mistake>,
}

impl Config {
    /// Of the providers that browsers may sign in at.
    pub fn browser_issuers(&self) -> impl Iterator<Item = &str> {
        let browsers = self.identity_providers.iter();
        let browsers = browsers.filter(|provider| provider.sign_in.is_some());
        browsers.map(|provider| provider.issuer.as_str())
    }

    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            path: path.into(),
            mistakes: vec![Mistake {
                key: String::new(),
                problem: format!("the configuration cannot be read ({error})"),
                hint: unreadable(&error).into(),
            }],
        })?;
        Self::parse(&text, path)
    }

    /// Reads `text` as the contents of the file at `path`, which is not looked at.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let failed = |mistakes| ConfigError {
            path: path.into(),
            mistakes,
        };
        let raw: raw::Raw = toml::from_str(text).map_err(|error| failed(vec![syntax(&error)]))?;
        // The file, not its folder: of a bare file name that would be no path at all.
        let file = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let folder = file.parent().unwrap_or(Path::new("."));
        check::check(raw, folder).map_err(failed)
    }
}

fn unreadable(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "this account is not the authority's: use that one, or give an operator's file of your \
             own with --as (`m2key-authority operator request --authority …` makes it)"
        }
        _ => "give the file with --config, or make one with `m2key-authority init`",
    }
}

/// What the TOML reader says, without repeating the file: it may hold what is not for logs.
fn syntax(error: &toml::de::Error) -> Mistake {
    Mistake {
        key: String::new(),
        problem: error.message().into(),
        hint: "compare with config/authority.full.toml".into(),
    }
}

fn list(mistakes: &[Mistake]) -> String {
    let line = |m: &Mistake| match m.key.as_str() {
        "" => m.problem.clone(),
        key => format!("{key}: {}", m.problem),
    };
    mistakes.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use protocol::money::Currency;

    use super::*;

    const MINIMAL: &str = include_str!("../../config/authority.toml");
    const FULL: &str = include_str!("../../config/authority.full.toml");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/m2key/authority.toml"))
    }

    fn keys_of(error: &ConfigError) -> Vec<&str> {
        error.mistakes.iter().map(|m| m.key.as_str()).collect()
    }

    #[test]
    fn the_sample_files_hold() {
        parse(MINIMAL).unwrap();
        let full = parse(FULL).unwrap();
        let providers = &full.identity_providers;
        assert_eq!((providers.len(), full.rails.len()), (2, 2));
        assert!(providers.iter().all(|it| it.sender_constrained));
    }

    #[test]
    fn a_bare_file_name_is_one_of_the_current_folder() {
        let relative = MINIMAL.replace("/var/lib/m2key/", "");
        let config = Config::parse(&relative, Path::new("authority.toml")).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.agents.tls.certificate, here.join("agents.pem"));
    }

    #[test]
    fn the_full_sample_shows_the_defaults() {
        let (minimal, full) = (parse(MINIMAL).unwrap(), parse(FULL).unwrap());
        assert_eq!(minimal.policy, full.policy);
        assert_eq!(minimal.wear, full.wear);
        assert_eq!(minimal.public.listen, full.public.listen);
        assert_eq!(minimal.agents.listen, full.agents.listen);
        let connections_max = |config: &Config| config.agents.connections_max;
        assert_eq!(connections_max(&minimal), connections_max(&full));
        let strangers = |config: &Config| config.agents.strangers_per_address;
        assert_eq!(strangers(&minimal), strangers(&full));
        assert_eq!(minimal.loopback.listen, full.loopback.listen);
        assert_eq!(
            minimal.schedule.horizon_epochs,
            full.schedule.horizon_epochs
        );
        assert_eq!(
            minimal.enrolment.renewal_grace_ms,
            full.enrolment.renewal_grace_ms
        );
        assert_eq!(minimal.hsm.queue_max, full.hsm.queue_max);
        assert_eq!(minimal.hsm.deadline_ms, full.hsm.deadline_ms);
        assert_eq!(minimal.signer.deadline_ms, full.signer.deadline_ms);
        assert_eq!(minimal.signer.queue_max, full.signer.queue_max);
        assert_eq!(minimal.store.readers, full.store.readers);
        assert_eq!(minimal.fence.journal, full.fence.journal);
        assert_eq!(minimal.sessions, full.sessions);
        assert_eq!(minimal.spending.traffic, full.spending.traffic);
        let exempt = |config: &Config| config.spending.rules(Currency::EUR).exemption;
        assert_eq!(exempt(&minimal), exempt(&full));
        assert_eq!(minimal.books, full.books);
        assert_eq!(minimal.retention, full.retention);
        assert_eq!(minimal.webhooks, full.webhooks);
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused_by_name() {
        let error = parse(&FULL.replace("queue_max", "queue_maxx")).unwrap_err();
        assert!(error.to_string().contains("queue_maxx"), "{error}");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = FULL
            .replace("127.0.0.1:9464", "0.0.0.0:9464")
            .replace("horizon_epochs = 24", "horizon_epochs = 0")
            .replace("renewal_grace_days = 30", "renewal_grace_days = 91")
            .replace("zone = \"UTC\"", "zone = \"Moon/Tycho\"")
            .replace("spent_days = 90", "spent_days = 55")
            .replace("node = \"authority-1\"", "node = \"Authority 1\"")
            .replace("deadline_ms = 10000", "deadline_ms = 1")
            .replace("connections_max = 120000", "connections_max = 0")
            .replace("strangers_per_address = 1024", "strangers_per_address = 0")
            .replace(
                "https://id.bank.example/jwks",
                "http://id.bank.example/jwks",
            )
            .replace("[\"ES256\"]", "[\"none\"]")
            .replace("https://carrier.example", "http://carrier.example")
            .replace("name = \"carrier\"", "name = \"bank\"")
            .replace("calls_max = 64", "calls_max = 0")
            .replace("idle_minutes = 30", "idle_minutes = 31")
            .replace("each_minor = 3000", "each_minor = 10001")
            .replace("[step_up.EUR]", "[step_up.EURO]")
            .replace("claims_per_shopper = 2", "claims_per_shopper = 0")
            .replace("id = \"wallet\"", "id = \"Wallet!\"")
            .replace("currency = \"EUR\"\n", "");
        let error = parse(&text).unwrap_err();
        let expected = [
            "node",
            "schedule.horizon_epochs",
            "enrolment.renewal_grace_days",
            "books.zone",
            "retention.spent_days",
            "agents.connections_max",
            "agents.strangers_per_address",
            "signer.deadline_ms",
            "loopback.listen",
            "sessions.idle_minutes",
            "step_up.EURO",
            "step_up.EURO.each_minor",
            "limits.claims_per_shopper",
            "identity_providers[0].jwks_url",
            "identity_providers[0].algorithms",
            "identity_providers[1].sign_in.id",
            "identity_providers[1].sign_in.rail",
            "rails[0].calls_max",
            "rails[1].name",
            "rails[1].url",
            "sms.rail",
        ];
        assert_eq!(keys_of(&error), expected);
        assert!(error.mistakes.iter().all(|m| !m.hint.is_empty()));
    }

    #[test]
    fn windows_that_cannot_be_drawn_are_refused() {
        let text = FULL.replace("longest_ms = 40000", "longest_ms = 30000");
        assert_eq!(keys_of(&parse(&text).unwrap_err()), ["policy"]);
    }

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file() {
        let text = MINIMAL.replace("/var/lib/m2key/root.pem", "root.pem");
        let root = parse(&text).unwrap().trust.root;
        assert_eq!(root, Path::new("/etc/m2key/root.pem"));
    }
}

//! How does a verb reach the authority: the running daemon, or the stopped one?

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pki::{BadCertificate, DnsName};
use protocol::problem::{Problem, ProblemType};

use super::consent::ask_others;
use super::own::Own;
use super::{Arguments, CliError, Exit, runtime};
use crate::app::{App, load_certificates, open};
use crate::clock::{Clock, SystemClock, unix_seconds};
use crate::config::{Asking, Config, DaemonAt, TrustConfig};
use crate::http::operators::OPERATOR_PATH;
use crate::listen::tls;
use crate::lock::Lock;
use crate::serve::Addresses;
use crate::services::Failure;
use crate::services::consent::OFFLINE_OPERATOR;
use crate::services::operators::{Verb, carry_out};
use crate::services::trust::Trust;
use pki::process;

/// How long the daemon may take for one verb: an audit of years takes a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Carries out `verb` where the arguments say. If others must consent first, they are asked.
pub(super) fn ask<V: Verb>(arguments: &Arguments, verb: V) -> Result<V::Answer, CliError> {
    Desk::open(arguments)?.ask(verb)
}

/// Where verbs are carried out: by the running daemon, or here on the stopped authority. Opening it may
/// start this program once more: whoever makes a file for the answer opens it before.
pub(super) struct Desk {
    pub(super) config: Asking,
    runtime: tokio::runtime::Runtime,
    line: Line,
}

enum Line {
    Daemon {
        client: reqwest::Client,
        url: String,
        own: Own,
    },
    Stopped {
        app: Arc<App>,
        _lock: Lock,
    },
}

/// Why there is no answer.
pub(super) enum Unsent {
    Refused(Problem),
    Failed(CliError),
}

impl Desk {
    pub(super) fn open(arguments: &Arguments) -> Result<Self, CliError> {
        let runtime = runtime()?;
        let (config, line) = match arguments.offline {
            true => {
                let config = arguments.load_for_hsm()?;
                let line = runtime.block_on(stopped(config.clone()))?;
                (config.into(), line)
            }
            false => {
                let config = arguments.load_asking()?;
                process::ensure_environment(&config.operator.environment())?;
                let line = runtime.block_on(daemon(&config))?;
                (config, line)
            }
        };
        Ok(Self {
            config,
            runtime,
            line,
        })
    }

    /// As [`ask`] does.
    pub(super) fn ask<V: Verb>(&self, verb: V) -> Result<V::Answer, CliError> {
        self.run(async {
            let body = serde_json::to_value(&verb).map_err(|error| not_understood(&error))?;
            match self.send(verb).await {
                Ok(answer) => Ok(answer),
                Err(Unsent::Refused(problem)) if needs_consent(&problem) => {
                    Err(ask_others(self, V::NAME, body).await?)
                }
                Err(unsent) => Err(unsent.into()),
            }
        })
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) async fn send<V: Verb>(&self, verb: V) -> Result<V::Answer, Unsent> {
        match &self.line {
            Line::Daemon { client, url, .. } => post(client, url, verb).await,
            Line::Stopped { app, .. } => Ok(carry_out(app, OFFLINE_OPERATOR, verb).await?),
        }
    }

    /// The stopped authority, if this works on one.
    pub(super) fn app(&self) -> Option<&Arc<App>> {
        match &self.line {
            Line::Daemon { .. } => None,
            Line::Stopped { app, .. } => Some(app),
        }
    }

    /// The operator who signs.
    pub(super) async fn own(&self) -> Result<Cow<'_, Own>, CliError> {
        match &self.line {
            Line::Daemon { own, .. } => Ok(Cow::Borrowed(own)),
            Line::Stopped { .. } => Ok(Cow::Owned(Own::load(&self.config).await?)),
        }
    }
}

async fn stopped(config: Config) -> Result<Line, CliError> {
    let _lock = Lock::take(&config.run_dir)?;
    let app = open(config).await?;
    Ok(Line::Stopped { app, _lock })
}

async fn daemon(config: &Asking) -> Result<Line, CliError> {
    let at = match &config.daemon {
        DaemonAt::There(url) => Reached {
            url: url.clone(),
            resolved: None,
        },
        DaemonAt::Here { run_dir, names } => here(run_dir, names)?,
    };
    check_own_certificate(config)?;
    let own = Own::load(config).await?;
    let client = client(&config.trust, &own, at.resolved)?;
    let url = format!("{}{OPERATOR_PATH}", at.url);
    Ok(Line::Daemon { client, url, own })
}

/// How the daemon is reached.
struct Reached {
    /// `https://host:port`.
    url: String,
    /// Where that host is, if no name server is asked.
    resolved: Option<(String, SocketAddr)>,
}

/// The daemon of this folder.
fn here(run_dir: &Path, names: &[String]) -> Result<Reached, CliError> {
    let addresses = Addresses::read(run_dir).map_err(|error| not_found(run_dir, &error))?;
    let address = reachable(addresses.agents);
    let host = host_of(names, address.ip());
    Ok(Reached {
        url: format!("https://{host}:{}", address.port()),
        resolved: Some((host, address)),
    })
}

async fn post<V: Verb>(client: &reqwest::Client, url: &str, verb: V) -> Result<V::Answer, Unsent> {
    let url = format!("{url}/{}", V::NAME);
    let sent = client.post(url).json(&verb).send().await;
    let answer = sent.map_err(|error| unanswered(&error))?;
    let accepted = answer.status().is_success();
    let body = answer.bytes().await.map_err(|error| unanswered(&error))?;
    if accepted {
        return Ok(serde_json::from_slice(&body).map_err(|error| not_understood(&error))?);
    }
    let problem = serde_json::from_slice(&body).map_err(|error| not_understood(&error))?;
    Err(Unsent::Refused(problem))
}

fn needs_consent(problem: &Problem) -> bool {
    problem.problem_type() == Some(ProblemType::ConsentNeeded)
}

impl From<CliError> for Unsent {
    fn from(error: CliError) -> Self {
        Self::Failed(error)
    }
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(problem) => Self::Refused(problem),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<Unsent> for CliError {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Refused(problem) => problem.into(),
            Unsent::Failed(error) => error,
        }
    }
}

fn client(
    trust: &TrustConfig,
    own: &Own,
    resolved: Option<(String, SocketAddr)>,
) -> Result<reqwest::Client, CliError> {
    let mut roots = rustls::RootCertStore::empty();
    for root in Trust::load(trust)?.roots() {
        roots
            .add(root.der().into())
            .map_err(|error| unusable("trust.root", &error))?;
    }
    let tls = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(own.resolver());
    let mut client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        // One connection, few requests: HTTP/2 would only hide the alert of a refused handshake.
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT);
    if let Some((host, address)) = resolved {
        client = client.resolve(&host, address);
    }
    client.build().map_err(|error| unusable("TLS", &error))
}

/// A name that stands in the certificate of the agents' listener; the address serves if it has none.
fn host_of(names: &[String], address: IpAddr) -> String {
    let dns = names.iter().find(|name| name.parse::<DnsName>().is_ok());
    match (dns, address) {
        (Some(name), _) => name.clone(),
        (None, IpAddr::V4(v4)) => v4.to_string(),
        (None, IpAddr::V6(v6)) => format!("[{v6}]"),
    }
}

/// A listener on every address is reached on the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

/// TLS would only say that the certificate is refused; this says why.
fn check_own_certificate(config: &Asking) -> Result<(), CliError> {
    let path = &config.operator.certificate;
    let own = load_certificates(path)?;
    let trust = Trust::load(&config.trust)?;
    let now = unix_seconds(SystemClock.now());
    let (leaf, others) = own
        .split_first()
        .ok_or(pki::PkiError::Certificate(BadCertificate::NotPem))?;
    let said = |what: &str| format!("{}: {what}", path.display());
    // Also under a root that is believed no more: the daemon knows its issuing CA.
    if !trust.is_ours(leaf, others, now) {
        return Err(CliError::operator(
            said("this operator's certificate is not good here: it leads to no root of ours"),
            "check [operator] and [trust]: both must belong to the authority that runs",
        ));
    }
    if now > leaf.not_after() {
        return Err(CliError::operator(
            said("this operator's certificate has expired"),
            "stop the daemon, then: m2key-authority --offline renew operator",
        ));
    }
    Ok(())
}

/// Who may not look does not know whether it runs.
fn not_found(run_dir: &Path, error: &std::io::Error) -> CliError {
    match error.kind() {
        ErrorKind::PermissionDenied => CliError::operator(
            format!("{}: this account may not look there", run_dir.display()),
            "use the account of the daemon, or give an operator's file of your own with --as \
             (`m2key-authority operator request --authority …` makes it)",
        ),
        ErrorKind::NotFound => CliError::operator(
            "the daemon does not run",
            "start `m2key-authority serve`, or work on the stopped authority with --offline",
        ),
        _ => CliError::file(run_dir, error),
    }
}

fn unanswered(error: &reqwest::Error) -> CliError {
    let why = root_cause(error);
    if error.is_connect() && !why.contains("certificate") {
        let message = format!("the daemon does not answer ({why})");
        return CliError::operator(message, "start `m2key-authority serve`, or use --offline");
    }
    if why.contains("certificate") || why.contains("alert") {
        let message = format!("the daemon and this operator do not trust each other ({why})");
        let hint = "check [operator] and [trust]: both must belong to the authority that runs";
        return CliError::operator(message, hint);
    }
    CliError::new(
        Exit::TryLater,
        format!("no answer ({why})"),
        "try again; see the daemon's log",
    )
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

pub(super) fn not_understood(error: &serde_json::Error) -> CliError {
    CliError::new(
        Exit::OurBug,
        format!("the daemon's answer is not understood ({error})"),
        "use the same version of m2key-authority as the daemon",
    )
}

fn unusable(what: &str, error: &dyn std::error::Error) -> CliError {
    let message = format!("{what} cannot be used ({error})");
    CliError::operator(message, "run `m2key-authority check-config`")
}

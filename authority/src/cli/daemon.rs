//! How does a verb reach the authority: the running daemon, or the stopped one?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pki::{BadCertificate, DnsName};
use protocol::problem::Problem;

use super::{Arguments, CliError, Exit, runtime};
use crate::app::{load_certificates, open};
use crate::clock::{Clock, SystemClock, unix_seconds};
use crate::config::Config;
use crate::http::operators::OPERATOR_PATH;
use crate::listen::tls;
use crate::lock::Lock;
use crate::serve::Addresses;
use crate::services::operators::{Verb, carry_out};
use crate::services::trust::Trust;

/// How long the daemon may take for one verb: an audit of years takes a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Who asks, in the audit chain, when the authority is stopped.
const OFFLINE_OPERATOR: &str = "offline";

/// Carries out `verb` where the arguments say.
pub(super) fn ask<V: Verb>(arguments: &Arguments, verb: V) -> Result<V::Answer, CliError> {
    if arguments.offline {
        let config = arguments.load_for_hsm()?;
        return runtime()?.block_on(offline(config, verb));
    }
    let config = arguments.load_config()?;
    runtime()?.block_on(online(&config, verb))
}

async fn offline<V: Verb>(config: Config, verb: V) -> Result<V::Answer, CliError> {
    let _lock = Lock::take(&config.run_dir)?;
    let app = open(config).await?;
    Ok(carry_out(&app, OFFLINE_OPERATOR, verb).await?)
}

async fn online<V: Verb>(config: &Config, verb: V) -> Result<V::Answer, CliError> {
    let addresses = Addresses::read(&config.run_dir).ok_or_else(not_running)?;
    check_own_certificate(config)?;
    let (client, host) = client(config, reachable(addresses.agents))?;
    let port = addresses.agents.port();
    let url = format!("https://{host}:{port}{OPERATOR_PATH}/{}", V::NAME);
    let sent = client.post(url).json(&verb).send().await;
    let answer = sent.map_err(|error| unanswered(&error))?;
    let accepted = answer.status().is_success();
    let body = answer.bytes().await.map_err(|error| unanswered(&error))?;
    if accepted {
        return serde_json::from_slice(&body).map_err(|error| not_understood(&error));
    }
    let problem: Problem = serde_json::from_slice(&body).map_err(|error| not_understood(&error))?;
    Err(problem.into())
}

fn client(config: &Config, address: SocketAddr) -> Result<(reqwest::Client, String), CliError> {
    let mut roots = rustls::RootCertStore::empty();
    for root in Trust::load(&config.trust)?.roots() {
        roots
            .add(root.der().into())
            .map_err(|error| unusable("trust.root", &error))?;
    }
    let (chain, key) = (
        tls::chain(&config.operator.certificate)?,
        tls::private_key(&config.operator.key)?,
    );
    let tls = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("operator", &error))?;
    let host = host_of(config, address.ip());
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        // One request: HTTP/2 would only hide the alert of a refused handshake.
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .resolve(&host, address)
        .build()
        .map_err(|error| unusable("TLS", &error))?;
    Ok((client, host))
}

/// A name that stands in the certificate of the agents' listener; the address serves if it has none.
fn host_of(config: &Config, address: IpAddr) -> String {
    let names = &config.agents.names;
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
fn check_own_certificate(config: &Config) -> Result<(), CliError> {
    let path = &config.operator.certificate;
    let own = load_certificates(path)?;
    let trust = Trust::load(&config.trust)?;
    let now = unix_seconds(SystemClock.now());
    let (leaf, others) = own
        .split_first()
        .ok_or(pki::PkiError::Certificate(BadCertificate::NotPem))?;
    let said = |what: &str| format!("{}: {what}", path.display());
    match trust.anchors().verify(leaf, others, now) {
        Ok(_) => Ok(()),
        Err(BadCertificate::Expired { .. }) => Err(CliError::operator(
            said("this operator's certificate has expired"),
            "stop the daemon, then: m2key-authority --offline renew operator",
        )),
        Err(error) => Err(CliError::operator(
            said(&format!(
                "this operator's certificate is not good here: {error}"
            )),
            "check [operator] and [trust]: both must belong to the authority that runs",
        )),
    }
}

fn not_running() -> CliError {
    CliError::operator(
        "the daemon does not run",
        "start `m2key-authority serve`, or work on the stopped authority with --offline",
    )
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

fn not_understood(error: &serde_json::Error) -> CliError {
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

//! Which PostgreSQL, as whom, and how sure are we that it is ours?

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

use super::line::Line;
use super::server::{Known, WHICH};
use crate::store::sqlite::error::{corrupt, unusable};
use crate::store::{Result, Server};

/// How long a connection may take to come up; of several hosts, each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A host from which nothing came for so long, although we sent, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// No statement, no wait for a lock, and no pause within a transaction takes longer: a node that stands still in
/// the middle of one holds up others who touch the same for as long. The server looks for a node whose machine or
/// line is gone, so that its name and its chores are free before anybody needs them.
const SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '4s'; SET synchronous_commit = on;
    SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '5s';
    SET client_min_messages = warning; SET TimeZone = 'UTC'";

/// Where a database is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct PostgresPlace {
    /// `host:port` each, or the directory of a Unix socket; the one that writes is found among them.
    pub hosts: Vec<String>,
    pub database: String,
    pub user: String,
    /// File with the password; none where the server knows the user in another way.
    pub password_file: Option<PathBuf>,
    /// PEM of the CA that vouches for the server; needed for every host that is no socket.
    pub root: Option<PathBuf>,
}

/// Makes connections to one place.
pub(in crate::store) struct Connect {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    pub(super) server: Known,
    /// A server that follows another one writes nothing, and is none of those that are compared.
    follows: bool,
    /// Rises when tables were found to have changed under statements that were prepared before.
    pub(super) plans: AtomicU64,
}

impl Connect {
    pub(in crate::store) fn to(place: &PostgresPlace, name: &str) -> Result<Arc<Self>> {
        Self::made(place, name, false)
    }

    /// To a server that follows the one that writes, and to no other.
    pub(super) fn to_replica(place: &PostgresPlace, name: &str) -> Result<Arc<Self>> {
        Self::made(place, name, true)
    }

    fn made(place: &PostgresPlace, name: &str, follows: bool) -> Result<Arc<Self>> {
        let mut config = Config::new();
        for host in &place.hosts {
            add_host(&mut config, host)?;
        }
        let by_network = place.hosts.iter().any(|host| !host.starts_with('/'));
        let tls = match (&place.root, by_network) {
            (Some(root), _) => Some(tls(root)?),
            (None, false) => None,
            (None, true) => {
                return Err(unusable(
                    "PostgreSQL is asked over the network, and no root says which server is ours",
                ));
            }
        };
        config
            .dbname(&place.database)
            .user(&place.user)
            .application_name(name)
            .target_session_attrs(match follows {
                false => TargetSessionAttrs::ReadWrite,
                true => TargetSessionAttrs::ReadOnly,
            })
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(SILENCE_MAX)
            .ssl_mode(match by_network {
                true => SslMode::Require,
                false => SslMode::Disable,
            });
        if let Some(file) = &place.password_file {
            config.password(password(file)?.as_bytes());
            if by_network {
                // A server that cannot prove the connection is its own learns no proof of the password.
                config.channel_binding(ChannelBinding::Require);
            }
        }
        Ok(Arc::new(Self {
            config,
            tls,
            server: Known::default(),
            follows,
            plans: AtomicU64::new(0),
        }))
    }

    /// A connection to the server that writes, which is the one that we know; none: it follows another one.
    pub(in crate::store) fn connect(&self) -> Result<(Line, Option<Server>)> {
        let mut line = self.connect_whatever_it_is()?;
        if self.follows {
            return Ok((line, None));
        }
        // Before the server says where its log ends: others go on writing meanwhile.
        let furthest = self.server.furthest();
        let statement = line.prepare(WHICH, &[])?;
        let rows = line.query(&statement, &[])?;
        let row = rows
            .first()
            .ok_or_else(|| corrupt("a server that does not say which one it is"))?;
        let timeline: i32 = row.try_get("timeline")?;
        let server = Server {
            timeline: u32::try_from(timeline).map_err(|_| corrupt("a timeline below 0"))?,
            began_us: row.try_get("began_us")?,
        };
        let further: i64 = row.try_get("log_end")?;
        self.server.meet(server, further >= furthest)?;
        Ok((line, Some(server)))
    }

    /// The server that nobody has compared yet.
    pub(in crate::store) fn question(&self) -> Option<Server> {
        self.server.question()
    }

    pub(in crate::store) fn accept(&self, server: Server) {
        self.server.accept(server);
    }

    /// The same to a server in question, for whoever compares it.
    pub(super) fn connect_whatever_it_is(&self) -> Result<Line> {
        let mut line = match &self.tls {
            Some(tls) => Line::open(&self.config, tls.clone()),
            None => Line::open(&self.config, NoTls),
        }?;
        line.batch(SESSION)?;
        Ok(line)
    }
}

fn add_host(config: &mut Config, host: &str) -> Result<()> {
    if host.starts_with('/') {
        config.host_path(host).port(5432);
        return Ok(());
    }
    let bad = || unusable(format!("{host:?} is not host:port"));
    let (name, port) = host.rsplit_once(':').ok_or_else(bad)?;
    config.host(name).port(port.parse().map_err(|_| bad())?);
    Ok(())
}

fn password(file: &std::path::Path) -> Result<Zeroizing<String>> {
    let read = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = read.map_err(|error| unusable(format!("{}: {error}", file.display())))?;
    Ok(Zeroizing::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

fn tls(root: &std::path::Path) -> Result<MakeRustlsConnect> {
    let failed = |what: &dyn std::fmt::Display| unusable(format!("{}: {what}", root.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(root).map_err(|error| failed(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(failed(&"it holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

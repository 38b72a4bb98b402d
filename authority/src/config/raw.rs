//! How is the configuration written?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pki::{Segment, TrustDomain};
use protocol::link::LinkHost;
use protocol::window::{CheckedPolicy, Policy};
use serde::Deserialize;

use super::{
    AgentsConfig, CertificateFiles, Config, HsmConfig, IdentityProvider, IssuingConfig, LogConfig,
    LoopbackConfig, PublicConfig, ScheduleConfig, TrustConfig,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub node: String,
    pub trust: RawTrust,
    pub public: RawPublic,
    pub agents: RawAgents,
    #[serde(default)]
    pub loopback: RawLoopback,
    #[serde(default)]
    pub operator: RawOperator,
    pub hsm: RawHsm,
    pub issuing: RawIssuing,
    pub store: StoreConfig,
    #[serde(default)]
    pub policy: Policy,
    #[serde(default)]
    pub schedule: RawSchedule,
    #[serde(default)]
    pub identity_providers: Vec<RawProvider>,
    #[serde(default)]
    pub log: RawLog,
    #[serde(default = "run_dir")]
    pub run_dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrust {
    pub domain: String,
    pub root: PathBuf,
    pub issuing: PathBuf,
    #[serde(default = "bundle")]
    pub bundle: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublic {
    #[serde(default = "public_listen")]
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub link_host: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgents {
    #[serde(default = "agents_listen")]
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLoopback {
    pub listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOperator {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHsm {
    pub module: PathBuf,
    pub token_label: String,
    pub pin_file: PathBuf,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default = "one")]
    pub workers: usize,
    #[serde(default = "queue_max")]
    pub queue_max: usize,
    #[serde(default = "deadline_ms")]
    pub deadline_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuing {
    pub token_label: String,
    pub pin_file: PathBuf,
    pub key_label: String,
}

/// The embedded database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    pub path: PathBuf,
    /// Most writes that wait for a commit.
    #[serde(default = "queue_max")]
    pub queue_max: usize,
    /// Connections that only read.
    #[serde(default = "readers")]
    pub readers: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    pub horizon_epochs: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
    pub name: String,
    pub issuer: String,
    pub audience: String,
    pub jwks_url: String,
    pub ca_file: Option<PathBuf>,
    #[serde(default = "algorithms")]
    pub algorithms: Vec<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub format: LogFormat,
    pub filter: String,
}

/// What was checked before the rest is taken over.
pub(super) struct Checked {
    pub node: Segment,
    pub domain: TrustDomain,
    pub link_host: LinkHost,
    pub policy: CheckedPolicy,
}

impl Raw {
    pub(super) fn resolve(self, folder: &Path, checked: Checked) -> Config {
        let at = |path: PathBuf| folder.join(path);
        let files = |certificate, key| CertificateFiles {
            certificate: at(certificate),
            key: at(key),
        };
        let provider = |p: RawProvider| IdentityProvider {
            name: p.name,
            issuer: p.issuer,
            audience: p.audience,
            jwks_url: p.jwks_url,
            ca_file: p.ca_file.map(at),
            algorithms: p.algorithms,
        };
        Config {
            node: checked.node,
            trust: TrustConfig {
                domain: checked.domain,
                root: at(self.trust.root),
                issuing: at(self.trust.issuing),
                bundle: at(self.trust.bundle),
            },
            public: PublicConfig {
                listen: self.public.listen,
                tls: files(self.public.certificate, self.public.key),
                link_host: checked.link_host,
            },
            agents: AgentsConfig {
                listen: self.agents.listen,
                tls: files(self.agents.certificate, self.agents.key),
                names: self.agents.names,
            },
            loopback: LoopbackConfig {
                listen: self.loopback.listen,
            },
            operator: files(self.operator.certificate, self.operator.key),
            hsm: HsmConfig {
                module: at(self.hsm.module),
                token_label: self.hsm.token_label,
                pin_file: at(self.hsm.pin_file),
                environment: self.hsm.environment,
                workers: self.hsm.workers,
                queue_max: self.hsm.queue_max,
                deadline_ms: self.hsm.deadline_ms,
            },
            issuing: IssuingConfig {
                token_label: self.issuing.token_label,
                pin_file: at(self.issuing.pin_file),
                key_label: self.issuing.key_label,
            },
            store: StoreConfig {
                path: at(self.store.path),
                ..self.store
            },
            policy: checked.policy,
            schedule: ScheduleConfig {
                horizon_epochs: self.schedule.horizon_epochs,
            },
            identity_providers: self.identity_providers.into_iter().map(provider).collect(),
            log: LogConfig {
                format: self.log.format,
                filter: self.log.filter,
            },
            run_dir: at(self.run_dir),
        }
    }
}

impl Default for RawLoopback {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
        }
    }
}

impl Default for RawOperator {
    fn default() -> Self {
        Self {
            certificate: "operator.pem".into(),
            key: "operator.key".into(),
        }
    }
}

impl Default for RawSchedule {
    fn default() -> Self {
        Self { horizon_epochs: 24 }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            filter: "info".into(),
        }
    }
}

fn public_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8443))
}

fn agents_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8444))
}

fn bundle() -> PathBuf {
    "trust.json".into()
}

fn run_dir() -> PathBuf {
    "run".into()
}

fn one() -> usize {
    1
}

fn queue_max() -> usize {
    1024
}

fn readers() -> usize {
    2
}

fn deadline_ms() -> u64 {
    5_000
}

fn algorithms() -> Vec<String> {
    vec!["ES256".into()]
}

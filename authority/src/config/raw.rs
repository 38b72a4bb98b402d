//! How is the configuration written?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pki::{Segment, TrustDomain};
use protocol::link::LinkHost;
use protocol::time::Millis;
use protocol::window::{CheckedPolicy, Policy};
use serde::Deserialize;

use super::books::RawBooks;
use super::hsm::RawHsm;
use super::operator::RawOperator;
use super::providers::RawProvider;
use super::rails::RawRail;
use super::retention::RawRetention;
use super::sessions::RawSessions;
use super::sms::{RawSms, SmsConfig};
use super::spending;
use super::store::RawStore;
use super::wear::RawWear;
use super::webhooks::WebhooksConfig;
use super::{
    AgentsConfig, CertificateFiles, Config, EnrolmentConfig, FenceConfig, IdentityProvider,
    LogConfig, LoopbackConfig, PagesConfig, PublicConfig, ScheduleConfig, SignerConfig,
    TrustConfig,
};

pub(super) const DAY_MS: Millis = 24 * 3_600_000;

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
    pub signer: RawSigner,
    pub store: RawStore,
    #[serde(default)]
    pub fence: RawFence,
    #[serde(default)]
    pub policy: Policy,
    #[serde(default)]
    pub wear: RawWear,
    #[serde(default)]
    pub schedule: RawSchedule,
    #[serde(default)]
    pub enrolment: RawEnrolment,
    #[serde(default)]
    pub books: RawBooks,
    #[serde(default)]
    pub retention: RawRetention,
    #[serde(default)]
    pub webhooks: WebhooksConfig,
    #[serde(default)]
    pub identity_providers: Vec<RawProvider>,
    pub sms: Option<RawSms>,
    #[serde(default)]
    pub rails: Vec<RawRail>,
    #[serde(default)]
    pub pages: PagesConfig,
    #[serde(default)]
    pub sessions: RawSessions,
    #[serde(default = "spending::exemptions")]
    pub step_up: BTreeMap<String, spending::RawExemption>,
    #[serde(default)]
    pub limits: spending::RawLimits,
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
    #[serde(default = "agents_connections_max")]
    pub connections_max: usize,
    #[serde(default = "agents_strangers_per_address")]
    pub strangers_per_address: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLoopback {
    #[serde(default = "loopback_listen")]
    pub listen: SocketAddr,
    #[serde(default)]
    pub notice_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSigner {
    pub socket: PathBuf,
    #[serde(default = "signer_deadline_ms")]
    pub deadline_ms: u64,
    #[serde(default = "signer_queue_max")]
    pub queue_max: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFence {
    /// Beside the store where nobody names a place.
    pub journal: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    pub horizon_epochs: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEnrolment {
    pub renewal_grace_days: u32,
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
    pub identity_providers: Vec<IdentityProvider>,
    pub sms: Option<SmsConfig>,
}

impl Raw {
    pub(super) fn resolve(self, folder: &Path, checked: Checked) -> Config {
        let at = |path: PathBuf| folder.join(path);
        let files = |certificate, key| CertificateFiles {
            certificate: at(certificate),
            key: at(key),
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
                connections_max: self.agents.connections_max,
                strangers_per_address: self.agents.strangers_per_address,
            },
            loopback: LoopbackConfig {
                listen: self.loopback.listen,
                notice: Duration::from_millis(self.loopback.notice_ms),
            },
            operator: self.operator.resolve(folder),
            hsm: self.hsm.resolve(folder),
            signer: SignerConfig {
                socket: at(self.signer.socket),
                deadline_ms: self.signer.deadline_ms,
                queue_max: self.signer.queue_max,
            },
            fence: FenceConfig {
                journal: at(self.fence.journal.unwrap_or_else(|| self.store.journal())),
            },
            store: self.store.resolve(folder),
            policy: checked.policy,
            wear: self.wear.resolve(),
            schedule: ScheduleConfig {
                horizon_epochs: self.schedule.horizon_epochs,
            },
            enrolment: EnrolmentConfig {
                renewal_grace_ms: i64::from(self.enrolment.renewal_grace_days) * DAY_MS,
            },
            pages: self.pages,
            books: self.books.resolve(),
            retention: self.retention.resolve(),
            webhooks: self.webhooks.resolve(folder),
            identity_providers: checked.identity_providers,
            rails: self
                .rails
                .into_iter()
                .map(|rail| rail.resolve(folder))
                .collect(),
            sessions: self.sessions.resolve(),
            spending: spending::resolve(self.step_up, self.limits),
            sms: checked.sms,
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
            listen: loopback_listen(),
            notice_ms: 0,
        }
    }
}

fn loopback_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9464))
}

impl Default for RawSchedule {
    fn default() -> Self {
        Self { horizon_epochs: 24 }
    }
}

impl Default for RawEnrolment {
    fn default() -> Self {
        Self {
            renewal_grace_days: 30,
        }
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

/// 100 000 terminals with their streams, and what they ask besides.
fn agents_connections_max() -> usize {
    120_000
}

/// As many terminals of a site as connect at one moment behind one address.
fn agents_strangers_per_address() -> u32 {
    1_024
}

fn bundle() -> PathBuf {
    "trust.json".into()
}

fn run_dir() -> PathBuf {
    "run".into()
}

pub(super) fn queue_max() -> usize {
    1024
}

/// A list of many revoked certificates takes seconds.
fn signer_deadline_ms() -> u64 {
    10_000
}

fn signer_queue_max() -> usize {
    256
}

//! Which rules does a configuration have to keep?

use std::path::Path;

use pki::{DnsName, Segment, TrustDomain};
use protocol::link::LinkHost;
use protocol::schedule::HORIZON_MAX_EPOCHS;

use super::{Config, Mistake, providers, rails, raw, sms, spending};
use crate::store::RENEWAL_GRACE_MAX_MS;

/// Of one listener; past it, a process has other limits than memory and descriptors.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// Collects mistakes, so that all are told at once.
#[derive(Default)]
pub(super) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, key: &str, problem: impl ToString, hint: &str) {
        self.0.push(Mistake {
            key: key.into(),
            problem: problem.to_string(),
            hint: hint.into(),
        });
    }

    pub(super) fn take<T, E: ToString>(
        &mut self,
        key: &str,
        read: Result<T, E>,
        hint: &str,
    ) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(key, error.to_string(), hint);
                None
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn range(&mut self, key: &str, value: u64, min: u64, max: u64) {
        if !(min..=max).contains(&value) {
            self.add(
                key,
                format!("{value} is out of range"),
                &format!("{min} to {max}"),
            );
        }
    }
}

pub(super) fn check(mut raw: raw::Raw, folder: &Path) -> Result<Config, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let m = &mut mistakes;
    let node = m.take(
        "node",
        raw.node.parse::<Segment>(),
        "1 to 64 of a-z 0-9 . _ -",
    );
    let domain = m.take(
        "trust.domain",
        raw.trust.domain.parse::<TrustDomain>(),
        "1 to 255 of a-z 0-9 . _ -, e.g. pay.example",
    );
    let link_host = m.take(
        "public.link_host",
        LinkHost::parse(&raw.public.link_host),
        "the host that phones reach, e.g. pay.example",
    );
    let policy = m.take(
        "policy",
        raw.policy.check(),
        "leave the section out for the defaults",
    );
    check_numbers(&raw, m);
    check_names(&raw, m);
    if raw.operator.has_two_keys() {
        let hint = "either key = a file, or [operator.pkcs11]";
        m.add("operator.key", "the key is in two places", hint);
    }
    raw.pages.check(m);
    raw.sessions.check(m);
    spending::check(&raw.step_up, &raw.limits, m);
    let identity_providers = std::mem::take(&mut raw.identity_providers);
    let identity_providers = providers::check(identity_providers, folder, m);
    rails::check(&raw.rails, m);
    let sms = sms::check(raw.sms.take(), &raw.rails, folder, m);
    let (Some(node), Some(domain), Some(link_host), Some(policy), true) =
        (node, domain, link_host, policy, m.0.is_empty())
    else {
        return Err(mistakes.0);
    };
    Ok(raw.resolve(
        folder,
        raw::Checked {
            node,
            domain,
            link_host,
            policy,
            identity_providers,
            sms,
        },
    ))
}

fn check_numbers(raw: &raw::Raw, m: &mut Mistakes) {
    raw.hsm.check(m);
    let horizon = u64::from(raw.schedule.horizon_epochs);
    m.range(
        "schedule.horizon_epochs",
        horizon,
        2,
        u64::from(HORIZON_MAX_EPOCHS),
    );
    m.range(
        "enrolment.renewal_grace_days",
        u64::from(raw.enrolment.renewal_grace_days),
        0,
        u64::try_from(RENEWAL_GRACE_MAX_MS / raw::DAY_MS).unwrap_or(0),
    );
    raw.books.check(m);
    raw.retention.check(m);
    raw.wear.check(m);
    let connections = raw.agents.connections_max as u64;
    m.range("agents.connections_max", connections, 1, CONNECTIONS_MAX);
    let strangers = u64::from(raw.agents.strangers_per_address);
    m.range(
        "agents.strangers_per_address",
        strangers,
        1,
        CONNECTIONS_MAX,
    );
    m.range("loopback.notice_ms", raw.loopback.notice_ms, 0, 60_000);
    m.range("signer.deadline_ms", raw.signer.deadline_ms, 100, 60_000);
    m.range("signer.queue_max", raw.signer.queue_max as u64, 1, 65_536);
    raw.store.check(raw.fence.journal.is_some(), m);
}

fn check_names(raw: &raw::Raw, m: &mut Mistakes) {
    if !raw.loopback.listen.ip().is_loopback() {
        let hint = "health and metrics have no authentication: use 127.0.0.1:9464 or [::1]:9464";
        m.add("loopback.listen", "this is not a loopback address", hint);
    }
    if raw.agents.names.is_empty() {
        m.add(
            "agents.names",
            "no name",
            "the host names and addresses that agents use",
        );
    }
    for name in &raw.agents.names {
        let known = name.parse::<DnsName>().is_ok() || name.parse::<std::net::IpAddr>().is_ok();
        if !known {
            let problem = format!("{name:?} is neither a host name nor an address");
            m.add(
                "agents.names",
                problem,
                "lower case, without wildcard or port",
            );
        }
    }
}

//! How do operators and this node get their next certificate?

use std::net::IpAddr;

use pki::{DnsName, IssueRequest, IssueTo, PkiError, Segment, csr};
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Verb;
use crate::app::App;
use crate::clock::unix_seconds;
use crate::services::Failure;
use crate::services::enrolment::record;
use crate::store::Subject;

/// Issues a certificate for the key of this request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateIssue {
    /// PKCS#10, PEM.
    pub request: String,
    pub holder: Holder,
}

/// Whose certificate it will be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    Operator(String),
    /// This node, under the names of the agents' listener.
    Node,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct IssuedView {
    pub serial: String,
    pub not_after: Timestamp,
    /// PEM: its own certificate, then the issuing one.
    pub chain: String,
}

impl Verb for CertificateIssue {
    const NAME: &'static str = "certificate-issue";
    const CHANGES: bool = true;
    type Answer = IssuedView;

    async fn run(self, app: &App) -> Result<IssuedView, Failure> {
        let csr = csr::check(self.request.as_bytes()).map_err(PkiError::from)?;
        let (to, subject) = holder(app, &self.holder)?;
        let at = app.clock.now();
        let now = unix_seconds(at);
        let issued = app.issuer.issue(IssueRequest { csr, to, now }).await?;
        let row = record(&issued, subject);
        let not_after = row.not_after;
        app.store.add_certificate(row, at).await?;
        Ok(IssuedView {
            serial: issued.serial,
            not_after,
            chain: issued.pem + &app.issuer.chain().issuing().pem(),
        })
    }
}

fn holder(app: &App, holder: &Holder) -> Result<(IssueTo, Subject), Failure> {
    match holder {
        Holder::Operator(name) => {
            let name: Segment = name.parse().map_err(PkiError::from)?;
            let subject = Subject::Operator(name.to_string());
            Ok((IssueTo::Operator(name), subject))
        }
        Holder::Node => {
            let names = &app.config.agents.names;
            let node = app.config.node.clone();
            let subject = Subject::Authority(node.to_string());
            let addresses: Vec<IpAddr> = names.iter().filter_map(|n| n.parse().ok()).collect();
            let is_dns = |name: &&String| name.parse::<IpAddr>().is_err();
            let dns: Result<Vec<DnsName>, _> = names
                .iter()
                .filter(is_dns)
                .map(|name| name.parse())
                .collect();
            let dns = dns.map_err(PkiError::from)?;
            Ok((
                IssueTo::Authority {
                    node,
                    dns,
                    addresses,
                },
                subject,
            ))
        }
    }
}

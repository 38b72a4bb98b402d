//! How does a new terminal get its certificate without trusting a stranger first?
//!
//! ```text
//!  1 look     GET /.well-known/est/cacerts, believing nobody
//!  2 compare  the root's fingerprint with the one given by the operator
//!  3 dial     again, now demanding a chain to that root, the name dialled, an authority's SPIFFE ID
//!  4 ask      POST /.well-known/est/simpleenroll with the one-time join token
//! ```
//! The join token is sent in step 4 only. EST is RFC 7030.

use base64ct::{Base64, Encoding};
use pki::{Certificate, Fingerprint, SoftwareKey, SpiffeId, TrustAnchors, csr, est};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use zeroize::Zeroizing;

use super::client::{AuthorityClient, body};
use super::failure::CallError;
use super::names::Names;
use super::{renew, tls};
use crate::error::AgentError;

const ENROL_PATH: &str = "/.well-known/est/simpleenroll";
const JOIN_PREFIX: &str = "m2j-";
/// Longest join token worth reading.
pub const JOIN_TOKEN_MAX: usize = 256;

/// `m2j-<terminal>-<secret>`: which terminal this machine becomes, and that it may. Mute.
pub struct JoinToken {
    pub terminal: TerminalId,
    secret: Zeroizing<String>,
}

impl JoinToken {
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix(JOIN_PREFIX)?;
        let (terminal, secret) = rest.split_once('-')?;
        let well_formed = !secret.is_empty()
            && secret.len() <= JOIN_TOKEN_MAX
            && secret.bytes().all(|b| b.is_ascii_alphanumeric());
        Some(Self {
            terminal: terminal.parse().ok()?,
            secret: Zeroizing::new(secret.to_owned()),
        })
        .filter(|_| well_formed)
    }

    fn basic(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(format!("{}:{}", self.terminal, self.secret.as_str()));
        Zeroizing::new(format!("Basic {}", Base64::encode_string(pair.as_bytes())))
    }
}

/// What enrolment brings home.
pub struct Enrolled {
    pub root: Certificate,
    /// Leaf first, then what leads to the root.
    pub chain: Vec<Certificate>,
}

/// Runs the four steps. `now` is only used to judge dates.
pub async fn enrol(
    base: &str,
    fingerprint: Fingerprint,
    join: &JoinToken,
    key: &SoftwareKey,
    now: Timestamp,
) -> Result<Enrolled, AgentError> {
    let names = Names::of_system();
    let (root, others) = look(base, fingerprint, &names).await?;
    let trust = TrustAnchors::pinned(root.clone());
    let client = AuthorityClient::with_tls(base, tls::verified(&trust, None, None)?, &names)?;
    let name = join.terminal.to_string().parse();
    let request = csr::new_unnamed(key, &name.map_err(AgentError::bug)?)?;
    let answer = ask(&client, join, &request).await?;
    let leaf = est::certificate_for(&answer, &key.spki_sha256())
        .ok_or_else(|| CallError::answer("no certificate of our key in it"))?;
    check_name(&leaf, join.terminal)?;
    let issuing = renew::leading(&leaf, &others, &trust, now)?;
    Ok(Enrolled {
        root,
        chain: [vec![leaf], issuing].concat(),
    })
}

/// Steps 1 and 2.
async fn look(
    base: &str,
    fingerprint: Fingerprint,
    names: &Names,
) -> Result<(Certificate, Vec<Certificate>), AgentError> {
    let found = AuthorityClient::believing_anybody(base, names)?
        .cacerts()
        .await?;
    let (mut roots, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|c| c.fingerprint() == fingerprint);
    match roots.pop() {
        Some(root) => Ok((root, others)),
        None => Err(CallError::Fingerprint {
            found: listed(&others),
        }
        .into()),
    }
}

async fn ask(
    client: &AuthorityClient,
    join: &JoinToken,
    request: &[u8],
) -> Result<Vec<Certificate>, AgentError> {
    let mut basic = http::HeaderValue::from_str(&join.basic()).map_err(AgentError::bug)?;
    basic.set_sensitive(true);
    let request = client
        .post(ENROL_PATH)
        .header(http::header::AUTHORIZATION, basic)
        .header(http::header::CONTENT_TYPE, "application/pkcs10")
        .body(Base64::encode_string(request));
    let response = client.send(request).await?;
    Ok(est::decode(&body(response).await?).map_err(CallError::answer)?)
}

fn check_name(leaf: &Certificate, terminal: TerminalId) -> Result<(), AgentError> {
    let foreign = || CallError::answer("the certificate is not one for this terminal");
    let domain = tls::domain_in(leaf.der()).ok_or_else(foreign)?;
    match pki::identity_of(leaf.der(), &domain)?.id {
        SpiffeId::Terminal(id) if id == terminal => Ok(()),
        _ => Err(foreign().into()),
    }
}

fn listed(certificates: &[Certificate]) -> String {
    let prints = certificates.iter().map(|c| c.fingerprint().to_string());
    prints.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

//! What is said over the signer's sockets, and how long may it be?
//!
//! A frame is four bytes of length (big endian) and that many bytes of JSON. Whoever asks numbers its
//! frames; answers bear the number and come in any order. There are two doors, and what is asked at
//! one is not even understood at the other: the authority asks for certificates and lists, an
//! administrator of the signer for steps.

use std::net::IpAddr;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{SignerError, Told};
use crate::certificate::Certificate;
use crate::chain::Chain;
use crate::crl::{BadCrl, CrlRequest, Revoked};
use crate::csr;
use crate::error::{Move, PkiError};
use crate::issuer::{IssueRequest, IssueTo, IssuerHealth, IssuingCa};

/// Changes when an older signer would not understand a newer authority, or the other way round.
pub(super) const VERSION: u32 = 1;
/// Largest frame: a revocation list of [`crate::crl::REVOKED_MAX`] entries has 9 MB.
pub(super) const FRAME_MAX_BYTES: u32 = 16 * 1024 * 1024;
/// From the first byte of a frame to its length, and from there to its last byte.
pub(super) const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Most questions of one connection that wait for their answers.
pub(super) const PIPELINE_MAX: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked<T> {
    pub(super) id: u64,
    pub(super) ask: T,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered<T> {
    /// That of the question; 0 if the whole connection is refused.
    pub(super) id: u64,
    /// Rises when the issuing CAs or their states change.
    pub(super) revision: u64,
    pub(super) answer: Result<T, Refusal>,
}

/// What the authority may ask.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Ask {
    Look,
    Issue {
        csr: Bytes,
        to: To,
        now: u64,
    },
    Crl {
        issuer: Bytes,
        number: u64,
        this_update: u64,
        next_update: u64,
        /// Serial number, Unix seconds, reason.
        revoked: Vec<(String, u64, String)>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Answer {
    Looked(Looked),
    Issued { certificate: Bytes },
    Crl { der: Bytes, number: u64 },
}

/// What an administrator may ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdminAsk {
    List,
    Request {
        label: Option<String>,
    },
    Step {
        step: AdminStep,
        /// Says what it would do, and does nothing.
        dry_run: bool,
        /// What operators consented to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transcript: Option<String>,
    },
}

/// A step in the life of an issuing key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdminStep {
    Prepare,
    Install {
        certificate: String,
    },
    Activate {
        /// The prepared one, if left out.
        label: Option<String>,
    },
    Taint {
        label: String,
    },
    Retire {
        label: String,
    },
}

impl From<AdminStep> for AdminAsk {
    /// The step, without anybody's consent.
    fn from(step: AdminStep) -> Self {
        Self::Step {
            step,
            dry_run: false,
            transcript: None,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Looked {
    pub(super) wire: u32,
    pub(super) trust_domain: String,
    pub(super) health: Health,
    /// Those with a certificate that are not retired, the active one first.
    pub(super) cas: Vec<Ca>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ca {
    state: String,
    issuing: Bytes,
    root: Bytes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Health {
    Ready,
    Degraded(String),
    Down(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum To {
    Terminal(String),
    Operator(String),
    Authority {
        node: String,
        dns: Vec<String>,
        addresses: Vec<IpAddr>,
    },
    Statement(String),
}

/// A refusal in the words of the process that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusal {
    whose: Whose,
    message: String,
    hint: String,
    /// The last number of this CA's lists, if the one asked for was not above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crl_number: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Whose {
    Asker,
    Later,
    Operator,
    Ours,
}

/// DER in base64.
#[derive(Debug)]
pub(super) struct Bytes(pub(super) Vec<u8>);

/// Why a frame is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFrame {
    #[error("a frame of {0} bytes, at most {FRAME_MAX_BYTES}")]
    TooLarge(u32),
    #[error("a frame took longer than {} s", FRAME_DEADLINE.as_secs())]
    Slow,
    #[error("the connection ended within a frame")]
    Cut,
    #[error("a frame is not understood ({0})")]
    NotUnderstood(serde_json::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The next frame; none if the other side has ended the connection. It may come at any time, but once
/// it has begun it has a deadline.
pub(super) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, BadFrame> {
    match read_length(from).await? {
        Some(length) => read_body(from, length).await.map(Some),
        None => Ok(None),
    }
}

/// How long the next frame is, at most [`FRAME_MAX_BYTES`].
pub(super) async fn read_length(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<u32>, BadFrame> {
    let mut length = [0; 4];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    let rest = tokio::time::timeout(FRAME_DEADLINE, from.read_exact(&mut length[1..]));
    rest.await.map_err(|_| BadFrame::Slow)?.map_err(cut)?;
    match u32::from_be_bytes(length) {
        length if length > FRAME_MAX_BYTES => Err(BadFrame::TooLarge(length)),
        length => Ok(Some(length)),
    }
}

/// The frame behind its length.
pub(super) async fn read_body<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    length: u32,
) -> Result<T, BadFrame> {
    // Memory grows with what has come, not with what is promised.
    let mut bytes = Vec::new();
    let mut body = from.take(length.into());
    let all = tokio::time::timeout(FRAME_DEADLINE, body.read_to_end(&mut bytes));
    all.await.map_err(|_| BadFrame::Slow)??;
    if bytes.len() as u64 != u64::from(length) {
        return Err(BadFrame::Cut);
    }
    serde_json::from_slice(&bytes).map_err(BadFrame::NotUnderstood)
}

fn cut(error: std::io::Error) -> BadFrame {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => BadFrame::Cut,
        _ => BadFrame::Io(error),
    }
}

pub(super) fn frame(content: &impl Serialize) -> Result<Vec<u8>, BadFrame> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, content).map_err(BadFrame::NotUnderstood)?;
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    if length > FRAME_MAX_BYTES {
        return Err(BadFrame::TooLarge(length));
    }
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Writes a whole frame; a reader that does not read loses its connection.
pub(super) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
) -> Result<(), BadFrame> {
    let written = tokio::time::timeout(FRAME_DEADLINE, to.write_all(frame)).await;
    Ok(written.map_err(|_| BadFrame::Slow)??)
}

impl Ask {
    pub(super) fn issue(request: &IssueRequest) -> Self {
        Self::Issue {
            csr: Bytes(request.csr.der().to_vec()),
            to: To::from(&request.to),
            now: request.now,
        }
    }

    pub(super) fn crl(request: CrlRequest) -> Self {
        let entry = |r: Revoked| (r.serial, r.at, r.reason.name().to_owned());
        Self::Crl {
            issuer: Bytes(request.issuer.to_vec()),
            number: request.number,
            this_update: request.this_update,
            next_update: request.next_update,
            revoked: request.revoked.into_iter().map(entry).collect(),
        }
    }
}

/// The request as it was meant; the proof of possession is checked again.
pub(super) fn issue_request(csr: &Bytes, to: To, now: u64) -> Result<IssueRequest, PkiError> {
    let csr = csr::check(&csr.0)?;
    let to = to.read()?;
    Ok(IssueRequest { csr, to, now })
}

pub(super) fn revoked(entries: Vec<(String, u64, String)>) -> Result<Vec<Revoked>, PkiError> {
    let entry = |(serial, at, reason): (String, u64, String)| {
        let reason = reason.parse().map_err(PkiError::bug)?;
        Ok(Revoked { serial, at, reason })
    };
    entries.into_iter().map(entry).collect()
}

impl From<&IssueTo> for To {
    fn from(to: &IssueTo) -> Self {
        match to {
            IssueTo::Terminal(id) => Self::Terminal(id.to_string()),
            IssueTo::Operator(name) => Self::Operator(name.to_string()),
            IssueTo::Authority {
                node,
                dns,
                addresses,
            } => Self::Authority {
                node: node.to_string(),
                dns: dns.iter().map(|name| name.as_str().to_owned()).collect(),
                addresses: addresses.clone(),
            },
            IssueTo::Statement(node) => Self::Statement(node.to_string()),
        }
    }
}

impl To {
    fn read(self) -> Result<IssueTo, PkiError> {
        Ok(match self {
            Self::Terminal(id) => IssueTo::Terminal(id.parse().map_err(PkiError::bug)?),
            Self::Operator(name) => IssueTo::Operator(name.parse()?),
            Self::Authority {
                node,
                dns,
                addresses,
            } => IssueTo::Authority {
                node: node.parse()?,
                dns: dns
                    .iter()
                    .map(|name| name.parse())
                    .collect::<Result<_, _>>()?,
                addresses,
            },
            Self::Statement(node) => IssueTo::Statement(node.parse()?),
        })
    }
}

impl From<&IssuingCa> for Ca {
    fn from(ca: &IssuingCa) -> Self {
        Self {
            state: ca.state.name().into(),
            issuing: Bytes(ca.chain.issuing().der().to_vec()),
            root: Bytes(ca.chain.root().der().to_vec()),
        }
    }
}

impl Ca {
    pub(super) fn read(&self) -> Result<IssuingCa, PkiError> {
        let issuing = Certificate::from_der(&self.issuing.0)?;
        let root = Certificate::from_der(&self.root.0)?;
        Ok(IssuingCa {
            chain: Chain::new(issuing, root)?,
            state: self.state.parse().map_err(PkiError::bug)?,
        })
    }
}

impl From<IssuerHealth> for Health {
    fn from(health: IssuerHealth) -> Self {
        match health {
            IssuerHealth::Ready => Self::Ready,
            IssuerHealth::Degraded(why) => Self::Degraded(why),
            IssuerHealth::Down(why) => Self::Down(why),
        }
    }
}

impl From<Health> for IssuerHealth {
    fn from(health: Health) -> Self {
        match health {
            Health::Ready => Self::Ready,
            Health::Degraded(why) => Self::Degraded(why),
            Health::Down(why) => Self::Down(why),
        }
    }
}

impl From<&PkiError> for Refusal {
    fn from(error: &PkiError) -> Self {
        Self {
            whose: match error.whose_move() {
                Move::Asker => Whose::Asker,
                Move::Later => Whose::Later,
                Move::Operator => Whose::Operator,
                Move::Ours => Whose::Ours,
            },
            message: error.to_string(),
            hint: error.hint().into(),
            crl_number: match error {
                PkiError::Crl(BadCrl::NumberGoesBack { last }) => Some(*last),
                _ => None,
            },
        }
    }
}

impl From<Refusal> for PkiError {
    fn from(refusal: Refusal) -> Self {
        if let Some(last) = refusal.crl_number {
            return BadCrl::NumberGoesBack { last }.into();
        }
        SignerError::Told(Told {
            whose: match refusal.whose {
                Whose::Asker => Move::Asker,
                Whose::Later => Move::Later,
                Whose::Operator => Move::Operator,
                Whose::Ours => Move::Ours,
            },
            message: refusal.message,
            hint: refusal.hint,
        })
        .into()
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Base64::decode_vec(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

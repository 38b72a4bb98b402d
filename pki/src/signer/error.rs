//! Why does the signer not sign, and whose move is it?

use std::path::{Path, PathBuf};

use crate::error::Move;
use crate::lifecycle::WrongStep;

/// Most holders that a refusal names; the rest is counted.
const NAMED_MAX: usize = 20;

/// What the signer, or the way to it, answers instead of a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Said by a signer in another process, in its own words.
    #[error("{}", .0.message)]
    Told(Told),
    #[error("the signer does not answer at {} ({detail})", .socket.display())]
    Absent { socket: PathBuf, detail: String },
    #[error("this account may not go to the signer's socket {}", .socket.display())]
    NoWay { socket: PathBuf },
    #[error("the signer has more to do than it takes on")]
    Busy,
    #[error("the signer is for {signer}, and this authority for {own}")]
    OtherDomain { signer: String, own: String },
    #[error("the answer of the signer is not understood ({detail})")]
    NotUnderstood { detail: String },
    #[error("the account {uid} is not let in here")]
    NotLetIn { uid: u32 },
    #[error("no issuing CA is active")]
    NoneActive,
    #[error("the clocks of the authority and of the signer are {seconds} seconds apart")]
    ClocksApart { seconds: u64 },
    #[error("another signer works in {}", .0.display())]
    Locked(PathBuf),
    #[error("cannot use {} ({detail})", .path.display())]
    Io { path: PathBuf, detail: String },
    #[error("{} cannot be given to the group {group}: this account is no member of it", .path.display())]
    ForeignGroup { group: u32, path: PathBuf },
    #[error("{} is not what a signer wrote: {detail}", .path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("the log of what is signed cannot be written ({detail})")]
    LogNotWritten { detail: String },
    #[error(transparent)]
    Step(#[from] WrongStep),
    #[error("there is no issuing key {0:?}")]
    NoSuchKey(String),
    #[error("no issuing key is prepared")]
    NonePrepared,
    #[error("the issuing key {0:?} has no certificate yet")]
    NoCertificate(String),
    #[error("this certificate is for none of the issuing keys here")]
    ForeignCertificate,
    #[error("this certificate leads to none of the roots trusted here")]
    ForeignRoot,
    #[error("the key {label:?} in the HSM token is not as M2Key makes it: {findings}")]
    WeakKey { label: String, findings: String },
    #[error("there are {max} issuing keys already that are not retired")]
    TooManyKeys { max: usize },
    #[error(
        "{count} certificates under {label:?} are good and not replaced yet: {}",
        named(.holders, *.count)
    )]
    WouldStrand {
        label: String,
        count: usize,
        /// At most `NAMED_MAX`.
        holders: Vec<String>,
    },
    #[error("this HSM token or a key in it is not as safe as M2Key needs")]
    NotAsItMustBe,
    #[error("{}", .0)]
    Configuration(String),
}

/// A refusal of another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub whose: Move,
    pub message: String,
    pub hint: String,
}

impl SignerError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |error| Self::Io {
            path,
            detail: error.to_string(),
        }
    }

    pub(super) fn would_strand(label: &str, mut holders: Vec<String>) -> Self {
        let count = holders.len();
        holders.truncate(NAMED_MAX);
        Self::WouldStrand {
            label: label.into(),
            count,
            holders,
        }
    }

    pub(crate) fn whose_move(&self) -> Move {
        match self {
            Self::Told(told) => told.whose,
            Self::Absent { .. } | Self::Busy => Move::Later,
            Self::Step(_)
            | Self::NoSuchKey(_)
            | Self::NonePrepared
            | Self::NoCertificate(_)
            | Self::ForeignCertificate
            | Self::ForeignRoot
            | Self::TooManyKeys { .. }
            | Self::WouldStrand { .. } => Move::Asker,
            Self::OtherDomain { .. }
            | Self::NoWay { .. }
            | Self::ForeignGroup { .. }
            | Self::NotLetIn { .. }
            | Self::NoneActive
            | Self::ClocksApart { .. }
            | Self::Locked(_)
            | Self::Io { .. }
            | Self::Damaged { .. }
            | Self::LogNotWritten { .. }
            | Self::WeakKey { .. }
            | Self::NotAsItMustBe
            | Self::Configuration(_) => Move::Operator,
            Self::NotUnderstood { .. } => Move::Ours,
        }
    }

    pub(crate) fn hint(&self) -> &str {
        match self {
            Self::Told(told) => &told.hint,
            Self::Absent { .. } => "start it: m2key-pki signer --config …/signer.toml",
            Self::NoWay { .. } => {
                "the authority: name its account and group under [access] in signer.toml, and let \
                 that group through every folder above; issuing verbs are for the signer's own account"
            }
            Self::ForeignGroup { .. } => {
                "make the signer's account a member: usermod --append --groups, then start it again"
            }
            Self::Busy => "try again in a few seconds",
            Self::OtherDomain { .. } => {
                "[signer] of the authority's configuration leads to another authority's signer"
            }
            Self::NotUnderstood { .. } => {
                "use the same version of m2key-pki and m2key-authority, and restart both"
            }
            Self::NotLetIn { .. } => {
                "name it under [access] in signer.toml if it is the authority's; issuing verbs are \
                 for the signer's own account"
            }
            Self::NoneActive => {
                "m2key-pki issuing list says what is there; prepare, install and activate one"
            }
            Self::ClocksApart { .. } => "set the clocks of both machines",
            Self::Locked(_) => "stop it first, or ask it: m2key-pki issuing list",
            Self::Io { .. } => "let the account of the signer read and write there",
            Self::Damaged { .. } => {
                "compare it with a backup; do not remove it: it says what was signed"
            }
            Self::LogNotWritten { .. } => {
                "free some space on the signer's disk; nothing was signed"
            }
            Self::Step(step) => step.hint(),
            Self::NoSuchKey(_) => "m2key-pki issuing list names them",
            Self::NonePrepared => "make one: m2key-pki issuing prepare",
            Self::NoCertificate(_) => {
                "issuing request, root sign on the offline machine, issuing install; then again"
            }
            Self::ForeignCertificate => {
                "give the certificate that the root signed for the request of `issuing request`"
            }
            Self::ForeignRoot => {
                "put the root certificate it hangs on into the signer's roots file"
            }
            Self::WeakKey { .. } => "find out who made it; destroy it with the HSM's own tools",
            Self::TooManyKeys { .. } => "retire what is superseded or tainted first",
            Self::WouldStrand { .. } => {
                "wait until they have renewed under the active issuing CA; a compromised one is \
                 tainted first"
            }
            Self::NotAsItMustBe => {
                "each line above that says MISSING or WRONG names what to change"
            }
            Self::Configuration(_) => "compare with config/signer.full.toml",
        }
    }
}

fn named(holders: &[String], count: usize) -> String {
    let list = holders.join(", ");
    match count - holders.len() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

//! Which certificates are no longer good, said so that anybody can check it?
//!
//! A revocation list (RFC 5280, section 5) of one issuing CA, or of the root. Its number never goes
//! back: whoever signs remembers the last one.

mod build;
mod read;

pub use build::Unsigned;
pub use read::{BadList, RevocationList, from_file};
pub(crate) use read::{check_signature, entry, number, parse};

use crate::pem;

/// Most entries of one list. A CA with more live revoked certificates is tainted as a whole instead.
pub const REVOKED_MAX: usize = 100_000;
/// Largest list worth reading; one of [`REVOKED_MAX`] entries has about 5 MiB.
pub const CRL_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Longest time from one list to the next: that of the root, which signs one a year.
pub const CRL_LIFETIME_MAX_SECONDS: u64 = 366 * 24 * 60 * 60;

pub(crate) const CRL_LABEL: &str = "X509 CRL";

/// What a revocation list will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlRequest {
    /// SHA-256 of the issuing CA's subject public key info.
    pub issuer: [u8; 32],
    /// Above every number signed before for this CA.
    pub number: u64,
    /// Unix seconds.
    pub this_update: u64,
    /// Unix seconds: when the next list is there at the latest.
    pub next_update: u64,
    /// In any order.
    pub revoked: Vec<Revoked>,
}

/// One certificate that is no longer good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub at: u64,
    pub reason: Reason,
}

/// Why (RFC 5280, 5.3.1); only those that M2Key uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

/// A signed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCrl {
    pub der: Vec<u8>,
    pub number: u64,
}

/// Why a list is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCrl {
    #[error("it names another CA than the one that would sign it")]
    ForeignIssuer,
    #[error("it has more than {REVOKED_MAX} entries")]
    TooMany,
    #[error("one of its serial numbers is not 1 to 20 bytes in lower-case hexadecimal")]
    Serial,
    #[error("one serial number stands in it twice")]
    Twice,
    #[error("it does not end between its beginning and {CRL_LIFETIME_MAX_SECONDS} seconds later")]
    Dates,
    #[error("its number is not above {last}, the last one signed")]
    NumberGoesBack { last: u64 },
    #[error("its number is too far above {last}, the last one signed")]
    NumberTooFar { last: u64 },
    #[error("it would be good for longer than the lists of an issuing CA are")]
    LastsTooLong,
}

impl BadCrl {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::ForeignIssuer => "ask the CA that issued these certificates",
            Self::TooMany => "taint this issuing CA: its certificates are replaced under another",
            Self::Serial | Self::Twice => {
                "report this: the list of revoked certificates is damaged"
            }
            Self::Dates => "compare the clocks of both machines",
            Self::NumberGoesBack { .. } => {
                "ask again with a higher number; after a restore this is expected once"
            }
            Self::NumberTooFar { .. } => {
                "find out who asks: the number of an authority rises by one with each list"
            }
            Self::LastsTooLong => {
                "find out who asks: an authority makes a list every hour, good for a day"
            }
        }
    }
}

impl SignedCrl {
    pub fn pem(&self) -> String {
        pem::armour(CRL_LABEL, &self.der)
    }
}

impl Reason {
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// As commands, tables and JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// No reason has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a reason; one of unspecified, key-compromise, ca-compromise, superseded, \
     cessation-of-operation, privilege-withdrawn"
)]
pub struct NoSuchReason;

impl std::str::FromStr for Reason {
    type Err = NoSuchReason;

    fn from_str(text: &str) -> Result<Self, NoSuchReason> {
        let named = |reason: &Self| reason.name() == text;
        Self::ALL.into_iter().find(named).ok_or(NoSuchReason)
    }
}

//! Which certificates are no longer good, said so that anybody can check it?
//!
//! A revocation list (RFC 5280, section 5) of one issuing CA. Its number never goes back.

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

//! Who is who, and who may say so?
//!
//! ```text
//!   root key (offline; encrypted file or HSM)    [root]
//!     └─ root certificate, path length 1        [profiles]
//!          └─ issuing certificate, path length 0, key in the HSM
//!               ├─ authority   server           [issuer] ◀── checked CSR [csr]
//!               ├─ terminal    client, 7 days
//!               ├─ operator    client
//!               └─ statement   signs, no TLS
//! ```
//! Root and issuing CA say which certificates are no longer good ([`crl`]).
//!
//! A SPIFFE ID in the certificate is the only identity of a machine or an operator ([`names`]).
//! Everything here works on bytes, files and the `hsm::Hsm` trait (feature `ca`); nothing talks to a network, and
//! nobody here looks at a clock: the caller says what time it is, in Unix seconds.
#![forbid(unsafe_code)]

mod certificate;
pub mod chain;
pub mod consent;
pub mod crl;
pub mod csr;
mod dates;
mod error;
pub mod est;
mod files;
#[cfg(feature = "ca")]
mod hsm_issuer;
pub mod inspect;
pub mod issuer;
pub mod keys;
pub mod lifecycle;
pub mod manager;
pub mod names;
mod operator_key;
mod pem;
#[cfg(feature = "ca")]
pub mod process;
pub mod profiles;
pub mod root;
#[cfg(feature = "ca")]
pub mod signer;
mod signing;
pub mod trust;
pub mod verify;

pub use certificate::{BadCertificate, CERTIFICATE_MAX_BYTES, Certificate, validity};
pub use chain::{Chain, Fingerprint};
pub use csr::{BadCsr, CheckedCsr};
pub use error::{Move, PkiError};
pub use files::{BadFile, read_public, refuse_taken, write_new};
#[cfg(feature = "ca")]
pub use hsm_issuer::HsmIssuer;
pub use issuer::{IssueRequest, IssueTo, IssuedCertificate, Issuer, IssuerHealth, IssuingCa};
pub use keys::SoftwareKey;
pub use lifecycle::{KeyState, Step, WrongStep};
pub use names::{BadName, DnsName, Segment, SpiffeId, TrustDomain};
pub use operator_key::OperatorKey;
pub use root::{BadCeremony, Passphrase, RootKey, RootSigner};
pub use trust::{BadTrust, Denied, KeyId, TrustAnchors, TrustBundle, TrustedRoot};
pub use verify::{Peer, VerifiedCertificate, identity_of, verify_chain};

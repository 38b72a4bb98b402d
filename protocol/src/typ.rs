//! Which kinds of signed statements are there, and whose key signs each?
//!
//! One `typ` per purpose (RFC 8725, 3.11), all of them here. A signature alone proves little: a terminal's
//! key verifies too, and signs no receipt. Who looks at a statement asks [`signed_by`].

pub const SCHEDULE: &str = "m2key-schedule+jwt";
pub const RECEIPT: &str = "m2key-receipt+jwt";
pub const REFUND: &str = "m2key-refund+jwt";
/// A merchant's closed day.
pub const SETTLEMENT: &str = "m2key-settlement+jwt";
pub const CHECKPOINT: &str = "m2key-checkpoint+jwt";
/// What is known of an operation.
pub const TRANSCRIPT: &str = "m2key-transcript+jwt";
/// What an operator asks others to consent to.
pub const REQUEST: &str = "m2key-request+jwt";
pub const CONSENT: &str = "m2key-consent+jwt";
pub const REFUSAL: &str = "m2key-refusal+jwt";
/// An operator's request for their next certificate, to a stopped authority.
pub const RENEWAL: &str = "m2key-renewal+jwt";
/// A list of trusted roots.
pub const TRUST: &str = "m2key-trust+jwt";
/// The root's word that somebody is an operator.
pub const VOUCH: &str = "m2key-vouch+jwt";
/// What a shopper agreed to pay, signed by their wallet.
pub const APPROVAL: &str = "m2key-approval+jwt";

/// No JWS but the `tag` of an HTTP message signature (RFC 9421): what a rail is asked for.
pub const RAIL_REQUEST: &str = "m2key-rail";
/// The same of what a merchant is told.
pub const WEBHOOK: &str = "m2key-webhook";

/// Whose key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedBy {
    /// A key of an authority node for statements; its certificate is for signing documents alone.
    Node,
    /// An operator, with the key of their certificate.
    Operator,
    /// A root.
    Root,
    /// A wallet, with the key that its shopper's access token is bound to.
    Wallet,
}

const ALL: [(&str, SignedBy); 13] = [
    (SCHEDULE, SignedBy::Node),
    (RECEIPT, SignedBy::Node),
    (REFUND, SignedBy::Node),
    (SETTLEMENT, SignedBy::Node),
    (CHECKPOINT, SignedBy::Node),
    (TRANSCRIPT, SignedBy::Node),
    (REQUEST, SignedBy::Operator),
    (CONSENT, SignedBy::Operator),
    (REFUSAL, SignedBy::Operator),
    (RENEWAL, SignedBy::Operator),
    (TRUST, SignedBy::Root),
    (VOUCH, SignedBy::Root),
    (APPROVAL, SignedBy::Wallet),
];

/// Who signs statements of this type; none if it is not one of ours.
pub fn signed_by(typ: &str) -> Option<SignedBy> {
    let found = ALL.iter().find(|(known, _)| *known == typ);
    found.map(|(_, who)| *who)
}

//! What is a machine or an operator called, and is the name written in the one right way?
//!
//! SPIFFE IDs: `spiffe://<trust-domain>/terminal/<id>`, `/authority/<node>`, `/operator/<name>`. There
//! is exactly one spelling of each name, so two names are the same if and only if their bytes are.

use std::fmt;
use std::str::FromStr;

use protocol::ids::TerminalId;

/// Longest trust domain (SPIFFE ID specification, 2.1).
pub const TRUST_DOMAIN_MAX_BYTES: usize = 255;
/// Longest node or operator name: what also fits a common name (RFC 5280, ub-common-name).
pub const SEGMENT_MAX_BYTES: usize = 64;
/// Longest DNS name and longest label in it (RFC 1035).
pub const DNS_NAME_MAX_BYTES: usize = 253;
pub const DNS_LABEL_MAX_BYTES: usize = 63;

const SCHEME: &str = "spiffe://";

/// Who trusts the same root, e.g. `m2key.example`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

/// Whose certificate it is. Only an identity inside one's own trust domain becomes a value of this
/// type, so it does not repeat the domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SpiffeId {
    Terminal(TerminalId),
    Authority(Segment),
    Operator(Segment),
}

/// The name of a node or an operator: 1 to 64 of `a-z 0-9 . _ -`, first and last a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment(String);

/// A host name in lower case, without wildcard and without trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(String);

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("not a trust domain")]
    TrustDomain,
    #[error("not the name of a node or an operator")]
    Segment,
    #[error("not a host name")]
    Dns,
    #[error("more than {} host names and addresses", crate::profiles::HOSTS_MAX)]
    TooManyHosts,
    #[error("not a place of revocation lists")]
    CrlBase,
    #[error("a SPIFFE ID of another trust domain")]
    ForeignDomain,
    #[error("not a SPIFFE ID as M2Key writes them")]
    SpiffeId,
}

impl BadName {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::TrustDomain => {
                "1 to 255 of a-z 0-9 . _ -, beginning and ending with a letter or digit"
            }
            Self::Segment => {
                "1 to 64 of a-z 0-9 . _ -, beginning and ending with a letter or digit"
            }
            Self::Dns => "a host name in lower case, without wildcard and without a dot at the end",
            Self::TooManyHosts => "name the ones that clients dial, and leave the others out",
            Self::CrlBase => "http://host/path/ with a slash at the end, at most 160 bytes",
            Self::ForeignDomain => "ask for a name in the trust domain of this authority",
            Self::SpiffeId => {
                "spiffe://<trust-domain>/ and then terminal/<id>, authority/<node> or operator/<name>"
            }
        }
    }
}

impl TrustDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("m2key.example".into())
    }
}

impl FromStr for TrustDomain {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_plain(text, TRUST_DOMAIN_MAX_BYTES) {
            Ok(Self(text.into()))
        } else {
            Err(BadName::TrustDomain)
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SpiffeId {
    /// The URI that stands in the certificate.
    pub fn uri(&self, domain: &TrustDomain) -> String {
        let (role, name) = (self.role(), self.name());
        format!("{SCHEME}{domain}/{role}/{name}")
    }

    /// Reads a URI back; another domain, a query, an upper-case letter, an escape or a second
    /// spelling of the same name is refused.
    pub fn parse(uri: &str, domain: &TrustDomain) -> Result<Self, BadName> {
        let rest = uri.strip_prefix(SCHEME).ok_or(BadName::SpiffeId)?;
        let (found, path) = rest.split_once('/').ok_or(BadName::SpiffeId)?;
        if found != domain.as_str() {
            return Err(BadName::ForeignDomain);
        }
        let (role, name) = path.split_once('/').ok_or(BadName::SpiffeId)?;
        match role {
            "terminal" => terminal(name).map(Self::Terminal),
            "authority" => segment(name).map(Self::Authority),
            "operator" => segment(name).map(Self::Operator),
            _ => Err(BadName::SpiffeId),
        }
    }

    /// `terminal`, `authority` or `operator`.
    pub fn role(&self) -> &'static str {
        match self {
            Self::Terminal(_) => "terminal",
            Self::Authority(_) => "authority",
            Self::Operator(_) => "operator",
        }
    }

    /// The last part, which also becomes the common name.
    pub fn name(&self) -> String {
        match self {
            Self::Terminal(id) => id.to_string(),
            Self::Authority(name) | Self::Operator(name) => name.0.clone(),
        }
    }
}

impl Segment {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Segment {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_plain(text, SEGMENT_MAX_BYTES) {
            Ok(Self(text.into()))
        } else {
            Err(BadName::Segment)
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DnsName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let last = text.rsplit('.').next().unwrap_or_default();
        let looks_like_an_address = last.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() <= DNS_NAME_MAX_BYTES
            && !looks_like_an_address
            && text.split('.').all(is_label)
        {
            Ok(Self(text.into()))
        } else {
            Err(BadName::Dns)
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `TerminalId` reads what people type; a certificate must hold the 8 digits themselves.
fn terminal(text: &str) -> Result<TerminalId, BadName> {
    let id: TerminalId = text.parse().map_err(|_| BadName::SpiffeId)?;
    if id.to_string() == text {
        Ok(id)
    } else {
        Err(BadName::SpiffeId)
    }
}

fn segment(text: &str) -> Result<Segment, BadName> {
    text.parse().map_err(|_| BadName::SpiffeId)
}

fn is_plain(text: &str, max_bytes: usize) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(is_letter_or_digit);
    text.len() <= max_bytes
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|byte| is_letter_or_digit(byte) || b"._-".contains(&byte))
}

fn is_label(label: &str) -> bool {
    !label.contains(['_', '.']) && is_plain(label, DNS_LABEL_MAX_BYTES)
}

fn is_letter_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn home() -> TrustDomain {
        TrustDomain::default()
    }

    #[test]
    fn names_at_their_limits_are_taken_and_one_more_byte_is_refused() {
        assert!("a".repeat(SEGMENT_MAX_BYTES).parse::<Segment>().is_ok());
        assert!(
            "a".repeat(SEGMENT_MAX_BYTES + 1)
                .parse::<Segment>()
                .is_err()
        );
        assert!(
            "a".repeat(TRUST_DOMAIN_MAX_BYTES)
                .parse::<TrustDomain>()
                .is_ok()
        );
        assert!(
            "a".repeat(TRUST_DOMAIN_MAX_BYTES + 1)
                .parse::<TrustDomain>()
                .is_err()
        );
        let label = "a".repeat(DNS_LABEL_MAX_BYTES);
        let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
        assert_eq!(longest.len(), DNS_NAME_MAX_BYTES);
        assert!(longest.parse::<DnsName>().is_ok());
        assert!(format!("{longest}a").parse::<DnsName>().is_err());
        assert!(format!("{label}a").parse::<DnsName>().is_err());
    }

    #[test]
    fn a_second_spelling_of_a_name_is_refused() {
        let id = TerminalId::from_number(1_234_567).unwrap();
        let good = SpiffeId::Terminal(id).uri(&home());
        assert_eq!(SpiffeId::parse(&good, &home()), Ok(SpiffeId::Terminal(id)));
        let others = [
            good.replace("spiffe", "SPIFFE"),
            good.replace("terminal", "Terminal"),
            good.replace("terminal/1", "terminal/l"),
            good.replace("terminal/", "terminal//"),
            good.replace("terminal/", "terminal/ "),
            good.replace("m2key.example", "m2key.example:443"),
            good.replace("m2key.example", "someone@m2key.example"),
            format!("{good}/"),
            format!("{good}?x"),
            format!("{good}#x"),
            format!("{good}%20"),
        ];
        for other in others {
            assert!(SpiffeId::parse(&other, &home()).is_err(), "{other}");
        }
    }

    #[test]
    fn another_trust_domain_is_told_apart_from_nonsense() {
        let foreign: TrustDomain = "elsewhere.example".parse().unwrap();
        let uri = SpiffeId::Operator("first".parse().unwrap()).uri(&foreign);
        assert_eq!(SpiffeId::parse(&uri, &home()), Err(BadName::ForeignDomain));
        assert_eq!(
            SpiffeId::parse("urn:uuid:x", &home()),
            Err(BadName::SpiffeId)
        );
    }

    #[test]
    fn wildcards_addresses_and_capitals_are_not_host_names() {
        for text in [
            "*.m2key.example",
            "10.0.0.1",
            "Example.com",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a_b",
            "",
            "ä.de",
        ] {
            assert!(text.parse::<DnsName>().is_err(), "{text}");
        }
        assert!("localhost".parse::<DnsName>().is_ok());
    }

    proptest! {
        #[test]
        fn every_name_reads_back_as_itself(number in 0u32..10_000_000, name in "[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?") {
            let segment: Segment = name.parse().unwrap();
            for id in [
                SpiffeId::Terminal(TerminalId::from_number(number).unwrap()),
                SpiffeId::Authority(segment.clone()),
                SpiffeId::Operator(segment),
            ] {
                prop_assert_eq!(SpiffeId::parse(&id.uri(&home()), &home()), Ok(id));
            }
        }

        #[test]
        fn no_text_makes_the_parsers_panic_and_what_they_take_they_write(text in "(spiffe://m2key.example/)?\\PC{0,80}") {
            if let Ok(id) = SpiffeId::parse(&text, &home()) {
                prop_assert_eq!(id.uri(&home()), text.clone());
            }
            let _ = (text.parse::<TrustDomain>(), text.parse::<Segment>(), text.parse::<DnsName>());
        }
    }
}

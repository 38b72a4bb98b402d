//! Which certificates lead from an end entity to the root, and how do people compare roots?

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::certificate::{BadCertificate, CERTIFICATE_LABEL, Certificate, hex};
use crate::pem;
use crate::verify;

/// The issuing certificate and the root above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    issuing: Certificate,
    root: Certificate,
}

/// SHA-256 of a certificate. Printed in groups that can be read over the telephone; read back with or
/// without blanks and colons, in either case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Chain {
    /// Both certificates, if the root signed itself and the issuing one and allows both.
    pub fn new(issuing: Certificate, root: Certificate) -> Result<Self, BadCertificate> {
        verify::check_root(&root)?;
        verify::check_link(&issuing, &root, 0)?;
        verify::check_ca(&issuing, 0)?;
        Ok(Self { issuing, root })
    }

    pub fn issuing(&self) -> &Certificate {
        &self.issuing
    }

    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// Issuing first, as /cacerts and TLS want them.
    pub fn certificates(&self) -> [&Certificate; 2] {
        [&self.issuing, &self.root]
    }

    /// Both as one PEM bundle, issuing first.
    pub fn pem(&self) -> String {
        self.issuing.pem() + &self.root.pem()
    }
}

/// Every certificate of a PEM bundle, in order; at least one, and nothing but certificates.
pub fn certificates_from_pem(text: &str) -> Result<Vec<Certificate>, BadCertificate> {
    let blocks = pem::blocks(text).map_err(|_| BadCertificate::NotPem)?;
    if blocks.is_empty() || blocks.iter().any(|block| block.label != CERTIFICATE_LABEL) {
        return Err(BadCertificate::NotPem);
    }
    let read = |block: &pem::Block<'_>| {
        let der = block.der().map_err(|_| BadCertificate::NotPem)?;
        Certificate::from_der(&der)
    };
    blocks.iter().map(read).collect()
}

impl Fingerprint {
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    /// 16 groups of 4 digits: `3f9a 01c2 …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.0.chunks(2).map(hex).collect();
        f.write_str(&groups.join(" "))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = BadCertificate;

    fn from_str(text: &str) -> Result<Self, BadCertificate> {
        let mut nibbles = text.chars().filter(|c| !c.is_whitespace() && *c != ':');
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            *byte = (nibble(nibbles.next())? << 4) | nibble(nibbles.next())?;
        }
        match nibbles.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(BadCertificate::Fingerprint),
        }
    }
}

fn nibble(character: Option<char>) -> Result<u8, BadCertificate> {
    character
        .and_then(|c| c.to_digit(16))
        .and_then(|digit| u8::try_from(digit).ok())
        .ok_or(BadCertificate::Fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fingerprint_reads_back_in_every_spelling_people_use() {
        let fingerprint = Fingerprint::of(b"abc");
        let text = fingerprint.to_string();
        assert!(text.starts_with("ba78 16bf 8f01 "));
        let dense = text.replace(' ', "");
        for spelling in [
            text.to_uppercase(),
            text.replace(' ', ":"),
            dense.clone(),
            format!(" {text}\n"),
        ] {
            assert_eq!(spelling.parse(), Ok(fingerprint), "{spelling}");
        }
        for wrong in [
            &dense[1..],
            &format!("{dense}0"),
            &dense.replace('b', "g"),
            "",
        ] {
            assert_eq!(
                wrong.parse::<Fingerprint>(),
                Err(BadCertificate::Fingerprint)
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,200}") {
            let _ = (text.parse::<Fingerprint>(), certificates_from_pem(&text));
        }
    }
}

//! What is in this file, in words?
//!
//! Unlike the rest of this crate it also reads what M2Key would never issue, because that is what
//! people look at when something does not work. It says nothing of private keys but that they are, and
//! of every signature whether it was checked, and against what.

mod certificate;
mod other;
mod page;
mod statement;

use std::path::Path;

use der::Decode;
use protocol::jwk::JwkSet;
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::Certificate as AnyCertificate;
use x509_cert::request::CertReq;

use crate::certificate::{BadCertificate, Certificate};
use crate::chain::{Fingerprint, certificates_from_pem};
use crate::crl;
use crate::error::PkiError;
use crate::est;
use crate::files::{self, BadFile};
use crate::pem;
use crate::verify;

/// What signatures are checked against.
#[derive(Debug, Clone, Default)]
pub struct Against {
    roots: Vec<Certificate>,
    keys: JwkSet,
    /// Unix seconds.
    now: u64,
    /// What the file itself holds: links of a chain, believed only if they lead to a root.
    beside: Vec<Certificate>,
}

impl Against {
    /// Files of root certificates and of a JWK set; `now` in Unix seconds.
    pub fn load(root: Option<&Path>, keys: Option<&Path>, now: u64) -> Result<Self, PkiError> {
        let mut against = Self {
            now,
            ..Self::default()
        };
        if let Some(path) = root {
            let text = files::read_public(path)?;
            let text = std::str::from_utf8(&text).map_err(|_| BadFile::NotText.at(path))?;
            against.roots = certificates_from_pem(text)?;
        }
        if let Some(path) = keys {
            let found = statement::key_set(&files::read_public(path)?);
            against.keys = found.ok_or_else(|| BadFile::NotKeySet.at(path))?;
        }
        Ok(against)
    }

    /// One root that is in memory.
    pub fn root(root: Certificate, now: u64) -> Self {
        Self {
            roots: vec![root],
            now,
            ..Self::default()
        }
    }

    fn leads_to_root(&self, certificate: &Certificate) -> Result<(), BadCertificate> {
        self.leads_to_root_through(certificate, &self.beside)
    }

    fn leads_to_root_through(
        &self,
        certificate: &Certificate,
        through: &[Certificate],
    ) -> Result<(), BadCertificate> {
        let mut refusal = BadCertificate::ForeignRoot;
        for root in &self.roots {
            match verify::leads_to(certificate, through, root, self.now) {
                Ok(()) => return Ok(()),
                Err(BadCertificate::ForeignRoot) => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

/// Everything in a PEM, DER, base64, JWS or JSON file, one paragraph each.
pub fn inspect(path: &Path, against: &Against) -> Result<String, PkiError> {
    // PEM is a third larger than what is in it.
    let bytes = files::read_public_up_to(path, 2 * crl::CRL_MAX_BYTES as u64)?;
    describe(&bytes, against).map_err(|problem| problem.at(path))
}

/// The fingerprint of the one certificate in a PEM or DER file.
pub fn fingerprint(path: &Path) -> Result<Fingerprint, PkiError> {
    Ok(Certificate::load(path)?.fingerprint())
}

/// The same for bytes that are in memory.
pub fn describe(bytes: &[u8], against: &Against) -> Result<String, BadFile> {
    let paragraphs = match std::str::from_utf8(bytes) {
        Ok(text) => in_text(text, against)?,
        Err(_) => thing(bytes, against)?,
    };
    match paragraphs.is_empty() {
        true => Err(BadFile::Unknown),
        false => Ok(paragraphs.join("\n")),
    }
}

fn in_text(text: &str, against: &Against) -> Result<Vec<String>, BadFile> {
    let blocks = pem::blocks(text).map_err(|_| BadFile::Unknown)?;
    if !blocks.is_empty() {
        return in_armour(&blocks, against);
    }
    let statements = statement::statements(text, against);
    if !statements.is_empty() {
        return Ok(statements);
    }
    // DER may happen to be text; what EST sends is base64.
    thing(text.as_bytes(), against).or_else(|_| {
        let der = pem::unbase64(text).map_err(|_| BadFile::Unknown)?;
        thing(&der, against)
    })
}

fn in_armour(blocks: &[pem::Block<'_>], against: &Against) -> Result<Vec<String>, BadFile> {
    let mut things = Vec::new();
    for block in blocks {
        let key = block.label.ends_with("PRIVATE KEY");
        let der = if key { Ok(Vec::new()) } else { block.der() };
        things.push((block.label, key, der.map_err(|_| BadFile::Unknown)?));
    }
    let beside = things
        .iter()
        .filter_map(|(.., der)| Certificate::from_der(der).ok());
    let against = Against {
        beside: beside.collect(),
        ..against.clone()
    };
    let mut paragraphs = Vec::new();
    for (label, key, der) in &things {
        match key {
            true => paragraphs.push(other::private_key(label)),
            false => paragraphs.extend(thing(der, &against)?),
        }
    }
    Ok(paragraphs)
}

fn thing(der: &[u8], against: &Against) -> Result<Vec<String>, BadFile> {
    if let Ok(found) = AnyCertificate::from_der(der) {
        return Ok(vec![certificate::certificate(&found, der, against)]);
    }
    if let Ok(found) = CertReq::from_der(der) {
        return Ok(vec![other::request(&found, der)]);
    }
    if let Ok(found) = crl::parse(der) {
        return Ok(vec![other::list(&found, against)]);
    }
    if let Some(found) = est::certificates_in(der) {
        return bundle(&found, against);
    }
    SubjectPublicKeyInfoOwned::from_der(der)
        .map(|found| vec![other::public_key(&found)])
        .map_err(|_| BadFile::Unknown)
}

/// What EST and PKCS#7 files hold.
fn bundle(certificates: &[Vec<u8>], against: &Against) -> Result<Vec<String>, BadFile> {
    let beside = certificates
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok());
    let against = Against {
        beside: beside.collect(),
        ..against.clone()
    };
    let mut title = page::Page::titled("bundle of certificates (PKCS#7)");
    title.line("holds", &certificates.len().to_string());
    let mut paragraphs = vec![title.text];
    for der in certificates {
        let found = AnyCertificate::from_der(der).map_err(|_| BadFile::Unknown)?;
        paragraphs.push(certificate::certificate(&found, der, &against));
    }
    Ok(paragraphs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{RootKey, SoftwareKey, SpiffeId, TrustDomain, csr};
    use proptest::prelude::*;

    #[test]
    fn a_root_and_a_request_are_told_in_words() {
        let root = RootKey::generate().unwrap().certificate(0).unwrap();
        let text = describe(root.der(), &Against::default()).unwrap();
        assert!(text.contains("kind        root\n"), "{text}");
        assert!(text.contains("to 1989-12-27T00:00:00Z"), "{text}");
        assert!(text.contains(&root.fingerprint().to_string()), "{text}");
        let key = SoftwareKey::generate().unwrap();
        let id = SpiffeId::Operator("first".parse().unwrap());
        let request = csr::new(&key, &id, &TrustDomain::default()).unwrap();
        let both = root.pem() + &csr::to_pem(&request);
        let text = describe(both.as_bytes(), &Against::default()).unwrap();
        assert!(text.starts_with("certificate\n") && text.contains("\n\ncertificate request\n"));
        assert!(
            text.contains("asks for    spiffe://m2key.example/operator/first"),
            "{text}"
        );
        assert!(text.contains("its sender holds the key"), "{text}");
    }

    #[test]
    fn nothing_of_a_private_key_is_shown() {
        let text = pem::armour("PRIVATE KEY", b"secret");
        let said = describe(text.as_bytes(), &Against::default()).unwrap();
        assert_eq!(
            said,
            "private key\n  kind        not encrypted: keep the file to its owner\n"
        );
    }

    #[test]
    fn a_name_cannot_steer_the_screen() {
        let mut page = page::Page::titled("x");
        page.line("name", "\u{1b}[2J\nkind root");
        assert_eq!(page.text.lines().count(), 2);
        assert!(!page.text.contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = describe(&bytes, &Against::default());
        }
    }
}

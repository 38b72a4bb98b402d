//! What is in this file, in words?
//!
//! Unlike the rest of this crate it also reads what M2Key would never issue, because that is what
//! people look at when something does not work. It says nothing of private keys but that they are.

use std::fmt::Write;
use std::path::Path;

use der::{Decode, Encode};
use sha2::{Digest, Sha256};
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::Certificate as AnyCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};
use x509_cert::request::CertReq;

use crate::certificate::{BadCertificate, Certificate, hex, p256_key, serial_hex};
use crate::chain::Fingerprint;
use crate::csr;
use crate::error::PkiError;
use crate::files::{self, BadFile};
use crate::names::TrustDomain;
use crate::pem;
use crate::profiles::{CLIENT_AUTH, SERVER_AUTH};
use crate::verify;

/// Every certificate, request and key in a PEM or DER file, one paragraph each.
pub fn inspect(path: &Path) -> Result<String, PkiError> {
    describe(&files::read_public(path)?).map_err(|problem| problem.at(path))
}

/// The fingerprint of the one certificate in a PEM or DER file.
pub fn fingerprint(path: &Path) -> Result<Fingerprint, PkiError> {
    Ok(Certificate::load(path)?.fingerprint())
}

/// The same for bytes that are in memory.
pub fn describe(bytes: &[u8]) -> Result<String, BadFile> {
    let blocks = match std::str::from_utf8(bytes) {
        Ok(text) => pem::blocks(text).map_err(|_| BadFile::Unknown)?,
        Err(_) => Vec::new(),
    };
    if blocks.is_empty() {
        return thing(bytes);
    }
    let paragraphs: Result<Vec<String>, BadFile> = blocks.iter().map(block).collect();
    Ok(paragraphs?.join("\n"))
}

fn block(block: &pem::Block<'_>) -> Result<String, BadFile> {
    if block.label.ends_with("PRIVATE KEY") {
        return Ok(private_key(block.label));
    }
    thing(&block.der().map_err(|_| BadFile::Unknown)?)
}

fn thing(der: &[u8]) -> Result<String, BadFile> {
    if let Ok(found) = AnyCertificate::from_der(der) {
        return Ok(certificate(&found, der));
    }
    CertReq::from_der(der)
        .map(|found| request(&found, der))
        .map_err(|_| BadFile::Unknown)
}

fn certificate(found: &AnyCertificate, der: &[u8]) -> String {
    let tbs = found.tbs_certificate();
    let validity = tbs.validity();
    let names: Option<SubjectAltName> = tbs.get_extension().ok().flatten().map(|(_, names)| names);
    let mut page = Page::titled("certificate");
    page.line("kind", &kind(found, der, names.as_ref()));
    page.line("subject", &tbs.subject().to_string());
    page.line("issuer", &tbs.issuer().to_string());
    page.line("serial", &serial_hex(found));
    page.line(
        "valid",
        &format!("from {} to {}", validity.not_before, validity.not_after),
    );
    page.key(tbs.subject_public_key_info());
    page.names("name", &names.unwrap_or_default().0);
    page.line("may", &purpose(found));
    page.line("fingerprint", &Fingerprint::of(der).to_string());
    page.text
}

fn request(found: &CertReq, der: &[u8]) -> String {
    let mut page = Page::titled("certificate request");
    page.line("subject", &found.info.subject.to_string());
    page.key(&found.info.public_key);
    let names = csr::names_asked(&found.info.attributes);
    page.names("asks for", &names.unwrap_or_default());
    match csr::check(der) {
        Ok(_) => page.line("check", "its sender holds the key"),
        Err(error) => page.line("check", &format!("refused: {error}")),
    }
    page.text
}

fn private_key(label: &str) -> String {
    let mut page = Page::titled("private key");
    let protection = match label.starts_with("ENCRYPTED") {
        true => "encrypted under a passphrase",
        false => "not encrypted: keep the file to its owner",
    };
    page.line("kind", protection);
    page.text
}

/// Which of M2Key's certificates this is, or why it is none of them.
fn kind(found: &AnyCertificate, der: &[u8], names: Option<&SubjectAltName>) -> String {
    let ours = Certificate::from_der(der);
    let role = match ours {
        Err(error) => Err(error),
        Ok(own) if verify::check_root(&own).is_ok() => Ok("root".into()),
        Ok(_) if is_ca(found) => Ok("issuing CA".into()),
        Ok(own) => end_entity(&own, names),
    };
    role.unwrap_or_else(|error| format!("none that M2Key issues ({error})"))
}

fn end_entity(
    certificate: &Certificate,
    names: Option<&SubjectAltName>,
) -> Result<String, BadCertificate> {
    let uri = names
        .iter()
        .flat_map(|names| &names.0)
        .find_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
            _ => None,
        });
    let domain = uri.and_then(|uri| uri.strip_prefix("spiffe://")?.split('/').next());
    let domain: TrustDomain = domain
        .ok_or(BadCertificate::NotOneName)?
        .parse()
        .map_err(BadCertificate::Name)?;
    let id = verify::peer(certificate, &domain)?.id;
    Ok(format!("{} {} of {domain}", id.role(), id.name()))
}

fn is_ca(found: &AnyCertificate) -> bool {
    constraints(found).is_some_and(|constraints| constraints.ca)
}

fn constraints(found: &AnyCertificate) -> Option<BasicConstraints> {
    let extension = found.tbs_certificate().get_extension();
    extension.ok().flatten().map(|(_, constraints)| constraints)
}

fn purpose(found: &AnyCertificate) -> String {
    if let Some(BasicConstraints {
        ca: true,
        path_len_constraint,
    }) = constraints(found)
    {
        return match path_len_constraint {
            Some(0) => "issue to machines and operators, not to other CAs".into(),
            Some(levels) => format!("issue, with at most {levels} CA below it"),
            None => "issue, with any number of CAs below it".into(),
        };
    }
    let extension = found.tbs_certificate().get_extension::<ExtendedKeyUsage>();
    let purposes = extension
        .ok()
        .flatten()
        .map(|(_, usage)| usage.0)
        .unwrap_or_default();
    let words = purposes.iter().map(|purpose| match *purpose {
        SERVER_AUTH => "be a TLS server".into(),
        CLIENT_AUTH => "be a TLS client".into(),
        other => format!("serve purpose {other}"),
    });
    let words: Vec<String> = words.collect();
    match words.is_empty() {
        true => "nothing in particular".into(),
        false => words.join(", "),
    }
}

struct Page {
    text: String,
}

impl Page {
    fn titled(title: &str) -> Self {
        Self {
            text: format!("{title}\n"),
        }
    }

    fn line(&mut self, what: &str, value: &str) {
        // A certificate is a stranger's text: it must not steer the screen.
        let harmless = value.replace(char::is_control, "\u{fffd}");
        writeln!(self.text, "  {what:<12}{harmless}").expect("a String takes all it is given");
    }

    fn key(&mut self, spki: &SubjectPublicKeyInfoOwned) {
        let kind = match p256_key(spki) {
            Some(_) => "P-256".into(),
            None => format!("algorithm {}", spki.algorithm.oid),
        };
        let hash = spki.to_der().map(|der| hex(&Sha256::digest(der)));
        let hash = hash.unwrap_or_else(|_| "not readable".into());
        self.line("key", &format!("{kind}, SHA-256 {hash}"));
    }

    fn names(&mut self, what: &str, names: &[GeneralName]) {
        for name in names {
            self.line(what, &general_name(name));
        }
    }
}

fn general_name(name: &GeneralName) -> String {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => uri.to_string(),
        GeneralName::DnsName(dns) => format!("host {dns}"),
        GeneralName::IpAddress(octets) => format!("address {}", address(octets.as_bytes())),
        GeneralName::Rfc822Name(mail) => format!("mail {mail}"),
        GeneralName::DirectoryName(name) => format!("directory {name}"),
        _ => "of another kind".into(),
    }
}

fn address(octets: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from);
    v4.or(v6)
        .map_or_else(|_| hex(octets), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{RootKey, SoftwareKey, SpiffeId};
    use proptest::prelude::*;

    #[test]
    fn a_root_and_a_request_are_told_in_words() {
        let root = RootKey::generate().unwrap().certificate(0).unwrap();
        let text = describe(root.der()).unwrap();
        assert!(text.contains("kind        root\n"), "{text}");
        assert!(text.contains("to 1989-12-27T00:00:00Z"), "{text}");
        assert!(text.contains(&root.fingerprint().to_string()), "{text}");
        let key = SoftwareKey::generate().unwrap();
        let id = SpiffeId::Operator("first".parse().unwrap());
        let request = csr::new(&key, &id, &TrustDomain::default()).unwrap();
        let both = root.pem() + &csr::to_pem(&request);
        let text = describe(both.as_bytes()).unwrap();
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
        let said = describe(text.as_bytes()).unwrap();
        assert_eq!(
            said,
            "private key\n  kind        not encrypted: keep the file to its owner\n"
        );
    }

    #[test]
    fn a_name_cannot_steer_the_screen() {
        let mut page = Page::titled("x");
        page.line("name", "\u{1b}[2J\nkind root");
        assert_eq!(page.text.lines().count(), 2);
        assert!(!page.text.contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = describe(&bytes);
        }
    }
}

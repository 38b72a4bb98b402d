//! How is something told so that a stranger's text cannot steer the screen?

use std::fmt::Write;

use der::Encode;
use sha2::{Digest, Sha256};
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::ext::pkix::name::GeneralName;

use crate::certificate::{hex, p256_key};

/// One paragraph: a title, and lines of what and which.
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    pub(super) fn titled(title: &str) -> Self {
        Self {
            text: format!("{title}\n"),
        }
    }

    pub(super) fn line(&mut self, what: &str, value: &str) {
        // A certificate is a stranger's text: it must not steer the screen.
        let harmless = value.replace(char::is_control, "\u{fffd}");
        writeln!(self.text, "  {what:<11} {harmless}").expect("a String takes all it is given");
    }

    pub(super) fn key(&mut self, spki: &SubjectPublicKeyInfoOwned) {
        let kind = match p256_key(spki) {
            Some(_) => "P-256".into(),
            None => format!("algorithm {}", spki.algorithm.oid),
        };
        let hash = spki.to_der().map(|der| hex(&Sha256::digest(der)));
        let hash = hash.unwrap_or_else(|_| "not readable".into());
        self.line("key", &format!("{kind}, SHA-256 {hash}"));
    }

    pub(super) fn names(&mut self, what: &str, names: &[GeneralName]) {
        for name in names {
            self.line(what, &general_name(name));
        }
    }
}

pub(super) fn general_name(name: &GeneralName) -> String {
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

//! What do a request, a key, a revocation list and a bundle of certificates say?

use std::collections::BTreeMap;

use spki::SubjectPublicKeyInfoOwned;
use x509_cert::crl::CertificateList;
use x509_cert::request::CertReq;

use super::Against;
use super::page::Page;
use crate::certificate::Certificate;
use crate::crl::{self, BadList};
use crate::csr;

/// Most entries of a list that are told one by one.
const ENTRIES_TOLD_MAX: usize = 20;

pub(super) fn request(found: &CertReq, der: &[u8]) -> String {
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

pub(super) fn private_key(label: &str) -> String {
    let mut page = Page::titled("private key");
    let protection = match label.starts_with("ENCRYPTED") {
        true => "encrypted under a passphrase",
        false => "not encrypted: keep the file to its owner",
    };
    page.line("kind", protection);
    page.text
}

pub(super) fn public_key(found: &SubjectPublicKeyInfoOwned) -> String {
    let mut page = Page::titled("public key");
    page.key(found);
    page.text
}

pub(super) fn list(found: &CertificateList, against: &Against) -> String {
    let tbs = &found.tbs_cert_list;
    let entries = tbs.revoked_certificates.as_deref().unwrap_or_default();
    let mut page = Page::titled("revocation list");
    page.line("issuer", &tbs.issuer.to_string());
    match crl::number(found) {
        Some(number) => page.line("number", &number.to_string()),
        None => page.line("number", "none, or one that does not fit"),
    }
    page.line("made", &tbs.this_update.to_string());
    match tbs.next_update {
        Some(next) => page.line("next", &format!("{next} at the latest")),
        None => page.line("next", "it does not say"),
    }
    page.line("entries", &entries.len().to_string());
    let entries = || entries.iter().map(crl::entry);
    let mut reasons = BTreeMap::new();
    for entry in entries() {
        *reasons.entry(entry.reason.name()).or_insert(0_usize) += 1;
    }
    for (reason, count) in reasons {
        page.line("  of them", &format!("{count} {reason}"));
    }
    for entry in entries().take(ENTRIES_TOLD_MAX) {
        let at = crate::dates::in_words(entry.at);
        page.line(
            "  serial",
            &format!("{} at {at} ({})", entry.serial, entry.reason),
        );
    }
    page.line("check", &check(found, against));
    page.text
}

fn check(found: &CertificateList, against: &Against) -> String {
    let mut refusal = "signature not checked: give --root, and its issuer in the same file".into();
    for issuer in against.believed() {
        match crl::check_signature(found, issuer) {
            Ok(()) => return format!("signed by {issuer:?}"),
            Err(BadList::ForeignIssuer) => {}
            Err(error) => refusal = format!("refused: {error}"),
        }
    }
    refusal
}

impl Against {
    /// The roots, and the CAs in the same file that lead to them.
    fn believed(&self) -> impl Iterator<Item = &Certificate> {
        let below = self
            .beside
            .iter()
            .filter(|ca| self.leads_to_root(ca).is_ok());
        self.roots.iter().chain(below)
    }
}

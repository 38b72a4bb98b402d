//! What does a linter for certificates say of ours?
//!
//! pkilint knows RFC 5280 and the CA/Browser Forum's rules for the public web. It has nothing to say
//! about RFC 5280; what it says about the public web and does not apply to a private PKI is listed here
//! with the reason, and everything else is red.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{DAY, NOW, OneKeyHsm, domain, issued, label, terminal_id};
use pki::crl::{CrlRequest, Reason, Revoked};
use pki::profiles::CrlBase;
use pki::{Chain, HsmIssuer, IssueTo, Issuer, RootKey, RootSigner, SoftwareKey};

/// What the linter for the public web says of each kind, and why it does not apply.
const NO_PUBLIC_COMPANY: &[(&str, &str)] = &[
    (
        "cabf.serverauth.ca.country_attribute_absent",
        "names a company for the public; here people compare fingerprints",
    ),
    (
        "cabf.serverauth.ca.organization_name_attribute_absent",
        "names a company for the public; here people compare fingerprints",
    ),
    (
        "cabf.ca_certificate_no_digital_signature_bit in keyUsage",
        "a notice for OCSP, which a CA here does not answer",
    ),
];
const ROOT: &[(&str, &str)] = &[(
    "cabf.serverauth.root_basic_constraints_pathlenconstraint_present in basicConstraints",
    "DESIGN 3.8: one level of CAs, said where it cannot be lost",
)];
const ISSUING: &[(&str, &str)] = &[
    (
        "cabf.serverauth.ca.certificate_policies_extension_absent",
        "there is one policy, and the root says it",
    ),
    (
        "cabf.serverauth.ca.extended_key_usage_extension_absent",
        "it issues for three purposes, and each end entity has exactly one",
    ),
    (
        "cabf.serverauth.ca.authority_info_access_extension_absent",
        "whoever gets a certificate gets its chain with it",
    ),
];
/// Of every end entity, also when only RFC 5280 is asked.
const SPIFFE: &[(&str, &str)] = &[(
    "pkix.invalid_uri_syntax in subjectAltName",
    "the linter knows nine URI schemes, and spiffe is none of them",
)];
const SERVER: &[(&str, &str)] = &[
    (
        "cabf.serverauth.prohibited_san_type in subjectAltName",
        "SPIFFE: the URI is the identity of the node, beside its hosts",
    ),
    (
        "cabf.internal_domain_name in subjectAltName",
        "the trust domain in that URI is nobody's host",
    ),
    (
        "cabf.internal_ip_address in subjectAltName",
        "what clients dial in a private network is private",
    ),
    (
        "cabf.serverauth.dv.common_name_attribute_present",
        "the name of the node, for people; nothing here decides by it",
    ),
    (
        "cabf.serverauth.subscriber_common_name_unknown_source",
        "the name of the node, for people; nothing here decides by it",
    ),
    (
        "cabf.serverauth.subscriber.subject_key_identifier_extension_present",
        "RFC 5280 wants it, to tell keys apart after a rotation",
    ),
    (
        "cabf.serverauth.subscriber.certificate_policies_extension_absent",
        "there is one policy, and the root says it",
    ),
    (
        "cabf.serverauth.subscriber.authority_info_access_extension_absent",
        "whoever gets a certificate gets its chain with it",
    ),
];

/// A chain that says where its lists are, in files, and what it issued.
struct Bench {
    dir: tempfile::TempDir,
    issuer: HsmIssuer,
}

impl Bench {
    async fn new() -> Self {
        let base: CrlBase = "http://crl.example.com/crl/".parse().unwrap();
        let root_key = RootKey::generate().unwrap();
        let root = root_key.certificate(NOW).unwrap();
        // The issuing CA's key in software, so that it can make its request.
        let issuing_key = SoftwareKey::generate().unwrap();
        let request = pki::csr::new_unnamed(&issuing_key, &"issuing".parse().unwrap()).unwrap();
        let request = pki::csr::check(&request).unwrap();
        let signer = RootSigner::from(root_key);
        let issuing = signer
            .sign_issuing(&root, &request, Some(&base), NOW)
            .await
            .unwrap();
        let hsm = Arc::new(OneKeyHsm::holding(&issuing_key));
        let chain = Chain::new(issuing, root).unwrap();
        let issuer = HsmIssuer::open(hsm, label(), chain, domain())
            .await
            .unwrap();
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
            issuer: issuer.listed_at(Some(base)),
        };
        bench.keep("root.pem", &bench.issuer.chain().root().pem());
        bench.keep("issuing.pem", &bench.issuer.chain().issuing().pem());
        bench
    }

    fn keep(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    async fn issue(&self, name: &str, to: IssueTo) {
        self.keep(name, &issued(&self.issuer, to, NOW).await.pem);
    }

    /// What a linter finds, without what it merely tells.
    fn lint(&self, linter: &str, arguments: &[&str]) -> BTreeSet<String> {
        let output = Command::new(judges().join(linter))
            .arg("lint")
            .args(["-s", "NOTICE"])
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .unwrap_or_else(|error| panic!("{linter}: {error}; scripts/setup.sh test installs it"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.is_empty(), "{linter} {arguments:?}: {errors}");
        findings(&String::from_utf8(output.stdout).unwrap())
    }

    fn finds(&self, linter: &str, arguments: &[&str], listed: &[&[(&str, &str)]]) {
        let found = self.lint(linter, arguments);
        let listed = listed.concat();
        assert!(listed.iter().all(|(_, reason)| !reason.is_empty()));
        let listed: BTreeSet<String> = listed.iter().map(|(code, _)| (*code).into()).collect();
        assert_eq!(found, listed, "{linter} {arguments:?}");
    }
}

/// A line `SomeValidator @ certificate…extnValue.subjectAltName.0`, and below it, indented, each
/// `some.code (ERROR)`.
fn findings(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut place = String::new();
    for line in text.lines() {
        if let Some((_, path)) = line.split_once(" @ ") {
            let extension = path.split_once("extnValue.");
            let name = extension.and_then(|(_, rest)| rest.split('.').next());
            place = name.map(|name| format!(" in {name}")).unwrap_or_default();
        } else if let Some(code) = line.split_whitespace().next() {
            found.insert(format!("{code}{place}"));
        }
    }
    found
}

/// Beside everything else that is built.
fn judges() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("judges/bin")
}

fn end_entities() -> [(&'static str, IssueTo); 4] {
    let node = || "node-1".parse().unwrap();
    [
        ("terminal.pem", IssueTo::Terminal(terminal_id())),
        ("operator.pem", IssueTo::Operator("first".parse().unwrap())),
        (
            "authority.pem",
            IssueTo::Authority {
                node: node(),
                dns: vec![
                    "pay.example.com".parse().unwrap(),
                    "pay-2.example.com".parse().unwrap(),
                ],
                addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            },
        ),
        ("statement.pem", IssueTo::Statement(node())),
    ]
}

#[tokio::test]
async fn the_linter_finds_nothing_against_rfc_5280_in_any_kind_of_certificate() {
    let bench = Bench::new().await;
    let (one, pair) = ("lint_pkix_cert", "lint_pkix_signer_signee_cert_chain");
    bench.finds(one, &["root.pem"], &[]);
    bench.finds(one, &["issuing.pem"], &[]);
    bench.finds(pair, &["root.pem", "issuing.pem"], &[]);
    for (name, to) in end_entities() {
        bench.issue(name, to).await;
        bench.finds(one, &[name], &[SPIFFE]);
        bench.finds(pair, &["issuing.pem", name], &[]);
    }
}

#[tokio::test]
async fn what_the_rules_of_the_public_web_miss_is_listed_here_with_its_reason() {
    let bench = Bench::new().await;
    let [_, _, (server, to), _] = end_entities();
    bench.issue(server, to).await;
    let judge = "lint_cabf_serverauth_cert";
    bench.finds(
        judge,
        &["-t", "ROOT-CA", "root.pem"],
        &[NO_PUBLIC_COMPANY, ROOT],
    );
    let kind = "INTERNAL-UNCONSTRAINED-TLS-CA";
    bench.finds(
        judge,
        &["-t", kind, "issuing.pem"],
        &[NO_PUBLIC_COMPANY, ISSUING],
    );
    bench.finds(
        judge,
        &["-t", "DV-FINAL-CERTIFICATE", server],
        &[SPIFFE, SERVER],
    );
}

#[tokio::test]
async fn the_linter_finds_nothing_in_a_revocation_list() {
    let bench = Bench::new().await;
    let ca = bench.issuer.chain().issuing().clone();
    // That a CA was compromised is for the list of the root, which lists CAs.
    let for_machines = Reason::ALL
        .into_iter()
        .filter(|reason| *reason != Reason::CaCompromise);
    let empty = Vec::new();
    for (name, kind, reasons) in [
        ("empty.crl", "CRL", empty),
        ("issuing.crl", "CRL", for_machines.collect()),
        (
            "root.crl",
            "ARL",
            vec![Reason::CaCompromise, Reason::Superseded],
        ),
    ] {
        let revoked = reasons.into_iter().zip(1..).map(|(reason, n)| Revoked {
            serial: format!("{n:02x}"),
            at: NOW - 60,
            reason,
        });
        let request = CrlRequest {
            issuer: ca.spki_sha256(),
            number: u64::MAX,
            this_update: NOW,
            next_update: NOW + DAY,
            revoked: revoked.collect(),
        };
        bench.keep(name, &bench.issuer.sign_crl(request).await.unwrap().pem());
        bench.finds("lint_crl", &["-t", kind, "-p", "PKIX", name], &[]);
        bench.finds("lint_crl", &["-t", kind, "-p", "BR", name], &[]);
    }
}

//! Do names, lengths, numbers and dates hold where they end?
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use common::{DAY, NOW, OneKeyHsm, chain_for, issued, issuer_at, label, openssl_ok, terminal_id};
use pki::profiles::{
    BACKDATE_SECONDS, HOSTS_MAX, ROOT_LIFETIME_SECONDS, TERMINAL_LIFETIME_SECONDS,
};
use pki::{
    BadName, Certificate, HsmIssuer, IssueRequest, IssueTo, IssuedCertificate, Issuer, PkiError,
    RootKey, SoftwareKey, csr, identity_of, verify_chain,
};

/// 2050-01-01, 00:00 UTC: the first second that UTCTime cannot say (RFC 5280, 4.1.2.5).
const YEAR_2050: u64 = 2_524_608_000;
/// 9999-12-31, 23:59:59 UTC: the last second that X.509 can say.
const LAST_SECOND: u64 = 253_402_300_799;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The longest of each.
fn longest_host(n: usize) -> String {
    let label = "a".repeat(63);
    format!("{label}.{label}.{label}.{}{n:02}", "b".repeat(59))
}

/// How the end of its validity is written: the tag of the second time in it.
fn end_is_written_as(certificate: &[u8]) -> u8 {
    // SEQUENCE { UTCTime of 13 bytes or GeneralizedTime of 15, the same }
    let times: Vec<(usize, u8)> = certificate
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| matches!(pair, [UTC_TIME, 13] | [GENERALIZED_TIME, 15]))
        .map(|(at, pair)| (at, pair[0]))
        .collect();
    let [(first, tag), (second, end)] = times[..2] else {
        panic!("{times:?}");
    };
    let first_length = if tag == UTC_TIME { 13 } else { 15 };
    assert_eq!(second, first + 2 + first_length);
    end
}

async fn issuer_of(chain_made: u64, domain: &str) -> HsmIssuer {
    let hsm = OneKeyHsm::new(7);
    let chain = chain_for(&hsm, chain_made);
    let domain = domain.parse().unwrap();
    HsmIssuer::open(Arc::new(hsm), label(), chain, domain)
        .await
        .unwrap()
}

async fn unnamed(issuer: &HsmIssuer, to: IssueTo, now: u64) -> Result<IssuedCertificate, PkiError> {
    let key = SoftwareKey::generate().unwrap();
    let request = csr::new_unnamed(&key, &"any".parse().unwrap()).unwrap();
    let csr = csr::check(&request).unwrap();
    issuer.issue(IssueRequest { csr, to, now }).await
}

#[tokio::test]
async fn a_certificate_that_ends_in_2049_says_so_in_utctime_and_a_second_later_in_generalizedtime()
{
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_of(YEAR_2050 - 30 * DAY, "m2key.example").await;
    let chain = issuer.chain();
    fs::write(dir.path().join("ca.pem"), chain.pem()).unwrap();
    for (ends, tag) in [(YEAR_2050 - 1, UTC_TIME), (YEAR_2050, GENERALIZED_TIME)] {
        let now = ends - TERMINAL_LIFETIME_SECONDS;
        let leaf = issued(&issuer, IssueTo::Terminal(terminal_id()), now).await;
        assert_eq!(leaf.not_after, ends);
        assert_eq!(end_is_written_as(&leaf.der), tag);
        fs::write(dir.path().join("leaf.pem"), &leaf.pem).unwrap();
        // For openssl the last second is over already.
        let at = (ends - 1).to_string();
        let arguments = [
            "verify",
            "-x509_strict",
            "-attime",
            &at,
            "-CAfile",
            "ca.pem",
            "leaf.pem",
        ];
        openssl_ok(dir.path(), &arguments);
    }
}

#[test]
fn a_root_reaches_to_the_last_second_of_9999_and_a_clock_beyond_is_not_believed() {
    let key = RootKey::generate().unwrap();
    let last = LAST_SECOND - ROOT_LIFETIME_SECONDS;
    let root = key.certificate(last).unwrap();
    assert_eq!(root.not_after(), LAST_SECOND);
    assert_eq!(Certificate::from_der(root.der()).unwrap(), root);
    for wrong in [last + 1, LAST_SECOND, u64::MAX] {
        assert_eq!(key.certificate(wrong).unwrap_err(), PkiError::ClockWrong);
    }
}

#[test]
fn a_clock_that_stands_at_its_beginning_dates_nothing_before_1970() {
    let root = RootKey::generate().unwrap().certificate(0).unwrap();
    assert_eq!(
        (root.not_before(), root.not_after()),
        (0, ROOT_LIFETIME_SECONDS)
    );
}

#[tokio::test]
async fn nothing_outlives_its_issuer_and_nobody_issues_outside_their_own_dates() {
    let issuer = issuer_at(NOW).await;
    let chain = issuer.chain();
    let (from, until) = (chain.issuing().not_before(), chain.issuing().not_after());
    assert_eq!(from, NOW - BACKDATE_SECONDS);
    let to = IssueTo::Terminal(terminal_id());
    for now in [until - TERMINAL_LIFETIME_SECONDS + 1, until - 1, until] {
        assert_eq!(issued(&issuer, to.clone(), now).await.not_after, until);
    }
    for now in [0, from - 1, until + 1, NOW - 365 * DAY, u64::MAX] {
        let refused = unnamed(&issuer, to.clone(), now).await.unwrap_err();
        assert_eq!(refused, PkiError::IssuerNotValid, "{now}");
    }
}

#[tokio::test]
async fn the_longest_names_and_sixteen_of_the_longest_hosts_are_issued_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let domain = format!("{}.example", "d".repeat(247));
    let issuer = issuer_of(NOW, &domain).await;
    let chain = issuer.chain();
    fs::write(dir.path().join("ca.pem"), chain.pem()).unwrap();
    let longest = || "n".repeat(64).parse().unwrap();
    let dns = (0..HOSTS_MAX)
        .map(|n| longest_host(n).parse().unwrap())
        .collect();
    for to in [
        IssueTo::Operator(longest()),
        IssueTo::Statement(longest()),
        IssueTo::Terminal(terminal_id()),
        IssueTo::Authority {
            node: longest(),
            dns,
            addresses: Vec::new(),
        },
    ] {
        let leaf = unnamed(&issuer, to.clone(), NOW).await.unwrap();
        let certificate = Certificate::from_der(&leaf.der).unwrap();
        let domain = domain.parse().unwrap();
        verify_chain(&certificate, &[chain.issuing().clone()], chain.root(), NOW).unwrap();
        if !matches!(to, IssueTo::Statement(_)) {
            assert_eq!(identity_of(&leaf.der, &domain).unwrap().id, to.spiffe_id());
        }
        fs::write(dir.path().join("leaf.pem"), &leaf.pem).unwrap();
        let at = NOW.to_string();
        let arguments = [
            "verify",
            "-x509_strict",
            "-attime",
            &at,
            "-CAfile",
            "ca.pem",
            "leaf.pem",
        ];
        openssl_ok(dir.path(), &arguments);
    }
}

#[tokio::test]
async fn one_host_more_than_sixteen_is_refused_addresses_counted() {
    let issuer = issuer_at(NOW).await;
    let to = |hosts: usize| IssueTo::Authority {
        node: "node-1".parse().unwrap(),
        dns: (1..hosts)
            .map(|n| longest_host(n).parse().unwrap())
            .collect(),
        addresses: vec!["2001:db8::1".parse().unwrap()],
    };
    assert!(unnamed(&issuer, to(HOSTS_MAX), NOW).await.is_ok());
    let refused = unnamed(&issuer, to(HOSTS_MAX + 1), NOW).await.unwrap_err();
    assert_eq!(refused, BadName::TooManyHosts.into());
}

#[tokio::test]
async fn serial_numbers_are_positive_of_at_most_twenty_bytes_and_never_come_twice() {
    const MANY: usize = 300;
    let issuer = issuer_at(NOW).await;
    let mut seen = HashSet::new();
    let mut long = 0;
    for _ in 0..MANY {
        let serial = issued(&issuer, IssueTo::Terminal(terminal_id()), NOW)
            .await
            .serial;
        assert!(
            !serial.is_empty() && serial.len() <= 32 && !serial.starts_with("00"),
            "{serial}"
        );
        long += usize::from(serial.len() == 32);
        assert!(seen.insert(serial));
    }
    // Of 128 random bits, the first 8 are zero once in 256.
    assert!(long > MANY * 9 / 10, "{long}");
}

#[test]
fn a_place_of_lists_is_plain_http_and_ends_in_a_slash() {
    use pki::profiles::{CRL_BASE_MAX_BYTES, CrlBase};
    let longest = format!(
        "http://crl.example/{}/",
        "a".repeat(CRL_BASE_MAX_BYTES - 20)
    );
    for good in [
        "http://crl.example/",
        "http://[2001:db8::1]:8080/crl/",
        &longest,
    ] {
        assert_eq!(good.parse::<CrlBase>().unwrap().to_string(), good);
    }
    for bad in [
        "https://crl.example/crl/",
        "http://crl.example/crl",
        "http://crl.example",
        "http:///crl/",
        "crl.example/",
        "http://crl.example/a b/",
        "http://crl.example/?x=/",
        "http://me@crl.example/",
        "",
        &longest.replace("aaa", "aaaa"),
    ] {
        assert_eq!(bad.parse::<CrlBase>(), Err(BadName::CrlBase), "{bad}");
    }
}

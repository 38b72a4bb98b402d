//! Does a tool that knows nothing of M2Key accept what is issued here, and is its work accepted here?
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{DAY, NOW, domain, issued, issuer_at, openssl, openssl_ok, terminal_id};
use pki::{IssueRequest, IssueTo, Issuer, Passphrase, RootKey, SoftwareKey, SpiffeId, csr, est};

fn everyone() -> [IssueTo; 3] {
    [
        IssueTo::Terminal(terminal_id()),
        IssueTo::Operator("first".parse().unwrap()),
        IssueTo::Authority {
            node: "node-1".parse().unwrap(),
            dns: vec![
                "localhost".parse().unwrap(),
                "pay.m2key.example".parse().unwrap(),
            ],
            addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        },
    ]
}

#[tokio::test]
async fn openssl_verifies_every_kind_of_certificate_and_its_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    fs::write(dir.path().join("root.pem"), issuer.chain().root().pem()).unwrap();
    fs::write(
        dir.path().join("issuing.pem"),
        issuer.chain().issuing().pem(),
    )
    .unwrap();
    for to in everyone() {
        let server = matches!(to, IssueTo::Authority { .. });
        fs::write(
            dir.path().join("leaf.pem"),
            issued(&issuer, to, NOW).await.pem,
        )
        .unwrap();
        let verify = |purpose: &str, at: u64| {
            let at = at.to_string();
            let arguments = [
                "verify",
                "-x509_strict",
                "-attime",
                &at,
                "-purpose",
                purpose,
                "-CAfile",
                "root.pem",
                "-untrusted",
                "issuing.pem",
                "leaf.pem",
            ];
            openssl(dir.path(), &arguments).status.success()
        };
        assert_eq!(verify("sslserver", NOW), server);
        assert_eq!(verify("sslclient", NOW), !server);
        assert!(!verify("any", NOW - DAY));
        assert!(!verify("any", NOW + 91 * DAY));
    }
}

#[tokio::test]
async fn openssl_reads_the_extensions_that_the_profiles_promise() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    let show = |pem: &str| {
        fs::write(dir.path().join("x.pem"), pem).unwrap();
        openssl_ok(dir.path(), &["x509", "-in", "x.pem", "-noout", "-text"])
    };
    let root = show(&issuer.chain().root().pem());
    assert!(root.contains("CA:TRUE, pathlen:1"), "{root}");
    let issuing = show(&issuer.chain().issuing().pem());
    assert!(issuing.contains("CA:TRUE, pathlen:0"), "{issuing}");
    assert!(
        issuing.contains("Key Usage: critical\n                Certificate Sign, CRL Sign"),
        "{issuing}"
    );
    let authority = show(&issued(&issuer, everyone()[2].clone(), NOW).await.pem);
    let names = "URI:spiffe://m2key.example/authority/node-1, DNS:localhost, DNS:pay.m2key.example, \
                 IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1";
    assert!(authority.contains(names), "{authority}");
}

#[tokio::test]
async fn a_request_made_by_openssl_is_issued() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    openssl_ok(
        dir.path(),
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "k.pem",
        ],
    );
    let uri = SpiffeId::Terminal(terminal_id()).uri(&domain());
    let name = format!("subjectAltName=URI:{uri}");
    for extra in [&[][..], &["-addext", name.as_str()][..]] {
        let mut arguments = vec![
            "req",
            "-new",
            "-key",
            "k.pem",
            "-subj",
            "/CN=anything",
            "-out",
            "r.pem",
        ];
        arguments.extend(extra);
        openssl_ok(dir.path(), &arguments);
        openssl_ok(
            dir.path(),
            &["req", "-in", "r.pem", "-outform", "DER", "-out", "r.der"],
        );
        openssl_ok(dir.path(), &["base64", "-in", "r.der", "-out", "r.b64"]);
        for form in ["r.pem", "r.der", "r.b64"] {
            let csr = csr::check(&fs::read(dir.path().join(form)).unwrap()).unwrap();
            let to = IssueTo::Terminal(terminal_id());
            issuer
                .issue(IssueRequest { csr, to, now: NOW })
                .await
                .unwrap();
        }
    }
}

#[test]
fn openssl_verifies_our_requests() {
    let dir = tempfile::tempdir().unwrap();
    let key = SoftwareKey::generate().unwrap();
    let named = csr::new(&key, &SpiffeId::Terminal(terminal_id()), &domain()).unwrap();
    let unnamed = csr::new_unnamed(&key, &"new-terminal".parse().unwrap()).unwrap();
    for request in [named, unnamed] {
        fs::write(dir.path().join("r.pem"), csr::to_pem(&request)).unwrap();
        let said = openssl_ok(
            dir.path(),
            &["req", "-in", "r.pem", "-verify", "-noout", "-text"],
        );
        assert!(said.contains("verify OK"), "{said}");
    }
}

#[tokio::test]
async fn openssl_reads_our_est_body_and_we_read_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    let body = est::encode(&issuer.chain().certificates()).unwrap();
    fs::write(dir.path().join("body"), &body).unwrap();
    openssl_ok(
        dir.path(),
        &["base64", "-d", "-in", "body", "-out", "p7.der"],
    );
    let arguments = [
        "pkcs7",
        "-inform",
        "DER",
        "-in",
        "p7.der",
        "-print_certs",
        "-out",
        "all.pem",
    ];
    openssl_ok(dir.path(), &arguments);
    let pem = fs::read_to_string(dir.path().join("all.pem")).unwrap();
    let theirs = pki::chain::certificates_from_pem(&pem).unwrap();
    let ours = est::decode(body.as_bytes()).unwrap();
    assert_eq!(theirs, ours);
    for certificate in issuer.chain().certificates() {
        assert!(ours.contains(certificate));
    }
}

#[tokio::test]
async fn an_est_body_made_by_openssl_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    fs::write(dir.path().join("all.pem"), issuer.chain().pem()).unwrap();
    let arguments = [
        "crl2pkcs7",
        "-nocrl",
        "-certfile",
        "all.pem",
        "-outform",
        "DER",
        "-out",
        "p7",
    ];
    openssl_ok(dir.path(), &arguments);
    openssl_ok(dir.path(), &["base64", "-in", "p7", "-out", "body"]);
    let found = est::decode(&fs::read(dir.path().join("body")).unwrap()).unwrap();
    assert_eq!(found.len(), 2);
}

#[test]
fn openssl_opens_the_root_key_with_its_passphrase_alone() {
    let dir = tempfile::tempdir().unwrap();
    let pass = dir.path().join("pass");
    write_private(&pass, "correct horse battery\n");
    let passphrase = Passphrase::from_file(&pass).unwrap();
    let key = RootKey::generate().unwrap();
    key.save(&dir.path().join("root.key"), &passphrase).unwrap();
    let arguments = [
        "pkey",
        "-in",
        "root.key",
        "-passin",
        "file:pass",
        "-pubout",
        "-outform",
        "DER",
    ];
    let output = openssl(dir.path(), &arguments);
    assert!(output.status.success());
    let root = key.certificate(NOW).unwrap();
    assert!(output.stdout.ends_with(&root.public_point()));
}

#[test]
fn openssl_reads_dates_on_both_sides_of_2050() {
    let dir = tempfile::tempdir().unwrap();
    const YEAR_2040: u64 = 2_208_988_800;
    let root = RootKey::generate().unwrap().certificate(YEAR_2040).unwrap();
    fs::write(dir.path().join("root.pem"), root.pem()).unwrap();
    let said = openssl_ok(dir.path(), &["x509", "-in", "root.pem", "-noout", "-dates"]);
    assert!(
        said.contains("notBefore=Dec 31 23:55:00 2039 GMT"),
        "{said}"
    );
    assert!(said.contains("notAfter=Dec 27 00:00:00 2059 GMT"), "{said}");
}

fn write_private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

//! What does the command say, and how does it exit?
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64ct::Encoding;
use common::{NOW, OneKeyHsm, issued, issuer_at, openssl_ok, terminal_id};
use pki::crl::{CrlRequest, Reason, Revoked};
use pki::{IssueTo, Issuer};

fn m2key_pki(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_m2key-pki");
    Command::new(program).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn inspect_tells_a_chain_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    let leaf = issued(&issuer, IssueTo::Terminal(terminal_id()), NOW).await;
    let path = dir.path().join("chain.pem");
    fs::write(&path, leaf.pem + &issuer.chain().pem()).unwrap();
    let output = m2key_pki(&["inspect", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let text = said(&output);
    let kinds: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("  kind "))
        .collect();
    let own = format!("  kind        terminal {} of m2key.example", terminal_id());
    assert_eq!(
        kinds,
        [
            own.as_str(),
            "  kind        issuing CA",
            "  kind        root"
        ]
    );
    assert!(text.contains("  may         be a TLS client\n"), "{text}");
    assert!(
        text.contains("  valid       from 2026-11-23T11:55:00Z to 2026-11-30T12:00:00Z\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_fingerprint_is_the_one_that_openssl_prints() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    fs::write(dir.path().join("root.pem"), issuer.chain().root().pem()).unwrap();
    fs::write(dir.path().join("root.der"), issuer.chain().root().der()).unwrap();
    let arguments = [
        "x509",
        "-in",
        "root.pem",
        "-noout",
        "-fingerprint",
        "-sha256",
    ];
    let theirs = openssl_ok(dir.path(), &arguments);
    let theirs: pki::Fingerprint = theirs.split_once('=').unwrap().1.parse().unwrap();
    for name in ["root.pem", "root.der"] {
        let path = dir.path().join(name);
        let ours = said(&m2key_pki(&["fingerprint", path.to_str().unwrap()]));
        assert_eq!(ours, format!("{theirs}\n"));
    }
}

#[test]
fn inspect_also_reads_what_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=foreign",
        "-keyout",
        "k.pem",
        "-out",
        "c.pem",
    ];
    openssl_ok(dir.path(), &arguments);
    let text = said(&m2key_pki(&[
        "inspect",
        dir.path().join("c.pem").to_str().unwrap(),
    ]));
    assert!(
        text.contains("kind        none that M2Key issues"),
        "{text}"
    );
    assert!(text.contains("subject     CN=foreign"), "{text}");
    let text = said(&m2key_pki(&[
        "inspect",
        dir.path().join("k.pem").to_str().unwrap(),
    ]));
    assert_eq!(
        text,
        "private key\n  kind        not encrypted: keep the file to its owner\n"
    );
}

/// A file in a directory, and what inspect says of it with these options.
fn inspected(dir: &Path, name: &str, options: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_m2key-pki"))
        .args(["inspect", name])
        .args(options)
        .current_dir(dir)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {errors}");
    said(&output)
}

fn checks(text: &str) -> Vec<&str> {
    let check = |line: &'_ str| line.starts_with("  check ") || line.starts_with("  signature ");
    let told = text.lines().filter(|line| check(line));
    told.map(|line| line[14..].trim_start()).collect()
}

#[tokio::test]
async fn inspect_says_of_every_signature_whether_it_was_checked_and_against_what() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // The command asks the clock of this machine.
    let now = common::today(dir);
    let issuer = issuer_at(now).await;
    let leaf = issued(&issuer, IssueTo::Statement("node-1".parse().unwrap()), now).await;
    let chain = issuer.chain();
    let foreign = issuer_at(now).await.chain();
    fs::write(dir.join("root.pem"), chain.root().pem()).unwrap();
    fs::write(dir.join("foreign.pem"), foreign.root().pem()).unwrap();
    fs::write(dir.join("chain.pem"), leaf.pem.clone() + &chain.pem()).unwrap();
    let text = inspected(dir, "chain.pem", &[]);
    let unchecked = "signature not checked: give --root";
    assert_eq!(checks(&text), [unchecked; 3], "{text}");
    assert!(
        text.contains("statements of authority node-1 of m2key.example"),
        "{text}"
    );
    assert!(text.contains("may         sign statements"), "{text}");
    let text = inspected(dir, "chain.pem", &["--root", "root.pem"]);
    let leads = "leads to a root that you gave";
    assert_eq!(
        checks(&text),
        [leads, leads, "it is a root that you gave"],
        "{text}"
    );
    let text = inspected(dir, "chain.pem", &["--root", "foreign.pem"]);
    let refused = "refused: it does not lead to the root that is trusted here";
    assert_eq!(checks(&text), [refused; 3], "{text}");

    let own: Vec<_> = chain.certificates().into();
    fs::write(dir.join("cacerts"), pki::est::encode(&own).unwrap()).unwrap();
    let text = inspected(dir, "cacerts", &["--root", "root.pem"]);
    assert!(
        text.starts_with("bundle of certificates (PKCS#7)\n  holds       2\n"),
        "{text}"
    );
    assert_eq!(checks(&text).len(), 2, "{text}");
}

#[tokio::test]
async fn inspect_tells_a_revocation_list_and_believes_it_only_from_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let now = common::today(dir);
    let issuer = issuer_at(now).await;
    let chain = issuer.chain();
    let entry = |n: u32| Revoked {
        serial: format!("{n:04x}"),
        at: now,
        reason: if n == 256 {
            Reason::KeyCompromise
        } else {
            Reason::Superseded
        },
    };
    let request = CrlRequest {
        issuer: chain.issuing().spki_sha256(),
        number: 41,
        this_update: now,
        next_update: now + 3600,
        revoked: (256..1256).map(entry).collect(),
    };
    let list = issuer.sign_crl(request).await.unwrap();
    fs::write(dir.join("list.der"), &list.der).unwrap();
    fs::write(dir.join("list.pem"), list.pem() + &chain.issuing().pem()).unwrap();
    fs::write(dir.join("root.pem"), chain.root().pem()).unwrap();
    let text = inspected(dir, "list.der", &[]);
    for told in [
        "number      41",
        "entries     1000",
        "999 superseded",
        "1 key-compromise",
        "0100 at ",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(
        text.lines().count() < 40,
        "a long list is not told one by one: {text}"
    );
    assert!(
        checks(&text)[0].starts_with("signature not checked"),
        "{text}"
    );
    let text = inspected(dir, "list.pem", &["--root", "root.pem"]);
    assert!(
        checks(&text)[0].starts_with("signed by Certificate(CN=M2Key issuing CA"),
        "{text}"
    );
    let text = inspected(dir, "list.pem", &[]);
    assert!(
        checks(&text)[0].starts_with("signature not checked"),
        "{text}"
    );
}

#[tokio::test]
async fn inspect_tells_statements_and_who_signed_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let now = common::today(dir);
    let hsm = std::sync::Arc::new(OneKeyHsm::new(7));
    let chain = common::chain_for(&hsm, now);
    let issuer = pki::HsmIssuer::open(hsm, common::label(), chain.clone(), common::domain());
    let issuer = issuer.await.unwrap();
    let key = pki::SoftwareKey::generate().unwrap();
    let request = pki::csr::new_unnamed(&key, &"any".parse().unwrap()).unwrap();
    let request = pki::IssueRequest {
        csr: pki::csr::check(&request).unwrap(),
        to: IssueTo::Statement("node-1".parse().unwrap()),
        now,
    };
    let leaf = issuer.issue(request).await.unwrap();
    let jwk = protocol::jwk::Jwk::from_point(&key.public_point()).unwrap();
    let kid = jwk.kid.clone().unwrap();
    let x5c = [leaf.der.as_slice(), chain.issuing().der()]
        .map(<base64ct::Base64 as Encoding>::encode_string);
    let url =
        |text: &str| <base64ct::Base64UrlUnpadded as Encoding>::encode_string(text.as_bytes());
    let header = format!(
        r#"{{"alg":"ES256","typ":"m2key-receipt+jwt","kid":"{kid}","x5c":["{}","{}"]}}"#,
        x5c[0], x5c[1]
    );
    let claims = format!(r#"{{"iat":{now},"amount":{{"amount_minor":420}},"evil":"\u001b[2J"}}"#);
    let input = format!("{}.{}", url(&header), url(&claims));
    let signature =
        <base64ct::Base64UrlUnpadded as Encoding>::encode_string(&key.sign(input.as_bytes()));
    fs::write(dir.join("one.jws"), format!("{input}.{signature}\n")).unwrap();
    let (protected, payload) = input.split_once('.').unwrap();
    let general = format!(
        r#"{{"lists":[{{"payload":"{payload}","signatures":[{{"protected":"{protected}","signature":"{signature}"}}]}}]}}"#
    );
    fs::write(dir.join("general.json"), general).unwrap();
    let set = serde_json::to_string(&protocol::jwk::JwkSet { keys: vec![jwk] }).unwrap();
    fs::write(dir.join("jwks.json"), &set).unwrap();
    fs::write(dir.join("empty.json"), r#"{"keys":[]}"#).unwrap();
    fs::write(dir.join("root.pem"), chain.root().pem()).unwrap();
    fs::write(
        dir.join("forged.jws"),
        format!("{}.{}.{signature}", url(&header), url("{}")),
    )
    .unwrap();
    for name in ["one.jws", "general.json"] {
        let text = inspected(dir, name, &[]);
        assert_eq!(
            checks(&text),
            ["not checked: it names a certificate; give --root"],
            "{text}"
        );
        assert!(text.contains("type        m2key-receipt+jwt"), "{text}");
        assert!(text.contains("amount.amount_minor 420"), "{text}");
        assert!(text.contains(&format!("{now} (20")), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let text = inspected(dir, name, &["--jwks", "jwks.json"]);
        assert_eq!(
            checks(&text),
            ["verified, by a key of the key set"],
            "{text}"
        );
        let text = inspected(dir, name, &["--root", "root.pem"]);
        assert!(
            checks(&text)[0].starts_with("verified, by Certificate(CN=node-1"),
            "{text}"
        );
        let text = inspected(dir, name, &["--jwks", "empty.json"]);
        assert!(checks(&text)[0].starts_with("not checked"), "{text}");
    }
    for options in [["--jwks", "jwks.json"], ["--root", "root.pem"]] {
        let text = inspected(dir, "forged.jws", &options);
        assert_eq!(checks(&text), ["refused: it does not fit"], "{text}");
    }
    let text = inspected(dir, "jwks.json", &[]);
    assert!(
        text.starts_with("public key of a key set\n") && text.contains(&kid),
        "{text}"
    );
}

#[test]
fn every_failure_has_its_exit_code_an_error_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pem");
    fs::write(&path, "hello").unwrap();
    let file = path.to_str().unwrap();
    let cases: [(&[&str], i32); 5] = [
        (&["fingerprint", file], 1),
        (&["inspect", file], 4),
        (&["inspect", "/no/such/file"], 4),
        (&["inspect"], 2),
        (&["dance"], 2),
    ];
    for (arguments, code) in cases {
        let output = m2key_pki(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.starts_with("error: "), "{text}");
        assert!(code == 2 || text.contains("\nhint: "), "{text}");
    }
}

#[test]
fn the_help_of_every_verb_is_the_one_in_help_txt() {
    let mut all = String::new();
    collect_help(&[], &mut all);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
    if std::env::var_os("M2KEY_UPDATE").is_some() {
        fs::write(path, &all).unwrap();
    }
    let reviewed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        all == reviewed,
        "changed; look at it, then: M2KEY_UPDATE=1 cargo test -p pki --test cli help"
    );
}

/// The help of a verb, and of every verb that it names: none can be forgotten.
fn collect_help(parents: &[&str], all: &mut String) {
    let arguments = [parents, &["--help"]].concat();
    let help = said(&m2key_pki(&arguments));
    *all += &format!("$ m2key-pki {}\n{help}\n", arguments.join(" "));
    let listed = help
        .split_once("\nCommands:\n")
        .map_or("", |(_, rest)| rest);
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let verbs = lines.filter_map(|line| line.split_whitespace().next());
    for verb in verbs.filter(|verb| *verb != "help") {
        collect_help(&[parents, &[verb]].concat(), all);
    }
}

//! What does the command say, and how does it exit?
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Command, Output};

use common::{NOW, issued, issuer_at, openssl_ok, terminal_id};
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
fn the_help_is_as_documented() {
    assert_eq!(said(&m2key_pki(&["--help"])), include_str!("help.txt"));
}

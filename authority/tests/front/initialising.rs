//! What does `init` make, and what does it refuse?

use std::os::unix::fs::PermissionsExt;

use authority::clock::{Clock, SystemClock};
use pki::root::Ceremony;
use pki::{BadCeremony, PkiError};

use crate::house::{House, openssl, text};

#[test]
fn init_makes_a_chain_that_openssl_accepts() {
    let house = House::without_signer();
    let (root, issuing) = (
        house.dir().join("root.pem"),
        house.dir().join("issuing.pem"),
    );
    for name in ["agents.pem", "operator.pem", "public.pem"] {
        let leaf = house.dir().join(name);
        let chain = [
            "-CAfile",
            text(&root),
            "-untrusted",
            text(&issuing),
            text(&leaf),
        ];
        openssl(&[&["verify", "-x509_strict"], &chain[..]].concat());
    }
}

#[test]
fn init_prints_the_fingerprint_of_the_root() {
    let house = House::empty();
    let said = house.init(&["--json"]);
    let root = house.dir().join("root.pem");
    let shown = openssl(&[
        "x509",
        "-in",
        text(&root),
        "-noout",
        "-fingerprint",
        "-sha256",
    ]);
    let expected = shown
        .trim()
        .rsplit('=')
        .next()
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    let told = said.json()["root_fingerprint"]
        .as_str()
        .unwrap()
        .replace(' ', "");
    assert_eq!(told, expected);
}

#[test]
fn no_secret_of_init_is_readable_by_others() {
    let house = House::without_signer();
    let secrets = [
        "hsm/authority.pin",
        "signer/pin",
        "root/root.key",
        "root/passphrase",
        "root/authority.so-pin",
        "agents.key",
        "operator.key",
        "public.key",
    ];
    for secret in secrets {
        let mode = std::fs::metadata(house.dir().join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

#[test]
fn the_two_hsm_tokens_have_different_pins() {
    let house = House::without_signer();
    let read = |name: &str| std::fs::read_to_string(house.dir().join(name)).unwrap();
    assert_ne!(read("hsm/authority.pin"), read("signer/pin"));
}

#[test]
fn neither_hsm_token_is_seen_with_the_softhsm_configuration_of_the_other() {
    let house = House::without_signer();
    for (conf, own, other) in [
        ("softhsm2.conf", "m2key-authority", "m2key-issuing"),
        ("signer/softhsm2.conf", "m2key-issuing", "m2key-authority"),
    ] {
        let slots = std::process::Command::new("softhsm2-util")
            .arg("--show-slots")
            .env("SOFTHSM2_CONF", house.dir().join(conf))
            .output()
            .unwrap();
        let slots = String::from_utf8_lossy(&slots.stdout).into_owned();
        assert!(slots.contains(own) && !slots.contains(other), "{slots}");
    }
}

#[test]
fn what_init_issues_stands_in_the_log_of_the_signer() {
    let house = House::without_signer();
    let said = house.pki(&["signer", "check"]);
    assert_eq!(said.code, 0, "{said:?}");
    // prepare, install, activate; then agents, operator, public.
    assert!(said.out.contains("the log is whole: 6 lines"), "{said:?}");
}

#[test]
fn the_root_of_init_remembers_what_it_signed() {
    let house = House::new();
    let said = house.pki(&["issuing", "request", "m2key-issuing-1"]);
    assert_eq!(said.code, 0, "{said:?}");
    let now = authority::clock::unix_seconds(SystemClock.now());
    let ceremony = Ceremony::open(&house.dir().join("root"), now).unwrap();
    let steps = ceremony.steps();
    assert!(
        steps.contains("root-made") && steps.contains("issuing-signed"),
        "{steps}"
    );
    let again = ceremony.plan_issuing(said.out.as_bytes(), false).map(drop);
    assert!(
        matches!(
            &again,
            Err(PkiError::Ceremony(BadCeremony::AlreadySigned { .. }))
        ),
        "{again:?}"
    );
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() {
    let house = House::without_signer();
    let before = std::fs::read(house.dir().join("root.pem")).unwrap();
    house
        .init(&[])
        .refused(1, "is initialised already", "serve --config");
    assert_eq!(std::fs::read(house.dir().join("root.pem")).unwrap(), before);
}

#[test]
fn a_folder_with_other_things_in_it_is_left_alone() {
    let house = House::empty();
    std::fs::create_dir(house.dir()).unwrap();
    std::fs::write(house.dir().join("letter"), "dear").unwrap();
    house
        .init(&[])
        .refused(1, "is not empty", "choose a --dir that is empty");
    assert_eq!(std::fs::read_dir(house.dir()).unwrap().count(), 1);
}

#[test]
fn what_an_interrupted_init_left_is_in_nobodys_way() {
    let house = House::empty();
    let partial = house.scratch("authority.partial");
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join(".init-in-progress"), "").unwrap();
    std::fs::write(partial.join("root.pem"), "half").unwrap();
    assert_eq!(house.init(&[]).code, 0);
    assert!(!partial.exists());
}

#[test]
fn init_says_which_module_is_absent_and_how_to_get_one() {
    let house = House::empty();
    let said = house.init(&["--module", "/nowhere/libhsm.so"]);
    said.refused(4, "/nowhere/libhsm.so", "apt-get install -y softhsm2");
    for left in ["authority", "authority.partial"] {
        assert!(
            !house.scratch(left).exists(),
            "nothing half-made is left: {left}"
        );
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let house = House::empty();
    let said = house.command(&["init", "--dir", "/proc/m2key", "--non-interactive"]);
    said.refused(
        4,
        "cannot write /proc/m2key.partial",
        "choose a --dir that this account can write to",
    );
}

#[test]
fn a_link_host_that_does_not_fit_a_tag_is_a_usage_error() {
    let house = House::empty();
    let said = house.init(&["--link-host", "a-host-name-that-is-much-too-long.example"]);
    said.refused(2, "at most 24 characters", "--help");
}

#[test]
fn a_public_certificate_that_is_not_one_is_told_before_anything_is_made() {
    let house = House::empty();
    let file = house.scratch("not.pem");
    std::fs::write(&file, "not a certificate").unwrap();
    let said = house.init(&["--public-cert", text(&file), "--public-key", text(&file)]);
    said.refused(4, "public certificate cannot be used", "PEM");
    assert!(!house.dir().exists());
}

/// SoftHSM with tokens of somebody else's making.
fn softhsm(house: &House) -> std::path::PathBuf {
    let (conf, tokens) = (house.scratch("own.conf"), house.scratch("tokens"));
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(&conf, format!("directories.tokendir = {}\n", text(&tokens))).unwrap();
    conf
}

fn init_token(conf: &std::path::Path, label: &str, pin: &str) {
    let made = std::process::Command::new("softhsm2-util")
        .args([
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            "12345678",
            "--pin",
            pin,
        ])
        .env("SOFTHSM2_CONF", conf)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn hsm_tokens_that_exist_are_used_with_their_pins() {
    let house = House::empty();
    let conf = softhsm(&house);
    let mut pins = Vec::new();
    for (label, pin) in [("m2key-authority", "271828"), ("m2key-issuing", "314159")] {
        init_token(&conf, label, pin);
        let file = house.scratch(label);
        std::fs::write(&file, pin).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        pins.push(file);
    }
    let more = [
        "--pin-file",
        text(&pins[0]),
        "--issuing-pin-file",
        text(&pins[1]),
    ];
    let said = house.init_with(Some(&conf), &more);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(house.verb(&["check-hsm"]).code, 0);
    assert_eq!(house.pki(&["signer", "check"]).code, 0);
}

#[test]
fn an_hsm_token_of_another_authority_is_not_touched() {
    let house = House::empty();
    let conf = softhsm(&house);
    init_token(&conf, "m2key-authority", "271828");
    let said = house.init_with(Some(&conf), &[]);
    said.refused(
        4,
        "labelled \"m2key-authority\" already",
        "unset SOFTHSM2_CONF",
    );
}

#[test]
fn the_folder_of_the_root_serves_a_ceremony_as_init_left_it() {
    let house = House::without_signer();
    let list = house.scratch("root.crl");
    let said = house.root(&["crl", "--yes", "--out", text(&list)]);
    assert_eq!(said.code, 0, "{said:?}");
    let root = house.dir().join("root.pem");
    openssl(&["crl", "-in", text(&list), "-CAfile", text(&root), "-noout"]);
    let dir = house.dir().join("root");
    let shown = house.pki_alone(&["root", "show", "--dir", text(&dir)]);
    assert!(shown.out.contains("crl-signed number 1"), "{shown:?}");
}

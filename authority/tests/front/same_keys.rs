//! Does a lone node start on an HSM token that is not the one of its database?

use std::path::{Path, PathBuf};
use std::process::Command;

use authority::init::TOKEN_LABEL;
use hsm::{Hsm, KeyKind, KeyLabel, Module, OpenOptions, Pin, Pkcs11Hsm};

use crate::house::{House, MODULE};

/// Tells a process of these tests which key to replace.
const REPLACED: &str = "M2KEY_TEST_REPLACED";
/// The test that does so then, and nothing else.
const REPLACES: &str = "same_keys::a_lone_node_does_not_start_on_another_sealing_or_binding_key_than_its_seeds_are_under";
const SEALING: &str = "m2key-sealing-1";
const BINDING: &str = "m2key-binding-1";
const PIN: &str = "authority.pin";
const NEXT: &str = "put the HSM token of this database back";

#[test]
fn a_lone_node_does_not_start_on_an_hsm_token_with_other_keys_under_the_same_labels() {
    let house = House::new();
    let stranger = House::of_its_own();
    assert_eq!(house.serve().stop(), 0);

    let own = house.scratch("own");
    std::fs::rename(hsm(&house), &own).unwrap();
    std::fs::rename(hsm(&stranger), hsm(&house)).unwrap();
    // It has every key that it should have.
    assert_eq!(house.verb(&["check-hsm"]).code, 0);
    let swapped = house.serve_in_vain();
    swapped.refused(4, "the HSM token holds another key \"m2key-", NEXT);
    assert!(
        swapped.err.contains("swapped or initialised anew"),
        "{swapped:?}"
    );

    std::fs::rename(hsm(&house), hsm(&stranger)).unwrap();
    std::fs::rename(&own, hsm(&house)).unwrap();
    assert_eq!(house.serve().stop(), 0);
}

#[test]
fn a_lone_node_does_not_start_on_another_sealing_or_binding_key_than_its_seeds_are_under() {
    if let Some(label) = std::env::var_os(REPLACED) {
        return replace(label.to_str().unwrap());
    }
    let house = House::new();
    let daemon = house.serve();
    house.terminal();
    house.terminal();
    assert_eq!(daemon.stop(), 0);

    let own = house.scratch("own");
    for label in [SEALING, BINDING] {
        copy(&hsm(&house), &own);
        replace_in(&house, label);
        assert_eq!(house.verb(&["check-hsm"]).code, 0);
        let error = format!("the HSM token holds another key \"{SEALING} or {BINDING}\"");
        house.serve_in_vain().refused(4, &error, NEXT);

        std::fs::remove_dir_all(hsm(&house)).unwrap();
        std::fs::rename(&own, hsm(&house)).unwrap();
        assert_eq!(house.serve().stop(), 0, "the right one is back");
    }
}

/// Another key under this label; SoftHSM reads where its HSM tokens lie once for each process.
fn replace_in(house: &House, label: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", REPLACES])
        .env(REPLACED, label)
        .env("SOFTHSM2_CONF", house.dir().join("softhsm2.conf"))
        .status();
    assert!(status.unwrap().success());
}

fn replace(label: &str) {
    let conf = PathBuf::from(std::env::var_os("SOFTHSM2_CONF").unwrap());
    let pin = Pin::from_file(&conf.with_file_name("hsm").join(PIN)).unwrap();
    let module = Module::load(Path::new(MODULE)).unwrap();
    let token = Pkcs11Hsm::open(&module, OpenOptions::new(TOKEN_LABEL, pin)).unwrap();
    let kind = match label {
        SEALING => KeyKind::Sealing,
        _ => KeyKind::Binding,
    };
    let label = KeyLabel(label.into());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(token.destroy_key(&label)).unwrap();
    runtime.block_on(token.generate_key(kind, &label)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// What the HSM token lies in, with its PIN.
fn hsm(house: &House) -> PathBuf {
    house.dir().join("hsm")
}

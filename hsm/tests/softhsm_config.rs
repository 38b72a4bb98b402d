//! Does what the initialiser prepares open?
#![allow(clippy::unwrap_used)]

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use hsm::{Hsm, Module, OpenOptions, Pin, Pkcs11Hsm};

/// A directory with a blank and signs that sed would take for its own.
const ODD_NAME: &str = "a b&c|d";

#[tokio::test]
async fn what_the_initialiser_prepares_opens_with_its_pin_files() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join(ODD_NAME);
    let output = initialise(&place, &[]);
    assert!(output.status.success(), "{output:?}");
    let conf = place.join("softhsm2.conf");
    // SAFETY: this binary's only test that loads the library, which has not been loaded yet.
    #[expect(clippy::disallowed_methods, reason = "SoftHSM reads nothing else")]
    unsafe {
        std::env::set_var("SOFTHSM2_CONF", &conf);
    }

    let module = Module::load(Path::new("/usr/lib/softhsm/libsofthsm2.so"))
        .expect("apt-get install -y softhsm2");
    let pin = Pin::from_file(&place.join("pin")).unwrap();
    let so_pin = Pin::from_file(&place.join("so-pin")).unwrap();
    module.init_token("demo", &so_pin, &pin).unwrap();
    assert_eq!(module.token_labels().unwrap(), ["demo"]);
    let hsm = Pkcs11Hsm::open(&module, OpenOptions::new("demo", pin)).unwrap();
    assert_eq!(hsm.random(8).await.unwrap().len(), 8);
    let made = std::fs::read_dir(place.join("tokens")).unwrap().count();
    assert_eq!(made, 1, "the HSM token lies in its own directory");
}

#[test]
fn a_second_run_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    initialise(directory.path(), &[]);
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let before = [read("pin"), read("so-pin"), read("softhsm2.conf")];
    assert!(initialise(directory.path(), &[]).status.success());
    assert_eq!(before, [read("pin"), read("so-pin"), read("softhsm2.conf")]);
    assert_ne!(before[0], before[1]);
    assert_eq!(before[0].trim_end().len(), 16);
}

#[test]
fn a_pin_is_never_printed_and_its_file_is_the_owners() {
    let directory = tempfile::tempdir().unwrap();
    let output = initialise(directory.path(), &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    for name in ["pin", "so-pin"] {
        let path = directory.path().join(name);
        let pin = std::fs::read_to_string(&path).unwrap();
        assert!(!printed.contains(pin.trim_end()));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_pin_file_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pin = directory.path().join("given");
    std::fs::write(&pin, "123456\n").unwrap();
    std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o640)).unwrap();
    let output = initialise(directory.path(), &["--pin-file", pin.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("chmod 600")
    );
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let output = Command::new(script()).args(["--dir"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("usage:"));
}

fn initialise(place: &Path, more: &[&str]) -> Output {
    Command::new(script())
        .arg("--dir")
        .arg(place)
        .args(["--label", "demo"])
        .args(more)
        .output()
        .unwrap()
}

fn script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../softhsm-config/init-token.sh")
}

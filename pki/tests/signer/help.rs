//! Does every verb say what it does in the words that were reviewed?

use std::process::Command;

#[test]
fn the_help_of_signer_and_issuing_is_as_documented() {
    let verbs = [
        "signer",
        "signer check",
        "issuing",
        "issuing list",
        "issuing prepare",
        "issuing request",
        "issuing install",
        "issuing activate",
        "issuing taint",
        "issuing retire",
    ];
    let help = |verb: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_m2key-pki"))
            .args(verb.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        format!("$ m2key-pki {verb} --help\n{text}\n")
    };
    let all: String = verbs.into_iter().map(help).collect();
    assert_eq!(all, include_str!("help.txt"), "\n{all}");
}

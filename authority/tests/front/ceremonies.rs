//! Does what is agreed to at the authority open the signer and the root, for exactly that?

use std::path::PathBuf;

use crate::house::{House, Said, text};
use crate::two_people::{as_bob, bob};

/// An authority whose signer and root want one consent besides the one who asks.
struct Bank {
    house: House,
    bob: String,
}

impl Bank {
    /// The daemon must run.
    fn new(house: House) -> Self {
        let bob = bob(&house, &[]);
        Self { house, bob }
    }

    /// Does what the hint says: the operator asks, bob consents, the transcript is a file.
    fn agree(&self, said: &str, draft: Option<&PathBuf>) -> PathBuf {
        let (_, after) = said.split_once("m2key-authority ceremony ").unwrap();
        let command = after.lines().next().unwrap();
        let mut words: Vec<&str> = command.split(' ').collect();
        if let (Some(draft), Some(place)) = (draft, words.iter().position(|w| *w == "DRAFT")) {
            words[place] = text(draft);
        }
        let asked = self
            .house
            .verb(&[&["ceremony", "--json"], &words[..]].concat())
            .json();
        let id = asked["request"]["id"].as_str().unwrap();
        let signed = as_bob(&self.house, &self.bob, &["consent", "sign", id, "--yes"]);
        assert_eq!(signed.code, 0, "{signed:?}");
        let done = self.house.verb(&["consent", "carry-out", id]);
        assert_eq!(done.code, 0, "{done:?}");
        let transcript = self.house.verb(&["consent", "transcript", id]);
        let file = self.house.scratch(&format!("{id}.json"));
        std::fs::write(&file, transcript.out).unwrap();
        file
    }
}

fn append(path: &std::path::Path, more: &str) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    std::fs::write(path, text + more).unwrap();
}

#[track_caller]
fn done(said: &Said) {
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn the_signer_and_the_root_do_what_two_agreed_to_and_the_refusal_says_how() {
    let house = House::without_signer();
    append(&house.signer_config(), "\n[consents]\nrequired = 1\n");
    append(&house.dir().join("root/consents.toml"), "required = 1\n");
    house.start_signer();
    let daemon = house.serve();
    let bank = Bank::new(house);
    let house = &bank.house;

    let alone = house.pki(&["issuing", "prepare"]);
    alone.refused(
        4,
        "needs the consent of 1 besides",
        "ceremony issuing prepare",
    );
    let transcript = bank.agree(&alone.err, None);
    let transcript = text(&transcript);
    let request = house.pki(&["issuing", "prepare", "--transcript", transcript]);
    done(&request);
    let file = house.scratch("request.csr");
    std::fs::write(&file, &request.out).unwrap();

    let issuing = house.scratch("issuing.pem");
    let sign = ["sign", text(&file), "--out", text(&issuing), "--yes"];
    let alone = house.root(&sign);
    alone.refused(4, "needs the consent of 1 besides", "ceremony root sign");
    let foreign = house.root(&[&sign[..], &["--transcript", transcript]].concat());
    foreign.refused(1, "for something else", "--dry-run here says");
    let planned = house.root(&["sign", text(&file), "--out", text(&issuing), "--dry-run"]);
    done(&planned);
    let agreed = bank.agree(&planned.out, None);
    done(&house.root(&[&sign[..], &["--transcript", text(&agreed)]].concat()));

    for step in ["install", "activate", "taint"] {
        let what = match step {
            "install" => text(&issuing),
            "activate" => "m2key-issuing-2",
            _ => "m2key-issuing-1",
        };
        let alone = house.pki(&["issuing", step, what]);
        alone.refused(4, "needs the consent of 1 besides", "consent transcript");
        let agreed = bank.agree(&alone.err, None);
        done(&house.pki(&["issuing", step, what, "--transcript", text(&agreed)]));
        // Whoever did not hear the answer asks again.
        done(&house.pki(&["issuing", step, what, "--transcript", text(&agreed)]));
        if step == "activate" {
            // Before the issuing CA above both is believed no more.
            for operator in ["operator", &bank.bob] {
                let renewed = match operator {
                    "operator" => house.verb(&["renew", "operator"]),
                    bob => as_bob(house, bob, &["renew", "operator"]),
                };
                done(&renewed);
            }
        }
    }
    let listed = house.pki(&["issuing", "list"]);
    assert_eq!(
        listed
            .out
            .matches("asked by operator, consented bob")
            .count(),
        4,
        "{listed:?}"
    );
    drop(daemon);
}

#[test]
fn lists_of_the_root_need_two_and_the_log_names_them() {
    let house = House::new();
    append(&house.dir().join("root/consents.toml"), "required = 1\n");
    let daemon = house.serve();
    let bank = Bank::new(house);
    let house = &bank.house;
    let (list, issuing) = (house.scratch("root.crl"), house.dir().join("issuing.pem"));
    let crl = [
        "crl",
        "--out",
        text(&list),
        "--yes",
        "--revoke",
        text(&issuing),
    ];
    let crl = [&crl[..], &["--reason", "superseded"]].concat();
    let alone = house.root(&crl);
    alone.refused(4, "needs the consent of 1 besides", "ceremony root crl");
    let agreed = bank.agree(&alone.err, None);
    done(&house.root(&[&crl[..], &["--transcript", text(&agreed)]].concat()));

    let (draft, root) = (house.scratch("1.json"), house.dir().join("root/root.pem"));
    let new = house.scratch("new");
    let passphrase = house.dir().join("root/passphrase");
    let init = ["root", "init", "--dir", text(&new), "--passphrase-file"];
    done(&house.pki_alone(&[&init[..], &[text(&passphrase)]].concat()));
    let pem = new.join("root.pem");
    let prepare = [
        "root",
        "trust",
        "prepare",
        text(&pem),
        "--first",
        text(&root),
    ];
    done(&house.pki_alone(&[&prepare[..], &["--out", text(&draft)]].concat()));
    let sign = ["trust", "sign", text(&draft), "--yes"];
    let alone = house.root(&sign);
    alone.refused(
        4,
        "needs the consent of 1 besides",
        "ceremony root trust DRAFT",
    );
    let agreed = bank.agree(&alone.err, Some(&draft));
    done(&house.root(&[&sign[..], &["--transcript", text(&agreed)]].concat()));
    let dir = house.dir().join("root");
    let shown = house.pki_alone(&["root", "show", "--dir", text(&dir)]);
    assert_eq!(
        shown
            .out
            .matches("asked-by operator, consented bob")
            .count(),
        2,
        "{shown:?}"
    );
    drop(daemon);
}

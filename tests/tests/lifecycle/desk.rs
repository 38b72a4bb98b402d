//! How do operators type their verbs, and which ones have they typed?

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use harness::authority::Authority;
use harness::process::{Said, command};
use serde_json::Value;

pub(crate) const AUTHORITY: &str = "m2key-authority";
pub(crate) const PKI: &str = "m2key-pki";

/// The desk of one authority. A line is split at its blanks; no word here has one in it.
pub(crate) struct Desk<'a> {
    authority: &'a Authority,
    typed: RefCell<Vec<String>>,
}

impl<'a> Desk<'a> {
    pub(crate) fn of(authority: &'a Authority) -> Self {
        Self {
            authority,
            typed: RefCell::default(),
        }
    }

    /// A verb of the first operator, whatever comes of it.
    pub(crate) fn say(&self, line: &str) -> Said {
        self.note(AUTHORITY, line);
        self.authority.say(&words(line)).unwrap()
    }

    /// A verb that must be carried out; its answer.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> Value {
        let said = self.say(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.json().unwrap()
    }

    /// A verb that must be carried out and whose answer is a document of its own.
    #[track_caller]
    pub(crate) fn text(&self, line: &str) -> String {
        let said = self.say(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.out
    }

    /// A verb that must be refused, in words with `part` in them; every refusal says what to do.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str, part: &str) {
        let said = self.say(line);
        assert!((1..=4).contains(&said.code), "{line}: {said:?}");
        assert!(said.err.contains(part), "{line}: {said:?}");
        assert!(said.err.contains("hint: "), "{line}: {said:?}");
    }

    /// Says what it would do and does it: the same words.
    #[track_caller]
    pub(crate) fn dry_then_ok(&self, line: &str) -> Value {
        let dry = self.ok(&format!("{line} --dry-run"));
        let done = self.ok(line);
        assert_eq!(dry["says"], done["says"], "{line}");
        assert!(dry.get("operation").is_none(), "{line}: {dry}");
        done
    }

    /// A verb as another operator, who must be heard.
    #[track_caller]
    pub(crate) fn ok_as(&self, name: &str, line: &str) -> Value {
        self.note(AUTHORITY, line);
        let said = self.say_as(name, line);
        assert_eq!(said.code, 0, "{name}: {line}: {said:?}");
        said.json().unwrap()
    }

    /// A verb as another operator, whatever comes of it.
    pub(crate) fn say_as(&self, name: &str, line: &str) -> Said {
        let file = self.authority.file(&format!("{name}.toml"));
        self.authority.say_as(&file, &words(line)).unwrap()
    }

    /// A verb that `second` must consent to: asked for, shown, signed, carried out.
    #[track_caller]
    pub(crate) fn agreed(&self, second: &str, line: &str) -> Value {
        let said = self.say(line);
        assert_eq!(said.code, 4, "{line}: {said:?}");
        let request = request_in(&said.err);
        let shown = self.ok_as(second, &format!("consent show {request}"));
        assert_eq!(shown["request"]["state"], "open", "{shown}");
        self.ok_as(second, &format!("consent sign {request} --yes"));
        let done = self.ok(&format!("consent carry-out {request}"));
        done["answer"].clone()
    }

    /// What `second` consents to that is done at the signer or the root; the file that they want to see.
    #[track_caller]
    pub(crate) fn ceremony(&self, second: &str, line: &str) -> String {
        let asked = self.ok(&format!("ceremony {line}"));
        let request = asked["request"]["id"].as_str().unwrap();
        self.ok_as(second, &format!("consent sign {request} --yes"));
        self.ok(&format!("consent carry-out {request}"));
        let file = self.file(request, "json");
        std::fs::write(&file, self.text(&format!("consent transcript {request}"))).unwrap();
        file.display().to_string()
    }

    /// A verb of `m2key-pki` that must be carried out; what it printed.
    #[track_caller]
    pub(crate) fn pki(&self, line: &str) -> String {
        let said = self.say_pki(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.out
    }

    pub(crate) fn say_pki(&self, line: &str) -> Said {
        self.note(PKI, line);
        self.authority.pki(&words(line)).unwrap()
    }

    /// A verb of `m2key-pki issuing` at this authority's signer.
    #[track_caller]
    pub(crate) fn issuing(&self, line: &str) -> String {
        let said = self.say_issuing(line);
        assert_eq!(said.code, 0, "issuing {line}: {said:?}");
        said.out
    }

    pub(crate) fn say_issuing(&self, line: &str) -> Said {
        self.note(PKI, &format!("issuing {line}"));
        self.authority.issuing(&words(line)).unwrap()
    }

    /// Another operator, whose key was made by themself.
    pub(crate) fn adds_operator(&self, name: &str) {
        let dir = self.authority.file("");
        self.ok(&format!("operator request {name} --dir {}", dir.display()));
        let (request, certificate) = (self.file(name, "csr"), self.file(name, "pem"));
        let (request, certificate) = (request.display(), certificate.display());
        self.ok(&format!(
            "operator add {name} --request {request} --certificate {certificate}"
        ));
    }

    /// Which of the verbs that this program's `--help` names were not typed.
    pub(crate) fn never_typed(&self, program: &str) -> Vec<String> {
        let typed = self.typed.borrow();
        let was = |verb: &String| {
            typed
                .iter()
                .any(|line| line.starts_with(&format!("{verb} ")))
        };
        let all = leaves(program, &[]);
        all.into_iter().filter(|verb| !was(verb)).collect()
    }

    pub(crate) fn file(&self, name: &str, end: &str) -> PathBuf {
        self.authority.file(&format!("{name}.{end}"))
    }

    fn note(&self, program: &str, line: &str) {
        self.typed.borrow_mut().push(format!("{program} {line} "));
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The id in `consent sign <id>`.
#[track_caller]
pub(crate) fn request_in(hint: &str) -> String {
    let after = hint.split_once("consent sign ").map(|(_, after)| after);
    let id = after.and_then(|after| after.split_whitespace().next());
    id.unwrap_or_else(|| panic!("no request in: {hint}"))
        .to_owned()
}

/// Every verb below these words that has no verbs of its own, as `--help` tells.
fn leaves(program: &str, path: &[String]) -> Vec<String> {
    let mut help = command(program).unwrap();
    let said = Said::by(help.args(path).arg("--help")).unwrap();
    let listed = said.out.split_once("Commands:\n").map(|(_, after)| after);
    let names: BTreeSet<String> = listed
        .into_iter()
        .flat_map(|after| after.lines().take_while(|line| !line.is_empty()))
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return vec![[&[program.to_owned()], path].concat().join(" ")];
    }
    let below = |name: String| leaves(program, &[path, &[name]].concat());
    names.into_iter().flat_map(below).collect()
}

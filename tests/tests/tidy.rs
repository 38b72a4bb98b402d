//! Does what we publish about this repository still hold?
//!
//! Words rot quietly: a link, a path, a `make` target. So they are read like code, here.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Past this a file is split, whatever it says.
const LINES_MAX: usize = 700;
/// Crates that ship; every module of theirs opens with its question.
const SHIPPED: [&str; 6] = [
    "protocol",
    "hsm",
    "pki",
    "authority",
    "reader-agent",
    "wallet-client",
];
/// What a path in a document may start with, if it is to be looked up.
const TOP_LEVEL: [&str; 12] = [
    "protocol",
    "hsm",
    "pki",
    "authority",
    "reader-agent",
    "wallet-client",
    "tests",
    "docs",
    "scripts",
    "packaging",
    "config",
    "softhsm-config",
];

#[test]
fn every_relative_link_in_the_documents_resolves() {
    let broken = findings(&documents(), |file, text| {
        prose(text)
            .flat_map(links)
            .filter(|link| !leads_to_something(file, link))
            .map(|link| format!("no such file: {link}"))
            .collect()
    });
    assert_eq!(broken, NOTHING);
}

#[test]
fn every_path_named_in_the_documents_exists() {
    let missing = findings(&documents(), |_, text| {
        prose(text)
            .flat_map(code_spans)
            .filter(|span| is_path_of_ours(span) && !root().join(span).exists())
            .map(|span| format!("no such path: {span}"))
            .collect()
    });
    assert_eq!(missing, NOTHING);
}

#[test]
fn every_make_target_named_in_the_documents_exists() {
    let targets = make_targets();
    let unknown = findings(&documents(), |_, text| {
        commands(text)
            .iter()
            .filter_map(|command| command.strip_prefix("make "))
            .filter_map(|arguments| arguments.split_whitespace().next())
            .filter(|target| !targets.contains(*target))
            .map(|target| format!("no such target: make {target}"))
            .collect()
    });
    assert_eq!(unknown, NOTHING);
}

#[test]
fn the_readme_tells_a_bare_machine_what_to_type_and_what_ci_runs() {
    let commands = commands(&read(&root().join("README.md")));
    for command in [
        "apt-get install -y make",
        "make demo",
        "make test",
        "make lint",
    ] {
        assert!(
            commands.iter().any(|it| it == command),
            "README lacks `{command}`"
        );
    }
}

#[test]
fn no_source_file_is_longer_than_a_reader_can_hold() {
    let long = findings(&files("rs"), |_, text| {
        let lines = text.lines().count();
        Vec::from_iter((lines > LINES_MAX).then(|| format!("{lines} lines, at most {LINES_MAX}")))
    });
    assert_eq!(long, NOTHING);
}

#[test]
fn every_module_that_ships_opens_with_the_question_it_answers() {
    let silent = findings(&shipped_modules(), |_, text| {
        let says_nothing_yet = text.lines().count() < 2;
        let asks = says_nothing_yet || opens_with_a_question(text);
        Vec::from_iter((!asks).then(|| "the first //! paragraph asks nothing".to_owned()))
    });
    assert_eq!(silent, NOTHING);
}

#[test]
fn every_kind_of_statement_stands_in_the_one_table_of_who_signs_it() {
    let elsewhere = findings(&shipped_modules(), |_, text| {
        text.lines()
            .filter(|line| line.contains("const TYP") && line.contains('"'))
            .map(|line| format!("not from protocol::typ: {}", line.trim()))
            .collect()
    });
    assert_eq!(elsewhere, NOTHING);
}

#[test]
fn nothing_is_marked_as_left_for_later() {
    // Spelt in halves, so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut searched = files("rs");
    searched.extend(documents());
    searched.extend(["toml", "sh"].iter().flat_map(|extension| files(extension)));
    let marked = findings(&searched, |_, text| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| marks.contains(word))
            .map(str::to_owned)
            .collect()
    });
    assert_eq!(marked, NOTHING);
}

#[test]
fn the_search_itself_sees_what_it_is_looking_for() {
    assert_eq!(
        links("see [a](b.md#c) and ![d](e.png)"),
        ["b.md#c", "e.png"]
    );
    assert_eq!(
        code_spans("`make demo` or `hsm/src/lib.rs`"),
        ["make demo", "hsm/src/lib.rs"]
    );
    assert_eq!(
        commands("say `make x`\n```\nmake y # why\n```\n"),
        ["make x", "make y"]
    );
    assert!(opens_with_a_question("//! Why?\n//!\n//! Because."));
    assert!(opens_with_a_question(
        "//! Why would a\n//! newcomer ask?\n"
    ));
    assert!(!opens_with_a_question("//! Because.\n//!\n//! Why?\n"));
    assert!(!opens_with_a_question("use std::fs;\n"));
    assert!(
        documents().len() >= 2 && files("rs").len() >= 10,
        "the walk finds the repository"
    );
}

const NOTHING: [String; 0] = [];

/// Applies `check` to every file; each finding is prefixed by where it is.
fn findings(files: &[PathBuf], check: impl Fn(&Path, &str) -> Vec<String>) -> Vec<String> {
    let in_one = |file: &PathBuf| {
        let shown = file
            .strip_prefix(root())
            .unwrap_or(file)
            .display()
            .to_string();
        let found = check(file, &read(file));
        found
            .into_iter()
            .map(move |what| format!("{shown}: {what}"))
    };
    files.iter().flat_map(in_one).collect()
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests/ has a parent, the workspace")
        .to_owned()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn documents() -> Vec<PathBuf> {
    files("md")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.retain(|file| file.extension().is_some_and(|it| it == extension));
    found.sort();
    found
}

/// Hidden and built directories are not ours to judge.
fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the workspace can be listed") {
        let path = entry.expect("a directory entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let skipped = name.starts_with('.')
            || name.starts_with("target")
            || ["var", "node_modules"].contains(&name.as_ref());
        match path.is_dir() {
            true if !skipped => walk(&path, found),
            true => {}
            false => found.push(path),
        }
    }
}

fn shipped_modules() -> Vec<PathBuf> {
    let sources = SHIPPED.map(|name| root().join(name).join("src"));
    let mut modules = files("rs");
    let ships = |file: &PathBuf| sources.iter().any(|source| file.starts_with(source));
    modules.retain(|file| ships(file) && !file.ends_with("tests.rs"));
    modules
}

fn opens_with_a_question(text: &str) -> bool {
    let opening = text.lines().map_while(|line| line.strip_prefix("//!"));
    opening
        .take_while(|line| !line.trim().is_empty())
        .any(|line| line.contains('?'))
}

/// The lines of a document outside its fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    lines(text).filter_map(|(fenced, line)| (!fenced).then_some(line))
}

/// Every line but the fences, and whether it lies between two of them.
fn lines(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut fenced = false;
    text.lines().filter_map(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence).then_some((fenced, line))
    })
}

/// The targets of `[…](target)`.
fn links(line: &str) -> Vec<&str> {
    let after_bracket = line.split("](").skip(1);
    after_bracket
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

fn code_spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// What a reader is invited to type: code spans, and fenced lines without their comment.
fn commands(text: &str) -> Vec<String> {
    let spans = prose(text).flat_map(code_spans);
    let fenced = lines(text).filter_map(|(fenced, line)| fenced.then_some(line));
    let typed = fenced.map(|line| line.split(" #").next().unwrap_or_default().trim());
    spans.chain(typed).map(str::to_owned).collect()
}

fn leads_to_something(file: &Path, link: &str) -> bool {
    let elsewhere = link.contains("://") || link.starts_with("mailto:");
    let path = link.split('#').next().unwrap_or_default();
    let beside = file.parent().expect("a document lies in a directory");
    elsewhere || path.is_empty() || beside.join(path).exists()
}

/// Only what can be nothing else: a top-level name of ours, a slash, no placeholder.
fn is_path_of_ours(span: &str) -> bool {
    let (top, rest) = span.split_once('/').unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    TOP_LEVEL.contains(&top) && !rest.is_empty() && rest.chars().all(plain)
}

fn make_targets() -> BTreeSet<String> {
    let makefile = read(&root().join("Makefile"));
    let rules = makefile
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0));
    let names =
        rules.filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase()));
    names.map(str::to_owned).collect()
}

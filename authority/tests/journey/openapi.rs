//! Does the OpenAPI document say what the public listener does?
//!
//! Three judges: the sources (every mounted `/v1` route is described), a validator of others for the
//! document itself, and a fuzzer of others that reads it and asks whatever it allows, and what it does not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use authority::store::Merchant;
use protocol::problem::{Problem, ProblemType};
use serde_json::Value;

use crate::signing::Signing;
use crate::world::{SPENDING, World, eur};

/// Requests per operation and phase, and seconds in all: a minute of a build is enough.
const EXAMPLES_MAX: &str = "60";
const FUZZ_MAX_S: &str = "50";
/// What the fuzzer holds every answer against.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

async fn document(world: &World) -> Value {
    let answer = world.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

/// `(method, path)` with every parameter as `{}`.
fn described(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &Value)| {
        let path: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { "{}" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let methods = methods.as_object().unwrap().keys();
        let methods: Vec<_> = methods.map(|it| it.to_uppercase()).collect();
        methods.into_iter().map(move |it| (it, path.clone()))
    };
    paths.iter().flat_map(of_path).collect()
}

/// Every `warp::path!("v1" / …)` of a file that makes routes of the public listener, with its method.
fn mounted() -> BTreeSet<(String, String)> {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut files = vec![http];
    let mut found = BTreeSet::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(&path).unwrap();
            files.extend(inside.map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_some_and(|it| it == "rs") && text.contains("Routes<Public>") {
            found.extend(routes_of(&text));
        }
    }
    found
}

fn routes_of(source: &str) -> Vec<(String, String)> {
    // A file may have routes of several listeners: what a function makes stands in its first line.
    let functions = source.split("\nfn ").flat_map(|it| it.split("\npub fn "));
    let public = functions.filter(|it| {
        let (signature, _) = it.split_once('{').unwrap_or_default();
        signature.contains("Routes<Public>")
    });
    let marks = public.flat_map(|it| it.split("warp::path!(").skip(1));
    let route = |rest: &str| {
        let (path, after) = rest.split_once(')').unwrap();
        let part = |part: &str| {
            let part = part.trim();
            let fixed = part.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            fixed.map_or("{}".to_owned(), str::to_owned)
        };
        let parts: Vec<_> = path.split('/').map(part).collect();
        let method = after.split("warp::").nth(1).unwrap_or_default();
        let method = method.split('(').next().unwrap().to_uppercase();
        (method, format!("/{}", parts.join("/")))
    };
    let all = marks.map(route);
    all.filter(|(_, path)| path.starts_with("/v1/")).collect()
}

#[tokio::test]
async fn every_route_that_is_mounted_is_described_and_none_is_invented() {
    let document = document(&World::new().await).await;
    let described = described(&document);
    let of_v1 = described
        .iter()
        .filter(|(_, path)| path.starts_with("/v1/"));
    let mounted = mounted();
    assert!(mounted.len() >= 7, "the search finds them: {mounted:?}");
    assert_eq!(of_v1.cloned().collect::<BTreeSet<_>>(), mounted);
}

#[tokio::test]
async fn every_operation_that_is_described_is_taken() {
    let world = World::new().await;
    for (method, path) in described(&document(&world).await) {
        let id = "01a209b5-0cf0-736c-a169-6d2020202020";
        let answer = crate::world::answer(world.ask(&method, &path.replace("{}", id))).await;
        let absent = ["not-found", "method-not-allowed"];
        let slug = serde_json::from_slice::<Problem>(&answer.body);
        let slug = slug.ok().and_then(|it| it.problem_type());
        let slug = slug.map_or("", ProblemType::slug);
        // A list that is not there is not found in these words, too, but told apart by its detail.
        let taken = !absent.contains(&slug) || answer.json()["detail"].is_string();
        assert!(taken, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn every_refusal_is_listed() {
    let document = document(&World::new().await).await;
    let listed = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    let listed: Vec<String> = serde_json::from_value(listed.clone()).unwrap();
    let all: Vec<_> = ProblemType::ALL
        .iter()
        .map(|it| Problem::new(*it).type_)
        .collect();
    assert_eq!(listed, all);
}

#[tokio::test]
async fn a_validator_of_others_takes_the_document() {
    let document = document(&World::new().await).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let mut validator = Command::new(tools().join("openapi-spec-validator"));
    let output = validator.args(["--schema", "3.1"]).arg(&file).output();
    let output = output.expect("this test needs its tools: run scripts/setup.sh test");
    assert!(output.status.success(), "{output:?}");
    // It would say so if something were wrong.
    let broken = document
        .to_string()
        .replacen("\"responses\"", "\"answers\"", 1);
    std::fs::write(&file, broken).unwrap();
    let mut validator = Command::new(tools().join("openapi-spec-validator"));
    let output = validator
        .args(["--schema", "3.1"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
}

/// A wallet in between signs what the fuzzer asks, so that it gets behind the sign-in: see `signing.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fuzzer_that_reads_the_document_finds_no_answer_outside_of_it() {
    // A terminal that takes what it is given, and a shopper who may hold a lot.
    let busy = format!("{SPENDING}claims_per_shopper = 1000000\n");
    let world = World::spending_at(&busy, |merchant| Merchant {
        open_cap: Some(eur(1_000)),
        ..merchant
    });
    let world = Arc::new(world.await);
    let signing = Signing::start(world.clone()).await;
    let url = signing.url().to_owned();
    let fuzzing = tokio::task::spawn_blocking(move || fuzz(&url));
    let (good, told) = fuzzing.await.unwrap();
    assert!(good, "{told}");
    // It got somewhere: past the sign-in, to payments and to their receipts.
    let seen = signing.seen();
    for wanted in [
        ("POST", "/v1/claims", 201),
        ("POST", "/v1/claims/{}/approval", 200),
        ("POST", "/v1/wallet/views", 200),
        ("POST", "/v1/wallet/payments", 201),
        ("GET", "/v1/wallet/payments/{}", 200),
        ("GET", "/v1/wallet/accounts", 200),
    ] {
        let (method, path, status) = wanted;
        let found = seen.contains(&(method.into(), path.into(), status));
        assert!(found, "{wanted:?} is not among {seen:?}");
    }
    let report = authority::store::Ledger::ledger_report(&*world.store)
        .await
        .unwrap();
    assert!(report.wrong_accounts.is_empty());
    assert!(report.sums.iter().all(|(_, sum)| *sum == 0));
}

fn fuzz(url: &str) -> (bool, String) {
    let place = tempfile::tempdir().unwrap();
    let mut fuzzer = Command::new(tools().join("schemathesis"));
    let output = fuzzer
        .args(["run", &format!("{url}/openapi.json"), "--url", url])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", EXAMPLES_MAX, "--max-time", FUZZ_MAX_S])
        .args(["--workers", "2", "--seed", "1", "--warnings", "off"])
        .args(["--suppress-health-check", "all", "--no-color"])
        .current_dir(place.path())
        .output();
    let output = output.expect("this test needs its tools: run scripts/setup.sh test");
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), told)
}

/// Where scripts/setup.sh puts them: beside everything else that is built.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("api-judges/bin")
}

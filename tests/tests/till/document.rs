//! Does the OpenAPI document say what the till's interface does?

use std::process::Command;

use protocol::problem::{Problem, ProblemType};
use serde_json::{Value, json};

use crate::line::{self, tools};
use crate::shop::{PRICE, Shop, asked, charge_id};

/// Requests per operation that are made up, besides those that cover the document.
const EXAMPLES_MAX: &str = "25";
/// What the fuzzer holds every answer against.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

#[tokio::test]
async fn what_is_served_is_what_is_printed_and_a_validator_of_others_takes_it() {
    let shop = Shop::open().await;
    let served = shop.till.ask("GET", "/v1/openapi.json", None).await;
    let printed = harness::process::command("m2key-agent")
        .unwrap()
        .args(["till", "openapi"])
        .output();
    assert_eq!(served.body.as_bytes(), printed.unwrap().stdout);
    assert_eq!(
        served.body,
        std::fs::read_to_string(line::document_file()).unwrap()
    );
    let output = validated(&served.body);
    assert!(output.status.success(), "{output:?}");
    // It would say so if something were wrong.
    let output = validated(&served.body.replacen("\"responses\"", "\"answers\"", 1));
    assert!(!output.status.success(), "{output:?}");
    // Whatever is described is there.
    let document: Value = serde_json::from_str(&served.body).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{charge}", &charge_id());
            let answer = shop.till.ask(&method.to_uppercase(), &path, None).await;
            let problem: Option<Problem> = serde_json::from_str(&answer.body).ok();
            let absent = [ProblemType::NotFound, ProblemType::MethodNotAllowed];
            let problem = problem.and_then(|it| it.problem_type());
            assert!(
                !problem.is_some_and(|it| absent.contains(&it)),
                "{method} {path}: {answer:?}"
            );
        }
    }
    shop.till.judged();
}

fn validated(document: &str) -> std::process::Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, document).unwrap();
    let mut validator = Command::new(tools().join("openapi-spec-validator"));
    let output = validator.args(["--schema", "3.1"]).arg(&file).output();
    output.expect("this test needs its tools: run scripts/setup.sh test")
}

#[test]
fn the_judge_of_answers_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answers.json");
    let good = json!({
        "charge": charge_id(), "kind": "till", "stage": "offered", "stale": false,
        "until": "2026-11-26T18:00:00.000Z", "as_of": "2026-11-26T17:50:00.000Z",
    });
    let without = |field: &str| {
        let mut charge = good.clone();
        charge.as_object_mut().unwrap().remove(field);
        charge
    };
    let answer = |status: u16, media: &str, body: Value| {
        let path = format!("/v1/charges/{}", charge_id());
        json!([{ "method": "GET", "path": path, "status": status, "media": media, "body": body.to_string() }])
    };
    let media = "application/json";
    for (is_right, answers) in [
        (true, answer(200, media, good.clone())),
        (false, answer(200, media, without("stale"))),
        (false, answer(200, media, without("until"))),
        (false, answer(200, "text/html", good.clone())),
        (false, answer(418, media, good.clone())),
        (false, answer(404, "application/problem+json", good.clone())),
    ] {
        std::fs::write(&file, answers.to_string()).unwrap();
        let output = line::judge(&line::document_file(), &file);
        assert_eq!(output.status.success(), is_right, "{answers}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fuzzer_that_reads_the_document_finds_no_answer_outside_of_it() {
    let shop = Shop::open().await;
    shop.set_pin();
    shop.till
        .ask("POST", "/v1/charges", Some(&asked(&charge_id(), PRICE)))
        .await
        .charge();
    let (address, secret) = (shop.till.address.clone(), shop.till.secret.clone());
    let fuzzing = tokio::task::spawn_blocking(move || fuzz(&address, &secret));
    let (good, told) = fuzzing.await.unwrap();
    assert!(good, "{told}");
    let books = shop.world.authority.verb(&["account", "check"]).unwrap();
    assert_eq!(books["balanced"], true);
}

/// Streams have no end while their charge is open, so they are left out; other tests judge them.
fn fuzz(address: &str, secret: &str) -> (bool, String) {
    let place = tempfile::tempdir().unwrap();
    let url = format!("http://{address}");
    let mut fuzzer = Command::new(tools().join("schemathesis"));
    let output = fuzzer
        .args(["run", &format!("{url}/v1/openapi.json"), "--url", &url])
        .args(["--header", &format!("Authorization: Bearer {secret}")])
        .args(["--exclude-path-regex", "events$"])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", EXAMPLES_MAX, "--request-timeout", "60"])
        .args(["--workers", "1", "--seed", "1", "--warnings", "off"])
        .args(["--suppress-health-check", "all", "--no-color"])
        .current_dir(place.path())
        .output();
    let output = output.expect("this test needs its tools: run scripts/setup.sh test");
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), told)
}

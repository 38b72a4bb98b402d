#![allow(clippy::unwrap_used)]
//! Is the document what the types, the routes and the table of problems say?
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use protocol::problem::ProblemType::{self, *};
use protocol::problem::{PROBLEM_JSON, Problem};
use protocol::wire::charges::{ChargeRequest, TillCharge};
use protocol::wire::history::{DayReport, HISTORY_MAX, HistoryPage};
use protocol::wire::refunds::{RefundRequest, RefundResponse};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{DOCUMENT, OPENAPI_PATH};

/// Set, it has the test write the document instead of comparing it.
const WRITE: &str = "M2KEY_WRITE_OPENAPI";

/// Every operation may be refused so.
const ANYWHERE: &[ProblemType] = &[
    MalformedRequest,
    ForeignCaller,
    NotFound,
    MethodNotAllowed,
    Internal,
    Busy,
    NotReady,
];
/// And what is passed on to the authority also so.
const PASSED_ON: &[ProblemType] = &[
    SignInNeeded,
    TerminalRefused,
    CertificateNeeded,
    CertificateRefused,
    TooManyRequests,
    AnswerLate,
    Fenced,
];

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One method at one path.
struct Operation {
    at: (&'static str, &'static str),
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Value>,
    body: Option<SchemaOf>,
    answers: Vec<(u16, &'static str, Value)>,
    problems: &'static [ProblemType],
}

struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn operations(answers: &mut SchemaGenerator) -> Vec<Operation> {
    let mut json = |schema: SchemaOf| json!({ "application/json": { "schema": schema(answers) } });
    let charge = json(of::<TillCharge>);
    let (refund, page, day) = (
        json(of::<RefundResponse>),
        json(of::<HistoryPage>),
        json(of::<DayReport>),
    );
    vec![
        Operation {
            at: ("post", "/v1/charges"),
            id: "start",
            summary: "Start a charge",
            description: "The id is a UUIDv7 of the till's making. The same request again is the same charge, \
                so ask again after every answer that did not come.",
            parameters: Vec::new(),
            body: Some(of::<ChargeRequest>),
            answers: vec![(
                200,
                "As it stands: new, or the same as before.",
                charge.clone(),
            )],
            problems: &[ChargeOpen, ChargeDiffers, BodyTooLarge],
        },
        Operation {
            at: ("get", "/v1/charges/{charge}"),
            id: "look",
            summary: "Look at a charge",
            description: "While the authority is away, what it said last, with `stale` true.",
            parameters: vec![charge_id()],
            body: None,
            answers: vec![(200, "As it stands.", charge.clone())],
            problems: &[ChargeUnknown],
        },
        Operation {
            at: ("delete", "/v1/charges/{charge}"),
            id: "cancel",
            summary: "Cancel a charge",
            description: "Read the answer: a charge that was paid before stays paid. Again is the same.",
            parameters: vec![charge_id()],
            body: None,
            answers: vec![(200, "As it stands now: ended, or paid.", charge)],
            problems: &[ChargeUnknown],
        },
        Operation {
            at: ("get", "/v1/charges/{charge}/events"),
            id: "follow",
            summary: "Follow a charge",
            description: "Server-sent events. Each is the whole state; the stream ends after `paid` and `ended`.",
            parameters: vec![
                charge_id(),
                json!({
                    "name": "Last-Event-ID", "in": "header",
                    "description": "The id of the last event that was heard.",
                    "schema": { "type": "string" },
                }),
            ],
            body: None,
            answers: vec![
                (
                    200,
                    "Events named `charge`; the data of each is a TillCharge.",
                    json!({ "text/event-stream": {
                        "schema": { "type": "string" },
                        "example": "id: 5c1e0c9ab2f0413377a1d04e\nevent: charge\ndata: {\"charge\": …, \"stage\": \"offered\", …}\n\n",
                    } }),
                ),
                (
                    204,
                    "It is over, and that was heard: do not come back.",
                    Value::Null,
                ),
            ],
            problems: &[ChargeUnknown],
        },
        Operation {
            at: ("post", "/v1/refunds"),
            id: "refund",
            summary: "Give money back",
            description: "Under an id of the till's making; the same request again is the same refund.",
            parameters: Vec::new(),
            body: Some(of::<RefundRequest>),
            answers: vec![(200, "Refunded, declined, or asked: then ask again.", refund)],
            problems: &[
                ChargeUnknown,
                ChargeUnpaid,
                RefundTooMuch,
                RefundCap,
                RefundDiffers,
                PayerGone,
                PinRefused,
                PinLocked,
                PinMissing,
                BodyTooLarge,
            ],
        },
        Operation {
            at: ("get", "/v1/history"),
            id: "history",
            summary: "What was paid and given back here, the newest first",
            description: "",
            parameters: vec![
                json!({
                    "name": "cursor", "in": "query", "description": "`next` of the page before.",
                    "schema": { "type": "string", "pattern": "^[A-Za-z0-9.]*$" },
                }),
                json!({
                    "name": "limit", "in": "query", "description": "Entries of a page.",
                    "schema": { "type": "integer", "minimum": 1, "maximum": HISTORY_MAX },
                }),
            ],
            body: None,
            answers: vec![(200, "A page.", page)],
            problems: &[],
        },
        Operation {
            at: ("get", "/v1/day"),
            id: "day",
            summary: "How the business day stands",
            description: "Nothing is closed by looking.",
            parameters: Vec::new(),
            body: None,
            answers: vec![(200, "The day so far.", day)],
            problems: &[],
        },
        Operation {
            at: ("get", OPENAPI_PATH),
            id: "openapi",
            summary: "This document",
            description: "For everybody on this machine.",
            parameters: Vec::new(),
            body: None,
            answers: vec![(
                200,
                "OpenAPI 3.1.",
                json!({ "application/json": { "schema": { "type": "object" } } }),
            )],
            problems: &[],
        },
    ]
}

fn charge_id() -> Value {
    json!({
        "name": "charge", "in": "path", "required": true,
        "description": "As the till made it.",
        "schema": { "type": "string", "format": "uuid" },
    })
}

fn document() -> Value {
    let settings = || {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings
    };
    let mut schemas = Schemas {
        requests: settings().for_deserialize().into_generator(),
        answers: settings().for_serialize().into_generator(),
    };
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations(&mut schemas.answers) {
        let (method, path) = operation.at;
        let described = operation.describe(&mut schemas);
        paths
            .entry(path)
            .or_default()
            .insert(method.into(), described);
    }
    let mut all = schemas.requests.take_definitions(true);
    all.extend(schemas.answers.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "M2Key till interface",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "For the till beside a terminal, on the terminal's own machine. docs/TILL.md begins at \
                the beginning; docs/PROTOCOL.md says what the values mean.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The address stands in kiosk.addr." }],
        "paths": paths,
        "components": {
            "schemas": all,
            "securitySchemes": { "till": {
                "type": "http", "scheme": "bearer",
                "description": "The text of till.secret, in the agent's data directory.",
            } },
        },
    })
}

impl Operation {
    fn describe(&self, schemas: &mut Schemas) -> Value {
        let is_open = self.at.1 == OPENAPI_PATH;
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "description": self.description,
            "parameters": self.parameters,
            "security": if is_open { json!([]) } else { json!([{ "till": [] }]) },
        });
        if let Some(schema) = self.body {
            let schema = schema(&mut schemas.requests);
            described["requestBody"] = json!({
                "required": true, "content": { "application/json": { "schema": schema } },
            });
        }
        let mut responses = Map::new();
        for (status, description, content) in &self.answers {
            let mut answer = json!({ "description": description });
            if !content.is_null() {
                answer["content"] = content.clone();
            }
            responses.insert(status.to_string(), answer);
        }
        let passed_on: &[ProblemType] = if is_open { &[] } else { PASSED_ON };
        let mut refused: BTreeMap<u16, Vec<ProblemType>> = BTreeMap::new();
        for problem in self.problems.iter().chain(ANYWHERE).chain(passed_on) {
            refused.entry(problem.status()).or_default().push(*problem);
        }
        for (status, problems) in refused {
            let refusal = refusal(status, &problems, &mut schemas.answers);
            responses.insert(status.to_string(), refusal);
        }
        described["responses"] = Value::Object(responses);
        described
    }
}

fn refusal(status: u16, problems: &[ProblemType], generator: &mut SchemaGenerator) -> Value {
    let problem = generator.subschema_for::<Problem>();
    let types: Vec<_> = problems.iter().map(|it| Problem::new(*it).type_).collect();
    let titles: Vec<_> = problems.iter().map(|it| it.title()).collect();
    let schema = json!({ "allOf": [
        problem,
        { "properties": { "type": { "enum": types }, "status": { "const": status } } },
    ] });
    json!({ "description": titles.join("; "), "content": { PROBLEM_JSON: { "schema": schema } } })
}

#[test]
fn the_document_is_what_the_types_and_the_table_of_problems_say() {
    let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/till-openapi.json");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &made).unwrap();
        return;
    }
    assert!(
        made == DOCUMENT,
        "{WRITE}=1 cargo test -p reader-agent openapi"
    );
}

/// Every `warp::path!("v1" / …)` of the till, with its method; a filter that another one goes on from has a
/// path that ends in `..`, or no end of its own.
#[test]
fn every_route_of_the_till_is_described_and_none_is_invented() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let methods = |(path, it): (&String, &Value)| -> Vec<(String, String)> {
        let methods = it.as_object().unwrap().keys();
        methods
            .map(|method| (method.clone(), path.clone()))
            .collect()
    };
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(methods)
        .collect();
    let sources = [
        include_str!("../../till.rs"),
        include_str!("../books.rs"),
        include_str!("../openapi.rs"),
    ];
    let mounted: usize = sources
        .iter()
        .map(|text| {
            ["get", "post", "delete", "put"]
                .map(|it| text.matches(&format!(".and(warp::{it}())")).count())
        })
        .map(|counts| counts.iter().sum::<usize>())
        .sum();
    assert_eq!(described.len(), mounted, "{described:?}");
}

/// What can be refused, by the document, and what docs/TILL.md says about it.
#[test]
fn the_guide_says_whose_move_every_refusal_is() {
    let guide = include_str!("../../../../docs/TILL.md");
    let made = operations(&mut SchemaSettings::draft2020_12().into_generator());
    let own = made.iter().flat_map(|it| it.problems);
    for problem in own.chain(ANYWHERE).chain(PASSED_ON) {
        let slug = format!("`{}`", problem.slug());
        assert!(guide.contains(&slug), "{slug}");
    }
}

//! What can others build against, in a form that their tools read? `GET /openapi.json`.
//!
//! OpenAPI 3.1 of everything on the public listener that is no page. Schemas come from the wire types
//! themselves, refusals from the table of problems; what is said by hand is in `openapi/operations.rs`, and
//! tests compare it with the routes that are mounted.

mod operations;
mod passkeys;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use protocol::problem::{PROBLEM_JSON, Problem, ProblemType};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use warp::{Filter, Reply};

use super::public::insert;
use super::{Public, Routes};
use crate::services::journey::Journey;

/// Where the document is.
pub const OPENAPI_PATH: &str = "/openapi.json";
/// How long others may keep it, in seconds.
const MAX_AGE_S: u32 = 300;

pub fn routes(journey: &Arc<Journey>) -> Routes<Public> {
    let document = document(&journey.app.config.public.origin()).to_string();
    let document = Bytes::from(document);
    let route = warp::path!("openapi.json").and(warp::get()).map(move || {
        let mut response = http::Response::new(document.clone()).into_response();
        insert(&mut response, CONTENT_TYPE, "application/json");
        let kept = format!("public, max-age={MAX_AGE_S}");
        insert(&mut response, CACHE_CONTROL, &kept);
        response
    });
    Routes::new("openapi", route)
}

/// One method at one path.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Value>,
    /// What comes in the body, as JSON.
    body: Option<SchemaOf>,
    /// Any one of these will do; none: everybody may.
    security: Vec<Value>,
    answers: Vec<Answer>,
    problems: &'static [ProblemType],
}

/// What comes back when it is not refused.
struct Answer {
    status: u16,
    description: &'static str,
    media: &'static str,
    schema: Option<SchemaOf>,
    headers: Value,
}

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The whole document, for an authority at this origin.
pub fn document(origin: &str) -> Value {
    // What is read and what is written differ: a request may leave out what an answer always has.
    let settings = || {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings
    };
    let mut requests = settings().for_deserialize().into_generator();
    let mut answers = settings().for_serialize().into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations::all() {
        let method = operation.method.to_lowercase();
        let described = operation.describe(&mut requests, &mut answers);
        let path = paths.entry(operation.path).or_default();
        path.insert(method, described);
    }
    let mut schemas = requests.take_definitions(true);
    schemas.extend(answers.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "M2Key",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Payments at a terminal, by the token that it shows. \
                docs/PROTOCOL.md says what the values mean.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": origin }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": operations::security_schemes(),
        },
    })
}

impl Operation {
    fn describe(&self, requests: &mut SchemaGenerator, answers: &mut SchemaGenerator) -> Value {
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "description": self.description,
            "parameters": self.parameters,
            "security": self.security,
            "responses": self.responses(answers),
        });
        if let Some(schema) = self.body {
            described["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": schema(requests) } },
            });
        }
        described
    }

    fn responses(&self, generator: &mut SchemaGenerator) -> Value {
        let mut responses = Map::new();
        for answer in &self.answers {
            responses.insert(answer.status.to_string(), answer.describe(generator));
        }
        let mut refused: BTreeMap<u16, Vec<ProblemType>> = BTreeMap::new();
        for problem in self.problems.iter().chain(operations::ANYWHERE) {
            refused.entry(problem.status()).or_default().push(*problem);
        }
        for (status, problems) in refused {
            responses.insert(status.to_string(), refusal(status, &problems, generator));
        }
        Value::Object(responses)
    }
}

impl Answer {
    fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let mut described = json!({ "description": self.description, "headers": self.headers });
        if let Some(schema) = self.schema {
            let schema = schema(generator);
            described["content"] = json!({ self.media: { "schema": schema } });
        }
        described
    }
}

fn refusal(status: u16, problems: &[ProblemType], generator: &mut SchemaGenerator) -> Value {
    let problem = generator.subschema_for::<Problem>();
    let types: Vec<_> = problems.iter().map(|it| Problem::new(*it).type_).collect();
    let titles: Vec<_> = problems.iter().map(|it| it.title()).collect();
    let schema = json!({
        "allOf": [
            problem,
            { "properties": { "type": { "enum": types }, "status": { "const": status } } },
        ],
    });
    json!({
        "description": titles.join("; "),
        "content": { PROBLEM_JSON: { "schema": schema } },
    })
}

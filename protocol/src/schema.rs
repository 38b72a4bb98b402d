//! What may stand in the JSON of types that read and write themselves?
//!
//! For all others the schema follows from their attributes.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::charge::Mark;
use crate::ids::TerminalId;
use crate::money::{AMOUNT_MINOR_MAX, Currency, Money};
use crate::problem::{Problem, ProblemType};
use crate::time::Timestamp;
use crate::wire::refunds::{PIN_DIGITS, Pin};

macro_rules! described {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let schema: fn(&mut SchemaGenerator) -> Schema = $schema;
                schema(generator)
            }
        }
    };
}

described!(TerminalId, "TerminalId", |_| json_schema!({
    "type": "string",
    "pattern": "^[0-9]{8}$",
    "description": "The number of a terminal: 7 digits and a check digit.",
}));

described!(Mark, "Mark", |_| json_schema!({
    "type": "integer",
    "minimum": 0,
    "maximum": 99,
    "description": "Two digits that phone, screen, till and receipt of one claim show.",
}));

described!(Currency, "Currency", |_| json_schema!({
    "type": "string",
    "pattern": "^[A-Z]{3}$",
    "description": "ISO 4217.",
}));

described!(Money, "Money", |generator| {
    let currency = generator.subschema_for::<Currency>();
    json_schema!({
        "type": "object",
        "properties": {
            "amount_minor": {
                "type": "integer",
                "format": "int64",
                "minimum": 1,
                "maximum": AMOUNT_MINOR_MAX,
                "description": "In minor units of the currency.",
            },
            "currency": currency,
        },
        "required": ["amount_minor", "currency"],
        "additionalProperties": false,
    })
});

described!(Timestamp, "Timestamp", |_| json_schema!({
    "type": "string",
    "format": "date-time",
    "description": "RFC 3339, UTC, with milliseconds.",
}));

described!(Pin, "Pin", |_| json_schema!({
    "type": "string",
    "pattern": format!("^[0-9]{{{},{}}}$", PIN_DIGITS.start(), PIN_DIGITS.end()),
    "description": "The merchant's secret for refunds.",
}));

described!(Problem, "Problem", |_| {
    let types: Vec<_> = ProblemType::ALL
        .iter()
        .map(|known| Problem::new(*known).type_)
        .collect();
    json_schema!({
        "type": "object",
        "description": "A refusal (RFC 9457).",
        "properties": {
            "type": { "type": "string", "enum": types },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "What is special about this occurrence." },
            "next_step": { "type": "string", "description": "What the reader can do now." },
            "retry_after_s": {
                "type": "integer",
                "minimum": 1,
                "description": "Whole seconds to wait, the same as the Retry-After header.",
            },
        },
        "required": ["type", "title", "status", "next_step"],
    })
});

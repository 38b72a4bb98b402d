//! What is there to ask, who may, and what is answered?

use protocol::ids::{ClaimId, PaymentId};
use protocol::jwk::JwkSet;
use protocol::problem::ProblemType::{self, *};
use protocol::wire::claims::{
    ApprovalRequest, ApprovalResponse, CLAIM_COOKIE, ClaimRequest, ClaimView, PendingResponse,
};
use protocol::wire::history::{HISTORY_PATH, HistoryPage};
use protocol::wire::wallet::{
    IDEMPOTENCY_HEADER, IDEMPOTENCY_KEY_MAX, PaymentRequest, ViewRequest, WalletAccounts,
    WalletPayment, WalletView,
};
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use super::{Answer, OPENAPI_PATH, Operation, of};

/// Every operation may be refused so.
pub(super) const ANYWHERE: &[ProblemType] = &[
    NotFound,
    MethodNotAllowed,
    MalformedRequest,
    Internal,
    TooManyRequests,
    Busy,
    AnswerLate,
    NotReady,
    Fenced,
];

/// Of a token that is presented.
macro_rules! token_problems {
    ($($more:ident),* $(,)?) => {
        &[
            MalformedToken, TokenUnknown, TokenSpent, TokenPassed, TapUnsigned, TagRefused, TagPaused,
            NothingToPay, ChargeHeld,
            TerminalRefused, TooManyMisses, TooManyClaims, CodePaused, BodyTooLarge,
            SignInNeeded, SignInRefused, ProofRefused, NonceNeeded, ProfileLocked, $($more),*
        ]
    };
}

/// Of whoever must be signed in.
macro_rules! signed_in_problems {
    ($($more:ident),* $(,)?) => {
        &[SignInNeeded, SignInRefused, ProofRefused, NonceNeeded, ProfileLocked, $($more),*]
    };
}

pub(super) fn all() -> Vec<Operation> {
    let mut all = claims();
    all.extend(super::passkeys::all());
    all.extend(wallet());
    all.push(history());
    all.extend(published());
    all
}

pub(super) fn security_schemes() -> Value {
    json!({
        "accessToken": {
            "type": "http",
            "scheme": "dpop",
            "description": "An access token (RFC 9068) of the shopper's provider, bound to the wallet's key (RFC 9449).",
        },
        "proof": {
            "type": "apiKey",
            "in": "header",
            "name": "DPoP",
            "description": "A proof of that key for this request, with the nonce of the last answer.",
        },
        "claimCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": CLAIM_COOKIE,
            "description": "Set by the claim: the phone that made it.",
        },
    })
}

fn claims() -> Vec<Operation> {
    let id = || vec![in_path::<ClaimId>("claim", "As the claim's answer says.")];
    vec![
        Operation {
            method: "POST",
            path: "/v1/claims",
            id: "claim",
            summary: "Spend a token and hold its charge",
            description: "A typed code needs an access token as well; a link does not.",
            parameters: Vec::new(),
            body: Some(of::<ClaimRequest>),
            security: vec![json!({}), with_proof()],
            answers: vec![Answer {
                headers: json!({ "Location": text_header(), "Set-Cookie": text_header() }),
                ..json_answer::<ClaimView>(201, "Claimed; the cookie opens it again.")
            }],
            problems: token_problems!(),
        },
        Operation {
            method: "GET",
            path: "/v1/claims/{claim}",
            id: "claimView",
            summary: "Look at a claim",
            description: "For the phone that made it.",
            parameters: id(),
            body: None,
            security: vec![json!({ "claimCookie": [] })],
            answers: vec![json_answer::<ClaimView>(200, "As it stands.")],
            problems: &[ClaimUnknown],
        },
        Operation {
            method: "POST",
            path: "/v1/claims/{claim}/approval",
            id: "approve",
            summary: "Approve a claim: the signature of the payment act",
            description: "Amount and payee as the shopper saw them. The same again is answered by the same bytes.",
            parameters: id(),
            body: Some(of::<ApprovalRequest>),
            security: vec![json!({ "claimCookie": [], "accessToken": [], "proof": [] })],
            answers: vec![
                json_answer::<ApprovalResponse>(200, "Paid."),
                Answer {
                    headers: json!({ "Retry-After": seconds_header() }),
                    ..json_answer::<PendingResponse>(
                        202,
                        "Whoever moves the money has not answered: ask again.",
                    )
                },
            ],
            problems: signed_in_problems!(
                ClaimUnknown,
                ClaimOver,
                AmountDiffers,
                PayeeDiffers,
                AmountMissing,
                NoAccount,
                FundsShort,
                RailDeclined,
                RailSilent,
                StepUpNeeded,
                StepUpRefused,
                LimitReached,
                TerminalRefused,
                BodyTooLarge,
            ),
        },
    ]
}

fn wallet() -> Vec<Operation> {
    vec![
        Operation {
            method: "POST",
            path: "/v1/wallet/views",
            id: "view",
            summary: "Look at what a token would claim",
            description: "Spends nothing. A typed code that is wrong counts as a miss.",
            parameters: Vec::new(),
            body: Some(of::<ViewRequest>),
            security: vec![with_proof()],
            answers: vec![json_answer::<WalletView>(
                200,
                "What a claim would hold now.",
            )],
            problems: token_problems!(),
        },
        Operation {
            method: "POST",
            path: "/v1/wallet/payments",
            id: "pay",
            summary: "Claim and approve in one call",
            description: "The approval is a JWS (typ m2key-approval+jwt) by the key that the access token \
                is bound to; its claims are the schema SignedApproval in docs/PROTOCOL.md.",
            parameters: vec![idempotency_key()],
            body: Some(of::<PaymentRequest>),
            security: vec![with_proof()],
            answers: vec![
                Answer {
                    headers: json!({ "Location": text_header() }),
                    ..json_answer::<WalletPayment>(201, "Paid, with its receipt.")
                },
                Answer {
                    headers: json!({ "Location": text_header(), "Retry-After": seconds_header() }),
                    ..json_answer::<WalletPayment>(
                        202,
                        "Whoever moves the money has not answered: ask again.",
                    )
                },
            ],
            problems: token_problems!(
                ApprovalRefused,
                RequestUnnamed,
                RequestDiffers,
                RequestRunning,
                ClaimOver,
                AmountDiffers,
                PayeeDiffers,
                AmountMissing,
                NoAccount,
                FundsShort,
                RailDeclined,
                RailSilent,
                StepUpNeeded,
                StepUpRefused,
                LimitReached,
            ),
        },
        Operation {
            method: "GET",
            path: "/v1/wallet/payments/{payment}",
            id: "payment",
            summary: "Look at a payment",
            description: "For the shopper who pays, from any of their phones.",
            parameters: vec![in_path::<PaymentId>(
                "payment",
                "As the payment's answer says.",
            )],
            body: None,
            security: vec![with_proof()],
            answers: vec![json_answer::<WalletPayment>(200, "As it stands.")],
            problems: signed_in_problems!(PaymentUnknown),
        },
        Operation {
            method: "GET",
            path: "/v1/wallet/accounts",
            id: "accounts",
            summary: "The shopper's accounts to pay from",
            description: "The one that is offered first stands in front.",
            parameters: Vec::new(),
            body: None,
            security: vec![with_proof()],
            answers: vec![json_answer::<WalletAccounts>(200, "Open ones.")],
            problems: signed_in_problems!(),
        },
    ]
}

fn history() -> Operation {
    let query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    Operation {
        method: "GET",
        path: HISTORY_PATH,
        id: "history",
        summary: "What the shopper paid and got back, the newest first",
        description: "The merchant sees the same.",
        parameters: vec![
            query(
                "cursor",
                "As the page before says.",
                json!({ "type": "string" }),
            ),
            query(
                "limit",
                "Entries of a page.",
                json!({ "type": "integer", "minimum": 1 }),
            ),
        ],
        body: None,
        security: vec![with_proof()],
        answers: vec![json_answer::<HistoryPage>(200, "A page.")],
        problems: signed_in_problems!(),
    }
}

fn published() -> Vec<Operation> {
    vec![
        Operation {
            method: "GET",
            path: "/.well-known/jwks.json",
            id: "keys",
            summary: "The keys that verify what the authority signs",
            description: "JWK set (RFC 7517); it never drops a receipt key.",
            parameters: Vec::new(),
            body: None,
            security: Vec::new(),
            answers: vec![Answer {
                media: "application/jwk-set+json",
                ..json_answer::<JwkSet>(200, "The set.")
            }],
            problems: &[],
        },
        Operation {
            method: "GET",
            path: "/crl/{file}",
            id: "revocationList",
            summary: "The revocation list of an issuing CA",
            description: "Its key identifier in hexadecimal, and .crl.",
            parameters: vec![json!({
                "name": "file",
                "in": "path",
                "required": true,
                "schema": { "type": "string", "pattern": "^[0-9a-f]{40}\\.crl$" },
            })],
            body: None,
            security: Vec::new(),
            answers: vec![
                Answer {
                    status: 200,
                    description: "The list, DER.",
                    media: "application/pkix-crl",
                    schema: Some(|_| json!({}).try_into().expect("an object is a schema")),
                    headers: json!({ "ETag": text_header(), "Last-Modified": text_header() }),
                },
                Answer {
                    status: 304,
                    description: "It is the one the asker has.",
                    media: "",
                    schema: None,
                    headers: json!({}),
                },
            ],
            problems: &[],
        },
        Operation {
            method: "GET",
            path: OPENAPI_PATH,
            id: "openapi",
            summary: "This document",
            description: "OpenAPI 3.1.",
            parameters: Vec::new(),
            body: None,
            security: Vec::new(),
            answers: vec![Answer {
                status: 200,
                description: "The document.",
                media: "application/json",
                schema: Some(|_| {
                    json!({ "type": "object" })
                        .try_into()
                        .expect("an object is a schema")
                }),
                headers: json!({}),
            }],
            problems: &[],
        },
    ]
}

pub(super) fn json_answer<T: JsonSchema>(status: u16, description: &'static str) -> Answer {
    Answer {
        status,
        description,
        media: "application/json",
        schema: Some(of::<T>),
        headers: json!({}),
    }
}

pub(super) fn with_proof() -> Value {
    json!({ "accessToken": [], "proof": [] })
}

pub(super) fn in_path<T: JsonSchema>(name: &str, description: &str) -> Value {
    let mut schema = schema_for!(T);
    schema.remove("$schema");
    schema.remove("title");
    schema.remove("description");
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": description,
        "schema": schema,
    })
}

fn idempotency_key() -> Value {
    json!({
        "name": IDEMPOTENCY_HEADER,
        "in": "header",
        "required": true,
        "description": "Random, in quotes (RFC 8941). The same request again under it is the same payment.",
        "schema": {
            "type": "string",
            "pattern": format!("^\"[A-Za-z0-9-]{{1,{IDEMPOTENCY_KEY_MAX}}}\"$"),
        },
    })
}

fn text_header() -> Value {
    json!({ "schema": { "type": "string" } })
}

fn seconds_header() -> Value {
    json!({ "schema": { "type": "integer", "minimum": 0 } })
}

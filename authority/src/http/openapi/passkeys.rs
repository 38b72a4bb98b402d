//! What is there to ask about passkeys?

use protocol::ids::ClaimId;
use protocol::problem::ProblemType::{self, *};
use protocol::wire::claims::ApprovalRequest;
use protocol::wire::passkeys::{
    ConfirmOptions, PASSKEYS_PATH, PasskeyList, PasskeyOptions, PasskeyRename, PasskeyRequest,
    PasskeyView,
};
use serde_json::{Value, json};

use super::operations::{in_path, json_answer, with_proof};
use super::{Answer, Operation, of};

/// Whoever comes with neither an access token nor a form token of ours is refused as a form.
const PROBLEMS: &[ProblemType] = &[
    SignInNeeded,
    SignInRefused,
    ProofRefused,
    NonceNeeded,
    FormRefused,
    FreshSignInNeeded,
    ProfileLocked,
    PasskeyRefused,
    StepUpNeeded,
    StepUpRefused,
    LimitReached,
    AlreadyExists,
    Unknown,
    BodyTooLarge,
];
/// And what stands in the way of an approval.
const CONFIRM_PROBLEMS: &[ProblemType] = &[
    SignInNeeded,
    SignInRefused,
    ProofRefused,
    NonceNeeded,
    FormRefused,
    ProfileLocked,
    StepUpNeeded,
    StepUpRefused,
    LimitReached,
    ClaimUnknown,
    ClaimOver,
    AmountDiffers,
    PayeeDiffers,
    NoAccount,
    BodyTooLarge,
];

pub(super) fn all() -> Vec<Operation> {
    vec![confirm(), options(), add(), list(), rename(), remove()]
}

fn confirm() -> Operation {
    Operation {
        method: "POST",
        path: "/v1/claims/{claim}/approval/options",
        id: "confirmOptions",
        summary: "What a passkey has to sign to confirm this payment",
        description: "The approval as it will be sent, without the assertion.",
        parameters: vec![in_path::<ClaimId>("claim", "As the claim's answer says.")],
        body: Some(of::<ApprovalRequest>),
        security: vec![json!({ "claimCookie": [], "accessToken": [], "proof": [] })],
        answers: vec![json_answer::<ConfirmOptions>(200, "For WebAuthn.")],
        problems: CONFIRM_PROBLEMS,
    }
}

fn options() -> Operation {
    Operation {
        method: "POST",
        path: "/v1/passkeys/options",
        id: "passkeyOptions",
        summary: "How to make a passkey",
        description: "Needs a sign-in of the last minutes.",
        parameters: Vec::new(),
        body: None,
        security: vec![with_proof()],
        answers: vec![json_answer::<PasskeyOptions>(200, "For WebAuthn.")],
        problems: PROBLEMS,
    }
}

fn add() -> Operation {
    Operation {
        method: "POST",
        path: PASSKEYS_PATH,
        id: "addPasskey",
        summary: "Add a passkey to the profile that its options named",
        description: "Needs a sign-in of the last minutes.",
        parameters: Vec::new(),
        body: Some(of::<PasskeyRequest>),
        security: vec![with_proof()],
        answers: vec![json_answer::<PasskeyView>(201, "Added.")],
        problems: PROBLEMS,
    }
}

fn list() -> Operation {
    Operation {
        method: "GET",
        path: PASSKEYS_PATH,
        id: "passkeys",
        summary: "The shopper's passkeys",
        description: "Without what verifies them.",
        parameters: Vec::new(),
        body: None,
        security: vec![with_proof()],
        answers: vec![json_answer::<PasskeyList>(200, "All of them.")],
        problems: PROBLEMS,
    }
}

fn rename() -> Operation {
    Operation {
        method: "POST",
        path: "/v1/passkeys/{passkey}",
        id: "renamePasskey",
        summary: "Call a passkey otherwise",
        description: "",
        parameters: vec![passkey()],
        body: Some(of::<PasskeyRename>),
        security: vec![with_proof()],
        answers: vec![nothing()],
        problems: PROBLEMS,
    }
}

fn remove() -> Operation {
    Operation {
        method: "DELETE",
        path: "/v1/passkeys/{passkey}",
        id: "removePasskey",
        summary: "Remove a passkey",
        description: "Needs a sign-in of the last minutes.",
        parameters: vec![passkey()],
        body: None,
        security: vec![with_proof()],
        answers: vec![nothing()],
        problems: PROBLEMS,
    }
}

fn passkey() -> Value {
    json!({
        "name": "passkey",
        "in": "path",
        "required": true,
        "description": "The credential id, base64url.",
        "schema": { "type": "string", "minLength": 1 },
    })
}

fn nothing() -> Answer {
    Answer {
        status: 204,
        description: "Done.",
        media: "",
        schema: None,
        headers: json!({}),
    }
}

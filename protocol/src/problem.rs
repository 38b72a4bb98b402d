//! How is a refusal said, so that the reader knows whose move it is?
//!
//! RFC 9457 `application/problem+json`; `type` is `urn:m2key:problem:<slug>`. One table: slug,
//! HTTP status, title, next step.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

pub const PROBLEM_JSON: &str = "application/problem+json";
const URN: &str = "urn:m2key:problem:";

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident $slug:literal $status:literal $title:literal $next:literal;)+) => {
        /// Every refusal there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType { $($(#[$doc])* $name),+ }

        impl ProblemType {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),+ }
            }

            /// The HTTP status it is sent with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }

            /// What the reader can do now.
            pub const fn next_step(self) -> &'static str {
                match self { $(Self::$name => $next),+ }
            }
        }
    };
}

problems! {
    // the shopper's move
    MalformedToken "malformed-token" 400 "This is not a token of a terminal" "Tap or scan again, or compare the code with the screen.";
    TokenUnknown "token-unknown" 403 "No terminal shows this token" "Tap or scan the terminal in front of you.";
    TokenSpent "token-spent" 409 "This token was already used" "Tap or scan again: the terminal shows a new one.";
    TokenPassed "token-passed" 410 "This token's time has passed" "Tap or scan again: the terminal shows a new one.";
    TapUnsigned "tap-unsigned" 403 "This link was not read from the terminal's tag" "Tap the tag itself, or scan the code on the screen.";
    TagRefused "tag-refused" 403 "This tag does not count at this terminal" "Scan the code on the screen instead, and tell the merchant.";
    TagPaused "tag-paused" 429 "The tag of this terminal pauses" "Scan the code on the screen instead, or wait.";
    NothingToPay "nothing-to-pay" 409 "The terminal asks for no payment at the moment" "Wait until the till shows the amount, then tap or scan again.";
    ChargeHeld "charge-held" 409 "Somebody else is paying this" "Wait until the screen asks again, then tap or scan.";
    TerminalRefused "terminal-refused" 403 "This terminal is out of service" "Ask the merchant for another way to pay.";
    ClaimUnknown "claim-unknown" 404 "No such claim for this phone" "Tap or scan again.";
    ClaimOver "claim-over" 410 "The time to approve is over" "Tap or scan again.";
    AmountDiffers "amount-differs" 409 "The amount is not what the terminal asks for" "Look at the amount again before you approve.";
    PayeeDiffers "payee-differs" 409 "The payee is not who the terminal belongs to" "Do not approve. Tap or scan again and compare the payee.";
    AmountMissing "amount-missing" 400 "This terminal needs an amount from you" "Send the amount you want to pay.";
    SignInNeeded "sign-in-needed" 401 "Sign in first" "Sign in with your account and try again.";
    SignInOver "sign-in-over" 410 "This sign-in has ended" "Start the sign-in again: nothing was lost.";
    SignInRefused "sign-in-refused" 401 "The sign-in is not accepted" "Sign in again with an account this authority knows.";
    FreshSignInNeeded "fresh-sign-in-needed" 403 "This needs a sign-in of the last minutes" "Sign in again, then repeat it.";
    FormRefused "form-refused" 403 "This form is not from a page of ours" "Open the page again and repeat it there.";
    IdentityTaken "identity-taken" 409 "This account opens another profile" "Unlink it there or delete that profile, then link it here.";
    IdentityLast "identity-last" 409 "It is the only account that opens your profile" "Link another one first, or delete the profile.";
    ProfileInUse "profile-in-use" 409 "The profile cannot go yet" "Settle what is named, then try again.";
    ProfileLocked "profile-locked" 403 "This profile is locked" "Unlock it, or ask the operator of this service.";
    ProofRefused "proof-refused" 401 "The proof of the key is not accepted" "Make a new DPoP proof for this request and send it again.";
    NonceNeeded "nonce-needed" 401 "The proof needs the nonce of this answer" "Put the DPoP-Nonce of this answer into a new proof and send the request again.";
    NoAccount "no-account" 403 "There is no account to pay from" "Open an account with the operator of this service.";
    FundsShort "funds-short" 402 "The account does not hold enough" "Choose another account or top it up.";
    CapReached "cap-reached" 403 "This account may not pay so much" "Pay less, wait for the next month, or choose another account.";
    RailDeclined "rail-declined" 402 "The account may not pay this" "Choose another account.";
    RailSilent "rail-silent" 504 "Whoever keeps the account did not answer in time" "Nothing is paid, and nothing stays taken. Choose another account, or tap or scan again.";
    StepUpNeeded "step-up-needed" 403 "This payment needs a stronger confirmation" "Confirm it with your passkey.";
    StepUpRefused "step-up-refused" 403 "The confirmation does not count" "Confirm the payment again with your passkey.";
    PasskeyRefused "passkey-refused" 400 "This passkey cannot be added" "Try again with an authenticator that asks for your finger, face or PIN.";
    LimitReached "limit-reached" 403 "A limit is reached" "Pay less, or wait until the limit ends.";
    TooManyClaims "too-many-claims" 429 "You hold other payments already" "Finish them, or wait until they end.";
    TooManyRequests "too-many-requests" 429 "Too many requests from this address" "Wait a minute, then try again.";
    ApprovalRefused "approval-refused" 403 "The signed approval is not accepted" "Look at the payment again, and sign what the terminal asks for.";
    PaymentUnknown "payment-unknown" 404 "No such payment of this shopper" "Compare the id with the answer to the payment.";
    RequestUnnamed "request-unnamed" 400 "The Idempotency-Key is missing or not good" "Send a random one in quotes, and the same again when you ask again.";
    RequestDiffers "request-differs" 422 "This Idempotency-Key stands for another request" "Use a new one for a new payment.";
    RequestRunning "request-running" 409 "This request is being carried out" "Send it again, unchanged, when the time of Retry-After is over.";
    TooManyMisses "too-many-misses" 429 "Too many wrong codes" "Wait, or tap or scan instead.";
    CodePaused "code-paused" 429 "The typed code of this terminal pauses" "Tap or scan instead, or wait for the next code.";
    // the terminal's move
    ChargeUnknown "charge-unknown" 404 "No such charge at this terminal" "Start the charge again.";
    ChargeOpen "charge-open" 409 "Another charge is still on offer" "Cancel it or wait until it is paid.";
    ChargeEnded "charge-ended" 409 "This charge has ended" "Start a new charge.";
    ChargeDiffers "charge-differs" 409 "A charge with this id has other contents" "Use a new id for a new charge.";
    ChargeUnpaid "charge-unpaid" 409 "This charge is not paid" "Refund only what was paid: look for the charge on the receipt.";
    RefundTooMuch "refund-too-much" 409 "That is more than is left of the payment" "Look at what was given back already, and refund less.";
    RefundCap "refund-cap" 403 "So much may not be refunded today" "Refund less, wait for the next business day, or have the operator raise the cap.";
    RefundDiffers "refund-differs" 409 "A refund with this id has other contents" "Use a new id for a new refund.";
    PayerGone "payer-gone" 409 "Whoever paid has deleted the profile, and the account with it" "Give the money back outside of this service.";
    PinRefused "pin-refused" 403 "The PIN is not right" "Type the merchant's PIN again.";
    PinLocked "pin-locked" 429 "Too many wrong PINs" "Wait, or have the operator set a new PIN.";
    PinMissing "pin-missing" 403 "This merchant has no PIN, and so no refunds" "Have the operator set one.";
    EpochOutOfHorizon "epoch-out-of-horizon" 409 "No schedule that far ahead" "Ask again when the schedule comes nearer its end.";
    // the integrator's move
    MalformedRequest "malformed-request" 400 "The request cannot be read" "Compare it with the protocol description.";
    BodyTooLarge "body-too-large" 413 "The request is too large" "Send less.";
    NotFound "not-found" 404 "There is nothing here" "Check the address.";
    MethodNotAllowed "method-not-allowed" 405 "This address does not take that method" "Compare it with the protocol description.";
    ForeignCaller "foreign-caller" 403 "This address is for programs on this machine" "Call it from a program, by its own address, with neither Origin nor another Host; a web page cannot.";
    CertificateNeeded "certificate-needed" 401 "A client certificate is needed here" "Connect with the certificate of this machine.";
    CertificateRefused "certificate-refused" 403 "This certificate may not do that" "Use the certificate of the right machine, or enrol it again.";
    JoinTokenRefused "join-token-refused" 401 "The join token is not good" "Ask the operator for a new join token.";
    RequestRefused "request-refused" 400 "The certificate request is refused" "Make a new request as the enrolment page describes.";
    AlreadyExists "already-exists" 409 "It exists already" "Choose another name, or use what is there.";
    Unknown "unknown" 404 "No such thing" "List what there is, then try again.";
    KeyReused "key-reused" 409 "This key was certified before" "Make a fresh key and ask again.";
    SuccessorExists "successor-exists" 409 "This certificate was renewed with another key" "Tell the operator at once: somebody may hold a copy of this machine's key.";
    RenewalTooLate "renewal-too-late" 403 "This certificate expired too long ago to be renewed" "Ask the operator for a new join token and enrol again.";
    // the operator's move
    ConsentNeeded "consent-needed" 403 "Other operators must consent first" "Have them sign the request, then carry it out.";
    ConsentRefused "consent-refused" 403 "This consent does not count" "Compare it with the request: who asked, who consented, and until when.";
    WrongKeyState "wrong-key-state" 409 "The key is not in the state for this step" "List the keys, then take the step that comes next.";
    WouldStrand "would-strand" 409 "Somebody would be left without" "Wait for those who are named, or replace what they depend on first.";
    BooksDiffer "books-differ" 409 "The books do not add up to the ledger" "Keep the store as it is, run `account check`, and compare with a backup.";
    Fenced "fenced" 503 "This database is older than the world" "An operator must raise its generation first.";
    ProviderRefused "provider-refused" 502 "The identity provider's answer is not accepted" "Sign in with another account; the operator sees why.";
    // later
    ProviderDown "provider-down" 503 "The identity provider does not answer" "Wait a moment and sign in again, or use another account: nothing was lost.";
    Busy "busy" 503 "Too much at once" "Try again in a moment.";
    AnswerLate "answer-late" 503 "The answer takes too long" "Ask again in a moment, unchanged: what was done meanwhile is not done twice.";
    NotReady "not-ready" 503 "The service is not ready" "Try again later; the operator sees why.";
    // ours
    Internal "internal" 500 "Something went wrong here" "Try again; if it stays, give the operator the time of this message.";
}

/// The body of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub type_: String,
    pub title: Cow<'static, str>,
    pub status: u16,
    /// What is special about this occurrence; never a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub next_step: Cow<'static, str>,
    /// Whole seconds to wait, the same as the Retry-After header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

impl Problem {
    pub fn new(problem: ProblemType) -> Self {
        Self {
            type_: format!("{URN}{}", problem.slug()),
            title: problem.title().into(),
            status: problem.status(),
            detail: None,
            next_step: problem.next_step().into(),
            retry_after_s: None,
        }
    }

    pub fn with_detail(mut self, detail: impl core::fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The type, if this side knows it.
    pub fn problem_type(&self) -> Option<ProblemType> {
        let slug = self.type_.strip_prefix(URN)?;
        ProblemType::ALL
            .iter()
            .copied()
            .find(|known| known.slug() == slug)
    }
}

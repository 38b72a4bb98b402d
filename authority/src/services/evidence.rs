//! Does what was kept of a payment still prove it?
//!
//! ```text
//! bytes as they lie in the database ─▶ signature ─▶ what they cover = the payment as it lies there?
//!                                                └▶ their hash = what the audit chain recorded?
//! ```
//! The chain is what finds bytes that somebody exchanged together with the key that verifies them. That
//! the chain itself holds is for `audit verify` to say; here each row is compared with its own hash.

use protocol::dpop::Thumbprint;
use protocol::ids::{ReceiptId, RefundId};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::{self, Purpose, Verified};
use protocol::money::Money;
use protocol::receipt::ReceiptClaims;
use protocol::refund::RefundClaims;
use protocol::step_up::Confirmable;
use protocol::time::Timestamp;
use protocol::wire::wallet::{APPROVAL_FUTURE_MS, APPROVAL_PAST_MS, SignedApproval};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::passkeys::webauthn::{self, Brought, RelyingParty};
use super::step_up::b64;
use crate::app::App;
use crate::journal::hex;
use crate::store::{
    AskedPayment, Evidence, Kept, KeptApproval, KeptAssertion, KeptReply, Moment, Proof,
};

/// Verifies evidence as this authority: its address, its relying party, its keys.
pub struct Judge {
    origin: String,
    party: RelyingParty,
    keys: JwkSet,
}

impl Judge {
    pub fn of(app: &App) -> Self {
        Self {
            origin: app.config.public.origin(),
            party: RelyingParty::of_host(app.config.public.link_host.as_str()),
            keys: app.keyring().jwks().clone(),
        }
    }

    /// Says what the evidence of this moment proves now, if it has any.
    pub fn judge(&self, moment: &mut Moment) {
        let Some(kept) = moment.kept.take() else {
            return;
        };
        let mut finding = Finding::new(moment);
        for stored in &kept.rows {
            let row = &stored.row;
            let changed = row.hash() != stored.hash;
            finding.demand(!changed, || {
                format!("row {} of the audit chain was changed", row.sequence)
            });
        }
        let proves = match &kept.evidence {
            Evidence::Approval { approval, at } => {
                self.approval(&mut finding, &kept, approval, *at)
            }
            Evidence::Assertion(assertion) => self.assertion(&mut finding, &kept, assertion),
            Evidence::Reply(reply) => replied(&mut finding, &kept, reply),
            Evidence::Gone => {
                finding.fault("the audit chain recorded it, and it is not there any more");
                "nothing: only the audit chain says that it was once here"
            }
            Evidence::SignInAlone => {
                "that a shopper was signed in: nothing that they signed was asked for"
            }
            Evidence::Receipt { receipt, jws } => self.receipt(&mut finding, &kept, *receipt, jws),
            Evidence::RefundReceipt {
                refund,
                amount,
                jws,
            } => self.refund_receipt(&mut finding, &kept, (*refund, *amount), jws),
        };
        let faults = finding.faults;
        moment.proof = Some(Proof {
            holds: faults.is_empty(),
            proves: proves.into(),
            faults,
        });
    }

    fn approval(
        &self,
        finding: &mut Finding<'_>,
        kept: &Kept,
        approval: &KeptApproval,
        at: Timestamp,
    ) -> &'static str {
        finding.fact("key", approval.key);
        let digest = hex(&Sha256::digest(approval.jws.as_bytes()));
        let recorded = |body: &Value| {
            body["jws_sha256"] == digest.as_str() && body["key"] == approval.key.to_string()
        };
        finding.recorded(kept, recorded);
        match signed_by(approval) {
            Ok(signed) => {
                self.covers(finding, kept, &signed);
                let jti: [u8; 32] = Sha256::digest(signed.jti.as_bytes()).into();
                finding.demand(jti == approval.jti, || {
                    "its jti is not the one beside it".into()
                });
                let made = Timestamp::from_secs(signed.iat);
                let in_time = made >= at - APPROVAL_PAST_MS && made <= at + APPROVAL_FUTURE_MS;
                finding.demand(in_time, || format!("it was signed at {made}, and not then"));
            }
            Err(fault) => finding.fault(fault),
        }
        "whoever holds this key, to which the shopper's access token was bound, agreed to this amount, \
         payee and account"
    }

    /// What the wallet's key signed, beside what was asked for.
    fn covers(&self, finding: &mut Finding<'_>, kept: &Kept, signed: &SignedApproval) {
        finding.fact("amount", signed.amount);
        finding.fact("payee", signed.payee);
        finding.fact("account", signed.account);
        finding.fact("token_hash", &signed.token_hash);
        finding.fact("signed_at", Timestamp::from_secs(signed.iat));
        finding.demand(signed.aud == self.origin, || {
            format!("it was made for {}", signed.aud)
        });
        let Some(asked) = &kept.asked else { return };
        finding.same("amount", signed.amount, asked.amount);
        finding.same("payee", signed.payee, asked.payee);
        finding.same("account", signed.account, asked.account);
    }

    fn assertion(
        &self,
        finding: &mut Finding<'_>,
        kept: &Kept,
        assertion: &KeptAssertion,
    ) -> &'static str {
        let proves = "the holder of this passkey, verified by its authenticator, confirmed this amount, \
                      payee and account of this claim";
        finding.fact("passkey", b64(&assertion.passkey));
        let Some(asked) = &kept.asked else {
            finding.fault("there is no payment that it could be of");
            return proves;
        };
        let challenge = challenge_again(finding, kept, asked, assertion.nonce);
        let client_data = hex(&Sha256::digest(&assertion.client_data));
        let signature = hex(&Sha256::digest(&assertion.signature));
        finding.recorded(kept, |body| {
            body["client_data_sha256"] == client_data.as_str()
                && body["signature_sha256"] == signature.as_str()
        });
        let brought = Brought {
            authenticator_data: assertion.authenticator_data.clone(),
            client_data: assertion.client_data.clone(),
            signature: assertion.signature.clone(),
        };
        match &assertion.public_point {
            None => finding.fault("the passkey that made it is not known any more"),
            Some(point) => match webauthn::verify(&self.party, &challenge, point, brought) {
                Ok(signed) => {
                    finding.fact("user_verified", "yes");
                    finding.fact("counter", signed.counter);
                }
                Err(bad) => finding.fault(bad),
            },
        }
        proves
    }

    fn receipt(
        &self,
        finding: &mut Finding<'_>,
        kept: &Kept,
        receipt: ReceiptId,
        jws: &str,
    ) -> &'static str {
        if let Some(claims) = self.ours::<ReceiptClaims>(finding, jws, |it| it.iat) {
            finding.same("receipt", claims.receipt, receipt);
            finding.same("claim", claims.claim, kept.claim);
            finding.same_as_asked(kept, |it| it.payment, "payment", claims.payment);
            finding.same_as_asked(kept, |it| it.amount, "amount", claims.amount);
            finding.same_as_asked(kept, |it| it.payee, "payee", claims.payee.id);
        }
        "that this authority stated the payment"
    }

    fn refund_receipt(
        &self,
        finding: &mut Finding<'_>,
        kept: &Kept,
        (refund, amount): (RefundId, Money),
        jws: &str,
    ) -> &'static str {
        if let Some(claims) = self.ours::<RefundClaims>(finding, jws, |it| it.iat) {
            finding.same("refund", claims.refund, refund);
            finding.same("amount", claims.amount, amount);
            finding.same_as_asked(kept, |it| it.payment, "payment", claims.payment);
            finding.same_as_asked(kept, |it| it.amount, "payment of", claims.paid);
            finding.same_as_asked(kept, |it| it.payee, "payee", claims.payee.id);
        }
        "that this authority stated the refund"
    }

    /// A statement of this authority. What came after the taint of its key is nobody's.
    fn ours<C: Purpose>(
        &self,
        finding: &mut Finding<'_>,
        jws: &str,
        made_at: impl FnOnce(&C) -> i64,
    ) -> Option<C> {
        let verified: Verified<C> = match jws::verify_kept(jws, &self.keys) {
            Ok(verified) => verified,
            Err(bad) => {
                finding.fault(bad);
                return None;
            }
        };
        finding.fact("key", verified.kid());
        let forged = verified.is_past_taint(made_at(verified.claims()));
        finding.demand(!forged, || "signed after its key was tainted".into());
        Some(verified.into_claims())
    }
}

/// The statement, if the key beside it signed it and is the one that is named.
fn signed_by(approval: &KeptApproval) -> Result<SignedApproval, String> {
    let key = Jwk::from_point(&approval.public_point).map_err(|bad| format!("its key is {bad}"))?;
    if Thumbprint::of(&key) != approval.key {
        return Err("the key beside it has another thumbprint".into());
    }
    let keys = JwkSet { keys: vec![key] };
    let verified = jws::verify::<SignedApproval>(&approval.jws, &keys);
    Ok(verified.map_err(|bad| bad.to_string())?.into_claims())
}

/// From the payment as it is recorded: never from what the passkey signed.
fn challenge_again(
    finding: &mut Finding<'_>,
    kept: &Kept,
    asked: &AskedPayment,
    nonce: [u8; 32],
) -> [u8; 32] {
    let confirmable = Confirmable {
        claim: kept.claim,
        amount: asked.amount,
        payee: asked.payee,
        account: asked.account,
        nonce,
    };
    finding.fact("amount", asked.amount);
    finding.fact("payee", asked.payee);
    finding.fact("account", asked.account);
    finding.fact("nonce", b64(&nonce));
    finding.fact("challenge", b64(&confirmable.challenge()));
    confirmable.challenge()
}

fn replied(finding: &mut Finding<'_>, kept: &Kept, reply: &KeptReply) -> &'static str {
    finding.fact("talk", reply.talk);
    finding.fact("stage", &reply.stage);
    finding.fact("wrong_numbers", reply.wrong);
    match reply.offered {
        Some(offered) => {
            finding.fact("amount", offered);
            finding.same_as_asked(kept, |it| it.amount, "amount", offered);
        }
        None => finding.fault("it was offered no amount"),
    }
    let offered = serde_json::to_value(reply.offered).unwrap_or_default();
    finding.recorded(kept, |body| {
        body["talk"] == reply.talk.to_string() && body["amount"] == offered
    });
    "that a text came from this phone with the number that was sent to it alone, for this amount; nobody \
     signed it: it is the word of this authority and of the carrier"
}

/// What is found while evidence is judged.
struct Finding<'a> {
    moment: &'a mut Moment,
    faults: Vec<String>,
}

impl<'a> Finding<'a> {
    fn new(moment: &'a mut Moment) -> Self {
        Self {
            moment,
            faults: Vec::new(),
        }
    }

    fn fact(&mut self, name: &str, value: impl ToString) {
        self.moment.facts.insert(name.into(), value.to_string());
    }

    fn fault(&mut self, why: impl ToString) {
        self.faults.push(why.to_string());
    }

    fn demand(&mut self, met: bool, otherwise: impl FnOnce() -> String) {
        if !met {
            self.faults.push(otherwise());
        }
    }

    fn same<T: PartialEq + ToString>(&mut self, what: &str, covered: T, asked: T) {
        let met = covered == asked;
        self.demand(met, || {
            let (covered, asked) = (covered.to_string(), asked.to_string());
            format!("it covers {what} {covered}, and the books say {asked}")
        });
    }

    fn same_as_asked<T: PartialEq + ToString>(
        &mut self,
        kept: &Kept,
        field: impl FnOnce(&AskedPayment) -> T,
        what: &str,
        covered: T,
    ) {
        if let Some(asked) = &kept.asked {
            self.same(what, covered, field(asked));
        }
    }

    /// Whether one of the rows of the audit chain is of exactly this.
    fn recorded(&mut self, kept: &Kept, is: impl Fn(&Value) -> bool) {
        let bodies = kept
            .rows
            .iter()
            .map(|it| serde_json::from_str(&it.row.body));
        let met = bodies.flatten().any(|body: Value| is(&body));
        self.demand(met, || match kept.rows.is_empty() {
            true => "the audit chain says nothing of it".into(),
            false => "the audit chain recorded another".into(),
        });
    }
}

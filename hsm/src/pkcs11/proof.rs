//! Is the key under a label still the one that answered before?
//!
//! A session that was lost may be made again on another HSM token, or on one that somebody initialised anew,
//! and the label is there again. So what a session finds under a label is compared before anything made
//! with it goes out:
//!
//! ```text
//!  secret keys   looked up ──▶ a mac of a fixed message, as before? ──▶ used
//!  signing keys  looked up ──▶ signs ──▶ first of this session, or one of many? ──▶ verified ──▶ handed out
//! ```
//! A session looks each key up once, so this costs a few commands for every session that is made, and a
//! verification here for one of [`VERIFIED_EVERY`] signatures.

use cryptoki::{mechanism::Mechanism, object::ObjectHandle};
use p256::ecdsa::{Signature, signature::hazmat::PrehashVerifier};
use sha2::{Digest, Sha256};

use super::{
    answers::{Answer, Same},
    module::Module,
    ops,
    session::{Part, TokenSession},
    template,
};
use crate::{
    HsmError, KeyLabel,
    failure::{Class, Failure},
};

/// No message of ours begins like this: not of a binding, an hour, nor a tag.
const FIXED: &[u8] = b"m2key: is this still the same key?";
/// A device that goes wrong within a session is found out after so many signatures of a key at the latest.
pub const VERIFIED_EVERY: u32 = 256;

/// The object that is this part of the key with this label, once it has shown that it is the same.
pub(super) fn proven(
    session: &mut TokenSession,
    module: &Module,
    part: Part,
    label: &KeyLabel,
) -> Result<ObjectHandle, Failure> {
    if let Some(handle) = session.known(part, label) {
        return Ok(handle);
    }
    let handle = session.look_up(part, label)?;
    let answer = match part {
        // Nothing is known of it yet: what it signs is verified, and what it says is compared, by whoever asked.
        Part::SigningPrivate | Part::SigningPublic => None,
        Part::Sealing | Part::Binding | Part::Cmac => {
            let answered =
                session.prove(|session| answers_as_before(session, module, part, label, handle));
            let (same, known) = answered?;
            judge(session, part, label, same)?;
            Some(known)
        }
    };
    session.keep(part, label, handle, answer);
    Ok(handle)
}

/// A signature is handed out once this has seen it.
pub(super) fn pass(
    session: &mut TokenSession,
    label: &KeyLabel,
    digest: &[u8; 32],
    signature: &[u8; 64],
) -> Result<(), Failure> {
    let uses = session.uses(Part::SigningPrivate, label);
    if uses.is_multiple_of(VERIFIED_EVERY) {
        let same = verify(session, label, digest, signature)?;
        judge(session, Part::SigningPrivate, label, same)?;
    }
    session.note_use(Part::SigningPrivate, label);
    Ok(())
}

/// The public half is what it was, or it is learnt.
pub(super) fn point(
    session: &mut TokenSession,
    label: &KeyLabel,
    point: &[u8; 65],
) -> Result<(), Failure> {
    let same = session.answers().learn_point(label, point);
    judge(session, Part::SigningPublic, label, same)
}

/// Once more, of a key that was another one: has somebody put the right one back?
pub(super) fn prove_again(
    session: &mut TokenSession,
    module: &Module,
    part: Part,
    label: &KeyLabel,
) -> Result<(), Failure> {
    session.forget(part, label);
    match part {
        // Nothing to compare it with: it was disowned meanwhile.
        Part::Sealing | Part::Binding | Part::Cmac
            if session.answers().answer(part, label).is_none() =>
        {
            Ok(())
        }
        Part::Sealing | Part::Binding | Part::Cmac => {
            proven(session, module, part, label).map(drop)
        }
        Part::SigningPublic => ops::public_key(session, label).map(drop),
        Part::SigningPrivate => {
            let digest = Sha256::digest(FIXED).into();
            session.prove(|session| ops::sign(session, module, label, &digest).map(drop))
        }
    }
}

fn judge(
    session: &mut TokenSession,
    part: Part,
    label: &KeyLabel,
    same: Same,
) -> Result<(), Failure> {
    session.answers().note(part, label, same);
    match same {
        Same::Yes => Ok(()),
        Same::No => {
            session.forget(part, label);
            Err(Failure::key_differs(label))
        }
    }
}

/// Whether it does, and what it answered before.
fn answers_as_before(
    session: &mut TokenSession,
    module: &Module,
    part: Part,
    label: &KeyLabel,
    key: ObjectHandle,
) -> Result<(Same, Answer), Failure> {
    let known = match session.answers().answer(part, label) {
        Some(known) => known,
        None => {
            let first = first_answer(session, module, part, key)?;
            session.answers().learn(part, label, first)
        }
    };
    let answer = match (&known.blob, part) {
        (Some(blob), _) => of_seed(session, module, key, blob),
        (None, Part::Cmac) => ops::cmac(session, key, FIXED).map(Vec::from),
        (None, _) => ops::hmac(session, key, FIXED).map(Vec::from),
    };
    match answer {
        Ok(answer) => Ok((known.compare(&answer), known)),
        Err(failure) if failure.class == Class::NotOurKey => Ok((Same::No, known)),
        Err(failure) => Err(failure),
    }
}

/// A sealing key does nothing but wrap, so it gets a seed of nobody, which stays in memory.
fn first_answer(
    session: &mut TokenSession,
    module: &Module,
    part: Part,
    key: ObjectHandle,
) -> Result<Answer, Failure> {
    let (blob, answer) = match part {
        Part::Sealing => {
            let blob = ops::wrapped_seed(session, module, key)?;
            let answer = of_seed(session, module, key, &blob)?;
            (Some(blob), answer)
        }
        Part::Cmac => (None, ops::cmac(session, key, FIXED)?.to_vec()),
        _ => (None, ops::hmac(session, key, FIXED)?.to_vec()),
    };
    Ok(Answer { blob, answer })
}

fn of_seed(
    session: &mut TokenSession,
    module: &Module,
    sealing: ObjectHandle,
    blob: &[u8],
) -> Result<Vec<u8>, Failure> {
    session.count("unwrap");
    let seed = session.raw().unwrap_key(
        &Mechanism::AesKeyWrap,
        sealing,
        blob,
        &template::unsealed_seed(),
    )?;
    let mac = ops::hmac(session, seed, FIXED);
    ops::destroy(session, module, seed)?;
    mac.map(Vec::from)
}

/// Under the public half that is known, or that this HSM token shows now.
fn verify(
    session: &mut TokenSession,
    label: &KeyLabel,
    digest: &[u8; 32],
    signature: &[u8; 64],
) -> Result<Same, Failure> {
    if session.answers().verifying_key(label).is_none() {
        match ops::public_half(session, label) {
            Ok(point) => self::point(session, label, &point)?,
            // A private half alone: what nobody can compare is believed, as on every first use.
            Err(failure) if matches!(failure.error, HsmError::KeyUnknown { .. }) => {
                return Ok(Same::Yes);
            }
            Err(failure) => return Err(failure),
        }
    }
    let key = session.answers().verifying_key(label);
    let signature = Signature::from_slice(signature).ok();
    let verifies = match (key, signature) {
        (Some(key), Some(signature)) => key.verify_prehash(digest, &signature).is_ok(),
        _ => false,
    };
    Ok(Same::from(verifies))
}

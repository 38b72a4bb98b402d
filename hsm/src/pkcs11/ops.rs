//! How is each verb of [`crate::Hsm`] said in PKCS#11?

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectHandle},
};

use zeroize::Zeroizing;

use super::{
    bindings,
    low_s::low_s,
    module::Module,
    proof,
    session::{Part, TokenSession},
    template::{self, BLOB_LEN},
};
use crate::{
    Cmac, HsmError, KeyKind, KeyLabel, Mac, SealedSeed, SealingKeys, binding,
    failure::{Class, Failure},
};

/// An uncompressed SEC 1 point of P-256: 04, x, y.
const POINT_LEN: usize = 65;

pub(crate) fn seal_new_seed(
    session: &mut TokenSession,
    module: &Module,
    keys: &SealingKeys,
    context: &[u8],
) -> Result<SealedSeed, Failure> {
    let sealing = proof::proven(session, module, Part::Sealing, &keys.sealing)?;
    let blob = wrapped_seed(session, module, sealing)?;
    let binding = bind(session, module, keys, context, &blob)?;
    Ok(SealedSeed {
        context: context.to_vec(),
        blob,
        binding,
    })
}

pub(crate) fn hmac_batch(
    session: &mut TokenSession,
    module: &Module,
    keys: &SealingKeys,
    sealed: &SealedSeed,
    messages: &[Vec<u8>],
) -> Result<Vec<Mac>, Failure> {
    let seed = unseal(session, module, keys, sealed)?;
    let macs = messages
        .iter()
        .map(|message| hmac(session, seed, message).map(Mac))
        .collect();
    destroy(session, module, seed)?;
    macs
}

pub(crate) fn sign(
    session: &mut TokenSession,
    module: &Module,
    label: &KeyLabel,
    digest: &[u8; 32],
) -> Result<[u8; 64], Failure> {
    let key = proof::proven(session, module, Part::SigningPrivate, label)?;
    session.count("sign");
    let signature = session.raw().sign(&Mechanism::Ecdsa, key, digest)?;
    let signature = signature.try_into().map_err(|odd: Vec<u8>| {
        let detail = format!("a P-256 signature has {} bytes, not 64", odd.len());
        Failure::new(Class::Bug, detail)
    })?;
    let signature = low_s(signature);
    proof::pass(session, label, digest, &signature)?;
    Ok(signature)
}

pub(crate) fn cmac_batch(
    session: &mut TokenSession,
    module: &Module,
    label: &KeyLabel,
    messages: &[Vec<u8>],
) -> Result<Vec<Cmac>, Failure> {
    let key = proof::proven(session, module, Part::Cmac, label)?;
    messages
        .iter()
        .map(|message| cmac(session, key, message).map(Cmac))
        .collect()
}

pub(crate) fn public_key(
    session: &mut TokenSession,
    label: &KeyLabel,
) -> Result<[u8; POINT_LEN], Failure> {
    let point = public_half(session, label)?;
    proof::point(session, label, &point)?;
    Ok(point)
}

/// As it lies there, whoever's it is.
pub(crate) fn public_half(
    session: &TokenSession,
    label: &KeyLabel,
) -> Result<[u8; POINT_LEN], Failure> {
    let key = session.look_up(Part::SigningPublic, label)?;
    let attributes = session
        .raw()
        .get_attributes(key, &[AttributeType::EcPoint])?;
    match attributes.first() {
        Some(Attribute::EcPoint(bytes)) => point(bytes),
        _ => Err(Failure::new(Class::Unsupported, "no CKA_EC_POINT")),
    }
}

pub(crate) fn random(session: &mut TokenSession, len: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; len];
    session.count("random");
    session.raw().generate_random_slice(&mut bytes)?;
    Ok(bytes)
}

/// After a lost device a second attempt may find the label taken by the first: that is true then.
pub(crate) fn generate_key(
    session: &mut TokenSession,
    module: &Module,
    kind: KeyKind,
    label: &KeyLabel,
) -> Result<(), Failure> {
    let _making = module.lock_making();
    session.count("generate");
    if session.is_taken(label)? {
        return Err(Failure::refusal(HsmError::LabelTaken {
            label: label.0.clone(),
        }));
    }
    match kind {
        KeyKind::Sealing => {
            let template = template::sealing_key(label, true);
            session
                .raw()
                .generate_key(&Mechanism::AesKeyGen, &template)?;
        }
        KeyKind::Binding => {
            let template = template::binding_key(label);
            session
                .raw()
                .generate_key(&Mechanism::GenericSecretKeyGen, &template)?;
        }
        KeyKind::Cmac => {
            let template = template::cmac_key(label);
            session
                .raw()
                .generate_key(&Mechanism::AesKeyGen, &template)?;
        }
        KeyKind::Signing => {
            let (public, private) = template::signing_key(label);
            session
                .raw()
                .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
        }
    }
    Ok(())
}

/// The private half goes first: half of it destroyed is a key that signs nothing any more, and the
/// next attempt finds the rest.
pub(crate) fn destroy_key(
    session: &mut TokenSession,
    module: &Module,
    label: &KeyLabel,
) -> Result<(), Failure> {
    let _making = module.lock_making();
    let halves = session.halves(label)?;
    if halves.is_empty() {
        return Err(Failure::refusal(HsmError::KeyUnknown {
            label: label.0.clone(),
        }));
    }
    for object in halves {
        destroy(session, module, object)?;
    }
    Ok(())
}

/// A new seed under a sealing key, and nowhere else.
pub(crate) fn wrapped_seed(
    session: &TokenSession,
    module: &Module,
    sealing: ObjectHandle,
) -> Result<Vec<u8>, Failure> {
    session.count("generate");
    let seed = session
        .raw()
        .generate_key(&Mechanism::GenericSecretKeyGen, &template::new_seed())?;
    session.count("wrap");
    let wrapped = session
        .raw()
        .wrap_key(&Mechanism::AesKeyWrap, sealing, seed);
    destroy(session, module, seed)?;
    let blob = wrapped?;
    if blob.len() != BLOB_LEN {
        let detail = format!("a wrapped seed has {} bytes, not {BLOB_LEN}", blob.len());
        return Err(Failure::new(Class::Unsupported, detail));
    }
    Ok(blob)
}

/// The binding is verified before the device unwraps anything: by the device, or as what it has verified before.
fn unseal(
    session: &mut TokenSession,
    module: &Module,
    keys: &SealingKeys,
    sealed: &SealedSeed,
) -> Result<ObjectHandle, Failure> {
    if sealed.blob.len() != BLOB_LEN {
        let detail = format!(
            "a sealed seed has {} bytes, not {BLOB_LEN}",
            sealed.blob.len()
        );
        return Err(Failure::new(Class::NotOurKey, detail));
    }
    // Also where the binding is known: not on an HSM token that has another key for it.
    let binding_key = proof::proven(session, module, Part::Binding, &keys.binding)?;
    let answer = session.answered(Part::Binding, &keys.binding);
    let digest = answer.map(|answer| bindings::digest(answer, keys, sealed));
    let has_held = digest.is_some_and(|it| session.bindings().held(&it));
    if !has_held {
        verify_binding(session, binding_key, keys, sealed)?;
        digest
            .into_iter()
            .for_each(|it| session.bindings().note(it));
    }
    let sealing = proof::proven(session, module, Part::Sealing, &keys.sealing)?;
    match unwrap(session, sealing, &sealed.blob) {
        // A module may find fault with the seed where the session was logged out: the mac tells, and what is said
        // after it counts.
        Err(failure) if has_held && !failure.class.is_our_trouble() => {
            verify_binding(session, binding_key, keys, sealed)?;
            unwrap(session, sealing, &sealed.blob)
        }
        unwrapped => unwrapped,
    }
}

/// The device computes the binding now, whatever is remembered.
pub(crate) fn prove_binding(
    session: &mut TokenSession,
    module: &Module,
    keys: &SealingKeys,
    sealed: &SealedSeed,
) -> Result<(), Failure> {
    let key = proof::proven(session, module, Part::Binding, &keys.binding)?;
    verify_binding(session, key, keys, sealed)
}

fn unwrap(
    session: &TokenSession,
    sealing: ObjectHandle,
    blob: &[u8],
) -> Result<ObjectHandle, Failure> {
    session.count("unwrap");
    let template = template::unsealed_seed();
    let seed = session
        .raw()
        .unwrap_key(&Mechanism::AesKeyWrap, sealing, blob, &template)?;
    Ok(seed)
}

fn verify_binding(
    session: &TokenSession,
    key: ObjectHandle,
    keys: &SealingKeys,
    sealed: &SealedSeed,
) -> Result<(), Failure> {
    let input = binding::input(&keys.sealing, &sealed.context, &sealed.blob);
    let computed = hmac(session, key, &input)?;
    match binding::matches(&computed, &sealed.binding) {
        true => Ok(()),
        false => Err(Failure::new(
            Class::NotOurKey,
            "its binding does not verify",
        )),
    }
}

fn bind(
    session: &mut TokenSession,
    module: &Module,
    keys: &SealingKeys,
    context: &[u8],
    blob: &[u8],
) -> Result<[u8; 32], Failure> {
    let key = proof::proven(session, module, Part::Binding, &keys.binding)?;
    hmac(session, key, &binding::input(&keys.sealing, context, blob))
}

pub(crate) fn hmac(
    session: &TokenSession,
    key: ObjectHandle,
    message: &[u8],
) -> Result<[u8; 32], Failure> {
    session.count("mac");
    // An epoch key, perhaps: it must not stay behind in freed memory.
    let mac = Zeroizing::new(session.raw().sign(&Mechanism::Sha256Hmac, key, message)?);
    mac.as_slice().try_into().map_err(|_| {
        let detail = format!("an HMAC-SHA-256 has {} bytes, not 32", mac.len());
        Failure::new(Class::Bug, detail)
    })
}

pub(crate) fn cmac(
    session: &TokenSession,
    key: ObjectHandle,
    message: &[u8],
) -> Result<[u8; 16], Failure> {
    session.count("mac");
    // A key of somebody, perhaps: it must not stay behind in freed memory.
    let mac = Zeroizing::new(session.raw().sign(&Mechanism::AesCMac, key, message)?);
    mac.as_slice().try_into().map_err(|_| {
        let detail = format!("an AES-CMAC has {} bytes, not 16", mac.len());
        Failure::new(Class::Bug, detail)
    })
}

pub(crate) fn destroy(
    session: &TokenSession,
    module: &Module,
    object: ObjectHandle,
) -> Result<(), Failure> {
    session.count("destroy");
    session.raw().destroy_object(object)?;
    module.count_destroyed();
    Ok(())
}

/// Some modules give the point bare, others wrapped in a DER OCTET STRING, as the standard says.
fn point(bytes: &[u8]) -> Result<[u8; POINT_LEN], Failure> {
    const DER_HEAD: [u8; 2] = [0x04, POINT_LEN as u8];
    let bare = match bytes.strip_prefix(&DER_HEAD) {
        Some(inner) if inner.len() == POINT_LEN => inner,
        _ => bytes,
    };
    match <[u8; POINT_LEN]>::try_from(bare) {
        Ok(point) if point[0] == 0x04 => Ok(point),
        _ => Err(Failure::new(
            Class::Unsupported,
            "CKA_EC_POINT is no uncompressed point of P-256",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_bare_and_in_der_alike() {
        let mut bare = [9; POINT_LEN];
        bare[0] = 4;
        let mut der = vec![4, POINT_LEN as u8];
        der.extend_from_slice(&bare);
        assert_eq!(point(&bare), Ok(bare));
        assert_eq!(point(&der), Ok(bare));
    }

    #[test]
    fn a_point_that_starts_like_der_is_still_read_bare() {
        let mut bare = [9; POINT_LEN];
        bare[..2].copy_from_slice(&[4, POINT_LEN as u8]);
        assert_eq!(point(&bare), Ok(bare));
    }

    #[test]
    fn a_compressed_or_foreign_point_is_refused() {
        assert!(point(&[2; 33]).is_err());
        assert!(point(&[5; POINT_LEN]).is_err());
        assert!(point(&[]).is_err());
    }
}

//! What is every key of ours locked to?
//!
//! One table per kind, read twice: to make keys, and to judge the keys that are there.

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_ULONG, CKA_EXTRACTABLE, CKA_LOCAL, CKA_SENSITIVE,
    CKA_UNWRAP_TEMPLATE, CKA_WRAP_TEMPLATE,
};

use crate::{KeyKind, KeyLabel};

/// A seed, and every key made for it.
pub(crate) const SEED_LEN: usize = 32;
/// A key of AES-128.
const CMAC_KEY_LEN: usize = 16;
/// RFC 3394 adds eight bytes.
pub(crate) const BLOB_LEN: usize = SEED_LEN + 8;
/// The object identifier of P-256, DER.
pub(crate) const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// The attributes that lock a private or secret key of `kind`.
pub(crate) fn locks(kind: KeyKind) -> Vec<Attribute> {
    let mut locks = vec![
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Copyable(false),
        Attribute::Decrypt(false),
        Attribute::Derive(false),
    ];
    locks.extend(match kind {
        KeyKind::Sealing => [
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
            Attribute::Encrypt(false),
            Attribute::Sign(false),
            Attribute::Verify(false),
        ]
        .to_vec(),
        KeyKind::Binding => [
            Attribute::Sign(true),
            Attribute::Verify(true),
            Attribute::Encrypt(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
        ]
        .to_vec(),
        KeyKind::Signing => [Attribute::Sign(true), Attribute::Unwrap(false)].to_vec(),
        KeyKind::Cmac => [
            Attribute::Sign(true),
            Attribute::Verify(false),
            Attribute::Encrypt(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
        ]
        .to_vec(),
    });
    locks
}

/// A sealing key. `token` is false only for the key that a check makes and throws away.
pub(crate) fn sealing_key(label: &KeyLabel, token: bool) -> Vec<Attribute> {
    let mut template = secret(KeyType::AES, label, token, SEED_LEN);
    template.extend(locks(KeyKind::Sealing));
    template.push(unwrap_template());
    template.push(wrap_template());
    template
}

pub(crate) fn binding_key(label: &KeyLabel) -> Vec<Attribute> {
    let mut template = secret(KeyType::GENERIC_SECRET, label, true, SEED_LEN);
    template.extend(locks(KeyKind::Binding));
    template
}

pub(crate) fn cmac_key(label: &KeyLabel) -> Vec<Attribute> {
    let mut template = secret(KeyType::AES, label, true, CMAC_KEY_LEN);
    template.extend(locks(KeyKind::Cmac));
    template
}

/// The public and the private half.
pub(crate) fn signing_key(label: &KeyLabel) -> (Vec<Attribute>, Vec<Attribute>) {
    let public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Modifiable(false),
        Attribute::Label(label.0.clone().into_bytes()),
        Attribute::Verify(true),
        Attribute::EcParams(P256.to_vec()),
    ];
    let mut private = vec![
        Attribute::Token(true),
        Attribute::Label(label.0.clone().into_bytes()),
    ];
    private.extend(locks(KeyKind::Signing));
    (public, private)
}

/// A seed at birth: it may leave once, wrapped.
pub(crate) fn new_seed() -> Vec<Attribute> {
    let mut template = seed(true);
    template.push(Attribute::ValueLen((SEED_LEN as CK_ULONG).into()));
    template
}

/// A seed for one batch. SoftHSM wants both locked attributes stated.
pub(crate) fn unsealed_seed() -> Vec<Attribute> {
    seed(false)
}

pub(crate) fn seed(extractable: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Sign(true),
    ]
}

/// Whatever the sealing key unwraps must be sensitive and must not leave again.
fn unwrap_template() -> Attribute {
    nested(
        CKA_UNWRAP_TEMPLATE,
        &[(CKA_SENSITIVE, &YES), (CKA_EXTRACTABLE, &NO)],
    )
}

/// Only what was born in the HSM may be wrapped, or a known key could be planted as a seed.
fn wrap_template() -> Attribute {
    nested(CKA_WRAP_TEMPLATE, &[(CKA_LOCAL, &YES)])
}

fn secret(kind: KeyType, label: &KeyLabel, token: bool, len: usize) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(kind),
        Attribute::Token(token),
        Attribute::Label(label.0.clone().into_bytes()),
        Attribute::ValueLen((len as CK_ULONG).into()),
    ]
}

static YES: CK_BBOOL = 1;
static NO: CK_BBOOL = 0;

/// An attribute whose value is an array of attributes, which cryptoki has no type for: the bytes
/// of `CK_ATTRIBUTE[]`. The pointers inside are to statics, so the module may follow them at any
/// time; exposing their provenance is what lets foreign code do so, and takes no `unsafe`.
fn nested(
    kind: CK_ATTRIBUTE_TYPE,
    entries: &[(CK_ATTRIBUTE_TYPE, &'static CK_BBOOL)],
) -> Attribute {
    let mut bytes = Vec::with_capacity(size_of::<CK_ATTRIBUTE>() * entries.len());
    for (attribute, value) in entries {
        let address = std::ptr::from_ref(*value).expose_provenance();
        bytes.extend_from_slice(&attribute.to_ne_bytes());
        bytes.extend_from_slice(&address.to_ne_bytes());
        bytes.extend_from_slice(&(size_of::<CK_BBOOL>() as CK_ULONG).to_ne_bytes());
    }
    Attribute::VendorDefined((AttributeType::VendorDefined(kind), bytes))
}

// `nested` writes the fields one after the other: right only in this order and without padding.
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(CK_ATTRIBUTE, type_) == 0);
    assert!(offset_of!(CK_ATTRIBUTE, pValue) == size_of::<CK_ATTRIBUTE_TYPE>());
    assert!(
        offset_of!(CK_ATTRIBUTE, ulValueLen) == size_of::<CK_ATTRIBUTE_TYPE>() + size_of::<usize>()
    );
    assert!(
        size_of::<CK_ATTRIBUTE>()
            == size_of::<CK_ATTRIBUTE_TYPE>() + size_of::<usize>() + size_of::<CK_ULONG>()
    );
};

//! Is this HSM, and is every key in it, as safe as M2Key assumes?
//!
//! Attributes say what a key may do; whether the HSM honours the templates of a sealing key is
//! found out by attacking it, because asking for a nested attribute proves nothing.

use std::collections::BTreeMap;

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};

use super::{
    module::{Module, TokenName},
    ops::destroy,
    session::TokenSession,
    template::{self, SEED_LEN},
};
use crate::{
    HsmError, KeyKind, KeyLabel, KeyReport,
    failure::{Class, Failure},
};

/// Something M2Key needs of an HSM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The mechanism, or the lock in words.
    pub name: &'static str,
    pub needed_for: &'static str,
    /// What is wrong, in words; `None` when the HSM has it.
    pub missing: Option<String>,
}

const MECHANISMS: [(MechanismType, &str, &str); 7] = [
    (
        MechanismType::AES_KEY_GEN,
        "CKM_AES_KEY_GEN",
        "sealing keys and master keys of tags",
    ),
    (
        MechanismType::AES_KEY_WRAP,
        "CKM_AES_KEY_WRAP",
        "sealing and unsealing seeds",
    ),
    (
        MechanismType::GENERIC_SECRET_KEY_GEN,
        "CKM_GENERIC_SECRET_KEY_GEN",
        "seeds and binding keys",
    ),
    (
        MechanismType::SHA256_HMAC,
        "CKM_SHA256_HMAC",
        "epoch keys and bindings",
    ),
    (
        MechanismType::ECC_KEY_PAIR_GEN,
        "CKM_EC_KEY_PAIR_GEN",
        "signing keys",
    ),
    (MechanismType::ECDSA, "CKM_ECDSA", "signatures"),
    (MechanismType::AES_CMAC, "CKM_AES_CMAC", "keys of tags"),
];

/// Every mechanism and every lock, in the order an operator reads them.
pub(crate) fn requirements(
    session: &mut TokenSession,
    module: &Module,
    token: &TokenName,
) -> Result<Vec<Requirement>, Failure> {
    let present = module.pkcs11().get_mechanism_list(module.slot(token)?)?;
    let mut requirements: Vec<_> = MECHANISMS
        .iter()
        .map(|(mechanism, name, needed_for)| Requirement {
            name,
            needed_for,
            missing: (!present.contains(mechanism)).then(|| "no such mechanism".into()),
        })
        .collect();
    requirements.extend(locks(session, module)?);
    Ok(requirements)
}

/// Every secret and private key; a public half appears only by its absence.
pub(crate) fn inventory(
    session: &mut TokenSession,
    module: &Module,
) -> Result<Vec<KeyReport>, Failure> {
    session.require_login()?;
    let mut reports = Vec::new();
    for class in [ObjectClass::SECRET_KEY, ObjectClass::PRIVATE_KEY] {
        let template = [Attribute::Class(class), Attribute::Token(true)];
        for object in session.raw().find_objects(&template)? {
            reports.push(report(session, module, object)?);
        }
    }
    name_doubles(&mut reports);
    reports.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(reports)
}

fn report(
    session: &TokenSession,
    module: &Module,
    object: ObjectHandle,
) -> Result<KeyReport, Failure> {
    let attributes = session.raw().get_attributes(object, &REPORTED)?;
    let kind = kind(&attributes);
    let label = label(&attributes);
    let findings = match kind {
        None => vec!["not of a kind that M2Key makes".to_owned()],
        Some(kind) => findings(session, module, object, kind, &label, &attributes)?,
    };
    Ok(KeyReport {
        label,
        kind,
        sensitive: attributes.contains(&Attribute::Sensitive(true)),
        extractable: !attributes.contains(&Attribute::Extractable(false)),
        modifiable: !attributes.contains(&Attribute::Modifiable(false)),
        copyable: !attributes.contains(&Attribute::Copyable(false)),
        findings,
        lacked_by: Vec::new(),
        unseen_on: Vec::new(),
    })
}

fn findings(
    session: &TokenSession,
    module: &Module,
    object: ObjectHandle,
    kind: KeyKind,
    label: &KeyLabel,
    attributes: &[Attribute],
) -> Result<Vec<String>, Failure> {
    let mut findings = open_locks(kind, attributes);
    findings.extend(known_outside(attributes));
    match kind {
        KeyKind::Sealing => {
            findings.extend(reads_seeds(session, module, object)?);
            findings.extend(plants_seeds(session, module, object)?);
        }
        KeyKind::Binding | KeyKind::Cmac => {}
        KeyKind::Signing => findings.extend(public_half_missing(session, label)?),
    }
    Ok(findings)
}

/// The attributes that are not as this crate sets them.
fn open_locks(kind: KeyKind, attributes: &[Attribute]) -> Vec<String> {
    template::locks(kind)
        .iter()
        .filter(|wanted| !attributes.contains(wanted))
        .filter(|wanted| !may_be_absent(wanted, attributes))
        .map(|wanted| format!("wanted {wanted:?}"))
        .collect()
}

/// Locks say nothing of who kept a copy before the key was locked; only the HSM knows its birth.
fn known_outside(attributes: &[Attribute]) -> Vec<String> {
    [
        (
            Attribute::Local(true),
            "CKA_LOCAL: it was not born in the HSM",
        ),
        (Attribute::AlwaysSensitive(true), "CKA_ALWAYS_SENSITIVE"),
        (Attribute::NeverExtractable(true), "CKA_NEVER_EXTRACTABLE"),
    ]
    .into_iter()
    .filter(|(wanted, _)| !attributes.contains(wanted))
    .map(|(_, what)| format!("wanted {what}"))
    .collect()
}

/// A private key of some modules has no word for what it cannot do at all.
fn may_be_absent(wanted: &Attribute, attributes: &[Attribute]) -> bool {
    let kind = wanted.attribute_type();
    let absent = !attributes.iter().any(|it| it.attribute_type() == kind);
    let a_use_denied = matches!(
        wanted,
        Attribute::Decrypt(false)
            | Attribute::Derive(false)
            | Attribute::Encrypt(false)
            | Attribute::Sign(false)
            | Attribute::Verify(false)
            | Attribute::Wrap(false)
            | Attribute::Unwrap(false)
    );
    absent && a_use_denied
}

fn locks(session: &TokenSession, module: &Module) -> Result<Vec<Requirement>, Failure> {
    let label = KeyLabel("m2key-check".into());
    let template = template::sealing_key(&label, false);
    let made = session.raw().generate_key(&Mechanism::AesKeyGen, &template);
    let key = match refused(made)? {
        Ok(key) => key,
        Err(failure) => {
            return Ok(vec![lock(
                "a locked sealing key",
                Some(failure.to_string()),
            )]);
        }
    };
    let found = attack(session, module, key);
    destroy(session, module, key)?;
    found
}

fn attack(
    session: &TokenSession,
    module: &Module,
    key: ObjectHandle,
) -> Result<Vec<Requirement>, Failure> {
    let attributes = session.raw().get_attributes(key, &REPORTED)?;
    let open = open_locks(KeyKind::Sealing, &attributes);
    let open = (!open.is_empty()).then(|| open.join(", "));
    Ok(vec![
        lock("sealing key attributes", open),
        lock("CKA_UNWRAP_TEMPLATE", reads_seeds(session, module, key)?),
        lock("CKA_WRAP_TEMPLATE", plants_seeds(session, module, key)?),
        lock("CKA_MODIFIABLE", unlocks(session, key)?),
        lock("CKA_COPYABLE", copies(session, module, key)?),
    ])
}

fn lock(name: &'static str, missing: Option<String>) -> Requirement {
    Requirement {
        name,
        needed_for: "a sealing key that its PIN alone cannot turn against the seeds",
        missing,
    }
}

/// Attack: unwrap a seed in the clear.
fn reads_seeds(
    session: &TokenSession,
    module: &Module,
    sealing: ObjectHandle,
) -> Result<Option<String>, Failure> {
    let seed = session
        .raw()
        .generate_key(&Mechanism::GenericSecretKeyGen, &template::new_seed())?;
    let wrapped = session
        .raw()
        .wrap_key(&Mechanism::AesKeyWrap, sealing, seed);
    destroy(session, module, seed)?;
    let blob = match refused(wrapped)? {
        Ok(blob) => blob,
        Err(error) => return Ok(Some(format!("it cannot wrap a seed: {error}"))),
    };
    let mut in_clear = template::seed(true);
    in_clear.retain(|attribute| attribute.attribute_type() != AttributeType::Sensitive);
    in_clear.push(Attribute::Sensitive(false));
    let unwrapped = session
        .raw()
        .unwrap_key(&Mechanism::AesKeyWrap, sealing, &blob, &in_clear);
    let Ok(seed) = refused(unwrapped)? else {
        return Ok(None);
    };
    destroy(session, module, seed)?;
    Ok(Some(
        "it unwraps seeds in the clear (CKA_UNWRAP_TEMPLATE)".into(),
    ))
}

/// Attack: seal a seed whose value is known.
fn plants_seeds(
    session: &TokenSession,
    module: &Module,
    sealing: ObjectHandle,
) -> Result<Option<String>, Failure> {
    let mut known = template::seed(true);
    known.push(Attribute::Value(vec![0x5a; SEED_LEN]));
    let Ok(planted) = refused(session.raw().create_object(&known))? else {
        return Ok(None);
    };
    let wrapped = session
        .raw()
        .wrap_key(&Mechanism::AesKeyWrap, sealing, planted);
    destroy(session, module, planted)?;
    let sealed = refused(wrapped)?.is_ok();
    Ok(sealed.then(|| "it seals keys that are known outside (CKA_WRAP_TEMPLATE)".into()))
}

/// Attack: allow decryption after the fact.
fn unlocks(session: &TokenSession, key: ObjectHandle) -> Result<Option<String>, Failure> {
    let changed = session
        .raw()
        .update_attributes(key, &[Attribute::Decrypt(true)]);
    let unlocked = refused(changed)?.is_ok();
    Ok(unlocked.then(|| "a locked key can be unlocked".into()))
}

/// Attack: copy the key without its locks.
fn copies(
    session: &TokenSession,
    module: &Module,
    key: ObjectHandle,
) -> Result<Option<String>, Failure> {
    let copied = session
        .raw()
        .copy_object(key, &[Attribute::Decrypt(true), Attribute::Token(false)]);
    let Ok(copy) = refused(copied)? else {
        return Ok(None);
    };
    destroy(session, module, copy)?;
    Ok(Some("a locked key can be copied without its locks".into()))
}

/// Tells a refusal, which is an answer, from a device that is not there.
fn refused<T>(result: Result<T, cryptoki::error::Error>) -> Result<Result<T, HsmError>, Failure> {
    match result.map_err(Failure::from) {
        Ok(value) => Ok(Ok(value)),
        Err(failure) => match failure.class {
            Class::LostSession | Class::LostDevice | Class::Busy | Class::Pin => Err(failure),
            Class::NotOurKey
            | Class::OtherKey
            | Class::CallersFault
            | Class::Unsupported
            | Class::Bug => Ok(Err(failure.error)),
        },
    }
}

fn public_half_missing(
    session: &TokenSession,
    label: &KeyLabel,
) -> Result<Option<String>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::Label(label.0.clone().into_bytes()),
    ];
    let halves = session.raw().find_objects(&template)?.len();
    Ok((halves != 1).then(|| format!("it has {halves} public halves, not one")))
}

fn name_doubles(reports: &mut [KeyReport]) {
    let mut count = BTreeMap::new();
    for report in reports.iter() {
        *count.entry(report.label.clone()).or_insert(0) += 1;
    }
    for report in reports {
        if count[&report.label] > 1 {
            let finding = "another key has the same label".to_owned();
            report.findings.push(finding);
        }
    }
}

fn kind(attributes: &[Attribute]) -> Option<KeyKind> {
    let is = |class, kind| {
        attributes.contains(&Attribute::Class(class))
            && attributes.contains(&Attribute::KeyType(kind))
    };
    if is(ObjectClass::SECRET_KEY, KeyType::AES) {
        let may = |what| attributes.contains(&what);
        match may(Attribute::Sign(true)) && !may(Attribute::Wrap(true)) {
            true => Some(KeyKind::Cmac),
            false => Some(KeyKind::Sealing),
        }
    } else if is(ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET) {
        Some(KeyKind::Binding)
    } else if is(ObjectClass::PRIVATE_KEY, KeyType::EC) {
        Some(KeyKind::Signing)
    } else {
        None
    }
}

fn label(attributes: &[Attribute]) -> KeyLabel {
    let bytes = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Label(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    KeyLabel(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned())
}

const REPORTED: [AttributeType; 18] = [
    AttributeType::Class,
    AttributeType::KeyType,
    AttributeType::Label,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::Extractable,
    AttributeType::Modifiable,
    AttributeType::Copyable,
    AttributeType::Encrypt,
    AttributeType::Decrypt,
    AttributeType::Sign,
    AttributeType::Verify,
    AttributeType::Wrap,
    AttributeType::Unwrap,
    AttributeType::Derive,
    AttributeType::Local,
    AttributeType::AlwaysSensitive,
    AttributeType::NeverExtractable,
];

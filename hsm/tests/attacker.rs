//! What can somebody do who has the PIN and the database, but not the HSM?
//!
//! He logs in with plain PKCS#11 beside us. Every attack is first shown to work on a key without
//! locks, so that a test that cannot fail does not pass for a lock that holds.
#![allow(clippy::unwrap_used)]

use cryptoki::{
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use hsm::{Hsm, HsmError, KeyKind, KeyLabel, Pkcs11Hsm, Priority, SealingKeys};

mod support;

use support::Maker;

on_both! {
    a_sealed_seed_does_not_unwrap_in_the_clear
    the_sealing_key_does_not_decrypt
    the_sealing_key_cannot_be_given_more_rights
    the_sealing_key_cannot_be_copied
    a_known_key_cannot_be_planted_as_a_seed
    an_unsealed_seed_cannot_be_wrapped_again
    no_binding_signing_or_cmac_key_leaves
    seeds_of_two_terminals_cannot_change_places
    an_unlocked_key_is_found_by_the_inventory
    a_key_that_is_known_outside_is_found_by_the_inventory
}

async fn a_sealed_seed_does_not_unwrap_in_the_clear(maker: Maker) {
    let attack = Attack::on(maker, "in-clear").await;
    let open = attack.unlocked_sealing_key();
    let blob = attack.wrap(open, attack.new_seed()).unwrap();
    let seed = attack.unwrap(open, &blob, false, true).unwrap();
    assert_eq!(
        attack.value(seed).len(),
        32,
        "the attack works on an open key"
    );

    let blob = attack.sealed().await;
    for (sensitive, extractable) in [(false, true), (false, false), (true, true)] {
        let unwrapped = attack.unwrap(attack.locked, &blob, sensitive, extractable);
        assert_eq!(code(unwrapped), RvError::TemplateInconsistent);
    }
    let seed = attack.unwrap(attack.locked, &blob, true, false).unwrap();
    assert!(attack.value(seed).is_empty(), "unsealed, it is mute");
}

async fn the_sealing_key_does_not_decrypt(maker: Maker) {
    let attack = Attack::on(maker, "decrypt").await;
    let open = attack.unlocked_sealing_key();
    assert!(attack.decrypts(open), "the attack works on an open key");
    assert!(!attack.decrypts(attack.locked));
}

async fn the_sealing_key_cannot_be_given_more_rights(maker: Maker) {
    let attack = Attack::on(maker, "rights").await;
    let open = attack.unlocked_sealing_key();
    let rights = [
        Attribute::Decrypt(true),
        Attribute::Encrypt(true),
        Attribute::Sign(true),
        Attribute::Derive(true),
    ];
    for right in rights {
        let right = [right];
        let changed = attack.session.update_attributes(open, &right);
        assert!(
            changed.is_ok(),
            "the attack works on an open key: {changed:?}"
        );
        assert!(
            attack
                .session
                .update_attributes(attack.locked, &right)
                .is_err()
        );
    }
    assert!(!attack.decrypts(attack.locked));
}

async fn the_sealing_key_cannot_be_copied(maker: Maker) {
    let attack = Attack::on(maker, "copy").await;
    let open = attack.unlocked_sealing_key();
    let templates = [
        vec![Attribute::Token(false)],
        vec![Attribute::Token(false), Attribute::Decrypt(true)],
        vec![Attribute::Token(false), Attribute::Modifiable(true)],
        vec![Attribute::Token(false), Attribute::Extractable(true)],
    ];
    let copied = attack.session.copy_object(open, &templates[0]);
    assert!(
        copied.is_ok(),
        "the attack works on an open key: {copied:?}"
    );
    for template in templates {
        assert!(
            attack
                .session
                .copy_object(attack.locked, &template)
                .is_err()
        );
    }
}

async fn a_known_key_cannot_be_planted_as_a_seed(maker: Maker) {
    let attack = Attack::on(maker, "plant").await;
    let open = attack.unlocked_sealing_key();
    let known = attack.known_key();
    attack
        .wrap(open, known)
        .expect("the attack works on an open key");
    let wrapped = attack.wrap(attack.locked, known);
    assert!(
        is_refusal(&wrapped, RvError::KeyNotWrappable),
        "{wrapped:?}"
    );
    attack
        .wrap(attack.locked, attack.new_seed())
        .expect("what was born in the HSM still wraps");
}

async fn an_unsealed_seed_cannot_be_wrapped_again(maker: Maker) {
    let attack = Attack::on(maker, "rewrap").await;
    let open = attack.unlocked_sealing_key();
    let seed = attack.new_seed();
    attack
        .wrap(open, seed)
        .expect("the attack works on a fresh seed");
    let blob = attack.sealed().await;
    let seed = attack.unwrap(attack.locked, &blob, true, false).unwrap();
    for key in [open, attack.locked] {
        let wrapped = attack.wrap(key, seed);
        assert!(
            is_refusal(&wrapped, RvError::KeyUnextractable),
            "{wrapped:?}"
        );
    }
}

async fn no_binding_signing_or_cmac_key_leaves(maker: Maker) {
    let attack = Attack::on(maker, "leave").await;
    let open = attack.unlocked_sealing_key();
    for (kind, label) in [(KeyKind::Signing, "signing"), (KeyKind::Cmac, "cmac")] {
        let label = KeyLabel(label.into());
        attack.hsm.generate_key(kind, &label).await.unwrap();
    }
    for (class, label) in [
        (ObjectClass::SECRET_KEY, "binding"),
        (ObjectClass::SECRET_KEY, "cmac"),
        (ObjectClass::PRIVATE_KEY, "signing"),
    ] {
        let key = find(&attack.session, class, label);
        assert!(attack.value(key).is_empty());
        assert!(attack.wrap(open, key).is_err());
        let loosened = attack
            .session
            .update_attributes(key, &[Attribute::Extractable(true)]);
        assert!(loosened.is_err());
        assert!(
            attack
                .session
                .copy_object(key, &[Attribute::Token(false)])
                .is_err()
        );
    }
}

async fn seeds_of_two_terminals_cannot_change_places(maker: Maker) {
    let attack = Attack::on(maker, "swap").await;
    let mut one = attack.seal(b"terminal 1").await;
    let two = attack.seal(b"terminal 2").await;
    let unwrapped = attack.unwrap(attack.locked, &two.blob, true, false);
    assert!(unwrapped.is_ok(), "the wrap itself knows no terminal");
    one.blob = two.blob;
    let messages = vec![b"x".to_vec()];
    let macs = attack
        .hsm
        .hmac_batch(&attack.keys, &one, messages, Priority::Payment);
    let error = macs.await.unwrap_err();
    assert!(matches!(error, HsmError::NotOurKey { .. }), "{error}");
}

async fn an_unlocked_key_is_found_by_the_inventory(maker: Maker) {
    let attack = Attack::on(maker, "found").await;
    let template = [
        Attribute::Token(true),
        Attribute::Label(b"planted".to_vec()),
        Attribute::Modifiable(true),
    ];
    attack.make_sealing_key(&template);
    let reports = attack.hsm.inventory().await.unwrap();
    let planted = reports.iter().find(|it| it.label.0 == "planted").unwrap();
    for finding in [
        "CKA_UNWRAP_TEMPLATE",
        "CKA_WRAP_TEMPLATE",
        "Modifiable",
        "Decrypt",
    ] {
        let found = planted.findings.iter().any(|it| it.contains(finding));
        assert!(found, "{finding} in {:?}", planted.findings);
    }
    let ours = reports.iter().filter(|it| it.label.0 != "planted");
    assert!(ours.flat_map(|it| &it.findings).next().is_none());
}

async fn a_key_that_is_known_outside_is_found_by_the_inventory(maker: Maker) {
    let attack = Attack::on(maker, "imported").await;
    for (kind, label) in [
        (KeyType::AES, "known sealing key"),
        (KeyType::GENERIC_SECRET, "known binding key"),
    ] {
        attack.import_locked(kind, label);
    }
    let reports = attack.hsm.inventory().await.unwrap();
    for label in ["known sealing key", "known binding key"] {
        let report = reports.iter().find(|it| it.label.0 == label).unwrap();
        let said = report.findings.iter().any(|it| it.contains("CKA_LOCAL"));
        assert!(said, "{label}: {:?}", report.findings);
    }
}

struct Attack {
    hsm: Pkcs11Hsm,
    keys: SealingKeys,
    session: Session,
    locked: ObjectHandle,
}

impl Attack {
    async fn on(maker: Maker, token: &str) -> Self {
        let hsm = maker.open(token);
        let keys = SealingKeys {
            sealing: KeyLabel("sealing".into()),
            binding: KeyLabel("binding".into()),
        };
        hsm.generate_key(KeyKind::Sealing, &keys.sealing)
            .await
            .unwrap();
        hsm.generate_key(KeyKind::Binding, &keys.binding)
            .await
            .unwrap();
        let session = log_in(maker, token);
        let locked = find(&session, ObjectClass::SECRET_KEY, "sealing");
        Self {
            hsm,
            keys,
            session,
            locked,
        }
    }

    async fn seal(&self, context: &[u8]) -> hsm::SealedSeed {
        let sealed = self
            .hsm
            .seal_new_seed(&self.keys, context.to_vec(), Priority::Renewal);
        sealed.await.unwrap()
    }

    async fn sealed(&self) -> Vec<u8> {
        self.seal(b"terminal").await.blob
    }

    /// What somebody makes who follows the manual and no more; SoftHSM lets it decrypt unless it is told not
    /// to, and Kryoptic if it is told to.
    fn unlocked_sealing_key(&self) -> ObjectHandle {
        self.make_sealing_key(&[Attribute::Token(false)])
    }

    fn make_sealing_key(&self, more: &[Attribute]) -> ObjectHandle {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(32.into()),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
            Attribute::Decrypt(true),
        ];
        template.extend_from_slice(more);
        self.session
            .generate_key(&Mechanism::AesKeyGen, &template)
            .unwrap()
    }

    fn new_seed(&self) -> ObjectHandle {
        let mut template = seed_template(true, true);
        template.push(Attribute::ValueLen(32.into()));
        self.session
            .generate_key(&Mechanism::GenericSecretKeyGen, &template)
            .unwrap()
    }

    fn known_key(&self) -> ObjectHandle {
        let mut template = seed_template(true, true);
        template.push(Attribute::Value(vec![7; 32]));
        self.session.create_object(&template).unwrap()
    }

    /// A key that somebody keeps a copy of, locked like ours from the moment it is in.
    fn import_locked(&self, kind: KeyType, label: &str) {
        let uses = kind == KeyType::AES;
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(kind),
            Attribute::Token(true),
            Attribute::Label(label.into()),
            Attribute::Value(vec![7; 32]),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Modifiable(false),
            Attribute::Copyable(false),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Derive(false),
            Attribute::Wrap(uses),
            Attribute::Unwrap(uses),
            Attribute::Sign(!uses),
            Attribute::Verify(!uses),
        ];
        self.session.create_object(&template).unwrap();
    }

    fn wrap(&self, key: ObjectHandle, seed: ObjectHandle) -> Result<Vec<u8>, Error> {
        self.session.wrap_key(&Mechanism::AesKeyWrap, key, seed)
    }

    fn unwrap(
        &self,
        key: ObjectHandle,
        blob: &[u8],
        sensitive: bool,
        extractable: bool,
    ) -> Result<ObjectHandle, Error> {
        let template = seed_template(sensitive, extractable);
        self.session
            .unwrap_key(&Mechanism::AesKeyWrap, key, blob, &template)
    }

    fn decrypts(&self, key: ObjectHandle) -> bool {
        self.session
            .decrypt(&Mechanism::AesEcb, key, &[0; 16])
            .is_ok()
    }

    /// The value of a key, empty if the HSM keeps it to itself.
    fn value(&self, key: ObjectHandle) -> Vec<u8> {
        let attributes = self
            .session
            .get_attributes(key, &[AttributeType::Value])
            .unwrap();
        match attributes.first() {
            Some(Attribute::Value(value)) => value.clone(),
            _ => Vec::new(),
        }
    }
}

fn seed_template(sensitive: bool, extractable: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(sensitive),
        Attribute::Extractable(extractable),
        Attribute::Sign(true),
    ]
}

/// A session beside ours: the library is initialised and logged in already, so the PIN is too.
fn log_in(maker: Maker, token: &str) -> Session {
    let slot = maker.raw_slot(token);
    let session = maker.raw().open_rw_session(slot).unwrap();
    match session.login(
        UserType::User,
        Some(&AuthPin::from(support::USER_PIN.to_owned())),
    ) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
        Err(error) => panic!("{error}"),
    }
}

fn find(session: &Session, class: ObjectClass, label: &str) -> ObjectHandle {
    let template = [Attribute::Class(class), Attribute::Label(label.into())];
    let [object] = session.find_objects(&template).unwrap()[..] else {
        panic!("one object labelled {label}");
    };
    object
}

/// This code, or the one for whatever is prohibited, which Kryoptic prefers.
fn is_refusal<T>(result: &Result<T, Error>, wanted: RvError) -> bool {
    match result {
        Err(Error::Pkcs11(code, _)) => *code == wanted || *code == RvError::ActionProhibited,
        _ => false,
    }
}

fn code<T>(result: Result<T, Error>) -> RvError {
    match result.err() {
        Some(Error::Pkcs11(code, _)) => code,
        other => panic!("the HSM did not refuse: {other:?}"),
    }
}

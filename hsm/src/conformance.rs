//! What must every implementation of [`Hsm`] do?
//!
//! Each function is one fact and panics if it does not hold. Keys are made under labels that start
//! with the fact's name, so the facts may share an HSM token and run side by side, once each.

use std::collections::BTreeSet;

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};

use crate::{
    BATCH_MAX, CONTEXT_MAX, Hsm, HsmError, KeyKind, KeyLabel, LABEL_MAX, MESSAGE_MAX, Mac,
    Priority, RANDOM_MAX, SealedSeed, SealingKeys,
};

/// Every fact, one after the other.
pub async fn all(hsm: &dyn Hsm) {
    a_seed_gives_the_same_macs_whenever_it_is_unsealed(hsm).await;
    seeds_differ_from_each_other(hsm).await;
    a_batch_answers_every_message_in_order(hsm).await;
    a_sealed_seed_is_forty_bytes_and_keeps_its_context(hsm).await;
    a_changed_seed_is_not_ours(hsm).await;
    swapped_blobs_are_not_ours(hsm).await;
    a_seed_of_other_keys_is_not_ours(hsm).await;
    a_signature_verifies_and_its_s_is_low(hsm).await;
    a_signature_does_not_verify_for_another_digest_or_key(hsm).await;
    a_cmac_is_of_its_key_and_its_message(hsm).await;
    random_bytes_have_the_length_asked_for_and_differ(hsm).await;
    limits_are_refused_as_the_callers_fault(hsm).await;
    a_label_is_taken_once_for_all_kinds(hsm).await;
    an_unknown_key_is_named(hsm).await;
    a_key_of_another_kind_is_unknown(hsm).await;
    the_inventory_lists_fresh_keys_without_findings(hsm).await;
    a_destroyed_key_is_gone_for_ever(hsm).await;
    a_fresh_hsm_is_ready(hsm).await;
}

pub async fn a_seed_gives_the_same_macs_whenever_it_is_unsealed(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "same").await;
    let seed = seal(hsm, &keys, b"terminal 1").await;
    assert_eq!(
        mac(hsm, &keys, &seed, b"one").await,
        mac(hsm, &keys, &seed, b"one").await
    );
    assert_ne!(
        mac(hsm, &keys, &seed, b"one").await,
        mac(hsm, &keys, &seed, b"two").await
    );
}

pub async fn seeds_differ_from_each_other(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "differ").await;
    let one = seal(hsm, &keys, b"same context").await;
    let two = seal(hsm, &keys, b"same context").await;
    assert_ne!(one.blob, two.blob);
    assert_ne!(
        mac(hsm, &keys, &one, b"x").await,
        mac(hsm, &keys, &two, b"x").await
    );
}

pub async fn a_batch_answers_every_message_in_order(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "order").await;
    let seed = seal(hsm, &keys, b"").await;
    let messages: Vec<Vec<u8>> = (0..BATCH_MAX).map(|n| n.to_be_bytes().to_vec()).collect();
    let batch = batch(hsm, &keys, &seed, messages.clone())
        .await
        .expect("a full batch");
    assert_eq!(batch.len(), messages.len());
    for n in [0, 1, BATCH_MAX - 1] {
        assert_eq!(batch[n].0, mac(hsm, &keys, &seed, &messages[n]).await);
    }
    let different: BTreeSet<_> = batch.iter().map(|mac| mac.0).collect();
    assert_eq!(different.len(), messages.len());
}

pub async fn a_sealed_seed_is_forty_bytes_and_keeps_its_context(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "form").await;
    let seed = seal(hsm, &keys, b"header").await;
    assert_eq!(seed.blob.len(), 40);
    assert_eq!(seed.context, b"header");
}

pub async fn a_changed_seed_is_not_ours(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "changed").await;
    let seed = seal(hsm, &keys, b"header").await;
    let changes: [fn(&mut SealedSeed); 7] = [
        |seed| seed.blob[0] ^= 1,
        |seed| seed.blob[39] ^= 0x80,
        |seed| seed.binding[0] ^= 1,
        |seed| seed.context[0] ^= 1,
        |seed| seed.context.push(0),
        |seed| seed.blob.clear(),
        |seed| seed.blob.push(0),
    ];
    // Before the right one was ever opened, and after: what held once is no excuse for another.
    for opened in ["never", "once"] {
        for (n, change) in changes.into_iter().enumerate() {
            let mut changed = seed.clone();
            change(&mut changed);
            let what = format!("change {n}, {opened} opened");
            refused_as_foreign(hsm, &keys, &changed, &what).await;
        }
        mac(hsm, &keys, &seed, b"the unchanged one works").await;
        let proven = hsm.prove_binding(&keys, &seed, Priority::Payment).await;
        proven.expect("the unchanged one holds");
    }
}

pub async fn swapped_blobs_are_not_ours(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "swapped").await;
    let mut one = seal(hsm, &keys, b"terminal 1").await;
    let mut two = seal(hsm, &keys, b"terminal 2").await;
    for seed in [&one, &two] {
        mac(hsm, &keys, seed, b"each in its place").await;
    }
    std::mem::swap(&mut one.blob, &mut two.blob);
    refused_as_foreign(hsm, &keys, &one, "swapped blob").await;
    std::mem::swap(&mut one.binding, &mut two.binding);
    refused_as_foreign(hsm, &keys, &one, "swapped blob and binding").await;
}

pub async fn a_seed_of_other_keys_is_not_ours(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "mine").await;
    let others = sealing_keys(hsm, "theirs").await;
    let seed = seal(hsm, &keys, b"header").await;
    mac(hsm, &keys, &seed, b"its own").await;
    refused_as_foreign(hsm, &others, &seed, "other keys").await;
    let mixed = SealingKeys {
        sealing: others.sealing,
        binding: keys.binding.clone(),
    };
    refused_as_foreign(hsm, &mixed, &seed, "another sealing key").await;
    let mixed = SealingKeys {
        sealing: keys.sealing,
        binding: others.binding,
    };
    refused_as_foreign(hsm, &mixed, &seed, "another binding key").await;
}

pub async fn a_signature_verifies_and_its_s_is_low(hsm: &dyn Hsm) {
    let label = made(hsm, KeyKind::Signing, "verifies").await;
    let key = verifying_key(hsm, &label).await;
    for n in 0..32 {
        let digest = [n; 32];
        let signature = sign(hsm, &label, digest).await;
        key.verify_prehash(&digest, &signature).expect("verifies");
        assert_eq!(signature.normalize_s(), signature, "s is low");
    }
}

pub async fn a_signature_does_not_verify_for_another_digest_or_key(hsm: &dyn Hsm) {
    let label = made(hsm, KeyKind::Signing, "one").await;
    let other = made(hsm, KeyKind::Signing, "another").await;
    let signature = sign(hsm, &label, [1; 32]).await;
    let key = verifying_key(hsm, &label).await;
    assert!(key.verify_prehash(&[2; 32], &signature).is_err());
    let other = verifying_key(hsm, &other).await;
    assert!(other.verify_prehash(&[1; 32], &signature).is_err());
}

pub async fn a_cmac_is_of_its_key_and_its_message(hsm: &dyn Hsm) {
    let one = made(hsm, KeyKind::Cmac, "cmac-one").await;
    let other = made(hsm, KeyKind::Cmac, "cmac-another").await;
    let messages: Vec<Vec<u8>> = [0, 1, 16, 17, MESSAGE_MAX].map(|len| vec![7; len]).into();
    let macs = cmacs(hsm, &one, messages.clone()).await;
    let again = cmacs(hsm, &one, messages.iter().rev().cloned().collect()).await;
    assert!(macs.iter().eq(again.iter().rev()), "in their order");
    let others = cmacs(hsm, &other, messages.clone()).await;
    let different: BTreeSet<_> = macs.iter().chain(&others).collect();
    assert_eq!(different.len(), 2 * messages.len());
}

pub async fn random_bytes_have_the_length_asked_for_and_differ(hsm: &dyn Hsm) {
    for len in [1, 16, RANDOM_MAX] {
        assert_eq!(hsm.random(len).await.expect("random").len(), len);
    }
    let one = hsm.random(32).await.expect("random");
    assert_ne!(one, hsm.random(32).await.expect("random"));
}

pub async fn limits_are_refused_as_the_callers_fault(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "limits").await;
    let seed = seal(hsm, &keys, &[7; CONTEXT_MAX]).await;
    let long_context = vec![7; CONTEXT_MAX + 1];
    let long_seed = SealedSeed {
        context: long_context.clone(),
        ..seed.clone()
    };
    let results = [
        batch(hsm, &keys, &seed, Vec::new()).await.map(drop),
        batch(hsm, &keys, &seed, vec![Vec::new(); BATCH_MAX + 1])
            .await
            .map(drop),
        batch(hsm, &keys, &seed, vec![vec![0; MESSAGE_MAX + 1]])
            .await
            .map(drop),
        hsm.seal_new_seed(&keys, long_context, Priority::Renewal)
            .await
            .map(drop),
        batch(hsm, &keys, &long_seed, vec![Vec::new()])
            .await
            .map(drop),
        hsm.cmac_batch(&keys.sealing, Vec::new(), Priority::Payment)
            .await
            .map(drop),
        hsm.cmac_batch(
            &keys.sealing,
            vec![vec![0; MESSAGE_MAX + 1]],
            Priority::Payment,
        )
        .await
        .map(drop),
        hsm.random(0).await.map(drop),
        hsm.random(RANDOM_MAX + 1).await.map(drop),
        hsm.generate_key(KeyKind::Signing, &KeyLabel(String::new()))
            .await,
        hsm.generate_key(KeyKind::Signing, &KeyLabel("x".repeat(LABEL_MAX + 1)))
            .await,
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert!(
            matches!(result, Err(HsmError::CallerFault { .. })),
            "{n}: {result:?}"
        );
    }
}

pub async fn a_label_is_taken_once_for_all_kinds(hsm: &dyn Hsm) {
    let kinds = [
        KeyKind::Sealing,
        KeyKind::Binding,
        KeyKind::Signing,
        KeyKind::Cmac,
    ];
    for (n, kind) in kinds.into_iter().enumerate() {
        let label = made(hsm, kind, &format!("taken-{n}")).await;
        for again in kinds {
            let error = hsm.generate_key(again, &label).await.expect_err("taken");
            let wanted = HsmError::LabelTaken {
                label: label.0.clone(),
            };
            assert_eq!(error, wanted);
        }
    }
}

pub async fn an_unknown_key_is_named(hsm: &dyn Hsm) {
    let label = KeyLabel("conformance-nobody".into());
    let wanted = HsmError::KeyUnknown {
        label: label.0.clone(),
    };
    let keys = SealingKeys {
        sealing: label.clone(),
        binding: label.clone(),
    };
    let signed = hsm.sign(&label, [0; 32], Priority::Payment).await;
    assert_eq!(signed.expect_err("unknown"), wanted);
    assert_eq!(hsm.public_key(&label).await.expect_err("unknown"), wanted);
    let sealed = hsm
        .seal_new_seed(&keys, Vec::new(), Priority::Payment)
        .await;
    assert_eq!(sealed.expect_err("unknown"), wanted);
    let mac = hsm.cmac_batch(&label, vec![Vec::new()], Priority::Payment);
    assert_eq!(mac.await.expect_err("unknown"), wanted);
}

pub async fn a_key_of_another_kind_is_unknown(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "kind").await;
    for label in [&keys.sealing, &keys.binding] {
        let signed = hsm.sign(label, [0; 32], Priority::Payment).await;
        assert!(
            matches!(signed, Err(HsmError::KeyUnknown { .. })),
            "{signed:?}"
        );
    }
    let signing = made(hsm, KeyKind::Signing, "kind-signing").await;
    for label in [&keys.sealing, &keys.binding, &signing] {
        let mac = hsm.cmac_batch(label, vec![Vec::new()], Priority::Payment);
        let mac = mac.await.map(drop);
        assert!(matches!(mac, Err(HsmError::KeyUnknown { .. })), "{mac:?}");
    }
    let cmac = made(hsm, KeyKind::Cmac, "kind-cmac").await;
    for sealing in [keys.binding.clone(), cmac] {
        let crossed = SealingKeys {
            sealing,
            binding: keys.sealing.clone(),
        };
        let sealed = hsm
            .seal_new_seed(&crossed, Vec::new(), Priority::Payment)
            .await;
        assert!(
            matches!(sealed, Err(HsmError::KeyUnknown { .. })),
            "{sealed:?}"
        );
    }
}

pub async fn the_inventory_lists_fresh_keys_without_findings(hsm: &dyn Hsm) {
    for kind in [
        KeyKind::Sealing,
        KeyKind::Binding,
        KeyKind::Signing,
        KeyKind::Cmac,
    ] {
        let label = made(hsm, kind, &format!("listed-{kind:?}")).await;
        let reports = hsm.inventory().await.expect("inventory");
        let report = reports
            .iter()
            .find(|report| report.label == label)
            .expect("listed");
        assert_eq!(report.findings, Vec::<String>::new(), "{kind:?}");
        assert_eq!(report.kind, Some(kind));
        assert!(report.sensitive && !report.extractable);
        assert!(!report.modifiable && !report.copyable);
    }
}

pub async fn a_destroyed_key_is_gone_for_ever(hsm: &dyn Hsm) {
    let keys = sealing_keys(hsm, "destroyed").await;
    let signing = made(hsm, KeyKind::Signing, "destroyed-signing").await;
    let kept = made(hsm, KeyKind::Signing, "destroyed-beside").await;
    let point = hsm.public_key(&kept).await.expect("a public key");
    let former = hsm.public_key(&signing).await.expect("a public key");
    let seed = seal(hsm, &keys, b"header").await;
    mac(hsm, &keys, &seed, b"handles are at hand").await;
    sign(hsm, &signing, [1; 32]).await;
    let cmac = made(hsm, KeyKind::Cmac, "destroyed-cmac").await;
    cmacs(hsm, &cmac, vec![Vec::new()]).await;
    for label in [&signing, &keys.sealing, &keys.binding, &cmac] {
        hsm.destroy_key(label).await.expect("destroyed");
        let wanted = HsmError::KeyUnknown {
            label: label.0.clone(),
        };
        assert_eq!(hsm.destroy_key(label).await.expect_err("gone"), wanted);
        let reports = hsm.inventory().await.expect("inventory");
        assert!(reports.iter().all(|report| report.label != *label));
    }
    let signed = hsm.sign(&signing, [1; 32], Priority::Payment).await;
    assert!(matches!(signed, Err(HsmError::KeyUnknown { .. })));
    let unsealed = batch(hsm, &keys, &seed, vec![b"x".to_vec()]).await;
    assert!(matches!(unsealed, Err(HsmError::KeyUnknown { .. })));
    assert_eq!(hsm.public_key(&kept).await.expect("still there"), point);
    sign(hsm, &kept, [1; 32]).await;
    // A label is free again; the key under it is another one.
    made(hsm, KeyKind::Signing, "destroyed-signing").await;
    assert_ne!(hsm.public_key(&signing).await.expect("a new key"), former);
}

pub async fn a_fresh_hsm_is_ready(hsm: &dyn Hsm) {
    let health = hsm.health();
    assert_eq!(health.state, crate::HealthState::Ready);
    assert_eq!(health.reason, None);
}

/// A key pair of labels for seeds, made now.
pub async fn sealing_keys(hsm: &dyn Hsm, name: &str) -> SealingKeys {
    SealingKeys {
        sealing: made(hsm, KeyKind::Sealing, &format!("{name}-sealing")).await,
        binding: made(hsm, KeyKind::Binding, &format!("{name}-binding")).await,
    }
}

/// A key made now.
pub async fn made(hsm: &dyn Hsm, kind: KeyKind, name: &str) -> KeyLabel {
    let label = KeyLabel(format!("conformance-{name}"));
    hsm.generate_key(kind, &label).await.expect("a new key");
    label
}

async fn seal(hsm: &dyn Hsm, keys: &SealingKeys, context: &[u8]) -> SealedSeed {
    let sealed = hsm.seal_new_seed(keys, context.to_vec(), Priority::Renewal);
    sealed.await.expect("a sealed seed")
}

async fn batch(
    hsm: &dyn Hsm,
    keys: &SealingKeys,
    seed: &SealedSeed,
    messages: Vec<Vec<u8>>,
) -> Result<Vec<Mac>, HsmError> {
    hsm.hmac_batch(keys, seed, messages, Priority::Renewal)
        .await
}

async fn mac(hsm: &dyn Hsm, keys: &SealingKeys, seed: &SealedSeed, message: &[u8]) -> [u8; 32] {
    let macs = batch(hsm, keys, seed, vec![message.to_vec()])
        .await
        .expect("a mac");
    macs[0].0
}

async fn cmacs(hsm: &dyn Hsm, label: &KeyLabel, messages: Vec<Vec<u8>>) -> Vec<[u8; 16]> {
    let macs = hsm.cmac_batch(label, messages, Priority::Payment).await;
    macs.expect("macs").iter().map(|mac| mac.0).collect()
}

async fn refused_as_foreign(hsm: &dyn Hsm, keys: &SealingKeys, seed: &SealedSeed, what: &str) {
    let result = batch(hsm, keys, seed, vec![b"x".to_vec()]).await;
    assert!(
        matches!(result, Err(HsmError::NotOurKey { .. })),
        "{what}: {result:?}"
    );
    let proven = hsm.prove_binding(keys, seed, Priority::Payment).await;
    assert!(
        matches!(proven, Err(HsmError::NotOurKey { .. })),
        "{what}: {proven:?}"
    );
}

async fn sign(hsm: &dyn Hsm, label: &KeyLabel, digest: [u8; 32]) -> Signature {
    let bytes = hsm
        .sign(label, digest, Priority::Payment)
        .await
        .expect("a signature");
    Signature::from_slice(&bytes).expect("r and s in range")
}

async fn verifying_key(hsm: &dyn Hsm, label: &KeyLabel) -> VerifyingKey {
    let point = hsm.public_key(label).await.expect("a public key");
    VerifyingKey::from_sec1_bytes(&point).expect("a point on the curve")
}

//! How do tests get an HSM without a module?
//!
//! [`MemoryHsm`] behaves like one: labels, bindings, limits, refusals. It is no HSM: keys lie in
//! plain memory, and its wrap is a stand-in of the right length (a synthetic IV of eight bytes and
//! an HMAC key stream), not RFC 3394. So it does not compile without debug assertions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aes::Aes128;
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac as _};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use sha2::Sha256;

use crate::{
    Cmac, Health, HealthState, Hsm, HsmError, KeyKind, KeyLabel, KeyReport, Mac, Priority,
    SealedSeed, SealingKeys, binding, limits,
};

#[cfg(not(debug_assertions))]
compile_error!("the memory HSM keeps keys in plain memory and must not be built for release");

/// What a health snapshot says about the length of a queue that is not there.
const QUEUE_MAX: usize = 1;
const IV_LEN: usize = 8;

/// Keys in memory. For tests.
#[derive(Default)]
pub struct MemoryHsm {
    state: Mutex<State>,
}

impl MemoryHsm {
    pub fn new() -> Self {
        Self::default()
    }

    /// Another one with the same keys, as a maker's tool clones an HSM token.
    pub fn clone_of(other: &Self) -> Self {
        let new = Self::new();
        new.put_keys_of(other);
        new
    }

    /// Whatever keys the other one has are here, too, from now on.
    pub fn put_keys_of(&self, other: &Self) {
        let keys = other.state().keys.clone();
        self.state().keys.extend(keys);
    }

    /// The next call fails so; several are queued.
    pub fn fail_next(&self, error: HsmError) {
        self.state().failures.push_back(error);
    }

    /// `calls` more calls are served, and every one after them fails so.
    pub fn fail_after(&self, calls: usize, error: HsmError) {
        self.state().last_words = Some((calls, error));
    }

    /// Whatever was to fail does not.
    pub fn heal(&self) {
        let mut state = self.state();
        state.failures.clear();
        state.last_words = None;
    }

    /// What [`Hsm::health`] shows from now on.
    pub fn set_health(&self, state: HealthState, reason: Option<String>) {
        self.state().health = Some((state, reason));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless a failure was asked for.
    fn serve(&self) -> Result<MutexGuard<'_, State>, HsmError> {
        let mut state = self.state();
        if let Some(error) = state.failures.pop_front() {
            return Err(error);
        }
        match &mut state.last_words {
            Some((0, error)) => return Err(error.clone()),
            Some((calls, _)) => *calls -= 1,
            None => {}
        }
        Ok(state)
    }
}

#[async_trait]
impl Hsm for MemoryHsm {
    async fn seal_new_seed(
        &self,
        keys: &SealingKeys,
        context: Vec<u8>,
        _: Priority,
    ) -> Result<SealedSeed, HsmError> {
        limits::context(&context)?;
        let state = self.serve()?;
        let sealing = state.secret(KeyKind::Sealing, &keys.sealing)?;
        let blob = wrap(sealing, &random_32()?);
        let binding = state.bind(keys, &context, &blob)?;
        Ok(SealedSeed {
            context,
            blob,
            binding,
        })
    }

    async fn hmac_batch(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        messages: Vec<Vec<u8>>,
        _: Priority,
    ) -> Result<Vec<Mac>, HsmError> {
        limits::context(&seed.context)?;
        limits::batch(&messages)?;
        let state = self.serve()?;
        state.prove_binding(keys, seed)?;
        let sealing = state.secret(KeyKind::Sealing, &keys.sealing)?;
        let seed = unwrap(sealing, &seed.blob)?;
        Ok(messages.iter().map(|it| Mac(hmac(&seed, &[it]))).collect())
    }

    async fn prove_binding(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        _: Priority,
    ) -> Result<(), HsmError> {
        limits::context(&seed.context)?;
        self.serve()?.prove_binding(keys, seed)
    }

    async fn sign(
        &self,
        key: &KeyLabel,
        digest: [u8; 32],
        _: Priority,
    ) -> Result<[u8; 64], HsmError> {
        let state = self.serve()?;
        let signature: Signature = state.signing(key)?.sign_prehash(&digest).map_err(bug)?;
        Ok(signature.normalize_s().to_bytes().into())
    }

    async fn cmac_batch(
        &self,
        key: &KeyLabel,
        messages: Vec<Vec<u8>>,
        _: Priority,
    ) -> Result<Vec<Cmac>, HsmError> {
        limits::batch(&messages)?;
        let state = self.serve()?;
        let key = state.cmac_key(key)?;
        Ok(messages.iter().map(|it| Cmac(cmac(key, it))).collect())
    }

    async fn public_key(&self, key: &KeyLabel) -> Result<[u8; 65], HsmError> {
        let state = self.serve()?;
        let point = state.signing(key)?.verifying_key().to_sec1_point(false);
        point.as_bytes().try_into().map_err(bug)
    }

    async fn random(&self, len: usize) -> Result<Vec<u8>, HsmError> {
        limits::random(len)?;
        drop(self.serve()?);
        let mut bytes = vec![0; len];
        getrandom::fill(&mut bytes).map_err(bug)?;
        Ok(bytes)
    }

    async fn generate_key(&self, kind: KeyKind, label: &KeyLabel) -> Result<(), HsmError> {
        limits::label(label)?;
        let mut state = self.serve()?;
        if state.keys.contains_key(label) {
            return Err(HsmError::LabelTaken {
                label: label.0.clone(),
            });
        }
        let key = match kind {
            KeyKind::Signing => Key::Signing(new_signing_key()?),
            KeyKind::Sealing | KeyKind::Binding => Key::Secret(kind, random_32()?),
            KeyKind::Cmac => {
                let mut key = [0; 16];
                getrandom::fill(&mut key).map_err(bug)?;
                Key::Cmac(key)
            }
        };
        state.keys.insert(label.clone(), key);
        Ok(())
    }

    async fn destroy_key(&self, label: &KeyLabel) -> Result<(), HsmError> {
        let mut state = self.serve()?;
        match state.keys.remove(label) {
            Some(_) => Ok(()),
            None => Err(unknown(label)),
        }
    }

    async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError> {
        let state = self.serve()?;
        let report = |(label, key): (&KeyLabel, &Key)| KeyReport {
            label: label.clone(),
            kind: Some(key.kind()),
            sensitive: true,
            extractable: false,
            modifiable: false,
            copyable: false,
            findings: Vec::new(),
            lacked_by: Vec::new(),
            unseen_on: Vec::new(),
        };
        Ok(state.keys.iter().map(report).collect())
    }

    fn health(&self) -> Health {
        let shown = self.state().health.clone();
        let (state, reason) = shown.unwrap_or((HealthState::Ready, None));
        Health::of_one(state, (0, QUEUE_MAX), reason)
    }
}

#[derive(Default)]
struct State {
    keys: BTreeMap<KeyLabel, Key>,
    failures: VecDeque<HsmError>,
    /// How many more calls are served, and how those after them fail.
    last_words: Option<(usize, HsmError)>,
    health: Option<(HealthState, Option<String>)>,
}

#[derive(Clone)]
enum Key {
    Secret(KeyKind, [u8; 32]),
    Signing(SigningKey),
    Cmac([u8; 16]),
}

impl Key {
    fn kind(&self) -> KeyKind {
        match self {
            Self::Secret(kind, _) => *kind,
            Self::Signing(_) => KeyKind::Signing,
            Self::Cmac(_) => KeyKind::Cmac,
        }
    }
}

impl State {
    fn secret(&self, wanted: KeyKind, label: &KeyLabel) -> Result<&[u8; 32], HsmError> {
        match self.keys.get(label) {
            Some(Key::Secret(kind, key)) if *kind == wanted => Ok(key),
            _ => Err(unknown(label)),
        }
    }

    fn signing(&self, label: &KeyLabel) -> Result<&SigningKey, HsmError> {
        match self.keys.get(label) {
            Some(Key::Signing(key)) => Ok(key),
            _ => Err(unknown(label)),
        }
    }

    fn cmac_key(&self, label: &KeyLabel) -> Result<&[u8; 16], HsmError> {
        match self.keys.get(label) {
            Some(Key::Cmac(key)) => Ok(key),
            _ => Err(unknown(label)),
        }
    }

    fn bind(&self, keys: &SealingKeys, context: &[u8], blob: &[u8]) -> Result<[u8; 32], HsmError> {
        let key = self.secret(KeyKind::Binding, &keys.binding)?;
        Ok(hmac(key, &[&binding::input(&keys.sealing, context, blob)]))
    }

    fn prove_binding(&self, keys: &SealingKeys, seed: &SealedSeed) -> Result<(), HsmError> {
        let computed = self.bind(keys, &seed.context, &seed.blob)?;
        match binding::matches(&computed, &seed.binding) {
            true => Ok(()),
            false => Err(not_ours("its binding does not verify")),
        }
    }
}

fn wrap(key: &[u8; 32], seed: &[u8; 32]) -> Vec<u8> {
    let iv = &hmac(key, &[b"iv", seed])[..IV_LEN];
    let stream = hmac(key, &[b"stream", iv]);
    let body = seed.iter().zip(stream).map(|(a, b)| a ^ b);
    iv.iter().copied().chain(body).collect()
}

fn unwrap(key: &[u8; 32], blob: &[u8]) -> Result<[u8; 32], HsmError> {
    let (iv, body) = blob
        .split_at_checked(IV_LEN)
        .ok_or_else(|| not_ours("its blob is too short"))?;
    let stream = hmac(key, &[b"stream", iv]);
    let seed: Vec<u8> = body.iter().zip(stream).map(|(a, b)| a ^ b).collect();
    let seed: [u8; 32] = seed
        .try_into()
        .map_err(|_| not_ours("its blob is too short"))?;
    match wrap(key, &seed) == blob {
        true => Ok(seed),
        false => Err(not_ours("its blob does not unwrap")),
    }
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn cmac(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let mut mac = <cmac::Cmac<Aes128> as KeyInit>::new(key.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn new_signing_key() -> Result<SigningKey, HsmError> {
    SigningKey::from_slice(&random_32()?).map_err(bug)
}

fn random_32() -> Result<[u8; 32], HsmError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(bug)?;
    Ok(bytes)
}

fn unknown(label: &KeyLabel) -> HsmError {
    HsmError::KeyUnknown {
        label: label.0.clone(),
    }
}

fn not_ours(detail: &str) -> HsmError {
    HsmError::NotOurKey {
        detail: detail.into(),
    }
}

fn bug(error: impl std::fmt::Display) -> HsmError {
    HsmError::Bug {
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_wraps_to_the_length_of_rfc_3394_and_back() {
        let blob = wrap(&[1; 32], &[2; 32]);
        assert_eq!(blob.len(), 40);
        assert_eq!(unwrap(&[1; 32], &blob), Ok([2; 32]));
    }

    #[test]
    fn a_changed_bit_or_a_foreign_key_does_not_unwrap() {
        let blob = wrap(&[1; 32], &[2; 32]);
        for bit in 0..blob.len() * 8 {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(&[1; 32], &changed).is_err());
        }
        assert!(unwrap(&[3; 32], &blob).is_err());
        assert!(unwrap(&[1; 32], &blob[..39]).is_err());
    }

    #[tokio::test]
    async fn an_injected_failure_happens_once() {
        let hsm = MemoryHsm::new();
        let busy = HsmError::Busy {
            detail: "test".into(),
        };
        hsm.fail_next(busy.clone());
        assert_eq!(hsm.random(8).await, Err(busy));
        assert!(hsm.random(8).await.is_ok());
    }
}

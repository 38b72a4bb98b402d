//! How fast is the same HSM token without us?
//!
//! The PKCS#11 calls of [`crate::Hsm::hmac_batch`] and [`crate::Hsm::sign`] in a bare loop: one
//! session, handles at hand, no queue, no deadline, no retry. Benchmarks stand beside it.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};

use crate::{
    HsmError, KeyLabel, Module, Pin, SealedSeed, SealingKeys, binding,
    failure::{Class, Failure},
    pkcs11::{TokenName, template},
};

/// Whether the binding of a seed is computed before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingMac {
    Computed,
    /// It held before: what [`crate::Hsm::hmac_batch`] does from the second time on.
    Known,
}

/// A session and three key handles.
pub struct Bare {
    session: Session,
    sealing: ObjectHandle,
    binding: ObjectHandle,
    signing: ObjectHandle,
    sealing_label: KeyLabel,
}

impl Bare {
    /// Logs in, unless this process is logged in already, and looks the keys up.
    pub fn open(
        module: &Module,
        token_label: &str,
        pin: &Pin,
        keys: &SealingKeys,
        signing: &KeyLabel,
    ) -> Result<Self, HsmError> {
        Self::try_open(module, token_label, pin, keys, signing).map_err(|failure| failure.error)
    }

    /// Binding mac if so, unwrap, one HMAC per message, destroy; the number of messages' macs.
    pub fn epoch_keys(
        &self,
        sealed: &SealedSeed,
        binding: BindingMac,
        messages: &[Vec<u8>],
    ) -> Result<usize, HsmError> {
        self.try_epoch_keys(sealed, binding, messages)
            .map_err(|failure| failure.error)
    }

    /// One ECDSA signature; its length.
    pub fn sign(&self, digest: &[u8; 32]) -> Result<usize, HsmError> {
        let signature = self.session.sign(&Mechanism::Ecdsa, self.signing, digest);
        Ok(signature
            .map_err(Failure::from)
            .map_err(|failure| failure.error)?
            .len())
    }

    fn try_open(
        module: &Module,
        token_label: &str,
        pin: &Pin,
        keys: &SealingKeys,
        signing: &KeyLabel,
    ) -> Result<Self, Failure> {
        let name = TokenName {
            label: token_label.to_owned(),
            serial: None,
        };
        let session = module.pkcs11().open_rw_session(module.slot(&name)?)?;
        let pin = AuthPin::from(pin.expose().to_owned());
        if let Err(error) = session.login(UserType::User, Some(&pin)) {
            tracing::debug!(%error, "logged in by another session of this process");
        }
        let find = |label: &KeyLabel| {
            let by_label = [
                Attribute::Label(label.0.clone().into_bytes()),
                Attribute::Private(true),
            ];
            let found = session.find_objects(&by_label)?;
            found
                .first()
                .copied()
                .ok_or(Failure::new(Class::CallersFault, label.0.clone()))
        };
        Ok(Self {
            sealing: find(&keys.sealing)?,
            binding: find(&keys.binding)?,
            signing: find(signing)?,
            sealing_label: keys.sealing.clone(),
            session,
        })
    }

    fn try_epoch_keys(
        &self,
        sealed: &SealedSeed,
        binding: BindingMac,
        messages: &[Vec<u8>],
    ) -> Result<usize, Failure> {
        if binding == BindingMac::Computed {
            let header = binding::input(&self.sealing_label, &sealed.context, &sealed.blob);
            self.session
                .sign(&Mechanism::Sha256Hmac, self.binding, &header)?;
        }
        let template = template::unsealed_seed();
        let seed = self.session.unwrap_key(
            &Mechanism::AesKeyWrap,
            self.sealing,
            &sealed.blob,
            &template,
        )?;
        let mut macs = 0;
        for message in messages {
            macs += self
                .session
                .sign(&Mechanism::Sha256Hmac, seed, message)?
                .len()
                / 32;
        }
        self.session.destroy_object(seed)?;
        Ok(macs)
    }
}

//! What does a worker hold of an HSM token?
//!
//! A logged-in session, and the handles of the keys it has used. Both die with a stray logout, a
//! closed session or a restarted module; then a new one is made from [`Token`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cryptoki::{
    error::{Error, RvError},
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::{Session, SessionState, UserType},
    types::AuthPin,
};

use super::{
    answers::{Answer, Answers},
    bindings::Bindings,
    module::{Module, TokenName, patiently},
};
use crate::{
    HsmError, KeyLabel, Observer, Pin,
    failure::{Class, Failure},
};

/// The kind of commands that compare a key, one of [`crate::COMMANDS`].
const PROOF: &str = "proof";

/// An HSM token and the way in.
pub(crate) struct Token {
    name: TokenName,
    pin: Pin,
    observer: Option<Arc<dyn Observer>>,
    /// Set once the PIN was refused; held while one worker logs in for all.
    pin_refused: Mutex<Option<Failure>>,
    /// Keys destroyed so far: what others remember of handles is worth nothing after each.
    destroyed: AtomicU64,
    answers: Arc<Answers>,
    bindings: Arc<Bindings>,
}

impl Token {
    pub(crate) fn new(name: TokenName, pin: Pin, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            name,
            pin,
            observer,
            pin_refused: Mutex::new(None),
            destroyed: AtomicU64::new(0),
            answers: Arc::default(),
            bindings: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &TokenName {
        &self.name
    }

    pub(crate) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Every session forgets its handles before it works again: a module may give the handle of a
    /// destroyed key to another one.
    pub(crate) fn note_destroyed(&self) {
        self.destroyed.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn destroyed(&self) -> u64 {
        self.destroyed.load(Ordering::SeqCst)
    }

    /// Opens a session and sees to it that the HSM token is logged in. Inside the module's gate.
    pub(crate) fn connect(
        &self,
        module: &Module,
        generation: u64,
    ) -> Result<TokenSession, Failure> {
        let slot = module.slot(&self.name)?;
        // Not closed by itself: after a restart the same number may be somebody else's session.
        let session = patiently(|| module.pkcs11().open_rw_session_no_drop(slot))?;
        if let Err(failure) = self.log_in(&session) {
            close(session);
            return Err(failure);
        }
        Ok(TokenSession {
            session,
            generation,
            handles: HashMap::new(),
            destroyed: self.destroyed(),
            answers: self.answers.clone(),
            bindings: self.bindings.clone(),
            observer: self.observer.clone(),
            is_proving: false,
        })
    }

    /// A PIN that was refused is not tried again: a few wrong ones lock the HSM token.
    fn log_in(&self, session: &Session) -> Result<(), Failure> {
        let mut refused = self
            .pin_refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &*refused {
            return Err(failure.clone());
        }
        if is_logged_in(session)? {
            return Ok(());
        }
        let pin = AuthPin::from(self.pin.expose().to_owned());
        match patiently(|| session.login(UserType::User, Some(&pin))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => {
                let failure = Failure::from(error);
                if failure.class == Class::Pin {
                    *refused = Some(failure.clone());
                }
                Err(failure)
            }
        }
    }
}

/// Which objects carry the label of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Sealing,
    Binding,
    SigningPrivate,
    SigningPublic,
    Cmac,
}

pub(crate) struct TokenSession {
    session: Session,
    generation: u64,
    handles: HashMap<Part, HashMap<KeyLabel, Held>>,
    /// How many keys were destroyed when the handles were looked up.
    destroyed: u64,
    answers: Arc<Answers>,
    bindings: Arc<Bindings>,
    observer: Option<Arc<dyn Observer>>,
    /// What goes to the device now compares a key, and serves nobody.
    is_proving: bool,
}

struct Held {
    object: ObjectHandle,
    /// What it answered to its proof, of a secret key.
    answer: Option<Answer>,
    uses: u32,
}

impl TokenSession {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// A command goes to the device.
    pub(crate) fn count(&self, command: &'static str) {
        if let Some(observer) = &self.observer {
            observer.command(if self.is_proving { PROOF } else { command });
        }
    }

    pub(crate) fn answers(&self) -> &Answers {
        &self.answers
    }

    pub(crate) fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Commands of this work count as those of a proof.
    pub(crate) fn prove<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.is_proving = true;
        let done = work(self);
        self.is_proving = false;
        done
    }

    pub(crate) fn raw(&self) -> &Session {
        &self.session
    }

    /// The object that was kept as this part of the key with this label.
    pub(crate) fn known(&self, part: Part, label: &KeyLabel) -> Option<ObjectHandle> {
        let held = self.handles.get(&part)?.get(label)?;
        Some(held.object)
    }

    /// What the key that is kept as this one answered to its proof.
    pub(crate) fn answered(&self, part: Part, label: &KeyLabel) -> Option<&Answer> {
        self.handles.get(&part)?.get(label)?.answer.as_ref()
    }

    /// Looked up no more, until the session ends or a key is destroyed.
    pub(crate) fn keep(
        &mut self,
        part: Part,
        label: &KeyLabel,
        object: ObjectHandle,
        answer: Option<Answer>,
    ) {
        let keys = self.handles.entry(part).or_default();
        let held = Held {
            object,
            answer,
            uses: 0,
        };
        keys.insert(label.clone(), held);
    }

    pub(crate) fn forget(&mut self, part: Part, label: &KeyLabel) {
        if let Some(keys) = self.handles.get_mut(&part) {
            keys.remove(label);
        }
    }

    /// How often it was used since it was looked up.
    pub(crate) fn uses(&self, part: Part, label: &KeyLabel) -> u32 {
        let held = self.handles.get(&part).and_then(|keys| keys.get(label));
        held.map_or(0, |held| held.uses)
    }

    pub(crate) fn note_use(&mut self, part: Part, label: &KeyLabel) {
        let held = self.handles.get_mut(&part);
        if let Some(held) = held.and_then(|keys| keys.get_mut(label)) {
            held.uses = held.uses.wrapping_add(1);
        }
    }

    /// Forgets every handle if a key was destroyed since they were looked up.
    pub(crate) fn follow(&mut self, destroyed: u64) {
        if self.destroyed != destroyed {
            self.handles.clear();
            self.destroyed = destroyed;
        }
    }

    /// Every key object with this label, private and secret ones first.
    pub(crate) fn halves(&self, label: &KeyLabel) -> Result<Vec<ObjectHandle>, Failure> {
        self.require_login()?;
        let mut found = Vec::new();
        for class in [
            ObjectClass::PRIVATE_KEY,
            ObjectClass::SECRET_KEY,
            ObjectClass::PUBLIC_KEY,
        ] {
            let template = [
                Attribute::Class(class),
                Attribute::Token(true),
                Attribute::Label(label.0.clone().into_bytes()),
            ];
            found.extend(self.session.find_objects(&template)?);
        }
        Ok(found)
    }

    /// Whether any object carries this label.
    pub(crate) fn is_taken(&self, label: &KeyLabel) -> Result<bool, Failure> {
        self.require_login()?;
        let template = [Attribute::Label(label.0.clone().into_bytes())];
        Ok(!self.session.find_objects(&template)?.is_empty())
    }

    /// Logged out, a search finds nothing and says nothing: ask before believing it.
    pub(crate) fn require_login(&self) -> Result<(), Failure> {
        match is_logged_in(&self.session)? {
            true => Ok(()),
            false => Err(Failure::new(Class::LostSession, "logged out by others")),
        }
    }

    /// Only while the module is still of this session's generation.
    pub(crate) fn close(self) {
        close(self.session);
    }

    /// The one object that is this part of the key with this label.
    pub(crate) fn look_up(&self, part: Part, label: &KeyLabel) -> Result<ObjectHandle, Failure> {
        let mut template = part.template();
        template.push(Attribute::Label(label.0.clone().into_bytes()));
        match *self.session.find_objects(&template)? {
            [handle] => Ok(handle),
            [] => {
                self.require_login()?;
                Err(Failure::refusal(HsmError::KeyUnknown {
                    label: label.0.clone(),
                }))
            }
            ref several => Err(Failure::new(
                Class::CallersFault,
                format!("{} keys are labelled {:?}", several.len(), label.0),
            )),
        }
    }
}

impl Part {
    fn template(self) -> Vec<Attribute> {
        let (class, kind) = match self {
            Self::Sealing | Self::Cmac => (ObjectClass::SECRET_KEY, KeyType::AES),
            Self::Binding => (ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET),
            Self::SigningPrivate => (ObjectClass::PRIVATE_KEY, KeyType::EC),
            Self::SigningPublic => (ObjectClass::PUBLIC_KEY, KeyType::EC),
        };
        let mut template = vec![
            Attribute::Class(class),
            Attribute::KeyType(kind),
            Attribute::Token(true),
        ];
        // Two kinds of AES keys, told apart by what they may do.
        match self {
            Self::Sealing => template.push(Attribute::Wrap(true)),
            Self::Cmac => template.push(Attribute::Sign(true)),
            Self::Binding | Self::SigningPrivate | Self::SigningPublic => {}
        }
        template
    }
}

fn is_logged_in(session: &Session) -> Result<bool, Error> {
    let state = session.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RwUser | SessionState::RoUser))
}

fn close(session: Session) {
    if let Err(error) = session.close() {
        tracing::debug!(%error, "a PKCS#11 session was closed already");
    }
}

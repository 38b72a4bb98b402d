//! How does a worker reach its HSM token while the module may be started again by others?

use std::sync::Arc;

use super::{
    module::Module,
    proof,
    session::{Token, TokenSession},
};
use crate::{
    clock,
    failure::{Class, Failure},
    worker::{Link, Task},
};

pub(crate) struct TokenLink {
    module: Arc<Module>,
    token: Arc<Token>,
    session: Option<TokenSession>,
    /// The generation of the module that was last worked with: the one to blame for a failure.
    seen: u64,
}

impl TokenLink {
    pub(crate) fn new(module: Arc<Module>, token: Arc<Token>) -> Self {
        Self {
            module,
            token,
            session: None,
            seen: 0,
        }
    }

    /// Makes a session before the first request needs it.
    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        self.with_session(|_, _| Ok(()))
    }

    fn with_session(
        &mut self,
        work: impl FnOnce(&mut TokenSession, &Module) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let generation = self.module.enter();
        self.seen = *generation;
        // The module was started again: the old session is gone, and closing it would hit another.
        self.session
            .take_if(|session| session.generation() != *generation);
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.token.connect(&self.module, *generation)?),
        };
        session.follow(self.token.destroyed());
        work(session, &self.module)
    }

    /// Looks whether keys that were others are the right ones again, which nobody else may ask for.
    fn look_at_foreign(&mut self) {
        for (label, part) in self.token.answers().poll_foreign(clock::now()) {
            let looked = self
                .with_session(|session, module| proof::prove_again(session, module, part, &label));
            if let Err(failure) = looked
                && failure.class == Class::LostSession
            {
                return self.forget_session();
            }
        }
    }
}

impl Link for TokenLink {
    type Session = TokenSession;

    fn work(&mut self, task: &mut dyn Task<TokenSession>) -> Result<(), Failure> {
        self.with_session(|session, _| task.attempt(session))
    }

    fn forget_session(&mut self) {
        let generation = self.module.enter();
        if let Some(session) = self.session.take()
            && session.generation() == *generation
        {
            session.close();
        }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        tracing::warn!(
            token = %self.token.name(),
            "starting the PKCS#11 module again"
        );
        self.module.restart(self.seen)
    }

    fn maintain(&mut self) {
        self.look_at_foreign();
        if !self.module.recycling_is_due() {
            return;
        }
        if let Err(failure) = self.module.restart(self.seen) {
            tracing::warn!(error = %failure.error, "the PKCS#11 module did not start again");
        }
    }
}

impl Drop for TokenLink {
    fn drop(&mut self) {
        self.forget_session();
    }
}

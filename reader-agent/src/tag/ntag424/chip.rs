//! How is one NTAG 424 DNA spoken to?
//!
//! The order of calls is here; what is in them is `session` and `command`. Whatever goes wrong ends
//! the session, on both sides.

use protocol::aes_key::AesKey;
use protocol::sun::KeySlot;

use super::command::{Answer, Command, SELECT_NDEF};
use super::session::{self, CHALLENGE, Proof, Session};
use crate::tag::{Card, TagError};

const SELECTED: [u8; 2] = [0x90, 0x00];
const AUTHENTICATION_ERROR: u8 = 0xAE;
const AUTHENTICATION_DELAY: u8 = 0xAD;
/// Vendor NXP, type NTAG, of any sub-type, hardware 30.
const VENDOR: u8 = 0x04;
const TYPE_NTAG: u8 = 0x04;
const HARDWARE_424: u8 = 0x30;

/// A tag with its NDEF application selected.
pub(super) struct Chip<'a> {
    card: &'a dyn Card,
    session: Option<Session>,
}

impl<'a> Chip<'a> {
    /// `None` if this is no type 4 tag.
    pub(super) fn select(card: &'a dyn Card) -> Result<Option<Self>, TagError> {
        let answer = card.transmit(&SELECT_NDEF)?;
        let session = None;
        Ok((answer == SELECTED).then_some(Self { card, session }))
    }

    /// Whether the chip says it is an NTAG 424 DNA.
    pub(super) fn is_a_424(&mut self) -> Result<bool, TagError> {
        let mut answer = self.transmit(&Command::get_version().bare())?;
        let is_one = matches!(
            &answer,
            Answer::More(hardware) if matches!(
                hardware[..],
                [VENDOR, TYPE_NTAG, _, HARDWARE_424, ..]
            )
        );
        // An answer in parts is heard to its end, or the next command is refused.
        for _ in 0..2 {
            if let Answer::More(_) = answer {
                answer = self.transmit(&Command::go_on().bare())?;
            }
        }
        Ok(is_one)
    }

    /// Opens a session under a key that the slot is known to have.
    pub(super) fn authenticate(&mut self, slot: KeySlot, key: &AesKey) -> Result<(), TagError> {
        let before = self.session.take();
        let opening = match before {
            Some(_) => session::non_first(slot),
            None => session::first(slot),
        };
        let challenge = match self.transmit(&opening)? {
            Answer::More(challenge) => challenge,
            answer => return Err(refusal("authentication", &answer)),
        };
        let mut ours = [0; CHALLENGE];
        getrandom::fill(&mut ours).map_err(|_| TagError::Bug)?;
        let begun = Proof::begin(key, ours, &challenge);
        let (proof, sent) = begun.map_err(|_| TagError::Garbled)?;
        let answer = match self.transmit(&sent)? {
            Answer::Done(answer) => answer,
            answer => return Err(refusal("authentication", &answer)),
        };
        let opened = match before {
            Some(before) => proof.opened_next(&answer, &before),
            None => proof.opened_first(&answer),
        };
        self.session = Some(opened.map_err(|_| TagError::Counterfeit)?);
        Ok(())
    }

    /// Forgets the session: the next one is the first of a transaction.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
    }

    /// One command, in the session if there is one; `what` is what it is called in an error.
    pub(super) fn run(
        &mut self,
        what: &'static str,
        command: &Command,
    ) -> Result<Vec<u8>, TagError> {
        let mut session = self.session.take();
        let sent = match &session {
            Some(session) => session.wrap(command),
            None => command.bare(),
        };
        let answer = match self.transmit(&sent)? {
            Answer::Done(answer) => answer,
            answer => return Err(refusal(what, &answer)),
        };
        let plain = match &mut session {
            Some(session) => session
                .unwrap(command, &answer)
                .map_err(|_| TagError::Garbled)?,
            None => answer,
        };
        self.session = session.filter(|_| !command.ends_session);
        Ok(plain)
    }

    fn transmit(&self, apdu: &[u8]) -> Result<Answer, TagError> {
        self.card.transmit(apdu).map(|answer| Answer::of(&answer))
    }
}

/// A reader whose tag has left has an answer, too, but not one of such a tag.
fn refusal(what: &'static str, answer: &Answer) -> TagError {
    match answer {
        Answer::Refused(AUTHENTICATION_ERROR) if what == "authentication" => TagError::Counterfeit,
        Answer::Refused(AUTHENTICATION_DELAY) => TagError::Delayed,
        Answer::Refused(status) => TagError::Refused {
            what,
            status: *status,
        },
        Answer::Done(_) | Answer::More(_) => TagError::Garbled,
        Answer::Foreign => TagError::Removed,
    }
}

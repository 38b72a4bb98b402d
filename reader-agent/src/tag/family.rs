//! Which kind of tag is this, and who knows how to treat it?
//!
//! A family recognises its tags and carries out the four errands in its own way. Nothing outside a
//! family asks which one it is; another one is another line in [`FAMILIES`].

use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::wire::reports::TagSigns;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::key_file::TagKeys;
use super::ntag21x::Ntag21x;
use super::ntag424::Ntag424;
use super::record::{TagRecord, TagSafe};
use super::taps::{LastCounter, TapLedger};
use super::{Card, TagError, hex};

/// Every family there is, in the order in which they are asked.
static FAMILIES: [&dyn TagFamily; 2] = [&Ntag21x, &Ntag424];

/// One kind of tag.
pub(super) trait TagFamily: Sync {
    /// As people call it.
    fn name(&self) -> &'static str;
    /// Whether this tag is of the family, asking it only what any card survives.
    fn recognises(&self, at: &At<'_>) -> Result<bool, TagError>;
    /// Whether this was written down of a tag of the family.
    fn owns(&self, record: &TagRecord) -> bool;
    /// Makes the tag hold an NDEF message; an empty one is none.
    fn show(&self, at: &At<'_>, message: &[u8]) -> Result<Done, TagError>;
    /// Makes the tag this terminal's, so that nobody else writes it.
    fn personalise(&self, at: &At<'_>, wish: &Wish) -> Result<Done, TagError>;
    /// Says how the tag is, and changes nothing.
    fn check(&self, at: &At<'_>) -> Result<Done, TagError>;
    /// Makes the tag as it was delivered.
    fn reset(&self, at: &At<'_>, wish: &Wish) -> Result<Done, TagError>;
}

/// What is to be done with the tag. Mute: a message has a token in it.
#[derive(Clone)]
pub enum Errand {
    /// Only in the terminal's own tag's favour, once one was personalised.
    Show(Vec<u8>),
    Personalise(Box<Wish>),
    Check,
    Reset(Box<Wish>),
}

/// How a tag shall become, and the keys it takes.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The keys to put on a tag, or that are on it and shall go.
    pub keys: Option<TagKeys>,
    /// The keys that are on the tag, if it has some of ours already.
    pub old_keys: Option<TagKeys>,
    /// How long the message is that the tag shall sign; `None` leaves links unsigned.
    pub signed_message: Option<u8>,
}

/// One tag in one visit, and what is known of it.
pub(super) struct At<'a> {
    pub card: &'a dyn Card,
    pub uid: &'a [u8],
    pub record: Option<TagRecord>,
    pub safe: &'a dyn TagSafe,
    /// Never held while the tag is spoken to: a tag may stay silent for ever.
    pub memory: &'a Mutex<TagMemory>,
}

/// What was done, after the tag itself confirmed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Pages or frames programmed: wear.
    pub writes: u32,
    /// Reads by phones since the last visit, if that can be said.
    pub taps: Option<u32>,
    /// The counter when the visit began, if an earlier value of this tag is known.
    pub counter_found: Option<u32>,
    pub counter: Option<u32>,
    /// What a tag that signs said under its key after it was written.
    pub signs: Option<TagSigns>,
    /// What phones find, as read back.
    pub area: Vec<u8>,
    /// The tag did not hold what was left on it.
    pub was_altered: bool,
    /// What there is to tell, in words.
    pub said: Vec<String>,
}

/// What an agent remembers of tags while it runs.
#[derive(Debug, Default)]
pub struct TagMemory {
    pub taps: TapLedger,
    left: Option<LeftOn>,
    /// The tag that lies there, if it proved not to be ours by what is known of it.
    distrusted: Option<LeftOn>,
}

impl TagMemory {
    /// With what a run left that ended in good order; without it the last counter is only what was kept.
    pub fn resume(last: Option<LastCounter>, left: Option<LeftOn>) -> Self {
        let ended_at = |last: &LastCounter| left.as_ref().is_some_and(|l| l.uid == last.tag_uid);
        let in_order = last.as_ref().is_some_and(ended_at);
        Self {
            taps: TapLedger::resume(last, in_order),
            left,
            ..Self::default()
        }
    }

    /// What the last good visit left on this tag. Asked once: until this visit is good, nobody knows.
    pub(super) fn take_left(&mut self, uid: &[u8]) -> Option<LeftOn> {
        self.left.take().filter(|left| left.uid == uid)
    }

    /// Whoever keeps the books has this visit's taps.
    pub fn handle_told(&mut self, uid: &[u8], taps: Option<u32>) {
        self.taps.handle_told(uid, taps.unwrap_or(0));
    }

    /// Whatever lay there is gone; what comes is judged anew.
    pub fn handle_gone(&mut self) {
        self.distrusted = None;
    }

    pub(super) fn leave(&mut self, left: LeftOn) {
        self.left = Some(left);
    }
}

/// What belongs to a tag, by its digest: to tell whether it is the same later. It has no secret in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOn {
    uid: Vec<u8>,
    bytes: usize,
    digest: [u8; 32],
}

impl LeftOn {
    pub fn new(uid: &[u8], area: &[u8]) -> Self {
        Self {
            uid: uid.to_vec(),
            bytes: area.len(),
            digest: Sha256::digest(area).into(),
        }
    }

    /// False as well if too little was read to tell.
    pub(super) fn differs(&self, found: &[u8]) -> bool {
        let found = found.get(..self.bytes);
        found.is_some_and(|found| Sha256::digest(found)[..] != self.digest)
    }
}

impl At<'_> {
    pub(super) fn memory(&self) -> MutexGuard<'_, TagMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which tag this is and what is known of it, not to be confused with one of which more is known.
    fn known(&self) -> LeftOn {
        let record = serde_json::to_vec(&self.record).unwrap_or_default();
        LeftOn::new(self.uid, &Zeroizing::new(record))
    }

    /// Writes down what is about to be done, so that after a cut it is known.
    pub(super) fn keep(&self, record: &TagRecord) -> Result<(), TagError> {
        self.safe.keep(self.uid, record)
    }
}

/// What lies on a reader, recognised.
pub struct Recognised<'a> {
    family: &'static dyn TagFamily,
    at: At<'a>,
}

impl<'a> Recognised<'a> {
    /// Finds the family of a card.
    pub fn find(
        card: &'a dyn Card,
        uid: &'a [u8],
        safe: &'a dyn TagSafe,
        memory: &'a Mutex<TagMemory>,
    ) -> Result<Self, TagError> {
        let record = safe.recall(uid)?;
        let at = At {
            card,
            uid,
            record,
            safe,
            memory,
        };
        for family in FAMILIES {
            if family.recognises(&at)? {
                return match at.record.as_ref().is_none_or(|record| family.owns(record)) {
                    true => Ok(Self { family, at }),
                    // Our tag's number on another kind of chip.
                    false => Err(TagError::Counterfeit),
                };
            }
        }
        let atr = card.atr().to_vec();
        Err(TagError::NotAnNtag { atr })
    }

    pub fn name(&self) -> &'static str {
        self.family.name()
    }

    pub fn carry_out(&self, errand: &Errand) -> Result<Done, TagError> {
        match errand {
            Errand::Show(message) => self.show(message),
            Errand::Personalise(wish) => self.family.personalise(&self.at, wish),
            Errand::Check => self.check(),
            Errand::Reset(wish) => self.family.reset(&self.at, wish),
        }
    }

    /// A key that was refused is not tried again while the tag lies there: a tag counts wrong keys.
    fn show(&self, message: &[u8]) -> Result<Done, TagError> {
        self.refuse_replaced()?;
        let known = Some(self.at.known());
        if self.at.memory().distrusted == known {
            return Err(TagError::Counterfeit);
        }
        let shown = self.family.show(&self.at, message);
        if shown == Err(TagError::Counterfeit) {
            self.at.memory().distrusted = known;
        }
        shown
    }

    /// Once a terminal has a tag of its own, no other one is written.
    fn refuse_replaced(&self) -> Result<(), TagError> {
        match self.at.safe.own()? {
            Some(own) if own != self.at.uid => Err(TagError::Replaced {
                own,
                found: self.at.uid.to_vec(),
            }),
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<Done, TagError> {
        let mut done = self.family.check(&self.at)?;
        let uid = hex(self.at.uid);
        let whose = match self.at.safe.own()? {
            Some(own) if own == self.at.uid => "this terminal's own tag",
            Some(_) => "another tag than this terminal's own",
            None => "no tag was personalised for this terminal",
        };
        done.said
            .insert(0, format!("{} {uid}: {whose}", self.name()));
        Ok(done)
    }
}

//! Which texts came in, where does each payment by SMS stand, and what is still to be sent?
//!
//! [`crate::sms::talk`] decides; what it decided is one [`Turn`], and one transaction.

use async_trait::async_trait;
use protocol::ids::ClaimId;
use protocol::time::{Millis, Timestamp};
use uuid::Uuid;

use super::Result;
use crate::sms::{Language, PhoneNumber, Say, Stage, Talk, TalkId};

/// Texts of one number within [`TEXTS_SPAN_MS`] that are answered; more are dropped.
pub const TEXTS_IN_SPAN_MAX: u32 = 20;
pub const TEXTS_SPAN_MS: Millis = 60 * 60 * 1000;
/// How long the same code or number from the same phone is the same text, delivered twice.
pub const SAME_TEXT_MS: Millis = 30_000;
/// How long texts are remembered, so that a late delivery is found to be one.
pub const TEXTS_KEPT_MS: Millis = 7 * 24 * 60 * 60 * 1000;

/// A text as the gateway names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TextId {
    pub gateway: String,
    pub message: String,
}

/// A text that came in. Mute: the text may hold a code that is good.
#[derive(Clone)]
pub struct NewText {
    pub id: TextId,
    pub number: PhoneNumber,
    /// Of the code or number in it, if it holds one.
    pub print: Option<[u8; 32]>,
    pub text: String,
    pub at: Timestamp,
}

impl std::fmt::Debug for NewText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewText({}, ..)", self.number)
    }
}

/// What becomes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// It is kept, and will be answered.
    Heard,
    /// The gateway delivered it before: by its id, or the same words a moment ago.
    Again,
    /// The number writes too much: dropped.
    TooMany,
}

/// A text that waits for its answer.
#[derive(Debug, Clone)]
pub struct StoredText {
    pub text: NewText,
    /// What the number chose, if it chose.
    pub language: Option<Language>,
    /// Wrong numbers that this phone replied with, of late.
    pub wrong: u32,
}

/// Everything that follows from one text, or from the time: all of it, or nothing.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The text that is answered by it.
    pub text: Option<TextId>,
    pub talk: Option<TalkTurn>,
    pub letters: Vec<NewLetter>,
    /// What a phone chose: a language, or to be forgotten.
    pub choice: Option<(PhoneNumber, Choice)>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Language(Language),
    Forget,
}

/// How a talk changes.
#[derive(Debug, Clone)]
pub enum TalkTurn {
    /// A new one; the one that `ends` is over.
    Begin {
        talk: Box<Talk>,
        ends: Option<TalkId>,
    },
    /// From this stage to what `to` says; a wrong number is counted for the phone as well.
    To {
        from: Stage,
        to: Box<Talk>,
        wrong: bool,
    },
}

/// An SMS to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLetter {
    pub id: Uuid,
    pub number: PhoneNumber,
    pub language: Language,
    pub talk: Option<TalkId>,
    pub say: Say,
}

/// An SMS that is due.
#[derive(Debug, Clone)]
pub struct Letter {
    pub letter: NewLetter,
    /// The talk as it stands, while it is open.
    pub talk: Option<Talk>,
    pub made_at: Timestamp,
    pub tries: u32,
}

#[async_trait]
pub trait Texts {
    /// Keeps a text before the gateway is told that we have it.
    async fn hear(&self, text: NewText) -> Result<Hearing>;

    /// Texts that wait, the oldest first, with the wrong numbers of their phones since `wrong_since`.
    async fn texts_waiting(&self, wrong_since: Timestamp, limit: u32) -> Result<Vec<StoredText>>;

    /// What this phone is in the middle of.
    async fn talk_of(&self, number: PhoneNumber) -> Result<Option<Talk>>;

    async fn talk(&self, id: TalkId) -> Result<Option<Talk>>;

    /// False if the talk has moved on, or the text was answered: then nothing was changed.
    async fn take_turn(&self, turn: Turn) -> Result<bool>;

    /// Open talks whose stage ends by itself or is to be taken up, the longest due first.
    async fn talks_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Talk>>;

    /// What is to be sent, the longest due first.
    async fn letters_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Letter>>;

    /// The gateway has it, or it is not worth sending any more.
    async fn letter_done(&self, id: Uuid) -> Result<()>;

    /// The gateway did not take it: again then.
    async fn letter_again(&self, id: Uuid, next_at: Timestamp) -> Result<()>;

    /// How many are to be sent.
    async fn letters_waiting(&self) -> Result<u64>;

    /// Forgets texts and wrong numbers from before then; answers how many.
    async fn forget_texts(&self, before: Timestamp, limit: u32) -> Result<usize>;

    /// The stage of the talk that made this claim.
    async fn talk_stage(&self, claim: ClaimId) -> Result<Option<Stage>>;
}

//! What does the agent need of a tag, whoever writes it?

use async_trait::async_trait;
use protocol::wire::reports::TagSigns;

use crate::tag::LeftOn;

/// The seam between rotation and card readers.
#[async_trait]
pub trait TagWriter: Send + Sync {
    /// Makes the tag hold this NDEF message, and read it back.
    async fn show(&self, message: Vec<u8>) -> Result<TagVisit, TagFailure>;
    /// Makes the tag hold nothing that a phone could open.
    async fn blank(&self) -> Result<TagVisit, TagFailure>;
    fn status(&self) -> TagHealth;
}

/// What a visit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagVisit {
    /// Upper-case hexadecimal.
    pub uid: String,
    pub pages: u32,
    /// Reads by phones since the last visit, if the tag can tell.
    pub taps: Option<u32>,
    /// The tag's counter when the visit began, if an earlier value of it is known.
    pub counter_found: Option<u32>,
    pub counter: Option<u32>,
    /// What a tag that signs said under its key after it was written.
    pub signs: Option<TagSigns>,
    /// Somebody else had written on it.
    pub was_altered: bool,
    /// What is on it now, as far as it has to be known again.
    pub left: LeftOn,
}

/// Why the tag does not hold what it should; `reason` ends with what the person there does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TagFailure {
    /// A short, stable name.
    pub kind: &'static str,
    pub reason: String,
    /// False if the tag was not programmed for it.
    pub may_have_worn: bool,
}

/// How the reader is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagHealth {
    pub reader: Option<String>,
    pub problem: Option<String>,
}

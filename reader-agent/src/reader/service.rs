//! What may the agent's driver ask of the tag?

use super::desk::Desk;
use super::{watchdog, watcher};
use crate::tag::{Done, Errand, LastCounter, LeftOn, TagError, TagSafe};
use protocol::wire::reports::TagSigns;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Events nobody has read yet; past it the newest are dropped, and `status` still tells the truth.
const EVENTS_MAX: usize = 64;
/// Longer than any honest reader thinks about one command.
const CALL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct TagConfig {
    /// The reader's name or its beginning (pcscd appends numbers); `None` takes the first contactless one.
    pub reader_name: Option<String>,
    /// How long one PC/SC call may take before the reader counts as stuck.
    pub call_limit: Duration,
    /// The tag's counter as the last run left it, so that taps in between are not lost.
    pub last_counter: Option<LastCounter>,
    /// What the last run left on the tag when it ended in good order.
    pub left: Option<LeftOn>,
    /// What is known of tags, and is written down before they are changed.
    pub safe: Arc<dyn TagSafe>,
}

impl TagConfig {
    pub fn new(safe: Arc<dyn TagSafe>) -> TagConfig {
        TagConfig {
            reader_name: None,
            call_limit: CALL_LIMIT,
            last_counter: None,
            left: None,
            safe,
        }
    }
}

/// What was done on the tag, read back from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    pub tag_uid: Vec<u8>,
    /// Pages or frames programmed: wear.
    pub pages_written: u32,
    /// Reads by phones since the last visit; `None` when the tag, the reader or the past cannot tell.
    pub taps_since_last: Option<u32>,
    /// The counter when the visit began, if an earlier value of this tag is known.
    pub counter_found: Option<u32>,
    /// The counter after this visit, for `TagConfig::last_counter`.
    pub counter: Option<u32>,
    /// What a tag that signs said under its key after it was written.
    pub signs: Option<TagSigns>,
    /// What phones find, as read back: of an NTAG21x from page 4 on, of an NTAG 424 DNA its file.
    pub area: Vec<u8>,
    /// The tag did not hold what the last visit left on it.
    pub was_altered: bool,
    /// Whether phones can read the tag now, because the reader's field is off.
    pub field_off: bool,
    /// What there is to tell, in words.
    pub said: Vec<String>,
}

impl Visit {
    pub(super) fn of(uid: &[u8], done: Done) -> Visit {
        Visit {
            tag_uid: uid.to_vec(),
            pages_written: done.writes,
            taps_since_last: done.taps,
            counter_found: done.counter_found,
            counter: done.counter,
            signs: done.signs,
            area: done.area,
            was_altered: done.was_altered,
            field_off: false,
            said: done.said,
        }
    }
}

/// What happened at the reader; each carries what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagEvent {
    ReaderArrived {
        name: String,
    },
    ReaderGone,
    /// After `ReaderBusy` or `Stuck`: the reader can be used again, so show once more.
    ReaderReady,
    TagArrived {
        uid: Vec<u8>,
    },
    /// What lay there is gone, usable or not.
    TagRemoved,
    /// Something lies on the reader that cannot be used.
    TagRefused(TagError),
    /// It does not run, or does not let us in.
    PcscdAbsent,
    PcscdBack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldControl {
    /// No reader was asked yet.
    #[default]
    Unknown,
    Yes,
    /// The reader cannot, or its driver does not let us: phones may fail to read a tag lying on it.
    No,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagStatus {
    /// Why the PC/SC service cannot be used.
    pub service_trouble: Option<TagError>,
    pub reader: Option<String>,
    pub tag_uid: Option<Vec<u8>>,
    pub field_control: FieldControl,
    /// The last visit's error, or what is missing since; gone after a good visit, or when it is back.
    pub last_error: Option<TagError>,
}

/// The tag on this terminal's reader.
#[derive(Clone)]
pub struct TagService {
    desk: Arc<DeskOwner>,
}

impl TagService {
    /// Starts the threads; a missing reader, tag or service is reported by events, not here.
    pub fn start(config: TagConfig) -> io::Result<(TagService, mpsc::Receiver<TagEvent>)> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let owner = DeskOwner(Arc::new(Desk::new(config, events)));
        watchdog::spawn(Arc::clone(&owner.0))?;
        watcher::spawn(Arc::clone(&owner.0))?;
        let desk = Arc::new(owner);
        Ok((TagService { desk }, receiver))
    }

    /// Makes the tag hold this NDEF message. A later call overtakes one that has not begun.
    pub async fn show(&self, ndef_message: Vec<u8>) -> Result<Visit, TagError> {
        self.carry_out(Errand::Show(ndef_message)).await
    }

    /// Any errand, under the same rule.
    pub async fn carry_out(&self, errand: Errand) -> Result<Visit, TagError> {
        let (reply, answer) = oneshot::channel();
        self.desk.0.submit(errand, reply);
        answer.await.unwrap_or(Err(TagError::Stopped))
    }

    /// Makes the tag hold no message, so that a phone finds nothing.
    pub async fn blank(&self) -> Result<Visit, TagError> {
        self.show(Vec::new()).await
    }

    pub fn status(&self) -> TagStatus {
        self.desk.0.status()
    }
}

/// The last service handle that goes takes the threads with it.
struct DeskOwner(Arc<Desk>);

impl Drop for DeskOwner {
    fn drop(&mut self) {
        self.0.stop();
    }
}

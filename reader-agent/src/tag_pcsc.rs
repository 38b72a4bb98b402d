//! How does the driver reach the tag on this machine's reader?

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::error::AgentError;
use crate::reader::{TagConfig, TagEvent, TagService, Visit};
use crate::state::{CountedTag, State, StateError};
use crate::tag::{LastCounter, LeftOn, Programming, TagError, TagRecord, TagSafe, hex};
use crate::tag_writer::{TagFailure, TagHealth, TagVisit, TagWriter};

/// Starts the reader's threads; their events say when to write again.
pub fn start(
    reader_name: Option<String>,
    state: Arc<State>,
) -> Result<(TagService, mpsc::Receiver<TagEvent>), AgentError> {
    let last = state.last_tag()?;
    let config = TagConfig {
        reader_name,
        last_counter: last.and_then(last_counter),
        left: left_on_tag(&state)?,
        ..TagConfig::new(state)
    };
    run(config)
}

/// On a full disk it cannot be told once only, so it is not told: the tag counts as one nobody knows.
fn left_on_tag(state: &State) -> Result<Option<LeftOn>, StateError> {
    match state.take_left_on_tag() {
        Err(StateError::DiskFull) => Ok(None),
        left => left,
    }
}

/// The same for who only looks at reader and tag, and knows none.
pub fn look(
    reader_name: Option<String>,
) -> Result<(TagService, mpsc::Receiver<TagEvent>), AgentError> {
    run(TagConfig {
        reader_name,
        ..TagConfig::new(Arc::new(OnlyLooks))
    })
}

fn run(config: TagConfig) -> Result<(TagService, mpsc::Receiver<TagEvent>), AgentError> {
    TagService::start(config).map_err(|error| {
        AgentError::operator(
            format!("the reader's threads do not start: {error}"),
            "see which limits this account has for threads and memory",
        )
    })
}

/// Nothing is written, so there is nothing to keep.
struct OnlyLooks;

impl TagSafe for OnlyLooks {
    fn recall(&self, _: &[u8]) -> Result<Option<TagRecord>, TagError> {
        Ok(None)
    }

    fn keep(&self, _: &[u8], _: &TagRecord) -> Result<(), TagError> {
        Err(TagError::Bug)
    }

    fn forget(&self, _: &[u8]) -> Result<(), TagError> {
        Err(TagError::Bug)
    }

    fn adopt(&self, _: &[u8]) -> Result<(), TagError> {
        Err(TagError::Bug)
    }

    fn count(&self, _: &[u8], _: &Programming) -> Result<(), TagError> {
        Err(TagError::Bug)
    }

    fn own(&self) -> Result<Option<Vec<u8>>, TagError> {
        Ok(None)
    }
}

#[async_trait]
impl TagWriter for TagService {
    async fn show(&self, message: Vec<u8>) -> Result<TagVisit, TagFailure> {
        told(TagService::show(self, message).await)
    }

    async fn blank(&self) -> Result<TagVisit, TagFailure> {
        told(TagService::blank(self).await)
    }

    fn status(&self) -> TagHealth {
        let status = TagService::status(self);
        let problem = status.service_trouble.or(status.last_error);
        TagHealth {
            reader: status.reader,
            problem: problem.map(|error| error.to_string()),
        }
    }
}

fn told(visit: Result<Visit, TagError>) -> Result<TagVisit, TagFailure> {
    match visit {
        Ok(visit) => Ok(TagVisit {
            uid: hex(&visit.tag_uid),
            pages: visit.pages_written,
            taps: visit.taps_since_last,
            counter_found: visit.counter_found,
            counter: visit.counter,
            signs: visit.signs,
            was_altered: visit.was_altered,
            left: LeftOn::new(&visit.tag_uid, &visit.area),
        }),
        Err(error) => Err(TagFailure {
            kind: error.kind(),
            reason: error.to_string(),
            may_have_worn: error.may_have_worn(),
        }),
    }
}

fn last_counter(tag: CountedTag) -> Option<LastCounter> {
    let digits = tag.uid.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    Some(LastCounter {
        tag_uid: digits.map(byte).collect::<Option<Vec<u8>>>()?,
        value: tag.counter?,
    })
}

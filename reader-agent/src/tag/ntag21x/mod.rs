//! How is an NTAG213, 215 or 216 treated?
//!
//! Its pages are written through any reader. What only its own commands do, the counter and the
//! password, goes past the reader where that lets it through.

mod counter;
mod pages;
mod password;
mod rewrite;

use counter::{CounterAccess, ensure_enabled};
use password::Guard;
use rewrite::{Rewritten, rewrite};

use super::TagError;
use super::card::{Pages, is_ultralight};
use super::family::{At, Done, LeftOn, TagFamily, Wish};
use super::record::TagRecord;
use super::taps::Counted;
use super::wear::NTAG21X;

const GET_VERSION: [u8; 1] = [0x60];
/// Vendor NXP, type NTAG, 50 pF or 17 pF; what follows tells 213, 215 and 216 apart.
const VERSION_NTAG: [u8; 3] = [0x00, 0x04, 0x04];

pub(super) struct Ntag21x;

impl TagFamily for Ntag21x {
    fn name(&self) -> &'static str {
        "NTAG21x"
    }

    fn recognises(&self, at: &At<'_>) -> Result<bool, TagError> {
        Ok(is_ultralight(at.card.atr()))
    }

    fn owns(&self, record: &TagRecord) -> bool {
        matches!(record, TagRecord::Ntag21x(_))
    }

    /// The counter is asked first and last.
    fn show(&self, at: &At<'_>, message: &[u8]) -> Result<Done, TagError> {
        let mut counter = at.card.native().map(CounterAccess::new);
        let counter_found = match &mut counter {
            Some(counter) => found(at, counter)?,
            None => None,
        };
        let comparable =
            |now: &u32| (at.memory().taps).is_comparable(at.uid, *now, Counted::Everybody);
        let begin = |now| at.memory().taps.begin(at.uid, now, Counted::Everybody);
        let (counter_found, taps) = (
            counter_found.filter(comparable),
            counter_found.and_then(begin),
        );
        let mut pages = Pages(at.card);
        password::unlock(at, &mut pages)?;
        let left = at.memory().take_left(at.uid);
        let about_to = |plan: &pages::WritePlan| {
            at.count(NTAG21X.programming(plan.cycles(), plan.writes().len()));
        };
        let done = rewrite(&mut pages, message, &about_to)?;
        let was_altered = left.is_some_and(|left| left.differs(&done.found));
        let counter = match &mut counter {
            Some(counter) => settle(at, counter, &done)?,
            None => None,
        };
        at.memory().leave(LeftOn::new(at.uid, &done.area));
        Ok(Done {
            writes: done.pages_written,
            taps,
            counter_found,
            counter,
            area: done.area,
            was_altered,
            ..Done::default()
        })
    }

    fn personalise(&self, at: &At<'_>, wish: &Wish) -> Result<Done, TagError> {
        if wish.keys.is_some() || wish.signed_message.is_some() {
            return Err(TagError::NoKeysHere);
        }
        // What does not say that it is an NTAG has no password, or another way with it.
        if let Some(mut native) = at.card.native() {
            let version = native.transceive(&GET_VERSION).unwrap_or_default();
            if !version.starts_with(&VERSION_NTAG) {
                let atr = at.card.atr().to_vec();
                return Err(TagError::NotAnNtag { atr });
            }
        }
        password::protect(at)
    }

    fn check(&self, at: &At<'_>) -> Result<Done, TagError> {
        let mut pages = Pages(at.card);
        let guard = Guard::read(&mut pages)?;
        let mut said = vec![password::in_words(at, &guard)?];
        // Last, because a chip that refuses a command listens no more.
        said.push(match at.card.native() {
            Some(mut native) => {
                let version = native.transceive(&GET_VERSION).unwrap_or_default();
                chip(&version).into()
            }
            None => "this reader lets neither password nor counter through to the tag".into(),
        });
        Ok(Done {
            said,
            ..Done::default()
        })
    }

    fn reset(&self, at: &At<'_>, _: &Wish) -> Result<Done, TagError> {
        password::release(at)
    }
}

/// What a chip says it is; a copy that never heard of the command is told as such.
fn chip(version: &[u8]) -> &'static str {
    match version {
        [a, b, c, ..] if [*a, *b, *c] != VERSION_NTAG => "the chip says it is no NTAG",
        [_, _, _, _, 1, _, 0x0F, ..] => "the chip says it is an NTAG213",
        [_, _, _, _, 1, _, 0x11, ..] => "the chip says it is an NTAG215",
        [_, _, _, _, 1, _, 0x13, ..] => "the chip says it is an NTAG216",
        _ => "the chip does not say what it is: a copy, or an older Ultralight",
    }
}

/// Not asked of a tag whose counter is not known to run: a chip that refuses a command listens no more.
fn found(at: &At<'_>, counter: &mut CounterAccess<'_>) -> Result<Option<u32>, TagError> {
    match at.memory().taps.knows(at.uid) {
        true => counter.read(),
        false => Ok(None),
    }
}

fn settle(
    at: &At<'_>,
    counter: &mut CounterAccess<'_>,
    done: &Rewritten,
) -> Result<Option<u32>, TagError> {
    let known = at.memory().taps.knows(at.uid);
    if !known && !ensure_enabled(&mut Pages(at.card), done.header)? {
        return Ok(None);
    }
    let now = counter.read()?;
    if let Some(now) = now {
        at.memory().taps.settle(at.uid, now);
    }
    Ok(now)
}

//! Which reader is there, and does something lie on it?
//!
//! The watcher has a PC/SC context of its own, because calls on one context wait for each other.
//! What it sees it tells the desk; it never talks to a tag.

use super::desk::Desk;
use super::pcsc_error::enter;
use crate::tag::TagError;
use pcsc::{Context, Error, PNP_NOTIFICATION, ReaderState, State};
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

/// The longest wait without looking whether to stop; `cancel` can get lost, so nothing relies on it.
const WAIT_LIMIT: Duration = Duration::from_secs(1);
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

pub(super) fn spawn(desk: Arc<Desk>) -> io::Result<()> {
    thread::Builder::new()
        .name("tag-watcher".into())
        .spawn(move || run(&desk))?;
    Ok(())
}

/// The reader that the configuration means: by name or its beginning, else the first contactless one.
pub(super) fn choose(readers: &[CString], wanted: Option<&str>) -> Option<CString> {
    let named = |name: &&CString| match (name.to_str(), wanted) {
        (Ok(name), Some(wanted)) => name.starts_with(wanted),
        (Ok(name), None) => !name.contains("SAM"),
        (Err(_), _) => false,
    };
    let mut candidates: Vec<&CString> = readers.iter().filter(named).collect();
    // Readers with a contact slot list it beside the contactless one.
    candidates.sort_by_key(|name| !name.to_string_lossy().contains("PICC"));
    candidates.first().copied().cloned()
}

fn run(desk: &Desk) {
    let mut back_off = BACK_OFF_FIRST;
    while !desk.stopped() {
        if let Err(error) = watch_service(desk, &mut back_off) {
            report(desk, error);
            desk.pause(back_off);
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }
}

fn report(desk: &Desk, error: Error) {
    tracing::debug!(%error, "PC/SC: starting over");
    match super::pcsc_error::tag_error(error) {
        trouble @ (TagError::PcscdAbsent | TagError::NotLetIn) => desk.pcscd(Some(trouble)),
        TagError::NoReader { .. } => desk.reader(None),
        _ => {}
    }
}

/// Follows one run of the service; ends with the error that makes a new context necessary.
fn watch_service(desk: &Desk, back_off: &mut Duration) -> Result<(), Error> {
    let context = enter()?;
    let mut readers = list(&context)?;
    desk.pcscd(None);
    while !desk.stopped() {
        let chosen = choose(&readers, desk.config.reader_name.as_deref());
        desk.reader(chosen.as_ref().and_then(|name| name.to_str().ok()));
        let mut states = vec![ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)];
        states.extend(chosen.map(|name| ReaderState::new(name, State::UNAWARE)));
        readers = watch_reader(desk, &context, &mut states, readers, back_off)?;
    }
    Ok(())
}

/// Follows one reader until the list of readers changes.
fn watch_reader(
    desk: &Desk,
    context: &Context,
    states: &mut [ReaderState],
    known: Vec<CString>,
    back_off: &mut Duration,
) -> Result<Vec<CString>, Error> {
    let mut seen = None;
    while !desk.stopped() {
        match context.get_status_change(WAIT_LIMIT, states) {
            Ok(()) => {
                states[1..].iter().for_each(|s| tell(desk, s, &mut seen));
                states.iter_mut().for_each(ReaderState::sync_current_state);
            }
            Err(Error::Timeout) => look_again(desk, context, &states[1..], &mut seen)?,
            Err(error) => return Err(error),
        }
        *back_off = BACK_OFF_FIRST;
        // Asking costs nothing and does not depend on how a PC/SC announces readers.
        let now = list(context)?;
        if now != known {
            return Ok(now);
        }
    }
    Ok(known)
}

/// What a reader shows, and at which event count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Tag(u32),
    Nothing(u32),
    DeadReader,
}

impl Sight {
    fn of(reader: &ReaderState) -> Sight {
        let state = reader.event_state();
        if state.intersects(State::UNAVAILABLE | State::UNKNOWN) {
            Sight::DeadReader
        } else if state.contains(State::PRESENT) {
            Sight::Tag(reader.event_count())
        } else {
            Sight::Nothing(reader.event_count())
        }
    }
}

fn tell(desk: &Desk, reader: &ReaderState, seen: &mut Option<Sight>) {
    if !reader.event_state().contains(State::EXCLUSIVE) {
        desk.reader_is_free();
    }
    // Connecting changes a reader's state as well; only insertions and removals count.
    let sight = Sight::of(reader);
    if seen.replace(sight) == Some(sight) {
        return;
    }
    if sight == Sight::DeadReader {
        return desk.reader(None);
    }
    desk.reader(reader.name().to_str().ok());
    match sight {
        Sight::Nothing(count) => desk.nothing_lies_there(count),
        _ => desk.something_lies_there(),
    }
}

/// Not every change is announced: pcscd keeps quiet about a reader that other software lets go, and
/// about a tag that was away for less than one of its looks.
fn look_again(
    desk: &Desk,
    context: &Context,
    states: &[ReaderState],
    seen: &mut Option<Sight>,
) -> Result<(), Error> {
    for reader in states {
        let mut now = [ReaderState::new(reader.name(), State::UNAWARE)];
        context.get_status_change(Duration::ZERO, &mut now)?;
        tell(desk, &now[0], seen);
    }
    if matches!(seen, Some(Sight::Tag(_))) {
        desk.something_may_lie_there();
    }
    Ok(())
}

fn list(context: &Context) -> Result<Vec<CString>, Error> {
    match context.list_readers_owned() {
        Err(Error::NoReadersAvailable) => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<CString> {
        names.iter().filter_map(|n| CString::new(*n).ok()).collect()
    }

    fn chosen(names: &[&str], wanted: Option<&str>) -> Option<String> {
        choose(&named(names), wanted).map(|n| n.to_string_lossy().into_owned())
    }

    #[test]
    fn without_a_name_the_contactless_slot_is_taken() {
        let names = [
            "ACS ACR1252 SAM 00 01",
            "Contact 00 00",
            "ACS ACR1252 PICC 00 00",
        ];
        assert_eq!(chosen(&names, None).as_deref(), Some(names[2]));
        assert_eq!(chosen(&names[..1], None), None);
    }

    #[test]
    fn a_name_matches_with_or_without_the_numbers_pcscd_appends() {
        let names = ["A 00 00", "B 00 00"];
        assert_eq!(chosen(&names, Some("B")).as_deref(), Some("B 00 00"));
        assert_eq!(chosen(&names, Some("B 00 00")).as_deref(), Some("B 00 00"));
        assert_eq!(chosen(&names, Some("C")), None);
    }
}

//! Which reader is there, and does something lie on it?
//!
//! The watcher has a PC/SC context of its own, because calls on one context wait for each other.
//! What it sees it tells the desk; it never talks to a tag.

use super::desk::Desk;
use crate::tag::TagError;
use pcsc::{Context, Error, PNP_NOTIFICATION, ReaderState, Scope, State};
use std::ffi::{CStr, CString};
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
        TagError::PcscdAbsent => desk.pcscd(true),
        TagError::NoReader { .. } => desk.reader(None),
        _ => {}
    }
}

/// Follows one run of the service; ends with the error that makes a new context necessary.
fn watch_service(desk: &Desk, back_off: &mut Duration) -> Result<(), Error> {
    let context = Context::establish(Scope::System)?;
    let mut readers = list(&context)?;
    desk.pcscd(false);
    *back_off = BACK_OFF_FIRST;
    while !desk.stopped() {
        let chosen = choose(&readers, desk.config.reader_name.as_deref());
        desk.reader(chosen.as_ref().and_then(|name| name.to_str().ok()));
        readers = watch_reader(desk, &context, chosen.as_deref(), readers)?;
    }
    Ok(())
}

/// Follows one reader until the list of readers changes.
fn watch_reader(
    desk: &Desk,
    context: &Context,
    reader: Option<&CStr>,
    known: Vec<CString>,
) -> Result<Vec<CString>, Error> {
    let mut states = vec![ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)];
    states.extend(reader.map(|name| ReaderState::new(name, State::UNAWARE)));
    let mut seen = None;
    while !desk.stopped() {
        match context.get_status_change(WAIT_LIMIT, &mut states) {
            Ok(()) => states[1..].iter().for_each(|s| tell(desk, s, &mut seen)),
            Err(Error::Timeout) => {}
            Err(error) => return Err(error),
        }
        if !states
            .iter()
            .any(|s| s.event_state().contains(State::EXCLUSIVE))
        {
            desk.reader_is_free();
        }
        states.iter_mut().for_each(ReaderState::sync_current_state);
        // Asking costs nothing and does not depend on how a PC/SC announces readers.
        let now = list(context)?;
        if now != known {
            return Ok(now);
        }
    }
    Ok(known)
}

/// Connecting changes a reader's state as well; only insertions and removals count.
fn tell(desk: &Desk, reader: &ReaderState, seen: &mut Option<(u32, bool)>) {
    let present = reader.event_state().contains(State::PRESENT);
    let news = (reader.event_count(), present);
    if seen.replace(news) == Some(news) {
        return;
    }
    if present {
        desk.something_lies_there();
    } else {
        desk.nothing_lies_there(reader.event_count());
    }
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

//! What happens at the reader during one visit to the tag?
//!
//! Every visit makes a PC/SC context of its own: a third of a millisecond, and no stale handle
//! survives a restart of the service.

use super::card::ConnectedTag;
use super::clock;
use super::desk::{Lease, Task};
use super::field::{ESCAPE, FieldSwitch};
use super::kept::Kept;
use super::pcsc_error::{enter, tag_error};
use super::service::{FieldControl, Visit};
use super::watcher::choose;
use crate::tag::{Errand, Recognised, TagError, uid};
use pcsc::{Card, Context, Disposition, Protocols, ReaderState, ShareMode, State};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use std::{io, thread};

/// A tag that lost power is visited again this often in all.
const VISIT_ATTEMPTS: usize = 2;
/// An ACR122U takes up to a second to see a tag after its field came on.
const PRESENCE_LIMIT: Duration = Duration::from_millis(1500);
/// One wait within it, short against the watchdog's limit.
const PRESENCE_SLICE: Duration = Duration::from_millis(250);
const ESCAPE_ANSWER_MAX: usize = 64;

pub(super) fn spawn(lease: Lease) -> io::Result<()> {
    let worker = Worker { lease };
    thread::Builder::new()
        .name("tag-worker".into())
        .spawn(move || worker.run())?;
    Ok(())
}

struct Worker {
    lease: Lease,
}

/// A reader in its visit: found, its field on.
struct Bench {
    context: Context,
    reader: CString,
    switch: Option<FieldSwitch>,
    /// Whether the reader obeyed the switch.
    field_control: bool,
}

impl Worker {
    fn run(&self) {
        loop {
            match self.lease.next_task() {
                Task::Run(errand) => self.lease.finish(self.carry_out(&errand)),
                Task::Attend => self.attend(),
                Task::Leave => return,
            }
        }
    }

    fn carry_out(&self, errand: &Errand) -> Result<Visit, TagError> {
        for _ in 1..VISIT_ATTEMPTS {
            match self.attempt(errand) {
                Err(TagError::Reset) => {}
                result => return result,
            }
        }
        self.attempt(errand)
    }

    fn attempt(&self, errand: &Errand) -> Result<Visit, TagError> {
        let visit = catch_unwind(AssertUnwindSafe(|| self.visit(errand)));
        let visit = visit.unwrap_or(Err(TagError::Bug));
        if let Err(error) = &visit {
            // The field stays on after a failure, so that the tag's return is noticed.
            self.lease.field_stays_on();
            match error {
                TagError::NoTag | TagError::Removed => self.lease.tag_gone(),
                TagError::Mute => self.lease.tag_refused(TagError::Mute),
                _ => {}
            }
        }
        visit
    }

    fn visit(&self, errand: &Errand) -> Result<Visit, TagError> {
        let bench = self.bench()?;
        let atr = self.await_tag(&bench)?;
        let mut visit = self.with_tag(&bench, &atr, |uid, found| {
            self.lease.tag_seen(uid);
            let done = found.carry_out(errand)?;
            Ok(Visit::of(uid, done))
        })?;
        visit.field_off = self.let_phones(&bench);
        Ok(visit)
    }

    /// Sees what lies on the reader, and leaves the field on so that its removal is noticed.
    fn attend(&self) {
        if let Err(error) = self.identify() {
            match error {
                TagError::NoTag | TagError::Removed => self.lease.tag_gone(),
                TagError::NotAnNtag { .. } | TagError::Unreadable { .. } | TagError::Mute => {
                    self.lease.tag_refused(error);
                }
                error => tracing::debug!(%error, "could not look at the tag"),
            }
        }
    }

    fn identify(&self) -> Result<(), TagError> {
        let bench = self.bench()?;
        self.lease.field_stays_on();
        let atr = self.await_tag(&bench)?;
        let uid = self.with_tag(&bench, &atr, |uid, _| Ok(uid.to_vec()))?;
        self.lease.tag_seen(&uid);
        Ok(())
    }

    fn bench(&self) -> Result<Bench, TagError> {
        let context = self.call(enter)?;
        let wanted = self.lease.config().reader_name.clone();
        let readers = match self.call(|| context.list_readers_owned()) {
            Err(TagError::NoReader { .. }) => Vec::new(),
            other => other?,
        };
        let reader = choose(&readers, wanted.as_deref()).ok_or(TagError::NoReader { wanted })?;
        let name = reader.to_string_lossy().into_owned();
        let mut bench = Bench {
            context,
            reader,
            switch: FieldSwitch::of(&name),
            field_control: false,
        };
        bench.field_control = self.field_on(&bench)?;
        Ok(bench)
    }

    fn field_on(&self, bench: &Bench) -> Result<bool, TagError> {
        let obeys = match bench.switch {
            Some(switch) => self.escape(bench, switch.on)?,
            None => false,
        };
        self.lease.field_control(if obeys {
            FieldControl::Yes
        } else {
            FieldControl::No
        });
        Ok(obeys)
    }

    /// After a visit. The tag was read back: what becomes of the field takes nothing of that away.
    fn let_phones(&self, bench: &Bench) -> bool {
        let off = self.field_off(bench);
        if off != Ok(true) {
            self.lease.field_stays_on();
        }
        if off == Err(TagError::ReaderBusy) {
            self.lease.waits_for_others();
        }
        off.unwrap_or(false)
    }

    /// Lets phones at the tag; false if the reader cannot.
    fn field_off(&self, bench: &Bench) -> Result<bool, TagError> {
        match bench.switch {
            Some(switch) if bench.field_control => {
                self.lease.field_goes_off()?;
                self.escape(bench, switch.off)
            }
            _ => Ok(false),
        }
    }

    /// Speaks to the reader itself; false if the driver does not let us.
    fn escape(&self, bench: &Bench, commands: &[&[u8]]) -> Result<bool, TagError> {
        let card = self.connect(bench, ShareMode::Direct, Protocols::UNDEFINED)?;
        let mut obeyed = true;
        for command in commands {
            let mut answer = [0; ESCAPE_ANSWER_MAX];
            let result = self.call_beside_others(|| {
                card.control(pcsc::ctl_code(ESCAPE.into()), command, &mut answer)
                    .map(|_| ())
            })?;
            match result.map_err(tag_error) {
                Ok(()) => {}
                Err(error @ (TagError::PcscdAbsent | TagError::ReaderBusy)) => return Err(error),
                Err(_) => obeyed = false,
            }
        }
        self.disconnect(card, Disposition::LeaveCard)?;
        Ok(obeyed)
    }

    /// Waits until the reader sees the tag; its ATR.
    fn await_tag(&self, bench: &Bench) -> Result<Vec<u8>, TagError> {
        let past = match bench.field_control {
            true => self.lease.last_sight_before_field_off(),
            false => None,
        };
        // A field that was on all the time has already shown what lies there.
        let limit = past.map_or(Duration::ZERO, |_| PRESENCE_LIMIT);
        let started = clock::now();
        let mut states = [ReaderState::new(bench.reader.clone(), State::UNAWARE)];
        loop {
            let wait = || bench.context.get_status_change(PRESENCE_SLICE, &mut states);
            match self.lease.call(wait)? {
                Ok(()) | Err(pcsc::Error::Timeout) => {}
                Err(error) => return Err(tag_error(error)),
            }
            let late = clock::since(started) >= limit;
            // Before the time is up, a sight from before the field went off is only an old one.
            let old = past == Some(states[0].event_count());
            match self.seen(&states[0])? {
                Some(atr) if late || !old => {
                    self.lease.settled(states[0].event_count());
                    return Ok(atr);
                }
                None if late => return Err(TagError::NoTag),
                _ => states[0].sync_current_state(),
            }
        }
    }

    /// The ATR of what the reader sees.
    fn seen(&self, reader: &ReaderState) -> Result<Option<Vec<u8>>, TagError> {
        let state = reader.event_state();
        if state.intersects(State::UNAVAILABLE | State::UNKNOWN) {
            let wanted = self.lease.config().reader_name.clone();
            return Err(TagError::NoReader { wanted });
        }
        if !state.contains(State::PRESENT) {
            return Ok(None);
        }
        Ok(Some(reader.atr().to_vec()))
    }

    /// As it answered when it was connected.
    fn atr_of(&self, card: &Card) -> Result<Vec<u8>, TagError> {
        let status = self.call_beside_others(|| card.status2_owned())?;
        Ok(status.map_err(tag_error).map_err(not_there)?.atr().to_vec())
    }

    /// What did not answer is either gone, and the reader is about to notice, or still lies there.
    fn gone_or_mute(&self, bench: &Bench) -> Result<TagError, TagError> {
        let mut states = [ReaderState::new(bench.reader.clone(), State::UNAWARE)];
        let started = clock::now();
        while clock::since(started) < PRESENCE_LIMIT {
            let wait = || bench.context.get_status_change(PRESENCE_SLICE, &mut states);
            match self.lease.call(wait)? {
                Ok(()) | Err(pcsc::Error::Timeout) => {}
                Err(error) => return Err(tag_error(error)),
            }
            if self.seen(&states[0])?.is_none() {
                return Ok(TagError::NoTag);
            }
            states[0].sync_current_state();
        }
        Ok(TagError::Mute)
    }

    fn with_tag<T>(
        &self,
        bench: &Bench,
        atr: &[u8],
        act: impl FnOnce(&[u8], Recognised<'_>) -> Result<T, TagError>,
    ) -> Result<T, TagError> {
        let card = self.connect(bench, ShareMode::Shared, Protocols::ANY);
        let mut card = match card {
            Err(TagError::Removed | TagError::Mute) => return Err(self.gone_or_mute(bench)?),
            card => card?,
        };
        let atr = match atr {
            // What was mute before has told nothing yet.
            [] => self.atr_of(&card)?,
            atr => atr.to_vec(),
        };
        let transaction = self.call_beside_others(|| card.transaction())?;
        let transaction = transaction.map_err(tag_error).map_err(not_there)?;
        let tag = ConnectedTag {
            card: &transaction,
            lease: &self.lease,
            atr: &atr,
            reader_name: &bench.reader.to_string_lossy(),
        };
        let result = self.recognised(&tag, act);
        // An unknown ending is no reason to forget the result; the tag was read back, or was not.
        let _ = self
            .lease
            .call(|| transaction.end(Disposition::LeaveCard).is_ok());
        let disposition = match bench.field_control {
            true => Disposition::LeaveCard,
            false => Disposition::UnpowerCard,
        };
        self.disconnect(card, disposition)?;
        match result {
            Err(TagError::NoTag) => Err(self.gone_or_mute(bench)?),
            result => result,
        }
    }

    fn connect(
        &self,
        bench: &Bench,
        share: ShareMode,
        protocols: Protocols,
    ) -> Result<Card, TagError> {
        let connect = || bench.context.connect(&bench.reader, share, protocols);
        self.call_beside_others(connect)?.map_err(tag_error)
    }

    fn disconnect(&self, card: Card, disposition: Disposition) -> Result<(), TagError> {
        // Failing means that card, reader or service left before us: the next call says so.
        self.call_beside_others(|| drop(card.disconnect(disposition)))
    }

    /// Everything but `transmit` waits without end while other software has a transaction open.
    fn call_beside_others<T>(&self, call: impl FnOnce() -> T) -> Result<T, TagError> {
        self.lease.call_or(TagError::ReaderBusy, call)
    }

    fn call<T>(&self, call: impl FnOnce() -> Result<T, pcsc::Error>) -> Result<T, TagError> {
        self.lease.call(call)?.map_err(tag_error)
    }

    fn recognised<T>(
        &self,
        tag: &ConnectedTag<'_>,
        act: impl FnOnce(&[u8], Recognised<'_>) -> Result<T, TagError>,
    ) -> Result<T, TagError> {
        let uid = uid(tag).map_err(not_there)?;
        let kept = Kept(&self.lease);
        let found = Recognised::find(tag, &uid, &kept, self.lease.memory());
        act(&uid, found.map_err(not_there)?)
    }
}

/// A tag that left before anything was done with it was not taken away during a write.
fn not_there(error: TagError) -> TagError {
    match error {
        TagError::Removed => TagError::NoTag,
        other => other,
    }
}

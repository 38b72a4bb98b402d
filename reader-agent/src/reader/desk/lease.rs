//! What may a worker do, and until when?

use super::{Call, Desk, State, Task};
use crate::reader::clock;
use crate::reader::service::{FieldControl, TagConfig, TagEvent, Visit};
use crate::tag::{TagError, TagMemory};
use std::sync::{Arc, Mutex};

/// One worker's right to act: it ends when the watchdog gave the worker up.
pub(in crate::reader) struct Lease {
    pub(super) desk: Arc<Desk>,
    pub(super) generation: u64,
}

impl Lease {
    pub(in crate::reader) fn config(&self) -> &TagConfig {
        &self.desk.config
    }

    pub(in crate::reader) fn memory(&self) -> &Mutex<TagMemory> {
        &self.desk.memory
    }

    /// Waits for something to do.
    pub(in crate::reader) fn next_task(&self) -> Task {
        let mut state = self.desk.locked();
        state.call = None;
        loop {
            if state.stopped || !self.holds(&state) {
                return Task::Leave;
            }
            if let Some(job) = state.waiting.take() {
                state.attending = false;
                state.busy = false;
                state.running = Some(job.reply);
                state.call = Some(Call::letting_go());
                return Task::Run(job.errand);
            }
            state.attending = std::mem::take(&mut state.attend);
            if state.attending {
                state.call = Some(Call::letting_go());
                return Task::Attend;
            }
            state = self.desk.wait(state);
        }
    }

    /// Makes one PC/SC call under the watchdog's eye.
    pub(in crate::reader) fn call<T>(&self, call: impl FnOnce() -> T) -> Result<T, TagError> {
        self.call_or(TagError::Stuck, call)
    }

    /// The same for a call whose not returning means something else than a stuck reader.
    pub(in crate::reader) fn call_or<T>(
        &self,
        hang: TagError,
        call: impl FnOnce() -> T,
    ) -> Result<T, TagError> {
        let started = clock::now();
        self.while_held(|state| state.call = Some(Call { started, hang }))?;
        self.desk.changed.notify_all();
        let result = call();
        self.while_held(|state| state.call = Some(Call::letting_go()))?;
        Ok(result)
    }

    /// What waits for the disk and not for the reader has no watchdog.
    pub(in crate::reader) fn beside<T>(&self, work: impl FnOnce() -> T) -> Result<T, TagError> {
        self.while_held(|state| state.call = None)?;
        let result = work();
        self.while_held(|state| state.call = Some(Call::letting_go()))?;
        self.desk.changed.notify_all();
        Ok(result)
    }

    /// Ends the job under way. What nobody hears of, the next visit tells.
    pub(in crate::reader) fn finish(&self, result: Result<Visit, TagError>) {
        let _ = self.while_held(|state| {
            let result = result.map_err(|error| owned_up(error, state));
            state.call = None;
            state.busy |= matches!(result, Err(TagError::ReaderBusy));
            state.status.last_error = result.as_ref().err().cloned();
            let Some(reply) = state.running.take() else {
                return;
            };
            let visit = result.as_ref().ok();
            let told = visit.map(|visit| (visit.tag_uid.clone(), visit.taps_since_last));
            if reply.send(result).is_ok()
                && let Some((uid, taps)) = told
            {
                self.desk.remembered().handle_told(&uid, taps);
            }
        });
    }

    pub(in crate::reader) fn tag_seen(&self, uid: &[u8]) {
        let _ = self.while_held(|state| {
            if state.status.tag_uid.as_deref() != Some(uid) {
                self.desk.lose_tag(state);
                state.status.tag_uid = Some(uid.to_vec());
                self.desk.tell(TagEvent::TagArrived { uid: uid.to_vec() });
            }
            state.is_back(|missing| matches!(missing, TagError::NoTag | TagError::Mute));
        });
    }

    pub(in crate::reader) fn tag_gone(&self) {
        let _ = self.while_held(|state| self.desk.miss_tag(state));
    }

    pub(in crate::reader) fn tag_refused(&self, error: TagError) {
        let _ = self.while_held(|state| {
            if state.refused.as_ref() != Some(&error) {
                self.desk.lose_tag(state);
                state.refused = Some(error.clone());
                state.status.last_error = Some(error.clone());
                self.desk.tell(TagEvent::TagRefused(error));
            }
        });
    }

    pub(in crate::reader) fn field_control(&self, control: FieldControl) {
        let _ = self.while_held(|state| state.status.field_control = control);
    }

    /// The tag answered at this event count, with the field on.
    pub(in crate::reader) fn settled(&self, event_count: u32) {
        let _ = self.while_held(|state| {
            state.settled = Some(event_count);
            state.field_off = false;
        });
    }

    /// The event count at which the tag was last seen, if we switched the field off after that.
    pub(in crate::reader) fn last_sight_before_field_off(&self) -> Option<u32> {
        let state = self.desk.locked();
        state.settled.filter(|_| state.field_off)
    }

    /// From here on presence means nothing, and whatever called for attention was our own doing.
    pub(in crate::reader) fn field_goes_off(&self) -> Result<(), TagError> {
        self.while_held(|state| {
            state.field_off = true;
            state.attend = false;
        })
    }

    pub(in crate::reader) fn field_stays_on(&self) {
        let _ = self.while_held(|state| state.field_off = false);
    }

    /// Other software holds the reader, and something is still to be done there.
    pub(in crate::reader) fn waits_for_others(&self) {
        let _ = self.while_held(|state| state.busy = true);
    }

    fn while_held<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, TagError> {
        let mut state = self.desk.locked();
        if self.holds(&state) {
            Ok(act(&mut state))
        } else {
            Err(TagError::Stuck)
        }
    }

    fn holds(&self, state: &State) -> bool {
        state.generation == self.generation
    }
}

impl Drop for Lease {
    /// A worker ends: the current one is missed, an abandoned one is no longer stuck.
    fn drop(&mut self) {
        let mut state = self.desk.locked();
        if state.generation == self.generation {
            state.worker_alive = false;
        } else {
            state.stuck_workers = state.stuck_workers.saturating_sub(1);
            if state.stuck_workers == 0 {
                self.desk.tell(TagEvent::ReaderReady);
            }
        }
        self.desk.changed.notify_all();
    }
}

/// A reader that seems taken while a worker of ours hangs in it is what that worker hangs in.
fn owned_up(error: TagError, state: &State) -> TagError {
    match (error, &state.hang) {
        (TagError::ReaderBusy, Some(hang)) if state.stuck_workers > 0 => hang.clone(),
        (error, _) => error,
    }
}

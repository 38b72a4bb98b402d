//! How does a tag become this terminal's, and how does it stop being it?
//!
//! ```text
//!  ask for the version of every key        what a cut left open is settled, nothing is tried
//!  blank the file                          as long as anybody may write it
//!  write, meta, mac, spare ──┐
//!  settings of the file      │ each: on the disk, to the tag, on the disk
//!  master                  ──┘
//!  authenticate with write, and adopt
//! ```
//! It is done again after a cut and goes on where it stopped.

use protocol::aes_key::AesKey;
use protocol::sun::KeySlot;
use subtle::ConstantTimeEq;

use super::chip::Chip;
use super::command::{Command, Mode};
use super::settings::{FileSettings, Mirror};
use super::{opened, record, selected, settings};
use crate::tag::TagError;
use crate::tag::family::{At, Done, Wish};
use crate::tag::key_file::TagKeys;
use crate::tag::record::{DELIVERED_VERSION, KeyRecord, KeyState, TagRecord};
use crate::tag::wear::NTAG424;

/// All but the master key, which is last.
const BEFORE_MASTER: [KeySlot; 4] = [KeySlot::Write, KeySlot::Meta, KeySlot::Mac, KeySlot::Spare];
const LENGTH_ZERO: [u8; 2] = [0, 0];

pub(super) fn personalise(at: &At<'_>, wish: &Wish) -> Result<Done, TagError> {
    let keys = own_keys(at, wish)?;
    let mirror = match wish.signed_message {
        Some(message) => Mirror::Signed { message },
        None => Mirror::Plain,
    };
    let wanted = FileSettings::of(mirror)?;
    let write_key = keys.key(KeySlot::Write).clone();
    let begun = record(at).filter(|record| !record.is_complete);
    let mut record = match record(at) {
        Some(record) => record.clone(),
        None => unknown(keys, mirror),
    };
    let mut chip = selected(at)?;
    resolve(&mut chip, &mut record)?;
    refuse_other_file(&record, keys)?;
    if begun.is_none() && mirror != Mirror::Plain {
        refuse_new_count(&mut chip, &record, keys, &wanted)?;
    }
    record.write_key = write_key;
    record.mirror = mirror;
    record.is_complete = false;
    keep(at, &record)?;

    let mut work = Work {
        at,
        wish,
        record,
        chip,
        writes: 0,
    };
    work.blank()?;
    work.authenticate_master()?;
    work.change_keys(keys.version())?;
    work.set(&wanted)?;
    work.change_master(keys.version())?;
    work.finish()
}

pub(super) fn reset(at: &At<'_>, wish: &Wish) -> Result<Done, TagError> {
    let Some(record) = record(at) else {
        return Err(TagError::NotPersonalised);
    };
    let keys = own_keys(at, wish)?;
    let mut record = record.clone();
    let mut chip = selected(at)?;
    resolve(&mut chip, &mut record)?;
    refuse_other_file(&record, keys)?;
    record.is_complete = false;
    keep(at, &record)?;
    let mut work = Work {
        at,
        wish,
        record,
        chip,
        writes: 0,
    };
    work.blank()?;
    work.authenticate_master()?;
    work.set(&FileSettings::delivered())?;
    work.change_keys(DELIVERED_VERSION)?;
    work.change_master(DELIVERED_VERSION)?;
    at.safe.forget(at.uid)?;
    Ok(Done {
        writes: work.writes,
        said: vec!["the tag is as it was delivered, and belongs to no terminal".into()],
        ..Done::default()
    })
}

pub(super) fn versions_in_words(at: &At<'_>, record: &KeyRecord) -> Result<Vec<String>, TagError> {
    let mut chip = selected(at)?;
    let mut resolved = record.clone();
    resolve(&mut chip, &mut resolved)?;
    let one = |slot: KeySlot| match resolved.state(slot) {
        KeyState::Ours { version } => format!("key {}: ours, version {version}", slot.name()),
        KeyState::Delivered => format!("key {}: as delivered", slot.name()),
        KeyState::Changing { .. } | KeyState::Lost => {
            format!("key {}: neither the old nor the new one", slot.name())
        }
    };
    Ok(KeySlot::ALL.into_iter().map(one).collect())
}

/// One visit that changes keys.
struct Work<'a, 'b> {
    at: &'b At<'a>,
    wish: &'b Wish,
    record: KeyRecord,
    chip: Chip<'a>,
    writes: u32,
}

impl Work<'_, '_> {
    /// The tag leads nowhere while its keys and its settings change.
    fn blank(&mut self) -> Result<(), TagError> {
        let is_free = settings(&mut self.chip, Mode::Plain)? == Some(FileSettings::delivered());
        let mode = match is_free {
            true => Mode::Plain,
            false => {
                let version = certain(&self.record, KeySlot::Write)?;
                let key = self.key(KeySlot::Write, version)?;
                self.chip.authenticate(KeySlot::Write, &key)?;
                Mode::Mac
            }
        };
        let blank = Command::write(0, &LENGTH_ZERO, mode);
        self.at.count(NTAG424.programming(1, 1));
        self.chip.run("blanking it", &blank)?;
        self.writes += 1;
        Ok(())
    }

    fn authenticate_master(&mut self) -> Result<(), TagError> {
        let version = certain(&self.record, KeySlot::Master)?;
        let key = self.key(KeySlot::Master, version)?;
        self.chip.authenticate(KeySlot::Master, &key)
    }

    fn change_keys(&mut self, to: u8) -> Result<(), TagError> {
        BEFORE_MASTER
            .into_iter()
            .try_for_each(|slot| self.change(slot, to))
    }

    /// The tag forgets the session with its master key; under the new one it is asked for at once.
    fn change_master(&mut self, to: u8) -> Result<(), TagError> {
        self.change(KeySlot::Master, to)?;
        self.chip.forget_session();
        self.authenticate_master()
    }

    fn change(&mut self, slot: KeySlot, to: u8) -> Result<(), TagError> {
        let from = certain(&self.record, slot)?;
        if from == to {
            return Ok(());
        }
        let (old, new) = (self.key(slot, from)?, self.key(slot, to)?);
        self.record.set(slot, KeyState::Changing { from, to });
        keep(self.at, &self.record)?;
        let change = Command::change_key(slot, &old, &new, to);
        self.chip.run("a new key", &change)?;
        self.writes += 1;
        let state = KeyState::Changing { from, to }.resolved(to);
        self.record.set(slot, state);
        keep(self.at, &self.record)
    }

    fn set(&mut self, wanted: &FileSettings) -> Result<(), TagError> {
        if settings(&mut self.chip, Mode::Mac)?.as_ref() == Some(wanted) {
            return Ok(());
        }
        let change = Command::change_file_settings(wanted.as_bytes());
        self.chip.run("new settings", &change)?;
        self.writes += 1;
        match settings(&mut self.chip, Mode::Mac)?.as_ref() == Some(wanted) {
            true => Ok(()),
            false => Err(TagError::SettingsChanged),
        }
    }

    fn finish(mut self) -> Result<Done, TagError> {
        self.chip.forget_session();
        drop(opened(self.at, &self.record)?);
        self.record.is_complete = true;
        keep(self.at, &self.record)?;
        self.at.safe.adopt(self.at.uid)?;
        Ok(Done {
            writes: self.writes,
            said: vec!["the tag has its keys, and is this terminal's own".into()],
            ..Done::default()
        })
    }

    fn key(&self, slot: KeySlot, version: u8) -> Result<AesKey, TagError> {
        if version == DELIVERED_VERSION {
            return Ok(AesKey::DELIVERY);
        }
        let files = [&self.wish.keys, &self.wish.old_keys].into_iter().flatten();
        let mut of_version = files.filter(|keys| keys.version() == version);
        let keys = of_version.next().ok_or(TagError::OtherKeys { version })?;
        Ok(keys.key(slot).clone())
    }
}

/// The keys of the wish, if they are of this tag.
fn own_keys<'a>(at: &At<'_>, wish: &'a Wish) -> Result<&'a TagKeys, TagError> {
    let keys = wish.keys.as_ref().ok_or(TagError::KeysWanted)?;
    let both = [Some(keys), wish.old_keys.as_ref()].into_iter().flatten();
    for keys in both {
        if keys.uid.as_bytes() != at.uid {
            return Err(TagError::KeysOfAnother { of: keys.uid });
        }
    }
    let doubled = wish.old_keys.as_ref().map(TagKeys::version) == Some(keys.version());
    match doubled {
        true => Err(TagError::OtherKeys {
            version: keys.version(),
        }),
        false => Ok(keys),
    }
}

/// A tag of which nothing is written down: the factory's keys, or those of the file it came with.
fn unknown(keys: &TagKeys, mirror: Mirror) -> KeyRecord {
    let mut record = KeyRecord::new(keys.key(KeySlot::Write).clone(), mirror);
    let either = KeyState::Changing {
        from: DELIVERED_VERSION,
        to: keys.version(),
    };
    record.states = [either; 5];
    record
}

/// Another file of the same version must not take the place of the key that is on the tag.
fn refuse_other_file(record: &KeyRecord, keys: &TagKeys) -> Result<(), TagError> {
    let on_tag = record.state(KeySlot::Write).version();
    let same = record
        .write_key
        .expose()
        .ct_eq(keys.key(KeySlot::Write).expose());
    match on_tag == Some(keys.version()) && !bool::from(same) {
        true => Err(TagError::OtherKeys {
            version: keys.version(),
        }),
        false => Ok(()),
    }
}

/// New settings begin the count at 0. Under keys that have signed before, the authority would take what the
/// tag signs for links of before its last write.
fn refuse_new_count(
    chip: &mut Chip<'_>,
    record: &KeyRecord,
    keys: &TagKeys,
    wanted: &FileSettings,
) -> Result<(), TagError> {
    let has_these = record.state(KeySlot::Mac).version() == Some(keys.version());
    let are = settings(chip, Mode::Plain)?;
    let kept = [Some(wanted), Some(&FileSettings::delivered())].contains(&are.as_ref());
    match has_these && !kept {
        true => Err(TagError::NewKeysWanted),
        false => Ok(()),
    }
}

/// Asks the tag which key each slot has; a slot with another one is lost, and that stays written down.
fn resolve(chip: &mut Chip<'_>, record: &mut KeyRecord) -> Result<(), TagError> {
    for slot in KeySlot::ALL {
        let answer = chip.run("the version of a key", &Command::get_key_version(slot))?;
        let [version] = answer[..] else {
            return Err(TagError::Garbled);
        };
        record.set(slot, record.state(slot).resolved(version));
    }
    Ok(())
}

fn certain(record: &KeyRecord, slot: KeySlot) -> Result<u8, TagError> {
    let lost = TagError::KeyLost { slot: slot.name() };
    record.state(slot).version().ok_or(lost)
}

fn keep(at: &At<'_>, record: &KeyRecord) -> Result<(), TagError> {
    at.keep(&TagRecord::Ntag424(record.clone()))
}

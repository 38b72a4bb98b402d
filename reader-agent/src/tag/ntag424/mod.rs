//! How is an NTAG 424 DNA treated?
//!
//! It is written by whoever has its key *write*, and says under that key what it holds, so neither a
//! copy nor somebody between reader and tag gets through. Only a tag that was personalised is used.

mod chip;
mod command;
mod file;
mod keys;
mod session;
mod settings;

pub(super) use settings::Mirror;

use chip::Chip;
use command::{Command, Mode};
use protocol::ndef;
use protocol::sun::{self, KeySlot};
use protocol::wire::reports::TagSigns;
use settings::FileSettings;

use super::TagError;
use super::card::is_storage_card;
use super::family::{At, Done, TagFamily, Wish};
use super::record::{KeyRecord, TagRecord};
use super::taps::Counted;
use super::wear::NTAG424;

/// Bytes of the file in one answer, short enough for any reader.
const READ_MAX: usize = 128;

pub(super) struct Ntag424;

impl TagFamily for Ntag424 {
    fn name(&self) -> &'static str {
        "NTAG 424 DNA"
    }

    fn recognises(&self, at: &At<'_>) -> Result<bool, TagError> {
        if matches!(at.record, Some(TagRecord::Ntag424(_))) {
            return Ok(true);
        }
        if is_storage_card(at.card.atr()) {
            return Ok(false);
        }
        match Chip::select(at.card)? {
            Some(mut chip) => chip.is_a_424(),
            None => Ok(false),
        }
    }

    fn owns(&self, record: &TagRecord) -> bool {
        matches!(record, TagRecord::Ntag424(_))
    }

    fn show(&self, at: &At<'_>, message: &[u8]) -> Result<Done, TagError> {
        let record = record(at).ok_or(TagError::NotPersonalised)?;
        if !record.is_complete {
            return Err(TagError::HalfPersonalised);
        }
        let wanted = file::wanted(&mirrored(record.mirror, message)?)?;
        let mut chip = opened(at, record)?;
        let counter = counter(&mut chip)?;
        let known = at.memory().taps.knows(at.uid);
        let taps = at.memory().taps.begin(at.uid, counter, Counted::Phones);
        let plan = file::plan(&read(&mut chip, wanted.len())?, &wanted);
        // Which frames share a place in the memory nobody says: all of them may.
        at.count(NTAG424.programming(plan.len(), plan.len()));
        for write in &plan {
            let write = Command::write(write.offset, &write.data, Mode::Mac);
            chip.run("writing the link", &write)?;
        }
        if !plan.is_empty() && read(&mut chip, wanted.len())? != wanted {
            return Err(TagError::LiesAboutWrites { page: 0 });
        }
        // While we hold the field and the key nobody else is counted.
        at.memory().taps.settle(at.uid, counter);
        Ok(Done {
            writes: u32::try_from(plan.len()).unwrap_or(u32::MAX),
            taps,
            counter_found: known.then_some(counter),
            counter: Some(counter),
            signs: signs(record, counter).filter(|_| !plan.is_empty()),
            area: wanted,
            ..Done::default()
        })
    }

    fn personalise(&self, at: &At<'_>, wish: &Wish) -> Result<Done, TagError> {
        keys::personalise(at, wish)
    }

    fn check(&self, at: &At<'_>) -> Result<Done, TagError> {
        let Some(record) = record(at) else {
            let said = "it was not personalised here: m2key-agent tag personalise --keys <file>";
            return Ok(Done {
                said: vec![said.into()],
                ..Done::default()
            });
        };
        let mut said = keys::versions_in_words(at, record)?;
        if !record.is_complete {
            said.push("a cut came in between: do again what was begun".into());
            return Ok(Done {
                said,
                ..Done::default()
            });
        }
        let mut chip = opened(at, record)?;
        let counter = counter(&mut chip)?;
        said.push("it knows its key, and its settings are ours".into());
        said.push(match record.mirror {
            Mirror::Plain => "links are not signed".into(),
            Mirror::Signed { .. } => "links are signed at every tap".into(),
        });
        said.push(format!("read by phones {counter} times"));
        Ok(Done {
            counter: Some(counter),
            said,
            ..Done::default()
        })
    }

    fn reset(&self, at: &At<'_>, wish: &Wish) -> Result<Done, TagError> {
        keys::reset(at, wish)
    }
}

fn record<'a>(at: &'a At<'_>) -> Option<&'a KeyRecord> {
    match &at.record {
        Some(TagRecord::Ntag424(record)) => Some(record),
        _ => None,
    }
}

/// Whatever a phone read before this visit has no higher count: nobody reads it while we hold the field.
fn signs(record: &KeyRecord, counter: u32) -> Option<TagSigns> {
    match record.mirror {
        Mirror::Plain => None,
        Mirror::Signed { .. } => Some(TagSigns {
            key_version: record.state(KeySlot::Mac).version()?,
            counter,
        }),
    }
}

fn selected<'a>(at: &At<'a>) -> Result<Chip<'a>, TagError> {
    let atr = || at.card.atr().to_vec();
    Chip::select(at.card)?.ok_or_else(|| TagError::NotAnNtag { atr: atr() })
}

/// The tag, in a session under its write key, and certain to be the one it says it is.
fn opened<'a>(at: &At<'a>, record: &KeyRecord) -> Result<Chip<'a>, TagError> {
    let mut chip = selected(at)?;
    chip.authenticate(KeySlot::Write, &record.write_key)?;
    if chip.run("its UID", &Command::get_card_uid())? != at.uid {
        return Err(TagError::Counterfeit);
    }
    if settings(&mut chip, Mode::Mac)? != Some(FileSettings::of(record.mirror)?) {
        return Err(TagError::SettingsChanged);
    }
    Ok(chip)
}

fn settings(chip: &mut Chip<'_>, mode: Mode) -> Result<Option<FileSettings>, TagError> {
    let answer = chip.run("its settings", &Command::get_file_settings(mode))?;
    Ok(FileSettings::read(&answer))
}

fn counter(chip: &mut Chip<'_>) -> Result<u32, TagError> {
    let answer = chip.run("its counter", &Command::get_file_counters())?;
    match answer[..] {
        [low, middle, high, ..] => Ok(u32::from_le_bytes([low, middle, high, 0])),
        _ => Err(TagError::Garbled),
    }
}

/// The beginning of the file, as it is stored: what the tag mirrors is not in it.
fn read(chip: &mut Chip<'_>, length: usize) -> Result<Vec<u8>, TagError> {
    let mut is = Vec::with_capacity(length);
    while is.len() < length {
        let count = (length - is.len()).min(READ_MAX);
        let byte = |n: usize| u8::try_from(n).map_err(|_| TagError::Bug);
        let command = Command::read(byte(is.len())?, byte(count)?, Mode::Mac);
        let part = chip.run("reading the link", &command)?;
        if part.len() != count {
            return Err(TagError::Garbled);
        }
        is.extend(part);
    }
    Ok(is)
}

/// The message with room for what the tag puts in.
fn mirrored(mirror: Mirror, message: &[u8]) -> Result<Vec<u8>, TagError> {
    let Mirror::Signed { message: length } = mirror else {
        return Ok(message.to_vec());
    };
    if message.is_empty() {
        return Ok(Vec::new());
    }
    let link = ndef::read_uri(message).map_err(|_| TagError::Bug)?;
    let signed = ndef::uri_message(&sun::template(&link)).map_err(|_| TagError::Bug)?;
    match signed.len() == usize::from(length) {
        true => Ok(signed),
        // The host's name got longer or shorter.
        false => Err(TagError::SettingsChanged),
    }
}

//! Who may write on this tag?
//!
//! Whoever knows its password: four bytes, so it keeps out a passer-by with a phone, and nobody who
//! listens to the air. The password is on the tag before anything asks for it, and in the record
//! before it is on the tag.
//!
//! ```text
//!  record: protecting ─▶ password, answer ─▶ tried ─▶ from page 2 on ─▶ record: protected
//! ```

use super::counter::{CONFIGURATION_LOCKED, COUNTER_ENABLED};
use super::pages::Header;
use crate::tag::card::Pages;
use crate::tag::family::{At, Done};
use crate::tag::record::{Password, PasswordRecord, PasswordStage, TagRecord};
use crate::tag::wear::NTAG21X;
use crate::tag::{NativeError, PAGE, StorageCard, TagError};

const PASSWORD_AUTH: u8 = 0x1B;
/// From the lock bytes on: a passer-by cannot make the tag read-only either.
const GUARDED_FROM: u8 = 0x02;
/// No page has this number.
const UNGUARDED: u8 = 0xFF;
/// Reading needs the password, too.
const READS_GUARDED: u8 = 0x80;
/// How many wrong passwords the tag takes; 0 is any number, so that nobody locks us out.
const TRIES: u8 = 0x07;
const DELIVERED_WORD: [u8; PAGE] = [0xFF; PAGE];

/// The configuration pages.
pub(super) struct Guard {
    header: Header,
    guard: [u8; PAGE],
    access: [u8; PAGE],
}

impl Guard {
    pub(super) fn read(pages: &mut Pages<'_>) -> Result<Self, TagError> {
        let header = Header::parse(&pages.read(0)?)?;
        let [a, b, c, d, e, f, g, h, ..] = pages.read(header.guard_page())?;
        Ok(Self {
            header,
            guard: [a, b, c, d],
            access: [e, f, g, h],
        })
    }

    fn is_up(&self) -> bool {
        // The last configuration page is the one with the password's answer.
        self.guard[3] <= self.header.guard_page() + 3
    }

    fn guarding(&self, from: u8) -> [u8; PAGE] {
        let [a, b, c, _] = self.guard;
        [a, b, c, from]
    }
}

/// Opens a guarded tag for this visit.
pub(super) fn unlock(at: &At<'_>, pages: &mut Pages<'_>) -> Result<(), TagError> {
    let Some(record) = record(at) else {
        return Ok(());
    };
    let guard = Guard::read(pages)?;
    match (guard.is_up(), record.stage) {
        (true, _) => authenticate(at, &record.password),
        (false, PasswordStage::Protected) => Err(TagError::Unguarded),
        (false, _) => Ok(()),
    }
}

/// Sets a password of this tag's own, and makes the tag this terminal's.
pub(super) fn protect(at: &At<'_>) -> Result<Done, TagError> {
    let mut pages = Pages(at.card);
    let guard = Guard::read(&mut pages)?;
    if guard.access[0] & CONFIGURATION_LOCKED != 0 {
        return Err(TagError::Locked {
            page: guard.header.access_page(),
        });
    }
    if at.card.native().is_none() {
        return Err(TagError::PasswordNotLetThrough);
    }
    let password = match record(at) {
        Some(record) => record.password.clone(),
        None if guard.is_up() => return Err(TagError::ForeignPassword),
        None => Password::random()?,
    };
    keep(at, &password, PasswordStage::Protecting)?;
    if guard.is_up() {
        authenticate(at, &password)?;
    }
    // The page that says from where on it guards, and the one with the answer, twice.
    at.count(NTAG21X.programming(2, 6));
    let first = guard.header.guard_page();
    let [a, b] = password.answer;
    pages.write(first + 2, password.word)?;
    let answer = [a, b, 0, 0];
    pages.write(first + 3, answer)?;
    try_on_last_page(at, &mut pages, &guard, &password, answer)?;
    let [access, rest @ ..] = guard.access;
    let access = access & !(READS_GUARDED | TRIES) | COUNTER_ENABLED;
    let [b, c, d] = rest;
    pages.write(first + 1, [access, b, c, d])?;
    pages.write(first, guard.guarding(GUARDED_FROM))?;
    if !Guard::read(&mut pages)?.is_up() {
        return Err(TagError::LiesAboutWrites { page: first });
    }
    keep(at, &password, PasswordStage::Protected)?;
    at.safe.adopt(at.uid)?;
    Ok(Done {
        writes: 6,
        said: vec!["the tag has a password, and is this terminal's own".into()],
        ..Done::default()
    })
}

/// Nothing is guarded by a password that the tag did not take, or that this reader makes it forget
/// before the next write: one page is, from which there is a way back without it.
fn try_on_last_page(
    at: &At<'_>,
    pages: &mut Pages<'_>,
    guard: &Guard,
    password: &Password,
    answer: [u8; PAGE],
) -> Result<(), TagError> {
    if guard.is_up() {
        return Ok(());
    }
    let first = guard.header.guard_page();
    authenticate(at, password)?;
    pages.write(first, guard.guarding(first + 3))?;
    authenticate(at, password)?;
    match pages.write(first + 3, answer) {
        Err(TagError::WriteRefused { .. }) => {
            pages.write(first, guard.guarding(UNGUARDED))?;
            Err(TagError::PasswordNotLetThrough)
        }
        written => written,
    }
}

/// Takes the password away again.
pub(super) fn release(at: &At<'_>) -> Result<Done, TagError> {
    let mut pages = Pages(at.card);
    let guard = Guard::read(&mut pages)?;
    let first = guard.header.guard_page();
    match record(at) {
        None if guard.is_up() => return Err(TagError::ForeignPassword),
        None => {}
        Some(record) => {
            keep(at, &record.password, PasswordStage::Releasing)?;
            if guard.is_up() {
                authenticate(at, &record.password)?;
            }
            at.count(NTAG21X.programming(1, 3));
            pages.write(first, guard.guarding(UNGUARDED))?;
            pages.write(first + 2, DELIVERED_WORD)?;
            pages.write(first + 3, [0; PAGE])?;
            if Guard::read(&mut pages)?.is_up() {
                return Err(TagError::LiesAboutWrites { page: first });
            }
        }
    }
    at.safe.forget(at.uid)?;
    Ok(Done {
        writes: 3,
        said: vec!["the tag has no password, and belongs to no terminal".into()],
        ..Done::default()
    })
}

pub(super) fn in_words(at: &At<'_>, guard: &Guard) -> Result<String, TagError> {
    Ok(match (record(at), guard.is_up()) {
        (None, false) => "no password: anybody with a phone can write on it; \
                          set one with m2key-agent tag personalise"
            .into(),
        (None, true) => return Err(TagError::ForeignPassword),
        (Some(record), true) => {
            authenticate(at, &record.password)?;
            "password: set, and it is ours".into()
        }
        (Some(record), false) if record.stage == PasswordStage::Protected => {
            return Err(TagError::Unguarded);
        }
        (Some(_), false) => "a cut left it without a password; \
                             do again what was begun (tag personalise, or tag reset)"
            .into(),
    })
}

fn record<'a>(at: &'a At<'_>) -> Option<&'a PasswordRecord> {
    match &at.record {
        Some(TagRecord::Ntag21x(record)) => Some(record),
        _ => None,
    }
}

fn keep(at: &At<'_>, password: &Password, stage: PasswordStage) -> Result<(), TagError> {
    at.keep(&TagRecord::Ntag21x(PasswordRecord {
        password: password.clone(),
        stage,
    }))
}

/// A tag that knows our password also knows what to answer; both together tell it from a copy of its UID.
fn authenticate(at: &At<'_>, password: &Password) -> Result<(), TagError> {
    let mut native = at.card.native().ok_or(TagError::PasswordNotLetThrough)?;
    let [a, b, c, d] = password.word;
    match native.transceive(&[PASSWORD_AUTH, a, b, c, d]) {
        Ok(answer) if answer == password.answer => Ok(()),
        Ok(_) => Err(TagError::Counterfeit),
        Err(NativeError::Refused) => Err(TagError::ForeignPassword),
        Err(NativeError::Reader(error)) => Err(error),
    }
}

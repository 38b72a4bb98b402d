//! How does a test play a reader, the tag on it, and the phones that come by?
//!
//! A `VirtualReader` listens on the socket its entry in reader.conf names, and answers the IFD
//! handler inside pcscd as an ACR122U would. Its frames: `tests/virtual-reader/src/lib.rs`.

use super::acr122u::{self, Manners, NativeWay, ReaderCommand};
use super::pcscd::ReaderEntry;
use super::virtual_424::VirtualNtag424;
use super::virtual_tag::{ForeignTag, TagModel, VirtualTag};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// APDUs remembered; the oldest go first.
const LOG_MAX: usize = 10_000;
const FRAME_MAX: usize = 128 * 1024;
/// How long a test waits for the reader to come into a state before it fails.
const WAIT_LIMIT: Duration = Duration::from_secs(30);
const ESCAPE: u32 = 3500;

const POWER_UP: u8 = 1;
const POWER_DOWN: u8 = 2;
const RESET: u8 = 3;
const TRANSMIT: u8 = 4;
const CONTROL: u8 = 5;
const GET_ATTRIBUTE: u8 = 6;
const PRESENCE: u8 = 0x80;
const ANSWER: u8 = 0x81;
const REFUSAL: u8 = 0x82;
const UNSUPPORTED: u8 = 0;
const NO_TAG: u8 = 1;

const VENDOR_NAME: u32 = 0x0001_0100;
const ATR_STRING: u32 = 0x0009_0303;

/// Why a phone cannot read the tag: the reader holds it in its own field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tag is in the reader's field; no phone can read it")]
pub struct InReadersField;

pub struct VirtualReader {
    name: String,
    socket: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    tag: Option<TagModel>,
    /// The tag that a tear took off the reader.
    torn: Option<TagModel>,
    field: bool,
    /// Two tags lie there: the reader sees something, and neither answers.
    pile: bool,
    field_control: bool,
    manners: Manners,
    writes_to_tear: Option<usize>,
    apdus_to_tear: Option<usize>,
    hold: Option<Hold>,
    holding: bool,
    connection: Option<UnixStream>,
    log: VecDeque<Vec<u8>>,
    stop: bool,
}

/// Which command's answer is kept back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// The next one for the tag.
    Tag,
    /// The one that switches the field off.
    FieldOff,
}

impl Hold {
    fn is_for(self, kind: u8, body: &[u8]) -> bool {
        match self {
            Hold::Tag => kind == TRANSMIT,
            Hold::FieldOff => {
                let command = body.get(4..).and_then(acr122u::reader_command);
                kind == CONTROL && matches!(command, Some(ReaderCommand::Field(false, _)))
            }
        }
    }
}

enum Reply {
    Answer(Vec<u8>),
    Refusal(u8),
}

impl VirtualReader {
    /// A reader that pcscd will list as `name 00 00`, with its socket in `dir`.
    pub fn new(dir: &Path, name: &str) -> io::Result<VirtualReader> {
        let socket = dir.join(format!("reader-{}.sock", name.replace([' ', '/'], "-")));
        let listener = UnixListener::bind(&socket)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(NativeWay::of(name))),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || serving.accept(&listener));
        Ok(VirtualReader {
            name: name.to_owned(),
            socket,
            shared,
        })
    }

    /// An ACR122U.
    pub fn acr122u(dir: &Path) -> io::Result<VirtualReader> {
        VirtualReader::new(dir, "ACS ACR122U PICC Interface")
    }

    /// Its entry for `Pcscd::start`.
    pub fn entry(&self) -> ReaderEntry {
        ReaderEntry::virtual_reader(&self.name, &self.socket)
    }

    // ── what lies on it ───────────────────────────────────────────────────────────────────────

    pub fn place(&self, tag: impl Into<TagModel>) {
        self.put(tag.into());
    }

    pub fn place_foreign(&self, tag: ForeignTag) {
        self.put(TagModel::Foreign(tag));
    }

    /// Takes the NTAG away; also the one that a tear has taken off already.
    pub fn remove(&self) -> Option<VirtualTag> {
        let mut state = self.shared.locked();
        let tag = state.tag.take();
        state.push_presence();
        match tag.or_else(|| state.torn.take()) {
            Some(TagModel::Ntag213(tag)) => Some(*tag),
            _ => None,
        }
    }

    /// Looks at the NTAG, or turns a screw on it, without a field.
    pub fn with_tag<T>(&self, look: impl FnOnce(&mut VirtualTag) -> T) -> Option<T> {
        match self.shared.locked().tag.as_mut() {
            Some(TagModel::Ntag213(tag)) => Some(look(tag)),
            _ => None,
        }
    }

    /// The same for an NTAG 424 DNA.
    pub fn with_424<T>(&self, look: impl FnOnce(&mut VirtualNtag424) -> T) -> Option<T> {
        match self.shared.locked().tag.as_mut() {
            Some(TagModel::Ntag424(tag)) => Some(look(tag)),
            _ => None,
        }
    }

    /// Takes whatever lies there away; also what a tear has taken off already.
    pub fn remove_any(&self) -> Option<TagModel> {
        let mut state = self.shared.locked();
        let tag = state.tag.take();
        state.push_presence();
        tag.or_else(|| state.torn.take())
    }

    /// A phone is held to the reader: what it reads of the tag, `None` if there is no message.
    pub fn tap(&self) -> Result<Option<Vec<u8>>, InReadersField> {
        let mut state = self.shared.locked();
        if state.field && state.tag.is_some() {
            return Err(InReadersField);
        }
        Ok(state.tag.as_mut().and_then(TagModel::read_by_phone))
    }

    /// The tag takes `writes` more page writes and is taken away instead of the next one.
    pub fn tear_after(&self, writes: usize) {
        self.shared.locked().writes_to_tear = Some(writes);
    }

    /// The tag hears `apdus` more commands of any kind and is taken away instead of the next one.
    pub fn tear_after_apdus(&self, apdus: usize) {
        self.shared.locked().apdus_to_tear = Some(apdus);
    }

    /// Whether a tear that was set has come.
    pub fn is_torn(&self) -> bool {
        self.shared.locked().torn.is_some()
    }

    /// A tear that has not come yet does not come any more.
    pub fn stop_tearing(&self) {
        let mut state = self.shared.locked();
        state.writes_to_tear = None;
        state.apdus_to_tear = None;
    }

    /// A second tag lies on the first, or is taken away again: both answer at once, so neither is
    /// understood, and something lies there all the time.
    pub fn pile(&self, is_piled: bool) {
        self.shared.locked().pile = is_piled;
    }

    // ── how it behaves ────────────────────────────────────────────────────────────────────────

    pub fn lie_about_writes(&self, lies: bool) {
        self.shared.locked().manners.lies_about_writes = lies;
    }

    /// Selects the tag anew after every native command.
    pub fn forget_after_native(&self) {
        self.shared.locked().manners.forgets = true;
    }

    /// Refuses escape commands, as with a driver that does not pass them.
    pub fn refuse_field_control(&self) {
        self.shared.locked().field_control = false;
    }

    /// Keeps the answer to the next command for the tag until `release`.
    pub fn hold(&self) {
        self.shared.locked().hold = Some(Hold::Tag);
    }

    /// Keeps the answer to the command that switches the field off until `release`.
    pub fn hold_field_off(&self) {
        self.shared.locked().hold = Some(Hold::FieldOff);
    }

    /// Waits until a command's answer is being held.
    pub fn wait_until_holding(&self) {
        self.wait("a command to hold", |s| s.holding);
    }

    pub fn release(&self) {
        self.shared.locked().hold = None;
        self.shared.changed.notify_all();
    }

    /// Pulls the plug: pcscd finds no such device.
    pub fn hang_up(&self) {
        self.shared.locked().disconnect();
    }

    // ── what it saw ───────────────────────────────────────────────────────────────────────────

    pub fn field(&self) -> bool {
        self.shared.locked().field
    }

    pub fn wait_for_field(&self, on: bool) {
        self.wait("the field to change", |s| s.field == on);
    }

    /// Waits until a pcscd has this reader.
    pub fn wait_until_connected(&self) {
        self.wait("pcscd to connect", |s| s.connection.is_some());
    }

    /// Every command for reader or tag since the last call.
    pub fn take_apdus(&self) -> Vec<Vec<u8>> {
        self.shared.locked().log.drain(..).collect()
    }

    fn put(&self, tag: TagModel) {
        let mut state = self.shared.locked();
        state.tag = Some(tag);
        state.torn = None;
        state.push_presence();
    }

    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let (_state, waited) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.locked(), WAIT_LIMIT, |s| !until(s))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            !waited.timed_out(),
            "{}: waited in vain for {what}",
            self.name
        );
    }
}

impl Drop for VirtualReader {
    fn drop(&mut self) {
        let mut state = self.shared.locked();
        state.stop = true;
        state.hold = None;
        state.disconnect();
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the accepting thread, which then sees that it shall stop.
        let _ = UnixStream::connect(&self.socket);
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            let Ok(reading) = stream.try_clone() else {
                return;
            };
            let mut state = self.locked();
            if state.stop {
                return;
            }
            state.disconnect();
            state.connection = Some(stream);
            state.push_presence();
            drop(state);
            self.changed.notify_all();
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.serve(reading));
        }
    }

    fn serve(&self, mut stream: UnixStream) {
        while let Ok((kind, body)) = read_frame(&mut stream) {
            self.hold_back(kind, &body);
            let mut state = self.locked();
            let reply = state.reply(kind, &body);
            let sent = match &reply {
                Reply::Answer(bytes) => write_frame(&mut stream, ANSWER, bytes),
                Reply::Refusal(reason) => write_frame(&mut stream, REFUSAL, &[*reason]),
            };
            drop(state);
            self.changed.notify_all();
            if sent.is_err() {
                return;
            }
        }
    }

    fn hold_back(&self, kind: u8, body: &[u8]) {
        let mut state = self.locked();
        if !state.hold.is_some_and(|hold| hold.is_for(kind, body)) {
            return;
        }
        state.holding = true;
        self.changed.notify_all();
        state = self
            .changed
            .wait_while(state, |s| s.hold.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        state.holding = false;
    }
}

impl State {
    fn new(native: NativeWay) -> State {
        State {
            tag: None,
            torn: None,
            field: true,
            pile: false,
            field_control: true,
            manners: Manners {
                native,
                ..Manners::default()
            },
            writes_to_tear: None,
            apdus_to_tear: None,
            hold: None,
            holding: false,
            connection: None,
            log: VecDeque::new(),
            stop: false,
        }
    }

    fn reply(&mut self, kind: u8, body: &[u8]) -> Reply {
        match (kind, body) {
            (POWER_UP | RESET, _) => self.power_up(),
            (POWER_DOWN, _) => Reply::Answer(Vec::new()),
            (TRANSMIT, apdu) => self.transmit(apdu),
            (CONTROL, [a, b, c, d, data @ ..]) => {
                self.control(u32::from_le_bytes([*a, *b, *c, *d]), data)
            }
            (GET_ATTRIBUTE, [a, b, c, d]) => self.attribute(u32::from_le_bytes([*a, *b, *c, *d])),
            _ => Reply::Refusal(UNSUPPORTED),
        }
    }

    fn power_up(&mut self) -> Reply {
        if self.pile {
            return Reply::Refusal(NO_TAG);
        }
        match self.tag_in_field() {
            Some(tag) => {
                tag.power_up();
                Reply::Answer(tag.atr())
            }
            None => Reply::Refusal(NO_TAG),
        }
    }

    fn transmit(&mut self, apdu: &[u8]) -> Reply {
        self.remember(apdu);
        if let Some(command) = acr122u::reader_command(apdu) {
            return self.obey(&command);
        }
        if self.pile {
            return Reply::Refusal(NO_TAG);
        }
        self.tear(apdu);
        let manners = self.manners;
        match self.tag_in_field() {
            Some(tag) => Reply::Answer(acr122u::tag_answer(tag, apdu, manners)),
            None => Reply::Refusal(NO_TAG),
        }
    }

    fn control(&mut self, code: u32, data: &[u8]) -> Reply {
        self.remember(data);
        let escape = u32::try_from(pcsc_control_code(ESCAPE)).unwrap_or(0);
        match acr122u::reader_command(data) {
            Some(command)
                if code == escape && self.field_control && command.suits(self.manners.native) =>
            {
                self.obey(&command)
            }
            _ => Reply::Refusal(UNSUPPORTED),
        }
    }

    fn obey(&mut self, command: &ReaderCommand) -> Reply {
        if let ReaderCommand::Field(on, _) = *command
            && self.field != on
        {
            self.field = on;
            self.push_presence();
        }
        Reply::Answer(acr122u::reader_answer(command))
    }

    fn attribute(&mut self, attribute: u32) -> Reply {
        match attribute {
            VENDOR_NAME => Reply::Answer(b"ACS\0".to_vec()),
            ATR_STRING => match self.tag_in_field() {
                Some(tag) => Reply::Answer(tag.atr()),
                None => Reply::Refusal(NO_TAG),
            },
            _ => Reply::Refusal(UNSUPPORTED),
        }
    }

    /// Counts down to the tear, and takes the tag away when its time has come.
    fn tear(&mut self, apdu: &[u8]) {
        let by_apdu = count_down(&mut self.apdus_to_tear);
        let by_write = acr122u::is_write(apdu) && count_down(&mut self.writes_to_tear);
        if by_apdu || by_write {
            self.torn = self.tag.take();
            self.push_presence();
        }
    }

    fn tag_in_field(&mut self) -> Option<&mut TagModel> {
        self.tag.as_mut().filter(|_| self.field)
    }

    fn push_presence(&mut self) {
        let present = u8::from(self.tag.is_some() && self.field);
        if let Some(stream) = &mut self.connection
            && write_frame(stream, PRESENCE, &[present]).is_err()
        {
            self.connection = None;
        }
    }

    fn disconnect(&mut self) {
        if let Some(stream) = self.connection.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn remember(&mut self, apdu: &[u8]) {
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(apdu.to_vec());
    }
}

fn count_down(left: &mut Option<usize>) -> bool {
    let is_time = *left == Some(0);
    *left = left.and_then(|left| left.checked_sub(1));
    is_time
}

/// PC/SC on Unix puts its control codes above this offset.
fn pcsc_control_code(code: u32) -> u64 {
    0x4200_0000 + u64::from(code)
}

fn read_frame(stream: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > FRAME_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    let body = frame.split_off(1);
    Ok((frame[0], body))
}

fn write_frame(stream: &mut UnixStream, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(body);
    stream.write_all(&frame)
}

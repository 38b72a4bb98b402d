//! What does an NTAG213 do with each command, and what does a phone see of it?
//!
//! Sans I/O: native commands in, native answers out, over real memory. What the data sheet makes of
//! lock bits, the capability container, the password and the read counter happens here too, so a
//! test can only cheat by saying so.

use super::virtual_424::VirtualNtag424;

/// Bytes of a page.
pub(super) const PAGE: usize = 4;
const PAGES: usize = 45;
const USER_FIRST: u8 = 4;
const USER_LAST: u8 = 0x27;
const DYNAMIC_LOCK: u8 = 0x28;
const CONFIG: u8 = 0x29;
const ACCESS: u8 = 0x2A;
const PASSWORD: u8 = 0x2B;
const PACK: u8 = 0x2C;
const COUNTER_ENABLED: u8 = 0x10;
const READS_PROTECTED: u8 = 0x80;
const COUNTER_MAX: u32 = 0x00FF_FFFF;
/// Writes per page that the data sheet promises.
const ENDURANCE: u32 = 100_000;

/// What the chip sends back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data(Vec<u8>),
    Ack,
    /// A four-bit refusal: 0 bad argument, 4 authentication, 5 EEPROM failure.
    Nak(u8),
}

const BAD_ARGUMENT: Frame = Frame::Nak(0);
const NOT_AUTHENTICATED: Frame = Frame::Nak(4);
const WRITE_FAILED: Frame = Frame::Nak(5);

/// What may lie on a reader.
#[derive(Clone)]
pub enum TagModel {
    Ntag213(Box<VirtualTag>),
    Ntag424(Box<VirtualNtag424>),
    Foreign(ForeignTag),
}

impl TagModel {
    pub fn atr(&self) -> Vec<u8> {
        match self {
            TagModel::Ntag213(tag) => tag.atr(),
            TagModel::Ntag424(tag) => tag.atr(),
            TagModel::Foreign(tag) => tag.atr.clone(),
        }
    }

    /// A field appeared.
    pub fn power_up(&mut self) {
        match self {
            TagModel::Ntag213(tag) => tag.power_up(),
            TagModel::Ntag424(tag) => tag.power_up(),
            TagModel::Foreign(_) => {}
        }
    }

    /// What a phone finds in its own field.
    pub fn read_by_phone(&mut self) -> Option<Vec<u8>> {
        match self {
            TagModel::Ntag213(tag) => tag.read_by_phone(),
            TagModel::Ntag424(tag) => tag.read_by_phone(),
            TagModel::Foreign(_) => None,
        }
    }
}

impl From<VirtualTag> for TagModel {
    fn from(tag: VirtualTag) -> Self {
        TagModel::Ntag213(Box::new(tag))
    }
}

impl From<VirtualNtag424> for TagModel {
    fn from(tag: VirtualNtag424) -> Self {
        TagModel::Ntag424(Box::new(tag))
    }
}

/// A card of another family: it answers power-up and nothing else.
#[derive(Clone, Debug)]
pub struct ForeignTag {
    pub atr: Vec<u8>,
    pub uid: Vec<u8>,
}

impl ForeignTag {
    /// A MIFARE Classic 1K, the card most likely to be laid on the reader by mistake.
    pub fn mifare_classic() -> ForeignTag {
        ForeignTag {
            atr: storage_card_atr([0x00, 0x01]),
            uid: vec![0xDE, 0xAD, 0x10, 0x01],
        }
    }
}

/// One NTAG213.
#[derive(Clone, Debug)]
pub struct VirtualTag {
    pages: [[u8; PAGE]; PAGES],
    counter: u32,
    /// The counter moves at the first read after power-up only.
    read_since_power_up: bool,
    authenticated: bool,
    writes: [u32; PAGES],
    endurance: u32,
    version: Option<[u8; 8]>,
}

impl VirtualTag {
    /// A chip as delivered: formatted, empty, unlocked. `serial` tells tags apart.
    pub fn new(serial: u32) -> VirtualTag {
        let s = serial.to_be_bytes();
        let uid = [0x04, 0x51, 0x2C, s[0], s[1], s[2], s[3]];
        let bcc0 = 0x88 ^ uid[0] ^ uid[1] ^ uid[2];
        let bcc1 = uid[3] ^ uid[4] ^ uid[5] ^ uid[6];
        let mut pages = [[0; PAGE]; PAGES];
        pages[0] = [uid[0], uid[1], uid[2], bcc0];
        pages[1] = [uid[3], uid[4], uid[5], uid[6]];
        pages[2] = [bcc1, 0x48, 0, 0];
        pages[3] = [0xE1, 0x10, 0x12, 0x00];
        pages[4] = [0x01, 0x03, 0xA0, 0x0C];
        pages[5] = [0x34, 0x03, 0x00, 0xFE];
        pages[usize::from(DYNAMIC_LOCK)] = [0, 0, 0, 0xBD];
        pages[usize::from(CONFIG)] = [0x04, 0, 0, 0xFF];
        pages[usize::from(ACCESS)] = [0, 0x05, 0, 0];
        pages[usize::from(PASSWORD)] = [0xFF; PAGE];
        VirtualTag {
            pages,
            counter: 0,
            read_since_power_up: false,
            authenticated: false,
            writes: [0; PAGES],
            endurance: ENDURANCE,
            version: Some([0x00, 0x04, 0x04, 0x02, 0x01, 0x00, 0x0F, 0x03]),
        }
    }

    pub fn uid(&self) -> Vec<u8> {
        let mut uid = self.pages[0][..3].to_vec();
        uid.extend_from_slice(&self.pages[1]);
        uid
    }

    /// What it says it is; a chip of an older kind does not know the question.
    pub fn set_version(&mut self, version: Option<[u8; 8]>) {
        self.version = version;
    }

    /// Another UID, as chips have that are made for copying.
    pub fn set_uid(&mut self, uid: [u8; 7]) {
        self.pages[0][..3].copy_from_slice(&uid[..3]);
        self.pages[1].copy_from_slice(&uid[3..]);
    }

    /// What a PC/SC reader makes of it: a storage card of the Ultralight family (PC/SC part 3).
    pub fn atr(&self) -> Vec<u8> {
        storage_card_atr([0x00, 0x03])
    }

    /// All memory from page 0, as no command could read it: password included.
    pub fn memory(&self) -> Vec<u8> {
        self.pages.concat()
    }

    /// How often each page was programmed.
    pub fn writes(&self, page: u8) -> u32 {
        self.writes[usize::from(page)]
    }

    pub fn writes_total(&self) -> u32 {
        self.writes.iter().sum()
    }

    pub fn counter(&self) -> u32 {
        self.counter
    }

    /// Sets the counter where a test needs it, for example just below its end.
    pub fn set_counter(&mut self, counter: u32) {
        self.counter = counter.min(COUNTER_MAX);
    }

    /// Lowers what each page survives.
    pub fn set_endurance(&mut self, writes: u32) {
        self.endurance = writes;
    }

    /// Locks every user page, as a phone app does with "make read-only", but leaves the CC's word as it was.
    pub fn lock(&mut self) {
        self.pages[2][2] |= 0xF8;
        self.pages[2][3] |= 0xFF;
        self.pages[usize::from(DYNAMIC_LOCK)][0] |= 0xFF;
        self.pages[usize::from(DYNAMIC_LOCK)][1] |= 0x0F;
    }

    /// Declares the tag read-only in its capability container.
    pub fn set_read_only(&mut self) {
        self.pages[3][3] |= 0x0F;
    }

    /// Protects pages from `first` on with a password against writing.
    pub fn protect(&mut self, first: u8, password: [u8; 4]) {
        self.pages[usize::from(PASSWORD)] = password;
        self.pages[usize::from(CONFIG)][3] = first;
        self.authenticated = false;
    }

    /// A field appeared: the counter is armed, authentication forgotten.
    pub fn power_up(&mut self) {
        self.read_since_power_up = false;
        self.authenticated = false;
    }

    /// One native command, without CRC.
    pub fn transceive(&mut self, command: &[u8]) -> Frame {
        let answer = match *command {
            [0x60] => self
                .version
                .map_or(BAD_ARGUMENT, |it| Frame::Data(it.to_vec())),
            [0x30, page] => self.read(page),
            [0x3A, first, last] => self.fast_read(first, last),
            [0xA2, page, a, b, c, d] => self.write(page, [a, b, c, d]),
            [0x39, 0x02] => self.read_counter(),
            [0x1B, a, b, c, d] => self.authenticate([a, b, c, d]),
            _ => BAD_ARGUMENT,
        };
        // The chip falls back to IDLE with every refusal, and authentication goes with it.
        if matches!(answer, Frame::Nak(_)) {
            self.authenticated = false;
        }
        answer
    }

    /// What a phone finds in its own field: the NDEF message, or nothing that it would act on.
    pub fn read_by_phone(&mut self) -> Option<Vec<u8>> {
        self.power_up();
        let head = self.data(&[0x30, 0])?;
        if head[12] != 0xE1 {
            return None;
        }
        let size = usize::from(head[14]) * 8;
        let mut area = Vec::new();
        for page in (usize::from(USER_FIRST)..)
            .step_by(4)
            .take(size.div_ceil(16))
        {
            area.extend(self.data(&[0x30, u8::try_from(page).ok()?])?);
        }
        ndef_message(&area[..size])
    }

    fn data(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        match self.transceive(command) {
            Frame::Data(data) => Some(data),
            _ => None,
        }
    }

    fn read(&mut self, page: u8) -> Frame {
        if usize::from(page) >= PAGES {
            return BAD_ARGUMENT;
        }
        if self.hidden(page) {
            return NOT_AUTHENTICATED;
        }
        self.count_read();
        let four = (0..4).map(|i| (page + i) % PAGES as u8);
        Frame::Data(four.flat_map(|p| self.shown(p)).collect())
    }

    fn fast_read(&mut self, first: u8, last: u8) -> Frame {
        if first > last || usize::from(last) >= PAGES {
            return BAD_ARGUMENT;
        }
        if self.hidden(last) {
            return NOT_AUTHENTICATED;
        }
        self.count_read();
        Frame::Data((first..=last).flat_map(|p| self.shown(p)).collect())
    }

    fn count_read(&mut self) {
        if self.pages[usize::from(ACCESS)][0] & COUNTER_ENABLED != 0 && !self.read_since_power_up {
            self.counter = (self.counter + 1).min(COUNTER_MAX);
        }
        self.read_since_power_up = true;
    }

    fn read_counter(&self) -> Frame {
        if self.pages[usize::from(ACCESS)][0] & COUNTER_ENABLED == 0 {
            return BAD_ARGUMENT;
        }
        Frame::Data(self.counter.to_le_bytes()[..3].to_vec())
    }

    fn authenticate(&mut self, password: [u8; 4]) -> Frame {
        if self.pages[usize::from(PASSWORD)] != password {
            return NOT_AUTHENTICATED;
        }
        self.authenticated = true;
        Frame::Data(self.pages[usize::from(PACK)][..2].to_vec())
    }

    fn write(&mut self, page: u8, data: [u8; PAGE]) -> Frame {
        if !(2..PAGES as u8).contains(&page) || self.locked(page) {
            return BAD_ARGUMENT;
        }
        if self.protected(page) && !self.authenticated {
            return NOT_AUTHENTICATED;
        }
        let index = usize::from(page);
        if self.writes[index] >= self.endurance {
            return WRITE_FAILED;
        }
        self.writes[index] += 1;
        self.program(page, data);
        Frame::Ack
    }

    fn program(&mut self, page: u8, data: [u8; PAGE]) {
        let now = &mut self.pages[usize::from(page)];
        match page {
            2 => {
                let (static_locks, frozen) = ([data[2], data[3]], frozen_static(now[2]));
                now[2] |= static_locks[0] & !frozen[0];
                now[3] |= static_locks[1] & !frozen[1];
            }
            3 => (0..PAGE).for_each(|i| now[i] |= data[i]),
            DYNAMIC_LOCK => (0..3).for_each(|i| now[i] |= data[i]),
            _ => *now = data,
        }
    }

    fn locked(&self, page: u8) -> bool {
        let bit = |byte: u8, n: u8| byte >> n & 1 == 1;
        let dynamic = self.pages[usize::from(DYNAMIC_LOCK)];
        match page {
            3..=7 => bit(self.pages[2][2], page),
            8..=15 => bit(self.pages[2][3], page - 8),
            16..=31 => bit(dynamic[0], (page - 16) / 2),
            32..=USER_LAST => bit(dynamic[1], (page - 32) / 2),
            _ => false,
        }
    }

    fn protected(&self, page: u8) -> bool {
        page >= self.pages[usize::from(CONFIG)][3]
    }

    fn hidden(&self, page: u8) -> bool {
        self.pages[usize::from(ACCESS)][0] & READS_PROTECTED != 0
            && self.protected(page)
            && !self.authenticated
    }

    /// Password and PACK read as zeros.
    fn shown(&self, page: u8) -> [u8; PAGE] {
        match page {
            PASSWORD | PACK => [0; PAGE],
            _ => self.pages[usize::from(page)],
        }
    }
}

/// The three block-locking bits freeze the lock bits they cover.
fn frozen_static(locks: u8) -> [u8; 2] {
    let mut frozen = [0, 0];
    if locks & 1 != 0 {
        frozen[0] |= 0x08;
    }
    if locks & 2 != 0 {
        frozen[0] |= 0xF0;
        frozen[1] |= 0x03;
    }
    if locks & 4 != 0 {
        frozen[1] |= 0xFC;
    }
    frozen
}

fn storage_card_atr(name: [u8; 2]) -> Vec<u8> {
    let mut atr = vec![
        0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C, 0xA0, 0, 0, 0x03, 0x06, 0x03,
    ];
    atr.extend(name);
    atr.extend([0; 4]);
    atr.push(atr[1..].iter().fold(0, |check, byte| check ^ byte));
    atr
}

/// The first NDEF message of a type 2 data area; an empty one is nothing to a phone.
fn ndef_message(area: &[u8]) -> Option<Vec<u8>> {
    let mut rest = area;
    loop {
        let (&kind, after) = rest.split_first()?;
        match kind {
            0x00 => rest = after,
            0xFE => return None,
            _ => {
                let (length, body) = tlv_length(after)?;
                let value = body.get(..length)?;
                if kind == 0x03 {
                    return (!value.is_empty()).then(|| value.to_vec());
                }
                rest = &body[length..];
            }
        }
    }
}

fn tlv_length(at: &[u8]) -> Option<(usize, &[u8])> {
    match at {
        [0xFF, high, low, body @ ..] => {
            Some((usize::from(u16::from_be_bytes([*high, *low])), body))
        }
        [length, body @ ..] => Some((usize::from(*length), body)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(tag: &mut VirtualTag, page: u8, data: [u8; 4]) -> Frame {
        let mut command = vec![0xA2, page];
        command.extend(data);
        tag.transceive(&command)
    }

    fn enable_counter(tag: &mut VirtualTag) {
        assert_eq!(write(tag, ACCESS, [COUNTER_ENABLED, 5, 0, 0]), Frame::Ack);
    }

    #[test]
    fn a_delivered_tag_is_empty_formatted_and_has_correct_check_bytes() {
        let mut tag = VirtualTag::new(7);
        let memory = tag.memory();
        assert_eq!(memory.len(), 180);
        assert_eq!(0x88 ^ memory[0] ^ memory[1] ^ memory[2], memory[3]);
        assert_eq!(memory[4] ^ memory[5] ^ memory[6] ^ memory[7], memory[8]);
        assert_eq!(tag.read_by_phone(), None);
    }

    #[test]
    fn the_atr_is_the_one_of_an_ultralight_storage_card() {
        let atr = VirtualTag::new(0).atr();
        assert_eq!(atr.len(), 20);
        assert_eq!(&atr[13..15], &[0, 3]);
        assert_eq!(atr.last(), Some(&0x68));
    }

    #[test]
    fn a_phone_reads_what_was_written() {
        let mut tag = VirtualTag::new(1);
        write(&mut tag, 5, [0x34, 0x03, 0x03, 0xD0]);
        write(&mut tag, 6, [0x00, 0x00, 0xFE, 0x00]);
        assert_eq!(tag.read_by_phone(), Some(vec![0xD0, 0, 0]));
    }

    #[test]
    fn the_counter_is_off_by_default() {
        let mut tag = VirtualTag::new(1);
        tag.read_by_phone();
        assert_eq!(tag.counter(), 0);
        assert_eq!(tag.transceive(&[0x39, 2]), BAD_ARGUMENT);
    }

    #[test]
    fn the_counter_moves_once_per_power_up_and_not_by_reading_itself() {
        let mut tag = VirtualTag::new(1);
        enable_counter(&mut tag);
        tag.power_up();
        tag.transceive(&[0x39, 2]);
        assert_eq!(tag.counter(), 0);
        tag.transceive(&[0x30, 4]);
        tag.transceive(&[0x3A, 4, 8]);
        assert_eq!(tag.counter(), 1);
        tag.read_by_phone();
        assert_eq!(tag.transceive(&[0x39, 2]), Frame::Data(vec![2, 0, 0]));
    }

    #[test]
    fn the_counter_stops_at_24_bits() {
        let mut tag = VirtualTag::new(1);
        enable_counter(&mut tag);
        tag.set_counter(COUNTER_MAX);
        tag.read_by_phone();
        assert_eq!(tag.counter(), COUNTER_MAX);
    }

    #[test]
    fn lock_bits_and_the_capability_container_only_gain_bits() {
        let mut tag = VirtualTag::new(1);
        write(&mut tag, 3, [0, 0, 0, 0x0F]);
        write(&mut tag, 3, [0; 4]);
        assert_eq!(tag.memory()[12..16], [0xE1, 0x10, 0x12, 0x0F]);
        write(&mut tag, 2, [0, 0, 0x10, 0]);
        write(&mut tag, 2, [0; 4]);
        assert_eq!(tag.memory()[9..12], [0x48, 0x10, 0]);
    }

    #[test]
    fn a_locked_page_refuses_and_its_neighbour_does_not() {
        let mut tag = VirtualTag::new(1);
        write(&mut tag, 2, [0, 0, 0x20, 0]);
        assert_eq!(write(&mut tag, 5, [1; 4]), BAD_ARGUMENT);
        assert_eq!(write(&mut tag, 6, [1; 4]), Frame::Ack);
        write(&mut tag, DYNAMIC_LOCK, [0, 0x08, 0, 0]);
        assert_eq!(write(&mut tag, 0x26, [1; 4]), BAD_ARGUMENT);
        assert_eq!(write(&mut tag, 0x24, [1; 4]), Frame::Ack);
    }

    #[test]
    fn every_user_page_refuses_after_lock() {
        let mut tag = VirtualTag::new(1);
        tag.lock();
        assert!((USER_FIRST..=USER_LAST).all(|p| write(&mut tag, p, [1; 4]) == BAD_ARGUMENT));
    }

    #[test]
    fn a_block_locking_bit_freezes_its_lock_bits() {
        let mut tag = VirtualTag::new(1);
        write(&mut tag, 2, [0, 0, 0x02, 0]);
        write(&mut tag, 2, [0, 0, 0xF0, 0xFF]);
        assert_eq!(tag.memory()[10..12], [0x02, 0xFC]);
    }

    #[test]
    fn a_page_past_its_endurance_keeps_its_content() {
        let mut tag = VirtualTag::new(1);
        tag.set_endurance(2);
        write(&mut tag, 9, [1; 4]);
        write(&mut tag, 9, [2; 4]);
        assert_eq!(write(&mut tag, 9, [3; 4]), WRITE_FAILED);
        assert_eq!(tag.memory()[36..40], [2; 4]);
        assert_eq!(tag.writes(9), 2);
    }

    #[test]
    fn a_protected_page_wants_the_password_and_never_shows_it() {
        let mut tag = VirtualTag::new(1);
        tag.protect(6, [9, 8, 7, 6]);
        assert_eq!(write(&mut tag, 6, [1; 4]), NOT_AUTHENTICATED);
        assert_eq!(tag.transceive(&[0x1B, 0, 0, 0, 0]), NOT_AUTHENTICATED);
        assert_eq!(tag.transceive(&[0x1B, 9, 8, 7, 6]), Frame::Data(vec![0, 0]));
        assert_eq!(write(&mut tag, 6, [1; 4]), Frame::Ack);
        assert_eq!(
            tag.transceive(&[0x3A, PASSWORD, PASSWORD]),
            Frame::Data(vec![0; 4])
        );
        tag.power_up();
        assert_eq!(write(&mut tag, 6, [2; 4]), NOT_AUTHENTICATED);
    }

    #[test]
    fn no_command_makes_the_tag_panic() {
        let mut tag = VirtualTag::new(1);
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                tag.transceive(&[first, second]);
                tag.transceive(&[first, second, 0xFF]);
            }
        }
    }
}

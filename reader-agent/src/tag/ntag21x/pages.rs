//! Which pages of an NTAG21x are written, in which order, so that a phone never reads half a link?
//!
//! ```text
//!  page 3    page 4 ...                                    last
//!  CC        [lock control TLV] 03 L message... FE
//!                                  |
//!            1. L = 0   2. changed pages   3. L            a cut leaves: old, nothing or new
//! ```

use crate::tag::{PAGE, READ, TagError};

const USER_FIRST: u8 = 4;
const CC_MAGIC: u8 = 0xE1;
const CC_MAJOR_VERSION: u8 = 0x1;
const CC_WRITE_DENIED: u8 = 0x0F;

const TLV_NULL: u8 = 0x00;
const TLV_LOCK_CONTROL: u8 = 0x01;
const TLV_MEMORY_CONTROL: u8 = 0x02;
const TLV_NDEF: u8 = 0x03;
const TLV_TERMINATOR: u8 = 0xFE;
/// From this length on a TLV says FF and then two bytes.
const LONG_LENGTH: usize = 0xFF;

/// Pages 0 to 3, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    capacity: usize,
    read_only: bool,
    static_locks: [u8; 2],
    dynamic_lock_page: u8,
    /// Pages under one dynamic lock bit.
    pages_per_lock: u8,
}

impl Header {
    /// Checks that the pages are those of a formatted NTAG213, 215 or 216.
    pub(super) fn parse(pages: &[u8; READ]) -> Result<Header, TagError> {
        let [.., magic, version, size, access] = *pages;
        let (dynamic_lock_page, pages_per_lock) = match size {
            0x12 => (0x28, 2),
            0x3E => (0x82, 16),
            0x6D => (0xE2, 16),
            _ => return Err(not_formatted(pages)),
        };
        if magic != CC_MAGIC || version >> 4 != CC_MAJOR_VERSION {
            return Err(not_formatted(pages));
        }
        Ok(Header {
            capacity: usize::from(size) * 8,
            read_only: access & CC_WRITE_DENIED != 0,
            static_locks: [pages[10], pages[11]],
            dynamic_lock_page,
            pages_per_lock,
        })
    }

    /// The page with the dynamic lock bytes; configuration follows it.
    pub(super) fn dynamic_lock_page(&self) -> u8 {
        self.dynamic_lock_page
    }

    /// The page that says from where on the password guards; ACCESS, password and its answer follow.
    pub(super) fn guard_page(&self) -> u8 {
        self.dynamic_lock_page + 1
    }

    /// The page that holds ACCESS, and in it the switch of the read counter.
    pub(super) fn access_page(&self) -> u8 {
        self.dynamic_lock_page + 2
    }

    fn locked(&self, page: u8, dynamic: [u8; 3]) -> bool {
        let bit = |byte: u8, n: u8| byte >> n & 1 == 1;
        match page {
            0..=2 => true,
            3..=7 => bit(self.static_locks[0], page),
            8..=15 => bit(self.static_locks[1], page - 8),
            _ => {
                let n = (page - 16) / self.pages_per_lock;
                bit(dynamic[usize::from(n / 8)], n % 8)
            }
        }
    }
}

/// What was read of a tag: its header, and as much of the data area as the plan needs.
#[derive(Clone, Debug)]
pub(super) struct Image {
    header: Header,
    area: Vec<u8>,
    dynamic_locks: [u8; 3],
}

impl Image {
    /// `first` is what pages 4 to 7 hold.
    pub(super) fn new(header: Header, first: &[u8; READ]) -> Image {
        Image {
            header,
            area: first.to_vec(),
            dynamic_locks: [0; 3],
        }
    }

    /// The next page that must be read before a plan for a message of this length can be made.
    pub(super) fn next_read(&self, message_length: usize) -> Option<u8> {
        let need = self.lead() + tlv_length(message_length) + 1;
        (self.area.len() < need.min(self.header.capacity)).then(|| page_of(self.area.len()))
    }

    /// What `next_read` asked for. Bytes past the data area are configuration and left out.
    pub(super) fn handle_read(&mut self, pages: &[u8; READ]) {
        let room = self.header.capacity - self.area.len();
        self.area.extend_from_slice(&pages[..READ.min(room)]);
    }

    pub(super) fn handle_dynamic_locks(&mut self, pages: &[u8; READ]) {
        self.dynamic_locks = [pages[0], pages[1], pages[2]];
    }

    /// What was read of the data area so far.
    pub(super) fn area(&self) -> &[u8] {
        &self.area
    }

    /// Where the NDEF TLV belongs: behind the control TLVs that the factory wrote.
    fn lead(&self) -> usize {
        let mut at = 0;
        loop {
            match self.area[at..] {
                [TLV_NULL, TLV_NDEF, ..] => return at + 1,
                [TLV_LOCK_CONTROL | TLV_MEMORY_CONTROL, 3, _, _, _, _, ..] => at += 5,
                _ => return at,
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageWrite {
    pub page: u8,
    pub data: [u8; PAGE],
}

/// The writes that turn what was read into what is wanted, in a safe order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WritePlan {
    writes: Vec<PageWrite>,
    wanted: Vec<u8>,
}

impl WritePlan {
    pub(super) fn new(image: &Image, message: &[u8]) -> Result<WritePlan, TagError> {
        if image.header.read_only {
            return Err(TagError::ReadOnly);
        }
        let wanted = wanted_area(image, message)?;
        let writes = ordered(image, &wanted);
        let locked = |w: &&PageWrite| image.header.locked(w.page, image.dynamic_locks);
        match writes.iter().find(locked) {
            Some(write) => Err(TagError::Locked { page: write.page }),
            None => Ok(WritePlan { writes, wanted }),
        }
    }

    pub(super) fn writes(&self) -> &[PageWrite] {
        &self.writes
    }

    /// How often the page is programmed that is programmed most.
    pub(super) fn cycles(&self) -> usize {
        let times = |write: &PageWrite| self.writes.iter().filter(|w| w.page == write.page).count();
        self.writes.iter().map(times).max().unwrap_or(0)
    }

    /// The data area as it must read afterwards, in whole pages.
    pub(super) fn wanted(&self) -> &[u8] {
        &self.wanted
    }

    /// Pages to read for `verify`, each the first of four.
    pub(super) fn read_back(&self) -> impl Iterator<Item = u8> + use<> {
        (0..self.wanted.len()).step_by(READ).map(page_of)
    }

    /// Whether the tag holds what was written; the reader's word is not enough.
    pub(super) fn verify(&self, area: &[u8]) -> Result<(), TagError> {
        let mut read = area.chunks(PAGE);
        let mut wanted = self.wanted.chunks(PAGE);
        match wanted.position(|page| read.next() != Some(page)) {
            Some(index) => Err(TagError::LiesAboutWrites {
                page: page_of(index * PAGE),
            }),
            None => Ok(()),
        }
    }
}

/// The data area with the message in it, up to the end of its last page.
fn wanted_area(image: &Image, message: &[u8]) -> Result<Vec<u8>, TagError> {
    let lead = image.lead();
    let capacity = image.header.capacity;
    let need = lead + tlv_length(message.len());
    if need > capacity {
        let overhead = need - message.len();
        return Err(TagError::TooSmall {
            need: message.len(),
            have: capacity.saturating_sub(overhead),
        });
    }
    let mut wanted = image.area[..lead].to_vec();
    wanted.push(TLV_NDEF);
    wanted.extend(length_field(message.len()));
    wanted.extend_from_slice(message);
    if need < capacity {
        wanted.push(TLV_TERMINATOR);
    }
    wanted.resize(wanted.len().next_multiple_of(PAGE), 0);
    Ok(wanted)
}

fn ordered(image: &Image, wanted: &[u8]) -> Vec<PageWrite> {
    let lead = image.lead();
    let length_at = lead + 1;
    let length_page = page_of(length_at);
    let mut changed: Vec<PageWrite> = changed_pages(&image.area, wanted).collect();
    // One page alone goes from old to new in one write: nothing to hide from the phone.
    if changed.len() <= 1 {
        return changed;
    }
    changed.retain(|w| w.page != length_page);
    let mut writes = Vec::new();
    let empty_already = image.area.get(lead..lead + 2) == Some(&[TLV_NDEF, 0]);
    if !empty_already {
        writes.push(emptied(wanted, length_at));
    }
    writes.extend(changed);
    writes.push(page_write(wanted, length_at / PAGE));
    writes
}

fn changed_pages<'a>(is: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = PageWrite> + 'a {
    (0..wanted.len() / PAGE)
        .filter(|i| is.get(i * PAGE..(i + 1) * PAGE) != Some(&wanted[i * PAGE..(i + 1) * PAGE]))
        .map(|i| page_write(wanted, i))
}

/// The length page with length 0 and, where it fits, the end right behind it.
fn emptied(wanted: &[u8], length_at: usize) -> PageWrite {
    let mut write = page_write(wanted, length_at / PAGE);
    write.data[length_at % PAGE] = 0;
    if let Some(next) = write.data.get_mut(length_at % PAGE + 1) {
        *next = TLV_TERMINATOR;
    }
    write
}

fn page_write(wanted: &[u8], index: usize) -> PageWrite {
    let mut data = [0; PAGE];
    data.copy_from_slice(&wanted[index * PAGE..(index + 1) * PAGE]);
    PageWrite {
        page: page_of(index * PAGE),
        data,
    }
}

/// The page of a byte of the data area; areas end at page E1h, so it always fits.
fn page_of(offset: usize) -> u8 {
    USER_FIRST.saturating_add(u8::try_from(offset / PAGE).unwrap_or(u8::MAX))
}

fn length_field(length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) if length < LONG_LENGTH => vec![short],
        _ => vec![0xFF, (length >> 8) as u8, length as u8],
    }
}

fn tlv_length(message: usize) -> usize {
    1 + length_field(message).len() + message
}

fn not_formatted(pages: &[u8; READ]) -> TagError {
    TagError::NotFormatted {
        capability: pages[12..].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const HEADER: [u8; READ] = [
        4, 1, 2, 0x8F, 3, 4, 5, 6, 4, 0x48, 0, 0, 0xE1, 0x10, 0x12, 0x00,
    ];
    const DELIVERED: [u8; READ] = [
        0x01, 0x03, 0xA0, 0x0C, 0x34, 0x03, 0x00, 0xFE, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    fn image(header: [u8; READ], area: &[u8]) -> Image {
        let mut image = Image::new(
            Header::parse(&header).unwrap(),
            area[..16].try_into().unwrap(),
        );
        let capacity = image.header.capacity;
        image.area = area.to_vec();
        image.area.resize(capacity, 0);
        image
    }

    fn apply(area: &[u8], writes: &[PageWrite]) -> Vec<u8> {
        let mut area = area.to_vec();
        for w in writes {
            let at = usize::from(w.page - USER_FIRST) * PAGE;
            area[at..at + PAGE].copy_from_slice(&w.data);
        }
        area
    }

    /// What a phone makes of a data area: control TLVs skipped, first NDEF TLV taken.
    fn phone(area: &[u8]) -> Option<Vec<u8>> {
        let at = image(HEADER, area).lead();
        let (length, body) = match area[at..] {
            [TLV_NDEF, 0xFF, high, low, ..] => (usize::from(high) << 8 | usize::from(low), at + 4),
            [TLV_NDEF, length, ..] => (usize::from(length), at + 2),
            _ => return None,
        };
        (length > 0).then(|| area[body..body + length].to_vec())
    }

    #[test]
    fn a_delivered_tag_keeps_its_lock_control() {
        let plan = WritePlan::new(&image(HEADER, &DELIVERED), b"link").unwrap();
        assert_eq!(plan.wanted(), b"\x01\x03\xA0\x0C\x34\x03\x04link\xFE");
    }

    #[test]
    fn the_length_is_written_last_and_an_empty_tag_is_not_emptied_again() {
        let plan = WritePlan::new(&image(HEADER, &DELIVERED), b"link").unwrap();
        let pages: Vec<u8> = plan.writes().iter().map(|w| w.page).collect();
        assert_eq!(pages, [6, 5]);
    }

    #[test]
    fn a_tag_that_holds_the_message_is_not_written() {
        let first = WritePlan::new(&image(HEADER, &DELIVERED), b"the same link").unwrap();
        let second = WritePlan::new(&image(HEADER, first.wanted()), b"the same link").unwrap();
        assert_eq!(second.writes(), []);
    }

    #[test]
    fn a_single_changed_page_is_written_once() {
        let first = WritePlan::new(&image(HEADER, &DELIVERED), b"0123456789abcdef").unwrap();
        let second = WritePlan::new(&image(HEADER, first.wanted()), b"0123456789abcdEF").unwrap();
        assert_eq!(second.writes().len(), 1);
    }

    #[test]
    fn emptying_costs_one_page() {
        let full = WritePlan::new(&image(HEADER, &DELIVERED), b"0123456789abcdef").unwrap();
        let empty = WritePlan::new(&image(HEADER, full.wanted()), b"").unwrap();
        assert_eq!(empty.writes().len(), 1);
        assert_eq!(phone(&apply(full.wanted(), empty.writes())), None);
    }

    #[test]
    fn a_message_that_fills_the_tag_fits_and_one_byte_more_does_not() {
        let image = image(HEADER, &DELIVERED);
        assert!(WritePlan::new(&image, &[7; 137]).is_ok());
        assert_eq!(
            WritePlan::new(&image, &[7; 138]),
            Err(TagError::TooSmall {
                need: 138,
                have: 137
            })
        );
    }

    #[test]
    fn a_locked_page_is_named_only_if_it_would_change() {
        let mut header = HEADER;
        header[11] = 0x01; // page 8
        let image = image(header, &DELIVERED);
        assert!(WritePlan::new(&image, b"short").is_ok());
        assert_eq!(
            WritePlan::new(&image, &[7; 40]),
            Err(TagError::Locked { page: 8 })
        );
    }

    #[test]
    fn a_dynamic_lock_bit_covers_two_pages_of_an_ntag213() {
        let mut image = image(HEADER, &DELIVERED);
        image.handle_dynamic_locks(&[0x02, 0, 0, 0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            WritePlan::new(&image, &[7; 80]),
            Err(TagError::Locked { page: 18 })
        );
    }

    #[test]
    fn a_tag_that_says_read_only_is_refused() {
        let mut header = HEADER;
        header[15] = 0x0F;
        assert_eq!(
            WritePlan::new(&image(header, &DELIVERED), b"x"),
            Err(TagError::ReadOnly)
        );
    }

    #[test]
    fn a_tag_without_a_capability_container_is_not_formatted() {
        let mut header = HEADER;
        header[12..].fill(0);
        assert_eq!(
            Header::parse(&header),
            Err(TagError::NotFormatted {
                capability: vec![0; 4]
            })
        );
    }

    #[test]
    fn foreign_content_is_replaced_from_the_start() {
        let plan = WritePlan::new(&image(HEADER, &[0x55; 144]), b"ab").unwrap();
        assert_eq!(plan.wanted(), b"\x03\x02ab\xFE\0\0\0");
    }

    #[test]
    fn a_long_message_of_a_large_tag_has_a_three_byte_length() {
        let mut header = HEADER;
        header[14] = 0x3E;
        let plan = WritePlan::new(&image(header, &DELIVERED), &[7; 300]).unwrap();
        assert_eq!(plan.wanted()[5..9], [0x03, 0xFF, 0x01, 0x2C]);
    }

    #[test]
    fn a_false_read_back_is_noticed_at_its_page() {
        let plan = WritePlan::new(&image(HEADER, &DELIVERED), b"link").unwrap();
        let mut area = plan.wanted().to_vec();
        assert_eq!(plan.verify(&area), Ok(()));
        area[9] ^= 1;
        assert_eq!(
            plan.verify(&area),
            Err(TagError::LiesAboutWrites { page: 6 })
        );
    }

    #[test]
    fn a_read_back_that_is_cut_short_confirms_nothing() {
        let plan = WritePlan::new(&image(HEADER, &DELIVERED), b"link").unwrap();
        for (read, page) in [(0, 4), (4, 5), (9, 6)] {
            let refused = Err(TagError::LiesAboutWrites { page });
            assert_eq!(plan.verify(&plan.wanted()[..read]), refused);
        }
    }

    proptest! {
        #[test]
        fn a_cut_after_any_write_leaves_old_nothing_or_new_and_the_next_write_heals(
            old in proptest::collection::vec(any::<u8>(), 1..130),
            new in proptest::collection::vec(any::<u8>(), 0..130),
            third in proptest::collection::vec(any::<u8>(), 1..130),
        ) {
            let blank = image(HEADER, &DELIVERED);
            let before = apply(&blank.area, WritePlan::new(&blank, &old).unwrap().writes());
            let plan = WritePlan::new(&image(HEADER, &before), &new).unwrap();
            for cut in 0..=plan.writes().len() {
                let torn = apply(&before, &plan.writes()[..cut]);
                let seen = phone(&torn);
                prop_assert!(seen.is_none() || seen.as_ref() == Some(&old) || seen.as_ref() == Some(&new));
                let heal = WritePlan::new(&image(HEADER, &torn), &third).unwrap();
                prop_assert_eq!(phone(&apply(&torn, heal.writes())), Some(third.clone()));
            }
        }

        #[test]
        fn a_page_is_programmed_twice_at_most_and_an_unchanged_one_never(
            old in proptest::collection::vec(any::<u8>(), 1..130),
            new in proptest::collection::vec(any::<u8>(), 0..130),
        ) {
            let blank = image(HEADER, &DELIVERED);
            let before = apply(&blank.area, WritePlan::new(&blank, &old).unwrap().writes());
            let plan = WritePlan::new(&image(HEADER, &before), &new).unwrap();
            prop_assert_eq!(plan.cycles() == 0, plan.writes().is_empty());
            prop_assert!(plan.cycles() <= 2);
            let length_page = USER_FIRST + 1;
            for write in plan.writes().iter().filter(|write| write.page != length_page) {
                let at = usize::from(write.page - USER_FIRST) * PAGE;
                prop_assert_ne!(&before[at..at + PAGE], &write.data[..]);
                let times = plan.writes().iter().filter(|other| other.page == write.page);
                prop_assert_eq!(times.count(), 1);
            }
        }

        #[test]
        fn no_content_makes_the_plan_panic(
            area in proptest::collection::vec(any::<u8>(), 144),
            message in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let read = image(HEADER, &area);
            if let Ok(plan) = WritePlan::new(&read, &message) {
                let after = apply(&area, plan.writes());
                prop_assert_eq!(plan.verify(&after), Ok(()));
            }
        }
    }
}

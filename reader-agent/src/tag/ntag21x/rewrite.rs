//! How does one visit turn the tag from the old link to the new one?
//!
//! Read, plan, write, read back; the plan is `pages`, the order of calls is here.

use super::pages::{Header, Image, WritePlan};
use crate::tag::{StorageCard, TagError};

/// The first page behind those that static lock bits cover.
const FIRST_DYNAMICALLY_LOCKED: u8 = 16;

/// What a rewrite did, after the tag itself confirmed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub header: Header,
    /// Pages programmed: wear.
    pub pages_written: u32,
    /// The data area as it was before, as far as it was read.
    pub found: Vec<u8>,
    /// The data area as read back, control TLVs and terminator included.
    pub area: Vec<u8>,
}

/// Makes the tag hold `message` (an NDEF message; empty means none) and nothing else. Before anything is
/// programmed `about_to` hears what.
pub(super) fn rewrite(
    card: &mut dyn StorageCard,
    message: &[u8],
    about_to: &dyn Fn(&WritePlan),
) -> Result<Rewritten, TagError> {
    let header = Header::parse(&card.read(0)?)?;
    let image = read_image(card, header, message.len())?;
    let plan = WritePlan::new(&image, message)?;
    about_to(&plan);
    for write in plan.writes() {
        card.write(write.page, write.data)
            .map_err(|error| cause(card, error))?;
    }
    if !plan.writes().is_empty() {
        verify(card, &plan)?;
    }
    Ok(Rewritten {
        header,
        pages_written: u32::try_from(plan.writes().len()).unwrap_or(u32::MAX),
        found: image.area().to_vec(),
        area: plan.wanted().to_vec(),
    })
}

fn read_image(
    card: &mut dyn StorageCard,
    header: Header,
    message_length: usize,
) -> Result<Image, TagError> {
    let mut image = Image::new(header, &card.read(4)?);
    let mut last = 4;
    while let Some(page) = image.next_read(message_length) {
        image.handle_read(&card.read(page)?);
        last = page;
    }
    if last + 4 > FIRST_DYNAMICALLY_LOCKED {
        image.handle_dynamic_locks(&card.read(header.dynamic_lock_page())?);
    }
    Ok(image)
}

fn verify(card: &mut dyn StorageCard, plan: &WritePlan) -> Result<(), TagError> {
    let mut area = Vec::new();
    for page in plan.read_back() {
        area.extend(card.read(page)?);
    }
    area.truncate(plan.wanted().len());
    plan.verify(&area)
}

/// A reader says the same of a tag that refuses and of one that left: who can still be read is there.
fn cause(card: &mut dyn StorageCard, error: TagError) -> TagError {
    match error {
        TagError::WriteRefused { .. } if card.read(0).is_err() => TagError::Removed,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tag::{PAGE, READ};

    /// A tag that leaves before its n-th APDU.
    #[derive(Clone)]
    struct Leaving {
        pages: Vec<[u8; PAGE]>,
        apdus_left: usize,
        deaf: bool,
    }

    impl Leaving {
        fn delivered() -> Leaving {
            let mut pages = vec![[0; PAGE]; 45];
            pages[3] = [0xE1, 0x10, 0x12, 0];
            pages[4] = [0x01, 0x03, 0xA0, 0x0C];
            pages[5] = [0x34, 0x03, 0x00, 0xFE];
            Leaving {
                pages,
                apdus_left: usize::MAX,
                deaf: false,
            }
        }

        fn spend(&mut self) -> Result<(), TagError> {
            self.apdus_left = self.apdus_left.checked_sub(1).ok_or(TagError::Removed)?;
            Ok(())
        }

        fn message(&self) -> Vec<u8> {
            let area = self.pages[5..].concat();
            area[3..3 + usize::from(area[2])].to_vec()
        }
    }

    impl StorageCard for Leaving {
        fn read(&mut self, page: u8) -> Result<[u8; READ], TagError> {
            self.spend()?;
            let four = (0..4).map(|i| self.pages[(usize::from(page) + i) % self.pages.len()]);
            Ok(four.collect::<Vec<_>>().concat().try_into().unwrap())
        }

        fn write(&mut self, page: u8, data: [u8; PAGE]) -> Result<(), TagError> {
            self.spend()?;
            if !self.deaf {
                self.pages[usize::from(page)] = data;
            }
            Ok(())
        }
    }

    const OLD: &[u8] = b"an old link that is fairly long, longer than the static locks reach";
    const NEW: &[u8] = b"a newer link that is about as long and differs in most of its pages";

    #[test]
    fn a_cut_before_any_apdu_leaves_old_nothing_or_new_and_the_next_visit_heals() {
        let mut written = Leaving::delivered();
        rewrite(&mut written, OLD, &|_| ()).unwrap();
        for cut in 0.. {
            let mut tag = Leaving {
                apdus_left: cut,
                ..written.clone()
            };
            let cut_short = rewrite(&mut tag, NEW, &|_| ()).is_err();
            let seen = tag.message();
            assert!(
                seen.is_empty() || seen == OLD || seen == NEW,
                "cut {cut}: {seen:?}"
            );
            tag.apdus_left = usize::MAX;
            rewrite(&mut tag, OLD, &|_| ()).unwrap();
            assert_eq!(tag.message(), OLD);
            if !cut_short {
                assert!(cut > 10, "a visit has more APDUs than {cut}");
                return;
            }
        }
    }

    #[test]
    fn the_second_visit_with_the_same_link_wears_nothing() {
        let mut tag = Leaving::delivered();
        assert!(rewrite(&mut tag, NEW, &|_| ()).unwrap().pages_written > 0);
        assert_eq!(rewrite(&mut tag, NEW, &|_| ()).unwrap().pages_written, 0);
    }

    #[test]
    fn a_reader_that_only_claims_to_write_is_found_out() {
        let mut tag = Leaving {
            deaf: true,
            ..Leaving::delivered()
        };
        assert_eq!(
            rewrite(&mut tag, NEW, &|_| ()),
            Err(TagError::LiesAboutWrites { page: 5 })
        );
    }
}

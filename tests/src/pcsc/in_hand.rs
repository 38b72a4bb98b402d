//! How does agent code meet a tag without reader, service and process in between?
//!
//! The tag is in the tester's hand, and leaves at any command: before the tag heard it, or before the
//! agent heard the answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reader_agent::tag::{
    Card, Done, Errand, LastCounter, LeftOn, NativeError, NativeTransceive, Programming,
    Recognised, TagError, TagMemory, TagRecord, TagSafe, uid,
};

use super::acr122u::{self, Manners};
use super::virtual_tag::{Frame, TagModel};

/// When the tag leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// This many commands are heard and answered before it.
    pub after: usize,
    /// The next one is heard, only its answer is lost.
    pub is_heard: bool,
}

/// One tag, close enough for the agent.
pub struct InHand {
    tag: RefCell<TagModel>,
    atr: Vec<u8>,
    left: Cell<usize>,
    is_last_heard: Cell<bool>,
    flip: Cell<Option<usize>>,
    passes_native: bool,
    forgets: bool,
    claimed: Option<Vec<u8>>,
    commands: Cell<usize>,
}

impl InHand {
    pub fn new(tag: impl Into<TagModel>) -> InHand {
        InHand::cut(tag, None)
    }

    pub fn cut(tag: impl Into<TagModel>, cut: Option<Cut>) -> InHand {
        let mut tag = tag.into();
        tag.power_up();
        InHand {
            atr: tag.atr(),
            tag: RefCell::new(tag),
            left: Cell::new(cut.map_or(usize::MAX, |cut| cut.after)),
            is_last_heard: Cell::new(cut.is_some_and(|cut| cut.is_heard)),
            flip: Cell::new(None),
            passes_native: true,
            forgets: false,
            claimed: None,
            commands: Cell::new(0),
        }
    }

    /// At a reader that passes no native commands.
    pub fn at_plain_reader(mut self) -> InHand {
        self.passes_native = false;
        self
    }

    /// At a reader that selects the tag anew after every native command.
    pub fn at_forgetful_reader(mut self) -> InHand {
        self.forgets = true;
        self
    }

    /// Somebody tells the reader another UID than the chip has.
    pub fn claiming(mut self, uid: &[u8]) -> InHand {
        self.claimed = Some(uid.to_vec());
        self
    }

    /// Somebody in between changes a bit of the answer to the n-th command.
    pub fn flipping(self, nth: usize) -> InHand {
        self.flip.set(Some(nth));
        self
    }

    /// How many commands the tag was sent.
    pub fn commands(&self) -> usize {
        self.commands.get()
    }

    pub fn into_tag(self) -> TagModel {
        self.tag.into_inner()
    }

    fn exchange<T>(&self, run: impl FnOnce(&mut TagModel) -> T) -> Result<T, TagError> {
        self.commands.set(self.commands.get() + 1);
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(run(&mut self.tag.borrow_mut()))
            }
            None => {
                if self.is_last_heard.take() {
                    run(&mut self.tag.borrow_mut());
                }
                Err(TagError::Removed)
            }
        }
    }
}

impl Card for InHand {
    fn atr(&self) -> &[u8] {
        &self.atr
    }

    fn transmit(&self, apdu: &[u8]) -> Result<Vec<u8>, TagError> {
        if let (Some(uid), [0xFF, 0xCA, ..]) = (&self.claimed, apdu) {
            return Ok([&uid[..], &[0x90, 0x00]].concat());
        }
        let mut answer = self.exchange(|tag| acr122u::tag_answer(tag, apdu, Manners::default()))?;
        if self.flip.get() == Some(self.commands.get()) {
            answer[0] ^= 1;
        }
        Ok(answer)
    }

    fn native(&self) -> Option<Box<dyn NativeTransceive + '_>> {
        self.passes_native.then(|| Box::new(Native(self)) as _)
    }
}

struct Native<'a>(&'a InHand);

impl NativeTransceive for Native<'_> {
    fn transceive(&mut self, command: &[u8]) -> Result<Vec<u8>, NativeError> {
        let frame = self.0.exchange(|tag| match tag {
            TagModel::Ntag213(tag) => {
                let frame = tag.transceive(command);
                if self.0.forgets {
                    tag.power_up();
                }
                frame
            }
            _ => Frame::Nak(0),
        })?;
        match frame {
            Frame::Data(data) => Ok(data),
            Frame::Ack => Ok(vec![0x0A]),
            Frame::Nak(_) => Err(NativeError::Refused),
        }
    }
}

/// An agent's knowledge of tags, in memory.
#[derive(Default)]
pub struct Agent {
    safe: Drawer,
    memory: Mutex<TagMemory>,
}

impl Agent {
    /// The same disk with room on it, another run.
    pub fn restarted(&self) -> Agent {
        let mut content = self.safe.content().clone();
        content.room = None;
        content.uncounted.clear();
        let content = Mutex::new(content);
        Agent {
            safe: Drawer { content },
            memory: Mutex::default(),
        }
    }

    /// The same disk after an end in good order: counter and content of the tag are known again.
    pub fn resumed(&self, uid: &[u8], last: &Done) -> Agent {
        let counter = last.counter.map(|value| LastCounter {
            tag_uid: uid.to_vec(),
            value,
        });
        let left = LeftOn::new(uid, &last.area);
        let mut agent = self.restarted();
        agent.memory = Mutex::new(TagMemory::resume(counter, Some(left)));
        agent
    }

    /// Another process has written to the disk.
    pub fn reads_the_disk_of(&self, other: &Agent) {
        let content = other.safe.content().clone();
        *self.safe.content() = content;
    }

    /// The reader sees that nothing lies there.
    pub fn taken_away(&self) {
        let memory = self.memory.lock();
        memory.unwrap_or_else(PoisonError::into_inner).handle_gone();
    }

    /// The disk takes this many more records and is full then.
    pub fn fill_disk_after(&self, records: usize) {
        self.safe.content().room = Some(records);
    }

    pub fn run(&self, card: &InHand, errand: &Errand) -> Result<Done, TagError> {
        self.run_on(card, errand)
    }

    /// The same with whatever calls itself a card.
    pub fn run_on(&self, card: &dyn Card, errand: &Errand) -> Result<Done, TagError> {
        let uid = uid(card)?;
        let done = Recognised::find(card, &uid, &self.safe, &self.memory)?.carry_out(errand)?;
        let memory = self.memory.lock();
        let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.handle_told(&uid, done.taps);
        Ok(done)
    }

    /// What is counted of a tag.
    pub fn counted(&self, uid: &[u8]) -> Option<Programming> {
        self.safe.content().counted.get(uid).copied()
    }

    /// The record of a tag, as it would be written down.
    pub fn record(&self, uid: &[u8]) -> Option<TagRecord> {
        self.safe.content().records.get(uid).cloned()
    }
}

#[derive(Default)]
struct Drawer {
    content: Mutex<Content>,
}

#[derive(Clone, Default)]
struct Content {
    records: BTreeMap<Vec<u8>, TagRecord>,
    own: Option<Vec<u8>>,
    counted: BTreeMap<Vec<u8>, Programming>,
    /// In memory.
    uncounted: BTreeMap<Vec<u8>, Programming>,
    room: Option<usize>,
}

impl Drawer {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TagSafe for Drawer {
    fn recall(&self, uid: &[u8]) -> Result<Option<TagRecord>, TagError> {
        Ok(self.content().records.get(uid).cloned())
    }

    fn keep(&self, uid: &[u8], record: &TagRecord) -> Result<(), TagError> {
        let mut content = self.content();
        if let Some(room) = content.room {
            let full = TagError::NotKept("the disk is full".into());
            content.room = Some(room.checked_sub(1).ok_or(full)?);
        }
        content.records.insert(uid.to_vec(), record.clone());
        Ok(())
    }

    fn forget(&self, uid: &[u8]) -> Result<(), TagError> {
        let mut content = self.content();
        content.records.remove(uid);
        content.own = content.own.take().filter(|own| own != uid);
        Ok(())
    }

    fn adopt(&self, uid: &[u8]) -> Result<(), TagError> {
        self.content().own = Some(uid.to_vec());
        Ok(())
    }

    fn count(&self, uid: &[u8], what: &Programming) -> Result<(), TagError> {
        let mut content = self.content();
        let uncounted = content.uncounted.remove(uid);
        let whole = uncounted.map_or(*what, |uncounted| what.and(uncounted));
        if content.room == Some(0) {
            content.uncounted.insert(uid.to_vec(), whole);
            return Err(TagError::NotKept("the disk is full".into()));
        }
        let counted = content.counted.remove(uid);
        let whole = counted.map_or(whole, |counted| whole.and(counted));
        content.counted.insert(uid.to_vec(), whole);
        Ok(())
    }

    fn own(&self) -> Result<Option<Vec<u8>>, TagError> {
        Ok(self.content().own.clone())
    }
}

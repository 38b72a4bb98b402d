//! Is a tag of each family this terminal's and nobody else's, and is a link on it old, new or none,
//! wherever a cut comes?
//!
//! No reader, no service: agent code and a virtual tag, cut at every single command, once before the
//! tag heard it and once before the agent heard the answer.
#![allow(clippy::unwrap_used)]

use harness::pcsc::{Agent, Cut, InHand, TagModel, VirtualNtag424, VirtualTag};
use protocol::aes_key::AesKey;
use protocol::link::LinkHost;
use protocol::ndef;
use protocol::sun::{KeySlot, SunKeys, SunLink, TagUid, Tap, template};
use protocol::token::MachineToken;
use reader_agent::tag::{Done, Errand, KeyState, TagError, TagKeys, TagRecord, Wish};

#[path = "tag_families/hostile.rs"]
mod hostile;
#[path = "tag_families/lives.rs"]
mod lives;
#[path = "tag_families/ntag21x.rs"]
mod ntag21x;
#[path = "tag_families/ntag424.rs"]
mod ntag424;
#[path = "tag_families/wear.rs"]
mod wear;

/// A long link: a large tag family's worst case.
fn link(token: u8) -> String {
    let host = LinkHost::parse("terminal.pay.example:443").unwrap();
    let terminal = "47110422".parse().unwrap();
    host.link(terminal, &MachineToken::from_bytes([token; 16]))
}

fn message(token: u8) -> Vec<u8> {
    ndef::uri_message(&link(token)).unwrap()
}

fn show(token: u8) -> Errand {
    Errand::Show(message(token))
}

const BLANK: Errand = Errand::Show(Vec::new());

/// The link that a phone opens, without what the tag put behind it.
fn seen(tag: &TagModel) -> Option<String> {
    let message = tag.clone().read_by_phone()?;
    let text = ndef::read_uri(&message).expect("a phone makes sense of what it read");
    Some(text[..link(0).len().min(text.len())].to_owned())
}

/// What a tag and an agent that did this without a cut have come to.
fn done(agent: &Agent, tag: TagModel, errand: &Errand) -> (TagModel, Done) {
    let hand = InHand::new(tag);
    let done = agent.run(&hand, errand).unwrap();
    (hand.into_tag(), done)
}

/// Cuts an errand at every command. `judge` gets agent and tag as they were left.
fn cut_everywhere(
    agent: &Agent,
    tag: &TagModel,
    errand: &Errand,
    mut judge: impl FnMut(Agent, TagModel, Cut),
) -> usize {
    for after in 0.. {
        let mut was_cut = false;
        for is_heard in [false, true] {
            let cut = Cut { after, is_heard };
            let agent = agent.restarted();
            let hand = InHand::cut(tag.clone(), Some(cut));
            was_cut = agent.run(&hand, errand).is_err();
            judge(agent.restarted(), hand.into_tag(), cut);
        }
        if !was_cut {
            return after;
        }
    }
    unreachable!("an errand ends");
}

/// What a phone may find while one link takes another's place.
fn assert_old_none_or_new(tag: &TagModel, old: Option<&str>, new: Option<&str>, cut: Cut) {
    let seen = seen(tag);
    let seen = seen.as_deref();
    assert!(
        seen.is_none() || seen == old || seen == new,
        "{cut:?}: {seen:?}"
    );
}

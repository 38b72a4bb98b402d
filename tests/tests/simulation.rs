//! Whatever happens to a terminal, in whatever order: does it show the right token or none, and does
//! the authority hear of every tap once?
//!
//! The agent's own core, drivers, database and tag families, and the protocol's own rules of the
//! authority, on one hand-moved clock. Operations come from a seed that is printed; lists that found a bug,
//! or would have found one, are kept in `simulation/found/`. `M2KEY_SOAK_MINUTES` goes on for so long.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use harness::pcsc::{TagModel, VirtualNtag424, VirtualTag};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use protocol::aes_key::AesKey;
use protocol::ids::TerminalId;
use protocol::link::LinkHost;
use protocol::ndef;
use protocol::sun::{TagUid, template};
use protocol::token::MachineToken;
use reader_agent::tag::{Errand, TagKeys, Wish};

#[path = "simulation/op.rs"]
mod op;
#[path = "simulation/terminal.rs"]
mod terminal;
#[path = "simulation/world.rs"]
mod world;

use op::Op;
use world::World;

/// Lists that every run of the tests plays for each kind of tag, and a soak between two looks at the clock.
const LISTS: u32 = 30;
const DAY_MS: i64 = 86_400_000;

/// Which tag lies at the terminal.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// NTAG213 as delivered.
    Plain,
    /// NTAG213 with a password.
    Guarded,
    /// NTAG 424 DNA that signs its links.
    Signing,
}

const KINDS: [Kind; 3] = [Kind::Plain, Kind::Guarded, Kind::Signing];

impl Kind {
    fn world(self) -> World {
        match self {
            Self::Plain => World::new(VirtualTag::new(1).into(), None),
            Self::Guarded => {
                let errand = Errand::Personalise(Box::default());
                World::new(VirtualTag::new(1).into(), Some(&errand))
            }
            Self::Signing => {
                let tag = VirtualNtag424::new(1);
                let errand = Errand::Personalise(Box::new(signing(&tag)));
                World::new(TagModel::from(tag), Some(&errand))
            }
        }
    }
}

fn signing(tag: &VirtualNtag424) -> Wish {
    let uid = TagUid::from_slice(&tag.uid()).unwrap();
    let keys = [0x81, 0x91, 0xA1, 0xB1, 0xC1].map(|byte| AesKey::from_bytes([byte; 16]));
    let host = LinkHost::parse("pay.example").unwrap();
    let terminal = TerminalId::from_number(1_234_001).unwrap();
    let link = host.link(terminal, &MachineToken::from_bytes([0; 16]));
    let message = ndef::uri_message(&template(&link)).unwrap();
    Wish {
        keys: Some(TagKeys::new(uid, 1, keys).unwrap()),
        old_keys: None,
        signed_message: Some(message.len() as u8),
    }
}

/// Plays a list to its end; how long that was, in simulated milliseconds.
fn play(kind: Kind, ops: &[Op]) -> i64 {
    let mut world = kind.world();
    for op in ops {
        world.play(*op);
    }
    world.end();
    world.lasted_ms()
}

/// What went wrong in the words of the assertion; none if all held.
fn trouble(kind: Kind, ops: &[Op]) -> Result<i64, String> {
    let played = std::panic::catch_unwind(|| play(kind, ops));
    played.map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        words.unwrap_or_else(|| "a part of the terminal panicked".into())
    })
}

/// Plays lists from one seed, and says which shortest one failed.
fn play_lists(kind: Kind, seed: u64, lists: u32) -> i64 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases: lists,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let lasted = std::cell::Cell::new(0);
    let ops = prop::collection::vec(op::any_op(), 1..60);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&ops, |ops| {
        let played = trouble(kind, &ops).map_err(TestCaseError::fail)?;
        lasted.set(lasted.get() + played);
        Ok(())
    });
    if let Err(TestError::Fail(reason, ops)) = result {
        let list = op::write(&ops);
        panic!("{kind:?}, seed {seed}: {reason}\nKeep this list in simulation/found/:\n{list}");
    }
    result.unwrap();
    lasted.get()
}

#[test]
fn lists_that_found_a_bug_find_none_any_more() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulation/found");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let ops = op::read(&std::fs::read_to_string(&file).unwrap());
        for kind in KINDS {
            if let Err(reason) = trouble(kind, &ops) {
                panic!("{}, {kind:?}: {reason}", file.display());
            }
        }
    }
}

/// New lists every time; the seed is printed.
#[test]
fn a_terminal_shows_the_right_token_or_none_and_loses_no_tap() {
    let minutes = std::env::var("M2KEY_SOAK_MINUTES").ok();
    let minutes: u64 = minutes.map_or(0, |text| text.parse().expect("a number of minutes"));
    let seed = u64::from_be_bytes(std::array::from_fn(|_| rand_byte()));
    let (begun, soak) = (Instant::now(), Duration::from_secs(60 * minutes));
    println!("seed {seed}");
    let lives = |kind| {
        let (mut lasted_ms, mut round) = (0, 0);
        while round == 0 || begun.elapsed() < soak {
            lasted_ms += play_lists(kind, seed ^ round, LISTS);
            round += 1;
        }
        lasted_ms
    };
    let lasted_ms: i64 = std::thread::scope(|scope| {
        let kinds = KINDS.map(|kind| scope.spawn(move || lives(kind)));
        kinds.map(|kind| kind.join().unwrap()).iter().sum()
    });
    let days = lasted_ms / DAY_MS;
    println!("{days} terminal-days in {} s", begun.elapsed().as_secs());
}

fn rand_byte() -> u8 {
    let mut byte = [0];
    getrandom::fill(&mut byte).unwrap();
    byte[0]
}

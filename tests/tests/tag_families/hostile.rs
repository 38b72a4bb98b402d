//! What if the thing on the reader answers whatever it likes?

use super::*;
use harness::pcsc::Agent;
use proptest::prelude::*;
use reader_agent::tag::{Card, NativeError, NativeTransceive};
use std::cell::RefCell;

/// Answers from a list, and with nothing when it is at its end.
struct Hostile {
    atr: Vec<u8>,
    uid: Vec<u8>,
    answers: RefCell<Vec<Vec<u8>>>,
}

impl Hostile {
    fn next(&self) -> Vec<u8> {
        self.answers.borrow_mut().pop().unwrap_or_default()
    }
}

impl Card for Hostile {
    fn atr(&self) -> &[u8] {
        &self.atr
    }

    fn transmit(&self, apdu: &[u8]) -> Result<Vec<u8>, TagError> {
        match apdu {
            [0xFF, 0xCA, ..] => Ok([&self.uid[..], &[0x90, 0x00]].concat()),
            _ => Ok(self.next()),
        }
    }

    fn native(&self) -> Option<Box<dyn NativeTransceive + '_>> {
        Some(Box::new(Way(self)))
    }
}

struct Way<'a>(&'a Hostile);

impl NativeTransceive for Way<'_> {
    fn transceive(&mut self, _: &[u8]) -> Result<Vec<u8>, NativeError> {
        match self.0.next() {
            none if none.is_empty() => Err(NativeError::Refused),
            some => Ok(some),
        }
    }
}

/// Bytes, and then often a status that somebody might believe.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        Just(vec![0x90, 0x00]),
        Just(vec![0x91, 0x00]),
        Just(vec![0x91, 0xAF]),
        Just(vec![0x91, 0xAE]),
        Just(vec![0x63, 0x00]),
        Just(vec![]),
    ];
    let length = prop_oneof![Just(0), Just(1), Just(7), Just(16), Just(32), 0..200_usize];
    let body = length.prop_flat_map(|n| proptest::collection::vec(any::<u8>(), n));
    (body, status).prop_map(|(body, status)| [body, status].concat())
}

fn errands() -> [Errand; 7] {
    [
        show(8),
        BLANK,
        Errand::Check,
        Errand::Personalise(ntag424::wish_of(true)),
        Errand::Personalise(Box::default()),
        Errand::Reset(ntag424::wish_of(true)),
        Errand::Reset(Box::default()),
    ]
}

fn run(agent: &Agent, tag: &TagModel, answers: &[Vec<u8>], errand: &Errand) -> bool {
    let uid = match tag {
        TagModel::Ntag424(chip) => chip.uid(),
        TagModel::Ntag213(chip) => chip.uid(),
        TagModel::Foreign(card) => card.uid.clone(),
    };
    let card = Hostile {
        atr: tag.atr(),
        uid,
        answers: RefCell::new(answers.to_vec()),
    };
    agent.restarted().run_on(&card, errand).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_without_the_key_is_taken_for_our_424_and_nothing_panics(
        answers in proptest::collection::vec(answer(), 0..30),
        errand in 0..7_usize,
    ) {
        let (agent, own) = ntag424::own_tag();
        prop_assert!(!run(&agent, &own, &answers, &errands()[errand]));
        run(&Agent::default(), &own, &answers, &errands()[errand]);
    }

    #[test]
    fn nobody_without_the_password_is_taken_for_our_ntag213_and_nothing_panics(
        answers in proptest::collection::vec(answer(), 0..60),
        errand in 0..7_usize,
    ) {
        let (agent, own) = ntag21x::own_tag_with(7);
        prop_assert!(!run(&agent, &own, &answers, &errands()[errand]));
        run(&Agent::default(), &own, &answers, &errands()[errand]);
    }
}

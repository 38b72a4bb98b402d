//! Whatever happens to a tag in its life, in whatever order: what may a phone find?
//!
//! Lists of operations from a seed that proptest prints; a list that found a bug is kept below.

use super::*;
use proptest::prelude::*;

/// What can happen at a terminal.
#[derive(Clone, Copy, Debug)]
enum Op {
    Show(u8),
    Blank,
    /// A phone comes by.
    Tap,
    /// The next errand is cut.
    Cut(Cut),
    /// SIGKILL and a start.
    Restart,
    TakeAwayAndBack,
    Personalise,
    Reset,
    /// Somebody without a password tries to write.
    Vandal,
}

fn op() -> impl Strategy<Value = Op> {
    let cut = (0..40_usize, any::<bool>());
    prop_oneof![
        6 => (0..4_u8).prop_map(Op::Show),
        2 => Just(Op::Blank),
        4 => Just(Op::Tap),
        4 => cut.prop_map(|(after, is_heard)| Op::Cut(Cut { after, is_heard })),
        1 => Just(Op::Restart),
        1 => Just(Op::TakeAwayAndBack),
        1 => Just(Op::Personalise),
        1 => Just(Op::Reset),
        1 => Just(Op::Vandal),
    ]
}

struct Life {
    agent: Agent,
    tag: TagModel,
    personalise: Errand,
    reset: Errand,
    cut: Option<Cut>,
    /// Links that a phone may find besides none: the last one confirmed, and those begun since.
    may_be_seen: Vec<String>,
    /// Of taps that the tag counted and no visit has told yet; `None` when that cannot be said.
    untold: Option<u32>,
    /// Visits that were cut since: an NTAG21x counts our own first read, and whether one that was not
    /// answered was counted nobody knows. It is taken for counted.
    cut_visits: u32,
}

impl Life {
    fn new(tag: TagModel, personalise: Errand, reset: Errand) -> Life {
        let agent = Agent::default();
        let (tag, _) = done(&agent, tag, &personalise);
        Life {
            agent,
            tag,
            personalise,
            reset,
            cut: None,
            may_be_seen: Vec::new(),
            untold: None,
            cut_visits: 0,
        }
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Show(token) => self.show(show(token), Some(link(token))),
            Op::Blank => self.show(BLANK, None),
            Op::Tap => {
                self.tag.read_by_phone();
                self.untold = self.untold.map(|untold| untold + 1);
            }
            Op::Cut(cut) => self.cut = Some(cut),
            Op::Restart => {
                self.agent = self.agent.restarted();
                self.untold = None;
            }
            Op::TakeAwayAndBack => self.agent.taken_away(),
            Op::Personalise => self.change(self.personalise.clone()),
            Op::Reset => self.change(self.reset.clone()),
            Op::Vandal => self.vandal(),
        }
        self.check();
    }

    fn show(&mut self, errand: Errand, link: Option<String>) {
        self.may_be_seen.extend(link.clone());
        let Ok(done) = self.run(&errand) else {
            self.cut_visits += 1;
            return;
        };
        if let Some(untold) = self.untold {
            let told = done.taps.unwrap();
            let may_lack = match self.tag {
                TagModel::Ntag424(_) => 0,
                _ => self.cut_visits,
            };
            assert!(
                told <= untold && told + may_lack >= untold,
                "{told} of {untold}"
            );
        }
        self.untold = done.counter.map(|_| 0);
        self.cut_visits = 0;
        self.may_be_seen = link.into_iter().collect();
        assert_eq!(seen(&self.tag), self.may_be_seen.first().cloned());
    }

    fn change(&mut self, errand: Errand) {
        let _ = self.run(&errand);
        // New settings begin to count anew, and what a check reads is counted on an NTAG21x.
        self.untold = None;
    }

    fn run(&mut self, errand: &Errand) -> Result<Done, TagError> {
        let hand = InHand::cut(self.tag.clone(), self.cut.take());
        let result = self.agent.run(&hand, errand);
        self.tag = hand.into_tag();
        result
    }

    /// A personalised tag does not let him; one that a cut left before that is as open as a new one.
    fn vandal(&mut self) {
        self.tag.power_up();
        let before = self.tag.clone().read_by_phone();
        match &mut self.tag {
            TagModel::Ntag213(chip) if chip.memory()[0x29 * 4 + 3] <= 2 => {
                for page in 2..45 {
                    chip.transceive(&[0xA2, page, 0xEE, 0xEE, 0xEE, 0xEE]);
                }
            }
            TagModel::Ntag424(chip) if chip.key_versions() != [0; 5] => {
                chip.transmit(&[0x00, 0xA4, 4, 0, 7, 0xD2, 0x76, 0, 0, 0x85, 1, 1, 0]);
                let write = [0x90, 0x8D, 0, 0, 9, 2, 0, 0, 0, 2, 0, 0, 0, 9, 0];
                let was_free = chip.transmit(&write) == [0x91, 0x00];
                // Free it is only before its settings are ours, and then it is blank.
                assert!(!was_free || before.is_none());
                if was_free {
                    let blank = [0x90, 0x8D, 0, 0, 9, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0];
                    chip.transmit(&blank);
                }
            }
            _ => {}
        }
        assert_eq!(self.tag.clone().read_by_phone().is_some(), before.is_some());
    }

    fn check(&self) {
        if let Some(seen) = seen(&self.tag) {
            assert!(self.may_be_seen.contains(&seen), "{seen}");
        }
        if let TagModel::Ntag424(chip) = &self.tag {
            assert_eq!(chip.failures(), 0, "a key was guessed");
        }
    }

    /// However it was left, the same commands make it well again.
    fn ends_well(mut self) {
        self.cut = None;
        self.agent.taken_away();
        self.untold = None;
        let personalise = self.personalise.clone();
        self.run(&personalise).unwrap();
        self.play(Op::Show(9));
        assert_eq!(seen(&self.tag), Some(link(9)));
    }
}

fn live(mut life: Life, ops: &[Op]) {
    ops.iter().for_each(|op| life.play(*op));
    life.ends_well();
}

fn ntag213() -> Life {
    let personalise = Errand::Personalise(Box::default());
    let reset = Errand::Reset(Box::default());
    Life::new(VirtualTag::new(1).into(), personalise, reset)
}

fn ntag424(is_signed: bool) -> Life {
    let wish = ntag424::wish_of(is_signed);
    let personalise = Errand::Personalise(wish.clone());
    Life::new(
        VirtualNtag424::new(1).into(),
        personalise,
        Errand::Reset(wish),
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_ntag213_lives_through_anything(ops in proptest::collection::vec(op(), 1..40)) {
        live(ntag213(), &ops);
    }

    #[test]
    fn an_ntag424_lives_through_anything(
        ops in proptest::collection::vec(op(), 1..40),
        is_signed in any::<bool>(),
    ) {
        live(ntag424(is_signed), &ops);
    }
}

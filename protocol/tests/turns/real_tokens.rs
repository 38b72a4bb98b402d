//! Do the real tokens follow the turns of the model?

use protocol::code::TypedCode;
use protocol::ids::TerminalId;
use protocol::live::{
    LoadedEpoch, Refusal, candidates, channels_of, epochs_needed, explain, recognise,
};
use protocol::presented::Presented;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::turn::TURN_SHUT;
use protocol::window::{Behind, CheckedPolicy, EARLY_MS, EpochClock, Policy, Window, WindowPlan};

use crate::common::key;
use crate::model::EPOCH;

struct Shop {
    terminal: TerminalId,
    policy: CheckedPolicy,
    loaded: Vec<LoadedEpoch>,
}

fn shop() -> Shop {
    let load = |epoch| LoadedEpoch {
        version: 1,
        epoch,
        key: key(u64::from(epoch)),
        policy: Policy::default().check().unwrap(),
        behind: Behind::default(),
    };
    Shop {
        terminal: TerminalId::from_number(4_711_042).unwrap(),
        policy: Policy::default().check().unwrap(),
        loaded: vec![load(EPOCH), load(EPOCH + 1)],
    }
}

impl Shop {
    fn window(&self, channel: Channel, index: usize) -> Window {
        let clock = EpochClock::of(self.terminal);
        let key = &self.loaded[0].key;
        WindowPlan::draw(key, &self.policy, channel, &clock, EPOCH).windows()[index]
    }

    fn token(&self, channel: Channel, window: u16, turn: u16) -> Presented {
        let key = &self.loaded[0].key;
        match channel {
            Channel::Code => {
                Presented::Typed(TypedCode::new(self.terminal, key.code(window, turn)))
            }
            _ => Presented::Machine {
                terminal: self.terminal,
                token: key.token(channel, window, turn),
            },
        }
    }

    /// The authority's judgement, when every window that counts has this turn.
    fn judge(&self, presented: &Presented, now: Timestamp, turn: u16) -> Result<u16, Refusal> {
        let channels = channels_of(presented);
        let mut found = candidates(self.terminal, now, &self.loaded, channels);
        found.iter_mut().for_each(|candidate| candidate.turn = turn);
        recognise(presented, &found).map(|live| live.token().turn)
    }
}

#[test]
fn a_token_counts_from_two_seconds_early_until_its_grace_is_over_and_not_a_millisecond_longer() {
    let shop = shop();
    for channel in Channel::ALL {
        let window = shop.window(channel, 5);
        let token = shop.token(channel, 5, 0);
        let end = window.closes + shop.policy.of(channel).grace_ms;
        for (now, counts) in [
            (window.opens - EARLY_MS - 1, false),
            (window.opens - EARLY_MS, true),
            (end - 1, true),
            (end, false),
        ] {
            assert_eq!(
                shop.judge(&token, now, 0).is_ok(),
                counts,
                "{channel} at {now}"
            );
        }
    }
}

#[test]
fn only_the_stored_turn_counts_and_earlier_ones_are_called_spent() {
    let shop = shop();
    for channel in Channel::ALL {
        let now = shop.window(channel, 5).opens;
        for (shown, stored, judged) in [
            (0, 0, Ok(0)),
            (1, 1, Ok(1)),
            (0, 1, Err(Refusal::Spent)),
            (1, 0, Err(Refusal::Unknown)),
            (0, 65, Err(Refusal::Unknown)),
            (TURN_SHUT, TURN_SHUT, Err(Refusal::Unknown)),
            (TURN_SHUT - 1, TURN_SHUT, Err(Refusal::Spent)),
        ] {
            let token = shop.token(channel, 5, shown);
            assert_eq!(
                shop.judge(&token, now, stored),
                judged,
                "{channel} {shown} {stored}"
            );
        }
    }
}

#[test]
fn a_token_tells_its_channel_and_its_terminal() {
    let shop = shop();
    let now = shop.window(Channel::Code, 5).opens;
    let code = shop.token(Channel::Code, 5, 0);
    // As a machine token the code channel opens nothing, and typed digits open no screen.
    let machine = Presented::Machine {
        terminal: shop.terminal,
        token: shop.loaded[0].key.token(Channel::Code, 5, 0),
    };
    let all = candidates(shop.terminal, now, &shop.loaded, &Channel::ALL);
    assert_eq!(recognise(&machine, &all), Err(Refusal::Unknown));
    assert_eq!(
        recognise(&code, &all).unwrap().token().window.channel,
        Channel::Code
    );
    let stranger = TerminalId::from_number(1).unwrap();
    let foreign = Presented::Typed(TypedCode::new(stranger, shop.loaded[0].key.code(5, 0)));
    assert_eq!(recognise(&foreign, &all), Err(Refusal::Unknown));
}

#[test]
fn a_token_of_a_passed_window_is_called_passed_at_its_first_turns() {
    let shop = shop();
    let window = shop.window(Channel::Qr, 5);
    let now = window.closes + shop.policy.of(Channel::Qr).grace_ms;
    let why = |presented: &Presented, now| explain(presented, now, &shop.loaded);
    for turn in 0..4 {
        assert_eq!(why(&shop.token(Channel::Qr, 5, turn), now), Refusal::Passed);
    }
    assert_eq!(
        why(&shop.token(Channel::Qr, 5, 0), now - 1),
        Refusal::Unknown
    );
    assert_eq!(
        why(&shop.token(Channel::Qr, 60, 0), now),
        Refusal::Unknown,
        "still to come"
    );
    assert_eq!(
        why(&shop.token(Channel::Code, 0, 0), now),
        Refusal::Unknown,
        "never looked up"
    );
}

#[test]
fn both_epochs_are_needed_near_a_boundary_and_one_elsewhere() {
    let shop = shop();
    let boundary = EpochClock::of(shop.terminal).opens(EPOCH + 1);
    let needed = |now| epochs_needed(shop.terminal, now);
    assert_eq!(needed(boundary - EARLY_MS - 1), [EPOCH]);
    assert_eq!(needed(boundary - EARLY_MS), [EPOCH, EPOCH + 1]);
    assert_eq!(needed(boundary + 59_999), [EPOCH, EPOCH + 1]);
    assert_eq!(needed(boundary + 60_000), [EPOCH + 1]);
    for extreme in [i64::MIN, -1, 0, i64::MAX] {
        assert!(needed(Timestamp::from_ms(extreme)).len() <= 2);
    }
}

//! Who follows which list of roots?

use authority::store::{Behind, Follower};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use crate::world::{NOW, World};

async fn follow(world: &World, terminal: TerminalId, sequence: u64, at: Timestamp) {
    let followed = world.store.follow_trust(terminal, sequence, at).await;
    assert_eq!(followed, Ok(()));
}

async fn behind(world: &World, below: u64, since: Timestamp, limit: u32) -> Behind {
    world.store.behind(below, since, limit).await.unwrap()
}

pub(crate) async fn what_a_terminal_follows_is_what_it_said_last(world: &World) {
    let terminal = world.terminal(1).await;
    assert_eq!(world.store.follower(terminal).await, Ok(None));
    // A machine that was replaced begins at its pinned root again.
    for (sequence, at) in [(0, NOW), (2, NOW + 1), (0, NOW + 2), (1, NOW + 1)] {
        follow(world, terminal, sequence, at).await;
        let seen = world.store.follower(terminal).await.unwrap().unwrap();
        assert_eq!(seen.sequence, sequence);
    }
    let seen_at = NOW + 2;
    let last = Follower {
        sequence: 1,
        seen_at,
    };
    assert_eq!(world.store.follower(terminal).await, Ok(Some(last)));
}

pub(crate) async fn only_terminals_in_service_hold_a_root_back(world: &World) {
    let day = 24 * 3_600_000;
    let mut terminals = Vec::new();
    for n in 1..=4 {
        terminals.push(world.terminal(n).await);
    }
    let [fresh, gone, banned, ahead] = terminals[..] else {
        panic!("four were added")
    };
    for (terminal, sequence, at) in [
        (fresh, 0, NOW),
        (gone, 0, NOW - 40 * day),
        (banned, 0, NOW),
        (ahead, 3, NOW),
    ] {
        follow(world, terminal, sequence, at).await;
    }
    let ban = world.store.ban_terminal(banned, "stolen".into(), NOW).await;
    assert!(ban.unwrap().is_some());
    let since = NOW - 30 * day;
    let held = behind(world, 3, since, 20).await;
    assert_eq!((held.count, held.first), (1, vec![fresh]));
    let all_time = behind(world, 3, NOW - 90 * day, 1).await;
    assert_eq!((all_time.count, all_time.first), (2, vec![fresh.min(gone)]));
    assert_eq!(behind(world, 0, since, 20).await, Behind::default());
    let followers = world.store.followers(since).await;
    assert_eq!(followers, Ok(vec![(0, 1), (3, 1)]));
}

#![allow(clippy::unwrap_used)]
//! Streams through a network that moves names, and of many terminals at once.
use super::*;
use crate::authority::names::Names;
use crate::backoff::LOST_MS;
use crate::clock::Clock;
use crate::identity::disk::IdentityFiles;
use crate::testing::authority::{FRESH, FakeAuthority};
use crate::testing::frame;
use crate::testing::front::{Front, Way};
use crate::trust::TrustFiles;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(120);

/// What a name server says next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    At(SocketAddr),
    Nobody,
    NothingAtAll,
}

/// A follower of terminal 1's, and what it is told.
struct Stand {
    line: Arc<Line>,
    told: mpsc::Receiver<Pushed>,
    dir: tempfile::TempDir,
}

impl Stand {
    fn follow(authority: &FakeAuthority, base: &str, names: Names) -> Self {
        let (follower, stand) = Self::with(authority, base, names);
        tokio::spawn(follower.follow());
        stand
    }

    fn with(authority: &FakeAuthority, base: &str, names: Names) -> (Follower, Self) {
        let dir = tempfile::tempdir().unwrap();
        authority.enrol(dir.path(), FRESH);
        let identity = IdentityFiles::in_dir(dir.path()).load().unwrap().current;
        let trust = TrustFiles::in_dir(dir.path()).load().unwrap();
        let clock = Arc::new(Clock::start(None));
        let line = Line::resolving(base, identity, trust, clock, names);
        let line = Arc::new(line.unwrap());
        let (heard, told) = mpsc::channel(1_000);
        let follower = Follower {
            line: line.clone(),
            state: Arc::new(State::open(&dir.path().join("agent.db")).unwrap()),
            last: None,
            heard,
            noticed: Arc::new(watch::Sender::default()),
            instance: "a".into(),
        };
        (follower, Self { line, told, dir })
    }

    async fn next(&mut self) -> Pushed {
        let next = tokio::time::timeout(PATIENCE, self.told.recv());
        next.await.expect("it is told within two minutes").unwrap()
    }

    async fn until_state(&mut self) {
        while !matches!(self.next().await, Pushed::State(_)) {}
    }

    /// Until a stream or a try fails in such words.
    async fn until_lost(&mut self, words: &str) {
        loop {
            if let Pushed::Lost(error) = self.next().await
                && error.to_string().contains(words)
            {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_name_that_moves_vanishes_or_hangs_is_followed_by_itself() {
    let authority = FakeAuthority::start().await;
    let (old, new) = (
        Front::open(Way::Nowhere).await,
        Front::open(Way::Nowhere).await,
    );
    let at = |front: &Front| Says::At(front.base.trim_start_matches("https://").parse().unwrap());
    old.leads_to(&authority);
    let says = Arc::new(Mutex::new(at(&old)));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (server, released) = (says.clone(), Mutex::new(released));
    let names = Names::by(move |name| {
        assert_eq!(name, "agents.pay.example");
        let says = *server.lock().unwrap();
        match says {
            Says::At(address) => Ok(vec![address]),
            Says::Nobody => Err(io::Error::other("no such name")),
            Says::NothingAtAll => {
                let _ = released.lock().unwrap().recv();
                Err(io::Error::other("too late"))
            }
        }
    });
    let say = |what| *says.lock().unwrap() = what;
    let mut stand = Stand::follow(&authority, "https://agents.pay.example", names);
    stand.until_state().await;

    // The name is gone, then nobody answers for it; in the end it is somewhere else.
    say(Says::Nobody);
    old.leads(Way::Nowhere);
    stand.until_lost("no such name").await;
    say(Says::NothingAtAll);
    stand.until_lost("no name server answers").await;
    new.leads_to(&authority);
    say(at(&new));
    stand.until_state().await;

    // Back again, without a word.
    old.leads_to(&authority);
    say(at(&old));
    new.leads(Way::Nowhere);
    stand.until_state().await;
    drop(release);
}

#[tokio::test]
async fn a_doubted_stream_is_told_to_be_left_at_once_and_is_replaced() {
    let authority = FakeAuthority::start().await;
    let mut stand = Stand::follow(&authority, &authority.base, Names::of_system());
    stand.until_state().await;
    stand.line.ask_anew();
    assert!(matches!(stand.next().await, Pushed::Left));
    assert!(matches!(stand.next().await, Pushed::Connected { .. }));
    assert!(matches!(stand.next().await, Pushed::State(_)));
    assert!(stand.dir.path().exists());
}

#[tokio::test]
async fn a_stream_that_took_over_from_another_is_told_to_be_lost_at_once() {
    let authority = FakeAuthority::start().await;
    authority.world().many_streams = true;
    let front = Front::open(Way::Nowhere).await;
    front.leads_to(&authority);
    let mut stand = Stand::follow(&authority, &front.base, Names::of_system());
    stand.until_state().await;
    let identity = stand.line.now().identity.clone();
    stand.line.identify(identity, Standing::Taken).unwrap();
    while !matches!(stand.next().await, Pushed::Connected { .. }) {}
    stand.until_state().await;
    front.leads(Way::Nowhere);
    let mut next = stand.next().await;
    while matches!(next, Pushed::State(_) | Pushed::Alive) {
        next = stand.next().await;
    }
    assert!(matches!(next, Pushed::Lost(_)), "{next:?}");
}

/// A stream that says this and ends.
fn by_hand(line: &Line, text: String) -> Stream {
    let parts = [Ok(Bytes::from(text))];
    Stream {
        number: 1,
        asked: 0,
        doubts: line.doubts(),
        parts: futures_util::stream::iter(parts).boxed(),
        parser: Parser::default(),
    }
}

#[tokio::test]
async fn a_sign_of_life_without_a_frame_is_told_from_the_old_stream_too() {
    let authority = FakeAuthority::start().await;
    let (mut follower, mut stand) = Stand::with(&authority, &authority.base, Names::of_system());
    let silent = || by_hand(&stand.line, ":\n\n".into());
    let (first, second) = (silent(), silent());
    let ended = follower.listen(first, &mut Backoff::default()).await;
    assert!(matches!(ended, End::Lost(_)));
    assert!(matches!(stand.next().await, Pushed::Alive));
    let mut old = Some(second);
    let never = std::future::pending::<()>();
    let footing = stand.line.now();
    let beside = tokio::time::timeout(PATIENCE, follower.beside(&mut old, &footing, never));
    tokio::select! {
        _ = beside => panic!("nothing was told"),
        told = stand.next() => assert!(matches!(told, Pushed::Alive)),
    }
}

#[tokio::test]
async fn a_stream_that_ends_while_the_next_is_dialled_is_told_to_be_left_only_if_that_takes_long() {
    let authority = FakeAuthority::start().await;
    let (follower, mut stand) = Stand::with(&authority, &authority.base, Names::of_system());
    let footing = stand.line.now();
    let mut old = Some(Stream {
        parts: futures_util::stream::empty().boxed(),
        ..by_hand(&stand.line, String::new())
    });
    let opened = tokio::task::yield_now();
    follower.beside(&mut old, &footing, opened).await;
    assert!(stand.told.try_recv().is_err(), "nobody need know");
    let never = std::future::pending::<()>();
    let beside = follower.beside(&mut old, &footing, never);
    let beside = tokio::time::timeout(PATIENCE, beside);
    tokio::select! {
        _ = beside => panic!("nothing was told"),
        told = stand.next() => assert!(matches!(told, Pushed::Left)),
    }
}

#[tokio::test]
async fn a_stream_was_up_once_a_frame_of_it_was_understood() {
    let authority = FakeAuthority::start().await;
    let (mut follower, stand) = Stand::with(&authority, &authority.base, Names::of_system());
    let good = serde_json::to_string(&frame(1, crate::clock::wall(), None)).unwrap();
    for (data, was_up) in [("", false), ("{}", false), (&good, true)] {
        let text = format!("event: {STATE_EVENT}\ndata: {data}\n\n");
        let mut backoff = Backoff::default();
        let stream = by_hand(&stand.line, text);
        assert!(matches!(
            follower.listen(stream, &mut backoff).await,
            End::Lost(_)
        ));
        let pause = backoff.next_lost(u32::MAX).as_millis() as u64;
        assert_eq!(pause == LOST_MS, was_up, "{data}");
    }
}

#[tokio::test]
async fn a_hundred_terminals_are_all_back_after_a_restart_and_none_twice_at_once() {
    let authority = FakeAuthority::start().await;
    authority.world().many_streams = true;
    let front = Front::open(Way::Nowhere).await;
    front.leads_to(&authority);
    let mut fleet: Vec<Stand> = (0..100)
        .map(|_| Stand::follow(&authority, &front.base, Names::of_system()))
        .collect();
    for stand in &mut fleet {
        stand.until_state().await;
    }
    let before = *front.visits().borrow();
    front.leads(Way::Nowhere);
    for stand in &mut fleet {
        stand.until_lost("").await;
    }
    let restarting = *front.visits().borrow();
    front.leads_to(&authority);
    for stand in &mut fleet {
        stand.until_state().await;
    }
    let after = *front.visits().borrow();
    // Whoever found nobody in between came again; whoever found somebody stayed.
    assert_eq!(before, fleet.len());
    assert!(
        after - restarting <= 2 * fleet.len(),
        "{restarting} {after}"
    );
}

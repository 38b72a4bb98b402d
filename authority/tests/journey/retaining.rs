//! Does what was spent go in its time, and no earlier?

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use authority::store::{
    Chore, FORGET_ROWS_MAX, Merchant, Nodes as _, Reports as _, Retention as _,
};
use protocol::ids::EventId;
use protocol::token::Channel;
use protocol::wire::reports::{ReportRequest, Seen, TerminalEvent};

use crate::cluster::Database;
use crate::world::{MINUTE, World, eur};

const DAY: i64 = 24 * 60 * MINUTE;
/// In which many old reports go; the last one is of one row.
const PIECES: i64 = 4;

#[tokio::test]
async fn a_spent_token_goes_after_ninety_days_and_its_claim_stays() {
    let world = World::with(|merchant| Merchant {
        fixed: Some(eur(420)),
        ..merchant
    })
    .await;
    let link = world.shown(Channel::Nfc).await;
    world.claimed(&link, None).await;
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 1);
    world.journey.retain(world.now()).await.unwrap();
    let first = world.store.epoch_fence().await.unwrap();
    world.advance(89 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 1);
    world.advance(4 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 0);
    assert_eq!(world.rows("SELECT count(*) FROM claims"), 1);
    let last = world.store.epoch_fence().await.unwrap();
    assert_eq!((last - first) / 24, 93, "by whole days");
    // A clock that is set back brings no token back.
    world.advance(-93 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.store.epoch_fence().await, Ok(last));
    let again = world.claim(&link, None).await;
    assert!(again.status >= 400, "{again:?}");
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 0);
}

#[tokio::test]
async fn a_report_goes_after_four_hundred_days_and_its_late_repeat_is_forgotten() {
    let world = World::new().await;
    let (terminal, seen_at) = (world.terminal, world.now());
    let report = || ReportRequest {
        events: vec![TerminalEvent {
            id: EventId::from_parts(seen_at.ms() as u64, &[1; 10]),
            at: seen_at,
            what: Seen::TagFailed {
                reason: "no tag".into(),
            },
        }],
    };
    let reports = &world.journey.reports;
    let stored = reports.take(terminal, report(), seen_at).await.unwrap();
    world.advance(399 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.store.reports(terminal, 9).await.unwrap().len(), 1);
    world.advance(2 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.store.reports(terminal, 9).await, Ok(Vec::new()));
    let again = reports.take(terminal, report(), world.now()).await;
    assert_eq!(again.unwrap(), stored, "the terminal may forget it");
    assert_eq!(world.store.reports(terminal, 9).await, Ok(Vec::new()));
}

#[tokio::test]
async fn old_reports_go_in_pieces_and_a_payment_comes_before_each_further_piece() {
    let world = World::new().await;
    world.journey.retain(world.now()).await.unwrap();
    world.edit(&old_reports(&world, "unhex(printf('%032x', n))"));
    go_in_pieces(&world, || world.rows("SELECT count(*) FROM reports")).await;
}

#[tokio::test]
async fn on_postgresql_old_reports_go_in_pieces_and_a_payment_comes_before_each_further_piece() {
    let database = Database::new();
    // One lane, so that who comes first is written first.
    let world = World::over(Arc::new(database.open("node-1", 1))).await;
    while !world.store.leads(Chore::Forgetting) {
        tokio::task::yield_now().await;
    }
    world.journey.retain(world.now()).await.unwrap();
    database.sql(&old_reports(
        &world,
        "decode(lpad(to_hex(n), 32, '0'), 'hex')",
    ));
    let count = || database.sql("SELECT count(*) FROM reports");
    go_in_pieces(&world, || count().parse().unwrap()).await;
}

/// So many that they go in [`PIECES`]; `id` is what their ids are made of `n` by.
fn old_reports(world: &World, id: &str) -> String {
    let (all, terminal) = (
        (PIECES - 1) * i64::from(FORGET_ROWS_MAX) + 1,
        world.terminal.value(),
    );
    format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {all})
         INSERT INTO reports (id, terminal, at_ms, event) SELECT {id}, {terminal}, 0, '{{}}' FROM numbers"
    )
}

/// Looks at the run by hand, so that it begins nothing between two looks.
async fn go_in_pieces(world: &World, left: impl Fn() -> i64) {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut run = pin!(world.journey.retain(world.now()));
    let mut look = || run.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(look().is_pending());
    for further in (1..PIECES).rev() {
        let rest = (further - 1) * i64::from(FORGET_ROWS_MAX) + 1;
        loop {
            woken.again().await;
            if left() <= rest {
                break;
            }
            assert!(look().is_pending());
        }
        // A piece is committed. The run hears of it, and rests: whoever asks now comes before the next one.
        assert!(look().is_pending());
        let phone = world.held(420).await;
        assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
        assert_eq!(left(), rest);
    }
    loop {
        woken.again().await;
        if let Poll::Ready(done) = look() {
            done.unwrap();
            break;
        }
    }
    assert_eq!(left(), 0);
}

/// Whether whoever is looked at by hand has something to go on with.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    async fn again(&self) {
        while !self.0.swap(false, Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#![allow(clippy::unwrap_used)]
use super::*;
use crate::tag::{LeftOn, TagError};
use protocol::wire::reports::{TagCounter, TagSigns};

#[test]
fn a_tag_that_somebody_wrote_on_is_reported_and_its_taps_are_not_lost() {
    let visit = TagVisit {
        uid: "04A1".into(),
        pages: 3,
        taps: Some(2),
        counter_found: Some(8),
        counter: Some(9),
        signs: None,
        was_altered: true,
        left: LeftOn::new(&[4, 0xA1], &[]),
    };
    let events = events_of(&visit, None, None, None, Timestamp::from_ms(0));
    let seen: Vec<Seen> = events.into_iter().map(|event| event.what).collect();
    assert!(matches!(seen[0], Seen::Tap { count: 2, .. }));
    assert!(matches!(&seen[1], Seen::TagFailed { reason } if reason.contains("wrote on it")));
    assert!(ALTERED.len() <= REASON_MAX);
}

#[test]
fn what_a_signing_tag_said_travels_with_its_write() {
    let signs = TagSigns {
        key_version: 2,
        counter: 9,
    };
    let visit = TagVisit {
        uid: "04A1".into(),
        pages: 1,
        taps: None,
        counter_found: Some(8),
        counter: Some(9),
        signs: Some(signs),
        was_altered: false,
        left: LeftOn::new(&[4, 0xA1], &[]),
    };
    let window = SeenWindow {
        channel: protocol::token::Channel::Nfc,
        version: 1,
        epoch: 1,
        window: 1,
        turn: 0,
    };
    let events = events_of(&visit, None, Some(window), None, Timestamp::from_ms(0));
    assert!(matches!(events[0].what, Seen::TagWritten { signs: Some(told), .. } if told == signs));
}

#[test]
fn the_counter_of_a_visit_is_told_once_and_by_what_was_written() {
    let visit = TagVisit {
        uid: "04A1".into(),
        pages: 3,
        taps: Some(2),
        counter_found: Some(8),
        counter: Some(9),
        signs: None,
        was_altered: false,
        left: LeftOn::new(&[4, 0xA1], &[]),
    };
    let window = SeenWindow {
        channel: protocol::token::Channel::Nfc,
        version: 1,
        epoch: 2,
        window: 3,
        turn: 0,
    };
    let told = |written| {
        let events = events_of(&visit, None, written, None, Timestamp::from_ms(0));
        let counter = |event: TerminalEvent| match event.what {
            Seen::Tap { counter, .. } | Seen::TagWritten { counter, .. } => counter,
            Seen::TagFailed { .. } => None,
        };
        events.into_iter().map(counter).collect::<Vec<_>>()
    };
    let both = Some(TagCounter {
        found: Some(8),
        left: 9,
    });
    assert_eq!(told(Some(window)), [None, both]);
    assert_eq!(told(None), [both]);
}

#[test]
fn a_reason_of_any_length_fits_into_a_report() {
    let wanted = Some("ü".repeat(300));
    let long = TagError::NoReader { wanted }.to_string();
    assert!(long.len() > REASON_MAX);
    let short = shortened(&long);
    assert!((REASON_MAX - 1..=REASON_MAX).contains(&short.len()));
    assert!(long.starts_with(&short));
    assert_eq!(shortened("no tag"), "no tag");
}

/// A writer that tells what it was asked to show.
struct Told(mpsc::Sender<Vec<u8>>);

#[async_trait::async_trait]
impl TagWriter for Told {
    async fn show(&self, message: Vec<u8>) -> Result<TagVisit, TagFailure> {
        self.0.send(message).await.unwrap();
        Ok(TagVisit {
            uid: "04A1".into(),
            pages: 1,
            taps: None,
            counter_found: None,
            counter: None,
            signs: None,
            was_altered: false,
            left: LeftOn::new(&[4, 0xA1], &[]),
        })
    }

    async fn blank(&self) -> Result<TagVisit, TagFailure> {
        self.show(Vec::new()).await
    }

    fn status(&self) -> crate::tag_writer::TagHealth {
        Default::default()
    }
}

/// A board whose nfc channel shows this until then.
fn showing(link: &str, window: u16, closes: Timestamp) -> Board {
    let mut face = Face::for_tests(link, crate::testing::nfc_face(window, 0).window, 0);
    face.closes = closes;
    let mut board = crate::driver::empty_board(crate::testing::terminal(1));
    board.faces.nfc = Ok(face);
    board
}

#[tokio::test]
async fn a_reader_that_wakes_before_the_board_gets_no_token_of_before_the_sleep() {
    let ticks = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let clock = Arc::new(crate::testing::clock_by_hand(ticks.clone()));
    let friday = Timestamp::from_ms(1_795_459_200_000);
    clock.heard(friday);
    let dir = tempfile::tempdir().unwrap();
    let (shows, mut shown) = mpsc::channel(10);
    // Room for one, so that a second one is taken only when all of the first was done.
    let (events, out) = mpsc::channel(1);
    let (board, boards) =
        watch::channel(showing("https://pay.example/t/friday", 0, friday + 60_000));
    let (stop, stopped) = watch::channel(false);
    let driver = TagDriver {
        writer: Arc::new(Told(shows)),
        events: out,
        board: boards,
        state: Arc::new(State::open(&dir.path().join("agent.db")).unwrap()),
        clock,
        metrics: Arc::new(Metrics::new()),
        reports: Arc::new(Notify::new()),
        stop: stopped,
    };
    let running = tokio::spawn(driver.run());
    let message = |link: &str| ndef::uri_message(link).unwrap();
    assert_eq!(
        shown.recv().await,
        Some(message("https://pay.example/t/friday"))
    );

    ticks.fetch_add(60 * 3_600_000, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..3 {
        events.send(TagEvent::ReaderReady).await.unwrap();
    }
    let monday = friday + 60 * 3_600_000;
    board.send_replace(showing("https://pay.example/t/monday", 1, monday + 60_000));
    assert_eq!(
        shown.recv().await,
        Some(message("https://pay.example/t/monday"))
    );
    stop.send_replace(true);
    running.await.unwrap();
    let mut rest = Vec::new();
    while let Ok(message) = shown.try_recv() {
        rest.push(message);
    }
    // The last of the events may have come after the board: then the new token is written again.
    assert_eq!(rest.pop(), Some(Vec::new()), "it is blanked at the end");
    let monday = message("https://pay.example/t/monday");
    assert!(rest.iter().all(|shown| *shown == monday));
}

#![allow(clippy::unwrap_used)]
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::look::Theme;
use crate::testing::boards;
use crate::testing::pty::Pty;

const PATIENCE: Duration = Duration::from_secs(60);

/// A display of the kind, with page 19 in its memory: bytes become lines.
struct Glass {
    lines: [[u8; lines::COLUMNS]; 2],
    at: (usize, usize),
    page: Option<u8>,
    pending: Vec<u8>,
    /// Rows to which the cursor was sent.
    moves: Vec<usize>,
}

impl Glass {
    fn new() -> Self {
        Self {
            lines: [[b' '; lines::COLUMNS]; 2],
            at: (0, 0),
            page: None,
            pending: Vec::new(),
            moves: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.pending.push(*byte);
            if self.took() {
                self.pending.clear();
            }
        }
    }

    /// Whether what is pending was a whole command.
    fn took(&mut self) -> bool {
        match self.pending[..] {
            [0x1b, b'@'] => {
                *self = Self {
                    pending: Vec::new(),
                    ..Self::new()
                }
            }
            [0x1b, b't', page] => self.page = Some(page),
            [0x1f, b'C', 0] | [0x1f, 0x01] => {}
            [0x0c] => {
                self.lines = Self::new().lines;
                self.at = (0, 0);
            }
            [0x1f, b'$', x @ 1..=20, y @ 1..=2] => {
                self.at = (usize::from(y) - 1, usize::from(x) - 1);
                self.moves.push(self.at.0);
            }
            [0x1b] | [0x1f] | [0x1b, b't'] | [0x1f, b'C' | b'$'] | [0x1f, b'$', 1..=20] => {
                return false;
            }
            [letter] if letter >= 0x20 => self.put(letter),
            _ => panic!("no display knows {:02x?}", self.pending),
        }
        true
    }

    fn put(&mut self, letter: u8) {
        let (row, column) = self.at;
        self.lines[row][column] = letter;
        self.at = match column + 1 {
            lines::COLUMNS => (1 - row, 0),
            next => (row, next),
        };
    }

    fn reads(&self) -> [String; 2] {
        let letter = |byte: &u8| match (self.page, byte) {
            (Some(19), 0x82) => 'é',
            (Some(19), 0x85) => 'à',
            (Some(19), 0xb7) => 'À',
            (Some(19), 0xd5) => '€',
            (_, 0x20..0x7f) => char::from(*byte),
            _ => '▯',
        };
        let read = |line: &[u8; lines::COLUMNS]| line.iter().map(letter).collect();
        self.lines.each_ref().map(read)
    }
}

/// A display task whose glass is looked at.
struct Counter {
    board: watch::Sender<Board>,
    trouble: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    glass: Glass,
}

impl Counter {
    fn start(path: &Path, board: &str, look: Look) -> Self {
        let (board, boards) = watch::channel(boards::board(board));
        let (trouble, troubles) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let display = Display {
            port: DisplayPort {
                path: path.into(),
                baud: BAUD,
                code_page: CodePage::default(),
            },
            look: Arc::new(look),
            board: boards,
            trouble,
            stop: stopped,
        };
        Self {
            board,
            trouble: troubles,
            stop,
            task: tokio::spawn(display.run()),
            glass: Glass::new(),
        }
    }

    /// Looks at the glass until it reads so.
    async fn until(&mut self, pty: &mut Pty, wanted: [&str; 2]) {
        let wanted = wanted.map(|line| format!("{line:<20}"));
        let looking = async {
            while self.glass.reads() != wanted {
                // Between two openings nobody holds the other end.
                match pty.read().await {
                    Ok(bytes) => self.glass.feed(&bytes),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let looked = tokio::time::timeout(PATIENCE, looking).await;
        assert!(
            looked.is_ok(),
            "{:?} never became {wanted:?}",
            self.glass.reads()
        );
    }

    async fn troubled(&mut self, word: Option<&str>) {
        let wanted = |held: &Option<String>| match (held, word) {
            (None, None) => true,
            (Some(held), Some(word)) => held.contains(word),
            _ => false,
        };
        let waited = tokio::time::timeout(PATIENCE, self.trouble.wait_for(wanted)).await;
        waited.expect("it is so within a minute").unwrap();
    }
}

fn french() -> Look {
    Look {
        language: crate::words::Language::French,
        ..Look::default()
    }
}

const CODE: &str = " 48201-93746-02915";
const NEXT_CODE: &str = " 10928-37465-56473";

#[tokio::test]
async fn amount_and_code_stand_on_the_glass_and_only_what_changes_is_written() {
    let mut pty = Pty::open();
    let mut counter = Counter::start(&pty.path, "offered", french());
    counter
        .until(&mut pty, ["À payer     4,20 EUR", CODE])
        .await;
    counter.glass.moves.clear();
    counter.board.send_modify(boards::renew);
    counter
        .until(&mut pty, ["À payer     4,20 EUR", NEXT_CODE])
        .await;
    // Time passes, the link alone changes: nothing is written for it.
    counter.board.send_modify(|board| {
        board.now = board.now.map(|now| now + 1_000);
        board.faces.qr = board.faces.nfc.clone();
    });
    counter.board.send_replace(boards::board("paid"));
    counter
        .until(&mut pty, ["Payé        4,20 EUR", "Votre nombre      07"])
        .await;
    assert_eq!(counter.glass.moves, [1, 0, 1]);
}

#[tokio::test]
async fn a_shop_with_a_name_greets_and_leaves_nothing_behind() {
    let mut pty = Pty::open();
    let look = Look {
        theme: Theme {
            name: Some("Café à 1 €".into()),
            ..Theme::default()
        },
        ..Look::default()
    };
    let mut counter = Counter::start(&pty.path, "idle", look);
    let greets = ["Café à 1 €", CODE];
    counter.until(&mut pty, greets).await;
    counter.stop.send_replace(true);
    counter.until(&mut pty, ["", ""]).await;
    counter.task.await.unwrap();
}

#[tokio::test]
async fn an_absent_and_an_unplugged_display_is_attended_to_and_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("ttyUSB0");
    let mut counter = Counter::start(&name, "offered", Look::default());
    counter.troubled(Some("plug it in")).await;
    let mut first = Pty::open();
    first.plug_in(&name);
    counter
        .until(&mut first, ["To pay      4.20 EUR", CODE])
        .await;
    counter.troubled(None).await;
    drop(first);
    counter.troubled(Some("cable and power")).await;
    counter.glass = Glass::new();
    counter.board.send_modify(boards::renew);
    let mut second = Pty::open();
    second.plug_in(&name);
    counter
        .until(&mut second, ["To pay      4.20 EUR", NEXT_CODE])
        .await;
    counter.troubled(None).await;
}

#[tokio::test]
async fn what_is_no_serial_port_is_said_and_stopping_does_not_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let mut counter = Counter::start(&file, "offered", Look::default());
    counter.troubled(Some("display names its port")).await;
    counter.stop.send_replace(true);
    tokio::time::timeout(PATIENCE, counter.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"");
}

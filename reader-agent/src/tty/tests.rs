#![allow(clippy::unwrap_used)]
use std::fs::OpenOptions;

use rqrr::{Grid, SimpleGrid};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::look::Look;
use crate::testing::boards;
use crate::testing::pty::Pty;
use crate::testing::stand::Stand;

const PATIENCE: Duration = Duration::from_secs(60);

/// What stands in a window: as much of a terminal as the picture needs.
struct Emulator {
    rows: Vec<Vec<char>>,
    /// The last whole picture.
    seen: Vec<Vec<char>>,
    at: (usize, usize),
    pending: Vec<u8>,
    second_screen: bool,
    cursor: bool,
    pictures: usize,
}

impl Emulator {
    fn new() -> Self {
        Self {
            rows: vec![vec![' '; 200]; 60],
            seen: Vec::new(),
            at: (0, 0),
            pending: Vec::new(),
            second_screen: false,
            cursor: true,
            pictures: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend(bytes);
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.pending.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut self.pending, rest)).unwrap();
        let mut text = text.as_str();
        while let Some(first) = text.chars().next() {
            let Some(command) = text.strip_prefix("\x1b[") else {
                // A command that is cut in two waits for its end.
                if text == "\x1b" {
                    break;
                }
                self.put(first);
                text = &text[first.len_utf8()..];
                continue;
            };
            let Some(end) = command.find(|c: char| c.is_ascii_alphabetic()) else {
                break;
            };
            self.obey(&command[..=end]);
            text = &command[end + 1..];
        }
        self.pending.splice(0..0, text.bytes());
    }

    fn put(&mut self, letter: char) {
        assert!(!letter.is_control(), "{letter:?}");
        self.rows[self.at.0][self.at.1] = letter;
        self.at.1 += 1;
    }

    fn obey(&mut self, command: &str) {
        let (row, column) = self.at;
        match command {
            "?1049h" => self.second_screen = true,
            "?1049l" => self.second_screen = false,
            "?25h" => self.cursor = true,
            "?25l" => self.cursor = false,
            "?2026h" => {}
            "?2026l" => {
                self.pictures += 1;
                self.seen = self.rows.clone();
            }
            "K" => self.rows[row][column..].fill(' '),
            "J" => {
                self.rows[row][column..].fill(' ');
                self.rows[row + 1..]
                    .iter_mut()
                    .for_each(|row| row.fill(' '));
            }
            _ if command.ends_with('m') => {}
            _ => {
                let place = command.strip_suffix('H').expect("a command we send");
                let (row, column) = place.split_once(';').unwrap();
                let place = |text: &str| text.parse::<usize>().unwrap() - 1;
                self.at = (place(row), place(column));
            }
        }
    }

    fn text(&self) -> String {
        let rows = self.seen.iter();
        rows.map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n")
            .collect()
    }

    /// What a camera reads off the half blocks.
    fn link(&self) -> Option<String> {
        let dark = |x: usize, y: usize| match self.seen[y / 2][x] {
            '█' => true,
            '▀' => y.is_multiple_of(2),
            '▄' => !y.is_multiple_of(2),
            _ => false,
        };
        let size = (21..60)
            .step_by(4)
            .find(|size| dark(4 + size - 1, 4) && !dark(4 + size, 4))?;
        let grid = SimpleGrid::from_func(size, |x, y| dark(x + 4, y + 4));
        Grid::new(grid).decode().ok().map(|(_, text)| text)
    }
}

/// A window in which the screen is shown.
struct Desk {
    pty: Pty,
    emulator: Emulator,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Desk {
    fn open(data_dir: &std::path::Path, columns: u16, rows: u16) -> Self {
        let pty = Pty::open();
        resize(&pty, columns, rows);
        let tty = OpenOptions::new().read(true).write(true).open(&pty.path);
        let text = Config::text("https://pay.example:8444", crate::testing::terminal(1));
        let mut config = Config::parse(&text).unwrap();
        config.data_dir = data_dir.into();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            stopped.await.unwrap();
        };
        let agent = Agent::of(&config).unwrap();
        Self {
            pty,
            emulator: Emulator::new(),
            stop,
            task: tokio::spawn(show(tty.unwrap(), agent, stopped)),
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Emulator) -> bool) {
        let looking = async {
            while !wanted(&self.emulator) {
                match self.pty.read().await {
                    Ok(bytes) => self.emulator.feed(&bytes),
                    Err(error) => panic!("{error}: {}", self.emulator.text()),
                }
            }
        };
        let looked = tokio::time::timeout(PATIENCE, looking).await;
        assert!(looked.is_ok(), "still\n{}", self.emulator.text());
    }

    async fn reads(&mut self, wanted: &str) {
        self.until(|it| it.text().contains(wanted)).await;
    }
}

fn resize(pty: &Pty, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(pty.master(), size).unwrap();
}

#[tokio::test]
async fn a_window_shows_what_the_page_shows_and_a_camera_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open_in(dir.path(), Look::default()).await;
    stand.board.send_replace(boards::board("offered"));
    let mut desk = Desk::open(dir.path(), 80, 24);
    desk.reads("48201 93746 02915").await;
    desk.reads("4.20 EUR").await;
    let link = "https://pay.example/t/aZ8fQk3mRw1xLpNtVb5yDg";
    assert_eq!(desk.emulator.link().as_deref(), Some(link));
    stand.board.send_modify(boards::renew);
    desk.reads("10928 37465 56473").await;
    stand.board.send_replace(boards::board("paid"));
    desk.reads("Your number: 07").await;
    assert!(desk.emulator.text().contains("Paid") && !desk.emulator.text().contains('█'));
    // Narrower, it is drawn anew without being told anything new.
    stand.board.send_replace(boards::board("offered"));
    desk.reads("48201 93746 02915").await;
    resize(&desk.pty, 50, 20);
    kill_process(getpid(), Signal::WINCH).unwrap();
    desk.reads("Make this window larger").await;
}

#[tokio::test]
async fn the_same_picture_is_not_drawn_again() {
    let mut pty = Pty::open();
    let tty = OpenOptions::new().read(true).write(true).open(&pty.path);
    let mut window = Window::open(tty.unwrap()).unwrap();
    let mut emulator = Emulator::new();
    for row in ["one", "one", "another"] {
        window.draw((80, 24), vec![row.into()]).unwrap();
    }
    while !emulator.text().starts_with("another\n") {
        emulator.feed(&pty.read().await.unwrap());
    }
    assert_eq!(emulator.pictures, 2);
}

#[tokio::test]
async fn it_says_when_the_agent_is_gone_and_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(dir.path(), 80, 24);
    desk.reads("The agent does not answer").await;
    let first = Stand::open_in(dir.path(), Look::default()).await;
    first.board.send_replace(boards::board("offered"));
    desk.reads("48201 93746 02915").await;
    first.stop.send_replace(true);
    desk.reads("The agent does not answer").await;
    assert!(
        !desk.emulator.text().contains("48201"),
        "a code that nobody answers for"
    );
    let second = Stand::open_in(dir.path(), Look::default()).await;
    second.board.send_replace(boards::board("held"));
    desk.reads("Your number: 07").await;
}

#[tokio::test]
async fn the_window_is_left_as_it_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let pty_before = |desk: &Desk| tcgetattr(desk.pty.master()).unwrap().local_modes;
    let mut desk = Desk::open(dir.path(), 80, 24);
    desk.reads("The agent does not answer").await;
    assert!(desk.emulator.second_screen && !desk.emulator.cursor);
    assert!(!pty_before(&desk).contains(LocalModes::ECHO));
    desk.pty.write(b"typed meanwhile");
    // The other end stays open, so that what is said last can still be read.
    let kept = OpenOptions::new().read(true).open(&desk.pty.path).unwrap();
    desk.stop.send(()).unwrap();
    desk.task.await.unwrap().unwrap();
    assert!(
        tcgetattr(&kept)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ICANON)
    );
    while desk.emulator.second_screen || !desk.emulator.cursor {
        let bytes = desk.pty.read().await.unwrap();
        desk.emulator.feed(&bytes);
    }
}

#[tokio::test]
async fn what_is_no_window_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    let error = Window::open(file).err().map(no_window).unwrap();
    assert!(error.to_string().contains("no terminal window"), "{error}");
}

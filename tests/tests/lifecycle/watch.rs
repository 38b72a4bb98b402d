//! Did a screen ever show nothing that pays, or a token that pays no more?
//!
//! One task for each screen keeps its page open and writes down every frame; the judgement is made of the
//! frames alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use harness::Failure;
use harness::kiosk::{Frame, Kiosk};
use harness::world::World;
use tokio::task::JoinHandle;

/// How long after its window the authority still takes what a screen shows, as `Pace::Quick` has it.
const QR_GRACE_MS: u64 = 6_000;
const CODE_GRACE_MS: u64 = 10_000;
/// Screens that belong to one phone, which has its token already: others wait.
const TAKEN: [&str; 3] = ["held", "paid", "ended"];

/// What a screen showed from one moment on.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at_ms: u64,
    pub(crate) online: bool,
    pub(crate) screen: String,
    pub(crate) link: Option<Shown>,
    pub(crate) code: Option<Shown>,
}

/// A token as people see it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) closes_ms: u64,
}

/// The pages of a fleet, all open.
pub(crate) struct Watch {
    began: Instant,
    pages: Vec<Page>,
}

struct Page {
    terminal: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    judged: usize,
    task: JoinHandle<()>,
}

impl Watch {
    /// Opens the page of every terminal of this world.
    pub(crate) async fn over(world: &World) -> Result<Self, Failure> {
        let began = Instant::now();
        let mut pages = Vec::new();
        for terminal in &world.terminals {
            let name = terminal.id().to_string();
            pages.push(Page::open(name, terminal.kiosk(), began).await?);
        }
        Ok(Self { began, pages })
    }

    /// What this screen shows now.
    pub(crate) fn now(&self, n: usize) -> Seen {
        let seen = self.pages[n].seen.lock().unwrap();
        seen.last().unwrap().clone()
    }

    /// Everything that was missed since the last question, by terminal and in words.
    pub(crate) fn misses(&mut self) -> Vec<String> {
        let until_ms = since(self.began);
        let judge = |page: &mut Page| page.judge(until_ms);
        self.pages.iter_mut().flat_map(judge).collect()
    }

    /// How many frames were seen, and how many different tokens.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let of = |page: &Page| {
            let seen = page.seen.lock().unwrap();
            let shown = seen.iter().flat_map(|it| [&it.link, &it.code]);
            let texts: BTreeSet<_> = shown.flatten().map(|it| it.text.clone()).collect();
            (seen.len(), texts.len())
        };
        let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        self.pages.iter().map(of).fold((0, 0), add)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pages.iter().for_each(|page| page.task.abort());
    }
}

impl Page {
    async fn open(terminal: String, kiosk: &Kiosk, began: Instant) -> Result<Self, Failure> {
        let mut page = kiosk.page().await?;
        let first = Seen::of(&page.next().await?, began);
        let seen = Arc::new(Mutex::new(vec![first]));
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            // A page that ends says nothing more, and what it showed last is judged as if it stood there.
            while let Ok(frame) = page.next().await {
                kept.lock().unwrap().push(Seen::of(&frame, began));
            }
        });
        Ok(Self {
            terminal,
            seen,
            judged: 0,
            task,
        })
    }

    fn judge(&mut self, until_ms: u64) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let found = misses(&seen[self.judged..], until_ms);
        self.judged = seen.len() - 1;
        let named = |what| format!("terminal {}: {what}", self.terminal);
        found.into_iter().map(named).collect()
    }
}

impl Seen {
    fn of(frame: &Frame, began: Instant) -> Self {
        let at_ms = since(began);
        let shown = |text: String, left_ms| Shown {
            text,
            closes_ms: at_ms + left_ms,
        };
        Self {
            at_ms,
            online: frame.online,
            screen: frame.screen.clone(),
            link: frame.link().map(|(text, left_ms)| shown(text, left_ms)),
            code: frame
                .code()
                .map(|(text, left_ms)| shown(text.to_owned(), left_ms)),
        }
    }
}

fn since(began: Instant) -> u64 {
    began.elapsed().as_millis() as u64
}

/// What was wrong with these frames, the last of which stood until `until_ms`.
pub(crate) fn misses(seen: &[Seen], until_ms: u64) -> Vec<String> {
    let ends = seen.iter().skip(1).map(|next| next.at_ms).chain([until_ms]);
    let mut found = Vec::new();
    for (frame, end_ms) in seen.iter().zip(ends) {
        let (from, for_ms) = (frame.at_ms, end_ms.saturating_sub(frame.at_ms));
        if !frame.online {
            found.push(format!("from {from} ms no stream, for {for_ms} ms"));
        }
        let taken = TAKEN.contains(&frame.screen.as_str());
        if !taken && (frame.link.is_none() || frame.code.is_none()) {
            let screen = &frame.screen;
            found.push(format!("from {from} ms blank ({screen}), for {for_ms} ms"));
        }
        for (shown, grace_ms) in [(&frame.link, QR_GRACE_MS), (&frame.code, CODE_GRACE_MS)] {
            let over = |it: &&Shown| end_ms >= it.closes_ms + grace_ms;
            if let Some(it) = shown.as_ref().filter(over) {
                let late_ms = end_ms - it.closes_ms;
                found.push(format!(
                    "from {from} ms a token {late_ms} ms past its window"
                ));
            }
        }
    }
    found.extend(came_back(seen));
    found
}

/// A token that was shown, then another, then the first again: whoever scanned it is refused.
fn came_back(seen: &[Seen]) -> Vec<String> {
    let mut found = Vec::new();
    for channel in [|it: &Seen| it.link.clone(), |it: &Seen| it.code.clone()] {
        let (mut gone, mut last) = (BTreeSet::new(), None::<String>);
        for frame in seen {
            let Some(shown) = channel(frame) else {
                continue;
            };
            if last.as_ref() == Some(&shown.text) {
                continue;
            }
            gone.extend(last.replace(shown.text.clone()));
            if gone.contains(&shown.text) {
                found.push(format!("at {} ms a token came back", frame.at_ms));
            }
        }
    }
    found
}

#[cfg(test)]
mod judging {
    use super::*;

    /// Shows tokens of these names, both until `closes_ms`.
    fn shows(at_ms: u64, link: &str, code: &str, closes_ms: u64) -> Seen {
        let shown = |text: &str| {
            (!text.is_empty()).then(|| Shown {
                text: text.into(),
                closes_ms,
            })
        };
        Seen {
            at_ms,
            online: true,
            screen: "standing".into(),
            link: shown(link),
            code: shown(code),
        }
    }

    #[test]
    fn windows_that_follow_each_other_miss_nothing() {
        let seen = [shows(0, "a", "1", 5_000), shows(5_001, "b", "2", 9_000)];
        assert_eq!(misses(&seen, 9_000), [""; 0]);
        // Late, and within the grace: it pays.
        assert_eq!(misses(&seen, 14_999), [""; 0]);
    }

    #[test]
    fn a_blank_screen_is_a_miss_unless_a_phone_has_the_token() {
        let mut seen = [shows(0, "", "1", 5_000)];
        assert_eq!(misses(&seen, 1).len(), 1);
        seen[0].screen = "held".into();
        assert_eq!(misses(&seen, 1), [""; 0]);
    }

    #[test]
    fn a_token_past_its_window_and_grace_is_a_miss() {
        let seen = [shows(0, "a", "1", 5_000)];
        let found = misses(&seen, 11_000);
        assert_eq!(found, ["from 0 ms a token 6000 ms past its window"]);
        assert_eq!(misses(&seen, 15_000).len(), 2);
    }

    #[test]
    fn a_lost_stream_is_a_miss_although_tokens_are_shown() {
        let mut seen = [shows(0, "a", "1", 5_000)];
        seen[0].online = false;
        assert_eq!(misses(&seen, 7), ["from 0 ms no stream, for 7 ms"]);
    }

    #[test]
    fn a_token_that_comes_back_is_a_miss() {
        let seen = [
            shows(0, "a", "1", 5_000),
            shows(1, "b", "1", 5_000),
            shows(2, "a", "1", 5_000),
        ];
        assert_eq!(misses(&seen, 3), ["at 2 ms a token came back"]);
    }
}

/// The judgement above is of frames; this is of a machine that stood still while others went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_stands_still_is_caught() {
    let fleet = crate::fleet::Fleet::of(2).await.unwrap();
    let mut watch = Watch::over(&fleet.world).await.unwrap();
    assert_eq!(watch.misses(), [""; 0]);
    fleet.world.terminals[1].freeze_agent().unwrap();
    let (mut missed, id) = (Vec::new(), fleet.id(1));
    let caught = async || {
        missed.extend(watch.misses());
        (!missed.is_empty()).then_some(())
    };
    harness::wait::until("a miss", caught).await.unwrap();
    assert!(missed.iter().all(|it| it.contains(&id)), "{missed:?}");
    assert!(missed[0].contains("past its window"), "{missed:?}");
    fleet.world.terminals[1].thaw_agent().unwrap();
}

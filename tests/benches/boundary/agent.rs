//! The agent's own parts under an authority of seconds, and a bare command beside them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use harness::simulated::{Authority, enrolled};
use pcsc::{Context, Protocols, Scope, ShareMode};
use pki::manager::Manager;
use protocol::aes_key::AesKey;
use protocol::ids::TerminalId;
use protocol::link::LinkHost;
use protocol::ndef;
use protocol::sun::{TagUid, template};
use protocol::time::Timestamp;
use protocol::token::MachineToken;
use protocol::window::{Policy, WindowPolicy};
use protocol::wire::reports::Seen;
use reader_agent::authority::line::Line;
use reader_agent::authority::push::Pushed;
use reader_agent::clock::{self, Clock};
use reader_agent::core::{Core, Errand as Wanted, Resumed};
use reader_agent::driver::{Answer, Driver, INBOX_MAX, empty_board};
use reader_agent::metrics::Metrics;
use reader_agent::pulse::Pulse;
use reader_agent::reader::{TagEvent, TagService};
use reader_agent::state::State;
use reader_agent::tag::{Errand, TagError, TagKeys, Wish};
use reader_agent::tag_driver::TagDriver;
use reader_agent::tag_pcsc;
use reader_agent::upkeep_driver::Kept;
use tokio::sync::{Notify, mpsc, watch};

use super::{DIR, Fault, Found};

/// Windows that are measured, after the first.
pub(crate) const WINDOWS: usize = 40;
const BARE_COMMANDS: usize = 1_000;
/// NTAG and 424 answer this alike: who are you?
const GET_UID: [u8; 5] = [0xFF, 0xCA, 0, 0, 0];
/// One boundary every second or two.
const NFC: WindowPolicy = WindowPolicy {
    shortest_ms: 1_000,
    longest_ms: 2_000,
    grace_ms: 30_000,
};

pub(crate) fn measure() -> Result<(), Fault> {
    let bare_ms = bare()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let took_ms = runtime.block_on(boundaries())?;
    println!("{}", serde_json::to_string(&Found { took_ms, bare_ms })?);
    Ok(())
}

/// The median of one command, in milliseconds.
fn bare() -> Result<f64, Fault> {
    let context = Context::establish(Scope::User)?;
    let readers = context.list_readers_owned()?;
    let reader = readers.first().ok_or("no reader")?;
    let card = context.connect(reader, ShareMode::Shared, Protocols::ANY)?;
    let mut answer = [0; 64];
    let mut took = Vec::with_capacity(BARE_COMMANDS);
    for _ in 0..BARE_COMMANDS {
        let begun = Instant::now();
        card.transmit(&GET_UID, &mut answer)?;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(super::page::median(&took))
}

async fn boundaries() -> Result<Vec<f64>, Fault> {
    let id = TerminalId::from_number(1_234_001)?;
    let dir = PathBuf::from(std::env::var(DIR)?);
    let state = Arc::new(State::open(&dir.join("agent.db"))?);
    let (tag, mut events) = tag_pcsc::start(None, state.clone())?;
    let uid = arrived(&mut events).await?;
    personalise(&tag, uid, id).await?;
    let clock = Arc::new(Clock::start(None));
    let (identity, trust) = enrolled(id);
    let line = Line::new("https://127.0.0.1:1", identity, trust, clock.clone())?;
    let policy = Policy {
        nfc: NFC,
        ..Policy::default()
    };
    let mut authority = Authority::with_policy(id, policy);
    let (board_in, board) = watch::channel(empty_board(id));
    let (pushed_in, pushed) = mpsc::channel(INBOX_MAX);
    let (answers_in, answers) = mpsc::channel(INBOX_MAX);
    let (errands_in, mut errands) = mpsc::channel(INBOX_MAX);
    let (_stop, stop) = watch::channel(false);
    let (_kept, kept) = watch::channel(Kept::default());
    let (metrics, reports) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
    let driver = Driver {
        core: Core::resume(id, Resumed::default()),
        clock: clock.clone(),
        state: state.clone(),
        metrics: metrics.clone(),
        line: Arc::new(line),
        kept,
        pushed,
        errands: errands_in,
        answers,
        key_missing: Arc::default(),
        board: board_in,
        pulse: Pulse::new(Arc::new(Manager::default())),
        stop: stop.clone(),
        asked: None,
        alive: None,
    };
    let tag_driver = TagDriver {
        writer: Arc::new(tag),
        events,
        board,
        state: state.clone(),
        clock: clock.clone(),
        metrics,
        reports: reports.clone(),
        stop,
    };
    let tasks = [tokio::spawn(driver.run()), tokio::spawn(tag_driver.run())];
    let asked = clock.ticks_ms();
    pushed_in.send(Pushed::Connected { asked }).await?;
    let frame = authority.frame(clock::wall());
    pushed_in.send(Pushed::State(Box::new(frame))).await?;
    let mut took = Vec::new();
    let mut is_first = true;
    while took.len() < WINDOWS {
        tokio::select! {
            Some(wanted) = errands.recv() => {
                let answer = match wanted {
                    Wanted::Keys => Answer::Keys(authority.keys()),
                    Wanted::Schedule(fetch) => {
                        let response = authority.schedule(fetch, clock::wall());
                        response.map_or(Answer::NothingNew, |it| Answer::Schedule(it, fetch))
                    }
                };
                answers_in.send(answer).await?;
            }
            () = reports.notified() => {
                for at in written(&state, &authority)? {
                    // The tag was empty before the first.
                    if !std::mem::take(&mut is_first) {
                        took.push(at);
                    }
                }
            }
        }
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(took)
}

/// Milliseconds from boundary to read-back, of what was written since the last look.
fn written(state: &State, authority: &Authority) -> Result<Vec<f64>, Fault> {
    let events = state.oldest(64)?;
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    state.forget(&ids)?;
    let since = |at: Timestamp, what: &Seen| match what {
        Seen::TagWritten { window: w, .. } => {
            let opens = authority.opens(w.epoch, w.channel, w.window)?;
            Some((at - opens) as f64)
        }
        _ => None,
    };
    Ok(events.iter().filter_map(|e| since(e.at, &e.what)).collect())
}

async fn arrived(events: &mut mpsc::Receiver<TagEvent>) -> Result<TagUid, Fault> {
    while let Some(event) = events.recv().await {
        if let TagEvent::TagArrived { uid } = event {
            return TagUid::from_slice(&uid).ok_or_else(|| "a tag of another kind".into());
        }
    }
    Err("the reader's threads have ended".into())
}

/// A tag that can hold keys gets some; an NTAG213 stays as it was delivered.
async fn personalise(tag: &TagService, uid: TagUid, id: TerminalId) -> Result<(), Fault> {
    let keys = [0x81, 0x91, 0xA1, 0xB1, 0xC1].map(|byte| AesKey::from_bytes([byte; 16]));
    let link = LinkHost::parse("pay.example")?.link(id, &MachineToken::from_bytes([0; 16]));
    let message = ndef::uri_message(&template(&link))?;
    let wish = Wish {
        keys: Some(TagKeys::new(uid, 1, keys)?),
        old_keys: None,
        signed_message: Some(message.len() as u8),
    };
    match tag.carry_out(Errand::Personalise(Box::new(wish))).await {
        Ok(_) | Err(TagError::NoKeysHere) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

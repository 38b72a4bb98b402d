//! What does the agent's tag service do, seen from another process?
//!
//! ```text
//! tag-probe [--scratch DIR] [--reader NAME] [--call-limit-ms N] [--database FILE]     show ID HEX · blank ID · status     drives the service
//! tag-probe --hold-exclusively READER               plays other software that keeps the reader
//! tag-probe --hold-transaction READER               the same, politely shared
//! ```

use clap::Parser;
use reader_agent::reader::{TagConfig, TagEvent, TagService, Visit};
use reader_agent::state::State;
use reader_agent::tag::TagError;
use serde_json::{Value, json};
use std::ffi::CString;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long to wait at most for a reader to be let go before trying again.
const NEXT_TRY: Duration = Duration::from_millis(100);

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    reader: Option<String>,
    #[arg(long)]
    call_limit_ms: Option<u64>,
    /// Where what is known of tags is kept; a file in the scratch directory if not given.
    #[arg(long)]
    database: Option<PathBuf>,
    /// A directory of the test's, which goes with it.
    #[arg(long, default_value = ".")]
    scratch: PathBuf,
    #[arg(long)]
    hold_exclusively: Option<CString>,
    #[arg(long)]
    hold_transaction: Option<CString>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    if let Some(reader) = &arguments.hold_exclusively {
        return Ok(hold(reader, pcsc::ShareMode::Exclusive)?);
    }
    if let Some(reader) = &arguments.hold_transaction {
        return Ok(hold(reader, pcsc::ShareMode::Shared)?);
    }
    let database = arguments.database.clone();
    let database = database.unwrap_or_else(|| arguments.scratch.join("agent.db"));
    let safe = Arc::new(State::open(&database)?);
    let (service, mut events) = TagService::start(config(arguments, safe))?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            print(&event_line(&event));
        }
    });
    tokio::task::spawn_blocking(move || read_commands(&service)).await?;
    Ok(())
}

fn config(arguments: Arguments, safe: Arc<State>) -> TagConfig {
    let mut config = TagConfig {
        reader_name: arguments.reader,
        ..TagConfig::new(safe)
    };
    if let Some(limit) = arguments.call_limit_ms {
        config.call_limit = Duration::from_millis(limit);
    }
    config
}

/// Keeps a reader to itself until the end of input.
fn hold(reader: &CString, share: pcsc::ShareMode) -> Result<(), pcsc::Error> {
    let context = pcsc::Context::establish(pcsc::Scope::System)?;
    let mut states = [pcsc::ReaderState::new(reader.clone(), pcsc::State::UNAWARE)];
    loop {
        match hold_once(&context, reader, share) {
            Err(pcsc::Error::SharingViolation | pcsc::Error::ResetCard) => {}
            done => return done,
        }
        // The agent is at it: the reader's state changes when it lets go.
        let _ = context.get_status_change(NEXT_TRY, &mut states);
        states[0].sync_current_state();
    }
}

fn hold_once(
    context: &pcsc::Context,
    reader: &CString,
    share: pcsc::ShareMode,
) -> Result<(), pcsc::Error> {
    let mut card = context.connect(reader, share, pcsc::Protocols::ANY)?;
    let vendor = card.get_attribute_owned(pcsc::Attribute::VendorName)?;
    let transaction = card.transaction()?;
    print(&json!({"event": "held", "vendor": String::from_utf8_lossy(&vendor)}));
    io::stdin().lock().lines().for_each(drop);
    drop(transaction);
    Ok(())
}

fn read_commands(service: &TagService) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["show", job, message] => show(service, job, bytes(message)),
            ["show" | "blank", job] => show(service, job, Vec::new()),
            ["status"] => print(&status_line(service)),
            _ => print(&json!({"error": format!("no such command: {line}")})),
        }
    }
}

fn show(service: &TagService, job: &str, message: Vec<u8>) {
    let job: u64 = job.parse().unwrap_or(0);
    let service = service.clone();
    // Polled once right here, so that jobs reach the service in the order of their lines.
    let mut showing = Box::pin(async move { service.show(message).await });
    let first = Handle::current().block_on(async {
        tokio::select! { biased; result = &mut showing => Some(result), () = std::future::ready(()) => None }
    });
    Handle::current().spawn(async move {
        let result = match first {
            Some(result) => result,
            None => showing.await,
        };
        print(&result_line(job, result));
    });
}

fn result_line(job: u64, result: Result<Visit, TagError>) -> Value {
    match result {
        Ok(visit) => json!({
            "job": job, "ok": true, "uid": hex(&visit.tag_uid), "pages_written": visit.pages_written,
            "taps": visit.taps_since_last, "counter": visit.counter,
            "counter_found": visit.counter_found,
            "area": hex(&visit.area), "field_off": visit.field_off,
        }),
        Err(error) => {
            json!({"job": job, "ok": false, "kind": error.kind(), "message": error.to_string()})
        }
    }
}

fn event_line(event: &TagEvent) -> Value {
    match event {
        TagEvent::ReaderArrived { name } => json!({"event": "reader_arrived", "name": name}),
        TagEvent::ReaderReady => json!({"event": "reader_ready"}),
        TagEvent::ReaderGone => json!({"event": "reader_gone"}),
        TagEvent::TagArrived { uid } => json!({"event": "tag_arrived", "uid": hex(uid)}),
        TagEvent::TagRemoved => json!({"event": "tag_removed"}),
        TagEvent::TagRefused(error) => json!({"event": "tag_refused", "kind": error.kind()}),
        TagEvent::PcscdAbsent => json!({"event": "pcscd_absent"}),
        TagEvent::PcscdBack => json!({"event": "pcscd_back"}),
    }
}

fn status_line(service: &TagService) -> Value {
    let status = service.status();
    json!({"status": {
        "service_trouble": status.service_trouble.map(|error| error.kind()), "reader": status.reader,
        "uid": status.tag_uid.map(|uid| hex(&uid)),
        "field_control": format!("{:?}", status.field_control),
        "last_error": status.last_error.map(|error| error.to_string()),
    }})
}

/// One line in one write, so that lines of two threads do not mix.
fn print(line: &Value) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |i: usize| {
        hex.get(i..i + 2)
            .and_then(|d| u8::from_str_radix(d, 16).ok())
    };
    (0..hex.len()).step_by(2).filter_map(digit).collect()
}

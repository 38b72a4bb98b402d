//! How is the agent put together, run and stopped?

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pki::manager::Manager;
use protocol::time::Millis;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::authority::line::Line;
use crate::authority::push::{Follower, Noticed};
use crate::clock::Clock;
use crate::config::{Config, TagPath};
use crate::core::{Board, Core};
use crate::display::Display;
use crate::driver::{self, Driver, INBOX_MAX};
use crate::error::AgentError;
use crate::files::Secret;
use crate::health::Health;
use crate::identity::Lasts;
use crate::identity::disk::{IdentityFiles, Next};
use crate::kiosk::{self, Kiosk};
use crate::listen::{self, Served};
use crate::look::Look;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::reader::TagEvent;
use crate::state::State;
use crate::tag_driver::TagDriver;
use crate::tag_writer::TagWriter;
use crate::till::{STREAMS_MAX, Till};
use crate::trust::TrustFiles;
use crate::upkeep_driver::{Kept, Supplies, UpkeepDriver};
use crate::{ids, outbox, tag_pcsc};

pub const DATABASE: &str = "agent.db";
pub const KIOSK_SECRET: &str = "kiosk.secret";
pub const TILL_SECRET: &str = "till.secret";
/// Where a running agent writes the address it listens on.
pub const KIOSK_ADDRESS: &str = "kiosk.addr";
/// How long stopping may take, the tag included.
pub const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// The parts that all tasks share.
struct Parts {
    line: Arc<Line>,
    identity_files: IdentityFiles,
    trust_files: TrustFiles,
    clock: Arc<Clock>,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    manager: Arc<Manager>,
    kept: watch::Sender<Kept>,
    board: watch::Sender<Board>,
    reports: Arc<Notify>,
    key_missing: Arc<Notify>,
    upkeep_spread_ms: Millis,
    stop: watch::Sender<bool>,
}

/// An agent at work.
pub struct Running {
    /// Where screen, till and metrics are served.
    pub address: SocketAddr,
    #[cfg(test)]
    board: watch::Sender<Board>,
    stop: watch::Sender<bool>,
    /// End in good order when told to.
    tasks: Vec<JoinHandle<()>>,
    /// Talk to the authority, and may be cut off at any moment.
    callers: Vec<JoinHandle<()>>,
}

/// Builds, runs until told to stop or until it cannot go on, drains.
pub async fn run(
    config: Config,
    manager: Manager,
    told: impl Future<Output = std::io::Result<()>>,
) -> Result<(), AgentError> {
    let manager = Arc::new(manager);
    let mut running = start(config, manager.clone()).await?;
    manager.ready();
    let why = tokio::select! {
        told = told => told.map_err(|e| AgentError::bug(format!("signals cannot be waited for: {e}"))),
        () = running.crippled() => Err(AgentError::bug("a task of the agent ended by itself")),
    };
    tracing::info!("stopping");
    manager.stopping();
    running.stop().await;
    why
}

/// Opens everything and starts all tasks.
pub async fn start(config: Config, manager: Arc<Manager>) -> Result<Running, AgentError> {
    let (parts, next) = Parts::build(&config, manager)?;
    warn_of_certificate(&parts);
    let (listener, address) = listen::bind(config.listen).await?;
    let tag = Tag::start(&config, &parts)?;
    let look = Arc::new(look(&config));
    let (display, trouble) = parts.display(&config, &look);
    let served = parts.served(&config, &look, trouble, tag.writer.clone())?;
    write_address(&config.data_dir, address)?;
    tracing::info!(terminal = %config.terminal, %address, authority = config.authority, "running");
    let noticed = Arc::new(watch::Sender::default());
    let (driver, callers) = parts.spawn_driver(noticed.clone())?;
    let mut tasks = vec![driver, parts.spawn_upkeep(next, &noticed)];
    tasks.extend(tag.spawn(&parts));
    tasks.extend(display.map(|display| tokio::spawn(display.run())));
    let stop = parts.stop.subscribe();
    tasks.push(tokio::spawn(listen::serve(listener, address, served, stop)));
    Ok(Running {
        address,
        #[cfg(test)]
        board: parts.board,
        stop: parts.stop,
        tasks,
        callers,
    })
}

impl Running {
    /// Returns when a part has ended that goes on until it is told to stop: without it the rest is no
    /// terminal, and a new start is better than none.
    async fn crippled(&mut self) {
        let (ended, ..) = futures_util::future::select_all(&mut self.tasks).await;
        if let Err(error) = ended {
            tracing::error!("a task ended badly: {error}");
        }
        // What has ended must not be waited for again.
        self.tasks.retain(|task| !task.is_finished());
    }

    /// Blanks the tag, remembers the clock, ends open answers; all within [`STOP_DEADLINE`].
    pub async fn stop(self) {
        // Receivers hold the tasks; without any there is nothing to stop.
        let _ = self.stop.send(true);
        drain(self.tasks).await;
        self.callers.iter().for_each(JoinHandle::abort);
    }
}

/// The address that opens the screen of a running agent.
pub fn kiosk_url(config: &Config) -> Result<String, AgentError> {
    let path = config.data_dir.join(KIOSK_ADDRESS);
    let text = std::fs::read_to_string(&path).map_err(|_| {
        AgentError::new(
            crate::error::Whose::Later,
            "the agent has not run here yet",
            "start it: m2key-agent run --config <file>",
        )
    })?;
    let address = text.trim().parse().map_err(AgentError::bug)?;
    let secret = Secret::load_or_make(&config.data_dir.join(KIOSK_SECRET))?;
    Ok(kiosk::url(address, &secret))
}

impl Parts {
    fn build(config: &Config, manager: Arc<Manager>) -> Result<(Self, Next), AgentError> {
        let identity_files = IdentityFiles::in_dir(&config.data_dir);
        let found = identity_files.load()?;
        let identity = found.current;
        if identity.terminal() != config.terminal {
            return Err(AgentError::operator(
                format!(
                    "the certificate is for terminal {}, the configuration for {}",
                    identity.terminal(),
                    config.terminal
                ),
                "use the configuration and the data directory of one enrolment",
            ));
        }
        let trust_files = TrustFiles::in_dir(&config.data_dir);
        let state = State::open(&config.data_dir.join(DATABASE))?;
        let clock = Arc::new(Clock::start(state.clock()?));
        let (trust, at) = (trust_files.load()?, &config.authority);
        let line = Line::new(at, identity, trust, clock.clone())?;
        let parts = Self {
            clock,
            board: watch::channel(driver::empty_board(config.terminal)).0,
            line: Arc::new(line),
            identity_files,
            trust_files,
            state: Arc::new(state),
            metrics: Arc::new(Metrics::new()),
            manager,
            kept: watch::Sender::default(),
            reports: Arc::new(Notify::new()),
            key_missing: Arc::new(Notify::new()),
            upkeep_spread_ms: config.upkeep_spread_ms,
            stop: watch::channel(false).0,
        };
        Ok((parts, found.next))
    }

    fn served(
        &self,
        config: &Config,
        look: &Arc<Look>,
        display: watch::Receiver<Option<String>>,
        tag: Option<Arc<dyn TagWriter>>,
    ) -> Result<Served, AgentError> {
        let secret = |name| Secret::load_or_make(&config.data_dir.join(name)).map(Arc::new);
        Ok(Served {
            kiosk: Kiosk {
                board: self.board.subscribe(),
                secret: secret(KIOSK_SECRET)?,
                look: look.clone(),
            },
            till: Till {
                desk: self.line.clone(),
                books: self.line.clone(),
                board: self.board.subscribe(),
                secret: secret(TILL_SECRET)?,
                state: self.state.clone(),
                clock: self.clock.clone(),
                key_missing: self.key_missing.clone(),
                streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            },
            health: Health {
                board: self.board.subscribe(),
                line: self.line.clone(),
                kept: self.kept.subscribe(),
                clock: self.clock.clone(),
                state: self.state.clone(),
                tag,
                look: look.clone(),
                display,
            },
            metrics: self.metrics.clone(),
        })
    }

    /// The customer display, if there is one, and what is wrong with it.
    fn display(
        &self,
        config: &Config,
        look: &Arc<Look>,
    ) -> (Option<Display>, watch::Receiver<Option<String>>) {
        let (trouble, troubles) = watch::channel(None);
        let display = config.screens.display.clone().map(|port| Display {
            port,
            look: look.clone(),
            board: self.board.subscribe(),
            trouble,
            stop: self.stop.subscribe(),
        });
        (display, troubles)
    }

    /// The driver, and the tasks that talk to the authority for it.
    fn spawn_driver(
        &self,
        noticed: Arc<watch::Sender<Noticed>>,
    ) -> Result<(JoinHandle<()>, Vec<JoinHandle<()>>), AgentError> {
        let (pushed_in, pushed) = mpsc::channel(INBOX_MAX);
        let (errands, errands_out) = mpsc::channel(1);
        let (answers_in, answers) = mpsc::channel(INBOX_MAX);
        let core = Core::resume(self.line.now().identity.terminal(), self.state.resume()?);
        let revision = core.revision();
        let driver = Driver {
            core,
            clock: self.clock.clone(),
            state: self.state.clone(),
            metrics: self.metrics.clone(),
            line: self.line.clone(),
            kept: self.kept.subscribe(),
            pushed,
            errands,
            answers,
            key_missing: self.key_missing.clone(),
            board: self.board.clone(),
            pulse: Pulse::new(self.manager.clone()),
            stop: self.stop.subscribe(),
            asked: None,
            alive: None,
        };
        let follower = Follower {
            line: self.line.clone(),
            state: self.state.clone(),
            last: revision.map(|r| r.to_string()),
            heard: pushed_in,
            noticed,
            instance: ids::instance(),
        };
        let line = || self.line.clone();
        let callers = vec![
            tokio::spawn(follower.follow()),
            tokio::spawn(driver::run_errands(line(), errands_out, answers_in)),
            tokio::spawn(outbox::upload(
                line(),
                self.state.clone(),
                self.reports.clone(),
                self.metrics.clone(),
            )),
        ];
        Ok((tokio::spawn(driver.run()), callers))
    }

    fn spawn_upkeep(&self, next: Next, noticed: &watch::Sender<Noticed>) -> JoinHandle<()> {
        let driver = UpkeepDriver::new(Supplies {
            spread_ms: self.upkeep_spread_ms,
            line: self.line.clone(),
            next,
            identity_files: self.identity_files.clone(),
            trust_files: self.trust_files.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            noticed: noticed.subscribe(),
            kept: self.kept.clone(),
            stop: self.stop.subscribe(),
        });
        tokio::spawn(driver.run())
    }
}

/// The tag of this terminal, if it has one.
struct Tag {
    writer: Option<Arc<dyn TagWriter>>,
    events: Option<mpsc::Receiver<TagEvent>>,
}

impl Tag {
    fn start(config: &Config, parts: &Parts) -> Result<Self, AgentError> {
        let TagPath::Pcsc { reader_name } = &config.tag else {
            return Ok(Self {
                writer: None,
                events: None,
            });
        };
        let (service, events) = tag_pcsc::start(reader_name.clone(), parts.state.clone())?;
        Ok(Self {
            writer: Some(Arc::new(service)),
            events: Some(events),
        })
    }

    fn spawn(self, parts: &Parts) -> Option<JoinHandle<()>> {
        let driver = TagDriver {
            writer: self.writer?,
            events: self.events?,
            board: parts.board.subscribe(),
            state: parts.state.clone(),
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
            reports: parts.reports.clone(),
            stop: parts.stop.subscribe(),
        };
        Some(tokio::spawn(driver.run()))
    }
}

fn look(config: &Config) -> Look {
    let screens = &config.screens;
    let look = Look::load(screens.language, screens.theme_file.as_deref());
    if let Some(trouble) = &look.trouble {
        tracing::warn!("the screen keeps its plain look: {trouble}");
    }
    look
}

fn warn_of_certificate(parts: &Parts) {
    match parts.line.now().identity.lasts(parts.clock.now_or_wall()) {
        Lasts::Long => {}
        Lasts::Expiring { until } => tracing::warn!("{}", driver::expiring(until)),
        Lasts::Expired { since } => tracing::error!("{}", driver::expired(since)),
    }
}

async fn drain(tasks: Vec<JoinHandle<()>>) {
    let all = async {
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!("a task ended badly: {error}");
            }
        }
    };
    if tokio::time::timeout(STOP_DEADLINE, all).await.is_err() {
        tracing::warn!("not everything stopped in time");
    }
}

fn write_address(dir: &Path, address: SocketAddr) -> Result<(), AgentError> {
    let path = dir.join(KIOSK_ADDRESS);
    std::fs::write(&path, format!("{address}\n")).map_err(|e| AgentError::file(&path, &e))
}

#[cfg(test)]
mod tests;

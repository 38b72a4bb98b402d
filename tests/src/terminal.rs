//! What stands on the counter? A PC with a reader, a tag on it, and `m2key-agent`.

use std::path::{Path, PathBuf};

use protocol::ids::TerminalId;
use protocol::ndef;
use protocol::wire::schedules::{SCHEDULE_PATH, ScheduleResponse};

use crate::authority::Authority;
use crate::kiosk::Kiosk;
use crate::pcsc::{Pcscd, TagModel, VirtualReader, VirtualTag};
use crate::process::{Daemon, Said, command};
use crate::till::Till;
use crate::{Failure, ports, web};

/// A terminal with real parts; what is dropped first stands first.
pub struct Terminal {
    id: TerminalId,
    agent: Option<Daemon>,
    reader: Option<Reader>,
    kiosk: Kiosk,
    till: Option<Till>,
    dir: PathBuf,
    logs: PathBuf,
    authority_root: PathBuf,
    agents_url: String,
}

/// A PC/SC reader with a tag on it.
struct Reader {
    pcscd: Pcscd,
    reader: VirtualReader,
}

/// Within which time a terminal that has only a screen begins what is asked of every terminal at once.
pub const SCREENS_SPREAD_MS: u64 = 1_500;

impl Terminal {
    /// Reader and tag are there, and the agent has enrolled with the join token in this file.
    pub fn enrol(
        dir: &Path,
        authority: &Authority,
        id: TerminalId,
        join_token: &Path,
        logs: &Path,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let reader = VirtualReader::acr122u(dir)?;
        let pcscd = Pcscd::launch(dir, &[reader.entry()])?;
        reader.place(VirtualTag::new(id.number()));
        let mut terminal = Self::enrolled(dir, authority, id, join_token, logs, "")?;
        terminal.reader = Some(Reader { pcscd, reader });
        Ok(terminal)
    }

    /// The same without a reader: only a screen.
    pub fn enrol_screen(
        dir: &Path,
        authority: &Authority,
        id: TerminalId,
        join_token: &Path,
        logs: &Path,
    ) -> Result<Self, Failure> {
        let more = format!("tag = \"none\"\nupkeep_spread_ms = {SCREENS_SPREAD_MS}\n");
        Self::enrolled(dir, authority, id, join_token, logs, &more)
    }

    fn enrolled(
        dir: &Path,
        authority: &Authority,
        id: TerminalId,
        join_token: &Path,
        logs: &Path,
        configuration: &str,
    ) -> Result<Self, Failure> {
        let data = dir.join("agent");
        let agents_url = authority.agents_url()?;
        let mut enrol = command("m2key-agent")?;
        enrol
            .args(["enrol", "--non-interactive", "--dir"])
            .arg(&data);
        enrol.args(["--authority", &agents_url]);
        enrol.args(["--root-fingerprint", authority.root_fingerprint()]);
        enrol.arg("--join-token-file").arg(join_token);
        Said::by(&mut enrol)?.ok()?;
        configure(&data.join("agent.toml"), ports::free()?, configuration)?;
        Ok(Self {
            id,
            agent: None,
            reader: None,
            kiosk: Kiosk::of(&data)?,
            till: None,
            dir: data,
            logs: logs.to_owned(),
            authority_root: authority.root(),
            agents_url,
        })
    }

    /// Starts the agent and waits until its screen shows tokens.
    pub async fn run(&mut self) -> Result<(), Failure> {
        self.start().await?;
        self.kiosk.faces().await?;
        Ok(())
    }

    /// Starts the agent and waits until its screen answers, whatever it shows.
    pub async fn start(&mut self) -> Result<(), Failure> {
        let mut run = command("m2key-agent")?;
        run.arg("run").arg("--config").arg(self.file("agent.toml"));
        if let Some(Reader { pcscd, .. }) = &self.reader {
            run.env("PCSCLITE_CSOCK_NAME", pcscd.socket());
        }
        let name = format!("m2key-agent-{}", self.id);
        let mut agent = Daemon::start(&name, run, &self.logs)?;
        let kiosk = &self.kiosk;
        let opened = async || kiosk.open().await.ok();
        agent.ready("the terminal's screen", opened).await?;
        let secret = std::fs::read_to_string(self.file("till.secret"))?;
        self.till = Some(Till::at(&self.kiosk.address()?, &secret)?);
        self.agent = Some(agent);
        Ok(())
    }

    /// SIGKILL, as if the power had gone; pcscd, reader and tag stay.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// SIGTERM, and its exit code; pcscd, reader and tag stay.
    pub async fn stop_agent(&mut self) -> Result<Option<i32>, Failure> {
        match self.agent.take() {
            Some(mut agent) => agent.stop().await,
            None => Err(Failure::new("the agent does not run")),
        }
    }

    /// A command of the agent's about this terminal, whatever comes of it.
    pub fn ask(&self, arguments: &[&str]) -> Result<Said, Failure> {
        let socket = self.reader.as_ref().map(|it| it.pcscd.socket());
        self.ask_at(&socket.unwrap_or_default(), arguments)
    }

    /// The same, with another card service on this machine.
    pub fn ask_at(&self, card_service: &Path, arguments: &[&str]) -> Result<Said, Failure> {
        let mut ask = command("m2key-agent")?;
        ask.args(arguments)
            .arg("--config")
            .arg(self.file("agent.toml"));
        ask.env("PCSCLITE_CSOCK_NAME", card_service);
        Said::by(&mut ask)
    }

    /// Somebody takes the tag.
    pub fn take_tag(&self) -> Result<(), Failure> {
        let reader = self.reader.as_ref();
        let tag = reader.and_then(|it| it.reader.remove());
        tag.map(drop)
            .ok_or_else(|| Failure::new("no tag lies on the reader"))
    }

    /// The reader, for whoever turns its screws.
    pub fn reader(&self) -> Result<&VirtualReader, Failure> {
        let reader = self.reader.as_ref().map(|it| &it.reader);
        reader.ok_or_else(no_reader)
    }

    /// The card service of this machine.
    pub fn card_service(&mut self) -> Result<&mut Pcscd, Failure> {
        let reader = self.reader.as_mut().map(|it| &mut it.pcscd);
        reader.ok_or_else(no_reader)
    }

    /// SIGSTOP: the machine stands still, and every connection stays as it is.
    pub fn freeze_agent(&self) -> Result<(), Failure> {
        self.running()?.signal("STOP")
    }

    /// SIGCONT.
    pub fn thaw_agent(&self) -> Result<(), Failure> {
        self.running()?.signal("CONT")
    }

    /// The process of its agent.
    pub fn agent_pid(&self) -> Result<u32, Failure> {
        Ok(self.running()?.pid())
    }

    /// The process of its card service.
    pub fn pcscd_pid(&self) -> Result<u32, Failure> {
        let reader = self.reader.as_ref().ok_or_else(no_reader)?;
        let pid = reader.pcscd.pid();
        pid.ok_or_else(|| Failure::new("pcscd does not run"))
    }

    fn running(&self) -> Result<&Daemon, Failure> {
        let agent = self.agent.as_ref();
        agent.ok_or_else(|| Failure::new("the agent does not run"))
    }

    pub fn id(&self) -> TerminalId {
        self.id
    }

    pub fn kiosk(&self) -> &Kiosk {
        &self.kiosk
    }

    pub fn till(&self) -> Result<&Till, Failure> {
        let till = self.till.as_ref();
        till.ok_or_else(|| Failure::new("the agent does not run"))
    }

    /// What a phone reads now: nothing while the reader holds the tag, or while it is blank.
    pub fn tap(&self) -> Option<String> {
        let message = self.reader.as_ref()?.reader.tap().ok()??;
        ndef::read_uri(&message).ok()
    }

    /// Another tag lies on the reader. The service starts anew: no hand is so quick that a real one would
    /// take it for the tag of before.
    pub fn replace_tag(&mut self, tag: impl Into<TagModel>) -> Result<(), Failure> {
        let Reader { pcscd, reader } = self.reader.as_mut().ok_or_else(no_reader)?;
        pcscd.kill();
        reader.remove_any();
        reader.place(tag);
        Ok(pcscd.start()?)
    }

    /// `m2key-agent tag`, while the agent does not run.
    pub fn tag_verb(&self, args: &[&str]) -> Result<Said, Failure> {
        let pcscd = &self.reader.as_ref().ok_or_else(no_reader)?.pcscd;
        let mut verb = command("m2key-agent")?;
        verb.arg("tag").args(args).current_dir(&self.dir);
        verb.args(["--config", "agent.toml"]);
        verb.env("PCSCLITE_CSOCK_NAME", pcscd.socket());
        Said::by(&mut verb)?.ok()
    }

    /// The tag's raw memory, from page 0.
    pub fn tag_memory(&self) -> Result<Vec<u8>, Failure> {
        let reader = self.reader.as_ref();
        let memory = reader.and_then(|it| it.reader.with_tag(|tag| tag.memory()));
        memory.ok_or_else(|| Failure::new("no tag lies on the reader"))
    }

    /// A file of the agent's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What the authority issues to this terminal, asked for with its certificate.
    pub async fn schedule(&self) -> Result<ScheduleResponse, Failure> {
        let (certificate, key) = (self.file("agent.pem"), self.file("agent.key"));
        let http = web::identified(&self.authority_root, &certificate, &key)?;
        let get = http.get(format!("{}{SCHEDULE_PATH}", self.agents_url));
        let response = get.send().await.map_err(|e| web::sent(&e))?;
        let answer = web::read_answer(response).await?;
        answer.map_err(|problem| Failure::new(problem.title))
    }
}

fn no_reader() -> Failure {
    Failure::new("this terminal has only a screen")
}

fn configure(config: &Path, port: u16, more: &str) -> Result<(), Failure> {
    let text = std::fs::read_to_string(config).map_err(Failure::of(config.display()))?;
    let listen = format!("kiosk_listen = \"127.0.0.1:{port}\"\n");
    Ok(std::fs::write(config, format!("{listen}{more}{text}"))?)
}

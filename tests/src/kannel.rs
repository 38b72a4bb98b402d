//! How does a real SMS gateway come up, with phones that only text?
//!
//! ```text
//! fakesmsc (a phone texts) ─▶ bearerbox ─▶ smsbox ─▶ the authority
//!          (and is told)   ◀─           ◀─        ◀─
//! ```
//! bearerbox and smsbox as Debian has them, configured by `config/kannel.conf.in`; the message centre is
//! Kannel's own fake one, a process for each text.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Daemon;
use crate::{Failure, ports, wait, web};

/// What shoppers write to.
pub const SHORT_NUMBER: &str = "12345";
/// The link of the carrier's own phones, and one of everybody else's.
pub const HOME: &str = "home";
pub const ROAMING: &str = "roaming";

const TEMPLATE: &str = include_str!("../../config/kannel.conf.in");
const FAKESMSC: &str = "/usr/lib/kannel/test/fakesmsc";
/// Between two attempts of smsbox to bring a text, in seconds.
const RETRY_S: &str = "1";

/// A gateway in a folder.
pub struct Kannel {
    dir: PathBuf,
    logs: PathBuf,
    ports: Ports,
    secret: String,
    password: String,
    links: Vec<Link>,
    smsbox: Option<Daemon>,
    bearerbox: Option<Daemon>,
}

struct Ports {
    admin: u16,
    smsbox: u16,
    sendsms: u16,
}

/// One link to a message centre, and whoever texts over it now.
struct Link {
    id: &'static str,
    port: u16,
    phone: Option<Daemon>,
    texts: usize,
}

/// An SMS as a phone gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub to: String,
    pub text: String,
}

impl Kannel {
    /// Chooses ports and secrets; nothing runs yet.
    pub fn prepare(dir: &Path, logs: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let link = |id| {
            Ok::<_, Failure>(Link {
                id,
                port: ports::free()?,
                phone: None,
                texts: 0,
            })
        };
        let kannel = Self {
            dir: dir.to_owned(),
            logs: logs.to_owned(),
            ports: Ports {
                admin: ports::free()?,
                smsbox: ports::free()?,
                sendsms: ports::free()?,
            },
            secret: random()?,
            password: random()?,
            links: vec![link(HOME)?, link(ROAMING)?],
            smsbox: None,
            bearerbox: None,
        };
        kannel.write("sms.secret", &kannel.secret)?;
        kannel.write("sendsms.password", &kannel.password)?;
        Ok(kannel)
    }

    /// The section of the authority's configuration.
    pub fn section(&self, rail: &str) -> String {
        let file = |name: &str| self.dir.join(name).display().to_string();
        format!(
            "\n[sms]\ncarrier = \"home\"\nshort_number = \"{SHORT_NUMBER}\"\non_net = [\"{HOME}\"]\n\
             prefixes = [\"+336\"]\nrail = \"{rail}\"\nsecret_file = \"{}\"\n\
             send_url = \"http://127.0.0.1:{}/cgi-bin/sendsms\"\nsend_user = \"m2key\"\n\
             send_password_file = \"{}\"\n",
            file("sms.secret"),
            self.ports.sendsms,
            file("sendsms.password"),
        )
    }

    /// Starts both boxes; texts go to the authority at this address, `127.0.0.1:9464`.
    pub async fn start(&mut self, authority: &str) -> Result<(), Failure> {
        let configuration = self.write("kannel.conf", &self.configuration(authority))?;
        let log = self.logs.clone();
        let boxed = |name: &str| {
            let mut command = Command::new(name);
            // Warnings: what it logs below names texts and numbers.
            command
                .args(["-v", "2"])
                .arg(&configuration)
                .current_dir("/");
            Daemon::start(name, command, &log).map_err(|error| {
                Failure::new(format!("{error}: apt-get install -y kannel kannel-extras"))
            })
        };
        let http = web::plain()?;
        let (port, password) = (self.ports.admin, &self.password);
        let url = format!("http://127.0.0.1:{port}/status.txt?password={password}");
        let status = async || {
            let answer = http.get(&url).send().await.ok()?;
            answer.text().await.ok()
        };
        let mut bearerbox = boxed("bearerbox")?;
        bearerbox.ready("bearerbox to answer", &status).await?;
        let mut smsbox = boxed("smsbox")?;
        let joined = async || {
            status()
                .await
                .filter(|text| text.contains("smsbox:"))
                .map(drop)
        };
        smsbox.ready("smsbox to join bearerbox", joined).await?;
        self.bearerbox = Some(bearerbox);
        self.smsbox = Some(smsbox);
        Ok(())
    }

    /// SIGKILL for both: the gateway's machine is gone. What phones text meanwhile is lost with it.
    pub fn kill(&mut self) {
        for daemon in [&mut self.smsbox, &mut self.bearerbox] {
            if let Some(mut daemon) = daemon.take() {
                daemon.kill();
            }
        }
    }

    /// A phone texts over a link. The one before has heard all that it is going to hear.
    pub fn text(&mut self, link: &str, from: &str, text: &str) -> Result<(), Failure> {
        self.text_to(link, from, SHORT_NUMBER, text, 1)
    }

    /// The same so many times: each is another message to the gateway.
    pub fn text_to(
        &mut self,
        link: &str,
        from: &str,
        to: &str,
        text: &str,
        times: u32,
    ) -> Result<(), Failure> {
        let logs = self.logs.clone();
        let link = self.links.iter_mut().find(|it| it.id == link);
        let link = link.ok_or_else(|| Failure::new("the gateway has no such link"))?;
        // The message centre takes one caller at a time.
        link.phone = None;
        link.texts += 1;
        let mut command = Command::new(FAKESMSC);
        command.args([
            "-H",
            "127.0.0.1",
            "-r",
            &link.port.to_string(),
            "-i",
            "0.01",
        ]);
        command.args(["-m", &times.to_string()]);
        command.arg(format!("{from} {to} text {text}"));
        let name = link.log(link.texts);
        let phone = Daemon::start(&name, command, &logs);
        link.phone =
            Some(phone.map_err(|error| {
                Failure::new(format!("{error}: apt-get install -y kannel-extras"))
            })?);
        Ok(())
    }

    /// Everything that phones were told so far, over any link.
    pub fn told(&self) -> Result<Vec<Told>, Failure> {
        let mut told = Vec::new();
        for link in &self.links {
            for text in 1..=link.texts {
                let log = self.logs.join(format!("{}.log", link.log(text)));
                let said = std::fs::read(&log)?;
                told.extend(String::from_utf8_lossy(&said).lines().filter_map(read));
            }
        }
        Ok(told)
    }

    /// Waits until phones were told this much in all; the last of it.
    pub async fn hears(&self, count: usize) -> Result<Told, Failure> {
        let what = format!("{count} SMS");
        let heard = async || self.told().ok().filter(|told| told.len() >= count);
        let mut told = match wait::until(&what, heard).await {
            Ok(told) => told,
            Err(waited) => {
                return Err(Failure::new(format!("{waited}; so far {:?}", self.told()?)));
            }
        };
        told.truncate(count);
        told.pop()
            .ok_or_else(|| Failure::new("nobody was told anything"))
    }

    fn configuration(&self, authority: &str) -> String {
        let links = self.links.iter().map(|link| {
            format!(
                "group = smsc\nsmsc = fake\nsmsc-id = {}\nport = {}\nconnect-allow-ip = 127.0.0.1\n\
                 unified-prefix = \"+,00;+33,0\"\n",
                link.id, link.port
            )
        });
        let filled = [
            ("ADMIN_PORT", self.ports.admin.to_string()),
            ("ADMIN_PASSWORD", self.password.clone()),
            ("SMSBOX_PORT", self.ports.smsbox.to_string()),
            ("SENDSMS_PORT", self.ports.sendsms.to_string()),
            ("SENDSMS_PASSWORD", self.password.clone()),
            ("STORE", self.dir.join("store").display().to_string()),
            ("LINKS", links.collect::<Vec<_>>().join("\n")),
            ("LINK", HOME.to_owned()),
            ("SECRET", self.secret.clone()),
            ("AUTHORITY", authority.to_owned()),
            ("RETRY_S", RETRY_S.to_owned()),
        ];
        filled
            .into_iter()
            .fold(TEMPLATE.to_owned(), |text, (name, value)| {
                text.replace(&format!("{{{{{name}}}}}"), &value)
            })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.dir.join(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Failure::of(path.display()))?;
        Ok(path)
    }
}

impl Link {
    fn log(&self, text: usize) -> String {
        format!("fakesmsc-{}-{text}", self.id)
    }
}

/// `… Got message 1: <12345 +33612345678 text Pay 4.20 EUR …>`
fn read(line: &str) -> Option<Told> {
    let (_, message) = line.split_once("Got message ")?;
    let (_, message) = message.split_once(": <")?;
    let mut parts = message.strip_suffix('>')?.splitn(4, ' ');
    let (_from, to, _kind) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Told {
        to: to.to_owned(),
        text: parts.next()?.to_owned(),
    })
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Failure::of("random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

//! How fast does privacyIDEA say that a token is good?
//!
//! A server of this run's own, with SQLite, under gunicorn with two workers, on a port of the loopback that the kernel
//! chooses. No administrator: its tokens are made by a program beside it. `scripts/setup.sh bench` installs it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use super::Fault;
use super::itself::succeeds;

/// Phones that ask side by side; more do not make it faster.
const CLIENTS: usize = 4;
/// More than it can check in a run.
const CODES: usize = 600;
/// How long one measurement takes.
const SPAN_S: f64 = 5.0;
/// Lines that gunicorn writes before it says where it listens, at most.
const LINES_MAX: usize = 50;

const PREPARE: [&[&str]; 3] = [
    &["setup", "create_enckey"],
    &["setup", "create_audit_keys"],
    &["setup", "create_tables"],
];

/// As it comes, or with a hash of PINs that costs nothing: unsafe, and its upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Default,
    Off,
}

/// A running server with tokens.
pub(crate) struct Peer {
    server: Child,
    url: String,
    tokens: Vec<Token>,
    asks: reqwest::Client,
}

#[derive(Deserialize)]
struct Token {
    serial: String,
    pin: String,
    codes: Vec<String>,
    /// How many are used.
    #[serde(default)]
    next: usize,
}

impl Peer {
    pub(crate) fn start(place: &Path, hash: Hash) -> Result<Self, Fault> {
        let home = place.join(format!("{hash:?}"));
        std::fs::create_dir(&home)?;
        std::fs::write(home.join("pi.cfg"), configuration(&home, hash)?)?;
        let wsgi = "import os\nfrom privacyidea.app import create_app\n\
            application = create_app(config_name='production', \
            config_file=os.environ['PRIVACYIDEA_CONFIGFILE'], silent=True)\n";
        std::fs::write(home.join("wsgi.py"), wsgi)?;
        for words in PREPARE {
            succeeds(program(&home, "pi-manage")?.args(words))?;
        }
        let tokens = make_tokens(&home)?;
        let (server, url) = serve(&home)?;
        Ok(Self {
            server,
            url,
            tokens,
            asks: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// How many checks a second; each must be answered with yes.
    pub(crate) async fn checks(&mut self) -> Result<f64, Fault> {
        let start = Instant::now();
        let (url, asks) = (&self.url, &self.asks);
        let clients = self.tokens.iter_mut().map(|token| async move {
            let mut done = 0_u32;
            while start.elapsed().as_secs_f64() < SPAN_S {
                check(asks, url, token).await?;
                done += 1;
            }
            Ok::<_, Fault>(done)
        });
        let done = futures_util::future::try_join_all(clients).await?;
        Ok(f64::from(done.iter().sum::<u32>()) / start.elapsed().as_secs_f64())
    }
}

async fn check(asks: &reqwest::Client, url: &str, token: &mut Token) -> Result<(), Fault> {
    let code = token.codes.get(token.next).ok_or("no codes are left")?;
    token.next += 1;
    let asked = json!({ "serial": token.serial, "pass": format!("{}{code}", token.pin) });
    let answer = asks.post(url).json(&asked).send().await?;
    let said: serde_json::Value = answer.json().await?;
    match said["result"]["value"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(format!("privacyIDEA refuses: {}", said["result"]).into()),
    }
}

fn configuration(home: &Path, hash: Hash) -> Result<String, Fault> {
    let home = home.display();
    let hash = match hash {
        Hash::Default => "",
        Hash::Off => {
            "PI_HASH_ALGO_PARAMS = {'argon2__rounds': 1, 'argon2__memory_cost': 8, 'argon2__parallelism': 1}\n"
        }
    };
    Ok(format!(
        "SUPERUSER_REALM = ['super']\n\
         SQLALCHEMY_DATABASE_URI = 'sqlite:///{home}/pi.sqlite'\n\
         SECRET_KEY = '{}'\nPI_PEPPER = '{}'\n\
         PI_ENCFILE = '{home}/enckey'\n\
         PI_AUDIT_KEY_PRIVATE = '{home}/private.pem'\nPI_AUDIT_KEY_PUBLIC = '{home}/public.pem'\n\
         PI_AUDIT_SQL_TRUNCATE = True\nPI_LOGFILE = '{home}/log'\nPI_LOGLEVEL = 40\n\
         PI_UUID_FILE = '{home}/uuid'\n{hash}",
        secret()?,
        secret()?
    ))
}

fn secret() -> Result<String, Fault> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn make_tokens(home: &Path) -> Result<Vec<Token>, Fault> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/privacyidea/make.py");
    let mut python = program(home, "python")?;
    python
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut made = python.stderr(Stdio::null()).spawn()?;
    let asked = json!({ "tokens": CLIENTS, "codes": CODES });
    let mut say = made.stdin.take().ok_or("its input is piped")?;
    writeln!(say, "{asked}")?;
    drop(say);
    let made = made.wait_with_output()?;
    let text = String::from_utf8(made.stdout)?;
    let line = text.lines().last().ok_or("privacyIDEA made no tokens")?;
    Ok(serde_json::from_str(line)?)
}

/// Gunicorn, and where it says that it listens.
fn serve(home: &Path) -> Result<(Child, String), Fault> {
    let mut gunicorn = program(home, "gunicorn")?;
    gunicorn.args(["-w", "2", "-b", "127.0.0.1:0", "wsgi:application"]);
    let mut server = gunicorn
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = server.stderr.take().ok_or("its errors are piped")?;
    let mut lines = BufReader::new(said).lines();
    for line in lines.by_ref().take(LINES_MAX) {
        let line = line?;
        let Some((_, address)) = line.split_once("Listening at: ") else {
            continue;
        };
        let url = address.split_whitespace().next().unwrap_or_default();
        let url = format!("{url}/validate/check");
        // Whoever writes into a pipe that nobody empties stands still one day.
        std::thread::spawn(move || lines.for_each(drop));
        return Ok((server, url));
    }
    let _ = server.kill();
    Err("gunicorn does not say where it listens".into())
}

fn program(home: &Path, name: &str) -> Result<Command, Fault> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let program = target.join("privacyidea/bin").join(name);
    if !program.exists() {
        return Err("privacyIDEA is not installed: scripts/setup.sh bench".into());
    }
    let mut command = Command::new(program);
    command.current_dir(home);
    command.env("PRIVACYIDEA_CONFIGFILE", home.join("pi.cfg"));
    Ok(command)
}

impl Drop for Peer {
    /// Asked to end, so that it ends its workers.
    fn drop(&mut self) {
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.server.wait();
    }
}

//! Where do browsers and terminals of these tests stand, and how is a scene played?

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use harness::authority::Pace;
use harness::identity_provider::{Customer, IdentityProvider};
use harness::world::{Site, World};
use harness::{Failure, wait};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What drives Chromium.
const SCRIPT: &str = "web/pages.mjs";
const INSTALL: &str = "cd tests/web && npm ci";
/// What the shoppers' accounts hold: enough, and not enough for anything.
const ANN_MINOR: i64 = 5_000;
const BOB_MINOR: i64 = 100;

/// An authority with a screen at a till, and a bank where ann and bob sign in.
pub(super) struct Stage {
    pub world: World,
    bank: IdentityProvider,
    _dir: TempDir,
}

impl Stage {
    pub async fn set() -> Result<Self, Failure> {
        let dir = TempDir::new()?;
        let mut site = Site::prepare(dir.path(), Pace::Default).await?;
        let customers = vec![Customer::new("ann", true)?, Customer::new("bob", true)?];
        let (at, logs) = (dir.path().join("provider"), dir.path().join("logs"));
        let authority = &site.authority;
        let bank = IdentityProvider::open(&at, &logs, "bank", "Example Bank", authority, customers)
            .await?;
        authority.sign_in_at(&bank, "bank", None)?;
        site.authority.serve().await?;
        let mut world = site.settle()?;
        for (name, minor) in [("ann", ANN_MINOR), ("bob", BOB_MINOR)] {
            let subject = bank.customer(name)?.subject.clone();
            let issuer = bank.issuer();
            world.authority.open_account(issuer, &subject, minor)?;
        }
        let merchant = world.merchant;
        world.add_screen(merchant).await?;
        Ok(Self {
            world,
            bank,
            _dir: dir,
        })
    }

    /// Plays a scene in Chromium to its end; answers what the scene says it saw.
    pub async fn play(&self, scene: &str, arguments: Value) -> Value {
        match self.played(scene, arguments).await {
            Ok(seen) => seen,
            Err(failure) => panic!("{scene}: {failure}"),
        }
    }

    async fn played(&self, scene: &str, arguments: Value) -> Result<Value, Failure> {
        let people: Vec<_> = ["ann", "bob"]
            .into_iter()
            .map(|name| Ok((name, self.bank.customer(name)?.password.clone())))
            .collect::<Result<_, Failure>>()?;
        let people: serde_json::Map<_, _> = people
            .into_iter()
            .map(|(name, password)| (name.to_owned(), json!(password)))
            .collect();
        let setting = json!({
            "scene": scene, "origin": self.world.authority.origin()?, "bank": self.bank.issuer(),
            "people": people, "arguments": arguments,
        });
        let mut player = Player::start()?;
        player.say(&setting)?;
        loop {
            let said = tokio::task::block_in_place(|| player.hear())?;
            if let Some(seen) = said.get("seen") {
                player.end()?;
                return Ok(seen.clone());
            }
            let answer = self.answer(&said).await?;
            player.say(&answer)?;
        }
    }

    /// What a scene asks of the world around the browser.
    async fn answer(&self, asked: &Value) -> Result<Value, Failure> {
        let terminal = self.world.terminal();
        match asked["ask"].as_str().unwrap_or_default() {
            "offer" => {
                let till = terminal.till()?;
                let minor = asked["minor"].as_i64().unwrap_or(420);
                let charge = till.must_start(minor, "Table 7").await?;
                terminal.kiosk().shows("offered").await?;
                let faces = terminal.kiosk().faces().await?;
                Ok(json!({ "link": faces.link, "code": faces.code, "charge": charge.charge }))
            }
            "faces" => {
                let faces = terminal.kiosk().faces().await?;
                Ok(json!({ "link": faces.link, "code": faces.code }))
            }
            "cancel" => {
                let charge = asked["charge"].as_str().unwrap_or_default();
                let charge = charge.parse().map_err(Failure::of("a charge"))?;
                terminal.till()?.cancel(charge).await?;
                Ok(json!({}))
            }
            "mark" => {
                let look = async || terminal.kiosk().frame().await.ok()?.mark;
                let mark = wait::until("the mark on the screen", look).await?;
                Ok(json!({ "mark": mark }))
            }
            other => Err(Failure::new(format!("the scene asks for {other:?}"))),
        }
    }

    /// One value that the database holds.
    pub fn look<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let conn = Connection::open(self.world.authority.file("store.sqlite")).unwrap();
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// A scene that is under way: one JSON line each way at a time.
struct Player {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Player {
    fn start() -> Result<Self, Failure> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        if !folder.join("web/node_modules/playwright-core").exists() {
            return Err(Failure::new(format!(
                "what npm brings is not there: {INSTALL}"
            )));
        }
        let mut node = Command::new("node");
        node.arg(folder.join(SCRIPT));
        node.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn().map_err(Failure::of("node does not start"))?;
        let to = child.stdin.take();
        let from = child.stdout.take();
        Ok(Self {
            to: to.ok_or_else(|| Failure::new("node has no standard input"))?,
            from: BufReader::new(from.ok_or_else(|| Failure::new("node has no standard output"))?),
            child,
        })
    }

    fn say(&mut self, what: &Value) -> Result<(), Failure> {
        writeln!(self.to, "{what}")?;
        Ok(self.to.flush()?)
    }

    fn hear(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(Failure::new(format!("the scene broke off ({status})")));
        }
        serde_json::from_str(&line).map_err(Failure::of(line.clone()))
    }

    fn end(mut self) -> Result<(), Failure> {
        self.child.wait()?;
        Ok(())
    }
}

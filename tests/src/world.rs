//! What does a whole M2Key in one folder look like?

use std::path::{Path, PathBuf};

use protocol::ids::{MerchantId, TerminalId};
use tempfile::TempDir;

use crate::Failure;
use crate::authority::{Authority, Pace};
use crate::bank::Bank;
use crate::phone::Phone;
use crate::terminal::Terminal;

/// An audience is only a name: the payment service that the bank's access tokens are for.
const AUDIENCE: &str = "https://pay.example";
pub const SHOPPERS: [&str; 2] = ["shopper-one", "shopper-two"];
/// What every shopper's account starts with: 50.00 EUR.
pub const OPENING_MINOR: i64 = 5_000;

/// Bank, authority, merchant and its terminals. Dropped from the top: first who asks, then who answers.
pub struct World {
    pub terminals: Vec<Terminal>,
    pub authority: Authority,
    pub bank: Bank,
    pub merchant: MerchantId,
    dir: PathBuf,
    _temp: Option<TempDir>,
}

/// A bank, and an authority that was made but does not serve yet.
pub struct Site {
    pub authority: Authority,
    pub bank: Bank,
    dir: PathBuf,
}

impl Site {
    /// Makes both in `dir`, and introduces them to each other.
    pub async fn prepare(dir: &Path, pace: Pace) -> Result<Self, Failure> {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs)?;
        let authority = Authority::init(&dir.join("authority"), &logs)?;
        let origin = authority.origin()?;
        let bank = Bank::open(&dir.join("bank"), &logs, AUDIENCE, &SHOPPERS, &origin).await?;
        authority.trust(&bank, AUDIENCE)?;
        authority.set_pace(pace)?;
        authority.allow_plenty()?;
        Ok(Self {
            authority,
            bank,
            dir: dir.to_owned(),
        })
    }

    /// With a merchant, and an account for every shopper; the authority must serve.
    pub fn settle(self) -> Result<World, Failure> {
        let merchant = self.authority.add_merchant("Corner Shop")?;
        for name in SHOPPERS {
            let issuer = self.bank.issuer();
            self.authority.open_account(issuer, name, OPENING_MINOR)?;
        }
        Ok(World {
            terminals: Vec::new(),
            authority: self.authority,
            bank: self.bank,
            merchant,
            dir: self.dir,
            _temp: None,
        })
    }
}

impl World {
    /// In a folder that goes away with it: everything runs, with one terminal.
    pub async fn new() -> Result<Self, Failure> {
        Self::with(Pace::Default).await
    }

    /// The same with other windows.
    pub async fn with(pace: Pace) -> Result<Self, Failure> {
        let mut world = Self::without_terminals(pace).await?;
        world.add_terminal().await?;
        Ok(world)
    }

    /// Everything runs, and no terminal has been added yet.
    pub async fn without_terminals(pace: Pace) -> Result<Self, Failure> {
        let temp = TempDir::new()?;
        let mut site = Site::prepare(temp.path(), pace).await?;
        site.authority.serve().await?;
        let mut world = site.settle()?;
        world._temp = Some(temp);
        Ok(world)
    }

    /// One more terminal of the merchant, enrolled and running.
    pub async fn add_terminal(&mut self) -> Result<(), Failure> {
        let mut terminal = self.enrol_terminal()?;
        terminal.run().await?;
        self.terminals.push(terminal);
        Ok(())
    }

    /// One more terminal, enrolled; its agent does not run yet.
    pub fn enrol_terminal(&self) -> Result<Terminal, Failure> {
        let (place, id) = self.place_terminal(self.merchant)?;
        let token = place.join("join-token");
        Terminal::enrol(&place, &self.authority, id, &token, &self.logs())
    }

    /// The folder of one more terminal, with its join token in it, and its id.
    fn place_terminal(&self, merchant: MerchantId) -> Result<(PathBuf, TerminalId), Failure> {
        let number = self.terminals.len() + 1;
        let place = self.dir.join(format!("terminal-{number}"));
        std::fs::create_dir_all(&place)?;
        let token = place.join("join-token");
        let id = self.authority.add_terminal(merchant, &token)?;
        Ok((place, id))
    }

    /// One more terminal of this merchant that has only a screen, enrolled and running.
    pub async fn add_screen(&mut self, merchant: MerchantId) -> Result<(), Failure> {
        let (place, id) = self.place_terminal(merchant)?;
        let (token, logs) = (place.join("join-token"), self.logs());
        let mut terminal = Terminal::enrol_screen(&place, &self.authority, id, &token, &logs)?;
        terminal.run().await?;
        self.terminals.push(terminal);
        Ok(())
    }

    /// The first terminal.
    pub fn terminal(&self) -> &Terminal {
        &self.terminals[0]
    }

    pub fn terminal_mut(&mut self) -> &mut Terminal {
        &mut self.terminals[0]
    }

    /// A shopper's phone; nobody has signed in on it.
    pub fn phone(&self, shopper: &str) -> Result<Phone, Failure> {
        Phone::of(shopper, &self.authority, &self.bank)
    }

    /// A shopper's phone, signed in at the bank.
    pub async fn signed_in_phone(&self, shopper: &str) -> Result<Phone, Failure> {
        let mut phone = self.phone(shopper)?;
        phone.sign_in(&self.bank).await?;
        Ok(phone)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
}

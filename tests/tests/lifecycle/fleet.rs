//! What does a fleet at work look like, and does it pay?

use std::collections::BTreeSet;

use harness::authority::Pace;
use harness::phone::Phone;
use harness::world::SHOPPERS;
use harness::{Failure, World, tools, wait, web};
use protocol::jwk::JwkSet;
use protocol::problem::ProblemType;

use crate::desk::Desk;
use crate::watch::{Seen, Watch};

/// What every terminal takes of every shopper, without a till: 0.10 EUR.
const PRICE_MINOR: i64 = 10;

/// Terminals of two merchants that have only screens, and two shoppers who walk by.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) phones: Vec<Phone>,
    /// The second merchant, who has every other terminal.
    pub(crate) second: String,
}

impl Fleet {
    pub(crate) async fn of(count: usize) -> Result<Self, Failure> {
        let mut world = World::without_terminals(Pace::Quick).await?;
        let merchants = [
            world.authority.add_merchant_at("Bakery", PRICE_MINOR)?,
            world.authority.add_merchant_at("Florist", PRICE_MINOR)?,
        ];
        for n in 0..count {
            world.add_screen(merchants[n % 2]).await?;
        }
        let mut phones = Vec::new();
        for shopper in SHOPPERS {
            phones.push(world.signed_in_phone(shopper).await?);
        }
        Ok(Self {
            world,
            phones,
            second: merchants[1].to_string(),
        })
    }

    pub(crate) fn desk(&self) -> Desk<'_> {
        Desk::of(&self.world.authority)
    }

    pub(crate) fn id(&self, n: usize) -> String {
        self.world.terminals[n].id().to_string()
    }

    /// A file beside the authority's folder.
    pub(crate) fn scratch(&self, name: &str) -> String {
        self.world.dir().join(name).display().to_string()
    }

    /// A shopper pays with what the screen of terminal `n` shows; the receipt.
    pub(crate) async fn pays(&self, n: usize, shown: &str) -> Result<String, Failure> {
        let phone = &self.phones[n % self.phones.len()];
        let claim = phone.must_claim(shown).await.map_err(|why| {
            Failure::new(format!("terminal {}: {why}", self.world.terminals[n].id()))
        })?;
        Ok(phone.must_approve(&claim).await?.response.receipt)
    }

    /// The link on the screen of terminal `n`.
    pub(crate) async fn link(&self, n: usize) -> Result<String, Failure> {
        Ok(self.world.terminals[n].kiosk().faces().await?.link)
    }

    /// A shopper pays at terminal `n`; the receipt.
    pub(crate) async fn shopper_pays(&self, n: usize) -> Result<String, Failure> {
        self.pays(n, &self.link(n).await?).await
    }

    /// A shopper pays at terminal `n` as soon as it shows what is good; each token is tried once.
    pub(crate) async fn pays_again(&self, n: usize) -> Result<(), Failure> {
        let (kiosk, phone) = (self.world.terminals[n].kiosk(), &self.phones[0]);
        let mut tried = BTreeSet::new();
        let look = async || {
            let link = kiosk.frame().await.ok()?.link()?.0;
            if !tried.insert(link.clone()) {
                return None;
            }
            let claim = phone.claim(&link).await.ok()?.ok()?;
            phone.must_approve(&claim).await.ok().map(drop)
        };
        wait::until("a payment", look).await
    }

    /// Nobody pays with this.
    pub(crate) async fn refuses(&self, shown: &str, why: ProblemType) {
        let answer = self.phones[0].claim(shown).await.unwrap();
        let problem = answer.err().expect("it must be refused");
        assert_eq!(problem.problem_type(), Some(why), "{problem:?}");
    }

    /// The last checkpoint of the audit, as the store has it.
    pub(crate) async fn last_checkpoint(&self) -> Result<String, Failure> {
        let path = self.world.authority.file("store.sqlite");
        let read = || -> rusqlite::Result<String> {
            let store = rusqlite::Connection::open(&path)?;
            let sql = "SELECT jws FROM checkpoints ORDER BY number DESC LIMIT 1";
            store.query_row(sql, [], |row| row.get(0))
        };
        wait::until("a checkpoint", async || read().ok()).await
    }

    /// A number of the agent's `/metrics`.
    pub(crate) async fn metric(&self, n: usize, name: &str) -> Result<f64, Failure> {
        let address = self.world.terminals[n].kiosk().address()?;
        let get = web::plain()?.get(format!("http://{address}/metrics"));
        let response = get.send().await.map_err(|e| web::sent(&e))?;
        let text = response.text().await.map_err(|e| web::sent(&e))?;
        let sum = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        Ok(text.lines().filter(of_name).filter_map(sum).sum())
    }

    /// The revocation list of the issuing CA with this certificate, in a file.
    pub(crate) async fn list_of(&self, issuing: &str) -> Result<String, Failure> {
        let show = [
            "x509",
            "-in",
            issuing,
            "-noout",
            "-ext",
            "subjectKeyIdentifier",
        ];
        let said = tools::run("openssl", &show)?;
        let key_id = said.lines().last().unwrap_or_default().trim();
        let key_id = key_id.replace(':', "").to_lowercase();
        let url = format!("{}/crl/{key_id}.crl", self.world.authority.loopback_url()?);
        let response = web::plain()?.get(url).send().await;
        let bytes = web::read_bytes(response.map_err(|e| web::sent(&e))?).await?;
        let bytes = bytes.map_err(|problem| Failure::new(problem.title))?;
        let file = self.scratch("list.crl");
        std::fs::write(&file, bytes)?;
        Ok(file)
    }

    /// The keys as the authority publishes them, in a file.
    pub(crate) async fn jwks_file(&self, name: &str) -> Result<String, Failure> {
        let path = self.scratch(name);
        std::fs::write(&path, self.world.authority.jwks().await?)?;
        Ok(path)
    }

    pub(crate) async fn jwks(&self) -> Result<JwkSet, Failure> {
        web::parse(&self.world.authority.jwks().await?)
    }

    /// Waits until every screen shows a token that it did not show in `before`.
    pub(crate) async fn all_moved_on(&self, watch: &Watch, before: &[Seen]) -> Result<(), Failure> {
        for (n, old) in before.iter().enumerate() {
            let text = |seen: &Seen| seen.link.as_ref().map(|it| it.text.clone());
            let moved = async || {
                let now = text(&watch.now(n));
                (now.is_some() && now != text(old)).then_some(())
            };
            wait::until("another token on every screen", moved).await?;
        }
        Ok(())
    }
}

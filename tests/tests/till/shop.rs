//! Where do these tests stand? In a shop whose terminal has a screen, with a shopper who has a phone.

use harness::World;
use harness::phone::Phone;
use harness::terminal::Terminal;
use protocol::ids::{ChargeId, RefundId};
use protocol::wire::charges::TillCharge;
use protocol::wire::push::{ChargeStage, EndReason};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::line::Line;
use harness::authority::Pace;

/// 4.20 EUR.
pub const PRICE: i64 = 420;
pub const PIN: &str = "480317";

pub struct Shop {
    pub world: World,
    pub till: Line,
}

impl Shop {
    pub async fn open() -> Self {
        let mut world = World::without_terminals(Pace::Default).await.unwrap();
        let merchant = world.merchant;
        world.add_screen(merchant).await.unwrap();
        let (address, secret) = at(world.terminal());
        let till = Line::to(&address, &secret);
        Self { world, till }
    }

    pub async fn phone(&self) -> Phone {
        self.world.signed_in_phone("shopper-one").await.unwrap()
    }

    /// The till asks for [`PRICE`], and the screen offers it.
    pub async fn offer(&self, charge: &str) {
        let asked = asked(charge, PRICE);
        let answer = self.till.ask("POST", "/v1/charges", Some(&asked)).await;
        answer.charge();
        self.world
            .terminal()
            .kiosk()
            .shows("offered")
            .await
            .unwrap();
    }

    /// The shopper scans what the screen offers and approves.
    pub async fn pay(&self) {
        let phone = self.phone().await;
        // A token that was shown before the charge claims nothing any more.
        self.world
            .terminal()
            .kiosk()
            .shows("offered")
            .await
            .unwrap();
        let link = phone.scan(self.world.terminal()).await.unwrap();
        let claim = phone.must_claim(&link).await.unwrap();
        phone.must_approve(&claim).await.unwrap();
    }

    /// The agent dies; nothing of the authority's does.
    pub fn kill_agent(&mut self) {
        self.world.terminal_mut().kill_agent();
    }

    /// The agent comes back, whatever its screen shows.
    pub async fn start_agent(&mut self) {
        let terminal = self.world.terminal_mut();
        terminal.start().await.unwrap();
        let (address, secret) = at(terminal);
        self.till = self.till.again(&address, &secret);
    }

    /// Waits until this is so.
    pub async fn looks(&self, charge: &str, wanted: impl Fn(&TillCharge) -> bool) -> TillCharge {
        let look = async || {
            let answer = self.till.ask("GET", &one(charge), None).await;
            let told: TillCharge = serde_json::from_str(&answer.body).ok()?;
            wanted(&told).then_some(told)
        };
        harness::wait::until("a charge to be as wanted", look)
            .await
            .unwrap()
    }

    pub fn set_pin(&self) {
        let file = self.world.dir().join("merchant-pin");
        std::fs::write(&file, PIN).unwrap();
        let (merchant, file) = (self.world.merchant.to_string(), file.display().to_string());
        let pin = ["merchant", "pin", &merchant, "--pin-file", &file];
        self.world.authority.verb(&pin).unwrap();
    }

    /// One number that the authority's database holds.
    pub fn count(&self, sql: &str) -> i64 {
        let conn = Connection::open(self.world.authority.file("store.sqlite")).unwrap();
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// Address and secret, as their files say.
fn at(terminal: &Terminal) -> (String, String) {
    let secret = std::fs::read_to_string(terminal.file("till.secret")).unwrap();
    (terminal.kiosk().address().unwrap(), secret)
}

pub fn one(charge: &str) -> String {
    format!("/v1/charges/{charge}")
}

pub fn charge_id() -> String {
    ChargeId::from_parts(now_ms(), &random()).to_string()
}

pub fn asked(charge: &str, minor: i64) -> Value {
    json!({
        "charge": charge, "amount": { "amount_minor": minor, "currency": "EUR" },
        "reference": "sale 1041",
    })
}

pub fn refund_of(charge: &str, minor: i64) -> Value {
    json!({
        "refund": RefundId::from_parts(now_ms(), &random()).to_string(), "charge": charge,
        "amount": { "amount_minor": minor, "currency": "EUR" }, "reason": "one too many", "pin": PIN,
    })
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}

fn random() -> [u8; 10] {
    let mut random = [0; 10];
    getrandom::fill(&mut random).unwrap();
    random
}

pub fn is_offered(charge: &TillCharge) -> bool {
    matches!(charge.state.stage, ChargeStage::Offered { .. })
}

pub fn is_paid(charge: &TillCharge) -> bool {
    matches!(charge.state.stage, ChargeStage::Paid { .. })
}

pub fn is_cancelled(charge: &TillCharge) -> bool {
    let reason = EndReason::Cancelled;
    charge.state.stage == ChargeStage::Ended { reason }
}

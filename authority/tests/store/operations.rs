//! Do the books hold after any list of operations?
//!
//! The seed is printed; `M2KEY_TEST_SEED` plays a list again.

use authority::store::{ClaimOutcome, ClaimRecord};
use protocol::charge::{HOLD_MS, RELEASES_MAX};
use protocol::ids::{AccountId, TerminalId};
use protocol::token::Channel;
use protocol::wire::push::EndReason;

use crate::world::{NOW, World, eur, screen_windows};

const OPERATIONS: usize = 600;
const SHOPPERS: [&str; 3] = ["anna", "ben", "cleo"];

pub(crate) async fn any_order_of_operations_keeps_the_books(world: &World) {
    let seed = seed();
    println!("M2KEY_TEST_SEED={seed}");
    let mut player = Player::new(world, seed).await;
    for step in 0..OPERATIONS {
        player.step(step).await;
    }
    let report = world.store.ledger_report().await.unwrap();
    assert!(report.entries >= 2, "nothing moved with seed {seed}");
    assert_eq!(
        player.paid_minor,
        player.earned_minor().await,
        "seed {seed}"
    );
}

fn seed() -> u64 {
    let given = std::env::var("M2KEY_TEST_SEED").ok();
    given.map_or_else(
        || {
            let mut random = [0; 8];
            getrandom::fill(&mut random).unwrap();
            u64::from_be_bytes(random)
        },
        |text| text.parse().unwrap(),
    )
}

/// SplitMix64: a list of operations that a seed plays again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

struct Player<'a> {
    world: &'a World,
    dice: Dice,
    terminals: Vec<TerminalId>,
    payee_accounts: Vec<AccountId>,
    shopper_accounts: Vec<AccountId>,
    claims: Vec<ClaimRecord>,
    paid_minor: i64,
}

impl<'a> Player<'a> {
    async fn new(world: &'a World, seed: u64) -> Self {
        let till = world.merchant().await;
        let fixed = world.merchant_with(Some(eur(250)), None).await;
        let mut shopper_accounts = Vec::new();
        for name in SHOPPERS {
            let person = world.shopper(name, 0).await;
            let accounts = world.store.accounts_of(person).await.unwrap();
            shopper_accounts.push(accounts[0].id);
        }
        let terminals = vec![
            world.terminal_of(&till, 1).await,
            world.terminal_of(&till, 2).await,
            world.terminal_of(&fixed, 3).await,
        ];
        Self {
            world,
            dice: Dice(seed),
            terminals,
            payee_accounts: vec![till.account, fixed.account],
            shopper_accounts,
            claims: Vec::new(),
            paid_minor: 0,
        }
    }

    async fn step(&mut self, step: usize) {
        match self.dice.below(7) {
            0 => self.credit(step).await,
            1 => self.start().await,
            2 | 3 => self.claim().await,
            4 => self.pay().await,
            5 => self.release().await,
            _ => self.end().await,
        }
    }

    async fn credit(&mut self, step: usize) {
        let account = self.shopper_accounts[self.dice.below(SHOPPERS.len())];
        // Every third reference is one that may have been used.
        let reference = format!("credit {}", step - step % 3);
        let amount_minor = 300 + self.dice.below(500) as i64;
        self.world.credit(account, amount_minor, &reference).await;
    }

    async fn start(&mut self) {
        let terminal = self.any_terminal();
        let mut charge = self
            .world
            .new_charge(terminal, 100 + self.dice.below(300) as i64);
        charge.moved = screen_windows(terminal);
        self.world.store.start_charge(charge).await.unwrap();
    }

    async fn claim(&mut self) {
        let channel = Channel::ALL[self.dice.below(3)];
        let terminal = self.any_terminal();
        if let ClaimOutcome::Claimed(record) = self.world.claim(terminal, channel).await {
            self.claims.push(*record);
        }
    }

    async fn pay(&mut self) {
        let Some(record) = self.any_claim() else {
            return;
        };
        let person = crate::world::person(SHOPPERS[self.dice.below(SHOPPERS.len())]);
        let amount = record.claimed.asked.unwrap();
        let mut pay = self.world.pay_of(&record, &person, amount);
        pay.moved = screen_windows(record.claimed.terminal);
        use authority::store::PayOutcome::Paid;
        if let Paid(_) = self.world.store.pay(pay).await.unwrap() {
            self.paid_minor += amount.amount_minor();
        }
    }

    async fn release(&mut self) {
        let Some(record) = self.any_claim() else {
            return;
        };
        let moved = screen_windows(record.claimed.terminal);
        let store = &self.world.store;
        let claim = record.claimed.claim;
        store
            .release_claim(claim, moved, NOW + HOLD_MS)
            .await
            .unwrap();
        let charge = store.charge(record.claimed.charge).await.unwrap().unwrap();
        assert!(charge.releases <= RELEASES_MAX);
    }

    async fn end(&mut self) {
        let Some(record) = self.any_claim() else {
            return;
        };
        let charge = record.claimed.charge;
        let store = &self.world.store;
        store
            .end_charge(charge, EndReason::Cancelled, Vec::new(), NOW)
            .await
            .unwrap();
    }

    async fn earned_minor(&self) -> i64 {
        let mut earned = 0;
        for account in &self.payee_accounts {
            earned += self.world.store.merchant_balance(*account).await.unwrap();
        }
        earned
    }

    fn any_terminal(&mut self) -> TerminalId {
        self.terminals[self.dice.below(self.terminals.len())]
    }

    /// One of the latest claims, whatever became of it.
    fn any_claim(&mut self) -> Option<ClaimRecord> {
        let from = self.claims.len().saturating_sub(4);
        let latest = self.claims.len() - from;
        (latest > 0).then(|| self.claims[from + self.dice.below(latest)].clone())
    }
}

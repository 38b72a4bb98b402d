//! What does every fact about a store need around it?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use authority::store::{
    Balance, Claim, ClaimOutcome, ClaimRecord, Credit, Exemption, JoinToken, Merchant, NewAccount,
    NewCharge, NewReceipt, NewRefund, NewSchedule, Pacing, Pay, PayOutcome, Payment, PersonKey,
    RailKey, Refund, RefundAsker, RefundOutcome, Result, Scheduled, Seed, SpendRules, StartCharge,
    Store, Strength, Terminal, TerminalStatus,
};
use hsm::{KeyLabel, SealedSeed, SealingKeys};
use protocol::audit::{ChainCheck, Head};
use protocol::charge::{Approval, HOLD_MS, Mark};
use protocol::code::TypedCode;
use protocol::derive::EpochKey;
use protocol::ids::{
    AccountId, ChargeId, ClaimId, MerchantId, PaymentId, ReceiptId, RefundId, TerminalId,
};
use protocol::live::{Live, LoadedEpoch, candidates, recognise};
use protocol::money::{Currency, Money};
use protocol::presented::Presented;
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::window::{Behind, EpochClock, Policy};

/// The moment that all facts happen at, unless they say otherwise.
pub(crate) const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);
/// Much goes without strong authentication: what these facts are about is something else.
pub(crate) const RULES: SpendRules = SpendRules {
    exemption: Some(Exemption {
        each_minor: 1_000_000,
        in_all_minor: 1_000_000_000,
        payments: 1_000_000,
    }),
    shopper_day_minor: None,
    merchant_day_minor: None,
};
/// Far after [`NOW`].
pub(crate) const LATER: Timestamp = Timestamp::from_ms(1_795_469_200_000);

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    /// All over one database, this one's first.
    nodes: Vec<Arc<dyn Store>>,
    ids: AtomicU64,
}

pub(crate) fn eur(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::EUR).unwrap()
}

pub(crate) fn number(n: u32) -> TerminalId {
    TerminalId::from_number(n).unwrap()
}

pub(crate) fn person(name: &str) -> PersonKey {
    PersonKey {
        issuer: "https://id.example".into(),
        subject: name.into(),
    }
}

/// The epoch that [`NOW`] lies in.
pub(crate) fn epoch_now(terminal: TerminalId) -> u32 {
    EpochClock::of(terminal).epoch_at(NOW)
}

impl World {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self::among(vec![store])
    }

    /// The seed that this epoch is derived from.
    pub(crate) async fn seed(&self, terminal: TerminalId, epoch: u32) -> Option<Seed> {
        let judging = self.store.judging(terminal, vec![epoch]).await.unwrap()?;
        judging.seeds.into_iter().next().map(|(seed, _)| seed)
    }

    pub(crate) fn among(nodes: Vec<Arc<dyn Store>>) -> Self {
        let mut start = [0; 8];
        getrandom::fill(&mut start).unwrap();
        Self {
            store: nodes[0].clone(),
            nodes,
            ids: AtomicU64::new(u64::from_be_bytes(start)),
        }
    }

    pub(crate) fn all_nodes(&self) -> Vec<Arc<dyn Store>> {
        self.nodes.clone()
    }

    /// One node after the other, for who comes to any of them.
    pub(crate) fn any_node(&self) -> Arc<dyn Store> {
        let turn = self.ids.fetch_add(1, Ordering::Relaxed) as usize;
        self.nodes[turn % self.nodes.len()].clone()
    }

    /// Parts of an id that no other id here has.
    fn parts(&self) -> (u64, [u8; 10]) {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.ids.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        (NOW.ms() as u64, random)
    }

    pub(crate) fn charge_id(&self) -> ChargeId {
        let (ms, random) = self.parts();
        ChargeId::from_parts(ms, &random)
    }

    pub(crate) fn claim_id(&self) -> ClaimId {
        ClaimId(self.charge_id().0)
    }

    pub(crate) fn payment_id(&self) -> PaymentId {
        PaymentId(self.charge_id().0)
    }

    pub(crate) fn account_id(&self) -> AccountId {
        AccountId(self.charge_id().0)
    }

    /// A merchant whose till always says the amount.
    pub(crate) async fn merchant(&self) -> Merchant {
        self.merchant_with(None, None).await
    }

    pub(crate) async fn merchant_with(
        &self,
        fixed: Option<Money>,
        open_cap: Option<Money>,
    ) -> Merchant {
        let merchant = Merchant {
            id: MerchantId(self.charge_id().0),
            name: "Kiosk am Markt".into(),
            currency: Currency::EUR,
            account: self.account_id(),
            fixed,
            open_cap,
            added_at: NOW,
        };
        assert!(self.store.add_merchant(merchant.clone()).await.unwrap());
        merchant
    }

    /// Terminal `n` of a new merchant with a till.
    pub(crate) async fn terminal(&self, n: u32) -> TerminalId {
        let merchant = self.merchant().await;
        self.terminal_of(&merchant, n).await
    }

    pub(crate) async fn terminal_of(&self, merchant: &Merchant, n: u32) -> TerminalId {
        let (terminal, seed, token) = new_terminal(merchant.id, n);
        let id = terminal.id;
        assert!(
            self.store
                .add_terminal(terminal, seed, token)
                .await
                .unwrap()
        );
        id
    }

    /// A shopper with an account that holds `amount_minor`.
    pub(crate) async fn shopper(&self, name: &str, amount_minor: i64) -> PersonKey {
        let account = NewAccount {
            id: self.account_id(),
            person: person(name),
            currency: Currency::EUR,
            at: NOW,
        };
        let id = account.id;
        assert!(self.store.open_account(account).await.unwrap());
        if amount_minor > 0 {
            self.credit(id, amount_minor, &format!("first of {id}"))
                .await;
        }
        person(name)
    }

    pub(crate) async fn credit(
        &self,
        account: AccountId,
        amount_minor: i64,
        reference: &str,
    ) -> Balance {
        let credit = Credit {
            account,
            amount: eur(amount_minor),
            reference: reference.into(),
            at: NOW,
        };
        self.store.credit(credit).await.unwrap()
    }

    pub(crate) async fn balance(&self, person: &PersonKey) -> i64 {
        let accounts = self.store.accounts_of(person.clone()).await.unwrap();
        accounts.iter().map(|account| account.balance_minor).sum()
    }

    pub(crate) fn new_charge(&self, terminal: TerminalId, amount_minor: i64) -> NewCharge {
        NewCharge {
            id: self.charge_id(),
            terminal,
            amount: eur(amount_minor),
            reference: Some("sale 7".into()),
            at: NOW,
            until: NOW + 600_000,
            moved: Vec::new(),
        }
    }

    pub(crate) async fn start(&self, terminal: TerminalId, amount_minor: i64) -> ChargeId {
        let charge = self.new_charge(terminal, amount_minor);
        let id = charge.id;
        let started = self.store.start_charge(charge).await.unwrap();
        assert!(matches!(started, StartCharge::Started(_)), "{started:?}");
        id
    }

    /// The token that the terminal shows now, at the turn the store holds.
    pub(crate) async fn shown(&self, terminal: TerminalId, channel: Channel) -> Live {
        let window = live(terminal, channel, 0).token().window;
        let turn = self.store.turns(vec![window]).await.unwrap()[0];
        live(terminal, channel, turn)
    }

    pub(crate) fn claim_of(&self, live: Live) -> Claim {
        Claim {
            id: self.claim_id(),
            live,
            tap: None,
            phone: [7; 32],
            person: None,
            held_max: 9,
            mark: Mark::try_from(42).unwrap(),
            at: NOW,
            held_until: NOW + HOLD_MS,
            idle_charge: self.charge_id(),
            approval: None,
        }
    }

    /// Claims with what the terminal shows now.
    pub(crate) async fn claim(&self, terminal: TerminalId, channel: Channel) -> ClaimOutcome {
        let claim = self.claim_of(self.shown(terminal, channel).await);
        self.store.claim(claim).await.unwrap()
    }

    pub(crate) async fn claimed(&self, terminal: TerminalId) -> ClaimRecord {
        match self.claim(terminal, Channel::Nfc).await {
            ClaimOutcome::Claimed(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn pay_of(&self, record: &ClaimRecord, person: &PersonKey, amount: Money) -> Pay {
        let approval = Approval {
            amount,
            payee: record.claimed.payee,
        };
        Pay {
            payment: self.payment_id(),
            receipt: ReceiptId(self.charge_id().0),
            approved: record.claimed.clone().approve(&approval, NOW).unwrap(),
            person: person.clone(),
            account: None,
            strength: Strength::SignedIn,
            rules: RULES,
            key: RailKey(self.charge_id().0),
            at: NOW + 1_000,
            moved: Vec::new(),
        }
    }

    /// Stores this as the payment's receipt; answers the one that is stored.
    pub(crate) async fn receipt(&self, payment: &Payment, jws: &str) -> Result<String> {
        let receipt = NewReceipt::of(payment, jws.into(), NOW);
        self.store.store_receipt(receipt).await
    }

    pub(crate) async fn paid(&self, record: &ClaimRecord, person: &PersonKey) -> Payment {
        let pay = self.pay_of(record, person, record.claimed.asked.unwrap());
        match self.store.pay(pay).await.unwrap() {
            PayOutcome::Paid(payment) => *payment,
            other => panic!("{other:?}"),
        }
    }

    /// `person` pays `amount_minor` at `terminal`; the charge and the payment.
    pub(crate) async fn sold(
        &self,
        terminal: TerminalId,
        person: &PersonKey,
        amount_minor: i64,
    ) -> (ChargeId, Payment) {
        let charge = self.start(terminal, amount_minor).await;
        let record = self.claimed(terminal).await;
        (charge, self.paid(&record, person).await)
    }

    pub(crate) fn refund_of(
        &self,
        charge: ChargeId,
        terminal: TerminalId,
        amount_minor: i64,
    ) -> NewRefund {
        NewRefund {
            id: RefundId(self.charge_id().0),
            charge,
            amount: eur(amount_minor),
            reason: Some("one too many".into()),
            asker: RefundAsker::Terminal(terminal),
            movement: self.charge_id().0,
            receipt: ReceiptId(self.charge_id().0),
            day: "2026-11-23".into(),
            day_max_minor: 100_000,
            at: NOW + 2_000,
        }
    }

    pub(crate) async fn refunded(&self, refund: NewRefund) -> Refund {
        match self.store.refund(refund).await.unwrap() {
            RefundOutcome::Refunded(refund) => *refund,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn revision(&self, terminal: TerminalId) -> u64 {
        let state = self.store.push_state(terminal, 0).await.unwrap();
        state.unwrap().revision
    }

    /// The kinds of all audit rows, in order.
    pub(crate) async fn audit_kinds(&self) -> Vec<String> {
        let rows = self.store.audit_rows(crate::NODE, 0, u32::MAX).await;
        rows.unwrap().into_iter().map(|row| row.row.kind).collect()
    }

    pub(crate) async fn check_books_and_audit(&self) {
        let report = self.store.ledger_report().await.unwrap();
        assert!(report.sums.iter().all(|(_, sum)| *sum == 0), "{report:?}");
        assert_eq!(report.wrong_accounts, Vec::new());
        let mut walked = Vec::new();
        let heads = self.store.audit_heads().await.unwrap();
        for head in &heads {
            walked.push(self.walk(&head.node).await);
        }
        assert_eq!(heads, walked);
    }

    /// Walks a whole chain and answers the head it leads to.
    async fn walk(&self, node: &str) -> Head {
        let mut check = ChainCheck::default();
        loop {
            let after = check.head().0;
            let rows = self.store.audit_rows(node, after, 500).await.unwrap();
            if rows.is_empty() {
                break;
            }
            for row in rows {
                check.take(&row.row, &row.hash).unwrap();
            }
        }
        let (sequence, hash) = check.head();
        Head {
            node: node.into(),
            sequence,
            hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

pub(crate) fn new_terminal(merchant: MerchantId, n: u32) -> (Terminal, Seed, JoinToken) {
    let id = number(n);
    let terminal = Terminal {
        id,
        merchant,
        name: format!("till {n}"),
        status: TerminalStatus::Active,
        version: 1,
        sequence: 0,
        issued_until: None,
        refetch: false,
        added_at: NOW,
    };
    let token = JoinToken {
        terminal: id,
        hash: join_hash(n),
        expires_at: NOW + 3_600_000,
    };
    (terminal, new_seed(id, 1, 0), token)
}

/// A whole schedule under the first seed.
pub(crate) fn new_schedule(terminal: TerminalId, first: u32, last: u32) -> NewSchedule {
    NewSchedule {
        terminal,
        first: (first, 1),
        last: (last, 1),
        whole: true,
        pacing: Pacing::Set(None),
        kid: "schedule key 1".into(),
        at: NOW,
    }
}

/// A schedule that was recorded under this sequence, for a terminal without paces.
pub(crate) fn recorded(sequence: u64) -> Scheduled {
    Scheduled::Under {
        sequence,
        paces: Vec::new(),
    }
}

pub(crate) fn join_hash(n: u32) -> [u8; 32] {
    let mut hash = [9; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    hash
}

pub(crate) fn new_seed(terminal: TerminalId, version: u32, from_epoch: u32) -> Seed {
    Seed {
        terminal,
        version,
        from_epoch,
        keys: SealingKeys {
            sealing: KeyLabel("m2key-sealing-1".into()),
            binding: KeyLabel("m2key-binding-1".into()),
        },
        sealed: SealedSeed {
            context: vec![1, 2, 3],
            blob: vec![version as u8; 40],
            binding: [5; 32],
        },
    }
}

/// A token that is good now, by the same derivation as everywhere.
pub(crate) fn live(terminal: TerminalId, channel: Channel, turn: u16) -> Live {
    live_at(NOW, terminal, channel, turn)
}

/// A token that was good then.
pub(crate) fn live_at(at: Timestamp, terminal: TerminalId, channel: Channel, turn: u16) -> Live {
    let policy = Policy::default().check().unwrap();
    let loaded = [LoadedEpoch {
        version: 1,
        epoch: EpochClock::of(terminal).epoch_at(at),
        key: EpochKey::from_bytes([3; 32]),
        policy,
        behind: Behind::default(),
    }];
    let mut found = candidates(terminal, at, &loaded, &[channel]);
    found.retain(|candidate| candidate.window.contains(at));
    found[0].turn = turn;
    let window = found[0].id.window;
    let key = &loaded[0].key;
    let presented = match channel {
        Channel::Code => Presented::Typed(TypedCode::new(terminal, key.code(window, turn))),
        _ => Presented::Machine {
            terminal,
            token: key.token(channel, window, turn),
        },
    };
    recognise(&presented, &found).unwrap()
}

/// The windows of qr and code that a terminal shows now.
pub(crate) fn screen_windows(terminal: TerminalId) -> Vec<WindowId> {
    [Channel::Qr, Channel::Code]
        .map(|channel| live(terminal, channel, 0).token().window)
        .to_vec()
}

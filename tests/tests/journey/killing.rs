//! Does every cent lie where both sides' books say, when the authority dies again and again in the middle of
//! payments that a bank carries out?
//!
//! Five hundred payments by several phones at once; the authority is killed (SIGKILL) after so many answers as
//! a seed says, which is printed, wherever the others stand then, and comes back; the bank now and then loses
//! an answer. Phones do what phones do: they ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use authority::clock::{Clock, SystemClock};
use authority::ids;
use authority::store::sqlite::{self, SqliteOptions};
use authority::store::{NewServiceAccount, PersonKey, ServiceAccounts};
use demo_bank::RailAccount;
use harness::authority::Authority;
use harness::bank::Bank;
use harness::phone::{Claim, Phone};
use harness::terminal::Terminal;
use harness::wait;
use protocol::ids::AccountId;
use protocol::jws;
use protocol::link::LinkHost;
use protocol::money::{Currency, Money};
use protocol::problem::ProblemType;
use protocol::schedule::{Schedule, ScheduleClaims, accept};
use protocol::token::Channel;
use protocol::window::{EpochClock, WindowPlan};
use protocol::wire::schedules::ScheduleResponse;
use tempfile::TempDir;

const PAYMENTS: usize = 500;
/// Phones, each at a terminal of its own.
const PHONES: usize = 6;
const FIXED_MINOR: i64 = 10;
const OPENING_MINOR: i64 = 100_000;
const AUDIENCE: &str = "https://pay.example";
/// How many answers the authority gives between two kills, and how much longer it lives then. Answers, not
/// seconds: a slow machine makes as many payments in a life as a quick one.
const LIVES_ANSWERS: std::ops::Range<u64> = 20..120;
const LONGER_MS: std::ops::Range<u64> = 0..30;
/// Long enough for a bank that works, short enough that a lost answer does not hold the test up.
const DEADLINE_MS: u64 = 2_000;
/// By when all phones have paid: far more than a slow machine needs.
const ALL_MAX: Duration = Duration::from_secs(900);
/// Between two looks at how many answers there are.
const LOOK: Duration = Duration::from_millis(2);
/// Between two tries of a phone that hears nothing.
const AGAIN: Duration = Duration::from_millis(50);
/// The bank loses every so manieth answer.
const MISHAPS: &str = r#"{
    "authorise": { "how": "unanswered", "every": 41 },
    "capture": { "how": "unanswered", "every": 43 }
}"#;

/// What a phone was told.
#[derive(Default)]
struct Told {
    /// By payment: the receipt.
    receipts: BTreeMap<String, String>,
    /// Tokens that a claim was acknowledged for.
    tokens: BTreeSet<String>,
    /// Payments that ended without a receipt.
    refused: Vec<ProblemType>,
}

#[tokio::test(flavor = "multi_thread")]
async fn both_books_agree_to_the_cent_however_often_the_authority_is_killed() {
    let seed = seed();
    println!("seed {seed}: M2KEY_TEST_SEED={seed} draws the same moments again");
    let mut site = Site::new().await;
    let (next, over) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let answers = Arc::new(AtomicUsize::new(0));
    let mut phones = Vec::new();
    for shopper in site.shoppers(&answers).await {
        phones.push(tokio::spawn(shopper.pay_until_all_are_made(next.clone())));
    }
    let paying = {
        let over = over.clone();
        tokio::spawn(async move {
            let told = futures_util::future::join_all(phones).await;
            over.store(true, Ordering::SeqCst);
            told
        })
    };
    let killing = site.kill_until(&over, &answers, seed);
    let kills = tokio::time::timeout(ALL_MAX, killing).await;
    let kills = kills.expect("the phones come to an end");
    let told: Vec<Told> = paying
        .await
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    site.comes_to_rest().await;
    site.judge(told, kills);
}

struct Site {
    _dir: TempDir,
    authority: Authority,
    bank: Bank,
    terminals: Vec<Terminal>,
}

/// One phone, and what its terminal shows.
struct Shopper {
    phone: Phone,
    terminal: protocol::ids::TerminalId,
    issued: ScheduleResponse,
    schedule: Schedule,
    host: LinkHost,
    told: Told,
    answers: Arc<AtomicUsize>,
    /// Of the window it is in.
    turns: BTreeMap<(u32, u16), u16>,
}

impl Site {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        std::fs::create_dir_all(&logs).unwrap();
        let authority = Authority::init(&dir.path().join("authority"), &logs).unwrap();
        let bank = open_bank(dir.path(), &logs, &authority).await;
        authority.trust(&bank, AUDIENCE).unwrap();
        authority.allow_plenty().unwrap();
        authority.ask_rail("bank", &bank, DEADLINE_MS).unwrap();
        bring_accounts(&authority, &bank).await;
        let mut site = Self {
            authority,
            bank,
            terminals: Vec::new(),
            _dir: dir,
        };
        site.authority.serve().await.unwrap();
        let merchant = site
            .authority
            .add_merchant_at("Kiosk", FIXED_MINOR)
            .unwrap();
        for n in 0..PHONES {
            let place = site._dir.path().join(format!("terminal-{n}"));
            std::fs::create_dir_all(&place).unwrap();
            let token = place.join("join-token");
            let id = site.authority.add_terminal(merchant, &token).unwrap();
            let terminal = Terminal::enrol_screen(&place, &site.authority, id, &token, &logs);
            site.terminals.push(terminal.unwrap());
        }
        site
    }

    async fn shoppers(&self, answers: &Arc<AtomicUsize>) -> Vec<Shopper> {
        let keys = self.authority.jwks().await.unwrap();
        let keys = serde_json::from_slice(&keys).unwrap();
        let url = self.authority.public_url().unwrap();
        let host = LinkHost::parse(url.strip_prefix("https://").unwrap()).unwrap();
        let mut shoppers = Vec::new();
        for (n, terminal) in self.terminals.iter().enumerate() {
            let mut phone = Phone::of(&name(n), &self.authority, &self.bank).unwrap();
            phone.sign_in(&self.bank).await.unwrap();
            let issued = terminal.schedule().await.unwrap();
            let signed = jws::verify::<ScheduleClaims>(&issued.schedule, &keys).unwrap();
            shoppers.push(Shopper {
                phone,
                terminal: terminal.id(),
                schedule: accept(signed, terminal.id(), None).unwrap(),
                issued,
                host: host.clone(),
                told: Told::default(),
                answers: answers.clone(),
                turns: BTreeMap::new(),
            });
        }
        shoppers
    }

    /// Kills and starts it again until the phones are done; answers how often.
    async fn kill_until(&mut self, over: &AtomicBool, answers: &AtomicUsize, seed: u64) -> usize {
        let (mut draw, mut kills) = (SplitMix(seed), 0);
        loop {
            let life = answers.load(Ordering::SeqCst) + draw.within(LIVES_ANSWERS) as usize;
            while answers.load(Ordering::SeqCst) < life {
                if over.load(Ordering::SeqCst) {
                    return kills;
                }
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(Duration::from_millis(draw.within(LONGER_MS))).await;
            self.authority.kill();
            kills += 1;
            self.authority.serve().await.unwrap();
        }
    }

    /// Nothing stays open, whatever the last kill interrupted.
    async fn comes_to_rest(&self) {
        let at_rest = async || {
            let conn = self.store();
            let open = "SELECT count(*) FROM intents WHERE next_at_ms IS NOT NULL";
            let due = "SELECT count(*) FROM receipts_due";
            let none = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0)) == Ok(0);
            (none(open) && none(due)).then_some(())
        };
        wait::until("no intent open, and no receipt due", at_rest)
            .await
            .unwrap();
    }

    fn judge(&self, told: Vec<Told>, kills: usize) {
        let conn = self.store();
        let ours = pairs(
            &conn,
            "SELECT lower(hex(rail_key)), payments.amount_minor FROM payments
             JOIN intents ON intents.payment = payments.id",
        );
        let books = self.bank.books().unwrap();
        let captured = books.captured().into_iter();
        let theirs: BTreeMap<String, i64> = captured
            .map(|(key, minor)| (key.simple().to_string(), minor))
            .collect();
        println!("{kills} kills, {} payments", ours.len());
        assert_eq!(ours, theirs, "what they took is what we say was paid");
        assert_eq!(books.authorised(), 0, "nothing stays set aside");
        let paid: i64 = theirs.values().sum();
        let left: i64 = (0..PHONES)
            .map(|n| books.balance_minor(&account(n)).unwrap())
            .sum();
        assert_eq!(left + paid, PHONES as i64 * OPENING_MINOR);
        self.judge_tokens(&conn, &told);
        judge_receipts(&conn, told, ours.len());
        let checked = self.authority.verb(&["account", "check"]).unwrap();
        assert_eq!(checked["balanced"], true);
        let audit = self.authority.verb(&["audit", "verify"]).unwrap();
        assert_eq!(audit["holds"], true);
        assert!(
            kills >= 3,
            "only {kills} kills: it was too quick to say anything"
        );
    }

    /// One token, one claim, one charge at most, and no charge that is paid twice: by whatever claims.
    fn judge_tokens(&self, conn: &rusqlite::Connection, told: &[Told]) {
        let count = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let spent = count("SELECT count(*) FROM spent");
        assert_eq!(spent, count("SELECT count(DISTINCT claim) FROM spent"));
        assert_eq!(spent, count("SELECT count(*) FROM claims"));
        let acknowledged: usize = told.iter().map(|it| it.tokens.len()).sum();
        assert!(
            spent >= acknowledged as i64,
            "a claim was acknowledged, and is gone"
        );
        let twice = "SELECT count(*) - count(DISTINCT claims.charge) FROM payments
                     JOIN claims ON claims.id = payments.claim";
        assert_eq!(count(twice), 0, "a charge was paid by two claims");
        let elsewhere = "SELECT count(*) FROM claims JOIN charges ON charges.id = claims.charge
                         LEFT JOIN payments ON payments.claim = claims.id
                         WHERE (claims.state = 'paid') <> (payments.id IS NOT NULL)
                            OR (payments.id IS NOT NULL AND charges.state <> 'paid')
                            OR (claims.state = 'paying')";
        assert_eq!(
            count(elsewhere),
            0,
            "claim, charge and payment say different things"
        );
    }

    fn store(&self) -> rusqlite::Connection {
        let path = self.authority.file("store.sqlite");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(path, flags).unwrap()
    }
}

/// Every receipt that anybody was given is there, byte for byte, and no two tokens were the same.
fn judge_receipts(conn: &rusqlite::Connection, told: Vec<Told>, paid: usize) {
    let mut statement = conn
        .prepare("SELECT lower(hex(payment)), jws FROM receipts")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let kept: BTreeMap<String, String> = rows.unwrap().map(Result::unwrap).collect();
    let acknowledged: usize = told.iter().map(|it| it.receipts.len()).sum();
    let refused: Vec<_> = told.iter().flat_map(|it| it.refused.clone()).collect();
    println!("{acknowledged} receipts told, refused: {refused:?}");
    for (payment, receipt) in told.iter().flat_map(|it| &it.receipts) {
        assert_eq!(kept.get(payment), Some(receipt), "payment {payment}");
    }
    assert_eq!(acknowledged + refused.len(), PAYMENTS);
    assert!(acknowledged >= PAYMENTS * 9 / 10, "most must come through");
    assert!(paid >= acknowledged);
}

impl Shopper {
    async fn pay_until_all_are_made(mut self, next: Arc<AtomicUsize>) -> Told {
        while next.fetch_add(1, Ordering::SeqCst) < PAYMENTS {
            let claim = self.claim().await;
            self.approve(&claim).await;
        }
        self.told
    }

    /// With the tag's token of now; who hears nothing tries again, and who hears that it is spent (by the
    /// claim whose answer was lost) taps the next.
    async fn claim(&mut self) -> Claim {
        loop {
            let (window, link) = self.tap();
            let answered = self.phone.claim(&link).await;
            self.count(&answered);
            match answered {
                Ok(Ok(claim)) => {
                    assert!(self.told.tokens.insert(link), "a token was spent twice");
                    *self.turns.entry(window).or_default() += 1;
                    return claim;
                }
                Ok(Err(problem)) => match problem.problem_type() {
                    Some(ProblemType::TokenSpent) => *self.turns.entry(window).or_default() += 1,
                    Some(ProblemType::Busy | ProblemType::NotReady | ProblemType::TokenPassed) => {
                        tokio::time::sleep(AGAIN).await;
                    }
                    _ => panic!("{problem:?}"),
                },
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Asks until it hears of a receipt, or of an end.
    async fn approve(&mut self, claim: &Claim) {
        loop {
            let answered = self.phone.approve(claim).await;
            self.count(&answered);
            match answered {
                Ok(Ok(approved)) => {
                    let payment = approved.response.payment.0.simple().to_string();
                    let receipt = approved.response.receipt;
                    self.told.receipts.insert(payment, receipt);
                    return;
                }
                Ok(Err(problem)) => match problem.problem_type() {
                    Some(ProblemType::Busy | ProblemType::NotReady) => {}
                    Some(
                        end @ (ProblemType::ClaimOver
                        | ProblemType::RailDeclined
                        | ProblemType::RailSilent),
                    ) => return self.told.refused.push(end),
                    _ => panic!("{problem:?}"),
                },
                // Nobody is there, or it is pending.
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn count<T>(&self, answered: &harness::web::Answer<T>) {
        if answered.is_ok() {
            self.answers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What the terminal's tag shows now, as its schedule says.
    fn tap(&self) -> ((u32, u16), String) {
        let now = SystemClock.now();
        let clock = EpochClock::of(self.terminal);
        let epoch = clock.epoch_at(now);
        let mut entries = self.issued.epoch_keys.iter();
        let entry = entries.find(|entry| entry.epoch == epoch).unwrap();
        let policy = self.schedule.policy();
        let plan = WindowPlan::draw(&entry.key, policy, Channel::Nfc, &clock, epoch);
        let window = plan.at(now).unwrap().index;
        let turn = self.turns.get(&(epoch, window)).copied().unwrap_or(0);
        let token = entry.key.token(Channel::Nfc, window, turn);
        ((epoch, window), self.host.link(self.terminal, &token))
    }
}

async fn open_bank(dir: &Path, logs: &Path, authority: &Authority) -> Bank {
    let mishaps = dir.join("mishaps.json");
    std::fs::write(&mishaps, MISHAPS).unwrap();
    let in_account = Money::new(OPENING_MINOR, Currency::EUR).unwrap();
    let accounts = (0..PHONES).map(|n| RailAccount {
        reference: account(n),
        amount: in_account,
    });
    let rail = demo_bank::RailConfig {
        authority_keys: authority.jwks_url().unwrap(),
        authority_ca: Some(authority.root()),
        books: dir.join("books.jsonl"),
        payment_max_minor: None,
        month_max_minor: None,
        mishaps: Some(mishaps),
        accounts: accounts.collect(),
    };
    let names: Vec<_> = (0..PHONES).map(name).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let place = dir.join("bank");
    let bank = Bank::open_with(&place, logs, AUDIENCE, &names, Some(rail));
    bank.await.unwrap()
}

/// Every shopper's account at the bank, while nothing runs yet.
async fn bring_accounts(authority: &Authority, bank: &Bank) {
    let text = std::fs::read_to_string(authority.config()).unwrap();
    let config = authority::config::Config::parse(&text, &authority.config()).unwrap();
    let options = SqliteOptions::new(config.node.to_string());
    let store = sqlite::open(authority.file("store.sqlite"), options).unwrap();
    let now = SystemClock.now();
    for n in 0..PHONES {
        let brought = store.bring_service_account(NewServiceAccount {
            id: ids::fresh(now, AccountId::from_parts),
            person: PersonKey {
                issuer: bank.issuer().into(),
                subject: name(n),
            },
            rail: "bank".into(),
            reference: account(n),
            name: "Everyday".into(),
            currency: Currency::EUR,
            at: now,
        });
        brought.await.unwrap();
    }
}

fn name(n: usize) -> String {
    format!("shopper-{n}")
}

fn account(n: usize) -> String {
    format!("account-{n}")
}

fn pairs(conn: &rusqlite::Connection, sql: &str) -> BTreeMap<String, i64> {
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

fn seed() -> u64 {
    let given = std::env::var("M2KEY_TEST_SEED").ok();
    let given = given.map(|text| text.parse().expect("a seed is a number"));
    given.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        u64::from_be_bytes(bytes)
    })
}

/// A generator whose every number follows from its seed.
struct SplitMix(u64);

impl SplitMix {
    fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (mixed ^ (mixed >> 31)) % (range.end - range.start)
    }
}

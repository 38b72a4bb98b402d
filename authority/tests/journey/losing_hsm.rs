//! Is any claim lost, or anything wrong kept, when one of two HSM tokens goes while people pay?
//!
//! On SoftHSM: the second one goes and comes back with its keys, and then another one comes in its place,
//! under its name, with other keys under the same labels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use authority::store::{KeyPurpose, Payments};
use hsm::{HealthState, Hsm, Member, Observer, Pkcs11Hsm, Priority, Spread};
use protocol::ids::TerminalId;
use protocol::jws;
use protocol::receipt::ReceiptClaims;
use protocol::token::Channel;
use protocol::wire::claims::ApprovalResponse;
use tokio::task::JoinSet;

use crate::softhsm::{self, Folder};
use crate::world::{World, answer};

const ONE: &str = "lost-1";
const TWO: &str = "lost-2";
const OTHER: &str = "lost-3";
/// Terminals at which people pay at once.
const TILLS: u32 = 6;
const OPENING: i64 = 1_000_000;
/// So long that only what hangs comes near it.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_claim_is_lost_and_nothing_wrong_is_kept_when_one_of_two_hsm_tokens_goes_under_load() {
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        return softhsm::alone(
            "losing_hsm::no_claim_is_lost_and_nothing_wrong_is_kept_when_one_of_two_hsm_tokens_goes_under_load",
        );
    }
    let shop = Shop::open().await;
    let busy = shop.busy();
    shop.until(|it| it.works([true, true])).await;

    shop.two.take_away();
    shop.until(|it| it.health() == HealthState::Degraded).await;
    shop.pays_on(3).await;
    shop.two.put_back();
    shop.until(|it| it.health() == HealthState::Ready).await;
    shop.forget_signatures();
    shop.until(|it| it.works([true, true])).await;

    shop.other.take_the_place_of(OTHER, &shop.two, TWO);
    shop.until(|it| it.remarks().contains("another key has this label"))
        .await;
    shop.pays_on(3).await;

    let paid = busy.end().await;
    assert!(
        shop.remarks().contains("lost-2 does not share"),
        "{}",
        shop.remarks()
    );
    shop.everything_is_right(&paid).await;
}

struct Shop {
    world: World<Spread>,
    two: Folder,
    /// Another HSM token with keys of its own under the same labels.
    other: Folder,
    signed: [Arc<Signed>; 2],
    sales: AtomicUsize,
}

/// What one till has sold.
struct Sold {
    person: String,
    minor: i64,
    receipt: String,
}

struct Busy {
    stop: Arc<AtomicBool>,
    tills: JoinSet<Vec<Sold>>,
}

impl Shop {
    async fn open() -> Arc<Self> {
        let one = Folder::fresh(ONE);
        let two = one.copy(ONE, TWO);
        let other = Folder::fresh(OTHER);
        let strangers = softhsm::open(OTHER, Arc::new(Signed::default()));
        for purpose in KeyPurpose::ALL {
            let label = purpose.label(1);
            strangers
                .generate_key(purpose.kind(), &label)
                .await
                .unwrap();
        }
        drop(strangers);
        let signed = [Arc::new(Signed::default()), Arc::new(Signed::default())];
        let mut members = Vec::new();
        let mut first = None;
        for (name, signed) in [ONE, TWO].into_iter().zip(&signed) {
            let hsm = softhsm::open(name, signed.clone());
            first.get_or_insert(hsm.clone());
            members.push(Member {
                name: name.into(),
                hsm,
            });
        }
        let spread = Arc::new(Spread::open(members, DEADLINE).await.unwrap());
        let world = World::on(spread).await;
        for till in tills() {
            world.add_terminal(till).await;
            world.give(&person(till), OPENING).await;
        }
        two.take_objects_of(&one);
        start_library_again(&world, &first.unwrap()).await;
        world.hsm.inventory().await.unwrap();
        assert_eq!(world.hsm.health().remarks, Vec::<String>::new());
        let shop = Self {
            world,
            two,
            other,
            signed,
            sales: AtomicUsize::new(0),
        };
        shop.forget_signatures();
        Arc::new(shop)
    }

    /// People pay at every till from now on.
    fn busy(self: &Arc<Self>) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let mut busy = JoinSet::new();
        for till in tills() {
            let (shop, stop) = (self.clone(), stop.clone());
            busy.spawn(async move {
                let mut sold = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    sold.push(shop.sell(till).await);
                    shop.sales.fetch_add(1, Ordering::SeqCst);
                }
                sold
            });
        }
        Busy { stop, tills: busy }
    }

    /// A charge, shown, claimed and approved: each of them is answered well.
    async fn sell(&self, till: TerminalId) -> Sold {
        let (world, person) = (&self.world, person(till));
        let minor = 1 + i64::from(till.number() % 7);
        world.charge_at(till, minor).await;
        let link = world.shown_at(till, Channel::Qr).await;
        let phone = world.claimed(&link, None).await;
        let path = format!("/v1/claims/{}/approval", phone.claim);
        let access = world.sign_in(&person);
        let proof = world.proof("POST", &path, &access).await;
        let request = world.ask("POST", &path).json(&world.approval(minor));
        let request = request.header("cookie", &phone.cookie);
        let request = request.header("authorization", format!("DPoP {access}"));
        let paid = answer(request.header("dpop", proof)).await;
        assert_eq!(paid.status, 200, "{paid:?}");
        let response: ApprovalResponse = serde_json::from_slice(&paid.body).unwrap();
        Sold {
            person,
            minor,
            receipt: response.receipt,
        }
    }

    /// What was sold is paid once, and what is kept was signed by the keys that everybody knows.
    async fn everything_is_right(&self, sold: &[Sold]) {
        let world = &self.world;
        let keys = world.app.keyring();
        let due = world.store.receipts_due(1).await.unwrap();
        assert!(due.is_empty(), "every receipt was signed at once");
        let payments = world.rows("SELECT count(*) FROM payments");
        assert_eq!(payments, i64::try_from(sold.len()).unwrap());
        for sold in sold {
            let verified = jws::verify::<ReceiptClaims>(&sold.receipt, keys.jwks());
            assert_eq!(verified.unwrap().claims().amount.amount_minor(), sold.minor);
        }
        for till in tills() {
            let person = person(till);
            let theirs = sold.iter().filter(|it| it.person == person);
            let spent: i64 = theirs.map(|it| it.minor).sum();
            assert_eq!(world.balance(&person).await, OPENING - spent, "{person}");
            // Sealed under the keys of before: the seed gives the hours that it gave.
            world.schedule(till).await;
        }
        // A seed that is made now is of the right keys, too.
        let last = TerminalId::from_number(FIRST_TILL + TILLS).unwrap();
        world.add_terminal(last).await;
        world.schedule(last).await;
    }

    /// So many more sales at every till.
    async fn pays_on(&self, more: usize) {
        let until = self.sales.load(Ordering::SeqCst) + more * TILLS as usize;
        self.until(|it| it.sales.load(Ordering::SeqCst) >= until)
            .await;
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            tokio::task::yield_now().await;
        }
    }

    fn health(&self) -> HealthState {
        self.world.hsm.health().state
    }

    fn remarks(&self) -> String {
        self.world.hsm.health().remarks.join("; ")
    }

    fn works(&self, who: [bool; 2]) -> bool {
        [0, 1].map(|it: usize| self.signed[it].0.load(Ordering::SeqCst) > 0) == who
    }

    fn forget_signatures(&self) {
        for signed in &self.signed {
            signed.0.store(0, Ordering::SeqCst);
        }
    }
}

impl Busy {
    async fn end(self) -> Vec<Sold> {
        self.stop.store(true, Ordering::SeqCst);
        self.tills.join_all().await.into_iter().flatten().collect()
    }
}

const FIRST_TILL: u32 = 5_000;

fn tills() -> impl Iterator<Item = TerminalId> {
    (FIRST_TILL..FIRST_TILL + TILLS).map(|it| TerminalId::from_number(it).unwrap())
}

fn person(till: TerminalId) -> String {
    format!("shopper-{}", till.number())
}

/// The library reads the files of a copied HSM token when it starts.
async fn start_library_again(world: &World<Spread>, first: &Pkcs11Hsm) {
    let module = softhsm::module();
    let generation = module.generation();
    let keys = world.app.keyring().sealing().clone();
    module.set_recycle_after(1);
    while module.generation() == generation {
        let sealed = first.seal_new_seed(&keys, Vec::new(), Priority::Renewal);
        sealed.await.unwrap();
    }
    module.set_recycle_after(hsm::RECYCLE_AFTER_DESTROYED);
}

/// Counts signatures.
#[derive(Default)]
struct Signed(AtomicU32);

impl Observer for Signed {
    fn observe(&self, _: &'static str, _: &'static str, _: f64) {}

    fn command(&self, kind: &'static str) {
        if kind == "sign" {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

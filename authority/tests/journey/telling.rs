//! Does a merchant hear everything, in order, and know who called, whatever its server does?

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use authority::ids;
use authority::services::{refunds, settlements, webhooks};
use authority::store::{Disputes, Merchant, Merchants, Source, Webhooks};
use protocol::http_signature::{Demands, content_digest, verify};
use protocol::ids::{AccountId, ChargeId, MerchantId, RefundId, TerminalId};
use protocol::jws;
use protocol::money::Currency;
use protocol::receipt::ReceiptClaims;
use protocol::refund::RefundClaims;
use protocol::settlement::SettlementClaims;
use protocol::typ;
use protocol::wire::notices::{Notice, Noticed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::world::{MINUTE, World, eur};

/// A merchant's server.
struct Shop {
    url: String,
    mood: Arc<Mutex<Mood>>,
    heard: watch::Receiver<Vec<Heard>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    Fails,
    Redirects,
    Hangs,
}

#[derive(Debug, Clone)]
pub struct Heard {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Heard {
    pub fn notice(&self) -> Notice {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Shop {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let mood = Arc::new(Mutex::new(Mood::Takes));
        let (hears, heard) = watch::channel(Vec::new());
        let hears = Arc::new(hears);
        let server = mood.clone();
        tokio::spawn(async move {
            let mut hung = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let mood = *server.lock().unwrap();
                let heard = read(&mut socket).await;
                hears.send_modify(|all: &mut Vec<Heard>| all.push(heard));
                let status = match mood {
                    Mood::Takes => "204 No Content\r\nContent-Length: 0",
                    Mood::Fails => "500 Down\r\nContent-Length: 0",
                    Mood::Redirects => "307 There\r\nLocation: /other\r\nContent-Length: 0",
                    Mood::Hangs => {
                        hung.push(socket);
                        continue;
                    }
                };
                let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, mood, heard }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn all(&self) -> Vec<Heard> {
        self.heard.borrow().clone()
    }

    /// Once it has heard so many.
    async fn has_heard(&mut self, number: usize) {
        self.heard
            .wait_for(|all| all.len() >= number)
            .await
            .unwrap();
    }
}

pub async fn read(socket: &mut (impl AsyncReadExt + Unpin)) -> Heard {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = socket.read(&mut part).await.unwrap();
        bytes.extend_from_slice(&part[..read]);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let headers: HashMap<_, _> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers["content-length"].parse().unwrap();
        if bytes.len() == end + 4 + length {
            let body = bytes[end + 4..].to_vec();
            return Heard { headers, body };
        }
    }
}

async fn listens(world: &World, shop: &Shop) {
    let (url, now) = (Some(shop.url.clone()), world.now());
    assert!(
        world
            .store
            .set_webhook(world.merchant, url, now)
            .await
            .unwrap()
    );
}

pub async fn sold_at(world: &World, terminal: TerminalId, minor: i64) -> ChargeId {
    let charge = world.charge_at(terminal, minor).await.charge;
    let link = world.shown_at(terminal, protocol::token::Channel::Qr).await;
    let phone = world.claimed(&link, None).await;
    let paid = world.approve(&phone, "ann", minor).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    // What comes next is later.
    world.advance(1);
    charge
}

async fn given_back(world: &World, charge: ChargeId, minor: i64) {
    let asked = refunds::Asked {
        refund: ids::fresh(world.now(), RefundId::from_parts),
        charge,
        amount: eur(minor),
        reason: None,
    };
    let given = refunds::by_operator(&world.app, "olga", asked, world.now()).await;
    given.unwrap();
}

/// One round, to its end.
pub async fn round(world: &World) {
    for told in world.journey.webhooks.begin(world.now()).await.unwrap() {
        told.await.unwrap();
    }
}

/// What docs/PROTOCOL.md tells an integrator to do.
fn is_ours(world: &World, shop: &Shop, heard: &Heard) {
    let value = |name: &str| match name {
        "@method" => Some("POST".to_owned()),
        "@target-uri" => Some(shop.url.clone()),
        header => heard.headers.get(header).cloned(),
    };
    assert_eq!(heard.headers["content-digest"], content_digest(&heard.body));
    let demands = Demands {
        tag: typ::WEBHOOK,
        covered: &[
            "@method",
            "@target-uri",
            "content-type",
            "content-digest",
            "idempotency-key",
        ],
        now: world.now().secs(),
    };
    let ring = world.app.keyring();
    let (input, signature) = (
        &heard.headers["signature-input"],
        &heard.headers["signature"],
    );
    verify(input, signature, value, ring.jwks(), &demands).unwrap();
    let key = format!("\"{}\"", heard.notice().notice);
    assert_eq!(heard.headers["idempotency-key"], key);
}

#[tokio::test]
async fn a_merchant_is_told_once_in_order_and_can_prove_who_called() {
    let world = World::new().await;
    let shop = Shop::open().await;
    sold_at(&world, world.terminal, 5).await;
    listens(&world, &shop).await;
    let charge = sold_at(&world, world.terminal, 420).await;
    given_back(&world, charge, 20).await;
    round(&world).await;
    round(&world).await;
    let heard = shop.all();
    assert_eq!(heard.len(), 2, "what was before is not told");
    for one in &heard {
        is_ours(&world, &shop, one);
        assert_eq!(one.notice().merchant, world.merchant);
    }
    let ring = world.app.keyring();
    let Noticed::Paid { entry, receipt } = heard[0].notice().what else {
        panic!("{:?}", heard[0].notice())
    };
    let claims = jws::verify::<ReceiptClaims>(&receipt, ring.jwks())
        .unwrap()
        .into_claims();
    assert_eq!((entry.charge, entry.amount), (charge, eur(420)));
    assert_eq!(
        (claims.payment, claims.receipt),
        (entry.payment, entry.receipt)
    );
    let Noticed::Refunded { entry, receipt } = heard[1].notice().what else {
        panic!("{:?}", heard[1].notice())
    };
    let claims = jws::verify::<RefundClaims>(&receipt, ring.jwks())
        .unwrap()
        .into_claims();
    assert_eq!(
        (Some(claims.refund), claims.amount),
        (entry.refund, eur(20))
    );
    let hooks = world.store.webhooks(None, 9).await.unwrap();
    assert_eq!((hooks[0].waiting, hooks[0].parked), (0, 0));
}

#[tokio::test]
async fn a_merchant_is_told_of_its_closed_day() {
    let world = World::new().await;
    let shop = Shop::open().await;
    sold_at(&world, world.terminal, 420).await;
    listens(&world, &shop).await;
    let (app, merchant) = (&world.app, world.merchant);
    let closed = settlements::close(app, merchant, "olga", true, world.now()).await;
    assert_eq!(closed.unwrap().len(), 1);
    round(&world).await;
    let heard = shop.all();
    is_ours(&world, &shop, &heard[0]);
    let Noticed::Closed { number, statement } = heard[0].notice().what else {
        panic!("{:?}", heard[0].notice())
    };
    let ring = world.app.keyring();
    let claims = jws::verify::<SettlementClaims>(&statement, ring.jwks()).unwrap();
    assert_eq!((number, claims.claims().totals.closing_minor), (1, 420));
    assert_eq!(
        claims.claims().jti,
        format!("{merchant}/{}/1", world.app.generation),
        "after a restore a number may come again"
    );
}

#[tokio::test]
async fn nothing_is_told_before_its_receipt_is_signed() {
    let world = World::new().await;
    let shop = Shop::open().await;
    listens(&world, &shop).await;
    let phone = world.held(420).await;
    world.hsm_fails_once();
    world.approve(&phone, "ann", 420).await.refused(503, "busy");
    round(&world).await;
    assert!(shop.all().is_empty());
    world.journey.resume(world.now()).await.unwrap();
    round(&world).await;
    assert_eq!(shop.all().len(), 1);
}

#[tokio::test]
async fn what_is_not_taken_is_told_again_byte_for_byte() {
    let world = World::new().await;
    let shop = Shop::open().await;
    listens(&world, &shop).await;
    let charge = sold_at(&world, world.terminal, 420).await;
    given_back(&world, charge, 20).await;
    for mood in [Mood::Fails, Mood::Redirects] {
        shop.is(mood);
        round(&world).await;
        // Too early for another.
        round(&world).await;
        world.advance(MINUTE);
    }
    assert_eq!(shop.all().len(), 2);
    shop.is(Mood::Takes);
    round(&world).await;
    let heard = shop.all();
    assert_eq!(heard.len(), 4);
    assert_eq!(
        (&heard[1].body, &heard[2].body),
        (&heard[0].body, &heard[0].body)
    );
    assert!(matches!(heard[3].notice().what, Noticed::Refunded { .. }));
}

#[tokio::test]
async fn what_is_never_taken_is_parked_and_holds_back_its_own_charge_only() {
    let world = World::new().await;
    let shop = Shop::open().await;
    listens(&world, &shop).await;
    let charge = sold_at(&world, world.terminal, 420).await;
    shop.is(Mood::Fails);
    for _ in 0..webhooks::TRIES_MAX {
        round(&world).await;
        world.advance(61 * MINUTE);
    }
    assert_eq!(shop.all().len(), webhooks::TRIES_MAX as usize);
    round(&world).await;
    assert_eq!(shop.all().len(), webhooks::TRIES_MAX as usize);
    assert_eq!(world.store.count_parked().await.unwrap(), 1);
    assert_eq!(world.app.metrics.notices_parked.get(), 1);
    shop.is(Mood::Takes);
    given_back(&world, charge, 20).await;
    let other = sold_at(&world, world.terminal, 30).await;
    round(&world).await;
    let after = shop.all().split_off(webhooks::TRIES_MAX as usize);
    let charges: Vec<_> = after
        .iter()
        .map(|heard| charge_of(&heard.notice()))
        .collect();
    assert_eq!(charges, [other]);
    assert_eq!(
        world
            .store
            .retry_notices(world.merchant, world.now())
            .await
            .unwrap(),
        1
    );
    round(&world).await;
    let after = shop.all().split_off(webhooks::TRIES_MAX as usize + 1);
    let kinds: Vec<_> = after.iter().map(|heard| heard.notice().what).collect();
    assert!(
        matches!(kinds[..], [Noticed::Paid { .. }, Noticed::Refunded { .. }]),
        "{kinds:?}"
    );
    assert_eq!(world.store.count_parked().await.unwrap(), 0);
}

fn charge_of(notice: &Notice) -> ChargeId {
    match &notice.what {
        Noticed::Paid { entry, .. } | Noticed::Refunded { entry, .. } => entry.charge,
        Noticed::Closed { .. } => panic!("{notice:?}"),
    }
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_no_other_merchant() {
    let mut world = World::new().await;
    let (stuck, mut well) = (Shop::open().await, Shop::open().await);
    stuck.is(Mood::Hangs);
    listens(&world, &stuck).await;
    sold_at(&world, world.terminal, 420).await;
    world.merchant = ids::fresh(world.now(), MerchantId::from_parts);
    let second = Merchant {
        id: world.merchant,
        name: "Florist".into(),
        currency: Currency::EUR,
        account: ids::fresh(world.now(), AccountId::from_parts),
        fixed: None,
        open_cap: None,
        added_at: world.now(),
    };
    assert!(world.store.add_merchant(second).await.unwrap());
    let terminal = TerminalId::from_number(4_711_043).unwrap();
    world.add_terminal(terminal).await;
    listens(&world, &well).await;
    sold_at(&world, terminal, 30).await;
    let told = world.journey.webhooks.begin(world.now()).await.unwrap();
    assert_eq!(told.len(), 2);
    well.has_heard(1).await;
    assert!(
        told.iter().any(|told| !told.is_finished()),
        "the other still hangs"
    );
    // Whoever is being told is not told twice.
    sold_at(&world, terminal, 31).await;
    round(&world).await;
    well.has_heard(2).await;
    assert!(stuck.all().len() <= 1);
}

#[tokio::test]
async fn a_dispute_shows_everything_from_the_token_to_the_webhook() {
    let world = World::new().await;
    let shop = Shop::open().await;
    listens(&world, &shop).await;
    let charge = sold_at(&world, world.terminal, 420).await;
    world.advance(MINUTE);
    given_back(&world, charge, 20).await;
    round(&world).await;
    let closed = settlements::close(&world.app, world.merchant, "olga", true, world.now());
    assert_eq!(closed.await.unwrap().len(), 1);
    let found = world.store.dispute(charge.0).await.unwrap().unwrap();
    let what: Vec<_> = found.moments.iter().map(|it| it.what.as_str()).collect();
    let expected = [
        "charge started",
        "token spent",
        "approved",
        "paid",
        "receipt signed",
        "refund asked for",
        "refunded",
        "refund receipt signed",
        "merchant to be told",
        "webhook taken",
        "day closed",
    ];
    for one in expected {
        assert!(what.contains(&one), "{one}: {what:?}");
    }
    assert!(found.moments.is_sorted_by_key(|it| it.at));
    let spent = found
        .moments
        .iter()
        .find(|it| it.what == "token spent")
        .unwrap();
    assert_eq!(
        (spent.source, spent.facts["channel"].as_str()),
        (Source::Authority, "qr")
    );
    assert!(spent.facts.contains_key("turn") && spent.facts.contains_key("window"));
    let text = format!("{found:?}");
    assert!(!text.contains(crate::provider::ISSUER), "{text}");
    // Any of its ids finds the same.
    let paid = found.moments.iter().find(|it| it.what == "paid").unwrap();
    for id in ["payment", "receipt"] {
        let id = paid.facts[id].parse().unwrap();
        let same = world.store.dispute(id).await.unwrap().unwrap();
        assert_eq!(same.charge, charge);
    }
    let nothing = world.store.dispute(uuid::Uuid::nil()).await.unwrap();
    assert_eq!(nothing, None);
}

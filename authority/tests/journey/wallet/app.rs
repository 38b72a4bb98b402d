//! A shopper's app in a test's hand.

use authority::store::{Credit, Ledger, NewAccount, ServiceAccounts};
use protocol::ids::AccountId;
use protocol::money::Money;
use protocol::token::Channel;
use protocol::wire::wallet::{IdempotencyKey, PaymentRequest, WalletPayment};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use wallet_client::{Agreed, NoRandom, Refused, Request, Wallet, WalletKey};

use crate::world::{Answer, ORIGIN, World, answer, eur};

/// A shopper's app with a key of its own.
pub struct App<'w> {
    pub world: &'w World,
    pub wallet: Mutex<Wallet>,
    pub person: String,
}

impl<'w> App<'w> {
    pub fn of(world: &'w World, person: &str) -> Self {
        let key = WalletKey::generate().unwrap();
        let token = world.sign_in_with(person, &key);
        Self::holding(world, person, key, &token)
    }

    /// One whose shopper signed in strongly, so many milliseconds ago.
    pub fn strong(world: &'w World, person: &str, ago_ms: i64) -> Self {
        let key = WalletKey::generate().unwrap();
        let token = world.sign_in_strongly(person, &key, ago_ms);
        Self::holding(world, person, key, &token)
    }

    fn holding(world: &'w World, person: &str, key: WalletKey, token: &str) -> Self {
        Self {
            world,
            wallet: Mutex::new(Wallet::new(key, ORIGIN, token)),
            person: person.into(),
        }
    }

    pub async fn send(&self, build: impl Fn(&Wallet) -> Result<Request, NoRandom>) -> Answer {
        loop {
            let request = build(&*self.wallet.lock().await).unwrap();
            let answered = self.send_once(request).await;
            let nonce = answered.headers.get("dpop-nonce");
            let nonce = nonce.map(|it| it.to_str().unwrap());
            let read = wallet_client::Answer {
                status: answered.status,
                nonce,
                body: &answered.body,
            };
            let mut wallet = self.wallet.lock().await;
            if wallet.read::<Value>(&read) != Err(Refused::Again) {
                return answered;
            }
        }
    }

    async fn send_once(&self, request: Request) -> Answer {
        let path = request.url.strip_prefix(ORIGIN).unwrap();
        let mut asked = self.world.ask(request.method, path);
        for (name, value) in request.headers {
            asked = asked.header(name, value);
        }
        answer(asked.body(request.body)).await
    }

    pub async fn view(&self, token: &str) -> Answer {
        let now = self.world.now();
        self.send(|wallet| wallet.view(token, now)).await
    }

    pub async fn account(&self) -> AccountId {
        let person = self.world.person(&self.person);
        self.world.store.service_accounts(person).await.unwrap()[0].id
    }

    pub async fn agreed(&self, amount: Money) -> Agreed {
        Agreed {
            amount,
            payee: self.world.merchant,
            account: self.account().await,
        }
    }

    pub async fn signed(&self, token: &str, minor: i64) -> PaymentRequest {
        let agreed = self.agreed(eur(minor)).await;
        self.signed_as(token, &agreed).await
    }

    pub async fn signed_as(&self, token: &str, agreed: &Agreed) -> PaymentRequest {
        let wallet = self.wallet.lock().await;
        wallet.approve(token, agreed, self.world.now()).unwrap()
    }

    pub async fn pay(&self, name: &str, payment: &PaymentRequest) -> Answer {
        let (name, now) = (IdempotencyKey::new(name).unwrap(), self.world.now());
        self.send(|wallet| wallet.pay(&name, payment, now)).await
    }

    /// Signs and pays what the terminal shows on this channel now.
    pub async fn pays(&self, channel: Channel, minor: i64) -> Answer {
        let token = self.world.shown(channel).await;
        let payment = self.signed(&token, minor).await;
        self.pay(&format!("{token} {minor}"), &payment).await
    }
}

pub fn read<T: DeserializeOwned>(answer: &Answer) -> T {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[track_caller]
pub fn paid(answer: &Answer) -> WalletPayment {
    assert_eq!(answer.status, 201, "{answer:?}");
    read(answer)
}

impl World {
    pub async fn open_purse(&self, person: &str, amount: Money) {
        let id = authority::ids::fresh(self.now(), AccountId::from_parts);
        let account = NewAccount {
            id,
            person: self.person(person),
            currency: amount.currency(),
            at: self.now(),
        };
        assert!(self.store.open_account(account).await.unwrap());
        self.credit(id, amount, "opening").await;
    }

    pub async fn give_more(&self, person: &str, minor: i64) {
        let account = self.store.accounts_of(self.person(person)).await.unwrap()[0].id;
        self.credit(account, eur(minor), "more").await;
    }

    async fn credit(&self, account: AccountId, amount: Money, why: &str) {
        let credit = Credit {
            account,
            amount,
            reference: format!("{why} {account}"),
            at: self.now(),
        };
        self.store.credit(credit).await.unwrap();
    }
}

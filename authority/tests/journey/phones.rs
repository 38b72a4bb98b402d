//! A gateway on loopback that takes SMS and can be down, and an authority whose shoppers text.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use authority::http;
use authority::ids;
use authority::listen::{self, Listening};
use authority::services::sms::Sms;
use authority::store::{Credit, Ledger, Merchant, NewAccount, PersonKey};
use protocol::ids::AccountId;
use protocol::money::Currency;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{More, World, eur};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const PASSWORD: &str = "a-password-of-smsbox";
pub const SHORT: &str = "12345";
pub const ANN: &str = "+33612345678";
pub const BOB: &str = "+33698765432";

/// What the gateway was given for a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub to: String,
    pub text: String,
    pub coding: String,
}

/// Takes SMS as Kannel's smsbox does.
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    sent: Mutex<VecDeque<Sent>>,
    /// What it answers; 202 takes the SMS.
    status: AtomicU16,
    asked: AtomicUsize,
}

impl Gateway {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            sent: Mutex::default(),
            status: AtomicU16::new(202),
            asked: AtomicUsize::new(0),
        });
        tokio::spawn(serve(listener, shared.clone()));
        Self { address, shared }
    }

    pub fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// What it took since the last look.
    pub fn took(&self) -> Vec<Sent> {
        self.shared.sent.lock().unwrap().drain(..).collect()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let (head, body) = request(&mut socket).await;
            shared.asked.fetch_add(1, Ordering::SeqCst);
            let header = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_owned()).unwrap_or_default()
            };
            assert_eq!(header("x-kannel-username"), "m2key");
            assert_eq!(header("x-kannel-password"), PASSWORD);
            assert_eq!(header("x-kannel-from"), SHORT);
            assert!(!head.lines().next().unwrap().contains(PASSWORD), "{head}");
            let status = shared.status.load(Ordering::SeqCst);
            if status == 202 {
                shared.sent.lock().unwrap().push_back(Sent {
                    to: header("x-kannel-to"),
                    text: body,
                    coding: header("x-kannel-coding"),
                });
            }
            let answer =
                format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = socket.write_all(answer.as_bytes()).await;
        });
    }
}

async fn request(socket: &mut tokio::net::TcpStream) -> (String, String) {
    let mut read = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = socket.read(&mut chunk).await.unwrap();
        read.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) || count == 0 {
                return (head.to_owned(), body.to_owned());
            }
        }
    }
}

/// An authority that takes texts.
pub struct Texting {
    pub world: World,
    pub gateway: Gateway,
    texts: SocketAddr,
    messages: AtomicUsize,
    http: reqwest::Client,
    _secrets: TempDir,
}

impl Texting {
    /// Both phones have an account in the ledger with 500.00 on it.
    pub async fn new() -> Self {
        Self::with("ledger", More::default(), |merchant| merchant).await
    }

    pub async fn with(rail: &str, more: More, merchant: impl FnOnce(Merchant) -> Merchant) -> Self {
        let (gateway, secrets) = (Gateway::start().await, tempfile::tempdir().unwrap());
        let config = section(rail, &gateway, secrets.path());
        let more = More { config, ..more };
        let world = World::with_more(more, merchant).await;
        if rail == "ledger" {
            for number in [ANN, BOB] {
                give(&world, number, 50_000).await;
            }
        }
        Self::around(world, gateway, secrets).await
    }

    async fn around(world: World, gateway: Gateway, secrets: TempDir) -> Self {
        let listening = Listening::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let texts = listening.address();
        let listener = listen::loopback(listening, http::sms::routes(&world.journey));
        tokio::spawn(listener.run(world.app.clone()));
        Self {
            world,
            gateway,
            texts,
            messages: AtomicUsize::new(1),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _secrets: secrets,
        }
    }

    /// The same database, a new process.
    pub async fn restart(self) -> Self {
        let messages = self.messages.load(Ordering::SeqCst);
        let again = Self::around(self.world.restart().await, self.gateway, self._secrets).await;
        again.messages.store(messages, Ordering::SeqCst);
        again
    }

    pub fn sms(&self) -> &Sms {
        self.world.journey.sms.as_ref().unwrap()
    }

    /// Brings a text as the gateway does; answers the status.
    pub async fn bring(&self, id: &str, link: &str, from: &str, to: &str, text: &str) -> u16 {
        self.bring_with(SECRET, id, link, from, to, text).await
    }

    pub async fn bring_with(
        &self,
        secret: &str,
        id: &str,
        link: &str,
        from: &str,
        to: &str,
        text: &str,
    ) -> u16 {
        let url = format!("http://{}{}", self.texts, http::sms::TEXTS_PATH);
        let query = [("id", id), ("link", link), ("from", from), ("to", to)];
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        let request = self.http.post(url).basic_auth("m2key", Some(secret));
        let request = request.header("content-type", "text/plain; charset=\"UTF-8\"");
        request
            .body(text.to_owned())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    /// A text from a phone, on its way: nothing is answered yet.
    pub async fn text(&self, from: &str, text: &str) {
        let id = self.messages.fetch_add(1, Ordering::SeqCst).to_string();
        assert_eq!(self.bring(&id, "home", from, SHORT, text).await, 200);
    }

    /// A text from a phone, and what all phones are told then.
    pub async fn say(&self, from: &str, text: &str) -> Vec<Sent> {
        self.text(from, text).await;
        self.work().await
    }

    /// The same where one answer to the same phone is expected.
    pub async fn told(&self, from: &str, text: &str) -> String {
        let sent = self.say(from, text).await;
        assert_eq!(sent.len(), 1, "{text}: {sent:?}");
        assert_eq!(sent[0].to, from);
        sent[0].text.clone()
    }

    pub async fn work(&self) -> Vec<Sent> {
        // An answer may bring the next step about.
        for _ in 0..2 {
            self.sms().work(self.world.now()).await.unwrap();
        }
        self.gateway.took()
    }

    pub async fn balance(&self, number: &str) -> i64 {
        let accounts = self.world.store.accounts_of(person(number)).await.unwrap();
        accounts[0].balance_minor
    }
}

/// The number in an offer.
pub fn number_in(offer: &str) -> String {
    let words: Vec<&str> = offer.split([' ', ',']).collect();
    let is_number = |it: &&&str| it.len() == 6 && it.bytes().all(|byte| byte.is_ascii_digit());
    let numbers: Vec<_> = words.iter().filter(is_number).collect();
    assert_eq!(numbers.len(), 1, "{offer}");
    numbers[0].to_string()
}

pub fn person(number: &str) -> PersonKey {
    PersonKey {
        issuer: "urn:m2key:sms:home".into(),
        subject: number.into(),
    }
}

async fn give(world: &World, number: &str, minor: i64) {
    let (id, at) = (ids::fresh(world.now(), AccountId::from_parts), world.now());
    let account = NewAccount {
        id,
        person: person(number),
        currency: Currency::EUR,
        at,
    };
    assert!(world.store.open_account(account).await.unwrap());
    let credit = Credit {
        account: id,
        amount: eur(minor),
        reference: format!("opening {number}"),
        at,
    };
    world.store.credit(credit).await.unwrap();
}

fn section(rail: &str, gateway: &Gateway, dir: &Path) -> String {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let rails = match rail {
        "ledger" => String::new(),
        name => format!(
            "[[rails]]\nname = \"{name}\"\nkind = \"invoice\"\nurl = \"https://127.0.0.1:1\"\n"
        ),
    };
    let (secret, password) = (write("secret", SECRET), write("password", PASSWORD));
    format!(
        r#"
        [sms]
        carrier = "home"
        short_number = "{SHORT}"
        on_net = ["home"]
        prefixes = ["+336"]
        rail = "{rail}"
        secret_file = "{secret}"
        send_url = "http://{}/cgi-bin/sendsms"
        send_user = "m2key"
        send_password_file = "{password}"
        {rails}
        "#,
        gateway.address
    )
}

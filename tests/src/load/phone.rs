//! What does a shopper's phone send?
//!
//! The requests are those of `wallet-client`; the connection is new for every payment, as with people who walk by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::dpop::PROOF_HEADER;
use protocol::ids::ClaimId;
use protocol::jwk::JwkSet;
use protocol::money::Money;
use protocol::problem::{Problem, ProblemType};
use protocol::token::Channel;
use protocol::wire::claims::{
    ApprovalRequest, ApprovalResponse, CLAIM_COOKIE, CLAIMS_PATH, ClaimRequest, ClaimState,
    ClaimView, JWKS_PATH,
};
use reqwest::{Client, Response, StatusCode};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use wallet_client::{ANSWER_NONCE, Answer, Refused, Request, Wallet, WalletKey};

use super::fleet::{Customer, Fleet};
use super::stopwatch::wall;
use crate::{Failure, web};

/// Where there are several nodes, one that says nothing for this part of the patience is left for the next.
const NEXT_NODE_AFTER: u32 = 4;

/// The way from phones to the authority, the same for all of them.
pub struct Air {
    origin: String,
    /// Where each node answers: its address, and what its host resolves to.
    nodes: Vec<Node>,
    tls: ClientConfig,
    bank: Client,
    token_url: String,
    /// Longest wait for one answer.
    answer_max: Duration,
}

struct Node {
    base: String,
    host: String,
    addresses: Vec<SocketAddr>,
}

/// One phone of one shopper.
pub struct Phone {
    air: Arc<Air>,
    customer: Customer,
    node: usize,
    http: Client,
    wallet: Wallet,
}

/// A claim, and the cookie that opens it.
pub struct Held {
    pub view: ClaimView,
    /// What was spent for it, as it was shown.
    pub shown: String,
    pub cookie: String,
}

/// What an approval came to.
pub enum Approved {
    Receipt(Box<ApprovalResponse>),
    /// Whoever moves the money is at work.
    Pending,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Trouble {
    Problem(Box<Problem>),
    /// No answer, or none that can be read.
    Unanswered(String),
}

pub type Asked<T> = Result<T, Trouble>;

#[derive(Deserialize)]
struct SignedIn {
    access_token: String,
}

impl Air {
    pub async fn of(fleet: &Fleet, patience: Duration) -> Result<Arc<Self>, Failure> {
        let mut nodes = Vec::new();
        for base in &fleet.public {
            nodes.push(Node::at(base).await?);
        }
        Ok(Arc::new(Self {
            origin: fleet.origin.clone(),
            nodes,
            tls: tls(fleet)?,
            bank: web::trusting(&fleet.bank.ca)?,
            token_url: fleet.bank.token_url.clone(),
            answer_max: match fleet.public.len() {
                1 => patience,
                _ => patience / NEXT_NODE_AFTER,
            },
        }))
    }

    /// The keys that verify receipts, as they are published.
    pub async fn keys(&self) -> Result<JwkSet, Failure> {
        self.ask(JWKS_PATH, "").await
    }

    /// How this claim stands, for whoever has its cookie.
    pub async fn look(&self, claim: ClaimId, cookie: &str) -> Result<ClaimState, Failure> {
        let view: ClaimView = self.ask(&format!("{CLAIMS_PATH}/{claim}"), cookie).await?;
        Ok(view.state)
    }

    /// Asks one node after the other, until one answers.
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        cookie: &str,
    ) -> Result<T, Failure> {
        let mut refused = Failure::new("there is no node");
        for (number, node) in self.nodes.iter().enumerate() {
            let get = self.connect(number)?.get(format!("{}{path}", node.base));
            let answer = match get.header("cookie", cookie).send().await {
                Ok(response) => web::read_answer(response).await,
                Err(error) => Err(web::sent(&error)),
            };
            match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(problem)) => refused = Failure::new(problem.title),
                Err(failure) => refused = failure,
            }
        }
        Err(refused)
    }

    fn connect(&self, node: usize) -> Result<Client, Failure> {
        let Node {
            host, addresses, ..
        } = &self.nodes[node];
        let mut tls = self.tls.clone();
        tls.resumption = Resumption::disabled();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(host, addresses)
            .timeout(self.answer_max);
        client.build().map_err(|error| web::sent(&error))
    }
}

impl Node {
    async fn at(base: &str) -> Result<Self, Failure> {
        let url: reqwest::Url = base.parse().map_err(Failure::of(base))?;
        let port = url.port_or_known_default();
        let (host, port) = url
            .host_str()
            .zip(port)
            .ok_or_else(|| Failure::new(format!("{base} is no address of a server")))?;
        let found = tokio::net::lookup_host((host, port)).await;
        // Not the one that nobody listens on first: that would be a detour of this machine's.
        let mut addresses: Vec<_> = found.map_err(Failure::of(base))?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        Ok(Self {
            base: base.trim_end_matches('/').into(),
            host: host.into(),
            addresses,
        })
    }
}

fn tls(fleet: &Fleet) -> Result<ClientConfig, Failure> {
    let root = pki::Certificate::load(&fleet.root).map_err(Failure::of(fleet.root.display()))?;
    let mut roots = RootCertStore::empty();
    roots
        .add(root.der().to_vec().into())
        .map_err(Failure::of(fleet.root.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failure::of("TLS"))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl Phone {
    /// The phone of this customer, signed in at the bank; it talks to one node.
    pub async fn of(air: &Arc<Air>, customer: &Customer, number: usize) -> Result<Self, Failure> {
        let node = number % air.nodes.len();
        let key = WalletKey::generate().map_err(Failure::of("a key for the phone"))?;
        let mut phone = Self {
            http: air.connect(node)?,
            wallet: Wallet::new(key, &air.origin, ""),
            customer: customer.clone(),
            air: air.clone(),
            node,
        };
        phone.sign_in().await?;
        Ok(phone)
    }

    /// From now on every request carries a fresh access token.
    pub async fn sign_in(&mut self) -> Result<(), Failure> {
        let url = &self.air.token_url;
        let proof = self.wallet.key().prove("POST", url, None, None, wall());
        let Customer { name, password } = &self.customer;
        let sent = self
            .air
            .bank
            .post(url)
            .header(
                PROOF_HEADER,
                proof.map_err(Failure::of("a proof of the phone's key"))?,
            )
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("shopper={name}&password={password}"))
            .send();
        let answer = sent.await.map_err(|error| web::sent(&error))?;
        if !answer.status().is_success() {
            return Err(Failure::new(format!("the bank refuses {name}")));
        }
        let answer: SignedIn = answer.json().await.map_err(|error| web::sent(&error))?;
        self.wallet.renew(&answer.access_token);
        Ok(())
    }

    /// Leaves its connection behind, as somebody does who pays for the first time today.
    pub fn walk_by(&mut self) -> Result<(), Failure> {
        self.http = self.air.connect(self.node)?;
        Ok(())
    }

    /// How long it waits for one answer.
    pub fn answer_max(&self) -> Duration {
        self.air.answer_max
    }

    /// Its node does not answer: it goes to the next one, as a balancer would send it. Where there is one node it
    /// stays. Answers whether it went.
    pub fn go_elsewhere(&mut self) -> bool {
        let next = (self.node + 1) % self.air.nodes.len();
        let Some(http) = self.air.connect(next).ok().filter(|_| next != self.node) else {
            return false;
        };
        (self.node, self.http) = (next, http);
        true
    }

    /// Opens the link, or the page on which a code is typed; spends nothing.
    pub async fn resolve(&self, channel: Channel, shown: &str) -> Asked<()> {
        let path = match channel {
            Channel::Nfc | Channel::Qr => path_of(shown),
            Channel::Code => "/",
        };
        let url = format!("{}{path}", self.air.nodes[self.node].base);
        let response = self.http.get(url).send().await.map_err(unanswered)?;
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|it| it.to_str().ok()?.parse().ok());
        let (status, _) = read(response).await?;
        match status.is_success() {
            true => Ok(()),
            false => Err(Trouble::Problem(Box::new(page(status, retry_after)))),
        }
    }

    /// Spends the token.
    pub async fn claim(&mut self, shown: &str) -> Asked<Held> {
        let body = ClaimRequest {
            token: shown.into(),
        };
        let answered = self.ask(CLAIMS_PATH, "", &body).await?;
        let cookie = answered.cookie.clone();
        let view = self.understood(&answered)?;
        let cookie = cookie.ok_or(Trouble::Unanswered("a claim without its cookie".into()))?;
        Ok(Held {
            view,
            shown: shown.into(),
            cookie,
        })
    }

    /// Agrees to what the claim says; the same again is the same payment.
    pub async fn approve(&mut self, held: &Held, amount: Money) -> Asked<Approved> {
        let body = ApprovalRequest {
            amount,
            payee: held.view.payee.id,
            account: None,
            assertion: None,
        };
        let answered = self
            .ask(&approval_path(held.view.claim), &held.cookie, &body)
            .await?;
        match answered.status {
            StatusCode::ACCEPTED => Ok(Approved::Pending),
            _ => self.understood(&answered).map(Approved::Receipt),
        }
    }

    /// Posts with a proof, and once more where the authority asks for its nonce.
    async fn ask(
        &mut self,
        path: &str,
        cookie: &str,
        body: &impl serde::Serialize,
    ) -> Asked<Answered> {
        let body = serde_json::to_vec(body).expect("strings and numbers serialize");
        loop {
            let request = self.wallet.request("POST", path, body.clone(), wall());
            let request = request.map_err(|error| Trouble::Unanswered(error.to_string()))?;
            let answered = self.send(request, cookie).await?;
            match self.wallet.read::<serde::de::IgnoredAny>(&answered.seen()) {
                Err(Refused::Again) => {}
                _ => return Ok(answered),
            }
        }
    }

    async fn send(&self, request: Request, cookie: &str) -> Asked<Answered> {
        let path = request.url.strip_prefix(self.air.origin.as_str());
        let url = format!(
            "{}{}",
            self.air.nodes[self.node].base,
            path.unwrap_or_default()
        );
        let mut post = self.http.post(url).body(request.body);
        for (name, value) in request.headers {
            post = post.header(name, value);
        }
        if !cookie.is_empty() {
            post = post.header("cookie", cookie);
        }
        let response = post.send().await.map_err(unanswered)?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        let nonce = header(ANSWER_NONCE);
        let cookie = header("set-cookie").and_then(|set| {
            let pair = set.split(';').next()?;
            pair.starts_with(CLAIM_COOKIE).then(|| pair.to_owned())
        });
        let (status, body) = read(response).await?;
        Ok(Answered {
            status,
            nonce,
            cookie,
            body,
        })
    }

    fn understood<T: serde::de::DeserializeOwned>(&mut self, answered: &Answered) -> Asked<T> {
        match self.wallet.read(&answered.seen()) {
            Ok(read) => Ok(read),
            Err(Refused::Problem(problem)) => Err(Trouble::Problem(problem)),
            Err(other) => Err(Trouble::Unanswered(other.to_string())),
        }
    }
}

/// One answer, with what the phone keeps of it.
struct Answered {
    status: StatusCode,
    nonce: Option<String>,
    cookie: Option<String>,
    body: Vec<u8>,
}

impl Answered {
    fn seen(&self) -> Answer<'_> {
        Answer {
            status: self.status.as_u16(),
            nonce: self.nonce.as_deref(),
            body: &self.body,
        }
    }
}

async fn read(response: Response) -> Asked<(StatusCode, Vec<u8>)> {
    let status = response.status();
    let body = response.bytes().await.map_err(unanswered)?;
    Ok((status, body.to_vec()))
}

/// A refusal in words for people: what is left of its type is the status.
fn page(status: StatusCode, retry_after_s: Option<u32>) -> Problem {
    Problem {
        type_: format!("page-{}", status.as_u16()),
        status: status.as_u16(),
        retry_after_s,
        ..Problem::new(ProblemType::Internal)
    }
}

fn unanswered(error: reqwest::Error) -> Trouble {
    let why = match () {
        () if error.is_timeout() => "no answer in time",
        () if error.is_connect() => "no connection",
        () => "connection lost",
    };
    Trouble::Unanswered(why.into())
}

fn approval_path(claim: ClaimId) -> String {
    format!("{CLAIMS_PATH}/{claim}/approval")
}

/// What follows the host of a link.
fn path_of(link: &str) -> &str {
    let rest = link.strip_prefix("https://").unwrap_or(link);
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

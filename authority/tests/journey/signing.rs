//! A wallet between a fuzzer and the authority: it signs in, proves its key, and now and then turns what
//! the fuzzer made up into what a shopper would send.
//!
//! Every fourth request goes on as it came, the others with an access token and a proof. Of those, every
//! other one gets tokens that the terminal shows, approvals over them, and the ids of claims and payments
//! that are there. Everything else stays the fuzzer's.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use authority::http::{Public, Routes, body, problem};
use authority::listen::{self, Listening, Plain};
use authority::store::ServiceAccounts;
use http::{HeaderMap, Method};
use protocol::problem::{Problem, ProblemType};
use protocol::token::Channel;
use protocol::wire::wallet::{SignedApproval, token_hash};
use serde_json::{Value, json};
use warp::Filter;
use warp::path::FullPath;
use warp::reply::Response;

use crate::world::{ORIGIN, World, eur};

/// Requests that were answered: method, path with `{}` for an id, status.
type Seen = BTreeSet<(String, String, u16)>;

/// More than the authority takes, so that it is the one to say so.
const BODY_MAX: u64 = 1_000_000;
/// What the wallet signs for: good, too much for the terminal, and too much for the purse.
const AMOUNTS: [i64; 4] = [1, 1, 1_000, 1_001];

pub struct Signing {
    url: String,
    between: Arc<Between>,
}

struct Between {
    world: Arc<World>,
    http: reqwest::Client,
    count: AtomicUsize,
    seen: Mutex<Seen>,
    /// The last claim and its cookie, and the last payment.
    claim: Mutex<Option<(String, String)>>,
    payment: Mutex<Option<String>>,
    /// One token is on show; two who take it at a time would get in each other's way.
    taking: tokio::sync::Mutex<()>,
}

/// A request of the fuzzer, as it goes on.
struct Passed {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Signing {
    pub async fn start(world: Arc<World>) -> Self {
        let app = world.app.clone();
        let between = Arc::new(Between {
            world,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            count: AtomicUsize::new(0),
            seen: Mutex::default(),
            claim: Mutex::default(),
            payment: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
        });
        let passing = between.clone();
        let route = warp::method()
            .and(warp::path::full())
            .and(warp::header::headers_cloned())
            .and(body::bytes(BODY_MAX))
            .then(move |method, path: FullPath, headers, body| {
                let between = passing.clone();
                let request = Passed {
                    method,
                    path: path.as_str().into(),
                    headers,
                    body,
                };
                async move { between.pass(request).await }
            });
        let listening = Listening::bind("127.0.0.1:0".parse().unwrap()).await;
        let listening = listening.unwrap();
        let url = format!("http://{}", listening.address());
        let routes: Routes<Public> = Routes::new("fuzzer", route);
        tokio::spawn(listen::public(listening, routes).over(Plain).run(app));
        Self { url, between }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn seen(&self) -> Seen {
        self.between.seen.lock().unwrap().clone()
    }
}

impl Between {
    async fn pass(&self, mut request: Passed) -> Response {
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let signs = count % 4 != 0 && request.path != "/openapi.json";
        let _taking = match signs && count % 2 == 0 {
            true => {
                let taking = self.taking.lock().await;
                self.make_real(&mut request, count).await;
                Some(taking)
            }
            false => None,
        };
        if signs {
            self.sign(&mut request).await;
        }
        let answered = self.send(&request).await;
        self.remember(&request, &answered);
        answered
    }

    async fn make_real(&self, request: &mut Passed, count: usize) {
        let parts: Vec<_> = request.path.split('/').collect();
        let path = match (parts.as_slice(), self.last_claim(), self.last_payment()) {
            (["", "v1", "claims", _, rest @ ..], Some((claim, cookie)), _) => {
                let cookie = cookie.parse().unwrap();
                request.headers.insert("cookie", cookie);
                let rest: String = rest.iter().map(|part| format!("/{part}")).collect();
                format!("/v1/claims/{claim}{rest}")
            }
            (["", "v1", "wallet", "payments", _], _, Some(payment)) => {
                format!("/v1/wallet/payments/{payment}")
            }
            _ => request.path.clone(),
        };
        request.path = path;
        let Ok(Value::Object(mut body)) = serde_json::from_slice(&request.body) else {
            return;
        };
        let amount = eur(AMOUNTS[count / 4 % AMOUNTS.len()]);
        if body.contains_key("token") {
            let token = self.world.shown(Channel::Nfc).await;
            if body.contains_key("approval") {
                body["approval"] = json!(self.approval(&token, count).await);
                let name = format!("\"{count}\"").parse().unwrap();
                request.headers.insert("idempotency-key", name);
            }
            body["token"] = json!(token);
        }
        if body.contains_key("payee") {
            body["payee"] = json!(self.world.merchant);
            body["amount"] = json!(amount);
            body.remove("account");
        }
        request.body = serde_json::to_vec(&body).unwrap();
    }

    async fn approval(&self, token: &str, count: usize) -> String {
        let person = self.world.person("ann");
        let accounts = self.world.store.service_accounts(person).await.unwrap();
        self.world.key.sign(&SignedApproval {
            aud: ORIGIN.into(),
            jti: format!("approval {count}"),
            iat: self.world.now().secs(),
            token_hash: token_hash(token).unwrap(),
            amount: eur(AMOUNTS[count / 4 % AMOUNTS.len()]),
            payee: self.world.merchant,
            account: accounts[0].id,
        })
    }

    async fn sign(&self, request: &mut Passed) {
        let token = self.world.sign_in("ann");
        let (method, path) = (request.method.as_str(), request.path.as_str());
        let proof = self.world.proof(method, path, &token).await;
        let headers = &mut request.headers;
        headers.insert("authorization", format!("DPoP {token}").parse().unwrap());
        headers.insert("dpop", proof.parse().unwrap());
    }

    async fn send(&self, request: &Passed) -> Response {
        let url = self.world.url(&request.path);
        let mut headers = request.headers.clone();
        for of_this_hop in ["host", "content-length", "transfer-encoding", "connection"] {
            headers.remove(of_this_hop);
        }
        let passed = self.http.request(request.method.clone(), url);
        let passed = passed.headers(headers).body(request.body.clone());
        let answered = match passed.send().await {
            Ok(answered) => answered,
            // What this client cannot even write down nobody can send.
            Err(error) => {
                let problem = Problem::new(ProblemType::MalformedRequest);
                return problem::response(&problem.with_detail(error));
            }
        };
        let (status, headers) = (answered.status(), answered.headers().clone());
        let mut response = warp::Reply::into_response(answered.bytes().await.unwrap().to_vec());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response.headers_mut().remove("transfer-encoding");
        response
    }

    fn remember(&self, request: &Passed, response: &Response) {
        let status = response.status().as_u16();
        let text = |name: &str| {
            let value = response.headers().get(name);
            value.map(|it| it.to_str().unwrap().to_owned())
        };
        let last = |place: String| place.rsplit('/').next().unwrap().to_owned();
        match (request.path.as_str(), text("location"), text("set-cookie")) {
            ("/v1/claims", Some(place), Some(cookie)) => {
                let cookie = cookie.split(';').next().unwrap().to_owned();
                *self.claim.lock().unwrap() = Some((last(place), cookie));
            }
            ("/v1/wallet/payments", Some(place), None) => {
                *self.payment.lock().unwrap() = Some(last(place));
            }
            _ => {}
        }
        let is_id = |part: &str| part.len() == 36 && part.matches('-').count() == 4;
        let part = |part| if is_id(part) { "{}" } else { part };
        let path: Vec<_> = request.path.split('/').map(part).collect();
        let seen = (request.method.to_string(), path.join("/"), status);
        self.seen.lock().unwrap().insert(seen);
    }

    fn last_claim(&self) -> Option<(String, String)> {
        self.claim.lock().unwrap().clone()
    }

    fn last_payment(&self) -> Option<String> {
        self.payment.lock().unwrap().clone()
    }
}

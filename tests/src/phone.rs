//! What does a shopper's phone do? It reads a token, claims, signs in and approves.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::dpop::{NONCE_HEADER, PROOF_HEADER};
use protocol::ids::ClaimId;
use protocol::money::Money;
use protocol::presented::Presented;
use protocol::time::Timestamp;
use protocol::wire::claims::{
    ApprovalRequest, ApprovalResponse, CLAIM_COOKIE, CLAIMS_PATH, ClaimRequest, ClaimView,
};
use reqwest::{Client, Request, RequestBuilder, Response};
use serde::Deserialize;
use wallet_client::WalletKey;

use crate::authority::Authority;
use crate::bank::Bank;
use crate::terminal::Terminal;
use crate::web::{self, Answer};
use crate::{Failure, wait};

/// One phone of one shopper.
pub struct Phone {
    shopper: String,
    public_url: String,
    http: Client,
    bank: Client,
    key: WalletKey,
    access_token: Option<String>,
    /// What the authority last said its proofs must carry.
    nonce: Mutex<Option<String>>,
}

/// What the phone holds after it claimed: what it shows, and the cookie that opens it again.
#[derive(Clone)]
pub struct Claim {
    pub view: ClaimView,
    cookie: String,
}

/// A payment as the phone keeps it: the answer itself, and its bytes.
pub struct Approved {
    pub response: ApprovalResponse,
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct SignedIn {
    access_token: String,
}

impl Claim {
    /// What somebody has who saw the claim's id and not the phone.
    pub fn without_cookie(&self) -> Self {
        Self {
            view: self.view.clone(),
            cookie: String::new(),
        }
    }
}

impl Phone {
    /// A phone that nobody has signed in on yet.
    pub fn of(shopper: &str, authority: &Authority, bank: &Bank) -> Result<Self, Failure> {
        Ok(Self {
            shopper: shopper.into(),
            public_url: authority.public_url()?,
            http: web::trusting(&authority.root())?,
            bank: web::trusting(bank.ca())?,
            key: WalletKey::generate().map_err(Failure::of("a key for the phone"))?,
            access_token: None,
            nonce: Mutex::default(),
        })
    }

    pub fn shopper(&self) -> &str {
        &self.shopper
    }

    /// Signs in at the bank; from now on every request carries the access token.
    pub async fn sign_in(&mut self, bank: &Bank) -> Result<(), Failure> {
        let shopper = bank.shopper(&self.shopper)?;
        let form = format!("shopper={}&password={}", shopper.name, shopper.password);
        let url = format!("{}/token", bank.issuer());
        let proof = self.key.prove("POST", &url, None, None, now());
        let proof = proof.map_err(Failure::of("a proof of the phone's key"))?;
        let request = self.bank.post(url).header(PROOF_HEADER, proof);
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let response = request.send().await.map_err(|e| web::sent(&e))?;
        if !response.status().is_success() {
            return Err(Failure::new(format!("the bank refuses {}", shopper.name)));
        }
        let bytes = response.bytes().await.map_err(|e| web::sent(&e))?;
        self.access_token = Some(web::parse::<SignedIn>(&bytes)?.access_token);
        Ok(())
    }

    // ── how a token reaches the phone ─────────────────────────────────────────────────────────

    /// Held to the terminal's tag until it reads a link: the reader lets go of it between writes.
    pub async fn tap(&self, terminal: &Terminal) -> Result<String, Failure> {
        self.tap_other_than(terminal, "").await
    }

    /// Held to the tag until it reads another link than this one.
    pub async fn tap_other_than(&self, terminal: &Terminal, last: &str) -> Result<String, Failure> {
        let read = async || terminal.tap().filter(|link| link != last);
        wait::until("a link on the tag", read).await
    }

    /// Scans the QR code on the screen.
    pub async fn scan(&self, terminal: &Terminal) -> Result<String, Failure> {
        Ok(terminal.kiosk().faces().await?.link)
    }

    /// Reads the typed code off the screen, as a person would.
    pub async fn read_code(&self, terminal: &Terminal) -> Result<String, Failure> {
        Ok(terminal.kiosk().faces().await?.code)
    }

    // ── what it does with it ──────────────────────────────────────────────────────────────────

    /// Claims: this spends the token.
    pub async fn claim(&self, token: &str) -> Answer<Claim> {
        let request = ClaimRequest {
            token: token.into(),
        };
        let url = format!("{}{CLAIMS_PATH}", self.origin_of(token));
        let response = self.send(self.http.post(url).json(&request)).await?;
        let cookie = claim_cookie(&response);
        match web::read_answer(response).await? {
            Err(problem) => Ok(Err(problem)),
            Ok(view) => {
                let cookie =
                    cookie.ok_or_else(|| Failure::new("a claim came without its cookie"))?;
                Ok(Ok(Claim { view, cookie }))
            }
        }
    }

    /// Claims what must be accepted.
    pub async fn must_claim(&self, token: &str) -> Result<Claim, Failure> {
        let refused = |problem: protocol::problem::Problem| {
            let detail = problem.detail.unwrap_or_default();
            Failure::new(format!("the claim is refused: {} {detail}", problem.title))
        };
        self.claim(token).await?.map_err(refused)
    }

    /// Looks at a claim again.
    pub async fn look(&self, claim: &Claim) -> Answer<ClaimView> {
        let request = self.http.get(self.claim_url(claim.view.claim));
        web::read_answer(self.send(request.header("cookie", &claim.cookie)).await?).await
    }

    /// Approves amount and payee as this phone shows them: the signature of the payment act.
    pub async fn approve(&self, claim: &Claim) -> Answer<Approved> {
        let amount = claim.view.amount;
        self.approve_amount(
            claim,
            amount.ok_or_else(|| Failure::new("no amount to approve"))?,
        )
        .await
    }

    /// Approves this amount, whatever the terminal asks for.
    pub async fn approve_amount(&self, claim: &Claim, amount: Money) -> Answer<Approved> {
        let request = ApprovalRequest {
            amount,
            payee: claim.view.payee.id,
            account: None,
            assertion: None,
        };
        let url = format!("{}/approval", self.claim_url(claim.view.claim));
        let post = self
            .http
            .post(url)
            .header("cookie", &claim.cookie)
            .json(&request);
        let response = self.send(post).await?;
        match web::read_bytes(response).await? {
            Err(problem) => Ok(Err(problem)),
            Ok(bytes) => Ok(Ok(Approved {
                response: web::parse(&bytes)?,
                bytes,
            })),
        }
    }

    /// Approves what must be accepted.
    pub async fn must_approve(&self, claim: &Claim) -> Result<Approved, Failure> {
        let refused = |problem: protocol::problem::Problem| {
            let detail = problem.detail.unwrap_or_default();
            Failure::new(format!(
                "the approval is refused: {} {detail}",
                problem.title
            ))
        };
        self.approve(claim).await?.map_err(refused)
    }

    fn claim_url(&self, claim: ClaimId) -> String {
        format!("{}{CLAIMS_PATH}/{claim}", self.public_url)
    }

    /// A link leads to its own host; what was typed goes to the one the shopper knows.
    fn origin_of(&self, token: &str) -> String {
        let host = token
            .strip_prefix("https://")
            .and_then(|rest| rest.split('/').next());
        match host {
            Some(host) if Presented::parse(token).is_ok() => format!("https://{host}"),
            _ => self.public_url.clone(),
        }
    }

    /// Sends it with the access token and a proof; once more where the authority asks for its nonce.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = request.build().map_err(|e| web::sent(&e))?;
        for last in [false, true] {
            let again = request.try_clone();
            let again = again.ok_or_else(|| Failure::new("a body that cannot be sent twice"))?;
            let response = self.http.execute(self.with_proof(again)?).await;
            let response = response.map_err(|e| web::sent(&e))?;
            let nonce = response.headers().get(NONCE_HEADER);
            let nonce = nonce
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            let asked = response.headers().get("www-authenticate");
            let asked = asked.and_then(|value| value.to_str().ok());
            let wanted = asked.is_some_and(|it| it.contains("use_dpop_nonce"));
            *self.nonce.lock().expect("nobody panics with it") = nonce;
            if last || !wanted {
                return Ok(response);
            }
        }
        Err(Failure::new("the second answer is the last"))
    }

    fn with_proof(&self, mut request: Request) -> Result<Request, Failure> {
        let Some(token) = &self.access_token else {
            return Ok(request);
        };
        let nonce = self.nonce.lock().expect("nobody panics with it").clone();
        let (method, url) = (request.method().as_str(), request.url().as_str());
        let proof = self
            .key
            .prove(method, url, Some(token), nonce.as_deref(), now());
        let proof = proof.map_err(Failure::of("a proof of the phone's key"))?;
        for (name, value) in [
            ("authorization", format!("DPoP {token}")),
            (PROOF_HEADER, proof),
        ] {
            let value = value.parse().map_err(Failure::of("a header"))?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}

/// By this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_ms(since.map_or(0, |since| since.as_millis() as i64))
}

/// `name=value` of the claim's cookie, if it is set as safely as its name promises.
fn claim_cookie(response: &reqwest::Response) -> Option<String> {
    let set: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    set.iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|value| {
            let mut parts = value.split(';').map(str::trim);
            let pair = parts.next()?;
            let attributes: Vec<_> = parts.map(str::to_ascii_lowercase).collect();
            let has = |wanted: &str| attributes.iter().any(|attribute| attribute == wanted);
            let safe = has("secure") && has("httponly") && has("path=/");
            (safe && pair.split('=').next() == Some(CLAIM_COOKIE)).then(|| pair.to_owned())
        })
}

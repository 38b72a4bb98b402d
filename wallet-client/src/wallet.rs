//! What does the wallet ask, and what does the answer mean?

use protocol::dpop::{NONCE_HEADER, PROOF_HEADER};
use protocol::ids::{AccountId, MerchantId, PaymentId};
use protocol::money::Money;
use protocol::presented::Malformed;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::wire::wallet::{
    ACCOUNTS_PATH, IDEMPOTENCY_HEADER, IdempotencyKey, PAYMENTS_PATH, PaymentRequest,
    SignedApproval, VIEWS_PATH, ViewRequest, token_hash,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::{NoRandom, WalletKey, fresh_id};

/// One shopper's wallet at one authority.
pub struct Wallet {
    key: WalletKey,
    /// `https://` and the host of the authority's links.
    authority: String,
    access_token: String,
    nonce: Option<String>,
}

/// A request to send as it stands; `headers` are all there are to add.
#[derive(Clone)]
pub struct Request {
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Request {
    /// Mute: the headers carry the access token, the body a token that is not spent yet.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({} {}, ..)", self.method, self.url)
    }
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub status: u16,
    /// The header `DPoP-Nonce`.
    pub nonce: Option<&'a str>,
    pub body: &'a [u8],
}

/// Why there is no answer of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Build the same request again and send it: it had no nonce, or an old one.
    #[error("the proof needs the nonce of this answer")]
    Again,
    /// In the authority's words; `next_step` says what the shopper can do.
    #[error("{}: {}", .0.title, .0.next_step)]
    Problem(Box<Problem>),
    #[error("the answer is neither what was asked for nor a problem")]
    Unreadable,
}

/// What the shopper agreed to, as the wallet showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    pub amount: Money,
    pub payee: MerchantId,
    pub account: AccountId,
}

impl Wallet {
    /// The access token is one that the provider bound to this key.
    pub fn new(key: WalletKey, authority: &str, access_token: &str) -> Self {
        Self {
            key,
            authority: authority.trim_end_matches('/').into(),
            access_token: access_token.into(),
            nonce: None,
        }
    }

    pub fn key(&self) -> &WalletKey {
        &self.key
    }

    /// After the provider gave out a new one.
    pub fn renew(&mut self, access_token: &str) {
        self.access_token = access_token.into();
    }

    /// What does this terminal ask for? Spends nothing.
    pub fn view(&self, token: &str, now: Timestamp) -> Result<Request, NoRandom> {
        let token = token.into();
        self.post(VIEWS_PATH, &ViewRequest { token }, now)
    }

    /// Which accounts can pay?
    pub fn accounts(&self, now: Timestamp) -> Result<Request, NoRandom> {
        self.get(ACCOUNTS_PATH, now)
    }

    /// The shopper's approval, signed once: sent again it must be the same, so keep what this answers
    /// until there is an answer to the payment.
    pub fn approve(
        &self,
        token: &str,
        agreed: &Agreed,
        now: Timestamp,
    ) -> Result<PaymentRequest, Unsignable> {
        let approval = SignedApproval {
            aud: self.authority.clone(),
            jti: fresh_id()?,
            iat: now.secs(),
            token_hash: token_hash(token)?,
            amount: agreed.amount,
            payee: agreed.payee,
            account: agreed.account,
        };
        Ok(PaymentRequest {
            token: token.into(),
            approval: self.key.sign(&approval),
        })
    }

    /// A name under which one payment is asked for, however often.
    pub fn name(&self) -> Result<IdempotencyKey, NoRandom> {
        let name = IdempotencyKey::new(&fresh_id()?);
        Ok(name.expect("a UUID is 36 visible characters"))
    }

    /// Pays: claims and approves. No answer? The same name and payment again are the same payment.
    pub fn pay(
        &self,
        name: &IdempotencyKey,
        payment: &PaymentRequest,
        now: Timestamp,
    ) -> Result<Request, NoRandom> {
        let mut request = self.post(PAYMENTS_PATH, payment, now)?;
        request.headers.push((IDEMPOTENCY_HEADER, name.header()));
        Ok(request)
    }

    /// How does a payment stand?
    pub fn payment(&self, id: PaymentId, now: Timestamp) -> Result<Request, NoRandom> {
        self.get(&format!("{PAYMENTS_PATH}/{id}"), now)
    }

    /// Reads an answer, and keeps the nonce that came with it for the next request.
    pub fn read<T: DeserializeOwned>(&mut self, answer: &Answer<'_>) -> Result<T, Refused> {
        if let Some(nonce) = answer.nonce {
            self.nonce = Some(nonce.into());
        }
        if (200..300).contains(&answer.status) {
            return serde_json::from_slice(answer.body).map_err(|_| Refused::Unreadable);
        }
        let problem = serde_json::from_slice::<Problem>(answer.body);
        let problem = problem.map_err(|_| Refused::Unreadable)?;
        match problem.problem_type() {
            Some(ProblemType::NonceNeeded) if answer.nonce.is_some() => Err(Refused::Again),
            _ => Err(Refused::Problem(Box::new(problem))),
        }
    }

    /// Any request of this wallet, with its access token and a proof.
    pub fn request(
        &self,
        method: &'static str,
        path: &str,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Result<Request, NoRandom> {
        let url = format!("{}{path}", self.authority);
        let (token, nonce) = (self.access_token.as_str(), self.nonce.as_deref());
        let proof = self.key.prove(method, &url, Some(token), nonce, now)?;
        let mut headers = vec![
            ("authorization", format!("DPoP {token}")),
            (PROOF_HEADER, proof),
        ];
        if !body.is_empty() {
            headers.push(("content-type", "application/json".into()));
        }
        Ok(Request {
            method,
            url,
            headers,
            body,
        })
    }

    fn get(&self, path: &str, now: Timestamp) -> Result<Request, NoRandom> {
        self.request("GET", path, Vec::new(), now)
    }

    fn post<T: Serialize>(
        &self,
        path: &str,
        body: &T,
        now: Timestamp,
    ) -> Result<Request, NoRandom> {
        let body = serde_json::to_vec(body).expect("a request of strings and numbers serializes");
        self.request("POST", path, body, now)
    }
}

/// Why an approval cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsignable {
    #[error(transparent)]
    Token(#[from] Malformed),
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// The header of an answer that [`Answer::nonce`] is.
pub const ANSWER_NONCE: &str = NONCE_HEADER;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::dpop::{SignedProof, Target};
    use protocol::jwk::JwkSet;
    use protocol::jws;
    use protocol::money::Currency;

    const NOW: Timestamp = Timestamp::from_secs(1_795_459_200);
    const TOKEN: &str = "47110422.448FT7303N447EFB8H2JK8WRP4";

    fn wallet() -> Wallet {
        let key = WalletKey::generate().unwrap();
        Wallet::new(key, "https://pay.example/", "access token")
    }

    fn header<'a>(request: &'a Request, name: &str) -> &'a str {
        let found = request.headers.iter().find(|(known, _)| *known == name);
        &found.unwrap().1
    }

    #[test]
    fn a_request_carries_a_proof_for_itself_with_the_nonce_of_the_last_answer() {
        let mut wallet = wallet();
        let refused = Problem::new(ProblemType::NonceNeeded);
        let answer = Answer {
            status: 401,
            nonce: Some("n-1"),
            body: &serde_json::to_vec(&refused).unwrap(),
        };
        assert_eq!(wallet.read::<()>(&answer), Err(Refused::Again));
        let request = wallet.view(TOKEN, NOW).unwrap();
        assert_eq!(request.url, "https://pay.example/v1/wallet/views");
        assert_eq!(header(&request, "authorization"), "DPoP access token");
        let target = Target {
            method: "POST",
            origin: "https://pay.example",
            path: "/v1/wallet/views",
        };
        let proof = SignedProof::read(header(&request, PROOF_HEADER)).unwrap();
        let proof = proof.check(&target, Some("access token"), NOW).unwrap();
        assert_eq!(proof.nonce(), Some("n-1"));
        assert_eq!(proof.thumbprint(), wallet.key().thumbprint());
        assert!(!format!("{request:?}").contains("448FT"));
    }

    #[test]
    fn an_approval_says_what_was_agreed_and_for_which_token() {
        let wallet = wallet();
        let agreed = Agreed {
            amount: Money::new(420, Currency::EUR).unwrap(),
            payee: MerchantId::from_parts(1, &[0; 10]),
            account: AccountId::from_parts(2, &[0; 10]),
        };
        let link = format!("https://pay.example/t/{TOKEN}");
        let payment = wallet.approve(&link, &agreed, NOW).unwrap();
        let keys = JwkSet {
            keys: vec![wallet.key().public().clone()],
        };
        let said = jws::verify::<SignedApproval>(&payment.approval, &keys).unwrap();
        assert_eq!(said.claims().aud, "https://pay.example");
        assert_eq!(said.claims().token_hash, token_hash(TOKEN).unwrap());
        assert_eq!(said.claims().amount, agreed.amount);
        assert!(wallet.approve("hello", &agreed, NOW).is_err());
    }
}

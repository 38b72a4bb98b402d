//! What phones of one test do: they sign in, prove their key, and speak HTTP.

use authority::services::Failure;
use authority::services::sign_in::{Shown, SignedIn};
use hsm::Hsm;
use protocol::token::Channel;
use serde_json::{Value, json};
use wallet_client::WalletKey;

use super::{ORIGIN, World, eur};
use crate::provider::STRONG;

/// What the public listener answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub cookie: Option<String>,
    pub retry_after: Option<u32>,
    pub headers: reqwest::header::HeaderMap,
}

/// A claim in a phone's hand.
#[derive(Debug, Clone)]
pub struct Phone {
    pub claim: String,
    /// `__Host-m2key-claim=…`
    pub cookie: String,
    pub view: Value,
}

impl<H: Hsm> World<H> {
    /// A fresh access token, for the world's key.
    pub fn sign_in(&self, subject: &str) -> String {
        self.sign_in_with(subject, &self.key)
    }

    /// The same for another key.
    pub fn sign_in_with(&self, subject: &str, key: &WalletKey) -> String {
        self.provider.token(&self.claims_of(subject, key))
    }

    pub fn claims_of(&self, subject: &str, key: &WalletKey) -> Value {
        let now_s = self.now().secs();
        self.provider.claims(subject, key.thumbprint(), now_s)
    }

    /// An access token of a strong sign-in, so many milliseconds ago.
    pub fn sign_in_strongly(&self, subject: &str, key: &WalletKey, ago_ms: i64) -> String {
        let mut claims = self.claims_of(subject, key);
        claims["acr"] = STRONG.into();
        claims["auth_time"] = (self.now() - ago_ms).secs().into();
        self.provider.token(&claims)
    }

    /// A proof by the world's key that leaves nothing to wish for, whatever the access token.
    pub async fn proof(&self, method: &str, path: &str, access_token: &str) -> String {
        let nonce = self.journey.sign_in.nonce(self.now()).await.unwrap();
        let address = format!("{ORIGIN}{path}");
        let proven = self.key.prove(
            method,
            &address,
            Some(access_token),
            Some(&nonce),
            self.now(),
        );
        proven.unwrap()
    }

    /// Who sends this access token with a good proof?
    pub async fn verify(&self, access_token: &str) -> Result<SignedIn, Failure> {
        let proof = self.proof("GET", "/", access_token).await;
        let shown = Shown {
            access_token,
            proof: Some(&proof),
            method: "GET",
            path: "/",
        };
        self.journey.sign_in.verify(&shown, self.now()).await
    }

    pub async fn claim(&self, token: &str, access_token: Option<&str>) -> Answer {
        let body = json!({ "token": token });
        let request = self.http.post(self.url("/v1/claims")).json(&body);
        self.send(request, access_token).await
    }

    /// Sends it as the world's phone does: with a proof, and again where the nonce was old.
    pub async fn send(
        &self,
        request: reqwest::RequestBuilder,
        access_token: Option<&str>,
    ) -> Answer {
        match access_token {
            None => answer(request).await,
            Some(token) => self.send_with(request, token, &self.key).await,
        }
    }

    pub async fn send_with(
        &self,
        request: reqwest::RequestBuilder,
        access_token: &str,
        key: &WalletKey,
    ) -> Answer {
        let mut tries = 2;
        loop {
            tries -= 1;
            let again = request.try_clone().unwrap();
            let built = again.try_clone().unwrap().build().unwrap();
            let (method, path) = (built.method().as_str(), built.url().path());
            let nonce = self.nonce.lock().unwrap().clone();
            let address = format!("{ORIGIN}{path}");
            let (token, nonce) = (Some(access_token), nonce.as_deref());
            let proof = key.prove(method, &address, token, nonce, self.now());
            let again = again.header("authorization", format!("DPoP {access_token}"));
            let answered = answer(again.header("dpop", proof.unwrap())).await;
            let next = answered.headers.get("dpop-nonce");
            *self.nonce.lock().unwrap() = next.map(|it| it.to_str().unwrap().to_owned());
            if tries == 0 || !answered.wants_nonce() {
                return answered;
            }
        }
    }

    /// Claims what must succeed.
    pub async fn claimed(&self, token: &str, access_token: Option<&str>) -> Phone {
        let answer = self.claim(token, access_token).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let view = answer.json();
        Phone {
            claim: view["claim"].as_str().unwrap().into(),
            cookie: answer.cookie.unwrap(),
            view,
        }
    }

    /// A till's charge of `minor`, scanned.
    pub async fn held(&self, minor: i64) -> Phone {
        self.charge(minor).await;
        let link = self.shown(Channel::Qr).await;
        self.claimed(&link, None).await
    }

    pub async fn view(&self, phone: &Phone) -> Answer {
        let url = self.url(&format!("/v1/claims/{}", phone.claim));
        answer(self.http.get(url).header("cookie", &phone.cookie)).await
    }

    pub async fn approve(&self, phone: &Phone, person: &str, minor: i64) -> Answer {
        let body = self.approval(minor);
        self.approve_with(
            phone,
            Some(&phone.cookie),
            Some(&self.sign_in(person)),
            &body,
        )
        .await
    }

    pub fn approval(&self, minor: i64) -> Value {
        json!({ "amount": eur(minor), "payee": self.merchant })
    }

    pub async fn approve_with(
        &self,
        phone: &Phone,
        cookie: Option<&str>,
        access_token: Option<&str>,
        body: &Value,
    ) -> Answer {
        let url = self.url(&format!("/v1/claims/{}/approval", phone.claim));
        let mut request = self.http.post(url).json(body);
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        self.send(request, access_token).await
    }

    /// A request to the public listener that is sent as it stands.
    pub fn ask(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.http.request(method, self.url(path))
    }

    pub async fn post_as(
        &self,
        person: Option<&str>,
        path: &str,
        cookie: Option<&str>,
        body: &Value,
    ) -> Answer {
        let token = person.map(|person| self.sign_in(person));
        self.post_with(token.as_deref(), path, cookie, body).await
    }

    pub async fn post_with(
        &self,
        access_token: Option<&str>,
        path: &str,
        cookie: Option<&str>,
        body: &Value,
    ) -> Answer {
        let mut request = self.http.post(self.url(path)).json(body);
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        self.send(request, access_token).await
    }

    pub async fn get_as(&self, person: &str, path: &str) -> Answer {
        let request = self.http.get(self.url(path));
        self.send(request, Some(&self.sign_in(person))).await
    }

    pub async fn delete_as(&self, person: &str, path: &str) -> Answer {
        let request = self.http.delete(self.url(path));
        self.send(request, Some(&self.sign_in(person))).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(self.url(path))).await
    }

    pub async fn get_signed_in(&self, path: &str, person: &str) -> Answer {
        self.get_as(person, path).await
    }

    pub async fn post_text(&self, path: &str, media: &str, body: String) -> Answer {
        let request = self.http.post(self.url(path)).header("content-type", media);
        answer(request.body(body)).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.phones)
    }
}

impl Answer {
    fn wants_nonce(&self) -> bool {
        let asked = self.headers.get("www-authenticate");
        asked.is_some_and(|it| it.to_str().unwrap().contains("use_dpop_nonce"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Refused with this status and problem.
    #[track_caller]
    pub fn refused(&self, status: u16, slug: &str) -> &Self {
        let type_ = self.json()["type"].as_str().unwrap_or_default().to_owned();
        let expected = (status, format!("urn:m2key:problem:{slug}"));
        assert_eq!((self.status, type_), expected, "{self:?}");
        self
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let headers = response.headers().clone();
    let text = |name: &str| headers.get(name).map(|it| it.to_str().unwrap().to_owned());
    let cookie = text("set-cookie").map(|it| it.split(';').next().unwrap().to_owned());
    let retry_after = text("retry-after").map(|it| it.parse().unwrap());
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap().to_vec();
    Answer {
        status,
        body,
        cookie,
        retry_after,
        headers,
    }
}

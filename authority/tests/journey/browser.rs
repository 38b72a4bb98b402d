//! A shopper's browser, as far as the authority can tell: a cookie jar that follows no redirect.

use std::collections::BTreeMap;
use std::sync::Mutex;

use authority::services::sessions::{SESSION_COOKIE, Visitor};
use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use crate::world::{Answer, Phone, World, answer};

pub const ORIGIN: &str = "https://pay.example";

pub struct Browser {
    jar: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    /// With a secret that some page of ours set, and nobody signed in.
    pub fn new() -> Self {
        let secret = Base64UrlUnpadded::encode_string(&authority::ids::random::<32>());
        Self::with(&secret)
    }

    /// With this secret.
    pub fn with(secret: &str) -> Self {
        let jar = BTreeMap::from([(SESSION_COOKIE.to_owned(), secret.to_owned())]);
        let jar = Mutex::new(jar);
        Self { jar }
    }

    /// The phone that holds this claim.
    pub fn of(phone: &Phone) -> Self {
        let browser = Self::new();
        let (name, value) = phone.cookie.split_once('=').unwrap();
        browser.keep(name, value);
        browser
    }

    pub fn secret(&self) -> String {
        self.jar.lock().unwrap()[SESSION_COOKIE].clone()
    }

    /// What a form of ours has in it for this browser.
    pub fn form_token(&self) -> String {
        let secret = Base64UrlUnpadded::decode_vec(&self.secret()).unwrap();
        let mut hash = Sha256::new();
        hash.update(b"m2key/form/1\0");
        hash.update(secret);
        Base64UrlUnpadded::encode_string(&hash.finalize())
    }

    pub async fn get(&self, world: &World, path: &str) -> Answer {
        let request = world.http.get(world.url(path));
        self.send(request).await
    }

    /// With these headers, too.
    pub async fn get_with(&self, world: &World, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = world.http.get(world.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// A form of a page of ours, sent as browsers navigate.
    pub async fn navigate(&self, world: &World, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.form_token();
        let all = [fields, &[("form_token", &token)]].concat();
        let body = serde_urlencoded::to_string(all).unwrap();
        let post = world.http.post(world.url(path)).body(body);
        let post = post.header("content-type", "application/x-www-form-urlencoded");
        let post = post.header("origin", ORIGIN).header("accept", "text/html");
        self.send(post).await
    }

    /// A form of a page of ours.
    pub async fn post(&self, world: &World, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.form_token();
        let all = [fields, &[("form_token", &token)]].concat();
        self.post_from(world, path, Some(ORIGIN), &all).await
    }

    /// A form of any page.
    pub async fn post_from(
        &self,
        world: &World,
        path: &str,
        origin: Option<&str>,
        fields: &[(&str, &str)],
    ) -> Answer {
        let body = serde_urlencoded::to_string(fields).unwrap();
        let form = "application/x-www-form-urlencoded";
        let mut request = world.http.post(world.url(path)).body(body);
        request = request.header("content-type", form);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        self.send(request).await
    }

    /// Who the authority takes it for.
    pub async fn visitor(&self, world: &World) -> Visitor {
        let (secret, now) = (self.secret(), world.now());
        world.journey.sessions.of(Some(&secret), now).await.unwrap()
    }

    pub async fn is_signed_in(&self, world: &World) -> bool {
        self.visitor(world).await.session().is_some()
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let cookies = {
            let jar = self.jar.lock().unwrap();
            let pairs = jar.iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join("; ")
        };
        let answer = answer(request.header("cookie", cookies)).await;
        for set in answer.headers.get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.keep(name, value);
        }
        answer
    }

    fn keep(&self, name: &str, value: &str) {
        let mut jar = self.jar.lock().unwrap();
        jar.insert(name.to_owned(), value.to_owned());
    }
}

/// Where a redirect leads.
#[track_caller]
pub fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{answer:?}");
    answer.headers["location"].to_str().unwrap().to_owned()
}

//! An identity provider on loopback: signs access tokens and publishes its keys.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use protocol::dpop::Thumbprint;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub const ISSUER: &str = "https://login.example";
pub const AUDIENCE: &str = "m2key-pay";
pub const KID: &str = "one";
/// What a provider that can authenticate strongly calls it.
pub const STRONG: &str = "strong";

pub struct Provider {
    pub url: String,
    /// Of other providers, for the configuration.
    pub sections: String,
    /// What the authority's configuration says of it.
    pub constrained: bool,
    pub strong_acr: &'static [&'static str],
    key: SigningKey,
    shared: Arc<Shared>,
}

struct Shared {
    set: Mutex<Value>,
    down: AtomicBool,
    fetches: AtomicUsize,
}

impl Provider {
    pub async fn start() -> Self {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            set: Mutex::new(json!({ "keys": [public(&key, KID)] })),
            down: AtomicBool::new(false),
            fetches: AtomicUsize::new(0),
        });
        tokio::spawn(serve(listener, shared.clone()));
        Self {
            url,
            sections: String::new(),
            constrained: true,
            strong_acr: &[],
            key,
            shared,
        }
    }

    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    pub fn publish(&self, key: Value) {
        let mut set = self.shared.set.lock().unwrap();
        set["keys"].as_array_mut().unwrap().push(key);
    }

    /// Of an access token that is bound to this key.
    pub fn claims(&self, subject: &str, key: Thumbprint, now_s: i64) -> Value {
        json!({
            "iss": ISSUER, "sub": subject, "aud": AUDIENCE, "iat": now_s, "auth_time": now_s,
            "exp": now_s + 600, "cnf": { "jkt": key.to_string() },
        })
    }

    pub fn token(&self, claims: &Value) -> String {
        self.token_with(
            &json!({ "alg": "ES256", "typ": "at+jwt", "kid": KID }),
            claims,
        )
    }

    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        sign(&self.key, header, claims)
    }

    /// What an attacker knows of the key.
    pub fn public_point(&self) -> Vec<u8> {
        self.key
            .verifying_key()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec()
    }
}

pub fn sign(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let input = unsigned(header, claims);
    let signature: Signature = key.sign(input.as_bytes());
    format!("{input}.{}", part(&signature.to_bytes()))
}

pub fn unsigned(header: &Value, claims: &Value) -> String {
    let json = |value: &Value| part(value.to_string().as_bytes());
    format!("{}.{}", json(header), json(claims))
}

pub fn part(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

pub fn public(key: &SigningKey, kid: &str) -> Value {
    let point = key.verifying_key().to_sec1_point(false);
    let (x, y) = (
        part(&point.as_bytes()[1..33]),
        part(&point.as_bytes()[33..]),
    );
    json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" })
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await;
        shared.fetches.fetch_add(1, Ordering::SeqCst);
        let answer = match shared.down.load(Ordering::SeqCst) {
            true => {
                "HTTP/1.1 500 Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            }
            false => {
                let set = shared.set.lock().unwrap().to_string();
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{set}",
                    set.len()
                )
            }
        };
        let _ = socket.write_all(answer.as_bytes()).await;
    }
}

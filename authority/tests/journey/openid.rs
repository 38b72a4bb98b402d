//! An OpenID provider on loopback that says whatever a test wants it to say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use p256::ecdsa::SigningKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::provider::{public, sign};

pub const CLIENT: &str = "m2key-web";
pub const SECRET: &str = "a shared secret";

pub type Fields = BTreeMap<String, String>;

/// How it behaves; every member may be changed while it runs.
pub struct Script {
    pub metadata: Value,
    /// What it signs with, and what it publishes.
    pub key: (String, SigningKey),
    pub published: Vec<Value>,
    /// The header of its ID tokens.
    pub header: Value,
    pub user_info: Option<Value>,
    /// Answers instead of the token endpoint's own.
    pub token_answer: Option<(u16, Value)>,
    pub down: bool,
    /// It takes requests and never answers.
    pub silent: bool,
    /// Its answers never end.
    pub endless: bool,
    /// Whose ID token it gave last.
    subject: Value,
    /// What each code stands for, once.
    codes: BTreeMap<String, Value>,
    pushed: BTreeMap<String, Fields>,
    /// Requests at its token endpoint.
    pub redeemed: Vec<Fields>,
    /// Requests at its metadata.
    pub asked: usize,
}

#[derive(Clone)]
pub struct OpenId {
    pub id: String,
    pub issuer: String,
    script: Arc<Mutex<Script>>,
}

impl OpenId {
    pub async fn start(id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::from_slice(&[21; 32]).unwrap();
        let at = |path: &str| format!("{issuer}{path}");
        let script = Script {
            metadata: json!({
                "issuer": issuer,
                "authorization_endpoint": at("/authorize"),
                "token_endpoint": at("/token"),
                "userinfo_endpoint": at("/userinfo"),
                "jwks_uri": at("/jwks"),
                "authorization_response_iss_parameter_supported": true,
                "code_challenge_methods_supported": ["S256"],
            }),
            published: vec![public(&key, "k1")],
            header: json!({ "alg": "ES256", "kid": "k1" }),
            key: ("k1".into(), key),
            user_info: None,
            token_answer: None,
            down: false,
            silent: false,
            endless: false,
            subject: Value::Null,
            codes: BTreeMap::new(),
            pushed: BTreeMap::new(),
            redeemed: Vec::new(),
            asked: 0,
        };
        let script = Arc::new(Mutex::new(script));
        let id = id.to_owned();
        let own = Self { id, issuer, script };
        let serving = own.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(socket));
            }
        });
        own
    }

    /// The section of the authority's configuration; the secret lies in `secret`.
    pub fn section(&self, secret: &std::path::Path, rail: Option<&str>) -> String {
        let rail = rail.map_or(String::new(), |rail| {
            format!("rail = \"{rail}\"\ncurrency = \"EUR\"\n")
        });
        format!(
            "[[identity_providers]]\nname = \"Wallet {}\"\nissuer = \"{}\"\n\
             strong_acr = [\"strong\"]\n\
             [identity_providers.sign_in]\nid = \"{}\"\nkind = \"wallet\"\n\
             client_id = \"{CLIENT}\"\nclient_secret = \"{}\"\n{rail}\n",
            self.id,
            self.issuer,
            self.id,
            secret.display()
        )
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Left beforehand, if the provider takes that.
    pub fn takes_pushed(&self) {
        let url = format!("{}/par", self.issuer);
        self.script().metadata["pushed_authorization_request_endpoint"] = json!(url);
    }

    /// What the authority asks, from where it sent the browser.
    pub fn request(&self, address: &str) -> Fields {
        let expected = format!("{}/authorize?", self.issuer);
        let query = address
            .strip_prefix(&expected)
            .unwrap_or_else(|| panic!("{address}"));
        let fields = fields(query.as_bytes());
        match fields.get("request_uri") {
            Some(uri) => {
                assert_eq!(fields.len(), 2, "{address}");
                self.script().pushed.remove(uri).unwrap()
            }
            None => fields,
        }
    }

    /// The claims of a good ID token for this request.
    pub fn claims(&self, request: &Fields, subject: &str, now_s: i64) -> Value {
        json!({
            "iss": self.issuer, "sub": subject, "aud": CLIENT, "iat": now_s, "exp": now_s + 300,
            "auth_time": now_s, "nonce": request["nonce"], "sid": format!("sid-{subject}"),
        })
    }

    /// A code that stands for these claims.
    pub fn code(&self, claims: Value) -> String {
        let mut script = self.script();
        let code = format!("code-{}", script.codes.len() + script.redeemed.len());
        script.codes.insert(code.clone(), claims);
        code
    }

    pub fn logout_token(&self, claims: &Value) -> String {
        let script = self.script();
        let header = json!({ "alg": "ES256", "kid": script.key.0, "typ": "logout+jwt" });
        sign(&script.key.1, &header, claims)
    }

    async fn serve(self, mut socket: TcpStream) {
        let Some((path, body)) = read(&mut socket).await else {
            return;
        };
        if self.script().silent {
            // Until the other side gives up.
            let _ = socket.read(&mut [0; 1]).await;
            return;
        }
        let (status, answer) = self.answer(&path, &body);
        let endless = self.script().endless;
        let text = answer.to_string();
        let length = if endless { 1 << 40 } else { text.len() };
        let head = format!(
            "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = socket.write_all(head.as_bytes()).await;
        if endless {
            while socket.write_all(&[b' '; 4096]).await.is_ok() {}
        }
        let _ = socket.write_all(text.as_bytes()).await;
    }

    fn answer(&self, path: &str, body: &[u8]) -> (u16, Value) {
        let mut script = self.script();
        if script.down {
            return (500, json!({}));
        }
        match path {
            "/.well-known/openid-configuration" => {
                script.asked += 1;
                (200, script.metadata.clone())
            }
            "/jwks" => (200, json!({ "keys": script.published })),
            "/par" => {
                let uri = format!("urn:pushed:{}", script.pushed.len());
                script.pushed.insert(uri.clone(), fields(body));
                (201, json!({ "request_uri": uri, "expires_in": 60 }))
            }
            "/userinfo" => {
                let usual = json!({ "sub": script.subject });
                (200, script.user_info.clone().unwrap_or(usual))
            }
            "/token" => token(&mut script, body),
            "/elsewhere" => panic!("a redirect was followed"),
            _ => (404, json!({})),
        }
    }
}

fn token(script: &mut Script, body: &[u8]) -> (u16, Value) {
    let request = fields(body);
    let code = request["code"].clone();
    script.redeemed.push(request);
    if let Some(answer) = &script.token_answer {
        return answer.clone();
    }
    match script.codes.remove(&code) {
        Some(claims) => {
            script.subject = claims["sub"].clone();
            let id_token = sign(&script.key.1, &script.header, &claims);
            let answer = json!({
                "access_token": "opaque", "token_type": "Bearer", "id_token": id_token,
            });
            (200, answer)
        }
        None => (400, json!({ "error": "invalid_grant" })),
    }
}

fn fields(text: &[u8]) -> Fields {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(text).unwrap();
    let number = pairs.len();
    let fields: Fields = pairs.into_iter().collect();
    assert_eq!(fields.len(), number, "a field twice");
    fields
}

/// Path and body of a request.
async fn read(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let taken = socket.read(&mut chunk).await.ok()?;
        if taken == 0 {
            return None;
        }
        bytes.extend_from_slice(&chunk[..taken]);
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
        if bytes.len() >= end + 4 + length {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let path = head.split_whitespace().nth(1)?.to_owned();
            return Some((path, bytes[end + 4..].to_vec()));
        }
    }
}

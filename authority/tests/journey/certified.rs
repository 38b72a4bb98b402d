//! Does a certified OpenID provider understand us, and we it?
//!
//! `oidc-provider` of npm, set up by `tests/web/provider.mjs`: it demands PKCE, takes requests beforehand
//! (PAR), knows us by our key, says who it is in its answer, and tells accounts at UserInfo.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use authority::clock::{Clock, SystemClock};
use authority::services::rails::Rails;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::browser::{Browser, ORIGIN, location};
use crate::world::World;

const ACR: &str = "urn:demo:sca";

struct Certified {
    world: World,
    issuer: String,
    _node: Node,
    http: reqwest::Client,
}

/// Ends with the test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn place() -> Certified {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let issuer = format!("http://127.0.0.1:{port}");
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("client.pem");
    make_key(&key);
    let section = format!(
        "[[identity_providers]]\nname = \"Demo Wallet\"\nissuer = \"{issuer}\"\n\
         strong_acr = [\"{ACR}\"]\n[identity_providers.sign_in]\nid = \"real\"\n\
         kind = \"wallet\"\nclient_id = \"m2key\"\nclient_key = \"{}\"\n\
         scopes = [\"openid\", \"accounts\"]\nrail = \"wallet\"\ncurrency = \"EUR\"\n",
        key.display()
    );
    let file = dir.path().join("provider.json");
    let world = World::in_place(dir, section, |merchant| merchant, Rails::default()).await;
    // The provider lives now, and so must its authority.
    world.advance(SystemClock.now() - world.now());
    let account = json!({ "id": "4711", "name": "Current", "currency": "EUR" });
    let config = json!({
        "port": port, "issuer": issuer, "name": "Demo Wallet", "strong_acr": ACR,
        "client": {
            "client_id": "m2key",
            "redirect_uri": format!("{ORIGIN}/sign-in/callback"),
            "jwks_uri": world.url("/sign-in/real/jwks.json"),
            "backchannel_logout_uri": world.url("/logout/backchannel/real"),
        },
        "customers": {
            "ann": { "sub": "a1", "password": "pa", "strong": true, "accounts": [account] },
            "bob": { "sub": "b1", "password": "pb", "strong": false, "accounts": [] },
        },
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    Certified {
        _node: Node::start(&file).await,
        world,
        issuer,
        http,
    }
}

fn make_key(file: &Path) {
    let made = Command::new("openssl")
        .args(["genpkey", "-quiet", "-algorithm", "EC"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
        .arg(file)
        .status();
    assert!(made.expect("apt-get install -y openssl").success());
}

impl Node {
    /// Runs the provider and waits until it says that it is ready.
    async fn start(config: &Path) -> Self {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/web");
        let installed = web.join("node_modules/oidc-provider").exists();
        assert!(installed, "cd tests/web && npm ci");
        let mut child = Command::new("node")
            .arg(web.join("provider.mjs"))
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("apt-get install -y nodejs npm");
        let said = child.stdout.take().unwrap();
        let node = Self(child);
        let said = tokio::fs::File::from_std(std::os::fd::OwnedFd::from(said).into());
        let mut lines = BufReader::new(said).lines();
        let first = lines.next_line().await.unwrap();
        assert_eq!(first.as_deref(), Some("ready"));
        node
    }
}

/// The provider's own cookies in a shopper's browser.
type Jar = BTreeMap<String, String>;

impl Certified {
    async fn send(&self, jar: &mut Jar, request: reqwest::RequestBuilder) -> (String, Page) {
        let pairs = jar.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = pairs.collect::<Vec<_>>().join("; ");
        let response = request.header("cookie", cookies).send().await.unwrap();
        for set in response.headers().get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            match value.is_empty() {
                true => drop(jar.remove(name)),
                false => drop(jar.insert(name.into(), value.into())),
            }
        }
        let to = response.headers().get("location");
        let to = to.map(|it| it.to_str().unwrap().to_owned());
        let (url, status) = (response.url().to_string(), response.status().as_u16());
        let html = response.text().await.unwrap();
        (to.unwrap_or_default(), Page { url, status, html })
    }

    /// Follows the provider until it shows something, or sends the browser back to us: then to where.
    async fn follow(&self, jar: &mut Jar, address: String) -> (Option<String>, Page) {
        let mut next = address;
        loop {
            let url = match next.starts_with('/') {
                true => format!("{}{next}", self.issuer),
                false => next,
            };
            let (to, page) = self.send(jar, self.http.get(&url)).await;
            if let Some(path) = to.strip_prefix(ORIGIN) {
                return (Some(path.to_owned()), page);
            }
            if to.is_empty() {
                return (None, page);
            }
            next = to;
        }
    }

    async fn post(&self, jar: &mut Jar, path: &str, fields: &[(&str, &str)]) -> (String, Page) {
        let url = match path.starts_with('/') {
            true => format!("{}{path}", self.issuer),
            false => path.to_owned(),
        };
        let body = serde_urlencoded::to_string(fields).unwrap();
        let form = "application/x-www-form-urlencoded";
        let request = self.http.post(url).header("content-type", form).body(body);
        self.send(jar, request).await
    }

    /// The whole way; answers where the browser is in the end.
    async fn sign_in(&self, browser: &Browser, jar: &mut Jar, who: (&str, &str)) -> String {
        let begun = browser
            .post(&self.world, "/sign-in/real", &[("purpose", "profile")])
            .await;
        let (back, page) = self.follow(jar, location(&begun)).await;
        let back = match back {
            // It knows the browser.
            Some(back) => back,
            None => {
                assert_eq!(page.status, 200, "{}", page.html);
                let login = [("login", who.0), ("password", who.1)];
                let (to, page) = self.post(jar, &format!("{}/login", page.url), &login).await;
                assert!(!to.is_empty(), "{}", page.html);
                let (back, page) = self.follow(jar, to).await;
                back.unwrap_or_else(|| panic!("{}", page.html))
            }
        };
        location(&browser.get(&self.world, &back).await)
    }
}

struct Page {
    url: String,
    status: u16,
    html: String,
}

impl Page {
    /// The value of a hidden field.
    fn field(&self, name: &str) -> &str {
        let at = self.html.find(&format!("name=\"{name}\"")).unwrap();
        let rest = &self.html[at..];
        rest.split("value=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
    }
}

#[tokio::test]
async fn a_shopper_signs_in_brings_accounts_and_is_signed_out_by_the_provider() {
    let place = place().await;
    let (ann, mut jar) = (Browser::new(), Jar::new());
    assert_eq!(place.sign_in(&ann, &mut jar, ("ann", "pa")).await, "/me");
    let visitor = ann.visitor(&place.world).await;
    let session = visitor.session().unwrap();
    assert_eq!(session.person().subject, "a1");
    assert_eq!(session.person().issuer, place.issuer);
    assert!(session.strong(), "by its acr");
    let age = place.world.now() - session.authenticated_at();
    assert!(age < 60_000, "{age}");
    let profile = place.world.journey.profiles.of(session).await.unwrap();
    let account = &profile.accounts[0];
    assert_eq!(
        (account.rail.as_str(), account.name.as_str()),
        ("wallet", "Current")
    );
    let (bob, mut bobs) = (Browser::new(), Jar::new());
    place.sign_in(&bob, &mut bobs, ("bob", "pb")).await;
    assert!(!bob.visitor(&place.world).await.session().unwrap().strong());

    let (_, page) = place.follow(&mut jar, "/session/end".into()).await;
    let fields = [("xsrf", page.field("xsrf")), ("logout", "yes")];
    let confirm = "/session/end/confirm";
    place.post(&mut jar, confirm, &fields).await;
    assert!(!ann.is_signed_in(&place.world).await, "by the back channel");
    assert!(bob.is_signed_in(&place.world).await);
}

#[tokio::test]
async fn keys_of_both_sides_change_and_shoppers_sign_in() {
    let place = place().await;
    place
        .sign_in(&Browser::new(), &mut Jar::new(), ("ann", "pa"))
        .await;
    let rotate = place.http.post(format!("{}/test/rotate", place.issuer));
    assert_eq!(rotate.send().await.unwrap().status().as_u16(), 204);
    make_key(&place.world.database().with_file_name("client.pem"));
    // Past the time in which it is not asked again for keys, and within what its own clock allows.
    place.world.advance(10_000);
    let browser = Browser::new();
    let end = place
        .sign_in(&browser, &mut Jar::new(), ("ann", "pa"))
        .await;
    assert_eq!(end, "/me");
}

#[tokio::test]
async fn a_wrong_password_and_a_change_of_mind_sign_nobody_in() {
    let place = place().await;
    let (browser, mut jar) = (Browser::new(), Jar::new());
    let begun = browser.post(&place.world, "/sign-in/real", &[]).await;
    let (_, page) = place.follow(&mut jar, location(&begun)).await;
    let wrong = [("login", "ann"), ("password", "pb")];
    let form = page.url.clone();
    let (_, page) = place.post(&mut jar, &format!("{form}/login"), &wrong).await;
    assert_eq!(page.status, 403);
    let (to, _) = place.post(&mut jar, &format!("{form}/abort"), &[]).await;
    let (back, page) = place.follow(&mut jar, to).await;
    let back = back.unwrap_or_else(|| panic!("{}", page.html));
    let answer = browser.get(&place.world, &back).await;
    assert_eq!(location(&answer), "/");
    assert!(!browser.is_signed_in(&place.world).await);
}

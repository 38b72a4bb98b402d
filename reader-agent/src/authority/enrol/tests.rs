#![allow(clippy::unwrap_used)]
//! Real TLS on a free loopback port; a small server plays the authority.
use super::*;
use crate::app;
use crate::authority::client::CACERTS_PATH;
use crate::clock;
use crate::config::Config;
use crate::error::Whose;
use crate::identity::disk::IdentityFiles;
use crate::identity::{Identity, Lasts};
use crate::rotation::Fetch;
use crate::testing::{Issue, Signer, frame, rank, terminal, till_charge};
use crate::trust::TrustFiles;
use futures_util::{StreamExt, stream};
use protocol::problem::{PROBLEM_JSON, Problem, ProblemType};
use protocol::window::EpochClock;
use protocol::wire::push::ChargeStage;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use warp::Filter;
use warp::Reply;
use warp::http::Response;

/// What the server was asked: path, and whether a join token came with it.
type Asked = Arc<Mutex<Vec<(String, bool)>>>;

struct Ca {
    root: Certificate,
    issuing: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn ca_params(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    dated(params)
}

fn dated(mut params: CertificateParams) -> CertificateParams {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 1, 1);
    params
}

impl Ca {
    fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = ca_params("Root", 1);
        let root_der = root.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root, root_key);
        let issuing = ca_params("Issuing", 0);
        let issuing_der = issuing.signed_by(&key, &root_issuer).unwrap();
        Self {
            root: Certificate::from_der(root_der.der()).unwrap(),
            issuing: Certificate::from_der(issuing_der.der()).unwrap(),
            issuer: Issuer::new(issuing, key),
        }
    }

    fn issue(
        &self,
        key: &impl PublicKeyData,
        names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Certificate {
        let mut params = dated(CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, "x");
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }
}

fn uri(path: &str) -> SanType {
    let text = format!("spiffe://m2key.example/{path}");
    SanType::URI(text.try_into().unwrap())
}

struct Authority {
    ca: Arc<Ca>,
    base: String,
    asked: Asked,
}

impl Authority {
    /// Serves under the SPIFFE ID `name`, issues certificates for `issues` to who brings `SECRET`.
    async fn start(name: &str, issues: TerminalId) -> Self {
        let ca = Arc::new(Ca::new());
        let key = KeyPair::generate().unwrap();
        let names = vec![uri(name), SanType::IpAddress([127, 0, 0, 1].into())];
        let leaf = ca.issue(&key, names, ExtendedKeyUsagePurpose::ServerAuth);
        let chain = [&leaf, &ca.issuing].map(|c| CertificateDer::from(c.der().to_vec()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from(ca.root.der().to_vec()))
            .unwrap();
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            provider.clone(),
        );
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
            .with_single_cert(
                chain.to_vec(),
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let asked = Asked::default();
        tokio::spawn(serve(
            listener,
            tokio_rustls::TlsAcceptor::from(Arc::new(config)),
            ca.clone(),
            asked.clone(),
            issues,
        ));
        Self { ca, base, asked }
    }

    async fn enrol(&self, fingerprint: Fingerprint, secret: &str) -> Result<Enrolled, AgentError> {
        let join = JoinToken::parse(&format!("m2j-{}-{secret}", terminal(1))).unwrap();
        let key = SoftwareKey::generate().unwrap();
        enrol(&self.base, fingerprint, &join, &key, clock::wall()).await
    }

    fn join_token_was_sent(&self) -> bool {
        self.asked.lock().unwrap().iter().any(|(_, token)| *token)
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    tls: tokio_rustls::TlsAcceptor,
    ca: Arc<Ca>,
    asked: Asked,
    issues: TerminalId,
) {
    let routes = warp::path::full()
        .and(warp::header::optional::<String>("authorization"))
        .and(warp::body::bytes())
        .map(
            move |path: warp::path::FullPath, auth: Option<String>, body: bytes::Bytes| {
                let entry = (path.as_str().to_owned(), auth.is_some());
                asked.lock().unwrap().push(entry);
                answer(&ca, path.as_str(), auth.as_deref(), &body, issues)
            },
        );
    let service = hyper_util::service::TowerToHyperService::new(warp::service(routes));
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let io = hyper_util::rt::TokioIo::new(stream);
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(io, service).await;
            }
        });
    }
}

fn answer(
    ca: &Ca,
    path: &str,
    auth: Option<&str>,
    body: &[u8],
    issues: TerminalId,
) -> warp::reply::Response {
    let wanted = Base64::encode_string(format!("{}:SECRET", terminal(1)).as_bytes());
    match path {
        "/.well-known/jwks.json" => warp::reply::json(&Signer::new(1).keys()).into_response(),
        "/v1/schedule" => {
            let epoch = EpochClock::of(terminal(1)).epoch_at(clock::wall());
            warp::reply::json(&Issue::new(1).epochs(epoch..epoch + 2)).into_response()
        }
        "/v1/events" => warp::sse::reply(frames()).into_response(),
        CACERTS_PATH => est::encode(&[&ca.root, &ca.issuing])
            .unwrap()
            .into_response(),
        ENROL_PATH if auth == Some(format!("Basic {wanted}").as_str()) => {
            let csr = csr::check(body).unwrap();
            let names = vec![uri(&format!("terminal/{issues}"))];
            let point = Point(csr.public_point().to_vec());
            let leaf = ca.issue(&point, names, ExtendedKeyUsagePurpose::ClientAuth);
            est::encode(&[&leaf]).unwrap().into_response()
        }
        _ => {
            let problem = Problem::new(ProblemType::JoinTokenRefused);
            Response::builder()
                .status(problem.status)
                .header("content-type", PROBLEM_JSON)
                .body(serde_json::to_string(&problem).unwrap())
                .unwrap()
                .into_response()
        }
    }
}

/// One whole state with a charge on offer, and then silence.
fn frames() -> impl futures_util::Stream<Item = Result<warp::sse::Event, std::convert::Infallible>>
{
    let now = clock::wall();
    let offered = ChargeStage::Offered {
        until: now + 60_000,
    };
    let state = frame(1, now, Some(till_charge(offered)));
    let event = warp::sse::Event::default().id("1").event("state");
    let event = event.json_data(state).unwrap();
    stream::once(async { Ok(event) }).chain(stream::pending())
}

#[test]
fn a_join_token_names_its_terminal_and_damaged_ones_are_refused() {
    let id = terminal(1);
    let join = JoinToken::parse(&format!(" m2j-{id}-ABCDEF234567\n")).unwrap();
    assert_eq!(join.terminal, id);
    for bad in [
        "",
        "m2j-",
        "m2j-1-A",
        "x-00000000-A",
        "m2j-00000000-",
        "m2j-00000000-A:B",
    ] {
        assert!(JoinToken::parse(bad).is_none(), "{bad}");
    }
}

#[tokio::test]
async fn an_enrolled_terminal_has_an_identity_that_the_authority_accepts() {
    let authority = Authority::start("authority/one", terminal(1)).await;
    let join = JoinToken::parse(&format!("m2j-{}-SECRET", terminal(1))).unwrap();
    let key = SoftwareKey::generate().unwrap();
    let fingerprint = authority.ca.root.fingerprint();
    let enrolled = enrol(&authority.base, fingerprint, &join, &key, clock::wall())
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    Identity::save(dir.path(), &key, &enrolled).unwrap();
    let identity = IdentityFiles::in_dir(dir.path()).load().unwrap().current;
    assert_eq!(identity.terminal(), terminal(1));
    assert_eq!(identity.lasts(clock::wall()), Lasts::Long);
    let until = identity.not_after();
    assert_eq!(identity.lasts(until), Lasts::Expired { since: until });
    let roots = TrustFiles::in_dir(dir.path()).load().unwrap();
    let client = AuthorityClient::new(
        &authority.base,
        &identity,
        roots.anchors(),
        None,
        &Names::of_system(),
    )
    .unwrap();
    assert!(client.schedule(Fetch::Whole).await.is_ok());
}

#[tokio::test]
async fn a_wrong_root_fingerprint_is_refused_before_the_join_token_is_sent() {
    let authority = Authority::start("authority/one", terminal(1)).await;
    let other = Ca::new().root.fingerprint();
    let error = authority.enrol(other, "SECRET").await.err().unwrap();
    assert!(error.hint().contains("nothing was sent"), "{error}");
    assert_eq!(error.whose(), Whose::Asker);
    assert!(!authority.join_token_was_sent());
}

#[tokio::test]
async fn a_server_of_the_same_root_that_is_no_authority_gets_no_join_token() {
    let name = format!("terminal/{}", terminal(2));
    let authority = Authority::start(&name, terminal(1)).await;
    let root = authority.ca.root.fingerprint();
    let error = authority.enrol(root, "SECRET").await.err().unwrap();
    assert!(error.to_string().contains("not the authority"), "{error}");
    assert!(!authority.join_token_was_sent());
}

#[tokio::test]
async fn a_refused_join_token_says_whom_to_ask() {
    let authority = Authority::start("authority/one", terminal(1)).await;
    let root = authority.ca.root.fingerprint();
    let error = authority.enrol(root, "STALE").await.err().unwrap();
    assert!(error.hint().contains("operator"), "{error}");
    assert_eq!(error.whose().exit_code(), 1);
}

#[tokio::test]
async fn a_certificate_for_another_terminal_is_not_accepted() {
    let authority = Authority::start("authority/one", terminal(2)).await;
    let root = authority.ca.root.fingerprint();
    let error = authority.enrol(root, "SECRET").await.err().unwrap();
    assert!(
        error.to_string().contains("not one for this terminal"),
        "{error}"
    );
}

#[tokio::test]
async fn an_authority_that_is_not_there_is_tried_later() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let join = JoinToken::parse(&format!("m2j-{}-SECRET", terminal(1))).unwrap();
    let key = SoftwareKey::generate().unwrap();
    let fingerprint = Ca::new().root.fingerprint();
    let refused = enrol(&base, fingerprint, &join, &key, clock::wall());
    let error = tokio::time::timeout(Duration::from_secs(30), refused)
        .await
        .unwrap()
        .err()
        .unwrap();
    assert_eq!(error.whose().exit_code(), 3);
}

async fn running() -> (Authority, app::Running, tempfile::TempDir) {
    let authority = Authority::start("authority/one", terminal(1)).await;
    let join = JoinToken::parse(&format!("m2j-{}-SECRET", terminal(1))).unwrap();
    let key = SoftwareKey::generate().unwrap();
    let root = authority.ca.root.fingerprint();
    let enrolled = enrol(&authority.base, root, &join, &key, clock::wall())
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    Identity::save(dir.path(), &key, &enrolled).unwrap();
    let text = Config::text(&authority.base, terminal(1));
    let mut config = Config::parse(&format!(
        "{text}tag = \"none\"\nkiosk_listen = \"127.0.0.1:0\"\n"
    ))
    .unwrap();
    config.data_dir = dir.path().into();
    (
        authority,
        app::start(config, Arc::default()).await.unwrap(),
        dir,
    )
}

#[tokio::test]
async fn a_running_agent_shows_the_charge_with_its_tokens_and_stops_when_told() {
    let (_authority, running, dir) = running().await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls::none().unwrap())
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let url = |path: &str| format!("http://{}{path}", running.address);
    let secret = std::fs::read_to_string(dir.path().join(app::KIOSK_SECRET)).unwrap();
    let opened = http
        .get(url(&format!("/kiosk?key={secret}")))
        .send()
        .await
        .unwrap();
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().to_owned();
    let events = http.get(url("/kiosk/events")).header("cookie", cookie);
    let mut views = events.send().await.unwrap();
    let mut seen = String::new();
    while !(seen.contains("\"screen\":\"offered\"") && seen.contains("\"qr\":{")) {
        let part = tokio::time::timeout(Duration::from_secs(60), views.chunk());
        seen.push_str(&String::from_utf8_lossy(
            &part.await.unwrap().unwrap().unwrap(),
        ));
    }
    let ready = http.get(url("/ready")).send().await.unwrap();
    assert_eq!(ready.status(), 200, "{}", ready.text().await.unwrap());
    let metrics = http
        .get(url("/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("m2key_agent_online 1"), "{metrics}");
    running.stop().await;
    let state = crate::state::State::open(&dir.path().join(app::DATABASE)).unwrap();
    let resumed = state.resume().unwrap();
    assert_eq!((resumed.rank, resumed.revision), (Some(rank(1)), Some(1)));
    assert!(state.clock().unwrap().is_some());
}

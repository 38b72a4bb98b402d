//! What is a terminal's upkeep tried against? A server with the authority's rules, on real TLS.
//!
//! A certificate has one successor; the same key again gets the same one; the first use of a successor
//! supersedes the one before; an expired certificate is good for its renewal only.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use pki::trust::Draft;
use pki::{Certificate, SoftwareKey, TrustBundle, csr, est};
use protocol::ids::{EventId, TerminalId};
use protocol::problem::{PROBLEM_JSON, Problem, ProblemType};
use protocol::wire::claims::JWKS_PATH;
use protocol::wire::push::EVENTS_PATH;
use protocol::wire::reports::{REPORTS_PATH, ReportRequest, ReportResponse, TerminalEvent};
use protocol::wire::upkeep::{CHECKPOINT_HEADER, REENROL_PATH, TRUST_HEADER, TRUST_PATH, Upkeep};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::DigitallySignedStruct;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio::sync::watch;

use super::{Signer, frame, terminal};
use crate::authority::client::CACERTS_PATH;
use crate::clock;
use crate::identity::Identity;

/// In days from now, from and to.
pub(crate) type Days = (i64, i64);
pub(crate) const FRESH: Days = (0, 7);
pub(crate) const DUE: Days = (-5, 2);
pub(crate) const EXPIRED: Days = (-10, -3);

const DAY_S: i64 = 24 * 3_600;

/// A root with an issuing CA under it.
pub(crate) struct Ca {
    pub(crate) root: Root,
    pub(crate) issuing: Certificate,
    issuer: Issuer<'static, KeyPair>,
    /// Tells it from others: part of its names.
    mark: &'static str,
}

/// A root with its key, to sign bundles with.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) certificate: Certificate,
    key: SigningKey,
}

pub(crate) struct FakeAuthority {
    pub(crate) base: String,
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    seen: watch::Sender<Seen>,
}

/// What happened at the server, for those who wait for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Serial, trust sequence and checkpoint of every stream, in the order they came.
    pub(crate) streams: Vec<(String, String, Option<String>)>,
    /// Two keys asked for one successor.
    pub(crate) clone_alarms: usize,
    /// Rises with every frame that is pushed.
    revision: u64,
}

/// What a test turns.
pub(crate) struct World {
    pub(crate) ca: Ca,
    pub(crate) upkeep: Upkeep,
    pub(crate) bundle: String,
    /// So many answers to renewals are lost on the way.
    pub(crate) answers_lost: usize,
    /// Every renewal is refused so.
    pub(crate) renewal_refused: Option<ProblemType>,
    /// What terminals reported, each once, in the order it came.
    pub(crate) reports: Vec<TerminalEvent>,
    /// So many batches are stored and their answers lost on the way.
    pub(crate) report_answers_lost: usize,
    /// Of one batch no more than these are taken.
    pub(crate) reports_taken: usize,
    /// Streams live beside each other, as those of different terminals do.
    pub(crate) many_streams: bool,
    /// Renewed certificates are not taken, however good they are.
    pub(crate) successors_refused: bool,
    pub(crate) issued_for: Days,
    pub(crate) issued_to: TerminalId,
    tls: Arc<rustls::ServerConfig>,
    issued: HashMap<String, Record>,
}

struct Record {
    certificate: Certificate,
    renews: Option<String>,
    is_superseded: bool,
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

impl Ca {
    pub(crate) fn new(mark: &'static str) -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let signing = SigningKey::from_pkcs8_der(&root_key.serialize_der()).unwrap();
        let root = ca_params(&format!("Root {mark}"), 1);
        let root_der = root.self_signed(&root_key).unwrap();
        let issuing = ca_params(&format!("Issuing {mark}"), 0);
        let issuing_der = issuing
            .signed_by(&key, &Issuer::new(root, root_key))
            .unwrap();
        Self {
            root: Root {
                certificate: Certificate::from_der(root_der.der()).unwrap(),
                key: signing,
            },
            issuing: Certificate::from_der(issuing_der.der()).unwrap(),
            issuer: Issuer::new(issuing, key),
            mark,
        }
    }

    /// Another issuing CA under the same root.
    pub(crate) fn next_issuing(&self) -> Self {
        let root_key = self.root.key.to_pkcs8_der().unwrap();
        let root_key = KeyPair::try_from(root_key.as_bytes()).unwrap();
        let root = ca_params(&format!("Root {}", self.mark), 1);
        let issuing = ca_params(&format!("Issuing {} 2", self.mark), 0);
        let key = KeyPair::generate().unwrap();
        let signed = issuing.signed_by(&key, &Issuer::new(root, root_key));
        Self {
            root: self.root.clone(),
            issuing: Certificate::from_der(signed.unwrap().der()).unwrap(),
            issuer: Issuer::new(issuing, key),
            mark: self.mark,
        }
    }

    pub(crate) fn terminal(&self, key: &SoftwareKey, days: Days) -> Certificate {
        let names = vec![uri(&format!("terminal/{}", terminal(1)))];
        let point = Point(key.public_point().to_vec());
        self.leaf(&point, names, ExtendedKeyUsagePurpose::ClientAuth, days)
    }

    fn leaf(
        &self,
        key: &impl PublicKeyData,
        names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
        days: Days,
    ) -> Certificate {
        let mut params = dated(CertificateParams::default(), days);
        params.distinguished_name.push(DnType::CommonName, "x");
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    /// The certificate of the same issuing key under another root.
    pub(crate) fn issuing_under(&self, other: &Self) -> Certificate {
        let issuing = ca_params(&format!("Issuing {}", self.mark), 0);
        let root = ca_params(&format!("Root {}", other.mark), 1);
        let key = KeyPair::try_from(other.root.key.to_pkcs8_der().unwrap().as_bytes()).unwrap();
        let signed = issuing.signed_by(self.issuer.key(), &Issuer::new(root, key));
        Certificate::from_der(signed.unwrap().der()).unwrap()
    }

    pub(crate) fn tls(&self, days: Days) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let names = vec![
            uri("authority/one"),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::DnsName("agents.pay.example".try_into().unwrap()),
        ];
        let leaf = self.leaf(&key, names, ExtendedKeyUsagePurpose::ServerAuth, days);
        let chain = [&leaf, &self.issuing].map(|c| CertificateDer::from(c.der().to_vec()));
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(TakesAny))
            .with_single_cert(chain.to_vec(), key);
        Arc::new(config.unwrap())
    }
}

/// The bundle after one more change, signed by all of `roots` whose signature it needs.
pub(crate) fn signed(mut draft: Draft, roots: &[&Root]) -> TrustBundle {
    for root in draft.signers().into_iter().cloned().collect::<Vec<_>>() {
        if let Some(found) = roots.iter().find(|r| r.certificate == root) {
            let signature: Signature = found.key.sign_prehash(&draft.digest(&root)).unwrap();
            draft.add(&root, &signature.to_bytes().into()).unwrap();
        }
    }
    draft.finish().unwrap()
}

impl FakeAuthority {
    pub(crate) async fn start() -> Self {
        let ca = Ca::new("A");
        let world = World {
            tls: ca.tls(FRESH),
            ca,
            upkeep: Upkeep::default(),
            bundle: String::new(),
            answers_lost: 0,
            renewal_refused: None,
            reports: Vec::new(),
            report_answers_lost: 0,
            reports_taken: usize::MAX,
            many_streams: false,
            successors_refused: false,
            issued_for: FRESH,
            issued_to: terminal(1),
            issued: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            seen: watch::Sender::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(accept(listener, shared.clone()));
        Self { base, shared }
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.base.trim_start_matches("https://").parse().unwrap()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    pub(crate) fn seen(&self) -> watch::Receiver<Seen> {
        self.shared.seen.subscribe()
    }

    /// Writes the files of an enrolled terminal whose certificate has these dates.
    pub(crate) fn enrol(&self, dir: &std::path::Path, days: Days) {
        let key = SoftwareKey::generate().unwrap();
        let mut world = self.world();
        let leaf = world.ca.terminal(&key, days);
        world.record(leaf.clone(), None);
        let enrolled = crate::authority::enrol::Enrolled {
            root: world.ca.root.certificate.clone(),
            chain: vec![leaf, world.ca.issuing.clone()],
        };
        Identity::save(dir, &key, &enrolled).unwrap();
    }

    /// Serves under this CA from the next connection on.
    pub(crate) fn move_to(&self, ca: Ca) {
        let mut world = self.world();
        world.tls = ca.tls(FRESH);
        world.ca = ca;
    }

    /// Tells all streams what the terminal looks after.
    pub(crate) fn push(&self, upkeep: Upkeep) {
        self.world().upkeep = upkeep;
        self.shared.seen.send_modify(|seen| seen.revision += 1);
    }
}

impl World {
    /// From the next connection on the server's certificate has these dates.
    pub(crate) fn serve_in_days(&mut self, days: Days) {
        self.tls = self.ca.tls(days);
    }

    /// Stores what is new of a batch; none if the answer is lost.
    fn report(&mut self, body: &[u8]) -> Option<Vec<EventId>> {
        let batch: ReportRequest = serde_json::from_slice(body).unwrap();
        let taken: Vec<_> = batch.events.into_iter().take(self.reports_taken).collect();
        let stored = taken.iter().map(|event| event.id).collect();
        for event in taken {
            if !self.reports.iter().any(|it| it.id == event.id) {
                self.reports.push(event);
            }
        }
        let is_lost = self.report_answers_lost > 0;
        self.report_answers_lost = self.report_answers_lost.saturating_sub(1);
        (!is_lost).then_some(stored)
    }

    fn record(&mut self, certificate: Certificate, renews: Option<String>) {
        let record = Record {
            certificate: certificate.clone(),
            renews,
            is_superseded: false,
        };
        self.issued.insert(certificate.serial_hex(), record);
    }

    /// The serial of a certificate that may be used; its first use supersedes the one before.
    fn prove(&mut self, peer: Option<&Certificate>) -> Result<String, ProblemType> {
        let peer = peer.ok_or(ProblemType::CertificateNeeded)?;
        let serial = peer.serial_hex();
        let record = self.issued.get(&serial);
        let record = record.filter(|r| r.certificate == *peer && !r.is_superseded);
        let record = record.ok_or(ProblemType::CertificateRefused)?;
        let before = record.renews.clone();
        if before.is_some() && self.successors_refused {
            return Err(ProblemType::CertificateRefused);
        }
        if let Some(before) = before {
            self.issued.get_mut(&before).unwrap().is_superseded = true;
        }
        if clock::wall().secs() > peer.not_after() as i64 {
            return Err(ProblemType::CertificateRefused);
        }
        Ok(serial)
    }

    fn renew(
        &mut self,
        peer: Option<&Certificate>,
        body: &[u8],
    ) -> Result<Certificate, ProblemType> {
        let serial = peer.ok_or(ProblemType::CertificateNeeded)?.serial_hex();
        let record = self.issued.get(&serial).filter(|r| !r.is_superseded);
        record.ok_or(ProblemType::CertificateRefused)?;
        if let Some(refusal) = self.renewal_refused {
            return Err(refusal);
        }
        let csr = csr::check(body).map_err(|_| ProblemType::RequestRefused)?;
        let key = csr.spki_sha256();
        let successor = |r: &&Record| r.renews.as_deref() == Some(serial.as_str());
        if let Some(successor) = self.issued.values().find(successor) {
            return match successor.certificate.spki_sha256() == key {
                true => Ok(successor.certificate.clone()),
                false => Err(ProblemType::SuccessorExists),
            };
        }
        let knows = |r: &Record| r.certificate.spki_sha256() == key;
        if self.issued.values().any(knows) {
            return Err(ProblemType::KeyReused);
        }
        let names = vec![uri(&format!("terminal/{}", self.issued_to))];
        let point = Point(csr.public_point().to_vec());
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        let leaf = self.ca.leaf(&point, names, purpose, self.issued_for);
        self.record(leaf.clone(), Some(serial));
        Ok(leaf)
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;
/// An answer that never arrives.
struct Lost;

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let tls = shared.world.lock().unwrap().tls.clone();
            let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else {
                return;
            };
            let peer = stream.get_ref().1.peer_certificates();
            let peer = peer.map(|chain| Arc::new(Certificate::from_der(&chain[0]).unwrap()));
            let service = hyper::service::service_fn(move |request| {
                let (shared, peer) = (shared.clone(), peer.clone());
                async move {
                    let answer = answer(&shared, peer.as_deref(), request).await;
                    answer.map_err(|Lost| std::io::Error::other("lost on the way"))
                }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    shared: &Arc<Shared>,
    peer: Option<&Certificate>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Lost> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| Some(head.headers.get(name)?.to_str().unwrap().to_owned());
    let mut world = shared.world.lock().unwrap();
    Ok(match (&head.method, head.uri.path()) {
        (&Method::GET, CACERTS_PATH) => certs(&[&world.ca.issuing, &world.ca.root.certificate]),
        (&Method::GET, TRUST_PATH) => whole(world.bundle.clone()),
        (&Method::POST, REENROL_PATH) => match world.renew(peer, &body) {
            Ok(_) if world.answers_lost > 0 => {
                world.answers_lost -= 1;
                return Err(Lost);
            }
            Ok(leaf) => certs(&[&leaf]),
            Err(problem) => {
                let is_clone = problem == ProblemType::SuccessorExists;
                shared
                    .seen
                    .send_modify(|s| s.clone_alarms += usize::from(is_clone));
                refusal(problem)
            }
        },
        (_, path) => match world.prove(peer) {
            Err(problem) => refusal(problem),
            Ok(_) if path == REPORTS_PATH => match world.report(&body) {
                Some(stored) => whole(serde_json::to_string(&ReportResponse { stored }).unwrap()),
                None => return Err(Lost),
            },
            Ok(_) if path == JWKS_PATH => {
                whole(serde_json::to_string(&Signer::new(1).keys()).unwrap())
            }
            Ok(serial) if path == EVENTS_PATH => {
                let trust = header(TRUST_HEADER).unwrap_or_default();
                let stream = (serial, trust, header(CHECKPOINT_HEADER));
                shared.seen.send_modify(|seen| seen.streams.push(stream));
                events(shared.clone())
            }
            Ok(_) => refusal(ProblemType::NotFound),
        },
    })
}

/// A frame at once and one whenever the world pushes; it ends when a newer stream is there.
fn events(shared: Arc<Shared>) -> Response<Body> {
    let changes = shared.seen.subscribe();
    let number = changes.borrow().streams.len();
    let frames = stream::unfold((changes, None), move |(mut changes, last)| {
        let shared = shared.clone();
        async move {
            let next =
                changes.wait_for(|seen| seen.streams.len() > number || last != Some(seen.revision));
            let (streams, revision) = {
                let seen = next.await.ok()?;
                (seen.streams.len(), seen.revision)
            };
            if streams > number && !shared.world.lock().unwrap().many_streams {
                return None;
            }
            let mut state = frame(revision + 1, clock::wall(), None);
            state.upkeep = shared.world.lock().unwrap().upkeep.clone();
            let json = serde_json::to_string(&state).unwrap();
            let text = format!("id: {}\nevent: state\ndata: {json}\n\n", state.revision);
            Some((
                Ok::<_, Infallible>(Frame::data(Bytes::from(text))),
                (changes, Some(revision)),
            ))
        }
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    let media = http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert("content-type", media);
    response
}

fn certs(certificates: &[&Certificate]) -> Response<Body> {
    whole(est::encode(certificates).unwrap())
}

fn whole(text: String) -> Response<Body> {
    Response::new(Full::new(Bytes::from(text)).boxed_unsync())
}

fn refusal(problem: ProblemType) -> Response<Body> {
    let mut response = whole(serde_json::to_string(&Problem::new(problem)).unwrap());
    *response.status_mut() = http::StatusCode::from_u16(problem.status()).unwrap();
    let media = http::HeaderValue::from_static(PROBLEM_JSON);
    response.headers_mut().insert("content-type", media);
    response
}

/// TLS proves the key; what the certificate is worth, the routes say, as it may have expired.
#[derive(Debug)]
struct TakesAny;

impl ClientCertVerifier for TakesAny {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn ca_params(name: &str, below: u8) -> CertificateParams {
    let mut params = dated(CertificateParams::default(), (-400, 3_000));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn dated(mut params: CertificateParams, (from, to): Days) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let in_days = |days: i64| {
        let at = clock::wall().secs() - 300 + days * DAY_S;
        epoch + Duration::from_secs(at.unsigned_abs())
    };
    params.not_before = in_days(from);
    params.not_after = in_days(to);
    params
}

fn uri(path: &str) -> SanType {
    let text = format!("spiffe://m2key.example/{path}");
    SanType::URI(text.try_into().unwrap())
}

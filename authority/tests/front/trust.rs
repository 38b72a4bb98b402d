//! Do roots and certificates change under a running daemon, and does nobody notice who should not?

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use authority::services::followers::NOTES_MAX;
use authority::store::{AuditLog, TrustFollowers};
use pki::profiles::BACKDATE_SECONDS;
use pki::trust::{Change, Draft, sign_bundle};
use pki::{Certificate, IssueTo, Passphrase, RootKey, RootSigner, TrustBundle};

use crate::certificates::{Shown, expired, foreign, operator, unrecorded};
use crate::enrolling::enrol;
use crate::house::{Daemon, House, Reply, text};
use crate::stage::{DAY_MS, Stage};

const TRUST: &str = "/v1/trust";
/// Each look takes a process; so many take longer than anything here may.
const LOOKS_MAX: usize = 2_000;

/// Looks until there is something to see.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    (0..LOOKS_MAX)
        .find_map(|_| look())
        .unwrap_or_else(|| panic!("in vain: {what}"))
}

/// Old and new root of one house, with their keys at hand.
pub struct Roots<'a> {
    house: &'a House,
    keys: [RootSigner; 2],
    pub old: Certificate,
    pub new: Certificate,
    pub last: Option<TrustBundle>,
}

impl<'a> Roots<'a> {
    pub fn of(house: &'a House) -> Self {
        let passphrase = Passphrase::from_file(&house.dir().join("root/passphrase")).unwrap();
        let key = RootKey::load(&house.dir().join("root/root.key"), &passphrase).unwrap();
        let old = Certificate::load(&house.dir().join("root.pem")).unwrap();
        let new_key = RootKey::generate().unwrap();
        let path = house.scratch("new-root.key");
        // Another line of the same house begins with another new root.
        let _ = std::fs::remove_file(&path);
        new_key.save(&path, &passphrase).unwrap();
        let new = new_key
            .certificate(old.not_before() + BACKDATE_SECONDS)
            .unwrap();
        Self {
            house,
            keys: [key.into(), new_key.into()],
            old,
            new,
            last: None,
        }
    }

    pub fn new_key(&self) -> RootKey {
        let passphrase = Passphrase::from_file(&self.house.dir().join("root/passphrase"));
        let path = self.house.scratch("new-root.key");
        RootKey::load(&path, &passphrase.unwrap()).unwrap()
    }

    /// Signs the next list and puts it into a file.
    pub fn list(&mut self, change: &Change) -> String {
        let draft = match &self.last {
            None => Draft::first(self.old.clone(), change, 1),
            Some(last) => Draft::after(last, change, 1),
        };
        let keys: Vec<&RootSigner> = self.keys.iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let bundle = runtime
            .block_on(sign_bundle(draft.unwrap(), &keys))
            .unwrap();
        let path = self.house.scratch(&format!("{}.json", bundle.sequence()));
        bundle.save(&path).unwrap();
        self.last = Some(bundle);
        text(&path).to_owned()
    }

    pub fn prepare(&mut self) -> String {
        self.list(&Change::Prepare(Box::new(self.new.clone())))
    }
}

/// The push stream of a terminal, over one connection that stays.
pub struct Stream {
    curl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Stream {
    pub fn open(house: &House, daemon: &Daemon, shown: &Shown, follows: u64) -> Self {
        let root = house.dir().join("root.pem");
        Self::under(&root, daemon, shown, follows)
    }

    /// Trusting this root only.
    pub fn under(root: &Path, daemon: &Daemon, shown: &Shown, follows: u64) -> Self {
        let url = format!("https://localhost:{}/v1/events", daemon.port("agents"));
        let header = format!("m2key-trust: {follows}");
        let mut curl = Command::new("curl")
            .args(["-sSN", "--noproxy", "*", "--max-time", "120"])
            .args(["--cacert", text(root), "-H", &header])
            .args(shown.curl())
            .arg(url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(curl.stdout.take().unwrap()).lines();
        Self { curl, lines }
    }

    /// The list of roots that the next state speaks of.
    pub fn next_sequence(&mut self) -> u64 {
        loop {
            let line = self.lines.next().expect("the stream goes on").unwrap();
            if let Some(data) = line.strip_prefix("data:") {
                let state: serde_json::Value = serde_json::from_str(data).unwrap();
                return state["upkeep"]["trust_sequence"].as_u64().unwrap();
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

pub fn install(house: &House, bundle: &str) {
    let said = house.verb(&["trust", "install", bundle]);
    assert_eq!(said.code, 0, "{said:?}");
}

/// The certificate that a new handshake with the agents' listener shows.
fn served(daemon: &Daemon) -> Option<Certificate> {
    let address = format!("localhost:{}", daemon.port("agents"));
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-showcerts"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = pki::chain::certificates_from_pem(&said).ok()?;
    all.into_iter().next()
}

/// All but the one that every house with a single operator has.
fn warnings(daemon: &Daemon) -> String {
    let ready = daemon.loopback("/ready").json();
    let all = ready["warnings"].as_array().unwrap();
    let of_people = |warning: &&serde_json::Value| warning.to_string().contains("one operator");
    let others: Vec<_> = all.iter().filter(|it| !of_people(it)).collect();
    serde_json::to_string(&others).unwrap()
}

fn believes(daemon: &Daemon, root: &Path) -> Reply {
    let url = format!("https://localhost:{}{TRUST}", daemon.port("agents"));
    crate::house::curl(&url, &["--cacert", text(root)])
}

#[test]
fn a_root_is_rotated_and_an_open_stream_hears_of_every_list() {
    let house = House::new();
    let daemon = house.serve();
    let mut roots = Roots::of(&house);
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    daemon.agents(TRUST, &[]).problem(404, "unknown");
    let mut stream = Stream::open(&house, &daemon, &shown, 0);
    assert_eq!(stream.next_sequence(), 0);

    let first = roots.prepare();
    let dry = house.verb(&["trust", "install", &first, "--dry-run"]);
    assert!(
        dry.code == 0 && dry.out.contains("would come into force"),
        "{dry:?}"
    );
    daemon.agents(TRUST, &[]).problem(404, "unknown");
    install(&house, &first);
    assert_eq!(stream.next_sequence(), 1);
    let shown_bundle = daemon.agents(TRUST, &[]);
    assert_eq!(
        TrustBundle::parse(&shown_bundle.body).as_ref(),
        Ok(roots.last.as_ref().unwrap())
    );
    let chain = daemon.agents("/.well-known/est/cacerts", &[]);
    let chain = pki::est::decode(chain.body.as_bytes()).unwrap();
    assert!(chain.contains(&roots.old) && chain.contains(&roots.new));

    let second = roots.list(&Change::Activate(roots.new.fingerprint()));
    let refused = house.verb(&["trust", "install", &second]);
    refused.refused(1, &terminal, "");
    let follows = house.verb(&["terminal", "show", &terminal]);
    assert!(follows.out.contains("roots      list 0"), "{follows:?}");
    let mut stream = Stream::open(&house, &daemon, &shown, 1);
    assert_eq!(stream.next_sequence(), 1);
    install(&house, &second);
    assert_eq!(stream.next_sequence(), 2);
    let listed = house.verb(&["trust", "show"]);
    assert!(listed.out.contains("superseded"), "{listed:?}");

    let third = roots.list(&Change::Taint(roots.old.fingerprint()));
    let refused = house.verb(&["trust", "install", &third]);
    refused.refused(1, "the active issuing CA", "");
}

#[test]
fn a_tainted_root_is_dropped_while_serving_once_the_issuing_ca_hangs_on_the_new_one() {
    let house = House::new();
    let daemon = house.serve();
    let mut roots = Roots::of(&house);
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    install(&house, &roots.prepare());
    let activate = Change::Activate(roots.new.fingerprint());
    install(&house, &roots.list(&activate));
    // Until the issuing CA has its new certificate, the old root is all there is to lead to.
    assert_eq!(believes(&daemon, &house.dir().join("root.pem")).status, 200);
    reissue(&house, &roots);
    daemon.hang_up();
    // The active root is the one to which it leads now, for tools that trust a single one, too.
    let new = house.scratch("new.pem");
    std::fs::write(&new, roots.new.pem()).unwrap();
    until("the new root leads to it", || {
        (believes(&daemon, &new).status == 200).then_some(())
    });
    let mut before = Stream::under(&new, &daemon, &shown, 2);
    assert_eq!(before.next_sequence(), 2);
    let taint = Change::Taint(roots.old.fingerprint());
    install(&house, &roots.list(&taint));
    // An open connection goes on. Who shows a certificate from before is known by its issuing CA.
    assert_eq!(before.next_sequence(), 3);
    assert_eq!(believes(&daemon, &house.dir().join("root.pem")).status, 0);
    let mut stream = Stream::under(&new, &daemon, &shown, 3);
    assert_eq!(stream.next_sequence(), 3);
    let listed = house.verb(&["terminal", "list"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let chain = daemon_cacerts(&daemon, &new);
    assert!(!chain.contains(&roots.old) && chain.contains(&roots.new));
}

fn daemon_cacerts(daemon: &Daemon, root: &Path) -> Vec<Certificate> {
    let url = format!(
        "https://localhost:{}/.well-known/est/cacerts",
        daemon.port("agents")
    );
    let reply = crate::house::curl(&url, &["--cacert", text(root)]);
    pki::est::decode(reply.body.as_bytes()).unwrap()
}

/// The same issuing key under the new root, at the running signer.
fn reissue(house: &House, roots: &Roots<'_>) {
    let signer = house.signer_config();
    let trusted = signer.with_file_name("roots.pem");
    let both = roots.old.pem() + &roots.new.pem();
    std::fs::write(trusted, both).unwrap();
    let issuing = Certificate::load(&house.dir().join("issuing.pem")).unwrap();
    let now = roots.new.not_before() + BACKDATE_SECONDS;
    let key = roots.new_key();
    let signed = key.sign_issuing(&roots.new, &issuing.public_point(), now);
    let path = house.scratch("issuing-under-new.pem");
    std::fs::write(&path, signed.unwrap().pem()).unwrap();
    let said = house.pki(&["issuing", "install", text(&path)]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn bundles_that_are_older_foreign_or_another_line_are_not_installed() {
    let house = House::new();
    let daemon = house.serve();
    let mut roots = Roots::of(&house);
    let other_line = Roots::of(&house).prepare();
    let elsewhere = House::empty();
    let moved = elsewhere.scratch("other.json");
    std::fs::copy(&other_line, &moved).unwrap();
    let first = roots.prepare();
    install(&house, &first);
    install(&house, &first);
    let refused = house.verb(&["trust", "install", text(&moved)]);
    refused.refused(1, "not above 1", "");
    let stranger = House::of_its_own();
    let mut theirs = Roots::of(&stranger);
    theirs.prepare();
    let active = theirs.new.fingerprint();
    let theirs = theirs.list(&Change::Activate(active));
    house
        .verb(&["trust", "install", &theirs])
        .refused(1, "no line of signatures", "");
    let garbage = house.scratch("garbage");
    std::fs::write(&garbage, "{}").unwrap();
    house
        .verb(&["trust", "install", text(&garbage)])
        .refused(1, "not a trust bundle", "");
    // The file by itself is not believed either.
    std::fs::copy(&theirs, house.dir().join("trust.json")).unwrap();
    daemon.hang_up();
    until("a warning", || {
        warnings(&daemon).contains("trust bundle").then_some(())
    });
    let listed = house.verb(&["trust", "show"]);
    listed.refused(4, "trust.json", "");
}

#[test]
fn a_listener_takes_up_a_pair_and_renews_it_while_a_stream_stays_open() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let mut stream = Stream::open(&house, &daemon, &shown, 0);
    assert_eq!(stream.next_sequence(), 0);
    let first = until("a certificate", || served(&daemon));
    // Of another issuing CA than the active one: good, and due at once.
    let other = unrecorded(&house, node());
    put(&house, &other);
    daemon.hang_up();
    let renewed = until("another certificate", || {
        let pem = std::fs::read_to_string(house.dir().join("agents.pem")).unwrap();
        let files =
            Certificate::from_pem(pem.split_inclusive("-----END CERTIFICATE-----\n").next()?);
        served(&daemon).filter(|now| {
            *now != first && files.as_ref() == Ok(now) && other.serial() != now.serial_hex()
        })
    });
    let issuing = Certificate::load(&house.dir().join("issuing.pem")).unwrap();
    assert!(renewed.is_issued_by(&issuing));
    assert_eq!(warnings(&daemon), "[]");
    // The old connection is alive: it hears of the next change.
    install(&house, &Roots::of(&house).prepare());
    assert_eq!(stream.next_sequence(), 1);
    daemon.stop();
    let daemon = house.serve();
    assert_eq!(until("a certificate", || served(&daemon)), renewed);
}

#[test]
fn files_that_cannot_serve_change_nothing_but_readiness() {
    let house = House::new();
    let daemon = house.serve();
    let first = until("a certificate", || served(&daemon));
    let (pem, key) = (
        house.dir().join("agents.pem"),
        house.dir().join("agents.key"),
    );
    let good = (std::fs::read(&pem).unwrap(), std::fs::read(&key).unwrap());
    let someone = IssueTo::Authority {
        node: "someone-else".parse().unwrap(),
        dns: vec!["localhost".parse().unwrap()],
        addresses: vec![],
    };
    let cases: [(&str, &dyn Fn()); 6] = [
        ("half written", &|| {
            std::fs::write(&pem, &good.0[..200]).unwrap()
        }),
        ("another key", &|| {
            std::fs::copy(house.dir().join("operator.key"), &key).unwrap();
        }),
        ("expired", &|| put(&house, &expired(&house, node()))),
        ("foreign", &|| put(&house, &foreign(&house, node()))),
        ("another node", &|| {
            put(&house, &unrecorded(&house, someone.clone()))
        }),
        ("no server", &|| {
            let own = operator(&house);
            put(&house, &own);
        }),
    ];
    for (what, damage) in cases {
        damage();
        daemon.hang_up();
        until(what, || {
            warnings(&daemon).contains("agents listener").then_some(())
        });
        assert_eq!(served(&daemon).as_ref(), Some(&first), "{what}");
        std::fs::write(&pem, &good.0).unwrap();
        std::fs::write(&key, &good.1).unwrap();
        daemon.hang_up();
        until("all is well again", || {
            (warnings(&daemon) == "[]").then_some(())
        });
    }
}

fn node() -> IssueTo {
    IssueTo::Authority {
        node: "authority-1".parse().unwrap(),
        dns: vec!["localhost".parse().unwrap()],
        addresses: vec!["127.0.0.1".parse().unwrap()],
    }
}

/// In the place of what the agents' listener shows.
fn put(house: &House, shown: &Shown) {
    std::fs::copy(shown.certificate(), house.dir().join("agents.pem")).unwrap();
    std::fs::copy(shown.key(), house.dir().join("agents.key")).unwrap();
}

/// How often the audit chain says that a terminal follows other roots.
async fn changes_noted(stage: &Stage) -> usize {
    let node = stage.app.config.node.as_str();
    let rows = stage.store.audit_rows(node, 0, 1_000).await.unwrap();
    let noted = rows.iter().filter(|row| row.row.kind == "trust.followed");
    noted.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_says_other_roots_all_the_time_fills_no_audit_chain() {
    let stage = Stage::set().await;
    let terminal = stage.added().await.terminal;
    let followers = &stage.journey.followers;
    for turn in 0..50 {
        followers.saw(terminal, 1 + turn % 2).await;
    }
    let noted = changes_noted(&stage).await;
    assert!(noted > 1 && noted <= NOTES_MAX as usize, "{noted}");
    stage.clock.by(DAY_MS);
    followers.saw(terminal, 7).await;
    assert_eq!(changes_noted(&stage).await, noted + 1);
    let follower = stage.store.follower(terminal).await.unwrap();
    assert_eq!(
        follower.map(|it| it.sequence),
        Some(7),
        "the last word counts"
    );
}

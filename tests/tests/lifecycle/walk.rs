//! Can an operator walk every verb there is beside twenty terminals at work, and nobody at a counter notices?
//!
//! The order is the one of years: people first, then keys that sign, seeds and what seals them, the issuing
//! CA, the root; at the end what is only done on a bad day.

use std::time::Instant;

use harness::{tools, wait};
use serde_json::Value;

use crate::desk::{AUTHORITY, Desk, PKI};
use crate::fleet::Fleet;
use crate::watch::{Seen, Watch};

const TERMINALS: usize = 20;
/// What the world has been made with already, what is asked of an HSM that nobody else uses, what ends with a
/// restart (`journey/restoring.rs` walks that one), and what needs another database (the store's `moving.rs`).
const ELSEWHERE: [&str; 5] = [
    "m2key-authority check-hsm",
    "m2key-authority fence raise",
    "m2key-authority init",
    "m2key-authority migrate",
    "m2key-authority serve",
];

struct Walk<'a> {
    fleet: &'a Fleet,
    desk: Desk<'a>,
    watch: Watch,
    began: Instant,
    /// The terminal at which the next shopper pays.
    next: usize,
    receipts: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_terminals_miss_no_window_while_every_verb_is_walked() {
    let fleet = Fleet::of(TERMINALS).await.unwrap();
    let mut walk = Walk {
        fleet: &fleet,
        desk: fleet.desk(),
        watch: Watch::over(&fleet.world).await.unwrap(),
        began: Instant::now(),
        next: 0,
        receipts: Vec::new(),
    };
    walk.chapter("nothing yet").await;
    walk.people();
    walk.chapter("people").await;
    walk.signing_keys();
    walk.chapter("keys that sign").await;
    walk.seeds().await;
    walk.chapter("seeds").await;
    walk.sealing_keys();
    walk.chapter("keys that seal").await;
    walk.issuing_ca().await;
    walk.chapter("issuing CA").await;
    walk.root().await;
    walk.chapter("root").await;
    walk.certificates_and_terminals().await;
    walk.chapter("certificates and terminals").await;
    walk.bad_days().await;
    walk.chapter("bad days").await;
    walk.everybody_pays().await;
    walk.evidence().await;
    assert_eq!(walk.desk.never_typed(AUTHORITY), ELSEWHERE);
    assert_eq!(walk.desk.never_typed(PKI), [""; 0]);
}

impl Walk<'_> {
    /// Nothing was missed since the last chapter, and a shopper pays at the next terminal.
    async fn chapter(&mut self, name: &str) {
        let (n, seen) = (self.next, self.watch.now(self.next));
        self.next += 1;
        let shown = seen.link.unwrap_or_else(|| panic!("{name}: {n} is blank"));
        let receipt = self.fleet.pays(n, &shown.text).await;
        self.receipts
            .push(receipt.unwrap_or_else(|why| panic!("{name}: {why:?}")));
        let missed = self.watch.misses();
        let (frames, tokens) = self.watch.counts();
        let at_s = self.began.elapsed().as_secs_f32();
        println!(
            "{at_s:5.1} s  {name}: {frames} frames, {tokens} tokens, {} misses",
            missed.len()
        );
        assert_eq!(missed, [""; 0], "{name}");
    }

    // ── people ────────────────────────────────────────────────────────────────────────────────

    fn people(&self) {
        let desk = &self.desk;
        desk.adds_operator("bob");
        desk.adds_operator("carl");
        desk.ok("policy set --required 1");
        assert_eq!(desk.ok("policy show")["policy"]["required"], 1);
        assert_eq!(
            desk.ok("operator list")["operators"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
        let said = desk.say("seed rotate --all --planned");
        assert_eq!(said.code, 4, "{said:?}");
        let asked = desk.ok("consent list")["requests"][0]["id"].clone();
        let refuse = format!(
            "consent refuse {} --reason not-today",
            asked.as_str().unwrap()
        );
        desk.ok_as("bob", &refuse);
        desk.ok(&refuse);
        let over = desk.ok("consent list --all");
        assert_eq!(over["requests"][0]["state"], "withdrawn", "{over}");
    }

    // ── keys of the HSM ───────────────────────────────────────────────────────────────────────

    fn signing_keys(&self) {
        let desk = &self.desk;
        for purpose in ["schedule", "receipt", "checkpoint"] {
            desk.dry_then_ok(&format!("key prepare {purpose}"));
            desk.refused(&format!("key activate {purpose}"), "--now");
            desk.refused(&format!("key taint {purpose}"), "activate");
            let done = desk.dry_then_ok(&format!("key activate {purpose} --now"));
            assert_eq!(done["operation"]["state"], "done", "{done}");
        }
        desk.refused("key retire schedule", &self.fleet.id(0));
        desk.dry_then_ok("key retire receipt");
        desk.dry_then_ok("key taint checkpoint");
        desk.dry_then_ok("key retire checkpoint");
        let keys = desk.ok("keys");
        let state = |label: &str| {
            let mut all = keys["keys"].as_array().unwrap().iter();
            all.find(|key| key["name"] == label)
                .map(|key| key["state"].clone())
        };
        for (label, expected) in [
            ("m2key-schedule-1", "superseded"),
            ("m2key-schedule-2", "active"),
            ("m2key-receipt-1", "retired"),
            ("m2key-checkpoint-1", "retired"),
        ] {
            assert_eq!(state(label), Some(expected.into()), "{label}: {keys}");
        }
    }

    async fn seeds(&self) {
        let (desk, fleet) = (&self.desk, self.fleet);
        let one = fleet.id(0);
        desk.dry_then_ok(&format!("seed rotate --terminal {one} --planned"));
        let merchant = format!("seed rotate --merchant {} --planned", fleet.second);
        let half = self.desk.agreed("bob", &merchant);
        assert_eq!(half["operation"]["done"], TERMINALS / 2, "{half}");
        let all = desk.agreed("bob", "seed rotate --all --planned");
        assert_eq!(all["operation"]["done"], TERMINALS, "{all}");
        let id = all["operation"]["operation"].as_str().unwrap();
        let consent = all["operation"]["consent"].as_str().unwrap();
        assert_eq!(desk.ok("operation list")["operations"][0]["operation"], *id);
        assert_eq!(desk.ok(&format!("operation show {id}"))["state"], "done");
        let (transcript, jwks) = (fleet.scratch("all.jws"), fleet.jwks_file("jwks.json").await);
        std::fs::write(
            &transcript,
            desk.text(&format!("operation transcript {id}")),
        )
        .unwrap();
        desk.ok(&format!(
            "transcript verify {transcript} --jwks {}",
            jwks.unwrap()
        ));
        let consented = fleet.scratch("consent.json");
        std::fs::write(
            &consented,
            desk.text(&format!("consent transcript {consent}")),
        )
        .unwrap();
        let root = fleet.world.authority.root();
        let said = desk.pki(&format!(
            "transcript verify {consented} --root {}",
            root.display()
        ));
        assert!(said.contains("bob"), "{said}");
    }

    fn sealing_keys(&self) {
        for purpose in ["sealing", "binding"] {
            self.desk.ok(&format!("key prepare {purpose} --dry-run"));
            self.desk.agreed("bob", &format!("key prepare {purpose}"));
            self.desk.ok(&format!("key activate {purpose} --dry-run"));
            let done = self.desk.agreed("bob", &format!("key activate {purpose}"));
            assert_eq!(done["operation"]["done"], TERMINALS, "{done}");
            let retire = format!("key retire {purpose} --dry-run");
            self.desk.refused(&retire, &self.fleet.id(0));
        }
    }

    // ── issuing CA and root ───────────────────────────────────────────────────────────────────

    async fn issuing_ca(&self) {
        let (desk, fleet) = (&self.desk, self.fleet);
        desk.issuing("prepare --dry-run");
        let request = fleet.scratch("issuing-2.csr");
        let agreed = |line: String| format!("--transcript {}", desk.ceremony("bob", &line));
        let step = |line: &str, file: &str| {
            let consent = agreed(format!("issuing {line} {file}"));
            desk.issuing(&format!("{line} {file} {consent}"));
        };
        let consent = agreed("issuing prepare m2key-issuing-2".into());
        desk.issuing(&format!("prepare {consent}"));
        std::fs::write(&request, desk.issuing("request")).unwrap();
        let certificate = fleet.scratch("issuing-2.pem");
        let root = fleet.first_root();
        let sign = format!("root sign {request} --out {certificate} {root}");
        // The root wants to see somebody's consent from now on; the signer looks at what it is shown.
        let consents = fleet.world.authority.file("root/consents.toml");
        std::fs::write(consents, "required = 1\n").unwrap();
        let needed = desk.say_pki(&format!("{sign} --yes"));
        assert_eq!(needed.code, 4, "{needed:?}");
        desk.pki(&format!("{sign} --dry-run"));
        let pem = fleet.world.authority.root();
        let consent = agreed(format!("root sign {request} --root {}", pem.display()));
        desk.pki(&format!("{sign} --yes {consent}"));
        desk.issuing(&format!("install {certificate} --dry-run"));
        step("install", &certificate);
        desk.issuing("activate --dry-run");
        let consent = agreed(format!(
            "issuing activate {}",
            fleet.key_id(desk, "m2key-issuing-2")
        ));
        desk.issuing(&format!("activate {consent}"));
        let stranded = desk.say_issuing("retire m2key-issuing-1 --dry-run");
        desk.issuing("list");
        assert!(
            stranded.code == 0 || stranded.err.contains("/terminal/"),
            "{stranded:?}"
        );
        fleet.all_renewed().await;
        desk.ok("renew operator");
        for other in ["bob", "carl"] {
            desk.ok_as(other, "renew operator");
        }
        desk.ok("renew agents");
        desk.ok("renew public");
        let mine = |n| format!("certificate list --terminal {}", fleet.id(n));
        let issuer = desk.ok("certificate list --operator operator")["certificates"][0].clone();
        for n in 0..TERMINALS {
            let newest = desk.ok(&mine(n))["certificates"][0].clone();
            assert_eq!(newest["state"], "in force", "{newest}");
            assert_eq!(newest["issuer_key"], issuer["issuer_key"], "{newest}");
        }
        desk.issuing("retire m2key-issuing-1 --dry-run");
        desk.issuing("taint m2key-issuing-1 --dry-run");
        let first = fleet.key_id(desk, "m2key-issuing-1");
        for verb in ["taint", "retire"] {
            let consent = agreed(format!("issuing {verb} {first}"));
            desk.issuing(&format!("{verb} m2key-issuing-1 {consent}"));
        }
    }

    async fn root(&self) {
        let (desk, fleet, authority) = (&self.desk, self.fleet, &self.fleet.world.authority);
        let (first, second) = (fleet.first_root(), fleet.second_root());
        desk.pki(&format!("root init {second}"));
        desk.pki(&format!("root show --dir {}", fleet.scratch("new-root")));
        let (old_pem, new_pem) = (authority.root(), fleet.scratch("new-root/root.pem"));
        let prepare = format!("root trust prepare {new_pem} --first {}", old_pem.display());
        self.trust(1, &prepare, &[&first, &second]).await;

        fleet.reissue(desk, "m2key-issuing-2", &second, &new_pem);

        let bundle = authority.file("trust.json");
        let change = |verb: &str, root: &str| {
            format!("root trust {verb} {root} --bundle {}", bundle.display())
        };
        self.trust(2, &change("activate", &new_pem), &[&first, &second])
            .await;
        desk.ok("renew operator");
        for other in ["bob", "carl"] {
            desk.ok_as(other, "renew operator");
        }
        // From now on operators' certificates lead to the new root.
        let consents = format!("required = 1\nroots = \"{new_pem}\"\n");
        std::fs::write(authority.file("root/consents.toml"), consents).unwrap();
        let old = old_pem.display().to_string();
        self.trust(3, &change("taint", &old), &[&first, &second])
            .await;
        self.trust(4, &change("retire", &old), &[&second]).await;
        let stolen = fleet.key_id(desk, "m2key-issuing-1");
        self.trust(5, &change("deny", &stolen), &[&second]).await;
        let crl = format!("root crl --out {} {second}", fleet.scratch("root.crl"));
        let consent = desk.ceremony("bob", &format!("root crl --root {new_pem} --number 1"));
        desk.pki(&format!("{crl} --yes --transcript {consent}"));
        desk.pki(&format!(
            "root vouch {} --operator bob --domain m2key.example --out {} {second} --dry-run",
            authority.file("bob.csr").display(),
            fleet.scratch("bob.vouch")
        ));
    }

    /// One step of the roots: drafted, signed by each, installed with consent, followed by all.
    async fn trust(&self, sequence: u64, draft: &str, signers: &[&str]) {
        let (desk, file) = (&self.desk, self.fleet.scratch(&format!("{sequence}.json")));
        desk.pki(&format!("{draft} --out {file}"));
        for signer in signers {
            let sign = format!("root trust sign {file} {signer}");
            desk.pki(&format!("{sign} --dry-run"));
            match *signer == self.fleet.first_root() {
                true => {
                    let root = self.fleet.world.authority.root();
                    let line = format!("root trust {file} --root {}", root.display());
                    let consent = desk.ceremony("bob", &line);
                    desk.pki(&format!("{sign} --yes --transcript {consent}"))
                }
                // Operators' certificates do not lead to the new root from its first day on.
                false => desk.pki(&format!("{sign} --yes")),
            };
        }
        desk.pki(&format!("root trust show {file}"));
        desk.ok(&format!("trust install {file} --dry-run"));
        desk.agreed("bob", &format!("trust install {file}"));
        self.fleet.follow(desk, sequence, TERMINALS).await;
    }

    // ── certificates and terminals ────────────────────────────────────────────────────────────

    async fn certificates_and_terminals(&self) {
        let desk = &self.desk;
        let numbered = self.list_number().await;
        desk.refused(
            &format!(
                "certificate revoke {} --reason superseded",
                self.serial("carl", 0)
            ),
            "operator revoke carl",
        );
        // An older one of the operator's own, which a disk that was thrown away still holds.
        let serial = &self.serial("operator", 1);
        desk.ok(&format!(
            "certificate revoke {serial} --reason key-compromise"
        ));
        let shown = desk.ok(&format!("certificate show {serial}"));
        assert_eq!(shown["state"], "revoked", "{shown}");
        desk.agreed(
            "bob",
            "operator revoke carl --reason cessation-of-operation",
        );
        let said = desk.say_as("carl", "operator list");
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("another operator"), "{said:?}");
        let risen = async || (self.list_number().await > numbered).then_some(());
        wait::until("a list with a higher number", risen)
            .await
            .unwrap();
        let listed = self.list("-text").await;
        assert!(listed.to_lowercase().contains(serial), "{serial}: {listed}");
        self.one_more_terminal();
        self.tags();
        self.money().await;
        assert_eq!(desk.ok("alarm list")["alarms"], Value::Array(Vec::new()));
        desk.ok("renew agents");
        desk.ok("check-config");
        assert_eq!(desk.ok("fence status")["fenced"], false);
    }

    /// A tag's life at the desk; on a reader it is in `journey`.
    fn tags(&self) {
        let (desk, id) = (&self.desk, self.fleet.id(0));
        let (uid, keys) = ("04010203040506", desk.file("tag", "toml"));
        let keys = keys.display();
        let made = desk.ok(&format!(
            "tag keys --terminal {id} --uid {uid} --out {keys}"
        ));
        assert_eq!(made["key_version"], 1, "{made}");
        let listed = desk.ok(&format!("tag list --terminal {id}"));
        assert_eq!(listed["tags"][0]["uid"], uid, "{listed}");
        desk.ok(&format!("tag retire {uid} --reason lost"));
        let shown = desk.ok(&format!("tag show {uid}"));
        assert_eq!(shown["tags"][0]["state"], "retired", "{shown}");
        desk.ok("tag forecast --within 30");
        desk.refused(
            &format!("alarm close {id} counter-back 2026-01-01 --note none"),
            "no alarm counter-back",
        );
    }

    fn serial(&self, operator: &str, n: usize) -> String {
        let line = format!("certificate list --operator {operator}");
        let serial = &self.desk.ok(&line)["certificates"][n]["serial"];
        serial.as_str().unwrap().to_owned()
    }

    async fn money(&self) {
        let desk = &self.desk;
        desk.ok("merchant add --name Kiosk --currency EUR");
        let open = "account open --issuer https://id.example --subject ann --currency EUR";
        let account = desk.ok(open)["account"].as_str().unwrap().to_owned();
        desk.ok(&format!(
            "account credit --account {account} --amount-minor 1 --reference w1"
        ));
        desk.ok("account check");
        let ann = "--issuer https://id.example --subject ann";
        desk.ok(&format!("shopper lock {ann} --reason lost"));
        let shown = desk.ok(&format!("shopper show {ann}"));
        assert_eq!(shown["lock_reason"], "lost");
        desk.ok(&format!("shopper unlock {ann} --reason found"));
        self.books().await;
    }

    /// What the shoppers of the chapters before have paid at the second merchant.
    async fn books(&self) {
        let (desk, fleet) = (&self.desk, self.fleet);
        let merchant = &fleet.second;
        desk.ok(&format!(
            "merchant set {merchant} --zone Europe/Paris --refund-day-max-minor 100000"
        ));
        let pin = fleet.scratch("pin");
        std::fs::write(&pin, "480317\n").unwrap();
        desk.ok(&format!("merchant pin {merchant} --pin-file {pin}"));
        let shown = desk.ok(&format!("merchant show {merchant}"));
        assert_eq!(shown["zone"], "Europe/Paris", "{shown}");
        let history = desk.ok(&format!("merchant history {merchant}"));
        let paid = history["entries"][0].clone();
        let charge = paid["charge"].as_str().unwrap().to_owned();
        let refund = format!("refund --charge {charge} --amount-minor 1 --reason drill");
        let given = desk.ok(&refund);
        assert_eq!(given["stage"], "refunded", "{given}");
        let id = given["refund"].as_str().unwrap();
        assert_eq!(desk.ok(&format!("{refund} --refund {id}")), given);
        let file = fleet.scratch("refund.jws");
        std::fs::write(&file, given["receipt"].as_str().unwrap()).unwrap();
        let jwks = fleet.jwks_file("books.json").await.unwrap();
        desk.ok(&format!("receipt verify {file} --jwks {jwks}"));
        let closed = desk.ok(&format!("settlement close {merchant} --until-now"));
        assert_eq!(closed["settlements"][0]["totals"]["debits"], 1, "{closed}");
        let listed = desk.ok(&format!("settlement list {merchant}"));
        assert_eq!(listed["settlements"][0]["signed"], true, "{listed}");
        let (out, statement) = (fleet.scratch("day.csv"), fleet.scratch("day.jws"));
        let number = &listed["settlements"][0]["number"];
        desk.ok(&format!(
            "settlement export {merchant} {number} --out {out} --statement {statement}"
        ));
        let verify = format!("settlement verify {out} --statement {statement} --jwks {jwks}");
        desk.ok(&verify);
        let changed = std::fs::read_to_string(&out)
            .unwrap()
            .replacen("CRDT", "DBIT", 1);
        std::fs::write(&out, changed).unwrap();
        desk.refused(&verify, "another file");
        desk.refused(
            &format!("webhook set {merchant} https://10.0.0.1/"),
            "private",
        );
        desk.ok(&format!("webhook set {merchant} https://shop.invalid/hook"));
        let nodes = desk.ok("node list");
        assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(0), "embedded");
        desk.refused("node forget authority-2", "no node has this name");
        let hooks = desk.ok("webhook list");
        assert_eq!(hooks["webhooks"][0]["merchant"], **merchant, "{hooks}");
        desk.ok(&format!("webhook remove {merchant}"));
        desk.ok(&format!("webhook retry {merchant}"));
        let open = desk.ok("intent list");
        let listed = open["intents"].as_array().map(Vec::len);
        assert_eq!(listed, Some(0), "no outside rail is configured");
        desk.refused(&format!("intent show {merchant}"), "no rail was asked");
        let dispute = desk.ok(&format!("dispute show {charge}"));
        assert_eq!(dispute["holds"], true, "{dispute}");
        let what = |it: &Value| it["what"].as_str().unwrap().to_owned();
        let moments: Vec<_> = dispute["moments"]
            .as_array()
            .unwrap()
            .iter()
            .map(what)
            .collect();
        for expected in [
            "token spent",
            "approved",
            "paid",
            "receipt signed",
            "refunded",
        ] {
            assert!(
                moments.iter().any(|it| it == expected),
                "{expected}: {moments:?}"
            );
        }
    }

    /// A terminal that nobody has enrolled yet is joined, banned and taken back.
    fn one_more_terminal(&self) {
        let desk = &self.desk;
        desk.ok("merchant list");
        let add = format!("terminal add --merchant {}", self.fleet.second);
        let spare = desk.ok(&add)["terminal"].as_str().unwrap().to_owned();
        let join = format!(
            "terminal join {spare} --join-token-file {}",
            self.fleet.scratch("join-2")
        );
        desk.ok(&join);
        let open = desk.ok(&format!("terminal join list --terminal {spare}"));
        let tokens = open["join_tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), 2, "{open}");
        desk.ok(&format!(
            "terminal join revoke {}",
            tokens[0]["id"].as_str().unwrap()
        ));
        desk.ok(&format!("terminal ban {spare} --reason drill"));
        desk.agreed("bob", &format!("terminal unban {spare} --reason found"));
        let limit = format!(
            "merchant limit --merchant {} --day-minor 100000000",
            self.fleet.second
        );
        desk.agreed("bob", &limit);
        let shown = desk.ok(&format!("terminal show {spare}"));
        assert_eq!(shown["seed_version"], 2, "{shown}");
        assert!(shown.get("banned_at").is_none(), "{shown}");
        desk.ok(&format!("terminal ban {spare} --reason over"));
        assert_eq!(
            desk.ok("terminal list")["terminals"]
                .as_array()
                .unwrap()
                .len(),
            TERMINALS + 1
        );
    }

    /// The number of the active issuing CA's revocation list.
    async fn list_number(&self) -> u64 {
        let said = self.list("-crlnumber").await;
        let hex = said.trim().rsplit_once("0x").unwrap().1;
        u64::from_str_radix(hex, 16).unwrap()
    }

    async fn list(&self, what: &str) -> String {
        let certificate = self.fleet.scratch("issuing-2.pem");
        let file = self.fleet.list_of(&certificate).await.unwrap();
        tools::run(
            "openssl",
            &["crl", "-inform", "DER", "-in", &file, "-noout", what],
        )
        .unwrap()
    }

    // ── what is only done on a bad day ────────────────────────────────────────────────────────

    async fn bad_days(&self) {
        let desk = &self.desk;
        let before = self.shown();
        desk.dry_then_ok("key taint schedule");
        self.retired("schedule", |line| desk.say(line).code == 0)
            .await;
        for purpose in ["sealing", "binding"] {
            desk.ok(&format!("key taint {purpose} --dry-run"));
            desk.agreed("bob", &format!("key taint {purpose}"));
            self.retired(purpose, |line| {
                desk.say(&format!("{line} --dry-run")).code == 0
            })
            .await;
            desk.agreed("bob", &format!("key retire {purpose}"));
        }
        let one = format!(
            "seed rotate --terminal {} --compromised --reason drill",
            self.fleet.id(1)
        );
        desk.dry_then_ok(&one);
        self.fleet.all_moved_on(&self.watch, &before).await.unwrap();
    }

    /// As soon as nobody depends on the key any more.
    async fn retired(&self, purpose: &str, can: impl Fn(&str) -> bool) {
        let line = format!("key retire {purpose}");
        let look = async || can(&line).then_some(());
        wait::until("a key that nobody needs", look).await.unwrap();
    }

    fn shown(&self) -> Vec<Seen> {
        (0..TERMINALS).map(|n| self.watch.now(n)).collect()
    }

    // ── the end ───────────────────────────────────────────────────────────────────────────────

    async fn everybody_pays(&mut self) {
        for n in self.next..TERMINALS {
            let shown = self.watch.now(n).code.unwrap();
            self.receipts
                .push(self.fleet.pays(n, &shown.text).await.unwrap());
        }
    }

    async fn evidence(&self) {
        let (desk, fleet) = (&self.desk, self.fleet);
        for n in 0..TERMINALS {
            let lost = fleet
                .metric(n, "m2key_agent_push_lost_total")
                .await
                .unwrap();
            assert_eq!(lost, 0.0, "terminal {n} lost its stream");
        }
        let jwks = fleet.jwks_file("at-the-end.json").await.unwrap();
        for (n, receipt) in self.receipts.iter().enumerate() {
            let file = fleet.scratch(&format!("receipt-{n}.jws"));
            std::fs::write(&file, receipt).unwrap();
            desk.ok(&format!("receipt verify {file} --jwks {jwks}"));
            if n == 0 {
                let compared = desk.ok(&format!("fence compare {file}"));
                assert_eq!(compared["receipts"][0]["lost"], false, "{compared}");
            }
        }
        let pem = fleet.world.authority.root().display().to_string();
        desk.pki(&format!("inspect {pem}"));
        desk.pki(&format!("fingerprint {pem}"));
        let signer = fleet.world.authority.signer_config();
        desk.pki(&format!("signer check --config {}", signer.display()));
        assert_eq!(desk.ok("account check")["balanced"], true);
        assert_eq!(desk.ok("audit verify")["holds"], true);
    }
}

//! What if too few operators are left: who takes their place, and who does not?

use authority::services::consent::OFFLINE_OPERATOR;
use authority::services::operators::{OperatorAdd, carry_out};
use authority::store::Consents;
use pki::consent::{Unsigned, Vouch};
use pki::root::RootSigner;
use pki::{Certificate, OperatorKey, RootKey, SoftwareKey, csr};
use protocol::problem::ProblemType::{AlreadyExists, ConsentRefused};
use sha2::{Digest, Sha256};

use crate::house::{House, text};
use crate::room::{Room, adding, refused};
use crate::two_people::{as_bob, bob, request_in};

type Bend = fn(&mut Vouch);

/// Where the key and the certificate of somebody called `name` lie.
struct Newcomer<'a> {
    house: &'a House,
    name: &'a str,
}

impl Newcomer<'_> {
    fn at(&self, end: &str) -> String {
        let path = self.house.scratch(&format!("{}.{end}", self.name));
        text(&path).to_owned()
    }

    fn add(&self, more: &[&str]) -> crate::house::Said {
        let (request, certificate) = (self.at("csr"), self.at("pem"));
        let add = ["operator", "add", self.name, "--request", &request];
        let to = ["--certificate", &certificate];
        self.house.verb(&[&add[..], &to, more].concat())
    }
}

#[test]
fn the_root_replaces_an_operator_whose_key_is_lost_when_two_are_needed_and_two_there_are() {
    let house = House::new();
    let daemon = house.serve();
    bob(&house, &[]);
    let set = house.verb(&["policy", "set", "--required", "1"]);
    assert_eq!(set.code, 0, "{set:?}");
    std::fs::remove_file(house.scratch("bob.key")).unwrap();
    let dora = Newcomer {
        house: &house,
        name: "dora",
    };
    let dir = house.scratch("");
    let request = ["operator", "request", "dora", "--dir", text(&dir)];
    assert_eq!(house.verb(&request).code, 0);
    let alone = dora.add(&[]);
    alone.refused(4, "0 of 1 consents", "consent sign");
    let (csr, vouch) = (dora.at("csr"), dora.at("vouch"));
    let domain = pki::TrustDomain::default().to_string();
    let who = ["--operator", "dora", "--domain", &domain];
    let root = [&["vouch", &csr], &who[..], &["--out", &vouch, "--yes"]].concat();
    let said = house.root(&root);
    assert!(said.code == 0 && said.out.contains("dora of"), "{said:?}");
    assert_eq!(daemon.stop(), 0);
    let added = dora.add(&["--offline", "--vouch", &vouch]);
    assert_eq!(added.code, 0, "{added:?}");

    let _daemon = house.serve();
    let listed = house.verb(&["operator", "list"]);
    assert!(listed.out.contains("added by --root"), "{listed:?}");
    let revoke = ["operator", "revoke", "bob", "--reason", "unspecified"];
    let waits = house.verb(&revoke);
    let sign = ["consent", "sign", &request_in(&waits), "--yes"];
    let signed = as_bob(&house, &dora.at("toml"), &sign);
    assert_eq!(signed.code, 0, "{signed:?}");
    assert_eq!(house.verb(&revoke).code, 0);
}

async fn vouch_of(root: &Certificate, key: &RootSigner, vouch: &Vouch) -> String {
    let unsigned = Unsigned::new(vouch, std::slice::from_ref(root));
    let digest = Sha256::digest(unsigned.message()).into();
    let signature = key.sign_digest(digest).await.unwrap();
    unsigned.with_signature(&signature)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roots_word_counts_for_one_name_and_one_key_for_a_week() {
    let room = Room::new().await;
    let app = &room.stage.app;
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let domain = app.issuer.trust_domain();
    let request = adding(&room, "dora", &key).await.request;
    let checked = csr::check(request.as_bytes()).unwrap();
    let now = authority::clock::unix_seconds(app.clock.now());
    let good = Vouch::new(&"dora".parse().unwrap(), domain, &checked, now);
    let root = app.trust().roots()[0].clone();
    let key = RootSigner::from(room.stage.root_key());
    let ours = async |vouch: &Vouch| vouch_of(&root, &key, vouch).await;
    let add = async |vouch: String| {
        let (name, vouch) = ("dora".into(), Some(vouch));
        let verb = OperatorAdd {
            name,
            request: request.clone(),
            vouch,
        };
        carry_out(app, OFFLINE_OPERATOR, verb).await
    };
    let bent: [(Bend, &str); 6] = [
        (|it| it.operator = "zoe".into(), "another name"),
        (
            |it| it.key_sha256 = "00".into(),
            "another name or another key",
        ),
        (|it| it.domain = "other.example".into(), "another name"),
        (|it| it.exp += 1, "claims are not in order"),
        (
            |it| (it.iat, it.exp) = (it.iat - 700_000, it.exp - 700_000),
            "no longer, good",
        ),
        (
            |it| (it.iat, it.exp) = (it.iat + 3_600, it.exp + 3_600),
            "not, or no longer, good",
        ),
    ];
    for (bend, words) in bent {
        let mut vouch = good.clone();
        bend(&mut vouch);
        refused(add(ours(&vouch).await).await, ConsentRefused, words);
    }
    let foreign = RootKey::generate().unwrap();
    let other_root = foreign.certificate(now).unwrap();
    let of_another = vouch_of(&other_root, &foreign.into(), &good).await;
    refused(add(of_another).await, ConsentRefused, "does not count");
    let thief = RootKey::generate().unwrap().into();
    let forged = vouch_of(&root, &thief, &good).await;
    refused(add(forged).await, ConsentRefused, "signature does not fit");
    refused(add("e30.e30.e30".into()).await, ConsentRefused, "JWS");
    assert!(
        room.stage
            .store
            .operator("dora", app.clock.now())
            .await
            .unwrap()
            .is_none()
    );

    let vouch = ours(&good).await;
    add(vouch.clone()).await.unwrap();
    room.tamper("UPDATE operators SET revoked_by = 'x', revoked_at_ms = 1 WHERE name = 'dora'");
    let replayed = add(vouch).await;
    refused(replayed, AlreadyExists, "names are not given twice");
}

//! What does the whole agent do in a network that does what networks do?
#![allow(clippy::unwrap_used)]
use super::*;
use crate::authority::enrol::{JoinToken, enrol};
use crate::error::Whose;
use crate::testing::authority::Ca;
use crate::testing::front::{Front, Portal, Way};
use pki::SoftwareKey;
use protocol::wire::upkeep::TRUST_PATH;

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

fn report(ready: &str) -> serde_json::Value {
    serde_json::from_str(ready).unwrap()
}

async fn behind(front: &Front) -> Shop {
    let authority = FakeAuthority::start().await;
    let (more, prepare) = (|_: &Path| String::new(), |_: &FakeAuthority| {});
    Shop::behind(
        &front.base,
        authority,
        FRESH,
        more,
        prepare,
        Manager::default(),
    )
    .await
}

#[tokio::test]
async fn a_network_that_asks_to_sign_in_is_told_in_words_gets_nothing_and_is_gone_by_itself() {
    for portal in Portal::ALL {
        let front = Front::open(Way::Portal(portal)).await;
        let shop = behind(&front).await;
        let told = |text: &str| text.contains("asks people to sign in");
        let ready = shop.until("/ready", told).await;
        let found = report(&ready);
        assert_eq!(found["online"], false, "{portal:?}: {ready}");
        assert_ne!(found["shown"], "out-of-service", "{portal:?}: {ready}");
        let mut visits = front.visits();
        let seen = *visits.borrow();
        // It goes on trying, and goes on saying nothing.
        let again = visits.wait_for(|visits| *visits >= seen + 2);
        let again = tokio::time::timeout(PATIENCE, again).await;
        again.expect("it goes on trying").unwrap();
        let heard = front.overheard();
        let identity = IdentityFiles::in_dir(shop.dir.path()).load().unwrap();
        for (what, secret) in [
            ("terminal", terminal(1).to_string().as_bytes()),
            ("trust domain", b"spiffe"),
            ("certificate", &identity.current.leaf().der()[..64]),
            ("credentials", b"uthorization"),
            ("checkpoint", b"m2key"),
        ] {
            assert!(!contains(&heard, secret), "{portal:?} was told the {what}");
        }
        assert_eq!(front.client_certificates(), 0, "{portal:?}");
        // What proves itself may be asked of anybody, by nobody in particular.
        let asked = String::from_utf8_lossy(&heard).into_owned();
        let asked = asked.lines().filter(|line| line.contains("HTTP/1.1"));
        let bundle = format!("GET {TRUST_PATH} HTTP/1.1");
        assert!(asked.into_iter().all(|line| line == bundle), "{portal:?}");

        front.leads_to(&shop.authority);
        // Whoever met the portal says so until it has asked again.
        let back = |text: &str| text.contains("\"online\":true") && !text.contains("sign in");
        shop.until("/ready", back).await;
        shop.running.stop().await;
    }
}

#[tokio::test]
async fn a_network_that_asks_to_sign_in_gets_no_join_token() {
    for portal in Portal::ALL {
        let front = Front::open(Way::Portal(portal)).await;
        let join = JoinToken::parse(&format!("m2j-{}-SECRET", terminal(1))).unwrap();
        let key = SoftwareKey::generate().unwrap();
        let root = Ca::new("A").root.certificate.fingerprint();
        let refused = enrol(&front.base, root, &join, &key, crate::clock::wall()).await;
        let error = refused.err().unwrap();
        assert!(
            error.hint().contains("sign in"),
            "{portal:?}: {}",
            error.hint()
        );
        assert_ne!(error.whose(), Whose::Ours);
        let heard = front.overheard();
        for secret in [&b"SECRET"[..], b"U0VDUkVU", b"uthorization"] {
            assert!(!contains(&heard, secret), "{portal:?}");
        }
    }
}

#[tokio::test]
async fn a_network_that_comes_and_goes_is_followed_without_hands() {
    let front = Front::open(Way::Nowhere).await;
    let shop = behind(&front).await;
    for _ in 0..3 {
        shop.until("/ready", |text| text.contains("\"online\":false"))
            .await;
        front.leads_to(&shop.authority);
        shop.until("/ready", |text| text.contains("\"online\":true"))
            .await;
        front.leads(Way::Nowhere);
    }
    let ready = shop
        .until("/ready", |text| text.contains("Network: "))
        .await;
    assert!(ready.contains("check the network"), "{ready}");
}

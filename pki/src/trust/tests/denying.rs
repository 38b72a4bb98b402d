//! Which keys does a list of roots deny, and can anybody take that back?

use std::sync::Arc;

use hsm::{Hsm, KeyKind, KeyLabel, MemoryHsm};

use super::*;
use crate::{
    BadCertificate, Chain, HsmIssuer, IssueRequest, IssueTo, Issuer, SoftwareKey, TrustDomain, csr,
};

/// An issuing key, and its certificates under both roots of a line.
fn issuing(line: &Line) -> [Certificate; 2] {
    let point = Root::new().certificate.public_point();
    [0, 1].map(|index| {
        let root = &line.roots[index];
        let signed = root.key.sign_issuing(&root.certificate, &point, NOW);
        signed.unwrap()
    })
}

fn refusal(line: &Line, change: &Change) -> BadTrust {
    Draft::after(line.last(), change, NOW).unwrap_err()
}

#[test]
fn a_denied_key_is_believed_under_no_root_from_the_list_on() {
    let mut line = Line::new();
    let [under_old, under_new] = issuing(&line);
    let before = TrustAnchors::of(line.last());
    assert!(before.chain_of(&under_old).is_ok() && before.chain_of(&under_new).is_ok());
    line.change(&Change::Deny(KeyId::of(&under_old)));
    let after = before.accept(line.last()).unwrap();
    assert_eq!(after, TrustAnchors::of(line.last()));
    for denied in [&under_old, &under_new] {
        assert_eq!(after.chain_of(denied), Err(BadCertificate::Denied));
    }
    assert!(after.chain_of(&issuing(&line)[0]).is_ok());
    // Whatever comes after it, a party that was away for all of it hears of it.
    let (old, new) = (line.roots[0].print(), line.roots[1].print());
    line.change(&Change::Activate(new));
    line.change(&Change::Taint(old));
    let late = line.pinned(0).accept(line.last()).unwrap();
    assert_eq!(late.denied().keys(), [KeyId::of(&under_old)]);
    assert_eq!(late.chain_of(&under_new), Err(BadCertificate::Denied));
}

#[test]
fn a_party_takes_no_list_that_forgets_a_key_it_denies_however_it_is_signed() {
    let mut line = Line::new();
    let [stolen, _] = issuing(&line);
    line.change(&Change::Deny(KeyId::of(&stolen)));
    let party = TrustAnchors::of(line.last());
    // By mistake, the next ones are drafted from the list before it.
    line.bundles.pop();
    let (old, new) = (line.roots[0].print(), line.roots[1].print());
    line.change(&Change::Activate(new));
    line.change(&Change::Taint(old));
    assert_eq!(party.accept(line.last()), Err(BadTrust::NotProven));
}

/// A terminal's certificate, and the issuing one above it that hangs on the first root.
async fn terminal(line: &Line) -> (Certificate, Certificate) {
    let (hsm, label) = (Arc::new(MemoryHsm::new()), KeyLabel("issuing".into()));
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let (root, point) = (&line.roots[0], hsm.public_key(&label).await.unwrap());
    let signed = root.key.sign_issuing(&root.certificate, &point, NOW);
    let chain = Chain::new(signed.unwrap(), root.certificate.clone()).unwrap();
    let (domain, issuing) = (TrustDomain::default(), chain.issuing().clone());
    let issuer = HsmIssuer::open(hsm, label, chain, domain.clone());
    let to = IssueTo::Terminal(protocol::ids::TerminalId::from_number(1_234_567).unwrap());
    let request = csr::new(&SoftwareKey::generate().unwrap(), &to.spiffe_id(), &domain);
    let request = IssueRequest {
        csr: csr::check(&request.unwrap()).unwrap(),
        to,
        now: NOW,
    };
    let issued = issuer.await.unwrap().issue(request).await.unwrap();
    (Certificate::from_der(&issued.der).unwrap(), issuing)
}

#[tokio::test]
async fn what_hangs_on_a_denied_key_is_refused_by_that_name() {
    let mut line = Line::new();
    let (leaf, stolen) = terminal(&line).await;
    let (other, good) = terminal(&line).await;
    let shown = [good.clone(), stolen.clone()];
    let verified = |line: &Line, leaf: &Certificate| {
        let anchors = TrustAnchors::of(line.last());
        anchors.verify(leaf, &shown, NOW).map(drop)
    };
    assert_eq!(verified(&line, &leaf), Ok(()));
    line.change(&Change::Deny(KeyId::of(&stolen)));
    assert_eq!(verified(&line, &leaf), Err(BadCertificate::Denied));
    assert_eq!(verified(&line, &other), Ok(()));
    // A single machine's key, too.
    line.change(&Change::Deny(KeyId::of(&other)));
    assert_eq!(verified(&line, &other), Err(BadCertificate::Denied));
    let denied = line.last().denied();
    assert!(denied.denies_der(stolen.der()) && !denied.denies_der(good.der()));
    assert!(denied.denies_der(b"not a certificate"));
    assert!(!Denied::default().denies_der(b"not a certificate"));
}

#[test]
fn a_list_from_before_keys_were_denied_reads_and_is_written_as_ever() {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let mut line = Line::rotated();
    let payloads = |bundle: &TrustBundle| -> Vec<String> {
        let document: serde_json::Value = serde_json::from_str(&bundle.to_json()).unwrap();
        let lists = document["lists"].as_array().unwrap().iter();
        let payload = |list: &serde_json::Value| {
            let bytes = Base64UrlUnpadded::decode_vec(list["payload"].as_str().unwrap());
            String::from_utf8(bytes.unwrap()).unwrap()
        };
        lists.map(payload).collect()
    };
    let old = payloads(line.last());
    assert!(old.iter().all(|payload| !payload.contains("denied")));
    line.change(&Change::Deny(KeyId::of(&issuing(&line)[0])));
    let read = TrustBundle::parse(&line.last().to_json()).unwrap();
    assert_eq!(&read, line.last());
    let new = payloads(&read);
    assert_eq!(new[..old.len()], old[..]);
    assert!(new.last().unwrap().contains("denied"));
}

#[test]
fn one_root_alone_can_deny_and_no_list_takes_it_back() {
    let mut line = Line::new();
    let key = KeyId::of(&issuing(&line)[0]);
    let first = Draft::first(line.roots[0].certificate.clone(), &Change::Deny(key), NOW);
    let first = sign_with(first.unwrap(), &[&line.roots[0].key]).unwrap();
    let party = line.pinned(0).accept(&first).unwrap();
    assert_eq!((party.denied().keys(), party.sequence()), (&[key][..], 1));
    assert_eq!(party.roots(), [line.roots[0].certificate.clone()]);

    line.change(&Change::Deny(key));
    let mut forgetting = line.last().last().clone();
    (forgetting.sequence, forgetting.denied) = (3, Denied::default());
    forgetting.signed = document::Signed::unsigned(3, NOW, &forgetting.roots, &Denied::default());
    let forgetting = signed_again(&line, &forgetting);
    let lists = [&line.last().lists[..], &[forgetting]].concat();
    assert_eq!(TrustBundle::checked(lists.clone()), Err(BadTrust::Forgets));
    let draft = Draft::parse(&document::write(&lists));
    assert_eq!(draft.unwrap_err(), BadTrust::Forgets);
}

#[test]
fn roots_known_keys_and_too_many_are_not_denied() {
    let mut line = Line::new();
    let root = KeyId::of(&line.roots[1].certificate);
    assert_eq!(
        refusal(&line, &Change::Deny(root)),
        BadTrust::DeniesRoot(root)
    );
    let ids = (0..=DENIED_MAX).map(|index| format!("{index:064x}").parse::<KeyId>().unwrap());
    let ids: Vec<_> = ids.collect();
    for id in &ids[..DENIED_MAX] {
        line.change(&Change::Deny(*id));
    }
    let again = refusal(&line, &Change::Deny(ids[3]));
    // There is no room for it either, and that is said first.
    assert_eq!(again, BadTrust::TooManyDenied);
    assert_eq!(
        refusal(&line, &Change::Deny(ids[DENIED_MAX])),
        BadTrust::TooManyDenied
    );
    assert!(line.last().to_json().len() < TRUST_MAX_BYTES);
    let mut line = Line::new();
    line.change(&Change::Deny(ids[0]));
    assert_eq!(
        refusal(&line, &Change::Deny(ids[0])),
        BadTrust::DeniedBefore(ids[0])
    );
    for wrong in ["", "00", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
        assert_eq!(wrong.parse::<KeyId>(), Err(BadTrust::KeyId), "{wrong}");
    }
}

#[test]
fn a_file_of_anchors_with_a_damaged_line_forgets_no_denied_key_but_is_refused() {
    let mut line = Line::new();
    for _ in 0..2 {
        let key = KeyId::of(&issuing(&line)[0]);
        line.change(&Change::Deny(key));
    }
    let anchors = TrustAnchors::of(line.last());
    let text = anchors.to_text();
    assert_eq!(TrustAnchors::parse(&text), Ok(anchors));
    for (from, to) in [
        ("m2key denied key ", "m2key denied kex "),
        ("m2key denied key ", "m2key denied key 0"),
        ("m2key denied key ", "\nm2key denied key "),
    ] {
        let damaged = text.replacen(from, to, 1);
        assert_eq!(
            TrustAnchors::parse(&damaged),
            Err(BadTrust::Anchors),
            "{to}"
        );
    }
}

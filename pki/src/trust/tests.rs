#![allow(clippy::unwrap_used)]
mod denying;
mod same;

use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_795_435_200;

/// Every one would do, and takes its time; a prime meets every kind of place.
const CHANGES_APART: usize = 7;

struct Root {
    key: crate::RootKey,
    certificate: Certificate,
}

impl Root {
    fn new() -> Self {
        let key = crate::RootKey::generate().unwrap();
        let certificate = key.certificate(NOW).unwrap();
        Self { key, certificate }
    }

    fn print(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }
}

/// As [`sign_bundle`] does it with keys that nobody waits for.
fn sign_with(mut draft: Draft, keys: &[&crate::RootKey]) -> Result<TrustBundle, crate::PkiError> {
    for root in draft.signers().into_iter().cloned().collect::<Vec<_>>() {
        let signed = keys.iter().find_map(|key| {
            let signature = key.sign_digest(draft.digest(&root)).ok()?;
            draft.clone().add(&root, &signature).ok()?;
            Some(signature)
        });
        if let Some(signature) = signed {
            draft.add(&root, &signature)?;
        }
    }
    Ok(draft.finish()?)
}

/// A bundle that grows, all keys at hand.
struct Line {
    roots: Vec<Root>,
    bundles: Vec<TrustBundle>,
}

impl Line {
    /// Sequence 1: the first root active, the second one prepared.
    fn new() -> Self {
        let roots = vec![Root::new(), Root::new()];
        let prepare = Change::Prepare(Box::new(roots[1].certificate.clone()));
        let draft = Draft::first(roots[0].certificate.clone(), &prepare, NOW).unwrap();
        let first = sign_with(draft, &[&roots[0].key, &roots[1].key]).unwrap();
        let bundles = vec![first];
        Self { roots, bundles }
    }

    fn last(&self) -> &TrustBundle {
        self.bundles.last().unwrap()
    }

    fn change(&mut self, change: &Change) {
        let draft = Draft::after(self.last(), change, NOW).unwrap();
        let keys: Vec<_> = self.roots.iter().map(|root| &root.key).collect();
        self.bundles.push(sign_with(draft, &keys).unwrap());
    }

    /// The second root takes over from the first, which is retired.
    fn rotated() -> Self {
        let mut line = Self::new();
        let (old, new) = (line.roots[0].print(), line.roots[1].print());
        line.change(&Change::Activate(new));
        line.change(&Change::Taint(old));
        line.change(&Change::Retire(old));
        line
    }

    fn pinned(&self, index: usize) -> TrustAnchors {
        TrustAnchors::pinned(self.roots[index].certificate.clone())
    }
}

/// The same list again, each root's signature made anew.
fn signed_again(line: &Line, list: &RootList) -> RootList {
    let mut again = list.clone();
    for root in &line.roots {
        let digest = again.signed.digest(&root.certificate);
        let signature = root.key.sign_digest(digest).unwrap();
        again.signed.add(&root.certificate, &signature);
    }
    again
}

#[test]
fn a_party_follows_from_its_pinned_root_to_a_new_one_step_by_step() {
    let line = Line::rotated();
    let mut party = line.pinned(0);
    let mut trusted = Vec::new();
    for bundle in &line.bundles {
        party = party.accept(bundle).unwrap();
        trusted.push(party.roots().to_vec());
    }
    let (old, new) = (&line.roots[0].certificate, &line.roots[1].certificate);
    let both = vec![old.clone(), new.clone()];
    let only = vec![new.clone()];
    assert_eq!(trusted, [both.clone(), both, only.clone(), only]);
    assert_eq!(party.sequence(), 4);
}

#[test]
fn a_party_that_was_away_for_two_rotations_follows_from_what_it_pinned() {
    let mut line = Line::rotated();
    line.roots.push(Root::new());
    let (second, third) = (line.roots[1].print(), line.roots[2].print());
    line.change(&Change::Prepare(Box::new(
        line.roots[2].certificate.clone(),
    )));
    line.change(&Change::Activate(third));
    line.change(&Change::Taint(second));
    for index in 0..3 {
        let party = line.pinned(index).accept(line.last()).unwrap();
        assert_eq!(party.roots(), [line.roots[2].certificate.clone()]);
        assert_eq!(party, TrustAnchors::of(line.last()));
    }
}

#[test]
fn a_root_is_known_since_the_list_that_first_named_it() {
    let line = Line::rotated();
    let since = |index: usize| line.last().believed_since(&line.roots[index].certificate);
    assert_eq!((since(0), since(1)), (0, 1));
}

#[test]
fn a_stranger_proves_nothing() {
    let (ours, theirs) = (Line::rotated(), Line::rotated());
    for party in [ours.pinned(0), TrustAnchors::of(&ours.bundles[0])] {
        assert_eq!(party.accept(theirs.last()), Err(BadTrust::NotProven));
    }
}

#[test]
fn one_stolen_root_changes_nothing_for_who_trusts_two() {
    let line = Line::new();
    let (stolen, thief) = (&line.roots[0], Root::new());
    // Whoever holds only the first key starts a line of their own, with a higher sequence.
    let prepare = Change::Prepare(Box::new(thief.certificate.clone()));
    let draft = Draft::first(stolen.certificate.clone(), &prepare, NOW).unwrap();
    let keys = [&stolen.key, &thief.key];
    let forged = sign_with(draft, &keys).unwrap();
    let take_over = Draft::after(&forged, &Change::Activate(thief.print()), NOW).unwrap();
    let forged = sign_with(take_over, &keys).unwrap();
    let party = line.pinned(0).accept(line.last()).unwrap();
    assert!(forged.sequence() > party.sequence());
    assert_eq!(party.accept(&forged), Err(BadTrust::NotProven));
}

#[test]
fn an_older_bundle_or_the_same_again_is_refused() {
    let line = Line::rotated();
    let party = line.pinned(0).accept(line.last()).unwrap();
    for bundle in &line.bundles {
        let (held, offered) = (4, bundle.sequence());
        let refused = party.accept(bundle);
        assert_eq!(refused, Err(BadTrust::NotNewer { held, offered }));
    }
}

#[test]
fn every_believed_root_must_sign_what_comes_next() {
    let line = Line::new();
    let draft = Draft::after(line.last(), &Change::Activate(line.roots[1].print()), NOW).unwrap();
    for (signs, missing) in [(0, 1), (1, 0)] {
        let unsigned = BadTrust::NotSigned(line.roots[missing].print());
        let refused = sign_with(draft.clone(), &[&line.roots[signs].key]);
        assert_eq!(refused, Err(crate::PkiError::Trust(unsigned.clone())));
        let mut half = draft.clone();
        let root = &line.roots[signs];
        let signature = root
            .key
            .sign_digest(half.digest(&root.certificate))
            .unwrap();
        half.add(&root.certificate, &signature).unwrap();
        assert_eq!(half.missing(), [&line.roots[missing].certificate]);
        assert_eq!(TrustBundle::parse(&half.to_json()), Err(unsigned));
        assert!(Draft::parse(&half.to_json()).is_ok());
    }
}

#[test]
fn a_new_root_proves_that_it_has_its_key() {
    let (old, new) = (Root::new(), Root::new());
    let prepare = Change::Prepare(Box::new(new.certificate.clone()));
    let draft = Draft::first(old.certificate.clone(), &prepare, NOW).unwrap();
    let refused = sign_with(draft, &[&old.key]).unwrap_err();
    assert_eq!(refused, BadTrust::NotSigned(new.print()).into());
}

#[test]
fn keys_in_two_places_sign_one_after_the_other() {
    let line = Line::new();
    let change = Change::Activate(line.roots[1].print());
    let mut text = Draft::after(line.last(), &change, NOW).unwrap().to_json();
    for root in &line.roots {
        let mut draft = Draft::parse(&text).unwrap();
        let signature = root
            .key
            .sign_digest(draft.digest(&root.certificate))
            .unwrap();
        draft.add(&root.certificate, &signature).unwrap();
        text = draft.to_json();
    }
    let bundle = TrustBundle::parse(&text).unwrap();
    assert_eq!(bundle.active(), &line.roots[1].certificate);
    assert!(bundle.continues(line.last()) && !line.last().continues(&bundle));
}

#[test]
fn a_signature_over_another_list_or_of_another_key_is_not_taken() {
    let line = Line::new();
    let change = |index: usize| Change::Activate(line.roots[index].print());
    let mut draft = Draft::after(line.last(), &change(1), NOW).unwrap();
    let other = Draft::after(line.last(), &change(0), NOW).unwrap();
    let root = &line.roots[0];
    let over_other = root
        .key
        .sign_digest(other.digest(&root.certificate))
        .unwrap();
    let by_other = line.roots[1]
        .key
        .sign_digest(draft.digest(&root.certificate))
        .unwrap();
    for signature in [over_other, by_other, [0; 64]] {
        let refused = draft.add(&root.certificate, &signature);
        assert_eq!(refused, Err(BadTrust::Signature(root.print())));
    }
    let stranger = Root::new();
    let signature = stranger
        .key
        .sign_digest(draft.digest(&stranger.certificate))
        .unwrap();
    let refused = draft.add(&stranger.certificate, &signature);
    assert_eq!(refused, Err(BadTrust::NoSuchRoot(stranger.print())));
}

#[test]
fn an_active_root_is_not_tainted_and_a_tainted_one_never_comes_back() {
    let mut line = Line::new();
    let (old, new) = (line.roots[0].print(), line.roots[1].print());
    let taint = Draft::after(line.last(), &Change::Taint(old), NOW).unwrap_err();
    assert!(matches!(taint, BadTrust::Step(_)), "{taint}");
    line.change(&Change::Activate(new));
    line.change(&Change::Taint(old));
    let back = Draft::after(line.last(), &Change::Activate(old), NOW).unwrap_err();
    assert!(matches!(back, BadTrust::Step(_)), "{back}");
    let again = Change::Prepare(Box::new(line.roots[0].certificate.clone()));
    for step in [Change::Retire(old), Change::Activate(new)] {
        let refused = Draft::after(line.last(), &again, NOW).unwrap_err();
        assert_eq!(refused, BadTrust::Twice);
        line.change(&step);
    }
    assert_eq!(line.last().roots().len(), 1);
    let refused = Draft::after(line.last(), &again, NOW).unwrap_err();
    assert_eq!(refused, BadTrust::Twice);
}

#[test]
fn only_a_self_signed_ca_becomes_a_root() {
    let line = Line::new();
    let root = &line.roots[0];
    let point = Root::new().certificate.public_point();
    let issuing = root
        .key
        .sign_issuing(&root.certificate, &point, NOW)
        .unwrap();
    let refused = Draft::after(line.last(), &Change::Prepare(Box::new(issuing)), NOW).unwrap_err();
    assert!(matches!(refused, BadTrust::Root(_)), "{refused}");
}

#[test]
fn the_number_of_roots_is_limited() {
    let mut line = Line::new();
    while line.last().roots().len() < ROOTS_MAX {
        let root = Root::new();
        let prepare = Change::Prepare(Box::new(root.certificate.clone()));
        line.roots.push(root);
        line.change(&prepare);
    }
    let ninth = Change::Prepare(Box::new(Root::new().certificate));
    assert_eq!(
        Draft::after(line.last(), &ninth, NOW).unwrap_err(),
        BadTrust::Count
    );
    assert!(line.last().to_json().len() < TRUST_MAX_BYTES);
}

#[test]
fn a_bundle_and_what_a_party_trusts_read_back_as_they_were() {
    let line = Line::rotated();
    for bundle in &line.bundles {
        assert_eq!(TrustBundle::parse(&bundle.to_json()).as_ref(), Ok(bundle));
        let anchors = TrustAnchors::of(bundle);
        assert_eq!(TrustAnchors::parse(&anchors.to_text()), Ok(anchors));
    }
    let pinned = line.pinned(0);
    assert_eq!(TrustAnchors::parse(&pinned.to_text()), Ok(pinned.clone()));
    let bare = TrustAnchors::parse(&line.roots[0].certificate.pem());
    assert_eq!(bare, Ok(pinned));
}

#[test]
fn two_roots_are_not_pinned_by_a_file_without_a_sequence() {
    let line = Line::new();
    let both = TrustAnchors::of(line.last());
    let bare: String = both.roots().iter().map(Certificate::pem).collect();
    assert_eq!(TrustAnchors::parse(&bare), Err(BadTrust::Anchors));
    let unnumbered = both.to_text().replace("sequence 1", "sequence one");
    assert_eq!(TrustAnchors::parse(&unnumbered), Err(BadTrust::Anchors));
}

#[test]
fn a_bundle_whose_last_list_was_changed_anywhere_is_refused_or_says_the_same() {
    let line = Line::rotated();
    let text = line.last().to_json();
    let from = text.rfind("\"payload\"").unwrap();
    for at in (from..text.len()).step_by(CHANGES_APART) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        // White space, and signatures of roots that need not sign, say nothing.
        if let Ok(read) = TrustBundle::parse(&changed) {
            assert_eq!(read.roots(), line.last().roots(), "{at}");
            assert_eq!(read.sequence(), line.last().sequence(), "{at}");
        }
    }
}

#[test]
fn a_line_whose_history_was_cut_out_or_turned_round_is_refused() {
    let line = Line::rotated();
    let mut lists = line.last().lists.clone();
    lists.reverse();
    assert!(TrustBundle::checked(lists).is_err());
    assert_eq!(TrustBundle::checked(Vec::new()), Err(BadTrust::Count));
    let first_alone = TrustBundle::checked(line.last().lists[..1].to_vec()).unwrap();
    assert!(line.last().continues(&first_alone));
}

#[test]
fn a_leaf_is_believed_under_every_trusted_root_and_under_no_tainted_one() {
    let line = Line::rotated();
    let issuing_key = Root::new();
    let under = |root: &Root| {
        let point = issuing_key.certificate.public_point();
        root.key
            .sign_issuing(&root.certificate, &point, NOW)
            .unwrap()
    };
    let (old, new) = (under(&line.roots[0]), under(&line.roots[1]));
    let both = TrustAnchors::of(&line.bundles[1]);
    let only = TrustAnchors::of(&line.bundles[2]);
    assert!(both.chain_of(&old).is_ok() && both.chain_of(&new).is_ok());
    assert!(only.chain_of(&new).is_ok());
    assert_eq!(
        only.chain_of(&old).unwrap_err(),
        crate::BadCertificate::ForeignRoot
    );
}

#[test]
fn other_types_algorithms_and_critical_headers_are_refused() {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let line = Line::new();
    let text = line.last().to_json();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let protected = document["lists"][0]["signatures"][0]["protected"]
        .as_str()
        .unwrap();
    let header = String::from_utf8(Base64UrlUnpadded::decode_vec(protected).unwrap()).unwrap();
    for (from, to) in [
        ("ES256", "none"),
        ("m2key-trust+jwt", "m2key-receipt+jwt"),
        ("\"alg\"", "\"crit\":[\"x\"],\"alg\""),
    ] {
        let changed = Base64UrlUnpadded::encode_string(header.replace(from, to).as_bytes());
        let refused = TrustBundle::parse(&text.replace(protected, &changed));
        assert_eq!(refused, Err(BadTrust::Header), "{to}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC{0,200}") {
        let _ = (TrustBundle::parse(&text), TrustAnchors::parse(&text), Draft::parse(&text));
    }

    #[test]
    fn no_payload_makes_the_parser_panic(payload in "[A-Za-z0-9_-]{0,60}", sequence in any::<u64>()) {
        let text = format!(r#"{{"lists":[{{"payload":"{payload}","signatures":[]}}]}}"#);
        let _ = TrustBundle::parse(&text);
        let _ = TrustAnchors::parse(&format!("m2key trust sequence {sequence}\n{payload}"));
    }
}

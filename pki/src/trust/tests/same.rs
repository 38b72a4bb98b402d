//! When do two bundles say the same?

use super::*;

#[test]
fn a_list_that_was_signed_again_is_the_same_list() {
    let line = Line::rotated();
    let (first, whole) = (&line.bundles[0], line.last());
    let again = TrustBundle::checked(vec![signed_again(&line, &first.lists[0])]).unwrap();
    let turned = TrustBundle::checked(vec![turned_over(&line, &first.lists[0])]).unwrap();
    assert_ne!(&turned, first);
    for same in [&again, &turned] {
        assert!(whole.continues(same) && same.says_the_same(first));
    }
    let other = Line::new();
    assert!(!whole.continues(&other.bundles[0]));
    assert!(!first.continues(whole));
}

/// (r, s) and (r, −s) are both signatures of an ECDSA key: anybody makes one from the other.
fn turned_over(line: &Line, list: &RootList) -> RootList {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let text = document::write(std::slice::from_ref(list));
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    for one in document["lists"][0]["signatures"].as_array_mut().unwrap() {
        let raw = Base64UrlUnpadded::decode_vec(one["signature"].as_str().unwrap()).unwrap();
        let signature = p256::ecdsa::Signature::from_slice(&raw).unwrap();
        let (r, s) = signature.split_scalars();
        let turned = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes());
        one["signature"] = Base64UrlUnpadded::encode_string(&turned.unwrap().to_bytes()).into();
    }
    let lists = document::read(&document.to_string()).unwrap();
    assert_eq!(lists[0].roots.len(), line.roots.len());
    lists[0].clone()
}

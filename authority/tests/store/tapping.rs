//! What does a tag that signs make of a link?
#![allow(dead_code)]

use protocol::aes_key::AesKey;
use protocol::sun::{SunKeys, SunLink, TagUid, Tap};

/// What goes before UID and counter: both are there, the UID has seven bytes.
const BOTH: u8 = 0xC7;
const SESSION_MAC: [u8; 6] = [0x3C, 0xC3, 0x00, 0x01, 0x00, 0x80];

/// `<terminal>.<token>` as the tag with this UID and these keys signs it when it was read so often.
pub(crate) fn signed(keys: &SunKeys, uid: TagUid, counter: u32, plain: &str) -> String {
    let counter = &counter.to_le_bytes()[..3];
    let mut picc = [0x5A; 16];
    picc[0] = BOTH;
    picc[1..8].copy_from_slice(uid.as_bytes());
    picc[8..11].copy_from_slice(counter);
    assert!(keys.meta.encrypt([0; 16], &mut picc));
    let covered = format!("{plain}.{}.", hex(&picc));
    let session = keys.mac.cmac(&[&SESSION_MAC, uid.as_bytes(), counter]);
    let mac = AesKey::from_bytes(session).short_mac(&[covered.as_bytes()]);
    format!("{covered}{}", hex(&mac))
}

/// A tap that was proved, of whichever link.
pub(crate) fn tapped(uid: TagUid, counter: u32) -> Tap {
    let keys = SunKeys {
        meta: AesKey::from_bytes([1; 16]),
        mac: AesKey::from_bytes([2; 16]),
    };
    let link = signed(&keys, uid, counter, "47110422.448FT7303N447EFB8H2JK8WRP4");
    SunLink::parse(&link).unwrap().verify(&keys).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

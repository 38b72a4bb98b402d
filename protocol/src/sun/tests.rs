//! The values are of NXP's AN12196 (rev. 1.8), of sdm-backend's and of boltcard's tests.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::link::LinkHost;

const ZERO: &str = "00000000000000000000000000000000";

fn key(hex: &str) -> AesKey {
    AesKey::from_bytes(hex_bytes(&hex.to_ascii_uppercase()).unwrap())
}

fn keys(meta: &str, mac: &str) -> SunKeys {
    SunKeys {
        meta: key(meta),
        mac: key(mac),
    }
}

struct Vector {
    keys: SunKeys,
    picc: &'static str,
    covered: &'static str,
    mac: &'static str,
    uid: &'static str,
    counter: u32,
}

fn published() -> Vec<Vector> {
    let zero = || keys(ZERO, ZERO);
    let bolt = || {
        keys(
            "0c3b25d92b38ae443229dd59ad34b85d",
            "b45775776cb224c75bcde7ca3704e933",
        )
    };
    let bolt_tap = |picc, mac, counter| Vector {
        keys: bolt(),
        picc,
        covered: "",
        mac,
        uid: "04996C6A926980",
        counter,
    };
    vec![
        Vector {
            keys: zero(),
            picc: "EF963FF7828658A599F3041510671E88",
            covered: "",
            mac: "94EED9EE65337086",
            uid: "04DE5F1EACC040",
            counter: 61,
        },
        Vector {
            keys: zero(),
            picc: "FDE4AFA99B5C820A2C1BB0F1C792D0EB",
            covered: "94592FDE69FA06E8E3B6CA686A22842B&cmac=",
            mac: "C48B89C17A233B2C",
            uid: "04958CAA5C5E80",
            counter: 1,
        },
        Vector {
            keys: zero(),
            picc: "FD91EC264309878BE6345CBE53BADF40",
            covered: "CEE9A53E3E463EF1F459635736738962&cmac=",
            mac: "ECC1E7F6C6C73BF6",
            uid: "04958CAA5C5E80",
            counter: 8,
        },
        Vector {
            keys: keys(
                "42aff114f2cb3b6141be6dc95dfc5416",
                "b62a9baf092439bd43c62aee96b970c5",
            ),
            picc: "8ACADDEF0A9B62CDAE39A16B83FC14DE",
            covered: "B8436E11F627BB7F543FCC0C1E0D1A89",
            mac: "238B2543A8DEBAD8",
            uid: "041D3C8A2D6B80",
            counter: 291,
        },
        bolt_tap("4E2E289D945A66BB13377A728884E867", "E19CCB1FED8892CE", 3),
        bolt_tap("00F48C4F8E386DED06BCDC78FA92E2FE", "66B4826EA4C155B4", 5),
        bolt_tap("0DBF3C59B59B0638D60B5842A997D4D1", "CC61660C020B4D96", 7),
    ]
}

impl Vector {
    fn open(&self, covered: &[u8], mac: &[u8; MAC_BYTES]) -> Result<Tap, BadSun> {
        opened(&self.keys, hex_bytes(self.picc).unwrap(), covered, mac)
    }
}

#[test]
fn published_links_are_read_as_published() {
    for vector in published() {
        let mac = hex_bytes(vector.mac).unwrap();
        let tap = vector.open(vector.covered.as_bytes(), &mac).unwrap();
        assert_eq!(tap.uid(), TagUid::parse(vector.uid).unwrap());
        assert_eq!(tap.counter(), vector.counter);
    }
}

#[test]
fn no_bit_of_a_published_mac_may_differ_and_nothing_covered_may() {
    for vector in published() {
        let mac: [u8; MAC_BYTES] = hex_bytes(vector.mac).unwrap();
        for bit in 0..64 {
            let mut wrong = mac;
            wrong[bit / 8] ^= 1 << (bit % 8);
            let refused = vector.open(vector.covered.as_bytes(), &wrong);
            assert_eq!(refused, Err(BadSun::Mac));
        }
        let longer = format!("{}0", vector.covered);
        assert_eq!(vector.open(longer.as_bytes(), &mac), Err(BadSun::Mac));
    }
}

/// What a tag with these keys answers a phone, made the way round.
fn tapped(keys: &SunKeys, link: &str, uid: TagUid, counter: u32) -> String {
    let mut picc = [0x5A; AES_BYTES];
    picc[0] = PICC_TAG;
    picc[1..8].copy_from_slice(uid.as_bytes());
    picc[8..11].copy_from_slice(&counter.to_le_bytes()[..3]);
    let session = keys.mac.cmac(&[&SESSION_MAC, uid.as_bytes(), &picc[8..11]]);
    assert!(keys.meta.encrypt([0; AES_BYTES], &mut picc));
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02X}")).collect() };
    let covered = format!("{link}.{}.", hex(&picc));
    let tail = link::tail(&covered).unwrap();
    let mac = AesKey::from_bytes(session).short_mac(&[tail.as_bytes()]);
    format!("{covered}{}", hex(&mac))
}

fn link() -> String {
    let terminal = TerminalId::from_number(4_711_042).unwrap();
    let host = LinkHost::parse("pay.example:8443").unwrap();
    host.link(terminal, &MachineToken::from_bytes([0xA5; 16]))
}

fn own_keys() -> SunKeys {
    keys(
        "42aff114f2cb3b6141be6dc95dfc5416",
        "b62a9baf092439bd43c62aee96b970c5",
    )
}

const UID: TagUid = TagUid([4, 1, 2, 3, 4, 5, 6]);

#[test]
fn a_link_of_ours_proves_its_tap_with_or_without_its_host() {
    let text = tapped(&own_keys(), &link(), UID, 291);
    let (_, tail) = text.split_once("/t/").unwrap();
    for text in [text.as_str(), tail] {
        let parsed = SunLink::parse(text).unwrap();
        assert!(
            parsed
                .token()
                .matches(&MachineToken::from_bytes([0xA5; 16]))
        );
        assert_eq!(parsed.terminal().number(), 4_711_042);
        let tap = parsed.verify(&own_keys()).unwrap();
        assert_eq!((tap.uid(), tap.counter()), (UID, 291));
    }
}

#[test]
fn no_character_behind_the_host_may_differ() {
    let text = tapped(&own_keys(), &link(), UID, 291);
    let from = text.find("/t/").unwrap() + 3;
    for at in from..text.len() {
        for other in ["0", "1", "7", "B"] {
            if text[at..].starts_with(other) {
                continue;
            }
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, other);
            let verified = SunLink::parse(&wrong).and_then(|link| link.verify(&own_keys()));
            assert!(verified.is_err(), "{wrong}");
        }
    }
}

#[test]
fn the_keys_of_another_tag_open_nothing() {
    let text = tapped(&own_keys(), &link(), UID, 1);
    let parsed = SunLink::parse(&text).unwrap();
    let (own, zero) = (own_keys(), keys(ZERO, ZERO));
    for (meta, mac) in [(&zero, &own), (&own, &zero), (&zero, &zero)] {
        let mixed = SunKeys {
            meta: meta.meta.clone(),
            mac: mac.mac.clone(),
        };
        assert_eq!(parsed.verify(&mixed), Err(BadSun::Mac));
    }
}

#[test]
fn what_no_tag_wrote_is_refused_by_its_shape() {
    let whole = tapped(&own_keys(), &link(), UID, 1);
    let lower = whole.replace(".example", ".EXAMPLE").to_ascii_lowercase();
    for text in [
        "",
        "47110422",
        &link(),
        &whole[..whole.len() - 1],
        &lower,
        &format!("{whole}0"),
        &whole.replace("https", "http"),
    ] {
        assert!(SunLink::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_template_has_room_where_the_tag_writes_and_proves_nothing() {
    let written = template(&link());
    let tapped = tapped(&own_keys(), &link(), UID, 1);
    assert_eq!(written.len(), tapped.len());
    let tail = |from_end: usize| &tapped[tapped.len() - from_end..];
    assert!(tail(FromEnd::COVERED).starts_with("47110422."));
    assert_eq!(
        &tapped[..tapped.len() - FromEnd::PICC],
        format!("{}.", link())
    );
    assert_eq!(tail(FromEnd::MAC).len(), MAC_CHARS);
    let parsed = SunLink::parse(&written).unwrap();
    assert_eq!(parsed.verify(&own_keys()), Err(BadSun::Mac));
}

#[test]
fn each_tag_slot_and_version_has_an_input_of_its_own() {
    let other = TagUid([4, 1, 2, 3, 4, 5, 7]);
    let input = key_input(UID, KeySlot::Meta, 3);
    assert_eq!(&input, b"\x04\x01\x02\x03\x04\x05\x06m2key/tag\x02\x03");
    for different in [
        key_input(other, KeySlot::Meta, 3),
        key_input(UID, KeySlot::Mac, 3),
        key_input(UID, KeySlot::Meta, 4),
    ] {
        assert_ne!(input, different);
    }
    assert!(AesKey::from_bytes([1; 16]).diversified(&input).is_some());
}

#[test]
fn a_uid_is_fourteen_digits_and_prints_as_such() {
    let uid = TagUid::parse("04010203040506").unwrap();
    assert_eq!(uid, UID);
    assert_eq!(format!("{uid}"), "04010203040506");
    for wrong in ["", "0401020304050", "0401020304050G", "+401020304050 6"] {
        assert_eq!(TagUid::parse(wrong), None, "{wrong}");
    }
}

//! The exchanges are those of NXP's AN12196 (rev. 1.8), seen from the tag; T is the number of its table.
#![allow(clippy::unwrap_used)]
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

const SELECT: &str = "00A4040C07D276000085010100";

fn selected() -> VirtualNtag424 {
    let mut tag = VirtualNtag424::new(1);
    assert_eq!(tag.transmit(&bytes(SELECT)), [0x90, 0x00]);
    tag
}

fn says(tag: &mut VirtualNtag424, apdu: &str, answer: &str) {
    assert_eq!(tag.transmit(&bytes(apdu)), bytes(answer), "{apdu}");
}

fn chance(tag: &mut VirtualNtag424, challenge: &str, transaction: &str) {
    tag.script_chance(&bytes(challenge));
    let mut block = bytes(transaction);
    block.resize(16, 0);
    tag.script_chance(&block);
}

fn in_t14() -> VirtualNtag424 {
    let mut tag = selected();
    chance(&mut tag, "B9E2FC789B64BF237CCCAA20EC7E6E48", "9D00C4DF");
    says(
        &mut tag,
        "9071000002000000",
        "A04C124213C186F22399D33AC2A3021591AF",
    );
    says(
        &mut tag,
        "90AF00002035C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D00",
        "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F081206639100",
    );
    tag
}

#[test]
fn t14_opens_a_session_and_t19_changes_the_settings_in_it() {
    let mut tag = in_t14();
    // T18, one command before, is longer than one frame and is left out here.
    tag.session.as_mut().unwrap().count();
    says(
        &mut tag,
        "905F0000190261B6D97903566E84C3AE5274467E89EAD799B7C1A0EF7A0400",
        "57BFF87B1241E93D9100",
    );
    assert_eq!(
        tag.settings.told(),
        bytes("004000E0000100C1F121200000430000430000")
    );
}

#[test]
fn t24_goes_on_with_t20_and_t26_and_t27_change_keys() {
    let mut tag = selected();
    chance(&mut tag, "91517975190DCEA6104948EFA3085C1B", "7614281A");
    says(
        &mut tag,
        "9071000002030000",
        "B875CEB0E66A6C5CD00898DC371F92D191AF",
    );
    says(
        &mut tag,
        "90AF000020FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B100",
        "0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A9100",
    );
    // Two commands on a file that is not played here.
    tag.session.as_mut().unwrap().count();
    tag.session.as_mut().unwrap().count();
    chance(&mut tag, "6924E8D09722659A2E7DEC68E66312B8", "");
    says(
        &mut tag,
        "90770000010000",
        "A6A2B3C572D06C097BB8DB70463E22DC91AF",
    );
    says(
        &mut tag,
        "90AF000020BE7D45753F2CAB85F34BC60CE58B940763FE969658A532DF6D95EA2773F6E99100",
        "B888349C24B315EAB5B589E279C8263E9100",
    );
    says(
        &mut tag,
        concat!(
            "90C4000029022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD",
            "1D06E600"
        ),
        "203BB55D1089D5879100",
    );
    says(
        &mut tag,
        concat!(
            "90C400002900C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FDA6610234BD",
            "ED643200"
        ),
        "9100",
    );
    let keys = [
        "5004BF991F408672B1EF00F08F9E8647",
        "F3847D627727ED3BC9C4CC050489B966",
    ];
    for (slot, key) in [0, 2].into_iter().zip(keys) {
        assert_eq!(tag.keys[slot].0.expose()[..], bytes(key));
        assert_eq!(tag.keys[slot].1, 1);
    }
    assert!(tag.session.is_none());
}

#[test]
fn a_link_of_t5_is_mirrored_for_a_phone_and_counted_once_for_reads_in_a_row() {
    let mut tag = selected();
    tag.uid = bytes("04DE5F1EACC040").try_into().unwrap();
    tag.counter = 60;
    tag.change_settings(&bytes("4000E0C1F100200000430000430000"));
    tag.file[..2].copy_from_slice(&[0, 81]);
    let mut filler = [0; 16];
    filler[11..].copy_from_slice(&bytes("DA5CF60941"));
    tag.script_chance(&filler);
    let message = tag.read_by_phone().unwrap();
    let text = String::from_utf8_lossy(&message);
    assert!(text.contains("EF963FF7828658A599F3041510671E88"), "{text}");
    assert!(text.ends_with("94EED9EE65337086"), "{text}");
    assert_eq!(tag.counter(), 61);
    tag.read_by_phone();
    assert_eq!(tag.counter(), 62);
}

#[test]
fn a_wrong_proof_and_a_wrong_mac_end_everything() {
    let mut tag = in_t14();
    says(
        &mut tag,
        "905F0000190261B6D97903566E84C3AE5274467E89EAD799B7C1A0EF7A0500",
        "911E",
    );
    assert!(tag.session.is_none());
    says(&mut tag, "90510000080000000000000000", "917E");
    says(&mut tag, "9051000000", "91AE");
    tag.transmit(&bytes("9071000002000000"));
    let proof = format!("90AF000020{}00", "00".repeat(32));
    says(&mut tag, &proof, "91AE");
    assert_eq!(tag.failures(), 1);
}

#[test]
fn what_needs_a_key_is_refused_without_it() {
    let mut tag = selected();
    tag.change_settings(&bytes("4110E141F1EFFFFFFF"));
    for (apdu, status) in [
        ("908D00000902000000020000000000", "91AE"),
        ("905F0000040200E0EE00", "91AE"),
        ("90C400000100", "917E"),
        ("90F60000010200", "91AE"),
        ("90F50000010300", "91F0"),
    ] {
        says(&mut tag, apdu, status);
    }
    says(&mut tag, "90640000010100", "009100");
}

#[test]
fn a_write_longer_than_a_frame_is_refused() {
    let mut tag = selected();
    let long = format!("908D00007B02000000740000{}00", "41".repeat(0x74));
    says(&mut tag, &long, "919D");
}

#[test]
fn no_command_makes_the_tag_panic() {
    let mut tag = selected();
    for ins in 0..=255u8 {
        for body in [&[][..], &[2], &[0, 0], &[2, 0, 0, 0, 1, 0, 0], &[9; 40]] {
            let length = body.len() as u8;
            tag.transmit(&[&[0x90, ins, 0, 0, length], body, &[0]].concat());
            tag.transmit(&[&[0x90, ins, 0, 0], body].concat());
            tag.transmit(&[&[0x00, ins, 4, 0], body].concat());
            if tag.session.is_none() {
                tag.transmit(&bytes(SELECT));
            }
        }
    }
}

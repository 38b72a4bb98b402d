//! The values are those of NXP's AN12196 (rev. 1.8); T is the number of its table.

#![allow(clippy::unwrap_used)]
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

fn key(hex: &str) -> AesKey {
    AesKey::from_bytes(array(hex))
}

/// An answer without its status.
fn data(response: &str) -> Vec<u8> {
    bytes(response.strip_suffix("9100").unwrap())
}

fn zero() -> AesKey {
    AesKey::DELIVERY
}

fn t14() -> Session {
    let challenge = bytes("A04C124213C186F22399D33AC2A30215");
    let ours = array("13C5DB8A5930439FC3DEF9A4C675360F");
    let (proof, sent) = Proof::begin(&zero(), ours, &challenge).unwrap();
    assert_eq!(
        sent,
        bytes("90AF00002035C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D00")
    );
    let answer = data("3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F081206639100");
    proof.opened_first(&answer).unwrap()
}

fn t20() -> Session {
    let challenge = bytes("B875CEB0E66A6C5CD00898DC371F92D1");
    let ours = array("B98F4C50CF1C2E084FD150E33992B048");
    let (proof, sent) = Proof::begin(&zero(), ours, &challenge).unwrap();
    assert_eq!(
        sent,
        bytes("90AF000020FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B100")
    );
    let answer = data("0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A9100");
    proof.opened_first(&answer).unwrap()
}

/// T24 goes on with the transaction of T20, in which two commands have been counted.
fn t24() -> Session {
    let mut before = t20();
    before.counter = 2;
    let challenge = bytes("A6A2B3C572D06C097BB8DB70463E22DC");
    let ours = array("60BE759EDA560250AC57CDDC11743CF6");
    let (proof, sent) = Proof::begin(&zero(), ours, &challenge).unwrap();
    assert_eq!(
        sent,
        bytes("90AF000020BE7D45753F2CAB85F34BC60CE58B940763FE969658A532DF6D95EA2773F6E99100")
    );
    proof
        .opened_next(&data("B888349C24B315EAB5B589E279C8263E9100"), &before)
        .unwrap()
}

fn session(enc: &str, mac: &str, transaction: &str, counter: u16) -> Session {
    Session {
        enc: key(enc),
        mac: key(mac),
        transaction: array(transaction),
        counter,
    }
}

#[test]
fn commands_that_open_a_session_are_the_published_ones() {
    assert_eq!(first(KeySlot::Master), bytes("9071000002000000"));
    assert_eq!(first(KeySlot::Mac), bytes("9071000002030000"));
    assert_eq!(non_first(KeySlot::Master), bytes("90770000010000"));
}

#[test]
fn t14_t20_and_t24_give_the_published_sessions() {
    for (session, transaction, enc, mac) in [
        (
            t14(),
            "9D00C4DF",
            "1309C877509E5A215007FF0ED19CA564",
            "4C6626F5E72EA694202139295C7A7FC7",
        ),
        (
            t20(),
            "7614281A",
            "7A93D6571E4B180FCA6AC90C9A7488D4",
            "FC4AF159B62E549B5812394CAB1918CC",
        ),
        (
            t24(),
            "7614281A",
            "4CF3CB41A22583A61E89B158D252FC53",
            "5529860B2FC5FB6154B7F28361D30BF9",
        ),
    ] {
        assert_eq!(session.transaction, array(transaction));
        assert_eq!(session.enc.expose(), &array(enc));
        assert_eq!(session.mac.expose(), &array(mac));
    }
    assert_eq!(t24().counter, 2);
}

#[test]
fn another_vector_gives_the_same_from_another_source() {
    let ours = array("54826e57625b579adcec038dbfd3afdb");
    let challenge = bytes("C1FC9EF6914A3E435D00AF8107A37700");
    let (proof, sent) = Proof::begin(&zero(), ours, &challenge).unwrap();
    assert_eq!(
        sent,
        bytes("90AF0000205BF593F9964F3782854D76412F994BC38C21B555A165FC7B85F76DFB1D6395FF00")
    );
    let answer = data("CAC5C282E0EEC0BD405A0CFB81006209FB36F73B0B060B7A5FD2E6BD38F64ED59100");
    let session = proof.opened_first(&answer).unwrap();
    assert_eq!(
        session.mac.expose(),
        &array("8BAC948E3204657E77D7242B9DA00F06")
    );
}

#[test]
fn a_tag_without_the_key_opens_no_session() {
    let challenge = bytes("A04C124213C186F22399D33AC2A30215");
    let ours = array("13C5DB8A5930439FC3DEF9A4C675360F");
    let answer = data("3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F081206639100");
    let (proof, _) =
        Proof::begin(&key("01000000000000000000000000000000"), ours, &challenge).unwrap();
    assert!(proof.opened_first(&answer).is_err());
    let (proof, _) = Proof::begin(&zero(), [9; 16], &challenge).unwrap();
    assert!(proof.opened_first(&answer).is_err());
    assert!(proof.opened_first(&answer[..31]).is_err());
    assert!(Proof::begin(&zero(), ours, &challenge[..15]).is_err());
}

#[test]
fn t8_asks_for_settings_under_a_mac() {
    let mut session = session(
        "00000000000000000000000000000000",
        "8248134A386E86EB7FAF54A52E536CB6",
        "7A21085E",
        0,
    );
    let command = Command::get_file_settings(Mode::Mac);
    assert_eq!(
        session.wrap(&command),
        bytes("90F5000009026597A457C8CD442C00")
    );
    let answer = data("0040EEEE000100D1FE001F00004400004400002000006A00002A474282E7A479869100");
    let settings = session.unwrap(&command, &answer).unwrap();
    assert_eq!(
        settings,
        bytes("0040EEEE000100D1FE001F00004400004400002000006A0000")
    );
}

#[test]
fn no_bit_of_an_answer_may_differ() {
    let answer = data("0040EEEE000100D1FE001F00004400004400002000006A00002A474282E7A479869100");
    for bit in 0..answer.len() * 8 {
        let mut session = session(
            "00000000000000000000000000000000",
            "8248134A386E86EB7FAF54A52E536CB6",
            "7A21085E",
            0,
        );
        let mut wrong = answer.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let command = Command::get_file_settings(Mode::Mac);
        assert_eq!(session.unwrap(&command, &wrong), Err(Garbled));
    }
}

#[test]
fn t18_and_t19_write_the_file_and_its_settings() {
    let mut session = t14();
    let mut content = bytes("0051D1014D550463686F6F73652E75726C2E636F6D2F6E7461673432343F653D");
    content.extend([b'0'; 32]);
    content.extend(bytes("26633D"));
    content.extend([b'0'; 16]);
    content.resize(128, 0);
    let write = Command::write(0, &content, Mode::Full);
    assert_eq!(
        session.wrap(&write),
        bytes(concat!(
            "908D00009F02000000800000421C73A27D827658AF481FDFF20A5025B559D0E3AA21E58D347F343CFFC768BF",
            "E596C706BC00F2176781D4B0242642A0FF5A42C461AAF894D9A1284B8C76BCFA658ACD40555D362E08DB15CF",
            "421B51283F9064BCBE20E96CAE545B407C9D651A3315B27373772E5DA2367D2064AE054AF996C6F1F669170F",
            "A88CE8C4E3A4A7BBBEF0FD971FF532C3A802AF745660F2B4D1D9A8499661EBF300",
        ))
    );
    let answer = data("FC222E5F7A5424529100");
    assert_eq!(session.unwrap(&write, &answer), Ok(vec![]));

    let change = Command::change_file_settings(&bytes("4000E0C1F121200000430000430000"));
    assert_eq!(
        session.wrap(&change),
        bytes("905F0000190261B6D97903566E84C3AE5274467E89EAD799B7C1A0EF7A0400")
    );
    let answer = data("57BFF87B1241E93D9100");
    assert_eq!(session.unwrap(&change, &answer), Ok(vec![]));
}

#[test]
fn t26_and_t27_change_a_key_and_the_master_key() {
    let mut session = t24();
    let new = key("F3847D627727ED3BC9C4CC050489B966");
    let other = Command::change_key(KeySlot::Meta, &zero(), &new, 1);
    assert_eq!(
        session.wrap(&other),
        bytes(concat!(
            "90C4000029022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD",
            "1D06E600",
        ))
    );
    let answer = data("203BB55D1089D5879100");
    assert_eq!(session.unwrap(&other, &answer), Ok(vec![]));

    let new = key("5004BF991F408672B1EF00F08F9E8647");
    let master = Command::change_key(KeySlot::Master, &zero(), &new, 1);
    assert_eq!(
        session.wrap(&master),
        bytes(concat!(
            "90C400002900C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FDA6610234BD",
            "ED643200",
        ))
    );
    assert_eq!(session.unwrap(&master, &[]), Ok(vec![]));
}

#[test]
fn t29_reads_the_uid_that_only_the_key_shows() {
    let mut session = session(
        "2B4D963C014DC36F24F69A50A394F875",
        "379D32130CE61705DD5FD8C36B95D764",
        "DF055522",
        0,
    );
    let command = Command::get_card_uid();
    assert_eq!(
        session.wrap(&command),
        bytes("90510000088E2C155ADDA99BE300")
    );
    let answer = data("70756055688505B52A5E26E59E329CD6595F672298EA41B79100");
    assert_eq!(
        session.unwrap(&command, &answer),
        Ok(bytes("04958CAA5C5E80"))
    );
}

#[test]
fn an_answer_is_good_for_its_own_place_in_the_session_only() {
    let mut session = session(
        "2B4D963C014DC36F24F69A50A394F875",
        "379D32130CE61705DD5FD8C36B95D764",
        "DF055522",
        1,
    );
    let answer = data("70756055688505B52A5E26E59E329CD6595F672298EA41B79100");
    let command = Command::get_card_uid();
    assert_eq!(session.unwrap(&command, &answer), Err(Garbled));
}

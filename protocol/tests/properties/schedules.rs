//! Which schedules does a terminal follow, and under which windows?

use super::*;

pub(crate) fn follow(
    claims: &ScheduleClaims,
    id: TerminalId,
    last: Option<Rank>,
) -> Result<protocol::schedule::Schedule, protocol::schedule::BadSchedule> {
    let signer = SigningKey::from_slice(&[7; 32]).unwrap();
    let point = signer.verifying_key().to_sec1_point(false);
    let jwk = Jwk::from_point(&point.as_bytes().try_into().unwrap()).unwrap();
    let unsigned = Unsigned::new(claims, &jwk.thumbprint());
    let signature: Signature = signer.sign_prehash(&unsigned.digest()).unwrap();
    let jws = unsigned.with_signature(&signature.to_bytes().into());
    accept(verify(&jws, &JwkSet { keys: vec![jwk] }).unwrap(), id, last)
}

fn schedule() -> (TerminalId, ScheduleClaims) {
    let id = TerminalId::from_number(4_711_042).unwrap();
    let check = |epoch| EpochCheck::new(epoch, 1, &EpochKey::from_bytes([1; 32]));
    let epochs = vec![check(10), check(11)];
    let (valid_from, valid_until) = validity(id, &epochs).unwrap();
    let claims = ScheduleClaims {
        iss: "spiffe://example.org/authority/one".into(),
        sub: format!("spiffe://example.org/terminal/{id}"),
        iat: 0,
        terminal: id,
        generation: 2,
        sequence: 5,
        valid_from,
        valid_until,
        policy: Policy::default(),
        nfc_paces: Vec::new(),
        link_host: "pay.example".into(),
        epochs,
    };
    (id, claims)
}

#[test]
fn a_schedule_that_breaks_one_rule_is_refused_by_that_rule() {
    use protocol::schedule::BadSchedule::*;
    let (id, good) = schedule();
    let spoil = |change: fn(&mut ScheduleClaims)| {
        let mut claims = good.clone();
        change(&mut claims);
        follow(&claims, id, None).err()
    };
    assert_eq!(spoil(|_| ()), None);
    assert_eq!(
        spoil(|c| c.terminal = TerminalId::from_number(1).unwrap()),
        Some(Terminal)
    );
    assert_eq!(spoil(|c| c.sub.push('0')), Some(Names));
    assert_eq!(
        spoil(|c| c.sub = c.sub.replace("example", "evil")),
        Some(Names)
    );
    assert_eq!(
        spoil(|c| c.iss = "spiffe://example.org/operator/one".into()),
        Some(Names)
    );
    assert_eq!(
        spoil(|c| c.iss = "spiffe://example.org/authority/".into()),
        Some(Names)
    );
    assert_eq!(spoil(|c| c.epochs.clear()), Some(Horizon));
    assert_eq!(
        spoil(|c| c.epochs = vec![c.epochs[0].clone(); 169]),
        Some(Horizon)
    );
    assert_eq!(spoil(|c| c.epochs.swap(0, 1)), Some(Order));
    assert_eq!(spoil(|c| c.epochs[1] = c.epochs[0].clone()), Some(Order));
    assert_eq!(spoil(|c| c.valid_until += 1), Some(Validity));
    assert_eq!(spoil(|c| c.valid_from = i64::MIN), Some(Validity));
    assert_eq!(spoil(|c| c.policy.qr.grace_ms = 60_001), Some(Policy));
    assert_eq!(spoil(|c| c.link_host = "evil/".into()), Some(LinkHost));
}

fn pace(from_epoch: u32, longest_min: i64) -> NfcPace {
    NfcPace {
        from_epoch,
        windows: NfcWindows {
            shortest_ms: longest_min * 30_000,
            longest_ms: longest_min * 60_000,
        },
    }
}

#[test]
fn a_pace_counts_from_its_epoch_on_for_nfc_alone_and_is_never_faster() {
    let (id, mut claims) = schedule();
    claims.nfc_paces = vec![pace(11, 20)];
    let schedule = follow(&claims, id, None).unwrap();
    assert_eq!(schedule.policy_of(10), schedule.policy());
    let slow = schedule.policy_of(11).get();
    assert_eq!(
        (slow.nfc.shortest_ms, slow.nfc.longest_ms),
        (600_000, 1_200_000)
    );
    assert_eq!(slow.nfc.grace_ms, schedule.policy().get().nfc.grace_ms);
    assert_eq!(slow.qr, schedule.policy().get().qr);
    assert_eq!(slow.code, schedule.policy().get().code);

    let bad = [
        vec![pace(11, 5)],
        vec![pace(11, 61)],
        vec![pace(11, 20), pace(11, 30)],
        vec![pace(11, 20), pace(10, 30)],
        vec![pace(10, 20), pace(11, 30), pace(12, 40)],
    ];
    for paces in bad {
        claims.nfc_paces = paces;
        let refused = follow(&claims, id, None).err();
        assert_eq!(
            refused,
            Some(protocol::schedule::BadSchedule::Policy),
            "{:?}",
            claims.nfc_paces
        );
    }
}

#[test]
fn a_schedule_without_paces_is_written_as_before_them() {
    let (_, claims) = schedule();
    let text = serde_json::to_string(&claims).unwrap();
    assert!(!text.contains("pace"), "{text}");
}

#[test]
fn a_restored_authority_is_followed_under_its_new_generation_only() {
    let (id, claims) = schedule();
    let after = |generation, sequence| {
        follow(
            &claims,
            id,
            Some(Rank {
                generation,
                sequence,
            }),
        )
        .is_ok()
    };
    assert!(after(2, 5), "the stored one again");
    assert!(!after(2, 6));
    assert!(after(1, 900), "an earlier life counted further");
    assert!(!after(3, 1));
}

//! Is there a line for every signature, and never a signature without one?

use std::sync::atomic::Ordering;

use pki::crl::BadCrl;
use pki::signer::{CLOCKS_APART_MAX_S, Entry, SignerError};
use pki::{Issuer, IssuerHealth, PkiError, verify_chain};

use crate::world::{NOW, World, request, signer_error};

#[tokio::test]
async fn a_certificate_is_good_and_stands_in_the_log() {
    let world = World::new().await;
    let issued = world.issue(1).await.unwrap();
    let leaf = pki::Certificate::from_der(&issued.der).unwrap();
    let chain = world.signer.issuing_cas()[0].chain.clone();
    verify_chain(&leaf, &[chain.issuing().clone()], &world.root, NOW).unwrap();
    let logged = world.log().into_iter().filter_map(|entry| match entry {
        Entry::Certificate { serial, name, .. } => Some((serial, name)),
        _ => None,
    });
    let name = request(1, NOW)
        .to
        .spiffe_id()
        .uri(world.signer.trust_domain());
    assert_eq!(Vec::from_iter(logged), [(issued.serial, name)]);
}

#[tokio::test]
async fn nothing_is_signed_when_its_line_cannot_be_written() {
    let mut world = World::new().await;
    std::fs::remove_file(world.log_file()).unwrap();
    std::os::unix::fs::symlink("/dev/full", world.log_file()).unwrap();
    world.restart().await;
    let before = world.hsm.signatures.load(Ordering::SeqCst);
    let refused = signer_error(world.issue(1).await);
    assert!(
        matches!(refused, SignerError::LogNotWritten { .. }),
        "{refused}"
    );
    let refused = signer_error(world.crl(0, 1).await);
    assert!(
        matches!(refused, SignerError::LogNotWritten { .. }),
        "{refused}"
    );
    assert_eq!(world.hsm.signatures.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_clock_that_is_off_dates_nothing() {
    let world = World::new().await;
    for apart in [CLOCKS_APART_MAX_S + 1, 365 * 24 * 3600] {
        for now in [NOW + apart, NOW - apart] {
            let refused = signer_error(world.signer.issue(request(1, now)).await);
            assert_eq!(refused, SignerError::ClocksApart { seconds: apart });
        }
        let mut list = world.crl_request(0, 1);
        list.this_update += apart;
        list.next_update += apart;
        let refused = signer_error(world.signer.sign_crl(list).await);
        assert_eq!(refused, SignerError::ClocksApart { seconds: apart });
    }
    for now in [NOW + CLOCKS_APART_MAX_S, NOW - CLOCKS_APART_MAX_S] {
        // The issuing certificate begins five minutes before it was made.
        let begins = world.signer.issuing_cas()[0].chain.issuing().not_before();
        let issued = world.signer.issue(request(1, now.max(begins))).await;
        assert!(issued.is_ok(), "{issued:?}");
    }
}

#[tokio::test]
async fn a_list_number_never_goes_back_also_after_a_restart_or_a_failure() {
    let mut world = World::new().await;
    assert_eq!(world.crl(0, 5).await, Ok(5));
    for number in [0, 4, 5] {
        let refused = world.crl(0, number).await;
        assert_eq!(refused, Err(BadCrl::NumberGoesBack { last: 5 }.into()));
    }
    world.restart().await;
    let refused = world.crl(0, 5).await;
    assert_eq!(refused, Err(BadCrl::NumberGoesBack { last: 5 }.into()));
    world.hsm.gone_after(0);
    assert!(world.crl(0, 6).await.is_err());
    assert!(world.hsm.is_back());
    // Nobody knows how far number 6 got.
    let refused = world.crl(0, 6).await;
    assert_eq!(refused, Err(BadCrl::NumberGoesBack { last: 6 }.into()));
    assert_eq!(world.crl(0, 7).await, Ok(7));
}

#[tokio::test]
async fn two_lists_of_one_number_are_never_signed() {
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    let ask = || client.sign_crl(world.crl_request(0, 1));
    let (one, other) = tokio::join!(ask(), ask());
    assert_eq!(
        [one.is_ok(), other.is_ok()]
            .iter()
            .filter(|ok| **ok)
            .count(),
        1
    );
}

#[tokio::test]
async fn many_questions_of_one_connection_are_answered_at_once_each_with_its_line() {
    const QUESTIONS: u32 = 200;
    let world = World::new().await;
    let _stop = world.serve();
    let client = std::sync::Arc::new(world.client().await);
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..QUESTIONS {
        let client = client.clone();
        asked.spawn(async move { client.issue(request(number, NOW)).await.unwrap().serial });
    }
    let mut serials = asked.join_all().await;
    let mut logged: Vec<String> = world
        .log()
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Certificate { serial, .. } => Some(serial),
            _ => None,
        })
        .collect();
    serials.sort();
    logged.sort();
    assert_eq!(serials, logged);
    serials.dedup();
    assert_eq!(serials.len(), QUESTIONS as usize, "no serial number twice");
}

#[tokio::test]
async fn an_hsm_that_is_gone_is_told_in_words_and_asks_for_an_operator() {
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    assert_eq!(client.health(), IssuerHealth::Ready);
    world.hsm.gone_after(0);
    let refused = client.issue(request(1, NOW)).await.unwrap_err();
    assert!(refused.to_string().contains("pulled out"), "{refused}");
    assert_eq!(refused.whose_move(), pki::Move::Operator);
    client.refresh().await.unwrap();
    assert!(matches!(client.health(), IssuerHealth::Down(why) if why.contains("pulled out")));
    assert!(world.hsm.is_back());
    client.issue(request(2, NOW)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_names_somebody_else_is_refused_by_the_signer_too() {
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    let mut foreign = request(1, NOW);
    foreign.to = crate::world::terminal(2);
    let refused = client.issue(foreign).await.unwrap_err();
    assert_eq!(refused.whose_move(), pki::Move::Asker);
    assert!(refused.to_string().contains("name"), "{refused}");
}

#[tokio::test]
async fn the_number_that_a_list_must_be_above_comes_through_the_wire() {
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    client.sign_crl(world.crl_request(0, 41)).await.unwrap();
    let refused = client.sign_crl(world.crl_request(0, 7)).await.unwrap_err();
    assert_eq!(refused, PkiError::Crl(BadCrl::NumberGoesBack { last: 41 }));
}

#[tokio::test]
async fn a_long_list_comes_through_the_wire() {
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    let mut list = world.crl_request(0, 1);
    let entry = list.revoked[0].clone();
    list.revoked = (1..=50_000)
        .map(|n| pki::crl::Revoked {
            serial: format!("01{n:030x}"),
            ..entry.clone()
        })
        .collect();
    let signed = client.sign_crl(list).await.unwrap();
    let issuing = client.chain().issuing().clone();
    let read = pki::crl::RevocationList::verified(&signed.der, &issuing).unwrap();
    assert_eq!((read.number, read.revoked.len()), (1, 50_000));
}

#[tokio::test]
async fn the_first_certificate_of_a_new_ca_comes_with_the_chain_above_it() {
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    world.next_ca().await.unwrap();
    let issued = client.issue(request(1, NOW)).await.unwrap();
    let leaf = pki::Certificate::from_der(&issued.der).unwrap();
    let above = [client.chain().issuing().clone()];
    pki::verify_chain(&leaf, &above, &world.root, NOW).unwrap();
}

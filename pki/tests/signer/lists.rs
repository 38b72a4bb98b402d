//! Does a revocation list keep its word when the authority that asks for it does not?

use std::path::PathBuf;
use std::slice;

use pki::PkiError;
use pki::crl::{BadCrl, CrlRequest, Reason, RevocationList, Revoked};
use pki::profiles::TERMINAL_LIFETIME_SECONDS;
use pki::signer::{LIST_LIFETIME_MAX_SECONDS, LIST_NUMBER_MAX, LIST_NUMBER_STEP_MAX, SignerError};

use crate::world::{DAY, NOW, World, signer_error};

impl World {
    fn list_of(&self, number: u64, revoked: Vec<Revoked>) -> CrlRequest {
        CrlRequest {
            revoked,
            ..self.crl_request(0, number)
        }
    }

    /// What the signed list names, by serial number.
    async fn named(&self, number: u64, revoked: Vec<Revoked>) -> Result<Vec<Revoked>, PkiError> {
        let request = self.list_of(number, revoked);
        let signed = self.signer.sign_crl(request).await?;
        let issuing = self.signer.issuing_cas()[0].chain.issuing().clone();
        let list = RevocationList::verified(&signed.der, &issuing).unwrap();
        assert_eq!(list.number, number);
        Ok(list.revoked)
    }

    /// A certificate of the signer, revoked now.
    async fn revoked(&self, terminal: u32) -> Revoked {
        Revoked {
            serial: self.issue(terminal).await.unwrap().serial,
            at: NOW,
            reason: Reason::KeyCompromise,
        }
    }

    fn last_list(&self) -> PathBuf {
        self.config.state_dir.join("m2key-issuing-1.crl")
    }
}

#[tokio::test]
async fn a_number_that_would_leave_none_for_later_is_refused_and_not_used_up() {
    let world = World::new().await;
    world.crl(0, 5).await.unwrap();
    for number in [u64::MAX, LIST_NUMBER_MAX, 5 + LIST_NUMBER_STEP_MAX + 1] {
        let refused = world.crl(0, number).await;
        assert_eq!(refused, Err(BadCrl::NumberTooFar { last: 5 }.into()));
    }
    world.crl(0, 6).await.unwrap();
    let furthest = 6 + LIST_NUMBER_STEP_MAX;
    assert_eq!(world.crl(0, furthest).await, Ok(furthest));
}

#[tokio::test]
async fn a_list_that_would_be_good_for_long_is_refused() {
    let world = World::new().await;
    let lasting = |number, seconds| CrlRequest {
        next_update: NOW + seconds,
        ..world.list_of(number, Vec::new())
    };
    for seconds in [LIST_LIFETIME_MAX_SECONDS + 1, 366 * DAY] {
        let refused = world.signer.sign_crl(lasting(1, seconds)).await;
        assert_eq!(refused, Err(BadCrl::LastsTooLong.into()));
    }
    let longest = lasting(1, LIST_LIFETIME_MAX_SECONDS);
    world.signer.sign_crl(longest).await.unwrap();
}

#[tokio::test]
async fn what_one_list_named_every_later_one_names_whatever_is_asked() {
    let mut world = World::new().await;
    let (one, other) = (world.revoked(1).await, world.revoked(2).await);
    assert_eq!(
        world.named(1, vec![one.clone()]).await.unwrap(),
        slice::from_ref(&one)
    );
    assert_eq!(
        world.named(2, Vec::new()).await.unwrap(),
        slice::from_ref(&one)
    );
    let milder = Revoked {
        at: NOW + DAY,
        reason: Reason::Superseded,
        ..one.clone()
    };
    assert_eq!(
        world.named(3, vec![milder]).await.unwrap(),
        slice::from_ref(&one)
    );
    world.restart().await;
    let mut both = world.named(4, vec![other.clone()]).await.unwrap();
    both.sort_by_key(|entry| entry.serial != one.serial);
    assert_eq!(both, [one, other]);
}

#[tokio::test]
async fn a_certificate_leaves_the_list_when_it_has_ended() {
    let mut world = World::new().await;
    let one = world.revoked(1).await;
    world.named(1, vec![one.clone()]).await.unwrap();
    let ends = NOW + TERMINAL_LIFETIME_SECONDS;
    world
        .clock
        .0
        .store(ends - DAY, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.named(2, Vec::new()).await.unwrap(), [one]);
    world
        .clock
        .0
        .store(ends + DAY, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.named(3, Vec::new()).await.unwrap(), []);
    world.restart().await;
    assert_eq!(world.named(4, Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn made_up_numbers_do_not_stay_on_the_list() {
    let mut world = World::new().await;
    let made_up = |n: u32| Revoked {
        serial: format!("01{n:030x}"),
        at: NOW,
        reason: Reason::Unspecified,
    };
    let many: Vec<Revoked> = (0..100).map(made_up).collect();
    assert_eq!(world.named(1, many).await.unwrap().len(), 100);
    assert_eq!(world.named(2, Vec::new()).await.unwrap(), []);
    world.restart().await;
    assert_eq!(world.named(3, Vec::new()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_lists_than_there_is_room_for_are_answered_one_after_the_other() {
    const LISTS: u64 = 12;
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    let mut lists = tokio::task::JoinSet::new();
    let client = std::sync::Arc::new(client);
    for number in 1..=LISTS {
        let (client, list) = (client.clone(), world.list_of(number, Vec::new()));
        lists.spawn(async move { pki::Issuer::sign_crl(client.as_ref(), list).await });
    }
    // Whichever came first: the others may be below it.
    for answer in lists.join_all().await {
        let refused = answer.map(drop).err();
        let below =
            |error: &PkiError| matches!(error, PkiError::Crl(BadCrl::NumberGoesBack { .. }));
        assert!(refused.as_ref().is_none_or(below), "{refused:?}");
    }
    assert_eq!(world.crl(0, LISTS + 1).await, Ok(LISTS + 1));
}

#[tokio::test]
async fn a_list_that_cannot_be_kept_is_not_given_away() {
    let world = World::new().await;
    let one = world.revoked(1).await;
    std::fs::create_dir_all(world.last_list().join("in the way")).unwrap();
    assert!(world.named(1, vec![one.clone()]).await.is_err());
    std::fs::remove_dir_all(world.last_list()).unwrap();
    assert_eq!(world.named(2, vec![one.clone()]).await.unwrap(), [one]);
}

#[tokio::test]
async fn a_last_list_that_somebody_changed_is_told_and_no_other_is_signed() {
    let mut world = World::new().await;
    let one = world.revoked(1).await;
    world.named(1, vec![one]).await.unwrap();
    let mut der = std::fs::read(world.last_list()).unwrap();
    let last = der.len() - 1;
    der[last] ^= 1;
    std::fs::write(world.last_list(), der).unwrap();
    world.restart().await;
    let refused = signer_error(world.named(2, Vec::new()).await);
    assert!(matches!(refused, SignerError::Damaged { .. }), "{refused}");
}

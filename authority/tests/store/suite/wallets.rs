//! Is a proof shown once, and a wallet's request carried out once, by whoever asks and however often?

use authority::store::{
    BeginRequest, Claim, ClaimOutcome, KeptApproval, NonceKey, RequestBegun, RequestEnd,
    ShownProof, WalletRequest,
};
use futures_util::future::join_all;
use protocol::dpop::Thumbprint;
use protocol::ids::ClaimId;
use protocol::token::Channel;

use crate::world::{NOW, World};

const KEY: Thumbprint = Thumbprint::from_bytes([3; 32]);

fn proof(jti: u8) -> ShownProof {
    ShownProof {
        key: KEY,
        jti: [jti; 32],
        until: NOW + 60_000,
    }
}

pub(crate) async fn a_proof_is_shown_once_even_when_many_show_it(world: &World) {
    let shown = (0..50).map(|_| world.store.show_proof(proof(1)));
    let first = join_all(shown).await;
    assert_eq!(first.iter().filter(|it| **it == Ok(true)).count(), 1);
    assert_eq!(world.store.show_proof(proof(2)).await, Ok(true));
    let of_another = ShownProof {
        key: Thumbprint::from_bytes([4; 32]),
        ..proof(1)
    };
    assert_eq!(world.store.show_proof(of_another).await, Ok(true));
    assert_eq!(world.store.forget_proofs(NOW + 60_000, 9).await, Ok(0));
    assert_eq!(world.store.forget_proofs(NOW + 60_001, 2).await, Ok(2));
    assert_eq!(world.store.forget_proofs(NOW + 60_001, 2).await, Ok(1));
    assert_eq!(world.store.show_proof(proof(1)).await, Ok(true));
}

pub(crate) async fn nonces_have_one_key_whichever_node_was_first(world: &World) {
    let keys = (1..9).map(|n| world.store.nonce_key(NonceKey([n; 32]), NOW));
    let keys = join_all(keys).await;
    let first = keys[0].as_ref().unwrap().0;
    assert!(keys.iter().all(|key| key.as_ref().unwrap().0 == first));
}

const REMEMBERED_MAX: u32 = 100;

fn begin(name: u8, claim: ClaimId) -> BeginRequest {
    BeginRequest {
        request: WalletRequest {
            key: KEY,
            name: [name; 32],
        },
        fingerprint: [9; 32],
        claim,
        at: NOW,
        running_until: NOW + 60_000,
        remembered_max: REMEMBERED_MAX,
    }
}

pub(crate) async fn a_request_is_carried_out_by_one_of_many_who_ask(world: &World) {
    let asked = (0..50).map(|_| world.store.begin_wallet_request(begin(1, world.claim_id())));
    let begun: Vec<_> = join_all(asked)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let going = |it: &&RequestBegun| matches!(it, RequestBegun::Go(_));
    assert_eq!(begun.iter().filter(going).count(), 1);
    let Some(RequestBegun::Go(claim)) = begun.iter().find(going) else {
        unreachable!("one of them goes");
    };
    let running = RequestBegun::Running(*claim);
    assert_eq!(begun.iter().filter(|it| **it == running).count(), 49);
}

pub(crate) async fn whoever_asks_again_goes_on_with_the_same_claim(world: &World) {
    let (first, store) = (world.claim_id(), &world.store);
    let again = |at| BeginRequest {
        at,
        running_until: at + 60_000,
        ..begin(1, world.claim_id())
    };
    let go = Ok(RequestBegun::Go(first));
    assert_eq!(store.begin_wallet_request(begin(1, first)).await, go);
    // Its time is over, as after a crash.
    let late = again(NOW + 60_000);
    assert_eq!(store.begin_wallet_request(late).await, go);
    let early = again(NOW + 60_001);
    let running = Ok(RequestBegun::Running(first));
    assert_eq!(store.begin_wallet_request(early).await, running);
    // Or it was given back.
    let request = begin(1, first).request;
    store
        .end_wallet_request(request, RequestEnd::Open)
        .await
        .unwrap();
    assert_eq!(store.begin_wallet_request(again(NOW + 60_002)).await, go);
    let other = BeginRequest {
        fingerprint: [8; 32],
        ..begin(1, first)
    };
    let differs = Ok(RequestBegun::Differs);
    assert_eq!(store.begin_wallet_request(other).await, differs);
}

pub(crate) async fn the_first_refusal_stays_until_it_is_forgotten(world: &World) {
    let (store, request) = (&world.store, begin(1, world.claim_id()));
    store.begin_wallet_request(request.clone()).await.unwrap();
    let refusal = |status| RequestEnd::Refused {
        status,
        body: b"no".to_vec(),
    };
    store
        .end_wallet_request(request.request, refusal(402))
        .await
        .unwrap();
    store
        .end_wallet_request(request.request, refusal(409))
        .await
        .unwrap();
    store
        .end_wallet_request(request.request, RequestEnd::Open)
        .await
        .unwrap();
    let refused = RequestBegun::Refused {
        claim: request.claim,
        status: 402,
        body: b"no".to_vec(),
    };
    assert_eq!(
        store.begin_wallet_request(request.clone()).await,
        Ok(refused)
    );
    assert_eq!(store.forget_wallet_requests(NOW, 9).await, Ok(0));
    assert_eq!(store.forget_wallet_requests(NOW + 1, 9).await, Ok(1));
    let go = Ok(RequestBegun::Go(request.claim));
    assert_eq!(store.begin_wallet_request(request).await, go);
}

pub(crate) async fn one_key_has_so_many_requests_and_no_more(world: &World) {
    let named = |n: u32, key| {
        let mut name = [0; 32];
        name[..4].copy_from_slice(&n.to_be_bytes());
        let mut asked = begin(1, world.claim_id());
        asked.request = WalletRequest { key, name };
        asked
    };
    let ask = |n, key| world.store.begin_wallet_request(named(n, key));
    let begun = join_all((0..REMEMBERED_MAX).map(|n| ask(n, KEY))).await;
    let goes = |it: &_| matches!(it, Ok(RequestBegun::Go(_)));
    assert!(begun.iter().all(goes));
    let too_many = ask(REMEMBERED_MAX, KEY).await;
    assert_eq!(too_many, Ok(RequestBegun::TooMany(NOW)));
    let known = ask(0, KEY).await;
    assert!(
        matches!(known, Ok(RequestBegun::Running(_))),
        "{known:?}: what is known is answered"
    );
    assert!(goes(&ask(0, Thumbprint::from_bytes([4; 32])).await));
    assert_eq!(world.store.forget_wallet_requests(NOW + 1, 9).await, Ok(9));
    assert!(goes(&ask(REMEMBERED_MAX, KEY).await));
}

pub(crate) async fn an_approval_is_kept_with_its_claim_and_serves_no_other(world: &World) {
    let terminal = world.terminal(1).await;
    world.start(terminal, 420).await;
    let approval = KeptApproval {
        key: KEY,
        jti: [1; 32],
        public_point: [4; 65],
        jws: "a.b.c".into(),
    };
    let claim = Claim {
        approval: Some(approval.clone()),
        ..world.claim_of(world.shown(terminal, Channel::Nfc).await)
    };
    let id = claim.id;
    let claimed = world.store.claim(claim).await.unwrap();
    assert!(matches!(claimed, ClaimOutcome::Claimed(_)));
    assert_eq!(
        world.store.kept_approval(id).await,
        Ok(Some(approval.clone()))
    );
    assert!(
        world
            .store
            .release_claim(id, Vec::new(), NOW)
            .await
            .unwrap()
    );
    let live = world.shown(terminal, Channel::Nfc).await;
    let again = Claim {
        approval: Some(approval),
        ..world.claim_of(live)
    };
    let (second, used) = (again.id, Ok(ClaimOutcome::ApprovalUsed));
    assert_eq!(world.store.claim(again).await, used);
    assert_eq!(world.store.claim_record(second).await, Ok(None));
    assert_eq!(world.store.is_spent(live.token()).await, Ok(false));
    let without = world.store.claim(world.claim_of(live)).await.unwrap();
    assert!(matches!(without, ClaimOutcome::Claimed(_)));
}

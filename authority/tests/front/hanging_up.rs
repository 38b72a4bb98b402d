//! What becomes of a verb whose asker hangs up?

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use authority::services::operators::{
    CertificateRevoke, TerminalBan, VERBS_MAX, Verb, carry_out_to_the_end,
};
use authority::store::Consents;
use pki::{OperatorKey, SoftwareKey};

use crate::room::{Room, adding, policy};
use crate::stage::Stage;

/// What never comes has not come by then.
const DEADLINE: Duration = Duration::from_secs(60);

/// Asks, and hangs up when nothing more comes at once.
async fn asked_and_hung_up<V: Verb>(stage: &Stage, verb: V) {
    let mut asking = pin!(carry_out_to_the_end(&stage.app, "ann", verb));
    let hung_up = poll_fn(|context| Poll::Ready(asking.as_mut().poll(context).is_pending()));
    assert!(hung_up.await, "nothing is committed at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_or_revocation_whose_asker_hangs_up_cuts_what_is_open() {
    let stage = Stage::set().await;
    let (machine, _) = stage.enrolled().await;
    let mut revoked = stage.app.bans.listen_revoked();
    let serial = machine.serial("first");
    let revoke = CertificateRevoke {
        serial: serial.clone(),
        reason: "key-compromise".into(),
    };
    asked_and_hung_up(&stage, revoke).await;
    let heard = tokio::time::timeout(DEADLINE, revoked.next()).await;
    assert_eq!(heard.unwrap().as_deref(), Some(serial.as_str()));

    let mut banned = stage.app.bans.listen();
    let terminal = machine.terminal.parse().unwrap();
    let reason = "stolen".into();
    asked_and_hung_up(&stage, TerminalBan { terminal, reason }).await;
    let heard = tokio::time::timeout(DEADLINE, banned.next()).await;
    assert_eq!(heard.unwrap(), Some(terminal));
}

/// Over HTTP, at a moment that the test chooses: while the issuing CA signs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_has_begun_runs_to_its_end() {
    let room = Room::with(policy(0)).await;
    let stage = &room.stage;
    let OperatorKey::File(key) = &room.ann.key else {
        unreachable!("keys of this room are in memory");
    };
    let shown = stage.shown(&room.ann.chain[0].pem(), key);
    let dora = OperatorKey::File(SoftwareKey::generate().unwrap());
    let body = serde_json::to_string(&adding(&room, "dora", &dora).await).unwrap();
    let (reached, goes_on) = stage.issuer.hold_once();
    // curl hangs up by itself, once the issuing CA has been reached and holds.
    let arguments = [
        "-H",
        "content-type: application/json",
        "--data-binary",
        &body,
    ];
    let mut arguments = arguments.map(String::from).to_vec();
    arguments.extend(["--max-time", "2"].map(String::from));
    let reply = stage.curl("/v1/operator/operator-add", Some(&shown), &arguments);
    let (reply, reached) = tokio::join!(reply, tokio::time::timeout(DEADLINE, reached));
    assert_eq!(reply.status, 0, "{reply:?}");
    reached.unwrap().unwrap();
    let open = stage
        .app
        .metrics
        .connections_open
        .with_label_values(&["agents"]);
    let cut = async {
        while open.get() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, cut).await.unwrap();
    goes_on.send(()).unwrap();
    let all = stage.app.verbs.acquire_many(VERBS_MAX as u32);
    let ended = tokio::time::timeout(DEADLINE, all).await;
    drop(ended.unwrap().unwrap());
    let now = stage.app.clock.now();
    let added = stage.store.operator("dora", now).await.unwrap();
    assert!(added.is_some(), "it ended where its asker hung up");
}

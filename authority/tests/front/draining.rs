//! What becomes of a request that is on its way when the drain starts?

use crate::stage::Stage;

/// How often the one thread of the test lets everybody else go on: whoever was woken by the drain has seen it by then.
const TURNS: usize = 64;

#[tokio::test]
async fn a_stream_that_was_asked_for_before_the_drain_ends_at_once_and_in_order() {
    let stage = Stage::set().await;
    let (_, shown) = stage.enrolled().await;
    let (reached, goes_on) = stage.hold_request();
    let http1 = ["--http1.1".to_owned()];
    let asked = stage.curl("/v1/events", Some(&shown), &http1);
    let drained = async {
        reached.await.unwrap();
        stage.app.start_drain();
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        goes_on.send(()).unwrap();
    };
    let (reply, ()) = tokio::join!(asked, drained);
    // One that is cut when the drain has lasted long enough has no answer, or one without its end.
    assert_eq!((reply.status, reply.err.as_str()), (200, ""), "{reply:?}");
}

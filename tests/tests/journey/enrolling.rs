//! Does an enrolment that was cut off go on where it was?

use std::path::Path;

use harness::World;
use harness::process::{Said, command};

/// In the order in which an enrolment writes them.
const WRITTEN: [&str; 6] = [
    "agent.key",
    "agent.toml",
    "kiosk.secret",
    "till.secret",
    "root.pem",
    "agent.pem",
];

fn enrol(world: &World, join_token: &Path, dir: &Path) -> Said {
    let mut enrol = command("m2key-agent").unwrap();
    enrol.args(["enrol", "--non-interactive", "--dir"]).arg(dir);
    enrol.args(["--authority", &world.authority.agents_url().unwrap()]);
    enrol.args(["--root-fingerprint", world.authority.root_fingerprint()]);
    enrol.arg("--join-token-file").arg(join_token);
    Said::by(&mut enrol).unwrap()
}

#[tokio::test]
async fn an_enrolment_that_a_power_cut_ended_anywhere_is_done_again_with_the_same_join_token() {
    let world = World::new().await.unwrap();
    let (dir, join_token) = (world.dir().join("second"), world.dir().join("join-token"));
    let authority = &world.authority;
    authority.add_terminal(world.merchant, &join_token).unwrap();
    enrol(&world, &join_token, &dir).ok().unwrap();
    let certificate = std::fs::read(dir.join("agent.pem")).unwrap();
    for written in 1..WRITTEN.len() {
        for name in &WRITTEN[written..] {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        enrol(&world, &join_token, &dir).ok().unwrap();
        let again = std::fs::read(dir.join("agent.pem")).unwrap();
        assert_eq!(again, certificate, "after {}", WRITTEN[written - 1]);
    }
    let second = enrol(&world, &join_token, &dir);
    assert_eq!(second.code, 1, "{}", second.err);
    assert!(
        second.err.contains("holds an enrolled terminal"),
        "{}",
        second.err
    );
}

//! Do the two tills of docs/examples work, whatever happens around them?

use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::tools;
use protocol::wire::push::ChargeStage;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::shop::{PRICE, Shop, charge_id, is_offered};

const EXAMPLES: [(&str, &str); 2] = [("python3", "till.py"), ("node", "till.mjs")];

/// An example at work.
struct Till {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Till {
    fn start(shop: &Shop, (program, name): (&str, &str), charge: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/examples")
            .join(name);
        let secret: PathBuf = shop.world.terminal().file("till.secret");
        let mut command = Command::new(program);
        command.arg(script).arg(&shop.till.address).arg(secret);
        command.args([&PRICE.to_string(), "EUR", "sale 1041", charge]);
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("scripts/setup.sh test installs it");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until this is said.
    async fn says(&mut self, wanted: &str) {
        let mut said = Vec::new();
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.starts_with(wanted) {
                    return true;
                }
                said.push(line);
            }
            false
        };
        let found = tokio::time::timeout(harness::wait::LIMIT, reading).await;
        assert_eq!(found, Ok(true), "{wanted:?} is not among {said:?}");
    }

    /// Ctrl-C.
    fn interrupt(&self) {
        let pid = self.child.id().unwrap().to_string();
        tools::run("kill", &["-INT", &pid]).unwrap();
    }

    async fn ends(&mut self) -> i32 {
        let ended = tokio::time::timeout(harness::wait::LIMIT, self.child.wait()).await;
        ended.unwrap().unwrap().code().unwrap()
    }
}

#[tokio::test]
async fn both_examples_are_paid() {
    let shop = Shop::open().await;
    for example in EXAMPLES {
        let mut till = Till::start(&shop, example, &charge_id());
        till.says("offered").await;
        shop.pay().await;
        till.says("paid, mark").await;
        assert_eq!(till.ends().await, 0, "{example:?}");
    }
}

#[tokio::test]
async fn both_examples_cancel_at_ctrl_c() {
    let shop = Shop::open().await;
    for example in EXAMPLES {
        let id = charge_id();
        let mut till = Till::start(&shop, example, &id);
        till.says("offered").await;
        till.interrupt();
        till.says("ended").await;
        assert_eq!(till.ends().await, 1, "{example:?}");
        let reason = protocol::wire::push::EndReason::Cancelled;
        shop.looks(&id, |it| it.state.stage == ChargeStage::Ended { reason })
            .await;
    }
}

#[tokio::test]
async fn both_examples_are_paid_although_authority_and_agent_die_on_the_way() {
    let mut shop = Shop::open().await;
    for example in EXAMPLES {
        let id = charge_id();
        let mut till = Till::start(&shop, example, &id);
        till.says("offered").await;
        shop.world
            .terminal()
            .kiosk()
            .shows("offered")
            .await
            .unwrap();
        shop.world.authority.kill();
        till.says("offered (old: the authority is away)").await;
        shop.kill_agent();
        shop.start_agent().await;
        shop.world.authority.serve().await.unwrap();
        shop.looks(&id, |it| is_offered(it) && !it.stale).await;
        shop.pay().await;
        till.says("paid, mark").await;
        assert_eq!(till.ends().await, 0, "{example:?}");
    }
}

#[tokio::test]
async fn both_examples_say_why_they_are_refused() {
    let shop = Shop::open().await;
    let first = charge_id();
    let mut holder = Till::start(&shop, EXAMPLES[0], &first);
    holder.says("offered").await;
    for example in EXAMPLES {
        let mut till = Till::start(&shop, example, &charge_id());
        assert_eq!(till.ends().await, 1, "{example:?}");
    }
    // A till that was switched off takes its own charge up again.
    drop(holder);
    for example in EXAMPLES {
        let mut till = Till::start(&shop, example, &first);
        till.says("offered").await;
    }
}

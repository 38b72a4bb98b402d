//! Do the two tills of docs/examples work, whatever happens around them?

use std::path::Path;
use std::process::Stdio;

use harness::tools;
use protocol::wire::push::ChargeStage;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};

use crate::shop::{PRICE, Shop, charge_id, is_offered};

const EXAMPLES: [(&str, &str); 2] = [("python3", "till.py"), ("node", "till.mjs")];

/// An example at work.
struct Till {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Till {
    fn start(shop: &Shop, example: (&str, &str), charge: &str) -> Self {
        let secret = shop.world.terminal().file("till.secret");
        Self::at(&shop.till.address, &secret, example, charge)
    }

    fn at(address: &str, secret: &Path, (program, name): (&str, &str), charge: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/examples")
            .join(name);
        let mut command = Command::new(program);
        command.arg(script).arg(address).arg(secret);
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

/// Stands in the agent's place: the next request, and who waits for its answer.
async fn asked(agent: &TcpListener) -> (String, TcpStream) {
    let (mut asker, _) = agent.accept().await.unwrap();
    let (mut request, mut part) = (String::new(), [0; 4096]);
    while !is_whole(&request) {
        let length = asker.read(&mut part).await.unwrap();
        request += std::str::from_utf8(&part[..length]).unwrap();
    }
    (request.split(' ').next().unwrap().to_owned(), asker)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// Knows a charge once a start of it was answered, and no other.
async fn answers(agent: &TcpListener) {
    let mut charge = None;
    loop {
        let (method, mut asker) = asked(agent).await;
        match method.as_str() {
            "POST" if charge.is_none() => charge = Some(r#"{"stage":"offered","stale":false}"#),
            "DELETE" if charge.is_some() => {
                charge = Some(r#"{"stage":"ended","reason":"cancelled","stale":false}"#)
            }
            _ => {}
        }
        let (status, body) = match charge {
            None => (
                "404 Not Found",
                r#"{"title":"unknown","next_step":"none"}"#.to_owned(),
            ),
            Some(charge) if method == "GET" => ("200 OK", format!("data:{charge}\n\n")),
            Some(charge) => ("200 OK", charge.to_owned()),
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        // Whoever was interrupted hears nothing.
        let _ = asker.write_all((head + &body).as_bytes()).await;
    }
}

#[tokio::test]
async fn no_cancel_of_the_examples_overtakes_a_start_that_was_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("till.secret");
    std::fs::write(&secret, "secret").unwrap();
    for example in EXAMPLES {
        let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = agent.local_addr().unwrap().to_string();
        let mut till = Till::at(&address, &secret, example, &charge_id());
        let (method, start) = asked(&agent).await;
        assert_eq!(method, "POST");
        till.interrupt();
        drop(start);
        let ended = async {
            till.says("ended").await;
            till.ends().await
        };
        tokio::select! {
            () = answers(&agent) => {}
            code = ended => assert_eq!(code, 1, "{example:?}"),
        }
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

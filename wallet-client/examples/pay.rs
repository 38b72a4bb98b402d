//! How does one payment go, from the link on a terminal to the receipt?
//!
//! `cargo run -p wallet-client --example pay -- <authority> <key.pem> <access token> <link or code>`
//!
//! The HTTP client is curl, so that nothing hides behind a library: what the example writes is what goes
//! over the line. `key.pem` is the key that the access token is bound to, e.g. from
//! `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
#![allow(clippy::disallowed_methods, reason = "an app reads the clock")]

use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::time::Timestamp;
use protocol::wire::wallet::{WalletPayment, WalletView};
use serde::de::DeserializeOwned;
use wallet_client::{ANSWER_NONCE, Agreed, Answer, NoRandom, Refused, Request, Wallet, WalletKey};

type Fault = Box<dyn Error>;

fn main() -> Result<(), Fault> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [authority, key, access_token, token] = arguments.as_slice() else {
        return Err("expected: <authority> <key.pem> <access token> <link or code>".into());
    };
    let key = WalletKey::from_pem(&std::fs::read_to_string(key)?)?;
    let mut wallet = Wallet::new(key, authority, access_token);

    // Look, and show the shopper who is paid and how much.
    let view: WalletView = ask(&mut wallet, |it| it.view(token, now()))?;
    let amount = view
        .amount
        .ok_or("this terminal wants an amount from the shopper")?;
    let account = view.accounts.first().ok_or("no account can pay this")?;
    println!("{} to {}, from {}", amount, view.payee.name, account.name);

    // The shopper agrees: signed once, and kept until there is an answer.
    let agreed = Agreed {
        amount,
        payee: view.payee.id,
        account: account.account,
    };
    let payment = wallet.approve(token, &agreed, now())?;
    let name = wallet.name()?;
    let paid: WalletPayment = ask(&mut wallet, |it| it.pay(&name, &payment, now()))?;
    println!("{:?}: {}", paid.state, paid.receipt.unwrap_or_default());
    Ok(())
}

/// Asks, and once more where the answer only brought the nonce.
fn ask<T: DeserializeOwned>(
    wallet: &mut Wallet,
    build: impl Fn(&Wallet) -> Result<Request, NoRandom>,
) -> Result<T, Fault> {
    loop {
        let request = build(wallet)?;
        let (status, nonce, body) = curl(&request)?;
        let answer = Answer {
            status,
            nonce: nonce.as_deref(),
            body: &body,
        };
        match wallet.read(&answer) {
            Err(Refused::Again) => {}
            read => return Ok(read?),
        }
    }
}

/// Headers and body go through its standard input: an access token is not for the list of processes.
fn curl(request: &Request) -> Result<(u16, Option<String>, Vec<u8>), Fault> {
    let mut config = format!("url = \"{}\"\nrequest = {}\n", request.url, request.method);
    for (name, value) in &request.headers {
        let value = value.replace('"', "\\\"");
        config += &format!("header = \"{name}: {value}\"\n");
    }
    if !request.body.is_empty() {
        let body = String::from_utf8(request.body.clone())?.replace('"', "\\\"");
        config += &format!("data-binary = \"{body}\"\n");
    }
    let mut curl = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    curl.stdin
        .take()
        .ok_or("curl has no input")?
        .write_all(config.as_bytes())?;
    let output = curl.wait_with_output()?;
    if !output.status.success() {
        return Err("curl reached nobody".into());
    }
    read_answer(&output.stdout)
}

fn read_answer(answer: &[u8]) -> Result<(u16, Option<String>, Vec<u8>), Fault> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or("the answer has no end of its headers")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.ok_or("the answer has no status")?.parse()?;
    let nonce = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case(ANSWER_NONCE));
    let nonce = nonce.map(|(_, value)| value.to_owned());
    Ok((status, nonce, answer[end + 4..].to_vec()))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_ms(since.map_or(0, |since| since.as_millis() as i64))
}

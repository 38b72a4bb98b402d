//! What can somebody do who holds what they should not: a PIN, or a copy of a machine's files?

use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64UrlUnpadded, Encoding};
use harness::authority::Authority;
use harness::process::Said;
use harness::terminal::Terminal;
use harness::{Failure, tools, web};
use protocol::wire::upkeep::CHECKPOINT_HEADER;
use reqwest::StatusCode;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Signs as whoever has seen the HSM's PIN: another statement under the header of a genuine one. None
/// if the key is not in the HSM any more.
pub(crate) fn forges(
    authority: &Authority,
    label: &str,
    genuine: &str,
    claims: &Value,
) -> Option<String> {
    let header = genuine.split('.').next()?;
    let body = Base64UrlUnpadded::encode_string(claims.to_string().as_bytes());
    let input = format!("{header}.{body}");
    let digest: [u8; 32] = Sha256::digest(&input).into();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut thief = Command::new(env!("CARGO_BIN_EXE_pin-thief"));
    thief.env("SOFTHSM2_CONF", authority.file("softhsm2.conf"));
    thief
        .arg("m2key-authority")
        .arg(authority.file("hsm/authority.pin"));
    let said = Said::by(thief.args([label, "sign", &digest])).unwrap();
    let signed = said.ok().ok()?.out;
    let hex = signed.trim();
    let byte = |n: usize| u8::from_str_radix(&hex[n..n + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    Some(format!(
        "{input}.{}",
        Base64UrlUnpadded::encode_string(&bytes)
    ))
}

/// The claims of a genuine statement.
pub(crate) fn claims_of(genuine: &str) -> Value {
    serde_json::from_slice(&part(genuine, 1)).unwrap()
}

/// Header (0) or body (1).
pub(crate) fn part(genuine: &str, n: usize) -> Vec<u8> {
    let part = genuine.split('.').nth(n).unwrap();
    Base64UrlUnpadded::decode_vec(part).unwrap()
}

/// A copy of a terminal's key and certificate, as it was at that moment.
pub(crate) struct Copied {
    certificate: PathBuf,
    key: PathBuf,
    root: PathBuf,
    agents_url: String,
}

impl Copied {
    pub(crate) fn from(
        terminal: &Terminal,
        authority: &Authority,
        to: &Path,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(to)?;
        let (certificate, key) = (to.join("agent.pem"), to.join("agent.key"));
        std::fs::copy(terminal.file("agent.pem"), &certificate)?;
        std::fs::copy(terminal.file("agent.key"), &key)?;
        Ok(Self {
            certificate,
            key,
            root: authority.root(),
            agents_url: authority.agents_url()?,
        })
    }

    /// The first words of the answer to `GET` of a path with the copied certificate.
    pub(crate) async fn asks(
        &self,
        path: &str,
        checkpoint: Option<&str>,
    ) -> Result<StatusCode, Failure> {
        let http = web::identified(&self.root, &self.certificate, &self.key)?;
        let mut get = http.get(format!("{}{path}", self.agents_url));
        if let Some(checkpoint) = checkpoint {
            get = get.header(CHECKPOINT_HEADER, checkpoint);
        }
        let response = get.send().await.map_err(|e| web::sent(&e))?;
        Ok(response.status())
    }

    /// A fresh key in this file, and a request for it beside it.
    fn requests(&self, key: &Path) -> Result<PathBuf, Failure> {
        let request = key.with_extension("csr");
        let (key, out) = (key.display().to_string(), request.display().to_string());
        let curve = ["ecparam", "-name", "prime256v1", "-genkey", "-noout"];
        tools::run("openssl", &[&curve[..], &["-out", &key]].concat())?;
        let new = ["req", "-new", "-key", &key, "-subj", "/", "-outform", "DER"];
        tools::run("openssl", &[&new[..], &["-out", &out]].concat())?;
        Ok(request)
    }

    /// A key of the thief's own and what somebody certifies for it take the place of the copy.
    pub(crate) fn replaced(
        &mut self,
        certify: impl Fn(&Path, &Path) -> Said,
    ) -> Result<(), Failure> {
        self.key.set_extension("3");
        let request = self.requests(&self.key)?;
        self.certificate.set_extension("3.pem");
        certify(&request, &self.certificate).ok().map(drop)
    }

    /// Asks for the next certificate under a key of the thief's own.
    pub(crate) async fn renews(&self) -> Result<StatusCode, Failure> {
        let request = self.requests(&self.key.with_extension("2"))?;
        let request = request.display().to_string();
        let body = tools::run("openssl", &["base64", "-in", &request])?;
        let http = web::identified(&self.root, &self.certificate, &self.key)?;
        let url = format!("{}/.well-known/est/simplereenroll", self.agents_url);
        let post = http.post(url).header("content-type", "application/pkcs10");
        let response = post.body(body).send().await.map_err(|e| web::sent(&e))?;
        Ok(response.status())
    }
}

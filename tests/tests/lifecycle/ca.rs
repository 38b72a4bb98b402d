//! What does it take to give a fleet another issuing CA or root, and what can a thief of the old one do?

use std::path::Path;
use std::process::Command;

use harness::process::Said;
use harness::{tools, wait};

use crate::desk::Desk;
use crate::fleet::Fleet;

impl Fleet {
    /// The root of this authority, as the verbs of `root` want it.
    pub(crate) fn first_root(&self) -> String {
        let root = self.world.authority.file("root");
        std::fs::copy(self.world.authority.root(), root.join("root.pem")).unwrap();
        let root = root.display();
        format!("--dir {root} --passphrase-file {root}/passphrase")
    }

    /// One that will follow it; `root init` makes it.
    pub(crate) fn second_root(&self) -> String {
        let passphrase = self.world.authority.file("root/passphrase");
        let dir = self.scratch("new-root");
        format!("--dir {dir} --passphrase-file {}", passphrase.display())
    }

    /// The next issuing CA, from its key to its first signature; the file of its certificate.
    pub(crate) fn next_issuing(&self, desk: &Desk<'_>) -> String {
        let (request, certificate) = (self.scratch("next.csr"), self.scratch("next.pem"));
        std::fs::write(&request, desk.issuing("prepare")).unwrap();
        let root = self.first_root();
        desk.pki(&format!(
            "root sign {request} --out {certificate} {root} --yes"
        ));
        desk.issuing(&format!("install {certificate}"));
        desk.issuing("activate");
        certificate
    }

    /// The same issuing key under the new root, beside the certificate that it has under the old one.
    pub(crate) fn reissue(&self, desk: &Desk<'_>, label: &str, root: &str, root_pem: &str) {
        let (request, certificate) = (self.scratch("again.csr"), self.scratch("again.pem"));
        std::fs::write(&request, desk.issuing(&format!("request {label}"))).unwrap();
        desk.pki(&format!(
            "root sign {request} --out {certificate} {root} --yes"
        ));
        let both = [&self.world.authority.root(), Path::new(root_pem)]
            .map(|it| std::fs::read_to_string(it).unwrap());
        std::fs::write(self.world.authority.file("signer/roots.pem"), both.concat()).unwrap();
        desk.issuing(&format!("install {certificate}"));
    }

    /// The key id of this issuing key.
    pub(crate) fn key_id(&self, desk: &Desk<'_>, label: &str) -> String {
        let listed = desk.issuing("list");
        let of_it = listed.split_once(&format!("{label}\n")).unwrap().1;
        let id = of_it.split_once("key id").unwrap().1;
        id.split_whitespace().next().unwrap().to_owned()
    }

    /// Waits until every agent has a certificate of the active issuing CA, and has used it.
    pub(crate) async fn all_renewed(&self) {
        const RENEWED: &str = "m2key_agent_certificate_renewals_total{outcome=\"renewed\"}";
        for n in 0..self.world.terminals.len() {
            let renewed = async || {
                let count = self.metric(n, RENEWED).await.ok()?;
                (count >= 1.0).then_some(())
            };
            wait::until("a renewed certificate", renewed).await.unwrap();
        }
    }

    /// Waits until so many terminals follow this list of roots.
    pub(crate) async fn follow(&self, desk: &Desk<'_>, sequence: u64, terminals: usize) {
        let follow = async || {
            let shown = desk.ok("trust show");
            let mut lists = shown["followers"].as_array()?.iter();
            let list = lists.find(|it| it["sequence"] == sequence)?;
            (list["terminals"] == terminals).then_some(())
        };
        wait::until("terminals to follow", follow).await.unwrap();
    }

    /// Whether the agents' listener shows something that leads to this root.
    pub(crate) fn is_served_under(&self, root_pem: &str) -> bool {
        let url = self.world.authority.agents_url().unwrap();
        let address = url.strip_prefix("https://").unwrap();
        let hello = ["s_client", "-connect", address, "-verify_return_error"];
        let said = tools::output("openssl", &[&hello[..], &["-CAfile", root_pem]].concat());
        String::from_utf8_lossy(&said.unwrap().stdout).contains("Verify return code: 0")
    }

    /// Whether the certificate in this file was issued by the one in that file.
    pub(crate) fn is_issued_by(&self, leaf: &Path, issuing: &str) -> bool {
        let verify = ["verify", "-partial_chain", "-CAfile", issuing];
        let leaf = leaf.display().to_string();
        tools::run("openssl", &[&verify[..], &[&leaf]].concat()).is_ok()
    }

    /// The certificate is in the list of the issuing CA with this certificate, within seconds.
    pub(crate) async fn is_listed(&self, issuing: &str, serial: &str) {
        let listed = async || {
            let list = self.list_of(issuing).await.ok()?;
            let told = ["crl", "-inform", "DER", "-in", &list, "-noout", "-text"];
            let text = tools::run("openssl", &told).ok()?.to_lowercase();
            text.contains(serial).then_some(())
        };
        wait::until("the certificate on the list", listed)
            .await
            .unwrap();
    }

    /// Whoever has seen the signer's PIN makes themself an operator with a key of their own.
    pub(crate) fn thief_becomes(&self, name: &str, issuing: &str) -> Said {
        let file = |end: &str| self.world.authority.file(&format!("{name}.{end}"));
        self.thief_certifies(
            &format!("operator/{name}"),
            issuing,
            &file("csr"),
            &file("pem"),
        )
    }

    /// The same for any name: the first issuing CA's certificate for this request.
    pub(crate) fn thief_certifies(
        &self,
        name: &str,
        issuing: &str,
        request: &Path,
        certificate: &Path,
    ) -> Said {
        let signer = |file| self.world.authority.file("signer").join(file);
        let mut thief = Command::new(env!("CARGO_BIN_EXE_pin-thief"));
        thief.env("SOFTHSM2_CONF", signer("softhsm2.conf"));
        thief.args([Path::new("m2key-issuing"), &signer("pin")]);
        thief.args(["m2key-issuing-1", "certify", issuing]);
        thief.arg(self.world.authority.root()).arg(request);
        let said = Said::by(thief.arg(name)).unwrap();
        let chain = said.out.clone() + &std::fs::read_to_string(issuing).unwrap();
        std::fs::write(certificate, chain).unwrap();
        said
    }
}

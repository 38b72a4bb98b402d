//! `m2key-authority certificate …`: what was issued, and what is no longer good?

use clap::{Args, Subcommand};
use pki::crl::Reason;
use protocol::ids::TerminalId;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{
    CertificateList, CertificateRevoke, CertificateShow, CertificateView, Certificates, Issued,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List certificates: of one holder newest first, otherwise those in force, the first to end first
    List(Of),
    /// Show one certificate and what became of it
    Show {
        /// Serial number in hexadecimal, as `openssl x509 -serial` prints it
        #[arg(value_parser = serial)]
        serial: String,
    },
    /// Refuse one certificate, at once, and put it on the revocation list
    Revoke {
        /// Serial number in hexadecimal, as `openssl x509 -serial` prints it
        #[arg(value_parser = serial)]
        serial: String,
        /// key-compromise, cessation-of-operation, privilege-withdrawn, superseded, ca-compromise or
        /// unspecified
        #[arg(long)]
        reason: Reason,
    },
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Of {
    /// Of this terminal
    #[arg(long)]
    terminal: Option<TerminalId>,
    /// Of this operator
    #[arg(long)]
    operator: Option<String>,
    /// Of this node
    #[arg(long)]
    node: Option<String>,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::List(of) => {
            let verb = CertificateList { of: of.holder() };
            tell(arguments, &ask(arguments, verb)?);
        }
        Verb::Show { serial } => {
            let serial = serial.clone();
            tell(arguments, &ask(arguments, CertificateShow { serial })?);
        }
        Verb::Revoke { serial, reason } => {
            let verb = CertificateRevoke {
                serial: serial.clone(),
                reason: reason.name().into(),
            };
            tell(arguments, &ask(arguments, verb)?);
        }
    }
    Ok(())
}

impl Of {
    fn holder(&self) -> Option<Issued> {
        let operator = || self.operator.clone().map(Issued::Operator);
        let node = || self.node.clone().map(Issued::Node);
        self.terminal
            .map(Issued::Terminal)
            .or_else(operator)
            .or_else(node)
    }
}

/// With or without colons, in either case; our own serial numbers have two digits for every byte.
fn serial(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let hex =
        !digits.is_empty() && digits.len() <= 40 && digits.chars().all(|c| c.is_ascii_hexdigit());
    match hex {
        true => Ok(digits.to_ascii_lowercase()),
        false => Err("1 to 40 hexadecimal digits".into()),
    }
}

impl Say for CertificateView {
    fn say(&self) -> String {
        let Self {
            serial,
            kind,
            subject,
            state,
            issued_at,
            not_after,
            issuer_key,
            ..
        } = self;
        let mut text = format!(
            "serial      {serial}\nof          {kind} {subject}\nstate       {state}\n\
             issued      {issued_at}\ngood until  {not_after}"
        );
        if let (Some(at), Some(reason)) = (self.revoked_at, &self.reason) {
            text += &format!("\nrevoked     {at}: {reason}");
        }
        let times = [
            ("first used", self.used_at),
            ("superseded", self.superseded_at),
        ];
        for (what, at) in times {
            if let Some(at) = at {
                text += &format!("\n{what}  {at}");
            }
        }
        if let Some(renews) = &self.renews {
            text += &format!("\nrenews      {renews}");
        }
        if !issuer_key.is_empty() {
            text += &format!("\nissuing CA  {issuer_key}");
        }
        if let Some(pem) = &self.certificate {
            text += &format!("\n{}", pem.trim_end());
        }
        text
    }
}

impl Say for Certificates {
    fn say(&self) -> String {
        if self.certificates.is_empty() {
            return "no certificates".into();
        }
        let line = |it: &CertificateView| {
            let (kind, subject) = (&it.kind, &it.subject);
            let (serial, state, end) = (&it.serial, &it.state, it.not_after);
            format!("{serial}  {state:10}  until {end}  {kind} {subject}")
        };
        let lines: Vec<_> = self.certificates.iter().map(line).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::serial;

    #[test]
    fn a_serial_number_is_read_as_openssl_prints_it() {
        let ours = Ok("0afe01".to_owned());
        for text in ["0AFE01", "0a:fe:01", "0afe01"] {
            assert_eq!(serial(text), ours, "{text}");
        }
        for text in ["", ":", "0x0a", "-1", &"a".repeat(41)] {
            assert!(serial(text).is_err(), "{text}");
        }
    }
}

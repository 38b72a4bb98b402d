//! Is the authority reached from here, and if not, where does it end?
//!
//! Name, connection, TLS with both certificates, one question: the first step that fails is the finding.
//! A network that shows a sign-in page first is asked for that page.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use protocol::time::{Millis, Timestamp};
use reqwest::Url;
use tokio::net::TcpStream;

use super::kept::Kept;
use super::{Finding, Mover, within};
use crate::authority::CallError;
use crate::authority::client::AuthorityClient;
use crate::authority::names::Names;
use crate::{clock, local};

const SUBJECT: &str = "network";
/// How long a name server, and a connection, may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Of one name, the addresses that are tried.
const ADDRESSES_MAX: usize = 3;
/// Where networks with a sign-in page answer in everybody's name.
const HTTP_PORT: u16 = 80;
/// Network Authentication Required (RFC 6585).
const SIGN_IN_NEEDED: u16 = 511;

/// Where the authority is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    port: u16,
    http_port: u16,
}

/// How far it went.
#[derive(Debug)]
pub(super) enum Reached {
    /// It answered; its clock minus this machine's, to a second.
    Answers {
        offset_ms: Option<Millis>,
    },
    NoName {
        detail: String,
    },
    NoConnection {
        detail: String,
    },
    SignInPage {
        at: Option<String>,
    },
    Failed(CallError),
    /// Connected, and this terminal has nothing to identify itself with.
    NotAsked,
}

impl Place {
    /// Of a checked configuration, whose addresses have a host.
    pub(super) fn of(base: &str) -> Self {
        let url = Url::parse(base).ok();
        let host = url
            .as_ref()
            .and_then(|url| url.host_str().map(str::to_owned));
        Self {
            host: host.unwrap_or_default(),
            port: url
                .and_then(|url| url.port_or_known_default())
                .unwrap_or(443),
            http_port: HTTP_PORT,
        }
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let name = self.host.trim_matches(['[', ']']).to_owned();
        let port = self.port;
        let resolve = move || (name.as_str(), port).to_socket_addrs();
        match within(STEP_TIMEOUT, resolve).await {
            Some(Ok(found)) => Ok(found.take(ADDRESSES_MAX).collect()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("no name server answers".into()),
        }
    }
}

impl Reached {
    pub(super) fn offset_ms(&self) -> Option<Millis> {
        match self {
            Self::Answers { offset_ms } => *offset_ms,
            _ => None,
        }
    }
}

pub(super) async fn look(place: &Place, base: &str, kept: &Kept) -> Reached {
    let addresses = match place.addresses().await {
        Ok(addresses) => addresses,
        Err(detail) => return Reached::NoName { detail },
    };
    let reached = match connect(&addresses).await {
        Ok(()) => ask(base, kept).await,
        Err(detail) => Reached::NoConnection { detail },
    };
    match &reached {
        Reached::NoConnection { .. } | Reached::Failed(_) => {
            let page = sign_in_page(place).await;
            page.map_or(reached, |at| Reached::SignInPage { at })
        }
        _ => reached,
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<(), String> {
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        last = match tokio::time::timeout(STEP_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no answer"),
        };
    }
    Err(last)
}

async fn ask(base: &str, kept: &Kept) -> Reached {
    let (Ok(identity), Ok(trust)) = (&kept.identity, &kept.trust) else {
        return Reached::NotAsked;
    };
    let (clock, names) = (Some(kept.clock.clone()), Names::of_system());
    let Ok(client) = AuthorityClient::new(base, identity, trust.anchors(), clock, &names) else {
        return Reached::NotAsked;
    };
    match client.time().await {
        Ok(there) => Reached::Answers {
            offset_ms: there.map(|there| offset(there, clock::wall())),
        },
        Err(error) => Reached::Failed(error),
    }
}

/// The date of an answer has no milliseconds: it is half a second early in the middle.
fn offset(there: Timestamp, here: Timestamp) -> Millis {
    there - here + 500
}

/// What a network shows that wants people to sign in first; where, if it says.
async fn sign_in_page(place: &Place) -> Option<Option<String>> {
    let url = format!("http://{}:{}/", place.host, place.http_port);
    let answer = local::client().ok()?.get(url).send().await.ok()?;
    let location = answer.headers().get(http::header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    judge_page(&place.host, answer.status().as_u16(), location)
}

fn judge_page(host: &str, status: u16, location: Option<&str>) -> Option<Option<String>> {
    let elsewhere = location.filter(|location| {
        let url = Url::parse(location).ok();
        url.is_some_and(|url| url.host_str().is_some_and(|other| other != host))
    });
    match status {
        SIGN_IN_NEEDED => Some(elsewhere.map(str::to_owned)),
        300..400 => elsewhere.map(|at| Some(at.to_owned())),
        _ => None,
    }
}

pub(super) fn judge(place: &Place, reached: &Reached) -> Finding {
    let Place { host, port, .. } = place;
    let broken = |says, whose, what| Finding::broken(SUBJECT, says, whose, what);
    match reached {
        Reached::Answers { .. } => Finding::ok(
            SUBJECT,
            format!("{host}:{port} answers, and takes this terminal"),
        ),
        Reached::NotAsked => Finding::attention(
            SUBJECT,
            format!("{host}:{port} can be connected; whether it takes this terminal cannot be asked"),
            Mover::Installer,
            "see files and certificate",
        ),
        Reached::NoName { detail } => broken(
            format!("the name {host} is not found ({detail})"),
            Mover::Merchant,
            "check cable or Wi-Fi of this PC; if other pages open, have your installer check its name server"
                .into(),
        ),
        Reached::NoConnection { detail } => broken(
            format!("{host}:{port} cannot be connected ({detail})"),
            Mover::Installer,
            format!("let this PC connect to port {port} (TCP) in firewall and router; if it may, ask the operator of the payment service"),
        ),
        Reached::SignInPage { at } => broken(
            "this network wants somebody to sign in first".into(),
            Mover::Merchant,
            match at {
                Some(at) => format!("open {at} in a browser on this PC and sign in"),
                None => "open any page in a browser on this PC and sign in".into(),
            },
        ),
        Reached::Failed(error) => failed(error),
    }
}

fn failed(error: &CallError) -> Finding {
    let says = error.to_string();
    match error {
        CallError::Unreachable { .. } => Finding::broken(
            SUBJECT,
            format!("the connection is cut before there is an answer: {says}"),
            Mover::Installer,
            "let firewall and virus scanner pass this connection as it is, without opening it",
        ),
        CallError::Refused(problem) if problem.status >= 500 => {
            Finding::attention(SUBJECT, says, Mover::Nobody, error.hint())
        }
        CallError::ForeignServer { .. }
        | CallError::Elsewhere { .. }
        | CallError::Answer { .. }
        | CallError::Fingerprint { .. } => {
            Finding::broken(SUBJECT, says, Mover::Installer, error.hint())
        }
        CallError::OwnCertificate { .. } | CallError::Refused(_) => {
            Finding::broken(SUBJECT, says, Mover::Operator, error.hint())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_place_is_host_and_port_of_the_configured_address() {
        let place = Place::of("https://pay.example:8444");
        assert_eq!((place.host.as_str(), place.port), ("pay.example", 8444));
        assert_eq!(Place::of("https://pay.example").port, 443);
    }

    #[test]
    fn only_an_answer_that_leads_elsewhere_is_a_sign_in_page() {
        let to = |status, location| judge_page("pay.example", status, location);
        assert_eq!(to(302, Some("https://pay.example/")), None);
        assert_eq!(to(301, Some("/home")), None);
        assert_eq!(to(200, None), None);
        assert_eq!(to(404, Some("https://other.example/")), None);
        let page = "http://login.hotel.example/?x";
        assert_eq!(to(302, Some(page)), Some(Some(page.into())));
        assert_eq!(to(511, None), Some(None));
    }

    #[tokio::test]
    async fn a_network_that_answers_in_the_authoritys_name_is_found_out() {
        let portal = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Place {
            host: "127.0.0.1".into(),
            port: 1,
            http_port: portal.local_addr().unwrap().port(),
        };
        tokio::spawn(async move {
            let (mut stream, _) = portal.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 302 Found\r\nlocation: http://login.hotel.example/\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let at = sign_in_page(&place).await;
        assert_eq!(at, Some(Some("http://login.hotel.example/".into())));
        let finding = judge(&place, &Reached::SignInPage { at: at.flatten() });
        assert_eq!(finding.verdict, Verdict::Broken);
        let fix = finding.fix.unwrap();
        assert_eq!(fix.whose, Mover::Merchant);
        assert!(fix.what.contains("login.hotel.example"), "{fix:?}");
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_and_a_port_where_nobody_listens_are_different_findings() {
        let nowhere = Place::of("https://terminals.invalid:8444");
        assert!(nowhere.addresses().await.is_err());
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        assert!(connect(&[address]).await.is_err());
    }

    #[test]
    fn whose_move_a_failed_call_is_depends_on_who_failed() {
        let whose = |error: CallError| failed(&error).fix.unwrap().whose;
        let detail = String::new;
        assert_eq!(
            whose(CallError::OwnCertificate { detail: detail() }),
            Mover::Operator
        );
        assert_eq!(
            whose(CallError::ForeignServer { detail: detail() }),
            Mover::Installer
        );
        assert_eq!(
            whose(CallError::Unreachable { detail: detail() }),
            Mover::Installer
        );
    }
}

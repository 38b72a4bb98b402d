//! Where may a webhook lead? Not into our own house.
//!
//! A merchant names the address, and the authority calls it from inside its network: so only https, and
//! only addresses of the public internet. Names are judged by what they resolve to, at every connection,
//! and the connection goes to exactly what was judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Longest address, in bytes.
pub const URL_MAX: usize = 512;

/// Why a webhook may not lead there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("not an address of at most {URL_MAX} bytes")]
    Unreadable,
    #[error("not https")]
    Plain,
    #[error("a name or password in it")]
    Credentials,
    #[error("a private address")]
    Private,
}

/// Reads an address and judges it as far as that can be without asking anybody. `private`: addresses of
/// the own network are allowed, and on this machine plain HTTP.
pub fn check(url: &str, private: bool) -> Result<Url, Forbidden> {
    if url.len() > URL_MAX {
        return Err(Forbidden::Unreadable);
    }
    let url = Url::parse(url).map_err(|_| Forbidden::Unreadable)?;
    let host = url.host_str().ok_or(Forbidden::Unreadable)?;
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Forbidden::Credentials);
    }
    let here = private && literal.is_some_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !(here && url.scheme() == "http") {
        return Err(Forbidden::Plain);
    }
    if literal.is_some_and(|ip| !private && !is_public(ip)) {
        return Err(Forbidden::Private);
    }
    Ok(url)
}

/// Resolves names to addresses that a webhook may lead to, and to no others.
pub struct Resolver {
    private: bool,
}

impl Resolver {
    pub fn new(private: bool) -> Self {
        Self { private }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = |at: &SocketAddr| private || is_public(at.ip());
            let allowed: Vec<_> = found.filter(allowed).collect();
            if allowed.is_empty() {
                return Err(Box::new(Forbidden::Private).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// An address of the public internet, and of nothing special.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// The registry of special addresses (RFC 6890), and what was added since.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || a == 10
        || (a == 100 && (64..128).contains(&b))
        || a == 127
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224;
    !special
}

/// Global unicast only; what wraps an IPv4 address is judged by it.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let parts = ip.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => inner(high, low),
        // Teredo, benchmarks, ORCHID and documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [first, ..] => (0x2000..0x4000).contains(&first) && first != 0x3fff,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_webhook_leads_into_no_private_network() {
        let private = [
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://172.31.0.1/",
            "https://192.168.1.1/hook",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://[64:ff9b::a00:1]/",
            "https://[2002:a00:1::]/",
            // The same in other clothes, which the parser takes off.
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
        ];
        for url in private {
            assert_eq!(check(url, false), Err(Forbidden::Private), "{url}");
        }
        for url in [
            "https://shop.example/hook",
            "https://8.8.8.8/",
            "https://[2606:4700::1]/",
        ] {
            assert!(check(url, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_webhook_is_https_and_carries_no_password() {
        let of = |url| check(url, false).unwrap_err();
        assert_eq!(of("http://shop.example/"), Forbidden::Plain);
        assert_eq!(of("file:///etc/passwd"), Forbidden::Unreadable);
        assert_eq!(of("https://me:pw@shop.example/"), Forbidden::Credentials);
        assert_eq!(of("nonsense"), Forbidden::Unreadable);
        assert_eq!(
            of(&format!("https://a.example/{}", "x".repeat(URL_MAX))),
            Forbidden::Unreadable
        );
        assert!(check("http://127.0.0.1:9/", true).is_ok());
        assert_eq!(check("http://10.0.0.1/", true), Err(Forbidden::Plain));
        assert!(check("https://10.0.0.1/", true).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_followed() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(Resolver::new(false).resolve(name()).await.is_err());
        assert!(Resolver::new(true).resolve(name()).await.is_ok());
    }
}

//! Do two addresses lead to the same place?
//!
//! As RFC 9449 compares `htu`: scheme, host, port and path, normalised by RFC 3986, 6.2.2 and 6.2.3;
//! what follows a `?` or a `#` does not count.

use alloc::string::String;
use alloc::vec::Vec;

/// Whether both are `http` or `https` addresses of the same place.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    match (Place::read(one), Place::read(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

#[derive(PartialEq, Eq)]
struct Place {
    scheme: String,
    authority: String,
    path: String,
}

impl Place {
    fn read(address: &str) -> Option<Self> {
        let (scheme, rest) = address.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "https" => ":443",
            "http" => ":80",
            _ => return None,
        };
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let rest = &rest[..end];
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let plain = authority.strip_suffix(default_port).unwrap_or(&authority);
        let plain = plain.strip_suffix(':').unwrap_or(plain);
        if plain.is_empty() || plain.contains('@') {
            return None;
        }
        Some(Self {
            scheme,
            authority: plain.into(),
            path: without_dots(&unescaped(path)?),
        })
    }
}

/// Escapes of what needs none are undone, the others written in capitals.
fn unescaped(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, escape)) = rest.split_once('%') {
        let digits = escape.get(..2)?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        // from_str_radix takes a sign.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        normal.push_str(before);
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            normal.push('%');
            normal.push_str(&digits.to_ascii_uppercase());
        }
        rest = &escape[2..];
    }
    normal.push_str(rest);
    Some(normal)
}

/// RFC 3986, 5.2.4, for a path that starts at the root.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let last = segments.clone().count() - 1;
    for (place, segment) in segments.enumerate() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if place == last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    let mut whole = String::from("/");
    whole.push_str(&kept.join("/"));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_make_another_place() {
        for same in [
            "https://pay.example/v1/claims",
            "HTTPS://Pay.Example:443/v1/claims",
            "https://pay.example:/v1/claims",
            "https://pay.example/v1/./x/../claims",
            "https://pay.example/%76%31/claims",
            "https://pay.example/v1/claims?a=b",
            "https://pay.example/v1/claims#there",
        ] {
            assert!(is_same(same, "https://pay.example/v1/claims"), "{same}");
        }
        assert!(is_same("http://pay.example", "http://pay.example:80/"));
        assert!(is_same("https://a.b/%c3%a9", "https://a.b/%C3%A9"));
    }

    #[test]
    fn another_scheme_host_port_or_path_is_another_place() {
        for other in [
            "http://pay.example/v1/claims",
            "https://pay.example:8443/v1/claims",
            "https://pay.example.evil.example/v1/claims",
            "https://me@pay.example/v1/claims",
            "https://pay.example/v1/claims/",
            "https://pay.example/v1/Claims",
            "https://pay.example/v1%2Fclaims",
            "https://pay.example/v1/claims%",
            "https://pay.example/v1/claims%+1",
            "https:///v1/claims",
            "ftp://pay.example/v1/claims",
            "/v1/claims",
            "",
        ] {
            assert!(!is_same(other, "https://pay.example/v1/claims"), "{other}");
        }
    }
}

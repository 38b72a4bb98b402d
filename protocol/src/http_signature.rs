//! Who sent this HTTP request, and is it whole?
//!
//! HTTP message signatures (RFC 9421) with `ecdsa-p256-sha256`, over a body bound by its digest (RFC 9530).
//! One profile: what is signed is said by the caller, the lifetime is short, the nonce is used once, and the
//! `tag` says what the request is for, so that a signature for one purpose serves no other.
//!
//! ```text
//! signer    components ─▶ base ─▶ SHA-256 ─▶ HSM ─▶ Signature-Input, Signature
//! verifier  Signature-Input ─▶ the same base from what arrived ─▶ key of keyid ─▶ Verified
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use base64ct::{Base64, Encoding};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest, Sha256};

use crate::jwk::JwkSet;

/// The one signature of a request of ours.
pub const LABEL: &str = "m2key";
pub const ALGORITHM: &str = "ecdsa-p256-sha256";
/// How long a signature is good for, in seconds.
pub const LIFETIME_S: i64 = 60;
/// How far two clocks may differ, in seconds.
pub const SKEW_S: i64 = 30;
/// Longest `Signature-Input` that is read, in bytes, and most components in it.
pub const INPUT_MAX: usize = 2_048;
pub const COMPONENTS_MAX: usize = 16;

/// A component as its name stands in the signature, e.g. `@method` or `content-type`, and its value.
pub type Component<'a> = (&'a str, &'a str);

/// What a signature says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Unix seconds.
    pub created: i64,
    pub expires: i64,
    /// Never used before with this key.
    pub nonce: String,
    pub keyid: String,
    /// What the request is for.
    pub tag: String,
}

/// A request that is ready to be signed, in the HSM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    input: String,
    base: String,
}

/// The two headers of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub signature_input: String,
    pub signature: String,
}

/// The value of `Content-Digest` for this body.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", Base64::encode_string(&Sha256::digest(body)))
}

impl Unsigned {
    pub fn new(components: &[Component<'_>], parameters: &Parameters) -> Self {
        let names: Vec<_> = components.iter().map(|(name, _)| *name).collect();
        let input = input_of(&names, parameters);
        Self {
            base: base_of(components.iter().copied(), &input),
            input,
        }
    }

    /// SHA-256 of the signature base (RFC 9421, section 2.5).
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.base.as_bytes()).into()
    }

    /// With `r || s` (RFC 9421, section 3.3.4).
    pub fn with_signature(self, signature: &[u8; 64]) -> Signed {
        Signed {
            signature_input: format!("{LABEL}={}", self.input),
            signature: format!("{LABEL}=:{}:", Base64::encode_string(signature)),
        }
    }
}

/// What a verifier demands.
#[derive(Debug, Clone, Copy)]
pub struct Demands<'a> {
    pub tag: &'a str,
    /// Must all be signed; what else is signed is welcome.
    pub covered: &'a [&'a str],
    /// Unix seconds.
    pub now: i64,
}

/// A request whose signature was verified; only [`verify`] makes one. Whether its nonce was seen before,
/// and whether the body fits its digest, is the caller's to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified(Parameters);

impl Verified {
    pub fn parameters(&self) -> &Parameters {
        &self.0
    }
}

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("no signature with this tag")]
    Absent,
    #[error("its headers cannot be read")]
    Malformed,
    #[error("something that must be signed is not")]
    NotCovered,
    #[error("something that is signed is not there")]
    ComponentMissing,
    #[error("another algorithm than ecdsa-p256-sha256")]
    Algorithm,
    #[error("from the future, over, or good for too long")]
    Stale,
    #[error("a key that is not known, not for this, or not believed any more")]
    Key,
    #[error("the signature does not fit")]
    Signature,
}

/// Verifies the signature of a request that carries this tag. `component` answers the value of a component
/// as it arrived.
pub fn verify(
    signature_input: &str,
    signature: &str,
    component: impl Fn(&str) -> Option<String>,
    keys: &JwkSet,
    demands: &Demands<'_>,
) -> Result<Verified, BadSignature> {
    let input = find_input(signature_input, demands.tag)?;
    let covers = |name: &&str| input.names.iter().any(|own| own == name);
    if !demands.covered.iter().all(covers) {
        return Err(BadSignature::NotCovered);
    }
    check_time(&input.parameters, demands.now)?;
    let jwk = keys
        .find(&input.parameters.keyid)
        .ok_or(BadSignature::Key)?;
    if !jwk.may_sign(demands.tag) || jwk.m2key_tainted_at.is_some() {
        return Err(BadSignature::Key);
    }
    let key = jwk.verifying_key().map_err(|_| BadSignature::Key)?;
    let signature = signature_of(signature, input.label).ok_or(BadSignature::Malformed)?;
    let base = base_again(&input, component)?;
    key.verify_prehash(&Sha256::digest(base.as_bytes()), &signature)
        .map_err(|_| BadSignature::Signature)?;
    Ok(Verified(input.parameters))
}

/// One member of `Signature-Input`, as it was written.
struct Input<'a> {
    label: &'a str,
    /// The inner list with its parameters: the last line of the base.
    text: &'a str,
    names: Vec<&'a str>,
    parameters: Parameters,
}

fn find_input<'a>(header: &'a str, tag: &str) -> Result<Input<'a>, BadSignature> {
    if header.len() > INPUT_MAX {
        return Err(BadSignature::Malformed);
    }
    let members = split_outside_quotes(header, ',').ok_or(BadSignature::Malformed)?;
    let mut found = None;
    for member in members {
        let (label, text) = member
            .trim()
            .split_once('=')
            .ok_or(BadSignature::Malformed)?;
        // Somebody else's signature beside ours, e.g. of a proxy, need not be of this profile.
        let Some(input) = read_input(label, text).filter(|it| it.parameters.tag == tag) else {
            continue;
        };
        if found.replace(input).is_some() {
            return Err(BadSignature::Malformed);
        }
    }
    let input = found.ok_or(BadSignature::Absent)?;
    match parameter(input.text, "alg") {
        None => Ok(input),
        Some(alg) if unquoted(alg) == Some(ALGORITHM) => Ok(input),
        Some(_) => Err(BadSignature::Algorithm),
    }
}

fn read_input<'a>(label: &'a str, text: &'a str) -> Option<Input<'a>> {
    let (list, _) = text.strip_prefix('(')?.split_once(')')?;
    let names: Vec<_> = list
        .split_ascii_whitespace()
        .map(unquoted)
        .collect::<Option<_>>()?;
    let unique = |(place, name): (usize, &&str)| !names[..place].contains(name);
    if names.len() > COMPONENTS_MAX || !names.iter().enumerate().all(unique) {
        return None;
    }
    let integer = |name| parameter(text, name)?.parse().ok();
    let string = |name| Some(unquoted(parameter(text, name)?)?.to_string());
    let parameters = Parameters {
        created: integer("created")?,
        expires: integer("expires")?,
        nonce: string("nonce")?,
        keyid: string("keyid")?,
        tag: string("tag")?,
    };
    Some(Input {
        label,
        text,
        names,
        parameters,
    })
}

/// The value of a parameter behind the inner list, as it is written; none if it is there twice.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(')')?;
    let mut found = None;
    for part in split_outside_quotes(rest, ';')? {
        let Some((own, value)) = part.trim().split_once('=') else {
            continue;
        };
        if own == name && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

/// The contents of a string without escapes: nothing that this profile signs needs one.
fn unquoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains(['"', '\\'])).then_some(inner)
}

/// None if a quotation does not end.
fn split_outside_quotes(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut quoted, mut start, mut parts) = (false, 0, Vec::new());
    for (place, letter) in text.char_indices() {
        if letter == '"' {
            quoted = !quoted;
        } else if letter == at && !quoted {
            parts.push(&text[start..place]);
            start = place + letter.len_utf8();
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

fn check_time(parameters: &Parameters, now: i64) -> Result<(), BadSignature> {
    let Parameters {
        created, expires, ..
    } = *parameters;
    let short = expires
        .checked_sub(created)
        .is_some_and(|s| (1..=LIFETIME_S).contains(&s));
    let begun = created <= now.saturating_add(SKEW_S);
    let over = expires < now.saturating_sub(SKEW_S);
    if short && begun && !over {
        Ok(())
    } else {
        Err(BadSignature::Stale)
    }
}

fn signature_of(header: &str, label: &str) -> Option<Signature> {
    let members = header.split(',').map(str::trim);
    let mut own = members.filter_map(|member| {
        let (name, value) = member.split_once('=')?;
        (name == label).then_some(value)
    });
    let value = own.next()?;
    if own.next().is_some() {
        return None;
    }
    let encoded = value.strip_prefix(':')?.strip_suffix(':')?;
    Signature::from_slice(&Base64::decode_vec(encoded).ok()?).ok()
}

fn base_again(
    input: &Input<'_>,
    component: impl Fn(&str) -> Option<String>,
) -> Result<String, BadSignature> {
    let mut values = Vec::with_capacity(input.names.len());
    for name in &input.names {
        let value = component(name).ok_or(BadSignature::ComponentMissing)?;
        // A line break in a value would be another line of the base.
        if value.contains(['\n', '\r']) {
            return Err(BadSignature::Malformed);
        }
        values.push((*name, value));
    }
    let lines = values.iter().map(|(name, value)| (*name, value.as_str()));
    Ok(base_of(lines, input.text))
}

fn base_of<'a>(components: impl Iterator<Item = Component<'a>>, input: &str) -> String {
    let mut base = String::new();
    for (name, value) in components {
        // Writing to a String does not fail.
        let _ = writeln!(base, "\"{name}\": {value}");
    }
    let _ = write!(base, "\"@signature-params\": {input}");
    base
}

fn input_of(names: &[&str], parameters: &Parameters) -> String {
    let list: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let Parameters {
        created,
        expires,
        nonce,
        keyid,
        tag,
    } = parameters;
    format!(
        "({});created={created};expires={expires};nonce=\"{nonce}\";alg=\"{ALGORITHM}\";\
         keyid=\"{keyid}\";tag=\"{tag}\"",
        list.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::hazmat::PrehashSigner;

    use super::*;
    use crate::jwk::Jwk;
    use crate::typ;

    const NOW: i64 = 1_618_884_473;
    const COVERED: [&str; 3] = ["@method", "@target-uri", "content-digest"];

    fn value(name: &str) -> Option<String> {
        let value = match name {
            "@method" => "POST",
            "@target-uri" => "https://bank.example/rail/authorise",
            "content-digest" => return Some(content_digest(b"{}")),
            _ => return None,
        };
        Some(value.into())
    }

    fn key() -> (SigningKey, Jwk) {
        let key = SigningKey::from_slice(&[7; 32]).expect("below the order of the curve");
        let point = key.verifying_key().to_sec1_point(false);
        let point = point.as_bytes().try_into().expect("65 bytes");
        let mut jwk = Jwk::from_point(&point).expect("a point of the curve");
        jwk.m2key_typ = vec![typ::RAIL_REQUEST.into()];
        (key, jwk)
    }

    fn parameters(keyid: &str) -> Parameters {
        Parameters {
            created: NOW,
            expires: NOW + LIFETIME_S,
            nonce: "once".into(),
            keyid: keyid.into(),
            tag: typ::RAIL_REQUEST.into(),
        }
    }

    fn signed(change: impl Fn(&mut Parameters)) -> (Signed, JwkSet) {
        let (key, jwk) = key();
        let mut parameters = parameters(jwk.kid.as_deref().expect("a thumbprint"));
        change(&mut parameters);
        let digest = content_digest(b"{}");
        let values = COVERED.map(|name| (name, value(name).unwrap_or_default()));
        let components: Vec<_> = values.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(components[2].1, digest);
        let unsigned = Unsigned::new(&components, &parameters);
        let signature: Signature = key.sign_prehash(&unsigned.digest()).expect("long enough");
        let signed = unsigned.with_signature(&signature.to_bytes().into());
        (signed, JwkSet { keys: vec![jwk] })
    }

    fn judge(signed: &Signed, keys: &JwkSet, now: i64) -> Result<Verified, BadSignature> {
        let demands = Demands {
            tag: typ::RAIL_REQUEST,
            covered: &COVERED,
            now,
        };
        verify(
            &signed.signature_input,
            &signed.signature,
            value,
            keys,
            &demands,
        )
    }

    /// RFC 9421, appendix B.2.4: the base as we lay it out, and the RFC's own signature over it.
    #[test]
    fn the_vector_of_the_rfc_verifies() {
        let body_digest = "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWd\
                           XymyU0rjJuahq4l5aGgfLQ==:";
        let components = [
            ("@status", "200"),
            ("content-type", "application/json"),
            ("content-digest", body_digest),
            ("content-length", "23"),
        ];
        let input = "(\"@status\" \"content-type\" \"content-digest\" \"content-length\");\
                     created=1618884473;keyid=\"test-key-ecc-p256\"";
        let base = base_of(components.into_iter(), input);
        let header = "sig-b24=:wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5e\
                      CdlYUEkLIj+32oiasw==:";
        let signature = signature_of(header, "sig-b24").expect("64 bytes");
        let jwk = r#"{"kty":"EC","crv":"P-256",
            "x":"qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA",
            "y":"Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0"}"#;
        let jwk: Jwk = serde_json::from_str(jwk).expect("a key");
        let key = jwk.verifying_key().expect("on the curve");
        let digest = Sha256::digest(base.as_bytes());
        assert!(key.verify_prehash(&digest, &signature).is_ok());
        let other = base.replace("23", "24");
        let digest = Sha256::digest(other.as_bytes());
        assert!(key.verify_prehash(&digest, &signature).is_err());
    }

    #[test]
    fn what_was_signed_verifies_until_it_is_over() {
        let (signed, keys) = signed(|_| {});
        let verified = judge(&signed, &keys, NOW).expect("good");
        assert_eq!(verified.parameters().nonce, "once");
        let last = NOW + LIFETIME_S + SKEW_S;
        assert!(judge(&signed, &keys, last).is_ok());
        assert_eq!(judge(&signed, &keys, last + 1), Err(BadSignature::Stale));
        assert!(judge(&signed, &keys, NOW - SKEW_S).is_ok());
        let early = judge(&signed, &keys, NOW - SKEW_S - 1);
        assert_eq!(early, Err(BadSignature::Stale));
    }

    #[test]
    fn a_signature_that_lives_too_long_is_none() {
        for expires in [NOW + LIFETIME_S + 1, NOW, NOW - 1, i64::MAX, i64::MIN] {
            let (signed, keys) = signed(|it| it.expires = expires);
            assert_eq!(
                judge(&signed, &keys, NOW),
                Err(BadSignature::Stale),
                "{expires}"
            );
        }
    }

    #[test]
    fn whatever_is_changed_on_the_way_is_found() {
        let (signed, keys) = signed(|_| {});
        let input = &signed.signature_input;
        for (from, to) in [
            ("once", "more"),
            ("1618884473", "1618884474"),
            ("\"@method\" ", ""),
            ("\"@method\"", "\"@status\""),
            (";alg=", ";gla="),
            ("ecdsa-p256-sha256", "hmac-sha256"),
            ("m2key-rail", "m2key-webhook"),
            ("m2key=(", "sig1=("),
        ] {
            let changed = Signed {
                signature_input: input.replacen(from, to, 1),
                ..signed.clone()
            };
            assert_ne!(&changed.signature_input, input, "{from}");
            assert!(judge(&changed, &keys, NOW).is_err(), "{from}");
        }
        let demands = Demands {
            tag: typ::RAIL_REQUEST,
            covered: &COVERED,
            now: NOW,
        };
        for name in COVERED {
            let other = |own: &str| match own == name {
                true => Some("something else".into()),
                false => value(own),
            };
            let verified = verify(input, &signed.signature, other, &keys, &demands);
            assert_eq!(verified, Err(BadSignature::Signature), "{name}");
        }
    }

    #[test]
    fn a_key_signs_only_what_it_is_for_and_only_while_it_is_believed() {
        let (signed, mut keys) = signed(|_| {});
        keys.keys[0].m2key_tainted_at = Some(NOW + 1);
        assert_eq!(judge(&signed, &keys, NOW), Err(BadSignature::Key));
        keys.keys[0].m2key_tainted_at = None;
        keys.keys[0].m2key_typ = vec![typ::RECEIPT.into()];
        assert_eq!(judge(&signed, &keys, NOW), Err(BadSignature::Key));
        let empty = JwkSet::default();
        assert_eq!(judge(&signed, &empty, NOW), Err(BadSignature::Key));
    }

    #[test]
    fn two_that_claim_to_be_the_one_are_none() {
        let (signed, keys) = signed(|_| {});
        let twice = Signed {
            signature_input: format!("{0}, {0}", signed.signature_input),
            ..signed.clone()
        };
        assert_eq!(judge(&twice, &keys, NOW), Err(BadSignature::Malformed));
        let beside = Signed {
            signature_input: format!("proxy=(\"via\");created=1, {}", signed.signature_input),
            signature: format!("proxy=:AAAA:, {}", signed.signature),
        };
        assert!(judge(&beside, &keys, NOW).is_ok());
    }

    #[test]
    fn nothing_that_anybody_sends_makes_it_panic() {
        let (signed, keys) = signed(|_| {});
        let whole = &signed.signature_input;
        for end in 0..whole.len() {
            let cut = Signed {
                signature_input: whole[..end].into(),
                ..signed.clone()
            };
            assert!(judge(&cut, &keys, NOW).is_err());
        }
        for odd in [
            "",
            "=",
            "m2key",
            "m2key=",
            "m2key=)",
            "m2key=(\"",
            "é=(é);é",
            ",,,",
        ] {
            let odd = Signed {
                signature_input: odd.into(),
                signature: odd.into(),
            };
            assert!(judge(&odd, &keys, NOW).is_err());
        }
    }
}

//! What does a signed statement (JWS) say, and who signed it?
//!
//! Compact (RFC 7515, 7.1), or within JSON in the general or flattened way (7.2): trust bundles,
//! transcripts. Also JWK sets. Claims are told as they stand; what they mean is for whoever they are for.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::JWS_MAX;
use protocol::typ::{SignedBy, signed_by};
use serde_json::Value;

use super::Against;
use super::certificate::signs_as;
use super::page::Page;
use crate::certificate::Certificate;
use crate::dates::in_words;

/// Most statements and keys of one file.
const STATEMENTS_MAX: usize = 512;
/// Most claims told of one statement, and the longest value told whole, in characters.
const CLAIMS_MAX: usize = 256;
const VALUE_MAX: usize = 160;

/// A statement in its parts, still encoded.
struct Statement<'a> {
    payload: &'a str,
    /// Protected header and signature, each.
    signatures: Vec<(&'a str, &'a str)>,
}

/// The paragraphs of a compact JWS, or of every one in a JSON text; none if there is nothing of that.
pub(super) fn statements(text: &str, against: &Against) -> Vec<String> {
    let text = text.trim();
    if let Some(statement) = compact(text) {
        return vec![describe(&statement, against)];
    }
    let mut told = Vec::new();
    if let Ok(document) = serde_json::from_str::<Value>(text) {
        walk(&document, against, &mut told);
    }
    told
}

/// serde_json limits the depth.
fn walk(value: &Value, against: &Against, told: &mut Vec<String>) {
    if told.len() >= STATEMENTS_MAX {
        return;
    }
    if let Some(statement) = in_json(value) {
        told.push(describe(&statement, against));
    } else if let Some(statement) = value.as_str().and_then(compact) {
        told.push(describe(&statement, against));
    } else if value.get("kty").is_some() {
        told.push(key(value));
    } else if let Some(list) = value.as_array() {
        list.iter().for_each(|one| walk(one, against, told));
    } else if let Some(members) = value.as_object() {
        members.values().for_each(|one| walk(one, against, told));
    }
}

fn compact(text: &str) -> Option<Statement<'_>> {
    let mut parts = text.split('.');
    let (protected, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_jws = parts.next().is_none() && text.len() <= JWS_MAX && json(protected).is_some();
    is_jws.then(|| Statement {
        payload,
        signatures: vec![(protected, signature)],
    })
}

fn in_json(value: &Value) -> Option<Statement<'_>> {
    let payload = value.get("payload")?.as_str()?;
    let signatures = match value.get("signatures") {
        Some(all) => all.as_array()?.iter().map(pair).collect::<Option<_>>()?,
        None => vec![pair(value)?],
    };
    Some(Statement {
        payload,
        signatures,
    })
}

fn pair(of: &Value) -> Option<(&str, &str)> {
    Some((
        of.get("protected")?.as_str()?,
        of.get("signature")?.as_str()?,
    ))
}

fn describe(statement: &Statement<'_>, against: &Against) -> String {
    let mut page = Page::titled("signed statement");
    for (protected, signature) in &statement.signatures {
        let header = json(protected).unwrap_or(Value::Null);
        page.line("type", text_of(&header, "typ"));
        page.line("algorithm", text_of(&header, "alg"));
        page.line("key", text_of(&header, "kid"));
        let input = format!("{protected}.{}", statement.payload);
        page.line("signature", &check(&header, &input, signature, against));
    }
    match json(statement.payload) {
        Some(claims) => tell_claims(&mut page, &claims),
        None => page.line("claims", "not JSON"),
    }
    page.text
}

fn text_of<'a>(header: &'a Value, name: &str) -> &'a str {
    header.get(name).and_then(Value::as_str).unwrap_or("none")
}

fn check(header: &Value, input: &str, signature: &str, against: &Against) -> String {
    if text_of(header, "alg") != "ES256" || header.get("crit").is_some() {
        return "refused: only ES256 without critical headers is checked here".into();
    }
    let signer = match signer(header, against) {
        Ok(found) => found,
        Err(why) => return why,
    };
    let signature = Base64UrlUnpadded::decode_vec(signature).ok();
    let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
    match signature.map(|signature| signer.key.verify(input.as_bytes(), &signature)) {
        Some(Ok(())) => signer.judge(text_of(header, "typ")),
        _ => "refused: it does not fit".into(),
    }
}

/// Whose key it is, as people gave what proves it.
struct Signer<'a> {
    key: VerifyingKey,
    whose: String,
    may: May<'a>,
}

/// What a key may sign.
enum May<'a> {
    /// All that is signed so.
    As(SignedBy),
    /// What the key set says of it.
    Listed(&'a Jwk),
    Nothing,
}

impl Signer<'_> {
    /// What a signature that fits is worth: any key makes those.
    fn judge(&self, typ: &str) -> String {
        let whose = &self.whose;
        let Some(wanted) = signed_by(typ) else {
            return format!("it fits, {whose}; who may sign this type is not known here");
        };
        let may = match &self.may {
            May::As(role) => *role == wanted,
            May::Listed(jwk) => wanted == SignedBy::Node && jwk.may_sign(typ),
            May::Nothing => false,
        };
        if !may {
            return format!("refused: it is signed {whose}, and that key may not sign this type");
        }
        match self.tainted_at() {
            Some(at) => format!(
                "not believed: it fits, {whose}, tainted at {}; it proves something only if it was \
                 kept since before",
                in_words(at)
            ),
            None => format!("verified, {whose}"),
        }
    }

    fn tainted_at(&self) -> Option<u64> {
        match &self.may {
            May::Listed(jwk) => jwk.m2key_tainted_at.map(|at| at.try_into().unwrap_or(0)),
            May::As(_) | May::Nothing => None,
        }
    }
}

/// The key that a header names, if people gave what proves it.
fn signer<'a>(header: &Value, against: &'a Against) -> Result<Signer<'a>, String> {
    let kid = text_of(header, "kid");
    if let Some(jwk) = against.keys.find(kid) {
        return Ok(Signer {
            key: jwk
                .verifying_key()
                .map_err(|error| format!("refused: {error}"))?,
            whose: "by a key of the key set".into(),
            may: May::Listed(jwk),
        });
    }
    for root in &against.roots {
        if Jwk::from_point(&root.public_point()).is_ok_and(|jwk| jwk.thumbprint() == kid) {
            return Ok(Signer {
                key: *root.verifying_key(),
                whose: format!("by {root:?}"),
                may: May::As(SignedBy::Root),
            });
        }
    }
    let chain = certificates_of(header);
    let Some((own, above)) = chain.split_first() else {
        return Err(
            match against.keys.keys.is_empty() && against.roots.is_empty() {
                true => "not checked: give --jwks or --root".into(),
                false => "not checked: nothing that you gave has this key".into(),
            },
        );
    };
    if against.roots.is_empty() {
        return Err("not checked: it names a certificate; give --root".into());
    }
    match against.leads_to_root_through(own, above) {
        Ok(()) => Ok(Signer {
            key: *own.verifying_key(),
            whose: format!("by {own:?}"),
            may: signs_as(own).map_or(May::Nothing, May::As),
        }),
        Err(error) => Err(format!("refused: {error}")),
    }
}

fn certificates_of(header: &Value) -> Vec<Certificate> {
    let chain = header.get("x5c").and_then(Value::as_array);
    let chain = chain.into_iter().flatten().filter_map(Value::as_str);
    chain.filter_map(certificate).collect()
}

fn certificate(base64: &str) -> Option<Certificate> {
    Certificate::from_der(&Base64::decode_vec(base64).ok()?).ok()
}

fn key(jwk: &Value) -> String {
    let mut page = Page::titled("public key of a key set");
    page.line("key", text_of(jwk, "kid"));
    let read: Option<Jwk> = serde_json::from_value(jwk.clone()).ok();
    let usable = read.as_ref().is_some_and(|key| key.verifying_key().is_ok());
    page.line(
        "kind",
        if usable {
            "P-256 for ES256"
        } else {
            "none that M2Key uses"
        },
    );
    let thumbprint = read.map(|key| key.thumbprint()).unwrap_or_default();
    if usable && thumbprint != text_of(jwk, "kid") {
        page.line(
            "check",
            &format!("its thumbprint is another one: {thumbprint}"),
        );
    }
    if let Some(at) = jwk.get("m2key_tainted_at").and_then(Value::as_u64) {
        page.line("tainted", &in_words(at));
    }
    let signs = jwk.get("m2key_typ").and_then(Value::as_array);
    for typ in signs.into_iter().flatten().filter_map(Value::as_str) {
        page.line("signs", typ);
    }
    for certificate in certificates_of(jwk) {
        page.line("certificate", &format!("{certificate:?}"));
    }
    page.text
}

fn tell_claims(page: &mut Page, claims: &Value) {
    let mut all = Vec::new();
    flatten("", claims, &mut all);
    let more = all.len().saturating_sub(CLAIMS_MAX);
    for (name, value) in all.into_iter().take(CLAIMS_MAX) {
        page.line(&name, &value);
    }
    if more > 0 {
        page.line("…", &format!("and {more} more"));
    }
}

/// `roots.0.state` and its value.
fn flatten(name: &str, value: &Value, all: &mut Vec<(String, String)>) {
    let below = |member: &str| match name {
        "" => member.to_owned(),
        name => format!("{name}.{member}"),
    };
    match value {
        Value::Object(members) => {
            members
                .iter()
                .for_each(|(member, value)| flatten(&below(member), value, all));
        }
        Value::Array(list) => {
            let numbered = list.iter().enumerate();
            numbered.for_each(|(index, value)| flatten(&below(&index.to_string()), value, all));
        }
        plain => all.push((name.to_owned(), tell(name, plain))),
    }
}

fn tell(name: &str, value: &Value) -> String {
    if let Some(found) = value
        .as_str()
        .filter(|_| name.contains("x5c"))
        .and_then(certificate)
    {
        return format!("{found:?}, fingerprint {}", found.fingerprint());
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_time = ["iat", "nbf", "exp"].contains(&last)
        || ["_at", "_from", "_until", "_after", "_before"]
            .iter()
            .any(|end| last.ends_with(end));
    match (value.as_u64(), value.as_str()) {
        (Some(unix), _) if is_time => format!("{unix} ({})", in_words(unix)),
        (_, Some(text)) => shortened(text),
        _ => shortened(&value.to_string()),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.into(),
    }
}

fn json(base64url: &str) -> Option<Value> {
    let bytes = Base64UrlUnpadded::decode_vec(base64url).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The JWK set in a file that people gave.
pub(super) fn key_set(bytes: &[u8]) -> Option<JwkSet> {
    serde_json::from_slice(bytes).ok()
}

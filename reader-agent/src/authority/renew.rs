//! How does a terminal get its next certificate from the authority it has already?
//!
//! EST's simplereenroll (RFC 7030, 4.2.2) under the certificate that is renewed, also when that one has
//! expired: the handshake proves the old key. The same key again gets the same certificate, so an answer
//! that was lost is simply asked for again.

use base64ct::{Base64, Encoding};
use pki::{BadCertificate, Certificate, SoftwareKey, SpiffeId, TrustAnchors, csr, est};
use protocol::time::Timestamp;
use protocol::wire::upkeep::REENROL_PATH;

use super::client::{AuthorityClient, body};
use super::failure::CallError;
use crate::identity::Identity;

/// Asks for the certificate of `key`; what comes back is for this terminal and leads to a trusted root.
///
/// It may have expired already, if the answer is an old one that had been lost: then it is the way to the
/// next.
pub async fn ask(
    client: &AuthorityClient,
    current: &Identity,
    key: &SoftwareKey,
    trust: &TrustAnchors,
    now: Timestamp,
) -> Result<Vec<Certificate>, CallError> {
    let own = SpiffeId::Terminal(current.terminal());
    let request = csr::new(key, &own, current.domain()).map_err(CallError::answer)?;
    let request = client
        .post(REENROL_PATH)
        .header(http::header::CONTENT_TYPE, "application/pkcs10")
        .body(Base64::encode_string(&request));
    let mut answer =
        est::decode(&body(client.send(request).await?).await?).map_err(CallError::answer)?;
    let leaf = est::certificate_for(&answer, &key.spki_sha256())
        .ok_or_else(|| CallError::answer("no certificate of our key in it"))?;
    check_name(&leaf, current)?;
    answer.extend(client.cacerts().await?);
    let issuing = leading(&leaf, &answer, trust, now)?;
    Ok([vec![leaf], issuing].concat())
}

/// What leads from this leaf to the roots, of all that the authority shows; to every root, if several do.
pub async fn issuing(
    client: &AuthorityClient,
    leaf: &Certificate,
    trust: &TrustAnchors,
    now: Timestamp,
) -> Result<Vec<Certificate>, CallError> {
    leading(leaf, &client.cacerts().await?, trust, now)
}

/// Those of `candidates` over which `leaf` leads to a trusted root (issuing CAs have no CA below them).
pub(super) fn leading(
    leaf: &Certificate,
    candidates: &[Certificate],
    trust: &TrustAnchors,
    now: Timestamp,
) -> Result<Vec<Certificate>, CallError> {
    let roots = trust.roots();
    let (mut found, mut refusal) = (Vec::<Certificate>::new(), BadCertificate::NoIssuer);
    for candidate in candidates.iter().filter(|c| !roots.contains(c)) {
        if trust.denied().denies(candidate) {
            refusal = BadCertificate::Denied;
            continue;
        }
        for root in roots {
            match follow(leaf, candidate, root, now) {
                Ok(()) if found.contains(candidate) => {}
                Ok(()) => found.push(candidate.clone()),
                Err(error) => refusal = error,
            }
        }
    }
    if found.is_empty() {
        return Err(CallError::answer(format!(
            "the certificate does not lead to a trusted root: {refusal}"
        )));
    }
    Ok(found)
}

/// The dates of the leaf are the authority's matter: our clock may be late, and what puts it right comes
/// over the stream that needs this certificate.
fn follow(
    leaf: &Certificate,
    issuing: &Certificate,
    root: &Certificate,
    now: Timestamp,
) -> Result<(), BadCertificate> {
    let at = (now.secs().max(0) as u64).max(leaf.not_before());
    match pki::verify_chain(leaf, std::slice::from_ref(issuing), root, at) {
        Ok(_) | Err(BadCertificate::Expired { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn check_name(leaf: &Certificate, current: &Identity) -> Result<(), CallError> {
    match pki::identity_of(leaf.der(), current.domain()) {
        Ok(peer) if peer.id == SpiffeId::Terminal(current.terminal()) => Ok(()),
        Ok(_) => Err(CallError::answer(
            "the certificate is not one for this terminal",
        )),
        Err(error) => Err(CallError::answer(error)),
    }
}

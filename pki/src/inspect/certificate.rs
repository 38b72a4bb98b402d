//! What does a certificate say, and does it lead to a root?

use protocol::typ::SignedBy;
use x509_cert::Certificate as AnyCertificate;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage, SubjectAltName,
};

use super::Against;
use super::page::Page;
use crate::certificate::{BadCertificate, Certificate, serial_hex};
use crate::chain::Fingerprint;
use crate::names::{SpiffeId, TrustDomain};
use crate::profiles::{CLIENT_AUTH, DOCUMENT_SIGNING, SERVER_AUTH};
use crate::verify;

pub(super) fn certificate(found: &AnyCertificate, der: &[u8], against: &Against) -> String {
    let tbs = found.tbs_certificate();
    let validity = tbs.validity();
    let names: Option<SubjectAltName> = tbs.get_extension().ok().flatten().map(|(_, names)| names);
    let mut page = Page::titled("certificate");
    page.line("kind", &kind(found, der, names.as_ref()));
    page.line("subject", &tbs.subject().to_string());
    page.line("issuer", &tbs.issuer().to_string());
    page.line("serial", &serial_hex(found));
    page.line(
        "valid",
        &format!("from {} to {}", validity.not_before, validity.not_after),
    );
    page.key(tbs.subject_public_key_info());
    page.names("name", &names.unwrap_or_default().0);
    page.line("may", &purpose(found));
    page.names("listed at", &list_places(found));
    page.line("check", &check(der, against));
    page.line("fingerprint", &Fingerprint::of(der).to_string());
    page.text
}

/// Whether it leads to one of the roots that people gave.
fn check(der: &[u8], against: &Against) -> String {
    if against.roots.is_empty() {
        return "signature not checked: give --root".into();
    }
    match Certificate::from_der(der) {
        Ok(found) if against.roots.contains(&found) => "it is a root that you gave".into(),
        Ok(found) => match against.leads_to_root(&found) {
            Ok(()) => "leads to a root that you gave".into(),
            Err(error) => format!("refused: {error}"),
        },
        Err(error) => format!("refused: {error}"),
    }
}

fn list_places(found: &AnyCertificate) -> Vec<GeneralName> {
    let points = found
        .tbs_certificate()
        .get_extension::<CrlDistributionPoints>();
    let points = points
        .ok()
        .flatten()
        .map(|(_, points)| points.0)
        .unwrap_or_default();
    let names = points
        .into_iter()
        .filter_map(|point| match point.distribution_point? {
            DistributionPointName::FullName(names) => Some(names),
            DistributionPointName::NameRelativeToCRLIssuer(_) => None,
        });
    names.flatten().collect()
}

/// Which of M2Key's certificates this is, or why it is none of them.
fn kind(found: &AnyCertificate, der: &[u8], names: Option<&SubjectAltName>) -> String {
    let ours = Certificate::from_der(der);
    let role = match ours {
        Err(error) => Err(error),
        Ok(own) if verify::check_root(&own).is_ok() => Ok("root".into()),
        Ok(_) if is_ca(found) => Ok("issuing CA".into()),
        Ok(own) => end_entity(&own, names),
    };
    role.unwrap_or_else(|error| format!("none that M2Key issues ({error})"))
}

fn end_entity(
    certificate: &Certificate,
    names: Option<&SubjectAltName>,
) -> Result<String, BadCertificate> {
    let domain = domain_of(names)?;
    if let Some(node) = verify::statement_of(certificate, &domain)? {
        return Ok(format!("statements of authority {node} of {domain}"));
    }
    let id = verify::peer(certificate, &domain)?.id;
    Ok(format!("{} {} of {domain}", id.role(), id.name()))
}

fn domain_of(names: Option<&SubjectAltName>) -> Result<TrustDomain, BadCertificate> {
    let uri = names
        .iter()
        .flat_map(|names| &names.0)
        .find_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
            _ => None,
        });
    let domain = uri.and_then(|uri| uri.strip_prefix("spiffe://")?.split('/').next());
    domain
        .ok_or(BadCertificate::NotOneName)?
        .parse()
        .map_err(BadCertificate::Name)
}

/// As whom the key of this certificate signs statements; none if it is for something else.
pub(super) fn signs_as(certificate: &Certificate) -> Option<SignedBy> {
    let names = certificate.x509().tbs_certificate().get_extension();
    let (_, names): (bool, SubjectAltName) = names.ok().flatten()?;
    let domain = domain_of(Some(&names)).ok()?;
    if let Ok(Some(_)) = verify::statement_of(certificate, &domain) {
        return Some(SignedBy::Node);
    }
    match verify::peer(certificate, &domain).ok()?.id {
        SpiffeId::Operator(_) => Some(SignedBy::Operator),
        SpiffeId::Terminal(_) | SpiffeId::Authority(_) => None,
    }
}

fn is_ca(found: &AnyCertificate) -> bool {
    constraints(found).is_some_and(|constraints| constraints.ca)
}

fn constraints(found: &AnyCertificate) -> Option<BasicConstraints> {
    let extension = found.tbs_certificate().get_extension();
    extension.ok().flatten().map(|(_, constraints)| constraints)
}

fn purpose(found: &AnyCertificate) -> String {
    if let Some(BasicConstraints {
        ca: true,
        path_len_constraint,
    }) = constraints(found)
    {
        return match path_len_constraint {
            Some(0) => "issue to machines and operators, not to other CAs".into(),
            Some(levels) => format!("issue, with at most {levels} CA below it"),
            None => "issue, with any number of CAs below it".into(),
        };
    }
    let extension = found.tbs_certificate().get_extension::<ExtendedKeyUsage>();
    let purposes = extension
        .ok()
        .flatten()
        .map(|(_, usage)| usage.0)
        .unwrap_or_default();
    let words = purposes.iter().map(|purpose| match *purpose {
        SERVER_AUTH => "be a TLS server".into(),
        CLIENT_AUTH => "be a TLS client".into(),
        DOCUMENT_SIGNING => "sign statements".into(),
        other => format!("serve purpose {other}"),
    });
    let words: Vec<String> = words.collect();
    match words.is_empty() {
        true => "nothing in particular".into(),
        false => words.join(", "),
    }
}

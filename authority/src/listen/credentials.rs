//! What does a listener show, and whom does it believe, while both change under it?
//!
//! Every handshake takes the configuration of its moment; connections that are open keep theirs. What
//! comes from outside is looked at before it is published: a file that is half written, foreign or
//! expired changes nothing but readiness.

use std::fs::Metadata;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use pki::{Certificate, Chain, Denied, SpiffeId, TrustDomain, validity};
use rustls::ServerConfig;

use super::pair;
use super::tls::{self, Own, TlsError, failed};
use crate::app::App;
use crate::clock::unix_seconds;
use crate::config::CertificateFiles;

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Phones: whatever certificate the operator chose.
    Anybody,
    /// Terminals and operators: only a certificate of our own PKI.
    OurOwn,
}

/// The certificate, key and trust of one listener, as of now.
#[derive(Debug)]
pub struct Credentials {
    pub(super) name: &'static str,
    pub(super) files: CertificateFiles,
    audience: Audience,
    config: RwLock<Arc<ServerConfig>>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    own: Own,
    /// What the files looked like when they were read last, good or not.
    stamp: Stamp,
    /// What is believed besides.
    believed: Believed,
}

/// Who is believed, and which certificates lead to a root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Believed {
    anchors: Vec<Certificate>,
    issuing: Vec<Certificate>,
    /// Keys that nobody is believed by.
    denied: Denied,
    /// The root that what we show should lead to.
    active: Option<Certificate>,
}

impl Believed {
    fn lead_to(&self, issuing: &Certificate) -> bool {
        self.anchors.iter().any(|root| leads(issuing, root))
    }
}

fn leads(issuing: &Certificate, root: &Certificate) -> bool {
    Chain::new(issuing.clone(), root.clone()).is_ok()
}

/// When a file was written, and how long it is: another one has another stamp.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Credentials {
    /// What is there at the start is served even if it has expired: readiness says so, and renewal is
    /// done by the running daemon.
    pub fn open(
        app: &App,
        name: &'static str,
        files: &CertificateFiles,
        audience: Audience,
    ) -> Result<Arc<Self>, TlsError> {
        pair::heal(files).map_err(|error| failed(&files.certificate, error))?;
        let stamp = stamp(files);
        let (own, believed) = (Own::load(files)?, believed(app, audience));
        let config = configure(&own, &believed, audience, &app.config.trust.domain);
        let config = config.map_err(|error| failed(&files.certificate, error))?;
        let opened = Self {
            name,
            files: files.clone(),
            audience,
            config: RwLock::new(config),
            kept: Mutex::new(Kept {
                own: own.clone(),
                stamp,
                believed,
            }),
        };
        opened.show(app, &own);
        let doubt = opened.doubt(app, &own);
        app.watchlist
            .warn(name, doubt.map(|doubt| format!("{name}: {doubt}")));
        Ok(Arc::new(opened))
    }

    /// For the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        config.clone()
    }

    /// Its own certificate, if it is of a kind that we issue.
    pub(super) fn leaf(&self) -> Option<Certificate> {
        Certificate::from_der(self.kept().own.chain().first()?).ok()
    }

    /// Its own certificate, and whatever may lead from it to a root.
    pub(super) fn shown(&self) -> Vec<Certificate> {
        let kept = self.kept();
        let own = kept.own.chain().iter();
        let own = own.filter_map(|der| Certificate::from_der(der).ok());
        own.chain(kept.believed.issuing.iter().cloned()).collect()
    }

    /// Takes up files that have changed, or all of them if `again`. What is refused stays refused until
    /// the files change; false if something is.
    pub(super) fn reread(&self, app: &App, again: bool) -> bool {
        let stamp = stamp(&self.files);
        if self.kept().stamp == stamp && !again {
            return true;
        }
        self.kept().stamp = stamp;
        let read = Own::load(&self.files).and_then(|own| match self.doubt(app, &own) {
            None => Ok(own),
            Some(doubt) => Err(failed(&self.files.certificate, doubt)),
        });
        match read {
            Ok(own) => {
                self.kept().own = own.clone();
                self.publish(app, &own, "taken-up")
            }
            Err(error) => self.refuse(app, &error),
        }
    }

    /// Follows the roots and the issuing CAs.
    pub(super) fn follow(&self, app: &App) {
        let believed = believed(app, self.audience);
        if self.kept().believed == believed {
            return;
        }
        self.kept().believed = believed;
        let own = self.kept().own.clone();
        self.publish(app, &own, "trust");
    }

    fn publish(&self, app: &App, own: &Own, why: &'static str) -> bool {
        let believed = self.kept().believed.clone();
        match configure(own, &believed, self.audience, &app.config.trust.domain) {
            Ok(config) => {
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                self.show(app, own);
                app.watchlist.warn(self.name, None);
                count(app, self.name, why);
                tracing::info!(listener = self.name, why, "new handshakes see the change");
                true
            }
            Err(error) => self.refuse(app, &failed(&self.files.certificate, error)),
        }
    }

    fn refuse(&self, app: &App, error: &TlsError) -> bool {
        count(app, self.name, "refused");
        tracing::warn!(listener = self.name, %error, "the old certificate is shown on");
        let warning = format!("{}: the new files are not used: {error}", self.name);
        app.watchlist.warn(self.name, Some(warning));
        false
    }

    fn show(&self, app: &App, own: &Own) {
        let ends = own.chain().first().and_then(|leaf| validity(leaf).ok());
        if let Some((_, not_after)) = ends {
            let chain = own.chain().iter();
            let chain = chain.filter_map(|der| Certificate::from_der(der).ok());
            app.watchlist.shows(self.name, not_after, chain.collect());
        }
    }

    /// Why this should not take the place of a certificate that works.
    fn doubt(&self, app: &App, own: &Own) -> Option<String> {
        let now = unix_seconds(app.clock.now());
        let leaf = own.chain().first()?;
        match validity(leaf) {
            Err(error) => return Some(error.to_string()),
            Ok((not_before, _)) if now < not_before => return Some("it is not valid yet".into()),
            Ok((_, not_after)) if now > not_after => return Some("it has expired".into()),
            Ok(_) => {}
        }
        match self.audience {
            Audience::Anybody => None,
            Audience::OurOwn => foreign(app, own, now),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why terminals and operators would not believe it.
fn foreign(app: &App, own: &Own, now: u64) -> Option<String> {
    let read: Result<Vec<_>, _> = own
        .chain()
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect();
    let (mut others, leaf) = match read {
        Ok(mut all) if !all.is_empty() => {
            let leaf = all.remove(0);
            (all, leaf)
        }
        Ok(_) => return Some("there is no certificate in it".into()),
        Err(error) => return Some(error.to_string()),
    };
    others.extend(believed(app, Audience::OurOwn).issuing);
    let verified = app.trust().anchors().verify(&leaf, &others, now);
    let named = verified.and_then(|leaf| leaf.identity(&app.config.trust.domain));
    match named {
        Ok(peer) if peer.id == SpiffeId::Authority(app.config.node.clone()) => None,
        Ok(peer) => Some(format!("it names {}, not this node", peer.id.name())),
        Err(error) => Some(error.to_string()),
    }
}

/// Roots, and issuing CAs that hang on them: a terminal's certificate stays good when the same issuing
/// CA moves under another root.
fn believed(app: &App, audience: Audience) -> Believed {
    if audience == Audience::Anybody {
        return Believed::default();
    }
    let trust = app.trust();
    let issuing: Vec<Certificate> = app
        .issuer
        .issuing_cas()
        .iter()
        .map(|ca| ca.chain.issuing())
        .filter(|issuing| trust.anchors().chain_of(issuing).is_ok())
        .cloned()
        .collect();
    Believed {
        anchors: [trust.roots(), &issuing[..]].concat(),
        issuing,
        denied: trust.denied().clone(),
        active: Some(trust.active().clone()),
    }
}

fn configure(
    own: &Own,
    believed: &Believed,
    audience: Audience,
    domain: &TrustDomain,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    if audience == Audience::Anybody {
        return tls::public(own);
    }
    let ways = ways(own, believed);
    let own = match ways.is_empty() {
        true => own.clone(),
        false => own.with_ways(&ways),
    };
    tls::private(&own, &believed.anchors, &believed.denied, domain)
}

/// The ways from our certificate to the active root; to any that is believed, as long as none leads
/// there. Not all of them: OpenSSL tries one way only, and takes the one that ends last.
fn ways(own: &Own, believed: &Believed) -> Vec<Certificate> {
    let mut all = own
        .chain()
        .iter()
        .flat_map(|der| Certificate::from_der(der));
    let Some(leaf) = all.next() else {
        return Vec::new();
    };
    let mut ways: Vec<Certificate> = Vec::new();
    for way in believed.issuing.iter().cloned().chain(all) {
        let leads_up = leaf.is_issued_by(&way) && believed.lead_to(&way);
        if leads_up && !ways.contains(&way) {
            ways.push(way);
        }
    }
    let active = believed.active.as_ref();
    let to_active = |way: &&Certificate| active.is_some_and(|root| leads(way, root));
    let preferred: Vec<Certificate> = ways.iter().filter(to_active).cloned().collect();
    if preferred.is_empty() {
        ways
    } else {
        preferred
    }
}

fn stamp(files: &CertificateFiles) -> Stamp {
    let of = |path: &Path| {
        let metadata: Metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [of(&files.certificate), of(&files.key)]
}

pub(super) fn count(app: &App, listener: &'static str, outcome: &'static str) {
    let counters = &app.metrics.credentials;
    counters.with_label_values(&[listener, outcome]).inc();
}

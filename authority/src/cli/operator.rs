//! `m2key-authority operator …` and `renew operator`: how do operators come, go and go on?

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use hsm::{Hsm, HsmError, KeyKind, KeyLabel};
use pki::crl::Reason;
use pki::{Fingerprint, OperatorKey, PkiError, Segment, SoftwareKey, SpiffeId, TrustDomain, csr};
use serde::Serialize;

use super::daemon::{Desk, ask};
use super::own::{Own, open_hsm};
use super::renew::{Renewed, holder};
use super::{Arguments, CliError, Exit, Say, runtime, tell};
use crate::app::load_certificate;
use crate::clock::{Clock, SystemClock};
use crate::config::{CertificateFiles, OperatorHsm, OperatorKeyPlace, check_address};
use crate::listen::pair;
use crate::services::operators::{
    CertificateIssue, IssuedView, OperatorAdd, OperatorList, OperatorRevoke, OperatorView,
    Operators, Renewal,
};
use pki::process;

/// Largest certificate request, or vouch, that is read, in bytes.
const REQUEST_MAX: u64 = 8 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a key and a certificate request for a new operator: on their machine, by themself
    Request(Request),
    /// Make somebody an operator, with the certificate request that they brought
    Add {
        name: String,
        /// The request, PEM
        #[arg(long)]
        request: PathBuf,
        /// Write the certificate to this new file
        #[arg(long)]
        certificate: PathBuf,
        /// What `m2key-pki root vouch` wrote, when too few operators are left to consent
        #[arg(long)]
        vouch: Option<PathBuf>,
    },
    /// List operators, and how long their certificates are good
    List,
    /// From now on somebody is no operator: their connections are cut, their certificates revoked
    Revoke {
        name: String,
        /// cessation-of-operation, key-compromise, privilege-withdrawn, superseded or unspecified
        #[arg(long)]
        reason: Reason,
    },
}

#[derive(Debug, Args)]
pub(super) struct Request {
    name: String,
    /// Write <name>.csr, <name>.toml and, without --module, <name>.key to this folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// PKCS#11 library of an HSM token or smart card that shall hold the key
    #[arg(long, requires_all = ["token_label", "pin_file"])]
    module: Option<PathBuf>,
    /// Label of the HSM token
    #[arg(long, requires = "module")]
    token_label: Option<String>,
    /// File with the PIN of the HSM token
    #[arg(long, requires = "module")]
    pin_file: Option<PathBuf>,
    /// Label of the key; made if it is not there
    #[arg(long, requires = "module", default_value = "m2key-operator")]
    key_label: String,
    /// The authority's listener for operators, https://host:port: nothing of its own folder is read then
    #[arg(long, value_name = "URL", requires_all = ["root", "trust_domain"])]
    authority: Option<String>,
    /// Its root certificate; compare the fingerprint that is shown with the one that init printed
    #[arg(long, requires = "authority")]
    root: Option<PathBuf>,
    /// Its trust domain
    #[arg(long, requires = "authority")]
    trust_domain: Option<TrustDomain>,
}

/// An authority of another account or machine.
struct Elsewhere {
    address: String,
    root: PathBuf,
    fingerprint: Fingerprint,
    domain: TrustDomain,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Request(request) => tell(arguments, &request.make(arguments)?),
        Verb::Add {
            name,
            request,
            certificate,
            vouch,
        } => {
            let vouch = vouch.as_deref().map(read_vouch).transpose()?;
            let request = read_request(request)?;
            let name = name.clone();
            let verb = OperatorAdd {
                name,
                request,
                vouch,
            };
            tell(arguments, &add(arguments, verb, certificate)?);
        }
        Verb::List => tell(arguments, &ask(arguments, OperatorList {})?),
        Verb::Revoke { name, reason } => {
            let verb = OperatorRevoke {
                name: name.clone(),
                reason: reason.name().into(),
            };
            tell(arguments, &ask(arguments, verb)?);
        }
    }
    Ok(())
}

impl Request {
    fn make(&self, arguments: &Arguments) -> Result<Requested, CliError> {
        let elsewhere = self.elsewhere()?;
        let domain = match &elsewhere {
            Some(elsewhere) => elsewhere.domain.clone(),
            None => arguments.load_config()?.trust.domain,
        };
        let name: Segment = self.name.parse().map_err(PkiError::from)?;
        let id = SpiffeId::Operator(name);
        make_folder(&self.dir)?;
        let (key, mut profile) = match self.hsm()? {
            Some(hsm) => {
                let key = runtime()?.block_on(key_in(&hsm))?;
                let profile = card_profile(&self.name, &hsm);
                (key, profile)
            }
            None => {
                let path = self.at("key");
                refuse_existing(&path)?;
                let key = SoftwareKey::generate()?;
                key.save(&path)?;
                let profile = format!("certificate = \"{0}.pem\"\nkey = \"{0}.key\"\n", self.name);
                (OperatorKey::File(key), profile)
            }
        };
        profile += &elsewhere
            .as_ref()
            .map(Elsewhere::section)
            .unwrap_or_default();
        let request = runtime()?.block_on(key.request(&id, &domain))?;
        write_new(&self.at("csr"), csr::to_pem(&request).as_bytes())?;
        write_new(&self.at("toml"), profile.as_bytes())?;
        Ok(Requested {
            name: self.name.clone(),
            request: self.at("csr"),
            profile: self.at("toml"),
            certificate: self.at("pem"),
            root_fingerprint: elsewhere.map(|elsewhere| elsewhere.fingerprint.to_string()),
        })
    }

    fn elsewhere(&self) -> Result<Option<Elsewhere>, CliError> {
        let (Some(address), Some(root), Some(domain)) =
            (&self.authority, &self.root, &self.trust_domain)
        else {
            return Ok(None);
        };
        let address = check_address(address)
            .map_err(|wrong| CliError::new(Exit::Usage, wrong.problem, wrong.hint))?;
        Ok(Some(Elsewhere {
            address,
            fingerprint: load_certificate(root)?.fingerprint(),
            root: absolute(root)?,
            domain: domain.clone(),
        }))
    }

    fn hsm(&self) -> Result<Option<OperatorHsm>, CliError> {
        let (Some(module), Some(token_label), Some(pin_file)) =
            (&self.module, &self.token_label, &self.pin_file)
        else {
            return Ok(None);
        };
        // What the module reads from its environment now, it will need later as well.
        let kept = std::env::var("SOFTHSM2_CONF").ok();
        Ok(Some(OperatorHsm {
            module: absolute(module)?,
            token_label: token_label.clone(),
            key_label: self.key_label.clone(),
            pin_file: absolute(pin_file)?,
            environment: kept
                .map(|conf| ("SOFTHSM2_CONF".to_owned(), conf))
                .into_iter()
                .collect(),
        }))
    }

    fn at(&self, end: &str) -> PathBuf {
        self.dir.join(format!("{}.{end}", self.name))
    }
}

impl Elsewhere {
    fn section(&self) -> String {
        format!(
            "\n[authority]\naddress = {}\nroot = {}\ndomain = {}\n",
            string(&self.address),
            string(&self.root.display().to_string()),
            string(self.domain.as_str()),
        )
    }
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| CliError::file(path, &error))
}

fn string(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// For a key: only its owner looks into it. One that is there stays as it is.
fn make_folder(dir: &Path) -> Result<(), CliError> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|error| CliError::file(dir, &error))
}

async fn key_in(place: &OperatorHsm) -> Result<OperatorKey, CliError> {
    process::ensure_environment(&place.environment)?;
    let hsm: Arc<dyn Hsm> = Arc::new(open_hsm(place)?);
    let label = KeyLabel(place.key_label.clone());
    match hsm.generate_key(KeyKind::Signing, &label).await {
        Ok(()) | Err(HsmError::LabelTaken { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(OperatorKey::in_hsm(hsm, label).await?)
}

fn card_profile(name: &str, hsm: &OperatorHsm) -> String {
    let mut text = format!(
        "certificate = \"{name}.pem\"\n\n[pkcs11]\nmodule = {}\ntoken_label = {}\nkey_label = {}\n\
         pin_file = {}\n",
        string(&hsm.module.display().to_string()),
        string(&hsm.token_label),
        string(&hsm.key_label),
        string(&hsm.pin_file.display().to_string()),
    );
    for (name, value) in &hsm.environment {
        text += &format!("\n[pkcs11.environment]\n{name} = {}\n", string(value));
    }
    text
}

/// The file is made first: a certificate that cannot be put anywhere is not asked for.
fn add(arguments: &Arguments, verb: OperatorAdd, certificate: &Path) -> Result<Added, CliError> {
    let desk = Desk::open(arguments)?;
    let mut file = new_file(certificate)?;
    let asked = desk.ask(verb);
    let issued = asked.inspect_err(|_| {
        // Nothing is in it; the refusal is what matters.
        let _ = std::fs::remove_file(certificate);
    })?;
    file.write_all(issued.chain.as_bytes())
        .map_err(|error| CliError::file(certificate, &error))?;
    Ok(Added {
        certificate: certificate.to_owned(),
        not_after: issued.not_after.to_string(),
    })
}

fn read_request(path: &Path) -> Result<String, CliError> {
    let hint = "give the file that `m2key-authority operator request` made";
    read_small(path, hint)
}

fn read_vouch(path: &Path) -> Result<String, CliError> {
    read_small(path, "give the file that `m2key-pki root vouch` wrote")
}

fn read_small(path: &Path, hint: &'static str) -> Result<String, CliError> {
    let failed = |error: &std::io::Error| CliError::file(path, error);
    let length = std::fs::metadata(path)
        .map_err(|error| failed(&error))?
        .len();
    if length > REQUEST_MAX {
        return Err(CliError::new(
            Exit::Refused,
            format!("{}: larger than {REQUEST_MAX} bytes", path.display()),
            hint,
        ));
    }
    std::fs::read_to_string(path).map_err(|error| failed(&error))
}

/// The next certificate of the operator who asks: under a new key, or for the key on the card. To a
/// stopped authority the old key signs for it, also after its certificate has ended.
pub(super) fn renew(arguments: &Arguments) -> Result<(), CliError> {
    let config = match arguments.offline {
        true => arguments.load_config()?.into(),
        false => arguments.load_asking()?,
    };
    holder(&config.trust, &config.operator.certificate)?;
    let place = config.operator;
    let desk = Desk::open(arguments)?;
    let (fresh, issued) = desk.run(async {
        let own = desk.own().await?;
        let fresh = match &place.key {
            OperatorKeyPlace::File(_) => Some(SoftwareKey::generate()?),
            OperatorKeyPlace::Hsm(_) => None,
        };
        let request = csr::to_pem(&request_for(&desk, &own, fresh.as_ref()).await?);
        let proof = match arguments.offline {
            true => {
                let now = SystemClock.now().secs();
                Some(own.state(&Renewal::new(&own.name, &request, now)).await?)
            }
            false => None,
        };
        let operator = own.name.clone();
        let verb = CertificateIssue {
            request,
            operator,
            proof,
        };
        let issued: IssuedView = desk.send(verb).await?;
        Ok::<_, CliError>((fresh, issued))
    })?;
    let certificate = place.certificate.clone();
    match (&place.key, fresh) {
        (OperatorKeyPlace::File(key), Some(fresh)) => {
            let key = key.clone();
            pair::write(
                &CertificateFiles { certificate, key },
                &fresh,
                &issued.chain,
            )?;
        }
        _ => pair::write_certificate(&certificate, &issued.chain)?,
    }
    tell(
        arguments,
        &Renewed {
            certificate: place.certificate,
            not_after: issued.not_after.to_string(),
        },
    );
    Ok(())
}

async fn request_for(
    desk: &Desk,
    own: &Own,
    fresh: Option<&SoftwareKey>,
) -> Result<Vec<u8>, CliError> {
    let Some(fresh) = fresh else {
        return own.request(&desk.config).await;
    };
    let id = SpiffeId::Operator(own.name.parse().map_err(PkiError::from)?);
    Ok(csr::new(fresh, &id, &desk.config.trust.domain)?)
}

fn refuse_existing(path: &Path) -> Result<(), CliError> {
    match path.exists() {
        false => Ok(()),
        true => Err(CliError::new(
            Exit::Refused,
            format!("{} exists, and is not replaced", path.display()),
            "choose another --dir, or move the old file away",
        )),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let mut file = new_file(path)?;
    file.write_all(bytes)
        .map_err(|error| CliError::file(path, &error))
}

fn new_file(path: &Path) -> Result<std::fs::File, CliError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    options
        .open(path)
        .map_err(|error| CliError::file(path, &error))
}

#[derive(Serialize)]
struct Requested {
    name: String,
    request: PathBuf,
    profile: PathBuf,
    certificate: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_fingerprint: Option<String>,
}

#[derive(Serialize)]
struct Added {
    certificate: PathBuf,
    not_after: String,
}

impl Say for Requested {
    fn say(&self) -> String {
        let Self {
            name,
            request,
            profile,
            certificate,
            root_fingerprint,
        } = self;
        let (request, certificate) = (request.display(), certificate.display());
        let asked = match root_fingerprint {
            None => format!(
                "request   {request}\nan operator makes you one with:\n  \
                 m2key-authority operator add {name} --request {request} --certificate {certificate}"
            ),
            Some(fingerprint) => format!(
                "request   {request}\nroot      {fingerprint}\n          \
                 compare it with the one that init printed\n\
                 give the request to an operator, who makes you one with:\n  \
                 m2key-authority operator add {name} --request {name}.csr --certificate {name}.pem\n\
                 and put what you get back to {certificate}"
            ),
        };
        let profile = profile.display();
        format!("{asked}\nthen your verbs are: m2key-authority --as {profile} …")
    }
}

impl Say for Added {
    fn say(&self) -> String {
        let Self {
            certificate,
            not_after,
        } = self;
        format!("{} is good until {not_after}", certificate.display())
    }
}

impl Say for OperatorView {
    fn say(&self) -> String {
        let mut text = format!(
            "{}  {}  added by {} at {}",
            self.name, self.state, self.added_by, self.added_at
        );
        if let Some(until) = self.good_until.filter(|_| self.revoked_at.is_none()) {
            text += &format!(", good until {until}");
        }
        if let (Some(by), Some(at)) = (&self.revoked_by, self.revoked_at) {
            text += &format!(", revoked by {by} at {at}");
        }
        text
    }
}

impl Say for Operators {
    fn say(&self) -> String {
        let lines: Vec<_> = self.operators.iter().map(Say::say).collect();
        lines.join("\n")
    }
}

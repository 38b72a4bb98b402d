//! `m2key-authority init`: what does a new authority need to be told?

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use pki::{DnsName, Segment, TrustDomain, process};
use protocol::link::LinkHost;
use serde::Serialize;

use super::{Arguments, CliError, Exit, Say, runtime, tell};
use crate::clock::SystemClock;
use crate::config::CertificateFiles;
use crate::init::{
    Listen, Made, PinFiles, Plan, SOFTHSM_MODULE, Workplace, make_authority, make_signer,
};

const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";
/// What agents and operators on this machine always may call it.
const LOCAL_NAME: &str = "localhost";

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// Where to make it; must be empty or not exist
    #[arg(long)]
    dir: PathBuf,
    /// The PKCS#11 module
    #[arg(long, default_value = SOFTHSM_MODULE)]
    module: PathBuf,
    /// The host in every link, as phones reach it, e.g. pay.example (asked for if left out)
    #[arg(long)]
    link_host: Option<String>,
    /// A host name or address of this machine for agents; may be given several times
    #[arg(long = "name", value_name = "DNS/IP")]
    names: Vec<String>,
    /// Name of this node, part of its identity
    #[arg(long, default_value = "authority-1")]
    node: String,
    /// Trust domain of all identities issued here
    #[arg(long, default_value = "m2key.example")]
    trust_domain: String,
    /// Name of the first operator
    #[arg(long, default_value = "operator")]
    operator: String,
    /// Certificate chain of the public listener, PEM (left out: one of our own issuing CA, for demos)
    #[arg(long, requires = "public_key")]
    public_cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, requires = "public_cert")]
    public_key: Option<PathBuf>,
    /// Use an existing, empty HSM token labelled m2key-authority with the PIN in this file
    #[arg(long, requires = "issuing_pin_file")]
    pin_file: Option<PathBuf>,
    /// The same for the one labelled m2key-issuing
    #[arg(long, requires = "pin_file")]
    issuing_pin_file: Option<PathBuf>,
    #[arg(long, default_value = "0.0.0.0:8443")]
    public_listen: SocketAddr,
    #[arg(long, default_value = "0.0.0.0:8444")]
    agents_listen: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:9464")]
    loopback_listen: SocketAddr,
    /// Ask nothing: what is not given takes its default
    #[arg(long)]
    non_interactive: bool,
}

pub(super) fn run(arguments: &Arguments, init: &InitArguments) -> Result<(), CliError> {
    // Mistakes in the arguments are told before anything is made or asked.
    let draft = plan(init, "localhost")?;
    let (place, part) = workplace(init)?;
    let made = match &init.link_host {
        Some(_) => part.make(&draft, &place, &[]),
        None => {
            let host = ask_link_host(init)?;
            // The parts that follow are not to ask again.
            let told = ["--link-host".into(), host.clone().into()];
            part.make(&plan(init, &host)?, &place, &told)
        }
    };
    let made = made.inspect_err(|_| place.discard())?;
    tell(arguments, &MadeView::from(made));
    Ok(())
}

/// What this process makes. SoftHSM takes its token folder from the environment, once per process, and
/// signer and authority get one each: then the work goes through three processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Everything,
    /// Only SoftHSM's configurations; then it starts again for the signer.
    Beginning,
    /// The signer; then it starts again for the authority.
    Signer,
    Authority,
}

impl Part {
    fn make(self, plan: &Plan, place: &Workplace, told: &[OsString]) -> Result<Made, CliError> {
        let own_softhsm = self != Self::Everything;
        if self == Self::Beginning {
            place.write_softhsm_confs()?;
            return Err(go_on_with(place.signer_softhsm_conf(), told));
        }
        runtime()?.block_on(async {
            if self != Self::Authority {
                make_signer(plan, place, own_softhsm, &SystemClock).await?;
            }
            if self == Self::Signer {
                return Err(go_on_with(place.softhsm_conf(), told));
            }
            Ok(make_authority(plan, place, own_softhsm, &SystemClock).await?)
        })
    }
}

/// Does not return unless it fails.
fn go_on_with(softhsm_conf: PathBuf, told: &[OsString]) -> CliError {
    let conf = softhsm_conf.display().to_string();
    process::start_again(&BTreeMap::from([(SOFTHSM2_CONF.to_owned(), conf)]), told).into()
}

/// Where this process is in the work.
fn workplace(init: &InitArguments) -> Result<(Workplace, Part), CliError> {
    let resumed = Workplace::resume(&init.dir)?;
    let part = match std::env::var_os(SOFTHSM2_CONF) {
        Some(found) if found == resumed.signer_softhsm_conf().as_os_str() => Part::Signer,
        Some(found) if found == resumed.softhsm_conf().as_os_str() => Part::Authority,
        None if is_softhsm(init) && init.pin_file.is_none() => Part::Beginning,
        _ => Part::Everything,
    };
    match part {
        Part::Signer | Part::Authority => Ok((resumed, part)),
        Part::Everything | Part::Beginning => Ok((Workplace::prepare(&init.dir)?, part)),
    }
}

fn is_softhsm(init: &InitArguments) -> bool {
    let name = init.module.file_name().unwrap_or_default();
    name.to_string_lossy().contains("softhsm")
}

fn plan(init: &InitArguments, asked_host: &str) -> Result<Plan, CliError> {
    let link_host = init.link_host.as_deref().unwrap_or(asked_host);
    let (dns, addresses) = names(init, link_host)?;
    let both = |a: &Option<PathBuf>, b: &Option<PathBuf>| {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Some((absolute(a.as_ref()?), absolute(b.as_ref()?)))
    };
    Ok(Plan {
        module: init.module.clone(),
        node: init
            .node
            .parse::<Segment>()
            .map_err(|e| usage("--node", &e))?,
        domain: init
            .trust_domain
            .parse::<TrustDomain>()
            .map_err(|e| usage("--trust-domain", &e))?,
        link_host: LinkHost::parse(link_host).map_err(|e| usage("--link-host", &e))?,
        dns,
        addresses,
        public: both(&init.public_cert, &init.public_key)
            .map(|(certificate, key)| CertificateFiles { certificate, key }),
        operator: init
            .operator
            .parse::<Segment>()
            .map_err(|e| usage("--operator", &e))?,
        listen: Listen {
            public: init.public_listen,
            agents: init.agents_listen,
            loopback: init.loopback_listen,
        },
        existing_tokens: both(&init.pin_file, &init.issuing_pin_file)
            .map(|(authority, issuing)| PinFiles { authority, issuing }),
    })
}

/// Every name and address given, this machine's own, and the link host's.
fn names(init: &InitArguments, link_host: &str) -> Result<(Vec<DnsName>, Vec<IpAddr>), CliError> {
    let local = [LOCAL_NAME, "127.0.0.1", "::1"].map(str::to_owned);
    let host = link_host.split(':').next().unwrap_or_default().to_owned();
    let (mut dns, mut addresses) = (Vec::new(), Vec::new());
    for name in local.iter().chain(&init.names).chain([&host]) {
        if let Ok(address) = name.parse::<IpAddr>() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        } else {
            let name = name
                .parse::<DnsName>()
                .map_err(|e| usage(&format!("--name {name}"), &e))?;
            if !dns.contains(&name) {
                dns.push(name);
            }
        }
    }
    Ok((dns, addresses))
}

fn ask_link_host(init: &InitArguments) -> Result<String, CliError> {
    let default = match init.public_listen.port() {
        0 => LOCAL_NAME.to_owned(),
        port => format!("{LOCAL_NAME}:{port}"),
    };
    let stdin = std::io::stdin();
    if init.non_interactive || !stdin.is_terminal() {
        return Ok(default);
    }
    eprint!("Host that phones reach, part of every link [{default}]: ");
    let failed = |error: std::io::Error| CliError::new(Exit::Usage, error, "use --link-host");
    std::io::stderr().flush().map_err(failed)?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(failed)?;
    Ok(match line.trim() {
        "" => default,
        host => host.to_owned(),
    })
}

fn usage(argument: &str, error: &dyn std::error::Error) -> CliError {
    CliError::new(
        Exit::Usage,
        format!("{argument}: {error}"),
        "see m2key-authority init --help",
    )
}

#[derive(Serialize)]
struct MadeView {
    dir: PathBuf,
    config: PathBuf,
    signer_config: PathBuf,
    root_fingerprint: String,
    public_certificate_is_ours: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    softhsm_conf: Option<String>,
}

impl From<Made> for MadeView {
    fn from(made: Made) -> Self {
        Self {
            root_fingerprint: made.root_fingerprint.to_string(),
            dir: made.dir,
            config: made.config,
            signer_config: made.signer_config,
            public_certificate_is_ours: made.public_is_ours,
            softhsm_conf: made.softhsm_conf,
        }
    }
}

impl Say for MadeView {
    fn say(&self) -> String {
        let (dir, config) = (self.dir.display(), self.config.display());
        let signer = self.signer_config.display();
        let public = match self.public_certificate_is_ours {
            true => {
                "of our own issuing CA: phones do not know it. Good for a demo; for shoppers put a\n               \
                 public one into [public] of the configuration"
            }
            false => "yours, left where it is",
        };
        format!(
            "A new authority in {dir}:\n\
             \n\
             HSM token      m2key-authority, for seeds and signatures, with its PIN in hsm/\n\
             keys           sealing and binding for seeds; schedule, receipt, checkpoint for signatures\n\
             root           root.pem; its key in root/, encrypted, with its passphrase beside it:\n               \
             move root/ to two places offline, it is needed only for a new issuing CA\n\
             signer         signer/, the issuing CA in a process of its own: HSM token m2key-issuing, PIN,\n               \
             keys, log of everything it signs. Better under an account of its own\n\
             issuing CA     issuing.pem\n\
             agents         agents.pem, the listener for terminals and operators\n\
             operator       operator.pem and operator.key: what the verbs of this command use\n\
             public         certificate {public}\n\
             store          store.sqlite\n\
             \n\
             Root fingerprint (SHA-256), for every machine that enrols:\n\
             {}\n\
             \n\
             Next: m2key-pki signer --config {signer}\n      \
             m2key-authority serve --config {config}",
            self.root_fingerprint
        )
    }
}

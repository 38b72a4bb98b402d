//! What stands in the new configurations?

use std::fmt::Write;
use std::path::Path;

use super::{ISSUING_TOKEN_LABEL, Plan, SIGNER_SOCKET, TOKEN_LABEL};

/// The text of `authority.toml`; `softhsm_conf` goes into the module's environment.
pub(super) fn text(plan: &Plan, softhsm_conf: Option<&str>) -> String {
    let mut text = head(plan);
    hsm_sections(plan, softhsm_conf, &mut text);
    text
}

fn head(plan: &Plan) -> String {
    let Plan {
        node,
        domain,
        listen,
        link_host,
        ..
    } = plan;
    let (certificate, key) = match &plan.public {
        Some(files) => (quoted(&files.certificate), quoted(&files.key)),
        None => (string("public.pem"), string("public.key")),
    };
    let names: Vec<_> = plan.dns.iter().map(|name| string(name.as_str())).collect();
    let addresses = plan
        .addresses
        .iter()
        .map(|address| string(&address.to_string()));
    let names: Vec<_> = names.into_iter().chain(addresses).collect();
    format!(
        "# Made by m2key-authority init. Paths start at this folder.\n\
         node = {}\n\n\
         [trust]\ndomain = {}\nroot = \"root.pem\"\nissuing = \"issuing.pem\"\n\n\
         # Phones. The link host is in every tag and QR code.\n\
         [public]\nlisten = {}\ncertificate = {certificate}\nkey = {key}\nlink_host = {}\n\n\
         # Terminals and operators.\n\
         [agents]\nlisten = {}\ncertificate = \"agents.pem\"\nkey = \"agents.key\"\nnames = [{}]\n\n\
         # Health and metrics.\n\
         [loopback]\nlisten = {}\n\n\
         [operator]\ncertificate = \"operator.pem\"\nkey = \"operator.key\"\n\n\
         [store]\npath = \"store.sqlite\"\n\n\
         # Compared with the store at every start: better on another disk, and never restored with it.\n\
         [fence]\njournal = \"fence.journal\"\n\n",
        string(node.as_str()),
        string(domain.as_str()),
        string(&listen.public.to_string()),
        string(link_host.as_str()),
        string(&listen.agents.to_string()),
        names.join(", "),
        string(&listen.loopback.to_string()),
    )
}

fn hsm_sections(plan: &Plan, softhsm_conf: Option<&str>, text: &mut String) {
    let pin = match &plan.existing_tokens {
        Some(files) => quoted(&files.authority),
        None => string("hsm/authority.pin"),
    };
    let module = quoted(&plan.module);
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "# Seeds and signatures.\n\
         [hsm]\nmodule = {module}\ntoken_label = \"{TOKEN_LABEL}\"\npin_file = {pin}\n"
    );
    if let Some(conf) = softhsm_conf {
        let _ = write!(
            text,
            "\n[hsm.environment]\nSOFTHSM2_CONF = {}\n",
            string(conf)
        );
    }
    let _ = write!(
        text,
        "\n# The issuing CA, in its own process: m2key-pki signer.\n\
         [signer]\nsocket = \"{SIGNER_SOCKET}\"\n"
    );
}

/// The text of `signer/signer.toml`.
pub(super) fn signer(plan: &Plan, softhsm_conf: Option<&str>) -> String {
    let pin = match &plan.existing_tokens {
        Some(files) => quoted(&files.issuing),
        None => string("pin"),
    };
    let mut text = format!(
        "# Made by m2key-authority init. Paths start at this folder.\n\
         trust_domain = {}\nroots = \"roots.pem\"\nstate_dir = \"state\"\nrun_dir = \"run\"\n\n\
         # The issuing keys. No other process opens this HSM token.\n\
         [hsm]\nmodule = {}\ntoken_label = \"{ISSUING_TOKEN_LABEL}\"\npin_file = {pin}\n",
        string(plan.domain.as_str()),
        quoted(&plan.module),
    );
    if let Some(conf) = softhsm_conf {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "\n[hsm.environment]\nSOFTHSM2_CONF = {}\n",
            string(conf)
        );
    }
    text
}

fn quoted(path: &Path) -> String {
    string(&path.display().to_string())
}

fn string(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

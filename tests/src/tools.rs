//! Which tools of others look at our results, and what if one is missing?

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Failure, wait};

/// Debian's package of a tool whose name differs.
const PACKAGES: [(&str, &str); 5] = [
    ("pkcs11-tool", "opensc"),
    ("zbarimg", "zbar-tools"),
    ("pcscd", "pcscd"),
    ("python3", "python3"),
    ("openssl", "openssl"),
];
/// What chromium is called, by distribution.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const SOFTHSM_MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Runs a tool that must exist and must succeed; its standard output.
pub fn run(tool: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = output(tool, arguments)?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "{tool} {}: {out}{err}",
        arguments.join(" ")
    )))
}

/// Runs a tool that must exist, whatever it says.
pub fn output(tool: &str, arguments: &[&str]) -> Result<Output, Failure> {
    let missing = |_| Failure::new(format!("{tool} is missing: {}", install(tool)));
    Command::new(tool).args(arguments).output().map_err(missing)
}

/// SoftHSM's PKCS#11 module.
pub fn softhsm() -> Result<&'static str, Failure> {
    if Path::new(SOFTHSM_MODULE).exists() {
        return Ok(SOFTHSM_MODULE);
    }
    Err(Failure::new(
        "SoftHSM is missing: apt-get install -y softhsm2",
    ))
}

/// The browser, under whatever name.
pub fn browser() -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|dir| BROWSERS.map(|name| dir.join(name)))
        .find(|candidate| candidate.exists())
        .ok_or_else(|| Failure::new("chromium is missing: apt-get install -y chromium"))
}

fn install(tool: &str) -> String {
    let listed = PACKAGES.iter().find(|(name, _)| *name == tool);
    let package = listed.map_or(tool, |(_, package)| package);
    format!("apt-get install -y {package}")
}

/// Takes a screenshot of `url` once what the selector `drawn` names is to be seen; the PNG, in `dir`.
pub async fn screenshot(
    url: &str,
    drawn: &str,
    dir: &Path,
    (width, height): (u32, u32),
) -> Result<PathBuf, Failure> {
    let picture = dir.join("kiosk.png");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/picture.mjs");
    let mut node = tokio::process::Command::new("node");
    node.arg(script).arg(browser()?).args([url, drawn]);
    node.args([width.to_string(), height.to_string()])
        .arg(&picture)
        .kill_on_drop(true);
    let ended = tokio::time::timeout(wait::LIMIT, node.output()).await;
    let output = ended.map_err(Failure::of("chromium takes no picture"))??;
    if output.status.success() {
        return Ok(picture);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "no picture of {url} (the browser driver: scripts/setup.sh test): {err}"
    )))
}

/// What a QR decoder reads off a picture.
pub fn decode_qr(picture: &Path) -> Result<String, Failure> {
    let text = run(
        "zbarimg",
        &["--quiet", "--raw", &picture.display().to_string()],
    )?;
    Ok(text.trim().to_owned())
}

//! Do the Debian packages install, upgrade, go back and go away, and keep what cannot be made again?
//!
//! With the binaries of this build, in a copy of this system that is thrown away.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::process::{Said, program};
use harness::throwaway::Throwaway;

const OLD: &str = "0.1.0~old";
const NEW: &str = "0.1.0~old+new";

/// Builds both packages as this version: the agent's, the authority's.
fn build(out: &Path, version: &str) -> [PathBuf; 2] {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = tests.join("../packaging/debian/build.sh");
    let binaries = program("m2key-agent").unwrap();
    let mut build = Command::new(script);
    build.arg(binaries.parent().unwrap()).arg(out).arg(version);
    Said::by(build.env("COMPRESSION", "none"))
        .unwrap()
        .ok()
        .unwrap();
    let architecture = Said::by(Command::new("dpkg").arg("--print-architecture"))
        .unwrap()
        .out;
    ["m2key-agent", "m2key-authority"]
        .map(|name| out.join(format!("{name}_{version}_{}.deb", architecture.trim())))
}

fn install(system: &Throwaway, package: &Path) -> Said {
    let inside = format!("/tmp/{}", package.file_name().unwrap().display());
    // Whether libraries are there is apt's business, and those of this build are.
    let said = system.run(&["dpkg", "--install", &inside], &[package.to_owned()]);
    said.unwrap().ok().unwrap()
}

/// What a line of shell prints, without the line's end.
fn says(system: &Throwaway, line: &str) -> String {
    system
        .shell(line)
        .unwrap()
        .ok()
        .unwrap()
        .out
        .trim()
        .to_owned()
}

fn is_there(system: &Throwaway, path: &str) -> bool {
    system.shell(&format!("test -e {path}")).unwrap().code == 0
}

#[test]
fn an_agents_package_keeps_identity_and_reports_over_upgrade_rollback_and_purge() {
    let out = tempfile::tempdir().unwrap();
    let [old, _] = build(out.path(), OLD);
    let [new, _] = build(out.path(), NEW);
    let system = Throwaway::of_this_system().unwrap();

    let said = install(&system, &old);
    assert!(said.out.contains("enrol this machine"), "{}", said.out);
    for (path, wanted) in [
        ("/var/lib/m2key-agent", "m2key-agent:m2key-agent 700"),
        ("/usr/bin/m2key-agent", "root:root 755"),
        (
            "/usr/lib/systemd/system/m2key-agent.service",
            "root:root 644",
        ),
        (
            "/usr/share/polkit-1/rules.d/50-m2key-agent.rules",
            "root:root 644",
        ),
        (
            "/usr/lib/udev/rules.d/60-m2key-agent.rules",
            "root:root 644",
        ),
        ("/etc/default/m2key-agent", "root:root 644"),
    ] {
        assert_eq!(
            says(&system, &format!("stat -c '%U:%G %a' {path}")),
            wanted,
            "{path}"
        );
    }
    let version = says(&system, "m2key-agent --version");
    assert!(version.starts_with("m2key-agent "), "{version}");

    // An enrolled terminal with its own settings.
    let as_agent = "runuser -u m2key-agent -- sh -c";
    says(
        &system,
        &format!(
            "{as_agent} 'umask 077; cd /var/lib/m2key-agent; echo k > agent.key; echo r > agent.db'"
        ),
    );
    says(
        &system,
        "echo 'M2KEY_LOG=debug' >> /etc/default/m2key-agent",
    );
    let kept = |when: &str| {
        let files =
            "cd /var/lib/m2key-agent; stat -c '%U %a' . agent.key agent.db; cat agent.key agent.db";
        let wanted = "m2key-agent 700\nm2key-agent 600\nm2key-agent 600\nk\nr";
        assert_eq!(says(&system, files), wanted, "{when}");
    };
    for (package, when) in [(&new, "upgrade"), (&old, "rollback")] {
        install(&system, package);
        kept(when);
        assert_eq!(
            says(&system, "tail -n 1 /etc/default/m2key-agent"),
            "M2KEY_LOG=debug",
            "{when}"
        );
    }

    says(&system, "dpkg --remove m2key-agent");
    kept("removal");
    assert!(!is_there(&system, "/usr/bin/m2key-agent"));
    assert!(is_there(&system, "/etc/default/m2key-agent"));
    let purged = says(&system, "dpkg --purge m2key-agent");
    assert!(purged.contains("is kept"), "{purged}");
    kept("purge");
    assert!(!is_there(&system, "/etc/default/m2key-agent"));

    // What never held a terminal goes without a trace.
    says(
        &system,
        "rm -r /var/lib/m2key-agent && dpkg --install /tmp/m2key-agent_*new*.deb",
    );
    says(&system, "dpkg --purge m2key-agent");
    assert!(!is_there(&system, "/var/lib/m2key-agent"));
    assert_ne!(system.shell("getent passwd m2key-agent").unwrap().code, 0);
}

#[test]
fn an_authoritys_package_makes_two_accounts_and_never_takes_keys_or_books_away() {
    let out = tempfile::tempdir().unwrap();
    let [_, package] = build(out.path(), OLD);
    let system = Throwaway::of_this_system().unwrap();
    install(&system, &package);
    for (path, wanted) in [
        ("/etc/m2key", "m2key:m2key 750"),
        ("/usr/bin/m2key-authority", "root:root 755"),
        ("/usr/bin/m2key-pki", "root:root 755"),
        (
            "/usr/lib/systemd/system/m2key-authority.service",
            "root:root 644",
        ),
        (
            "/usr/lib/systemd/system/m2key-signer.service",
            "root:root 644",
        ),
    ] {
        assert_eq!(
            says(&system, &format!("stat -c '%U:%G %a' {path}")),
            wanted,
            "{path}"
        );
    }
    let groups = says(&system, "id -Gn m2key-signer");
    assert_eq!(groups, "m2key-signer m2key");

    // Owner and mode are the operator's after that.
    says(
        &system,
        "umask 077; echo b > /etc/m2key/store.sqlite; chmod 710 /etc/m2key",
    );
    install(&system, &package);
    assert_eq!(says(&system, "stat -c %a /etc/m2key"), "710");
    let purged = says(&system, "dpkg --purge m2key-authority");
    assert!(purged.contains("/etc/m2key is kept"), "{purged}");
    assert_eq!(says(&system, "cat /etc/m2key/store.sqlite"), "b");
    assert_eq!(says(&system, "id -un m2key"), "m2key");
}

#[test]
fn the_polkit_rule_lets_the_agent_at_readers_and_nobody_else_and_at_nothing_else() {
    let rules = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/polkit/50-m2key-agent.rules"
    );
    let judge = r#"
        let rule;
        globalThis.polkit = { addRule: (it) => { rule = it; }, Result: { YES: "yes" } };
        const text = require("fs").readFileSync(process.argv[1], "utf8");
        require("vm").runInThisContext(text);
        const judge = (id, user) => rule({ id }, { user }) ?? "not handled";
        const card = "org.debian.pcsc-lite.access_card";
        console.log(judge("org.debian.pcsc-lite.access_pcsc", "m2key-agent"));
        console.log(judge(card, "m2key-agent"));
        console.log(judge(card, "www-data"));
        console.log(judge("org.freedesktop.login1.reboot", "m2key-agent"));
    "#;
    let mut node = Command::new("node");
    let said = Said::by(node.args(["-e", judge, rules]))
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(said.out, "yes\nyes\nnot handled\nnot handled\n");
}

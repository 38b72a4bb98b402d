//! The peer: nginx with our certificates, one worker, no tickets, no log.

use std::path::Path;
use std::process::Command;

use harness::authority::Authority;
use harness::process::Daemon;
use harness::{Failure, ports};

/// One that runs in a folder of its own.
pub(crate) struct Nginx {
    daemon: Daemon,
    port: u16,
}

impl Nginx {
    pub(crate) async fn start(
        dir: &Path,
        authority: &Authority,
        agents: u32,
    ) -> Result<Self, Failure> {
        let place = dir.join("nginx");
        std::fs::create_dir_all(place.join("logs"))?;
        let port = ports::free()?;
        let config = place.join("nginx.conf");
        std::fs::write(&config, text(&place, authority, agents, port))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&place).arg("-c").arg(&config);
        let daemon = Daemon::start("nginx", command, &place.join("logs"));
        let mut daemon = daemon.map_err(Failure::of("apt-get install -y nginx-light"))?;
        let listens = async || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
        daemon.ready("nginx to listen", listens).await?;
        Ok(Self { daemon, port })
    }

    /// Of the one process that there is.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn text(place: &Path, authority: &Authority, agents: u32, port: u16) -> String {
    let at = |name: &str| authority.file(name).display().to_string();
    let (certificate, key, root) = (at("agents.pem"), at("agents.key"), at("root.pem"));
    let connections = agents + 1_024;
    let place = place.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {place}/{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid {place}/nginx.pid;\nerror_log stderr crit;\n\
         worker_rlimit_nofile {files};\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n{temporary}    access_log off;\n    keepalive_timeout 3600s;\n    keepalive_requests 1000000000;\n\
         \x20   server {{\n        listen 127.0.0.1:{port} ssl backlog=4096;\n\
         \x20       ssl_certificate {certificate};\n        ssl_certificate_key {key};\n\
         \x20       ssl_protocols TLSv1.3;\n        ssl_session_cache off;\n        ssl_session_tickets off;\n\
         \x20       ssl_client_certificate {root};\n        ssl_verify_client on;\n        ssl_verify_depth 3;\n\
         \x20       location / {{ return 200 \"0123456789abcdef0123456789abcdef\"; }}\n    }}\n}}\n",
        files = connections + 256,
    )
}

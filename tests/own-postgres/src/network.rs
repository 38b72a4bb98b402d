//! How is a cluster reached over the network, and how does it know who asks?

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Cluster;

/// Of [`crate::SUPERUSER`], for whoever comes over the network.
pub const PASSWORD: &str = "seven brown foxes";

/// How a server meets who comes over the network.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Certificate and key in PEM; none: it speaks no TLS.
    pub tls: Option<(String, String)>,
    /// It asks for the password itself, in the place of a proof.
    pub asks_for_password: bool,
}

impl Network {
    pub(crate) fn prepare(&self, cluster: &mut Cluster) {
        cluster.port = free_port();
        cluster.settings.push("listen_addresses=127.0.0.1".into());
        if let Some((certificate, key)) = &self.tls {
            cluster.settings.push("ssl=on".into());
            for (name, pem) in [("certificate", certificate), ("key", key)] {
                let file = cluster.home.join(name);
                write(&file, pem);
                cluster.owner.takes(&file);
                let setting = if name == "key" {
                    "ssl_key_file"
                } else {
                    "ssl_cert_file"
                };
                cluster
                    .settings
                    .push(format!("{setting}={}", file.display()));
            }
        }
        let method = if self.asks_for_password {
            "password"
        } else {
            "scram-sha-256"
        };
        let rules = format!("local all all trust\nhost all all 127.0.0.1/32 {method}\n");
        // In the place of what initdb wrote, whose rules trust the loopback.
        std::fs::write(cluster.data().join("pg_hba.conf"), rules).expect("it is ours");
    }
}

fn write(file: &Path, pem: &str) {
    std::fs::write(file, pem).expect("it is ours");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
}

fn free_port() -> u16 {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    taken.local_addr().expect("it is bound").port()
}

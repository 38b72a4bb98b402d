//! Is the PostgreSQL that is asked over the network ours, and what if it is not?

use std::path::PathBuf;

use authority::store::StoreError;
use authority::store::postgres::{PostgresOptions, PostgresPlace, migrate, open};
use own_postgres::{Cluster, Network, PASSWORD, SUPERUSER};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};

use crate::NODE;
use crate::world::World;

const WRONG_PASSWORD: &str = "eight green foxes";

/// A CA of the test, and the files that a node has.
struct Files {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        Self::of_ca("ours")
    }

    fn of_ca(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Self { dir, ca };
        files.write("root.pem", &files.ca.pem());
        files.write("password", &format!("{PASSWORD}\n"));
        files.write("wrong-password", WRONG_PASSWORD);
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Certificate and key of a server with this name.
    fn server(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn place(&self, cluster: &Cluster) -> PostgresPlace {
        PostgresPlace {
            hosts: vec![format!("127.0.0.1:{}", cluster.port())],
            database: "postgres".into(),
            user: SUPERUSER.into(),
            password_file: Some(self.path("password")),
            root: Some(self.path("root.pem")),
        }
    }
}

fn cluster(files: &Files, name: &str) -> Cluster {
    Cluster::on_network(&Network {
        tls: Some(files.server(name)),
        ..Network::default()
    })
}

/// Not opened: an operator's move, in these words, and no password in it.
#[track_caller]
fn refused(place: PostgresPlace, words: &str) {
    let hosts = place.hosts.join(", ");
    let error = open(PostgresOptions::new(NODE, place)).err().unwrap();
    let said = format!("{error} {error:?}");
    assert!(matches!(error, StoreError::Unusable { .. }), "{said}");
    assert!(
        said.contains(words),
        "{words:?} is not in: {said} ({hosts})"
    );
    assert!(
        !said.contains(PASSWORD) && !said.contains(WRONG_PASSWORD),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_server_is_spoken_to_by_tls_1_3_and_a_bound_proof() {
    let files = Files::new();
    let cluster = cluster(&files, "127.0.0.1");
    migrate(&files.place(&cluster)).unwrap();
    let store = open(PostgresOptions::new(NODE, files.place(&cluster))).unwrap();
    let world = World::new(std::sync::Arc::new(store));
    world.shopper("anna", 100).await;
    let versions = cluster.sql(
        "postgres",
        "SELECT DISTINCT version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name LIKE 'm2key-authority%'",
    );
    assert_eq!(versions, "TLSv1.3");
    world.check_books_and_audit().await;
}

#[test]
fn a_server_that_is_not_ours_is_refused() {
    let files = Files::new();
    let cluster = cluster(&files, "127.0.0.1");
    let other = PostgresPlace {
        root: Some({
            files.write("other.pem", &Files::of_ca("theirs").ca.pem());
            files.path("other.pem")
        }),
        ..files.place(&cluster)
    };
    refused(other, "UnknownIssuer");
    let renamed = self::cluster(&files, "elsewhere.example");
    refused(files.place(&renamed), "not valid for name");
    let rootless = PostgresPlace {
        root: None,
        ..files.place(&cluster)
    };
    refused(rootless, "no root says which server is ours");
    let garbled = PostgresPlace {
        root: Some(files.path("password")),
        ..files.place(&cluster)
    };
    refused(garbled, "it holds no certificate");
    let nowhere = PostgresPlace {
        root: Some(files.path("nowhere.pem")),
        ..files.place(&cluster)
    };
    refused(nowhere, "nowhere.pem");
}

#[test]
fn a_server_without_tls_gets_neither_words_nor_password() {
    let files = Files::new();
    let plain = Cluster::on_network(&Network::default());
    refused(files.place(&plain), "does not support TLS");
}

#[test]
fn a_server_that_asks_for_the_password_itself_does_not_get_it() {
    let files = Files::new();
    let asking = Cluster::on_network(&Network {
        tls: Some(files.server("127.0.0.1")),
        asks_for_password: true,
    });
    refused(files.place(&asking), "channel binding");
}

#[test]
fn a_wrong_password_a_lost_host_and_a_wrong_name_are_told_apart() {
    let files = Files::new();
    let cluster = cluster(&files, "127.0.0.1");
    let wrong = PostgresPlace {
        password_file: Some(files.path("wrong-password")),
        ..files.place(&cluster)
    };
    refused(wrong, "password authentication failed");
    let missing = PostgresPlace {
        password_file: Some(files.path("no-password")),
        ..files.place(&cluster)
    };
    refused(missing, "no-password");
    let elsewhere = PostgresPlace {
        database: "nothing".into(),
        ..files.place(&cluster)
    };
    refused(elsewhere, "\"nothing\" does not exist");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lost = PostgresPlace {
        hosts: vec![format!("127.0.0.1:{}", port.local_addr().unwrap().port())],
        ..files.place(&cluster)
    };
    drop(port);
    refused(lost, "Connection refused");
    let unnamed = PostgresPlace {
        hosts: vec!["127.0.0.1".into()],
        ..files.place(&cluster)
    };
    refused(unnamed, "is not host:port");
}

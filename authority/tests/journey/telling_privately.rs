//! Is a merchant told whose server has a certificate of a private CA, and nobody who only pretends?

use std::sync::Arc;

use authority::services::rails::Rails;
use authority::store::Webhooks as _;
use protocol::wire::notices::Noticed;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::telling::{Heard, read, round, sold_at};
use crate::world::{MERCHANTS_CA_FILE, World};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A merchant's server with a certificate for this name; what it took.
async fn shop(ca: &Ca, name: &str) -> (u16, watch::Receiver<Vec<Heard>>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.into()]).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (hears, heard) = watch::channel(Vec::new());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // Whoever does not believe the certificate hangs up.
            let Ok(mut stream) = acceptor.accept(socket).await else {
                continue;
            };
            let one = read(&mut stream).await;
            hears.send_modify(|all: &mut Vec<Heard>| all.push(one));
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, heard)
}

/// An authority whose configuration names this CA, or none.
async fn world(believed: Option<&Ca>) -> World {
    let dir = tempfile::tempdir().unwrap();
    if let Some(ca) = believed {
        std::fs::write(dir.path().join(MERCHANTS_CA_FILE), ca.pem()).unwrap();
    }
    World::in_place(dir, String::new(), |merchant| merchant, Rails::default()).await
}

/// One payment, told to `https://localhost` at this port; what is wrong, if it is not taken.
async fn told(world: &World, port: u16) -> Option<String> {
    let url = Some(format!("https://localhost:{port}/hook"));
    let set = world.store.set_webhook(world.merchant, url, world.now());
    assert!(set.await.unwrap());
    sold_at(world, world.terminal, 420).await;
    round(world).await;
    let hook = world.store.webhooks(None, 9).await.unwrap().remove(0);
    (hook.waiting > 0).then(|| world.text("SELECT last_problem FROM notices"))
}

#[tokio::test]
async fn a_server_behind_the_private_ca_of_the_configuration_is_told() {
    let ca = ca("Merchants");
    let world = world(Some(&ca)).await;
    let (port, heard) = shop(&ca, "localhost").await;
    assert_eq!(told(&world, port).await, None);
    let heard = heard.borrow();
    assert!(matches!(heard[0].notice().what, Noticed::Paid { .. }));
}

#[tokio::test]
async fn nobody_else_is_told_whatever_certificate_they_show() {
    let (ours, theirs) = (ca("Merchants"), ca("Strangers"));
    for (believed, by, name, says) in [
        (None, &ours, "localhost", "UnknownIssuer"),
        (Some(&ours), &theirs, "localhost", "UnknownIssuer"),
        (Some(&ours), &ours, "shop.example", "not valid for name"),
    ] {
        let world = world(believed).await;
        let (port, heard) = shop(by, name).await;
        let problem = told(&world, port).await.expect("it is not taken");
        assert!(problem.contains(says), "{problem}");
        assert!(heard.borrow().is_empty());
    }
}

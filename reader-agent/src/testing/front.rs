//! Who answers at the authority's address? Now it, now nobody, now the network in between.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::authority::{Ca, FRESH, FakeAuthority};

const REDIRECT: &[u8] = b"HTTP/1.1 302 Found\r\nlocation: http://login.hotel.example/\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";
/// TLS alert: fatal, protocol version.
const TLS_TOO_OLD: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];

/// Where a connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Nowhere,
    To(SocketAddr),
    Portal(Portal),
}

/// How a network answers in everybody's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Portal {
    /// TLS with a certificate of its own, then a redirect.
    OwnCertificate,
    /// A redirect, whatever was said.
    PlainHttp,
    /// It knows no TLS that is new enough.
    OldTls,
}

impl Portal {
    pub(crate) const ALL: [Self; 3] = [Self::OwnCertificate, Self::PlainHttp, Self::OldTls];
}

/// One address.
pub(crate) struct Front {
    pub(crate) base: String,
    way: watch::Sender<Way>,
    portal: Arc<Heard>,
}

/// What portals were told.
#[derive(Default)]
struct Heard {
    bytes: Mutex<Vec<u8>>,
    client_certificates: Mutex<usize>,
    visits: watch::Sender<usize>,
}

impl Front {
    pub(crate) async fn open(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = watch::Sender::new(way);
        let portal = Arc::new(Heard::default());
        tokio::spawn(accept(listener, way.clone(), portal.clone()));
        Self {
            base: format!("https://{address}"),
            way,
            portal,
        }
    }

    /// From now on; connections of before are cut.
    pub(crate) fn leads(&self, way: Way) {
        self.way.send_replace(way);
    }

    pub(crate) fn leads_to(&self, authority: &FakeAuthority) {
        self.leads(Way::To(authority.address()));
    }

    /// Everything that portals could read.
    pub(crate) fn overheard(&self) -> Vec<u8> {
        self.portal.bytes.lock().unwrap().clone()
    }

    pub(crate) fn client_certificates(&self) -> usize {
        *self.portal.client_certificates.lock().unwrap()
    }

    /// Of connections of any kind so far.
    pub(crate) fn visits(&self) -> watch::Receiver<usize> {
        self.portal.visits.subscribe()
    }
}

async fn accept(listener: TcpListener, way: watch::Sender<Way>, heard: Arc<Heard>) {
    let tls = Ca::new("Portal").tls(FRESH);
    while let Ok((stream, _)) = listener.accept().await {
        let mut changes = way.subscribe();
        let now = *changes.borrow_and_update();
        heard.visits.send_modify(|visits| *visits += 1);
        let (tls, heard) = (tls.clone(), heard.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = changes.changed() => {}
                () = lead(stream, now, tls, &heard) => {}
            }
        });
    }
}

async fn lead(mut stream: TcpStream, way: Way, tls: Arc<rustls::ServerConfig>, heard: &Heard) {
    match way {
        Way::Nowhere => {}
        Way::To(address) => {
            if let Ok(mut there) = TcpStream::connect(address).await {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            }
        }
        Way::Portal(Portal::PlainHttp) => say(stream, REDIRECT, heard).await,
        Way::Portal(Portal::OldTls) => say(stream, TLS_TOO_OLD, heard).await,
        Way::Portal(Portal::OwnCertificate) => {
            let accepted = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await;
            if let Ok(stream) = accepted {
                let shown = stream.get_ref().1.peer_certificates();
                *heard.client_certificates.lock().unwrap() += usize::from(shown.is_some());
                say(stream, REDIRECT, heard).await;
            }
        }
    }
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, words: &[u8], heard: &Heard) {
    let mut bytes = vec![0; 16 * 1024];
    let length = stream.read(&mut bytes).await.unwrap_or(0);
    let mut all = heard.bytes.lock().unwrap().clone();
    all.extend_from_slice(&bytes[..length]);
    *heard.bytes.lock().unwrap() = all;
    let _ = stream.write_all(words).await;
    let _ = stream.shutdown().await;
}

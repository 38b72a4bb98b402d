//! How are the screens of a terminal served without the rest of it?
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::app::{KIOSK_ADDRESS, KIOSK_SECRET};
use crate::core::Board;
use crate::driver::empty_board;
use crate::files::Secret;
use crate::http::{hardened, own_host, refusals};
use crate::kiosk::{self, Kiosk};
use crate::look::Look;

/// A board of whose changes the page hears, and the page.
pub(crate) struct Stand {
    pub(crate) board: watch::Sender<Board>,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) stop: watch::Sender<bool>,
    _dir: Option<tempfile::TempDir>,
}

impl Stand {
    pub(crate) async fn open(look: Look) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stand = Self::open_in(dir.path(), look).await;
        Self {
            _dir: Some(dir),
            ..stand
        }
    }

    /// A second one in the same folder has the same key and another port.
    pub(crate) async fn open_in(dir: &Path, look: Look) -> Self {
        let secret = Arc::new(Secret::load_or_make(&dir.join(KIOSK_SECRET)).unwrap());
        let (board, receiver) = watch::channel(empty_board(super::terminal(1)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        std::fs::write(dir.join(KIOSK_ADDRESS), format!("{address}\n")).unwrap();
        let page = Kiosk {
            board: receiver,
            secret: secret.clone(),
            look: Arc::new(look),
        };
        let routes = own_host(address)
            .and(kiosk::routes(page))
            .recover(refusals)
            .unify()
            .map(hardened)
            .boxed();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, routes, stopped));
        Self {
            board,
            address,
            url: kiosk::url(address, &secret),
            stop,
            _dir: None,
        }
    }
}

/// Serves until told to stop; then every connection ends at once, as when the agent is killed.
async fn serve(
    listener: tokio::net::TcpListener,
    routes: BoxedFilter<(Response,)>,
    mut stopped: watch::Receiver<bool>,
) {
    let service = hyper_util::service::TowerToHyperService::new(warp::service(routes));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = stopped.changed() => return,
            Ok((stream, _)) = listener.accept() => stream,
        };
        let server = hyper::server::conn::http1::Builder::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        connections.spawn(server.serve_connection(io, service.clone()));
    }
}

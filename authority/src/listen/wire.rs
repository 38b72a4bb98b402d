//! When is a peer gone that did not say so?
//!
//! A terminal whose power was cut sends no FIN. The kernel asks an idle peer whether it is there, and gives
//! up on one that does not take what was sent, whether it is dead or only refuses to read.

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// A peer that says nothing for so long is asked by the kernel,
pub const PEER_ASKED_AFTER: Duration = Duration::from_secs(30);
/// again after so long,
pub const PEER_ASKED_EVERY: Duration = Duration::from_secs(10);
/// and is gone after so many questions without an answer.
pub const PEER_QUESTIONS_MAX: u32 = 3;
/// So is one that does not take what was sent to it for so long.
pub const PEER_TAKES_NOTHING: Duration = Duration::from_secs(60);

/// Sets all of it on an accepted socket.
pub(super) fn prepare(socket: &TcpStream) {
    // Latency only; a socket that cannot do it works as well.
    let _ = socket.set_nodelay(true);
    if let Err(error) = notice_death(socket) {
        tracing::debug!(%error, "a dead peer of this connection is noticed by its silence only");
    }
}

fn notice_death(socket: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, PEER_ASKED_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, PEER_ASKED_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, PEER_QUESTIONS_MAX)?;
    let takes_nothing_ms = PEER_TAKES_NOTHING.as_millis() as u32;
    sockopt::set_tcp_user_timeout(socket, takes_nothing_ms)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told_when_to_give_a_peer_up() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        prepare(&socket);
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), PEER_ASKED_AFTER);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), PEER_ASKED_EVERY);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), PEER_QUESTIONS_MAX);
        let takes_nothing = sockopt::tcp_user_timeout(&socket).unwrap();
        assert_eq!(u128::from(takes_nothing), PEER_TAKES_NOTHING.as_millis());
    }
}

//! Has the client said its whole hello?
//!
//! Looked at where the kernel keeps it, so nothing is read and nobody's turn is taken while a client says it byte by
//! byte. RFC 8446, 4.1.2 and 5.1: records of type handshake, in them one message of type ClientHello.

use std::io::{Error, ErrorKind, Result};

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes of a hello, with the heads of its records. Those of today have 200 to 2 000.
pub const HELLO_MAX: usize = 16 * 1024;

const RECORD_HEAD: usize = 5;
const MESSAGE_HEAD: usize = 4;
const TYPE_HANDSHAKE: u8 = 22;
const TYPE_CLIENT_HELLO: u8 = 1;

/// Returns once a whole ClientHello can be read without waiting.
pub(super) async fn whole(socket: &TcpStream) -> Result<()> {
    loop {
        let ready = socket.ready(Interest::READABLE).await?;
        // What is there in part is as good as nothing: the kernel tells when there is more.
        let looked = socket.try_io(Interest::READABLE, || match look(socket)? {
            true => Ok(()),
            false => Err(ErrorKind::WouldBlock.into()),
        });
        match looked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            looked => return looked,
        }
        if ready.is_read_closed() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn look(socket: &TcpStream) -> Result<bool> {
    let mut bytes = [0; HELLO_MAX];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (_, there) = recv(socket, &mut bytes[..], flags)?;
    match there {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        there => is_whole(&bytes[..there]),
    }
}

/// Whether a whole hello stands at the beginning; an error if none ever will.
fn is_whole(mut bytes: &[u8]) -> Result<bool> {
    let all = bytes.len();
    // The length of the message, once its head is there.
    let (mut head, mut said) = ([0; MESSAGE_HEAD], 0);
    while let Some((record, rest)) = bytes.split_at_checked(RECORD_HEAD) {
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        if record[0] != TYPE_HANDSHAKE || length == 0 {
            return Err(no_hello("it does not begin with one"));
        }
        let (part, rest) = rest.split_at(length.min(rest.len()));
        for (slot, byte) in head.iter_mut().skip(said).zip(part) {
            *slot = *byte;
        }
        said += part.len();
        if said > 0 && head[0] != TYPE_CLIENT_HELLO {
            return Err(no_hello("it does not begin with one"));
        }
        let [_, high, middle, low] = head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if said >= MESSAGE_HEAD && said >= MESSAGE_HEAD + length {
            return Ok(true);
        }
        bytes = rest;
    }
    match all < HELLO_MAX {
        true => Ok(false),
        false => Err(no_hello("it is too long")),
    }
}

fn no_hello(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("no ClientHello: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::pin::pin;
    use std::task::Poll;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Client and server.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        (client.unwrap(), listener.accept().await.unwrap().0)
    }

    /// A ClientHello of so many bytes, in records of at most so many.
    fn hello(body: usize, record: usize) -> Vec<u8> {
        let length = u32::try_from(body).unwrap().to_be_bytes();
        let mut message = vec![TYPE_CLIENT_HELLO, length[1], length[2], length[3]];
        message.resize(MESSAGE_HEAD + body, 0x55);
        let records = message.chunks(record).flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[TYPE_HANDSHAKE, 3, 1, length[0], length[1]], part].concat()
        });
        records.collect()
    }

    #[test]
    fn a_hello_is_whole_with_its_last_byte_however_it_is_cut_into_records() {
        for record in [1, 3, 4, 5, 100, 5_000] {
            let hello = hello(300, record);
            for there in 0..hello.len() {
                assert!(!is_whole(&hello[..there]).unwrap(), "{record} {there}");
            }
            assert!(is_whole(&hello).unwrap(), "{record}");
            assert!(is_whole(&[&hello[..], b"more"].concat()).unwrap());
        }
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        let mut alert = hello(300, 5_000);
        alert[0] = 21;
        let mut server_hello = hello(300, 5_000);
        server_hello[5] = 2;
        let endless = hello(2 * HELLO_MAX, 5_000);
        for bytes in [
            b"GET / HTTP/1.1\r\n",
            &alert[..6],
            &server_hello[..6],
            &[TYPE_HANDSHAKE, 3, 1, 0, 0],
            &endless[..HELLO_MAX],
        ] {
            assert!(is_whole(bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[tokio::test]
    async fn it_is_waited_for_byte_by_byte_and_nothing_of_it_is_read() {
        let (mut client, mut server) = connected().await;
        let hello = hello(300, 100);
        {
            let mut waits = pin!(whole(&server));
            for byte in &hello {
                let waiting = std::future::poll_fn(|context| {
                    Poll::Ready(waits.as_mut().poll(context).is_pending())
                });
                assert!(waiting.await, "it is not whole yet");
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            waits.await.unwrap();
        }
        let mut read = vec![0; hello.len()];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(read, hello);
    }

    #[tokio::test]
    async fn who_leaves_in_the_middle_is_not_waited_for() {
        let (mut client, server) = connected().await;
        client.write_all(&hello(300, 100)[..50]).await.unwrap();
        client.shutdown().await.unwrap();
        let left = whole(&server).await.unwrap_err();
        assert_eq!(left.kind(), ErrorKind::UnexpectedEof);
    }
}

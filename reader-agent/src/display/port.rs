//! How do bytes reach the display, and how is it noticed that it is gone?

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::DisplayPort;
use crate::platform;

/// How long a display may take for what is written: at 1200 baud all of it takes half a second.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// An open port, as a pipe for each direction: to the system's readiness a serial line is no different,
/// and the runtime's type for any other descriptor takes unsafe code.
pub(super) struct Port {
    to: pipe::Sender,
    from: pipe::Receiver,
}

impl Port {
    pub(super) fn open(port: &DisplayPort) -> io::Result<Self> {
        let file = platform::open_serial(&port.path, port.baud)?;
        Ok(Self {
            from: pipe::Receiver::from_file_unchecked(file.try_clone()?)?,
            to: pipe::Sender::from_file_unchecked(file)?,
        })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = tokio::time::timeout(WRITE_TIMEOUT, self.to.write_all(bytes)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Returns when there is no display any more. What one says is read and left.
    pub(super) async fn gone(&mut self) -> io::Error {
        loop {
            match self.from.read(&mut [0; 64]).await {
                Ok(0) => return io::Error::from(io::ErrorKind::UnexpectedEof),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }
}

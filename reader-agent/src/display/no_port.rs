//! What stands in where serial ports are not driven?

use std::io;

use super::DisplayPort;
use crate::platform;

/// A port that cannot be opened.
pub(super) struct Port;

impl Port {
    pub(super) fn open(port: &DisplayPort) -> io::Result<Self> {
        platform::open_serial(&port.path, port.baud).map(|_| Self)
    }

    pub(super) async fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(super) async fn gone(&mut self) -> io::Error {
        io::Error::from(io::ErrorKind::Unsupported)
    }
}

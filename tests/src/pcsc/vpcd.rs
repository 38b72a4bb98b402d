//! How is the virtual NTAG put behind Debian's own virtual driver?
//!
//! vsmartcard's vpcd listens on TCP; a tag dials in. Its protocol: length (u16, big endian) and
//! body, where a one-byte body is a control command.

use super::acr122u::{self, Manners};
use super::pcscd::ReaderEntry;
use super::virtual_tag::{TagModel, VirtualTag};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::linux::net::TcpStreamExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

const DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
const PORT_ATTEMPTS: usize = 50;

/// A tag in a reader of vpcd.
pub struct VpcdTag {
    tag: Arc<Mutex<TagModel>>,
    stream: TcpStream,
}

impl VpcdTag {
    /// An entry for pcscd with a private copy of the driver, which keeps its state per copy, and its port.
    pub fn entry(dir: &Path, name: &str) -> io::Result<(ReaderEntry, u16)> {
        let driver = PathBuf::from(DRIVER);
        assert!(
            driver.exists(),
            "vpcd is missing: apt-get install -y vsmartcard-vpcd"
        );
        let copy = dir.join("libifdvpcd.so");
        fs::copy(driver, &copy)?;
        let port = free_port_pair()?;
        let device = format!("/dev/null:{port}");
        Ok((ReaderEntry::other(name, &device, &copy), port))
    }

    /// Lays the tag on the reader at this port; pcscd must run.
    pub fn place(port: u16, tag: VirtualTag) -> io::Result<VpcdTag> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        let tag = Arc::new(Mutex::new(TagModel::Ntag213(Box::new(tag))));
        let (serving, held) = (stream.try_clone()?, Arc::clone(&tag));
        thread::spawn(move || serve(serving, &held));
        Ok(VpcdTag { tag, stream })
    }

    pub fn with_tag<T>(&self, look: impl FnOnce(&mut VirtualTag) -> T) -> Option<T> {
        let mut tag = self.tag.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *tag {
            TagModel::Ntag213(tag) => Some(look(tag)),
            TagModel::Ntag424(_) | TagModel::Foreign(_) => None,
        }
    }
}

impl Drop for VpcdTag {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// vpcd takes a port for each of its two slots.
fn free_port_pair() -> io::Result<u16> {
    for _ in 0..PORT_ATTEMPTS {
        let first = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = first.local_addr()?.port();
        if let Some(next) = port.checked_add(1)
            && TcpListener::bind((Ipv4Addr::UNSPECIFIED, next)).is_ok()
        {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}

/// Ends with the connection, whoever closes it.
fn serve(mut stream: TcpStream, tag: &Mutex<TagModel>) {
    while let Ok(message) = receive(&mut stream) {
        let mut tag = tag.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match message[..] {
            [4] => Some(tag.atr()),
            [0..=2] => {
                tag.power_up();
                None
            }
            _ => Some(acr122u::tag_answer(&mut tag, &message, Manners::default())),
        };
        drop(tag);
        if answer.is_some_and(|answer| send(&mut stream, &answer).is_err()) {
            return;
        }
    }
}

/// vpcd sends length and body apart; without quick acknowledgement each costs 40 ms.
fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.set_quickack(true)?;
    stream.read_exact(&mut length)?;
    stream.set_quickack(true)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    stream.write_all(&frame)
}

//! What does pcscd load when a test needs a reader? This IFD handler.
//!
//! ```text
//!  test ── UNIX socket ── this library, inside a real pcscd ── libpcsclite ── agent
//!  (plays reader and tag)
//! ```
//!
//! `DEVICENAME` in reader.conf is the path of a socket on which the test listens, one socket per
//! reader, up to 16 readers on one copy of this library.
//!
//! # Frames
//!
//! Both directions: length (u32, little endian, of all that follows), kind (1 byte), body.
//!
//! | to the test | kind | body | answer |
//! |---|---|---|---|
//! | power up | 1 | | ATR |
//! | power down | 2 | | empty |
//! | reset | 3 | | ATR |
//! | transmit | 4 | command APDU | response APDU |
//! | control | 5 | control code (u32 LE), data | data |
//! | get attribute | 6 | attribute (u32 LE) | value |
//!
//! | from the test | kind | body |
//! |---|---|---|
//! | presence | 80 | 1 tag in the field, 0 none; the first frame of a connection, then at every change |
//! | answer | 81 | bytes |
//! | refusal | 82 | 0 not supported, 1 no tag |
//!
//! One request is in flight at a time. A presence frame wakes pcscd at once. When the test hangs
//! up, the reader answers "no such device".

mod channel;

use channel::{Channel, Failure, Request};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_ulong};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Dword = c_ulong;
type ResponseCode = c_long;

const IFD_SUCCESS: ResponseCode = 0;
const IFD_ERROR_TAG: ResponseCode = 600;
const IFD_ERROR_NOT_SUPPORTED: ResponseCode = 606;
const IFD_ERROR_POWER_ACTION: ResponseCode = 608;
const IFD_COMMUNICATION_ERROR: ResponseCode = 612;
const IFD_ICC_PRESENT: ResponseCode = 615;
const IFD_ICC_NOT_PRESENT: ResponseCode = 616;
const IFD_NO_SUCH_DEVICE: ResponseCode = 617;
const IFD_ERROR_INSUFFICIENT_BUFFER: ResponseCode = 618;

const IFD_POWER_UP: Dword = 500;
const IFD_POWER_DOWN: Dword = 501;
const IFD_RESET: Dword = 502;

const TAG_IFD_ATR: Dword = 0x0303;
const TAG_IFD_SLOT_THREAD_SAFE: Dword = 0x0FAC;
const TAG_IFD_THREAD_SAFE: Dword = 0x0FAD;
const TAG_IFD_SLOTS_NUMBER: Dword = 0x0FAE;
const TAG_IFD_SIMULTANEOUS_ACCESS: Dword = 0x0FAF;
const TAG_IFD_STOP_POLLING_THREAD: Dword = 0x0FB2;
const TAG_IFD_POLLING_THREAD_WITH_TIMEOUT: Dword = 0x0FB3;
/// Above it lie the attributes of PC/SC, which the test answers.
const LAST_IFD_TAG: Dword = 0xFFFF;

/// pcscd 1.9 knows no more readers than this.
const READERS_MAX: u8 = 16;
const ATR_MAX: usize = 33;

static CHANNELS: Mutex<BTreeMap<Dword, Arc<Channel>>> = Mutex::new(BTreeMap::new());

#[repr(C)]
pub struct ScardIoHeader {
    protocol: Dword,
    length: Dword,
}

/// # Safety
/// `device_name` is a NUL-terminated string for the time of the call (ifdhandler.h).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHCreateChannelByName(
    lun: Dword,
    device_name: *const c_char,
) -> ResponseCode {
    // SAFETY: see above; pcscd passes the string of its reader.conf entry.
    let path = unsafe { CStr::from_ptr(device_name) };
    let Some(channel) = path.to_str().ok().and_then(|p| Channel::open(p).ok()) else {
        return IFD_COMMUNICATION_ERROR;
    };
    channels().insert(lun, channel);
    IFD_SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn IFDHCreateChannel(_lun: Dword, _channel: Dword) -> ResponseCode {
    IFD_ERROR_NOT_SUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn IFDHCloseChannel(lun: Dword) -> ResponseCode {
    if let Some(channel) = channels().remove(&lun) {
        channel.close();
    }
    IFD_SUCCESS
}

/// # Safety
/// `length` is valid for reads and writes; `value` is null or valid for `*length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHGetCapabilities(
    lun: Dword,
    tag: Dword,
    length: *mut Dword,
    value: *mut c_uchar,
) -> ResponseCode {
    match capability(lun, tag) {
        // SAFETY: passed on from the caller.
        Ok(bytes) => unsafe { hand_out(&bytes, value, length) },
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn IFDHSetCapabilities(
    _lun: Dword,
    _tag: Dword,
    _length: Dword,
    _value: *const c_uchar,
) -> ResponseCode {
    IFD_ERROR_NOT_SUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn IFDHSetProtocolParameters(
    _lun: Dword,
    _protocol: Dword,
    _flags: c_uchar,
    _pts1: c_uchar,
    _pts2: c_uchar,
    _pts3: c_uchar,
) -> ResponseCode {
    IFD_SUCCESS
}

/// # Safety
/// `atr` and `atr_length` are both null (pcscd does so for power down) or valid: `atr` for 33 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHPowerICC(
    lun: Dword,
    action: Dword,
    atr: *mut c_uchar,
    atr_length: *mut Dword,
) -> ResponseCode {
    let bytes = match power(lun, action) {
        Ok(bytes) => bytes,
        Err(code) => return code,
    };
    if atr.is_null() || atr_length.is_null() {
        return IFD_SUCCESS;
    }
    // SAFETY: not null, and then valid by the contract above.
    unsafe {
        *atr_length = ATR_MAX as Dword;
        hand_out(&bytes, atr, atr_length)
    }
}

/// # Safety
/// `tx` is valid for `tx_length` bytes, `rx_length` for reads and writes, `rx` for `*rx_length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHTransmitToICC(
    lun: Dword,
    _send_pci: ScardIoHeader,
    tx: *const c_uchar,
    tx_length: Dword,
    rx: *mut c_uchar,
    rx_length: *mut Dword,
    _receive_pci: *mut ScardIoHeader,
) -> ResponseCode {
    // SAFETY: passed on from the caller.
    let apdu = unsafe { borrow(tx, tx_length) };
    match ask(lun, Request::Transmit, apdu) {
        // SAFETY: passed on from the caller.
        Ok(answer) => unsafe { hand_out(&answer, rx, rx_length) },
        Err(code) => {
            // SAFETY: passed on from the caller.
            unsafe { *rx_length = 0 };
            code
        }
    }
}

/// # Safety
/// `tx` is null or valid for `tx_length` bytes, `rx` for `rx_length`, `returned` for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHControl(
    lun: Dword,
    control_code: Dword,
    tx: *const c_uchar,
    tx_length: Dword,
    rx: *mut c_uchar,
    rx_length: Dword,
    returned: *mut Dword,
) -> ResponseCode {
    let mut body = (control_code as u32).to_le_bytes().to_vec();
    // SAFETY: passed on from the caller.
    body.extend_from_slice(unsafe { borrow(tx, tx_length) });
    let answer = ask(lun, Request::Control, &body);
    // SAFETY: `returned` is valid, and `*returned` then says how long `rx` is.
    unsafe {
        *returned = rx_length;
        match answer {
            Ok(answer) => hand_out(&answer, rx, returned),
            Err(code) => {
                *returned = 0;
                code
            }
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn IFDHICCPresence(lun: Dword) -> ResponseCode {
    match channel(lun).map(|c| c.present()) {
        Some(Ok(true)) => IFD_ICC_PRESENT,
        Some(Ok(false)) => IFD_ICC_NOT_PRESENT,
        _ => IFD_NO_SUCH_DEVICE,
    }
}

extern "C" fn poll(lun: Dword, timeout_ms: c_int) -> ResponseCode {
    let limit = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    match channel(lun).map(|c| c.await_news(limit)) {
        Some(Ok(())) => IFD_SUCCESS,
        _ => IFD_NO_SUCH_DEVICE,
    }
}

extern "C" fn stop_polling(lun: Dword) -> ResponseCode {
    if let Some(channel) = channel(lun) {
        channel.stop_waiting();
    }
    IFD_SUCCESS
}

fn capability(lun: Dword, tag: Dword) -> Result<Vec<u8>, ResponseCode> {
    let poll: extern "C" fn(Dword, c_int) -> ResponseCode = poll;
    let stop: extern "C" fn(Dword) -> ResponseCode = stop_polling;
    match tag {
        TAG_IFD_ATR => Ok(channel(lun).ok_or(IFD_NO_SUCH_DEVICE)?.atr()),
        TAG_IFD_SLOT_THREAD_SAFE | TAG_IFD_THREAD_SAFE | TAG_IFD_SLOTS_NUMBER => Ok(vec![1]),
        TAG_IFD_SIMULTANEOUS_ACCESS => Ok(vec![READERS_MAX]),
        TAG_IFD_POLLING_THREAD_WITH_TIMEOUT => Ok((poll as usize).to_ne_bytes().to_vec()),
        TAG_IFD_STOP_POLLING_THREAD => Ok((stop as usize).to_ne_bytes().to_vec()),
        0..=LAST_IFD_TAG => Err(IFD_ERROR_TAG),
        attribute => ask(
            lun,
            Request::GetAttribute,
            &(attribute as u32).to_le_bytes(),
        ),
    }
}

fn power(lun: Dword, action: Dword) -> Result<Vec<u8>, ResponseCode> {
    let request = match action {
        IFD_POWER_UP => Request::PowerUp,
        IFD_POWER_DOWN => Request::PowerDown,
        IFD_RESET => Request::Reset,
        _ => return Err(IFD_ERROR_NOT_SUPPORTED),
    };
    let channel = channel(lun).ok_or(IFD_NO_SUCH_DEVICE)?;
    let atr = channel
        .ask(request, &[])
        .map_err(|_| IFD_ERROR_POWER_ACTION)?;
    channel.remember_atr(&atr);
    Ok(atr)
}

fn ask(lun: Dword, request: Request, body: &[u8]) -> Result<Vec<u8>, ResponseCode> {
    let channel = channel(lun).ok_or(IFD_NO_SUCH_DEVICE)?;
    channel.ask(request, body).map_err(|failure| match failure {
        Failure::Unsupported => IFD_ERROR_NOT_SUPPORTED,
        Failure::NoTag => IFD_COMMUNICATION_ERROR,
        Failure::PeerGone => IFD_NO_SUCH_DEVICE,
    })
}

fn channel(lun: Dword) -> Option<Arc<Channel>> {
    channels().get(&lun).cloned()
}

fn channels() -> std::sync::MutexGuard<'static, BTreeMap<Dword, Arc<Channel>>> {
    CHANNELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// `start` is null or valid for reads of `length` bytes while the result lives.
unsafe fn borrow<'a>(start: *const c_uchar, length: Dword) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the contract of this function.
    unsafe { std::slice::from_raw_parts(start, length as usize) }
}

/// # Safety
/// `length` is valid for reads and writes; `to` is null (length asked only) or valid for `*length` bytes.
unsafe fn hand_out(bytes: &[u8], to: *mut c_uchar, length: *mut Dword) -> ResponseCode {
    // SAFETY: the contract of this function; the copy stays within `*length`, and `bytes` is our own.
    unsafe {
        let room = *length as usize;
        *length = bytes.len() as Dword;
        if to.is_null() {
            return IFD_SUCCESS;
        }
        if bytes.len() > room {
            *length = 0;
            return IFD_ERROR_INSUFFICIENT_BUFFER;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
    }
    IFD_SUCCESS
}

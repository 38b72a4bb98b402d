//! How does Linux wake who waits, at once when the machine wakes?
//!
//! A timer on CLOCK_BOOTTIME: one whose time came while the machine slept rings with the resume.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One timer, set again and again.
pub(crate) struct BootAlarm(AsyncFd<OwnedFd>);

impl BootAlarm {
    #[expect(
        deprecated,
        reason = "its successor is unsafe: it has the caller promise what an `OwnedFd` keeps by itself"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    /// Setting it takes back whatever it was set to before.
    pub(crate) async fn after(&mut self, pause: Duration) -> io::Result<()> {
        // Nothing at all would stop the timer.
        let pause = pause.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: pause.try_into().map_err(io::Error::other)?,
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut rings = [0; 8];
            let read =
                |timer: &AsyncFd<OwnedFd>| Ok(rustix::io::read(timer.get_ref(), &mut rings)?);
            if let Ok(rung) = ready.try_io(read) {
                return rung.map(drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsRawFd;

    #[tokio::test]
    async fn the_timer_counts_time_asleep() {
        let alarm = BootAlarm::new().unwrap();
        let path = format!("/proc/self/fdinfo/{}", alarm.0.get_ref().as_raw_fd());
        let info = std::fs::read_to_string(path).unwrap();
        // CLOCK_BOOTTIME.
        assert!(info.lines().any(|line| line == "clockid: 7"), "{info}");
    }
}

//! A timer that wakes the poll, to the microsecond where the system can.
//!
//! mio rounds its timeout up to whole milliseconds, which would be added to every latency. On Linux a timerfd
//! does better and still leaves the core idle in between, but for a moment after work (`busy_poll`).

use std::io;
use std::time::Duration;

use mio::{Poll, Token};

/// What the poll must report, and how long it may wait, for the alarm to go off in time.
#[derive(Debug)]
pub(crate) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: std::os::fd::OwnedFd,
    set_for_ns: u64,
}

/// The longest wait, so that a signal to stop is seen soon.
const WAIT_MAX: Duration = Duration::from_millis(100);

impl Alarm {
    #[cfg(target_os = "linux")]
    pub(crate) fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        use std::os::fd::AsRawFd;

        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let mut source = mio::unix::SourceFd(&timer.as_raw_fd());
        mio::event::Source::register(&mut source, poll.registry(), token, mio::Interest::READABLE)?;
        Ok(Self {
            timer,
            set_for_ns: 0,
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new(_: &Poll, _: Token) -> io::Result<Self> {
        Ok(Self { set_for_ns: 0 })
    }

    /// Sets the alarm for `wake_ns` and returns the timeout to poll with.
    pub(crate) fn set(&mut self, now_ns: u64, wake_ns: u64) -> io::Result<Duration> {
        let wait = Duration::from_nanos(wake_ns.saturating_sub(now_ns));
        if wait.is_zero() {
            return Ok(Duration::ZERO);
        }
        if wake_ns != self.set_for_ns {
            self.set_for_ns = wake_ns;
            self.arm(wait)?;
        }
        // Rounded up by the poll, this is later than the timer where there is one.
        Ok(wait.min(WAIT_MAX))
    }

    #[cfg(target_os = "linux")]
    fn arm(&mut self, wait: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        let once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Timespec::try_from(wait).map_err(|_| io::ErrorKind::InvalidInput)?;
        // Setting it anew also clears its old expiry, so it need not be read.
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: once,
                it_value: value,
            },
        )?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn arm(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// A length of time in the clients' unit.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a run lasts less than 584 years")
}

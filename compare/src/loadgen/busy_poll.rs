//! Polling without sleep for a moment after work, so that the sender of the next bytes need not wake anybody.
//!
//! On loopback it is the sender's core that wakes a sleeping receiver, and in a virtual machine that is a trap into the
//! hypervisor. A server whose clients are elsewhere never pays for that; here it was a sixth of what a tick to 10,000
//! dashboards cost, and it hits a server hardest that sends faster than the generator reads. So a generator with a core
//! of its own goes on polling for a moment before it sleeps. That time is no work of its own, and is not counted as any.

use std::time::Duration;

use super::alarm::nanos;

/// How long after the last event: many times what a server needs from one client to the next.
const LENGTH: Duration = Duration::from_micros(100);

/// Whether to sleep, and how long the loop has stayed awake for nothing.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    owns_core: bool,
    until_ns: u64,
    wasted: Duration,
}

impl BusyPoll {
    /// A generator that shares its core sleeps at once, for the others to run.
    pub(crate) fn new(owns_core: bool) -> Self {
        Self {
            owns_core,
            until_ns: 0,
            wasted: Duration::ZERO,
        }
    }

    /// Whether the next poll must not sleep.
    pub(crate) fn is_on(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }

    /// A turn that began at `from_ns` is over; there was something to do in it, or not.
    pub(crate) fn end_turn(&mut self, from_ns: u64, now_ns: u64, worked: bool) {
        if worked && self.owns_core {
            self.until_ns = now_ns + nanos(LENGTH);
        } else if !worked && self.is_on(from_ns) {
            self.wasted += Duration::from_nanos(now_ns - from_ns);
        }
    }

    /// All the time that was spent polling for nothing, by the clock: where something else had the core meanwhile, that
    /// is in it too.
    pub(crate) fn wasted(&self) -> Duration {
        self.wasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_turns_that_found_nothing_are_wasted() {
        let mut busy_poll = BusyPoll::new(true);
        assert!(!busy_poll.is_on(0));
        busy_poll.end_turn(0, 5_000, true);
        assert!(busy_poll.is_on(6_000));
        busy_poll.end_turn(6_000, 7_000, false);
        busy_poll.end_turn(7_000, 8_500, false);
        assert_eq!(busy_poll.wasted(), Duration::from_nanos(2_500));
        assert!(!busy_poll.is_on(5_000 + nanos(LENGTH)));
        busy_poll.end_turn(5_000 + nanos(LENGTH), 900_000, false);
        assert_eq!(
            busy_poll.wasted(),
            Duration::from_nanos(2_500),
            "that was sleep"
        );
    }

    #[test]
    fn generator_that_shares_its_core_sleeps_at_once() {
        let mut busy_poll = BusyPoll::new(false);
        busy_poll.end_turn(0, 5_000, true);
        assert!(!busy_poll.is_on(5_001));
    }
}

//! Staying awake for a moment after work, so that who sends the next bytes need not wake anybody.
//!
//! On loopback it is the sender's core that wakes a sleeping receiver, and in a virtual machine that is a trap into the
//! hypervisor. A server whose clients are elsewhere never pays for that; here it was a sixth of what a tick to 10,000
//! dashboards cost, and it hits those hardest who send faster than the generator reads. So a generator with a core of
//! its own goes on polling for a moment before it sleeps. That time is no work of its own, and is not counted as any.

use std::time::Duration;

use super::nanos;

/// How long after the last event: many times what a server needs from one client to the next.
const LENGTH: Duration = Duration::from_micros(100);

/// Whether to sleep, and how long the loop has stayed awake for nothing.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    owns_core: bool,
    until_ns: u64,
    awake_for_nothing: Duration,
}

impl BusyPoll {
    /// Whoever shares its core sleeps at once, for the others to run.
    pub(crate) fn new(owns_core: bool) -> Self {
        Self {
            owns_core,
            until_ns: 0,
            awake_for_nothing: Duration::ZERO,
        }
    }

    /// Whether the next poll must not sleep.
    pub(crate) fn is_kept(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }

    /// A turn that began at `from_ns` is over; there was something to do in it, or not.
    pub(crate) fn turned(&mut self, from_ns: u64, now_ns: u64, worked: bool) {
        if worked && self.owns_core {
            self.until_ns = now_ns + nanos(LENGTH);
        } else if !worked && self.is_kept(from_ns) {
            self.awake_for_nothing += Duration::from_nanos(now_ns - from_ns);
        }
    }

    /// All the time that was spent polling for nothing, by the clock: where something else had the core meanwhile, that
    /// is in it too.
    pub(crate) fn awake_for_nothing(&self) -> Duration {
        self.awake_for_nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fruitless_turns_of_a_vigil_are_spent_for_nothing() {
        let mut busy_poll = BusyPoll::new(true);
        assert!(!busy_poll.is_kept(0));
        busy_poll.turned(0, 5_000, true);
        assert!(busy_poll.is_kept(6_000));
        busy_poll.turned(6_000, 7_000, false);
        busy_poll.turned(7_000, 8_500, false);
        assert_eq!(busy_poll.awake_for_nothing(), Duration::from_nanos(2_500));
        assert!(!busy_poll.is_kept(5_000 + nanos(LENGTH)));
        busy_poll.turned(5_000 + nanos(LENGTH), 900_000, false);
        assert_eq!(
            busy_poll.awake_for_nothing(),
            Duration::from_nanos(2_500),
            "that was sleep"
        );
    }

    #[test]
    fn who_shares_a_core_sleeps_at_once() {
        let mut busy_poll = BusyPoll::new(false);
        busy_poll.turned(0, 5_000, true);
        assert!(!busy_poll.is_kept(5_001));
    }
}

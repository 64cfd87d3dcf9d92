//! The keepalive of one WebSocket: a Ping every interval, and an answer within the timeout.
//!
//! Browsers answer Pings by themselves (RFC 6455 §5.5.3). Any frame after a Ping counts as an answer: a Pong may be
//! stuck behind data on a slow line, and a client that sends data is alive. So does output that a client takes after it had
//! to wait, since the Ping may stand behind it.

use std::time::{Duration, Instant};

use crate::core::time::Now;
use crate::core::time::nanoseconds;

/// Pings fall due together that would fall due within this time, so that a server of idle clients sleeps in between
/// and is not woken up for each.
const SLOT: Duration = Duration::from_millis(100);
/// Slots in an interval at the least, so that pings stay spread over it.
const SLOTS_MIN: u32 = 16;

/// The keepalive of one WebSocket.
#[derive(Debug)]
pub(crate) struct Keepalive {
    next_ping: Instant,
    /// Since the last Ping nothing was heard, and this is when patience ends.
    dead_at: Option<Instant>,
}

/// What is to be done at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The deadline has moved on.
    Nothing,
    /// Send a Ping.
    Ping,
    /// The client did not answer: its connection is dead.
    Dead,
}

impl Keepalive {
    /// A client that is there now. The first Ping of client `number` comes somewhere within the first interval, by
    /// the golden ratio, so that clients who came together are pinged apart, each with all others of its slot.
    pub(crate) fn new(now: Now, interval: Duration, number: u64) -> Self {
        const GOLDEN: u64 = 0x9E37_79B9;
        let phase = (number.wrapping_mul(GOLDEN) & 0xFFFF_FFFF) as f64 / f64::from(u32::MAX);
        let slot = SLOT.min(interval / SLOTS_MIN);
        let wait = interval.saturating_sub(slot).mul_f64(phase);
        let slot_ns = nanoseconds(slot).max(1);
        let into_slot_ns = (now.unix_ms * 1_000_000 + nanoseconds(wait)) % slot_ns;
        Self {
            next_ping: now.instant + wait + Duration::from_nanos(slot_ns - into_slot_ns),
            dead_at: None,
        }
    }

    /// A frame came, or waiting output was taken.
    pub(crate) fn heard(&mut self) {
        self.dead_at = None;
    }

    /// When [`Keepalive::time_out`] must be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.dead_at.unwrap_or(self.next_ping)
    }

    /// Whether its deadline is that of an answer; else a Ping is due.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.dead_at.is_some()
    }

    /// Tells what is due at `now`, where Pings come every `interval` and an answer within `timeout`. There is one
    /// keepalive per client, so what is the same for all is not kept in it.
    pub(crate) fn time_out(&mut self, now: Instant, interval: Duration, timeout: Duration) -> Due {
        match self.dead_at {
            Some(dead_at) if now >= dead_at => Due::Dead,
            None if now >= self.next_ping => {
                self.next_ping = (self.next_ping + interval).max(now + interval / 2);
                self.dead_at = Some(now + timeout);
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Now {
        Now {
            instant: Instant::now(),
            unix_ms: 1_700_000_000_123,
        }
    }

    const INTERVAL: Duration = Duration::from_secs(20);
    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn silence_after_a_ping_is_death_and_any_frame_is_life() {
        let mut keepalive = Keepalive::new(now(), INTERVAL, 1);
        let first = keepalive.deadline();
        let early = first
            .checked_sub(Duration::from_millis(1))
            .expect("the first ping is later");
        assert_eq!(keepalive.time_out(early, INTERVAL, TIMEOUT), Due::Nothing);
        assert_eq!(keepalive.time_out(first, INTERVAL, TIMEOUT), Due::Ping);
        assert_eq!(keepalive.deadline(), first + TIMEOUT);
        keepalive.heard();
        assert_eq!(
            keepalive.time_out(first + TIMEOUT, INTERVAL, TIMEOUT),
            Due::Nothing
        );
        assert_eq!(
            keepalive.deadline(),
            first + INTERVAL,
            "pings keep their pace"
        );
        assert_eq!(
            keepalive.time_out(first + INTERVAL, INTERVAL, TIMEOUT),
            Due::Ping
        );
        assert_eq!(
            keepalive.time_out(first + INTERVAL + TIMEOUT, INTERVAL, TIMEOUT),
            Due::Dead
        );
    }

    #[test]
    fn clients_who_came_together_are_pinged_apart() {
        let now = now();
        let mut tenths = [0; 10];
        for number in 1..=1000 {
            let wait = Keepalive::new(now, INTERVAL, number).deadline() - now.instant;
            assert!(wait <= INTERVAL);
            let tenth = (wait.as_millis() / 2000).min(9);
            tenths[usize::try_from(tenth).expect("at most 9")] += 1;
        }
        assert!(
            tenths.iter().all(|count| (90..=110).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn clients_who_came_apart_are_pinged_in_the_same_slots() {
        let start = now();
        let mut deadlines = std::collections::BTreeSet::new();
        for number in 1..=1000 {
            let now = Now {
                instant: start.instant + Duration::from_millis(number),
                unix_ms: start.unix_ms + number,
            };
            deadlines.insert(Keepalive::new(now, INTERVAL, number).deadline());
        }
        assert!(deadlines.len() <= 211, "{} moments", deadlines.len());
    }

    #[test]
    fn a_short_interval_is_kept_too() {
        for interval in [Duration::from_millis(1), Duration::from_millis(200)] {
            let now = now();
            let wait = Keepalive::new(now, interval, 7).deadline() - now.instant;
            assert!(wait <= interval, "{wait:?}");
        }
    }
}

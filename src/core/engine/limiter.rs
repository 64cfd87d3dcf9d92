//! Rate limits: one accepted message an interval, and a burst with a pace behind it.

use std::time::{Duration, Instant};

/// When a client may next be heard. A refused message neither counts nor pushes the next one back.
#[derive(Debug, Default, Clone, Copy)]
pub struct Limiter {
    free_at: Option<Instant>,
}

impl Limiter {
    /// Takes the turn at `now`, after which the next is free an `interval` later.
    ///
    /// # Errors
    /// How long to wait, where the last accepted message is less than an interval old.
    pub fn accept(&mut self, now: Instant, interval: Duration) -> Result<(), Duration> {
        match self.free_at {
            Some(free_at) if now < free_at => Err(free_at - now),
            _ => {
                self.free_at = Some(now + interval);
                Ok(())
            }
        }
    }
}

/// A token bucket, told by the time at which it is full again: a burst may go at once, then one an interval.
#[derive(Debug, Default, Clone, Copy)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a token, where `burst` fit in and one comes back in each `interval`.
    ///
    /// # Errors
    /// How long to wait, where there is none.
    pub fn take(&mut self, now: Instant, interval: Duration, burst: u32) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + interval;
        let latest = now + interval * burst;
        if full_at <= latest {
            self.full_at = Some(full_at);
            Ok(())
        } else {
            Err(full_at - latest)
        }
    }

    /// Whether no token is out, so that it is as good as a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a bucket of milliseconds: each passing one drops in, and a token is an interval of them.
        #[test]
        fn a_bucket_gives_what_dropped_in(steps in prop::collection::vec(0_u64..400, 1..200), interval in 1_u64..300, burst in 1_u32..12) {
            let mut now = Instant::now();
            let mut bucket = Bucket::default();
            let room = interval * u64::from(burst);
            let mut level = room;
            for step in steps {
                now += Duration::from_millis(step);
                level = room.min(level + step);
                let expected = level >= interval;
                prop_assert_eq!(bucket.is_full(now), level == room);
                let wait = Duration::from_millis(interval.saturating_sub(level));
                let taken = bucket.take(now, Duration::from_millis(interval), burst);
                prop_assert_eq!(taken, if expected { Ok(()) } else { Err(wait) });
                level -= if expected { interval } else { 0 };
            }
        }

        /// Against the plainest model: a message is accepted unless an accepted one lies less than the interval back.
        #[test]
        fn accepts_what_the_model_accepts(steps in prop::collection::vec(0_u64..400, 1..200), interval in 0_u64..300) {
            let start = Instant::now();
            let interval = Duration::from_millis(interval);
            let mut limiter = Limiter::default();
            let mut last_accepted = None;
            let mut now = start;
            for step in steps {
                now += Duration::from_millis(step);
                let expected = last_accepted.is_none_or(|last| now - last >= interval);
                match limiter.accept(now, interval) {
                    Ok(()) => {
                        prop_assert!(expected);
                        last_accepted = Some(now);
                    }
                    Err(wait) => {
                        prop_assert!(!expected);
                        prop_assert_eq!(Some(now + wait), last_accepted.map(|last| last + interval));
                    }
                }
            }
        }
    }
}

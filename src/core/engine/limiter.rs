//! The rate limit: one accepted message an interval.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
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

//! How long to wait before the next attempt to connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that double up to a limit. Each is spread over its second half, so that the nodes do not come back all at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// An attempt failed; tells how long to wait before the next, `random` being any number.
    pub(crate) fn failed(&mut self, random: u64) -> Duration {
        let longest = LONGEST.min(FIRST * 2_u32.pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        longest / 2 + (longest / 2).mul_f64(random as f64 / u64::MAX as f64)
    }

    /// An attempt succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        for random in [0, u64::MAX / 2, u64::MAX] {
            let mut backoff = Backoff::default();
            let waits: Vec<_> = (0..40).map(|_| backoff.failed(random)).collect();
            assert!(waits.is_sorted() && waits[0] <= FIRST, "{waits:?}");
            assert!((LONGEST / 2..=LONGEST).contains(&waits[39]), "{waits:?}");
            backoff.succeeded();
            assert_eq!(backoff.failed(random), waits[0]);
        }
        let first = |random| Backoff::default().failed(random);
        assert!(first(0) < first(u64::MAX));
    }
}

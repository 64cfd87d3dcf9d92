//! The clock, read once a turn; the engine and all else that is pure is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Now;

impl Now {
    /// Reads both clocks of the system.
    pub fn take() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self {
            instant: Instant::now(),
            unix_ms,
        }
    }

    /// The wall clock, as HTTP dates are made of.
    pub fn wall_clock(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}

/// A duration in nanoseconds; good for 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! Time as an argument: what the pure half is told instead of reading a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of a turn, taken once for all that happens in it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For `ts`: milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Now {
    /// The wall clock, as HTTP dates are made of.
    pub fn wall_clock(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}

/// A duration in nanoseconds; good for 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

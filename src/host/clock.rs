//! The clock, read once per turn; the pure half is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::Now;

/// Reads both clocks of the system.
pub(crate) fn now() -> Now {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    Now {
        instant: Instant::now(),
        unix_ms,
    }
}

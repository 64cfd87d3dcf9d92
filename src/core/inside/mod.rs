//! The inside view: records of what the server does, kept in fixed rings, and the frames that show them.
//!
//! The event loop keeps a record of each turn, always; the thread server times what it has to wait for. Everything else
//! (thread states, the room's ring, outboxes, the wheel, the path of one message) is collected only while somebody
//! watches. Nothing in here reads a clock or waits: both are given as functions.

pub(crate) mod follow;
pub(crate) mod threads;
pub(crate) mod trace;
pub(crate) mod turns;
pub(crate) mod view;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use follow::{Follow, Hop, Place};
use threads::Threads;
use turns::Turns;

/// Views per second at most.
pub const VIEW_INTERVAL: Duration = Duration::from_millis(100);
/// How long the handler of a `hold` blocks.
pub const HOLD: Duration = Duration::from_millis(200);
/// A loop that is stepped goes on by itself after this time without a step.
pub const STEP_PATIENCE: Duration = Duration::from_secs(30);

/// What is kept for the inside view.
#[derive(Debug)]
pub struct Inside {
    /// Whether `hold` and `step` may be asked for.
    pub experiments: bool,
    /// The turns of the loop.
    pub turns: Mutex<Turns>,
    /// The threads of the thread server.
    pub threads: Threads,
    /// The one message that is followed.
    pub follow: Follow,
    watched: AtomicBool,
    means: Means,
    origin: Instant,
}

/// What the host gives, since nothing in here reads a clock or waits by itself.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// Reads the clock.
    pub clock: fn() -> Instant,
    /// Blocks the calling thread.
    pub block: fn(Duration),
}

impl Means {
    /// The system's clock, and nothing that waits.
    #[allow(clippy::disallowed_methods, reason = "it is handed on, not called")]
    pub fn for_tests() -> Self {
        Self {
            clock: Instant::now,
            block: |_| (),
        }
    }
}

impl Inside {
    /// Empty rings, for so many places of clients.
    pub fn new(means: Means, experiments: bool, places: usize) -> Self {
        Self {
            experiments,
            turns: Mutex::new(Turns::default()),
            threads: Threads::new(places),
            follow: Follow::default(),
            watched: AtomicBool::new(false),
            means,
            origin: (means.clock)(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        (self.means.clock)()
    }

    /// A time as the records have it: tenths of a microsecond since the server started.
    pub fn ticks(&self, instant: Instant) -> u64 {
        ticks(instant.saturating_duration_since(self.origin))
    }

    /// Whether somebody watches.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Somebody begins to watch, or nobody does any more.
    pub fn set_watched(&self, watched: bool) {
        if watched && !self.is_watched() {
            self.threads.forget();
            self.turns.lock().rewind();
        }
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// A batch that may carry the followed message has reached one member; only the first counts.
    pub fn sent_to_member(&self, place: Place) {
        self.follow.mark(Hop::FirstMember, self.now(), place);
    }

    /// And all of its members; see [`Follow::batch_sent`].
    pub fn sent_batch(&self, low_watermark: u64, place: Place) {
        self.follow.batch_sent(low_watermark, self.now(), place);
    }

    /// The experiment: one blocking call in the handler of one message.
    pub fn hold(&self) {
        (self.means.block)(HOLD);
    }
}

/// A duration in tenths of a microsecond.
pub fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / 100).unwrap_or(u64::MAX)
}

/// The same where a record has 32 bits for it: up to seven minutes.
pub fn short_ticks(duration: Duration) -> u32 {
    u32::try_from(ticks(duration)).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn for_tests(places: usize) -> Inside {
        Inside::new(Means::for_tests(), true, places)
    }

    #[test]
    fn who_begins_to_watch_gets_the_last_turns() {
        let inside = for_tests(0);
        for _ in 0..3 {
            inside.turns.lock().push(turns::TurnRecord::default());
        }
        assert_eq!(inside.turns.lock().take_new().rows.len(), 3);
        assert_eq!(inside.turns.lock().take_new().rows.len(), 0);
        inside.set_watched(true);
        assert_eq!(inside.turns.lock().take_new().rows.len(), 3);
    }
}

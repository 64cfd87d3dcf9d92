//! The threads seen from inside: what each is doing, and how long it waits and sends.
//!
//! While nobody watches, each of these costs a look at a flag; only waiting for the lock, which is timed anyway, is always
//! recorded.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::core::engine::ClientId;
use crate::core::inside::threads::{Span, TICKER, ThreadState};
use crate::core::inside::{Inside, short_ticks};

thread_local! {
    /// The place of the client that this thread serves.
    static PLACE: Cell<u32> = const { Cell::new(TICKER) };
}

/// A client's thread, for as long as it lives.
pub(super) struct Place<'a> {
    inside: &'a Inside,
}

impl<'a> Place<'a> {
    pub(super) fn take(inside: &'a Inside, client: ClientId) -> Self {
        PLACE.set(client.0);
        inside.threads.set(client.0, ThreadState::Asleep);
        Self { inside }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.inside.threads.set(PLACE.get(), ThreadState::Absent);
    }
}

/// This thread does something else from now on.
pub(super) fn enter(inside: &Inside, state: ThreadState) {
    if inside.is_watched() {
        inside.threads.set(PLACE.get(), state);
    }
}

/// The same; since when, where somebody watches.
pub(super) fn begin(inside: &Inside, state: ThreadState) -> Option<Instant> {
    inside.is_watched().then(|| {
        inside.threads.set(PLACE.get(), state);
        inside.now()
    })
}

fn span(inside: &Inside, since: Instant, length: Duration, state: ThreadState) -> Span {
    Span {
        start: inside.ticks(since),
        length: short_ticks(length),
        thread: PLACE.get(),
        state,
    }
}

/// This thread has waited for the room's lock.
pub(super) fn lock_waited(inside: &Inside, since: Instant, length: Duration) {
    let span = span(inside, since, length, ThreadState::WaitingForLock);
    inside.threads.lock_waited(span);
}

/// This thread has sent a batch for the room.
pub(super) fn batch_sent(inside: &Inside, since: Option<Instant>) {
    if let Some(since) = since {
        let length = inside.now() - since;
        let span = span(inside, since, length, ThreadState::Sending);
        inside.threads.batch_sent(span);
    }
}

/// What this thread began to do has taken so long, and it goes on with what its client said.
pub(super) fn lock_held(inside: &Inside, since: Instant) {
    inside.threads.lock_held(short_ticks(inside.now() - since));
    inside.threads.set(PLACE.get(), ThreadState::Reading);
}

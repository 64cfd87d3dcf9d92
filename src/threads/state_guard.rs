//! The lock on the shared state, whose holder is timed while somebody watches.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use parking_lot::{Condvar, MutexGuard};

use super::inside;
use super::state::State;
use crate::core::inside::Inside;
use crate::core::inside::threads::ThreadState;

/// The lock on the shared state; how long it is held is timed while somebody watches.
pub(super) struct StateGuard<'a> {
    guard: MutexGuard<'a, State>,
    inside: &'a Inside,
    since: Option<Instant>,
}

impl<'a> StateGuard<'a> {
    pub(super) fn new(guard: MutexGuard<'a, State>, inside: &'a Inside) -> Self {
        let since = inside::begin(inside, ThreadState::HoldingLock);
        Self {
            guard,
            inside,
            since,
        }
    }

    /// Lets the lock go until it is told that something has changed.
    pub(super) fn wait_for(&mut self, change: &Condvar) {
        self.note_held();
        change.wait(&mut self.guard);
        self.since = inside::begin(self.inside, ThreadState::HoldingLock);
    }

    /// The same, and at most until a time.
    pub(super) fn wait_until(&mut self, change: &Condvar, deadline: Instant) {
        self.note_held();
        let _ = change.wait_until(&mut self.guard, deadline);
        self.since = inside::begin(self.inside, ThreadState::HoldingLock);
    }

    fn note_held(&mut self) {
        if let Some(since) = self.since.take() {
            inside::lock_held(self.inside, since);
        }
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        self.note_held();
    }
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.guard
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.guard
    }
}

//! The writers whose sockets took nothing, until they take something again.
//!
//! On Unix a blocking socket can be watched for being writable like any other, so a stalled one costs nothing. Elsewhere
//! each is tried again every few milliseconds.

#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

#[cfg(unix)]
use mio::{Interest, unix::SourceFd};
use mio::{Registry, Token};
use slab::Slab;

use super::client_writer::{ClientWriter, Delivered};

/// How soon sockets are tried again where they cannot be watched.
const RETRY: Option<Duration> = if cfg!(unix) {
    None
} else {
    Some(Duration::from_millis(5))
};

/// The writers that wait for their sockets, by token.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    writers: Slab<Arc<ClientWriter>>,
}

impl Stalled {
    /// How long to wait, where there is other work in `wait`.
    pub(super) fn longest_wait(&self, wait: Duration) -> Duration {
        RETRY
            .filter(|_| !self.writers.is_empty())
            .map_or(wait, |retry| wait.min(retry))
    }
}

#[cfg(unix)]
impl Stalled {
    /// Watches the writer's socket. If it is writable by now, the next poll says so.
    pub(super) fn add(&mut self, registry: &Registry, writer: Arc<ClientWriter>) {
        let entry = self.writers.vacant_entry();
        let fd = writer.socket().as_raw_fd();
        match registry.register(&mut SourceFd(&fd), Token(entry.key()), Interest::WRITABLE) {
            Ok(()) => {
                entry.insert(writer);
            }
            Err(error) => writer.give_up(&error),
        }
    }

    /// Sends on where the sockets are writable.
    pub(super) fn retry(&mut self, registry: &Registry, writable: impl Iterator<Item = Token>) {
        for token in writable {
            let Some(writer) = self.writers.get(token.0) else {
                continue;
            };
            // One that still waits is reported again: the kernel had no room at the end of this.
            if writer.retry() == Delivered::Settled {
                let writer = self.writers.remove(token.0);
                let _ = registry.deregister(&mut SourceFd(&writer.socket().as_raw_fd()));
            }
        }
    }
}

#[cfg(not(unix))]
impl Stalled {
    /// Remembers the writer.
    pub(super) fn add(&mut self, _: &Registry, writer: Arc<ClientWriter>) {
        self.writers.insert(writer);
    }

    /// Tries all of them.
    pub(super) fn retry(&mut self, _: &Registry, _: impl Iterator<Item = Token>) {
        self.writers
            .retain(|_, writer| writer.retry() == Delivered::Pending);
    }
}

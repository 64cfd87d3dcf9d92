//! Mailboxes whose sockets took nothing, until they take something again.
//!
//! On Unix a blocking socket can be watched for being writable as any other can, so a stalled one costs nothing. Elsewhere
//! each is tried again every few milliseconds.

#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

#[cfg(unix)]
use mio::{Interest, unix::SourceFd};
use mio::{Registry, Token};
use slab::Slab;

use super::mailbox::{Delivered, Mailbox};

/// How soon sockets are tried again where they cannot be watched.
const RETRY: Option<Duration> = if cfg!(unix) {
    None
} else {
    Some(Duration::from_millis(5))
};

/// Who waits for a socket, by its token.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    mailboxes: Slab<Arc<Mailbox>>,
}

impl Stalled {
    /// How long to wait, where there is other work in `wait`.
    pub(super) fn longest_wait(&self, wait: Duration) -> Duration {
        RETRY
            .filter(|_| !self.mailboxes.is_empty())
            .map_or(wait, |retry| wait.min(retry))
    }
}

#[cfg(unix)]
impl Stalled {
    /// Watches the mailbox's socket. If it is writable by now, the next poll says so.
    pub(super) fn add(&mut self, registry: &Registry, mailbox: Arc<Mailbox>) {
        let entry = self.mailboxes.vacant_entry();
        let fd = mailbox.socket().as_raw_fd();
        match registry.register(&mut SourceFd(&fd), Token(entry.key()), Interest::WRITABLE) {
            Ok(()) => {
                entry.insert(mailbox);
            }
            Err(error) => mailbox.give_up(&error),
        }
    }

    /// Sends on where the sockets are writable.
    pub(super) fn retry(&mut self, registry: &Registry, writable: impl Iterator<Item = Token>) {
        for token in writable {
            let Some(mailbox) = self.mailboxes.get(token.0) else {
                continue;
            };
            // Whoever is still behind is told of again: the kernel had no room at the end of this.
            if mailbox.retry() == Delivered::Settled {
                let mailbox = self.mailboxes.remove(token.0);
                let _ = registry.deregister(&mut SourceFd(&mailbox.socket().as_raw_fd()));
            }
        }
    }
}

#[cfg(not(unix))]
impl Stalled {
    /// Remembers the mailbox.
    pub(super) fn add(&mut self, _: &Registry, mailbox: Arc<Mailbox>) {
        self.mailboxes.insert(mailbox);
    }

    /// Tries all of them.
    pub(super) fn retry(&mut self, _: &Registry, _: impl Iterator<Item = Token>) {
        self.mailboxes
            .retain(|_, mailbox| mailbox.retry() == Delivered::Behind);
    }
}

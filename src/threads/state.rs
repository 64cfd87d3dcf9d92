//! What the thread server's one lock protects: the engine, the table of clients, and who sends for the room.
//!
//! Nothing in here touches a socket. A batch is taken under the lock and sent after letting it go.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use super::client_writer::{ClientWriter, Delivered};
use crate::core::engine::{ClientId, Engine, Values};
use crate::core::inside::Inside;
use crate::core::inside::follow::Place;
use crate::core::inside::view::View;
use crate::core::time::Now;

/// What the one lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) engine: Engine,
    /// Each client's writer, by the client's id.
    pub(super) writers: Slab<Arc<ClientWriter>>,
    pub(super) sending: Sending,
    /// When the first frame was appended that no batch has taken yet.
    appended_at: Option<Instant>,
    /// Writers with something waiting that no thread is seeing to.
    pub(super) pending_retry: Vec<Arc<ClientWriter>>,
    /// When the ticker will look at the engine's deadline by itself.
    pub(super) ticker_wakes: Instant,
    /// Sockets accepted over the server's life.
    pub(super) accepted: u64,
}

/// Which thread sends what the room's log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// No thread; the next that appends elects itself.
    Idle,
    /// One thread.
    Elected,
    /// None, but the ticker has been asked to go on.
    HandedOver,
}

/// Members to be sent to, with their writers.
#[derive(Debug)]
pub(super) struct Batch {
    /// Each with the slices it lacks.
    pub(super) members: Vec<(Arc<ClientWriter>, Range<usize>)>,
    pub(super) slices: Vec<Bytes>,
    /// The number of the slice behind the last of them.
    pub(super) end: u64,
    /// When it has been sent, every member has the slices before this number.
    pub(super) low_watermark: u64,
    /// How long the first of the frames has waited for a thread to send it.
    pub(super) waited_since: Option<Instant>,
}

/// Where a member is sent to, and where all of a batch are.
const WRITES: Place = Place {
    file: "src/threads/client_writer.rs",
    function: "ClientWriter::write_batch",
};
const DELIVERS: Place = Place {
    file: "src/threads/state.rs",
    function: "Batch::deliver",
};

impl Batch {
    /// Delivers it to its members; gives back those for which something is left to do.
    pub(super) fn deliver(
        &self,
        inside: &Inside,
        deliver: impl Fn(&ClientWriter, Range<usize>) -> Delivered,
    ) -> Vec<Arc<ClientWriter>> {
        let followed = inside.follow.is_carried_by(self.end);
        let mut pending = Vec::new();
        for (writer, lacking) in &self.members {
            if deliver(writer, lacking.clone()) == Delivered::Pending {
                pending.push(Arc::clone(writer));
            }
            if followed {
                inside.sent_to_member(WRITES);
            }
        }
        if followed {
            inside.sent_batch(self.low_watermark, DELIVERS);
        }
        pending
    }
}

impl State {
    /// An empty one, around this engine.
    pub(super) fn new(engine: Engine, now: Now) -> Self {
        Self {
            engine,
            writers: Slab::new(),
            sending: Sending::Idle,
            appended_at: None,
            pending_retry: Vec::new(),
            ticker_wakes: now.instant,
            accepted: 0,
        }
    }

    /// Changes the engine, and notes when there is something for the room.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut Engine) -> R) -> R {
        let before = self.engine.log().lag_bytes();
        let result = change(&mut self.engine);
        if self.engine.log().lag_bytes() > before {
            self.appended_at.get_or_insert_with(Instant::now);
        }
        result
    }

    /// Takes the next batch, for at most so many members: the caller sends it.
    pub(super) fn next_batch(&mut self, members_max: usize) -> Batch {
        let batch = self.engine.next_batch(members_max);
        let writer = |(client, lacking): (ClientId, Range<usize>)| {
            (Arc::clone(&self.writers[client.index()]), lacking)
        };
        Batch {
            members: batch.members.into_iter().map(writer).collect(),
            slices: batch.slices,
            end: batch.end,
            low_watermark: batch.low_watermark,
            waited_since: self.appended_at.take(),
        }
    }

    /// Whether the caller must send what the log has: there is something, and no thread is at it.
    pub(super) fn elect(&mut self) -> bool {
        let elected = self.sending == Sending::Idle && self.engine.log().is_lagging();
        if elected {
            self.sending = Sending::Elected;
        }
        elected
    }

    /// Whether the ticker must go on sending, which it has been asked to.
    pub(super) fn take_over(&mut self) -> bool {
        let asked = self.sending == Sending::HandedOver;
        if asked {
            self.sending = Sending::Elected;
        }
        asked
    }

    /// The writers of all clients that are in.
    pub(super) fn clients(&self) -> impl Iterator<Item = &Arc<ClientWriter>> {
        self.writers
            .iter()
            .map(|(_, writer)| writer)
            .filter(|writer| self.engine.has(writer.client()))
    }

    /// Queues a view for each reader of the inside view, as the dashboard's values are.
    pub(super) fn send_view(&mut self, now: Now, view: View) -> Vec<Arc<ClientWriter>> {
        let mut readers = Vec::new();
        let writers = &self.writers;
        self.engine.send_view(now, view, |client, frame| {
            let writer = &writers[client.index()];
            writer.enqueue_from_other(frame);
            readers.push(Arc::clone(writer));
        });
        readers
    }

    /// Queues what Redis has answered for each client that it is for.
    pub(super) fn take_answers(&mut self, now: Now) -> Vec<Arc<ClientWriter>> {
        let mut answered = Vec::new();
        let writers = &self.writers;
        self.engine.take_answers(now, |client, frames| {
            let writer = &writers[client.index()];
            writer.enqueue_from_other(frames);
            answered.push(Arc::clone(writer));
        });
        answered
    }

    /// Queues the dashboard's values for each watcher. They are sent after the lock is let go, but stand in the outbox
    /// before any watcher can change what it wants, so that nothing unwanted comes after the confirmation.
    pub(super) fn tick(&mut self, now: Now, values: &Values) -> Vec<Arc<ClientWriter>> {
        let mut watchers = Vec::new();
        let writers = &self.writers;
        self.engine.tick(now, values, |client, frames| {
            let writer = &writers[client.index()];
            writer.enqueue_from_other(frames);
            watchers.push(Arc::clone(writer));
        });
        watchers
    }
}

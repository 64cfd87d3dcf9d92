//! What the threads share: the engine behind its lock, and how one client's message reaches the others.
//!
//! A thread that has something to say takes the lock, lets the engine append the message to the room's log, and lets the
//! lock go. If no thread is sending, it has elected itself: it takes the next batch of the
//! [log](crate::core::engine::broadcast_log), a few members at a time, each of which gets all it lacks, until no member
//! lacks anything. A thread that finds another one sending leaves its message to that one. So the room has one order,
//! the same bytes go to each member with one call per round, and the busier it is the more each call carries, as in the
//! event loop. After some batches the ticker takes over, so that no client pays for being the first to speak.
//!
//! A batch waits for no client: what a member's socket does not take at once stays in its writer, which the next batch or
//! the ticker tries again, and which is cut off at its limit.
//!
//! # What each way of delivery cost
//!
//! Two cores shared with the load generator, release build, messages of 86 bytes on the wire, 2026-11-24; the two simpler
//! ways are kept behind the hidden flag `--delivery`, so that they can be measured again:
//!
//! ```text
//! thread-server --chat-interval 0s --log warn --delivery direct|outboxes|elected
//! compare --no-pin --target ws://127.0.0.1:8765 --pid PID --scenario fanout --clients 1000 --rate 2000
//! ```
//!
//! | way | 300 clients | 1,000 clients | what else it costs |
//! |---|---|---|---|
//! | `direct`: the sender's thread writes to each client under that client's lock | 0.37 M/s | 0.36 M/s | a slow client stalls every thread that comes to it; each of 32 sampled clients heard another order |
//! | `outboxes`: one order by filling an outbox for each client under the room's lock, sent by the first thread that gets there | 0.52 M/s | 0.30 M/s | the room's lock is held for as long as the room is large |
//! | `elected` | 8.9 M/s, p99 42 ms | 21 M/s, p99 220 ms | one thread at a time sends, whatever the number of cores |
//!
//! The first two are saturated at these deliveries per second; the third still made every delivery that was due, at
//! 30,000 messages per second to 300 clients and 20,000 to 1,000.
//!
//! Shared pages ([`WriteBatch::shared`]) are not for blocking sockets: `sendfile(2)` has no flag like `MSG_DONTWAIT`, so a
//! batch would wait for a slow client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mio::Waker;
use parking_lot::{Condvar, Mutex, RwLock};

use super::client_writer::{ClientWriter, Delivered};
use super::inside;
use super::state::{Batch, Sending, State};
use super::state_guard::StateGuard;
use crate::config::Delivery;
use crate::core::answers;
use crate::core::arrival::Arrival;
use crate::core::context::Context;
use crate::core::engine::broadcast_log::{self, MEMBERS_PER_BATCH};
use crate::core::engine::{ClientId, Close, Engine, whole_ms};
use crate::core::http::Refusal;
use crate::core::inside::threads::ThreadState;
use crate::core::protocol::Outgoing;
use crate::core::websocket::frame;
use crate::host::clock;
use crate::net::accept;
use crate::net::write_batch::WriteBatch;

/// Batches that a thread sends for the room before it goes back to its own work: a client's hands over to the ticker,
/// which looks at its clock and comes back.
const BATCHES_PER_THREAD: usize = 16;

/// All that is shared.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) context: Arc<Context>,
    pub(super) delivery: Delivery,
    state: Mutex<State>,
    /// Held for writing while a batch is sent; in the simpler ways of delivery for reading, by each thread that sends.
    pub(super) round: RwLock<()>,
    /// Wakes the ticker before its time, once there is one.
    ticker: OnceLock<Waker>,
    /// Wakes clients that have spoken faster than the room is sent what they say.
    caught_up: Condvar,
    /// Wakes the thread that publishes, where the room is on Redis.
    pub(super) said: Condvar,
}

impl Shared {
    pub(super) fn new(context: Arc<Context>, delivery: Delivery) -> Self {
        let now = clock::now();
        let engine = Engine::new(Arc::clone(&context), now);
        Self {
            context,
            delivery,
            state: Mutex::new(State::new(engine, now)),
            round: RwLock::new(()),
            ticker: OnceLock::new(),
            caught_up: Condvar::new(),
            said: Condvar::new(),
        }
    }

    /// There is a ticker, woken by this.
    pub(super) fn set_waker(&self, waker: Waker) {
        let _ = self.ticker.set(waker);
    }

    /// The ticker has something to do before its time.
    pub(super) fn wake_ticker(&self) {
        if let Some(waker) = self.ticker.get() {
            let _ = waker.wake();
        }
    }

    /// Takes the lock; how long that took is what a ready message waited.
    pub(super) fn state(&self) -> StateGuard<'_> {
        let inside = &self.context.inside;
        if let Some(state) = self.state.try_lock() {
            self.context.counters.waited(Duration::ZERO);
            return StateGuard::new(state, inside);
        }
        let since = Instant::now();
        inside::enter(inside, ThreadState::WaitingForLock);
        let state = self.state.lock();
        let waited = since.elapsed();
        self.context.counters.waited(waited);
        inside::lock_waited(inside, since, waited);
        StateGuard::new(state, inside)
    }

    /// A socket gets its place and its writer; also tells its number over the server's life.
    pub(super) fn enter(&self, socket: TcpStream) -> (u64, Arc<ClientWriter>) {
        self.context.counters.socket_opened();
        let mut state = self.state();
        state.accepted += 1;
        let number = state.accepted;
        let entry = state.writers.vacant_entry();
        let client =
            ClientId(u32::try_from(entry.key()).expect("the limit on sockets keeps places small"));
        let writer = ClientWriter::new(client, socket, Arc::clone(&self.context));
        let writer = Arc::clone(entry.insert(Arc::new(writer)));
        (number, writer)
    }

    /// Answers on a nonblocking socket that has no place here and is closed next.
    pub(super) fn answer_without_place(
        &self,
        socket: &mut (impl Read + Write),
        arrival: &Arrival,
        refusal: Refusal,
    ) {
        let draining = self.state().engine.is_draining();
        accept::turn_away(socket, |input| {
            let now = clock::now();
            answers::answer_without_place(&self.context, draining, arrival, now, input, refusal)
        });
    }

    /// A socket is gone, its conversation has left the room.
    pub(super) fn exit(&self, client: ClientId) {
        self.state().writers.remove(client.index());
        self.context.counters.socket_closed();
    }

    pub(super) fn client_count(&self) -> usize {
        self.state().engine.client_count()
    }

    /// Every client gets what the room's log has for it, and a Close, from this thread: its own is waiting for it to
    /// speak. No message is accepted from the moment on at which the last batch is taken, so that none is acknowledged
    /// that would stand behind a Close.
    pub(super) fn drain(&self) {
        // In the simpler ways of delivery a slow client can hold this up, but not for longer than a Close may take.
        let round = self.round.try_write_for(self.context.limits.close_timeout);
        let mut state = self.state();
        state.engine.drain();
        let last = state.next_batch(usize::MAX);
        let writers: Vec<_> = state.clients().cloned().collect();
        for writer in &writers {
            writer.enqueue(state.engine.end_replay(writer.client()));
        }
        drop(state);
        let mut pending = self.send(&last);
        pending.extend(
            writers
                .into_iter()
                .filter(|writer| writer.close_after(&[], Close::GOING_AWAY) == Delivered::Pending),
        );
        drop(round);
        self.retry_later(pending);
    }

    /// No client is let in any more; tells the writers of those who are in.
    pub(super) fn close_the_door(&self) -> Vec<Arc<ClientWriter>> {
        let mut state = self.state();
        state.engine.close_the_door();
        state.clients().cloned().collect()
    }

    /// These clients get what the room's log has for them, word that the server restarts, and a Close. From the moment on
    /// at which the batch is taken they are not heard any more, for the reason that [`Shared::drain`] has; for the others
    /// the room goes on.
    pub(super) fn restart(&self, leaving: &[Arc<ClientWriter>], retry_after: Duration) {
        let now = clock::now();
        let message = Outgoing::restart(now.unix_ms, whole_ms(retry_after));
        let json = serde_json::to_vec(&message).expect("plain data, written to memory");
        let mut last = Vec::new();
        frame::text(&mut last, &json);
        self.context
            .counters
            .deliveries
            .inc_by(leaving.len() as u64);
        let round = self.round.try_write_for(self.context.limits.close_timeout);
        let mut state = self.state();
        for writer in leaving {
            state.engine.dismiss(writer.client());
        }
        let batch = state.next_batch(usize::MAX);
        drop(state);
        let mut pending = self.send(&batch);
        let closed = leaving
            .iter()
            .filter(|writer| writer.close_after(&last, Close::RESTART) == Delivered::Pending);
        pending.extend(closed.cloned());
        drop(round);
        self.retry_later(pending);
    }

    /// A client that has not answered its Close by now is not waited for any longer.
    pub(super) fn force_close_the_silent(&self) {
        self.state()
            .clients()
            .for_each(|writer| writer.force_close());
    }

    /// Whether no WebSocket is open, and all has been sent.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state();
        state.engine.client_count() == 0
            && state.writers.iter().all(|(_, writer)| writer.is_quiet())
    }

    /// Sends batches until no member lacks anything, or so many; then the ticker goes on. The caller has elected itself.
    pub(super) fn send_for_room(&self) {
        for _ in 0..BATCHES_PER_THREAD {
            let round = self.round.write();
            let Some(batch) = self.next_batch() else {
                return;
            };
            let pending = self.send(&batch);
            drop(round);
            self.retry_later(pending);
        }
        self.state().sending = Sending::HandedOver;
        self.wake_ticker();
    }

    /// Remembers the writers that could not send everything.
    pub(super) fn retry_later(&self, pending: Vec<Arc<ClientWriter>>) {
        if !pending.is_empty() {
            self.state().pending_retry.extend(pending);
            self.wake_ticker();
        }
    }

    /// The next batch. Where there is none, no thread is sending any more.
    pub(super) fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state();
        if !state.engine.log().is_lagging() {
            state.sending = Sending::Idle;
            self.caught_up.notify_one();
            return None;
        }
        let batch = state.next_batch(MEMBERS_PER_BATCH);
        if let Some(since) = batch.waited_since {
            self.context.counters.waited(since.elapsed());
        }
        if !self.is_over_limit(&state) {
            self.caught_up.notify_one();
        }
        Some(batch)
    }

    /// Whether the log lags so far behind that its clients must wait before they say more.
    pub(super) fn is_over_limit(&self, state: &State) -> bool {
        let max = broadcast_log::lag_bytes_max(self.context.limits.max_unsent);
        state.engine.log().lag_bytes() > max
    }

    /// A client waits before it says more, until the members have caught up: no batch waits for one that does not read.
    pub(super) fn wait_until_caught_up(&self) {
        let mut state = self.state();
        while state.sending != Sending::Idle && self.is_over_limit(&state) {
            inside::enter(&self.context.inside, ThreadState::WaitingForClient);
            state.wait_for(&self.caught_up);
        }
        // One wakes the next, as long as there is room: all at once would stand in each other's way.
        self.caught_up.notify_one();
    }

    /// Sends a batch; tells which writers could not send everything.
    pub(super) fn send(&self, batch: &Batch) -> Vec<Arc<ClientWriter>> {
        let inside = &self.context.inside;
        let since = inside::begin(inside, ThreadState::Sending);
        let write_batch = WriteBatch::copied(&batch.slices);
        let pending = batch.deliver(inside, |writer, lacking| {
            writer.write_batch(&write_batch, lacking)
        });
        inside::batch_sent(inside, since);
        pending
    }
}

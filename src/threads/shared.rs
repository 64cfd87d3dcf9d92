//! What the threads share: the engine behind its lock, and the way of one client's message to the others.
//!
//! A thread that was given something to say takes the lock, lets the engine append the message to what the room has
//! said, and lets the lock go. If nobody is sending, it has elected itself: it makes the next visits of the
//! [carousel], a few members at a time, each of whom gets all that was said since its last visit, until everyone has
//! heard everything. A thread that finds somebody sending leaves its message to that one. So the room has one order,
//! the same bytes go to each member with one call a round, and the busier it is the more each call carries, as in the
//! event loop. After some turns the ticker takes over, so that no client pays for being the first to speak.
//!
//! A visit waits for nobody: what a member's socket does not take at once stays in its mailbox, which the next visit or
//! the ticker tries again, and which is cut off at its limit.
//!
//! # What each way of delivery cost
//!
//! Two cores shared with the load generator, release build, messages of 86 bytes on the wire, 2026-11-24; the two simpler
//! ways are kept behind the hidden flag `--delivery`, so that anybody can measure them again:
//!
//! ```text
//! thread-server --chat-interval 0s --log warn --delivery direct|outboxes|elected
//! compare --no-pin --target ws://127.0.0.1:8765 --pid PID --scenario fanout --clients 1000 --rate 2000
//! ```
//!
//! | way | 300 clients | 1,000 clients | what else it costs |
//! |---|---|---|---|
//! | `direct`: the sender's thread writes to each client under that client's lock | 0.37 M/s | 0.36 M/s | a slow client stalls every thread that comes to it; each of 32 sampled clients heard another order |
//! | `outboxes`: one order by filling an outbox for each client under the room's lock, sent by whichever thread gets there | 0.52 M/s | 0.30 M/s | the room's lock is held for as long as the room is large |
//! | `elected` | 8.9 M/s, p99 42 ms | 21 M/s, p99 220 ms | one thread at a time sends, whatever the number of cores |
//!
//! The first two are saturated at these deliveries a second; the third still made every delivery that was due, at 30,000
//! messages a second to 300 clients and 20,000 to 1,000.
//!
//! Shared pages ([`Sheet::shared`]) are not for blocking sockets: `sendfile(2)` has no flag like `MSG_DONTWAIT`, so a
//! visit would wait for a slow client.

use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use mio::Waker;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::hall::{Hall, Seat, Visits};
use super::mailbox::{Delivered, Mailbox};
use super::visitor::Visitor;
use crate::carousel::{self, VISITS_A_TURN};
use crate::config::Config;
use crate::engine::stats::Stats;
use crate::engine::{ClientId, Close, Engine, Founding, Now};
use crate::sheet::Sheet;

/// Turns that a thread sends for all before it goes back to its own work: a client's is relieved by the ticker, which
/// looks at its clock and comes back.
const TURNS: usize = 16;

/// What every client is told when the server stops (RFC 6455 §7.4.1).
pub(super) const GOING_AWAY: Close = Close {
    code: 1001,
    reason: "server is shutting down",
};

/// All that is shared.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) model: &'static str,
    pub(super) stats: Arc<Stats>,
    hall: Mutex<Hall>,
    /// Held while visits are made; taken before `hall` where both are.
    pub(super) round: Mutex<()>,
    /// Wakes the ticker before its time, once there is one.
    ticker: OnceLock<Waker>,
    /// Wakes those who have spoken faster than the room is sent what they say.
    listened: Condvar,
}

impl Shared {
    pub(super) fn new(config: Arc<Config>, founding: Founding) -> Self {
        let now = Now::take();
        let stats = Arc::new(Stats::new());
        let model = founding.model;
        let engine = Engine::new(Arc::clone(&config), founding, Arc::clone(&stats), now);
        Self {
            config,
            model,
            stats,
            hall: Mutex::new(Hall::new(engine, now)),
            round: Mutex::new(()),
            ticker: OnceLock::new(),
            listened: Condvar::new(),
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
    pub(super) fn hall(&self) -> MutexGuard<'_, Hall> {
        if let Some(hall) = self.hall.try_lock() {
            self.stats.waited(std::time::Duration::ZERO);
            return hall;
        }
        let since = Instant::now();
        let hall = self.hall.lock();
        self.stats.waited(since.elapsed());
        hall
    }

    /// A socket gets its place and its mailbox; also tells its number over the server's life.
    pub(super) fn enter(self: &Arc<Self>, socket: TcpStream) -> (u64, Visitor) {
        self.stats.socket_opened();
        let mut hall = self.hall();
        hall.connections += 1;
        let number = hall.connections;
        let entry = hall.seats.vacant_entry();
        let client =
            ClientId(u32::try_from(entry.key()).expect("the limit on sockets keeps places small"));
        let mailbox = Arc::new(Mailbox::new(
            client,
            socket,
            self.config.max_unsent,
            Arc::clone(&self.stats),
        ));
        entry.insert(Seat {
            number,
            mailbox: Arc::clone(&mailbox),
            heard: None,
        });
        drop(hall);
        (number, Visitor::new(Arc::clone(self), mailbox))
    }

    /// A socket is gone, its conversation has left the room.
    pub(super) fn exit(&self, client: ClientId) {
        self.hall().seats.remove(client.index());
        self.stats.socket_closed();
    }

    pub(super) fn client_count(&self) -> usize {
        self.hall().engine.client_count()
    }

    /// Every client gets what the room has said so far and a Close, from this thread: its own is waiting for it to speak.
    pub(super) fn drain(&self) {
        let round = self.round.lock();
        let mut hall = self.hall();
        hall.engine.drain();
        let last_words = hall.next_visits(usize::MAX);
        let mailboxes: Vec<_> = hall.clients().cloned().collect();
        drop(hall);
        let mut behind = make(&last_words);
        behind.extend(
            mailboxes
                .into_iter()
                .filter(|mailbox| mailbox.close(GOING_AWAY) == Delivered::Behind),
        );
        drop(round);
        self.retry_later(behind);
    }

    /// Whoever has not answered its Close by now is not waited for any longer.
    pub(super) fn hang_up_on_the_silent(&self) {
        self.hall().clients().for_each(|mailbox| mailbox.hang_up());
    }

    /// Whether no WebSocket is open, and all that was said has been sent.
    pub(super) fn is_quiet(&self) -> bool {
        let hall = self.hall();
        hall.engine.client_count() == 0
            && hall.seats.iter().all(|(_, seat)| seat.mailbox.is_quiet())
    }

    /// Goes on round the room until everyone has heard everything, or for some turns; then the ticker goes on. The caller
    /// has elected itself.
    pub(super) fn send_for_all(&self) {
        for _ in 0..TURNS {
            let round = self.round.lock();
            let Some(visits) = self.next_turn() else {
                return;
            };
            let behind = make(&visits);
            drop(round);
            self.retry_later(behind);
        }
        self.hall().relief = true;
        self.wake_ticker();
    }

    /// Remembers who could not be sent everything.
    pub(super) fn retry_later(&self, behind: Vec<Arc<Mailbox>>) {
        if !behind.is_empty() {
            self.hall().behind.extend(behind);
            self.wake_ticker();
        }
    }

    /// The next visits. Where there are none to make, nobody is sending any more.
    pub(super) fn next_turn(&self) -> Option<Visits> {
        let mut hall = self.hall();
        if !hall.has_something_to_send() {
            hall.sending = false;
            self.listened.notify_one();
            return None;
        }
        if !hall.batch.is_empty() {
            self.stats.waited(hall.batch_since.elapsed());
        }
        let visits = hall.next_visits(VISITS_A_TURN);
        if hall.unheard() <= self.unheard_max() {
            self.listened.notify_one();
        }
        Some(visits)
    }

    pub(super) fn unheard_max(&self) -> usize {
        carousel::unheard_max(self.config.max_unsent)
    }

    /// Whoever speaks waits for those who listen, as far as they read: no visit waits for one who does not.
    pub(super) fn wait_for_listeners(&self) {
        let mut hall = self.hall();
        while hall.sending && hall.unheard() > self.unheard_max() {
            self.listened.wait(&mut hall);
        }
        // One wakes the next, as long as there is room: all at once would stand in each other's way.
        self.listened.notify_one();
    }
}

/// Makes these visits; tells who could not be sent everything.
pub(super) fn make(visits: &Visits) -> Vec<Arc<Mailbox>> {
    let sheet = Sheet::copied(&visits.talk);
    let behind = visits
        .members
        .iter()
        .filter(|(member, first)| member.visit(&sheet, *first) == Delivered::Behind);
    behind.map(|(member, _)| Arc::clone(member)).collect()
}

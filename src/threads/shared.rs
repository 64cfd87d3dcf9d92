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
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::hall::{Hall, Seat, Visits};
use super::mailbox::{Delivered, Mailbox};
use crate::carousel::{self, VISITS_A_TURN};
use crate::config::{Config, Delivery};
use crate::conversation::Lab;
use crate::engine::stats::Stats;
use crate::engine::{ClientId, Close, Effects, Engine, Founding, Now};
use crate::sheet::Sheet;

/// Turns that a thread sends for all before it goes back to its own work: a client's is relieved by the ticker, which
/// looks at its clock and comes back.
const TURNS: usize = 16;

/// Room for replies that each client's thread keeps; what a long answer took beyond it is given back.
const KEPT_REPLY: usize = 4 * 1024;

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
    round: Mutex<()>,
    /// Wakes the ticker before its time.
    pub(super) ticker: Condvar,
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
            ticker: Condvar::new(),
            listened: Condvar::new(),
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
        let effects = Effects::new(Arc::clone(&self.stats));
        (
            number,
            Visitor {
                shared: Arc::clone(self),
                mailbox,
                effects,
                elected: false,
                ahead: false,
                parting: None,
                errands: Vec::new(),
            },
        )
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

    /// Bytes waiting in all mailboxes.
    pub(super) fn unsent(&self) -> usize {
        let mailboxes: Vec<_> = self
            .hall()
            .seats
            .iter()
            .map(|(_, seat)| Arc::clone(&seat.mailbox))
            .collect();
        mailboxes.iter().map(|mailbox| mailbox.unsent()).sum()
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
        self.ticker.notify_one();
    }

    /// Remembers who could not be sent everything.
    pub(super) fn retry_later(&self, behind: Vec<Arc<Mailbox>>) {
        if !behind.is_empty() {
            self.hall().behind.extend(behind);
            self.ticker.notify_one();
        }
    }

    /// The next visits. Where there are none to make, nobody is sending any more.
    fn next_turn(&self) -> Option<Visits> {
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

    fn unheard_max(&self) -> usize {
        carousel::unheard_max(self.config.max_unsent)
    }

    /// Whoever speaks waits for those who listen, as far as they read: no visit waits for one who does not.
    fn wait_for_listeners(&self) {
        let mut hall = self.hall();
        while hall.sending && hall.unheard() > self.unheard_max() {
            self.listened.wait(&mut hall);
        }
        // One wakes the next, as long as there is room: all at once would stand in each other's way.
        self.listened.notify_one();
    }
}

/// Makes these visits; tells who could not be sent everything.
fn make(visits: &Visits) -> Vec<Arc<Mailbox>> {
    let sheet = Sheet::copied(&visits.talk);
    let behind = visits
        .members
        .iter()
        .filter(|(member, first)| member.visit(&sheet, *first) == Delivered::Behind);
    behind.map(|(member, _)| Arc::clone(member)).collect()
}

/// A client's thread's way to the engine.
#[derive(Debug)]
pub(super) struct Visitor {
    shared: Arc<Shared>,
    pub(super) mailbox: Arc<Mailbox>,
    effects: Effects,
    /// This thread must send what the room has said.
    elected: bool,
    /// The room has yet to hear so much that this client must wait before it says more.
    ahead: bool,
    /// The client has left, and is still owed this share of the room's batch.
    parting: Option<Vec<Bytes>>,
    /// In the simpler ways of delivery: what this thread must send itself.
    errands: Vec<Errand>,
}

/// A message and those it is for, in the simpler ways of delivery.
#[derive(Debug)]
struct Errand {
    visits: Visits,
    way: Delivery,
}

impl Lab for Visitor {
    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Effects) -> R) -> R {
        let mut hall = self.shared.hall();
        let was_in = hall.engine.has(self.client());
        let result = hall.change(&mut self.effects, change);
        if let Some(joined) = self.effects.joined.take() {
            hall.join(self.client(), joined.broadcast);
        }
        let is_in = hall.engine.has(self.client());
        if is_in && !self.effects.reply.is_empty() {
            // A welcome must stand in the mailbox before anybody can put a batch, a tick or a Close there, and the
            // confirmation of a subscription before the first tick that follows it.
            self.mailbox.push(take_replies(&mut self.effects));
        }
        if was_in && !is_in {
            // Whoever was not in the room has no share in what it said.
            let before = self.effects.left_at.take().unwrap_or(0);
            self.parting = Some(hall.leave(self.client(), before));
            self.mailbox.leave();
        }
        match self.shared.config.delivery {
            Delivery::Elected => self.elected |= hall.elect(),
            simpler => self.errands.extend(Errand::take(&mut hall, simpler)),
        }
        self.ahead = hall.unheard() > self.shared.unheard_max();
        if hall.engine.deadline() < hall.ticker_wakes {
            self.shared.ticker.notify_one();
        }
        result
    }

    fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }
}

impl Visitor {
    /// Sends what the conversation has come up with, first to the others, then to its own client.
    ///
    /// # Errors
    /// The client is gone, or did not read in time.
    pub(super) fn deliver(&mut self) -> std::io::Result<()> {
        self.send_for_all();
        if let Some(share) = self.parting.take() {
            // A round that began before the client left may still have frames for it, and a Close must be the last.
            drop(self.shared.round.lock());
            self.mailbox.part(share, take_replies(&mut self.effects));
        }
        self.mailbox.push(take_replies(&mut self.effects));
        self.mailbox.send_all()?;
        if std::mem::take(&mut self.ahead) {
            self.shared.wait_for_listeners();
        }
        Ok(())
    }

    /// Sends what the room has said, if this thread was elected to.
    pub(super) fn send_for_all(&mut self) {
        for errand in self.errands.drain(..) {
            errand.run(&self.shared);
        }
        if std::mem::take(&mut self.elected) {
            self.shared.send_for_all();
        }
    }

    /// The figures everything is counted in.
    pub(super) fn stats(&self) -> &Stats {
        self.effects.stats()
    }

    /// Forgets what the conversation has come up with for its own client: it is gone, or was told already.
    pub(super) fn discard_replies(&mut self) {
        self.effects.reply.clear();
        self.parting = None;
    }

    /// The client's place.
    pub(super) fn client(&self) -> ClientId {
        self.mailbox.client()
    }
}

impl Errand {
    /// In the simpler ways: takes what was said just now, for the thread of the one who said it.
    fn take(hall: &mut Hall, way: Delivery) -> Option<Self> {
        if !hall.has_something_to_send() {
            return None;
        }
        let visits = hall.next_visits(usize::MAX);
        if way == Delivery::Outboxes {
            for (member, first) in &visits.members {
                visits.talk[*first..]
                    .iter()
                    .for_each(|frames| member.put(frames));
            }
        }
        Some(Self { visits, way })
    }

    fn run(&self, shared: &Shared) {
        match self.way {
            Delivery::Direct => {
                for (member, first) in &self.visits.members {
                    member.write_through(&self.visits.talk[*first..]);
                }
            }
            Delivery::Outboxes | Delivery::Elected => {
                let members = self.visits.members.iter().map(|(member, _)| member);
                let behind = members.filter(|member| member.send_waiting() == Delivered::Behind);
                shared.retry_later(behind.cloned().collect());
            }
        }
    }
}

fn take_replies(effects: &mut Effects) -> Bytes {
    let replies = Bytes::copy_from_slice(&effects.reply);
    effects.reply.clear();
    effects.reply.shrink_to(KEPT_REPLY);
    replies
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::conversation::Conversation;
    use crate::protocol::Metric;

    fn lab() -> Arc<Shared> {
        let mut config = Config::defaults();
        config.chat_interval = Duration::ZERO;
        let founding = Founding {
            model: "threads",
            epoch: "epoch".to_owned(),
            report: None,
        };
        Arc::new(Shared::new(Arc::new(config), founding))
    }

    /// A client, and its thread's part played by the test.
    struct Guest {
        peer: TcpStream,
        conversation: Conversation,
        visitor: Visitor,
    }

    impl Guest {
        fn comes_to(path: &str, shared: &Arc<Shared>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let peer =
                TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
            peer.set_read_timeout(Some(Duration::from_secs(10)))
                .expect("a deadline");
            let (socket, address) = listener.accept().expect("a client");
            let (_, visitor) = shared.enter(socket);
            let conversation =
                Conversation::new(visitor.client(), address, Now::take(), &shared.config);
            let mut guest = Self {
                peer,
                conversation,
                visitor,
            };
            guest.sends(
                format!(
                    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
                .as_bytes(),
            );
            guest
        }

        /// Its thread reads this, and has not delivered anything yet.
        fn sends(&mut self, bytes: &[u8]) {
            self.conversation
                .receive(Now::take(), bytes, &mut self.visitor);
        }

        /// All that the client gets until the server shuts its side, which it does now.
        fn got(&mut self) -> String {
            self.visitor
                .mailbox
                .socket()
                .shutdown(std::net::Shutdown::Write)
                .expect("a connected socket");
            let mut bytes = Vec::new();
            self.peer
                .read_to_end(&mut bytes)
                .expect("all that was sent");
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    #[test]
    fn a_tick_does_not_overtake_the_answer_to_the_upgrade() {
        let shared = lab();
        let mut watcher = Guest::comes_to("/ws/dashboard", &shared);
        for mailbox in shared
            .hall()
            .tick(Now::take(), &[Some(1.0); Metric::ALL.len()])
        {
            mailbox.send_waiting();
        }
        watcher.visitor.deliver().expect("a client that is there");
        let got = watcher.got();
        assert!(got.starts_with("HTTP/1.1 101 "), "{got}");
        assert!(
            got.find("welcome") < got.find("temperature\",\"value"),
            "{got}"
        );
    }

    /// The text messages among the frames behind the answer to the upgrade.
    fn texts(got: &str) -> Vec<&str> {
        got.split("\"text\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect()
    }

    fn spoken(text: &str) -> Vec<u8> {
        // Masked with zeros, which change nothing.
        let json = format!("{{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"{text}\"}}");
        let length = u8::try_from(json.len()).expect("a short text");
        [&[0x81, 0x80 | length, 0, 0, 0, 0], json.as_bytes()].concat()
    }

    /// A round that is under way is for those who were in when it began, and from where they joined, even where they
    /// leave before it comes to them.
    #[test]
    fn a_short_stay_hears_what_was_said_during_it_and_no_more() {
        let shared = lab();
        let mut speaker = Guest::comes_to("/ws/chat", &shared);
        speaker.sends(&spoken("before"));
        let mut guest = Guest::comes_to("/ws/chat", &shared);
        speaker.sends(&spoken("during"));
        let visits = shared.next_turn().expect("something was said");
        speaker.sends(&spoken("during, after the round began"));
        guest.sends(&[0x88, 0x80, 0, 0, 0, 0]);
        speaker.sends(&spoken("after"));
        make(&visits);
        guest.visitor.deliver().expect("a client that is there");
        let got = guest.got();
        assert_eq!(
            texts(&got)[1..],
            ["during", "during, after the round began"],
            "{got}"
        );
        assert!(
            got.ends_with("\u{fffd}\0"),
            "the Close is the last frame: {got}"
        );
    }

    #[test]
    fn those_who_come_to_an_empty_room_and_leave_are_forgotten() {
        let shared = lab();
        for _ in 0..300 {
            let mut guest = Guest::comes_to("/ws/chat", &shared);
            guest.conversation.abandon(Now::take(), &mut guest.visitor);
            shared.exit(guest.visitor.client());
        }
        assert!(shared.hall().carousel.places() < 100);
    }

    #[test]
    fn who_is_behind_is_listed_once_however_often_there_is_something_for_it() {
        let shared = lab();
        let watcher = Guest::comes_to("/ws/dashboard", &shared);
        let mailbox = &watcher.visitor.mailbox;
        let frames = Bytes::from(vec![0; 64 * 1024]);
        mailbox.put(&frames);
        while mailbox.send_waiting() == Delivered::Settled {
            mailbox.put(&frames);
        }
        assert_eq!(
            mailbox.send_waiting(),
            Delivered::Settled,
            "the ticker knows of it"
        );
    }

    #[test]
    fn what_the_room_has_said_comes_before_the_close() {
        let shared = lab();
        let mut listener = Guest::comes_to("/ws/chat", &shared);
        listener.visitor.deliver().expect("a client that is there");
        let mut speaker = Guest::comes_to("/ws/chat", &shared);
        speaker.sends(&spoken("last words"));
        shared.drain();
        let got = listener.got();
        assert_eq!(texts(&got).last(), Some(&"last words"), "{got}");
        assert!(
            got.ends_with(GOING_AWAY.reason),
            "the Close is the last frame: {got}"
        );
    }

    #[test]
    fn a_long_answer_leaves_no_memory_behind() {
        let shared = lab();
        let mut guest = Guest::comes_to("/ws/echo", &shared);
        guest.visitor.effects.reply.resize(64 * 1024, b'x');
        guest.visitor.deliver().expect("a client that is there");
        assert!(guest.visitor.effects.reply.capacity() <= KEPT_REPLY);
    }
}

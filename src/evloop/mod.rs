//! The event loop: one thread, every socket, nothing that blocks.
//!
//! [`EventLoop::turn`] is all there is to it. mio reports readiness once, when it changes (edge-triggered): whoever
//! stops reading before the socket would block must remember to go on, which is what `run_again` is for.
//!
//! Three things make it fast. All that a room has said since a member's last visit goes to it with one write, of bytes
//! that were encoded once and that on Linux the sockets even share ([`sheet`](crate::sheet)); the visits go round the room a few at a
//! turn ([`carousel`]), so that a turn stays short however large the room is. What the kernel does not
//! take is queued as a reference to those same bytes. And every socket is registered once, for reading and writing
//! both, so that no system call is ever spent on changing what is waited for: an edge for writing comes only after a
//! write that blocked.

pub mod connection;
pub mod slots;
#[cfg(test)]
mod tests;
pub mod wheel;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tracing::{info, warn};

use crate::accept::{self, Accepted, Acceptor};
use crate::arrival::Arrival;
use crate::carousel::{self, Carousel, VISITS_A_TURN};
use crate::config::Config;
use crate::conversation::{self, Lab};
use crate::engine::stats::Stats;
use crate::engine::{Close, Effects, Engine, Founding, Now};
use crate::http::Refusal;
use crate::metrics::Sources;
use crate::sheet::Sheet;
use crate::shutdown::{Shutdown, StopRequests};
use connection::{Connection, ReadOutcome};
use slots::Slots;
use wheel::{TimerKey, Wheel};

/// Events taken from the kernel in one poll.
const EVENTS_A_TURN: usize = 1024;
/// The one buffer everything is read into. A connection gets one read of it a turn.
const READ_BUFFER: usize = 64 * 1024;
/// A turn longer than this is worth a line in the log.
const SLOW_TURN: Duration = Duration::from_millis(100);

const SHUTDOWN: Token = Token(usize::MAX);
/// Listener N has this token less N; connections never reach up here.
const LISTENERS: Token = Token(usize::MAX - 1);

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// A conversation's deadline.
    Connection(Token),
    /// The dashboard's tick, or a summary of the room.
    Engine,
    /// Accepting was paused for want of descriptors.
    Accept,
    /// Patience with the clients of a stopping server ends.
    Drain,
}

/// Runs the server until it has been told to stop and everyone has left.
///
/// # Errors
/// Those of setting up the poll, and of the poll itself; nothing a client does is one.
pub fn run(
    listeners: Vec<TcpListener>,
    config: Arc<Config>,
    founding: Founding,
    shutdown: Shutdown,
) -> io::Result<()> {
    let mut event_loop = EventLoop::new(listeners, config, founding, shutdown)?;
    while event_loop.turn()? == Turn::GoesOn {}
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    GoesOn,
    Stops,
}

struct EventLoop {
    poll: Poll,
    events: Events,
    acceptor: Acceptor,
    shutdown: StopRequests,
    config: Arc<Config>,
    stats: Arc<Stats>,
    engine: Engine,
    effects: Effects,
    sources: Sources,
    connections: Slots<Connection>,
    /// The room's talk on its way to the members.
    carousel: Carousel<Token>,
    wheel: Wheel<Alarm>,
    /// When the engine's alarm is set for.
    engine_alarm: Option<(TimerKey, Instant)>,
    buffer: Box<[u8]>,
    /// Who stopped reading before the socket would have blocked.
    run_again: Vec<Token>,
    /// Who has something to send, or is to be reaped.
    dirty: Vec<Token>,
    fired: Vec<Alarm>,
    stop_requests: usize,
    drain_over: bool,
}

/// The engine and its effects, as a conversation reaches them here: directly.
#[derive(Debug)]
pub struct Desk<'a> {
    /// The rules.
    pub engine: &'a mut Engine,
    /// What the room has said in this turn, and the replies of the connection that is being heard.
    pub effects: &'a mut Effects,
}

impl Lab for Desk<'_> {
    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Effects) -> R) -> R {
        change(self.engine, self.effects)
    }

    fn effects(&mut self) -> &mut Effects {
        self.effects
    }
}

impl Desk<'_> {
    /// Forgets what was meant for a client that is gone.
    fn discard_replies(&mut self) {
        self.effects.reply.clear();
        self.effects.joined = None;
        self.effects.left_at = None;
    }
}

impl EventLoop {
    fn new(
        listeners: Vec<TcpListener>,
        config: Arc<Config>,
        founding: Founding,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let now = Now::take();
        let poll = Poll::new()?;
        let mut shutdown = StopRequests::new(shutdown)?;
        shutdown.register(poll.registry(), SHUTDOWN)?;
        let stats = Arc::new(Stats::new());
        Ok(Self {
            acceptor: Acceptor::new(
                listeners,
                poll.registry(),
                LISTENERS,
                config.max_sockets_per_address,
            )?,
            poll,
            events: Events::with_capacity(EVENTS_A_TURN),
            shutdown,
            engine: Engine::new(Arc::clone(&config), founding, Arc::clone(&stats), now),
            effects: Effects::new(Arc::clone(&stats)),
            sources: Sources::new(now.instant, config.simulate_cpu, &mut rand::rng()),
            connections: Slots::with_capacity(config.max_sockets()),
            wheel: Wheel::new(now.instant, config.max_sockets()),
            config,
            stats,
            carousel: Carousel::default(),
            engine_alarm: None,
            buffer: vec![0; READ_BUFFER].into(),
            run_again: Vec::new(),
            dirty: Vec::new(),
            fired: Vec::new(),
            stop_requests: 0,
            drain_over: false,
        })
    }

    /// The turn of the loop. The order is fixed: what is read is answered and spoken in the same turn, timers see what was
    /// read before they call it silence, the next members of the room hear what was said, one flush sends what is left
    /// and last words, and only then does anything go away.
    fn turn(&mut self) -> io::Result<Turn> {
        self.set_engine_alarm();
        self.wait()?;
        let now = Now::take();
        self.read_on(now);
        self.take_events(now);
        self.accept(now);
        self.fire_timers(now);
        self.fan_out();
        self.flush();
        self.reap(now);
        self.account(now);
        Ok(self.whether_to_stop())
    }

    /// Sleeps until something is ready or due; does not sleep where this turn left something to do.
    fn wait(&mut self) -> io::Result<()> {
        let busy = !self.run_again.is_empty()
            || !self.effects.broadcast.is_empty()
            || self.carousel.has_visits_to_make()
            || self.acceptor.is_ready();
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            self.wheel
                .next_deadline()
                .map(|deadline| deadline.saturating_duration_since(Instant::now()))
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn take_events(&mut self, now: Now) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                SHUTDOWN => self.take_stop_requests(now),
                token if token.0 > LISTENERS.0 - self.acceptor.len() => {
                    self.acceptor.set_ready(token);
                }
                token => self.take_event(now, token, event),
            }
        }
        self.events = events;
    }

    fn take_event(&mut self, now: Now, token: Token, event: &Event) {
        if event.is_writable()
            && let Some(connection) = self.connections.get_mut(token)
        {
            connection.unblock();
            if connection.unsent() > 0 {
                self.mark_dirty(token);
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(now, token, event.is_read_closed() || event.is_error());
        }
    }

    /// Those who were not read to the end in the last turn.
    fn read_on(&mut self, now: Now) {
        // Whoever is added while we run over it is for the next turn.
        for token in std::mem::take(&mut self.run_again) {
            if let Some(connection) = self.connections.get_mut(token) {
                connection.last_read = ReadOutcome::Drained;
                self.read(now, token, true);
            }
        }
    }

    fn read(&mut self, now: Now, token: Token, may_end: bool) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        // It has had its read of this turn.
        if connection.last_read == ReadOutcome::More {
            return;
        }
        let mut desk = Desk {
            engine: &mut self.engine,
            effects: &mut self.effects,
        };
        connection.last_read = connection.read(now, may_end, &mut self.buffer, &mut desk);
        if connection.last_read == ReadOutcome::More {
            self.run_again.push(token);
        }
        self.settle(token);
        // Whoever speaks waits for those who listen.
        let unheard_max = carousel::unheard_max(self.config.max_unsent);
        while self.carousel.unheard() + self.effects.broadcast.len() > unheard_max {
            self.fan_out();
        }
    }

    fn accept(&mut self, now: Now) {
        loop {
            let engine = &self.engine;
            let turn_away = |socket: &mut TcpStream, arrival: &Arrival| {
                answer_without_place(engine, now, socket, arrival, Refusal::NoDescriptors);
            };
            let Some(accepted) = self.acceptor.next(&self.stats, turn_away) else {
                break;
            };
            match accepted {
                Accepted::Client(socket, arrival)
                    if self.connections.len() < self.config.max_sockets() =>
                {
                    self.admit(now, socket, arrival);
                }
                Accepted::Client(mut socket, arrival) => {
                    answer_without_place(engine, now, &mut socket, &arrival, Refusal::Full);
                }
                Accepted::OneTooMany(mut socket, arrival) => {
                    let refusal = Refusal::AddressSockets;
                    answer_without_place(engine, now, &mut socket, &arrival, refusal);
                }
                Accepted::NoDescriptors(until) => {
                    self.wheel.insert(until, Alarm::Accept);
                }
            }
        }
    }

    fn admit(&mut self, now: Now, mut socket: TcpStream, arrival: Arrival) {
        let peer = arrival.peer;
        let (registry, config) = (self.poll.registry(), &self.config);
        let added = self.connections.try_insert(|place, token| {
            registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok::<_, io::Error>(Connection::new(
                socket,
                token,
                crate::engine::ClientId(place),
                arrival,
                now,
                config,
            ))
        });
        match added {
            Ok(token) => {
                self.stats.socket_opened();
                self.settle(token);
            }
            Err(error) => warn!("[SERVER] Cannot watch the socket of {peer}: {error}"),
        }
    }

    fn fire_timers(&mut self, now: Now) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.expire(now.instant, &mut fired);
        for alarm in fired.drain(..) {
            match alarm {
                Alarm::Connection(token) => {
                    if let Some(connection) = self.connections.get_mut(token) {
                        let mut desk = Desk {
                            engine: &mut self.engine,
                            effects: &mut self.effects,
                        };
                        connection.time_out(now, &mut desk);
                        self.settle(token);
                    }
                }
                Alarm::Engine => {
                    self.engine_alarm = None;
                    self.tick(now);
                }
                Alarm::Accept => self.acceptor.resume(),
                Alarm::Drain => self.drain_over = true,
            }
        }
        self.fired = fired;
    }

    fn tick(&mut self, now: Now) {
        self.engine.summarise(now, &mut self.effects);
        if !self.engine.tick_is_due(now) {
            return;
        }
        let values = self
            .sources
            .sample(now.instant, self.engine.client_count(), &self.stats);
        let mut sent = 0;
        let mut doomed = Vec::new();
        self.engine.tick(now, &values, |client, batch| {
            let connection = self
                .connections
                .at_mut(client.0)
                .expect("who watches is connected");
            sent += connection.send_slice(batch, self.config.max_unsent, &self.stats);
            if connection.is_doomed() {
                doomed.push(connection.token());
            }
        });
        for token in doomed {
            self.mark_dirty(token);
        }
        self.stats.bytes_out.inc_by(sent as u64);
    }

    /// Goes on round the room: those whose turn it is get all that was said since their last one, with one write.
    fn fan_out(&mut self) {
        self.carousel.say(self.effects.broadcast.split().freeze());
        let connections = &mut self.connections;
        let mut heard = |token: &Token| connections.get_mut(*token)?.heard();
        let members = self.engine.members().len();
        self.carousel
            .forget_departed(members, |token| heard(token).is_some());
        let visits = self.carousel.next_visits(VISITS_A_TURN, heard);
        let sheet = Sheet::shared(&visits.talk, visits.members.len());
        let mut sent = 0;
        for (token, first) in visits.members {
            let connection = self
                .connections
                .get_mut(token)
                .expect("who has not left the room is connected");
            connection.hear(visits.heard);
            sent += connection.send(&sheet, first, self.config.max_unsent, &self.stats);
            if connection.is_doomed() {
                self.mark_dirty(token);
            }
        }
        self.stats.bytes_out.inc_by(sent as u64);
    }

    /// Sends what waits for single clients, and ends conversations that are over.
    fn flush(&mut self) {
        let mut sent = 0;
        for token in &self.dirty {
            if let Some(connection) = self.connections.get_mut(*token) {
                sent += connection.flush(&self.stats);
            }
        }
        self.stats.bytes_out.inc_by(sent as u64);
    }

    /// Removes those who were marked. Their leaving is announced in the next turn, which comes at once.
    fn reap(&mut self, now: Now) {
        for token in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(token) else {
                continue;
            };
            connection.dirty = false;
            if connection.is_doomed() {
                let connection = self
                    .connections
                    .remove(token)
                    .expect("it was there a moment ago");
                let mut desk = Desk {
                    engine: &mut self.engine,
                    effects: &mut self.effects,
                };
                connection.bury(now, &mut self.wheel, &mut desk);
                self.stats.socket_closed();
            }
        }
    }

    /// After anything happened to a connection: its replies go out, its timer to its deadline.
    fn settle(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        let mut desk = Desk {
            engine: &mut self.engine,
            effects: &mut self.effects,
        };
        connection.take_replies(self.config.max_unsent, &mut self.carousel, &mut desk);
        if connection.needs_attention() {
            self.mark_dirty(token);
        }
        if let Some(connection) = self.connections.get_mut(token) {
            connection.set_timer(&mut self.wheel);
        }
    }

    fn mark_dirty(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(token)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(token);
        }
    }

    fn set_engine_alarm(&mut self) {
        let deadline = self.engine.deadline();
        if let Some((key, planned)) = self.engine_alarm {
            if planned == deadline {
                return;
            }
            self.wheel.cancel(key);
        }
        self.engine_alarm = Some((self.wheel.insert(deadline, Alarm::Engine), deadline));
    }

    fn account(&mut self, now: Now) {
        let length = now.instant.elapsed();
        self.stats.waited(length);
        if length > SLOW_TURN {
            warn!(
                "[SERVER] A turn took {} ms with {} sockets",
                length.as_millis(),
                self.connections.len()
            );
        }
    }

    fn take_stop_requests(&mut self, now: Now) {
        let before = self.stop_requests;
        self.stop_requests += self.shutdown.take();
        if before == 0 && self.stop_requests > 0 {
            self.drain(now);
        }
    }

    /// Every client gets a Close, and a while to leave. Who connects now is told that the server is stopping.
    fn drain(&mut self, now: Now) {
        info!(
            "[SERVER] Shutting down: {} clients are told to leave",
            self.engine.client_count()
        );
        self.engine.drain();
        self.wheel
            .insert(now.instant + self.config.drain_timeout, Alarm::Drain);
        let tokens: Vec<Token> = self.connections.tokens().collect();
        for token in tokens {
            if let Some(connection) = self.connections.get_mut(token) {
                let mut desk = Desk {
                    engine: &mut self.engine,
                    effects: &mut self.effects,
                };
                connection.close(
                    now,
                    Close {
                        code: 1001,
                        reason: "server is shutting down",
                    },
                    &mut desk,
                );
                self.settle(token);
            }
        }
    }

    fn whether_to_stop(&self) -> Turn {
        if self.stop_requests == 0 {
            return Turn::GoesOn;
        }
        let awaited = self.connections.iter().any(Connection::holds_up_drain);
        if self.stop_requests > 1 || self.drain_over || !awaited {
            Turn::Stops
        } else {
            Turn::GoesOn
        }
    }
}

fn answer_without_place(
    engine: &Engine,
    now: Now,
    socket: &mut TcpStream,
    arrival: &Arrival,
    refusal: Refusal,
) {
    accept::turn_away(socket, |input| {
        conversation::answer_without_place(engine, arrival, now, input, refusal)
    });
}

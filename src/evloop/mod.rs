//! The event loop: one thread, every socket, nothing that blocks.
//!
//! [`EventLoop::turn`] is all there is to it. mio reports readiness once, when it changes (edge-triggered): a socket
//! that is not read until it would block must be remembered, which is what `ready_again` is for.
//!
//! Three things make it fast. All that the room's log has for a member goes out in one write, of bytes that were encoded
//! once and that on Linux the sockets even share ([`write_batch`](crate::net::write_batch)); each turn serves the next
//! few members ([`broadcast_log`]), so that a turn stays short however large the room is. What the kernel does not take
//! is queued as a reference to those same bytes. And every socket is registered once, for reading and writing both, so
//! that no system call is ever spent on changing what is waited for: an edge for writing comes only after a write that
//! blocked.

pub(crate) mod connection;
mod drain;
mod inside;
pub(crate) mod redis;
pub(crate) mod slots;
#[cfg(test)]
mod tests;
pub mod wheel;
pub mod world;

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;
use tracing::warn;

use self::redis::Redis;
use crate::config::Config;
use crate::core::answers;
use crate::core::arrival::Arrival;
use crate::core::cluster::figures::LinkKind;
use crate::core::context::Context;
use crate::core::engine::broadcast_log::{self, MEMBERS_PER_BATCH};
use crate::core::engine::output::Output;
use crate::core::engine::{ClientId, Engine};
use crate::core::http::Refusal;
use crate::core::inside::follow::Place;
use crate::core::inside::turns::{Stage, TurnClock};
use crate::core::spread::Spread;
use crate::core::time::Now;
use crate::core::websocket::engine_access::EngineAccess;
use crate::host;
use crate::net::accept::{self, Accepted, Acceptor};
use crate::net::redis::{self as net_redis, Connected, Target};
use crate::net::shutdown::Shutdown;
use crate::net::write_batch::WriteBatch;
use connection::{Connection, Input};
use inside::Slices;
use slots::Slots;
use wheel::{TimerKey, Wheel};
use world::{LISTENERS, MioWorld, REDIS_PUBLISH, REDIS_READ, Readiness, SHUTDOWN, World};

/// Events taken from the kernel in one poll.
const EVENTS_PER_POLL: usize = 1024;
/// The one buffer everything is read into. A connection gets one read of it per turn.
const READ_BUFFER: usize = 64 * 1024;
/// Steps of replays per turn; each is at most 16 KiB, or one message.
const REPLAY_STEPS_PER_TURN: usize = 64;
/// A turn longer than this is worth a line in the log.
const SLOW_TURN: Duration = Duration::from_millis(100);

/// Where members are sent to.
const FAN_OUT: Place = Place {
    file: "src/evloop/mod.rs",
    function: "EventLoop::fan_out",
};

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// A conversation's deadline.
    Connection(Token),
    /// The dashboard's tick, or a summary of the room.
    Engine,
    /// Accepting was paused for want of descriptors.
    Accept,
    /// The next clients of a restarting server are told to leave.
    Leave,
    /// A stopping server waits no longer for its clients.
    Drain,
    /// Something is due with Redis.
    Redis,
}

/// Runs the server until it has been told to stop and every client has left.
///
/// # Errors
/// Those of setting up the poll, and of the poll itself; nothing a client does is one.
pub fn run(
    listeners: Vec<TcpListener>,
    config: &Config,
    context: Arc<Context>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let (world, acceptor) = MioWorld::new(listeners, config.simulate_cpu, shutdown)?;
    let target = host::redis::target(config, &context);
    let mut event_loop = EventLoop::new(world, acceptor, config, context);
    if let Some(target) = target {
        event_loop.connect(target)?;
    }
    while event_loop.advance()? != Phase::Stopping {}
    Ok(())
}

/// How far the server's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Clients come and go.
    Serving,
    /// Clients are told to leave, a few at a time.
    Leaving,
    /// Clients have been sent a Close, and have a while to leave.
    Draining,
    /// All is over.
    Stopping,
}

/// The server, in one world or another.
pub struct EventLoop<W: World> {
    world: W,
    events: W::Events,
    acceptor: Acceptor<W::Listener>,
    phase: Phase,
    drain_spread: Duration,
    drain_timeout: Duration,
    /// Clients of a restarting server that have not been told yet.
    spread: Option<Spread<Token>>,
    context: Arc<Context>,
    engine: Engine,
    output: Output,
    connections: Slots<Connection<W::Socket>>,
    wheel: Wheel<TimerKind>,
    /// When the engine's timer is set for.
    engine_timer: Option<(TimerKey, Instant)>,
    buffer: Box<[u8]>,
    /// Connections to be read: those with a new edge, and those that were not read until they would block.
    ready_again: VecDeque<Token>,
    /// Connections that have taken all they were sent of a replay that goes on.
    replaying: VecDeque<Token>,
    /// Connections that have something to send, or are to be reaped.
    dirty: Vec<Token>,
    fired: Vec<TimerKind>,
    turn_clock: TurnClock,
    /// Bytes read and written before this turn.
    bytes_before: (u64, u64),
    redis: Option<Redis<W::Socket>>,
    /// When the timer for Redis is set for.
    redis_timer: Option<(TimerKey, Instant)>,
}

/// What an event loop holds between two turns, for tests that want it all given back.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Sockets open.
    pub sockets: usize,
    /// Clients in.
    pub clients: usize,
    /// Sockets that were to be reaped and have not been.
    pub dead: usize,
    /// Timers on the wheel.
    pub timers: usize,
    /// Connections on a list of what is to be done.
    pub listed: usize,
    /// Unsent bytes of the client that has most of them.
    pub unsent_max: usize,
    /// Bytes that some member lacks.
    pub lag_bytes: usize,
}

/// The engine, as a conversation reaches it here: directly.
#[derive(Debug)]
pub struct DirectAccess<'a> {
    engine: &'a mut Engine,
    output: &'a mut Output,
    context: &'a Context,
}

impl EngineAccess for DirectAccess<'_> {
    const READS_IN: Place = Place {
        file: "src/evloop/connection.rs",
        function: "Connection::read_once",
    };

    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Output) -> R) -> R {
        change(self.engine, self.output)
    }

    fn output(&mut self) -> &mut Output {
        self.output
    }

    fn context(&self) -> &Context {
        self.context
    }
}

impl EventLoop<MioWorld> {
    /// Connects to Redis, and gives the engine the history that the stream has.
    fn connect(&mut self, target: Target) -> io::Result<()> {
        let start = net_redis::start(&target)?;
        let now = self.world.now();
        self.engine.take_stream(now, start.events);
        let mut redis = Redis::new(start.reader);
        for (kind, Connected { socket, greeting }) in [
            (LinkKind::Publish, start.publish),
            (LinkKind::Read, start.read),
        ] {
            socket.set_nonblocking(true)?;
            let socket = mio::net::TcpStream::from_std(socket);
            redis.take_first(kind, socket, &mut self.world, &self.context)?;
            if let (LinkKind::Publish, Some(publisher)) = (kind, self.engine.publisher()) {
                publisher.connected(now.instant, &greeting);
            }
        }
        self.redis = Some(redis);
        self.world.set_target(target);
        Ok(())
    }
}

impl<W: World> EventLoop<W> {
    /// A server without clients.
    pub fn new(
        world: W,
        acceptor: Acceptor<W::Listener>,
        config: &Config,
        context: Arc<Context>,
    ) -> Self {
        let now = world.now();
        let max_sockets = context.limits.max_sockets;
        let read_bytes = READ_BUFFER.min(broadcast_log::read_bytes_max(context.limits.max_unsent));
        Self {
            world,
            events: W::events(EVENTS_PER_POLL),
            acceptor,
            phase: Phase::Serving,
            drain_spread: config.drain_spread,
            drain_timeout: config.drain_timeout,
            spread: None,
            engine: Engine::new(Arc::clone(&context), now),
            output: Output::new(Arc::clone(&context)),
            connections: Slots::with_capacity(max_sockets),
            wheel: Wheel::new(now.instant, max_sockets),
            context,
            engine_timer: None,
            buffer: vec![0; read_bytes].into(),
            ready_again: VecDeque::new(),
            replaying: VecDeque::new(),
            dirty: Vec::new(),
            fired: Vec::new(),
            turn_clock: TurnClock::new(now.instant),
            bytes_before: (0, 0),
            redis: None,
            redis_timer: None,
        }
    }

    /// What it holds between two turns.
    pub fn held(&self) -> Held {
        Held {
            sockets: self.connections.len(),
            clients: self.engine.client_count(),
            dead: self
                .connections
                .iter()
                .filter(|connection| connection.is_dead())
                .count(),
            timers: self.wheel.len(),
            listed: self.ready_again.len() + self.replaying.len() + self.dirty.len(),
            unsent_max: self
                .connections
                .iter()
                .map(Connection::unsent)
                .max()
                .unwrap_or(0),
            lag_bytes: self.engine.log().lag_bytes(),
        }
    }

    /// The turn of the loop. The order is fixed: what is read is answered in the same turn, timers see what was read
    /// before they call it silence, the next members of the room are sent what the log has for them, one flush sends
    /// the rest, and only then does any connection go away.
    ///
    /// # Errors
    /// Those of the poll.
    pub fn turn(&mut self) -> io::Result<Phase> {
        self.begin_turn();
        self.set_engine_timer();
        self.set_redis_timer();
        self.wait()?;
        let now = self.world.now();
        self.end_of(Stage::Wait);
        self.take_events(now);
        self.read_redis(now);
        self.read(now);
        self.end_of(Stage::Read);
        self.accept(now);
        self.end_of(Stage::Accept);
        self.fire_timers(now);
        self.continue_replays(now);
        self.flush_redis(now);
        self.end_of(Stage::Timers);
        self.fan_out(now);
        self.end_of(Stage::FanOut);
        self.flush();
        self.end_of(Stage::Flush);
        self.reap(now);
        self.end_of(Stage::Reap);
        self.record(now);
        Ok(self.next_phase())
    }

    /// Sleeps until something is ready or due; does not sleep where the last turn left something to do.
    fn wait(&mut self) -> io::Result<()> {
        let busy = !self.ready_again.is_empty()
            || !self.replaying.is_empty()
            || self.engine.log().is_lagging()
            || self.acceptor.is_ready()
            || self.redis.as_ref().is_some_and(Redis::is_ready);
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            self.wheel
                .next_deadline()
                .map(|deadline| deadline.saturating_duration_since(self.world.instant()))
        };
        self.poll(timeout)
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut polled = self.world.poll(&mut self.events, timeout);
        // After an interruption, which may have lasted, what has come meanwhile is taken before any timer fires.
        while let Err(error) = &polled
            && error.kind() == io::ErrorKind::Interrupted
        {
            polled = self.world.poll(&mut self.events, Some(Duration::ZERO));
        }
        polled
    }

    fn take_events(&mut self, now: Now) {
        let events = std::mem::replace(&mut self.events, W::events(0));
        for readiness in W::readiness(&events) {
            self.turn_clock.record.ready += 1;
            match readiness.token {
                SHUTDOWN => self.take_stop_requests(now),
                REDIS_PUBLISH | REDIS_READ => {
                    if let Some(redis) = &mut self.redis {
                        redis.take_readiness(readiness);
                    }
                }
                token if token.0 > LISTENERS.0 - self.acceptor.len() => {
                    self.acceptor.set_ready(token);
                }
                _ => self.take_readiness(readiness),
            }
        }
        self.events = events;
    }

    fn take_readiness(&mut self, readiness: Readiness) {
        let Readiness { token, ending, .. } = readiness;
        // An event for a connection that is gone: its token has another generation.
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        if (readiness.readable || ending) && connection.set_ready(ending) == Input::Drained {
            self.ready_again.push_back(token);
        }
        if readiness.writable && connection.set_writable() {
            self.mark_dirty(token);
        }
    }

    /// Reads once from each connection that is ready. When the log lags behind what clients say, they wait where they
    /// stand, until the members have caught up.
    fn read(&mut self, now: Now) {
        let lag_bytes_max = broadcast_log::lag_bytes_max(self.context.limits.max_unsent);
        for _ in 0..self.ready_again.len() {
            if self.engine.log().lag_bytes() > lag_bytes_max {
                return;
            }
            let Some(token) = self.ready_again.pop_front() else {
                return;
            };
            self.read_connection(now, token);
        }
    }

    fn read_connection(&mut self, now: Now, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        self.turn_clock.record.served += 1;
        let mut access = DirectAccess {
            engine: &mut self.engine,
            output: &mut self.output,
            context: &self.context,
        };
        if connection.read(now, &mut self.buffer, &mut access) == Input::Ready {
            self.ready_again.push_back(token);
        }
        self.after_io(now, token);
    }

    fn accept(&mut self, now: Now) {
        let draining = self.engine.is_draining();
        let context = Arc::clone(&self.context);
        let turn_away = |socket: &mut W::Socket, arrival: &Arrival, refusal: Refusal| {
            accept::turn_away(socket, |input| {
                answers::answer_without_place(&context, draining, arrival, now, input, refusal)
            });
        };
        let without_descriptor = |socket: &mut _, arrival: &_| {
            turn_away(socket, arrival, Refusal::NoDescriptors);
        };
        while let Some(accepted) = self
            .acceptor
            .next(now.instant, &context, without_descriptor)
        {
            match accepted {
                Accepted::Client(socket, arrival)
                    if self.connections.len() < context.limits.max_sockets =>
                {
                    self.admit(now, socket, arrival);
                }
                Accepted::Client(mut socket, arrival) => {
                    turn_away(&mut socket, &arrival, Refusal::Full);
                }
                Accepted::OneTooMany(mut socket, arrival, refusal) => {
                    turn_away(&mut socket, &arrival, refusal);
                }
                Accepted::NoDescriptors(until) => {
                    self.wheel.insert(until, TimerKind::Accept);
                }
            }
        }
    }

    fn admit(&mut self, now: Now, mut socket: W::Socket, arrival: Arrival) {
        let peer = arrival.peer;
        let (world, limits) = (&mut self.world, &self.context.limits);
        let added = self.connections.try_insert(|place, token| {
            world.watch(&mut socket, token)?;
            let client = ClientId(place);
            Ok::<_, io::Error>(Connection::new(socket, token, client, arrival, now, limits))
        });
        match added {
            Ok(token) => {
                self.context.counters.socket_opened();
                self.turn_clock.record.accepted += 1;
                self.after_io(now, token);
            }
            Err(error) => warn!("[SERVER] Cannot watch the socket of {peer}: {error}"),
        }
    }

    fn fire_timers(&mut self, now: Now) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.expire(now.instant, &mut fired);
        self.turn_clock.record.fired = u16::try_from(fired.len()).unwrap_or(u16::MAX);
        for timer in fired.drain(..) {
            match timer {
                TimerKind::Connection(token) => self.time_out(now, token),
                TimerKind::Engine => {
                    self.engine_timer = None;
                    self.tick(now);
                    self.show_inside(now);
                }
                TimerKind::Accept => self.acceptor.resume(),
                TimerKind::Leave => self.tell_to_leave(now),
                TimerKind::Drain => self.phase = Phase::Stopping,
                // Each turn looks at it.
                TimerKind::Redis => self.redis_timer = None,
            }
        }
        self.fired = fired;
    }

    fn time_out(&mut self, now: Now, token: Token) {
        // What is read before a verdict does not wait for the members to catch up, so they catch up first.
        let lag_bytes_max = broadcast_log::lag_bytes_max(self.context.limits.max_unsent);
        while self.engine.log().lag_bytes() > lag_bytes_max {
            self.fan_out(now);
        }
        if let Some(connection) = self.connections.get_mut(token) {
            let mut access = DirectAccess {
                engine: &mut self.engine,
                output: &mut self.output,
                context: &self.context,
            };
            let known = connection.time_out(now, &mut self.buffer, &mut access);
            if connection.is_ready() && known == Input::Drained {
                self.ready_again.push_back(token);
            }
            self.after_io(now, token);
        }
    }

    fn tick(&mut self, now: Now) {
        self.engine.summarise(now);
        if !self.engine.tick_is_due(now) {
            return;
        }
        let (clients, counters) = (self.engine.client_count(), &self.context.counters);
        if let Some(simulated) = self.engine.simulated_elsewhere(now) {
            self.world.go_on_from(simulated);
        }
        let values = self.world.values(now.instant, clients, counters);
        let mut slices = Slices::new(&mut self.connections, &self.context, now);
        self.engine
            .tick(now, &values, |client, slice| slices.send(client, slice));
        for token in slices.finish() {
            self.mark_dirty(token);
        }
    }

    /// The next steps of replays whose sockets have taken the last one.
    fn continue_replays(&mut self, now: Now) {
        for _ in 0..self.replaying.len().min(REPLAY_STEPS_PER_TURN) {
            let Some(token) = self.replaying.pop_front() else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(token) {
                let mut access = DirectAccess {
                    engine: &mut self.engine,
                    output: &mut self.output,
                    context: &self.context,
                };
                connection.continue_replay(now, &mut access);
                self.after_io(now, token);
            }
        }
    }

    /// The next members of the room get all that the log has for them, each with one write.
    fn fan_out(&mut self, now: Now) {
        let batch = self.engine.next_batch(MEMBERS_PER_BATCH);
        let (max_unsent, counters) = (self.context.limits.max_unsent, &self.context.counters);
        let write_batch = WriteBatch::shared(&batch.slices, batch.members.len(), |slices| {
            self.world.pages(slices)
        });
        let followed = self.context.inside.follow.is_carried_by(batch.end);
        self.turn_clock.record.members = u32::try_from(batch.members.len()).unwrap_or(u32::MAX);
        let mut sent = 0;
        let mut dead = Vec::new();
        for (client, lacking) in batch.members {
            let connection = self
                .connections
                .at_mut(client.0)
                .expect("a member is connected");
            sent += connection.send_batch(now, &write_batch, lacking, max_unsent, counters);
            if connection.is_dead() {
                dead.push(connection.token());
            }
            if followed {
                self.context.inside.sent_to_member(FAN_OUT);
            }
        }
        counters.bytes_out.inc_by(sent as u64);
        if followed {
            let inside = &self.context.inside;
            inside.sent_batch(batch.low_watermark, FAN_OUT);
        }
        for token in dead {
            self.mark_dirty(token);
        }
    }

    /// Sends what waits for single clients, and ends conversations that are over.
    fn flush(&mut self) {
        let mut sent = 0;
        for token in &self.dirty {
            if let Some(connection) = self.connections.get_mut(*token) {
                sent += connection.flush(&self.context.counters);
                if connection.queue_replay() {
                    self.replaying.push_back(*token);
                }
            }
        }
        self.context.counters.bytes_out.inc_by(sent as u64);
    }

    /// Removes the connections that were marked dead. Their leaving is announced in the next turn, which comes at once.
    fn reap(&mut self, now: Now) {
        for token in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(token) else {
                continue;
            };
            connection.dirty = false;
            if connection.is_dead() {
                let connection = self
                    .connections
                    .remove(token)
                    .expect("it was there a moment ago");
                let mut access = DirectAccess {
                    engine: &mut self.engine,
                    output: &mut self.output,
                    context: &self.context,
                };
                connection.teardown(now, &mut self.wheel, &mut access);
                self.context.counters.socket_closed();
            }
        }
    }

    /// After anything happened to a connection: its replies go out, its timer to its deadline.
    fn after_io(&mut self, now: Now, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        let (max_unsent, counters) = (self.context.limits.max_unsent, &self.context.counters);
        connection.send_reply(now, &mut self.output, max_unsent, counters);
        connection.set_timer(&mut self.wheel);
        if connection.needs_flush() {
            self.mark_dirty(token);
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

    fn set_engine_timer(&mut self) {
        let deadline = self.engine.deadline();
        if let Some((key, planned)) = self.engine_timer {
            if planned == deadline {
                return;
            }
            self.wheel.cancel(key);
        }
        self.engine_timer = Some((self.wheel.insert(deadline, TimerKind::Engine), deadline));
    }

    fn set_redis_timer(&mut self) {
        let Some(redis) = &self.redis else {
            return;
        };
        let deadline = redis.deadline(self.world.instant(), &mut self.engine);
        if self.redis_timer.map(|(_, planned)| planned) == deadline {
            return;
        }
        if let Some((key, _)) = self.redis_timer.take() {
            self.wheel.cancel(key);
        }
        self.redis_timer =
            deadline.map(|deadline| (self.wheel.insert(deadline, TimerKind::Redis), deadline));
    }

    /// What Redis has answered goes to those who asked, and what the stream has to the room's log.
    fn read_redis(&mut self, now: Now) {
        let Some(redis) = &mut self.redis else {
            return;
        };
        let (engine, world) = (&mut self.engine, &mut self.world);
        redis.turn(now, engine, &self.context, world, &mut self.buffer);
        let (max_unsent, counters) = (self.context.limits.max_unsent, &self.context.counters);
        let mut sent = 0;
        let mut unfinished = Vec::new();
        self.engine.take_answers(now, |client, frames| {
            let connection = self
                .connections
                .at_mut(client.0)
                .expect("who is answered is connected");
            sent += connection.send_slice(now, frames, max_unsent, counters);
            if connection.needs_flush() {
                unfinished.push(connection.token());
            }
        });
        counters.bytes_out.inc_by(sent as u64);
        for token in unfinished {
            self.mark_dirty(token);
        }
    }

    /// What was said in this turn goes to Redis.
    fn flush_redis(&mut self, now: Now) {
        if let Some(redis) = &mut self.redis {
            redis.flush(now, &mut self.engine, &self.context, &mut self.world);
        }
    }

    fn record(&mut self, now: Now) {
        let length = self.world.instant() - now.instant;
        self.context.counters.waited(length);
        let number = self.keep_record();
        if length > SLOW_TURN {
            self.context.inside.turns.lock().keep_slow();
            let (stage, ticks) = self.turn_clock.record.longest();
            warn!(
                "[SERVER] Turn {number} took {} ms with {} sockets, of which {} {} ms; /inside/trace.json has it",
                length.as_millis(),
                self.connections.len(),
                stage.name(),
                ticks / 10_000
            );
        }
    }
}

//! The room's place on Redis: two more sockets of the same poll, one to publish on and one that reads the stream.
//!
//! What was said in a turn goes out in one write at its end. Only connecting blocks, and that the world does elsewhere.

use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use mio::Token;
use tracing::{info, warn};

use super::world::{REDIS_PUBLISH, REDIS_READ, Readiness, Socket, World};
use crate::core::cluster::backoff::Backoff;
use crate::core::cluster::figures::LinkKind;
use crate::core::cluster::{Reader, Trouble};
use crate::core::context::Context;
use crate::core::engine::{Engine, broadcast_log};
use crate::core::time::Now;
use crate::net::redis::Told;

/// How often the loop looks whether an attempt to connect has ended.
const ATTEMPT_POLL: Duration = Duration::from_millis(10);
/// Reads from one connection per turn.
const READS_PER_TURN: usize = 4;

/// The two connections, as they come and go.
#[derive(Debug)]
pub(crate) struct Redis<S> {
    links: [Link<S>; 2],
    reader: Reader,
}

#[derive(Debug)]
struct Link<S> {
    kind: LinkKind,
    token: Token,
    state: State<S>,
    backoff: Backoff,
    told: Told,
}

#[derive(Debug)]
enum State<S> {
    Down { retry_at: Instant },
    Connecting,
    Up(Up<S>),
}

#[derive(Debug)]
struct Up<S> {
    socket: S,
    unsent: BytesMut,
    readable: bool,
    writable: bool,
}

impl<S: Socket> Redis<S> {
    /// Without its connections, which [`Redis::take_first`] brings.
    pub(crate) fn new(reader: Reader) -> Self {
        let link = |kind, token| Link {
            kind,
            token,
            state: State::Connecting,
            backoff: Backoff::default(),
            told: Told::default(),
        };
        Self {
            links: [
                link(LinkKind::Publish, REDIS_PUBLISH),
                link(LinkKind::Read, REDIS_READ),
            ],
            reader,
        }
    }

    /// Takes a connection on which the server began.
    ///
    /// # Errors
    /// The poll does not watch it.
    pub(crate) fn take_first(
        &mut self,
        kind: LinkKind,
        socket: S,
        world: &mut impl World<Socket = S>,
        context: &Context,
    ) -> io::Result<()> {
        self.link(kind).take(socket, world)?;
        context.counters.set_link_up(kind, true);
        Ok(())
    }

    fn link(&mut self, kind: LinkKind) -> &mut Link<S> {
        let mut links = self.links.iter_mut();
        let found = links.find(|link| link.kind == kind);
        found.expect("there is a link of each kind")
    }

    /// Takes note of readiness.
    pub(crate) fn take_readiness(&mut self, readiness: Readiness) {
        for link in &mut self.links {
            if let State::Up(up) = &mut link.state
                && link.token == readiness.token
            {
                up.readable |= readiness.readable || readiness.ending;
                up.writable |= readiness.writable;
            }
        }
    }

    /// Whether a connection was not read until it would block.
    pub(crate) fn is_ready(&self) -> bool {
        self.links.iter().any(|link| match &link.state {
            State::Up(up) => up.readable,
            State::Down { .. } | State::Connecting => false,
        })
    }

    /// When [`Redis::turn`] has something to do, whatever comes.
    pub(crate) fn deadline(&self, now: Instant, engine: &mut Engine) -> Option<Instant> {
        let links = self.links.iter().map(|link| match link.state {
            State::Down { retry_at } => Some(retry_at),
            State::Connecting => Some(now + ATTEMPT_POLL),
            State::Up(_) if link.kind == LinkKind::Read => self.reader.deadline(),
            State::Up(_) => None,
        });
        let publisher = engine.publisher().map(|publisher| publisher.deadline());
        links.chain([publisher]).flatten().min()
    }

    /// Reads what has come, and sees to what is due. While the log lags too far behind, the stream waits in Redis.
    pub(crate) fn turn(
        &mut self,
        now: Now,
        engine: &mut Engine,
        context: &Context,
        world: &mut impl World<Socket = S>,
        buffer: &mut [u8],
    ) {
        self.take_connections(now, engine, context, world);
        let lag_bytes_max = broadcast_log::lag_bytes_max(context.limits.max_unsent);
        for kind in [LinkKind::Publish, LinkKind::Read] {
            let holds_back = kind == LinkKind::Read && engine.log().lag_bytes() > lag_bytes_max;
            let read = if holds_back {
                Ok(())
            } else {
                self.read(now, kind, engine, world, buffer)
            };
            if let Err(trouble) = read.and_then(|()| self.check(now, kind, engine)) {
                self.lose(now, kind, &trouble, engine, context, world);
            }
        }
        engine.take_stream(now, self.reader.take_events());
        if let Some(redis) = &context.counters.redis {
            redis.note_lag(self.reader.lag());
        }
        for link in &mut self.links {
            if let State::Down { retry_at } = link.state
                && now.instant >= retry_at
            {
                link.state = State::Connecting;
                world.dial(link.kind);
            }
        }
    }

    fn read(
        &mut self,
        now: Now,
        kind: LinkKind,
        engine: &mut Engine,
        world: &mut impl World<Socket = S>,
        buffer: &mut [u8],
    ) -> Result<(), Trouble> {
        for _ in 0..READS_PER_TURN {
            let State::Up(up) = &mut self.link(kind).state else {
                return Ok(());
            };
            let length = up.read(buffer)?;
            match (kind, engine.publisher()) {
                _ if length == 0 => return Ok(()),
                (LinkKind::Publish, Some(publisher)) => {
                    publisher.receive(now.instant, &buffer[..length])?;
                }
                _ => {
                    let fresh_epoch = format!("{:016x}", world.random());
                    self.reader
                        .receive(now.instant, &buffer[..length], &fresh_epoch)?;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, now: Now, kind: LinkKind, engine: &mut Engine) -> Result<(), Trouble> {
        match (kind, engine.publisher()) {
            // Also while it is away: what has waited too long is answered.
            (LinkKind::Publish, Some(publisher)) if now.instant >= publisher.deadline() => {
                publisher.time_out(now.instant)
            }
            (LinkKind::Read, _) => self.reader.check(now.instant),
            _ => Ok(()),
        }
    }

    /// Sends what was said since the last call.
    pub(crate) fn flush(
        &mut self,
        now: Now,
        engine: &mut Engine,
        context: &Context,
        world: &mut impl World<Socket = S>,
    ) {
        for kind in [LinkKind::Publish, LinkKind::Read] {
            let output = match kind {
                LinkKind::Publish => engine.flush_publisher(now),
                LinkKind::Read => self.reader.take_output(),
            };
            if let State::Up(up) = &mut self.link(kind).state
                && let Err(trouble) = up.write(output)
            {
                self.lose(now, kind, &trouble, engine, context, world);
            }
        }
    }

    fn lose(
        &mut self,
        now: Now,
        kind: LinkKind,
        trouble: &Trouble,
        engine: &mut Engine,
        context: &Context,
        world: &mut impl World<Socket = S>,
    ) {
        warn!("[REDIS] Lost the connection ({kind:?}): {trouble}");
        self.link(kind).fail(now, world);
        match (kind, engine.publisher()) {
            (LinkKind::Publish, Some(publisher)) => publisher.disconnected(),
            _ => self.reader.disconnected(),
        }
        context.counters.set_link_up(kind, false);
    }

    /// Takes the connections that have been made.
    fn take_connections(
        &mut self,
        now: Now,
        engine: &mut Engine,
        context: &Context,
        world: &mut impl World<Socket = S>,
    ) {
        while let Some((kind, connected)) = world.dialled() {
            let link = self.link(kind);
            let taken = connected.and_then(|(socket, greeting)| {
                let watched = link.take(socket, world);
                watched
                    .map(|()| greeting)
                    .map_err(|error| error.to_string())
            });
            let greeting = match taken {
                Ok(greeting) => greeting,
                Err(error) => {
                    link.told.tell(&error);
                    link.fail(now, world);
                    continue;
                }
            };
            info!("[REDIS] Connected again ({kind:?})");
            match (kind, engine.publisher()) {
                (LinkKind::Publish, Some(publisher)) => {
                    publisher.connected(now.instant, &greeting);
                }
                _ => self.reader.connected(now.instant, &greeting),
            }
            context.counters.link_reconnected(kind);
        }
    }
}

impl<S: Socket> Link<S> {
    fn take(&mut self, mut socket: S, world: &mut impl World<Socket = S>) -> io::Result<()> {
        world.watch(&mut socket, self.token)?;
        self.backoff.succeeded();
        self.told = Told::default();
        self.state = State::Up(Up {
            socket,
            unsent: BytesMut::new(),
            readable: true,
            writable: true,
        });
        Ok(())
    }

    fn fail(&mut self, now: Now, world: &mut impl World) {
        let wait = self.backoff.failed(world.random());
        self.state = State::Down {
            retry_at: now.instant + wait,
        };
    }
}

impl<S: Socket> Up<S> {
    /// Reads once; 0 where nothing has come.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        if !self.readable {
            return Ok(0);
        }
        match self.socket.read(buffer) {
            Ok(0) => Err(Trouble::Closed),
            Ok(length) => Ok(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(Trouble::Io(error.to_string())),
        }
    }

    fn write(&mut self, output: BytesMut) -> Result<(), Trouble> {
        if self.unsent.is_empty() {
            self.unsent = output;
        } else {
            self.unsent.extend_from_slice(&output);
        }
        while self.writable && !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(length) => self.unsent.advance(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Trouble::Io(error.to_string())),
            }
        }
        Ok(())
    }
}

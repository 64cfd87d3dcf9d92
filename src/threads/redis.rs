//! The room's place on Redis: two threads with blocking calls, one that publishes and one that reads the stream.
//!
//! The publishing thread sends all that was said while it waited for the answers to the last. What the reading thread reads
//! it sends to the room, as any thread does that appends to the log.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tracing::{info, warn};

use super::client_writer::{ClientWriter, Delivered};
use super::shared::Shared;
use super::state_guard::StateGuard;
use crate::core::cluster::backoff::Backoff;
use crate::core::cluster::figures::LinkKind;
use crate::core::cluster::{LINK_TIMEOUT, Publisher, Reader, Trouble};
use crate::host::clock;
use crate::net::has_input::has_input;
use crate::net::redis::{self, Connected, Target, Told, is_timeout, random_name};

/// Read at once.
const READ_BUFFER: usize = 64 * 1024;
/// The shortest a blocking read can be told to wait; zero would mean for ever.
const SHORTEST_READ: Duration = Duration::from_millis(1);

/// Connects, gives the engine the history that the stream has, and starts both threads.
///
/// # Errors
/// There is no Redis to be used, or no thread.
pub(super) fn start(shared: &Arc<Shared>, target: Target) -> io::Result<()> {
    let start = redis::start(&target)?;
    let now = clock::now();
    shared
        .state()
        .change(|engine| engine.take_stream(now, start.events));
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map(drop)
    };
    let (publishing, reading) = (Arc::clone(shared), Arc::clone(shared));
    let (publish, read, mut reader) = (start.publish, start.read, start.reader);
    let publish_target = target.clone();
    let counters = &shared.context.counters;
    counters.set_link_up(LinkKind::Publish, true);
    counters.set_link_up(LinkKind::Read, true);
    spawn(
        "redis-publish",
        Box::new(move || {
            let kind = LinkKind::Publish;
            keep_connected(&publishing, &publish_target, kind, publish, |connected| {
                serve_publishing(&publishing, connected)
            });
        }),
    )?;
    // Its first question is waiting to be sent.
    let mut is_first = true;
    spawn(
        "redis-read",
        Box::new(move || {
            let kind = LinkKind::Read;
            keep_connected(&reading, &target, kind, read, |connected| {
                if !std::mem::take(&mut is_first) {
                    reader.connected(Instant::now(), &connected.greeting);
                }
                let trouble = serve_reading(&reading, &mut reader, &connected.socket);
                reader.disconnected();
                trouble
            });
        }),
    )
}

/// Serves one connection after the other, for the life of the process.
fn keep_connected(
    shared: &Shared,
    target: &Target,
    kind: LinkKind,
    first: Connected,
    mut serve: impl FnMut(&Connected) -> Trouble,
) {
    let mut backoff = Backoff::default();
    let mut connected = first;
    loop {
        let trouble = serve(&connected);
        warn!("[REDIS] Lost {} ({kind:?}): {trouble}", target.url);
        shared.context.counters.set_link_up(kind, false);
        let mut told = Told::default();
        connected = loop {
            thread::sleep(backoff.failed(rand::random()));
            match target.connect() {
                Ok(connected) => break connected,
                Err(error) => told.tell(&error),
            }
            if kind == LinkKind::Publish {
                answer_the_late(shared);
            }
        };
        info!("[REDIS] Connected to {} ({kind:?})", target.url);
        backoff.succeeded();
        shared.context.counters.link_reconnected(kind);
    }
}

fn serve_publishing(shared: &Shared, connected: &Connected) -> Trouble {
    with_publisher(shared, |publisher, now| {
        publisher.connected(now, &connected.greeting);
    });
    let trouble = publish(shared, &connected.socket);
    with_publisher(shared, |publisher, _| publisher.disconnected());
    deliver_answers(shared, shared.state());
    trouble
}

fn with_publisher<R>(shared: &Shared, change: impl FnOnce(&mut Publisher, Instant) -> R) -> R {
    let mut state = shared.state();
    let publisher = state.engine.publisher();
    change(publisher.expect("the room is on Redis"), Instant::now())
}

fn publish(shared: &Shared, socket: &TcpStream) -> Trouble {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        match publish_once(shared, socket, &mut buffer) {
            Ok(()) => {}
            Err(trouble) => return trouble,
        }
    }
}

/// Sends what there is to send, and takes the answers.
fn publish_once(shared: &Shared, mut socket: &TcpStream, buffer: &mut [u8]) -> Result<(), Trouble> {
    let output = {
        let mut state = shared.state();
        loop {
            let now = clock::now();
            let publisher = state.engine.publisher().expect("the room is on Redis");
            // What has come is read before silence is judged. And where nothing is awaited, the connection has ended: a
            // message given to it would have an unknown fate.
            if has_input(socket) {
                break BytesMut::new();
            }
            if now.instant >= publisher.deadline() {
                publisher.time_out(now.instant)?;
            }
            if publisher.has_work() {
                break state.engine.flush_publisher(now);
            }
            if publisher.is_awaiting() {
                break BytesMut::new();
            }
            let deadline = publisher.deadline();
            state.wait_until(&shared.said, deadline);
        }
    };
    socket
        .write_all(&output)
        .map_err(|error| trouble_of(&error))?;
    let wait = with_publisher(shared, |publisher, now| {
        publisher.deadline().saturating_duration_since(now)
    });
    if let Some(length) = read(socket, wait, buffer)? {
        with_publisher(shared, |publisher, now| {
            publisher.receive(now, &buffer[..length])
        })?;
    }
    deliver_answers(shared, shared.state());
    Ok(())
}

/// Clients that have waited too long are told so, also while there is no connection.
fn answer_the_late(shared: &Shared) {
    // Without a connection nothing is awaited.
    let _ = with_publisher(shared, Publisher::time_out);
    deliver_answers(shared, shared.state());
}

fn deliver_answers(shared: &Shared, mut state: StateGuard<'_>) {
    let writers: Vec<Arc<ClientWriter>> = state.take_answers(clock::now());
    if state.engine.deadline() < state.ticker_wakes {
        shared.wake_ticker();
    }
    drop(state);
    let pending = writers
        .into_iter()
        .filter(|writer| writer.send_waiting() == Delivered::Pending);
    shared.retry_later(pending.collect());
}

fn serve_reading(shared: &Shared, reader: &mut Reader, mut socket: &TcpStream) -> Trouble {
    let mut buffer = vec![0; READ_BUFFER];
    let mut read_once = || {
        socket
            .write_all(&reader.take_output())
            .map_err(|error| trouble_of(&error))?;
        let now = Instant::now();
        reader.check(now)?;
        let deadline = reader.deadline().unwrap_or(now + LINK_TIMEOUT);
        let Some(length) = read(socket, deadline - now, &mut buffer)? else {
            return Ok(());
        };
        reader.receive(Instant::now(), &buffer[..length], &random_name())?;
        if let Some(redis) = &shared.context.counters.redis {
            redis.note_lag(reader.lag());
        }
        let events = reader.take_events();
        if !events.is_empty() {
            let mut state = shared.state();
            let now = clock::now();
            state.change(|engine| engine.take_stream(now, events));
            let elected = state.elect();
            drop(state);
            if elected {
                shared.send_for_room();
            }
            shared.wait_until_caught_up();
        }
        Ok(())
    };
    loop {
        if let Err(trouble) = read_once() {
            return trouble;
        }
    }
}

/// Reads, but waits no longer than that; `None` where nothing has come.
fn read(
    mut socket: &TcpStream,
    wait: Duration,
    buffer: &mut [u8],
) -> Result<Option<usize>, Trouble> {
    let timed = socket.set_read_timeout(Some(wait.max(SHORTEST_READ)));
    match timed.and_then(|()| socket.read(buffer)) {
        Ok(0) => Err(Trouble::Closed),
        Ok(length) => Ok(Some(length)),
        Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(trouble_of(&error)),
    }
}

fn trouble_of(error: &io::Error) -> Trouble {
    if is_timeout(error) {
        Trouble::Silent
    } else {
        Trouble::Io(error.to_string())
    }
}

//! One socket of the event loop: its conversation, its outbox, its timer.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::Token;

use super::wheel::{TimerKey, Wheel};
use super::world::Socket;
use super::{DirectAccess, READ_BUFFER, TimerKind};
use crate::core::arrival::Arrival;
use crate::core::counters::Counters;
use crate::core::engine::output::Output;
use crate::core::engine::{ClientId, Close};
use crate::core::limits::Limits;
use crate::core::refusals::Broken;
use crate::core::time::Now;
use crate::core::websocket::conversation::{AfterFlush, CROSSING_BYTES, Conversation, TimedOut};
use crate::core::websocket::engine_access::EngineAccess;
use crate::net::outbox::{Flushed, Outbox, Overflow};
use crate::net::write_batch::{self, WriteBatch};

/// A client's socket and all that belongs to it.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    socket: S,
    token: Token,
    conversation: Conversation,
    outbox: Outbox,
    state: State,
    closed: Closed,
    input: Input,
    /// The end of input, or an error, was reported: there will be no other edge, so it is read until it is seen.
    ending: bool,
    /// On the loop's list of connections to flush at the end of this turn.
    pub dirty: bool,
    /// A replay goes on when the outbox is empty.
    replay: Replay,
    timer: Option<(TimerKey, Instant)>,
}

/// What the socket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Writable,
    /// Nothing, until the kernel reports that it takes more.
    Blocked,
    /// To be reaped at the end of this turn; nothing is read or sent any more.
    Dead,
}

/// How far the next step of a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replay {
    /// There is none.
    None,
    /// It waits until the socket has taken the last one.
    Waiting,
    /// The connection stands on the loop's list of those whose turn it is.
    Queued,
}

/// Which directions of the socket have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    Neither,
    /// The client sends no more.
    Input,
    /// We have shut our sending side.
    Output,
}

/// What the socket has to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing; the next readiness will be reported.
    Drained,
    /// There may be more, and mio will not report it again: it stands on the loop's list of connections to be read.
    Ready,
}

/// Whether a read that did not fill the buffer means that the next would block. Where it does, the call that would
/// only say so is saved; a later arrival is a new edge. Windows reports readiness again only after a call that blocked.
const SHORT_READ_DRAINS: bool = cfg!(unix);

/// Reads from a connection whose deadline has come before it is judged: the end of a flood is not awaited.
const READS_BEFORE_VERDICT: usize = 16;

impl<S: Socket> Connection<S> {
    /// A socket just accepted and registered under `token`.
    pub(crate) fn new(
        socket: S,
        token: Token,
        client: ClientId,
        arrival: Arrival,
        now: Now,
        limits: &Limits,
    ) -> Self {
        Self {
            socket,
            token,
            conversation: Conversation::new(client, arrival, now, limits),
            outbox: Outbox::default(),
            state: State::Writable,
            closed: Closed::Neither,
            input: Input::Drained,
            ending: false,
            dirty: false,
            replay: Replay::None,
            timer: None,
        }
    }

    /// Whether it is a WebSocket, open or closing.
    pub(crate) fn is_websocket(&self) -> bool {
        self.conversation.is_websocket()
    }

    /// Whether a stopping server waits for it: an open or closing WebSocket, or an answer still on its way.
    pub(crate) fn holds_up_drain(&self) -> bool {
        self.conversation.is_websocket() || !self.outbox.is_empty()
    }

    /// Bytes that wait for the socket.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.unsent()
    }

    /// What the loop knows it by.
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// Whether it is to be reaped.
    pub(crate) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Whether the end of the turn has something to do for it.
    pub(crate) fn needs_flush(&self) -> bool {
        self.is_dead()
            || !self.outbox.is_empty()
            || self.is_ending()
            || self.replay == Replay::Waiting
    }

    /// Whether it must be put on the list of connections whose next step of a replay can be sent.
    pub(crate) fn queue_replay(&mut self) -> bool {
        let wanted = self.replay == Replay::Waiting && self.takes_next_step();
        if wanted {
            self.replay = Replay::Queued;
        }
        wanted
    }

    fn takes_next_step(&self) -> bool {
        self.state == State::Writable && self.outbox.is_empty()
    }

    fn is_ending(&self) -> bool {
        self.conversation.after_flush() != AfterFlush::KeepOpen
    }

    /// Readiness to read was reported. Returns what was known before.
    pub(crate) fn set_ready(&mut self, ending: bool) -> Input {
        self.ending |= ending;
        std::mem::replace(&mut self.input, Input::Ready)
    }

    /// The kernel takes more again; where it took nothing before, the client has taken something. Tells whether there is
    /// something for it.
    pub(crate) fn set_writable(&mut self) -> bool {
        if self.state == State::Blocked {
            self.state = State::Writable;
            self.conversation.took_output();
        }
        !self.outbox.is_empty() || self.replay == Replay::Waiting
    }

    /// Reads once, so that no connection holds up the turn, and hands the bytes to the conversation.
    pub(crate) fn read(
        &mut self,
        now: Now,
        buffer: &mut [u8],
        access: &mut DirectAccess<'_>,
    ) -> Input {
        self.input = self.read_once(now, buffer, access);
        self.input
    }

    fn read_once(&mut self, now: Now, buffer: &mut [u8], access: &mut DirectAccess<'_>) -> Input {
        if self.is_dead() || self.closed == Closed::Input {
            return Input::Drained;
        }
        match self.socket.read(buffer) {
            Ok(0) => {
                // If we had shut our side, that was the last of it: the flush of this turn marks it dead.
                self.closed = Closed::Input;
                self.conversation.end_of_input(now, access);
                Input::Drained
            }
            Ok(length) => {
                access.context().counters.bytes_in.inc_by(length as u64);
                self.conversation.receive(now, &buffer[..length], access);
                if length < buffer.len() && !self.ending && SHORT_READ_DRAINS {
                    Input::Drained
                } else {
                    Input::Ready
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Input::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Input::Ready,
            Err(_) => {
                self.state = State::Dead;
                Input::Drained
            }
        }
    }

    /// Its timer fired. A turn takes a limited number of events, so what has come and gone is seen to before silence is judged.
    /// Returns what was known of its input before.
    pub(crate) fn time_out(
        &mut self,
        now: Now,
        buffer: &mut [u8],
        access: &mut DirectAccess<'_>,
    ) -> Input {
        self.timer = None;
        let known = self.input;
        self.try_blocked_output(&access.context().counters);
        for _ in 0..READS_BEFORE_VERDICT {
            let is_judged = self.is_overdue(now) && self.conversation.is_judged_at_deadline();
            if !is_judged || self.read(now, buffer, access) == Input::Drained {
                break;
            }
        }
        if self.is_overdue(now) && self.conversation.time_out(now, access) == TimedOut::Drop {
            self.state = State::Dead;
        }
        if known == Input::Ready {
            // It still stands on the list, and must not be put there again.
            self.input = Input::Ready;
        }
        known
    }

    fn is_overdue(&self, now: Now) -> bool {
        !self.is_dead() && now.instant >= self.conversation.deadline()
    }

    /// The kernel reports room only when there is plenty; a slow client may have made some.
    fn try_blocked_output(&mut self, counters: &Counters) {
        if self.state == State::Blocked {
            self.state = State::Writable;
            let sent = self.flush(counters);
            counters.bytes_out.inc_by(sent as u64);
            if sent > 0 {
                self.conversation.took_output();
            }
        }
    }

    /// Whether it must stand on the loop's list of connections to be read.
    pub(crate) fn is_ready(&self) -> bool {
        self.input == Input::Ready
    }

    /// The server wants to end it.
    pub(crate) fn close(&mut self, now: Now, close: Close, access: &mut DirectAccess<'_>) {
        self.conversation.close(now, close, access);
    }

    /// The server is restarting.
    pub(crate) fn restart(
        &mut self,
        now: Now,
        retry_after: Duration,
        access: &mut DirectAccess<'_>,
    ) {
        self.conversation.restart(now, retry_after, access);
    }

    /// It is its turn on the list of replays: the next step, unless something else waits for its socket by now.
    pub(crate) fn continue_replay(&mut self, now: Now, access: &mut DirectAccess<'_>) {
        self.replay = Replay::Waiting;
        if self.takes_next_step() {
            self.replay = Replay::None;
            self.conversation.continue_replay(now, access);
        }
    }

    /// Sends what the conversation just came up with, or queues it. A reply of its own is sent at once, while all that
    /// belongs to the socket is still in the processor's caches from the read.
    pub(crate) fn send_reply(
        &mut self,
        now: Now,
        output: &mut Output,
        limit: usize,
        counters: &Counters,
    ) {
        if std::mem::take(&mut output.replaying) {
            self.replay = Replay::Waiting;
        }
        let reply = &mut output.reply;
        if let Some(frames) = reply.as_own() {
            if frames.is_empty() {
                return;
            }
            // The last bytes go out with the end of output.
            let written = if self.is_ending() {
                0
            } else {
                self.write(|socket| socket.write(frames))
            };
            counters.bytes_out.inc_by(written as u64);
            self.outbox.allow(frames.len() - written);
            self.queue(
                now,
                Bytes::copy_from_slice(&frames[written..]),
                limit,
                counters,
            );
            reply.clear(READ_BUFFER);
        } else {
            let chunks = reply.take_chunks();
            self.outbox.allow_owed(&chunks);
            for chunk in chunks {
                self.queue(now, chunk, limit, counters);
            }
        }
    }

    /// Sends these slices of the batch, behind what the client is still owed. Returns how many bytes the kernel
    /// took.
    pub(crate) fn send_batch(
        &mut self,
        now: Now,
        batch: &WriteBatch<'_, S::Pages>,
        lacking: Range<usize>,
        limit: usize,
        counters: &Counters,
    ) -> usize {
        let written = self.write(|socket| {
            batch.send_shared(lacking.clone(), socket, |pages, lacking, socket| {
                socket.send_pages(pages, lacking)
            })
        });
        for frames in batch.rest(lacking, written) {
            self.queue(now, frames, limit, counters);
        }
        written + self.flush_rest(counters)
    }

    /// The same for a single slice, which is copied for each socket.
    pub(crate) fn send_slice(
        &mut self,
        now: Now,
        frames: &Bytes,
        limit: usize,
        counters: &Counters,
    ) -> usize {
        let written = self.write(|socket| socket.write(frames));
        self.queue(now, frames.slice(written..), limit, counters);
        written + self.flush_rest(counters)
    }

    /// The common case: nothing waits, the kernel takes all, and nothing is queued. Returns how many bytes it took.
    fn write(&mut self, write: impl FnOnce(&mut S) -> io::Result<usize>) -> usize {
        if self.state != State::Writable || !self.outbox.is_empty() {
            return 0;
        }
        write_batch::taken(write(&mut self.socket)).unwrap_or_else(|_| {
            self.state = State::Dead;
            0
        })
    }

    /// Only the flush knows when it may stop trying.
    fn flush_rest(&mut self, counters: &Counters) -> usize {
        if self.outbox.is_empty() {
            0
        } else {
            self.flush(counters)
        }
    }

    /// Adds frames to the outbox; a client that has too much waiting is dropped, and nothing waits for it.
    fn queue(&mut self, now: Now, frames: Bytes, limit: usize, counters: &Counters) {
        let length = frames.len();
        if self.is_dead() {
            return;
        }
        match self.outbox.push(frames, limit) {
            Ok(()) => counters.unsent_grew(length),
            Err(Overflow) => self.drop_slow(now, counters),
        }
    }

    /// Sends what waits, as far as the kernel takes it, and ends a conversation that is over. Returns the bytes taken.
    pub(crate) fn flush(&mut self, counters: &Counters) -> usize {
        if self.is_dead() {
            return 0;
        }
        let before = self.outbox.unsent();
        if self.state == State::Writable {
            let flushed = if self.is_ending() {
                self.outbox.flush(&mut self.socket.last_bytes())
            } else {
                self.outbox.flush(&mut self.socket)
            };
            match flushed {
                Ok(Flushed::All) => {}
                Ok(Flushed::Blocked) => self.state = State::Blocked,
                Err(_) => self.state = State::Dead,
            }
        }
        if self.outbox.is_empty() {
            match self.conversation.after_flush() {
                AfterFlush::KeepOpen => {}
                AfterFlush::HalfClose => self.half_close(),
                AfterFlush::Close => self.finish(),
            }
        }
        let sent = before - self.outbox.unsent();
        counters.unsent_shrank(sent);
        sent
    }

    /// Plans the timer for the conversation's deadline. One that is due too early is left: it costs less to look again
    /// when it fires than to move it with every message.
    pub(crate) fn set_timer(&mut self, wheel: &mut Wheel<TimerKind>) {
        let deadline = self.conversation.deadline();
        if let Some((key, planned)) = self.timer {
            if planned <= deadline {
                return;
            }
            wheel.cancel(key);
        }
        let key = wheel.insert(deadline, TimerKind::Connection(self.token));
        self.timer = Some((key, deadline));
    }

    /// The end: the conversation leaves whatever it is in, the timer is cancelled, the socket closes.
    pub(crate) fn teardown(
        mut self,
        now: Now,
        wheel: &mut Wheel<TimerKind>,
        access: &mut DirectAccess<'_>,
    ) {
        if let Some((key, _)) = self.timer.take() {
            wheel.cancel(key);
        }
        let counters = &access.context().counters;
        counters.unsent_shrank(self.outbox.unsent());
        self.conversation.abandon(now, access);
        access.output().reply.clear(READ_BUFFER);
    }

    /// All has been sent: shuts the sending side, and closes once the client has closed its own.
    fn half_close(&mut self) {
        let dead = match self.closed {
            Closed::Input => true,
            Closed::Output => false,
            Closed::Neither => {
                self.closed = Closed::Output;
                self.socket.end_output().is_err()
            }
        };
        if dead {
            self.state = State::Dead;
        }
    }

    /// Both sides have sent a Close. Ending the output first sees to it that ours is sent whatever happens; then what
    /// crossed it is read, for to close with unread input is to send a reset (RFC 9112 §9.6).
    fn finish(&mut self) {
        let _ = self.socket.end_output();
        let _ = self.socket.read(&mut [0; CROSSING_BYTES]);
        self.state = State::Dead;
    }

    /// A slow client is cut off at once, and with a reset, so that the kernel forgets what it has queued too.
    fn drop_slow(&mut self, now: Now, counters: &Counters) {
        counters.refused(now.instant, Broken::SlowConsumer);
        self.socket.reset_when_closed();
        self.state = State::Dead;
    }
}

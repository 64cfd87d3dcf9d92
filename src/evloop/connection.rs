//! One socket of the event loop: its conversation, its outbox, its timer.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::Token;
use mio::net::TcpStream;
use socket2::SockRef;

use super::wheel::{TimerKey, Wheel};
use super::{Alarm, Desk};
use crate::arrival::Arrival;
use crate::carousel::{Carousel, Heard};
use crate::config::Config;
use crate::conversation::{CROSSING_BYTES, Conversation, Ending, TimedOut};
use crate::engine::stats::Stats;
use crate::engine::{ClientId, Close, Now};
use crate::outbox::{Flushed, Outbox, Overflow};
use crate::sheet::{self, Sheet};

/// A client's socket and all that belongs to it.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    token: Token,
    conversation: Conversation,
    outbox: Outbox,
    /// The kernel took no more; it will report when it does.
    blocked: bool,
    ended: Ended,
    /// On the loop's list of connections to flush at the end of this turn.
    pub dirty: bool,
    /// Where it left more, the connection stands on the loop's list of those to be read on.
    pub last_read: ReadOutcome,
    /// To be reaped at the end of this turn; nothing is read or sent any more.
    doomed: bool,
    /// A member of the room, and how much of what it says has been sent or queued.
    heard: Option<Heard>,
    timer: Option<(TimerKey, Instant)>,
}

/// Which directions of the socket have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Neither,
    /// The client sends no more.
    Input,
    /// We have shut our sending side.
    Output,
}

/// What a socket had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// All there was has been read; the next readiness will be reported.
    Drained,
    /// There may be more, and mio will not report it again.
    More,
}

/// Whether a read that did not fill the buffer means that the next would block. Where it does, the call that would
/// only say so is saved; a later arrival is a new edge. Windows reports readiness again only after a call that blocked.
const SHORT_READ_DRAINS: bool = cfg!(unix);

impl Connection {
    /// A socket just accepted and registered under `token`.
    pub fn new(
        socket: TcpStream,
        token: Token,
        client: ClientId,
        arrival: Arrival,
        now: Now,
        config: &Config,
    ) -> Self {
        Self {
            socket,
            token,
            conversation: Conversation::new(client, arrival, now, config),
            outbox: Outbox::default(),
            blocked: false,
            ended: Ended::Neither,
            dirty: false,
            last_read: ReadOutcome::Drained,
            doomed: false,
            heard: None,
            timer: None,
        }
    }

    /// Whether a stopping server waits for it: an open or closing WebSocket, or an answer still on its way.
    pub fn holds_up_drain(&self) -> bool {
        self.conversation.is_websocket() || !self.outbox.is_empty()
    }

    /// What the loop knows it by.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether the end of the turn has something to do for it.
    pub fn needs_attention(&self) -> bool {
        self.doomed || !self.outbox.is_empty() || self.is_ending()
    }

    fn is_ending(&self) -> bool {
        self.conversation.ending() != Ending::No
    }

    /// Bytes waiting to be sent.
    pub fn unsent(&self) -> usize {
        self.outbox.unsent()
    }

    /// Whether it is to be reaped.
    pub fn is_doomed(&self) -> bool {
        self.doomed
    }

    /// The kernel has room again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Reads once, so that nobody holds up the turn, and hands the bytes to the conversation.
    pub fn read(
        &mut self,
        now: Now,
        may_end: bool,
        buffer: &mut [u8],
        desk: &mut Desk<'_>,
    ) -> ReadOutcome {
        if self.doomed || self.ended == Ended::Input {
            return ReadOutcome::Drained;
        }
        match self.socket.read(buffer) {
            Ok(0) => {
                // If we had shut our side, that was the last of it: the flush of this turn dooms it.
                self.ended = Ended::Input;
                self.conversation.end_of_input(now, desk);
                ReadOutcome::Drained
            }
            Ok(length) => {
                desk.effects.stats().bytes_in.inc_by(length as u64);
                self.conversation.receive(now, &buffer[..length], desk);
                // A reported end of input is no new edge later: read on until it is seen.
                if length < buffer.len() && !may_end && SHORT_READ_DRAINS {
                    ReadOutcome::Drained
                } else {
                    ReadOutcome::More
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadOutcome::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => ReadOutcome::More,
            Err(_) => {
                self.doomed = true;
                ReadOutcome::Drained
            }
        }
    }

    /// Its timer fired.
    pub fn time_out(&mut self, now: Now, desk: &mut Desk<'_>) {
        self.timer = None;
        if !self.doomed
            && now.instant >= self.conversation.deadline()
            && self.conversation.time_out(now, desk) == TimedOut::Drop
        {
            self.doomed = true;
        }
    }

    /// The server wants to end it.
    pub fn close(&mut self, now: Now, close: Close, desk: &mut Desk<'_>) {
        self.conversation.close(now, close, desk);
    }

    /// Sends the replies that the conversation just made, or queues them. What the room said stands between the welcome,
    /// where the client joined just now, and all else, where it has left: the last thing a client hears may be a Close.
    pub fn take_replies(
        &mut self,
        limit: usize,
        carousel: &mut Carousel<Token>,
        desk: &mut Desk<'_>,
    ) {
        let effects = &mut *desk.effects;
        let (joined, left_at) = (effects.joined.take(), effects.left_at.take());
        if joined.is_none() && left_at.is_none() {
            self.reply(&effects.reply, limit, effects.stats());
            return effects.reply.clear();
        }
        let mut replies = Bytes::copy_from_slice(&effects.reply);
        effects.reply.clear();
        let mut owed = Vec::new();
        let mut said_before = 0;
        if let Some(joined) = joined {
            carousel.say(effects.broadcast.split_to(joined.broadcast).freeze());
            said_before = joined.broadcast;
            self.heard = Some(carousel.join(self.token));
            owed.push(replies.split_to(joined.reply));
        }
        if let Some(until) = left_at
            && let Some(heard) = self.heard.take()
        {
            carousel.say(effects.broadcast.split_to(until - said_before).freeze());
            owed.extend(carousel.since(heard).cloned());
        }
        owed.push(replies);
        self.outbox.allow(owed.iter().map(Bytes::len).sum());
        for frames in owed {
            self.queue(frames, limit, effects.stats());
        }
    }

    /// Answers at once, while all that belongs to the socket is still in the processor's caches from the read.
    fn reply(&mut self, frames: &[u8], limit: usize, stats: &Stats) {
        if frames.is_empty() {
            return;
        }
        // The last that is said goes out with the end of output.
        let written = if self.is_ending() {
            0
        } else {
            self.write(|socket| socket.write(frames))
        };
        stats.bytes_out.inc_by(written as u64);
        self.outbox.allow(frames.len() - written);
        self.queue(Bytes::copy_from_slice(&frames[written..]), limit, stats);
    }

    /// How much it has heard of what the room says, if it is a member.
    pub fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// Its turn to hear what the room says has come, and this is what it has heard afterwards.
    pub fn hear(&mut self, heard: Heard) {
        self.heard = Some(heard);
    }

    /// Sends the sheet from slice `first` on, behind what the client is still owed. Returns how many bytes the kernel
    /// took.
    pub fn send(&mut self, sheet: &Sheet<'_>, first: usize, limit: usize, stats: &Stats) -> usize {
        let written = self.write(|socket| sheet.send_shared(first, socket));
        for frames in sheet.rest(first, written) {
            self.queue(frames, limit, stats);
        }
        written + self.flush_rest(stats)
    }

    /// The same for a single slice, of which everyone gets a copy.
    pub fn send_slice(&mut self, frames: &Bytes, limit: usize, stats: &Stats) -> usize {
        let written = self.write(|socket| socket.write(frames));
        self.queue(frames.slice(written..), limit, stats);
        written + self.flush_rest(stats)
    }

    /// The common case: nothing waits, the kernel takes all, and nothing is queued. Returns how many bytes it took.
    fn write(&mut self, write: impl FnOnce(&mut TcpStream) -> io::Result<usize>) -> usize {
        if self.doomed || self.blocked || !self.outbox.is_empty() {
            return 0;
        }
        sheet::taken(write(&mut self.socket)).unwrap_or_else(|_| {
            self.doomed = true;
            0
        })
    }

    /// Only the flush knows when it may stop trying.
    fn flush_rest(&mut self, stats: &Stats) -> usize {
        if self.outbox.is_empty() {
            0
        } else {
            self.flush(stats)
        }
    }

    /// Adds frames to the outbox; a client that has too much waiting is dropped, and nobody waits for it.
    fn queue(&mut self, frames: Bytes, limit: usize, stats: &Stats) {
        let length = frames.len();
        if self.doomed {
            return;
        }
        match self.outbox.push(frames, limit) {
            Ok(()) => stats.unsent_grew(length),
            Err(Overflow) => self.drop_slow(stats),
        }
    }

    /// Sends what waits, as far as the kernel takes it, and ends what has been said to the end. Returns the bytes taken.
    pub fn flush(&mut self, stats: &Stats) -> usize {
        if self.doomed {
            return 0;
        }
        let before = self.outbox.unsent();
        if !self.blocked {
            let flushed = if cfg!(target_os = "linux") && self.is_ending() {
                self.outbox.flush(&mut LastWords(&self.socket))
            } else {
                self.outbox.flush(&mut self.socket)
            };
            match flushed {
                Ok(Flushed::All) => {}
                Ok(Flushed::Blocked) => self.blocked = true,
                Err(_) => self.doomed = true,
            }
        }
        if self.outbox.is_empty() {
            match self.conversation.ending() {
                Ending::No => {}
                Ending::EndOutput => self.end_output(),
                Ending::Close => self.part(),
            }
        }
        let sent = before - self.outbox.unsent();
        stats.unsent_shrank(sent);
        sent
    }

    /// Plans the timer for the conversation's deadline. One that is due too early is left: it costs less to look again
    /// when it fires than to move it with every message.
    pub fn set_timer(&mut self, wheel: &mut Wheel<Alarm>) {
        let deadline = self.conversation.deadline();
        if let Some((key, planned)) = self.timer {
            if planned <= deadline {
                return;
            }
            wheel.cancel(key);
        }
        self.timer = Some((
            wheel.insert(deadline, Alarm::Connection(self.token)),
            deadline,
        ));
    }

    /// The end: the conversation leaves whatever it is in, the timer is cancelled, the socket closes.
    pub fn bury(mut self, now: Now, wheel: &mut Wheel<Alarm>, desk: &mut Desk<'_>) {
        if let Some((key, _)) = self.timer.take() {
            wheel.cancel(key);
        }
        desk.effects.stats().unsent_shrank(self.outbox.unsent());
        self.conversation.abandon(now, desk);
        desk.discard_replies();
    }

    /// All is said and sent: shuts the sending side, and closes once the client has closed its own.
    fn end_output(&mut self) {
        match self.ended {
            Ended::Input => self.doomed = true,
            Ended::Output => {}
            Ended::Neither => {
                self.ended = Ended::Output;
                self.doomed = self.socket.shutdown(Shutdown::Write).is_err();
            }
        }
    }

    /// Both sides have said Close. Ending the output first sees to it that ours is sent whatever happens; then what
    /// crossed it is read, for to close with unread input is to send a reset (RFC 9112 §9.6).
    fn part(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let _ = self.socket.read(&mut [0; CROSSING_BYTES]);
        self.doomed = true;
    }

    /// A slow client is cut off at once, and with a reset, so that the kernel forgets what it has queued too.
    fn drop_slow(&mut self, stats: &Stats) {
        stats.refused(Instant::now(), "slow_consumer");
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        self.doomed = true;
    }
}

/// The socket for the last that is said on it, on Linux: the end of output follows at once and travels in the same
/// segment.
struct LastWords<'a>(&'a TcpStream);

#[cfg(target_os = "linux")]
const MORE_FOLLOWS: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const MORE_FOLLOWS: i32 = 0;

impl Write for LastWords<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send_with_flags(bytes, MORE_FOLLOWS)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        SockRef::from(self.0).send_vectored_with_flags(slices, MORE_FOLLOWS)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! One client's outbox and the sending side of its socket, for all threads that have something for it.
//!
//! Whoever holds the lock may send, but never waits for the socket while holding it: sends from other threads take
//! what the kernel takes at once. Only the client's own thread waits for its client, without the lock, and at most the
//! send timeout.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::SockRef;

use crate::accept;
use crate::conversation::CROSSING_BYTES;
use crate::engine::stats::Stats;
use crate::engine::{ClientId, Close, Now};
use crate::frame;
use crate::http::{self, Refusal};
use crate::outbox::{Flushed, Outbox, Overflow};
use crate::sheet::Sheet;

/// How long a client's own thread waits for its client to read, and so the longest any thread waits for a slow one.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Where frames for one client go.
#[derive(Debug)]
pub(super) struct Mailbox {
    client: ClientId,
    socket: TcpStream,
    /// `--max-unsent`
    limit: usize,
    stats: Arc<Stats>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    intake: Intake,
    sender: Sender,
    /// The ticker will try again.
    awaits_retry: bool,
}

/// Who may add to the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// Every thread.
    Open,
    /// The same, but the client's own thread has something to say at the end.
    Leaving,
    /// Only the client's own thread, which has come to the end.
    LastWords,
    /// Nobody: a Close from another thread stands last.
    Closed,
}

/// Who may send what stands in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// Whoever has the lock.
    Anybody,
    /// The client's own thread, which is waiting for the socket just now, perhaps in the middle of a frame.
    OwnThread,
    /// Nobody: the client is cut off, or gone.
    Nobody,
}

impl State {
    fn takes_from_others(&self) -> bool {
        matches!(self.intake, Intake::Open | Intake::Leaving) && self.sender != Sender::Nobody
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.stats
            .unsent_shrank(self.state.get_mut().outbox.unsent());
    }
}

/// How a delivery left the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Nothing waits, or somebody sees to it already.
    Settled,
    /// Something waits, and somebody must try again.
    Behind,
}

impl Mailbox {
    pub(super) fn new(
        client: ClientId,
        socket: TcpStream,
        limit: usize,
        stats: Arc<Stats>,
    ) -> Self {
        let empty = State {
            outbox: Outbox::default(),
            intake: Intake::Open,
            sender: Sender::Anybody,
            awaits_retry: false,
        };
        Self {
            client,
            socket,
            limit,
            stats,
            state: Mutex::new(empty),
        }
    }

    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// The socket, for its own thread to read.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Adds what answers its client, which may wait beyond the limit. Its own thread does so.
    pub(super) fn push(&self, frames: Bytes) {
        if frames.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.intake != Intake::Closed && state.sender != Sender::Nobody {
            state.outbox.allow(frames.len());
            self.add(&mut state, frames);
        }
    }

    /// Adds frames from another thread, which sends them later.
    pub(super) fn put(&self, frames: &Bytes) {
        let mut state = self.state.lock();
        if state.takes_from_others() {
            self.add(&mut state, frames.clone());
        }
    }

    /// Sends what the room has said since the last visit, the sheet from slice `first` on, as far as the kernel takes it.
    pub(super) fn visit(&self, sheet: &Sheet<'_>, first: usize) -> Delivered {
        let mut state = self.state.lock();
        if !state.takes_from_others() {
            return Delivered::Settled;
        }
        let mut written = 0;
        // The common case: nothing waits, the kernel takes all, and nothing is queued.
        if state.sender == Sender::Anybody && state.outbox.is_empty() {
            match sheet.send_copy(first, &mut AtOnce(&self.socket)) {
                Ok(taken) => {
                    self.stats.bytes_out.inc_by(taken as u64);
                    written = taken;
                }
                // Of an error its own thread hears when it reads.
                Err(_) => return Delivered::Settled,
            }
        }
        for frames in sheet.rest(first, written) {
            self.add(&mut state, frames);
        }
        self.send(&mut state)
    }

    /// Writes what the room has said and waits for the client, holding the lock: the plain way, which makes every thread
    /// that comes to a slow client wait for it.
    pub(super) fn write_through(&self, talk: &[Bytes]) {
        let mut state = self.state.lock();
        if !state.takes_from_others() {
            return;
        }
        for frames in talk {
            self.add(&mut state, frames.clone());
        }
        // In the middle of a frame, only its own thread can go on.
        while state.sender == Sender::Anybody
            && let Some(slice) = state.outbox.front()
        {
            let written = (&self.socket).write(&slice);
            self.account_for(&mut state, written);
        }
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(super) fn send_waiting(&self) -> Delivered {
        self.send(&mut self.state.lock())
    }

    /// The same for one that was left behind.
    pub(super) fn retry(&self) -> Delivered {
        let mut state = self.state.lock();
        state.awaits_retry = false;
        self.send(&mut state)
    }

    /// Sends all that waits; its own thread does so, and waits for the client while it must.
    ///
    /// # Errors
    /// The client is gone, or did not read in time.
    pub(super) fn send_all(&self) -> io::Result<()> {
        loop {
            let mut state = self.state.lock();
            if state.sender == Sender::Nobody {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            state.sender = Sender::Anybody;
            self.flush(&mut state)?;
            let Some(slice) = state.outbox.front() else {
                return Ok(());
            };
            state.sender = Sender::OwnThread;
            drop(state);
            let written = (&self.socket).write(&slice);
            self.account_for(&mut self.state.lock(), written);
        }
    }

    /// The client has left the engine; its own thread has last words for it.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        if state.intake == Intake::Open {
            state.intake = Intake::Leaving;
        }
    }

    /// Adds the last of what is for the client. From now on only its own thread adds anything, so that a Close stays the
    /// last frame.
    pub(super) fn part(&self, share: Vec<Bytes>, replies: Bytes) {
        let mut state = self.state.lock();
        if state.takes_from_others() {
            let owed = share.into_iter().chain([replies]);
            let owed: Vec<Bytes> = owed.collect();
            state.outbox.allow(owed.iter().map(Bytes::len).sum());
            for frames in owed {
                self.add(&mut state, frames);
            }
            state.intake = Intake::LastWords;
        }
    }

    /// Adds a Close from another thread than its own, as the last frame, and sends what the kernel takes at once.
    pub(super) fn close(&self, close: Close) -> Delivered {
        let mut state = self.state.lock();
        if !state.takes_from_others() {
            return Delivered::Settled;
        }
        let mut last = Vec::new();
        frame::close(&mut last, close.code, close.reason);
        self.add(&mut state, last.into());
        state.intake = Intake::Closed;
        self.send(&mut state)
    }

    /// The client has not answered that Close in time.
    pub(super) fn hang_up(&self) {
        let mut state = self.state.lock();
        if state.intake == Intake::Closed && state.sender != Sender::Nobody {
            self.cut_off(&mut state, "close_timeout");
        }
    }

    /// Whether all that there is for the client has been sent.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        state.sender == Sender::Nobody || state.outbox.is_empty() && state.intake != Intake::Leaving
    }

    /// Whether another thread has sent a Close.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().intake == Intake::Closed
    }

    /// There is no thread for this client.
    pub(super) fn refuse(&self, model: &str, stats: &Stats) {
        stats.refused("no_thread");
        let mut answer = Vec::new();
        http::refuse(Refusal::Full, model, Now::take().wall_clock(), &mut answer);
        if self.socket.set_nonblocking(true).is_ok() {
            accept::turn_away(&mut &self.socket, &answer);
        }
    }

    /// Both sides have said Close, and ours is sent: ends the output, whoever else still knows this mailbox. What crossed
    /// our Close, a Pong for example, is read, for the reason that [`accept::turn_away`] has.
    pub(super) fn end(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)?;
        self.socket.set_nonblocking(true)?;
        let _ = (&self.socket).read(&mut [0; CROSSING_BYTES]);
        Ok(())
    }

    fn add(&self, state: &mut State, frames: Bytes) {
        let length = frames.len();
        match state.outbox.push(frames, self.limit) {
            Ok(()) => self.stats.unsent_grew(length),
            Err(Overflow) => self.cut_off(state, "slow_consumer"),
        }
    }

    /// Sends what the kernel takes at once, unless that is its own thread's business now.
    fn send(&self, state: &mut State) -> Delivered {
        if state.sender != Sender::Anybody || state.outbox.is_empty() {
            return Delivered::Settled;
        }
        match self.flush(state) {
            Ok(Flushed::Blocked) if !state.awaits_retry => {
                state.awaits_retry = true;
                Delivered::Behind
            }
            // Of an error its own thread hears when it reads.
            Ok(_) | Err(_) => Delivered::Settled,
        }
    }

    /// Sends what the kernel takes at once.
    fn flush(&self, state: &mut State) -> io::Result<Flushed> {
        let before = state.outbox.unsent();
        let flushed = state.outbox.flush(&mut AtOnce(&self.socket));
        self.note_sent(before - state.outbox.unsent());
        flushed
    }

    fn note_sent(&self, bytes: usize) {
        self.stats.bytes_out.inc_by(bytes as u64);
        self.stats.unsent_shrank(bytes);
    }

    /// What came of a write that waited for the client.
    fn account_for(&self, state: &mut State, written: io::Result<usize>) {
        match written {
            Ok(written) if written > 0 => {
                state.outbox.sent(written);
                self.note_sent(written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                self.cut_off(state, "slow_consumer");
            }
            Ok(_) | Err(_) => state.sender = Sender::Nobody,
        }
    }

    /// A slow client is dropped, with a reset, so that the kernel forgets what it has queued too; its thread wakes up
    /// from reading and ends.
    fn cut_off(&self, state: &mut State, reason: &'static str) {
        if state.sender != Sender::Nobody {
            state.sender = Sender::Nobody;
            self.stats.refused(reason);
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

/// The socket for sending what the kernel takes at once, although it is a blocking one.
struct AtOnce<'a>(&'a TcpStream);

#[cfg(unix)]
impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send_with_flags(bytes, libc::MSG_DONTWAIT)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        SockRef::from(self.0).send_vectored_with_flags(slices, libc::MSG_DONTWAIT)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Windows has no such flag.
#[cfg(not(unix))]
impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        without_waiting(self.0, |mut socket| socket.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        without_waiting(self.0, |mut socket| socket.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A call on a socket that does not block for as long as the call takes. Its own thread, if it begins to read meanwhile, is
/// told to try again, and does; it does not write meanwhile, for lack of the mailbox's lock.
#[cfg(any(not(unix), test))]
fn without_waiting<R>(
    socket: &TcpStream,
    call: impl FnOnce(&TcpStream) -> io::Result<R>,
) -> io::Result<R> {
    socket.set_nonblocking(true)?;
    let result = call(socket);
    socket.set_nonblocking(false)?;
    result
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_call_on_a_full_socket_does_not_wait_and_leaves_it_blocking() {
        const WAIT: Duration = Duration::from_millis(50);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let _deaf = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        let (ours, _) = listener.accept().expect("a client");
        ours.set_read_timeout(Some(WAIT)).expect("a deadline");
        ours.set_write_timeout(Some(Duration::from_mins(1)))
            .expect("a deadline");
        let start = Instant::now();
        let blocked = std::iter::repeat_with(|| {
            without_waiting(&ours, |mut socket| socket.write(&[0; 8 * 1024]))
        })
        .find_map(Result::err);
        assert_eq!(
            blocked.map(|error| error.kind()),
            Some(io::ErrorKind::WouldBlock)
        );
        assert!(start.elapsed() < Duration::from_secs(30));
        let start = Instant::now();
        assert!((&ours).read(&mut [0]).is_err(), "nobody has spoken");
        assert!(start.elapsed() >= WAIT, "it does not block");
    }
}

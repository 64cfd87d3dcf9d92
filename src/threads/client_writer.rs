//! One client's outbox and the sending side of its socket, for all threads that have something for it.
//!
//! A thread that holds the lock may send, but never waits for the socket while holding it: sends from other threads take
//! what the kernel takes at once. Only the client's own thread waits for its client, without the lock, and at most the
//! send timeout.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::SockRef;
use tracing::warn;

use super::inside;
use crate::core::context::Context;
use crate::core::engine::{ClientId, Close};
use crate::core::inside::threads::ThreadState;
use crate::core::refusals::Broken;
use crate::core::websocket::conversation::CROSSING_BYTES;
use crate::core::websocket::frame;
use crate::net::has_input::has_input;
use crate::net::outbox::{Flushed, Outbox, Overflow};
use crate::net::send_flags::DontWait;
use crate::net::write_batch::WriteBatch;

/// How long a client's own thread waits for its client to read, and so the longest any thread waits for a slow one.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Where frames for one client go.
#[derive(Debug)]
pub(super) struct ClientWriter {
    client: ClientId,
    socket: TcpStream,
    context: Arc<Context>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    policy: AppendPolicy,
    sender: Sender,
    /// The ticker watches the socket, and sends on when it is writable; no other thread need try.
    pending_retry: bool,
    /// The kernel took no more.
    blocked: bool,
    /// Since its own thread last asked, the client took something that had been waiting for it.
    client_took_output: bool,
}

/// Which threads may append to the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppendPolicy {
    /// Every thread.
    Open,
    /// The same, but the client's own thread has something to append at the end.
    Leaving,
    /// Only the client's own thread, which has come to the end.
    Final,
    /// None: a Close from another thread stands last.
    Closed,
}

/// Which threads may send what stands in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// Any that has the lock.
    Any,
    /// The client's own thread, which is waiting for the socket just now, perhaps in the middle of a frame.
    OwnThread,
    /// None: the client is cut off, or gone.
    None,
}

impl State {
    fn takes_from_others(&self) -> bool {
        let open = matches!(self.policy, AppendPolicy::Open | AppendPolicy::Leaving);
        open && self.sender != Sender::None
    }

    fn takes_from_own_thread(&self) -> bool {
        self.policy != AppendPolicy::Closed && self.sender != Sender::None
    }
}

impl Drop for ClientWriter {
    fn drop(&mut self) {
        let unsent = self.state.get_mut().outbox.unsent();
        self.context.counters.unsent_shrank(unsent);
    }
}

/// How a delivery left the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Nothing waits, or some thread sees to it already.
    Settled,
    /// Something waits, and must be tried again.
    Pending,
}

impl ClientWriter {
    pub(super) fn new(client: ClientId, socket: TcpStream, context: Arc<Context>) -> Self {
        let empty = State {
            outbox: Outbox::default(),
            policy: AppendPolicy::Open,
            sender: Sender::Any,
            pending_retry: false,
            blocked: false,
            client_took_output: false,
        };
        Self {
            client,
            socket,
            context,
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

    /// Whether the client has taken, since the last call, what the kernel had no room for before.
    pub(super) fn client_took_output(&self) -> bool {
        std::mem::take(&mut self.state.lock().client_took_output)
    }

    /// Appends what answers the client, which may wait beyond the limit. Its own thread does so.
    pub(super) fn enqueue(&self, chunks: Vec<Bytes>) {
        if chunks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.takes_from_own_thread() {
            self.append_owed(&mut state, chunks);
        }
    }

    /// Appends frames from another thread, which sends them later.
    pub(super) fn enqueue_from_other(&self, frames: &Bytes) {
        let mut state = self.state.lock();
        if state.takes_from_others() {
            self.append(&mut state, frames.clone());
        }
    }

    /// Sends these slices of a batch, as far as the kernel takes them.
    pub(super) fn write_batch(&self, batch: &WriteBatch<'_>, lacking: Range<usize>) -> Delivered {
        let mut state = self.state.lock();
        if !state.takes_from_others() {
            return Delivered::Settled;
        }
        let mut written = 0;
        // The common case: nothing waits, the kernel takes all, and nothing is queued.
        if state.sender == Sender::Any && state.outbox.is_empty() {
            match batch.send_copy(lacking.clone(), &mut DontWait(&self.socket)) {
                Ok(taken) => {
                    self.context.counters.bytes_out.inc_by(taken as u64);
                    written = taken;
                }
                // Its own thread learns of an error when it reads.
                Err(_) => return Delivered::Settled,
            }
        }
        for frames in batch.rest(lacking, written) {
            self.append(&mut state, frames);
        }
        self.send(&mut state)
    }

    /// Writes slices of the log and waits for the client, holding the lock: the plain way, which makes every thread that
    /// comes to a slow client wait for it.
    pub(super) fn write_through(&self, slices: &[Bytes]) {
        let mut state = self.state.lock();
        if !state.takes_from_others() {
            return;
        }
        for frames in slices {
            self.append(&mut state, frames.clone());
        }
        // In the middle of a frame, only its own thread can go on.
        while state.sender == Sender::Any
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

    /// The same for a writer that stood on the ticker's list, when its socket is writable.
    pub(super) fn retry(&self) -> Delivered {
        let mut state = self.state.lock();
        state.pending_retry = false;
        self.send(&mut state)
    }

    /// The client's thread has ended: a ticker that still watches the socket is told so by the end of the connection.
    pub(super) fn retire(&self) {
        let mut state = self.state.lock();
        state.sender = Sender::None;
        if state.pending_retry {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }

    /// The socket cannot be watched, so what waits for it would never be sent.
    pub(super) fn give_up(&self, error: &io::Error) {
        warn!("[SERVER] Cannot watch the socket of a slow client: {error}");
        self.cut_off(&mut self.state.lock(), Broken::SlowConsumer);
    }

    /// Sends all that waits; its own thread does so, and waits for the client while it must.
    ///
    /// # Errors
    /// The client is gone, or did not read in time.
    pub(super) fn send_all(&self) -> io::Result<()> {
        loop {
            let mut state = self.state.lock();
            if state.sender == Sender::None {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            state.sender = Sender::Any;
            self.flush(&mut state)?;
            let Some(slice) = state.outbox.front() else {
                return Ok(());
            };
            state.sender = Sender::OwnThread;
            drop(state);
            let inside = &self.context.inside;
            inside::enter(inside, ThreadState::WaitingForClient);
            let written = (&self.socket).write(&slice);
            inside::enter(inside, ThreadState::Sending);
            self.account_for(&mut self.state.lock(), written);
        }
    }

    /// The client has left the engine; its own thread has the last of its frames.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        if state.policy == AppendPolicy::Open {
            state.policy = AppendPolicy::Leaving;
        }
    }

    /// Appends the last of what is for the client. From now on only its own thread appends, so that a Close stays the
    /// last frame.
    pub(super) fn finish(&self, chunks: Vec<Bytes>) {
        let mut state = self.state.lock();
        if state.takes_from_others() {
            self.append_owed(&mut state, chunks);
            state.policy = AppendPolicy::Final;
        }
    }

    /// Appends a message and a Close from another thread than its own, as the last frames, and sends what the kernel takes
    /// at once.
    pub(super) fn close_after(&self, message: &[u8], close: Close) -> Delivered {
        let mut state = self.state.lock();
        if !state.takes_from_others() {
            return Delivered::Settled;
        }
        let mut last = message.to_vec();
        frame::close(&mut last, close.code, close.reason);
        self.append(&mut state, last.into());
        state.policy = AppendPolicy::Closed;
        self.send(&mut state)
    }

    /// Cuts the client off if it has not answered that Close.
    pub(super) fn force_close(&self) {
        let mut state = self.state.lock();
        if state.policy == AppendPolicy::Closed && !has_input(&self.socket) {
            self.cut_off(&mut state, Broken::CloseTimeout);
        }
    }

    /// Bytes that wait for the socket to take them; unknown while a thread is at it.
    pub(super) fn unsent(&self) -> Option<usize> {
        Some(self.state.try_lock()?.outbox.unsent())
    }

    /// Whether all that there is for the client has been sent.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        let settled = state.outbox.is_empty() && state.policy != AppendPolicy::Leaving;
        settled || state.sender == Sender::None
    }

    /// Whether another thread has sent a Close.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().policy == AppendPolicy::Closed
    }

    /// There is no thread for this client, which is answered on a socket that does not wait.
    pub(super) fn turn_away(&self, answer: impl FnOnce(&TcpStream)) {
        if self.socket.set_nonblocking(true).is_ok() {
            answer(&self.socket);
        }
    }

    /// Both sides have sent a Close: ends the output, whichever threads still know this writer. What crossed our Close, a
    /// Pong for example, is read, for the reason that [`turn_away`](crate::net::accept::turn_away) has.
    pub(super) fn end(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)?;
        self.socket.set_nonblocking(true)?;
        let _ = (&self.socket).read(&mut [0; CROSSING_BYTES]);
        Ok(())
    }

    /// What the client asked for, or is owed at its end, may wait beyond the limit.
    fn append_owed(&self, state: &mut State, chunks: Vec<Bytes>) {
        if let [own] = &chunks[..] {
            state.outbox.allow(own.len());
        } else {
            state.outbox.allow_owed(&chunks);
        }
        for chunk in chunks {
            self.append(state, chunk);
        }
    }

    fn append(&self, state: &mut State, frames: Bytes) {
        let length = frames.len();
        match state.outbox.push(frames, self.context.limits.max_unsent) {
            Ok(()) => self.context.counters.unsent_grew(length),
            Err(Overflow) => self.cut_off(state, Broken::SlowConsumer),
        }
    }

    /// Sends what the kernel takes at once, unless that is its own thread's business now.
    fn send(&self, state: &mut State) -> Delivered {
        if state.sender != Sender::Any || state.outbox.is_empty() || state.pending_retry {
            return Delivered::Settled;
        }
        match self.flush(state) {
            Ok(Flushed::Blocked) => {
                state.pending_retry = true;
                Delivered::Pending
            }
            // Its own thread learns of an error when it reads.
            Ok(_) | Err(_) => Delivered::Settled,
        }
    }

    /// Sends what the kernel takes at once.
    fn flush(&self, state: &mut State) -> io::Result<Flushed> {
        let before = state.outbox.unsent();
        let flushed = state.outbox.flush(&mut DontWait(&self.socket));
        self.note_sent(state, before - state.outbox.unsent());
        state.blocked = matches!(flushed, Ok(Flushed::Blocked));
        flushed
    }

    fn note_sent(&self, state: &mut State, bytes: usize) {
        state.client_took_output |= state.blocked && bytes > 0;
        self.context.counters.bytes_out.inc_by(bytes as u64);
        self.context.counters.unsent_shrank(bytes);
    }

    /// What came of a write that waited for the client.
    fn account_for(&self, state: &mut State, written: io::Result<usize>) {
        match written {
            Ok(written) if written > 0 => {
                state.outbox.sent(written);
                self.note_sent(state, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The wait may have been a stop of the whole process: what the client took meanwhile counts.
            Err(error) if is_timeout(&error) => {
                let waiting = state.outbox.unsent();
                match self.flush(state) {
                    Ok(_) if state.outbox.unsent() < waiting => {}
                    Ok(_) => self.cut_off(state, Broken::SlowConsumer),
                    Err(_) => state.sender = Sender::None,
                }
            }
            Ok(_) | Err(_) => state.sender = Sender::None,
        }
    }

    /// A slow client is dropped, with a reset, so that the kernel forgets what it has queued too; its thread wakes up
    /// from reading and ends.
    fn cut_off(&self, state: &mut State, broken: Broken) {
        if state.sender != Sender::None {
            state.sender = Sender::None;
            self.context.counters.refused(Instant::now(), broken);
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

/// A blocking call has waited as long as it may.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

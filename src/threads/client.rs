//! One client's thread, from its first byte to its last.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::client_handler::ClientHandler;
use super::client_writer::{SEND_TIMEOUT, is_timeout};
use super::inside;
use super::shared::Shared;
use crate::core::arrival::Arrival;
use crate::core::engine::Close;
use crate::core::inside::threads::ThreadState;
use crate::core::websocket::conversation::{AfterFlush, Conversation, TimedOut};
use crate::core::websocket::engine_access::EngineAccess;
use crate::host::clock;
use crate::net::has_input::has_input;

/// The thread's own read buffer, on its stack. Most messages are small; a larger one takes more calls.
const READ_BUFFER: usize = 4 * 1024;
/// The shortest a blocking read can be told to wait; zero would mean for ever.
const SHORTEST_READ: Duration = Duration::from_millis(1);
/// Reads from a client whose deadline has come before it is judged: the end of a flood is not awaited.
const READS_BEFORE_VERDICT: usize = 256;

/// Serves one client until it has gone, then gives back its place.
pub(super) fn serve(shared: &Shared, mut handler: ClientHandler, arrival: Arrival) {
    let limits = &shared.context.limits;
    let _place = inside::Place::take(&shared.context.inside, handler.client());
    let mut conversation = Conversation::new(handler.client(), arrival, clock::now(), limits);
    // Both ends of this come to the same: an error is a client that has gone.
    let _ = converse(&mut conversation, &mut handler);
    conversation.abandon(clock::now(), &mut handler);
    handler.discard_replies();
    handler.send_for_room();
    handler.writer.retire();
    shared.exit(handler.client());
}

fn converse(conversation: &mut Conversation, handler: &mut ClientHandler) -> io::Result<()> {
    let mut buffer = [0; READ_BUFFER];
    let mut timeout = ReadTimeout::default();
    let mut half_closed = false;
    let mut late_reads = 0;
    let socket = handler.writer.socket();
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    loop {
        if handler.writer.client_took_output() {
            conversation.took_output();
        }
        // What has come is read before silence is judged: this thread may have been held up.
        if Instant::now() < conversation.deadline() {
            late_reads = 0;
        } else if late_reads < READS_BEFORE_VERDICT && has_input(handler.writer.socket()) {
            late_reads += 1;
        } else {
            if conversation.time_out(clock::now(), handler) == TimedOut::Drop {
                return Ok(());
            }
            handler.deliver()?;
        }
        match conversation.after_flush() {
            AfterFlush::HalfClose if !half_closed => {
                half_closed = true;
                handler.writer.socket().shutdown(Shutdown::Write)?;
            }
            AfterFlush::Close => return handler.writer.end(),
            AfterFlush::KeepOpen | AfterFlush::HalfClose => {}
        }
        let mut socket = handler.writer.socket();
        let left = conversation
            .deadline()
            .saturating_duration_since(Instant::now());
        if let Some(wait) = timeout.change_to(left) {
            socket.set_read_timeout(Some(wait))?;
        }
        inside::enter(&handler.context().inside, ThreadState::Asleep);
        let read = socket.read(&mut buffer);
        inside::enter(&handler.context().inside, ThreadState::Reading);
        match read {
            Ok(0) => {
                conversation.end_of_input(clock::now(), handler);
                return handler.deliver();
            }
            Ok(length) => {
                receive(conversation, handler, &buffer[..length]);
                handler.deliver()?;
                replay(conversation, handler)?;
            }
            Err(error) if is_timeout(&error) => timeout = ReadTimeout::default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive(conversation: &mut Conversation, handler: &mut ClientHandler, bytes: &[u8]) {
    let now = clock::now();
    handler
        .context()
        .counters
        .bytes_in
        .inc_by(bytes.len() as u64);
    if handler.writer.is_closed() {
        // A stopping server has sent the Close; here it only needs to be known.
        conversation.close(now, Close::GOING_AWAY, handler);
        handler.discard_replies();
    }
    conversation.receive(now, bytes, handler);
}

/// Sends the history that the client asked for, step by step, as fast as it reads.
fn replay(conversation: &mut Conversation, handler: &mut ClientHandler) -> io::Result<()> {
    while std::mem::take(&mut handler.output.replaying) {
        conversation.continue_replay(clock::now(), handler);
        handler.deliver()?;
    }
    Ok(())
}

/// How long a read waits, which a system call changes. A wait that is too short is left until it has timed out; one that
/// has become too long gives way to half of what is left, so that a client that talks costs a few calls up to a deadline
/// and not one with every message.
#[derive(Debug, Default)]
struct ReadTimeout {
    set_to: Option<Duration>,
}

impl ReadTimeout {
    /// What to set the wait to, if it must be changed so that no read outlasts `left`.
    fn change_to(&mut self, left: Duration) -> Option<Duration> {
        let wait = match self.set_to {
            None => left,
            Some(set_to) if set_to <= left => return None,
            Some(_) => left / 2,
        };
        self.set_to = Some(wait.max(SHORTEST_READ));
        self.set_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_who_talks_up_to_its_deadline_costs_a_few_calls() {
        let mut timeout = ReadTimeout::default();
        let changes: Vec<_> = (1..=2000)
            .rev()
            .filter_map(|hundredths| {
                let left = Duration::from_millis(10 * hundredths);
                let change = timeout.change_to(left);
                assert!(
                    timeout.set_to.is_some_and(|set_to| set_to <= left),
                    "a read may outlast its deadline"
                );
                change
            })
            .collect();
        assert_eq!(
            changes[0],
            Duration::from_secs(20),
            "a silent client is waited for in one call"
        );
        assert!(changes.len() < 15, "{changes:?}");
    }
}

//! One client's thread, from its first byte to its last.

use std::io::{self, Read};
#[cfg(unix)]
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

#[cfg(unix)]
use socket2::SockRef;

use super::mailbox::SEND_TIMEOUT;
use super::shared::{GOING_AWAY, Shared};
use super::visitor::Visitor;
use crate::conversation::{Conversation, Ending, TimedOut};
use crate::engine::Now;

/// The thread's own read buffer, on its stack. Most messages are small; a larger one takes more calls.
const READ_BUFFER: usize = 4 * 1024;
/// The shortest a blocking read can be told to wait; zero would mean for ever.
const SHORTEST_READ: Duration = Duration::from_millis(1);

/// Reads of a client whose deadline has come before it is judged: of one who floods, the end is not awaited.
const READS_BEFORE_VERDICT: usize = 256;

/// Serves one client until it has gone, then gives back its place.
pub(super) fn serve(shared: &Shared, mut visitor: Visitor, peer: SocketAddr) {
    let mut conversation = Conversation::new(visitor.client(), peer, Now::take(), &shared.config);
    // Both ends of this come to the same: an error is a client that has gone.
    let _ = converse(&mut conversation, &mut visitor);
    conversation.abandon(Now::take(), &mut visitor);
    visitor.discard_replies();
    visitor.send_for_all();
    visitor.mailbox.retire();
    shared.exit(visitor.client());
}

fn converse(conversation: &mut Conversation, visitor: &mut Visitor) -> io::Result<()> {
    let mut buffer = [0; READ_BUFFER];
    let mut patience = Patience::default();
    let mut output_ended = false;
    let mut late_reads = 0;
    visitor
        .mailbox
        .socket()
        .set_write_timeout(Some(SEND_TIMEOUT))?;
    loop {
        if visitor.mailbox.client_took_output() {
            conversation.took_output();
        }
        // What has come is read before silence is judged: this thread may have been held up.
        if Instant::now() < conversation.deadline() {
            late_reads = 0;
        } else if late_reads < READS_BEFORE_VERDICT && has_input(visitor.mailbox.socket()) {
            late_reads += 1;
        } else {
            if conversation.time_out(Now::take(), visitor) == TimedOut::Drop {
                return Ok(());
            }
            visitor.deliver()?;
        }
        match conversation.ending() {
            Ending::EndOutput if !output_ended => {
                output_ended = true;
                visitor.mailbox.socket().shutdown(Shutdown::Write)?;
            }
            Ending::Close => return visitor.mailbox.end(),
            Ending::No | Ending::EndOutput => {}
        }
        let mut socket = visitor.mailbox.socket();
        if let Some(wait) = patience.change_to(
            conversation
                .deadline()
                .saturating_duration_since(Instant::now()),
        ) {
            socket.set_read_timeout(Some(wait))?;
        }
        match socket.read(&mut buffer) {
            Ok(0) => {
                conversation.end_of_input(Now::take(), visitor);
                return visitor.deliver();
            }
            Ok(length) => {
                hear(conversation, visitor, &buffer[..length]);
                visitor.deliver()?;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                patience = Patience::default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a read would not wait.
#[cfg(unix)]
pub(super) fn has_input(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    loop {
        match SockRef::from(socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT)
        {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => return true,
        }
    }
}

/// Nothing but a read tells here, and the one that timed out just now found nothing.
#[cfg(not(unix))]
pub(super) fn has_input(_: &TcpStream) -> bool {
    false
}

fn hear(conversation: &mut Conversation, visitor: &mut Visitor, bytes: &[u8]) {
    let now = Now::take();
    visitor.stats().bytes_in.inc_by(bytes.len() as u64);
    if visitor.mailbox.is_closed() {
        // A stopping server has sent the Close; here it only needs to be known.
        conversation.close(now, GOING_AWAY, visitor);
        visitor.discard_replies();
    }
    conversation.receive(now, bytes, visitor);
}

/// How long a read waits, which a system call changes. A wait that is too short is left until it has timed out; one that
/// has become too long gives way to half of what is left, so that a client who talks costs a few calls up to a deadline
/// and not one with every message.
#[derive(Debug, Default)]
struct Patience {
    set_to: Option<Duration>,
}

impl Patience {
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
        let mut patience = Patience::default();
        let changes: Vec<_> = (1..=2000)
            .rev()
            .filter_map(|hundredths| {
                let left = Duration::from_millis(10 * hundredths);
                let change = patience.change_to(left);
                assert!(
                    patience.set_to.is_some_and(|set_to| set_to <= left),
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

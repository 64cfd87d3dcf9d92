//! One client's conversation from the first byte to the last, without a socket: bytes in, bytes out, one deadline.
//!
//! Both servers drive this same machine; they differ in how they wait for bytes and how they deliver them. A
//! conversation begins with HTTP requests. One of them may upgrade it to a WebSocket, which is then open, or closing
//! once we have sent a Close. When both have said Close they part: what is unsent is sent, and the socket closed (RFC 6455
//! §7.1.1 has the server close first). Where only we are done it lingers: the sending side is shut down, and input is
//! thrown away until the client closes too. Closing with unread input would send a reset, and that destroys the last
//! frames on their way (RFC 9112 §9.6).

mod requests;

use std::io;
use std::time::{Duration, Instant};

use tracing::{debug, info};
use tungstenite::error::Error as WsError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message, WebSocketContext};

use super::caller::Caller;
use super::engine_access::EngineAccess;
use super::frame::{self, Fragment, Inspected, Inspector, Run, Violation};
use super::keepalive::Due;
use super::pipe::Pipe;
use super::session::Session;
use crate::core::arrival::Arrival;
use crate::core::engine::{ClientId, Close, whole_ms};
use crate::core::http::{Head, Refusal};
use crate::core::limits::Limits;
use crate::core::protocol::{Outgoing, Payload};
use crate::core::refusals::Broken;
use crate::core::time::Now;

/// Read from a socket before it is closed after both have said Close; more than a few control frames cannot come.
pub(crate) const CROSSING_BYTES: usize = 1024;

/// One client's conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    client: ClientId,
    caller: Caller,
    stage: Stage,
    /// The beginning of a frame. It is held back until the rest has come, so that memory grows with what a client has
    /// sent and not with what its header claims: tungstenite makes room for the whole claim at once.
    held: Vec<u8>,
    /// What is known of it already.
    inspector: Inspector,
}

#[derive(Debug)]
enum Stage {
    Http {
        head: Head,
        /// When the head being read must be whole.
        deadline: Instant,
        /// Whether a request was answered: silence is then an idle connection, not a slow head.
        answered: bool,
    },
    Open(Session),
    /// Our Close is on its way, the client's is awaited.
    Closing {
        context: WebSocketContext,
        deadline: Instant,
    },
    Lingering {
        deadline: Instant,
    },
    /// Both sides have said Close. All that the client may still have sent is a Pong, where our Ping crossed its Close.
    Closed {
        deadline: Instant,
    },
}

/// What becomes of a conversation's socket once all replies are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFlush {
    /// The conversation goes on.
    KeepOpen,
    /// The sending side is shut down, and the socket closed when the client has closed its own.
    HalfClose,
    /// The sending side is shut down, what crossed our Close is read, and the socket is closed: nothing else can come.
    Close,
}

/// What a server does when a conversation's deadline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimedOut {
    /// Deliver the replies and go on.
    GoesOn,
    /// Drop the socket.
    Drop,
}

impl Conversation {
    /// A client has connected and not said anything yet.
    pub(crate) fn new(client: ClientId, arrival: Arrival, now: Now, limits: &Limits) -> Self {
        let deadline = now.instant + limits.handshake_timeout;
        Self {
            client,
            caller: Caller::new(arrival),
            stage: Stage::Http {
                head: Head::default(),
                deadline,
                answered: false,
            },
            held: Vec::new(),
            inspector: Inspector::default(),
        }
    }

    /// When [`Conversation::time_out`] must be called. It may move, so ask again after each call.
    pub(crate) fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Http { deadline, .. }
            | Stage::Closing { deadline, .. }
            | Stage::Lingering { deadline }
            | Stage::Closed { deadline } => *deadline,
            Stage::Open(session) => session.keepalive.deadline(),
        }
    }

    /// Whether what has come by the deadline decides what happens at it; a Ping is sent in any case.
    pub(crate) fn is_judged_at_deadline(&self) -> bool {
        match &self.stage {
            Stage::Open(session) => session.keepalive.awaits_answer(),
            _ => true,
        }
    }

    /// What becomes of the socket once all replies are sent.
    pub(crate) fn after_flush(&self) -> AfterFlush {
        match self.stage {
            Stage::Http { .. } | Stage::Open(_) | Stage::Closing { .. } => AfterFlush::KeepOpen,
            Stage::Lingering { .. } => AfterFlush::HalfClose,
            Stage::Closed { .. } => AfterFlush::Close,
        }
    }

    fn is_over(&self) -> bool {
        self.after_flush() != AfterFlush::KeepOpen
    }

    /// Whether a WebSocket is open or closing, for which a stopping server waits.
    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self.stage, Stage::Open(_) | Stage::Closing { .. })
    }

    /// Bytes came from the client.
    pub(crate) fn receive(&mut self, now: Now, input: &[u8], access: &mut impl EngineAccess) {
        match &mut self.stage {
            Stage::Http { head, .. } => {
                head.push(input);
                self.answer_requests(now, access);
            }
            Stage::Open(_) | Stage::Closing { .. } => self.take_frames(now, input, access),
            Stage::Lingering { .. } | Stage::Closed { .. } => {}
        }
    }

    /// The client took output that had been waiting for it. A Ping may stand behind more of it, so this is a sign of life.
    pub(crate) fn took_output(&mut self) {
        if let Stage::Open(session) = &mut self.stage {
            session.keepalive.heard();
        }
    }

    /// The client sends no more. What it is still owed may be sent.
    pub(crate) fn end_of_input(&mut self, now: Now, access: &mut impl EngineAccess) {
        self.linger(now, access);
    }

    /// The deadline has come, and what the client had sent by then has been received.
    pub(crate) fn time_out(&mut self, now: Now, access: &mut impl EngineAccess) -> TimedOut {
        match &mut self.stage {
            Stage::Http { head, answered, .. } => {
                let idle = head.is_empty() && *answered;
                if idle {
                    self.linger(now, access);
                } else {
                    self.refuse(Refusal::HeadTimeout, now, access);
                }
            }
            Stage::Open(session) => {
                let limits = &access.context().limits;
                match session.keepalive.time_out(
                    now.instant,
                    limits.ping_interval,
                    limits.ping_timeout,
                ) {
                    Due::Nothing => {}
                    Due::Ping => frame::ping(access.output().reply.own()),
                    Due::Dead => {
                        access
                            .context()
                            .counters
                            .refused(now.instant, Broken::PingTimeout);
                        self.linger(now, access);
                        frame::close(
                            access.output().reply.own(),
                            Broken::PingTimeout.close_code(),
                            "keepalive ping timeout",
                        );
                    }
                }
            }
            Stage::Closing { .. } => {
                access
                    .context()
                    .counters
                    .refused(now.instant, Broken::CloseTimeout);
                return TimedOut::Drop;
            }
            Stage::Lingering { .. } | Stage::Closed { .. } => return TimedOut::Drop,
        }
        TimedOut::GoesOn
    }

    /// The server wants to end an open WebSocket.
    pub(crate) fn close(&mut self, now: Now, close: Close, access: &mut impl EngineAccess) {
        if let Stage::Open(_) = &self.stage {
            self.start_closing(now, close, access);
        }
    }

    /// The server is restarting: an open WebSocket is told within which time to come back, and ended.
    pub(crate) fn restart(
        &mut self,
        now: Now,
        retry_after: Duration,
        access: &mut impl EngineAccess,
    ) {
        if let Stage::Open(_) = &self.stage {
            let deadline = self.leave(now, access);
            let message = Outgoing::restart(now.unix_ms, whole_ms(retry_after));
            access.output().push_reply(&message);
            self.send_close(deadline, Close::RESTART, access);
        }
    }

    /// The socket has taken all it was sent of a replay: the next step.
    pub(crate) fn continue_replay(&mut self, now: Now, access: &mut impl EngineAccess) {
        if let Stage::Open(_) = &self.stage {
            let client = self.client;
            access.with(|engine, output| engine.continue_replay(now, client, output));
            self.close_if_told(now, access);
        }
    }

    /// The socket is gone, or is dropped.
    pub(crate) fn abandon(&mut self, now: Now, access: &mut impl EngineAccess) {
        self.linger(now, access);
    }

    fn take_frames(&mut self, now: Now, input: &[u8], access: &mut impl EngineAccess) {
        match &mut self.stage {
            Stage::Open(session) => session.keepalive.heard(),
            Stage::Closing { .. } => {}
            Stage::Http { .. } | Stage::Lingering { .. } | Stage::Closed { .. } => return,
        }
        let mut held = std::mem::take(&mut self.held);
        if held.is_empty() {
            let whole = self.read_whole_frames(now, input, access);
            self.hold(&input[whole..]);
        } else {
            held.extend_from_slice(input);
            match self.read_whole_frames(now, &held, access) {
                0 if !self.is_over() => self.held = held,
                whole => self.hold(&held[whole..]),
            }
        }
    }

    /// Reads as many frames as have come whole, and tells how many bytes they are.
    fn read_whole_frames(
        &mut self,
        now: Now,
        bytes: &[u8],
        access: &mut impl EngineAccess,
    ) -> usize {
        let max_message = access.context().limits.max_message;
        let in_deflated = self.inspector.is_in_deflated();
        let Inspected { whole, violation } = self.inspector.inspect(bytes, max_message);
        if self.inspector.is_deflate() {
            self.read_runs(now, &bytes[..whole], in_deflated, access);
        } else {
            self.read_frames(now, &bytes[..whole], access);
        }
        if let Some(violation) = violation
            && !self.is_over()
        {
            let broken = match violation {
                Violation::NotUtf8 => Broken::BadUtf8,
                Violation::TooLong => Broken::TooBig,
                _ => Broken::ProtocolError,
            };
            self.fail(now, broken, &violation, access);
        }
        if let Stage::Open(session) = &mut self.stage {
            session.give_back_room(whole, self.inspector.is_in_message());
        }
        whole
    }

    /// Holds back the beginning of a frame, in no more room than it takes.
    fn hold(&mut self, beginning: &[u8]) {
        if !self.is_over() {
            self.held = beginning.to_vec();
        }
    }

    /// Reads frames of a client that may send compressed messages, which tungstenite does not know.
    fn read_runs(
        &mut self,
        now: Now,
        mut frames: &[u8],
        mut in_deflated: bool,
        access: &mut impl EngineAccess,
    ) {
        while !frames.is_empty() {
            let (run, rest) = frame::split_run(frames, in_deflated);
            match run {
                Run::Plain(frames) => self.read_frames(now, frames, access),
                Run::Deflated(fragment) => {
                    in_deflated = !fragment.is_final;
                    self.take_fragment(now, &fragment, access);
                }
            }
            frames = rest;
        }
    }

    fn take_fragment(&mut self, now: Now, fragment: &Fragment<'_>, access: &mut impl EngineAccess) {
        // What comes after our Close is of no interest any more.
        if let Stage::Open(session) = &mut self.stage {
            match session.take_fragment(now, self.client, fragment, access) {
                Ok(()) => self.close_if_told(now, access),
                Err(error) => self.fail(now, error.into(), &error, access),
            }
        }
    }

    fn read_frames(&mut self, now: Now, mut input: &[u8], access: &mut impl EngineAccess) {
        loop {
            let context = match &mut self.stage {
                Stage::Open(session) => &mut session.context,
                Stage::Closing { context, .. } => context,
                Stage::Http { .. } | Stage::Lingering { .. } | Stage::Closed { .. } => return,
            };
            let reply = access.output().reply.own();
            match context.read(&mut Pipe {
                input: &mut input,
                reply,
            }) {
                Ok(message) => self.take(now, message, access),
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The close handshake is complete; the reply, if one was owed, is among the replies.
                Err(WsError::ConnectionClosed) => self.part(now, access),
                Err(error) => {
                    let broken = match error {
                        WsError::Capacity(_) => Broken::TooBig,
                        WsError::Utf8(_) => Broken::BadUtf8,
                        _ => Broken::ProtocolError,
                    };
                    self.fail(now, broken, &error, access);
                }
            }
        }
    }

    fn take(&mut self, now: Now, message: Message, access: &mut impl EngineAccess) {
        if let Message::Close(Some(close)) = &message
            && close.code == CloseCode::Protocol
        {
            // Either the client accuses us, or it sent a code that may not be sent and tungstenite answers with this.
            access
                .context()
                .counters
                .refused(now.instant, Broken::ProtocolError);
        }
        // What comes after our Close is of no interest any more.
        let Stage::Open(session) = &mut self.stage else {
            return;
        };
        match message {
            Message::Text(text) => {
                session.request(now, self.client, Payload::Text(&text), access);
            }
            Message::Binary(bytes) => {
                session.request(now, self.client, Payload::Binary(&bytes), access);
            }
            // The answer to a Close comes behind what the room's log still owes the client.
            Message::Close(_) => return self.answer_close(now, access),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        self.close_if_told(now, access);
    }

    fn close_if_told(&mut self, now: Now, access: &mut impl EngineAccess) {
        if let Some(close) = access.output().close.take() {
            self.start_closing(now, close, access);
        }
    }

    /// The client broke the protocol: what it sent before is answered, then comes the reason, and no more.
    fn fail(
        &mut self,
        now: Now,
        broken: Broken,
        error: &dyn std::error::Error,
        access: &mut impl EngineAccess,
    ) {
        debug!(
            "[SERVER] {}: closed with {}: {error}",
            self.caller,
            broken.close_code()
        );
        access.context().counters.refused(now.instant, broken);
        let open = matches!(self.stage, Stage::Open(_));
        self.linger(now, access);
        if open {
            let reply = access.output().reply.own();
            frame::close(reply, broken.close_code(), broken.label());
        }
    }

    fn start_closing(&mut self, now: Now, close: Close, access: &mut impl EngineAccess) {
        let deadline = self.leave(now, access);
        self.send_close(deadline, close, access);
    }

    fn send_close(&mut self, deadline: Instant, close: Close, access: &mut impl EngineAccess) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Lingering { deadline }) {
            Stage::Open(mut session) => {
                let frame = CloseFrame {
                    code: close.code,
                    reason: close.reason.into(),
                };
                let reply = access.output().reply.own();
                match session.context.close(
                    &mut Pipe {
                        input: &mut &b""[..],
                        reply,
                    },
                    Some(frame),
                ) {
                    Ok(()) => Stage::Closing {
                        context: session.context,
                        deadline,
                    },
                    Err(_) => Stage::Lingering { deadline },
                }
            }
            other => other,
        };
    }

    /// The client has sent a Close first. tungstenite answers it when it is next asked to read.
    fn answer_close(&mut self, now: Now, access: &mut impl EngineAccess) {
        let deadline = self.leave(now, access);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Lingering { deadline }) {
            Stage::Open(session) => Stage::Closing {
                context: session.context,
                deadline,
            },
            other => other,
        };
    }

    /// The client has sent a Close too, in answer or first.
    fn part(&mut self, now: Now, access: &mut impl EngineAccess) {
        let deadline = self.leave(now, access);
        self.stage = Stage::Closed { deadline };
    }

    /// All is said from our side.
    fn linger(&mut self, now: Now, access: &mut impl EngineAccess) {
        if !self.is_over() {
            let deadline = self.leave(now, access);
            self.stage = Stage::Lingering { deadline };
        }
    }

    /// Takes the client out of the room and the dashboard, if it was in; tells when closing must have ended.
    fn leave(&mut self, now: Now, access: &mut impl EngineAccess) -> Instant {
        let client = self.client;
        let open = matches!(self.stage, Stage::Open(_));
        let remaining = access.with(|engine, output| {
            if open {
                engine.leave(now, client, output);
            }
            engine.client_count()
        });
        if let Stage::Open(session) = &self.stage {
            info!(
                "[{}] Client {} disconnected. Remaining: {remaining}",
                session.endpoint.tag(),
                session.number
            );
        }
        now.instant + access.context().limits.close_timeout
    }
}

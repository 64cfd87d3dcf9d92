//! One client's conversation from the first byte to the last, without a socket: bytes in, bytes out, one deadline.
//!
//! Both servers drive this same machine; they differ in how they wait for bytes and how they deliver them. A
//! conversation begins with HTTP requests. One of them may upgrade it to a WebSocket, which is then open, or closing
//! once we have sent a Close. When both have said Close they part: what is unsent is sent, and the socket closed (RFC 6455
//! §7.1.1 has the server close first). Where only we are done it lingers: the sending side is shut down, and input is
//! thrown away until the client closes too. Closing with unread input would send a reset, and that destroys the last
//! frames on their way (RFC 9112 §9.6).

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use tracing::{debug, info};
use tungstenite::error::Error as WsError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message, WebSocketContext};

use super::frame::{self, Inspected, Inspector, Violation};
use super::keepalive::Due;
use super::session::Session;
use crate::core::arrival::{Arrival, Place};
use crate::core::context::Context;
use crate::core::engine::output::Output;
use crate::core::engine::{ClientId, Close, Engine, Full};
use crate::core::http::{self, Head, Outcome, Refusal, Site, Step};
use crate::core::limits::Limits;
use crate::core::protocol::{Opening, Payload};
use crate::core::refusals::Quoted;
use crate::core::time::Now;

/// Output above which no further pipelined request is answered: the last answer says `Connection: close`.
const MAX_PIPELINED_OUTPUT: usize = 64 * 1024;

/// Read from a socket before it is closed after both have said Close; more than a few control frames cannot come.
pub const CROSSING_BYTES: usize = 1024;

/// The Close for broken rules, and the reason that it is counted under.
const PROTOCOL_ERROR: (u16, &str) = (1002, "protocol_error");
const BAD_UTF8: (u16, &str) = (1007, "bad_utf8");

/// A conversation's access to the engine: direct in the event loop, through a lock in the thread server.
pub trait EngineAccess {
    /// Runs one change of the engine. When it returns, the server has taken note of what is to be sent, in the order in
    /// which the engine was changed.
    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Output) -> R) -> R;

    /// What this client is to be sent.
    fn output(&mut self) -> &mut Output;

    /// What never changes, and the counters.
    fn context(&self) -> &Context;
}

/// One client's conversation.
#[derive(Debug)]
pub struct Conversation {
    client: ClientId,
    peer: SocketAddr,
    /// Given back when the socket is closed.
    _place: Option<Box<Place>>,
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
        /// The server's address on this connection.
        local: IpAddr,
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
pub enum AfterFlush {
    /// The conversation goes on.
    KeepOpen,
    /// The sending side is shut down, and the socket closed when the client has closed its own.
    HalfClose,
    /// The sending side is shut down, what crossed our Close is read, and the socket is closed: nothing else can come.
    Close,
}

/// What a server does when a conversation's deadline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedOut {
    /// Deliver the replies and go on.
    GoesOn,
    /// Drop the socket.
    Drop,
}

impl Conversation {
    /// A client has connected and not said anything yet.
    pub fn new(client: ClientId, arrival: Arrival, now: Now, limits: &Limits) -> Self {
        let deadline = now.instant + limits.handshake_timeout;
        Self {
            client,
            peer: arrival.peer,
            _place: arrival.place,
            stage: Stage::Http {
                head: Head::default(),
                local: arrival.local,
                deadline,
                answered: false,
            },
            held: Vec::new(),
            inspector: Inspector::default(),
        }
    }

    /// The client's place in the server's table.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// When [`Conversation::time_out`] must be called. It may move, so ask again after each call.
    pub fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Http { deadline, .. }
            | Stage::Closing { deadline, .. }
            | Stage::Lingering { deadline }
            | Stage::Closed { deadline } => *deadline,
            Stage::Open(session) => session.keepalive.deadline(),
        }
    }

    /// What becomes of the socket once all replies are sent.
    pub fn after_flush(&self) -> AfterFlush {
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
    pub fn is_websocket(&self) -> bool {
        matches!(self.stage, Stage::Open(_) | Stage::Closing { .. })
    }

    /// Bytes came from the client.
    pub fn receive(&mut self, now: Now, input: &[u8], access: &mut impl EngineAccess) {
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
    pub fn took_output(&mut self) {
        if let Stage::Open(session) = &mut self.stage {
            session.keepalive.heard();
        }
    }

    /// The client sends no more. What it is still owed may be sent.
    pub fn end_of_input(&mut self, now: Now, access: &mut impl EngineAccess) {
        self.linger(now, access);
    }

    /// The deadline has come, and what the client had sent by then has been received.
    pub fn time_out(&mut self, now: Now, access: &mut impl EngineAccess) -> TimedOut {
        match &mut self.stage {
            Stage::Http { head, answered, .. } => {
                let idle = head.is_empty() && *answered;
                if !idle {
                    refuse(Refusal::HeadTimeout, self.peer, now, access);
                }
                self.linger(now, access);
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
                            .refused(now.instant, "ping_timeout");
                        self.linger(now, access);
                        frame::close(access.output().reply.own(), 1011, "keepalive ping timeout");
                    }
                }
            }
            Stage::Closing { .. } => {
                access
                    .context()
                    .counters
                    .refused(now.instant, "close_timeout");
                return TimedOut::Drop;
            }
            Stage::Lingering { .. } | Stage::Closed { .. } => return TimedOut::Drop,
        }
        TimedOut::GoesOn
    }

    /// The server wants to end an open WebSocket.
    pub fn close(&mut self, now: Now, close: Close, access: &mut impl EngineAccess) {
        if let Stage::Open(_) = &self.stage {
            self.start_closing(now, close, access);
        }
    }

    /// The socket has taken all it was sent of a replay: the next step.
    pub fn continue_replay(&mut self, now: Now, access: &mut impl EngineAccess) {
        if let Stage::Open(_) = &self.stage {
            let client = self.client;
            access.with(|engine, output| engine.continue_replay(now, client, output));
            self.close_if_told(now, access);
        }
    }

    /// The socket is gone, or is dropped.
    pub fn abandon(&mut self, now: Now, access: &mut impl EngineAccess) {
        self.linger(now, access);
    }

    fn answer_requests(&mut self, now: Now, access: &mut impl EngineAccess) {
        let start = access.output().reply.own().len();
        while let Stage::Http { head, local, .. } = &mut self.stage {
            let local = *local;
            match head.next_step() {
                Step::Incomplete => break,
                Step::Reject(refusal) => {
                    refuse(refusal, self.peer, now, access);
                    self.linger(now, access);
                }
                Step::Request(request) => {
                    let last = access.output().reply.own().len() - start > MAX_PIPELINED_OUTPUT;
                    self.answer(now, &request, local, last, access);
                }
            }
        }
    }

    fn answer(
        &mut self,
        now: Now,
        request: &http::Request,
        local: IpAddr,
        last: bool,
        access: &mut impl EngineAccess,
    ) {
        let start = access.output().reply.own().len();
        let draining = access.with(|engine, _| engine.is_draining());
        let mut out = std::mem::take(access.output().reply.own());
        let outcome = respond(
            access.context(),
            request,
            now,
            local,
            draining,
            last,
            &mut out,
        );
        *access.output().reply.own() = out;
        match outcome {
            Outcome::Responded {
                keep_alive,
                refused,
            } => {
                let context = access.context();
                if let Some(refusal) = refused {
                    note(refusal, Some(request), self.peer, now, context);
                }
                match &mut self.stage {
                    Stage::Http {
                        deadline, answered, ..
                    } if keep_alive => {
                        *answered = true;
                        *deadline = now.instant + context.limits.handshake_timeout;
                    }
                    _ => self.linger(now, access),
                }
            }
            Outcome::Upgraded(opening) => match self.enter(now, &opening, access) {
                Ok(number) => self.upgrade(now, &opening, number, access),
                Err(full) => {
                    access.output().reply.truncate(start);
                    refuse(refusal_of(full), self.peer, now, access);
                    self.linger(now, access);
                }
            },
        }
    }

    /// Takes a place, if there is one: between looking for it and taking it no other client may come in.
    fn enter(
        &self,
        now: Now,
        opening: &Opening,
        access: &mut impl EngineAccess,
    ) -> Result<u64, Full> {
        let (client, address) = (self.client, self.peer.ip());
        access.with(|engine, output| {
            engine.vacancy(address)?;
            Ok(engine.open(now, client, address, opening, output))
        })
    }

    /// Turns to WebSocket frames, of which the first may stand right behind the request.
    fn upgrade(
        &mut self,
        now: Now,
        opening: &Opening,
        number: u64,
        access: &mut impl EngineAccess,
    ) {
        let session = Session::new(now, opening, number, &access.context().limits);
        info!(
            "[{}] Client {number} connected from {}",
            session.endpoint.tag(),
            self.peer
        );
        let before = std::mem::replace(&mut self.stage, Stage::Open(session));
        if let Stage::Http { mut head, .. } = before {
            let rest = head.take_rest();
            if !rest.is_empty() {
                self.take_frames(now, &rest, access);
            }
        }
    }

    fn take_frames(&mut self, now: Now, input: &[u8], access: &mut impl EngineAccess) {
        let max_message = match &mut self.stage {
            Stage::Open(Session {
                context, keepalive, ..
            }) => {
                keepalive.heard();
                context.get_config().max_message_size
            }
            Stage::Closing { context, .. } => context.get_config().max_message_size,
            Stage::Http { .. } | Stage::Lingering { .. } | Stage::Closed { .. } => return,
        };
        let max_message = max_message.unwrap_or(usize::MAX);
        let mut held = std::mem::take(&mut self.held);
        if held.is_empty() {
            let whole = self.read_whole_frames(now, input, max_message, access);
            self.hold(&input[whole..]);
        } else {
            held.extend_from_slice(input);
            match self.read_whole_frames(now, &held, max_message, access) {
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
        max_message: usize,
        access: &mut impl EngineAccess,
    ) -> usize {
        let Inspected { whole, violation } = self.inspector.inspect(bytes, max_message);
        self.read_frames(now, &bytes[..whole], access);
        if let Some(violation) = violation
            && !self.is_over()
        {
            let (code, reason) = match violation {
                Violation::NotUtf8 => BAD_UTF8,
                _ => PROTOCOL_ERROR,
            };
            self.fail(now, code, reason, &violation, access);
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
                    let (code, reason) = match error {
                        WsError::Capacity(_) => (1009, "too_big"),
                        WsError::Utf8(_) => BAD_UTF8,
                        _ => PROTOCOL_ERROR,
                    };
                    self.fail(now, code, reason, &error, access);
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
                .refused(now.instant, "protocol_error");
        }
        // What comes after our Close is of no interest any more.
        let Stage::Open(session) = &mut self.stage else {
            return;
        };
        match message {
            Message::Text(text) => session.request(now, self.client, Payload::Text(&text), access),
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
        code: u16,
        reason: &'static str,
        error: &dyn std::error::Error,
        access: &mut impl EngineAccess,
    ) {
        debug!("[SERVER] {}: closed with {code}: {error}", self.peer);
        access.context().counters.refused(now.instant, reason);
        let open = matches!(self.stage, Stage::Open(_));
        self.linger(now, access);
        if open {
            frame::close(access.output().reply.own(), code, reason);
        }
    }

    fn start_closing(&mut self, now: Now, close: Close, access: &mut impl EngineAccess) {
        let deadline = self.leave(now, access);
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

/// Answers a request. An upgrade is accepted on condition that there is a place.
fn respond(
    context: &Context,
    request: &http::Request,
    now: Now,
    local: IpAddr,
    draining: bool,
    last: bool,
    out: &mut Vec<u8>,
) -> Outcome {
    let site = Site {
        model: context.model,
        now: now.wall_clock(),
        access: &context.access,
        local,
        draining,
        last,
        report: context.report.as_deref(),
        metrics: &|format| context.counters.exposition(format),
    };
    http::respond(request, &site, out)
}

/// The answer to a connection for which there is no place. Who looks after the server finds room all the same: a health
/// check and a scrape are answered out of what has come with the connection, whatever else is refused.
pub fn answer_without_place(
    context: &Context,
    draining: bool,
    arrival: &Arrival,
    now: Now,
    input: &[u8],
    refusal: Refusal,
) -> Vec<u8> {
    let mut head = Head::default();
    head.push(input);
    let mut out = Vec::new();
    match head.next_step() {
        Step::Request(request)
            if matches!(request.path.as_str(), "/healthz" | "/metrics")
                && !request.wants_websocket() =>
        {
            let outcome = respond(
                context,
                &request,
                now,
                arrival.local,
                draining,
                true,
                &mut out,
            );
            if let Outcome::Responded {
                refused: Some(refusal),
                ..
            } = outcome
            {
                note(refusal, Some(&request), arrival.peer, now, context);
            }
        }
        Step::Incomplete | Step::Request(_) | Step::Reject(_) => {
            note(refusal, None, arrival.peer, now, context);
            http::refuse(refusal, context.model, now.wall_clock(), &mut out);
        }
    }
    out
}

fn refuse(refusal: Refusal, peer: SocketAddr, now: Now, access: &mut impl EngineAccess) {
    let context = access.context();
    note(refusal, None, peer, now, context);
    let model = context.model;
    http::refuse(
        refusal,
        model,
        now.wall_clock(),
        access.output().reply.own(),
    );
}

/// Counts a refusal, and tells the operator what could be set.
fn note(
    refusal: Refusal,
    request: Option<&http::Request>,
    peer: SocketAddr,
    now: Now,
    context: &Context,
) {
    let counters = &context.counters;
    if refusal == Refusal::NotFound && request.is_some_and(|request| request.path == "/report") {
        // The start page asks whether there is one.
        return counters.refused_silently(refusal.reason());
    }
    counters.refused_because(now.instant, refusal.reason(), || {
        let quoted = |value: Option<&String>| {
            Quoted(value.map_or("", String::as_str)).to_string()
        };
        let asked = request.map_or_else(String::new, |request| {
            format!(" {}", Quoted(&request.path))
        });
        match refusal {
            Refusal::Host => format!(
                "{peer} asked{asked} of Host {}, which is not known as this server's; if it is, as behind a proxy, \
                 start the server with --allow-host and that name.",
                quoted(request.and_then(|request| request.host.as_ref())),
            ),
            Refusal::Origin => format!(
                "a page of Origin {} may not open{asked}, asked for by {peer} with Host {}; if it is yours, start the \
                 server with --allow-origin and that origin.",
                quoted(request.and_then(|request| request.origin.as_ref())),
                quoted(request.and_then(|request| request.host.as_ref())),
            ),
            _ => format!("{peer}{asked}: {} {}", refusal.status(), refusal.line()),
        }
    });
}

fn refusal_of(full: Full) -> Refusal {
    match full {
        Full::Server => Refusal::Full,
        Full::Address => Refusal::AddressFull,
        Full::Draining => Refusal::Draining,
    }
}

/// Stands in for the socket that tungstenite wants: reads what came, writes to the replies.
struct Pipe<'a, 'b> {
    input: &'a mut &'b [u8],
    reply: &'a mut Vec<u8>,
}

impl Read for Pipe<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            self.input.read(buffer)
        }
    }
}

impl Write for Pipe<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reply.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

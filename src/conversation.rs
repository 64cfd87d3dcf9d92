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
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info};
use tungstenite::error::Error as WsError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig, WebSocketContext};

use crate::arrival::{Arrival, Place};
use crate::config::Config;
use crate::engine::refusals::{Printable, Quoted};
use crate::engine::stats::Stats;
use crate::engine::{ClientId, Close, Effects, Engine, Full, Now};
use crate::frame;
use crate::http::{self, Head, Outcome, Refusal, Site, Step};
use crate::keepalive::{Due, Keepalive};
use crate::protocol::{self, ChatRequest, Opening, Payload};

/// Output above which no further pipelined request is answered: the last answer says `Connection: close`.
const MAX_PIPELINED_OUTPUT: usize = 64 * 1024;

/// Read from a socket before it is closed after both have said Close; more than a few control frames cannot come.
pub const CROSSING_BYTES: usize = 1024;

/// How a conversation reaches the engine: directly in the event loop, through a lock in the thread server.
pub trait Lab {
    /// Runs one change of the engine. When it returns, the server has taken note of what is to be sent, in the order in
    /// which the engine was changed.
    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Effects) -> R) -> R;

    /// Where this client's replies are gathered.
    fn effects(&mut self) -> &mut Effects;
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
    Parted {
        deadline: Instant,
    },
}

/// What becomes of a conversation's socket once all replies are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The conversation goes on.
    No,
    /// The sending side is shut down, and the socket closed when the client has closed its own.
    EndOutput,
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
    pub fn new(client: ClientId, arrival: Arrival, now: Now, config: &Config) -> Self {
        let deadline = now.instant + config.handshake_timeout;
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
            | Stage::Parted { deadline } => *deadline,
            Stage::Open(session) => session.keepalive.deadline(),
        }
    }

    /// What becomes of the socket once all replies are sent.
    pub fn ending(&self) -> Ending {
        match self.stage {
            Stage::Http { .. } | Stage::Open(_) | Stage::Closing { .. } => Ending::No,
            Stage::Lingering { .. } => Ending::EndOutput,
            Stage::Parted { .. } => Ending::Close,
        }
    }

    fn is_over(&self) -> bool {
        self.ending() != Ending::No
    }

    /// Whether a WebSocket is open or closing, for which a stopping server waits.
    pub fn is_websocket(&self) -> bool {
        matches!(self.stage, Stage::Open(_) | Stage::Closing { .. })
    }

    /// Bytes came from the client.
    pub fn receive(&mut self, now: Now, input: &[u8], lab: &mut impl Lab) {
        match &mut self.stage {
            Stage::Http { head, .. } => {
                head.push(input);
                self.answer_requests(now, lab);
            }
            Stage::Open(_) | Stage::Closing { .. } => self.take_frames(now, input, lab),
            Stage::Lingering { .. } | Stage::Parted { .. } => {}
        }
    }

    /// The client sends no more. What it is still owed may be sent.
    pub fn end_of_input(&mut self, now: Now, lab: &mut impl Lab) {
        self.linger(now, lab);
    }

    /// The deadline has come.
    pub fn time_out(&mut self, now: Now, lab: &mut impl Lab) -> TimedOut {
        match &mut self.stage {
            Stage::Http { head, answered, .. } => {
                let idle = head.is_empty() && *answered;
                if !idle {
                    let model = lab.with(|engine, _| engine.model());
                    refuse(Refusal::HeadTimeout, model, now, self.peer, lab.effects());
                }
                self.linger(now, lab);
            }
            Stage::Open(session) => {
                let config = lab.with(|engine, _| Arc::clone(engine.config()));
                match session.keepalive.time_out(
                    now.instant,
                    config.ping_interval,
                    config.ping_timeout,
                ) {
                    Due::Nothing => {}
                    Due::Ping => frame::ping(&mut lab.effects().reply),
                    Due::Dead => {
                        lab.effects().stats().refused(now.instant, "ping_timeout");
                        frame::close(&mut lab.effects().reply, 1011, "keepalive ping timeout");
                        self.linger(now, lab);
                    }
                }
            }
            Stage::Closing { .. } => {
                lab.effects().stats().refused(now.instant, "close_timeout");
                return TimedOut::Drop;
            }
            Stage::Lingering { .. } | Stage::Parted { .. } => return TimedOut::Drop,
        }
        TimedOut::GoesOn
    }

    /// The server wants to end an open WebSocket.
    pub fn close(&mut self, now: Now, close: Close, lab: &mut impl Lab) {
        if let Stage::Open(_) = &self.stage {
            self.start_closing(now, close, lab);
        }
    }

    /// The socket is gone, or is dropped.
    pub fn abandon(&mut self, now: Now, lab: &mut impl Lab) {
        self.linger(now, lab);
    }

    fn answer_requests(&mut self, now: Now, lab: &mut impl Lab) {
        let start = lab.effects().reply.len();
        while let Stage::Http { head, local, .. } = &mut self.stage {
            let local = *local;
            match head.next_step() {
                Step::Incomplete => break,
                Step::Reject(refusal) => {
                    let model = lab.with(|engine, _| engine.model());
                    refuse(refusal, model, now, self.peer, lab.effects());
                    self.linger(now, lab);
                }
                Step::Request(request) => {
                    let last = lab.effects().reply.len() - start > MAX_PIPELINED_OUTPUT;
                    self.answer(now, &request, local, last, lab);
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
        lab: &mut impl Lab,
    ) {
        let (client, peer) = (self.client, self.peer);
        let (outcome, timeout, number) = lab.with(|engine, effects| {
            let outcome = respond(
                engine,
                request,
                now,
                (peer, local),
                last,
                &mut effects.reply,
            );
            let number = match &outcome {
                Outcome::Upgraded(opening) => engine.open(now, client, peer.ip(), opening, effects),
                Outcome::Responded { .. } => 0,
            };
            (outcome, engine.config().handshake_timeout, number)
        });
        match outcome {
            Outcome::Responded {
                keep_alive,
                refused,
            } => {
                if let Some(refusal) = refused {
                    note(refusal, Some(request), peer, now, lab.effects().stats());
                }
                match &mut self.stage {
                    Stage::Http {
                        deadline, answered, ..
                    } if keep_alive => {
                        *answered = true;
                        *deadline = now.instant + timeout;
                    }
                    _ => self.linger(now, lab),
                }
            }
            Outcome::Upgraded(opening) => self.upgrade(now, &opening, number, lab),
        }
    }

    /// Turns to WebSocket frames, of which the first may stand right behind the request.
    fn upgrade(&mut self, now: Now, opening: &Opening, number: u64, lab: &mut impl Lab) {
        let session = lab.with(|engine, _| Session::new(now, opening, number, engine.config()));
        info!(
            "[{}] Client {number} connected from {}",
            session.endpoint.tag(),
            self.peer
        );
        let before = std::mem::replace(&mut self.stage, Stage::Open(session));
        if let Stage::Http { mut head, .. } = before {
            let rest = head.take_rest();
            if !rest.is_empty() {
                self.take_frames(now, &rest, lab);
            }
        }
    }

    fn take_frames(&mut self, now: Now, input: &[u8], lab: &mut impl Lab) {
        let max_message = match &mut self.stage {
            Stage::Open(Session {
                context, keepalive, ..
            }) => {
                keepalive.heard();
                context.get_config().max_message_size
            }
            Stage::Closing { context, .. } => context.get_config().max_message_size,
            Stage::Http { .. } | Stage::Lingering { .. } | Stage::Parted { .. } => return,
        };
        let max_message = max_message.unwrap_or(usize::MAX);
        if self.held.is_empty() {
            let whole = frame::whole_frames(input, max_message);
            self.held.extend_from_slice(&input[whole..]);
            self.read_frames(now, &input[..whole], lab);
        } else {
            let mut bytes = std::mem::take(&mut self.held);
            bytes.extend_from_slice(input);
            let whole = frame::whole_frames(&bytes, max_message);
            self.read_frames(now, &bytes[..whole], lab);
            if whole < bytes.len() {
                bytes.drain(..whole);
                self.held = bytes;
            }
        }
    }

    fn read_frames(&mut self, now: Now, mut input: &[u8], lab: &mut impl Lab) {
        loop {
            let context = match &mut self.stage {
                Stage::Open(session) => &mut session.context,
                Stage::Closing { context, .. } => context,
                Stage::Http { .. } | Stage::Lingering { .. } | Stage::Parted { .. } => return,
            };
            let reply = &mut lab.effects().reply;
            match context.read(&mut Pipe {
                input: &mut input,
                reply,
            }) {
                Ok(message) => self.take(now, message, lab),
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The close handshake is complete; the reply, if one was owed, is among the replies.
                Err(WsError::ConnectionClosed) => self.part(now, lab),
                Err(error) => self.fail(now, &error, lab),
            }
        }
    }

    fn take(&mut self, now: Now, message: Message, lab: &mut impl Lab) {
        if let Message::Close(Some(close)) = &message
            && close.code == CloseCode::Protocol
        {
            // Either the client accuses us, or it sent a code that may not be sent and tungstenite answers with this.
            lab.effects().stats().refused(now.instant, "protocol_error");
        }
        // What comes after our Close is of no interest any more.
        let Stage::Open(session) = &mut self.stage else {
            return;
        };
        match message {
            Message::Text(text) => session.request(now, self.client, Payload::Text(&text), lab),
            Message::Binary(bytes) => {
                session.request(now, self.client, Payload::Binary(&bytes), lab);
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        if let Some(close) = lab.effects().close.take() {
            self.start_closing(now, close, lab);
        }
    }

    /// The client broke the protocol: what it sent before is answered, then comes the reason, and no more.
    fn fail(&mut self, now: Now, error: &WsError, lab: &mut impl Lab) {
        let (code, reason) = match error {
            WsError::Capacity(_) => (1009, "too_big"),
            WsError::Utf8(_) => (1007, "bad_utf8"),
            _ => (1002, "protocol_error"),
        };
        debug!("[SERVER] {}: closed with {code}: {error}", self.peer);
        lab.effects().stats().refused(now.instant, reason);
        if let Stage::Open(_) = &self.stage {
            frame::close(&mut lab.effects().reply, code, reason);
        }
        self.linger(now, lab);
    }

    fn start_closing(&mut self, now: Now, close: Close, lab: &mut impl Lab) {
        let deadline = self.leave(now, lab);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Lingering { deadline }) {
            Stage::Open(mut session) => {
                let frame = CloseFrame {
                    code: close.code.into(),
                    reason: close.reason.into(),
                };
                let reply = &mut lab.effects().reply;
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

    /// The client has said Close too, in answer or first.
    fn part(&mut self, now: Now, lab: &mut impl Lab) {
        let deadline = self.leave(now, lab);
        self.stage = Stage::Parted { deadline };
    }

    /// All is said from our side.
    fn linger(&mut self, now: Now, lab: &mut impl Lab) {
        if !self.is_over() {
            let deadline = self.leave(now, lab);
            self.stage = Stage::Lingering { deadline };
        }
    }

    /// Takes the client out of the room and the dashboard, if it was in; tells when closing must have ended.
    fn leave(&mut self, now: Now, lab: &mut impl Lab) -> Instant {
        let client = self.client;
        let open = matches!(self.stage, Stage::Open(_));
        let (remaining, timeout) = lab.with(|engine, effects| {
            if open {
                engine.leave(now, client, effects);
            }
            (engine.client_count(), engine.config().close_timeout)
        });
        if let Stage::Open(session) = &self.stage {
            info!(
                "[{}] Client {} disconnected. Remaining: {remaining}",
                session.endpoint.tag(),
                session.number
            );
        }
        now.instant + timeout
    }
}

fn respond(
    engine: &Engine,
    request: &http::Request,
    now: Now,
    (peer, local): (SocketAddr, IpAddr),
    last: bool,
    out: &mut Vec<u8>,
) -> Outcome {
    let site = Site {
        model: engine.model(),
        now: now.wall_clock(),
        access: engine.access(),
        local,
        draining: engine.is_draining(),
        room: engine.vacancy(peer.ip()).map_err(|full| match full {
            Full::Server => Refusal::Full,
            Full::Address => Refusal::AddressFull,
            Full::Draining => Refusal::Draining,
        }),
        last,
        report: engine.report(),
        metrics: &|format| engine.stats().exposition(format),
    };
    http::respond(request, &site, out)
}

/// The answer to a connection for which there is no place. Who looks after the server finds room all the same: a health
/// check and a scrape are answered out of what has come with the connection, whatever else is refused.
pub fn answer_without_place(
    engine: &Engine,
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
            let ends = (arrival.peer, arrival.local);
            if let Outcome::Responded {
                refused: Some(refusal),
                ..
            } = respond(engine, &request, now, ends, true, &mut out)
            {
                note(refusal, Some(&request), arrival.peer, now, engine.stats());
            }
        }
        Step::Incomplete | Step::Request(_) | Step::Reject(_) => {
            note(refusal, None, arrival.peer, now, engine.stats());
            http::refuse(refusal, engine.model(), now.wall_clock(), &mut out);
        }
    }
    out
}

fn refuse(refusal: Refusal, model: &str, now: Now, peer: SocketAddr, effects: &mut Effects) {
    note(refusal, None, peer, now, effects.stats());
    http::refuse(refusal, model, now.wall_clock(), &mut effects.reply);
}

/// Counts a refusal, and tells the operator what could be set.
fn note(
    refusal: Refusal,
    request: Option<&http::Request>,
    peer: SocketAddr,
    now: Now,
    stats: &Stats,
) {
    if refusal == Refusal::NotFound && request.is_some_and(|request| request.path == "/report") {
        // The start page asks whether there is one.
        return stats.refused_silently(refusal.reason());
    }
    stats.refused_because(now.instant, refusal.reason(), || {
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

/// An open WebSocket.
#[derive(Debug)]
struct Session {
    context: WebSocketContext,
    endpoint: Endpoint,
    number: u64,
    keepalive: Keepalive,
}

#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Chat,
    Dashboard,
    Echo,
}

impl Endpoint {
    fn tag(self) -> &'static str {
        match self {
            Self::Chat => "CHAT",
            Self::Dashboard => "DASHBOARD",
            Self::Echo => "ECHO",
        }
    }
}

impl Session {
    fn new(now: Now, opening: &Opening, number: u64, config: &Config) -> Self {
        // Frames are read out of the server's own buffer, so tungstenite's needs no room of its own (its default is
        // 128 KiB a client), and what it writes goes straight into the replies.
        let limits = WebSocketConfig::default()
            .read_buffer_size(0)
            .write_buffer_size(0)
            .max_write_buffer_size(config.max_message + 1)
            .max_message_size(Some(config.max_message))
            .max_frame_size(Some(config.max_message));
        let endpoint = match opening {
            Opening::Chat(_) => Endpoint::Chat,
            Opening::Dashboard => Endpoint::Dashboard,
            Opening::Echo => Endpoint::Echo,
        };
        Self {
            context: WebSocketContext::new(Role::Server, Some(limits)),
            endpoint,
            number,
            keepalive: Keepalive::new(now, config.ping_interval, number),
        }
    }

    fn request(&mut self, now: Now, client: ClientId, payload: Payload<'_>, lab: &mut impl Lab) {
        lab.effects().stats().messages_in.inc();
        match self.endpoint {
            Endpoint::Chat => {
                let request = protocol::parse_chat(payload);
                let said = lab.with(|engine, effects| engine.chat(now, client, &request, effects));
                if let Ok(ChatRequest::Say(chat)) = request
                    && said
                {
                    let start = protocol::first_chars(chat.text(), LOGGED_CHARS);
                    info!("[CHAT] {}: {}...", Printable(chat.name()), Printable(start));
                }
            }
            Endpoint::Dashboard => {
                let request = protocol::parse_dashboard(payload);
                lab.with(|engine, effects| engine.watch(now, client, &request, effects));
            }
            Endpoint::Echo => {
                let effects = lab.effects();
                match payload {
                    Payload::Text(text) => frame::text(&mut effects.reply, text.as_bytes()),
                    Payload::Binary(bytes) => frame::binary(&mut effects.reply, bytes),
                }
                effects.stats().deliveries.inc();
            }
        }
    }
}

/// How much of a message the log shows.
const LOGGED_CHARS: usize = 50;

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

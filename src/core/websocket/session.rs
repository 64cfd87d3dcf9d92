//! An open WebSocket: its endpoint, its keepalive, and what its messages ask of the engine.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use tracing::info;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::deflate::{InflateError, deflated_bytes_max};
use super::engine_access::EngineAccess;
use super::frame::{self, Fragment, Kind};
use super::keepalive::Keepalive;
use crate::core::engine::{ClientId, whole_ms};
use crate::core::http::Upgrade;
use crate::core::inside::follow::{Hop, Place};
use crate::core::limits::Limits;
use crate::core::protocol::{self, ChatRequest, Fault, Opening, Payload, RefusedChat};
use crate::core::refusals::Printable;
use crate::core::time::Now;

/// The room for input that a WebSocket keeps between messages; what a larger one took beyond it is given back.
const KEPT_INPUT: u32 = 512;
/// How much of a message the log shows.
const LOGGED_CHARS: usize = 50;

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) context: WebSocketContext,
    pub(super) endpoint: Endpoint,
    pub(super) number: u64,
    /// Under which it is counted.
    address: IpAddr,
    pub(super) keepalive: Keepalive,
    /// The compression that was agreed on: the window that the client keeps, as a power of two.
    deflate: Option<NonZeroU8>,
    /// The most that has been read at once with this context.
    most_read: u32,
    /// A compressed message whose last fragment has not come.
    gathered: Option<Box<Gathered>>,
}

#[derive(Debug)]
struct Gathered {
    kind: Kind,
    deflated: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Endpoint {
    Chat,
    Dashboard,
    Echo,
    Inside { experiments: bool },
}

impl Endpoint {
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Chat => "CHAT",
            Self::Dashboard => "DASHBOARD",
            Self::Echo => "ECHO",
            Self::Inside { .. } => "INSIDE",
        }
    }
}

impl Session {
    pub(super) fn new(
        now: Now,
        upgrade: &Upgrade,
        number: u64,
        address: IpAddr,
        limits: &Limits,
    ) -> Self {
        // Frames are read out of the server's own buffer, so tungstenite's needs no room of its own (its default is
        // 128 KiB a client), and what it writes goes straight into the replies.
        let config = WebSocketConfig::default()
            .read_buffer_size(0)
            .write_buffer_size(0)
            .max_write_buffer_size(limits.max_message + 1)
            .max_message_size(Some(limits.max_message))
            .max_frame_size(Some(limits.max_message));
        let endpoint = match upgrade.opening {
            Opening::Chat(_) => Endpoint::Chat,
            Opening::Dashboard => Endpoint::Dashboard,
            Opening::Echo => Endpoint::Echo,
            Opening::Inside { experiments } => Endpoint::Inside { experiments },
        };
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            endpoint,
            number,
            address,
            keepalive: Keepalive::new(now, limits.ping_interval, number),
            deflate: upgrade.deflate,
            most_read: 0,
            gathered: None,
        }
    }

    /// Tungstenite's buffer keeps the room that its largest frame took. Between messages a context remembers nothing else
    /// than its configuration, so a new one does as well.
    pub(super) fn give_back_room(&mut self, read: usize, is_in_message: bool) {
        self.most_read = self.most_read.max(u32::try_from(read).unwrap_or(u32::MAX));
        if self.most_read > KEPT_INPUT && !is_in_message {
            self.most_read = 0;
            self.context = WebSocketContext::new(Role::Server, Some(*self.context.get_config()));
        }
    }

    /// Takes a frame of a compressed message, and with the last of them the message.
    pub(super) fn take_fragment(
        &mut self,
        now: Now,
        client: ClientId,
        fragment: &Fragment<'_>,
        access: &mut impl EngineAccess,
    ) -> Result<(), InflateError> {
        let max_message = access.context().limits.max_message;
        let Some(whole) = self.gather(fragment, max_message)? else {
            return Ok(());
        };
        let codecs = &access.context().codecs;
        let message = codecs.inflate(&whole.deflated, max_message)?;
        let payload = match whole.kind {
            Kind::Binary => Payload::Binary(&message),
            Kind::Text => Payload::Text(std::str::from_utf8(&message)?),
        };
        self.request(now, client, payload, access);
        Ok(())
    }

    /// The message in one piece, with its last frame.
    fn gather(
        &mut self,
        fragment: &Fragment<'_>,
        max_message: usize,
    ) -> Result<Option<Box<Gathered>>, InflateError> {
        let mut gathered = match fragment.kind {
            Some(kind) => Box::new(Gathered {
                kind,
                deflated: Vec::new(),
            }),
            None => self
                .gathered
                .take()
                .expect("the inspector lets no continuation of nothing through"),
        };
        fragment.unmask(&mut gathered.deflated);
        if gathered.deflated.len() > deflated_bytes_max(max_message) {
            return Err(InflateError::TooLong);
        }
        if fragment.is_final {
            Ok(Some(gathered))
        } else {
            self.gathered = Some(gathered);
            Ok(None)
        }
    }

    pub(super) fn request(
        &mut self,
        now: Now,
        client: ClientId,
        payload: Payload<'_>,
        access: &mut impl EngineAccess,
    ) {
        access.context().counters.messages_in.inc();
        let rate = &access.context().by_address.messages;
        if let Err(wait) = rate.take(now.instant, self.address) {
            let refused = self.refusal(wait, payload);
            return access.with(|engine, output| engine.refuse(now, client, &refused, output));
        }
        match self.endpoint {
            Endpoint::Chat => {
                let request = protocol::parse_chat(payload);
                note_parsed(now, &request, access);
                let said = access.with(|engine, output| engine.chat(now, client, &request, output));
                if let Ok(ChatRequest::Say(chat)) = request
                    && said
                {
                    let start = protocol::first_chars(chat.text(), LOGGED_CHARS);
                    info!("[CHAT] {}: {}...", Printable(chat.name()), Printable(start));
                }
            }
            Endpoint::Dashboard => {
                let request = protocol::parse_dashboard(payload);
                access.with(|engine, output| engine.watch(now, client, &request, output));
            }
            Endpoint::Inside { experiments } => {
                let request = protocol::parse_inside(payload);
                let held = access.with(|engine, output| {
                    engine.look_inside(now, client, &request, experiments, output)
                });
                if held {
                    access.context().inside.hold();
                    access.with(|engine, output| engine.confirm_hold(now, client, output));
                }
            }
            Endpoint::Echo => {
                self.echo(payload, access);
                access.context().counters.deliveries.inc();
            }
        }
    }

    /// The same message back, compressed by itself where that was agreed on and makes it smaller.
    fn echo(&self, payload: Payload<'_>, access: &mut impl EngineAccess) {
        let (kind, bytes) = match payload {
            Payload::Text(text) => (Kind::Text, text.as_bytes()),
            Payload::Binary(bytes) => (Kind::Binary, bytes),
        };
        let deflated = self
            .deflate
            .and_then(|window_bits| access.context().codecs.deflate(bytes, window_bits.get()));
        let reply = access.output().reply.own();
        match (kind, deflated) {
            (Kind::Text, None) => frame::text(reply, bytes),
            (Kind::Binary, None) => frame::binary(reply, bytes),
            (Kind::Text, Some(deflated)) => frame::deflated_text(reply, &deflated),
            (Kind::Binary, Some(deflated)) => frame::deflated_binary(reply, &deflated),
        }
    }

    /// The refusal of a message that comes too soon after others from its address; the sender learns which one it is.
    fn refusal<'a>(&self, wait: Duration, payload: Payload<'a>) -> RefusedChat<'a> {
        let cid = match self.endpoint {
            Endpoint::Chat => match protocol::parse_chat(payload) {
                Ok(ChatRequest::Say(chat)) => chat.cid,
                Ok(ChatRequest::Ping) => None,
                Err(refused) => refused.cid,
            },
            Endpoint::Dashboard | Endpoint::Echo | Endpoint::Inside { .. } => None,
        };
        let retry_after_ms = whole_ms(wait);
        let fault = Fault::AddressRate { retry_after_ms };
        RefusedChat { fault, cid }
    }
}

/// Where frames become requests.
const REQUEST: Place = Place {
    file: "src/core/websocket/session.rs",
    function: "Session::request",
};

/// The first hops of a message that is followed.
fn note_parsed<A: EngineAccess>(
    now: Now,
    request: &Result<ChatRequest<'_>, RefusedChat<'_>>,
    access: &A,
) {
    let inside = &access.context().inside;
    if let Ok(ChatRequest::Say(chat)) = request
        && inside.follow.is(chat.cid.as_deref())
    {
        inside.follow.mark(Hop::Readable, now.instant, A::READS_IN);
        inside.follow.mark(Hop::Parsed, inside.now(), REQUEST);
    }
}

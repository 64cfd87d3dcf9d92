//! An open WebSocket: its endpoint, its keepalive, and what its messages ask of the engine.

use tracing::info;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::engine_access::EngineAccess;
use super::frame;
use super::keepalive::Keepalive;
use crate::core::engine::ClientId;
use crate::core::limits::Limits;
use crate::core::protocol::{self, ChatRequest, Opening, Payload};
use crate::core::refusals::Printable;
use crate::core::time::Now;

/// The room for input that a WebSocket keeps between messages; what a larger one took beyond it is given back.
const KEPT_INPUT: usize = 512;
/// How much of a message the log shows.
const LOGGED_CHARS: usize = 50;

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) context: WebSocketContext,
    pub(super) endpoint: Endpoint,
    pub(super) number: u64,
    pub(super) keepalive: Keepalive,
    /// The most that has been read at once with this context.
    most_read: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Endpoint {
    Chat,
    Dashboard,
    Echo,
}

impl Endpoint {
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Chat => "CHAT",
            Self::Dashboard => "DASHBOARD",
            Self::Echo => "ECHO",
        }
    }
}

impl Session {
    pub(super) fn new(now: Now, opening: &Opening, number: u64, limits: &Limits) -> Self {
        // Frames are read out of the server's own buffer, so tungstenite's needs no room of its own (its default is
        // 128 KiB a client), and what it writes goes straight into the replies.
        let config = WebSocketConfig::default()
            .read_buffer_size(0)
            .write_buffer_size(0)
            .max_write_buffer_size(limits.max_message + 1)
            .max_message_size(Some(limits.max_message))
            .max_frame_size(Some(limits.max_message));
        let endpoint = match opening {
            Opening::Chat(_) => Endpoint::Chat,
            Opening::Dashboard => Endpoint::Dashboard,
            Opening::Echo => Endpoint::Echo,
        };
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            endpoint,
            number,
            keepalive: Keepalive::new(now, limits.ping_interval, number),
            most_read: 0,
        }
    }

    /// Tungstenite's buffer keeps the room that its largest frame took. Between messages a context remembers nothing else
    /// than its configuration, so a new one does as well.
    pub(super) fn give_back_room(&mut self, read: usize, is_in_message: bool) {
        self.most_read = self.most_read.max(read);
        if self.most_read > KEPT_INPUT && !is_in_message {
            self.most_read = 0;
            self.context = WebSocketContext::new(Role::Server, Some(*self.context.get_config()));
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
        match self.endpoint {
            Endpoint::Chat => {
                let request = protocol::parse_chat(payload);
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
            Endpoint::Echo => {
                let reply = access.output().reply.own();
                match payload {
                    Payload::Text(text) => frame::text(reply, text.as_bytes()),
                    Payload::Binary(bytes) => frame::binary(reply, bytes),
                }
                access.context().counters.deliveries.inc();
            }
        }
    }
}

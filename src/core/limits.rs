//! The limits and intervals that the rules keep to, as the flags set them; none is unlimited.

use std::time::Duration;

/// What both servers keep to; each field is the flag of its name.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is described by its flag")]
pub struct Limits {
    pub chat_interval: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub metric_interval: Duration,
    pub handshake_timeout: Duration,
    pub close_timeout: Duration,
    pub history: usize,
    pub notice_limit: usize,
    pub max_clients: usize,
    pub max_clients_per_address: usize,
    pub max_sockets_per_address: usize,
    /// Per second, as are the messages.
    pub max_handshakes_per_address: usize,
    pub max_messages_per_address: usize,
    /// Sockets in all: the clients, and some for pages, health checks and refusals.
    pub max_sockets: usize,
    pub max_message: usize,
    pub max_unsent: usize,
    pub deflate: Deflate,
}

/// How messages are compressed (RFC 7692).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// Whether compression is agreed to at all.
    pub on: bool,
    /// From 1, the fastest, to 9, the smallest.
    pub level: u32,
    /// Messages between two restarts of the room's stream, at least.
    pub restart_messages: usize,
}

//! WebSocket (RFC 6455) without a socket: frames, keepalive, and one client's conversation from its first byte to its last.

mod caller;
pub(crate) mod conversation;
pub mod deflate;
pub(crate) mod engine_access;
pub mod frame;
pub(crate) mod keepalive;
mod pipe;
mod session;

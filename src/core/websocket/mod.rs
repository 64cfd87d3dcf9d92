//! WebSocket (RFC 6455) without a socket: frames, keepalive, and one client's conversation from its first byte to its last.

mod caller;
pub mod conversation;
pub mod deflate;
pub mod engine_access;
pub mod frame;
pub mod keepalive;
mod pipe;
mod session;

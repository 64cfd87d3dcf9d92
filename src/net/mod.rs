//! What both servers do with sockets: accept, queue what is unsent, send one batch to many, and be told to stop.

pub mod accept;
#[cfg(target_os = "linux")]
pub(crate) mod defer_accept;
pub(crate) mod has_input;
pub mod outbox;
pub(crate) mod redis;
pub(crate) mod send_flags;
pub(crate) mod shutdown;
pub(crate) mod write_batch;

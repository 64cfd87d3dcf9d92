//! What both servers do with sockets: accept, queue what is unsent, send one batch to many, and be told to stop.

pub mod accept;
#[cfg(target_os = "linux")]
pub mod defer_accept;
pub mod has_input;
pub mod outbox;
pub mod redis;
pub mod send_flags;
pub mod shutdown;
pub mod write_batch;

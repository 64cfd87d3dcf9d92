//! A WebSocket realtime lab: one protocol, served by a hand-written event loop and by a thread per client.
//!
//! # The map, in reading order
//!
//! - [`config`]: flags to `Config`; every limit is named there.
//! - [`core`]: the pure half. Bytes and time come in as arguments, bytes and deadlines go out: the wire messages
//!   ([`core::protocol`]), the rules ([`core::engine`]), HTTP ([`core::http`]), WebSocket ([`core::websocket`]).
//! - [`net`]: what both servers do with sockets: accept, queue what is unsent, send one batch to many, be told to stop.
//! - [`host`]: the machine: clock, `/proc`, the log, and what happens around `run`.
//! - [`evloop`]: one thread; the turn of the loop stands at the top of its `mod.rs`, as `EventLoop::turn`.
//! - [`threads`]: one thread per client; `threads/shared.rs` tells how a message reaches the others.
//!
//! `core` imports nothing outside `core`; `net` and `host` import `core`; the two servers import all three, and differ in
//! nothing else.
//!
//! # Glossary
//!
//! - **socket**: a connection of the kernel's; **connection** (event loop) or **client handler** (threads): what drives it.
//! - **conversation**: one peer's bytes from its first request to its last frame; **session**: its open WebSocket.
//! - **client**: a peer with an open WebSocket, known by a `ClientId`; **member**: a client in the chat room.
//! - **watcher**: a client of the dashboard; **peer**: the other end of a socket, whatever it is.
//! - **message**: what a client sends or is sent as JSON; **frame**: its bytes on the wire (RFC 6455).
//! - **broadcast log**: the frames that some member still lacks; **cursor**: how far a member has been sent it.
//! - **shared stream**: the log's frames compressed, once for all members that agreed on it; **restart**: a place in it from
//!   which a newcomer can read on.
//! - **batch**: the next few members and what each lacks; **slice**: frames that share one piece of memory.
//! - **outbox**: what one client has yet to be sent; **reply**: what one step of a conversation adds to it.
//! - **turn**: one pass of the event loop; **readiness**: that a socket can be read or written without waiting.
//! - **drain**: the end of a server's life, in which clients are sent a Close and leave.
//!
//! # Invariants
//!
//! - Nothing in `core` reads a clock, a socket, a file, the environment or a random number (`clippy.toml` checks it).
//! - Nothing in a broadcast differs between its receivers, so its bytes exist once.
//! - Everything a client is sent goes through its one outbox, in order, in whole frames; nothing waits for a slow client.
//! - Closing marks, reaping removes: no connection goes away in the middle of a turn.

pub mod config;
pub mod core;
pub mod evloop;
pub mod host;
pub mod net;
pub mod threads;

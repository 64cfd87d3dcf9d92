//! A WebSocket realtime lab: one protocol, served by a hand-written event loop and by a thread per client.
//!
//! # The map of the house, in reading order
//!
//! What both servers share has no socket in it. Bytes and time come in as arguments, bytes go out:
//!
//! - [`config`]: flags to `Config`; every limit is named there.
//! - [`protocol`]: the wire messages; the only place that knows JSON.
//! - [`frame`]: a server's frames, encoded once for many clients.
//! - [`engine`]: the rules: room, history, rate limit, dashboard; and the figures everything is counted in.
//! - [`http`]: request heads, upgrade and origin checks, the pages built into the binary.
//! - [`keepalive`]: who is still there.
//! - [`conversation`]: one client from its first byte to its last, driving all of the above.
//!
//! What touches the world:
//!
//! - [`clock`], [`metrics`] and [`host`]: the time, and where the dashboard's values come from.
//! - [`accept`] and [`outbox`]: a client comes in (on Linux when it has spoken, see `deferral`); bytes for it go out,
//!   bounded.
//! - [`carousel`] and [`sheet`]: who in the room is to hear what next; the same bytes for many sockets.
//! - [`shutdown`], [`log`], [`capacity`] and [`launch`]: signals, a log that nobody waits for, how many clients the machine
//!   can bear, flags, banner, binding: what both binaries do around `run`.
//!
//! And the two servers, which differ in nothing else:
//!
//! - [`evloop`]: one thread; the turn of the loop stands at the top of its `mod.rs`.
//! - [`threads`]: one thread a client; how a message reaches the others is told in `threads/shared.rs`.
//!
//! # Invariants
//!
//! - Nothing in `engine`, `protocol`, `frame`, `http`, `keepalive` and `conversation` reads a clock, a socket, a file,
//!   the environment or a random number.
//! - Nothing in a broadcast differs between its receivers, so its bytes exist once.
//! - Everything a client is sent goes through its one outbox, in order, in whole frames; nobody waits for a slow client.
//! - Closing marks, reaping removes: no connection goes away in the middle of a turn.

pub mod accept;
pub mod capacity;
pub mod carousel;
pub mod clock;
pub mod config;
pub mod conversation;
#[cfg(target_os = "linux")]
pub mod deferral;
pub mod engine;
pub mod evloop;
pub mod frame;
pub mod host;
pub mod http;
pub mod keepalive;
pub mod launch;
pub mod log;
pub mod metrics;
pub mod outbox;
pub mod protocol;
pub mod sheet;
pub mod shutdown;
pub mod threads;

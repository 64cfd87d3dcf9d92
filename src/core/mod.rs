//! The pure half of the lab: bytes and time come in as arguments, bytes and deadlines go out.
//!
//! Nothing in here reads a clock, a socket, a file, the environment or a random number, and nothing in here imports
//! anything outside `core`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub(crate) mod answers;
pub(crate) mod arrival;
pub mod by_address;
pub(crate) mod cluster;
pub mod context;
pub mod counters;
pub mod engine;
pub mod http;
pub mod inside;
pub mod limits;
pub mod protocol;
pub(crate) mod refusals;
pub(crate) mod spread;
pub mod time;
pub mod websocket;

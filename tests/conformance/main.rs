//! The conformance suite: what the protocol, the limits and the command line promise, asked of every server.
//!
//! No test knows which server it talks to. Each starts a process of its own on a free port of the loopback
//! interface, speaks to it through real sockets with a deadline on every read, and ends with the server
//! still answering a fresh client (see `harness::Server`).
//!
//! Below come the tools, from the process down to the bytes, then the tests, a module for each subject.

/// Makes each named check a test of every server. This is the one place where the servers are listed.
///
/// A check that is left out of its module's list is never called, and does not compile without a warning.
macro_rules! conformance {
    ($($(#[$when:meta])? $check:ident),+ $(,)?) => {
        conformance!(@server evloop "evloop-server": $($(#[$when])? $check),+);
        conformance!(@server threads "thread-server": $($(#[$when])? $check),+);
    };
    (@server $server:ident $binary:literal: $($(#[$when:meta])? $check:ident),+) => {
        mod $server {
            $(
                $(#[$when])?
                #[test]
                fn $check() {
                    super::$check($crate::harness::Program::new(env!(concat!("CARGO_BIN_EXE_", $binary))));
                }
            )+
        }
    };
}

mod client;
mod counters;
mod exposition;
mod frame;
mod harness;
mod http_client;
mod process;
#[cfg(unix)]
mod redis_server;
mod texts;
mod wire;

mod chat;
mod checks;
mod presence;
mod rate_limit;
mod text_rules;

mod acknowledgement;
mod history;
mod order;
mod resume;

mod dashboard;
mod vitals;

mod inside;

mod closing;
mod deflate;
mod deflate_input;
mod echo;
mod fragments;

mod http;
mod malformed_http;
mod origin;
mod upgrade;

mod by_address;
mod capacity;
mod keepalive;
mod large_room;
mod limits;
mod slow_consumer;
mod violations;

#[cfg(unix)]
mod cluster;
mod command_line;
#[cfg(unix)]
mod exhaustion;
mod log;
#[cfg(unix)]
mod restart;
#[cfg(target_os = "linux")]
mod service_manager;
#[cfg(unix)]
mod shutdown;

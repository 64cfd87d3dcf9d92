//! The lab on a single-threaded event loop.

use std::process::ExitCode;

use ws_realtime_lab::evloop;
use ws_realtime_lab::host::{capacity::Cost, startup};

fn main() -> ExitCode {
    startup::main(
        "evloop-server",
        "WebSocket chat and live dashboard, served by one thread: a hand-written mio event loop",
        "evloop",
        Cost::Socket,
        evloop::run,
    )
}

//! The lab on one thread per client.

use std::process::ExitCode;

use ws_realtime_lab::capacity::Cost;
use ws_realtime_lab::{launch, threads};

fn main() -> ExitCode {
    launch::main(
        "thread-server",
        "WebSocket chat and live dashboard, served by one thread per client",
        "threads",
        Cost::SocketAndThread {
            stack: threads::CLIENT_STACK,
        },
        threads::run,
    )
}

//! The lab on one thread per client.

use std::process::ExitCode;

use ws_realtime_lab::host::{capacity::Cost, startup};
use ws_realtime_lab::threads;

fn main() -> ExitCode {
    startup::main(
        "thread-server",
        "WebSocket chat and live dashboard, served by one thread per client",
        "threads",
        Cost::SocketAndThread {
            stack: threads::CLIENT_STACK,
        },
        threads::run,
    )
}

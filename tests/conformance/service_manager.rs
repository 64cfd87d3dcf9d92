//! Sockets that a service manager holds, and what it is told: no gap in accepting over a restart.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};

use crate::harness::{Program, Server};
use crate::http_client::{read_response, request};
use crate::wire::{PATIENCE, Wire};

conformance! {
    a_client_that_connects_during_a_restart_waits_and_is_served,
    the_manager_is_told_when_the_server_is_ready_and_when_it_stops,
}

/// The first descriptor that is passed on (`sd_listen_fds(3)`).
const FIRST_PASSED: i32 = 3;

/// The server with this listener passed on. Its process id, which the manager must name, is known only to itself.
fn command_with(program: Program, listener: &TcpListener) -> Command {
    let mut command = program.command_after("LISTEN_PID=$$; export LISTEN_PID", "");
    command.env("LISTEN_FDS", "1");
    let parent_fd: OwnedFd = listener.try_clone().expect("a descriptor").into();
    let mapping = FdMapping {
        parent_fd,
        child_fd: FIRST_PASSED,
    };
    command
        .fd_mappings(vec![mapping])
        .expect("one mapping does not collide");
    command
}

fn a_client_that_connects_during_a_restart_waits_and_is_served(program: Program) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut first = Server::start(&mut command_with(program, &listener));
    assert_eq!(first.address, address);
    let mut client = first.join();
    first.process.signal("TERM");
    client.expect_close(1001);
    let status = first.process.wait_until(Instant::now() + PATIENCE);
    assert_eq!(status.code(), Some(0));

    let mut waiting = Wire::connect(address);
    waiting.send(request("GET", address, "/healthz", "").as_bytes());
    let _second = Server::start(&mut command_with(program, &listener));
    assert_eq!(read_response(&mut waiting, "GET").status, 200);
}

fn the_manager_is_told_when_the_server_is_ready_and_when_it_stops(program: Program) {
    let path = std::env::temp_dir().join(format!("notify-{}-{}", std::process::id(), rand_name()));
    let socket = UnixDatagram::bind(&path).expect("a path of our own");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a deadline");
    let mut command = program.command("--bind 127.0.0.1:0");
    let mut server = Server::start(command.env("NOTIFY_SOCKET", &path));
    let told = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("word from the server");
        String::from_utf8_lossy(&buffer[..length])
            .trim_end()
            .to_owned()
    };
    assert_eq!(told(), "READY=1");
    server.process.signal("TERM");
    assert_eq!(told(), "STOPPING=1");
    server.process.wait_until(Instant::now() + PATIENCE);
    std::fs::remove_file(path).expect("it was bound");
}

/// A name that no test beside this one uses.
fn rand_name() -> String {
    format!("{:?}", std::thread::current().id())
}

//! Descriptors and threads: a limit too low is told at the start, and running out of them later is survived.

#[cfg(target_os = "linux")]
use std::{thread, time::Duration};

#[cfg(target_os = "linux")]
use crate::counters::Tally;
use crate::harness::{Finished, Program, Server};
use crate::wire::Wire;

conformance! {
    a_limit_too_low_is_exit_1_and_one_line,
    a_soft_limit_is_raised_to_what_is_needed,
    a_crowd_larger_than_the_limit_is_survived,
    #[cfg(target_os = "linux")]
    running_out_of_descriptors_is_survived,
    #[cfg(target_os = "linux")]
    running_out_of_threads_is_survived,
}

fn a_limit_too_low_is_exit_1_and_one_line(program: Program) {
    let finished = Finished::run(&mut program.command_after("ulimit -n 64", "--bind 127.0.0.1:0"));
    assert_eq!(finished.status, Some(1), "{:?}", finished.stderr);
    assert_eq!(finished.stderr.len(), 1, "{:#?}", finished.stderr);
    let told = &finished.stderr[0];
    assert!(told.contains("64") && told.contains("ulimit"), "{told}");
    assert!(
        !finished
            .stdout
            .iter()
            .any(|line| line.starts_with("listening")),
        "{:?}",
        finished.stdout
    );
}

fn a_soft_limit_is_raised_to_what_is_needed(program: Program) {
    let mut command =
        program.command_after("ulimit -S -n 64", "--bind 127.0.0.1:0 --max-clients 200");
    let server = Server::start(&mut command);
    let clients: Vec<_> = (0..150).map(|_| server.open("/ws/echo")).collect();
    for mut client in clients {
        client.text("Hello");
        assert_eq!(client.next_text(), "Hello");
    }
}

/// Clients who begin a request and get no further.
fn crowd(server: &Server, size: usize) -> Vec<Wire> {
    let mut crowd: Vec<_> = (0..size).map(|_| server.wire()).collect();
    for wire in &mut crowd {
        // Some may have been turned away already.
        let _ = wire.try_send(b"GET");
    }
    crowd
}

/// A crowd that connects and says little may be larger than the number of descriptors that the server made sure of.
fn a_crowd_larger_than_the_limit_is_survived(program: Program) {
    let mut command = program.command_after("ulimit -n 320", "--bind 127.0.0.1:0 --max-clients 8");
    let server = Server::start(&mut command);
    let mut inside = server.open("/ws/echo");
    let crowd = crowd(&server, 600);
    for _ in 0..20 {
        inside.text("still served");
        assert_eq!(inside.next_text(), "still served");
    }
    drop(crowd);
}

/// When there are fewer descriptors than the server made sure of, those inside go on, the server does not spin, and
/// when the crowd has gone a fresh client is let in, which the end of every test checks.
#[cfg(target_os = "linux")]
fn running_out_of_descriptors_is_survived(program: Program) {
    let server = program.start("--max-clients 200 --metric-interval 50ms --chat-interval 0s");
    let mut inside = server.open("/ws/echo");
    let tally = Tally::new(&server, "no_descriptors");
    server.process.limit("nofile", "40");
    let crowd = crowd(&server, 100);
    for _ in 0..20 {
        inside.text("still served");
        assert_eq!(inside.next_text(), "still served");
    }
    let before = server.process.cpu_ticks();
    // There is no event to await: the test is that nothing happens.
    thread::sleep(Duration::from_millis(500));
    let used = server.process.cpu_ticks() - before;
    assert!(
        used < 25,
        "{used}0 ms of processor time in 500 ms: the server spins"
    );
    inside.text("still served");
    assert_eq!(inside.next_text(), "still served");
    // It waits behind the crowd that is turned away, and no longer.
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/chat.html").status, 503);
    drop(crowd);
    server.open_when_free("/ws/echo").leave();
    tally.rises();
}

/// A server that needs a thread for a client and gets none refuses that client; one that needs none does not mind.
#[cfg(target_os = "linux")]
fn running_out_of_threads_is_survived(program: Program) {
    let server = program.start_unprivileged("--chat-interval 0s");
    let mut inside = [server.join(), server.join()];
    assert_eq!(inside[0].next_json()["code"], "joined");
    let before = server.process.limit("nproc", "1");
    for number in 1..=10 {
        match server.try_open("/ws/echo", "") {
            Ok(mut client) => {
                client.text("let in");
                assert_eq!(client.next_text(), "let in");
            }
            Err(refusal) => {
                assert_eq!(refusal.status, 503);
                assert!(refusal.header("retry-after").is_some(), "{refusal:?}");
            }
        }
        assert_eq!(server.get("/healthz").status, 200);
        inside[0].say("Alice", "unharmed");
        for client in &mut inside {
            assert_eq!(client.next_json()["id"], number);
        }
    }
    server.process.limit("nproc", &before);
}

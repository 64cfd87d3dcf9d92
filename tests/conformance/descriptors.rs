//! Descriptors: a limit too low is told at the start, and running out of them later is survived.

use std::thread;
use std::time::Duration;

use crate::harness::{Finished, Program, Server};

conformance! {
    a_limit_too_low_is_exit_1_and_one_line,
    a_soft_limit_is_raised_to_what_is_needed,
    running_out_of_descriptors_is_survived,
}

fn a_limit_too_low_is_exit_1_and_one_line(program: Program) {
    let finished = Finished::run(&mut program.command_after("ulimit -n 64", "--bind 127.0.0.1:0"));
    assert_eq!(finished.status, Some(1), "{:?}", finished.stderr);
    assert_eq!(finished.stderr.len(), 1, "{:#?}", finished.stderr);
    let told = &finished.stderr[0];
    assert!(told.contains("64") && told.contains("--max-clients") && told.contains("ulimit"), "{told}");
    assert!(!finished.stdout.iter().any(|line| line.starts_with("listening")), "{:?}", finished.stdout);
}

fn a_soft_limit_is_raised_to_what_is_needed(program: Program) {
    let mut command = program.command_after("ulimit -S -n 64", "--bind 127.0.0.1:0 --max-clients 200");
    let server = Server::start(&mut command);
    let clients: Vec<_> = (0..150).map(|_| server.open("/ws/echo")).collect();
    for mut client in clients {
        client.text("Hello");
        assert_eq!(client.next_text(), "Hello");
    }
}

/// More connections than descriptors: those inside go on, the server does not spin, and when the crowd has
/// gone a fresh client is let in (which the end of every test checks).
fn running_out_of_descriptors_is_survived(program: Program) {
    let mut command = program.command_after("ulimit -n 64", "--bind 127.0.0.1:0 --max-clients 8");
    let server = Server::start(&mut command);
    let mut inside = server.open("/ws/echo");
    let crowd: Vec<_> = (0..200).map(|_| server.wire()).collect();
    for _ in 0..20 {
        inside.text("still served");
        assert_eq!(inside.next_text(), "still served");
    }
    #[cfg(target_os = "linux")]
    {
        let before = server.process.cpu_ticks();
        // There is no event to await: the test is that nothing happens.
        thread::sleep(Duration::from_millis(500));
        let used = server.process.cpu_ticks() - before;
        assert!(used < 25, "{used}0 ms of processor time in 500 ms: the server spins");
    }
    inside.text("still served");
    assert_eq!(inside.next_text(), "still served");
    drop(crowd);
}

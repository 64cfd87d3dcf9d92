//! Descriptors and threads: a limit too low is told at the start, and running out of them later is survived.

#[cfg(target_os = "linux")]
use std::thread;
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

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
    #[cfg(target_os = "linux")]
    running_out_of_address_space_is_survived,
    a_file_size_limit_is_survived,
    #[cfg(target_os = "linux")]
    calls_that_a_sandbox_forbids_are_done_without,
}

// What only a server with a thread a client runs into.
#[cfg(target_os = "linux")]
conformance!(@server threads_alone "thread-server":
    a_limit_on_threads_lowers_the_default,
    a_number_that_the_limit_on_threads_forbids_is_exit_1,
    a_limit_on_address_space_lowers_the_default,
    a_number_that_the_address_space_forbids_is_exit_1
);

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

/// One arena, so that the address space is not taken by those that the allocator sets aside for each thread.
#[cfg(target_os = "linux")]
const LITTLE_ADDRESS_SPACE: &str = "export MALLOC_ARENA_MAX=1; ulimit -v 200000";

/// Each of a crowd that says one byte may take a thread, and a thread takes several mappings.
#[cfg(target_os = "linux")]
fn running_out_of_address_space_is_survived(program: Program) {
    let flags = "--bind 127.0.0.1:0 --handshake-timeout 1m --log error";
    let server = Server::start(&mut program.command_after(LITTLE_ADDRESS_SPACE, flags));
    let mut inside = server.open("/ws/echo");
    let crowd = crowd(&server, 1_500);
    for _ in 0..20 {
        inside.text("still served");
        assert_eq!(inside.next_text(), "still served");
    }
    for mut wire in crowd {
        if wire
            .fill(Instant::now() + Duration::from_micros(100))
            .is_ok()
        {
            assert!(wire.unread().starts_with(b"HTTP/1.1 503 "));
        }
    }
}

/// The warning of a server whose default number of clients had to give way.
#[cfg(target_os = "linux")]
fn assert_lowered(server: &Server, remedy: &str) {
    let line = server.process.stderr.wait_for(remedy, |line| {
        line.contains("leaves room for") && line.contains(remedy)
    });
    assert!(line.starts_with("WARN"), "{line}");
    let (_, rest) = line.split_once("room for ").expect("just seen");
    let clients: usize = rest
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number in {line}"));
    assert!((1..20_000).contains(&clients), "{line}");
}

#[cfg(target_os = "linux")]
fn assert_asks_for_more(finished: &Finished, remedy: &str) {
    assert_eq!(finished.status, Some(1), "{:?}", finished.stderr);
    assert_eq!(finished.stderr.len(), 1, "{:#?}", finished.stderr);
    let told = &finished.stderr[0];
    assert!(
        told.contains(remedy) && told.contains("--max-clients"),
        "{told}"
    );
    assert_eq!(finished.stdout, [] as [String; 0]);
}

#[cfg(target_os = "linux")]
fn a_limit_on_threads_lowers_the_default(program: Program) {
    let server = program.unprivileged("prlimit --nproc=900 --pid $$", "", Server::start);
    assert_lowered(&server, "ulimit -u");
}

#[cfg(target_os = "linux")]
fn a_number_that_the_limit_on_threads_forbids_is_exit_1(program: Program) {
    let finished = program.unprivileged(
        "prlimit --nproc=900 --pid $$",
        "--max-clients 2000",
        Finished::run,
    );
    assert_asks_for_more(&finished, "ulimit -u");
}

#[cfg(target_os = "linux")]
fn a_limit_on_address_space_lowers_the_default(program: Program) {
    let mut command = program.command_after(LITTLE_ADDRESS_SPACE, "--bind 127.0.0.1:0");
    assert_lowered(&Server::start(&mut command), "ulimit -v");
}

#[cfg(target_os = "linux")]
fn a_number_that_the_address_space_forbids_is_exit_1(program: Program) {
    let flags = "--bind 127.0.0.1:0 --max-clients 5000";
    let mut command = program.command_after(LITTLE_ADDRESS_SPACE, flags);
    assert_asks_for_more(&Finished::run(&mut command), "ulimit -v");
}

/// A room that says more in a turn than a small file holds; each message must reach everyone.
fn assert_talk_is_heard(server: &Server) {
    const MEMBERS: usize = 40;
    let mut room: Vec<_> = (0..MEMBERS).map(|_| server.join()).collect();
    let text = "x".repeat(490);
    for speaker in &mut room[..20] {
        for _ in 0..4 {
            speaker.say("An", &text);
        }
    }
    for (number, member) in room.iter_mut().enumerate() {
        for _ in 0..80 {
            assert_eq!(member.next_of_type("chat")["text"], text, "member {number}");
        }
    }
}

/// `ulimit -f`, or `LimitFSIZE=` of a unit, which holds for files in memory too and comes with a deadly signal.
fn a_file_size_limit_is_survived(program: Program) {
    let flags = "--bind 127.0.0.1:0 --chat-interval 0s --log warn";
    let server = Server::start(&mut program.command_after("ulimit -f 8", flags));
    assert_talk_is_heard(&server);
}

/// A server whose calls of these names fail with this error. Its filter is that of the thread that starts it.
#[cfg(target_os = "linux")]
fn start_in_sandbox(program: Program, calls: &[libc::c_long], error: libc::c_int) -> Server {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(error.unsigned_abs()),
        std::env::consts::ARCH
            .try_into()
            .expect("an architecture that is known"),
    );
    let filter = BpfProgram::try_from(filter.expect("a filter")).expect("a filter");
    let start = move || {
        seccompiler::apply_filter(&filter).expect("filters are a part of the kernel");
        program.start("--chat-interval 0s")
    };
    thread::spawn(start).join().expect("a server")
}

#[cfg(target_os = "linux")]
fn calls_that_a_sandbox_forbids_are_done_without(program: Program) {
    for calls in [
        [libc::SYS_memfd_create].as_slice(),
        &[libc::SYS_sendfile],
        &[
            libc::SYS_prlimit64,
            libc::SYS_getrlimit,
            libc::SYS_setrlimit,
        ],
    ] {
        for error in [libc::EPERM, libc::ENOSYS] {
            assert_talk_is_heard(&start_in_sandbox(program, calls, error));
        }
    }
}

//! A client that does not read: dropped when too much waits for it, and nobody else notices.

use std::io::ErrorKind;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::counters::{Tally, await_unsent};
use crate::frame::{self, Frame};
use crate::harness::{Program, Server};
use crate::wire::{PATIENCE, Wire};

conformance! {
    a_client_that_does_not_read_is_dropped_and_nobody_else,
    one_who_floods_the_echo_without_reading_is_dropped,
    one_who_floods_with_pings_without_reading_is_dropped,
    one_who_reads_late_but_in_time_gets_everything,
    #[cfg(target_os = "linux")]
    those_who_do_not_read_cost_no_time,
    one_who_reads_is_not_slow_however_much_comes_at_once,
    one_who_floods_does_not_starve_the_others,
}

#[cfg(target_os = "linux")]
const MOST_GROWTH_KIB: u64 = 16 * 1024;

/// A client in the room for which the kernels soon hold as much as they will.
fn join_with_small_window(server: &Server) -> Client {
    let client = Client::upgrade(
        Wire::connect_with_small_window(server.address),
        server.address,
        "/ws/chat",
        "",
    );
    client.unwrap_or_else(|response| panic!("{response:?}"))
}

fn a_client_that_does_not_read_is_dropped_and_nobody_else(program: Program) {
    let server = program.start("--chat-interval 0s --max-unsent 64KiB");
    let tally = Tally::new(&server, "slow_consumer");
    let mut speaker = server.join();
    let mut listener = server.join();
    let slow = join_with_small_window(&server);
    assert_eq!(speaker.next_json()["online_count"], 2);
    assert_eq!(speaker.next_json()["online_count"], 3);
    assert_eq!(listener.next_json()["online_count"], 3);
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");

    // What the kernel holds for the slow one comes first: some MiB at most, of 2 KB a message.
    let text = "🦀".repeat(500);
    let start = Instant::now();
    let mut id = 0;
    let left = loop {
        id += 1;
        assert!(
            start.elapsed() < PATIENCE,
            "{id} messages wait for a client that may have 64 KiB waiting"
        );
        speaker.say("Alice", &text);
        let mut value = speaker.next_json();
        let left = value["code"] == "left";
        if left {
            assert_eq!(value["online_count"], 2);
            value = speaker.next_json();
        }
        assert_eq!(value["id"], id);
        let mut heard = listener.next_json();
        if heard["code"] == "left" {
            heard = listener.next_json();
        }
        assert_eq!(heard["id"], id, "the other hears everything at once");
        if left {
            break id;
        }
    };
    tally.rises_by(1);
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < MOST_GROWTH_KIB, "{grown} KiB after {left} messages");
    }
    assert!(
        left > 10,
        "dropped after {left} messages, long before its limit"
    );
    await_unsent(&server, |bytes| bytes == 0.0);
    drop(slow);
}

/// Sends without reading until the server ends the connection. It must neither take everything for ever nor stop
/// reading for longer than this client's patience.
fn flood(client: &mut Client, burst: &[u8], bursts: usize) {
    let error = (0..bursts).find_map(|_| client.wire().try_send(burst).err());
    let error =
        error.unwrap_or_else(|| panic!("{} MiB were taken", burst.len() * bursts / 1024 / 1024));
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{error}"
    );
}

fn one_who_floods_the_echo_without_reading_is_dropped(program: Program) {
    let server = program.start("--max-unsent 128KiB");
    let tally = Tally::new(&server, "slow_consumer");
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    let mut client = server.open("/ws/echo");
    flood(
        &mut client,
        &Frame::new(frame::BINARY, vec![1; 64 * 1024]).encode(),
        4096,
    );
    tally.rises_by(1);
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < MOST_GROWTH_KIB, "{grown} KiB");
    }
}

fn one_who_floods_with_pings_without_reading_is_dropped(program: Program) {
    let server = program.start("--max-unsent 128KiB");
    let tally = Tally::new(&server, "slow_consumer");
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    let mut client = server.open("/ws/chat");
    flood(
        &mut client,
        &Frame::new(frame::PING, [1; 125]).encode().repeat(500),
        4096,
    );
    tally.rises_by(1);
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < MOST_GROWTH_KIB, "{grown} KiB");
    }
}

/// What the kernel does not take any more waits in the server, and is sent when the client reads at last.
fn one_who_reads_late_but_in_time_gets_everything(program: Program) {
    let server = program.start("--chat-interval 0s --max-unsent 16MiB");
    let mut speaker = server.join();
    let mut late = join_with_small_window(&server);
    // 5 MB; the kernel holds 4 MiB at most for a sender.
    let text = "🦀".repeat(500);
    for id in 1..=2500 {
        speaker.say("Alice", &text);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    await_unsent(&server, |bytes| bytes > 0.0);
    for id in 1..=2500 {
        assert_eq!(late.next_of_type("chat")["id"], id);
    }
    await_unsent(&server, |bytes| bytes == 0.0);
    late.say("Bob", "still here");
    assert_eq!(speaker.next_of_type("chat")["text"], "still here");
}

/// Until their sockets are writable there is nothing to do for them.
#[cfg(target_os = "linux")]
fn those_who_do_not_read_cost_no_time(program: Program) {
    const STALLED: usize = 300;
    const SECOND: u64 = 100;
    let server = program.start(
        "--chat-interval 0s --max-unsent 16MiB --ping-interval 1h --notice-limit 0 --metric-interval 1h",
    );
    let mut stalled: Vec<_> = (0..STALLED)
        .map(|_| join_with_small_window(&server))
        .collect();
    let mut speaker = server.join();
    let text = "🦀".repeat(500);
    for id in 1..=300 {
        speaker.say("Alice", &text);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    await_unsent(&server, |bytes| bytes > 50_000.0 * STALLED as f64);
    let before = server.process.cpu_ticks();
    thread::sleep(Duration::from_secs(1));
    let used = server.process.cpu_ticks() - before;
    assert!(
        used < SECOND / 20,
        "{used} hundredths of a second for nothing"
    );
    for client in stalled.iter_mut().step_by(20) {
        for id in 1..=300 {
            assert_eq!(client.next_of_type("chat")["id"], id);
        }
    }
}

/// What the kernel takes at once never waits, so it is not measured by how much may wait.
fn one_who_reads_is_not_slow_however_much_comes_at_once(program: Program) {
    let server = program.start("--chat-interval 0s --max-unsent 4KiB");
    let mut listener = server.join();
    let mut speaker = server.join();
    let message = Frame::new(
        frame::TEXT,
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Hello\"}",
    );
    speaker.wire().send(&message.encode().repeat(500));
    for id in 1..=500 {
        assert_eq!(listener.next_of_type("chat")["id"], id);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    let mut echo = server.open("/ws/echo");
    let long = "long".repeat(10_000);
    echo.text(&long);
    assert_eq!(echo.next_text(), long);
}

/// A server that reads one socket for as long as it has something to say leaves the others waiting.
fn one_who_floods_does_not_starve_the_others(program: Program) {
    let server = program.start("");
    let mut other = server.open("/ws/echo");
    let mut flooder = server.join();
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        scope.spawn(move || {
            let burst = Frame::new(frame::PONG, [1; 125]).encode().repeat(2000);
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                flooder.wire().send(&burst);
            }
        });
        let start = Instant::now();
        for round_trip in 1..=100 {
            other.text("my turn");
            assert_eq!(other.next_text(), "my turn");
            // A few milliseconds each is what a fair server takes, even one that was built without optimisation.
            let elapsed = start.elapsed();
            assert!(
                elapsed < Duration::from_secs(3),
                "{round_trip} round trips took {elapsed:?}"
            );
        }
        drop(stop);
    });
}

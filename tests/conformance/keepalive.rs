//! Ping and pong: a connection that shows no life is closed.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::counters::Tally;
use crate::frame::{self, Frame};
use crate::harness::{Program, Server};
use crate::http_client::{read_response, request};
use crate::wire::{Ending, PATIENCE, Wire};

conformance! {
    pings_come_at_the_interval,
    a_client_that_answers_stays,
    a_client_that_does_not_answer_is_closed,
    any_frame_counts_as_life,
    half_a_frame_is_not_life_for_ever,
    dashboards_are_pinged_though_they_are_busy,
    #[cfg(unix)]
    what_has_come_is_read_before_silence_is_judged,
    #[cfg(unix)]
    a_head_that_has_come_is_read_before_it_is_late,
    #[cfg(unix)]
    a_close_that_has_come_is_read_before_it_is_late,
    one_who_reads_slowly_is_alive,
}

const QUICK: &str =
    "--ping-interval 200ms --ping-timeout 800ms --close-timeout 200ms --metric-interval 20ms";

/// Waits for a ping and does not answer it.
fn next_ping(client: &mut Client) -> Frame {
    loop {
        let frame = client.next_frame();
        if frame.opcode == frame::PING {
            return frame;
        }
        assert_eq!(frame.opcode, frame::TEXT, "{frame:?}");
    }
}

/// How the connection ends for one who does not answer pings: with a Close or without.
fn await_end(client: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.try_frame(deadline) {
            Ok(frame) if frame.opcode == frame::CLOSE => break,
            Ok(_) => {}
            Err(ending) => {
                assert_ne!(ending, Ending::TimedOut, "a dead connection is kept");
                return;
            }
        }
    }
    client.wire().read_to_end();
}

fn pings_come_at_the_interval(program: Program) {
    let server = program.start(QUICK);
    let start = Instant::now();
    let mut client = server.open("/ws/echo");
    for _ in 0..4 {
        let ping = next_ping(&mut client);
        assert!(ping.payload.len() <= 125);
        client.send(&Frame::new(frame::PONG, ping.payload));
    }
    // The first may come early, since pings are spread over the interval; the other three cannot.
    let elapsed = start.elapsed();
    assert!(
        elapsed >= Duration::from_millis(550),
        "four pings in {elapsed:?}"
    );
}

fn a_client_that_answers_stays(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.open("/ws/echo");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        let ping = next_ping(&mut client);
        client.send(&Frame::new(frame::PONG, ping.payload));
    }
    client.text("still here");
    assert_eq!(client.next_text(), "still here");
}

fn a_client_that_does_not_answer_is_closed(program: Program) {
    let server = program.start(QUICK);
    let tally = Tally::new(&server, "ping_timeout");
    let mut bystander = server.join();
    let start = Instant::now();
    let mut client = server.join();
    // The bystander answers its own pings while it waits.
    assert_eq!(bystander.next_json()["code"], "joined");
    assert_eq!(bystander.next_json()["code"], "left");
    assert!(
        start.elapsed() >= Duration::from_millis(800),
        "closed after {:?}",
        start.elapsed()
    );
    next_ping(&mut client);
    await_end(&mut client);
    tally.rises_by(1);
}

fn any_frame_counts_as_life(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.open("/ws/echo");
    let start = Instant::now();
    let mut pings = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        client.text("alive");
        // The echo comes at once, then perhaps a ping that is not answered.
        while let Ok(frame) = client.try_frame(Instant::now() + Duration::from_millis(50)) {
            assert!(
                frame.opcode == frame::TEXT || frame.opcode == frame::PING,
                "{frame:?}"
            );
            pings += u32::from(frame.opcode == frame::PING);
        }
    }
    client.text("still here");
    // On a busy machine an echo may come later than it was waited for.
    let last = std::iter::repeat_with(|| client.next_text()).find(|text| text != "alive");
    assert_eq!(
        last.as_deref(),
        Some("still here"),
        "after {pings} pings without a pong"
    );
}

/// Half a frame is no frame; a client that hangs in the middle of one is as dead as any.
fn half_a_frame_is_not_life_for_ever(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.open("/ws/echo");
    let frame = Frame::new(frame::TEXT, "never whole").encode();
    client.wire().send(&frame[..8]);
    await_end(&mut client);
}

fn dashboards_are_pinged_though_they_are_busy(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.watch();
    next_ping(&mut client);
    await_end(&mut client);
}

/// The server is stopped for `pause`, and `meanwhile` happens: a laptop sleeps, a debugger or a busy host holds it up.
#[cfg(unix)]
fn while_stopped(server: &Server, pause: Duration, meanwhile: impl FnOnce()) {
    server.process.signal("STOP");
    meanwhile();
    thread::sleep(pause);
    server.process.signal("CONT");
}

#[cfg(unix)]
fn what_has_come_is_read_before_silence_is_judged(program: Program) {
    let server = program.start("--ping-interval 200ms --ping-timeout 3s");
    let tally = Tally::new(&server, "ping_timeout");
    let mut clients: Vec<_> = (0..12).map(|_| server.open("/ws/echo")).collect();
    let pings: Vec<_> = clients.iter_mut().map(next_ping).collect();
    while_stopped(&server, Duration::from_millis(3200), || {
        for (client, ping) in clients.iter_mut().zip(pings) {
            client.send(&Frame::new(frame::PONG, ping.payload));
        }
    });
    for client in &mut clients {
        client.text("still here");
        assert_eq!(client.next_text(), "still here");
    }
    tally.rises_by(0);
}

#[cfg(unix)]
fn a_head_that_has_come_is_read_before_it_is_late(program: Program) {
    let server = program.start("--handshake-timeout 1s");
    let head = request("GET", server.address, "/healthz", "");
    let mut wires: Vec<_> = (0..12).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.send(&head.as_bytes()[..10]);
    }
    // Whoever came before it has been accepted too.
    assert_eq!(server.get("/healthz").status, 200);
    while_stopped(&server, Duration::from_millis(1200), || {
        for wire in &mut wires {
            wire.send(&head.as_bytes()[10..]);
        }
    });
    for wire in &mut wires {
        assert_eq!(read_response(wire, "GET").status, 200);
    }
}

#[cfg(unix)]
fn a_close_that_has_come_is_read_before_it_is_late(program: Program) {
    let server = program.start("--close-timeout 1s");
    let tally = Tally::new(&server, "close_timeout");
    let mut clients: Vec<_> = (0..12).map(|_| server.open("/ws/dashboard")).collect();
    for client in &mut clients {
        (0..51).for_each(|_| client.text("a mistake"));
        assert_eq!(client.await_close(), Some(1008));
    }
    while_stopped(&server, Duration::from_millis(1200), || {
        for client in &mut clients {
            client.send(&Frame::close(1008, ""));
        }
    });
    for client in &mut clients {
        assert_eq!(client.wire().read_to_end(), Ending::Closed);
    }
    tally.rises_by(0);
}

/// A Ping stands behind what a client has yet to read, so what it takes of that is a sign of life too.
fn one_who_reads_slowly_is_alive(program: Program) {
    const SAID: u64 = 1500;
    let server = program.start(
        "--chat-interval 0s --history 1500 --max-unsent 16MiB --ping-interval 100ms --ping-timeout 500ms",
    );
    let tally = Tally::new(&server, "ping_timeout");
    let mut speaker = server.join();
    let text = "🦀".repeat(500);
    for id in 1..=SAID {
        speaker.say("Alice", &text);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    let slow = Client::upgrade(
        Wire::connect_with_small_window(server.address),
        server.address,
        "/ws/chat?history=1500",
        "",
    );
    let mut slow = slow.unwrap_or_else(|response| panic!("{response:?}"));
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        // The speaker answers its own pings while the other reads.
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                speaker.answers_so_far();
                thread::sleep(Duration::from_millis(20));
            }
        });
        // Three times the timeout for all of it, at an even pace.
        for id in 1..=SAID {
            assert_eq!(slow.next_of_type("chat")["id"], id);
            thread::sleep(Duration::from_millis(1));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    tally.rises_by(0);
    slow.say("Bob", "still here");
    assert_eq!(slow.next_of_type("chat")["text"], "still here");
}

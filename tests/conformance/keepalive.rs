//! Ping and pong: a connection that shows no life is closed.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::counters::Tally;
use crate::frame::{self, Frame};
use crate::harness::Program;
use crate::wire::{Ending, PATIENCE};

conformance! {
    pings_come_at_the_interval,
    a_client_that_answers_stays,
    a_client_that_does_not_answer_is_closed,
    any_frame_counts_as_life,
    half_a_frame_is_not_life_for_ever,
    dashboards_are_pinged_though_they_are_busy,
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

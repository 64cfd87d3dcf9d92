//! Rooms so large that a message takes the server more than one turn, and shares so large that sockets take them in
//! parts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::client::Client;
use crate::harness::{Program, Server};
use crate::wire::Wire;

conformance! {
    those_who_come_and_go_hear_all_that_is_said_meanwhile,
    one_who_reads_late_gets_everything_among_many,
    those_who_were_never_spoken_to_leave_nothing_behind,
}

/// More than are visited in a turn; fewer than the descriptors a process usually may have, for both servers at once.
const MEMBERS: usize = 300;
const MESSAGES: u64 = 300;
/// Said at once, while a round is under way.
const BURST: u64 = 20;

fn those_who_come_and_go_hear_all_that_is_said_meanwhile(program: Program) {
    let server = program.start("--chat-interval 0s --notice-limit 0");
    let mut members: Vec<Client> = (0..MEMBERS).map(|_| server.join()).collect();
    let mut speaker = server.join();
    let text = "large ".repeat(80);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for burst in 0..MESSAGES / BURST {
                (0..BURST).for_each(|_| speaker.say("Alice", &text));
                hears(&mut speaker, burst * BURST + 1..=(burst + 1) * BURST);
            }
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            passes_by(&server);
        }
    });
    // One of each stretch of the ring; reading all of it would take a debug build too long.
    for member in members.iter_mut().step_by(19) {
        hears(member, 1..=MESSAGES);
    }
}

fn hears(client: &mut Client, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        assert_eq!(client.next_of_type("chat")["id"], id);
    }
}

/// Comes, hears a few messages if there are any left, without a gap, and leaves.
fn passes_by(server: &Server) {
    let mut guest = server.open("/ws/chat");
    let last_id = guest.next_json()["last_id"].as_u64().expect("a number");
    if last_id + 3 <= MESSAGES {
        hears(&mut guest, last_id + 1..=last_id + 3);
    }
    guest.leave();
}

/// The others are enough for the server to hand all the same pages, which one socket then takes in parts.
fn one_who_reads_late_gets_everything_among_many(program: Program) {
    const SAID: u64 = 2500;
    let server = program.start("--chat-interval 0s --max-unsent 16MiB --notice-limit 0");
    let mut others: Vec<Client> = (0..20).map(|_| server.join()).collect();
    let late = Client::upgrade(
        Wire::connect_with_small_window(server.address),
        server.address,
        "/ws/chat",
        "",
    );
    let mut late = late.unwrap_or_else(|response| panic!("{response:?}"));
    let mut speaker = server.join();
    thread::scope(|scope| {
        for other in &mut others {
            scope.spawn(|| hears(other, 1..=SAID));
        }
        // 5 MB, more than any kernel holds.
        let text = "🦀".repeat(500);
        for id in 1..=SAID {
            speaker.say("Alice", &text);
            hears(&mut speaker, [id]);
        }
    });
    hears(&mut late, 1..=SAID);
    late.say("Bob", "still here");
    hears(&mut speaker, [SAID + 1]);
}

/// Nobody is there to be told of them, so the room says nothing while they come and go.
fn those_who_were_never_spoken_to_leave_nothing_behind(program: Program) {
    let server = program.start("");
    for _ in 0..300 {
        server.join().leave();
    }
    let (mut first, mut second) = (server.open_when_free("/ws/chat"), server.join());
    assert_eq!(first.next_json()["online_count"], 1);
    second.say("Alice", "anybody?");
    hears(&mut first, [1]);
    hears(&mut second, [1]);
}

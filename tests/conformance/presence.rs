//! Large rooms: over `--notice-limit` clients, one summary a second in place of a notice for each.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::harness::Program;
use crate::texts;

conformance! {
    up_to_the_limit_each_newcomer_is_announced,
    over_the_limit_a_summary_takes_the_place_of_notices,
    a_room_that_shrinks_announces_newcomers_again,
    one_who_keeps_coming_and_going_is_summed_up,
}

/// Reads notices until one says that `online` are in the room; returns their codes.
fn codes_until(client: &mut Client, online: u64) -> Vec<String> {
    let mut codes = Vec::new();
    loop {
        let notice = client.next_json();
        assert_eq!(notice["type"], "system", "{notice}");
        let count = notice["online_count"].as_u64().expect("a count");
        if notice["code"] == "presence" {
            assert_eq!(notice["text"], texts::presence(count));
            assert!(notice["ts"].is_u64(), "{notice}");
        }
        codes.push(notice["code"].as_str().expect("a code").to_owned());
        if count == online {
            return codes;
        }
    }
}

fn up_to_the_limit_each_newcomer_is_announced(program: Program) {
    let server = program.start("--notice-limit 4");
    let mut first = server.join();
    let _others = [server.join(), server.join(), server.join()];
    assert_eq!(codes_until(&mut first, 4), ["joined"; 3]);
}

fn over_the_limit_a_summary_takes_the_place_of_notices(program: Program) {
    let server = program.start("--notice-limit 2");
    let mut first = server.join();
    let second = server.join();
    assert_eq!(codes_until(&mut first, 2), ["joined"]);
    let others: Vec<_> = (3..=12).map(|_| server.join()).collect();
    let codes = codes_until(&mut first, 12);
    assert!(
        codes.len() <= 3 && codes.iter().all(|code| code == "presence"),
        "{codes:?}"
    );
    let summary = Instant::now();
    second.leave();
    let codes = codes_until(&mut first, 11);
    assert!(
        codes.len() <= 2 && codes.iter().all(|code| code == "presence"),
        "{codes:?}"
    );
    assert!(
        summary.elapsed() >= Duration::from_millis(900),
        "the next after {:?}",
        summary.elapsed()
    );
    drop(others);
}

fn a_room_that_shrinks_announces_newcomers_again(program: Program) {
    let server = program.start("--notice-limit 2");
    let mut first = server.join();
    let others = [server.join(), server.join(), server.join()];
    codes_until(&mut first, 4);
    drop(others);
    codes_until(&mut first, 1);
    let _newcomer = server.join();
    let codes = codes_until(&mut first, 2);
    assert_eq!(
        codes.last().map(String::as_str),
        Some("joined"),
        "{codes:?}"
    );
}

/// Else each of them would make the server write to the whole room.
fn one_who_keeps_coming_and_going_is_summed_up(program: Program) {
    let server = program.start("");
    let mut witness = server.join();
    let start = Instant::now();
    for _ in 0..150 {
        server.join().vanish();
    }
    let notices = witness.heard_so_far().len();
    // Ten at once, five a second and a summary a second.
    let most = 12 + 6 * (start.elapsed().as_millis() / 1000 + 1);
    assert!(
        (notices as u128) <= most,
        "{notices} in {:?}",
        start.elapsed()
    );
    let _others = (server.join(), server.join());
    codes_until(&mut witness, 3);
}

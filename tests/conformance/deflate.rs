//! permessage-deflate (RFC 7692) as the server speaks it: what it agrees to, and what it compresses.

use serde_json::{Value, json};

use crate::client::{Client, Message};
use crate::counters::samples;
use crate::frame::{self, Frame};
use crate::harness::{Program, Server};

conformance! {
    what_is_offered_is_agreed_to_where_it_can_be_kept,
    a_malformed_offer_is_400,
    without_compression_everything_is_plain,
    every_member_hears_the_same_whatever_it_agreed_to,
    a_newcomer_reads_the_stream_from_the_next_restart_on,
    the_rooms_messages_become_small,
    what_is_for_one_client_alone_is_plain,
    history_comes_plain_before_the_stream,
    a_tick_is_compressed_and_stands_for_itself,
    an_echo_stands_for_itself_in_the_window_agreed_on,
    a_close_comes_behind_what_the_room_said,
}

/// As browsers offer it.
pub(crate) const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// A client that has offered this.
#[track_caller]
pub(crate) fn open(server: &Server, path: &str, offer: &str) -> Client {
    let header = format!("Sec-WebSocket-Extensions: {offer}\r\n");
    server
        .try_open(path, &header)
        .unwrap_or_else(|response| panic!("{path} {offer}: {response:?}"))
}

/// A member of the room that has agreed on compression, and been welcomed.
fn join(server: &Server) -> Client {
    let mut client = open(server, "/ws/chat", OFFER);
    assert_eq!(client.next_json()["code"], "welcome");
    client
}

fn what_is_offered_is_agreed_to_where_it_can_be_kept(program: Program) {
    const PLAIN: &str = "permessage-deflate; client_no_context_takeover";
    let server = program.start("");
    for (offer, shared, echo) in [
        ("permessage-deflate", Some(""), Some("")),
        (OFFER, Some(""), Some("")),
        (
            "permessage-deflate; client_max_window_bits=9; client_no_context_takeover",
            Some(""),
            Some(""),
        ),
        (
            "permessage-deflate; server_max_window_bits=\"12\"; client_max_window_bits=12",
            Some("; server_max_window_bits=12"),
            Some("; server_max_window_bits=12"),
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            Some("; server_max_window_bits=12"),
            Some("; server_max_window_bits=15"),
        ),
        (
            "permessage-deflate; server_max_window_bits=9",
            None,
            Some("; server_max_window_bits=9"),
        ),
        ("permessage-deflate; server_max_window_bits=8", None, None),
        (
            "permessage-deflate; server_no_context_takeover",
            None,
            Some("; server_no_context_takeover"),
        ),
        (
            "permessage-deflate; server_no_context_takeover, permessage-deflate",
            Some(""),
            Some("; server_no_context_takeover"),
        ),
        (
            "permessage-deflate; surprise, x-unknown, permessage-deflate; server_max_window_bits=13",
            Some("; server_max_window_bits=12"),
            Some("; server_max_window_bits=13"),
        ),
        ("permessage-deflate; surprise", None, None),
        ("permessage-deflate; server_max_window_bits", None, None),
        ("permessage-deflate; client_max_window_bits=010", None, None),
        (
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            None,
            None,
        ),
        ("x-unknown; a=b", None, None),
    ] {
        for (path, expected) in [
            ("/ws/chat", shared),
            ("/ws/dashboard", shared),
            ("/ws/echo", echo),
        ] {
            let client = open(&server, path, offer);
            let expected = expected.map(|more| format!("{PLAIN}{more}"));
            assert_eq!(client.extensions(), expected.as_deref(), "{path} {offer}");
        }
    }
    let over_two_headers = "x-unknown\r\nsec-websocket-extensions: permessage-deflate";
    assert_eq!(
        open(&server, "/ws/chat", over_two_headers).extensions(),
        Some(PLAIN)
    );
}

fn a_malformed_offer_is_400(program: Program) {
    let server = program.start("");
    for offer in [
        "permessage-deflate;",
        "a; b=\"",
        "a; b=\"c d\"",
        "a b",
        ";",
        "a; b=\u{e9}",
    ] {
        let header = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        let Err(response) = server.try_open("/ws/chat", &header) else {
            panic!("{offer} is let in");
        };
        assert_eq!(response.status, 400, "{offer}");
        assert!(
            response.text().contains("Sec-WebSocket-Extensions"),
            "{}",
            response.text()
        );
    }
}

fn without_compression_everything_is_plain(program: Program) {
    let server = program.start("--deflate off");
    let mut client = open(&server, "/ws/echo", OFFER);
    assert_eq!(client.extensions(), None);
    client.text("a".repeat(1000));
    assert!(!client.next_frame().deflated);
    client.deflated(frame::TEXT, "Hello");
    client.expect_close(1002);
}

/// Members come and go between messages, some with compression and some without, and some do not read for a while.
fn every_member_hears_the_same_whatever_it_agreed_to(program: Program) {
    for restart in [1, 5, 64] {
        let server = program.start(&format!(
            "--chat-interval 0s --notice-limit 0 --deflate-restart {restart}"
        ));
        let mut speaker = server.join();
        let mut members: Vec<(usize, Client)> = Vec::new();
        for number in 0..60 {
            let newcomer = if number % 3 == 0 {
                server.join()
            } else {
                join(&server)
            };
            members.push((number, newcomer));
            if number % 7 == 6 {
                let (first, leaver) = members.remove(number % members.len());
                assert_heard(leaver, first, number).leave();
            }
            speaker.say(
                "Alice",
                &format!("message {number} of sixty, much like all others"),
            );
            // Its own copy shows that the server has taken it.
            while speaker.next_of_type("chat")["id"] != json!(number + 1) {}
        }
        for (first, member) in members {
            assert_heard(member, first, 60);
        }
    }
}

/// Reads on until it has heard every message from `first` to before `end`, once and in order.
fn assert_heard(mut client: Client, first: usize, end: usize) -> Client {
    for number in first..end {
        let message = client.next_of_type("chat");
        assert_eq!(message["id"], json!(number + 1), "{message}");
        assert_eq!(
            message["text"],
            format!("message {number} of sixty, much like all others")
        );
    }
    client
}

/// The next text frame, with whether it was compressed.
fn next(client: &mut Client) -> (bool, Value) {
    let frame = client.next_frame_but_pings();
    assert_eq!(frame.opcode, frame::TEXT);
    let text = if frame.deflated {
        client.inflate(&frame.payload)
    } else {
        frame.payload
    };
    (frame.deflated, serde_json::from_slice(&text).expect("JSON"))
}

fn a_newcomer_reads_the_stream_from_the_next_restart_on(program: Program) {
    let server = program.start("--chat-interval 0s --notice-limit 0 --deflate-restart 10");
    let mut speaker = server.join();
    let mut first = join(&server);
    let mut deflated = Vec::new();
    let mut second = None;
    for number in 0..30 {
        if number == 4 {
            second = Some(join(&server));
        }
        speaker.say("Alice", &format!("{number}"));
        assert_eq!(speaker.next_of_type("chat")["text"], format!("{number}"));
        assert_eq!(next(&mut first).1["text"], format!("{number}"));
        if let Some(second) = &mut second {
            let (is_deflated, message) = next(second);
            assert_eq!(message["text"], format!("{number}"));
            deflated.push(is_deflated);
        }
    }
    let plain = deflated.iter().filter(|deflated| !**deflated).count();
    assert_eq!(
        plain, 6,
        "messages 4 to 9, since the stream began with message 0"
    );
    assert!(deflated[plain..].iter().all(|deflated| *deflated));
}

fn the_rooms_messages_become_small(program: Program) {
    const WORDS: [&str; 12] = [
        "biển",
        "sóng",
        "hôm nay",
        "trời",
        "đẹp",
        "quá",
        "mọi người",
        "đi",
        "chơi",
        "không",
        "nhé",
        "vui",
    ];
    let server = program.start("--chat-interval 0s");
    let mut client = join(&server);
    let (mut plain, mut sent) = (0, 0);
    for number in 0..300_usize {
        let words =
            (0..5).map(|place| WORDS[(number * 7 + place * place * 5 + number / 3) % WORDS.len()]);
        client.say("Alice", &words.collect::<Vec<_>>().join(" "));
        let frame = client.next_frame_but_pings();
        assert!(frame.deflated);
        sent += frame.payload.len();
        plain += client.inflate(&frame.payload).len();
    }
    assert!(sent * 5 < plain * 2, "{sent} of {plain} bytes");
    let counted = |name: &str| {
        let name = format!("wslab_deflate_{name}_bytes_total");
        samples(&server)
            .into_iter()
            .find(|sample| sample.name == name)
            .expect("a figure")
            .figure
    };
    let (input, output) = (counted("input"), counted("output"));
    assert!(
        output > sent as f64 && output * 5.0 < input * 2.0,
        "{output} of {input} are counted"
    );
}

fn what_is_for_one_client_alone_is_plain(program: Program) {
    let server = program.start("");
    let mut client = open(&server, "/ws/chat", OFFER);
    let (deflated, welcome) = next(&mut client);
    assert!(!deflated && welcome["code"] == "welcome");
    client.say_with_cid("Hello", "1");
    let mut answers = [next(&mut client), next(&mut client)];
    answers.sort_by_key(|(deflated, _)| *deflated);
    assert!(!answers[0].0 && answers[0].1["type"] == "ack");
    assert!(answers[1].0 && answers[1].1["type"] == "chat");
    client.text("no JSON");
    let (deflated, error) = next(&mut client);
    assert!(!deflated && error["type"] == "error");
    let mut watcher = open(&server, "/ws/dashboard", OFFER);
    watcher.json(&json!({"type": "subscribe", "metrics": []}));
    for code in ["welcome", "subscribed"] {
        let answer = loop {
            let (deflated, value) = next(&mut watcher);
            if value["type"] != "metric" {
                assert!(!deflated);
                break value;
            }
        };
        assert_eq!(answer["code"], code);
    }
}

fn history_comes_plain_before_the_stream(program: Program) {
    let server = program.start("--chat-interval 0s --notice-limit 0");
    let mut speaker = join(&server);
    for number in 0..100 {
        speaker.say("Alice", &format!("{number}"));
        assert_eq!(speaker.next_of_type("chat")["id"], json!(number + 1));
    }
    let mut reader = open(&server, "/ws/chat?history=100", OFFER);
    assert_eq!(reader.next_json()["code"], "welcome");
    for number in 0..100 {
        let (deflated, message) = next(&mut reader);
        assert_eq!(
            (deflated, &message["text"]),
            (false, &json!(format!("{number}")))
        );
    }
    speaker.say("Alice", "live");
    let (deflated, message) = next(&mut reader);
    assert_eq!((deflated, &message["text"]), (true, &json!("live")));
}

fn a_tick_is_compressed_and_stands_for_itself(program: Program) {
    let server = program.start("--metric-interval 20ms --simulate-cpu");
    let mut plain = server.watch();
    let mut watcher = open(&server, "/ws/dashboard", OFFER);
    assert_eq!(next(&mut watcher).1["code"], "welcome");
    let mut last_ts = Value::Null;
    for _ in 0..10 {
        for metric in ["temperature", "stock", "cpu"] {
            let frame = watcher.next_frame_but_pings();
            assert!(frame.deflated);
            if metric == "temperature" {
                watcher.forget_messages(12);
            }
            let value: Value =
                serde_json::from_slice(&watcher.inflate(&frame.payload)).expect("JSON");
            assert_eq!(value["metric"], metric);
            assert!(metric == "temperature" || value["ts"] == last_ts);
            last_ts = value["ts"].clone();
        }
    }
    // The other watcher hears the same, plain.
    while next(&mut plain).1["ts"] != last_ts {}
}

fn an_echo_stands_for_itself_in_the_window_agreed_on(program: Program) {
    let server = program.start("");
    let numbers = (0..4000).map(|number| (number % 977).to_string());
    let line = numbers.collect::<Vec<_>>().join(" ");
    for bits in 9..=15 {
        let offer = format!(
            "permessage-deflate; server_no_context_takeover; server_max_window_bits={bits}"
        );
        let mut client = open(&server, "/ws/echo", &offer);
        for _ in 0..3 {
            client.text(&line);
            client.forget_messages(bits);
            assert_eq!(client.message(), Message::Text(line.clone()));
        }
    }
    let mut client = open(&server, "/ws/echo", OFFER);
    client.text(&line);
    assert!(client.next_frame().deflated, "it becomes smaller");
    client.text("no");
    assert_eq!(
        client.next_frame(),
        Frame::new(frame::TEXT, "no"),
        "it does not"
    );
}

fn a_close_comes_behind_what_the_room_said(program: Program) {
    let server = program.start("--chat-interval 0s --notice-limit 0");
    let mut member = join(&server);
    let mut speaker = server.join();
    for number in 0..20 {
        speaker.say("Alice", &format!("{number}"));
        assert_eq!(speaker.next_of_type("chat")["text"], format!("{number}"));
    }
    member.send(&Frame::close(1000, ""));
    for number in 0..20 {
        assert_eq!(next(&mut member).1["text"], format!("{number}"));
    }
    assert_eq!(member.await_close(), Some(1000));
    member.expect_nothing_more();
}

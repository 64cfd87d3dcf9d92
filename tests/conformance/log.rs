//! The log on standard error, as the document shows it, and what a client cannot do to it.

#[cfg(unix)]
use std::io::Read;
#[cfg(unix)]
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::counters::await_lost_log_lines;
use crate::harness::{Program, Server};
use crate::process::Lines;

conformance! {
    a_new_client_is_logged_with_its_address,
    a_message_is_logged_up_to_50_characters,
    a_name_cannot_forge_a_line,
    a_refusal_is_told_with_what_to_set,
    a_flood_of_refusals_is_one_line,
    a_refused_page_cannot_forge_a_line,
    the_level_can_be_set,
    the_log_can_be_json,
    the_log_goes_to_standard_error_alone,
    a_log_that_nobody_reads_any_more_is_survived,
    a_log_that_nobody_reads_holds_nobody_up,
    #[cfg(unix)]
    a_log_that_nobody_reads_does_not_hold_the_exit_up,
    lines_that_were_lost_are_counted_and_told,
    #[cfg(target_os = "linux")]
    an_output_that_nobody_reads_holds_nobody_up,
    #[cfg(unix)]
    what_was_logged_last_is_read_after_the_exit,
}

fn wait_for_log(server: &Server, text: &str) -> String {
    server
        .process
        .stderr
        .wait_for(text, |line| line.contains(text))
}

fn a_new_client_is_logged_with_its_address(program: Program) {
    let server = program.start("");
    let clients = [server.join(), server.join()];
    let mut numbers = Vec::new();
    for client in &clients {
        let end = format!(" connected from 127.0.0.1:{}", client.local_port());
        let line = server
            .process
            .stderr
            .wait_for(&end, |line| line.ends_with(&end));
        let (_, number) = line
            .split_once("[CHAT] Client ")
            .unwrap_or_else(|| panic!("{line}"));
        numbers.push(
            number
                .trim_end_matches(&end)
                .parse::<u64>()
                .unwrap_or_else(|error| panic!("{error}: {line}")),
        );
    }
    assert_ne!(numbers[0], numbers[1]);
}

fn a_message_is_logged_up_to_50_characters(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    client.say("Alice", "Hello everyone");
    let line = wait_for_log(&server, "Hello");
    assert!(line.ends_with("[CHAT] Alice: Hello everyone..."), "{line}");
    client.say("Bảo", &format!("{}and no more", "ế".repeat(50)));
    let line = wait_for_log(&server, "Bảo");
    assert!(
        line.ends_with(&format!("[CHAT] Bảo: {}...", "ế".repeat(50))),
        "{line}"
    );
}

fn a_name_cannot_forge_a_line(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let forged = "[CHAT] Client 666 connected from 6.6.6.6:6";
    for separator in [
        "\n",
        "\r",
        "\r\n",
        "\u{85}",
        "\u{b}",
        "\u{c}",
        "\u{1b}[2K\u{1b}[G",
        "\u{8}\u{8}\u{8}",
        "\0",
        "\u{2028}",
        "\u{2029}",
    ] {
        client.say(
            &format!("Eve{separator}{forged}"),
            &format!("Hello{separator}{forged}"),
        );
        assert_eq!(client.next_json()["type"], "chat");
    }
    client.say("Alice", "the end");
    wait_for_log(&server, "the end");
    let lines = server.process.stderr.all();
    let about_eve: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("6.6.6.6"))
        .collect();
    assert_eq!(about_eve.len(), 11, "{lines:#?}");
    for line in about_eve {
        assert!(line.contains("[CHAT] Eve"), "forged: {line:?}");
        let breaks = |character: char| {
            character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
        };
        assert!(!line.contains(breaks), "a control character in {line:?}");
    }
}

fn a_refusal_is_told_with_what_to_set(program: Program) {
    let server = program.start("--max-clients 1");
    let refused = server.try_open("/ws/chat", "Origin: https://lab.example\r\n");
    assert!(refused.is_err());
    let line = wait_for_log(&server, "https://lab.example");
    assert!(
        line.starts_with("WARN") && line.contains("--allow-origin"),
        "{line}"
    );
    let request = "GET / HTTP/1.1\r\nHost: lab.example:8443\r\n\r\n";
    assert_eq!(server.exchange("GET", request).status, 421);
    let line = wait_for_log(&server, "lab.example:8443");
    assert!(
        line.starts_with("WARN") && line.contains("--allow-host"),
        "{line}"
    );
    let inside = server.join();
    assert!(server.try_open("/ws/chat", "").is_err());
    let line = wait_for_log(&server, "(full)");
    assert!(
        line.starts_with("WARN") && line.contains("--max-clients"),
        "{line}"
    );
    drop(inside);
}

fn a_flood_of_refusals_is_one_line(program: Program) {
    let server = program.start("--chat-interval 1h");
    for number in 0..50 {
        let origin = format!("Origin: https://lab{number}.example\r\n");
        assert!(server.try_open("/ws/chat", &origin).is_err());
    }
    let mut client = server.join();
    for _ in 0..40 {
        client.say("Alice", "too fast");
    }
    client.say("Alice", "");
    wait_for_log(&server, "(empty)");
    for reason in ["(origin)", "(rate_limited)"] {
        let lines = server.process.stderr.all();
        let told = lines.iter().filter(|line| line.contains(reason)).count();
        assert_eq!(told, 1, "{reason}: {lines:#?}");
    }
}

fn a_refused_page_cannot_forge_a_line(program: Program) {
    let server = program.start("");
    let forged = "a\u{85}\u{2028}\u{202e}[CHAT] Client 666";
    let origin = format!("Origin: https://{forged}{}\r\n", "x".repeat(4000));
    assert!(server.try_open("/ws/chat", &origin).is_err());
    let line = wait_for_log(&server, "(origin)");
    assert!(line.len() < 600, "{} bytes: {line}", line.len());
    let breaks =
        |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{202e}');
    assert!(!line.contains(breaks), "a control character in {line:?}");
}

fn the_level_can_be_set(program: Program) {
    let server = program.start("--log error");
    let mut client = server.join();
    client.say("Alice", "Hello everyone");
    assert_eq!(client.next_json()["type"], "chat");
    client.leave();
    assert_eq!(server.process.stderr.all(), [] as [String; 0]);
}

fn the_log_can_be_json(program: Program) {
    let server = program.start("--log-format json");
    let mut client = server.join();
    client.say("\"Alice\"\n", "Hello everyone");
    wait_for_log(&server, "Hello everyone...");
    for line in server.process.stderr.all() {
        let entry: Result<Value, _> = serde_json::from_str(&line);
        assert!(entry.is_ok_and(|entry| entry.is_object()), "{line}");
    }
}

fn the_log_goes_to_standard_error_alone(program: Program) {
    let server = program.start("");
    let mut client = server.join();
    client.say("Alice", "Hello everyone");
    wait_for_log(&server, "[CHAT] Alice");
    let stdout = server.process.stdout.all();
    assert!(
        !stdout.iter().any(|line| line.contains("[CHAT]")),
        "{stdout:#?}"
    );
}

/// `evloop-server 2>&1 | head` must not end the server when `head` ends.
fn a_log_that_nobody_reads_any_more_is_survived(program: Program) {
    let mut command = program.command("--bind 127.0.0.1:0 --chat-interval 0s");
    let (server, log) = Server::start_with_log(&mut command);
    drop(log);
    let mut client = server.join();
    for id in 1..=20 {
        client.say("Alice", "Hello everyone");
        assert_eq!(client.next_json()["id"], id);
    }
}

/// Says something so often, a line in the log each.
fn chatter(client: &mut Client, messages: usize) {
    const AT_A_TIME: usize = 250;
    for _ in 0..messages / AT_A_TIME {
        for _ in 0..AT_A_TIME {
            client.say("Alice", "Hello everyone, and whoever reads the log");
        }
        for _ in 0..AT_A_TIME {
            client.next_of_type("chat");
        }
    }
}

/// More than any pipe holds.
const FULL: usize = 3_000;
/// More than the queue holds too.
const OVERFULL: usize = 12_000;

/// A pipe that is full, or a terminal after Ctrl+S.
fn a_log_that_nobody_reads_holds_nobody_up(program: Program) {
    let mut command = program.command("--bind 127.0.0.1:0 --chat-interval 0s");
    let (server, log) = Server::start_with_log(&mut command);
    let mut inside = server.join();
    chatter(&mut inside, FULL);
    assert_eq!(server.get("/healthz").status, 200);
    server.watch().leave();
    let mut newcomer = server.join();
    newcomer.say("Bob", "heard");
    assert_eq!(newcomer.next_of_type("chat")["text"], "heard");
    drop((inside, newcomer, server, log));
}

#[cfg(unix)]
fn a_log_that_nobody_reads_does_not_hold_the_exit_up(program: Program) {
    for messages in [FULL, OVERFULL] {
        let mut command = program.command("--bind 127.0.0.1:0 --chat-interval 0s");
        let (mut server, log) = Server::start_with_log(&mut command);
        let mut inside = server.join();
        chatter(&mut inside, messages);
        server.process.signal("TERM");
        inside.expect_close(1001);
        let deadline = Instant::now() + Duration::from_secs(3);
        assert_eq!(server.process.wait_until(deadline).code(), Some(0));
        drop(log);
    }
}

fn lines_that_were_lost_are_counted_and_told(program: Program) {
    for format in ["text", "json"] {
        let mut command = program.command(&format!(
            "--bind 127.0.0.1:0 --chat-interval 0s --log-format {format} --metric-interval 50ms"
        ));
        let (server, log) = Server::start_with_log(&mut command);
        let mut inside = server.join();
        chatter(&mut inside, OVERFULL);
        await_lost_log_lines(&server);
        let lines = Lines::collect(log);
        let told = lines.wait_for("what was lost", |line| line.contains("lines were lost"));
        assert!(told.contains("WARN"), "{told}");
        inside.say("Alice", "read again");
        lines.wait_for("a new line", |line| line.contains("read again"));
        if format == "json" {
            for line in lines.all() {
                assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn an_output_that_nobody_reads_holds_nobody_up(program: Program) {
    let (mut server, output) = Server::start_with_full_output(program, "");
    let mut client = server.join();
    client.say("Alice", "heard");
    assert_eq!(client.next_json()["text"], "heard");
    server.process.signal("TERM");
    client.expect_close(1001);
    let deadline = Instant::now() + Duration::from_secs(3);
    assert_eq!(server.process.wait_until(deadline).code(), Some(0));
    drop(output);
}

/// The exit waits for a log that is read.
#[cfg(unix)]
fn what_was_logged_last_is_read_after_the_exit(program: Program) {
    let mut command = program.command("--bind 127.0.0.1:0 --chat-interval 0s");
    let (mut server, mut log) = Server::start_with_log(&mut command);
    let mut client = server.join();
    chatter(&mut client, 250);
    server.process.signal("TERM");
    client.expect_close(1001);
    assert_eq!(server.process.wait().code(), Some(0));
    let mut lines = String::new();
    log.read_to_string(&mut lines).expect("text");
    assert_eq!(lines.matches("[CHAT] Alice").count(), 250);
    assert!(lines.contains("Shutting down"), "{lines}");
}

//! The command line: help, banner, mistakes that are told in a line, and settings from the environment.

use std::net::{SocketAddr, TcpListener};

use crate::harness::{Finished, Program, Server};

conformance! {
    help_lists_each_flag_with_its_default,
    the_banner_is_the_documents,
    each_address_is_announced_and_served,
    an_unknown_flag_is_exit_2,
    a_value_that_makes_no_sense_is_exit_2,
    a_value_that_can_never_match_is_exit_2,
    every_way_to_write_an_origin_matches,
    a_server_on_all_addresses_names_one_that_a_browser_opens,
    a_taken_port_is_exit_1_and_one_line,
    a_port_taken_by_another_server_is_not_shared,
    settings_may_come_from_the_environment,
    a_flag_wins_over_the_environment,
    a_mistake_in_the_environment_is_exit_2,
}

/// Each flag with its default and unit, or what else its help must tell.
const FLAGS: [(&str, &[&str]); 26] = [
    ("--bind", &["127.0.0.1:8765", "[::1]:8765"]),
    ("--chat-interval", &["1s"]),
    ("--ping-interval", &["20s"]),
    ("--ping-timeout", &["10s"]),
    ("--metric-interval", &["1s"]),
    ("--simulate-cpu", &[]),
    ("--history", &["1000"]),
    ("--notice-limit", &["500"]),
    ("--max-clients", &["20000"]),
    ("--max-clients-per-address", &["0"]),
    ("--max-message", &["64KiB"]),
    ("--max-unsent", &["1MiB"]),
    ("--handshake-timeout", &["5s"]),
    ("--close-timeout", &["5s"]),
    ("--drain-timeout", &["5s"]),
    ("--drain-spread", &["0s", "1012"]),
    ("--max-sockets-per-address", &["0"]),
    ("--max-handshakes-per-address", &["0", "429"]),
    ("--max-messages-per-address", &["0"]),
    ("--trusted-proxy", &["10.0.0.0/8"]),
    ("--allow-origin", &["https://lab.example"]),
    ("--allow-host", &["lab.example"]),
    ("--refuse-null-origin", &["null"]),
    ("--experiments", &["loopback only"]),
    ("--log", &["info"]),
    ("--log-format", &["text", "json"]),
];

/// The part of the help that is about one flag: from its line to that of the next.
fn help_of<'a>(help: &'a [String], flag: &str) -> &'a [String] {
    let names = |line: &String| {
        line.trim_start()
            .trim_start_matches("-h, ")
            .trim_start_matches("-V, ")
            .starts_with("--")
    };
    let first_word = |line: &String| {
        line.split_whitespace()
            .next()
            .is_some_and(|word| word.trim_end_matches("...") == flag)
    };
    let start = help
        .iter()
        .position(first_word)
        .unwrap_or_else(|| panic!("no {flag} in {help:#?}"));
    let length = help[start + 1..]
        .iter()
        .position(names)
        .unwrap_or(help.len() - start - 1);
    &help[start..=start + length]
}

fn help_lists_each_flag_with_its_default(program: Program) {
    let finished = program.run("--help");
    assert_eq!(finished.status, Some(0));
    assert!(finished.stderr.is_empty(), "{:?}", finished.stderr);
    for (flag, expected) in FLAGS {
        let help = help_of(&finished.stdout, flag).join("\n");
        let variable = flag
            .trim_start_matches('-')
            .replace('-', "_")
            .to_uppercase();
        assert!(
            help.contains(&format!("WSLAB_{variable}")),
            "no variable in {help}"
        );
        for word in expected {
            assert!(help.contains(word), "no {word} in {help}");
        }
    }
}

fn the_banner_is_the_documents(program: Program) {
    let server = program.start("");
    server
        .process
        .stdout
        .wait_for("the end of the banner", |line| {
            line.contains("Press Ctrl+C to stop.")
        });
    let port = server.address.port();
    let as_in_document = |line: String| {
        let line = line.replace(&format!("127.0.0.1:{port}"), "localhost:8765");
        line.replace(&format!("localhost:{port}"), "localhost:8765")
    };
    let lines: Vec<_> = server
        .process
        .stdout
        .all()
        .into_iter()
        .map(as_in_document)
        .collect();
    let bar = "=".repeat(60);
    let banner = [
        &bar,
        "WebSocket Server - Chat & Dashboard Realtime Demo",
        &bar,
        "Server starting at ws://localhost:8765",
        "Endpoints:",
        "  - ws://localhost:8765/ws/chat",
        "  - ws://localhost:8765/ws/dashboard",
        &bar,
        "[SERVER] Server is running. Press Ctrl+C to stop.",
    ];
    let mut rest = lines.iter();
    for expected in banner {
        assert!(
            rest.any(|line| line == expected),
            "{expected:?} is not where it should be in {lines:#?}"
        );
    }
}

fn each_address_is_announced_and_served(program: Program) {
    let mut addresses = vec!["127.0.0.1:0", "127.0.0.1:0"];
    if TcpListener::bind("[::1]:0").is_ok() {
        addresses.push("[::1]:0");
    }
    let flags: Vec<_> = addresses
        .iter()
        .map(|address| format!("--bind {address}"))
        .collect();
    let mut server = Server::start(&mut program.command(&flags.join(" ")));
    let announced = server
        .process
        .stdout
        .wait_for_many(addresses.len(), "an address", |line| {
            line.starts_with("listening")
        });
    for address in announced {
        server.address = address
            .trim_start_matches("listening on http://")
            .parse()
            .expect("an address and a port");
        assert_eq!(server.get("/healthz").status, 200, "{address}");
        server.join().leave();
    }
}

fn an_unknown_flag_is_exit_2(program: Program) {
    for flags in ["--nonsense", "--max-client 3", "-x", "run"] {
        let finished = program.run(flags);
        assert_eq!(finished.status, Some(2), "{flags}");
        let told = finished.stderr.join("\n");
        assert!(
            told.contains(flags.split(' ').next().unwrap_or_default()) && told.contains("--help"),
            "{told}"
        );
        assert!(finished.stdout.is_empty(), "{:?}", finished.stdout);
    }
}

fn a_value_that_makes_no_sense_is_exit_2(program: Program) {
    for flags in [
        "--bind nonsense",
        "--bind 127.0.0.1",
        "--bind 127.0.0.1:99999",
        "--chat-interval fast",
        "--chat-interval=-1s",
        "--chat-interval 1",
        "--drain-spread 30",
        "--drain-spread=-1s",
        "--ping-interval",
        "--history many",
        "--history=-1",
        "--max-clients 1.5",
        "--max-handshakes-per-address=-1",
        "--max-messages-per-address lots",
        "--trusted-proxy proxy.example",
        "--trusted-proxy 10.0.0.0/33",
        "--max-message 64XB",
        "--max-unsent=-1",
        "--log shout",
        "--log-format xml",
    ] {
        let finished = program.run(flags);
        assert_eq!(finished.status, Some(2), "{flags}: {:?}", finished.stderr);
        let told = finished.stderr.join("\n");
        assert!(
            told.contains(flags.split([' ', '=']).next().unwrap_or_default()),
            "{told}"
        );
    }
}

/// What no browser ever sends, and so would be refused for ever: told at start, with what is right instead.
fn a_value_that_can_never_match_is_exit_2(program: Program) {
    for (flag, value, told) in [
        ("--allow-origin", "", "https://lab.example"),
        ("--allow-origin", "lab.example", "https://lab.example"),
        ("--allow-origin", "https://*.lab.example", "named whole"),
        (
            "--allow-origin",
            "https://lab.example/chat",
            "https://lab.example",
        ),
        ("--allow-origin", "wss://lab.example", "https://lab.example"),
        ("--allow-origin", "https://", "https://lab.example"),
        ("--allow-origin", "https://bücher.example", "ASCII"),
        ("--allow-origin", "https://lab.example,", "not empty"),
        ("--allow-host", "", "lab.example"),
        ("--allow-host", "https://lab.example", "no scheme"),
        ("--allow-host", "lab.example:8765", "without its port"),
        ("--allow-host", "*.lab.example", "named whole"),
    ] {
        let finished = Finished::run(program.command("--bind 127.0.0.1:0").args([flag, value]));
        assert_eq!(
            finished.status,
            Some(2),
            "{flag} {value}: {:?}",
            finished.stderr
        );
        let first = &finished.stderr[0];
        assert!(
            first.contains(flag) && first.contains(told),
            "{value}: {first}"
        );
    }
}

fn every_way_to_write_an_origin_matches(program: Program) {
    for spelling in [
        "https://lab.example",
        "https://lab.example/",
        "https://lab.example:443",
        "HTTPS://Lab.Example",
        "https://other.example,https://lab.example",
    ] {
        let server = program.start(&format!("--allow-origin {spelling}"));
        let opened = server.try_open("/ws/chat", "Origin: https://lab.example\r\n");
        assert!(opened.is_ok(), "{spelling}");
    }
}

fn a_server_on_all_addresses_names_one_that_a_browser_opens(program: Program) {
    let mut binds = vec!["0.0.0.0:0"];
    if TcpListener::bind("[::]:0").is_ok() {
        binds.push("[::]:0");
    }
    for bind in binds {
        let mut server = Server::start(&mut program.command(&format!("--bind {bind}")));
        let port = server.address.port();
        let lines = server.process.stdout.all();
        assert!(
            lines.contains(&format!("Open http://localhost:{port} in a browser.")),
            "{lines:#?}"
        );
        assert!(
            lines.contains(&format!("  - ws://localhost:{port}/ws/chat")),
            "{lines:#?}"
        );
        for line in &lines {
            if let Some(address) = line.strip_prefix("From other machines: http://") {
                let address: SocketAddr = address.parse().expect("an address and a port");
                assert!(!address.ip().is_loopback() && !address.ip().is_unspecified());
                server.address = address;
                let page = format!("Origin: http://{address}\r\n");
                assert!(server.try_open("/ws/chat", &page).is_ok(), "{address}");
            }
        }
        let local = if bind.starts_with('[') {
            "[::1]"
        } else {
            "127.0.0.1"
        };
        server.address = format!("{local}:{port}").parse().expect("an address");
    }
}

/// One line on standard error, which says what is wrong with the port and what to do.
fn assert_tells_of_port(finished: &Finished, port: u16) {
    assert_eq!(finished.status, Some(1), "{:?}", finished.stderr);
    assert_eq!(finished.stderr.len(), 1, "{:#?}", finished.stderr);
    let told = &finished.stderr[0];
    assert!(
        told.contains(&port.to_string()) && told.contains("--bind"),
        "{told}"
    );
    assert!(
        !finished
            .stdout
            .iter()
            .any(|line| line.starts_with("listening")),
        "{:?}",
        finished.stdout
    );
}

fn a_taken_port_is_exit_1_and_one_line(program: Program) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    assert_tells_of_port(
        &program.run(&format!("--max-clients 100 --bind 127.0.0.1:{port}")),
        port,
    );
    assert_tells_of_port(
        &program.run(&format!(
            "--max-clients 100 --bind 127.0.0.1:0 --bind 127.0.0.1:{port}"
        )),
        port,
    );
}

fn a_port_taken_by_another_server_is_not_shared(program: Program) {
    let server = program.start("");
    let port = server.address.port();
    assert_tells_of_port(
        &program.run(&format!("--max-clients 100 --bind 127.0.0.1:{port}")),
        port,
    );
}

fn settings_may_come_from_the_environment(program: Program) {
    let mut command = program.command("");
    command
        .env("WSLAB_BIND", "127.0.0.1:0")
        .env("WSLAB_CHAT_INTERVAL", "0s")
        .env("WSLAB_MAX_CLIENTS", "1");
    let server = Server::start(&mut command);
    let mut client = server.join();
    for id in 1..=3 {
        client.say("Alice", "no rate limit");
        assert_eq!(client.next_json()["id"], id);
    }
    assert_eq!(
        server
            .try_open("/ws/chat", "")
            .err()
            .map(|refusal| refusal.status),
        Some(503)
    );
}

fn a_flag_wins_over_the_environment(program: Program) {
    let mut command = program.command("--bind 127.0.0.1:0 --max-message 2KiB");
    command.env("WSLAB_MAX_MESSAGE", "1KiB");
    let server = Server::start(&mut command);
    let mut client = server.open("/ws/echo");
    client.text("x".repeat(2048));
    assert_eq!(client.next_text().len(), 2048);
    client.text("x".repeat(2049));
    client.expect_close(1009);
}

fn a_mistake_in_the_environment_is_exit_2(program: Program) {
    let finished = Finished::run(program.command("").env("WSLAB_HISTORY", "many"));
    assert_eq!(finished.status, Some(2), "{:?}", finished.stderr);
    assert!(
        finished.stderr.join("\n").contains("--history"),
        "{:?}",
        finished.stderr
    );
}

//! The thread server without its threads: their parts are played by the test, in the order it wants.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::mailbox::Delivered;
use super::shared::{GOING_AWAY, Shared, make};
use super::visitor::{KEPT_REPLY, Visitor};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::engine::{Founding, Now};
use crate::protocol::Metric;

fn lab() -> Arc<Shared> {
    let mut config = Config::defaults();
    config.chat_interval = Duration::ZERO;
    let founding = Founding {
        model: "threads",
        epoch: "epoch".to_owned(),
        report: None,
        missing: Vec::new(),
    };
    Arc::new(Shared::new(Arc::new(config), founding))
}

/// A client, and its thread's part played by the test.
struct Guest {
    peer: TcpStream,
    conversation: Conversation,
    visitor: Visitor,
}

impl Guest {
    fn comes_to(path: &str, shared: &Arc<Shared>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a deadline");
        let (socket, address) = listener.accept().expect("a client");
        let (_, visitor) = shared.enter(socket);
        let conversation =
            Conversation::new(visitor.client(), address, Now::take(), &shared.config);
        let mut guest = Self {
            peer,
            conversation,
            visitor,
        };
        guest.sends(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        guest
    }

    /// Its thread reads this, and has not delivered anything yet.
    fn sends(&mut self, bytes: &[u8]) {
        self.conversation
            .receive(Now::take(), bytes, &mut self.visitor);
    }

    /// All that the client gets until the server shuts its side, which it does now.
    fn got(&mut self) -> String {
        self.visitor
            .mailbox
            .socket()
            .shutdown(std::net::Shutdown::Write)
            .expect("a connected socket");
        let mut bytes = Vec::new();
        self.peer
            .read_to_end(&mut bytes)
            .expect("all that was sent");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[test]
fn a_tick_does_not_overtake_the_answer_to_the_upgrade() {
    let shared = lab();
    let mut watcher = Guest::comes_to("/ws/dashboard", &shared);
    for mailbox in shared
        .hall()
        .tick(Now::take(), &[Some(1.0); Metric::ALL.len()])
    {
        mailbox.send_waiting();
    }
    watcher.visitor.deliver().expect("a client that is there");
    let got = watcher.got();
    assert!(got.starts_with("HTTP/1.1 101 "), "{got}");
    assert!(
        got.find("welcome") < got.find("temperature\",\"value"),
        "{got}"
    );
}

/// The text messages among the frames behind the answer to the upgrade.
fn texts(got: &str) -> Vec<&str> {
    got.split("\"text\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

fn spoken(text: &str) -> Vec<u8> {
    // Masked with zeros, which change nothing.
    let json = format!("{{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"{text}\"}}");
    let length = u8::try_from(json.len()).expect("a short text");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], json.as_bytes()].concat()
}

/// A round that is under way is for those who were in when it began, and from where they joined, even where they
/// leave before it comes to them.
#[test]
fn a_short_stay_hears_what_was_said_during_it_and_no_more() {
    let shared = lab();
    let mut speaker = Guest::comes_to("/ws/chat", &shared);
    speaker.sends(&spoken("before"));
    let mut guest = Guest::comes_to("/ws/chat", &shared);
    speaker.sends(&spoken("during"));
    let visits = shared.next_turn().expect("something was said");
    speaker.sends(&spoken("during, after the round began"));
    guest.sends(&[0x88, 0x80, 0, 0, 0, 0]);
    speaker.sends(&spoken("after"));
    make(&visits);
    guest.visitor.deliver().expect("a client that is there");
    let got = guest.got();
    assert_eq!(
        texts(&got)[1..],
        ["during", "during, after the round began"],
        "{got}"
    );
    assert!(
        got.ends_with("\u{fffd}\0"),
        "the Close is the last frame: {got}"
    );
}

#[test]
fn those_who_come_to_an_empty_room_and_leave_are_forgotten() {
    let shared = lab();
    for _ in 0..300 {
        let mut guest = Guest::comes_to("/ws/chat", &shared);
        guest.conversation.abandon(Now::take(), &mut guest.visitor);
        shared.exit(guest.visitor.client());
    }
    assert!(shared.hall().carousel.places() < 100);
}

#[test]
fn who_is_behind_is_listed_once_however_often_there_is_something_for_it() {
    let shared = lab();
    let watcher = Guest::comes_to("/ws/dashboard", &shared);
    let mailbox = &watcher.visitor.mailbox;
    let frames = Bytes::from(vec![0; 64 * 1024]);
    mailbox.put(&frames);
    while mailbox.send_waiting() == Delivered::Settled {
        mailbox.put(&frames);
    }
    assert_eq!(
        mailbox.send_waiting(),
        Delivered::Settled,
        "the ticker knows of it"
    );
}

#[test]
fn what_the_room_has_said_comes_before_the_close() {
    let shared = lab();
    let mut listener = Guest::comes_to("/ws/chat", &shared);
    listener.visitor.deliver().expect("a client that is there");
    let mut speaker = Guest::comes_to("/ws/chat", &shared);
    speaker.sends(&spoken("last words"));
    shared.drain();
    let got = listener.got();
    assert_eq!(texts(&got).last(), Some(&"last words"), "{got}");
    assert!(
        got.ends_with(GOING_AWAY.reason),
        "the Close is the last frame: {got}"
    );
}

#[test]
fn a_long_answer_leaves_no_memory_behind() {
    let shared = lab();
    let mut guest = Guest::comes_to("/ws/echo", &shared);
    guest.visitor.effects.reply.resize(64 * 1024, b'x');
    guest.visitor.deliver().expect("a client that is there");
    assert!(guest.visitor.effects.reply.capacity() <= KEPT_REPLY);
}

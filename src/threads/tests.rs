//! The thread server without its threads: their parts are played by the test, in the order it wants.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::client_handler::{ClientHandler, KEPT_REPLY};
use super::client_writer::Delivered;
use super::shared::Shared;
use crate::config::Config;
use crate::core::arrival::Arrival;
use crate::core::context::Context;
use crate::core::engine::Close;
use crate::core::protocol::Metric;
use crate::core::websocket::conversation::Conversation;
use crate::host::clock;

fn lab() -> Arc<Shared> {
    let mut config = Config::defaults();
    config.chat_interval = Duration::ZERO;
    let context = Context::for_tests(config.limits());
    Arc::new(Shared::new(Arc::new(context), config.delivery))
}

/// A client, and its thread's part played by the test.
struct Guest {
    peer: TcpStream,
    conversation: Conversation,
    handler: ClientHandler,
}

impl Guest {
    fn comes_to(path: &str, shared: &Arc<Shared>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a deadline");
        let (socket, address) = listener.accept().expect("a client");
        let arrival = Arrival {
            peer: address,
            local: address.ip(),
            place: None,
        };
        let (_, writer) = shared.enter(socket);
        let handler = ClientHandler::new(Arc::clone(shared), writer);
        let conversation = Conversation::new(
            handler.client(),
            arrival,
            clock::now(),
            &shared.context.limits,
        );
        let mut guest = Self {
            peer,
            conversation,
            handler,
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
            .receive(clock::now(), bytes, &mut self.handler);
    }

    /// All that the client gets until the server shuts its side, which it does now.
    fn got(&mut self) -> String {
        self.handler
            .writer
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
    for writer in shared
        .state()
        .tick(clock::now(), &[Some(1.0); Metric::ALL.len()])
    {
        writer.send_waiting();
    }
    watcher.handler.deliver().expect("a client that is there");
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

/// A batch that is under way is for the members there were when it was taken, each from its own cursor, even where they
/// leave before it comes to them.
#[test]
fn a_short_stay_hears_what_was_said_during_it_and_no_more() {
    let shared = lab();
    let mut speaker = Guest::comes_to("/ws/chat", &shared);
    speaker.sends(&spoken("before"));
    let mut guest = Guest::comes_to("/ws/chat", &shared);
    speaker.sends(&spoken("during"));
    let batch = shared.next_batch().expect("something was said");
    speaker.sends(&spoken("during, after the round began"));
    guest.sends(&[0x88, 0x80, 0, 0, 0, 0]);
    speaker.sends(&spoken("after"));
    shared.send(&batch);
    guest.handler.deliver().expect("a client that is there");
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
fn a_blocked_writer_is_listed_once_however_often_there_is_something_for_it() {
    let shared = lab();
    let watcher = Guest::comes_to("/ws/dashboard", &shared);
    let writer = &watcher.handler.writer;
    let frames = Bytes::from(vec![0; 64 * 1024]);
    writer.enqueue_from_other(&frames);
    while writer.send_waiting() == Delivered::Settled {
        writer.enqueue_from_other(&frames);
    }
    assert_eq!(
        writer.send_waiting(),
        Delivered::Settled,
        "the ticker knows of it"
    );
}

#[test]
fn what_the_room_has_said_comes_before_the_close() {
    let shared = lab();
    let mut listener = Guest::comes_to("/ws/chat", &shared);
    listener.handler.deliver().expect("a client that is there");
    let mut speaker = Guest::comes_to("/ws/chat", &shared);
    speaker.sends(&spoken("last words"));
    shared.drain();
    let got = listener.got();
    assert_eq!(texts(&got).last(), Some(&"last words"), "{got}");
    assert!(
        got.ends_with(Close::GOING_AWAY.reason),
        "the Close is the last frame: {got}"
    );
}

#[test]
fn a_long_answer_leaves_no_memory_behind() {
    let shared = lab();
    let mut guest = Guest::comes_to("/ws/echo", &shared);
    let own = guest.handler.output.reply.own();
    own.resize(64 * 1024, b'x');
    guest.handler.deliver().expect("a client that is there");
    assert!(guest.handler.output.reply.own().capacity() <= KEPT_REPLY);
}

//! The turn, on real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;

use socket2::SockRef;

use super::*;
use crate::config::Config;
use crate::core::protocol::{Payload, parse_chat};
use crate::host::clock;

fn start(listener: TcpListener) -> EventLoop<MioWorld> {
    let config = Config::defaults();
    let context = Arc::new(Context::for_tests(config.limits()));
    let (_stopper, shutdown) = crate::net::shutdown::channel().expect("a pair of streams");
    let (world, acceptor) = MioWorld::new(vec![listener], true, shutdown).expect("a poll");
    EventLoop::new(world, acceptor, &config, context)
}

#[test]
fn a_connection_that_floods_is_read_once_per_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener)
        .set_recv_buffer_size(1 << 20)
        .expect("room for several reads");
    let address = listener.local_addr().expect("bound");
    let mut event_loop = start(listener);
    let mut flood = TcpStream::connect(address).expect("accepted");
    flood.set_nonblocking(true).expect("a socket");
    let junk = vec![b'x'; READ_BUFFER];
    for _ in 0..6 {
        while flood.write(&junk).is_ok() {}
        let before = event_loop.context.counters.bytes_in.get();
        event_loop.turn().expect("a turn");
        let read = event_loop.context.counters.bytes_in.get() - before;
        assert!(read <= READ_BUFFER as u64, "{read} bytes in one turn");
        assert!(
            event_loop.ready_again.len() <= 1,
            "{:?}",
            event_loop.ready_again
        );
    }
    assert!(
        event_loop.context.counters.bytes_in.get() > 2 * READ_BUFFER as u64,
        "there was more than one read of it"
    );
}

/// A client of the echo that has been let in.
fn let_in(event_loop: &mut EventLoop<MioWorld>, address: std::net::SocketAddr) -> TcpStream {
    let_in_to("/ws/echo", event_loop, address)
}

fn let_in_to(
    path: &str,
    event_loop: &mut EventLoop<MioWorld>,
    address: std::net::SocketAddr,
) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("accepted");
    client.set_nodelay(true).expect("a socket");
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a deadline");
    client
        .write_all(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        )
        .expect("a connection");
    let before = event_loop.engine.client_count();
    while event_loop.engine.client_count() == before {
        event_loop.turn().expect("a turn");
    }
    client
}

/// A turn takes a limited number of events; the Pong of a client whose event is left for the next has come all the same.
#[test]
fn a_pong_whose_event_was_not_taken_is_read_before_the_verdict() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut event_loop = start(listener);
    let mut client = let_in(&mut event_loop, address);
    let _silent = let_in(&mut event_loop, address);
    let later = |seconds| Now {
        instant: Instant::now() + Duration::from_secs(seconds),
        ..clock::now()
    };
    event_loop.fire_timers(later(21));
    client
        .write_all(&[0x8A, 0x80, 0, 0, 0, 0])
        .expect("a connection");
    event_loop.fire_timers(later(40));
    assert_eq!(
        event_loop.engine.client_count(),
        1,
        "but for the silent one"
    );
}

#[test]
fn a_pong_that_crosses_the_close_does_not_cost_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut event_loop = start(listener);
    let mut client = let_in(&mut event_loop, address);
    client
        .write_all(&[0x88, 0x80, 0, 0, 0, 0])
        .expect("a connection");
    let now = clock::now();
    while event_loop.engine.client_count() == 1 {
        event_loop.wait().expect("readiness");
        event_loop.take_events(now);
        event_loop.read(now);
    }
    client
        .write_all(&[0x8A, 0x80, 0, 0, 0, 0])
        .expect("a connection");
    event_loop.flush();
    event_loop.reap(now);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("an orderly end");
    assert!(heard.ends_with(&[0x88, 0]), "{heard:?}");
}

/// Fills the room's history with messages that take several steps to replay.
fn fill_history(event_loop: &mut EventLoop<MioWorld>, address: std::net::SocketAddr) -> TcpStream {
    let speaker = let_in_to("/ws/chat", event_loop, address);
    let text = "x".repeat(500);
    for number in 0..200 {
        let json = format!(r#"{{"type":"chat","name":"n","text":"{text}","cid":"{number}"}}"#);
        let request = parse_chat(Payload::Text(&json));
        let now = Now {
            instant: clock::now().instant + Duration::from_secs(2 * number),
            ..clock::now()
        };
        let said = event_loop
            .engine
            .chat(now, ClientId(0), &request, &mut event_loop.output);
        assert!(said, "a message of the history");
    }
    event_loop.output.clear(0);
    speaker
}

/// A client that asks for the history and speaks meanwhile is on the list of replays once, however often it is flushed.
#[test]
fn a_replay_is_listed_once_however_often_it_is_flushed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut event_loop = start(listener);
    let _speaker = fill_history(&mut event_loop, address);
    let _reader = let_in_to("/ws/chat?history=200", &mut event_loop, address);
    let token = *event_loop
        .replaying
        .front()
        .expect("a replay of several steps");
    for _ in 0..3 {
        event_loop.after_io(clock::now(), token);
        event_loop.flush();
        event_loop.reap(clock::now());
    }
    assert_eq!(event_loop.replaying, [token]);
}

/// A deadline may be judged while a connection stands on the list of those to be read: it does not come to stand there twice.
#[test]
fn a_connection_to_be_read_is_listed_once_though_its_timer_fires() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut event_loop = start(listener);
    let _client = let_in(&mut event_loop, address);
    let token = event_loop.connections.tokens().next().expect("a client");
    let readable = Readiness {
        token,
        readable: true,
        writable: false,
        ending: false,
    };
    event_loop.take_readiness(readable);
    let later = Now {
        instant: Instant::now() + Duration::from_secs(21),
        ..clock::now()
    };
    event_loop.time_out(later, token);
    event_loop.take_readiness(readable);
    assert_eq!(event_loop.ready_again, [token]);
}

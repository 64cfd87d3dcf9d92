//! The turn, on real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;

use socket2::SockRef;

use super::*;

fn start(listener: TcpListener) -> EventLoop {
    let founding = Founding {
        model: "evloop",
        epoch: "epoch".to_owned(),
        report: None,
        missing: Vec::new(),
    };
    let (_stopper, shutdown) = crate::shutdown::channel().expect("a pair of streams");
    EventLoop::new(
        vec![listener],
        Arc::new(Config::defaults()),
        founding,
        shutdown,
    )
    .expect("an event loop")
}

#[test]
fn whoever_floods_is_read_once_a_turn() {
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
        let before = event_loop.stats.bytes_in.get();
        event_loop.turn().expect("a turn");
        let read = event_loop.stats.bytes_in.get() - before;
        assert!(read <= READ_BUFFER as u64, "{read} bytes in one turn");
        assert!(
            event_loop.run_again.len() <= 1,
            "{:?}",
            event_loop.run_again
        );
    }
    assert!(
        event_loop.stats.bytes_in.get() > 2 * READ_BUFFER as u64,
        "there was more than one read of it"
    );
}

#[test]
fn a_pong_that_crosses_the_close_does_not_cost_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut event_loop = start(listener);
    let mut client = TcpStream::connect(address).expect("accepted");
    client.set_nodelay(true).expect("a socket");
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a deadline");
    client
        .write_all(
            b"GET /ws/echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .expect("a connection");
    while event_loop.engine.client_count() == 0 {
        event_loop.turn().expect("a turn");
    }
    client
        .write_all(&[0x88, 0x80, 0, 0, 0, 0])
        .expect("a connection");
    let now = Now::take();
    while event_loop.engine.client_count() == 1 {
        event_loop.wait().expect("readiness");
        event_loop.take_events(now);
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

//! Requests as bytes, well formed or not, and their responses.

use std::net::SocketAddr;
use std::time::Instant;

use crate::wire::{Ending, PATIENCE, Wire};

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of the header, which must not stand there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "two headers {name}: {self:?}");
        value
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(crate) fn ends_connection(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A request for `path` with the given header lines, each ending in CRLF.
pub(crate) fn request(method: &str, address: SocketAddr, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n")
}

/// The headers of a WebSocket handshake, with the key of RFC 6455, 1.3.
pub(crate) const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// What RFC 6455, 1.3 has a server answer to that key.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Reads one response, without a body if it answers a HEAD request or changes the protocol.
pub(crate) fn read_response(wire: &mut Wire, method: &str) -> Response {
    let deadline = Instant::now() + PATIENCE;
    let (mut response, head) = loop {
        if let Some(parsed) = parse_head(wire.unread()) {
            break parsed;
        }
        wire.fill(deadline)
            .unwrap_or_else(|ending| panic!("{ending:?} before a whole response head"));
    };
    wire.take(head);
    if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
        return response;
    }
    let length = response
        .header("content-length")
        .map(|length| length.parse::<usize>().expect("a length"));
    while length.is_none_or(|length| wire.unread().len() < length) {
        match wire.fill(deadline) {
            Ok(()) => {}
            Err(Ending::Closed) if length.is_none() => break,
            Err(ending) => panic!("{ending:?} in the body of {response:?}"),
        }
    }
    response.body = wire.take(length.unwrap_or(wire.unread().len()));
    response
}

fn parse_head(bytes: &[u8]) -> Option<(Response, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).expect("a well-formed response")
    else {
        return None;
    };
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("a header in UTF-8");
    let response = Response {
        status: head.code.expect("a whole head has a status"),
        headers: head
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), text(header.value)))
            .collect(),
        body: Vec::new(),
    };
    Some((response, length))
}

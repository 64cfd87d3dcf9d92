//! A WebSocket client that can also break the rules.

use std::net::SocketAddr;
use std::time::Instant;

use flate2::{Decompress, FlushDecompress};
use serde_json::{Value, json};

use crate::frame::{self, Frame};
use crate::http_client::{ACCEPT, Response, UPGRADE, read_response, request};
use crate::wire::{Ending, PATIENCE, Wire};

/// What a WebSocket application gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

pub(crate) struct Client {
    wire: Wire,
    /// What the server agreed to, if compression was offered.
    extensions: Option<String>,
    /// The window of compressed messages that came before.
    window: Decompress,
}

impl Client {
    /// Sends the handshake over `wire` and reads the answer, which may be a refusal.
    pub(crate) fn upgrade(
        mut wire: Wire,
        address: SocketAddr,
        path: &str,
        headers: &str,
    ) -> Result<Self, Response> {
        wire.send(request("GET", address, path, &format!("{UPGRADE}{headers}")).as_bytes());
        let response = read_response(&mut wire, "GET");
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        let extensions = response.header("sec-websocket-extensions");
        assert!(
            extensions.is_none() || headers.contains("Extensions"),
            "nothing was offered"
        );
        Ok(Self {
            extensions: extensions.map(ToOwned::to_owned),
            ..Self::after_upgrade(wire)
        })
    }

    /// What was agreed on, as the server says it.
    pub(crate) fn extensions(&self) -> Option<&str> {
        self.extensions.as_deref()
    }

    /// Takes this window, empty, for the messages to come.
    pub(crate) fn forget_messages(&mut self, window_bits: u8) {
        self.window = Decompress::new_with_window_bits(false, window_bits);
    }

    /// Takes over a connection whose handshake has been read.
    pub(crate) fn after_upgrade(wire: Wire) -> Self {
        Self {
            wire,
            extensions: None,
            window: Decompress::new(false),
        }
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.wire.local_port()
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    // Sending.

    pub(crate) fn send(&mut self, frame: &Frame) {
        self.wire.send(&frame.encode());
    }

    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) {
        self.send(&Frame::new(frame::TEXT, text));
    }

    /// A whole message, compressed by itself.
    pub(crate) fn deflated(&mut self, opcode: u8, message: impl AsRef<[u8]>) {
        self.send(&Frame::deflated(opcode, frame::deflate(message)));
    }

    pub(crate) fn json(&mut self, value: &Value) {
        self.text(value.to_string());
    }

    pub(crate) fn say(&mut self, name: &str, text: &str) {
        self.json(&json!({"type": "chat", "name": name, "text": text}));
    }

    pub(crate) fn say_with_cid(&mut self, text: &str, cid: &str) {
        self.json(&json!({"type": "chat", "name": "Alice", "text": text, "cid": cid}));
    }

    // Receiving.

    /// The next frame, whatever it is; nothing is answered.
    pub(crate) fn try_frame(&mut self, deadline: Instant) -> Result<Frame, Ending> {
        loop {
            if let Some((frame, length)) = Frame::decode(self.wire.unread()) {
                self.wire.take(length);
                return Ok(frame);
            }
            self.wire.fill(deadline)?;
        }
    }

    pub(crate) fn next_frame(&mut self) -> Frame {
        let frame = self.try_frame(Instant::now() + PATIENCE);
        frame.unwrap_or_else(|ending| panic!("{ending:?} instead of a frame"))
    }

    /// The same but for pings, the first of which may come at any time; they are answered.
    pub(crate) fn next_frame_but_pings(&mut self) -> Frame {
        loop {
            let frame = self.next_frame();
            if frame.opcode != frame::PING {
                return frame;
            }
            self.send(&Frame::new(frame::PONG, frame.payload));
        }
    }

    /// The next message; pings are answered on the way, as every WebSocket library does.
    pub(crate) fn try_message(&mut self, deadline: Instant) -> Result<Message, Ending> {
        let mut opcode = frame::CONTINUATION;
        let mut payload = Vec::new();
        let mut deflated = false;
        loop {
            let frame = self.try_frame(deadline)?;
            let is_new = matches!(frame.opcode, frame::TEXT | frame::BINARY);
            assert!(
                !frame.deflated || is_new && self.extensions.is_some(),
                "{frame:?}"
            );
            deflated |= frame.deflated;
            match frame.opcode {
                frame::PING => self.send(&Frame::new(frame::PONG, frame.payload)),
                frame::PONG => return Ok(Message::Pong(frame.payload)),
                frame::CLOSE => return Ok(Message::Close(close_code(&frame))),
                first_or_more => {
                    opcode |= first_or_more;
                    payload.extend(frame.payload);
                    if frame.last && deflated {
                        return Ok(whole_message(opcode, self.inflate(&payload)));
                    }
                    if frame.last {
                        return Ok(whole_message(opcode, payload));
                    }
                }
            }
        }
    }

    /// A message that may refer to those before it.
    pub(crate) fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(1 << 20);
        for part in [payload, &[0x00, 0x00, 0xFF, 0xFF]] {
            let before = self.window.total_in();
            self.window
                .decompress_vec(part, &mut message, FlushDecompress::Sync)
                .expect("what can be inflated");
            assert_eq!(self.window.total_in() - before, part.len() as u64);
        }
        message
    }

    pub(crate) fn message(&mut self) -> Message {
        let message = self.try_message(Instant::now() + PATIENCE);
        message.unwrap_or_else(|ending| panic!("{ending:?} instead of a message"))
    }

    pub(crate) fn next_text(&mut self) -> String {
        match self.message() {
            Message::Text(text) => text,
            other => panic!("{other:?} instead of a text message"),
        }
    }

    pub(crate) fn next_json(&mut self) -> Value {
        let text = self.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The next message of this `type`; the room's notices (`system`) that come before it are passed over.
    pub(crate) fn next_of_type(&mut self, kind: &str) -> Value {
        loop {
            let value = self.next_json();
            if value["type"] == kind {
                return value;
            }
            assert_eq!(value["type"], "system", "waiting for {kind}");
        }
    }

    /// The next message of one of these types, whatever else comes before it.
    pub(crate) fn next_of_type_among(&mut self, kinds: &[&str]) -> Value {
        loop {
            let value = self.next_json();
            if kinds.iter().any(|kind| value["type"] == *kind) {
                return value;
            }
        }
    }

    /// Every answer that the server had for this client when it read a ping sent now, and perhaps some of what the
    /// room said: no waiting, no sleeping. What this client itself has just caused must have been answered first,
    /// since a server may reply to all that it read at once before it broadcasts what was in it.
    pub(crate) fn answers_so_far(&mut self) -> Vec<Value> {
        self.send(&Frame::new(frame::PING, "so far?"));
        let mut values = Vec::new();
        loop {
            match self.message() {
                Message::Text(text) => values.push(serde_json::from_str(&text).expect("JSON")),
                Message::Pong(payload) => {
                    assert_eq!(payload, b"so far?");
                    return values;
                }
                other => panic!("{other:?} instead of a text message or the pong"),
            }
        }
    }

    /// What the room has said so far: all that comes before a message of this client's own, since the room has one
    /// order for all. The message uses this client's rate limit up, and an id.
    pub(crate) fn heard_so_far(&mut self) -> Vec<Value> {
        let own = format!("so far? {}", self.local_port());
        self.say("Fence", &own);
        let mut values = Vec::new();
        loop {
            let value = self.next_json();
            if value["text"] == own {
                return values;
            }
            values.push(value);
        }
    }

    // Ending.

    /// Reads on until the server's Close, whose code it returns.
    pub(crate) fn await_close(&mut self) -> Option<u16> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_message(deadline) {
                Ok(Message::Close(code)) => return code,
                Ok(_) => {}
                Err(ending) => panic!("{ending:?} instead of a Close"),
            }
        }
    }

    /// The closing handshake, begun by the server, which then ends the connection.
    pub(crate) fn expect_close(&mut self, code: u16) {
        assert_eq!(
            self.await_close(),
            Some(code),
            "the code of the server's Close"
        );
        // After an error the server may be gone before it reads this.
        let _ = self.wire.try_send(&Frame::close(code, "").encode());
        self.expect_nothing_more();
    }

    /// What follows a Close: no frame, but the end of the connection.
    pub(crate) fn expect_nothing_more(&mut self) {
        let after = self.try_frame(Instant::now() + PATIENCE);
        assert!(
            matches!(after, Err(Ending::Closed | Ending::Reset)),
            "{after:?} after the Close"
        );
    }

    /// The closing handshake, begun by the client; the server ends the connection.
    pub(crate) fn leave(mut self) {
        self.send(&Frame::close(1000, ""));
        assert_eq!(
            self.await_close(),
            Some(1000),
            "the code of the server's Close"
        );
        self.expect_nothing_more();
    }

    pub(crate) fn vanish(self) {
        self.wire.vanish();
    }
}

pub(crate) fn close_code(frame: &Frame) -> Option<u16> {
    frame
        .payload
        .first_chunk()
        .map(|code| u16::from_be_bytes(*code))
}

fn whole_message(opcode: u8, payload: Vec<u8>) -> Message {
    match opcode {
        frame::TEXT => Message::Text(String::from_utf8(payload).expect("a text message in UTF-8")),
        frame::BINARY => Message::Binary(payload),
        _ => panic!("a message with opcode {opcode:#x}"),
    }
}

//! A server's frames, encoded once for many clients.
//!
//! RFC 6455 §5.1: frames from a server are not masked, so the same bytes serve every receiver. The header is
//! tungstenite's; what is ours is only that it is written in front of a payload in a buffer of our choosing.

use std::io::Cursor;

use bytes::BufMut;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Appends a text frame.
pub fn text(out: &mut impl BufMut, payload: &[u8]) {
    push(out, OpCode::Data(Data::Text), payload);
}

/// Appends a binary frame.
pub fn binary(out: &mut impl BufMut, payload: &[u8]) {
    push(out, OpCode::Data(Data::Binary), payload);
}

/// Appends a Ping without a payload.
pub fn ping(out: &mut impl BufMut) {
    push(out, OpCode::Control(Control::Ping), b"");
}

/// Appends a Close with its code and reason (RFC 6455 §5.5.1); the reason must fit a control frame, 123 bytes.
pub fn close(out: &mut impl BufMut, code: u16, reason: &str) {
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    push(out, OpCode::Control(Control::Close), &payload);
}

/// How much of `bytes`, from the start, is whole frames: what can be read without waiting for more. A frame that claims
/// over `max_payload` bytes, or a header that is none, counts as whole, for there is nothing to wait for.
pub fn whole_frames(bytes: &[u8], max_payload: usize) -> usize {
    let mut whole = 0;
    while whole < bytes.len() {
        let mut header = Cursor::new(&bytes[whole..]);
        match FrameHeader::parse(&mut header) {
            Ok(Some((_, length))) => {
                let after_header = bytes.len() as u64 - whole as u64 - header.position();
                if length > max_payload as u64 {
                    return bytes.len();
                } else if length > after_header {
                    return whole;
                }
                // It lies within the bytes, so it fits.
                whole += usize::try_from(header.position() + length).unwrap_or(bytes.len());
            }
            Ok(None) => return whole,
            Err(_) => return bytes.len(),
        }
    }
    whole
}

fn push(out: &mut impl BufMut, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    header
        .format(payload.len() as u64, &mut out.writer())
        .expect("writing to memory does not fail");
    out.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_grow_with_the_payload() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = Vec::new();
            text(&mut out, &vec![b'x'; length]);
            assert_eq!(out.len(), header + length, "{length}");
            assert_eq!(out[0], 0x81, "final, text, no reserved bit");
            assert_eq!(out[1] & 0x80, 0, "not masked");
        }
    }

    #[test]
    fn only_whole_frames_are_counted() {
        let mut bytes = Vec::new();
        text(&mut bytes, b"one");
        ping(&mut bytes);
        let whole = bytes.len();
        text(&mut bytes, &[b'x'; 300]);
        for cut in whole..bytes.len() {
            assert_eq!(whole_frames(&bytes[..cut], 1000), whole);
        }
        assert_eq!(whole_frames(&bytes, 1000), bytes.len());
        assert_eq!(
            whole_frames(&bytes[..whole + 4], 299),
            whole + 4,
            "too large: nothing to wait for"
        );
        assert_eq!(
            whole_frames(&[0x83, 0x80, 1, 2, 3, 4], 1000),
            6,
            "no such opcode"
        );
    }

    #[test]
    fn a_close_carries_its_code() {
        let mut out = Vec::new();
        close(&mut out, 1001, "bye");
        assert_eq!(out, [0x88, 5, 0x03, 0xE9, b'b', b'y', b'e']);
    }
}

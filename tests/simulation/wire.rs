//! The client's side of the wire: requests and masked frames out, answers and plain frames in.

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
/// In place of a length: it follows in two bytes, or in eight.
const MEDIUM: u8 = 126;
const LONG: u8 = 127;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A whole masked frame.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FIN | opcode];
    match payload.len() {
        length @ 0..126 => bytes.push(MASKED | u8::try_from(length).expect("below 126")),
        length @ 126..0x1_0000 => {
            bytes.push(MASKED | MEDIUM);
            bytes.extend(u16::try_from(length).expect("two bytes").to_be_bytes());
        }
        length => {
            bytes.push(MASKED | LONG);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

pub(crate) fn upgrade(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// What stands at the front of a client's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Frame(u8, Vec<u8>),
    /// The status of an answer, and its body.
    Answer(u16, String),
}

/// Takes a whole frame off the front.
pub(crate) fn take_frame(input: &mut Vec<u8>) -> Option<Heard> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    assert!(
        first & 0x70 == 0 && second & MASKED == 0,
        "a server's frame: {first:#x} {second:#x}"
    );
    let (start, length) = match second {
        MEDIUM => (
            4,
            u16::from_be_bytes(input.get(2..4)?.try_into().expect("two")).into(),
        ),
        LONG => {
            let length = u64::from_be_bytes(input.get(2..10)?.try_into().expect("eight"));
            (10, usize::try_from(length).expect("it fits the memory"))
        }
        length => (2, usize::from(length)),
    };
    let payload = input.get(start..start + length)?.to_vec();
    input.drain(..start + length);
    Some(Heard::Frame(first & 0x0F, payload))
}

/// Takes a whole answer off the front.
pub(crate) fn take_answer(input: &mut Vec<u8>) -> Option<Heard> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(input[..end].to_vec()).expect("a head is text");
    let status: u16 = head[9..12].parse().expect("a status");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().expect("a length"));
    let body = input.get(end..end + length)?.to_vec();
    input.drain(..end + length);
    Some(Heard::Answer(
        status,
        String::from_utf8_lossy(&body).into_owned(),
    ))
}

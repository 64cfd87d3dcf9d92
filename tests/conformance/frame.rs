//! WebSocket frames as bytes (RFC 6455, section 5.2), the forbidden ones included.

use flate2::{Compress, Compression, FlushCompress};

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

const FIN: u8 = 0x80;
/// RFC 7692: the message that begins here is compressed.
pub(crate) const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
/// In place of a length: it follows in two bytes, or in eight.
const MEDIUM: u8 = 0x7E;
const LONG: u8 = 0x7F;
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) last: bool,
    pub(crate) opcode: u8,
    /// It begins a compressed message.
    pub(crate) deflated: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            last: true,
            opcode,
            deflated: false,
            payload: payload.as_ref().to_vec(),
        }
    }

    /// A frame that begins a compressed message.
    pub(crate) fn deflated(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            deflated: true,
            ..Self::new(opcode, payload)
        }
    }

    /// A frame of a message that goes on in the next one.
    pub(crate) fn unfinished(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            last: false,
            ..Self::new(opcode, payload)
        }
    }

    pub(crate) fn close(code: u16, reason: &str) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    fn first_byte(&self) -> u8 {
        let fin = if self.last { FIN } else { 0 };
        let rsv1 = if self.deflated { RSV1 } else { 0 };
        fin | rsv1 | self.opcode
    }

    /// The bytes a client sends: masked.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_with_reserved_bits(0)
    }

    /// `reserved` is any of RSV1 to RSV3 (0x40, 0x20, 0x10); without an extension none has a meaning.
    pub(crate) fn encode_with_reserved_bits(&self, reserved: u8) -> Vec<u8> {
        let mut bytes = header(self.first_byte() | reserved, self.payload.len() as u64);
        bytes.extend(
            self.payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes
    }

    /// With the length in 2 or 8 bytes, whether it needs them or not.
    pub(crate) fn encode_with_length_in(&self, bytes: usize) -> Vec<u8> {
        let shortest = self.encode();
        let length = (self.payload.len() as u64).to_be_bytes();
        let form = if bytes == 2 { MEDIUM } else { LONG };
        let mut longer = vec![self.first_byte(), MASKED | form];
        longer.extend(&length[length.len() - bytes..]);
        let masked = self.payload.len() + MASK.len();
        longer.extend(&shortest[shortest.len() - masked..]);
        longer
    }

    /// What a client must not send: RFC 6455, 5.1 has the server close the connection.
    pub(crate) fn encode_unmasked(&self) -> Vec<u8> {
        let length = u8::try_from(self.payload.len())
            .ok()
            .filter(|length| *length < MEDIUM);
        let mut bytes = vec![self.first_byte(), length.expect("a short payload")];
        bytes.extend(&self.payload);
        bytes
    }

    /// The first frame of `bytes`, as a server sends it, and how many bytes it takes; `None` if it is not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        assert_eq!(first & 0x30, 0, "the server set a reserved bit");
        assert_eq!(second & MASKED, 0, "the server masked a frame");
        let (start, length) = match second {
            MEDIUM => (
                4,
                u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            ),
            LONG => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            short => (2, u64::from(short)),
        };
        let end = start + usize::try_from(length).expect("a length that fits in memory");
        let frame = Self {
            last: first & FIN != 0,
            opcode: first & 0x0F,
            deflated: first & RSV1 != 0,
            payload: bytes.get(start..end)?.to_vec(),
        };
        Some((frame, end))
    }
}

/// A message compressed by itself.
pub(crate) fn deflate(message: impl AsRef<[u8]>) -> Vec<u8> {
    let message = message.as_ref();
    let mut deflated = Vec::with_capacity(message.len() + 1024);
    Compress::new(Compression::default(), false)
        .compress_vec(message, &mut deflated, FlushCompress::Sync)
        .expect("any bytes");
    assert!(deflated.ends_with(&[0x00, 0x00, 0xFF, 0xFF]));
    deflated.truncate(deflated.len() - 4);
    deflated
}

/// The header of a masked frame that claims `length` bytes, whatever follows it.
pub(crate) fn header(first_byte: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..MEDIUM), _) => bytes.push(MASKED | short),
        (_, Ok(medium)) => {
            bytes.push(MASKED | MEDIUM);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(MASKED | LONG);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// The header of a whole message that claims `length` bytes.
pub(crate) fn claim(opcode: u8, length: u64) -> Vec<u8> {
    header(FIN | opcode, length)
}

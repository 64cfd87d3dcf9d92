//! Frames as a load generator needs them: headers parsed, payloads skipped.
//!
//! A server's frame costs a handful of instructions here, however long it is: the reader hands out its first
//! few bytes, enough to tell chat from system, and steps over the rest. Only a sampled client asks for whole
//! payloads.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Bytes of payload that are enough for [`Kind::of`]: `{"type": "c`.
pub(crate) const PEEK_BYTES: usize = 11;
/// The most payload that is ever gathered for a sampled client; longer messages are seen cut off.
pub(crate) const WHOLE_BYTES_MAX: usize = 64 * 1024;
/// RFC 6455, 5.5: a control frame has at most 125 bytes of payload. A ping's must be sent back, so all is kept.
const CONTROL_PAYLOAD_MAX: usize = 125;

/// What a message of part 1 of the protocol is, told by the start of its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    System,
    Metric,
    Error,
    Other,
}

impl Kind {
    /// `{"type":"…` as most servers write it, or `{"type": "…` as Python's `json.dumps` does.
    #[inline]
    pub(crate) fn of(payload: &[u8]) -> Self {
        // Eight bytes compare as one word.
        match payload.split_first_chunk() {
            Some((br#"{"type":"#, [b'"', initial, ..] | [b' ', b'"', initial, ..])) => {
                match initial {
                    b'c' => Self::Chat,
                    b's' => Self::System,
                    b'm' => Self::Metric,
                    b'e' => Self::Error,
                    _ => Self::Other,
                }
            }
            _ => Self::Other,
        }
    }
}

/// One frame's opcode and as much of its payload as was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: OpCode,
    pub(crate) payload: &'a [u8],
}

/// A frame no correct peer sends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    #[error("a frame has reserved bits or a reserved opcode")]
    Reserved,
    #[error("a message came in fragments")]
    Fragmented,
    #[error("a frame is masked where it must not be, or is not where it must be")]
    Masking,
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
}

/// The sender of the frames: RFC 6455, 5.1 has clients mask and servers not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Server,
    Client,
}

/// Finds the frames in a stream of bytes that arrives in pieces.
#[derive(Debug)]
pub(crate) struct FrameReader {
    from: From,
    payload_wanted: usize,
    /// Payload of the current frame that is still to come and that nobody wants.
    skip: u64,
    /// The start of a frame that was cut off before its header and wanted payload were whole.
    carry: Vec<u8>,
}

/// A frame's header and wanted payload, or how many bytes it takes to have them.
enum Head {
    Whole {
        opcode: OpCode,
        mask: Option<[u8; 4]>,
        payload_start: usize,
        payload_end: usize,
        frame_len: u64,
    },
    Needs(usize),
}

impl FrameReader {
    /// A reader that hands out at most `payload_wanted` bytes of each data frame.
    pub(crate) fn new(from: From, payload_wanted: usize) -> Self {
        Self {
            from,
            payload_wanted,
            skip: 0,
            carry: Vec::new(),
        }
    }

    /// A server's first frame in `bytes`: its opcode, where its payload begins, and its length; none where its header is
    /// not whole yet.
    pub(crate) fn server_frame(bytes: &[u8]) -> Option<Result<(OpCode, usize, usize), FrameError>> {
        let opcode = match opcode_of(*bytes.first()?) {
            // The first byte tells that much already.
            Ok(control @ OpCode::Control(_)) => return Some(Ok((control, 0, 0))),
            Ok(data) => data,
            Err(error) => return Some(Err(error)),
        };
        match Self::new(From::Server, 0).head(bytes) {
            Err(error) => Some(Err(error)),
            Ok(Head::Needs(_)) => None,
            Ok(Head::Whole {
                payload_start,
                frame_len,
                ..
            }) => {
                let len = usize::try_from(frame_len).unwrap_or(usize::MAX);
                Some(Ok((opcode, payload_start, len)))
            }
        }
    }

    /// How many bytes from here the next frame begins, where that is known.
    pub(crate) fn to_next_frame(&self) -> Option<usize> {
        let skip = usize::try_from(self.skip).ok()?;
        self.carry.is_empty().then_some(skip)
    }

    /// Forgets the stream so far: what comes next is the beginning of another.
    pub(crate) fn restart(&mut self) {
        self.skip = 0;
        self.carry.clear();
    }

    /// Takes the next `bytes` of the stream and calls `on_frame` for each frame whose wanted part is whole.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_frame: impl FnMut(Frame<'_>),
    ) -> Result<(), FrameError> {
        if self.skip > 0 {
            bytes = self.step_over(bytes);
        }
        if !self.carry.is_empty() {
            bytes = self.complete_carried(bytes, &mut on_frame)?;
        }
        while !bytes.is_empty() {
            match self.head(bytes)? {
                Head::Needs(_) => {
                    self.carry.extend_from_slice(bytes);
                    break;
                }
                Head::Whole {
                    opcode,
                    mask,
                    payload_start,
                    payload_end,
                    frame_len,
                } => {
                    let payload = &bytes[payload_start..payload_end];
                    match mask {
                        None => on_frame(Frame { opcode, payload }),
                        Some(key) => hand_out_unmasked(opcode, key, payload, &mut on_frame),
                    }
                    let Some(rest) = usize::try_from(frame_len)
                        .ok()
                        .and_then(|len| bytes.get(len..))
                    else {
                        self.skip = frame_len - bytes.len() as u64;
                        break;
                    };
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    fn step_over<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let here = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        self.skip -= here as u64;
        &bytes[here..]
    }

    /// Adds to the carried start of a frame no more than it needs; the rest of `bytes` is returned.
    fn complete_carried<'a>(
        &mut self,
        mut bytes: &'a [u8],
        on_frame: &mut impl FnMut(Frame<'_>),
    ) -> Result<&'a [u8], FrameError> {
        loop {
            match self.head(&self.carry)? {
                Head::Needs(len) => {
                    let missing = len - self.carry.len();
                    let (now, later) = bytes.split_at(missing.min(bytes.len()));
                    self.carry.extend_from_slice(now);
                    bytes = later;
                    if now.len() < missing {
                        return Ok(bytes);
                    }
                }
                Head::Whole {
                    opcode,
                    mask,
                    payload_start,
                    payload_end,
                    frame_len,
                } => {
                    let payload = &self.carry[payload_start..payload_end];
                    match mask {
                        None => on_frame(Frame { opcode, payload }),
                        Some(key) => hand_out_unmasked(opcode, key, payload, on_frame),
                    }
                    self.skip = frame_len - self.carry.len() as u64;
                    self.carry.clear();
                    return Ok(self.step_over(bytes));
                }
            }
        }
    }

    /// RFC 6455, 5.2, written out: tungstenite's parser goes through `Read`, too dear at millions a second.
    /// The tests hold it against that parser.
    #[inline]
    fn head(&self, bytes: &[u8]) -> Result<Head, FrameError> {
        let &[first, second, ..] = bytes else {
            return Ok(Head::Needs(2));
        };
        let opcode = opcode_of(first)?;
        let masked = second & 0x80 != 0;
        if masked != (self.from == From::Client) {
            return Err(FrameError::Masking);
        }
        let (mask_start, payload_len) = match second & 0x7f {
            126 => match bytes.get(2..4) {
                Some(len) => (
                    4,
                    u64::from(u16::from_be_bytes(len.try_into().expect("two bytes"))),
                ),
                None => return Ok(Head::Needs(4)),
            },
            127 => match bytes.get(2..10) {
                Some(len) => (10, u64::from_be_bytes(len.try_into().expect("eight bytes"))),
                None => return Ok(Head::Needs(10)),
            },
            short => (2, u64::from(short)),
        };
        let wanted = match opcode {
            OpCode::Control(_) if payload_len > CONTROL_PAYLOAD_MAX as u64 => {
                return Err(FrameError::ControlTooLong);
            }
            OpCode::Control(_) => CONTROL_PAYLOAD_MAX,
            OpCode::Data(_) => self.payload_wanted,
        };
        let payload_start = mask_start + if masked { 4 } else { 0 };
        let payload_end =
            payload_start + usize::try_from(payload_len).map_or(wanted, |len| len.min(wanted));
        if bytes.len() < payload_end {
            return Ok(Head::Needs(payload_end));
        }
        let mask = masked.then(|| {
            bytes[mask_start..payload_start]
                .try_into()
                .expect("four bytes")
        });
        Ok(Head::Whole {
            opcode,
            mask,
            payload_start,
            payload_end,
            frame_len: payload_start as u64 + payload_len,
        })
    }
}

fn hand_out_unmasked(
    opcode: OpCode,
    key: [u8; 4],
    payload: &[u8],
    on_frame: &mut impl FnMut(Frame<'_>),
) {
    let mut unmasked = payload.to_vec();
    apply_mask(&mut unmasked, key);
    on_frame(Frame {
        opcode,
        payload: &unmasked,
    });
}

/// The opcode of a frame that is whole in itself: no reserved bits, not a fragment.
#[inline]
fn opcode_of(first: u8) -> Result<OpCode, FrameError> {
    match first {
        0x81 => Ok(OpCode::Data(Data::Text)),
        0x82 => Ok(OpCode::Data(Data::Binary)),
        0x88 => Ok(OpCode::Control(Control::Close)),
        0x89 => Ok(OpCode::Control(Control::Ping)),
        0x8a => Ok(OpCode::Control(Control::Pong)),
        0x00..=0x0f | 0x80 => Err(FrameError::Fragmented),
        _ => Err(FrameError::Reserved),
    }
}

/// Appends one frame; with a `mask` as a client sends it.
pub(crate) fn encode(opcode: OpCode, mask: Option<[u8; 4]>, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        mask,
        ..FrameHeader::default()
    };
    header
        .format(payload.len() as u64, out)
        .expect("writing to memory does not fail");
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key);
    }
}

fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const PING: OpCode = OpCode::Control(Control::Ping);
    const KEY: [u8; 4] = [1, 2, 3, 4];

    fn stream(from: From, payloads: &[(OpCode, Vec<u8>)]) -> Vec<u8> {
        let mask = (from == From::Client).then_some(KEY);
        let mut bytes = Vec::new();
        for (opcode, payload) in payloads {
            encode(*opcode, mask, payload, &mut bytes);
        }
        bytes
    }

    fn read(
        from: From,
        wanted: usize,
        pieces: &[&[u8]],
    ) -> Result<Vec<(OpCode, Vec<u8>)>, FrameError> {
        let mut reader = FrameReader::new(from, wanted);
        let mut frames = Vec::new();
        for piece in pieces {
            reader.feed(piece, |frame| {
                frames.push((frame.opcode, frame.payload.to_vec()));
            })?;
        }
        Ok(frames)
    }

    fn samples() -> Vec<(OpCode, Vec<u8>)> {
        let lengths = [0, 1, 11, 125, 126, 127, 300, 65_535, 65_536];
        let mut samples: Vec<_> = lengths.iter().map(|&len| (TEXT, vec![b'x'; len])).collect();
        samples.insert(3, (PING, b"are you there?".to_vec()));
        samples
    }

    #[test]
    fn whole_payloads_come_back_from_either_side() {
        for from in [From::Server, From::Client] {
            let bytes = stream(from, &samples());
            assert_eq!(read(from, usize::MAX / 2, &[&bytes]).unwrap(), samples());
        }
    }

    #[test]
    fn every_cut_of_the_stream_gives_the_same_frames() {
        let frames = [
            (TEXT, vec![b'a'; 3]),
            (PING, vec![b'p'; 20]),
            (TEXT, vec![b'b'; 130]),
            (TEXT, vec![]),
        ];
        for wanted in [0, 2, PEEK_BYTES, 1_000] {
            let bytes = stream(From::Server, &frames);
            let expected = read(From::Server, wanted, &[&bytes]).unwrap();
            assert_eq!(expected.len(), frames.len());
            for first in 0..bytes.len() {
                for second in first..bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(
                        read(From::Server, wanted, &pieces).unwrap(),
                        expected,
                        "cut at {first} and {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn lean_reader_hands_out_the_start_of_data_and_all_of_a_ping() {
        let bytes = stream(From::Server, &samples());
        for (got, sent) in read(From::Server, 5, &[&bytes])
            .unwrap()
            .iter()
            .zip(samples())
        {
            let kept = if sent.0 == PING {
                sent.1.len()
            } else {
                sent.1.len().min(5)
            };
            assert_eq!(got.1, sent.1[..kept]);
        }
    }

    #[test]
    fn headers_agree_with_tungstenite() {
        for first in 0..=255u8 {
            for second in [0, 1, 125, 126, 127] {
                let bytes = [first, second, 0, 200, 0, 0, 0, 0, 0, 200];
                let theirs = FrameHeader::parse(&mut Cursor::new(bytes)).ok().flatten();
                let head = FrameReader::new(From::Server, 0).head(&bytes);
                let Ok(Head::Whole {
                    opcode,
                    frame_len,
                    payload_start,
                    ..
                }) = head
                else {
                    continue;
                };
                let (header, len) = theirs.expect("what this reader takes, tungstenite takes");
                assert_eq!(opcode, header.opcode);
                assert_eq!(frame_len - payload_start as u64, len);
                assert!(header.is_final && !header.rsv1 && !header.rsv2 && !header.rsv3);
            }
        }
    }

    #[test]
    fn what_no_correct_server_sends_is_an_error() {
        let refused = |bytes: &[u8]| read(From::Server, 0, &[bytes]).unwrap_err();
        assert_eq!(refused(&[0x01, 1]), FrameError::Fragmented);
        assert_eq!(refused(&[0xc1, 1]), FrameError::Reserved);
        assert_eq!(refused(&[0x83, 1]), FrameError::Reserved);
        assert_eq!(refused(&[0x81, 0x81]), FrameError::Masking);
        assert_eq!(refused(&[0x89, 126, 0, 126]), FrameError::ControlTooLong);
        assert_eq!(
            read(From::Client, 0, &[&[0x81, 1]]).unwrap_err(),
            FrameError::Masking
        );
    }

    #[test]
    fn kind_is_told_with_and_without_the_space() {
        assert_eq!(Kind::of(br#"{"type":"chat","name":"#), Kind::Chat);
        assert_eq!(Kind::of(br#"{"type": "chat""#), Kind::Chat);
        assert_eq!(
            Kind::of(&br#"{"type": "system""#[..PEEK_BYTES]),
            Kind::System
        );
        assert_eq!(Kind::of(br#"{"type":"metric"#), Kind::Metric);
        assert_eq!(Kind::of(br#"{"type":"error""#), Kind::Error);
        assert_eq!(Kind::of(br#"{"type":"ack""#), Kind::Other);
        assert_eq!(Kind::of(br#"{"name":"#), Kind::Other);
    }
}

//! A server's frames, encoded once for many clients, and a look at a client's before they are whole.
//!
//! RFC 6455 §5.1: frames from a server are not masked, so the same bytes serve every receiver. The header is
//! tungstenite's; what is ours is only that it is written in front of a payload in a buffer of our choosing.

use std::io::Cursor;

use bytes::BufMut;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::deflate::deflated_bytes_max;

/// The largest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL_PAYLOAD: u64 = 125;
/// Unmasked at a time, on the stack; a multiple of the mask's length.
const UNMASKED_CHUNK: usize = 1024;

/// Appends a text frame.
pub fn text(out: &mut impl BufMut, payload: &[u8]) {
    push(out, OpCode::Data(Data::Text), Coding::Plain, payload);
}

/// Appends a binary frame.
pub fn binary(out: &mut impl BufMut, payload: &[u8]) {
    push(out, OpCode::Data(Data::Binary), Coding::Plain, payload);
}

/// Appends a text frame whose payload is compressed.
pub fn deflated_text(out: &mut impl BufMut, payload: &[u8]) {
    push(out, OpCode::Data(Data::Text), Coding::Deflated, payload);
}

/// Appends a binary frame whose payload is compressed.
pub fn deflated_binary(out: &mut impl BufMut, payload: &[u8]) {
    push(out, OpCode::Data(Data::Binary), Coding::Deflated, payload);
}

/// Appends a Ping without a payload.
pub fn ping(out: &mut impl BufMut) {
    push(out, OpCode::Control(Control::Ping), Coding::Plain, b"");
}

/// Appends a Close with its code and reason (RFC 6455 §5.5.1); the reason must fit a control frame, 123 bytes.
pub fn close(out: &mut impl BufMut, code: CloseCode, reason: &str) {
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&u16::from(code).to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    push(
        out,
        OpCode::Control(Control::Close),
        Coding::Plain,
        &payload,
    );
}

/// Why a frame is refused by its header, or by what has come of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 §5.2: the minimal number of bytes must be used to encode the length.
    #[error("a length that is not in its shortest form")]
    LongLength,
    /// §5.1: a server must close a connection that sends unmasked frames.
    #[error("an unmasked frame")]
    Unmasked,
    /// §5.2: no extension gives the reserved bits a meaning, but for the first with which a compressed message begins.
    #[error("a reserved bit")]
    ReservedBit,
    /// §5.5: control frames are short and in one piece.
    #[error("a control frame that is too long or in fragments")]
    BadControl,
    /// §5.4: a continuation of nothing, or a message within a message.
    #[error("a fragment out of turn")]
    OutOfTurn,
    /// §8.1: text that cannot become UTF-8, whatever follows.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A compressed message that would be too long in any case. Of others that is tungstenite's to say.
    #[error("a compressed message that is too long")]
    TooLong,
}

/// How far a client's bytes can be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Inspected {
    /// So many bytes, from the start, are frames that can be read without waiting for more. One that claims too much, or
    /// has no such opcode, counts with all that follows it: there is nothing to wait for.
    pub whole: usize,
    /// What is wrong with the frame behind them.
    pub violation: Option<Violation>,
}

/// A look at one client's frames before they are whole, so that what is wrong is known as soon as it is seen. Of a
/// message that comes in one piece only the header is looked at; tungstenite checks the rest.
#[derive(Debug, Default)]
pub struct Inspector {
    /// Whether the client may send compressed messages.
    deflate: bool,
    /// The kind of the message whose last fragment has not come, and its coding.
    under_way: Option<(Kind, Coding)>,
    /// The text of that message, that of the frame which is not whole included.
    text: Utf8Prefix,
    /// How much of the payload of the frame that is not whole has been looked at.
    checked: usize,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// How a message's payload is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Plain,
    /// Compressed: the first reserved bit of its first frame is set (RFC 7692 §6).
    Deflated,
}

/// What the next bytes are.
enum Next {
    /// A frame of so many bytes.
    Frame(usize),
    /// The beginning of one.
    Part,
    /// What tungstenite refuses without waiting for more.
    Refused,
}

impl Inspector {
    /// One for a client that has, or has not, agreed on compression.
    pub fn new(deflate: bool) -> Self {
        Self {
            deflate,
            ..Self::default()
        }
    }

    /// Whether the client may send compressed messages.
    pub fn is_deflate(&self) -> bool {
        self.deflate
    }

    /// Whether a compressed message has begun whose last fragment has not come.
    pub fn is_in_deflated(&self) -> bool {
        matches!(self.under_way, Some((_, Coding::Deflated)))
    }

    /// Whether a message has begun whose last fragment has not come.
    pub fn is_in_message(&self) -> bool {
        self.under_way.is_some()
    }

    /// Looks at `bytes`, which begin where the whole frames of the last look ended.
    pub fn inspect(&mut self, bytes: &[u8], max_payload: usize) -> Inspected {
        let mut whole = 0;
        let violation = loop {
            match self.look(&bytes[whole..], max_payload) {
                Ok(Next::Frame(length)) => whole += length,
                Ok(Next::Part) => break None,
                Ok(Next::Refused) => {
                    whole = bytes.len();
                    break None;
                }
                Err(violation) => break Some(violation),
            }
        };
        Inspected { whole, violation }
    }

    fn look(&mut self, bytes: &[u8], max_payload: usize) -> Result<Next, Violation> {
        let mut cursor = Cursor::new(bytes);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(Next::Part),
            Err(_) => return Ok(Next::Refused),
        };
        let header_length = usize::try_from(cursor.position()).unwrap_or(bytes.len());
        if header_length != header.len(length) {
            return Err(Violation::LongLength);
        }
        let Some(mask) = header.mask else {
            return Err(Violation::Unmasked);
        };
        let message = self.check_header(&header, length)?;
        let deflated = message.is_some_and(|(_, coding)| coding == Coding::Deflated);
        let max_payload = if deflated {
            deflated_bytes_max(max_payload)
        } else {
            max_payload
        };
        let length = match usize::try_from(length) {
            Ok(length) if length <= max_payload => length,
            _ if deflated => return Err(Violation::TooLong),
            _ => return Ok(Next::Refused),
        };
        let come = &bytes[header_length..];
        if let Some(payload) = come.get(..length) {
            self.end_frame(message, header.is_final, payload, mask)?;
            Ok(Next::Frame(header_length + length))
        } else {
            if message == Some((Kind::Text, Coding::Plain)) {
                self.check_text(come, mask)?;
            }
            Ok(Next::Part)
        }
    }

    /// The kind and coding of the message that the frame belongs to; none for a control frame.
    fn check_header(
        &self,
        header: &FrameHeader,
        length: u64,
    ) -> Result<Option<(Kind, Coding)>, Violation> {
        let begins_message = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        let coding = match header.rsv1 {
            false => Coding::Plain,
            true if self.deflate && begins_message => Coding::Deflated,
            true => return Err(Violation::ReservedBit),
        };
        if header.rsv2 || header.rsv3 {
            return Err(Violation::ReservedBit);
        }
        match (header.opcode, self.under_way) {
            (OpCode::Control(_), _) if header.is_final && length <= MAX_CONTROL_PAYLOAD => Ok(None),
            (OpCode::Control(_), _) => Err(Violation::BadControl),
            (OpCode::Data(Data::Continue), Some(message)) => Ok(Some(message)),
            (OpCode::Data(Data::Text), None) => Ok(Some((Kind::Text, coding))),
            (OpCode::Data(Data::Binary), None) => Ok(Some((Kind::Binary, coding))),
            (OpCode::Data(_), _) => Err(Violation::OutOfTurn),
        }
    }

    fn end_frame(
        &mut self,
        message: Option<(Kind, Coding)>,
        is_final: bool,
        payload: &[u8],
        mask: [u8; 4],
    ) -> Result<(), Violation> {
        match message {
            None => {}
            Some(_) if is_final => *self = Self::new(self.deflate),
            Some(message) => {
                if message == (Kind::Text, Coding::Plain) {
                    self.check_text(payload, mask)?;
                }
                self.under_way = Some(message);
                self.checked = 0;
            }
        }
        Ok(())
    }

    /// Looks at what has not been looked at of a text frame's masked payload.
    fn check_text(&mut self, payload: &[u8], mask: [u8; 4]) -> Result<(), Violation> {
        let mut turned = mask;
        turned.rotate_left(self.checked % mask.len());
        let key = u32::from_ne_bytes(turned);
        for masked in payload[self.checked..].chunks(UNMASKED_CHUNK) {
            let mut clear = [0; UNMASKED_CHUNK];
            clear[..masked.len()].copy_from_slice(masked);
            for word in clear[..masked.len().next_multiple_of(mask.len())]
                .as_chunks_mut()
                .0
            {
                *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
            }
            if !self.text.accepts(&clear[..masked.len()]) {
                return Err(Violation::NotUtf8);
            }
        }
        self.checked = payload.len();
        Ok(())
    }
}

/// What whole frames of a client are to be read by.
#[derive(Debug, PartialEq, Eq)]
pub enum Run<'a> {
    /// Frames of messages as they are, and control frames: tungstenite reads them.
    Plain(&'a [u8]),
    /// One frame of a compressed message.
    Deflated(Fragment<'a>),
}

/// A frame of a compressed message.
#[derive(Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Only the first says what the message is.
    pub kind: Option<Kind>,
    /// Whether it is the last.
    pub is_final: bool,
    masked: &'a [u8],
    mask: [u8; 4],
}

impl Fragment<'_> {
    /// Appends the payload, not masked any more.
    pub fn unmask(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.masked);
        let (words, rest) = out[start..].as_chunks_mut();
        let key = u32::from_ne_bytes(self.mask);
        for word in words {
            *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(self.mask) {
            *byte ^= key;
        }
    }
}

/// Splits off the first run of inspected frames; `in_deflated` where they begin within a compressed message.
pub fn split_run(frames: &[u8], in_deflated: bool) -> (Run<'_>, &[u8]) {
    let mut at = 0;
    while at < frames.len() {
        let mut cursor = Cursor::new(&frames[at..]);
        // What tungstenite refuses without looking further.
        let Ok(Some((header, length))) = FrameHeader::parse(&mut cursor) else {
            break;
        };
        let start = at + usize::try_from(cursor.position()).unwrap_or(frames.len());
        let end =
            usize::try_from(length).map_or(frames.len(), |length| start.saturating_add(length));
        let continues = header.opcode == OpCode::Data(Data::Continue);
        let deflated = header.rsv1 || continues && in_deflated;
        match frames.get(start..end) {
            Some(masked) if deflated && at == 0 => {
                let fragment = Fragment {
                    kind: match header.opcode {
                        OpCode::Data(Data::Text) => Some(Kind::Text),
                        OpCode::Data(Data::Binary) => Some(Kind::Binary),
                        _ => None,
                    },
                    is_final: header.is_final,
                    masked,
                    mask: header.mask.unwrap_or_default(),
                };
                return (Run::Deflated(fragment), &frames[end..]);
            }
            Some(_) if deflated => return (Run::Plain(&frames[..at]), &frames[at..]),
            Some(_) => at = end,
            None => break,
        }
    }
    (Run::Plain(frames), &[])
}

/// Text that comes in pieces, of which only a character that is not whole need be remembered.
#[derive(Debug, Default)]
struct Utf8Prefix {
    unfinished: [u8; 4],
    length: usize,
}

impl Utf8Prefix {
    /// Takes the next bytes; tells whether all so far can be the beginning of UTF-8.
    fn accepts(&mut self, mut bytes: &[u8]) -> bool {
        while self.length > 0 {
            let Some((first, rest)) = bytes.split_first() else {
                return true;
            };
            bytes = rest;
            self.unfinished[self.length] = *first;
            self.length += 1;
            match std::str::from_utf8(&self.unfinished[..self.length]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else {
            return true;
        };
        let unfinished = &bytes[error.valid_up_to()..];
        if error.error_len().is_some() {
            return false;
        }
        self.length = unfinished.len();
        self.unfinished[..self.length].copy_from_slice(unfinished);
        true
    }
}

fn push(out: &mut impl BufMut, opcode: OpCode, coding: Coding, payload: &[u8]) {
    let header = FrameHeader {
        opcode,
        rsv1: coding == Coding::Deflated,
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
    use proptest::prelude::*;

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

    /// A client's frame.
    fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
        let header = FrameHeader {
            is_final: first_byte & 0x80 != 0,
            opcode: OpCode::from(first_byte & 0x0F),
            mask: Some(MASK),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header
            .format(payload.len() as u64, &mut bytes)
            .expect("written to memory");
        bytes.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        bytes
    }

    /// What a first look says.
    fn inspect_at(bytes: &[u8], max_payload: usize) -> Inspected {
        Inspector::default().inspect(bytes, max_payload)
    }

    fn readable(whole: usize) -> Inspected {
        Inspected {
            whole,
            violation: None,
        }
    }

    #[test]
    fn only_whole_frames_are_counted() {
        let mut bytes = masked(0x81, b"one");
        bytes.extend(masked(0x89, b""));
        let whole = bytes.len();
        bytes.extend(masked(0x81, &[b'x'; 300]));
        for cut in whole..bytes.len() {
            assert_eq!(inspect_at(&bytes[..cut], 1000), readable(whole));
        }
        assert_eq!(inspect_at(&bytes, 1000), readable(bytes.len()));
        let claim = &bytes[..whole + 8];
        assert_eq!(
            inspect_at(claim, 299),
            readable(claim.len()),
            "too large: nothing to wait for"
        );
        assert_eq!(
            inspect_at(&[0x83, 0x80, 1, 2, 3, 4], 1000),
            readable(6),
            "no such opcode"
        );
    }

    #[test]
    fn what_a_header_says_is_enough() {
        let long_length = [
            vec![0x81, 0xFE, 0, 125, 0, 0, 0, 0],
            vec![0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0],
            vec![0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0],
            vec![0x8A, 0xFE, 0, 0, 0, 0, 0, 0],
        ];
        let headers = long_length
            .map(|header| (Violation::LongLength, header))
            .into_iter()
            .chain([
                (Violation::Unmasked, vec![0x81, 5]),
                (Violation::ReservedBit, vec![0xC1, 0x85, 0, 0, 0, 0]),
                (Violation::BadControl, vec![0x09, 0x85, 0, 0, 0, 0]),
                (Violation::BadControl, vec![0x89, 0xFE, 0, 126, 0, 0, 0, 0]),
                (Violation::OutOfTurn, vec![0x80, 0x85, 0, 0, 0, 0]),
            ]);
        for (violation, header) in headers {
            let before = masked(0x81, b"fine");
            assert_eq!(
                inspect_at(&[before.clone(), header].concat(), 100_000),
                Inspected {
                    whole: before.len(),
                    violation: Some(violation)
                }
            );
        }
    }

    proptest! {
        /// Against the standard library: whatever the text, its fragments and the pieces they come in, the violation is
        /// seen with the first byte after which no UTF-8 can follow, and not before.
        #[test]
        fn text_is_refused_at_the_first_byte_that_cannot_be(
            text in prop::collection::vec(prop_oneof!["[a-z\u{e9}\u{4e16}\u{1f980}]{0,9}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..3)], 0..8),
            fragment in 1_usize..20,
        ) {
            let text = text.concat();
            let cannot_be = |length: usize| std::str::from_utf8(&text[..length]).is_err_and(|error| error.error_len().is_some());
            let expected = (1..=text.len()).find(|length| cannot_be(*length));
            let mut inspector = Inspector::default();
            let (mut held, mut seen, mut refused) = (Vec::new(), 0, None);
            'all: for (index, part) in text.chunks(fragment).enumerate() {
                let frame = masked(u8::from(index == 0), part);
                let header_length = frame.len() - part.len();
                for (at, byte) in frame.iter().enumerate() {
                    held.push(*byte);
                    seen += usize::from(at >= header_length);
                    let inspected = inspector.inspect(&held, 1000);
                    held.drain(..inspected.whole);
                    if inspected.violation.is_some() {
                        refused = inspected.violation.map(|violation| (violation, seen));
                        break 'all;
                    }
                }
            }
            prop_assert_eq!(refused, expected.map(|at| (Violation::NotUtf8, at)));
        }
    }

    /// A message in fragments, whether it is compressed, and whether a Ping stands before its last one.
    type Sent = (Vec<Vec<u8>>, bool, bool);

    fn sent() -> impl Strategy<Value = Sent> {
        let fragment = prop::collection::vec(any::<u8>(), 0..20);
        let fragments = prop::collection::vec(fragment, 1..4);
        (fragments, any::<bool>(), any::<bool>())
    }

    /// The frames of a binary message, each with whether it belongs to a compressed one.
    fn frames((fragments, deflated, pinged): &Sent) -> Vec<(bool, Vec<u8>)> {
        let mut frames = Vec::new();
        for (index, fragment) in fragments.iter().enumerate() {
            let is_last = index + 1 == fragments.len();
            if is_last && *pinged {
                frames.push((false, masked(0x89, b"")));
            }
            let opcode = if index == 0 { 0x02 } else { 0x00 };
            let mut frame = masked(opcode | if is_last { 0x80 } else { 0 }, fragment);
            if index == 0 && *deflated {
                frame[0] |= 0x40;
            }
            frames.push((*deflated, frame));
        }
        frames
    }

    proptest! {
        /// However the bytes are cut on their way, each frame goes to its reader, whole and in order.
        #[test]
        fn compressed_messages_are_told_from_others(messages in prop::collection::vec(sent(), 0..10), piece in 1_usize..40) {
            let frames: Vec<_> = messages.iter().flat_map(frames).collect();
            let bytes = frames.iter().map(|(_, frame)| frame.as_slice()).collect::<Vec<_>>().concat();
            let mut inspector = Inspector::new(true);
            let (mut held, mut plain, mut deflated) = (Vec::new(), Vec::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                held.extend_from_slice(piece);
                let mut in_deflated = inspector.is_in_deflated();
                let Inspected { whole, violation } = inspector.inspect(&held, 1000);
                prop_assert_eq!(violation, None);
                let mut rest = &held[..whole];
                while !rest.is_empty() {
                    let (run, after) = split_run(rest, in_deflated);
                    match run {
                        Run::Plain(frames) => plain.extend_from_slice(frames),
                        Run::Deflated(fragment) => {
                            prop_assert_eq!(fragment.kind.is_none(), in_deflated);
                            in_deflated = !fragment.is_final;
                            fragment.unmask(&mut deflated);
                        }
                    }
                    prop_assert!(after.len() < rest.len());
                    rest = after;
                }
                prop_assert_eq!(in_deflated, inspector.is_in_deflated());
                held.drain(..whole);
            }
            prop_assert!(held.is_empty());
            let others = frames.iter().filter(|(deflated, _)| !deflated).map(|(_, frame)| frame.as_slice());
            prop_assert_eq!(plain, others.collect::<Vec<_>>().concat());
            let payloads = messages.iter().filter(|(_, deflated, _)| *deflated).map(|(fragments, ..)| fragments.concat());
            prop_assert_eq!(deflated, payloads.collect::<Vec<_>>().concat());
        }
    }

    #[test]
    fn a_close_carries_its_code() {
        let mut out = Vec::new();
        close(&mut out, CloseCode::Away, "bye");
        assert_eq!(out, [0x88, 5, 0x03, 0xE9, b'b', b'y', b'e']);
    }
}

//! permessage-deflate (RFC 7692): the compressed payloads of messages, made and read.
//!
//! A compressed message is a raw DEFLATE stream that was flushed behind the message, so that it ends on a byte, without
//! the four bytes that every such flush ends with. What a receiver keeps between messages is the window: the sender may
//! point back to bytes of messages before, as long as it says nothing else and the receiver has read all of them.

use std::str::Utf8Error;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use parking_lot::Mutex;

/// The window of a stream that many clients share, as a power of two. It reaches back over some forty chat messages,
/// which is as far as it pays, and a client that offers a small window can read it too: Python's `websockets` offers
/// this one.
pub const SHARED_WINDOW_BITS: u8 = 12;
/// The smallest window that the compressor can keep to.
pub const WINDOW_BITS_MIN: u8 = 9;
/// The largest, which is the receiver's unless something else was agreed.
pub const WINDOW_BITS_MAX: u8 = 15;

/// What a flush ends with, which is not sent (§7.2.1).
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// The same, put back, and behind it the end of the stream: a message that is whole ends there and nowhere else.
const FLUSH_TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];
/// Room that a flush is offered at least, so that one does not begin where it cannot end.
const FLUSH_ROOM: usize = 64;

/// What a message of so many bytes takes at most when a client compresses it: where nothing is gained, a header of five
/// bytes stands before each piece, and the pieces are short where the client has little memory.
pub fn deflated_bytes_max(message_bytes: usize) -> usize {
    message_bytes + message_bytes / 8 + 64
}

/// A compressor of messages. Each refers to those before it, back to the last restart.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
    deflated: Vec<u8>,
}

impl Deflater {
    /// A stream that begins here; the window is a power of two.
    pub fn new(level: u32, window_bits: u8) -> Self {
        Self {
            stream: Compress::new_with_window_bits(Compression::new(level), false, window_bits),
            deflated: Vec::new(),
        }
    }

    /// Forgets all messages so far: whoever begins to read behind them understands what comes.
    pub fn restart(&mut self) {
        self.stream.reset();
    }

    /// Compresses the next message, to be read in the order in which it was written.
    ///
    /// # Panics
    /// Never: the compressor takes every input, given room.
    pub fn deflate(&mut self, mut message: &[u8]) -> &[u8] {
        let out = &mut self.deflated;
        out.clear();
        loop {
            out.reserve(message.len() / 2 + FLUSH_ROOM);
            let before = self.stream.total_in();
            self.stream
                .compress_vec(message, out, FlushCompress::Sync)
                .expect("the compressor takes every input");
            let taken = self.stream.total_in() - before;
            message = &message[usize::try_from(taken).expect("no more than was given")..];
            // Where room is left the flush is complete.
            if out.len() < out.capacity() {
                break;
            }
        }
        match out.strip_suffix(&FLUSH_TAIL) {
            Some(b"") | None => &[0],
            Some(deflated) => deflated,
        }
    }
}

/// Why a compressed message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// It is longer than a message may be.
    #[error("a compressed message that is too long")]
    TooLong,
    /// It is not DEFLATE, or not all of it.
    #[error("a compressed message that does not inflate")]
    NotDeflate,
    /// It is text, and not UTF-8.
    #[error("compressed text that is not UTF-8")]
    NotUtf8(#[from] Utf8Error),
}

/// A decompressor of messages that each stand for themselves.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(false))
    }
}

impl Inflater {
    /// The message, if it has no more bytes than may be; no more than those are ever held.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn inflate(&mut self, deflated: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        self.0.reset(false);
        let mut message = Vec::new();
        let (mut input, mut at_end) = (deflated, false);
        loop {
            if message.len() == message.capacity() {
                let more = (message.len() + deflated.len()).max(FLUSH_ROOM);
                message.reserve_exact(more.min(max + 1 - message.len()));
            }
            let before = self.0.total_in();
            let status = self
                .0
                .decompress_vec(input, &mut message, FlushDecompress::None)
                .map_err(|_| InflateError::NotDeflate)?;
            if message.len() > max {
                return Err(InflateError::TooLong);
            }
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(input.len());
            input = &input[taken..];
            let has_room = message.len() < message.capacity();
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(message),
                Status::StreamEnd if at_end => return Err(InflateError::NotDeflate),
                // §7.2.3.5: a client may end its stream within a message, and begin another.
                Status::StreamEnd => self.0.reset(false),
                Status::Ok | Status::BufError if !has_room => {}
                Status::Ok | Status::BufError if input.is_empty() && !at_end => {
                    (input, at_end) = (&FLUSH_TAIL_AND_END, true);
                }
                Status::Ok | Status::BufError => return Err(InflateError::NotDeflate),
            }
        }
    }
}

/// What compresses and inflates messages that stand for themselves. Between messages nothing is kept for a client, so a
/// few of these serve all; each thread that needs one takes one, and the next that needs one finds it here.
#[derive(Debug)]
pub struct Codecs {
    level: u32,
    idle: Mutex<Vec<Codec>>,
}

#[derive(Debug, Default)]
struct Codec {
    inflater: Inflater,
    /// With its window.
    deflater: Option<(u8, Deflater)>,
}

/// Codecs kept for the next message. More exist only while more threads are at work at once.
const IDLE_CODECS_MAX: usize = 4;

impl Codecs {
    /// None yet; they will compress with this level.
    pub fn new(level: u32) -> Self {
        Self {
            level,
            idle: Mutex::default(),
        }
    }

    /// Inflates a message of at most so many bytes.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn inflate(&self, deflated: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        self.with(|codec| codec.inflater.inflate(deflated, max))
    }

    /// Compresses a message by itself, if that makes it smaller.
    pub fn deflate(&self, message: &[u8], window_bits: u8) -> Option<Vec<u8>> {
        self.with(|codec| {
            let kept = codec.deflater.take();
            let usable = kept.filter(|(bits, _)| *bits == window_bits);
            let (_, stream) = codec.deflater.insert(
                usable.unwrap_or_else(|| (window_bits, Deflater::new(self.level, window_bits))),
            );
            stream.restart();
            let deflated = stream.deflate(message);
            (deflated.len() < message.len()).then(|| deflated.to_vec())
        })
    }

    fn with<R>(&self, work: impl FnOnce(&mut Codec) -> R) -> R {
        let idle = self.idle.lock().pop();
        let mut codec = idle.unwrap_or_default();
        let result = work(&mut codec);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CODECS_MAX {
            idle.push(codec);
        }
        result
    }
}

/// The other end, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A client that has agreed on compression, with the window that it keeps from message to message.
    #[derive(Debug)]
    pub(crate) struct Receiver(Decompress);

    impl Default for Receiver {
        fn default() -> Self {
            Self(Decompress::new_with_window_bits(false, SHARED_WINDOW_BITS))
        }
    }

    impl Receiver {
        /// The text messages of these whole frames, each with whether it was compressed.
        pub(crate) fn messages(&mut self, mut frames: &[u8]) -> Vec<(bool, String)> {
            let mut messages = Vec::new();
            while let [first, length, rest @ ..] = frames {
                let deflated = first & 0x40 != 0;
                assert_eq!(first & !0x40, 0x81, "a whole text message");
                let (length, rest) = match length {
                    126 => (
                        usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                        &rest[2..],
                    ),
                    short => (usize::from(*short), rest),
                };
                let (payload, rest) = rest.split_at(length);
                let message = if deflated {
                    self.inflate(payload)
                } else {
                    payload.to_vec()
                };
                messages.push((deflated, String::from_utf8(message).expect("text")));
                frames = rest;
            }
            messages
        }

        /// A message, which may refer to those before it.
        pub(crate) fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
            let mut message = Vec::with_capacity(64 * 1024);
            for part in [payload, &FLUSH_TAIL] {
                let before = self.0.total_in();
                self.0
                    .decompress_vec(part, &mut message, FlushDecompress::Sync)
                    .expect("what was compressed");
                assert_eq!(self.0.total_in() - before, part.len() as u64);
            }
            message
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::Receiver;
    use super::*;

    /// What RFC 7692 §7.2.3 shows of the message "Hello".
    const HELLO: &[&[u8]] = &[
        &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
        // In a block without compression.
        &[
            0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
        ],
        // In a block that ends the stream.
        &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
        // In two blocks.
        &[
            0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
        ],
    ];

    #[test]
    fn the_rfcs_examples_inflate() {
        for deflated in HELLO {
            let message = Inflater::default().inflate(deflated, 5);
            assert_eq!(message, Ok(b"Hello".to_vec()), "{deflated:02x?}");
            assert_eq!(
                Inflater::default().inflate(deflated, 4),
                Err(InflateError::TooLong)
            );
        }
        assert_eq!(Inflater::default().inflate(&[0x00], 0), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_deflate_or_not_all_of_it_is_refused() {
        let whole = HELLO[0];
        let cut = (1..whole.len() - 1).map(|length| &whole[..length]);
        let others: [&[u8]; 5] = [
            b"",
            &[0xFF],
            b"Hello",
            &[0xFE, 0xFF, 0xFF],
            &[HELLO[1], &[0x07]].concat(),
        ];
        for deflated in cut.chain(others) {
            let message = Inflater::default().inflate(deflated, 1000);
            assert_eq!(message, Err(InflateError::NotDeflate), "{deflated:02x?}");
        }
    }

    #[test]
    fn a_bomb_is_seen_before_it_takes_room() {
        let mut deflater = Deflater::new(9, WINDOW_BITS_MAX);
        let bomb = deflater.deflate(&vec![0; 16 << 20]).to_vec();
        assert!(bomb.len() < 20_000);
        assert_eq!(
            Inflater::default().inflate(&bomb, 1 << 16),
            Err(InflateError::TooLong)
        );
        let message = Inflater::default()
            .inflate(&bomb, 16 << 20)
            .expect("as long as it may be");
        assert!(message.len() == 16 << 20 && message.capacity() <= (16 << 20) + 1);
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            3 => prop::collection::vec(b'a'..b'e', 0..300),
            1 => prop::collection::vec(any::<u8>(), 0..300),
            1 => (any::<u8>(), 0_usize..20_000).prop_map(|(byte, length)| vec![byte; length]),
        ]
    }

    proptest! {
        /// Whoever begins at the start or at a restart reads all that comes, with each level and window.
        #[test]
        fn a_stream_is_read_from_any_restart_on(
            messages in prop::collection::vec((message(), any::<bool>()), 1..30),
            level in 1_u32..=9,
            window_bits in WINDOW_BITS_MIN..=SHARED_WINDOW_BITS,
        ) {
            let mut deflater = Deflater::new(level, window_bits);
            let mut receivers = vec![Receiver::default()];
            for (message, restart) in messages {
                if restart {
                    deflater.restart();
                    receivers.push(Receiver::default());
                }
                let deflated = deflater.deflate(&message).to_vec();
                prop_assert!(!deflated.is_empty());
                for receiver in &mut receivers {
                    prop_assert!(receiver.inflate(&deflated) == message);
                }
            }
        }

        /// A message by itself comes back, whatever its predecessors were, and is within the bound on what is read.
        #[test]
        fn a_message_by_itself_comes_back(messages in prop::collection::vec(message(), 1..10), window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX) {
            let codecs = Codecs::new(1);
            for message in messages {
                let deflated = Deflater::new(1, window_bits).deflate(&message).to_vec();
                prop_assert!(deflated.len() <= deflated_bytes_max(message.len()));
                prop_assert!(codecs.inflate(&deflated, message.len()).as_ref() == Ok(&message));
                if let Some(smaller) = codecs.deflate(&message, window_bits) {
                    prop_assert!(smaller.len() < message.len());
                    prop_assert!(codecs.inflate(&smaller, message.len()).as_ref() == Ok(&message));
                }
                prop_assert!(codecs.idle.lock().len() == 1);
            }
        }

        /// Whatever comes, reading it ends, and takes no more room than a message may.
        #[test]
        fn any_bytes_are_read_or_refused(deflated in prop::collection::vec(any::<u8>(), 0..200), max in 0_usize..500) {
            if let Ok(message) = Inflater::default().inflate(&deflated, max) {
                prop_assert!(message.len() <= max);
            }
        }
    }
}

//! Commands to Redis and its replies, as bytes (RESP2).

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode_borrowed;
use redis_protocol::resp2::types::BorrowedFrame;
pub(crate) use redis_protocol::resp2::types::BytesFrame as Reply;

use super::Trouble;

/// The longest reply that is taken in: far more than the largest page of the stream.
pub(crate) const REPLY_BYTES_MAX: usize = 32 << 20;

/// Appends a command.
///
/// # Panics
/// Never: what is encoded is written to memory.
pub(crate) fn command(output: &mut BytesMut, parts: &[&[u8]]) {
    let mut strings = Vec::with_capacity(parts.len());
    strings.extend(parts.iter().map(|part| BorrowedFrame::BulkString(part)));
    extend_encode_borrowed(output, &BorrowedFrame::Array(&strings), false)
        .expect("written to memory");
}

/// Bytes from Redis, until whole replies have come.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    received: BytesMut,
}

impl Replies {
    /// Adds what has come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole reply.
    ///
    /// # Errors
    /// What came is no reply, or more than one can be.
    pub(crate) fn next_reply(&mut self) -> Result<Option<Reply>, Trouble> {
        if self.received.is_empty() {
            return Ok(None);
        }
        match decode_bytes_mut(&mut self.received) {
            Ok(Some((reply, _, _))) => Ok(Some(reply)),
            Ok(None) if self.received.len() > REPLY_BYTES_MAX => Err(Trouble::TooLong),
            Ok(None) => Ok(None),
            Err(error) => Err(Trouble::NotResp(error.to_string())),
        }
    }
}

/// The bytes of a string reply.
pub(crate) fn bytes(reply: &Reply) -> Option<&Bytes> {
    match reply {
        Reply::BulkString(bytes) | Reply::SimpleString(bytes) => Some(bytes),
        _ => None,
    }
}

/// A string reply that is UTF-8.
pub(crate) fn text(reply: &Reply) -> Option<&str> {
    std::str::from_utf8(bytes(reply)?).ok()
}

/// An integer that is not negative, whether it comes as one or as digits.
pub(crate) fn number(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Integer(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

/// The elements of an array.
pub(crate) fn array(reply: &Reply) -> Option<&[Reply]> {
    match reply {
        Reply::Array(replies) => Some(replies),
        _ => None,
    }
}

/// The number of an entry: all of ours end in `-0`.
pub(super) fn entry_id(reply: &Reply) -> Option<u64> {
    text(reply)?.strip_suffix("-0")?.parse().ok()
}

//! What one client is to be sent: frames of its own and slices shared with others, in the order of the wire.

use std::sync::Arc;

use bytes::Bytes;

use super::Close;
use crate::core::context::Context;
use crate::core::protocol::Outgoing;
use crate::core::websocket::frame;

/// What came of one step of a conversation, for that client alone.
#[derive(Debug)]
pub struct Output {
    /// To be sent, in order.
    pub reply: Reply,
    /// Set where the client must be closed, behind the reply.
    pub close: Option<Close>,
    /// Set where a replay goes on: [`Engine::continue_replay`](super::Engine::continue_replay) is to be called once the
    /// socket has taken the reply.
    pub replaying: bool,
    context: Arc<Context>,
    json: Vec<u8>,
}

impl Output {
    /// Nothing to send yet.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            reply: Reply::default(),
            close: None,
            replaying: false,
            context,
            json: Vec::new(),
        }
    }

    /// Adds the text frame of a message.
    pub(crate) fn push_reply(&mut self, message: &Outgoing<'_>) {
        frame::text(self.reply.own(), to_json(&mut self.json, message));
        self.context.counters.deliveries.inc();
    }

    /// Forgets the reply, and gives back the room that a long one took beyond `kept` bytes.
    pub fn clear(&mut self, kept: usize) {
        self.reply.clear(kept);
        self.json.shrink_to(kept);
    }
}

/// The JSON of a message, in a buffer that is used again.
pub(super) fn to_json<'a>(buffer: &'a mut Vec<u8>, message: &Outgoing<'_>) -> &'a [u8] {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, message).expect("plain data, written to memory");
    buffer
}

/// Whole frames for one client, in order. Most replies have nothing shared in them and are one piece of memory.
#[derive(Debug, Default)]
pub struct Reply {
    own: Vec<u8>,
    /// Shared slices, each with its place: the number of own bytes before it.
    shared: Vec<(usize, Bytes)>,
}

impl Reply {
    /// The client's own bytes, to append to.
    pub fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Appends a slice that others are sent too.
    pub fn push_shared(&mut self, slice: Bytes) {
        self.shared.push((self.own.len(), slice));
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    /// All of it where nothing is shared.
    pub fn as_own(&self) -> Option<&[u8]> {
        self.shared.is_empty().then_some(&self.own)
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.own.len()
            + self
                .shared
                .iter()
                .map(|(_, slice)| slice.len())
                .sum::<usize>()
    }

    /// Takes all of it, in order. The buffer stays for the next reply.
    pub fn take_chunks(&mut self) -> Vec<Bytes> {
        let mut chunks = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut own = Bytes::copy_from_slice(&self.own);
        let mut taken = 0;
        for (place, slice) in self.shared.drain(..) {
            chunks.push(own.split_to(place - taken));
            chunks.push(slice);
            taken = place;
        }
        chunks.push(own);
        self.own.clear();
        chunks.retain(|chunk| !chunk.is_empty());
        chunks
    }

    /// Takes off what was appended since there were `own_len` own bytes and nothing shared.
    pub fn truncate(&mut self, own_len: usize) {
        self.own.truncate(own_len);
        self.shared.clear();
    }

    /// Forgets all of it, and gives back memory beyond `kept` bytes.
    pub fn clear(&mut self, kept: usize) {
        self.own.clear();
        self.own.shrink_to(kept);
        self.shared = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against one byte string: chunks come out in the order in which they went in.
        #[test]
        fn chunks_keep_their_order(pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..9)), 0..30)) {
            let mut reply = Reply::default();
            let mut expected = Vec::new();
            for (shared, bytes) in pieces {
                expected.extend_from_slice(&bytes);
                if shared {
                    reply.push_shared(bytes.into());
                } else {
                    reply.own().extend_from_slice(&bytes);
                }
            }
            prop_assert_eq!(reply.len(), expected.len());
            let chunks = reply.take_chunks();
            prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
            prop_assert_eq!(chunks.concat(), expected);
            prop_assert!(reply.is_empty());
        }
    }
}

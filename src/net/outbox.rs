//! The outbox: what one client has yet to be sent, as whole frames, in order, bounded, none of them copied for being late.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

/// Slices handed to the kernel in one call. Few wait, unless for a slow client.
const SLICES_PER_WRITE: usize = 16;
/// What a waiting slice costs besides its bytes, so that many tiny ones count as the memory they take.
const SLICE_COST: usize = size_of::<Bytes>();
/// Whether a write that took less than all means that the next would block. Where it does, the call that would only
/// say so is saved. Windows reports readiness again only after a call that blocked.
const SHORT_WRITE_BLOCKS: bool = cfg!(unix);

/// The unsent output of one client.
#[derive(Debug, Default)]
pub struct Outbox {
    slices: VecDeque<Bytes>,
    unsent: usize,
    /// Room beyond the limit, until all has been sent.
    allowance: usize,
}

/// More is waiting than the limit allows: the client is too slow.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// How far a flush came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left.
    All,
    /// The kernel takes no more until the socket is writable again.
    Blocked,
}

impl Outbox {
    /// Bytes waiting.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Adds frames behind those that wait. The limit counts what is added, so no client overshoots it.
    ///
    /// # Errors
    /// [`Overflow`] where more than `limit` bytes would wait; nothing was added.
    pub fn push(&mut self, frames: Bytes, limit: usize) -> Result<(), Overflow> {
        if frames.is_empty() {
            return Ok(());
        }
        let cost = self.unsent + frames.len() + (self.slices.len() + 1) * SLICE_COST;
        if cost > limit.saturating_add(self.allowance) {
            return Err(Overflow);
        }
        self.unsent += frames.len();
        self.slices.push_back(frames);
        Ok(())
    }

    /// Lets `bytes` more wait until the outbox is empty again: what answers one read of what the client sent, like the
    /// history it resumes, a page or an echo. Otherwise a client that resumes a long history could be too slow before its first
    /// message. A client that has not read what it asked for before gets no more of it.
    pub fn allow(&mut self, bytes: usize) {
        if self.is_empty() && bytes > 0 {
            self.allowance = bytes + SLICE_COST;
        }
    }

    /// Lets these slices wait, whatever waits already: what a client is owed of what it shares with others, which costs
    /// references and comes once, when it leaves or when the server stops.
    pub fn allow_owed(&mut self, slices: &[Bytes]) {
        let bytes: usize = slices.iter().map(Bytes::len).sum();
        self.allowance += bytes + slices.len() * SLICE_COST;
    }

    /// The first slice, for a thread that may wait until the socket takes it, and then calls [`Outbox::sent`].
    pub fn front(&self) -> Option<Bytes> {
        self.slices.front().cloned()
    }

    /// Writes what waits, until it is gone or the socket would block.
    ///
    /// # Errors
    /// Those of the socket, except that it would block.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<Flushed> {
        while !self.slices.is_empty() {
            let mut batch = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let mut offered = 0;
            let mut count = 0;
            for (place, slice) in batch.iter_mut().zip(&self.slices) {
                *place = IoSlice::new(slice);
                offered += slice.len();
                count += 1;
            }
            let written = match &batch[..count] {
                [only] => socket.write(only),
                several => socket.write_vectored(several),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent(written);
                    if written < offered && SHORT_WRITE_BLOCKS {
                        return Ok(Flushed::Blocked);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.allowance = 0;
        // An idle client keeps nothing; to make room again costs next to nothing beside the write it is for.
        self.slices = VecDeque::new();
        Ok(Flushed::All)
    }

    /// `written` bytes from the front are gone.
    ///
    /// # Panics
    /// Never: what was written had been waiting.
    pub fn sent(&mut self, mut written: usize) {
        self.unsent -= written;
        while written > 0 {
            let front = self
                .slices
                .front_mut()
                .expect("what was written had been waiting");
            let part = written.min(front.len());
            front.advance(part);
            written -= part;
            if front.is_empty() {
                self.slices.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket that takes a given number of bytes, then would block.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let before = self.taken.len();
            for slice in slices {
                let part = slice.len().min(self.room);
                self.taken.extend_from_slice(&slice[..part]);
                self.room -= part;
            }
            Ok(self.taken.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        /// Against a plain byte string: all that was accepted comes out once, in order, however little the socket
        /// takes at a time, and no more than the limit ever waits.
        #[test]
        fn sends_what_it_took_in_order(steps in prop::collection::vec((0_usize..300, 0_usize..400), 1..100), limit in 64_usize..2000) {
            let mut outbox = Outbox::default();
            let mut socket = Narrow { room: 0, taken: Vec::new() };
            let mut model = Vec::new();
            for (index, (length, room)) in steps.into_iter().enumerate() {
                let frames = vec![index.to_le_bytes()[0]; length + 1];
                let waiting = outbox.unsent();
                if outbox.push(frames.clone().into(), limit).is_ok() {
                    model.extend_from_slice(&frames);
                } else {
                    prop_assert_eq!(outbox.unsent(), waiting, "nothing of a refused push is kept");
                    prop_assert!(waiting + frames.len() + (outbox.slices.len() + 1) * SLICE_COST > limit);
                }
                prop_assert!(outbox.unsent() <= limit);
                socket.room = room;
                let flushed = outbox.flush(&mut socket).expect("this socket only blocks");
                prop_assert_eq!(flushed == Flushed::All, outbox.is_empty());
                prop_assert_eq!(outbox.unsent() + socket.taken.len(), model.len());
            }
            socket.room = usize::MAX;
            prop_assert_eq!(outbox.flush(&mut socket).expect("this socket only blocks"), Flushed::All);
            prop_assert_eq!(socket.taken, model);
        }
    }

    #[test]
    fn nothing_added_is_nothing_to_send() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::new(), 100).expect("it takes no room");
        let mut blocked = Narrow {
            room: 0,
            taken: Vec::new(),
        };
        assert_eq!(
            outbox.flush(&mut blocked).expect("nothing to send"),
            Flushed::All
        );
    }

    #[test]
    fn what_was_asked_for_is_owed_on_top_of_the_limit_until_it_is_sent() {
        let mut outbox = Outbox::default();
        outbox.allow(1000);
        outbox
            .push(Bytes::from(vec![0; 1000]), 100)
            .expect("allowed");
        outbox
            .push(Bytes::from_static(b"live"), 100)
            .expect("the replay does not count");
        let mut socket = Narrow {
            room: usize::MAX,
            taken: Vec::new(),
        };
        outbox.flush(&mut socket).expect("this socket takes all");
        assert_eq!(outbox.push(Bytes::from(vec![0; 101]), 100), Err(Overflow));
    }
}

//! The room's one compressed stream: every message compressed once, whatever the number of its readers.
//!
//! All members hear the same bytes in the same order, so what one receiver's decompressor has seen, every receiver's has,
//! and one compressor can point back for all of them. Nothing else may come into that stream: what is for one client
//! alone goes uncompressed, which a decompressor does not see.
//!
//! Where a newcomer waits the stream restarts, which forgets the past: who begins to read there, and who has read all
//! before, understand the same bytes. To forget costs bytes, so restarts keep their distance.

use bytes::{Bytes, BytesMut};

use crate::core::limits::Deflate;
use crate::core::websocket::deflate::{Deflater, SHARED_WINDOW_BITS};
use crate::core::websocket::frame;

/// Compressed frames between two cuts of the log.
#[derive(Debug)]
pub(super) struct Deflated {
    pub(super) frames: Bytes,
    /// Whether somebody may begin to read here.
    pub(super) restarts: bool,
}

/// The compressor, and who reads what it makes.
#[derive(Debug)]
pub(super) struct SharedStream {
    deflater: Deflater,
    /// Members that read the stream, or wait for its next restart.
    readers: usize,
    /// Whether a member may wait for the next restart.
    newcomers: bool,
    /// Messages since the last restart, and how many there must be before the next.
    messages: usize,
    restart_messages: usize,
    /// Frames behind the last cut, and whether the stream restarted with the first of them.
    frames: BytesMut,
    restarts: bool,
}

impl SharedStream {
    /// A stream whose first message restarts it.
    pub(super) fn new(deflate: &Deflate) -> Self {
        Self {
            deflater: Deflater::new(deflate.level, SHARED_WINDOW_BITS),
            readers: 0,
            newcomers: false,
            messages: deflate.restart_messages,
            restart_messages: deflate.restart_messages,
            frames: BytesMut::new(),
            restarts: false,
        }
    }

    /// A member will read from the next restart on.
    pub(super) fn add_reader(&mut self) {
        self.readers += 1;
        self.newcomers = true;
    }

    /// One of those has left; tells how many stay.
    pub(super) fn remove_reader(&mut self) -> usize {
        self.readers -= 1;
        self.readers
    }

    /// Whether the next message restarts the stream: the log must be cut before it.
    pub(super) fn restart_is_due(&self) -> bool {
        self.newcomers && self.messages >= self.restart_messages
    }

    /// Compresses the next message; tells the length of its frame.
    pub(super) fn push(&mut self, message: &[u8]) -> usize {
        if self.restart_is_due() {
            self.deflater.restart();
            self.newcomers = false;
            self.messages = 0;
            self.restarts = true;
        }
        self.messages += 1;
        let start = self.frames.len();
        frame::deflated_text(&mut self.frames, self.deflater.deflate(message));
        self.frames.len() - start
    }

    /// Cuts here.
    pub(super) fn seal(&mut self) -> Deflated {
        Deflated {
            frames: self.frames.split().freeze(),
            restarts: std::mem::take(&mut self.restarts),
        }
    }
}

//! What tungstenite reads from and writes to instead of a socket.

use std::io::{self, Read, Write};

/// Stands in for the socket that tungstenite wants: reads what came, writes to the replies.
pub(super) struct Pipe<'a, 'b> {
    pub(super) input: &'a mut &'b [u8],
    pub(super) reply: &'a mut Vec<u8>,
}

impl Read for Pipe<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            self.input.read(buffer)
        }
    }
}

impl Write for Pipe<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reply.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

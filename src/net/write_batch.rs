//! A batch on its way to many sockets: the same bytes, if possible in the same memory all the way to the receivers.
//!
//! A `write` copies into memory of the kernel's. For a large room that copy is most of the work, and what it costs
//! others is worse. A round of 5,000 members and 20 KB each passes 100 MB through the caches. And the kernel cuts those
//! copies for one socket after another out of the same 32 KiB blocks (`sk_page_frag`): one member in ten that does not
//! read keeps nearly all blocks from being used again, and every member's copies go to cold memory.
//!
//! So on Linux a batch of some size is written once into an anonymous file (`memfd_create(2)`) and handed to each socket
//! with `sendfile(2)`, which queues a reference to the file's pages. Nothing writes to them afterwards: the file is
//! closed when the batch has been sent, and the kernel frees its pages when the last socket has sent them.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;

/// From this many bytes on, and for so many receivers, pages are shared: below, the copy is cheaper than the file.
const SHARED_BYTES_MIN: usize = 1024;
const SHARED_RECEIVERS_MIN: usize = 16;
/// Slices per call (`IOV_MAX`); the rest counts as not taken.
const SLICES_PER_WRITE: usize = 1024;

/// Slices of the log, of which each receiver gets all from some slice on.
#[derive(Debug)]
pub struct WriteBatch<'a, P = MemFile> {
    slices: &'a [Bytes],
    io_slices: Vec<IoSlice<'a>>,
    pages: Option<P>,
}

impl<'a> WriteBatch<'a> {
    /// For sockets that each get a copy.
    pub fn copied(slices: &'a [Bytes]) -> Self {
        Self::new(slices, None)
    }
}

impl<'a, P> WriteBatch<'a, P> {
    fn new(slices: &'a [Bytes], pages: Option<P>) -> Self {
        Self {
            slices,
            io_slices: slices.iter().map(|frames| IoSlice::new(frames)).collect(),
            pages,
        }
    }

    /// For so many nonblocking sockets, which share pages where that pays and `make` has some. A blocking one would wait
    /// for its reader: `sendfile(2)` has no flag against that.
    pub fn shared(
        slices: &'a [Bytes],
        receivers: usize,
        make: impl FnOnce(&[Bytes]) -> Option<P>,
    ) -> Self {
        let bytes: usize = slices.iter().map(Bytes::len).sum();
        let is_worth_it = bytes >= SHARED_BYTES_MIN && receivers >= SHARED_RECEIVERS_MIN;
        Self::new(slices, is_worth_it.then(|| make(slices)).flatten())
    }

    /// Sends a copy of all from slice `first` on, as far as `socket` takes it; tells how many bytes that was.
    ///
    /// # Errors
    /// Those of the socket, except that it would block.
    pub fn send_copy(&self, first: usize, socket: &mut impl Write) -> io::Result<usize> {
        taken(match &self.io_slices[first..] {
            [only] => socket.write(only),
            several => socket.write_vectored(&several[..several.len().min(SLICES_PER_WRITE)]),
        })
    }

    /// The same without the copy where pages are shared, which `send_pages` sends from slice `first` on.
    ///
    /// # Errors
    /// Those of the socket, except that it would block.
    pub fn send_shared<S: Write>(
        &self,
        first: usize,
        socket: &mut S,
        send_pages: impl FnOnce(&P, usize, &mut S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(pages) = &self.pages else {
            return self.send_copy(first, socket);
        };
        match taken(send_pages(pages, first, socket)) {
            // A sandbox may allow the file and not the call. Where it was the socket's error, the copy meets it too.
            Err(_) => self.send_copy(first, socket),
            sent => sent,
        }
    }

    /// What is left of the slices from `first` on when `written` bytes have been sent: kept by reference.
    pub fn rest(&self, first: usize, mut written: usize) -> impl Iterator<Item = Bytes> {
        self.slices[first..].iter().filter_map(move |frames| {
            let taken = written.min(frames.len());
            written -= taken;
            (taken < frames.len()).then(|| frames.slice(taken..))
        })
    }
}

/// A socket that would block takes nothing, which is no error.
pub(crate) fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        sent => sent,
    }
}

#[cfg(target_os = "linux")]
pub use linux::MemFile;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{self, Write};

    use bytes::Bytes;
    use mio::net::TcpStream;
    use rustix::fs::{MemfdFlags, memfd_create, sendfile};

    /// Talk in a file that exists in memory only.
    #[derive(Debug)]
    pub struct MemFile {
        file: File,
        /// Where each slice begins.
        starts: Vec<usize>,
        length: usize,
    }

    impl MemFile {
        /// A file of these slices.
        ///
        /// # Errors
        /// There is no descriptor or memory for it, or a sandbox forbids it.
        pub fn new(slices: &[Bytes]) -> io::Result<Self> {
            let mut file = File::from(memfd_create("batch", MemfdFlags::CLOEXEC)?);
            let mut starts = Vec::with_capacity(slices.len());
            let mut length = 0;
            for frames in slices {
                starts.push(length);
                length += frames.len();
            }
            file.write_all(&slices.concat())?;
            Ok(Self {
                file,
                starts,
                length,
            })
        }

        /// Sends from slice `first` on, as far as the socket takes it.
        ///
        /// # Errors
        /// Those of the socket; that it would block is one.
        pub fn send(&self, first: usize, socket: &TcpStream) -> io::Result<usize> {
            let start = self.starts[first];
            let mut offset = start as u64;
            let sent = sendfile(socket, &self.file, Some(&mut offset), self.length - start)?;
            Ok(sent)
        }
    }
}

/// Elsewhere every socket gets its copy.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub enum MemFile {}

#[cfg(not(target_os = "linux"))]
impl MemFile {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &[Bytes]) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// There is none to send.
    ///
    /// # Errors
    /// Never.
    pub fn send(&self, _: usize, _: &mio::net::TcpStream) -> io::Result<usize> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use mio::net::TcpStream;

    use super::*;

    /// Sends `slices` from `first` on, and gives back what the peer got of the first write.
    fn received(slices: &[Bytes], first: usize, receivers: usize) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = std::net::TcpStream::connect(listener.local_addr().expect("bound"))
            .expect("a listener");
        let (mut ours, _) = listener.accept().expect("a client");
        let batch = WriteBatch::shared(slices, receivers, |slices| MemFile::new(slices).ok());
        assert_eq!(
            batch.pages.is_some(),
            receivers >= SHARED_RECEIVERS_MIN && cfg!(target_os = "linux")
        );
        let mut socket = TcpStream::from_std(peer);
        let sent = batch
            .send_shared(first, &mut socket, |pages, first, socket| {
                pages.send(first, socket)
            })
            .expect("room in the socket");
        drop((batch, socket));
        let mut bytes = Vec::new();
        ours.read_to_end(&mut bytes).expect("all that was sent");
        assert_eq!(bytes.len(), sent);
        bytes
    }

    #[test]
    fn shared_pages_carry_the_same_bytes_as_a_copy() {
        let slices: Vec<Bytes> = (0..5_u8)
            .map(|number| vec![number; 3000 + usize::from(number)].into())
            .collect();
        for first in 0..5 {
            let expected = slices[first..].concat();
            for receivers in [1, SHARED_RECEIVERS_MIN] {
                assert!(
                    received(&slices, first, receivers) == expected,
                    "{first} {receivers}"
                );
            }
        }
    }

    #[test]
    fn the_rest_is_what_was_not_written() {
        let slices = [Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
        let batch = WriteBatch::copied(&slices);
        for first in 0..2 {
            let whole = slices[first..].concat();
            for written in 0..=whole.len() {
                let rest: Vec<Bytes> = batch.rest(first, written).collect();
                assert_eq!(rest.concat(), whole[written..]);
                assert!(rest.iter().all(|slice| !slice.is_empty()));
            }
        }
    }

    #[test]
    fn more_slices_than_one_call_takes_are_sent_in_part() {
        let slices = vec![Bytes::from_static(b"x"); SLICES_PER_WRITE + 10];
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut socket = std::net::TcpStream::connect(listener.local_addr().expect("bound"))
            .expect("a listener");
        let batch = WriteBatch::copied(&slices);
        let sent = batch.send_copy(3, &mut socket).expect("room in the socket");
        assert_eq!(sent, SLICES_PER_WRITE);
        assert_eq!(batch.rest(3, sent).count(), 7);
    }
}

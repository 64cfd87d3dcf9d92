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
use std::ops::Range;

use bytes::Bytes;

/// From this many bytes on, and for so many receivers, pages are shared: below, the copy is cheaper than the file.
const SHARED_BYTES_MIN: usize = 1024;
const SHARED_RECEIVERS_MIN: usize = 16;
/// Slices per call (`IOV_MAX`); the rest counts as not taken.
const SLICES_PER_WRITE: usize = 1024;

/// Slices of the log, of which each receiver gets a range.
#[derive(Debug)]
pub(crate) struct WriteBatch<'a, P = MemFile> {
    slices: &'a [Bytes],
    io_slices: Vec<IoSlice<'a>>,
    pages: Option<P>,
}

impl<'a> WriteBatch<'a> {
    /// For sockets that each get a copy.
    pub(crate) fn copied(slices: &'a [Bytes]) -> Self {
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
    pub(crate) fn shared(
        slices: &'a [Bytes],
        receivers: usize,
        make: impl FnOnce(&[Bytes]) -> Option<P>,
    ) -> Self {
        let bytes: usize = slices.iter().map(Bytes::len).sum();
        let is_worth_it = bytes >= SHARED_BYTES_MIN && receivers >= SHARED_RECEIVERS_MIN;
        Self::new(slices, is_worth_it.then(|| make(slices)).flatten())
    }

    /// Sends a copy of these slices, as far as `socket` takes it; tells how many bytes that was.
    ///
    /// # Errors
    /// Those of the socket, except that it would block.
    pub(crate) fn send_copy(
        &self,
        range: Range<usize>,
        socket: &mut impl Write,
    ) -> io::Result<usize> {
        taken(match &self.io_slices[range] {
            [only] => socket.write(only),
            several => socket.write_vectored(&several[..several.len().min(SLICES_PER_WRITE)]),
        })
    }

    /// The same without the copy where pages are shared, which `send_pages` sends.
    ///
    /// # Errors
    /// Those of the socket, except that it would block.
    pub(crate) fn send_shared<S: Write>(
        &self,
        range: Range<usize>,
        socket: &mut S,
        send_pages: impl FnOnce(&P, Range<usize>, &mut S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(pages) = &self.pages else {
            return self.send_copy(range, socket);
        };
        match taken(send_pages(pages, range.clone(), socket)) {
            // A sandbox may allow the file and not the call. Where it was the socket's error, the copy meets it too.
            Err(_) => self.send_copy(range, socket),
            sent => sent,
        }
    }

    /// What is left of these slices when `written` bytes have been sent: kept by reference.
    pub(crate) fn rest(
        &self,
        range: Range<usize>,
        mut written: usize,
    ) -> impl Iterator<Item = Bytes> {
        self.slices[range].iter().filter_map(move |frames| {
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
pub(crate) use linux::MemFile;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{self, Write};
    use std::ops::Range;

    use bytes::Bytes;
    use mio::net::TcpStream;
    use rustix::fs::{MemfdFlags, memfd_create, sendfile};

    /// Slices of the log in a file that exists in memory only.
    #[derive(Debug)]
    pub struct MemFile {
        file: File,
        /// Where each slice begins, and the last one ends.
        cuts: Vec<usize>,
    }

    impl MemFile {
        /// A file of these slices.
        ///
        /// # Errors
        /// There is no descriptor or memory for it, or a sandbox forbids it.
        pub fn new(slices: &[Bytes]) -> io::Result<Self> {
            let mut file = File::from(memfd_create("batch", MemfdFlags::CLOEXEC)?);
            let mut cuts = Vec::with_capacity(slices.len() + 1);
            let mut length = 0;
            cuts.push(length);
            for frames in slices {
                length += frames.len();
                cuts.push(length);
            }
            file.write_all(&slices.concat())?;
            Ok(Self { file, cuts })
        }

        /// Sends these slices, as far as the socket takes them.
        ///
        /// # Errors
        /// Those of the socket; that it would block is one.
        pub fn send(&self, range: Range<usize>, socket: &TcpStream) -> io::Result<usize> {
            let (start, end) = (self.cuts[range.start], self.cuts[range.end]);
            let mut offset = start as u64;
            let sent = sendfile(socket, &self.file, Some(&mut offset), end - start)?;
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
    pub fn send(&self, _: Range<usize>, _: &mio::net::TcpStream) -> io::Result<usize> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use mio::net::TcpStream;

    use super::*;

    /// Sends these slices, and gives back what the peer got of the first write.
    fn received(slices: &[Bytes], range: Range<usize>, receivers: usize) -> Vec<u8> {
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
            .send_shared(range, &mut socket, |pages, range, socket| {
                pages.send(range, socket)
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
        for range in [0..5, 2..5, 4..5, 0..3, 1..2] {
            let expected = slices[range.clone()].concat();
            for receivers in [1, SHARED_RECEIVERS_MIN] {
                assert!(
                    received(&slices, range.clone(), receivers) == expected,
                    "{range:?} {receivers}"
                );
            }
        }
    }

    #[test]
    fn the_rest_is_what_was_not_written() {
        let slices = [Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
        let batch = WriteBatch::copied(&slices);
        for range in [0..2, 1..2, 0..1] {
            let whole = slices[range.clone()].concat();
            for written in 0..=whole.len() {
                let rest: Vec<Bytes> = batch.rest(range.clone(), written).collect();
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
        let range = 3..slices.len();
        let sent = batch
            .send_copy(range.clone(), &mut socket)
            .expect("room in the socket");
        assert_eq!(sent, SLICES_PER_WRITE);
        assert_eq!(batch.rest(range, sent).count(), 7);
    }
}

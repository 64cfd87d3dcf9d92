//! A TCP connection to the server, every wait on it with a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// Longer than anything takes on a loaded machine; only a test that fails waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The server closed its side in order.
    Closed,
    /// The connection was reset.
    Reset,
    /// The deadline passed.
    TimedOut,
}

pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts connections");
        Self::over(stream)
    }

    /// Connects from `source`, any address of the loopback network.
    #[cfg(target_os = "linux")]
    pub(crate) fn connect_from(source: SocketAddr, address: SocketAddr) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket
            .bind(&source.into())
            .expect("the source address is this host's");
        socket
            .connect_timeout(&address.into(), PATIENCE)
            .expect("the server accepts connections");
        Self::over(socket.into())
    }

    /// Connects with a receive window so small that what is not read soon stays on the server.
    pub(crate) fn connect_with_small_window(address: SocketAddr) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket
            .set_recv_buffer_size(4096)
            .expect("the buffer is set before the window is announced");
        socket
            .connect_timeout(&address.into(), PATIENCE)
            .expect("the server accepts connections");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("no delay");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a write deadline");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.stream
            .local_addr()
            .expect("a connected socket has an address")
            .port()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes)
            .expect("the server takes what it is sent");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// What has been read from the socket and not yet been taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        self.unread.drain(..length).collect()
    }

    /// Waits for more to read, until `deadline` at the latest.
    pub(crate) fn fill(&mut self, deadline: Instant) -> Result<(), Ending> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Ending::TimedOut);
        }
        self.stream
            .set_read_timeout(Some(left))
            .expect("a read deadline");
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Ending::Closed),
            Ok(length) => {
                self.unread.extend_from_slice(&chunk[..length]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Ending::TimedOut),
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe => Err(Ending::Reset),
                _ => panic!("reading from the server: {error}"),
            },
        }
    }

    /// Reads whatever comes until the connection ends, and says how it did.
    pub(crate) fn read_to_end(&mut self) -> Ending {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.unread.clear();
            if let Err(ending) = self.fill(deadline) {
                assert_ne!(
                    ending,
                    Ending::TimedOut,
                    "the server did not end the connection"
                );
                return ending;
            }
        }
    }

    /// The server reads the end of the stream, and may still answer.
    pub(crate) fn finish_writing(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("a connected socket");
    }

    /// Goes with a reset and without a word.
    pub(crate) fn vanish(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("linger");
    }
}

//! A Redis of one's own for each test, and a way there that can be cut.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::wire::PATIENCE;

/// A `redis-server` on a free port, with a folder of its own.
pub(crate) struct Redis {
    process: Process,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    flags: String,
}

impl Redis {
    pub(crate) fn start(flags: &str) -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wslab-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        Self {
            process: spawn(address, &folder, flags),
            address,
            folder,
            flags: flags.to_owned(),
        }
    }

    /// One that copies another.
    pub(crate) fn replica_of(master: &Self) -> Self {
        let master = master.address;
        let replica = Self::start(&format!("--replicaof {} {}", master.ip(), master.port()));
        replica
            .process
            .stdout
            .wait_for("a copy of the master", |line| {
                line.contains("Finished with success")
            });
        replica
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait();
    }

    /// Starts it again, with what it has on disk.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(self.address, &self.folder, &self.flags);
    }

    /// The answer to a command, as text; an array's is its length.
    pub(crate) fn command(&self, command: &str) -> String {
        let mut socket = TcpStream::connect(self.address).expect("Redis listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        socket
            .write_all(format!("{command}\r\n").as_bytes())
            .expect("a connection");
        let mut answers = BufReader::new(socket);
        let mut line = String::new();
        answers.read_line(&mut line).expect("an answer");
        let line = line.trim_end();
        match line.split_at(1) {
            ("$", length) if length != "-1" => {
                let mut bytes = vec![0; length.parse().expect("a length")];
                answers.read_exact(&mut bytes).expect("an answer");
                String::from_utf8(bytes).expect("text")
            }
            (_, rest) => rest.to_owned(),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(address: SocketAddr, folder: &std::path::Path, flags: &str) -> Process {
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--save", ""])
        .arg("--dir")
        .arg(folder)
        .args(flags.split_whitespace());
    let process = Process::spawn(&mut command);
    process
        .stdout
        .wait_for("Redis (installed by tests/run.sh)", |line| {
            line.contains("Ready to accept connections")
        });
    process
}

/// A way to Redis that leads elsewhere on demand, and can be cut.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    to: Mutex<SocketAddr>,
    open: Mutex<Vec<TcpStream>>,
    /// Bytes of answers that still come through; then everything is cut.
    left: AtomicUsize,
}

impl Way {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            to: Mutex::new(target),
            open: Mutex::default(),
            left: AtomicUsize::new(usize::MAX),
        });
        let way = Self { address, state };
        let accepting = way.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                accepting.join(socket);
            }
        });
        way
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on it leads there; what went elsewhere is cut.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.state.to.lock().expect("no panic under the lock") = target;
        self.cut();
    }

    pub(crate) fn cut(&self) {
        let open = std::mem::take(&mut *self.state.open.lock().expect("no panic under the lock"));
        for socket in open {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Cuts everything in the middle of an answer, when so many bytes of answers have come through.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.state.left.store(bytes, Ordering::Relaxed);
    }

    /// Waits until that has happened.
    pub(crate) fn wait_until_cut(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.state.left.load(Ordering::Relaxed) != usize::MAX {
            assert!(Instant::now() < deadline, "nothing comes through");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn join(&self, client: TcpStream) {
        let target = *self.state.to.lock().expect("no panic under the lock");
        // Where nobody listens, the client learns it from the end of its connection.
        let Ok(server) = TcpStream::connect(target) else {
            return;
        };
        for socket in [&client, &server] {
            let _ = socket.set_nodelay(true);
            let copy = socket.try_clone().expect("a descriptor");
            self.state
                .open
                .lock()
                .expect("no panic under the lock")
                .push(copy);
        }
        let (to_server, from_client) = (server.try_clone(), client.try_clone());
        let (mut to_server, mut from_client) = (
            to_server.expect("a descriptor"),
            from_client.expect("a descriptor"),
        );
        thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Both);
        });
        let way = self.clone();
        thread::spawn(move || way.answer(&server, &client));
    }

    fn answer(&self, mut server: &TcpStream, mut client: &TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length) = server.read(&mut buffer)
            && length > 0
        {
            let left = self.state.left.load(Ordering::Relaxed);
            let through = length.min(left);
            if client.write_all(&buffer[..through]).is_err() {
                break;
            }
            if left != usize::MAX {
                self.state.left.store(left - through, Ordering::Relaxed);
            }
            if through < length {
                self.state.left.store(usize::MAX, Ordering::Relaxed);
                self.cut();
                return;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    }
}

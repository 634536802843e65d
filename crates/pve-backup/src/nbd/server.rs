//! A server on a unix socket, with a thread per connection.

use std::fs;
use std::io::{self, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::Mode;

use super::handshake::negotiate;
use super::transmission::{Target, serve};

/// Most connections at a time beyond one per export.
const SPARE_CONNECTIONS: usize = 8;
/// How long a client may think during the handshake, and how long it may leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that are read ahead: some requests without payload. Payloads go past this buffer.
const READ_AHEAD: usize = 4096;

/// A device that clients may write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A running server. Dropping it ends all connections and removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What the threads have in common.
struct Shared {
    exports: Vec<Export>,
    target: Arc<dyn Target>,
    stopped: AtomicBool,
    /// The connections: a number, the stream (to end it), the thread.
    connections: Mutex<Vec<Connection>>,
}

struct Connection {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("exports", &self.exports)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Listens on a socket that only this process's user may use. A file that is there already is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(path: &Path, exports: Vec<Export>, target: Arc<dyn Target>) -> io::Result<Self> {
        let listener = listen(path)?;
        let shared = Arc::new(Shared {
            exports,
            target,
            stopped: AtomicBool::new(false),
            connections: Mutex::new(Vec::new()),
        });
        let accepting = {
            let (shared, listener) = (Arc::clone(&shared), listener.try_clone()?);
            std::thread::Builder::new()
                .name("nbd".to_owned())
                .spawn(move || accept(&listener, &shared))?
        };
        Ok(Self {
            path: path.to_owned(),
            listener,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Ends all connections, waits for their threads and removes the socket. No call of the target is under way after
    /// that; a target that holds back a thread has to let it go for this to return.
    pub fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The only way to wake up a thread in accept(2) that needs no second socket.
        if let Err(error) = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both) {
            log::warn!("unable to shut down '{}' - {error}", self.path.display());
        }
        join(accepting);
        let connections = std::mem::take(&mut *self.shared.connections());
        for connection in connections {
            // Fails if the client went first.
            let _ = connection.stream.shutdown(std::net::Shutdown::Both);
            join(connection.thread);
        }
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("unable to remove '{}' - {error}", self.path.display());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        log::error!("a thread of the NBD server panicked");
    }
}

/// Makes the socket. The mode is that of the socket before it has a name, so there is no moment at which others could
/// connect.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::stat::fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&socket, Backlog::new(16)?)?;
    Ok(UnixListener::from(socket))
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                if let Err(error) = begin(stream, shared) {
                    log::warn!("unable to serve an NBD client - {error}");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // Out of file descriptors, most likely: it must not become a busy loop.
                log::warn!("unable to accept an NBD client - {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Gives a connection its thread.
fn begin(stream: UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut connections = shared.connections();
    let (gone, alive): (Vec<_>, Vec<_>) = connections.drain(..).partition(|c| c.thread.is_finished());
    *connections = alive;
    gone.into_iter().for_each(|connection| join(connection.thread));
    if connections.len() >= shared.exports.len() + SPARE_CONNECTIONS {
        return Err(io::Error::other("too many connections"));
    }
    let own = stream.try_clone()?;
    let thread = {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name("nbd client".to_owned())
            .spawn(move || {
                if let Err(error) = converse(&own, &shared) {
                    log::debug!("NBD client has gone: {error}");
                }
                // The other descriptor of this connection may live on for a while: the client must not wait for it.
                let _ = own.shutdown(std::net::Shutdown::Both);
            })?
    };
    connections.push(Connection { stream, thread });
    Ok(())
}

/// One connection from its first to its last byte.
fn converse(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut input = BufReader::with_capacity(READ_AHEAD, stream);
    let mut output = stream;
    let Some(index) = negotiate(&mut input, &mut output, &shared.exports)? else {
        return Ok(());
    };
    // A job may be paused for as long as the disks before it take.
    stream.set_read_timeout(None)?;
    match shared.exports.get(index) {
        Some(export) => serve(&mut input, &mut output, index, export, &*shared.target),
        None => output.flush(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Read;
    use std::ops::Range;
    use std::os::unix::fs::PermissionsExt;

    use crate::nbd::wire::{Request, SimpleReply, command};

    /// Takes nothing.
    struct Nobody;

    impl Target for Nobody {
        fn buffer(&self) -> Option<Box<[u8]>> {
            None
        }
        fn write(&self, _: usize, _: u64, _: usize, _: Box<[u8]>) {}
        fn write_zeroes(&self, _: usize, _: Range<u64>) {}
        fn refuse(&self, _: usize, _: &str) -> u32 {
            0
        }
    }

    fn start(path: &Path) -> Server {
        let export = Export {
            name: "d".to_owned(),
            size: 1 << 20,
        };
        Server::start(path, vec![export], Arc::new(Nobody)).unwrap()
    }

    fn connect(path: &Path) -> UnixStream {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client that has its export.
    fn choose(path: &Path) -> UnixStream {
        let mut stream = connect(path);
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x01d").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        stream
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_replaces_a_stale_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, "stale").unwrap();
        let server = start(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_stopped_server_leaves_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut server = start(&path);
        let (mut waiting, mut busy) = (connect(&path), choose(&path));
        let request = Request {
            flags: 0,
            command: command::WRITE,
            cookie: 1,
            offset: 0,
            length: 512,
        };
        busy.write_all(&request.encode()).unwrap();
        busy.write_all(&[1; 512]).unwrap();
        let mut reply = [0; 16];
        busy.read_exact(&mut reply).unwrap();
        assert_eq!(SimpleReply::decode(&reply).unwrap().error, 0);
        server.stop();
        let mut rest = Vec::new();
        waiting.read_to_end(&mut rest).unwrap();
        assert_eq!(busy.read(&mut reply).unwrap(), 0);
        assert!(UnixStream::connect(&path).is_err());
    }

    #[test]
    fn connections_are_limited_and_their_places_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _server = start(&path);
        let clients: Vec<UnixStream> = (0..=SPARE_CONNECTIONS).map(|_| choose(&path)).collect();
        let mut rest = Vec::new();
        // One too many: it ends at once, be it by a reset.
        let _ = connect(&path).read_to_end(&mut rest);
        assert!(rest.is_empty());
        drop(clients);
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let mut greeting = [0; 18];
            if connect(&path).read_exact(&mut greeting).is_ok() {
                break;
            }
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

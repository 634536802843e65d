//! Talking with daemons of this machine over their sockets, where nothing may take longer than a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, socket};

/// Connects at once or not at all: where too many wait already (`WouldBlock`) a connect that blocks has no end.
///
/// # Errors
/// Nobody listens, or does not take more.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_socket(socket.as_raw_fd(), &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A connection until a deadline: what is read or written after it is [`ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    /// A connection until then.
    pub fn new(stream: &'a UnixStream, until: Instant) -> Self {
        Self { stream, until }
    }

    fn left(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

/// A time that is over has two names.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_listener_that_takes_nobody_is_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("pve-sys-socket-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let (done, told) = std::sync::mpsc::channel();
        // Of its own: what blocks for ever must not keep the test.
        std::thread::spawn(move || {
            let tried: Vec<_> = (0..10_000)
                .map(|_| connect(&path))
                .scan(true, |goes_on, tried| {
                    std::mem::replace(goes_on, tried.is_ok()).then_some(tried)
                })
                .collect();
            let _ = done.send(tried.into_iter().next_back());
        });
        let last = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(listener);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn one_deadline_holds_for_all_that_is_said() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let began = Instant::now();
        let mut timed = Timed::new(&ours, began + Duration::from_millis(300));
        (&theirs).write_all(b"ab").unwrap();
        let mut two = [0; 2];
        timed.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"ab");
        // Nobody reads: more than the kernel keeps.
        let error = timed.write_all(&vec![0; 8 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(timed.read(&mut two).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

//! One connection that carries JSON lines, with a deadline for everything.
//!
//! The peer is QEMU or, behind the agent's socket, a guest: nothing it sends may cost more than [`MAX_MESSAGE`] bytes or
//! longer than the deadline, and nothing it sends may stop the suite.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde_json::Value;

/// Most bytes of one message: far above the largest real one (the guest's 1 MiB of a file as base64, or all block
/// statistics), far below what would hurt.
const MAX_MESSAGE: usize = 16 << 20;
/// How long to wait before a busy socket is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(100);
/// The agent's frame mark: never part of UTF-8.
const FRAME_MARK: u8 = 0xff;

/// What can go wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// There is no socket file.
    #[error("unable to open monitor socket")]
    NoSocket,
    /// The socket does not accept.
    #[error("{0}")]
    Connect(io::Error),
    /// The socket stayed busy.
    #[error("timeout after {0} retries")]
    Busy(u32),
    /// No answer within the deadline.
    #[error("got timeout")]
    Timeout,
    /// The peer went away.
    #[error("client closed connection")]
    Closed,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(io::Error),
    /// The peer does not speak JSON.
    #[error("unexpected reply")]
    Garbage,
    /// The peer does not stop.
    #[error("reply is too large")]
    TooLarge,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects; a peer that is busy with another client is tried again until the deadline.
    pub(super) fn open(path: &Path, deadline: Instant) -> Result<Self, LinkError> {
        let mut retries = 0;
        loop {
            match connect_once(path) {
                Ok(stream) => {
                    return Ok(Self {
                        stream,
                        buffer: Vec::new(),
                    });
                }
                Err(Errno::ENOENT) => return Err(LinkError::NoSocket),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(LinkError::Connect(errno.into())),
            }
            if Instant::now() + RETRY >= deadline {
                return Err(LinkError::Busy(retries));
            }
            retries += 1;
            std::thread::sleep(RETRY);
        }
    }

    /// Sends one message.
    pub(super) fn send(&mut self, message: &Value, deadline: Instant) -> Result<(), LinkError> {
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        self.send_bytes(&line, deadline)
    }

    /// Sends one message after the frame mark, which makes the agent forget any half message before it.
    pub(super) fn send_framed(&mut self, message: &Value, deadline: Instant) -> Result<(), LinkError> {
        let mut line = vec![FRAME_MARK];
        line.extend_from_slice(message.to_string().as_bytes());
        line.push(b'\n');
        self.send_bytes(&line, deadline)
    }

    fn send_bytes(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            let left = time_left(deadline)?;
            self.stream.set_write_timeout(Some(left)).map_err(LinkError::Io)?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) => retriable(error)?,
            }
        }
        Ok(())
    }

    /// Receives one message; empty lines are skipped.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Value, LinkError> {
        loop {
            let line = self.take_until(b'\n', deadline)?;
            if !line.iter().all(u8::is_ascii_whitespace) {
                return serde_json::from_slice(&line).map_err(|_| LinkError::Garbage);
            }
        }
    }

    /// Skips everything up to the next frame mark.
    pub(super) fn skip_to_frame(&mut self, deadline: Instant) -> Result<(), LinkError> {
        self.take_until(FRAME_MARK, deadline).map(drop)
    }

    /// Takes everything up to a byte, that byte left out.
    fn take_until(&mut self, end: u8, deadline: Instant) -> Result<Vec<u8>, LinkError> {
        let mut searched = 0;
        loop {
            let unsearched = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|byte| *byte == end) {
                let rest = self.buffer.split_off(searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched > MAX_MESSAGE {
                return Err(LinkError::TooLarge);
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), LinkError> {
        let mut chunk = [0; 8192];
        loop {
            let left = time_left(deadline)?;
            self.stream.set_read_timeout(Some(left)).map_err(LinkError::Io)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(read) => {
                    self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    return Ok(());
                }
                Err(error) => retriable(error)?,
            }
        }
    }
}

fn connect_once(path: &Path) -> Result<UnixStream, Errno> {
    let stream = connect_nonblocking(path)?;
    stream
        .set_nonblocking(false)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    Ok(stream)
}

/// A blocking connect would wait without limit while the peer's backlog is full, so the socket does not block for it.
pub(super) fn connect_nonblocking(path: &Path) -> Result<UnixStream, Errno> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(UnixStream::from(socket))
}

fn time_left(deadline: Instant) -> Result<Duration, LinkError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(LinkError::Timeout);
    }
    Ok(left)
}

/// Whether another attempt makes sense; the deadline ends the attempts.
pub(super) fn retriable(error: io::Error) -> Result<(), LinkError> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(LinkError::Closed),
        _ => Err(LinkError::Io(error)),
    }
}

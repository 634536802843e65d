//! A running child: its end as something to wait for, and its pipes, of which none may block the other two.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Stream;
use crate::process::Handle;

/// How long a command that missed its deadline has between SIGTERM and SIGKILL, to remove what it left half-done.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// A descriptor that becomes readable when the child ends.
pub(super) fn pid_fd(child: &Child) -> io::Result<OwnedFd> {
    Ok(Handle::of(child.id())?.into_fd())
}

/// Asks a child to end, and kills it when it does not.
pub(super) fn end(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    // The child is not reaped yet, so the number is still its own.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    if let Ok(exit) = pid_fd(child) {
        let _ = poll_ready(&mut [PollFd::new(exit.as_fd(), PollFlags::POLLIN)], TERM_GRACE);
    }
    let _ = child.kill();
}

/// Waits until something can be read or written or the child has ended; true once it has.
pub(super) fn wait_for_any(
    exit: &OwnedFd,
    feeder: &Feeder<'_>,
    stdout: &Reader,
    stderr: &Reader,
    at_most: Duration,
) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(exit.as_fd(), PollFlags::POLLIN)];
    fds.extend(feeder.fd().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)));
    for reader in [stdout, stderr] {
        fds.extend(reader.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    }
    poll_ready(&mut fds, at_most)?;
    Ok(fds.first().and_then(PollFd::any).unwrap_or(false))
}

fn poll_ready(fds: &mut [PollFd<'_>], at_most: Duration) -> io::Result<()> {
    // Rounded up, so that a rest of less than a millisecond does not spin.
    let millis = at_most.as_millis().saturating_add(1).min(i32::MAX as u128);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Writes the input as the child takes it.
pub(super) struct Feeder<'a> {
    pipe: Option<std::process::ChildStdin>,
    rest: &'a [u8],
}

impl<'a> Feeder<'a> {
    pub(super) fn new(child: &mut Child, input: &'a [u8]) -> io::Result<Self> {
        let pipe = child.stdin.take();
        if let Some(pipe) = &pipe {
            set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self { pipe, rest: input })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// A child that does not want its input, or no more of it, is its own judge: its exit code tells.
    pub(super) fn write_some(&mut self) {
        while let Some(pipe) = &mut self.pipe {
            match pipe.write(self.rest) {
                Ok(written) => self.rest = self.rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.rest = &[],
            }
            if self.rest.is_empty() {
                self.pipe = None;
            }
        }
    }
}

/// Reads one output stream: keeps the bytes, hands over whole lines.
pub(super) struct Reader {
    pipe: Option<std::fs::File>,
    stream: Stream,
    pub(super) bytes: Vec<u8>,
    handed_over: usize,
}

impl Reader {
    pub(super) fn new<P: Into<OwnedFd>>(pipe: Option<P>, stream: Stream) -> io::Result<Self> {
        let pipe = pipe.map(|pipe| std::fs::File::from(pipe.into()));
        if let Some(pipe) = &pipe {
            set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self {
            pipe,
            stream,
            bytes: Vec::new(),
            handed_over: 0,
        })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads one buffer's worth, so that deadline and limits are looked at in between; true if there was anything.
    pub(super) fn read_some(&mut self, on_line: &mut dyn FnMut(Stream, &str)) -> io::Result<bool> {
        let mut buffer = [0; 1 << 16];
        let Some(pipe) = &mut self.pipe else { return Ok(false) };
        match pipe.read(&mut buffer) {
            Ok(0) => {
                self.pipe = None;
                Ok(false)
            }
            Ok(length) => {
                self.bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
                self.hand_over_lines(on_line);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn hand_over_lines(&mut self, on_line: &mut dyn FnMut(Stream, &str)) {
        while let Some(rest) = self.bytes.get(self.handed_over..) {
            let Some(length) = rest.iter().position(|b| *b == b'\n') else {
                return;
            };
            let line = rest.get(..length).unwrap_or_default();
            on_line(self.stream, String::from_utf8_lossy(line).trim_end_matches('\r'));
            self.handed_over += length + 1;
        }
    }

    /// Hands over a last line that has no line feed.
    pub(super) fn finish(&mut self, on_line: &mut dyn FnMut(Stream, &str)) {
        if let Some(rest) = self.bytes.get(self.handed_over..).filter(|rest| !rest.is_empty()) {
            on_line(self.stream, &String::from_utf8_lossy(rest));
        }
        self.handed_over = self.bytes.len();
    }
}

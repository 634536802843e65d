//! The two sides of a session, neither of which may hold the other up: waiting for them, and reading and writing what is
//! possible now.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How much is held for a side that does not read.
pub(super) const BUFFER: usize = 256 << 10;
/// How often a quiet session looks whether somebody wants it to end.
pub(super) const WAKE: Duration = Duration::from_secs(1);

/// What a side is waited for.
pub(super) fn interest(input: bool, output: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, input);
    flags.set(PollFlags::POLLOUT, output);
    flags
}

/// Waits until something happens at one of the sides, or for `limit`; what happened at each.
///
/// # Errors
/// What the system says.
pub(super) fn ready(
    client: (&impl AsFd, PollFlags),
    backend: (&impl AsFd, PollFlags),
    limit: Duration,
) -> io::Result<(PollFlags, PollFlags)> {
    let mut descriptors = vec![PollFd::new(client.0.as_fd(), client.1)];
    // A side that has ended would be reported for ever.
    if !backend.1.is_empty() {
        descriptors.push(PollFd::new(backend.0.as_fd(), backend.1));
    }
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut descriptors, limit) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut flags = descriptors
        .iter()
        .map(|descriptor| descriptor.revents().unwrap_or(PollFlags::empty()));
    let client = flags.next().unwrap_or(PollFlags::empty());
    Ok((client, flags.next().unwrap_or(PollFlags::empty())))
}

/// Reads once: nothing at the end, `None` if there is nothing now.
///
/// # Errors
/// What the system says.
pub(super) fn read_some(side: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut chunk = [0; 32 << 10];
    match side.read(&mut chunk) {
        Ok(read) => Ok(Some(chunk.get(..read).unwrap_or_default().to_vec())),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes what a side takes now.
///
/// # Errors
/// What the system says.
pub(super) fn write_some(side: &mut impl Write, waiting: &mut Vec<u8>) -> io::Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    match side.write(waiting) {
        Ok(written) => {
            waiting.drain(..written);
            Ok(())
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

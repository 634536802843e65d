//! The two sides of a session, neither of which may hold the other up: waiting for them, and reading and writing what is
//! possible now.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
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
    let mut sides = vec![(client.0.as_fd(), client.1)];
    // A side that has ended would be reported for ever.
    if !backend.1.is_empty() {
        sides.push((backend.0.as_fd(), backend.1));
    }
    let happened = ready_of(&sides, limit)?;
    let flags = |side: usize| happened.get(side).copied().unwrap_or(PollFlags::empty());
    Ok((flags(0), flags(1)))
}

/// As [`ready`], for any number of sides.
///
/// # Errors
/// What the system says.
pub(super) fn ready_of(sides: &[(BorrowedFd<'_>, PollFlags)], limit: Duration) -> io::Result<Vec<PollFlags>> {
    let mut descriptors: Vec<PollFd<'_>> = sides.iter().map(|(side, flags)| PollFd::new(*side, *flags)).collect();
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut descriptors, limit) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = |descriptor: &PollFd<'_>| descriptor.revents().unwrap_or(PollFlags::empty());
    Ok(descriptors.iter().map(flags).collect())
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

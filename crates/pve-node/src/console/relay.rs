//! Carries bytes between two sockets until one side ends or nothing moves for too long.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How much is held for a side that does not read: enough for a screen update, little beside a node's memory.
const BUFFER: usize = 256 << 10;

/// One direction: what was read from one side and waits for the other.
#[derive(Debug, Default)]
struct Flow {
    waiting: Vec<u8>,
    ended: bool,
}

impl Flow {
    fn wants_input(&self) -> bool {
        !self.ended && self.waiting.len() < BUFFER
    }

    /// Reads once; whether anything moved.
    fn take(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let mut chunk = [0; 32 << 10];
        match from.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(read) => self.waiting.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(error) if is_transient(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Writes once; whether anything moved.
    fn give(&mut self, to: &mut impl Write) -> io::Result<bool> {
        match to.write(&self.waiting) {
            Ok(written) => {
                self.waiting.drain(..written);
                Ok(written > 0)
            }
            Err(error) if is_transient(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_over(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }
}

/// Relays between two non-blocking sockets. It ends when either side has ended and got what was left for it, or when
/// nothing moved for `idle`.
///
/// # Errors
/// What the sockets say; [`io::ErrorKind::TimedOut`] when idle.
pub fn run<A, B>(a: &mut A, b: &mut B, idle: Duration) -> io::Result<()>
where
    A: Read + Write + AsFd,
    B: Read + Write + AsFd,
{
    let (mut forth, mut back) = (Flow::default(), Flow::default());
    let mut moved = Instant::now();
    while !forth.is_over() && !back.is_over() {
        let left = idle.saturating_sub(moved.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (a_ready, b_ready) = wait(a, b, &forth, &back, left)?;
        let mut progress = false;
        if a_ready.0 {
            progress |= forth.take(a)?;
        }
        if b_ready.0 {
            progress |= back.take(b)?;
        }
        if !back.waiting.is_empty() && (a_ready.1 || progress) {
            progress |= back.give(a)?;
        }
        if !forth.waiting.is_empty() && (b_ready.1 || progress) {
            progress |= forth.give(b)?;
        }
        if progress {
            moved = Instant::now();
        }
    }
    Ok(())
}

/// Which side can be read, and which can be written.
fn wait(
    a: &impl AsFd,
    b: &impl AsFd,
    forth: &Flow,
    back: &Flow,
    left: Duration,
) -> io::Result<((bool, bool), (bool, bool))> {
    let interest = |input: &Flow, output: &Flow| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, input.wants_input());
        flags.set(PollFlags::POLLOUT, !output.waiting.is_empty());
        flags
    };
    let mut descriptors = [
        PollFd::new(a.as_fd(), interest(forth, back)),
        PollFd::new(b.as_fd(), interest(back, forth)),
    ];
    let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut descriptors, timeout) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let input = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
    let [a, b] = descriptors.map(|descriptor| {
        let flags = descriptor.revents().unwrap_or(PollFlags::empty());
        (flags.intersects(input), flags.contains(PollFlags::POLLOUT))
    });
    Ok((a, b))
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Two ends for the test, and the relay between them in a thread.
    fn start(idle: Duration) -> (UnixStream, UnixStream, std::thread::JoinHandle<io::Result<()>>) {
        let (near, mut a) = UnixStream::pair().unwrap();
        let (far, mut b) = UnixStream::pair().unwrap();
        for stream in [&a, &b] {
            stream.set_nonblocking(true).unwrap();
        }
        let thread = std::thread::spawn(move || run(&mut a, &mut b, idle));
        (near, far, thread)
    }

    #[test]
    fn bytes_arrive_both_ways_and_the_end_passes_through() {
        let (mut near, mut far, thread) = start(Duration::from_secs(30));
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let copy = sent.clone();
        let writer = std::thread::spawn(move || {
            near.write_all(&copy).unwrap();
            near
        });
        let mut received = vec![0; sent.len()];
        far.read_exact(&mut received).unwrap();
        assert!(received == sent);
        let mut near = writer.join().unwrap();
        far.write_all(b"hello").unwrap();
        drop(far);
        let mut rest = String::new();
        near.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "hello");
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn silence_ends_it() {
        let (_near, _far, thread) = start(Duration::from_millis(50));
        assert_eq!(thread.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

//! Moves bytes between two TCP sockets without looking at them: splice(2) through a pipe per direction, so that they
//! stay in the kernel (twice the rate of copying at half the processor time: reference 12 §5).
//!
//! A direction reads only when its pipe is empty, so a slow reader slows its writer down and nothing piles up here.
//!
//! ```text
//! both ways ──one side ends──▶ the end is passed on, the other way goes on ──ends, or is silent──▶ over
//!     └───────one side breaks──▶ what is on its way may still arrive ────────ends, or is silent──▶ over
//! ```

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::counters;

/// How much a pipe is asked to hold; four times the default is worth a tenth of the rate (reference 12 §5). A user's
/// pipes have a common limit, beyond which they keep the default.
const PIPE_SIZE: usize = 256 * 1024;
/// After this many rounds other tunnels have their turn, whatever is still to be moved.
const ROUNDS: u32 = 16;
/// How long one direction may be silent after the other has ended. A viewer that was killed looks like one that has
/// only finished talking, and a guest that does not hang up by itself must not keep its tunnel for ever.
const HALF_OPEN: Duration = Duration::from_secs(60);
/// How long after a broken connection the other direction may go on with what it has.
const BROKEN: Duration = Duration::from_secs(1);
/// A silent peer is asked whether it is still there after this many seconds, so often, and at this interval: a
/// viewer's machine that lost its power is noticed within four minutes.
const KEEP_ALIVE: (u32, u32, u32) = (120, 4, 30);

/// A socket, and what was read from it that is for the other side.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stream: TcpStream,
    pub(super) early: Vec<u8>,
}

/// What two directions need. Made before anybody is told that there is a tunnel.
#[derive(Debug)]
pub(super) struct Pipes(Pipe, Pipe);

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        if let Ok(size) = i32::try_from(PIPE_SIZE) {
            // Beyond the user's limit this is refused, and the pipe stays as it is.
            let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(size));
        }
        Ok(Self { read, write })
    }
}

impl Pipes {
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Pipe::new()?, Pipe::new()?))
    }
}

/// Relays until both directions have ended.
pub(super) async fn relay(client: End, backend: End, pipes: Pipes) {
    relay_with(client, backend, pipes, HALF_OPEN).await;
}

async fn relay_with(client: End, backend: End, pipes: Pipes, half_open: Duration) {
    for stream in [&client.stream, &backend.stream] {
        // Without these the tunnel works all the same.
        let _ = stream.set_nodelay(true);
        let _ = keep_alive(stream);
    }
    let moved = AtomicU64::new(0);
    let mut up = pin!(pump(&client, &backend.stream, &pipes.0, &moved, counters::received));
    let mut down = pin!(pump(&backend, &client.stream, &pipes.1, &moved, counters::sent));
    tokio::select! {
        ended = &mut up => outlast(down, &ended, &moved, half_open).await,
        ended = &mut down => outlast(up, &ended, &moved, half_open).await,
    }
}

/// Lets the second direction go on after the first has ended, as long as something moves.
async fn outlast(
    mut second: impl Future<Output = io::Result<()>> + Unpin,
    first: &io::Result<()>,
    moved: &AtomicU64,
    half_open: Duration,
) {
    let patience = if first.is_ok() { half_open } else { BROKEN };
    let mut before = moved.load(Ordering::Relaxed);
    while timeout(patience, &mut second).await.is_err() {
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// One direction: to the end of `from`, which is then passed on to `to`.
async fn pump(from: &End, to: &TcpStream, pipe: &Pipe, moved: &AtomicU64, count: fn(usize)) -> io::Result<()> {
    write_all(to, &from.early).await?;
    count(from.early.len());
    let mut round = 0_u32;
    loop {
        round = round.wrapping_add(1);
        let filled = spliced(&from.stream, Interest::READABLE, || {
            splice(&from.stream, None, &pipe.write, None, PIPE_SIZE, flags())
        });
        let mut left = filled.await?;
        if left == 0 {
            break;
        }
        moved.fetch_add(1, Ordering::Relaxed);
        count(left);
        while left > 0 {
            let drained = spliced(to, Interest::WRITABLE, || {
                splice(&pipe.read, None, to, None, left, flags())
            });
            left = left.saturating_sub(drained.await?);
            moved.fetch_add(1, Ordering::Relaxed);
        }
        if round.is_multiple_of(ROUNDS) {
            tokio::task::yield_now().await;
        }
    }
    match shutdown(to.as_raw_fd(), Shutdown::Write) {
        // It is gone already, and so has nothing to be told.
        Err(nix::Error::ENOTCONN) => Ok(()),
        ended => Ok(ended?),
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

/// Does what must wait for a socket. The pipe is never waited for: it is empty before it is filled.
async fn spliced(
    socket: &TcpStream,
    interest: Interest,
    mut work: impl FnMut() -> nix::Result<usize>,
) -> io::Result<usize> {
    socket.async_io(interest, || work().map_err(io::Error::from)).await
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = to.async_io(Interest::WRITABLE, || to.try_write(bytes)).await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn keep_alive(stream: &TcpStream) -> nix::Result<()> {
    let (idle, count, interval) = KEEP_ALIVE;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(stream, sockopt::TcpKeepCount, &count)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &interval)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// The viewer's socket, the guest's, and the relay between them.
    async fn start(early: (&[u8], &[u8]), half_open: Duration) -> (TcpStream, TcpStream, JoinHandle<()>) {
        let (viewer, client) = pair().await;
        let (guest, backend) = pair().await;
        let end = |stream, early: &[u8]| End {
            stream,
            early: early.to_vec(),
        };
        let (client, backend) = (end(client, early.0), end(backend, early.1));
        let pipes = Pipes::new().unwrap();
        let task = tokio::spawn(relay_with(client, backend, pipes, half_open));
        (viewer, guest, task)
    }

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(20), work).await.expect("in time")
    }

    async fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        soon(stream.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn early_bytes_come_first_and_each_end_is_passed_on() {
        let (mut viewer, mut guest, task) = start((b"up ", b"down "), HALF_OPEN).await;
        viewer.write_all(b"and more").await.unwrap();
        viewer.shutdown().await.unwrap();
        assert_eq!(rest(&mut guest).await, b"up and more");
        // The other direction is still open.
        guest.write_all(b"goes on").await.unwrap();
        drop(guest);
        assert_eq!(rest(&mut viewer).await, b"down goes on");
        soon(task).await.unwrap();
    }

    #[tokio::test]
    async fn large_data_arrives_whole_both_ways_at_once() {
        let (viewer, guest, task) = start((b"", b""), HALF_OPEN).await;
        let data = |seed: u32| {
            (0..20_000_000_u32)
                .map(|n| (n.wrapping_mul(seed) >> 7) as u8)
                .collect::<Vec<u8>>()
        };
        let (up, down) = (data(2_654_435_761), data(40_503));
        let exchange = |stream: TcpStream, sent: Vec<u8>| async move {
            let (mut from, mut to) = stream.into_split();
            let writer = tokio::spawn(async move {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
            });
            let mut received = Vec::new();
            from.read_to_end(&mut received).await.unwrap();
            writer.await.unwrap();
            received
        };
        let (at_viewer, at_guest) =
            soon(async { tokio::join!(exchange(viewer, up.clone()), exchange(guest, down.clone())) }).await;
        assert!(at_viewer == down && at_guest == up);
        soon(task).await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_stops_its_writer() {
        let (viewer, guest, _task) = start((b"", b""), HALF_OPEN).await;
        let chunk = vec![7_u8; 1 << 20];
        let mut written = 0_usize;
        // The socket buffers and the pipe are full at some point, far below this.
        while let Ok(Ok(())) = timeout(Duration::from_millis(500), viewer.writable()).await {
            match viewer.try_write(&chunk) {
                Ok(count) => written += count,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(written < 1 << 30, "the relay takes everything");
        }
        let mut guest = guest;
        drop(viewer);
        let mut received = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match soon(guest.read(&mut buffer)).await.unwrap() {
                0 => break,
                count => received += count,
            }
        }
        assert_eq!(received, written);
    }

    #[tokio::test]
    async fn a_killed_viewer_ends_the_guests_connection() {
        let (viewer, mut guest, task) = start((b"", b""), HALF_OPEN).await;
        // Closed with an answer unread: the kernel sends a reset, as it does for a killed process.
        guest.write_all(b"unread").await.unwrap();
        soon(viewer.readable()).await.unwrap();
        drop(viewer);
        let mut buffer = [0; 8];
        assert!(matches!(soon(guest.read(&mut buffer)).await, Ok(0) | Err(_)));
        soon(task).await.unwrap();
    }

    #[tokio::test]
    async fn a_side_that_never_hangs_up_does_not_keep_the_tunnel() {
        let (viewer, guest, task) = start((b"", b""), Duration::from_millis(50)).await;
        drop(viewer);
        soon(task).await.unwrap();
        drop(guest);
    }
}

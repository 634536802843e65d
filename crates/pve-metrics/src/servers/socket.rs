//! Writing to sockets, with an end to every wait.

use std::io::{self, ErrorKind, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pve_schema::errno_text;

use super::error::SendError;

/// Until when a server may be told of one snapshot.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Nothing begins after this, and nothing goes on.
    pub until: Instant,
    /// Set when the server is to be told no more, or at another place: what is not sent by then stays here.
    pub is_dismissed: Arc<AtomicBool>,
}

impl Limit {
    /// So long from now on.
    pub fn of(duration: Duration) -> Self {
        Self {
            until: Instant::now() + duration,
            is_dismissed: Arc::default(),
        }
    }

    /// How long the next step may take, if it may take so long in general.
    pub(super) fn step(&self, most: Duration) -> Result<Duration, SendError> {
        if self.is_dismissed.load(Ordering::Acquire) {
            return Err(SendError::Dismissed);
        }
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(late()),
            false => Ok(left.min(most)),
        }
    }
}

fn late() -> SendError {
    SendError::Broken("Connection timed out".to_owned())
}

fn broken(error: &io::Error) -> SendError {
    match error.kind() {
        ErrorKind::WouldBlock => late(),
        _ => SendError::Broken(errno_text(error)),
    }
}

/// Sends datagrams, waiting for room for each.
pub(super) fn send_datagrams(
    socket: &UdpSocket,
    batches: &[Vec<u8>],
    timeout: Duration,
    limit: &Limit,
) -> Result<(), SendError> {
    for batch in batches {
        let left = limit.step(timeout)?;
        socket.set_write_timeout(Some(left)).map_err(|error| broken(&error))?;
        socket.send(batch).map_err(|error| broken(&error))?;
    }
    Ok(())
}

/// Sends datagrams without waiting (reference 04 §16.2); how many got lost because there was no room, or they had none.
pub(super) fn send_at_once(socket: &UdpSocket, batches: &[Vec<u8>], limit: &Limit) -> Result<usize, SendError> {
    let mut lost = 0;
    socket.set_nonblocking(true).map_err(|error| broken(&error))?;
    for batch in batches {
        limit.step(Duration::MAX)?;
        match socket.send(batch) {
            Ok(_) => {}
            Err(error) if is_loss(&error) => lost += 1,
            Err(error) => return Err(broken(&error)),
        }
    }
    Ok(lost)
}

/// Whether it concerns this datagram alone.
fn is_loss(error: &io::Error) -> bool {
    use nix::libc::{EMSGSIZE, ENOBUFS};
    error.kind() == ErrorKind::WouldBlock || matches!(error.raw_os_error(), Some(EMSGSIZE | ENOBUFS))
}

/// Writes batches to somebody who may never read them; each may take the time-out.
pub(super) fn write_within(
    mut stream: &TcpStream,
    batches: &[Vec<u8>],
    timeout: Duration,
    limit: &Limit,
) -> Result<(), SendError> {
    for batch in batches {
        let deadline = Instant::now() + limit.step(timeout)?;
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            stream.set_write_timeout(Some(left)).map_err(|error| broken(&error))?;
            match stream.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn one_who_reads_slowly_may_take_the_time_out_for_each_batch() {
        const TIMEOUT: Duration = Duration::from_secs(5);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // More than all buffers on the way hold, and what is read within one time-out.
        let batches = vec![vec![b'x'; 1 << 16]; 512];
        let start = Instant::now();
        let reader = thread::spawn(move || {
            let mut peer = listener.accept().unwrap().0;
            let mut buffer = vec![0; 1 << 16];
            let mut all = 0;
            loop {
                match peer.read(&mut buffer).unwrap() {
                    0 => return all,
                    size => all += size,
                }
                if start.elapsed() <= TIMEOUT {
                    thread::park_timeout(Duration::from_millis(25));
                }
            }
        });
        write_within(&stream, &batches, TIMEOUT, &Limit::of(TIMEOUT * 30)).unwrap();
        assert!(start.elapsed() > TIMEOUT, "it read too fast: {:?}", start.elapsed());
        drop(stream);
        assert_eq!(reader.join().unwrap(), 512 << 16);
    }

    #[test]
    fn nothing_is_sent_once_nobody_wants_it_or_the_time_is_over() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        let dismissed = Limit::of(Duration::from_secs(60));
        dismissed.is_dismissed.store(true, Ordering::Release);
        let timeout = Duration::from_secs(1);
        for (limit, error) in [(dismissed, SendError::Dismissed), (Limit::of(Duration::ZERO), late())] {
            let batches = [b"x".to_vec()];
            assert_eq!(send_datagrams(&socket, &batches, timeout, &limit), Err(error.clone()));
            assert_eq!(send_at_once(&socket, &batches, &limit), Err(error.clone()));
            assert_eq!(write_within(&stream, &batches, timeout, &limit), Err(error));
        }
        assert!(peer.recv(&mut [0]).is_err(), "nothing came");
    }
}

//! One channel of a client: a TLS connection, the stage that it is in, and what waits to be sent.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Kind;
use super::link::{Hello, Link};
use super::messages::Decoder;
use crate::terminal::sides::{BUFFER, interest, read_some, write_some};

/// How long a client may take until its password is there.
const LOGIN: Duration = Duration::from_secs(10);

/// How far a channel is.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is not let in yet; what it wants, once it said so.
    Link(Link, Option<Hello>),
    /// It is in.
    Open(Kind, Decoder),
    /// It was refused, and is told so.
    Refused,
}

/// A channel.
pub(super) struct Channel {
    pub(super) stage: Stage,
    /// What waits to be sent.
    pub(super) out: Vec<u8>,
    stream: StreamOwned<ServerConnection, TcpStream>,
    since: Instant,
    has_failed: bool,
}

impl Channel {
    /// A connection that has just come.
    pub(super) fn new(tls: &Arc<ServerConfig>, stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let tls = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
        Ok(Self {
            stage: Stage::Link(Link::default(), None),
            out: Vec::new(),
            stream: StreamOwned::new(tls, stream),
            since: Instant::now(),
            has_failed: false,
        })
    }

    /// Which channel it is, if it is in.
    pub(super) fn kind(&self) -> Option<Kind> {
        match &self.stage {
            Stage::Open(kind, _) => Some(*kind),
            _ => None,
        }
    }

    /// The client's end of the connection.
    pub(super) fn peer(&self) -> String {
        let peer = self.stream.sock.peer_addr();
        peer.map_or_else(|error| error.to_string(), |peer| peer.to_string())
    }

    /// What it is waited for.
    pub(super) fn interest(&self, may_read: bool) -> PollFlags {
        interest(may_read && self.out.len() < BUFFER, !self.is_idle())
    }

    /// Whether all is sent.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty() && !self.stream.conn.wants_write()
    }

    /// Whether nothing comes of it any more: it is gone, was told that it is refused, or is too slow.
    pub(super) fn is_over(&self) -> bool {
        let is_late = self.since.elapsed() > LOGIN;
        self.has_failed
            || match self.stage {
                Stage::Open(..) => false,
                Stage::Link(..) => is_late,
                Stage::Refused => is_late || self.is_idle(),
            }
    }

    /// Reads what the client says; empty if there is nothing now, or nothing any more.
    pub(super) fn read(&mut self) -> Vec<u8> {
        let read = read_some(&mut self.stream);
        // An end that is not announced inside TLS is an end, too: viewers just go.
        self.has_failed |= matches!(&read, Err(_)) || matches!(&read, Ok(Some(bytes)) if bytes.is_empty());
        read.ok().flatten().unwrap_or_default()
    }

    /// Sends what is possible now.
    pub(super) fn flush(&mut self) {
        let is_sent = write_some(&mut self.stream, &mut self.out).and_then(|()| match self.stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        });
        self.has_failed |= is_sent.is_err();
    }

    /// It cannot go on.
    pub(super) fn fail(&mut self) {
        self.has_failed = true;
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.sock.as_fd()
    }
}

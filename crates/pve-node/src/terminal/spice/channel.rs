//! One channel of a client: a TLS connection, the stage that it is in, and what waits to be sent.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use openssl::ssl::{ErrorCode, Ssl, SslAcceptor, SslStream};

use super::Kind;
use super::draw::Outbox;
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
    pub(super) out: Outbox,
    stream: SslStream<TcpStream>,
    /// TLS is agreed upon; until then, whether it has something to send.
    is_agreed: bool,
    owes_hello: bool,
    since: Instant,
    has_failed: bool,
}

impl Channel {
    /// A connection that has just come.
    pub(super) fn new(tls: &SslAcceptor, stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let tls = Ssl::new(tls.context())?;
        Ok(Self {
            stage: Stage::Link(Link::default(), None),
            out: Outbox::new(),
            stream: SslStream::new(tls, stream)?,
            is_agreed: false,
            owes_hello: false,
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
        let peer = self.stream.get_ref().peer_addr();
        peer.map_or_else(|error| error.to_string(), |peer| peer.to_string())
    }

    /// What it is waited for.
    pub(super) fn interest(&self, may_read: bool) -> PollFlags {
        interest(may_read && self.held() < BUFFER, self.owes_hello || !self.is_idle())
    }

    /// Bytes that wait to be sent.
    fn held(&self) -> usize {
        self.out.iter().map(Vec::len).sum()
    }

    /// Whether all is sent.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty()
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
        if !self.agree() {
            return Vec::new();
        }
        let read = read_some(&mut self.stream);
        // An end that is not announced inside TLS is an end, too: viewers just go.
        self.has_failed |= read.is_err() || matches!(&read, Ok(Some(bytes)) if bytes.is_empty());
        read.ok().flatten().unwrap_or_default()
    }

    /// Sends what is possible now.
    pub(super) fn flush(&mut self) {
        if self.owes_hello {
            self.agree();
        }
        while let Some(message) = self.out.front_mut().filter(|_| self.is_agreed && !self.has_failed) {
            let before = message.len();
            self.has_failed |= write_some(&mut self.stream, message).is_err();
            if message.is_empty() {
                self.out.pop_front();
            } else if message.len() == before {
                return;
            }
        }
    }

    /// Goes on with agreeing upon TLS; whether that is done.
    fn agree(&mut self) -> bool {
        if self.is_agreed || self.has_failed {
            return self.is_agreed;
        }
        self.owes_hello = false;
        match self.stream.accept() {
            Ok(()) => self.is_agreed = true,
            Err(error) => match error.code() {
                ErrorCode::WANT_READ => {}
                ErrorCode::WANT_WRITE => self.owes_hello = true,
                _ => self.has_failed = true,
            },
        }
        self.is_agreed
    }

    /// It cannot go on.
    pub(super) fn fail(&mut self) {
        self.has_failed = true;
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

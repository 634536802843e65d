//! The byte stream below HTTP: TCP or TLS, cut off when the other end stops reading, closed so that the last answer
//! arrives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use crate::counters;
use crate::server::Hurry;
use crate::tls::HTTP2;

/// How long a closed connection is still read from. Unread bytes at close make the kernel send a reset, which can
/// overtake the answer that explains the close.
const LINGER: Duration = Duration::from_secs(1);
/// How many bytes are read and thrown away after a close: a refused body of ordinary size, not a whole image.
const LINGER_BYTES: usize = 2 << 20;

/// TCP or TLS.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection's byte stream.
pub(crate) struct Transport {
    wire: Wire,
    /// How long a write may make no progress; `None` for no limit.
    stall_limit: Option<Duration>,
    /// Whether there is no limit at the moment: a large file goes out, at the pace of its reader.
    patient: Arc<AtomicBool>,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
    /// Tells that there is no time to linger.
    hurry: Option<Hurry>,
}

/// What is left to do once our side is closed.
struct Linger {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl Transport {
    pub(crate) fn new(wire: Wire, stall_limit: Duration) -> Self {
        Self {
            wire,
            stall_limit: Some(stall_limit),
            patient: Arc::default(),
            stalled: None,
            linger: None,
            hurry: None,
        }
    }

    /// Lets a switch say whether there is a limit at the moment.
    pub(crate) fn patient_if(mut self, patient: Arc<AtomicBool>) -> Self {
        self.patient = patient;
        self
    }

    /// Closes without lingering when others wait for the place.
    pub(crate) fn in_a_hurry_if(mut self, hurry: Hurry) -> Self {
        self.hurry = Some(hurry);
        self
    }

    /// Whether the client chose HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        match &self.wire {
            Wire::Plain(_) => false,
            Wire::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(HTTP2),
        }
    }

    /// Lets writes wait as long as the other end likes: consoles are paused for hours.
    pub(crate) fn without_stall_limit(mut self) -> Self {
        self.stall_limit = None;
        self.stalled = None;
        self
    }

    /// Whether a reader may take its time: not while others wait for its place.
    fn is_patient(&self) -> bool {
        self.patient.load(Ordering::Relaxed) && !self.hurry.as_ref().is_some_and(Hurry::is_on)
    }

    /// Passes a write's outcome on, unless there was no progress for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match (&outcome, self.stall_limit) {
            (Poll::Pending, Some(limit)) if !self.is_patient() => {
                let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
            _ => {
                self.stalled = None;
                outcome
            }
        }
    }

    fn socket(&mut self) -> &mut TcpStream {
        match &mut self.wire {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => tls.get_mut().0,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = match &mut self.get_mut().wire {
            Wire::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        counters::received(buf.filled().len().saturating_sub(before));
        outcome
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = match &mut this.wire {
            Wire::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Wire::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        if let Poll::Ready(Ok(count)) = outcome {
            counters::sent(count);
        }
        this.watch(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = match &mut this.wire {
            Wire::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Wire::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        if let Poll::Ready(Ok(count)) = outcome {
            counters::sent(count);
        }
        this.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = match &mut this.wire {
            Wire::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        this.watch(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let outcome = match &mut this.wire {
                Wire::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
                Wire::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            };
            ready!(this.watch(cx, outcome))?;
            this.linger = Some(Linger {
                until: Box::pin(sleep(LINGER)),
                bytes_left: LINGER_BYTES,
            });
        }
        this.poll_linger(cx).map(Ok)
    }
}

impl Transport {
    /// Reads and forgets until the other end closes too, or has had its chance to.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0_u8; 8192];
        loop {
            let Some(linger) = &mut self.linger else {
                return Poll::Ready(());
            };
            let is_over = linger.bytes_left == 0 || self.hurry.as_ref().is_some_and(Hurry::is_on);
            if is_over || linger.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(self.socket()).poll_read(cx, &mut buf));
            let count = buf.filled().len();
            if read.is_err() || count == 0 {
                return Poll::Ready(());
            }
            if let Some(linger) = &mut self.linger {
                linger.bytes_left = linger.bytes_left.saturating_sub(count);
            }
        }
    }
}

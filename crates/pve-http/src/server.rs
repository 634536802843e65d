//! Accepts connections and serves HTTP on them, until it is told to drain.
//!
//! ```text
//! serving ──drain──▶ every answer says "Connection: close" ──0.7 s──▶ idle connections are closed ──▶ all ended
//! ```
//!
//! The notice comes first because closing at once loses requests that are on their way (reference 12 §6). Consoles
//! live on in tasks of their own; [`Server::run`] returns when the last of them has ended.

pub(crate) mod bodies;
mod crowd;
mod http2;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pve_daemon::counters::Held;
use pve_rest::Pipeline;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use bodies::Bodies;

use crate::access_log::Entry;
use crate::config::{Limits, ServerConfig};
use crate::counters;
use crate::forward::Forwarder;
use crate::head::MAX_HEADER_LINES;
use crate::serve::serve;
use crate::tls::Live;
use crate::transport::{Transport, Wire};
pub(crate) use crowd::{Arrival, Gate, Hurry, Place};

/// Most bytes of a head that is not complete yet: the longest URI that the HTTP library takes (64 KiB), the headers, and
/// some. Every connection may hold as much before anybody knows whose it is.
const HEAD_BUFFER: usize = (64 + 8 + 8) * 1024;
/// Pause after a failed accept: out of file descriptors, most likely, and the next attempt will fail too.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// First byte of a TLS record that opens a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A daemon's HTTP server.
pub struct Server {
    /// What a request goes through.
    pub pipeline: Arc<Pipeline>,
    /// What the daemon decided.
    pub config: ServerConfig,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) config: ServerConfig,
    pub(crate) forwarder: Forwarder,
    /// What the bodies of calls take.
    pub(crate) bodies: Bodies,
    /// Requests on HTTP/2 that may still be answered at the same time.
    streams: Arc<Semaphore>,
}

/// How far a server is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Answers say that the connection ends.
    Notice,
    /// Idle connections are closed.
    Closing,
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: SocketAddr,
    /// A plain-HTTP client on the TLS port: it is sent elsewhere.
    pub(crate) plain_on_tls: bool,
    /// Requests that may still come.
    budget: AtomicU32,
    /// Whether there has been a request.
    begun: AtomicBool,
    /// Whether the client may take its time to read what is being sent.
    patient: Arc<AtomicBool>,
    phase: watch::Receiver<Phase>,
    /// While any of these is held the server has not ended.
    alive: mpsc::Sender<()>,
    /// The connection is counted as long as one of these is held.
    slot: Arc<OwnedSemaphorePermit>,
    /// Whose turn it is, in case somebody has to leave.
    pub(crate) place: Place,
    /// On HTTP/2 the request is counted too, until its work is done: a client that cancels its requests as fast as it
    /// sends them does not get more of them done.
    stream: Option<Arc<OwnedSemaphorePermit>>,
    counted: Arc<Held>,
}

impl Connection {
    /// Takes one request from the budget; whether another may follow.
    pub(crate) fn spend(&self) -> bool {
        self.begun.store(true, Ordering::Relaxed);
        let before = self.budget.load(Ordering::Relaxed);
        self.budget.store(before.saturating_sub(1), Ordering::Relaxed);
        before > 1
    }

    /// Whether there has been a request.
    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Lets the client take its time to read the next answer, or not.
    pub(crate) fn be_patient(&self, patient: bool) {
        self.patient.store(patient, Ordering::Relaxed);
    }

    /// Whether no further request is wanted.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// Runs work to its end, whatever becomes of the connection; `None` if it panicked.
    ///
    /// Most of what is answered here is done at the first try, and needs no task of its own.
    pub(crate) async fn detached<T, F>(&self, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut work = Box::pin(work);
        // Nobody needs to be woken: what is not done is tried again by its task.
        let first_try = catch_unwind(AssertUnwindSafe(|| work.as_mut().now_or_never()));
        if let Some(done) = first_try.ok()? {
            return Some(done);
        }
        let held = (self.alive.clone(), self.stream.clone());
        let task = tokio::spawn(async move {
            let _held = held;
            work.await
        });
        task.await.ok()
    }
}

impl Server {
    /// Serves on an inherited listening socket until `drain` is ready and every connection has ended.
    ///
    /// A certificate that cannot be loaded does not end the server: it tries again every 5 s, with the port bound.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub async fn run(self, listener: std::net::TcpListener, drain: impl Future<Output = ()>) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut drain = pin!(drain);
        let tls = match &self.config.tls {
            None => None,
            Some(settings) => tokio::select! {
                live = Live::start(settings.clone()) => Some(live),
                () = &mut drain => return Ok(()),
            },
        };
        let limits = self.config.limits.clone();
        let daemon = SocketAddr::new(self.pipeline.context.site.address, self.config.daemon_port);
        let shared = Arc::new(Shared {
            bodies: Bodies::default(),
            forwarder: Forwarder::new(
                daemon,
                limits.backend_idle,
                &self.pipeline.context,
                self.config.find_node.clone(),
            ),
            pipeline: self.pipeline,
            config: self.config,
            streams: Arc::new(Semaphore::new(limits.connections)),
        });
        let (phase, phases) = watch::channel(Phase::Serving);
        let (alive, mut ended) = mpsc::channel(1);
        let door = Door {
            shared,
            tls,
            phases,
            alive,
            gate: Gate::new(limits.connections),
        };
        tokio::select! {
            () = door.open(&listener) => {}
            () = &mut drain => {}
        }
        drop(listener);
        drop(door);
        phase.send_replace(Phase::Notice);
        // Nobody sends: this ends early when all connections have ended.
        let _ = timeout(limits.drain_notice, ended.recv()).await;
        phase.send_replace(Phase::Closing);
        ended.recv().await;
        Ok(())
    }
}

/// Where connections come in.
struct Door {
    shared: Arc<Shared>,
    tls: Option<Live>,
    phases: watch::Receiver<Phase>,
    alive: mpsc::Sender<()>,
    gate: Gate,
}

impl Door {
    /// Accepts for ever.
    async fn open(&self, listener: &TcpListener) {
        loop {
            match self.gate.next(listener).await {
                Ok(arrival) => self.welcome(arrival),
                Err(error) => {
                    log::error!("accept failed: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(&self, arrival: Arrival) {
        let Arrival {
            stream,
            peer,
            slot,
            place,
        } = arrival;
        let config = &self.shared.config;
        if !config.allow.as_ref().is_none_or(|allow| allow(peer.ip())) {
            counters::rejected();
            self.log_rejected(peer.ip());
            return;
        }
        let limits = &config.limits;
        let budget = if self.gate.open() > limits.crowded {
            1
        } else {
            limits.keep_alive
        };
        let connection = Connection {
            shared: Arc::clone(&self.shared),
            peer,
            plain_on_tls: false,
            budget: AtomicU32::new(budget),
            begun: AtomicBool::new(false),
            patient: Arc::default(),
            phase: self.phases.clone(),
            alive: self.alive.clone(),
            slot: Arc::new(slot),
            place,
            stream: None,
            counted: Arc::new(counters::connection()),
        };
        let acceptor = self.tls.as_ref().map(Live::acceptor);
        tokio::spawn(async move {
            let idle = connection.shared.config.limits.idle;
            let shaken = tokio::select! {
                shaken = timeout(idle, handshake(stream, acceptor)) => shaken,
                _ = connection.place.asked_to_leave() => return,
            };
            if let Ok(Some((wire, plain_on_tls))) = shaken {
                let connection = Connection {
                    plain_on_tls,
                    ..connection
                };
                let transport = Transport::new(wire, idle)
                    .patient_if(Arc::clone(&connection.patient))
                    .in_a_hurry_if(connection.place.hurry());
                if transport.is_http2() {
                    http2::converse(connection, transport).await;
                } else {
                    converse(connection, transport).await;
                }
            }
        });
    }

    fn log_rejected(&self, address: IpAddr) {
        let log = self.shared.config.access_log.clone();
        let mut entry = Entry::new(log, address.to_string(), "-".to_owned());
        entry.write(self.shared.pipeline.context.now(), 403, None);
    }
}

/// Finds out what the client speaks: TLS, or – on a TLS port, to be redirected – plain HTTP. `None`: neither.
async fn handshake(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Option<(Wire, bool)> {
    // Small frames of a console must not wait for each other.
    stream.set_nodelay(true).ok()?;
    let Some(acceptor) = acceptor else {
        return Some((Wire::Plain(stream), false));
    };
    let mut first = [0_u8; 1];
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    match first {
        [TLS_HANDSHAKE] => Some((Wire::Tls(Box::new(acceptor.accept(stream).await.ok()?)), false)),
        [b] if b.is_ascii_alphabetic() || b == b'\r' || b == b'\n' => Some((Wire::Plain(stream), true)),
        _ => None,
    }
}

/// How HTTP/1 is spoken: who reads heads, and how large they may be.
pub fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_headers(MAX_HEADER_LINES)
        .max_buf_size(HEAD_BUFFER)
        .title_case_headers(true)
        .auto_date_header(false);
    builder
}

/// Serves the requests of one connection.
async fn converse(connection: Connection, transport: Transport) {
    let connection = Arc::new(connection);
    let mut phases = connection.phase.clone();
    let limits = &connection.shared.config.limits;
    let service = service_fn(|request| {
        let connection = Arc::clone(&connection);
        async move {
            connection.place.works();
            let answer = serve(Arc::clone(&connection), request).await;
            connection.place.waits_for_visitor();
            answer
        }
    });
    let mut http = http1(limits)
        .serve_connection(TokioIo::new(transport), service)
        .with_upgrades();
    let mut closing = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut http => break outcome,
            _ = phases.wait_for(|phase| *phase == Phase::Closing), if !closing => {
                closing = true;
                // One whose handshake took that long has its first request under way, and is told in the answer.
                if connection.has_begun() {
                    std::pin::Pin::new(&mut http).graceful_shutdown();
                }
            }
            is_visitor = connection.place.asked_to_leave() => {
                if !is_visitor {
                    return;
                }
                // The last answer may still be on its way.
                std::pin::Pin::new(&mut http).graceful_shutdown();
            }
        }
    };
    if let Err(error) = outcome {
        log::debug!("connection from {}: {error}", connection.peer);
        // hyper drops the stream after an error; TLS clients take that for an attack unless it is closed in order.
        if let Some(parts) = http.into_parts() {
            let mut transport = parts.io.into_inner();
            tokio::select! {
                _ = transport.shutdown() => {}
                _ = connection.place.asked_to_leave() => {}
            }
        }
    }
}

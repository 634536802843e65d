//! HTTP/2, for clients that choose it where the administrator offers it (`HTTP2=1`, RFC 9113).
//!
//! ```text
//! OPEN ──idle, drain, or no room for others─────▶ LEAVING (GOAWAY) ──streams ended──▶ closed
//!  └──────── an answer is left alone for too long, or LEAVING takes too long ──────▶ dropped
//! ```
//!
//! Each request takes the same path as one on HTTP/1. A connection is counted once, and its requests are counted
//! together with those of all other connections, so that a client gains nothing from sending many on one. GOAWAY loses no
//! request: what was sent before the client saw it is still answered. Websockets stay on HTTP/1.1: extended CONNECT
//! (RFC 8441) is not offered, and browsers open a connection of their own.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{COOKIE, HOST};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::{Connection, Phase};
use crate::answer::Body;
use crate::refusal::Refusal;
use crate::serve::serve;
use crate::transport::Transport;

/// Requests at a time on one connection; what RFC 9113 §6.5.2 calls the least that lets clients work in parallel.
const STREAMS: u32 = 100;
/// Header bytes of a request as HTTP/2 counts them, 32 more for each line: what HTTP/1 allows, and cookies in crumbs.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Unread bytes of one request's body: enough for a fast upload, and far less than a connection may hold.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Unread bytes of all bodies of a connection: the largest that a call may have, and some (reference 01 §3.1).
const CONNECTION_WINDOW: u32 = (512 + 8) * 1024;
/// Bytes of an answer that are given to the library at a time: what it has it cannot be asked about.
const PIECE: usize = 16 * 1024;
/// Requests that a client may cancel before they are looked at, and that we may refuse, until the connection ends: what
/// sends more is an attack (CVE-2023-44487).
const MAX_RESETS: usize = 100;
/// A client with requests under way that is silent for this long is asked whether it is still there …
const PING_AFTER: Duration = Duration::from_secs(20);
/// … and has this long to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How many times within the waiting times they are looked at.
const LOOKS: u32 = 5;

/// Serves the requests of one connection.
pub(super) async fn converse(connection: Connection, transport: Transport) {
    let limits = connection.shared.config.limits.clone();
    let life = Arc::new(Life::new());
    // A connection beyond the crowd has one request; the others have as many as they like.
    if connection.budget.load(Ordering::Relaxed) == limits.keep_alive {
        connection.budget.store(u32::MAX, Ordering::Relaxed);
    }
    let mut phases = connection.phase.clone();
    let peer = connection.peer;
    let connection = Arc::new(connection);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .auto_date_header(false);
    let service = service_fn(|request| answer(Arc::clone(&connection), Arc::clone(&life), request));
    let mut http = pin!(builder.serve_connection(TokioIo::new(transport), service));
    let mut looks = interval((limits.idle.min(limits.stream_stall) / LOOKS).max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leaving: Option<Instant> = None;
    // Somebody else waits for this place.
    let mut hurried = false;
    loop {
        tokio::select! {
            outcome = &mut http => {
                if let Err(error) = outcome {
                    log::debug!("connection from {peer}: {error}");
                }
                return;
            }
            // Not before there is a request: the library takes a connection without one for unused.
            _ = phases.wait_for(|phase| *phase == Phase::Closing), if leaving.is_none() && connection.has_begun() => {
                leaving = Some(Instant::now());
                http.as_mut().graceful_shutdown();
            }
            is_visitor = connection.place.asked_to_leave() => {
                if !is_visitor || hurried {
                    return;
                }
                hurried = true;
                leaving.get_or_insert_with(Instant::now);
                http.as_mut().graceful_shutdown();
            }
            () = life.spent.notified(), if leaving.is_none() => {
                leaving = Some(Instant::now());
                http.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => {
                if life.is_stalled(limits.stream_stall) {
                    log::debug!("connection from {peer}: answers are not read");
                    return;
                }
                let is_idle = life.idle_for().is_some_and(|idle| idle >= limits.idle);
                match leaving {
                    None if is_idle => {
                        leaving = Some(Instant::now());
                        http.as_mut().graceful_shutdown();
                    }
                    Some(since) if is_idle && since.elapsed() >= limits.idle => return,
                    Some(_) if hurried && life.idle_for().is_some() => return,
                    _ => {}
                }
            }
        }
    }
}

/// Answers one request.
async fn answer(
    connection: Arc<Connection>,
    life: Arc<Life>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let stream = Stream::open(life, Arc::clone(&connection));
    let streams = Arc::clone(&connection.shared.streams);
    let slot = streams.acquire_owned().await.map(Arc::new);
    let slot = slot.map_err(|_| Refusal::Vanished("Connection reset by peer"))?;
    if !connection.spend() {
        stream.life.spent.notify_one();
    }
    let patient = Arc::new(AtomicBool::new(false));
    let own = Connection {
        shared: Arc::clone(&connection.shared),
        peer: connection.peer,
        plain_on_tls: false,
        budget: AtomicU32::new(u32::MAX),
        begun: AtomicBool::new(true),
        patient: Arc::clone(&patient),
        phase: connection.phase.clone(),
        alive: connection.alive.clone(),
        slot: Arc::clone(&connection.slot),
        counted: Arc::clone(&connection.counted),
        // What waits too long here is found by looking at the whole connection.
        place: connection.place.apart(),
        stream: Some(Arc::clone(&slot)),
    };
    let is_head = request.method() == Method::HEAD;
    let response = serve(Arc::new(own), as_http1(request)).await?;
    Ok(response.map(|body| {
        if is_head {
            return Empty::new().map_err(|never| match never {}).boxed_unsync();
        }
        let is_patient = patient.load(Ordering::Relaxed);
        if is_patient {
            // What else is on the connection is let through by the same writes.
            connection.be_patient(true);
        }
        let pulse = stream.life.pulse(is_patient);
        let watched = Watched {
            body,
            rest: Bytes::new(),
            pulse,
            _held: (stream, slot),
        };
        watched.boxed_unsync()
    }))
}

/// A request as it would be on HTTP/1: with a `Host`, a path for a target, and one `Cookie` header.
fn as_http1<B>(mut request: Request<B>) -> Request<B> {
    // Cookies come in crumbs, whose separator is not the one of other headers (RFC 9113 §8.2.3).
    let crumbs: Vec<&[u8]> = request
        .headers()
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        request.headers_mut().insert(COOKIE, cookie);
    }
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(target) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(target);
    }
    request
}

/// What a connection is doing.
struct Life {
    began: Instant,
    /// Requests that are not answered to their end.
    open: AtomicUsize,
    /// When the last of them ended.
    idle_since: Mutex<Instant>,
    /// When the answers under way were last asked for more.
    pulses: Mutex<VecDeque<Weak<Pulse>>>,
    /// No further request is wanted.
    spent: Notify,
}

impl Life {
    fn new() -> Self {
        let began = Instant::now();
        Self {
            began,
            open: AtomicUsize::new(0),
            idle_since: Mutex::new(began),
            pulses: Mutex::default(),
            spent: Notify::new(),
        }
    }

    /// One more request; whether it is the only one.
    fn begin(&self) -> bool {
        self.open.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// One request less; whether it was the last.
    fn end(&self) -> bool {
        let was_last = self.open.fetch_sub(1, Ordering::Relaxed) == 1;
        if was_last {
            *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        was_last
    }

    /// How long no request has been under way.
    fn idle_for(&self) -> Option<Duration> {
        let is_idle = self.open.load(Ordering::Relaxed) == 0;
        is_idle.then(|| self.idle_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed())
    }

    /// Watches one more answer.
    fn pulse(&self, is_patient: bool) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse {
            began: self.began,
            is_patient,
            given: AtomicU64::new(0),
        });
        pulse.beat();
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.push_back(Arc::downgrade(&pulse));
        pulse
    }

    /// Whether some answer has been left alone for that long.
    fn is_stalled(&self, limit: Duration) -> bool {
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.retain(|pulse| pulse.strong_count() > 0);
        let mut alive = pulses.iter().filter_map(Weak::upgrade);
        alive.any(|pulse| pulse.waits_for().is_some_and(|waits| waits >= limit))
    }
}

/// When an answer last gave something.
struct Pulse {
    began: Instant,
    /// Whether the client may take its time.
    is_patient: bool,
    /// Milliseconds since `began`; `u64::MAX`: it has been asked for more and has none yet.
    given: AtomicU64,
}

impl Pulse {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn beat(&self) {
        self.given.store(self.now(), Ordering::Relaxed);
    }

    /// How long the client has not asked for more.
    fn waits_for(&self) -> Option<Duration> {
        let given = self.given.load(Ordering::Relaxed);
        (given != u64::MAX && !self.is_patient).then(|| Duration::from_millis(self.now().saturating_sub(given)))
    }
}

/// A request under way, until its answer has been given to the library.
struct Stream {
    life: Arc<Life>,
    connection: Arc<Connection>,
}

impl Stream {
    fn open(life: Arc<Life>, connection: Arc<Connection>) -> Self {
        if life.begin() {
            connection.place.works();
        }
        Self { life, connection }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.life.end() {
            self.connection.place.waits_for_visitor();
        }
    }
}

/// The body of an answer, in pieces, so that it shows when the client does not read.
struct Watched<H> {
    body: Body,
    /// What is left of a large piece.
    rest: Bytes,
    pulse: Arc<Pulse>,
    /// What is held until the answer has been given away.
    _held: H,
}

impl<H> Watched<H> {
    fn piece(&mut self) -> Frame<Bytes> {
        self.pulse.beat();
        Frame::data(self.rest.split_to(self.rest.len().min(PIECE)))
    }
}

impl<H: Unpin> HttpBody for Watched<H> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        this.pulse.given.store(u64::MAX, Ordering::Relaxed);
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    this.rest = data;
                    Poll::Ready(Some(Ok(this.piece())))
                }
                Err(other) => {
                    this.pulse.beat();
                    Poll::Ready(Some(Ok(other)))
                }
            },
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut total = SizeHint::new();
        total.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            total.set_upper(upper.saturating_add(rest));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[test]
    fn a_request_looks_as_on_http_1() {
        let request = Request::builder()
            .uri("https://node1:8006/api2/json/version?x=1")
            .header(COOKIE, "PVELangCookie=de")
            .header(COOKIE, "PVEAuthCookie=PVE%3Aroot")
            .header(COOKIE, "other=1")
            .body(())
            .unwrap();
        let request = as_http1(request);
        assert_eq!(request.uri(), "/api2/json/version?x=1");
        assert_eq!(request.headers()[HOST], "node1:8006");
        let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["PVELangCookie=de; PVEAuthCookie=PVE%3Aroot; other=1"]);
    }

    #[tokio::test]
    async fn a_large_answer_is_given_away_in_pieces_and_shows_when_nobody_takes_them() {
        let life = Arc::new(Life::new());
        life.begin();
        let whole = Bytes::from((0..40_000_u32).map(|n| n as u8).collect::<Vec<_>>());
        let mut body = Watched {
            body: Full::new(whole.clone()).map_err(|never| match never {}).boxed_unsync(),
            rest: Bytes::new(),
            pulse: life.pulse(false),
            _held: (),
        };
        assert!(life.idle_for().is_none());
        assert!(!life.is_stalled(Duration::from_secs(60)));
        let mut seen = Vec::new();
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(life.is_stalled(Duration::ZERO), "it waits for the client now");
            sizes.push(data.len());
            seen.extend_from_slice(&data);
        }
        assert_eq!((seen, sizes), (whole.to_vec(), vec![16_384, 16_384, 7_232]));
        drop(body);
        assert!(life.end() && life.idle_for().is_some());
        assert!(!life.is_stalled(Duration::ZERO), "nothing is left that could wait");
    }
}

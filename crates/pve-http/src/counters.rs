//! What an HTTP server and a tunnel count. A few atomic adds per request; what becomes of the figures is `metrics`' part.

use std::time::Duration;

use http::StatusCode;
use pve_contract::Verb;
use pve_daemon::counters::{Family, Held, Kind};

/// All of them, for [`pve_daemon::Program::counters`].
pub static ALL: [&Family; 12] = [
    &REQUESTS,
    &DURATIONS,
    &CONNECTIONS,
    &REJECTED,
    &OPEN,
    &BYTES,
    &WEBSOCKETS,
    &WEBSOCKETS_OPEN,
    &TUNNELS_OPEN,
    &FORWARDED,
    &FORWARD_FAILURES,
    &REFUSED,
];

/// The series of one method, by class of status.
macro_rules! by_method {
    ($($method:literal)*) => {
        &[$(
            concat!("method=\"", $method, "\",code=\"1xx\""),
            concat!("method=\"", $method, "\",code=\"2xx\""),
            concat!("method=\"", $method, "\",code=\"3xx\""),
            concat!("method=\"", $method, "\",code=\"4xx\""),
            concat!("method=\"", $method, "\",code=\"5xx\""),
            concat!("method=\"", $method, "\",code=\"none\""),
        )*]
    };
}

/// Series of one method in [`REQUESTS`].
const CLASSES: usize = 6;

static REQUESTS: Family = Family::new(
    "pve_http_requests",
    "Requests by method and class of their status; without one, the client went away before the answer.",
    Kind::Counter,
    by_method!("GET" "POST" "PUT" "DELETE" "other"),
);
static DURATIONS: Family = Family::new(
    "pve_http_request_duration_seconds",
    "From a request's head to its answer's, by where it was handled: here, by pvedaemon, by another node, or refused \
     for want of a login (which takes three seconds on purpose).",
    // Half a millisecond to half a minute, after which forwarded calls are given up.
    Kind::Histogram(&[
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 30_000_000,
    ]),
    &[
        "handled=\"here\"",
        "handled=\"daemon\"",
        "handled=\"node\"",
        "handled=\"refused\"",
    ],
);
static CONNECTIONS: Family = Family::new("pve_http_connections", "Connections accepted.", Kind::Counter, &[""]);
static REJECTED: Family = Family::new(
    "pve_http_connections_rejected",
    "Connections closed at once because ALLOW_FROM, DENY_FROM and POLICY say so.",
    Kind::Counter,
    &[""],
);
static OPEN: Family = Family::new(
    "pve_http_connections_open",
    "Connections that are open, websockets among them.",
    Kind::PerProcess,
    &[""],
);
static BYTES: Family = Family::new(
    "pve_http_bytes",
    "Bytes received from and sent to clients, without TLS's own.",
    Kind::Counter,
    &["direction=\"in\"", "direction=\"out\""],
);
static WEBSOCKETS: Family = Family::new(
    "pve_http_websockets",
    "Consoles opened by websocket.",
    Kind::Counter,
    &[""],
);
static WEBSOCKETS_OPEN: Family = Family::new(
    "pve_http_websockets_open",
    "Consoles that are open.",
    Kind::PerProcess,
    &[""],
);
static TUNNELS_OPEN: Family = Family::new(
    "pve_spice_tunnels_open",
    "Channels of SPICE viewers that are open.",
    Kind::PerProcess,
    &[""],
);
static FORWARDED: Family = Family::new(
    "pve_http_forwarded",
    "Calls passed on to pvedaemon or to another node.",
    Kind::Counter,
    &["to=\"daemon\"", "to=\"node\""],
);
static FORWARD_FAILURES: Family = Family::new(
    "pve_http_forward_failures",
    "Calls passed on that got no answer (595, 596 and the like).",
    Kind::Counter,
    &["to=\"daemon\"", "to=\"node\""],
);
static REFUSED: Family = Family::new(
    "pve_http_authentication_failures",
    "Requests without good credentials (ticket, token, CSRF token), and logins that failed.",
    Kind::Counter,
    &["kind=\"credentials\"", "kind=\"login\""],
);

/// Where a request was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Handled {
    /// By this daemon.
    #[default]
    Here,
    /// By `pvedaemon`.
    Daemon,
    /// By another node.
    Node,
    /// By nobody: the client is not known.
    Refused,
}

/// A request was answered, or – without a status – given up.
fn request(verb: Option<Verb>, status: Option<StatusCode>) {
    let method = match verb {
        Some(Verb::Get) => 0,
        Some(Verb::Post) => 1,
        Some(Verb::Put) => 2,
        Some(Verb::Delete) => 3,
        None => 4,
    };
    // Statuses of our own above 599 there are none.
    let class = status.map_or(CLASSES - 1, |status| usize::from(status.as_u16() / 100).clamp(1, 5) - 1);
    REQUESTS.increment(method * CLASSES + class);
}

/// How long an answer took.
pub(crate) fn took(handled: Handled, time: Duration) {
    DURATIONS.observe(handled as usize, time);
}

/// A connection was accepted; it is open until the guard is dropped.
pub(crate) fn connection() -> Held {
    CONNECTIONS.increment(0);
    OPEN.hold(0)
}

/// A connection was closed because of its address.
pub(crate) fn rejected() {
    REJECTED.increment(0);
}

/// Bytes came from clients.
pub(crate) fn received(count: usize) {
    BYTES.add(0, count as u64);
}

/// Bytes went to clients.
pub(crate) fn sent(count: usize) {
    BYTES.add(1, count as u64);
}

/// A console was opened; it is open until the guard is dropped.
pub(crate) fn websocket() -> Held {
    WEBSOCKETS.increment(0);
    WEBSOCKETS_OPEN.hold(0)
}

/// A viewer's channel was opened; it is open until the guard is dropped.
pub(crate) fn tunnel() -> Held {
    TUNNELS_OPEN.hold(0)
}

/// A call was passed on, with or without success.
pub(crate) fn forwarded(handled: Handled, is_answered: bool) {
    let to = usize::from(handled == Handled::Node);
    FORWARDED.increment(to);
    if !is_answered {
        FORWARD_FAILURES.increment(to);
    }
}

/// Somebody is not who they say.
pub(crate) fn refused() {
    REFUSED.increment(0);
}

/// A login failed.
pub(crate) fn login_failed() {
    REFUSED.increment(1);
}

/// A request on its way; counted when it was answered, or dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    verb: Option<Verb>,
    status: Option<StatusCode>,
}

impl InFlight {
    pub(crate) fn new(verb: Option<Verb>) -> Self {
        Self { verb, status: None }
    }

    /// The answer is known.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        request(self.verb, self.status);
    }
}

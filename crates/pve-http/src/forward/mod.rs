//! A call is passed on: to `pvedaemon`, or to another node's `pveproxy` (reference 01 §4.2).
//!
//! What a client sent is not passed through but said again: method, target, who asks, and the decoded parameters.
//!
//! | module | holds |
//! |---|---|
//! | `request` | the call, said again |
//! | `node` | the way to another node: its address, TLS, connections that are used again |
//! | `pin` | which certificate is the node's |
//! | `failure` | what goes wrong on the way, and its status |
//!
//! A short answer is passed on as a whole, a longer one as it comes. If that breaks off, the client's connection ends: it
//! is too late for a status (upstream's 597).

mod failure;
mod node;
mod pin;
mod request;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE, EXPIRES, LOCATION, PRAGMA, SERVER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::ext::ReasonPhrase;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pve_contract::Verb;
use pve_rest::{ApiError, RequestHead};
use pve_schema::Context;
use pve_schema::ids::NodeName;
use tokio::time::timeout;

use self::failure::Failure;
use self::node::Nodes;
use self::request::request;
use crate::answer::{Answer, Payload};
use crate::counters::{self, Handled};
use crate::params::Input;
use crate::serve::INNER_STATUS;
use crate::tunnel::FindNode;

/// Idle connections kept per worker.
const POOL: usize = 64;
/// How long an idle connection is kept: less than the 5 s after which the daemon closes it.
const POOL_IDLE: Duration = Duration::from_secs(3);
/// Bodies up to this many bytes are read before their head is passed on.
const AT_ONCE: u64 = 64 * 1024;
/// Headers of an answer that the proxy writes itself or that end at this hop.
const OWN_HEADERS: [HeaderName; 9] = [
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    EXPIRES,
    PRAGMA,
    SERVER,
    TRANSFER_ENCODING,
    UPGRADE,
];

type Connector = Client<HttpConnector, Full<Bytes>>;

/// The way to this node's `pvedaemon` and to other nodes.
pub(crate) struct Forwarder {
    backend: SocketAddr,
    /// How long the daemon may be silent.
    idle: Duration,
    /// For GET, which may be said twice.
    pooled: Connector,
    /// For everything else: a connection that broke must not make a change happen twice.
    single: Connector,
    nodes: Nodes,
}

/// A call to pass on.
pub(crate) struct Call<'a> {
    pub(crate) head: &'a RequestHead,
    /// Path and query as received.
    pub(crate) target: &'a str,
    pub(crate) input: &'a Input,
    /// The client's `Accept-Encoding`, if compression is on.
    pub(crate) accept_encoding: Option<&'a str>,
}

impl Forwarder {
    /// A way to the daemon, and to the nodes that `/etc/pve` knows; `find_node` replaces what it says of addresses.
    pub(crate) fn new(backend: SocketAddr, idle: Duration, context: &Context, find_node: Option<FindNode>) -> Self {
        let client = |pool: usize| {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            connector.set_connect_timeout(Some(idle));
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(pool)
                .http1_title_case_headers(true)
                .build(connector)
        };
        Self {
            backend,
            idle,
            pooled: client(POOL),
            single: client(0),
            nodes: Nodes::new(context, idle, find_node),
        }
    }

    /// Asks the daemon and passes its answer on; what goes wrong on the way is a 59x without a body.
    ///
    /// # Errors
    /// The client is told in the format that it asked for.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Answer, ApiError> {
        let repeatable = call.head.verb == Verb::Get;
        let client = if repeatable { &self.pooled } else { &self.single };
        let mut answer = self.ask(client, call).await;
        if repeatable && matches!(&answer, Err(Failure::Broken)) {
            // The daemon may have closed an idle connection at the moment we chose it.
            answer = self.ask(client, call).await;
        }
        counters::forwarded(Handled::Daemon, answer.is_ok());
        match answer {
            Ok(response) => self.pass_on(response).await,
            Err(failure) => failure.told(),
        }
    }

    /// Asks another node and passes its answer on in the same way.
    ///
    /// # Errors
    /// Nobody knows where the node is.
    pub(crate) async fn call_node(&self, node: &NodeName, call: &Call<'_>) -> Result<Answer, ApiError> {
        let answer = self.nodes.call(node, call).await;
        counters::forwarded(Handled::Node, answer.is_ok());
        match answer {
            Ok(response) => self.pass_on(response).await,
            Err(failure) => failure.told(),
        }
    }

    async fn ask(&self, client: &Connector, call: &Call<'_>) -> Result<Response<Incoming>, Failure> {
        let request = request(call, &format!("http://{}", self.backend)).ok_or(Failure::Uri)?;
        match timeout(self.idle, client.request(request)).await {
            Err(_) => Err(Failure::Silent),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// An answer as ours: status, reason and body unchanged, own general headers.
    async fn pass_on(&self, response: Response<Incoming>) -> Result<Answer, ApiError> {
        let (parts, body) = response.into_parts();
        let reason = parts.extensions.get::<ReasonPhrase>();
        let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
        let mut answer = Answer::new(parts.status, &reason.unwrap_or_default());
        answer.headers = passed_headers(parts.headers, self.backend);
        answer.hides_failure = answer.headers.remove(INNER_STATUS).is_some();
        let length = hyper::body::Body::size_hint(&body).exact();
        // A download; calls announce their length.
        answer.patient = length.is_none();
        if length == Some(0) {
            return Ok(answer);
        }
        if length.is_some_and(|length| length <= AT_ONCE) {
            // Head and body leave together, in one packet and one record of TLS.
            return match timeout(self.idle, body.collect()).await {
                Err(_) => Failure::Silent.told(),
                // As upstream: the head was there (reference 01 §3.8).
                Ok(Err(_)) => Ok(Answer::bare(597, "Broken pipe")),
                Ok(Ok(body)) => {
                    let whole = Full::new(body.to_bytes()).map_err(|never| match never {});
                    Ok(answer.with_body(Payload::Stream(whole.boxed_unsync(), length)))
                }
            };
        }
        let idle = self.idle;
        let chunks = stream::try_unfold(body, move |mut body| async move {
            match timeout(idle, body.frame()).await {
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
                Ok(None) => Ok(None),
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Ok(Some(Ok(frame))) => Ok(Some((Frame::data(frame.into_data().unwrap_or_default()), body))),
            }
        });
        Ok(answer.with_body(Payload::Stream(StreamBody::new(chunks).boxed_unsync(), length)))
    }
}

/// The headers of an answer that go on to the client.
fn passed_headers(mut headers: HeaderMap, backend: SocketAddr) -> HeaderMap {
    for name in &OWN_HEADERS {
        headers.remove(name);
    }
    let own = [
        format!("http://localhost:{}", backend.port()),
        format!("http://{backend}"),
    ];
    if let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        let stripped = own
            .iter()
            .find_map(|prefix| location.strip_prefix(prefix.as_str()))
            .unwrap_or(location);
        if let Ok(value) = HeaderValue::from_str(stripped) {
            headers.insert(LOCATION, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_TYPE;

    #[test]
    fn the_daemons_own_address_does_not_reach_the_client() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "http://localhost:85/api2/html".parse().unwrap());
        headers.insert(SERVER, "x".parse().unwrap());
        headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        let passed = passed_headers(headers, "127.0.0.1:85".parse().unwrap());
        assert_eq!(passed[LOCATION], "/api2/html");
        assert_eq!(passed.len(), 2);
    }
}

//! A call is passed on to `pvedaemon` (reference 01 §4.2).
//!
//! What a client sent is not passed through but said again: method, target, who asks, and the decoded parameters.
//! Calls to other nodes, with their pinned certificates, are not done yet.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE, EXPIRES,
    HOST, LOCATION, PRAGMA, SERVER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::ext::ReasonPhrase;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pve_access::Credentials;
use pve_contract::Verb;
use pve_rest::RequestHead;
use pve_schema::text::encode_component;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::answer::{Answer, Payload};
use crate::params::{Encoding, Input};
use crate::serve::INNER_STATUS;

/// Idle connections kept per worker.
const POOL: usize = 64;
/// How long an idle connection is kept: less than the 5 s after which the daemon closes it.
const POOL_IDLE: Duration = Duration::from_secs(3);
/// Headers of the daemon's answer that the proxy writes itself or that end at this hop.
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

/// The way to this node's `pvedaemon`.
#[derive(Debug)]
pub(crate) struct Forwarder {
    backend: SocketAddr,
    /// How long the daemon may be silent.
    idle: Duration,
    /// For GET, which may be said twice.
    pooled: Connector,
    /// For everything else: a connection that broke must not make a change happen twice.
    single: Connector,
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
    /// A way to the daemon.
    pub(crate) fn new(backend: SocketAddr, idle: Duration) -> Self {
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
        }
    }

    /// Asks the daemon and passes its answer on; what goes wrong on the way is a 59x without a body.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Answer {
        let repeatable = call.head.verb == Verb::Get;
        let client = if repeatable { &self.pooled } else { &self.single };
        let mut answer = self.ask(client, call).await;
        if repeatable && matches!(&answer, Err(Failure::Broken)) {
            // The daemon may have closed an idle connection at the moment we chose it.
            answer = self.ask(client, call).await;
        }
        match answer {
            Ok(response) => self.pass_on(response),
            Err(failure) => failure.into(),
        }
    }

    async fn ask(&self, client: &Connector, call: &Call<'_>) -> Result<Response<Incoming>, Failure> {
        let request = self.request(call).ok_or(Failure::Uri)?;
        match timeout(self.idle, client.request(request)).await {
            Err(_) => Err(Failure::Silent),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    fn request(&self, call: &Call<'_>) -> Option<Request<Full<Bytes>>> {
        if !call.target.starts_with('/') {
            return None;
        }
        let head = call.head;
        let has_body = matches!(head.verb, Verb::Post | Verb::Put);
        let (content_type, body) = if has_body {
            encode(call.input)
        } else {
            ("", String::new())
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::from_bytes(head.verb.as_str().as_bytes()).ok()?;
        *request.uri_mut() = format!("http://{}{}", self.backend, call.target).parse().ok()?;
        let headers = request.headers_mut();
        let mut put = |name: HeaderName, value: Option<&str>| {
            if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                headers.insert(name, value);
            }
        };
        let (cookie, token) = match &head.credentials {
            Credentials::Ticket(ticket) => (Some(pve_access::credentials::cookie(ticket)), None),
            Credentials::Token(token) => (None, Some(format!("PVEAPIToken {}", encode_component(token)))),
            Credentials::None => (None, None),
        };
        put(HOST, head.client.host.as_deref());
        put(HeaderName::from_static("pvedisableproxy"), Some("true"));
        let address = head.client.address.map(|address| address.to_string());
        put(HeaderName::from_static("pveclientip"), address.as_deref());
        put(COOKIE, cookie.as_deref());
        put(AUTHORIZATION, token.as_deref());
        put(HeaderName::from_static("csrfpreventiontoken"), head.csrf.as_deref());
        put(ACCEPT_ENCODING, mirrored_encoding(call.accept_encoding));
        put(CONTENT_TYPE, Some(content_type).filter(|_| has_body));
        put(HeaderName::from_static(crate::REQUEST_ID), Some(&head.request_id));
        Some(request)
    }

    /// The daemon's answer as ours: status, reason and body unchanged, own general headers.
    fn pass_on(&self, response: Response<Incoming>) -> Answer {
        let (parts, body) = response.into_parts();
        let reason = parts.extensions.get::<ReasonPhrase>();
        let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
        let mut answer = Answer::new(parts.status, &reason.unwrap_or_default());
        answer.headers = passed_headers(parts.headers, self.backend);
        answer.hides_failure = answer.headers.remove(INNER_STATUS).is_some();
        let length = hyper::body::Body::size_hint(&body).exact();
        if length == Some(0) {
            return answer;
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
        answer.with_body(Payload::Stream(StreamBody::new(chunks).boxed_unsync(), length))
    }
}

/// What went wrong between us and the daemon.
#[derive(Debug)]
enum Failure {
    /// The target cannot be passed on.
    Uri,
    /// No connection, and why.
    Connect(String),
    /// No answer in time.
    Silent,
    /// The connection broke before an answer came.
    Broken,
}

impl Failure {
    fn of(error: &Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        if !error.is_connect() {
            return Self::Broken;
        }
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<io::Error>() {
                return Self::Connect(pve_schema::errno_text(cause));
            }
            source = cause.source();
        }
        Self::Connect("Connection timed out".to_owned())
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Uri => crate::refusal::Refusal::ProxyUri.into(),
            Failure::Connect(reason) => Self::bare(595, &reason),
            Failure::Silent => Self::bare(596, "Connection timed out"),
            Failure::Broken => Self::bare(596, "Broken pipe"),
        }
    }
}

/// The client's wish as far as we know the words.
fn mirrored_encoding(accept: Option<&str>) -> Option<&'static str> {
    let accept = accept?;
    match (accept.contains("gzip"), accept.contains("deflate")) {
        (true, true) => Some("gzip, deflate"),
        (true, false) => Some("gzip"),
        (false, true) => Some("deflate"),
        (false, false) => None,
    }
}

/// The headers of the daemon's answer that go on to the client.
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

/// The body parameters, encoded the way the client had them.
fn encode(input: &Input) -> (&'static str, String) {
    match input.encoding {
        Encoding::Json => ("application/json", Value::Object(input.body.clone()).to_string()),
        Encoding::Form => ("application/x-www-form-urlencoded", encode_form(&input.body)),
    }
}

/// Parameters as a form: lists as repeated names, null as a name alone.
fn encode_form(params: &Map<String, Value>) -> String {
    let mut pairs = Vec::new();
    for (name, value) in params {
        match value {
            Value::Array(items) => pairs.extend(items.iter().map(|item| pair(name, item))),
            value => pairs.push(pair(name, value)),
        }
    }
    pairs.join("&")
}

fn pair(name: &str, value: &Value) -> String {
    let name = encode_component(name);
    match value {
        Value::Null => name,
        Value::String(text) => format!("{name}={}", encode_component(text)),
        Value::Bool(flag) => format!("{name}={}", u8::from(*flag)),
        other => format!("{name}={}", encode_component(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_said_again_as_a_form() {
        let Value::Object(params) = json!({"a": ["1", "2"], "b": "ä x+&=;", "c": null, "d": 5, "e": true}) else {
            panic!()
        };
        assert_eq!(encode_form(&params), "a=1&a=2&b=%C3%A4%20x%2B%26%3D%3B&c&d=5&e=1");
    }

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

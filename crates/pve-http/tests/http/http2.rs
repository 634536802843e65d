//! HTTP/2: the same calls, and what is different about connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pve_contract::id;
use pve_http::{ServerConfig, TlsSettings};
use pve_rest::{ApiResult, Call, Registry, Role};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::calls::registry;
use crate::connections::{secure, tls_lab};
use crate::support::{Lab, Running, soon, until};

const TOKEN: &str = "PVEAPIToken=root@pam!ci=6f9c0d53-0000-4000-8000-000000000001";
const VERSION: &str = "/api2/json/version";

/// Bytes of an answer that the client of these tests takes before it reads.
const WINDOW: u32 = 65_535;

struct Http2<B: Body + 'static> {
    sender: SendRequest<B>,
    /// Ends with the connection.
    connection: JoinHandle<hyper::Result<()>>,
}

impl<B> Http2<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn connect(server: &Running, connector: &TlsConnector) -> Self {
        let mut config = connector.config().as_ref().clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("node1").unwrap();
        let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream))
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(WINDOW);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    async fn send(&mut self, request: Request<B>) -> Response<Incoming> {
        soon(self.sender.ready()).await.unwrap();
        soon(self.sender.send_request(request)).await.unwrap()
    }
}

fn request(method: &str, path: &str, token: bool) -> Request<Full<Bytes>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(format!("https://node1:8006{path}"));
    if token {
        builder = builder.header(AUTHORIZATION, TOKEN);
    }
    builder.body(Full::default()).unwrap()
}

async fn body(response: Response<Incoming>) -> Bytes {
    soon(response.into_body().collect()).await.unwrap().to_bytes()
}

async fn data(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&body(response).await).unwrap()
}

fn serve(registry: Registry, adjust: impl FnOnce(&mut ServerConfig)) -> (Lab, Running, TlsConnector) {
    let (lab, connector) = tls_lab();
    let server = lab.serve(Role::Web, registry, |config| {
        config.tls = Some(TlsSettings {
            http2: true,
            ..TlsSettings::new(lab.context.clone())
        });
        adjust(config);
    });
    (lab, server, connector)
}

#[tokio::test]
async fn calls_are_answered_as_on_http_1() {
    let (lab, server, connector) = serve(registry(), |_| {});
    let mut client = Http2::connect(&server, &connector).await;
    let response = client.send(request("GET", VERSION, true)).await;
    assert_eq!(
        (response.status(), response.headers().get("connection")),
        (StatusCode::OK, None)
    );
    assert_eq!(data(response).await["data"]["version"], "9.2");
    // A browser sends its cookies in crumbs.
    let (cookie, _) = lab.session("root@pam");
    let cookie = cookie.trim_end().strip_prefix("Cookie: ").unwrap().to_owned();
    let mut crumbs = request("GET", VERSION, false);
    for crumb in ["PVELangCookie=de", &cookie, "PVEThemeCookie=auto"] {
        crumbs.headers_mut().append(COOKIE, crumb.parse().unwrap());
    }
    assert_eq!(client.send(crumbs).await.status(), StatusCode::OK);
    // Requests of one connection run side by side, and errors do not end it.
    for _ in 0..150 {
        let response = client.send(request("GET", "/nosuch", false)).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body(response).await, "no such file '/nosuch'\n");
    }
    let response = client.send(request("HEAD", "/", false)).await;
    assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
    assert!(body(response).await.is_empty());
    assert_eq!(
        client.send(request("GET", VERSION, true)).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn error_texts_are_in_the_body_because_there_is_no_reason_phrase() {
    let (_held, closed) = pve_testing::held_port([127, 0, 0, 1]);
    let (_lab, server, connector) = serve(registry(), |config| config.daemon_port = closed.port());
    let mut client = Http2::connect(&server, &connector).await;
    for (method, path, token, status, message) in [
        ("GET", VERSION, false, 401, "No ticket\n"),
        (
            "GET",
            "/api2/json/cluster/nextid",
            true,
            500,
            "unable to do it: reason\nsecond line\n",
        ),
        (
            "GET",
            "/api2/json/nosuch",
            true,
            501,
            "Method 'GET /nosuch' not implemented",
        ),
        ("GET", "/api2/json/access/users", true, 595, "Connection refused\n"),
    ] {
        let response = client.send(request(method, path, token)).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json;charset=UTF-8");
        let answer = data(response).await;
        assert_eq!(
            (&answer["data"], &answer["message"]),
            (&Value::Null, &json!(message)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_read_up_to_the_limit() {
    type Stream = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, std::io::Error>>>>;
    let mut registry = Registry::new();
    registry.bind(id::POST_ACCESS_TICKET, |call| Box::pin(crate::calls::echo(call)));
    let (lab, connector) = tls_lab();
    let server = lab.serve(Role::Root, registry, |config| {
        config.tls = Some(TlsSettings {
            http2: true,
            ..TlsSettings::new(lab.context.clone())
        });
    });
    let mut client: Http2<Stream> = Http2::connect(&server, &connector).await;
    let form = "username=root@pam&password=secret";
    let send = |chunks: Vec<String>| {
        let frames: Vec<_> = chunks.into_iter().map(|chunk| Ok(Frame::data(chunk.into()))).collect();
        let request = Request::post("https://node1:8006/api2/json/access/ticket");
        request
            .body(StreamBody::new(futures_util::stream::iter(frames)))
            .unwrap()
    };
    let (first, second) = form.split_at(10);
    let response = client.send(send(vec![first.to_owned(), second.to_owned()])).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(data(response).await["data"]["username"], "root@pam");
    // Beyond what strangers may send, and beyond what anybody may.
    for count in [3, 40] {
        let endless = std::iter::repeat_n("&".repeat(16_384), count);
        let response = client.send(send(endless.collect())).await;
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED, "{count}");
        assert_eq!(body(response).await, "for data too large");
    }
}

#[tokio::test]
async fn it_is_not_offered_unless_switched_on() {
    let (lab, connector) = tls_lab();
    let server = lab.serve(Role::Web, registry(), |config| {
        config.tls = Some(TlsSettings::new(lab.context.clone()))
    });
    let mut config = connector.config().as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("node1").unwrap();
    let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream))
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_order() {
    let (_lab, server, connector) = serve(registry(), |config| config.limits.idle = Duration::from_millis(200));
    let mut client = Http2::connect(&server, &connector).await;
    let response = client.send(request("GET", VERSION, true)).await;
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    soon(client.connection).await.unwrap().expect("GOAWAY without an error");
}

#[tokio::test]
async fn a_connection_beyond_the_crowd_has_one_request() {
    let (_lab, server, connector) = serve(registry(), |config| {
        config.limits.connections = 3;
        config.limits.crowded = 1;
    });
    let mut first = Http2::connect(&server, &connector).await;
    let mut crowded = Http2::connect(&server, &connector).await;
    assert_eq!(
        crowded.send(request("GET", VERSION, true)).await.status(),
        StatusCode::OK
    );
    soon(crowded.connection)
        .await
        .unwrap()
        .expect("GOAWAY without an error");
    for _ in 0..3 {
        assert_eq!(first.send(request("GET", VERSION, true)).await.status(), StatusCode::OK);
    }
}

/// A client that asks and does not read holds the server's memory: not for ever.
#[tokio::test]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    let (_lab, server, connector) = serve(registry(), |config| {
        config.limits.stream_stall = Duration::from_millis(300)
    });
    let mut client = Http2::connect(&server, &connector).await;
    let response = client.send(request("GET", "/api2/openapi.json", false)).await;
    let length: u64 = response.headers()[CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    assert!(length > 2 * u64::from(WINDOW), "more than fits the window");
    soon(client.connection).await.unwrap().expect_err("cut off");
    let (_lab, server, connector) = serve(registry(), |_| {});
    let mut other = Http2::connect(&server, &connector).await;
    let response = other.send(request("GET", "/api2/openapi.json", false)).await;
    assert_eq!(body(response).await.len() as u64, length);
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);
static GO_ON: Semaphore = Semaphore::const_new(0);

async fn counted(_: Call) -> ApiResult {
    MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    GO_ON.acquire().await.unwrap().forget();
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    DONE.fetch_add(1, Ordering::SeqCst);
    Ok(json!("done").into())
}

/// Work goes on when its request is cancelled; so a client that cancels must not get more of it started.
#[tokio::test]
async fn cancelled_requests_count_until_their_work_is_done() {
    let mut registry = registry();
    registry.bind(id::GET_ACCESS_ROLES, |call| Box::pin(counted(call)));
    let (_lab, server, connector) = serve(registry, |config| {
        config.limits.connections = 4;
        config.limits.crowded = 3;
    });
    let client = Http2::connect(&server, &connector).await;
    let ask = || {
        let mut sender = client.sender.clone();
        tokio::spawn(async move {
            sender
                .send_request(request("GET", "/api2/json/access/roles", true))
                .await
        })
    };
    let cancelled: Vec<_> = (0..4).map(|_| ask()).collect();
    until(async || RUNNING.load(Ordering::SeqCst) == 4).await;
    cancelled.iter().for_each(JoinHandle::abort);
    for task in cancelled {
        soon(task).await.expect_err("cancelled");
    }
    let waiting: Vec<_> = (0..8).map(|_| ask()).collect();
    // Time enough for the server to take them, were it so inclined.
    for _ in 0..10 {
        let mut other = secure(&server, &connector).await;
        other
            .send(format!("GET {VERSION} HTTP/1.1\r\nAuthorization: {TOKEN}\r\n\r\n").as_bytes())
            .await;
        assert_eq!(other.answer().await.line, "HTTP/1.1 200 OK");
    }
    GO_ON.add_permits(12);
    for task in waiting {
        assert_eq!(soon(task).await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!((MOST.load(Ordering::SeqCst), DONE.load(Ordering::SeqCst)), (4, 12));
}

static SLOW_STARTED: Semaphore = Semaphore::const_new(0);
static SLOW_GO_ON: Semaphore = Semaphore::const_new(0);

async fn slow(_: Call) -> ApiResult {
    SLOW_STARTED.add_permits(1);
    SLOW_GO_ON.acquire().await.unwrap().forget();
    Ok(json!("done").into())
}

#[tokio::test]
async fn draining_answers_what_was_sent_and_says_that_no_more_is_wanted() {
    let mut registry = registry();
    registry.bind(id::GET_ACCESS_ROLES, |call| Box::pin(slow(call)));
    let (_lab, server, connector) = serve(registry, |config| config.limits.drain_notice = Duration::from_secs(2));
    let mut client = Http2::connect(&server, &connector).await;
    let mut idle = Http2::connect(&server, &connector).await;
    assert_eq!(idle.send(request("GET", VERSION, true)).await.status(), StatusCode::OK);
    let mut sender = client.sender.clone();
    let under_way = tokio::spawn(async move {
        sender
            .send_request(request("GET", "/api2/json/access/roles", true))
            .await
    });
    soon(SLOW_STARTED.acquire()).await.unwrap().forget();
    server.stop.send(()).unwrap();
    assert_eq!(
        client.send(request("GET", VERSION, true)).await.status(),
        StatusCode::OK
    );
    soon(idle.connection).await.unwrap().expect("GOAWAY without an error");
    assert!(!server.task.is_finished(), "a request is still under way");
    SLOW_GO_ON.add_permits(1);
    let answer = soon(under_way).await.unwrap().unwrap();
    assert_eq!(data(answer).await["data"], "done");
    soon(client.connection).await.unwrap().expect("GOAWAY without an error");
    soon(server.task).await.unwrap().unwrap();
}

//! Connections: keep-alive, TLS, redirects, limits, draining.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use pve_contract::id;
use pve_http::{AccessLog, TlsSettings};
use pve_rest::{ApiResult, Call, Registry, Role};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::calls::registry;
use crate::support::{Client, Lab, Running, TOKEN, soon};

const GET: &str = "GET /api2/json/version HTTP/1.1\r\nHost: node1\r\n";

/// Vector 21.
#[tokio::test]
async fn the_keep_alive_budget_ends_a_connection() {
    let server = Lab::new().serve(Role::Root, registry(), |config| config.limits.keep_alive = 4);
    let mut client = server.connect().await;
    client.send(format!("{GET}{TOKEN}\r\n").repeat(6).as_bytes()).await;
    for expected in ["Keep-Alive", "Keep-Alive", "Keep-Alive", "close"] {
        let answer = client.answer().await;
        assert_eq!(answer.header("Connection"), Some(expected));
        assert_eq!(answer.line, "HTTP/1.1 200 OK");
    }
    assert_eq!(client.rest().await, b"");
}

/// Vector 22.
#[tokio::test]
async fn http_1_0_closes_unless_asked_otherwise() {
    let server = Lab::new().serve(Role::Root, registry(), |_| {});
    let answer = server
        .ask(&format!("GET /api2/json/version HTTP/1.0\r\n{TOKEN}\r\n"))
        .await;
    assert_eq!(
        (answer.line.as_str(), answer.header("Connection")),
        ("HTTP/1.0 200 OK", Some("close"))
    );
    let head = format!("GET /api2/json/version HTTP/1.0\r\nConnection: keep-alive\r\n{TOKEN}\r\n");
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.send(head.as_bytes()).await;
        assert_eq!(client.answer().await.header("Connection"), Some("Keep-Alive"));
    }
    let answer = server.ask(&format!("{GET}Connection: Foo, Close\r\n{TOKEN}\r\n")).await;
    assert_eq!(answer.header("Connection"), Some("close"));
}

#[tokio::test]
async fn a_silent_client_is_hung_up_on_without_a_word() {
    let server = Lab::new().serve(Role::Root, registry(), |config| {
        config.limits.idle = Duration::from_millis(200)
    });
    for sent in ["", "GET / HT", &format!("{GET}{TOKEN}Content-Length: 5\r\n")] {
        let mut client = server.connect().await;
        client.send(sent.as_bytes()).await;
        assert_eq!(client.rest().await, b"", "{sent}");
    }
    let mut client = server.connect().await;
    client
        .send(format!("PUT /api2/json/access/users/a@pve HTTP/1.1\r\n{TOKEN}Content-Length: 5\r\n\r\n12").as_bytes())
        .await;
    assert_eq!(client.rest().await, b"", "half a body");
}

#[tokio::test]
async fn a_host_that_is_not_allowed_gets_no_answer_but_a_log_line() {
    let lab = Lab::new();
    let path = lab.path("var/log/access.log");
    let log = Arc::new(AccessLog::open(&path).unwrap());
    let server = lab.serve(Role::Root, registry(), |config| {
        config.access_log = Some(log);
        config.allow = Some(Arc::new(|address| address.to_string() != "127.0.0.1"));
    });
    let mut client = server.connect().await;
    assert_eq!(client.rest().await, b"");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("127.0.0.1 - - [") && text.ends_with("] \"-\" 403 -\n"),
        "{text}"
    );
}

#[tokio::test]
async fn at_the_limit_of_connections_further_ones_wait() {
    let server = Lab::new().serve(Role::Root, registry(), |config| {
        config.limits.connections = 2;
        config.limits.crowded = 1;
    });
    let mut first = server.connect().await;
    first.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
    assert_eq!(first.answer().await.header("Connection"), Some("Keep-Alive"));
    let mut crowded = server.connect().await;
    crowded.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
    assert_eq!(
        crowded.answer().await.header("Connection"),
        Some("close"),
        "one request only"
    );
    let mut waiting = server.connect().await;
    waiting.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
    drop(crowded);
    assert_eq!(waiting.answer().await.line, "HTTP/1.1 200 OK");
}

pub(crate) fn tls_lab() -> (Lab, TlsConnector) {
    let lab = Lab::new();
    let made = rcgen::generate_simple_self_signed(["node1".to_owned()]).unwrap();
    lab.put("etc/pve/nodes/node1/pve-ssl.pem", &made.cert.pem());
    lab.put("etc/pve/nodes/node1/pve-ssl.key", &made.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (lab, TlsConnector::from(Arc::new(config)))
}

pub(crate) async fn secure(
    server: &Running,
    connector: &TlsConnector,
) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("node1").unwrap();
    Client::new(soon(connector.connect(name, stream)).await.unwrap())
}

#[tokio::test]
async fn the_tls_port_serves_tls_and_redirects_the_rest() {
    let (lab, connector) = tls_lab();
    let server = lab.serve(Role::Web, registry(), |config| {
        config.tls = Some(TlsSettings::new(lab.context.clone()))
    });
    let mut client = secure(&server, &connector).await;
    for _ in 0..2 {
        client.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
        assert_eq!(client.answer().await.line, "HTTP/1.1 200 OK");
    }
    let answer = server.ask("GET /x?y=1 HTTP/1.1\r\nHost: h:8006\r\n\r\n").await;
    assert_eq!(answer.line, "HTTP/1.1 301 Moved Permanently");
    assert_eq!(answer.header("Location"), Some("https://h:8006/x?y=1"));
    assert_eq!((answer.body.len(), answer.header("Content-Type")), (17, None));
    assert_eq!(answer.header("Connection"), Some("close"));
    let answer = server
        .send("POST", "/api2/json/access/ticket", "", "username=root@pam")
        .await;
    assert_eq!(
        (answer.line.as_str(), answer.body.len()),
        ("HTTP/1.1 308 Permanent Redirect", 18)
    );
    let answer = server.ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(answer.line, "HTTP/1.1 501 method 'HEAD' not available");
    let answer = server.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(answer.line, "HTTP/1.1 400 bad request");
    let mut noise = server.connect().await;
    noise.send(b"\x80\x01\x02").await;
    assert_eq!(noise.rest().await, b"");
}

#[tokio::test]
async fn an_idle_tls_connection_is_closed_in_order() {
    let (lab, connector) = tls_lab();
    let server = lab.serve(Role::Web, registry(), |config| {
        config.tls = Some(TlsSettings::new(lab.context.clone()));
        config.limits.idle = Duration::from_millis(200);
    });
    let mut client = secure(&server, &connector).await;
    client.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
    client.answer().await;
    // rustls reports an end without close_notify as an error.
    let mut rest = Vec::new();
    let ended = soon(tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut rest)).await;
    assert_eq!((ended.ok(), rest.len()), (Some(0), 0));
}

#[tokio::test]
async fn a_certificate_that_is_repaired_later_is_used() {
    let (lab, connector) = tls_lab();
    let good = lab.path("etc/pve/nodes/node1/pve-ssl.pem");
    let away = lab.path("pve-ssl.pem");
    std::fs::rename(&good, &away).unwrap();
    let server = lab.serve(Role::Web, registry(), |config| {
        config.tls = Some(TlsSettings::new(lab.context.clone()))
    });
    let early = TcpStream::connect(server.address).await.expect("the port is bound");
    drop(early);
    std::fs::rename(&away, &good).unwrap();
    let mut client = secure(&server, &connector).await;
    client.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
    assert_eq!(client.answer().await.line, "HTTP/1.1 200 OK");
}

static STARTED: Notify = Notify::const_new();
static GO_ON: Notify = Notify::const_new();

async fn slow(_: Call) -> ApiResult {
    STARTED.notify_one();
    GO_ON.notified().await;
    Ok(json!("done").into())
}

#[tokio::test]
async fn draining_answers_what_is_under_way_and_closes_the_rest() {
    let mut registry = Registry::new();
    registry.bind(id::GET_VERSION, |call| Box::pin(slow(call)));
    registry.bind(id::GET_CLUSTER, |_| Box::pin(async { Ok(json!([]).into()) }));
    let server = Lab::new().serve(Role::Root, registry, |config| {
        config.limits.drain_notice = Duration::from_secs(2)
    });
    let index = format!("GET /api2/json/cluster HTTP/1.1\r\n{TOKEN}\r\n");
    let mut busy = server.connect().await;
    busy.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
    soon(STARTED.notified()).await;
    let mut idle = server.connect().await;
    let mut late = server.connect().await;
    for client in [&mut idle, &mut late] {
        client.send(index.as_bytes()).await;
        assert_eq!(client.answer().await.header("Connection"), Some("Keep-Alive"));
    }
    let Running {
        address, stop, task, ..
    } = server;
    stop.send(()).unwrap();
    soon(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await
        }
    })
    .await;
    late.send(index.as_bytes()).await;
    assert_eq!(
        late.answer().await.header("Connection"),
        Some("close"),
        "answered during the notice"
    );
    assert_eq!(idle.rest().await, b"");
    assert!(!task.is_finished(), "a request is still under way");
    GO_ON.notify_one();
    let answer = busy.answer().await;
    assert_eq!(
        (answer.json()["data"].as_str(), answer.header("Connection")),
        (Some("done"), Some("close"))
    );
    drop((busy, idle, late));
    soon(task).await.unwrap().unwrap();
}

/// A client that was accepted, and whose handshake outlasts the notice, is not sent away without an answer.
#[tokio::test]
async fn draining_answers_the_first_request_of_a_slow_client() {
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let (lab, connector) = tls_lab();
        let server = lab.serve(Role::Web, registry(), |config| {
            config.tls = Some(TlsSettings {
                http2: true,
                ..TlsSettings::new(lab.context.clone())
            });
            config.limits.drain_notice = Duration::from_millis(50);
        });
        let slow = TcpStream::connect(server.address).await.unwrap();
        // The next one is served, so this one was accepted before.
        let mut idle = secure(&server, &connector).await;
        idle.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
        idle.answer().await;
        server.stop.send(()).unwrap();
        assert_eq!(idle.rest().await, b"", "the notice is over");
        let mut config = connector.config().as_ref().clone();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("node1").unwrap();
        let mut slow = soon(TlsConnector::from(Arc::new(config)).connect(name, slow))
            .await
            .unwrap();
        if alpn == b"h2" {
            let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .handshake(TokioIo::new(slow))
                .await
                .unwrap();
            tokio::spawn(connection);
            let request = http::Request::get("https://node1/").body(http_body_util::Empty::<bytes::Bytes>::new());
            let answer = soon(sender.send_request(request.unwrap())).await.unwrap();
            assert_eq!(answer.status(), 200);
        } else {
            let mut slow = Client::new(&mut slow);
            slow.send(format!("{GET}{TOKEN}\r\n").as_bytes()).await;
            let answer = slow.answer().await;
            assert_eq!(
                (answer.line.as_str(), answer.header("Connection")),
                ("HTTP/1.1 200 OK", Some("close"))
            );
        }
        soon(server.task).await.unwrap().unwrap();
    }
}

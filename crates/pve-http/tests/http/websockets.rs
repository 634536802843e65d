//! The websocket relay, against a client written by somebody else and byte by byte (reference 01 §4.4).

use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use pve_contract::id;
use pve_rest::{ApiResult, Call, Endpoint, Registry, Reply, Role};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::{Answer, Client, Lab, Running, TOKEN, soon};

const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: binary, base64\r\n";

async fn console(call: Call) -> ApiResult {
    let port = call
        .params
        .integer("port")
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or_default();
    Ok(Reply {
        data: json!({"port": port.to_string()}),
        websocket: Some(Endpoint::Port(port)),
        ..Reply::default()
    })
}

async fn tunnel(call: Call) -> ApiResult {
    let socket = call.params.required("socket");
    Ok(Reply {
        data: json!({"socket": socket}),
        websocket: Some(Endpoint::Socket(socket.into())),
        ..Reply::default()
    })
}

fn serve(lab: &Lab) -> Running {
    let mut registry = Registry::new();
    registry.bind(id::GET_NODES_NODE_VNCWEBSOCKET, |call| Box::pin(console(call)));
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_MTUNNELWEBSOCKET, |call| {
        Box::pin(tunnel(call))
    });
    lab.serve(Role::Web, registry, |config| {
        config.limits.idle = Duration::from_millis(300);
        config.limits.drain_notice = Duration::from_millis(100);
    })
}

/// The ports that the contract allows.
const PORTS: RangeInclusive<u16> = 5900..=5999;

/// One of them that nobody listens at, and nobody else gets as long as the socket lives.
fn closed_console_port() -> (TcpSocket, u16) {
    for port in PORTS.rev() {
        let socket = TcpSocket::new_v4().unwrap();
        if socket.bind(([127, 0, 0, 1], port).into()).is_ok() {
            return (socket, port);
        }
    }
    panic!("no free port")
}

/// A listener on one of them.
async fn console_port() -> TcpListener {
    for port in PORTS {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return listener;
        }
    }
    panic!("no free port")
}

fn target(port: u16) -> String {
    format!("/api2/json/nodes/node1/vncwebsocket?vncticket=PVEVNC%3Ax&port={port}")
}

/// Answers everything with `E:` and what came; ends when its input ends.
async fn echo(listener: TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut buffer = vec![0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let mut reply = b"E:".to_vec();
                reply.extend_from_slice(&buffer[..count]);
                if stream.write_all(&reply).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![first, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

async fn open(server: &Running, target: &str) -> (Client<TcpStream>, Answer) {
    let mut client = server.connect().await;
    let head = format!("GET {target} HTTP/1.1\r\nHost: node1\r\n{TOKEN}{HANDSHAKE}\r\n");
    client.send(head.as_bytes()).await;
    let answer = client.answer().await;
    (client, answer)
}

#[tokio::test]
async fn frames_follow_the_vectors() {
    let lab = Lab::new();
    let server = serve(&lab);
    let listener = console_port().await;
    let target = target(listener.local_addr().unwrap().port());
    let backend = tokio::spawn(echo(listener));
    let (mut client, answer) = open(&server, &target).await;
    assert_eq!(answer.line, "HTTP/1.1 101 Switching Protocols");
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(
        names,
        [
            "upgrade",
            "connection",
            "sec-websocket-accept",
            "sec-websocket-protocol"
        ]
    );
    let values: Vec<_> = answer.headers.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(
        values,
        ["websocket", "upgrade", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "binary, base64"]
    );
    client.send(&masked(0x81, b"hi")).await;
    assert_eq!(client.take(6).await, [0x82, 0x04, 0x45, 0x3A, 0x68, 0x69]);
    client.send(&masked(0x89, b"pp")).await;
    assert_eq!(client.take(4).await, [0x8A, 0x02, 0x70, 0x70]);
    // Longer than the idle limit of requests: a console may be quiet.
    tokio::time::sleep(Duration::from_millis(700)).await;
    client.send(&masked(0x82, b"ho")).await;
    assert_eq!(client.take(6).await, [0x82, 0x04, 0x45, 0x3A, 0x68, 0x6F]);
    client.send(&masked(0x88, &[0x03, 0xE8])).await;
    assert_eq!(client.rest().await, [0x88, 0x02, 0x03, 0xE8]);
    soon(backend).await.unwrap();
}

#[tokio::test]
async fn broken_frames_end_the_connection_with_their_code() {
    let lab = Lab::new();
    let server = serve(&lab);
    let huge = [&[0x82_u8, 0xff][..], &131_073_u64.to_be_bytes()].concat();
    for (frame, code) in [
        (masked(0x02, b"x"), 1002_u16),
        (masked(0xc2, b"x"), 1002),
        (vec![0x82, 0x01, b'x'], 1002),
        (masked(0x83, b"x"), 1002),
        (huge, 1009),
    ] {
        let listener = console_port().await;
        let target = target(listener.local_addr().unwrap().port());
        let backend = tokio::spawn(echo(listener));
        let (mut client, _) = open(&server, &target).await;
        client.send(&frame).await;
        let [high, low] = code.to_be_bytes();
        assert_eq!(client.rest().await, [0x88, 0x02, high, low]);
        soon(backend).await.unwrap();
    }
}

#[tokio::test]
async fn handshakes_that_cannot_be_are_ordinary_errors() {
    let lab = Lab::new();
    let server = serve(&lab);
    let (_closed, port) = closed_console_port();
    for (handshake, line) in [
        (
            HANDSHAKE.replace("websocket\r", "Foo\r"),
            "500 unable to upgrade to protocol 'foo'".to_owned(),
        ),
        (
            HANDSHAKE.replace("13", "8"),
            "500 unsupported websocket-version '8'".to_owned(),
        ),
        (
            HANDSHAKE.replace("Sec-WebSocket-Key", "X"),
            "500 missing websocket-key".to_owned(),
        ),
    ] {
        let answer = server.get(&target(port), &format!("{TOKEN}{handshake}")).await;
        assert_eq!(answer.line, format!("HTTP/1.1 {line}"));
    }
    let answer = server.get(&target(port), TOKEN).await;
    assert_eq!(
        answer.json(),
        json!({"data": {"port": port.to_string()}}),
        "without Upgrade it is data"
    );
    let answer = server.get(&target(5899), &format!("{TOKEN}{HANDSHAKE}")).await;
    assert_eq!(answer.line, "HTTP/1.1 400 Parameter verification failed.");
    let answer = server.get(&target(port), &format!("{TOKEN}{HANDSHAKE}")).await;
    assert_eq!(
        answer.line,
        format!("HTTP/1.1 500 connect to 'localhost:{port}' failed: Connection refused")
    );
}

#[tokio::test]
async fn much_data_passes_both_ways_and_a_slow_reader_slows_the_writer() {
    let lab = Lab::new();
    let server = serve(&lab);
    let path = lab.path("tunnel.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let target = format!(
        "/api2/json/nodes/node1/qemu/100/mtunnelwebsocket?ticket=x&socket={}",
        path.display()
    );
    let (written, told) = tokio::sync::watch::channel(0_usize);
    const TOTAL: usize = 32 << 20;
    let backend = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let up = tokio::spawn(async move {
            let mut sum = 0_u64;
            let mut buffer = vec![0; 65_536];
            loop {
                match from.read(&mut buffer).await.unwrap() {
                    0 => return sum,
                    count => sum += buffer[..count].iter().map(|b| u64::from(*b)).sum::<u64>(),
                }
            }
        });
        let chunk = vec![7_u8; 65_536];
        for _ in 0..TOTAL / chunk.len() {
            to.write_all(&chunk).await.unwrap();
            written.send_modify(|sum| *sum += chunk.len());
        }
        let sum = up.await.unwrap();
        drop(to);
        sum
    });
    let mut request = format!("ws://{}{target}", server.address)
        .into_client_request()
        .unwrap();
    let (name, value) = TOKEN.trim_end().split_once(": ").unwrap();
    request.headers_mut().insert(
        tokio_tungstenite::tungstenite::http::HeaderName::try_from(name).unwrap(),
        value.parse().unwrap(),
    );
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut socket, _) = soon(tokio_tungstenite::client_async(request, stream)).await.unwrap();
    // Nothing is read yet: the writer must get stuck long before it is done.
    let mut seen = usize::MAX;
    while seen != *told.borrow() {
        seen = *told.borrow();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(seen < TOTAL / 2, "{seen} bytes were taken in without a reader");
    for _ in 0..64 {
        soon(socket.send(Message::binary(vec![3_u8; 100_000]))).await.unwrap();
    }
    let mut received = 0;
    while received < TOTAL {
        match soon(socket.next()).await.unwrap().unwrap() {
            Message::Binary(data) => {
                assert!(data.len() <= 131_072 && data.iter().all(|b| *b == 7));
                received += data.len();
            }
            other => panic!("{other:?}"),
        }
    }
    soon(socket.close(None)).await.unwrap();
    assert!(matches!(soon(socket.next()).await, Some(Ok(Message::Close(_)))));
    assert_eq!(soon(backend).await.unwrap(), 64 * 100_000 * 3);
}

#[tokio::test]
async fn a_console_outlives_the_drain() {
    let lab = Lab::new();
    let server = serve(&lab);
    let listener = console_port().await;
    let target = target(listener.local_addr().unwrap().port());
    let backend = tokio::spawn(echo(listener));
    let (mut client, _) = open(&server, &target).await;
    let Running {
        address, stop, task, ..
    } = server;
    stop.send(()).unwrap();
    soon(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!task.is_finished());
    client.send(&masked(0x82, b"hi")).await;
    assert_eq!(client.take(6).await, [0x82, 0x04, 0x45, 0x3A, 0x68, 0x69]);
    client.send(&masked(0x88, b"")).await;
    assert_eq!(client.rest().await, [0x88, 0x00]);
    soon(task).await.unwrap().unwrap();
    soon(backend).await.unwrap();
}

//! The tunnel of SPICE viewers, through real sockets (reference 01 §4.6).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use pve_access::secret::Secret;
use pve_cfs::CfsError;
use pve_http::{AccessLog, Tunnel, TunnelConfig};
use pve_schema::clock::{Clock, ManualClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Client, Lab, soon, until};

/// The time of the reference's vectors.
const THEN: i64 = 0x65B0_C0DE;
/// Vector 51.
const HOST: &str = "pvespiceproxy:65b0c0de:100:node1:61000::64752527f012b5db5bb9ca7e3ae5ceafebb2b601:61000";
/// Vector 52.
const OLD_HOST: &str = "pvespiceproxy:65b0c0de:100:node1::b79fd50b0e4be2a7f28d0a641c7e3f7cc6dfcc5d:61000";
/// Exactly this, and no headers.
const OK: &[u8] = b"HTTP/1.0 200 OK\r\n\r\n";

/// A tunnel under test.
struct Running {
    lab: Lab,
    address: SocketAddr,
    clock: Arc<ManualClock>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    fn start(adjust: impl FnOnce(&mut TunnelConfig)) -> Self {
        Self::start_on("node1", adjust)
    }

    fn start_on(node: &str, adjust: impl FnOnce(&mut TunnelConfig)) -> Self {
        let mut lab = Lab::new();
        let site = Arc::make_mut(&mut lab.context.site);
        site.node = node.parse().unwrap();
        site.address = own_address();
        let clock = Arc::new(ManualClock::at(THEN));
        lab.context.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let log = Arc::new(AccessLog::open(lab.path("var/log/access.log")).unwrap());
        let mut config = TunnelConfig::new(&lab.context, log);
        config.limits.idle = Duration::from_millis(400);
        adjust(&mut config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tunnel = Tunnel {
            context: lab.context.clone(),
            config,
        };
        let task = tokio::spawn(tunnel.run(listener, async {
            let _ = stopped.await;
        }));
        Self {
            lab,
            address,
            clock,
            stop,
            task,
        }
    }

    /// A guest of this node that listens on a port.
    async fn guest(&self, port: u16) -> TcpListener {
        TcpListener::bind((self.lab.context.site.address, port)).await.unwrap()
    }

    fn ticket(&self, node: &str, port: u16) -> String {
        let key = std::fs::read(self.lab.path("etc/pve/pve-www.key")).unwrap();
        Secret::derive(&key).spice_ticket(100, node, port, self.clock.now())
    }

    async fn connect(&self, host: &str, more: &str) -> Client<TcpStream> {
        let mut client = Client::new(TcpStream::connect(self.address).await.unwrap());
        // As remote-viewer sends it.
        let head = format!("CONNECT {host} HTTP/1.0\r\nHost: {host}\r\nProxy-Connection: keep-alive\r\n{more}\r\n");
        client.send(head.as_bytes()).await;
        client
    }

    /// Everything that comes back until the connection is closed.
    async fn ask(&self, request: &str) -> String {
        let mut client = Client::new(TcpStream::connect(self.address).await.unwrap());
        client.send(request.as_bytes()).await;
        String::from_utf8(client.rest().await).unwrap()
    }

    async fn refused(&self, host: &str, more: &str) -> String {
        let answer = self.connect(host, more).await.rest().await;
        let answer = String::from_utf8(answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// The last line of the access log, without address and date, once there are this many.
    async fn logged(&self, count: usize) -> String {
        soon(async {
            loop {
                let text = std::fs::read_to_string(self.lab.path("var/log/access.log")).unwrap();
                if text.lines().count() >= count {
                    assert_eq!(text.lines().count(), count, "{text}");
                    let last = text.lines().last().unwrap();
                    assert!(last.starts_with("127.0.0.1 - - ["), "{last}");
                    return last.split_once("] ").unwrap().1.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

/// A loopback address that no other test has: SPICE's ports are few, and fixed.
fn own_address() -> IpAddr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = COUNT.fetch_add(1, Ordering::Relaxed);
    IpAddr::from([127, 64 + high % 128, low, 1 + last])
}

/// A viewer and a guest with the tunnel between them.
async fn session(running: &Running) -> (Client<TcpStream>, TcpStream) {
    let listener = running.guest(61_002).await;
    let host = format!("{}:61002", running.ticket("node1", 61_002));
    let mut viewer = running.connect(&host, "").await;
    let (guest, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(viewer.take(OK.len()).await, OK);
    (viewer, guest)
}

#[tokio::test]
async fn a_good_ticket_gets_exactly_19_bytes_and_then_the_guest() {
    let running = Running::start(|_| {});
    let (mut viewer, mut guest) = session(&running).await;
    viewer.send(b"REDQ\x02\x00").await;
    let mut received = [0; 6];
    soon(guest.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"REDQ\x02\x00");
    guest.write_all(b"REDQ back").await.unwrap();
    assert_eq!(viewer.take(9).await, b"REDQ back");
    // The viewer has no more to say, and still listens.
    viewer.stream.shutdown().await.unwrap();
    assert_eq!(soon(guest.read(&mut received)).await.unwrap(), 0);
    guest.write_all(b"last words").await.unwrap();
    drop(guest);
    assert_eq!(viewer.rest().await, b"last words");
    let line = running.logged(1).await;
    assert!(
        line.starts_with("\"CONNECT pvespiceproxy:65b0c0de:100:node1:"),
        "{line}"
    );
    assert!(line.contains("::***:") && line.ends_with(" HTTP/1.0\" 200 -"), "{line}");
}

#[tokio::test]
async fn what_comes_with_the_request_reaches_the_guest_and_the_version_is_echoed() {
    let running = Running::start(|_| {});
    let listener = running.guest(61_999).await;
    let host = format!("{}:61999", running.ticket("LOCALHOST", 61_999));
    let mut viewer = Client::new(TcpStream::connect(running.address).await.unwrap());
    // The target of the request does not matter, and the head may come in pieces.
    viewer.send(b"\r\nCONNECT somewhere.else:1 HTTP/1.1\r\nX-").await;
    viewer
        .send(format!("Y: z\r\nhOsT : {host}\r\n\r\nREDQ").as_bytes())
        .await;
    let (mut guest, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(viewer.take(OK.len()).await, b"HTTP/1.1 200 OK\r\n\r\n");
    let mut received = [0; 4];
    soon(guest.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"REDQ");
}

#[tokio::test]
async fn megabytes_pass_both_ways_at_once() {
    let running = Running::start(|_| {});
    let (viewer, guest) = session(&running).await;
    let data: Vec<u8> = (0..8_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let exchange = |stream: TcpStream, sent: Vec<u8>| async move {
        let (mut from, mut to) = stream.into_split();
        let writer = tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        from.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        received
    };
    let both = async { tokio::join!(exchange(viewer.stream, data.clone()), exchange(guest, data.clone())) };
    let (at_viewer, at_guest) = soon(both).await;
    assert!(at_viewer == data && at_guest == data);
}

/// Reference 01 §6, vectors 51 and 52, and what is not quite them.
#[tokio::test]
async fn tickets_are_judged_as_the_vectors_say() {
    let running = Running::start(|_| {});
    let guest = running.guest(61_000).await;
    for host in [HOST, OLD_HOST] {
        let mut viewer = running.connect(host, "").await;
        soon(guest.accept()).await.unwrap();
        assert_eq!(viewer.take(OK.len()).await, OK);
    }
    let foreign = Secret::derive(b"another cluster's key").spice_ticket(100, "node1", 61_000, THEN);
    for bad in [
        format!("{foreign}:61000"),
        HOST.replace(":100:", ":101:"),
        HOST.replace("::6", "::7"),
        HOST.replace("node1", "node2"),
        HOST.replace(
            "::64752527f012b5db5bb9ca7e3ae5ceafebb2b601:61000",
            "::64752527f012b5db5bb9ca7e3ae5ceafebb2b601:61001",
        ),
        HOST.strip_suffix(":61000").unwrap().to_owned(),
        HOST.to_uppercase(),
        "node1:61000".to_owned(),
    ] {
        assert_eq!(running.refused(&bad, "").await, "HTTP/1.0 401 invalid ticket", "{bad}");
    }
    // Two of them are none.
    let twice = running.refused(HOST, &format!("Host: {HOST}\r\n")).await;
    assert_eq!(twice, "HTTP/1.0 401 invalid ticket");
    for (age, is_good) in [(-20, false), (-19, true), (39, true), (40, false)] {
        running.clock.set(THEN + age);
        let mut viewer = running.connect(HOST, "").await;
        let answer = viewer.take(12).await;
        let expected: &[u8] = if is_good { b"HTTP/1.0 200" } else { b"HTTP/1.0 401" };
        assert_eq!(answer, expected, "{age}");
    }
}

#[tokio::test]
async fn refusals_have_upstreams_statuses_and_bodies() {
    let running = Running::start(|_| {});
    for (count, (request, line, body, logged)) in [
        (
            "GET / HTTP/1.0\r\n\r\n",
            "HTTP/1.0 501 method 'GET' not available",
            "",
            "\"GET / HTTP/1.0\" 501 -",
        ),
        (
            "connect x HTTP/1.1\r\n\r\n",
            "HTTP/1.1 501 method 'connect' not available",
            "",
            "\"connect x HTTP/1.1\" 501 -",
        ),
        (
            "CONNECT x HTTP/1.0\r\n\r\n",
            "HTTP/1.0 401 invalid ticket",
            "invalid ticket",
            "\"CONNECT x HTTP/1.0\" 401 14",
        ),
        (
            "CONNECT x HTTP/1.0\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "HTTP/1.0 501 chunked transfer encoding not supported",
            "chunked transfer encoding not supported",
            "\"CONNECT x HTTP/1.0\" 501 39",
        ),
        (
            "GARBAGE\r\n\r\n",
            "HTTP/1.0 400 bad request",
            "bad request",
            "\"GARBAGE\" 400 11",
        ),
        (
            "GET / HTTP/2.0\r\n\r\n",
            "HTTP/1.0 506 http protocol version 2.0 not supported",
            "http protocol version 2.0 not supported",
            "\"GET / HTTP/2.0\" 506 39",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = running.ask(request).await;
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(head.lines().next().unwrap(), line);
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert_eq!(rest, body);
        assert_eq!(running.logged(count + 1).await, logged);
    }
}

#[tokio::test]
async fn other_ports_than_spices_are_closed_without_a_word() {
    let running = Running::start(|_| {});
    for (count, port) in [22, 5900, 60_999, 62_000].into_iter().enumerate() {
        let host = format!("{}:{port}", running.ticket("node1", port));
        assert_eq!(running.refused(&host, "").await, "");
        assert!(running.logged(count + 1).await.ends_with("\" 500 -"));
    }
}

#[tokio::test]
async fn a_guest_that_is_not_there_is_an_error() {
    let running = Running::start(|_| {});
    assert_eq!(
        running.refused(HOST, "").await,
        "HTTP/1.0 502 connect to 'localhost:61000' failed: Connection refused"
    );
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte_and_empty_lines_before_it() {
    let running = Running::start(|config| config.limits.idle = Duration::from_secs(10));
    let mut viewer = Client::new(TcpStream::connect(running.address).await.unwrap());
    viewer.stream.set_nodelay(true).unwrap();
    for byte in b"\r\n\n\r\nCONNECT x:1 HTTP/1.0\r\nHost: x:1\r\n\r\n" {
        viewer.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(viewer.answer().await.line, "HTTP/1.0 401 invalid ticket");
    let answer = running.ask(&"\r\n".repeat(513)).await;
    assert!(
        answer.starts_with("HTTP/1.0 431 request header too large\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn silent_clients_are_closed_and_half_a_request_is_logged() {
    let running = Running::start(|_| {});
    let mut client = Client::new(TcpStream::connect(running.address).await.unwrap());
    assert_eq!(client.rest().await, b"");
    assert_eq!(running.ask("CONNECT x HTTP/1.0\r\nHost: x\r\n").await, "");
    assert_eq!(running.logged(1).await, "\"CONNECT x HTTP/1.0\" 500 -");
}

#[tokio::test]
async fn hosts_that_may_not_connect_get_nothing() {
    let running = Running::start(|config| config.allow = Some(Arc::new(|_| false)));
    let mut client = Client::new(TcpStream::connect(running.address).await.unwrap());
    assert_eq!(client.rest().await, b"");
    assert_eq!(running.logged(1).await, "\"-\" 403 -");
}

#[tokio::test]
async fn a_killed_viewer_is_told_to_the_guest() {
    let running = Running::start(|_| {});
    let (viewer, mut guest) = session(&running).await;
    guest.write_all(b"unread").await.unwrap();
    soon(viewer.stream.readable()).await.unwrap();
    drop(viewer);
    let mut rest = Vec::new();
    // The end, or the reset itself.
    let _ = soon(guest.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_drain_keeps_tunnels_and_takes_no_new_ones() {
    let running = Running::start(|_| {});
    let (mut viewer, mut guest) = session(&running).await;
    running.stop.send(()).unwrap();
    until(async || TcpStream::connect(running.address).await.is_err()).await;
    assert!(!running.task.is_finished());
    guest.write_all(b"still here").await.unwrap();
    assert_eq!(viewer.take(10).await, b"still here");
    drop(viewer);
    drop(guest);
    soon(running.task).await.unwrap().unwrap();
}

fn find(address: SocketAddr) -> impl FnOnce(&mut TunnelConfig) {
    move |config| {
        config.find_node = Arc::new(move |name| match name {
            "node2" => Ok(address),
            other => Err(CfsError::NoSuchNode(other.to_owned())),
        });
    }
}

#[tokio::test]
async fn a_guest_of_another_node_is_reached_through_that_nodes_tunnel() {
    let (node, address) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    };
    let running = Running::start(find(address));
    let host = format!("{}:61000", running.ticket("Node2", 61_000));
    let mut viewer = running.connect(&host, "").await;
    viewer.send(b"early").await;
    let mut hop = Client::new(soon(node.accept()).await.unwrap().0);
    let expected = format!(
        "CONNECT {host} HTTP/1.0\r\nHost: {host}\r\nProxy-Connection: keep-alive\r\nUser-Agent: spiceproxy\r\n\
         PVEDisableProxy: true\r\nPVEClientIP: 127.0.0.1\r\n\r\n"
    );
    assert_eq!(String::from_utf8(hop.take(expected.len()).await).unwrap(), expected);
    // In pieces, and with the guest's first bytes behind it.
    hop.send(b"HTTP/1.0 200").await;
    hop.send(b" OK\r\n\r\nREDQ").await;
    assert_eq!(viewer.take(OK.len() + 4).await, [OK, b"REDQ"].concat());
    assert_eq!(hop.take(5).await, b"early");
}

#[tokio::test]
async fn two_tunnels_in_a_row_are_one() {
    let second = Running::start_on("Node2", |_| {});
    let first = Running::start(find(second.address));
    let listener = second.guest(61_000).await;
    let host = format!("{}:61000", first.ticket("Node2", 61_000));
    let mut viewer = first.connect(&host, "").await;
    let (mut guest, _) = soon(listener.accept()).await.unwrap();
    guest.write_all(b"REDQ").await.unwrap();
    assert_eq!(viewer.take(OK.len() + 4).await, [OK, b"REDQ"].concat());
    viewer.stream.shutdown().await.unwrap();
    assert_eq!(soon(guest.read(&mut [0; 4])).await.unwrap(), 0);
}

#[tokio::test]
async fn viewers_are_not_sent_round_in_circles() {
    // The node that the first one takes for the guest's does not think that it is.
    let second = Running::start_on("node3", |_| {});
    let first = Running::start(find(second.address));
    let host = format!("{}:61000", first.ticket("node2", 61_000));
    assert_eq!(first.refused(&host, "").await, "HTTP/1.0 500 proxy loop detected");
    assert!(first.logged(1).await.ends_with(" 500 -"));
    assert!(second.logged(1).await.ends_with(" 500 19"));
}

#[tokio::test]
async fn another_nodes_refusal_is_passed_on_and_silence_is_limited() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = Running::start(find(node.local_addr().unwrap()));
    let host = format!("{}:61000", running.ticket("node2", 61_000));
    let target = node.local_addr().unwrap().port();
    for (answer, expected) in [
        (
            Some(&b"HTTP/1.0 401 invalid ticket\r\nX: y\r\n\r\n"[..]),
            "HTTP/1.0 401 invalid ticket".to_owned(),
        ),
        (
            Some(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n"),
            format!("HTTP/1.0 502 connect to 'node2:{target}' failed: no answer in HTTP"),
        ),
        (
            Some(b""),
            format!("HTTP/1.0 502 connect to 'node2:{target}' failed: Broken pipe"),
        ),
        (
            None,
            format!("HTTP/1.0 502 connect to 'node2:{target}' failed: Connection timed out"),
        ),
    ] {
        let mut viewer = running.connect(&host, "").await;
        let (mut hop, _) = soon(node.accept()).await.unwrap();
        let mut held = None;
        match answer {
            Some(answer) => {
                // Read first: a close with unread bytes is a reset.
                let mut request = [0; 64];
                soon(hop.read_exact(&mut request)).await.unwrap();
                hop.write_all(answer).await.unwrap();
                soon(hop.shutdown()).await.unwrap();
                held = Some(hop);
            }
            None => held = Some(hop).or(held),
        }
        let text = String::from_utf8(viewer.rest().await).unwrap();
        assert_eq!(text.lines().next().unwrap_or_default(), expected);
        drop(held);
    }
    let unknown = format!("{}:61000", running.ticket("node3", 61_000));
    assert!(running.refused(&unknown, "").await.starts_with("HTTP/1.0 500 "));
}

//! Downloads: from a handler in one daemon through the other to the client, as fast as that takes them.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Content, Download, Registry, Reply, Role};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Lab, Running, TOKEN, soon, until};

const SIZE: u64 = 40 << 20;
/// What may be under way in buffers of two daemons and of the kernel.
const UNDER_WAY: u64 = 24 << 20;
const TARGET: &str = "/api2/json/nodes/node1/tasks/UPID:node1:0000BBEF:0012D687:6553F100:x::root@pam:/log?download=1";

/// A large file that knows how much of it was read.
struct Counted(&'static AtomicU64);

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at = self.0.load(Ordering::SeqCst);
        let count = into.len().min(usize::try_from(SIZE - at).unwrap());
        for (offset, byte) in into[..count].iter_mut().enumerate() {
            *byte = ((at + offset as u64) % 251) as u8;
        }
        self.0.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }
}

fn download(content: Content) -> ApiResult {
    Ok(Reply {
        download: Some(Download {
            content,
            content_type: "text/plain".to_owned(),
            content_encoding: None,
            content_disposition: Some("attachment; filename=\"task.log\"".to_owned()),
        }),
        ..Reply::default()
    })
}

/// Both daemons, with short waiting times.
fn serve(handler: pve_rest::Handler) -> (Running, Running) {
    let lab = Lab::new();
    let mut registry = Registry::new();
    registry.bind(id::GET_NODES_NODE_TASKS_UPID_LOG, handler);
    let idle = Duration::from_millis(200);
    let daemon = lab.serve(Role::Root, registry, |config| config.limits.idle = idle);
    let server = lab.serve(Role::Web, Registry::new(), |config| {
        config.daemon_port = daemon.address.port();
        config.limits.idle = idle;
    });
    (daemon, server)
}

/// Sends the request and reads the head of the answer, on a connection that buffers little.
async fn ask(server: &Running) -> http::Response<hyper::body::Incoming> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let stream: TcpStream = socket.connect(server.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (name, value) = TOKEN.trim_end().split_once(": ").unwrap();
    let request = http::Request::get(TARGET).header(name, value);
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    soon(sender.send_request(request)).await.unwrap()
}

static READ: AtomicU64 = AtomicU64::new(0);

#[tokio::test]
async fn a_download_waits_for_its_client_and_takes_little_memory() {
    let (_daemon, server) = serve(|_: Call| Box::pin(async { download(Content::Stream(Box::new(Counted(&READ)))) }));
    let response = ask(&server).await;
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(
        response.headers()["content-disposition"],
        "attachment; filename=\"task.log\""
    );
    // The client does not read for several times the limit that holds for calls.
    let began = Instant::now();
    let mut most = 0;
    until(async || {
        most = most.max(READ.load(Ordering::SeqCst));
        began.elapsed() > Duration::from_secs(1)
    })
    .await;
    assert!(most > 0 && most < UNDER_WAY, "{most} bytes were read for nobody");
    let mut body = response.into_body();
    let mut received = 0_u64;
    while let Some(frame) = soon(body.frame()).await {
        for byte in frame.unwrap().into_data().unwrap() {
            assert_eq!(byte, (received % 251) as u8);
            received += 1;
        }
    }
    assert_eq!(received, SIZE);
}

/// Gives something, and then fails.
struct Broken(bool);

impl Read for Broken {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.0, true) {
            return Err(io::Error::other("the disk is gone"));
        }
        into.fill(b'x');
        Ok(into.len())
    }
}

/// Half a file must not look like a whole one: the connection breaks off, or the answer is an error where the first
/// daemon broke off before its head was out.
#[tokio::test]
async fn a_download_that_fails_breaks_off() {
    let (_daemon, server) = serve(|_: Call| Box::pin(async { download(Content::Stream(Box::new(Broken(false)))) }));
    let response = ask(&server).await;
    if response.status() == 596 {
        return;
    }
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut outcome = Ok(());
    while let Some(frame) = soon(body.frame()).await {
        outcome = frame.map(drop);
        if outcome.is_err() {
            break;
        }
    }
    outcome.expect_err("the connection broke off");
}

//! A site in a temporary directory, servers on it, and a client that shows what is on the wire.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pve_access::AccessControl;
use pve_http::{Server, ServerConfig};
use pve_rest::{Pipeline, Registry, Role};
use pve_schema::Context;
use pve_schema::ids::UserId;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The header of `root@pam`'s token.
pub(crate) const TOKEN: &str = "Authorization: PVEAPIToken=root@pam!ci=6f9c0d53-0000-4000-8000-000000000001\r\n";
/// No wait of a test lasts longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until a condition holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A site with the user `root@pam`, a token and keys.
pub(crate) struct Lab {
    dir: Arc<TempDir>,
    pub(crate) context: Context,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self::on(Arc::new(tempfile::tempdir().unwrap()), "node1");
        for folder in ["etc/pve/priv", "etc/pve/nodes/node1", "var/tmp", "var/log"] {
            std::fs::create_dir_all(lab.path(folder)).unwrap();
        }
        lab.put(
            "etc/pve/user.cfg",
            "user:root@pam:1:0::::::\ntoken:root@pam!ci:0:0::\nuser:joe@pve:1:0::::::\n",
        );
        lab.put(
            "etc/pve/priv/token.cfg",
            "root@pam!ci 6f9c0d53-0000-4000-8000-000000000001\n",
        );
        lab.put(
            "etc/pve/pve-www.key",
            "-----BEGIN RSA PRIVATE KEY-----\nlabkey\n-----END RSA PRIVATE KEY-----\n",
        );
        lab
    }

    /// Another node of the same cluster: it shares all files, and its part of them has its own name.
    pub(crate) fn node(&self, name: &str) -> Self {
        std::fs::create_dir_all(self.path("etc/pve/nodes").join(name)).unwrap();
        Self::on(Arc::clone(&self.dir), name)
    }

    fn on(dir: Arc<TempDir>, node: &str) -> Self {
        let site = json!({
            "root": dir.path(), "instance": null, "address": "127.0.0.1", "node": node,
            "root_user": {"uid": 0, "gid": 0}, "web_user": {"uid": 0, "gid": 0},
        });
        let context = Context::new(serde_json::from_value(site).unwrap());
        Self { dir, context }
    }

    pub(crate) fn path(&self, rel: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(rel)
    }

    pub(crate) fn put(&self, rel: &str, text: &str) {
        std::fs::write(self.path(rel), text).unwrap();
    }

    /// The headers of a browser session of a user: cookie alone, and cookie with CSRF token.
    pub(crate) fn session(&self, user: &str) -> (String, String) {
        pve_access::ticket::keys::generate_auth_key(&self.context).unwrap();
        let access = AccessControl::load(&self.context).unwrap();
        let user: UserId = user.parse().unwrap();
        let ticket = access.login_ticket(&user).unwrap();
        let cookie = pve_access::credentials::cookie(&ticket);
        let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
        let csrf = access.csrf_token(&user).unwrap();
        (cookie.clone(), format!("{cookie}CSRFPreventionToken: {csrf}\r\n"))
    }

    /// Starts a server without TLS; refusals come at once.
    pub(crate) fn serve(&self, role: Role, registry: Registry, adjust: impl FnOnce(&mut ServerConfig)) -> Running {
        let mut config = ServerConfig::daemon();
        config.trusted = role == Role::Root;
        config.limits.refusal_delay = Duration::ZERO;
        adjust(&mut config);
        let pipeline = Arc::new(Pipeline {
            context: self.context.clone(),
            registry,
            role,
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server { pipeline, config };
        let task = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        Running {
            address,
            stop,
            task,
            _dir: Arc::clone(&self.dir),
        }
    }
}

/// A server under test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
    /// Kept as long as the server runs on it.
    _dir: Arc<TempDir>,
}

impl Running {
    pub(crate) async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request.as_bytes()).await;
        client.answer().await
    }

    /// One GET.
    pub(crate) async fn get(&self, target: &str, headers: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: node1:8006\r\n{headers}\r\n"))
            .await
    }

    /// One request with a body.
    pub(crate) async fn send(&self, verb: &str, target: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.ask(&format!(
            "{verb} {target} HTTP/1.1\r\nHost: node1:8006\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// A client that reads answers as they are on the wire.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Reads more; whether there was more.
    async fn more(&mut self) -> bool {
        soon(self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0) > 0
    }

    /// Reads at least this many bytes and takes them.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.more().await, "the stream ended after {:?}", self.buffer);
        }
        self.buffer.drain(..count).collect()
    }

    /// One answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.more().await,
                "no answer, only {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head = String::from_utf8(self.take(end).await).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers: Vec<_> = headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            line,
            headers,
            body: Vec::new(),
        };
        if let Some(length) = answer.header("Content-Length") {
            answer.body = self.take(length.parse().unwrap()).await;
        }
        answer
    }

    /// Reads to the end of the stream; what came before it.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }
}

/// An answer as it was on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status line.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?} {}", self.line, self.text()))
    }
}

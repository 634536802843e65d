//! Calls that the proxy passes on to another node's proxy (reference 01 §4.1 to §4.3).
//!
//! Two nodes share one set of files, as in a cluster; each has its own certificate, proxy and daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pve_cfs::CfsError;
use pve_contract::id;
use pve_http::TlsSettings;
use pve_rest::{ApiError, ApiResult, Call, Registry, Role};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Lab, Running, TOKEN, soon, until};

const CONFIG: &str = "/api2/json/nodes/node2/config";
const STATUS: &str = "/api2/json/nodes/node2/status";

/// Two nodes, of which the first knows the second's proxy.
struct Cluster {
    lab: Lab,
    second: Lab,
    /// Plain HTTP for the test's client.
    proxy: Running,
    remote: Running,
    _daemon: Running,
}

/// Tells which node runs the call, for whom, and with what.
async fn tell(call: Call) -> ApiResult {
    Ok(json!({
        "node": call.context.site.node.as_str(),
        "caller": call.caller.as_ref().map(ToString::to_string),
        "host": call.client.host,
        "params": call.params.text("description"),
    })
    .into())
}

fn what_the_second_node_does() -> Registry {
    let mut root = Registry::new();
    root.bind(id::GET_NODES_NODE_STATUS, |call| Box::pin(tell(call)));
    root.bind(id::PUT_NODES_NODE_CONFIG, |call| Box::pin(tell(call)));
    root.bind(id::GET_NODES_NODE_TIME, |_| {
        Box::pin(async { Err(ApiError::status(409, "busy\nvery busy\n")) })
    });
    root.bind(id::POST_NODES_NODE_STATUS, |_| {
        Box::pin(async { Ok(Value::Null.into()) })
    });
    root
}

/// Gives a node a certificate and key of its own.
fn certify(lab: &Lab, node: &str) {
    let made = rcgen::generate_simple_self_signed(["no name that counts".to_owned()]).unwrap();
    for (ending, text) in [("key", made.signing_key.serialize_pem()), ("pem", made.cert.pem())] {
        lab.put(&format!("etc/pve/nodes/{node}/pve-ssl.{ending}"), &text);
    }
}

/// A proxy on the first node that finds the second here.
fn proxy_to(lab: &Lab, address: SocketAddr) -> Running {
    lab.serve(Role::Web, Registry::new(), |config| {
        config.find_node = Some(Arc::new(move |node| match node {
            "node2" | "node3" => Ok(address),
            _ => Err(CfsError::Lookup {
                host: node.to_owned(),
                reason: "Name or service not known".to_owned(),
            }),
        }));
        config.limits.backend_idle = Duration::from_secs(5);
    })
}

impl Cluster {
    fn new() -> Self {
        let lab = Lab::new();
        let second = lab.node("node2");
        certify(&lab, "node1");
        certify(&lab, "node2");
        let daemon = second.serve(Role::Root, what_the_second_node_does(), |_| {});
        let port = daemon.address.port();
        let remote = second.serve(Role::Web, Registry::new(), |config| {
            config.daemon_port = port;
            let mut settings = TlsSettings::new(second.context.clone());
            settings.recheck = Duration::from_millis(50);
            config.tls = Some(settings);
        });
        let proxy = proxy_to(&lab, remote.address);
        Self {
            lab,
            second,
            proxy,
            remote,
            _daemon: daemon,
        }
    }
}

/// What the fingerprint in a file is, as openssl sees it.
fn fingerprint(lab: &Lab, node: &str) -> String {
    let file = lab.path(format!("etc/pve/nodes/{node}/pve-ssl.pem"));
    let run = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    text.trim().split_once('=').unwrap().1.to_owned()
}

#[tokio::test]
async fn another_nodes_calls_run_there_for_the_same_caller() {
    let cluster = Cluster::new();
    let (cookie, session) = cluster.lab.session("root@pam");
    for (headers, caller) in [(TOKEN, "root@pam!ci"), (&cookie, "root@pam"), (TOKEN, "root@pam!ci")] {
        let answer = cluster.proxy.get(STATUS, headers).await;
        assert_eq!(answer.line, "HTTP/1.1 200 OK", "{}", answer.text());
        assert_eq!(
            answer.json()["data"],
            json!({"node": "node2", "caller": caller, "host": "node1:8006", "params": null})
        );
        let connection = answer.headers.iter().filter(|(name, _)| name == "Connection").count();
        assert_eq!(connection, 1, "{:?}", answer.headers);
    }
    for (headers, body) in [
        (session.clone(), "description=%C3%A4%20%3D%26%3B%2B"),
        (
            format!("{session}Content-Type: application/json\r\n"),
            "{\"description\":\"ä =&;+\"}",
        ),
    ] {
        let answer = cluster.proxy.send("PUT", CONFIG, &headers, body).await;
        assert_eq!(answer.line, "HTTP/1.1 200 OK", "{}", answer.text());
        assert_eq!(answer.json()["data"]["params"], "ä =&;+");
    }
    let answer = cluster.proxy.send("POST", STATUS, &session, "command=reboot").await;
    assert_eq!(
        (answer.line.as_str(), answer.json()),
        ("HTTP/1.1 200 OK", json!({"data": null}))
    );
}

#[tokio::test]
async fn refusals_of_the_other_node_pass_unchanged() {
    let cluster = Cluster::new();
    let answer = cluster.proxy.get("/api2/json/nodes/node2/time", TOKEN).await;
    assert_eq!(answer.line, "HTTP/1.1 409 busy");
    assert_eq!(answer.json(), json!({"data": null, "message": "busy\nvery busy\n"}));
    let (_, session) = cluster.lab.session("root@pam");
    let answer = cluster.proxy.send("POST", STATUS, &session, "command=dance").await;
    assert!(answer.line.starts_with("HTTP/1.1 400 "), "{}", answer.line);
    assert!(answer.json()["errors"]["command"].is_string(), "{}", answer.text());
}

/// The first node does not even look for the third.
#[tokio::test]
async fn what_was_forwarded_once_is_not_forwarded_again() {
    let cluster = Cluster::new();
    let headers = format!("{TOKEN}PVEDisableProxy: true\r\n");
    let answer = cluster.proxy.get("/api2/json/nodes/nosuch/status", &headers).await;
    assert_eq!(answer.line, "HTTP/1.1 500 proxy loop detected");
    // And the second node is told: a name that leads to the wrong node ends there.
    let lab = &cluster.lab;
    let _third = lab.node("node3");
    let pem = std::fs::read_to_string(lab.path("etc/pve/nodes/node2/pve-ssl.pem")).unwrap();
    lab.put("etc/pve/nodes/node3/pve-ssl.pem", &pem);
    let answer = cluster.proxy.get("/api2/json/nodes/node3/status", TOKEN).await;
    assert_eq!(answer.line, "HTTP/1.1 500 proxy loop detected");
}

#[tokio::test]
async fn an_unknown_node_fails_as_upstream_says() {
    let cluster = Cluster::new();
    let text = "hostname lookup 'nosuch' failed - failed to get address info for: nosuch: Name or service not known";
    let answer = cluster.proxy.get("/api2/json/nodes/nosuch/qemu", TOKEN).await;
    assert_eq!(answer.line, format!("HTTP/1.1 500 {text}"));
    assert_eq!(answer.json()["message"], format!("{text}\n"));
}

#[tokio::test]
async fn a_node_that_is_down_is_a_595() {
    let lab = Lab::new();
    let _second = lab.node("node2");
    certify(&lab, "node2");
    let (_held, closed) = pve_testing::held_port([127, 0, 0, 1]);
    let answer = proxy_to(&lab, closed).get(STATUS, TOKEN).await;
    assert_eq!(
        (answer.line.as_str(), answer.text()),
        ("HTTP/1.1 595 Connection refused", "")
    );
}

#[tokio::test]
async fn only_the_nodes_own_certificate_is_believed() {
    let cluster = Cluster::new();
    let lab = &cluster.lab;
    let seen = fingerprint(lab, "node2");
    // Known in the cluster, but another node's.
    let _third = lab.node("node3");
    certify(lab, "node3");
    let expected = fingerprint(lab, "node3");
    let answer = cluster.proxy.get("/api2/json/nodes/node3/status", TOKEN).await;
    assert_eq!(
        (answer.line, answer.body.len()),
        (
            format!(
                "HTTP/1.1 596 certificate of node 'node3' is not the one in /etc/pve: expected {expected}, seen {seen}"
            ),
            0
        )
    );
    std::fs::remove_file(lab.path("etc/pve/nodes/node3/pve-ssl.pem")).unwrap();
    let answer = cluster.proxy.get("/api2/json/nodes/node3/status", TOKEN).await;
    assert_eq!(
        answer.line,
        "HTTP/1.1 596 no certificate of node 'node3' in '/etc/pve/nodes/node3'"
    );
}

/// What is secret is said to nobody but the node.
#[tokio::test]
async fn a_stranger_on_the_nodes_address_learns_nothing() {
    let lab = Lab::new();
    let _second = lab.node("node2");
    certify(&lab, "node2");
    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = proxy_to(&lab, stranger.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (mut stream, _) = stranger.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
        bytes.truncate(count);
        bytes
    });
    let answer = proxy.get(STATUS, TOKEN).await;
    assert!(
        answer.line.starts_with("HTTP/1.1 596 no TLS with node 'node2': "),
        "{}",
        answer.line
    );
    let heard = soon(heard).await.unwrap();
    assert_eq!(heard.first(), Some(&0x16), "a handshake of TLS");
    assert!(!String::from_utf8_lossy(&heard).contains("PVEAPIToken"));
}

/// Certificates are public: who has the node's and not its key is not the node.
#[tokio::test]
async fn a_certificate_without_its_key_is_not_believed() {
    #[derive(Debug)]
    struct Shown(Arc<CertifiedKey>);
    impl ResolvesServerCert for Shown {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let lab = Lab::new();
    let _second = lab.node("node2");
    certify(&lab, "node2");
    let stolen = CertificateDer::from_pem_file(lab.path("etc/pve/nodes/node2/pve-ssl.pem")).unwrap();
    let other = rcgen::generate_simple_self_signed(["x".to_owned()])
        .unwrap()
        .signing_key;
    let key = PrivateKeyDer::try_from(other.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = config.with_cert_resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(vec![stolen], key)))));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let thief = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = proxy_to(&lab, thief.local_addr().unwrap());
    let accepted = tokio::spawn(async move { acceptor.accept(thief.accept().await.unwrap().0).await.is_ok() });
    assert_eq!(
        proxy.get(STATUS, TOKEN).await.line,
        "HTTP/1.1 596 no TLS with node 'node2': invalid peer certificate: BadSignature"
    );
    assert!(!soon(accepted).await.unwrap());
}

#[tokio::test]
async fn a_node_that_says_nothing_is_a_596() {
    let lab = Lab::new();
    let _second = lab.node("node2");
    certify(&lab, "node2");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let proxy = lab.serve(Role::Web, Registry::new(), |config| {
        config.find_node = Some(Arc::new(move |_| Ok(address)));
        config.limits.backend_idle = Duration::from_millis(200);
    });
    let answer = proxy.get(STATUS, TOKEN).await;
    assert_eq!(
        (answer.line.as_str(), answer.text()),
        ("HTTP/1.1 596 Connection timed out", "")
    );
}

#[tokio::test]
async fn a_certificate_that_was_replaced_is_believed_at_once() {
    let cluster = Cluster::new();
    assert_eq!(cluster.proxy.get(STATUS, TOKEN).await.line, "HTTP/1.1 200 OK");
    let before = fingerprint(&cluster.lab, "node2");
    certify(&cluster.second, "node2");
    let expected = fingerprint(&cluster.lab, "node2");
    let (_, session) = cluster.lab.session("root@pam");
    // A change travels on a new connection: it is refused as long as the node shows what it had, and then done.
    let old = format!(
        "HTTP/1.1 596 certificate of node 'node2' is not the one in /etc/pve: expected {expected}, seen {before}"
    );
    until(async || {
        let answer = cluster.proxy.send("PUT", CONFIG, &session, "description=x").await;
        assert!(
            answer.line == old || answer.line == "HTTP/1.1 200 OK",
            "{}",
            answer.line
        );
        answer.line != old
    })
    .await;
}

/// Passes bytes on and counts connections.
async fn counting_relay(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut server = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, count)
}

#[tokio::test]
async fn only_gets_share_a_connection() {
    let cluster = Cluster::new();
    let (address, count) = counting_relay(cluster.remote.address).await;
    let proxy = proxy_to(&cluster.lab, address);
    let (_, session) = cluster.lab.session("root@pam");
    // The connection is kept a moment after the answer is there.
    until(async || {
        let before = count.load(Ordering::SeqCst);
        assert_eq!(proxy.get(STATUS, TOKEN).await.line, "HTTP/1.1 200 OK");
        before > 0 && count.load(Ordering::SeqCst) == before
    })
    .await;
    for _ in 0..3 {
        let before = count.load(Ordering::SeqCst);
        let answer = proxy.send("PUT", CONFIG, &session, "description=x").await;
        assert_eq!(answer.line, "HTTP/1.1 200 OK");
        assert_eq!(count.load(Ordering::SeqCst), before + 1);
    }
}

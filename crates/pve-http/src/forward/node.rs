//! The way to another node's `pveproxy`: its address, TLS with its pinned certificate, and connections that are used
//! again.
//!
//! Only GET travels on a connection that was used before: it may be said twice, a change may not (reference 01 §4.2).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pve_cfs::{Cfs, CfsError};
use pve_contract::Verb;
use pve_schema::Context;
use pve_schema::ids::NodeName;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::{Failure, TIMED_OUT};
use super::pin::{self, Fingerprint, Verifier};
use super::{Call, POOL, POOL_IDLE, request};
use crate::tunnel::FindNode;

/// Where every node's proxy listens; configurable nowhere (reference 01, overview).
const PORT: u16 = 8006;

type Sender = http1::SendRequest<Full<Bytes>>;

/// The ways to other nodes.
pub(super) struct Nodes {
    context: Context,
    find: FindNode,
    /// How long a node may be silent, at each step.
    idle: Duration,
    kept: Arc<Mutex<Kept>>,
    provider: Arc<CryptoProvider>,
}

/// Idle connections by node.
type Kept = HashMap<NodeName, Vec<(Sender, Instant)>>;

/// Where a node is, and how to know it.
struct Target {
    address: SocketAddr,
    /// The fingerprint of its certificate, or why there is none.
    pin: Result<Fingerprint, String>,
}

impl Nodes {
    /// The nodes that `/etc/pve` knows.
    pub(super) fn new(context: &Context, idle: Duration, find: Option<FindNode>) -> Self {
        let known = context.clone();
        Self {
            context: context.clone(),
            find: find.unwrap_or_else(|| Arc::new(move |node| find_node(&Cfs::new(&known), node))),
            idle,
            kept: Arc::default(),
            provider: Arc::new(aws_lc_rs::default_provider()),
        }
    }

    /// Asks a node.
    pub(super) async fn call(&self, node: &NodeName, call: &Call<'_>) -> Result<Response<Incoming>, Failure> {
        if call.head.verb != Verb::Get {
            return self.ask(node, call, None).await;
        }
        match self.ask(node, call, self.take(node)).await {
            // The node may have closed an idle connection at the moment we chose it.
            Err(Failure::Broken) => self.ask(node, call, None).await,
            answer => answer,
        }
    }

    /// Asks on this connection, or on a new one.
    async fn ask(&self, node: &NodeName, call: &Call<'_>, open: Option<Sender>) -> Result<Response<Incoming>, Failure> {
        let mut request = request(call, "").ok_or(Failure::Uri)?;
        let named = HeaderValue::from_str(node.as_str()).map_err(|_| Failure::Uri)?;
        request.headers_mut().entry(HOST).or_insert(named);
        // That id means something on this node only.
        request.headers_mut().remove(crate::REQUEST_ID);
        let mut sender = match open {
            Some(sender) => sender,
            None => self.connect(node).await?,
        };
        match timeout(self.idle, sender.send_request(request)).await {
            Err(_) => Err(Failure::Silent),
            Ok(Err(error)) => Err(Failure::of_connection(&error)),
            Ok(Ok(response)) => {
                if call.head.verb == Verb::Get {
                    self.keep(node.clone(), sender);
                }
                Ok(response)
            }
        }
    }

    /// A new connection, on which the node has shown that it is the one.
    async fn connect(&self, node: &NodeName) -> Result<Sender, Failure> {
        let Target { address, pin } = self.locate(node).await?;
        let pin = pin.map_err(|reason| refused(&reason))?;
        let stream = match timeout(self.idle, TcpStream::connect(address)).await {
            Err(_) => return Err(Failure::Connect(TIMED_OUT.to_owned())),
            Ok(Err(error)) => return Err(Failure::Connect(pve_schema::errno_text(&error))),
            Ok(Ok(stream)) => stream,
        };
        // Without it only small requests are slower.
        let _ = stream.set_nodelay(true);
        let stream = self.shake_hands(node, pin, stream, address).await?;
        let mut builder = http1::Builder::new();
        builder.title_case_headers(true);
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::of_connection(&error))?;
        // It ends with the sender and the answer; its errors are told by them.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn shake_hands(
        &self,
        node: &NodeName,
        pin: Fingerprint,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let verifier = Arc::new(Verifier::new(pin, Arc::clone(&self.provider)));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(&error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier))
            .with_no_client_auth();
        config.enable_sni = false;
        // A resumed session would not show its certificate.
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        match timeout(self.idle, connector.connect(ServerName::from(address.ip()), stream)).await {
            Err(_) => Err(Failure::Silent),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                let mismatch = verifier.mismatch(node.as_str());
                let reason = mismatch.unwrap_or_else(|| format!("no TLS with node '{node}': {error}"));
                Err(refused(&reason))
            }
        }
    }

    /// Looks in `/etc/pve` where the node is and which certificate it has.
    async fn locate(&self, node: &NodeName) -> Result<Target, Failure> {
        let (find, context, node) = (Arc::clone(&self.find), self.context.clone(), node.clone());
        let look = move || {
            let address = find(node.as_str())?;
            let pin = pin::read(&Cfs::new(&context), node.as_str())?;
            Ok(Target { address, pin })
        };
        // A file system that hangs makes this call wait, not the server.
        match timeout(self.idle, spawn_blocking(look)).await {
            Err(_) => Err(Failure::Silent),
            Ok(Err(_)) => Err(Failure::Broken),
            Ok(Ok(found)) => found.map_err(Failure::Files),
        }
    }

    /// An idle connection to a node.
    fn take(&self, node: &NodeName) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = kept.get_mut(node)?;
        senders.retain(is_fresh);
        senders.pop().map(|(sender, _)| sender)
    }

    /// Keeps a connection once its answer is read to the end.
    fn keep(&self, node: NodeName, mut sender: Sender) {
        let kept = Arc::clone(&self.kept);
        tokio::spawn(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            for senders in kept.values_mut() {
                senders.retain(is_fresh);
            }
            if kept.values().map(Vec::len).sum::<usize>() < POOL {
                kept.entry(node).or_default().push((sender, Instant::now()));
            }
        });
    }
}

/// Whether a connection that was kept can be used again.
fn is_fresh((sender, since): &(Sender, Instant)) -> bool {
    sender.is_ready() && since.elapsed() < POOL_IDLE
}

/// The node cannot be believed: for the administrator's eyes too.
fn refused(reason: &str) -> Failure {
    log::error!("{reason}");
    Failure::Tls(reason.to_owned())
}

/// Where a node's proxy listens.
fn find_node(cfs: &Cfs, node: &str) -> Result<SocketAddr, CfsError> {
    Ok(SocketAddr::new(cfs.node_address(node)?, PORT))
}

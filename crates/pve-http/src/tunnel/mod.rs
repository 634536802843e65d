//! The tunnel of SPICE viewers: `CONNECT` on port 3128, and then bytes both ways (reference 01 §4.6).
//!
//! ```text
//! accept ──host filter──▶ head ──ticket, port, node──▶ connect ──▶ "200 OK" ──▶ relay ──▶ over
//!                          └──────────────── refused ─────┴──▶ one answer, closed
//! ```
//!
//! | module | step |
//! |---|---|
//! | [`request`] | the head of the request |
//! | `session` | from the head to the relay, as one list |
//! | `remote` | the guest is on another node: the same request to that node's tunnel |
//! | `relay` | the bytes |
//! | `refused` | why there is no tunnel |
//!
//! The only authentication is the ticket in the `Host` header: it was issued to somebody who may see the console, for one
//! guest and port, a moment ago. SPICE's own password protects what is inside. Not here: issuing tickets
//! (`pve_access::secret`), and who may have one (the API method).

mod refused;
mod relay;
mod remote;
pub mod request;
mod session;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pve_cfs::{Cfs, CfsError};
use pve_schema::Context;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::access_log::{AccessLog, Entry};
use crate::config::{HostFilter, Limits};
use crate::counters;
use crate::server::{ACCEPT_PAUSE, Gate};
use session::Viewer;

/// How long `/etc/pve` may take to be read.
const FILES: Duration = Duration::from_secs(5);

/// Says where another node listens, given its name; a ticket of a viewer has it in lower case.
pub type FindNode = Arc<dyn Fn(&str) -> Result<SocketAddr, CfsError> + Send + Sync>;

/// What a daemon decides about its tunnel.
#[derive(Clone)]
pub struct TunnelConfig {
    /// Where requests are logged.
    pub access_log: Arc<AccessLog>,
    /// Who may connect. `None`: everybody.
    pub allow: Option<HostFilter>,
    /// Where other nodes are.
    pub find_node: FindNode,
    /// `connections` and `idle` count here.
    pub limits: Limits,
}

impl TunnelConfig {
    /// Everybody may connect, and `/etc/pve` says where other nodes are.
    pub fn new(context: &Context, access_log: Arc<AccessLog>) -> Self {
        let context = context.clone();
        Self {
            access_log,
            allow: None,
            find_node: Arc::new(move |name| remote::find_node(&Cfs::new(&context), name)),
            limits: Limits::default(),
        }
    }
}

/// A daemon's tunnel for SPICE viewers.
pub struct Tunnel {
    /// Where this instance lives, and the clock.
    pub context: Context,
    /// What the daemon decided.
    pub config: TunnelConfig,
}

impl Tunnel {
    /// Serves on an inherited listening socket until `drain` is ready and every connection has ended: sessions go on
    /// through a reload.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub async fn run(self, listener: std::net::TcpListener, drain: impl Future<Output = ()>) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        // Nobody sends: this ends when all connections have.
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let mut drain = pin!(drain);
        tokio::select! {
            () = Arc::new(self).accept(&listener, alive) => {}
            () = &mut drain => {}
        }
        drop(listener);
        ended.recv().await;
        Ok(())
    }

    /// Accepts for ever.
    async fn accept(self: Arc<Self>, listener: &TcpListener, alive: mpsc::Sender<()>) {
        let gate = Gate::new(self.config.limits.connections);
        loop {
            match gate.next(listener).await {
                Ok(arrival) if self.lets_in(arrival.peer) => {
                    let (tunnel, alive) = (Arc::clone(&self), alive.clone());
                    tokio::spawn(async move {
                        let _held = (arrival.slot, alive, counters::connection());
                        let viewer = Viewer {
                            stream: arrival.stream,
                            peer: arrival.peer.ip(),
                            place: arrival.place,
                        };
                        session::serve(&tunnel, viewer).await;
                    });
                }
                Ok(arrival) => {
                    counters::rejected();
                    self.entry(arrival.peer.ip(), "-").write(self.context.now(), 403, None);
                }
                Err(error) => {
                    log::error!("accept failed: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn lets_in(&self, peer: SocketAddr) -> bool {
        self.config.allow.as_ref().is_none_or(|allow| allow(peer.ip()))
    }

    /// The log's line about a request.
    fn entry(&self, peer: IpAddr, line: &str) -> Entry {
        let log = Some(Arc::clone(&self.config.access_log));
        Entry::new(log, peer.to_string(), shown(line))
    }
}

/// A request line as the log may show it: no control characters, which could forge a line, and no signature of a ticket
/// that may still be good.
fn shown(line: &str) -> String {
    let escaped: String = line
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => c.escape_default().collect::<Vec<_>>(),
            c if c.is_control() => c.escape_default().collect(),
            c => vec![c],
        })
        .collect();
    let Some((before, after)) = escaped.split_once("::") else {
        return escaped;
    };
    let signature = after.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(after.len());
    format!("{before}::***{}", after.get(signature..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_no_signature_and_no_control_characters() {
        for (line, expected) in [
            (
                "CONNECT pvespiceproxy:65b0c0de:100:node1:61000::64752527f012b5db:61000 HTTP/1.0",
                "CONNECT pvespiceproxy:65b0c0de:100:node1:61000::***:61000 HTTP/1.0",
            ),
            ("CONNECT [::1]:22 HTTP/1.0", "CONNECT [::***]:22 HTTP/1.0"),
            ("GET / HTTP/1.0", "GET / HTTP/1.0"),
            ("a\rb\"c::", "a\\rb\\\"c::***"),
        ] {
            assert_eq!(shown(line), expected);
        }
    }
}

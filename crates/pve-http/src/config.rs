//! What a daemon decides about its server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::access_log::AccessLog;
use crate::files::Files;
use crate::tls::TlsSettings;
use crate::tunnel::FindNode;

/// Says whether a host may connect at all (`ALLOW_FROM`, `DENY_FROM`, `POLICY`).
pub type HostFilter = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Says which address the log shows, given the peer and what the real-IP header says; `None` to show the peer.
pub type AcceptRealIp = Arc<dyn Fn(IpAddr, &str) -> Option<String> + Send + Sync>;

/// What a daemon decides about its server.
#[derive(Clone)]
pub struct ServerConfig {
    /// Serve TLS, and redirect plain HTTP to it. `None`: plain HTTP only (`pvedaemon`).
    pub tls: Option<TlsSettings>,
    /// Where requests are logged. `None`: nowhere (`pvedaemon`).
    pub access_log: Option<Arc<AccessLog>>,
    /// Whether peers are our own proxies, whose `PVEClientIP` header is believed (`pvedaemon`).
    pub trusted: bool,
    /// Whether bodies may be compressed (`COMPRESSION`).
    pub compression: bool,
    /// The static files that are served. `None`: none (`pvedaemon`).
    pub files: Option<Arc<Files>>,
    /// Who may connect. `None`: everybody.
    pub allow: Option<HostFilter>,
    /// Where the access log takes a client's address from behind a reverse proxy.
    pub real_ip: Option<RealIp>,
    /// The port on which `pvedaemon` listens: 85, except in tests, which share the machine.
    pub daemon_port: u16,
    /// Where the proxies of other nodes are. `None`: where `/etc/pve` says, port 8006; tests share the machine.
    pub find_node: Option<FindNode>,
    /// Limits and waiting times.
    pub limits: Limits,
}

impl ServerConfig {
    /// The server of `pvedaemon`: plain HTTP on loopback, for our own proxies.
    pub fn daemon() -> Self {
        Self {
            tls: None,
            access_log: None,
            trusted: true,
            compression: true,
            files: None,
            allow: None,
            real_ip: None,
            daemon_port: 85,
            find_node: None,
            limits: Limits::default(),
        }
    }

    /// The server of `pveproxy`.
    pub fn proxy(tls: TlsSettings, access_log: Arc<AccessLog>) -> Self {
        Self {
            tls: Some(tls),
            access_log: Some(access_log),
            trusted: false,
            ..Self::daemon()
        }
    }
}

/// The real-IP header of a reverse proxy (reference 01 §2.4). It changes the access log and nothing else.
#[derive(Clone)]
pub struct RealIp {
    /// `PROXY_REAL_IP_HEADER`.
    pub header: HeaderName,
    /// The text for the log, given the peer and the header's value; `None` if either is not acceptable.
    pub accept: AcceptRealIp,
}

/// Limits and waiting times; the defaults are the shipped ones, tests shorten them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections per worker; at this many it stops accepting (reference 01 §1.4). As many requests are answered
    /// at a time on all connections of HTTP/2 together.
    pub connections: usize,
    /// From this many open connections on, a new one gets one request only.
    pub crowded: usize,
    /// Requests per connection.
    pub keep_alive: u32,
    /// How long a client may be silent while it is its turn, or not read what it asked for.
    pub idle: Duration,
    /// How long a client may leave an answer on HTTP/2 alone before its connection ends. Longer than `idle`: answers
    /// share a connection, and wait for each other on a slow one.
    pub stream_stall: Duration,
    /// How long a refused login takes, so that guessing is slow (reference 01 §3.6).
    pub refusal_delay: Duration,
    /// How long a backend may be silent (reference 01 §4.2).
    pub backend_idle: Duration,
    /// How long a draining server says `Connection: close` before it closes idle connections: a request that was
    /// on its way is still answered (reference 12 §6).
    pub drain_notice: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 500,
            crowded: 479,
            keep_alive: 100,
            idle: Duration::from_secs(5),
            stream_stall: Duration::from_secs(30),
            refusal_delay: Duration::from_secs(3),
            backend_idle: Duration::from_secs(30),
            drain_notice: Duration::from_millis(700),
        }
    }
}

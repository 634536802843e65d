//! The web row: TLS, HTTP, formats, access log, forwarding, uploads and the websocket relay.
//!
//! A connection is accepted in [`server`]; each request on it runs once down the stack in `serve`:
//!
//! | module | step |
//! |---|---|
//! | [`server`] | accept, host filter, TLS or plain, HTTP/1 or 2, keep-alive budget, drain |
//! | [`tls`] | certificate choice, rustls configuration |
//! | [`worker`] | a worker process that serves: its runtime, and its way out |
//! | `transport` | the byte stream below HTTP: stalls and a clean close |
//! | `serve` | the request path as one list |
//! | [`head`] | what a request's head may look like; URL space |
//! | `params` | query and body become one map of parameters |
//! | [`multipart`], `upload` | a file upload is spooled with constant memory |
//! | `forward` | the call is passed to `pvedaemon` or to another node |
//! | [`websocket`] | the console relay |
//! | [`tunnel`] | the relay of SPICE viewers, on a port of its own and without the steps above |
//! | `format`, `html` | json, extjs, htmljs, spiceconfig, png; html |
//! | [`files`] | the static files of a web interface |
//! | `index` | the page at `/`: of the web interface that is installed, or of our own |
//! | `openapi` | what the server says of itself without login |
//! | `answer` | status line and headers |
//! | `refusal` | why a request is refused before any handler sees it |
//! | `compress`, `stream` | a body is compressed, or read while it is sent |
//! | [`door`] | the Unix socket at which the web side asks what it may not read |
//! | `local` | ports of this node's guests and consoles, for the relays |
//! | [`config`] | what a daemon decides about its server |
//! | [`access_log`] | one line per request |
//! | [`counters`], [`metrics`] | what is counted, and how it is shown to Prometheus |
//! | `second` | dates as text, made once a second |
//!
//! Not here: who may do what and which handler runs (`pve_rest::Pipeline`), processes and sockets of the daemon
//! (`pve-daemon`).

pub mod access_log;
mod answer;
mod compress;
pub mod config;
pub mod counters;
pub mod door;
pub mod files;
mod format;
mod forward;
pub mod head;
mod html;
mod index;
mod local;
pub mod metrics;
pub mod multipart;
mod openapi;
mod params;
mod refusal;
mod second;
mod serve;
pub mod server;
mod stream;
pub mod tls;
mod transport;
pub mod tunnel;
mod upload;
pub mod websocket;
pub mod worker;

pub use access_log::AccessLog;
pub use config::{AcceptRealIp, HostFilter, Limits, RealIp, ServerConfig};
pub use files::Files;
pub use server::Server;
pub use tls::TlsSettings;
pub use tunnel::{Tunnel, TunnelConfig};

/// The name in the `Server` header; clients know it.
pub(crate) const SERVER_NAME: &str = "pve-api-daemon/3.0";
/// Carries the id of a request from the proxy to the daemon, so that one id runs through all logs.
pub(crate) const REQUEST_ID: &str = "pverequestid";

//! The websocket relay of consoles and tunnels (reference 01 §4.4).
//!
//! The API method decides who may connect and to what; here its endpoint is connected **first**, so that a console that
//! is not there is an ordinary error, and only then the protocol is switched.

pub mod frame;
mod relay;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, StatusCode};
use pve_rest::Endpoint;
use sha1::{Digest as _, Sha1};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::answer::Answer;
use crate::local;
use crate::refusal::Refusal;

pub(crate) use relay::relay;

/// Appended to the client's key (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version there is.
const VERSION: &str = "13";
/// How long a local console may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the client asks for a websocket where one can be.
pub(crate) fn is_wanted(path: &str, headers: &HeaderMap) -> bool {
    path.ends_with("websocket") && headers.contains_key(UPGRADE)
}

/// Checks the handshake and makes the answer that switches protocols.
///
/// # Errors
/// Another protocol or version is asked for, or the key is missing.
pub(crate) fn handshake(headers: &HeaderMap) -> Result<Answer, Refusal> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let protocol = text(UPGRADE).unwrap_or_default().to_lowercase();
    if protocol != "websocket" {
        return Err(Refusal::UpgradeProtocol(protocol));
    }
    let version = text(SEC_WEBSOCKET_VERSION).unwrap_or_default();
    if version != VERSION {
        return Err(Refusal::WebsocketVersion(version));
    }
    let key = text(SEC_WEBSOCKET_KEY)
        .filter(|key| !key.is_empty())
        .ok_or(Refusal::WebsocketKey)?;
    let mut answer = Answer::new(StatusCode::SWITCHING_PROTOCOLS, "")
        .with_header(UPGRADE, "websocket")
        .with_header(CONNECTION, "upgrade")
        .with_header(SEC_WEBSOCKET_ACCEPT, &accept_key(&key));
    // Echoed as it came, even a list: noVNC and xterm.js ask for `binary` and expect just that.
    if let Some(value) = headers.get(SEC_WEBSOCKET_PROTOCOL) {
        answer.headers.insert(SEC_WEBSOCKET_PROTOCOL, value.clone());
    }
    answer.switching = true;
    Ok(answer)
}

/// The proof that the server understood the handshake.
fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The connected far end of a console.
pub(crate) enum Backend {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Backend {
    /// Connects to a method's endpoint.
    ///
    /// # Errors
    /// Nobody listens there, or does not answer in time.
    pub(crate) async fn connect(endpoint: &Endpoint, address: IpAddr) -> Result<Self, Refusal> {
        let (target, connected) = match endpoint {
            Endpoint::Port(port) => (
                format!("localhost:{port}"),
                timeout(CONNECT_TIMEOUT, async {
                    local::connect(address, *port).await.map(Self::Tcp)
                })
                .await,
            ),
            Endpoint::Socket(path) => {
                let stream = async { UnixStream::connect(path).await.map(Self::Unix) };
                (path.display().to_string(), timeout(CONNECT_TIMEOUT, stream).await)
            }
        };
        connected
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(|error| Refusal::Backend {
                target,
                reason: pve_schema::errno_text(&error),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_accept_key_follows_vector_53() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn handshakes_are_checked_in_order() {
        for (pairs, message) in [
            (&[("upgrade", "Foo")][..], "unable to upgrade to protocol 'foo'"),
            (
                &[("upgrade", "WebSocket"), ("sec-websocket-version", "8")],
                "unsupported websocket-version '8'",
            ),
            (
                &[("upgrade", "websocket"), ("sec-websocket-version", "13")],
                "missing websocket-key",
            ),
        ] {
            let refusal = handshake(&headers(pairs)).err().unwrap();
            assert_eq!(
                (refusal.status().as_u16(), refusal.to_string().as_str()),
                (500, message)
            );
        }
    }

    #[test]
    fn the_switch_has_exactly_its_own_headers() {
        let asked = [
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "binary, base64"),
        ];
        let answer = handshake(&headers(&asked)).ok().unwrap();
        let sent: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(
            sent,
            [
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                ("sec-websocket-protocol", "binary, base64"),
            ]
        );
    }
}

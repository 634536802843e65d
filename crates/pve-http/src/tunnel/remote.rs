//! The guest is on another node: the viewer's request is said again to that node's tunnel (reference 01 §4.6).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pve_cfs::{Cfs, CfsError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Tunnel;
use super::refused::Refused;
use super::relay::End;
use super::session::{aside, connected};

/// Where every node's tunnel listens; configurable nowhere (reference 01, overview).
const PORT: u16 = 3128;
/// Longest answer of a node before its bytes are the guest's: a status line.
const MAX_ANSWER: usize = 8192;

/// What is asked of the other node.
pub(super) struct Ask<'a> {
    /// The ticket and the port, as the viewer said them.
    pub(super) host: &'a str,
    /// The viewer's version of HTTP.
    pub(super) minor: u8,
    /// The viewer's address.
    pub(super) client: IpAddr,
}

/// Connects to a node's tunnel and through it to the guest.
pub(super) async fn connect(tunnel: &Tunnel, node: &str, ask: &Ask<'_>) -> Result<End, Refused> {
    let (find_node, name) = (Arc::clone(&tunnel.config.find_node), node.to_owned());
    let target = aside(move || Ok(find_node(&name)?)).await?;
    let idle = tunnel.config.limits.idle;
    let named = || format!("{node}:{}", target.port());
    let mut stream = connected(timeout(idle, TcpStream::connect(target)).await, named)?;
    let Ask { host, minor, client } = ask;
    let request = format!(
        "CONNECT {host} HTTP/1.{minor}\r\nHost: {host}\r\nProxy-Connection: keep-alive\r\nUser-Agent: spiceproxy\r\n\
         PVEDisableProxy: true\r\nPVEClientIP: {client}\r\n\r\n"
    );
    connected(timeout(idle, stream.write_all(request.as_bytes())).await, named)?;
    let answer = read_answer(&mut stream, *minor, idle).await;
    match answer {
        Ok(early) => Ok(End { stream, early }),
        Err(Unexpected::Line(line)) => Err(remote_refusal(line, &named())),
        Err(Unexpected::Silence(reason)) => Err(Refused::Unreachable {
            target: named(),
            reason: reason.to_owned(),
        }),
    }
}

/// Where a node's tunnel listens. Tickets have its name in lower case, and the cluster may not.
pub(super) fn find_node(cfs: &Cfs, node: &str) -> Result<SocketAddr, CfsError> {
    let known = cfs.nodes()?;
    let spelt = known
        .iter()
        .map(|name| name.as_str())
        .find(|name| name.eq_ignore_ascii_case(node));
    let address = cfs.node_address(spelt.unwrap_or(node))?;
    Ok(SocketAddr::new(address, PORT))
}

/// An answer that opens no tunnel.
#[derive(Debug, PartialEq, Eq)]
enum Unexpected {
    /// Its first line.
    Line(String),
    /// There was none, and why.
    Silence(&'static str),
}

/// Reads the answer; what comes behind it is the guest's.
async fn read_answer(stream: &mut TcpStream, minor: u8, idle: Duration) -> Result<Vec<u8>, Unexpected> {
    let mut received = BytesMut::new();
    loop {
        if let Some(answer) = understand(&received, minor) {
            return answer;
        }
        match timeout(idle, stream.read_buf(&mut received)).await {
            Err(_) => return Err(Unexpected::Silence("Connection timed out")),
            Ok(Ok(0) | Err(_)) => return Err(Unexpected::Silence("Broken pipe")),
            Ok(Ok(_)) => {}
        }
    }
}

/// Compares an answer with the only good one; `None` as long as it may still become that.
fn understand(received: &[u8], minor: u8) -> Option<Result<Vec<u8>, Unexpected>> {
    let good = format!("HTTP/1.{minor} 200 OK\r\n\r\n");
    if let Some(early) = received.strip_prefix(good.as_bytes()) {
        return Some(Ok(early.to_vec()));
    }
    if good.as_bytes().starts_with(received) {
        return None;
    }
    match memchr::memchr(b'\n', received) {
        Some(end) => {
            let line = String::from_utf8_lossy(received.get(..end)?).trim_end().to_owned();
            Some(Err(Unexpected::Line(line)))
        }
        None if received.len() > MAX_ANSWER => Some(Err(Unexpected::Silence("no answer in HTTP"))),
        None => None,
    }
}

/// A node's refusal is passed on, if it is one.
fn remote_refusal(line: String, target: &str) -> Refused {
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok())
        .filter(|status| (400..600).contains(status));
    match status {
        Some(status) if !line.contains(char::is_control) => Refused::Remote { line, status },
        _ => Refused::Unreachable {
            target: target.to_owned(),
            reason: "no answer in HTTP".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_answer_opens_a_tunnel() {
        let line = |text: &str| Some(Err(Unexpected::Line(text.to_owned())));
        for (received, expected) in [
            ("", None),
            ("HTTP/1.0 200 OK\r\n", None),
            ("HTTP/1.0 200 OK\r\n\r\n", Some(Ok(Vec::new()))),
            ("HTTP/1.0 200 OK\r\n\r\nREDQ", Some(Ok(b"REDQ".to_vec()))),
            ("HTTP/1.1 200 OK\r\n\r\n", line("HTTP/1.1 200 OK")),
            ("HTTP/1.0 200 OK\r\nX: y\r\n\r\n", line("HTTP/1.0 200 OK")),
            ("HTTP/1.0 401 inv", None),
            ("HTTP/1.0 401 invalid ticket\r\nX", line("HTTP/1.0 401 invalid ticket")),
        ] {
            assert_eq!(understand(received.as_bytes(), 0), expected, "{received:?}");
        }
        let endless = vec![b'x'; MAX_ANSWER + 1];
        assert!(matches!(understand(&endless, 0), Some(Err(Unexpected::Silence(_)))));
    }

    #[test]
    fn refusals_are_passed_on_and_nothing_else() {
        for (line, status) in [
            ("HTTP/1.0 401 invalid ticket", 401),
            ("HTTP/1.1 500 proxy loop detected", 500),
            ("HTTP/1.0 200 OK", 502),
            ("HTTP/1.0 999 x", 502),
            ("SSH-2.0-x", 502),
            ("HTTP/1.0 401 a\rb", 502),
        ] {
            assert_eq!(remote_refusal(line.to_owned(), "n:3128").status(), status, "{line}");
        }
    }
}

//! The few calls that the lab makes itself, to its own daemons, over plain HTTP.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pve_schema::text::encode_component;
use serde_json::Value;

/// How long a connection may take: it is to the same machine.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest answer that is read; lists of guests are far shorter.
const LONGEST: u64 = 16 << 20;

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{address} does not answer - {}", pve_schema::errno_text(.error))]
    Io { address: SocketAddr, error: io::Error },
    #[error("{address} does not speak HTTP")]
    NoHttp { address: SocketAddr },
    #[error("{call}: {status}")]
    Refused { call: String, status: String },
}

/// Whether somebody answers HTTP at an address: a worker, not just the listening socket.
pub(crate) fn answers(address: SocketAddr) -> Result<(), HttpError> {
    exchange(address, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", CONNECT).map(drop)
}

/// Calls a method of pvedaemon and gives its `data`.
pub(crate) fn call(address: SocketAddr, verb: &str, path: &str, form: &str, ticket: &str) -> Result<Value, HttpError> {
    let ticket = encode_component(ticket);
    let request = format!(
        "{verb} /api2/json{path} HTTP/1.0\r\nHost: localhost\r\nCookie: PVEAuthCookie={ticket}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let (status, body) = exchange(address, &request, ANSWER)?;
    let refused = || HttpError::Refused {
        call: format!("{verb} {path}"),
        status: status.clone(),
    };
    if !status.starts_with("200") {
        return Err(refused());
    }
    let envelope: Value = serde_json::from_slice(&body).map_err(|_| refused())?;
    Ok(envelope.get("data").cloned().unwrap_or_default())
}

/// Sends a request; the status with its reason, and the body.
fn exchange(address: SocketAddr, request: &str, patience: Duration) -> Result<(String, Vec<u8>), HttpError> {
    let failed = |error| HttpError::Io { address, error };
    let mut stream = TcpStream::connect_timeout(&address, CONNECT).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(patience)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).map_err(failed)?;
    split(&answer).ok_or(HttpError::NoHttp { address })
}

/// Status line (without the version) and body.
fn split(answer: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(answer.get(..end)?).into_owned();
    let (version, status) = head.lines().next()?.split_once(' ')?;
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    Some((status.to_owned(), answer.get(end + 4..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split_into_status_and_body() {
        let (status, body) = split(b"HTTP/1.0 403 Permission check failed\r\nX: y\r\n\r\n{}").unwrap();
        assert_eq!(
            (status.as_str(), body.as_slice()),
            ("403 Permission check failed", &b"{}"[..])
        );
        assert!(split(b"SSH-2.0-x\r\n\r\n").is_none());
        assert!(split(b"HTTP/1.0 200 OK\r\n").is_none());
    }
}

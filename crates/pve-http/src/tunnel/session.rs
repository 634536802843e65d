//! The path of one connection, from its head to its relay, as one list.

use std::io;
use std::net::IpAddr;

use bytes::{Buf as _, BytesMut};
use pve_access::secret::{Secret, SpiceTarget};
use pve_cfs::Cfs;
use pve_schema::{Context, errno_text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Tunnel;
use super::refused::Refused;
use super::relay::{self, End, Pipes};
use super::remote;
use super::request::{self, HeadError, Parsed, Request};
use crate::access_log::Entry;
use crate::counters;
use crate::head;
use crate::local;
use crate::refusal::Refusal;
use crate::server::Place;
use crate::transport::{Transport, Wire};

/// The only method.
const METHOD: &str = "CONNECT";
/// Ports that SPICE may have; a signed ticket does not open others.
const PORTS: std::ops::RangeInclusive<u16> = 61_000..=61_999;
/// What a viewer's head fits in: most are read at once.
const USUAL_HEAD: usize = 1024;
/// Most bytes of empty lines before a request.
const MAX_EMPTY: usize = 1024;

/// Who has just connected.
pub(super) struct Viewer {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    /// It may be asked to leave until its request is there, and once it was refused.
    pub(super) place: Place,
}

/// Serves one connection to its end.
pub(super) async fn serve(tunnel: &Tunnel, viewer: Viewer) {
    let Viewer {
        stream: mut client,
        peer,
        place,
    } = viewer;
    let mut received = BytesMut::new();
    let head = tokio::select! {
        head = timeout(tunnel.config.limits.idle, read_head(&mut client, &mut received)) => head,
        _ = place.asked_to_leave() => return,
    };
    place.works();
    let request = match head {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) => return vanished(tunnel, peer, &received, "Broken pipe"),
        Err(_) => return vanished(tunnel, peer, &received, "Connection timed out"),
        Ok(Err(refused)) => {
            let entry = tunnel.entry(peer, &first_line(&received));
            return refuse(tunnel, client, &place, entry, &refused, 0).await;
        }
    };
    let mut entry = tunnel.entry(peer, &request.line);
    let (backend, pipes) = match open(tunnel, &request, peer).await {
        Ok(opened) => opened,
        Err(refused) => return refuse(tunnel, client, &place, entry, &refused, request.minor).await,
    };
    let ok = format!("HTTP/1.{} 200 OK\r\n\r\n", request.minor);
    if timeout(tunnel.config.limits.idle, client.write_all(ok.as_bytes()))
        .await
        .is_ok_and(|written| written.is_ok())
    {
        entry.write(tunnel.context.now(), 200, None);
        let early = received.get(request.length..).unwrap_or_default().to_vec();
        // A session may last for days, and needs none of this.
        drop((entry, request, received));
        let _counted = counters::tunnel();
        relay::relay(End { stream: client, early }, backend, pipes).await;
    }
}

/// Reads until the head is complete; `None` if the client goes before that.
///
/// What has come is looked at once per line and not once per packet, and empty lines before the request are thrown away:
/// a client that sends byte by byte costs no more than others.
async fn read_head(client: &mut TcpStream, received: &mut BytesMut) -> Result<Option<Request>, Refused> {
    let mut thrown_away = 0;
    loop {
        received.reserve(USUAL_HEAD);
        let before = received.len();
        match client.read_buf(received).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
        let is_line = received.get(before..).unwrap_or_default().contains(&b'\n');
        let empty = request::empty_lines(received);
        received.advance(empty);
        thrown_away += empty;
        if thrown_away > MAX_EMPTY {
            return Err(HeadError::TooLarge.into());
        }
        if (is_line || received.len() > request::MAX_LINE)
            && let Parsed::Whole(request) = request::parse(received)?
        {
            return Ok(Some(request));
        }
    }
}

/// The connected guest, or its node, and what the relay needs.
async fn open(tunnel: &Tunnel, request: &Request, peer: IpAddr) -> Result<(End, Pipes), Refused> {
    check(request)?;
    let host = request.header("host").unwrap_or_default();
    let target = verify(&tunnel.context, host.clone()).await?;
    if !PORTS.contains(&target.port) {
        return Err(Refused::Port(target.port));
    }
    let pipes = Pipes::new().map_err(|error| {
        log::error!("unable to make a pipe - {error}");
        Refused::Internal("no pipe")
    })?;
    let site = &tunnel.context.site;
    let is_local = ["localhost", site.node.as_str()]
        .iter()
        .any(|name| target.node.eq_ignore_ascii_case(name));
    let end = if is_local {
        let connecting = timeout(tunnel.config.limits.idle, local::connect(site.address, target.port));
        let stream = connected(connecting.await, || format!("localhost:{}", target.port))?;
        let early = Vec::new();
        End { stream, early }
    } else if request.header("pvedisableproxy").is_some() {
        return Err(Refused::Loop);
    } else {
        let ask = remote::Ask {
            host: &host,
            minor: request.minor,
            client: peer,
        };
        remote::connect(tunnel, &target.node, &ask).await?
    };
    Ok((end, pipes))
}

/// What of the head is checked before the ticket, in upstream's order.
fn check(request: &Request) -> Result<(), Refused> {
    if request.method != METHOD {
        return Err(Refusal::Method(request.method.clone()).into());
    }
    match request.header("transfer-encoding") {
        Some(encoding) => Err(head::unwanted_encoding(encoding).into()),
        None => Ok(()),
    }
}

/// Reads the ticket.
async fn verify(context: &Context, host: String) -> Result<SpiceTarget, Refused> {
    let context = context.clone();
    aside(move || {
        let secret = Secret::load(&Cfs::new(&context))?;
        Ok(secret.verify_spice_host(&host, context.now())?)
    })
    .await
}

/// Work on files, off this thread: a cluster file system may hang.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    match timeout(super::FILES, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Refused::Internal("the request's worker died")),
        Err(_) => Err(Refused::Internal("/etc/pve does not answer")),
    }
}

/// What came of an attempt to connect.
pub(super) fn connected<T>(
    attempt: Result<io::Result<T>, tokio::time::error::Elapsed>,
    target: impl FnOnce() -> String,
) -> Result<T, Refused> {
    attempt
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| Refused::Unreachable {
            target: target(),
            reason: errno_text(&error),
        })
}

/// Says why there is no tunnel, so that it arrives, and closes.
async fn refuse(tunnel: &Tunnel, client: TcpStream, place: &Place, mut entry: Entry, refused: &Refused, minor: u8) {
    let now = tunnel.context.now();
    // What a client asked for wrongly is in the access log: a browser at this port is no trouble of the daemon's.
    if refused.status() >= 500 && !matches!(refused, Refused::Http(_) | Refused::Head(_)) {
        log::error!("{refused}");
    }
    let answer = refused.answer(minor, now);
    entry.write(now, refused.status(), answer.as_ref().and_then(|(_, length)| *length));
    if let Some((text, _)) = answer {
        let mut transport = Transport::new(Wire::Plain(client), tunnel.config.limits.idle);
        // A client that does not wait for it goes without.
        if transport.write_all(text.as_bytes()).await.is_ok() {
            // It only has to take in its answer: its place may go to who knocks.
            place.waits_for_stranger();
            tokio::select! {
                _ = transport.shutdown() => {}
                _ = place.asked_to_leave() => {}
            }
        }
    }
}

/// A client that went without a whole request; one that said nothing at all only wanted to know whether somebody listens.
fn vanished(tunnel: &Tunnel, peer: IpAddr, received: &[u8], why: &'static str) {
    if !received.is_empty() {
        let mut entry = tunnel.entry(peer, &first_line(received));
        entry.problem = why;
    }
}

/// The first line that is not empty, if there is one.
fn first_line(received: &[u8]) -> String {
    let text = String::from_utf8_lossy(received);
    let line = text.lines().find(|line| !line.is_empty());
    line.unwrap_or("-").chars().take(request::MAX_HEAD).collect()
}

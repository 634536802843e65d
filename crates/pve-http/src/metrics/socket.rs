//! Metrics without login, on a socket that only this machine reaches (`METRICS_LISTEN`).
//!
//! It knows one path and no API, so nothing is to be had here but figures. A handful of connections at once is more than
//! any scraper needs. Each has one request: so a worker on its way out answers what has come in, and nobody is cut off
//! who was told that more may follow.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pve_schema::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, Body, Payload, Terms};
use crate::server::ACCEPT_PAUSE;

/// Where scrapers look unless they are told otherwise.
const PATH: &str = "/metrics";
/// Connections at once; more wait.
const CONNECTIONS: usize = 16;
/// How long a connection may last, and so a worker's way out.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long a client may take for its request's head.
const HEAD: Duration = Duration::from_secs(5);

/// Serves until `drain` is ready and every connection has ended.
///
/// # Errors
/// The socket cannot be used.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    context: Context,
    drain: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut open = JoinSet::new();
    let mut drain = pin!(drain);
    loop {
        let arrival = async {
            while open.len() >= CONNECTIONS {
                open.join_next().await;
            }
            listener.accept().await
        };
        let arrived = tokio::select! {
            arrived = arrival => arrived,
            () = &mut drain => break,
        };
        match arrived {
            Ok((stream, _)) => {
                let context = context.clone();
                open.spawn(async move {
                    // A client that breaks off, or takes too long, is none of ours.
                    let _ = timeout(LIFETIME, converse(stream, &context)).await;
                });
            }
            Err(error) => {
                log::error!("accept failed: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(())
}

async fn converse(stream: TcpStream, context: &Context) -> hyper::Result<()> {
    let service = service_fn(async |request| Ok::<_, Infallible>(respond(context, &request).await));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(context: &Context, request: &Request<Incoming>) -> Response<Body> {
    let answer = if request.uri().path() != PATH {
        Answer::bare(404, "").with_body(Payload::Whole(format!("no such path - use {PATH}\n").into()))
    } else if request.method() != Method::GET {
        Answer::new(StatusCode::METHOD_NOT_ALLOWED, "")
    } else {
        super::answer(context, request.headers()).await
    };
    let terms = Terms {
        keep_alive: false,
        accept_encoding: None,
        wordless: false,
        now: context.now(),
    };
    answer.finish(&terms).0
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_has_come_in_is_answered_on_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path(), "node1");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, drained) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, context, async {
            let _ = drained.await;
        }));
        let ask = async |head: &str| {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(head.as_bytes()).await.unwrap();
            client
        };
        let answer = async |mut client: TcpStream| {
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        };
        // Each has one request, and is told so.
        let other = answer(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
        assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
        assert!(other.to_lowercase().contains("\r\nconnection: close\r\n"), "{other}");

        let mut slow = ask("GET /elsewhere HTTP/1.1\r\n").await;
        // Accepted in order: when this one is answered, the one before it is in.
        answer(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
        drop(drain);
        // Nobody is let in any more …
        while TcpStream::connect(address).await.is_ok() {}
        assert!(!server.is_finished());
        // … and who is inside has its answer.
        slow.write_all(b"Host: x\r\n\r\n").await.unwrap();
        let late = answer(slow).await;
        assert!(late.ends_with("no such path - use /metrics\n"), "{late}");
        server.await.unwrap().unwrap();
    }
}

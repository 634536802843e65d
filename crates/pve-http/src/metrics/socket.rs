//! Metrics without login, on a socket that only this machine reaches (`METRICS_LISTEN`).
//!
//! It knows one path and no API, so nothing is to be had here but figures. A handful of connections at once is more than
//! any scraper needs.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pve_schema::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, Body, Payload, Terms};
use crate::server::ACCEPT_PAUSE;

/// Where scrapers look unless they are told otherwise.
const PATH: &str = "/metrics";
/// Connections at once; more wait.
const CONNECTIONS: usize = 16;
/// How long a connection may last: a scraper comes anew each time, or has its connection closed.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long a client may take for its request's head.
const HEAD: Duration = Duration::from_secs(5);

/// Serves for ever; dropped with the worker's way out.
///
/// # Errors
/// The socket cannot be used.
pub(crate) async fn serve(listener: std::net::TcpListener, context: Context) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return Ok(());
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let context = context.clone();
                tokio::spawn(async move {
                    // A client that breaks off, or takes too long, is none of ours.
                    let _ = timeout(LIFETIME, converse(stream, &context)).await;
                    drop(slot);
                });
            }
            Err(error) => {
                log::error!("accept failed: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, context: &Context) -> hyper::Result<()> {
    let service = service_fn(async |request| Ok::<_, Infallible>(respond(context, &request).await));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
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
        keep_alive: true,
        accept_encoding: None,
        wordless: false,
        now: context.now(),
    };
    answer.finish(&terms).0
}

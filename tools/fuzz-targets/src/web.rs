//! Parsers of requests.

use std::cell::OnceCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pve_http::Limits;
use pve_http::head::{self, Place};
use pve_http::multipart::{Event, Malformed, Parser, boundary};
use pve_http::tunnel::request::{HeadError, Parsed, parse};
use pve_http::websocket::frame::{Decoder, Frame, FrameError, MAX_PAYLOAD};
use pve_schema::decode;
use tokio::runtime::Runtime;

use crate::{choice, text};

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// A whole connection: what the HTTP library makes of it, and what becomes of each head that it lets pass.
pub fn http_head(data: &[u8]) {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime")
        });
        runtime.block_on(async {
            let io = TokioIo::new(tokio::io::join(data, tokio::io::sink()));
            // A broken head is an error here, and a closed connection for its client.
            let _ = pve_http::server::http1(&Limits::default())
                .serve_connection(io, service_fn(look))
                .await;
        });
    });
}

async fn look(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let line = head::request_line(&request);
    assert!(
        !line.contains(['\r', '\n', '\0']),
        "{line:?} would forge a line of the log"
    );
    assert!(request.headers().len() <= head::MAX_HEADER_LINES);
    let _ = (
        head::credentials(request.headers()),
        head::host(request.headers()),
        head::reported_client(request.headers()),
        head::wants_keep_alive(&request),
    );
    assert!(head::target(&request).starts_with(['/', '*', '?']));
    let _ = head::place(request.uri().path());
    let _ = decode::form(request.uri().query().unwrap_or_default());
    if let Ok(body) = request.into_body().collect().await {
        let _ = decode::json(&body.to_bytes());
    }
    Ok(Response::new(Empty::new()))
}

/// The path of a request.
pub fn http_path(data: &[u8]) {
    match head::place(&text(data)) {
        Place::Api { format, path } => {
            assert!(format.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
            assert!(path.is_empty() || path.starts_with('/'));
        }
        Place::File(path) => assert!(path.starts_with('/') && !path.starts_with("//")),
        _ => {}
    }
}

/// A query string or form body.
pub fn form_parameters(data: &[u8]) {
    let form = decode::form(&text(data));
    assert!(!form.contains_key("_dc"));
    let _ = decode::query_over_body(form.clone(), form);
}

/// A JSON body.
pub fn json_parameters(data: &[u8]) {
    if let Ok(object) = decode::json(data) {
        let again = serde_json::to_vec(&object).expect("JSON");
        // Not compared: a number beyond 64 bits loses its last digits.
        let again = decode::json(&again).expect("our own JSON");
        assert!(again.keys().eq(object.keys()));
    }
}

/// A multipart body: the first byte says in which pieces it arrives.
pub fn multipart_body(data: &[u8]) {
    let Some((piece, body)) = choice(data) else { return };
    let _ = boundary(&text(body));
    let whole = parts(body, body.len().max(1));
    let pieces = parts(body, piece + 1);
    // The parser may find out earlier or later that it is no body, so only what is one is compared.
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces, "pieces of {}", piece + 1);
    }
}

/// A part's name, file name and content.
type Part = (String, Option<String>, Vec<u8>);

fn parts(body: &[u8], piece: usize) -> Result<(Vec<Part>, bool), Malformed> {
    let mut parser = Parser::new("XX");
    let (mut parts, mut ended): (Vec<Part>, bool) = (Vec::new(), false);
    for chunk in body.chunks(piece) {
        parser.feed(chunk);
        while let Some(event) = parser.next_event()? {
            match event {
                Event::Part { name, filename } => parts.push((name, filename, Vec::new())),
                Event::Data(data) => parts.last_mut().expect("a part").2.extend_from_slice(&data),
                Event::End => ended = true,
            }
        }
    }
    // The tail that may be a delimiter is not out yet: it says nothing about an unfinished body.
    if !ended {
        parts.clear();
    }
    Ok((parts, ended))
}

/// What a websocket client sends: the first byte says in which pieces it arrives.
pub fn websocket_frames(data: &[u8]) {
    let Some((piece, stream)) = choice(data) else { return };
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(whole, frames(stream, piece + 1), "pieces of {}", piece + 1);
}

fn frames(stream: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for chunk in stream.chunks(piece) {
        decoder.buffer.extend_from_slice(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if let Frame::Data(data) | Frame::Ping(data) | Frame::Close(data) = &frame {
                        assert!(data.len() <= MAX_PAYLOAD);
                    }
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// The head of a viewer's `CONNECT`: the first byte says where it is cut.
pub fn connect_head(data: &[u8]) {
    let Some((cut, bytes)) = choice(data) else { return };
    let whole = parse(bytes);
    if let Ok(Parsed::Whole(request)) = &whole {
        assert!(request.length <= bytes.len());
        assert!(!request.line.contains('\n') && !request.method.contains(' '));
        let host = request.header("host").unwrap_or_default();
        assert!(!host.contains('\n'));
        // A part of a good head is never refused.
        let part = parse(bytes.get(..cut.min(request.length)).unwrap_or_default());
        assert!(part.is_ok(), "{part:?}");
    }
    if let Err(error) = whole {
        assert!((400..600).contains(&error.status()));
        let is_size = error == HeadError::TooLarge;
        assert!(is_size || bytes.contains(&b'\n'), "{error} before a line was complete");
    }
}

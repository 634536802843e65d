//! An answer, and what becomes of it on the wire: status line, headers in upstream's order, compression
//! (reference 01 §3.4).

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, EXPIRES,
    LAST_MODIFIED, LOCATION, PRAGMA, SERVER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::ext::ReasonPhrase;
use pve_rest::{Content, Download};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::SERVER_NAME;
use crate::compress::{COMPRESS_FROM, Packing};
use crate::refusal::Refusal;
use crate::second::OfSecond;
use crate::stream;

/// A body on its way to the client.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Bodies above this size are compressed beside the event loop: other clients would wait half a millisecond and more.
const COMPRESS_BESIDE: usize = 64 * 1024;

/// What an answer carries.
pub(crate) enum Payload {
    /// Nothing.
    Empty,
    /// All of it.
    Whole(Bytes),
    /// As it comes, and how much of it, if known.
    Stream(Body, Option<u64>),
}

/// An answer before it meets the connection.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Its first line becomes the reason phrase; empty for the standard one.
    pub(crate) message: String,
    pub(crate) body: Payload,
    /// Headers beside the general ones.
    pub(crate) headers: HeaderMap,
    /// Whether the connection ends with this answer in any case.
    pub(crate) close: bool,
    /// Whether there is nothing to be gained by compression.
    pub(crate) incompressible: bool,
    /// Whether the client may take as long as it likes to read this: a download, of which little is in memory.
    pub(crate) patient: bool,
    /// Whether the answer switches protocols: then it has its own headers only.
    pub(crate) switching: bool,
    /// A forwarded answer that says 200 although the call failed, because its format says so.
    pub(crate) hides_failure: bool,
}

/// What the connection and the client say about how to send.
pub(crate) struct Terms<'a> {
    /// Whether the connection may stay open.
    pub(crate) keep_alive: bool,
    /// The client's `Accept-Encoding`, if compression is on.
    pub(crate) accept_encoding: Option<&'a str>,
    /// Whether there is no reason phrase: HTTP/2 has none.
    pub(crate) wordless: bool,
    /// Seconds since the Unix epoch.
    pub(crate) now: i64,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            message: message.to_owned(),
            body: Payload::Empty,
            headers: HeaderMap::new(),
            close: false,
            incompressible: false,
            patient: false,
            switching: false,
            hides_failure: false,
        }
    }

    /// A status and its text, without a body.
    pub(crate) fn bare(status: u16, message: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, message)
    }

    pub(crate) fn with_type(self, content_type: &str) -> Self {
        self.with_header(CONTENT_TYPE, content_type)
    }

    pub(crate) fn with_body(mut self, body: Payload) -> Self {
        self.body = body;
        self
    }

    /// Adds a header, unless the value cannot be one.
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends the client elsewhere.
    pub(crate) fn redirect(status: StatusCode, message: &str, location: &str) -> Self {
        Self::new(status, message).with_header(LOCATION, location)
    }

    /// Compresses a large body, if the client accepts that.
    pub(crate) async fn packed(mut self, accept: Option<&str>) -> Self {
        let Payload::Whole(bytes) = &self.body else { return self };
        let Some(packing) = self.packing(bytes, accept) else {
            return self;
        };
        if bytes.len() > COMPRESS_BESIDE {
            let bytes = bytes.clone();
            if let Ok(Ok(packed)) = spawn_blocking(move || packing.pack(&bytes)).await {
                self.body = Payload::Whole(packed);
                self.headers
                    .insert(CONTENT_ENCODING, HeaderValue::from_static(packing.name()));
            }
        }
        self
    }

    /// How a body is to be compressed, if it is.
    fn packing(&self, bytes: &Bytes, accept: Option<&str>) -> Option<Packing> {
        let is_worth_it =
            bytes.len() > COMPRESS_FROM && !self.incompressible && !self.headers.contains_key(CONTENT_ENCODING);
        Packing::accepted(accept).filter(|_| is_worth_it)
    }

    /// Turns the answer into what hyper sends; also says how long the body is on the wire, where that is known.
    pub(crate) fn finish(mut self, terms: &Terms<'_>) -> (Response<Body>, Option<u64>) {
        let Some(reason) = reason(self.status, &self.message) else {
            // A carriage return in the reason could end the head early and forge headers.
            self = Self::new(StatusCode::BAD_REQUEST, "");
            return self.finish(terms);
        };
        if terms.wordless && self.status.as_u16() >= 400 && matches!(self.body, Payload::Empty) {
            self.tell_in_body();
        }
        self.body = match std::mem::replace(&mut self.body, Payload::Empty) {
            Payload::Whole(bytes) => self.compressed(bytes, terms.accept_encoding),
            other => other,
        };
        let keep_alive = terms.keep_alive && !self.close && self.status.as_u16() < 400;
        let headers = if self.switching {
            self.headers
        } else {
            head(&self, (!terms.wordless).then_some(keep_alive), terms.now)
        };
        let (body, length) = match self.body {
            Payload::Empty => (Empty::new().map_err(|never| match never {}).boxed_unsync(), None),
            Payload::Whole(bytes) => {
                let length = u64::try_from(bytes.len()).ok().filter(|length| *length > 0);
                (Full::new(bytes).map_err(|never| match never {}).boxed_unsync(), length)
            }
            Payload::Stream(body, length) => (body, length),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response.extensions_mut().insert(reason);
        (response, length)
    }

    /// Puts an error's text where its reason phrase cannot be read, in the envelope that clients know.
    fn tell_in_body(&mut self) {
        let text = match self.message.trim_end() {
            "" => self.status.canonical_reason().unwrap_or("error"),
            message => message,
        };
        let envelope = json!({ "data": null, "message": format!("{text}\n") }).to_string();
        self.body = Payload::Whole(Bytes::from(envelope));
        let json = HeaderValue::from_static("application/json;charset=UTF-8");
        self.headers.insert(CONTENT_TYPE, json);
    }

    fn compressed(&mut self, bytes: Bytes, accept: Option<&str>) -> Payload {
        let Some(packing) = self.packing(&bytes, accept) else {
            return Payload::Whole(bytes);
        };
        match packing.pack(&bytes) {
            Ok(packed) => {
                self.headers
                    .insert(CONTENT_ENCODING, HeaderValue::from_static(packing.name()));
                Payload::Whole(packed)
            }
            Err(_) => Payload::Whole(bytes),
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let body = refusal.body();
        let body = if body.is_empty() {
            Payload::Empty
        } else {
            Payload::Whole(Bytes::from(body))
        };
        Self::new(refusal.status(), &refusal.to_string()).with_body(body)
    }
}

impl From<Download> for Answer {
    fn from(download: Download) -> Self {
        let mut answer = Self::new(StatusCode::OK, "").with_type(&download.content_type);
        if let Some(encoding) = &download.content_encoding {
            answer = answer.with_header(CONTENT_ENCODING, encoding);
        }
        if let Some(disposition) = &download.content_disposition {
            answer = answer.with_header(CONTENT_DISPOSITION, disposition);
        }
        match download.content {
            Content::Whole(bytes) => answer.with_body(Payload::Whole(Bytes::from(bytes))),
            Content::Stream(reader) => {
                answer.patient = true;
                answer.with_body(Payload::Stream(stream::body(reader), None))
            }
        }
    }
}

/// The reason phrase: the message's first line, or the standard phrase. `None` if the line holds a carriage return.
fn reason(status: StatusCode, message: &str) -> Option<ReasonPhrase> {
    let line = message.split('\n').next().unwrap_or_default();
    if line.contains('\r') {
        return None;
    }
    let text = match line {
        "" => status.canonical_reason().unwrap_or("error").to_owned(),
        line => line.replace(|c: char| c.is_ascii_control() && c != '\t', " "),
    };
    ReasonPhrase::try_from(text.into_bytes()).ok()
}

/// The date of the last answer.
static LAST_DATE: OfSecond<Option<HeaderValue>> = OfSecond::new();

/// `Mon, 24 Aug 2026 12:46:01 GMT`.
fn date(now: i64) -> Option<HeaderValue> {
    let since = Duration::from_secs(u64::try_from(now).unwrap_or_default());
    HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH + since)).ok()
}

/// The headers in the order in which upstream sends them; `keep_alive` only where connections are a header's matter.
fn head(answer: &Answer, keep_alive: Option<bool>, now: i64) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(answer.headers.len() + 8);
    let mut put = |name: HeaderName, value: Option<&HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    };
    let date = LAST_DATE.get(now, date);
    let length = match &answer.body {
        Payload::Empty => Some(0),
        Payload::Whole(bytes) => u64::try_from(bytes.len()).ok(),
        Payload::Stream(_, length) => *length,
    };
    let length = if answer.status == StatusCode::NOT_MODIFIED || answer.status == StatusCode::NO_CONTENT {
        None
    } else {
        length.map(HeaderValue::from)
    };
    let connection = keep_alive.map(|stays| HeaderValue::from_static(if stays { "Keep-Alive" } else { "close" }));
    // A file that says when it was made may be kept; everything else is out of date at once.
    let is_lasting = answer.headers.contains_key(LAST_MODIFIED);
    let fleeting = |value: &'static str| (!is_lasting).then(|| HeaderValue::from_static(value));
    put(CACHE_CONTROL, fleeting("max-age=0").as_ref());
    put(CONNECTION, connection.as_ref());
    put(DATE, date.as_ref());
    put(PRAGMA, fleeting("no-cache").as_ref());
    put(SERVER, Some(&HeaderValue::from_static(SERVER_NAME)));
    put(LOCATION, answer.headers.get(LOCATION));
    put(CONTENT_ENCODING, answer.headers.get(CONTENT_ENCODING));
    put(CONTENT_LENGTH, length.as_ref());
    put(CONTENT_TYPE, answer.headers.get(CONTENT_TYPE));
    put(EXPIRES, date.as_ref().filter(|_| !is_lasting));
    for (name, value) in &answer.headers {
        if !headers.contains_key(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(accept: Option<&str>) -> Terms<'_> {
        Terms {
            keep_alive: true,
            accept_encoding: accept,
            wordless: false,
            now: 1_787_575_561,
        }
    }

    fn reason_of(response: &Response<Body>) -> &[u8] {
        response.extensions().get::<ReasonPhrase>().unwrap().as_bytes()
    }

    #[test]
    fn the_reason_is_the_first_line_of_the_message() {
        for (message, status, reason) in [
            ("unable to do it: reason\nsecond line\n", 500, "unable to do it: reason"),
            ("bad\rthing\n", 400, "Bad Request"),
            ("tab\tand\u{1}bell\n", 500, "tab\tand bell"),
            ("für", 500, "für"),
            ("", 500, "Internal Server Error"),
        ] {
            let body = Payload::Whole(Bytes::from_static(b"x"));
            let answer = Answer::new(StatusCode::INTERNAL_SERVER_ERROR, message).with_body(body);
            let (response, _) = answer.finish(&terms(None));
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(reason_of(&response), reason.as_bytes());
            assert_eq!(
                response.headers()[CONTENT_LENGTH],
                if status == 400 { "0" } else { "1" }
            );
            assert_eq!(
                response.headers()[CONNECTION],
                "close",
                "every status from 400 on closes"
            );
        }
    }

    #[test]
    fn headers_come_in_upstreams_order() {
        let answer = Answer::new(StatusCode::OK, "")
            .with_type("text/plain")
            .with_header(CONTENT_DISPOSITION, "attachment")
            .with_header(LOCATION, "/x")
            .with_body(Payload::Whole(Bytes::from_static(b"abc")));
        let (response, length) = answer.finish(&terms(None));
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(length, Some(3));
        assert_eq!(
            names,
            [
                "cache-control",
                "connection",
                "date",
                "pragma",
                "server",
                "location",
                "content-length",
                "content-type",
                "expires",
                "content-disposition",
            ]
        );
        assert_eq!(response.headers()[DATE], response.headers()[EXPIRES]);
    }

    #[test]
    fn bodies_above_1024_bytes_are_compressed() {
        for (size, accept, encoding, start) in [
            (2011, Some("deflate"), Some("deflate"), 0x78),
            (2011, Some("deflate, gzip;q=0"), Some("gzip"), 0x1f),
            (2011, Some("br"), None, b'x'),
            (2011, None, None, b'x'),
            (1024, Some("gzip"), None, b'x'),
        ] {
            let mut answer = Answer::new(StatusCode::OK, "");
            let bytes = Bytes::from(vec![b'x'; size]);
            let Payload::Whole(sent) = answer.compressed(bytes, accept) else {
                panic!()
            };
            assert_eq!(sent[0], start, "{size} {accept:?}");
            let named = answer
                .headers
                .get(CONTENT_ENCODING)
                .map(|value| value.to_str().unwrap());
            assert_eq!(named, encoding);
        }
    }
}

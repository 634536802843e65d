//! Query and body become one map of parameters (reference 01 §3.2, 03 §2).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use pve_contract::Verb;
use pve_schema::decode;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::head::joined;
use crate::refusal::Refusal;

/// Largest body of a call in bytes; configurations and mappings fit, images have their own way.
pub(crate) const MAX_BODY: u64 = 512 * 1024;
/// Largest body of a call that needs no login, in bytes: logging in takes a hundredth of it, and anybody may send one on
/// every connection at once.
pub(crate) const MAX_STRANGERS_BODY: u64 = 32 * 1024;

/// How a body was encoded, and how it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Form,
    Json,
}

/// The parameters of a request.
#[derive(Debug)]
pub(crate) struct Input {
    /// Query and body; the query wins.
    pub(crate) merged: Map<String, Value>,
    /// The body alone, for passing it on.
    pub(crate) body: Map<String, Value>,
    /// How the body is passed on.
    pub(crate) encoding: Encoding,
}

impl Input {
    /// Puts body and query together.
    pub(crate) fn new(query: &str, body: Map<String, Value>, encoding: Encoding) -> Self {
        let merged = decode::query_over_body(body.clone(), decode::form(query));
        Self { merged, body, encoding }
    }
}

/// What a body may be like.
pub(crate) struct Terms {
    /// Its size in bytes.
    pub(crate) limit: u64,
    /// How long the client may be silent.
    pub(crate) idle: Duration,
}

/// How long a body may be, by what is known of it before it is read: on HTTP/2 it need not announce its length.
pub(crate) fn longest(headers: &HeaderMap, body: &Incoming) -> u64 {
    match content_length(headers) {
        Some(length) => length,
        None if body.is_end_stream() => 0,
        None => MAX_BODY,
    }
}

/// The announced length of the body.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Reads the parameters of a call.
///
/// # Errors
/// The body is not allowed, too large or unreadable; or the client fell silent.
pub(crate) async fn read(
    verb: Verb,
    query: &str,
    headers: &HeaderMap,
    body: Incoming,
    terms: &Terms,
) -> Result<Input, Refusal> {
    // On HTTP/2 a body need not announce its length.
    let present = u64::from(!body.is_end_stream());
    let length = content_length(headers).unwrap_or_default().max(present);
    if matches!(verb, Verb::Get | Verb::Delete) {
        return match length {
            0 => Ok(Input::new(query, Map::new(), Encoding::Form)),
            _ => Err(Refusal::UnexpectedContent(verb.as_str())),
        };
    }
    if length > terms.limit {
        return Err(Refusal::TooLarge);
    }
    let encoding = encoding(headers, length)?;
    let bytes = collect(body, terms).await?;
    let body = match encoding {
        Encoding::Form => decode::form(&String::from_utf8_lossy(&bytes)),
        Encoding::Json => decode::json(&bytes).map_err(Refusal::Json)?,
    };
    Ok(Input::new(query, body, encoding))
}

/// How the body is encoded, by its content type: exact lower case, what follows `;` or `,` ignored.
fn encoding(headers: &HeaderMap, length: u64) -> Result<Encoding, Refusal> {
    let declared = joined(headers, &CONTENT_TYPE);
    match declared.split([';', ',']).next().unwrap_or_default().trim() {
        "" | "application/x-www-form-urlencoded" => Ok(Encoding::Form),
        "application/json" => Ok(Encoding::Json),
        _ if length == 0 => Ok(Encoding::Form),
        _ => Err(Refusal::ContentType(declared)),
    }
}

/// The whole body; hyper sees to it that it is as long as announced, if it was.
async fn collect(mut body: Incoming, terms: &Terms) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut body, terms.idle).await? {
        if (whole.len() + chunk.len()) as u64 > terms.limit {
            return Err(Refusal::TooLarge);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The next piece of a body; `None` at its end.
///
/// # Errors
/// The client is gone, or said nothing for `idle`.
pub(crate) async fn next_chunk(body: &mut Incoming, idle: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        match timeout(idle, body.frame()).await {
            Err(_) => return Err(Refusal::Vanished("Connection timed out")),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Refusal::Vanished("Broken pipe")),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_query_wins_over_the_body_by_vectors_40_and_41() {
        let input = Input::new("a=2&c=3&_dc=99", decode::form("a=1&b=1"), Encoding::Form);
        assert_eq!(Value::Object(input.merged), json!({"a": "2", "b": "1", "c": "3"}));
        assert_eq!(Value::Object(input.body), json!({"a": "1", "b": "1"}));
    }

    #[test]
    fn content_types_are_exact() {
        let of = |declared: &str, length| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, declared.parse().unwrap());
            encoding(&headers, length)
        };
        assert_eq!(encoding(&HeaderMap::new(), 3).unwrap(), Encoding::Form);
        assert_eq!(
            of("application/x-www-form-urlencoded; charset=UTF-8", 3).unwrap(),
            Encoding::Form
        );
        assert_eq!(of("application/json;x", 3).unwrap(), Encoding::Json);
        assert_eq!(of("text/plain", 0).unwrap(), Encoding::Form);
        let refusal = of("Application/JSON", 3).unwrap_err();
        assert_eq!(refusal.status().as_u16(), 506);
        assert_eq!(
            refusal.to_string(),
            "upload 'Content-Type 'Application/JSON' not implemented"
        );
    }
}

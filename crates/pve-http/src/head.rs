//! What a request's head may look like, and what its path means (reference 01 §3.2, §3.5). Nothing here does I/O.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Version};
use pve_access::Credentials;
use pve_contract::Verb;
use pve_schema::text;

use crate::refusal::Refusal;

/// Most header lines of a request; browsers behind single-sign-on proxies send many.
pub const MAX_HEADER_LINES: usize = 62;
/// The header lines of a request together stay below this many bytes, line ends not counted.
pub const MAX_HEADER_BYTES: usize = 8192;

/// The method, if it is one of the four; methods are case-sensitive.
pub(crate) fn verb<B>(request: &Request<B>) -> Result<Verb, Refusal> {
    let method = request.method().as_str();
    method.parse().map_err(|_| Refusal::Method(method.to_owned()))
}

/// All values of a header, as text, joined with `, `.
pub(crate) fn joined(headers: &HeaderMap, name: &http::HeaderName) -> String {
    let mut values = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut joined = values.next().unwrap_or_default().into_owned();
    for value in values {
        joined.push_str(", ");
        joined.push_str(&value);
    }
    joined
}

/// What the client presents to prove who it is.
pub fn credentials(headers: &HeaderMap) -> Credentials {
    let text = |name| headers.contains_key(name).then(|| joined(headers, name));
    Credentials::from_headers(text(&COOKIE).as_deref(), text(&AUTHORIZATION).as_deref())
}

/// Refuses bodies whose length is not announced.
pub(crate) fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    Err(unwanted_encoding(joined(headers, &TRANSFER_ENCODING)))
}

/// Why there may be no transfer encoding.
pub(crate) fn unwanted_encoding(encoding: String) -> Refusal {
    if encoding.eq_ignore_ascii_case("chunked") {
        Refusal::Chunked
    } else {
        Refusal::TransferEncoding(encoding)
    }
}

/// Refuses heads that are too large. The parser of HTTP/1 has counted the lines before.
pub(crate) fn check_size(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.len() > MAX_HEADER_LINES {
        return Err(Refusal::HeadTooLarge);
    }
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + ": ".len() + value.len();
    if headers.iter().map(line).sum::<usize>() < MAX_HEADER_BYTES {
        Ok(())
    } else {
        Err(Refusal::HeadTooLarge)
    }
}

/// The first line of a request, as received.
pub fn request_line<B>(request: &Request<B>) -> String {
    format!("{} {} {:?}", request.method(), request.uri(), request.version())
}

/// The `Host` header.
pub fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

/// Path and query as received.
pub fn target<B>(request: &Request<B>) -> &str {
    request
        .uri()
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
}

/// Whether the client wants the connection to stay open. HTTP/1.0 says so by any `Connection` header without `close`.
pub fn wants_keep_alive<B>(request: &Request<B>) -> bool {
    let connection = joined(request.headers(), &http::header::CONNECTION).to_ascii_lowercase();
    if connection.contains("close") {
        return false;
    }
    request.version() != Version::HTTP_10 || !connection.is_empty()
}

/// Whether a browser says that a page of another site has sent the request. Clients that are no browsers say nothing.
pub(crate) fn is_from_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("Sec-Fetch-Site") {
        return !matches!(site, "same-origin" | "none");
    }
    // Older browsers; a page that hides where it is from says `null`.
    text("Origin").is_some_and(|origin| {
        let from = origin.split_once("://").map(|(_, from)| from);
        !from
            .zip(host(headers))
            .is_some_and(|(from, host)| from.eq_ignore_ascii_case(host))
    })
}

/// The client's address as one of our own proxies reports it.
pub fn reported_client(headers: &HeaderMap) -> Option<IpAddr> {
    headers.get("PVEClientIP")?.to_str().ok()?.parse().ok()
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// `/`.
    Start,
    /// A call of the API.
    Api {
        /// The format of the answer.
        format: String,
        /// The rest, percent-decoded: empty, or starting with a slash.
        path: String,
    },
    /// The description of the API for machines.
    Description,
    /// The metrics of this node.
    Metrics,
    /// Below `/api2`, but no call.
    NoCall,
    /// Anything else, percent-decoded.
    File(String),
}

/// Decides what a raw path means.
pub fn place(raw: &str) -> Place {
    let decoded = text::decode(raw);
    // `//api2/…` is no authority here: leading slashes count as one.
    let path = format!("/{}", decoded.trim_start_matches('/'));
    if path == "/" {
        return Place::Start;
    }
    match path.as_str() {
        "/api2/openapi.json" => return Place::Description,
        "/api2/metrics" => return Place::Metrics,
        _ => {}
    }
    let Some(rest) = path.strip_prefix("/api2") else {
        return Place::File(path);
    };
    let Some(rest) = rest.strip_prefix('/') else {
        return Place::NoCall;
    };
    let rest = rest.trim_start_matches('/');
    let (format, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut letters = format.bytes();
    let well_formed = format.len() > 1
        && letters.next().is_some_and(|b| b.is_ascii_lowercase())
        && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !well_formed {
        return Place::NoCall;
    }
    Place::Api {
        format: format.to_owned(),
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(format: &str, path: &str) -> Place {
        Place::Api {
            format: format.into(),
            path: path.into(),
        }
    }

    #[test]
    fn paths_mean_what_the_url_space_says() {
        for (raw, expected) in [
            ("/", Place::Start),
            ("/api2", Place::NoCall),
            ("/api2/", Place::NoCall),
            ("/api2/openapi.json", Place::Description),
            ("/api2/openapi.json/", Place::NoCall),
            ("/api2/metrics", Place::Metrics),
            ("/api2/metrics/", api("metrics", "/")),
            ("/api2/x/ok", Place::NoCall),
            ("/api2/Json/ok", Place::NoCall),
            ("/api2foo/json/ok", Place::NoCall),
            ("/api2/json", api("json", "")),
            ("/api2//json/version", api("json", "/version")),
            ("//api2/json/version", api("json", "/version")),
            ("/api2/json/a%2Fb%20c", api("json", "/a/b c")),
            ("/api2/json//nodes///a/", api("json", "//nodes///a/")),
            ("/nosuch", Place::File("/nosuch".into())),
        ] {
            assert_eq!(place(raw), expected, "{raw}");
        }
    }

    #[test]
    fn header_bytes_are_limited_as_vector_12_says() {
        for (bytes, fits) in [(8191, true), (8192, false)] {
            let mut headers = HeaderMap::new();
            headers.insert("a", "x".repeat(bytes - 3).parse().unwrap());
            assert_eq!(check_size(&headers).is_ok(), fits, "{bytes}");
        }
    }
}

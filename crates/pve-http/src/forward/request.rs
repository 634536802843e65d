//! A call, said again: what goes to the daemon or to another node (reference 01 §4.2).

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use pve_access::Credentials;
use pve_contract::Verb;
use pve_schema::text::encode_component;
use serde_json::{Map, Value};

use super::Call;
use crate::params::{Encoding, Input};

/// The request for a call; `base` stands before its target. `None` if the target is no path.
pub(super) fn request(call: &Call<'_>, base: &str) -> Option<Request<Full<Bytes>>> {
    if !call.target.starts_with('/') {
        return None;
    }
    let head = call.head;
    let has_body = matches!(head.verb, Verb::Post | Verb::Put);
    let (content_type, body) = if has_body {
        encode(call.input)
    } else {
        ("", String::new())
    };
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::from_bytes(head.verb.as_str().as_bytes()).ok()?;
    *request.uri_mut() = format!("{base}{}", call.target).parse().ok()?;
    let headers = request.headers_mut();
    let mut put = |name: HeaderName, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            headers.insert(name, value);
        }
    };
    let (cookie, token) = match &head.credentials {
        Credentials::Ticket(ticket) => (Some(pve_access::credentials::cookie(ticket)), None),
        Credentials::Token(token) => (None, Some(format!("PVEAPIToken {}", encode_component(token)))),
        Credentials::None => (None, None),
    };
    put(HOST, head.client.host.as_deref());
    put(HeaderName::from_static("pvedisableproxy"), Some("true"));
    let address = head.client.address.map(|address| address.to_string());
    put(HeaderName::from_static("pveclientip"), address.as_deref());
    put(COOKIE, cookie.as_deref());
    put(AUTHORIZATION, token.as_deref());
    put(HeaderName::from_static("csrfpreventiontoken"), head.csrf.as_deref());
    put(ACCEPT_ENCODING, mirrored_encoding(call.accept_encoding));
    put(CONTENT_TYPE, Some(content_type).filter(|_| has_body));
    put(HeaderName::from_static(crate::REQUEST_ID), Some(&head.request_id));
    Some(request)
}

/// The client's wish as far as we know the words.
fn mirrored_encoding(accept: Option<&str>) -> Option<&'static str> {
    let accept = accept?;
    match (accept.contains("gzip"), accept.contains("deflate")) {
        (true, true) => Some("gzip, deflate"),
        (true, false) => Some("gzip"),
        (false, true) => Some("deflate"),
        (false, false) => None,
    }
}

/// The body parameters, encoded the way the client had them.
fn encode(input: &Input) -> (&'static str, String) {
    match input.encoding {
        Encoding::Json => ("application/json", Value::Object(input.body.clone()).to_string()),
        Encoding::Form => ("application/x-www-form-urlencoded", encode_form(&input.body)),
    }
}

/// Parameters as a form: lists as repeated names, null as a name alone.
fn encode_form(params: &Map<String, Value>) -> String {
    let mut pairs = Vec::new();
    for (name, value) in params {
        match value {
            Value::Array(items) => pairs.extend(items.iter().map(|item| pair(name, item))),
            value => pairs.push(pair(name, value)),
        }
    }
    pairs.join("&")
}

fn pair(name: &str, value: &Value) -> String {
    let name = encode_component(name);
    match value {
        Value::Null => name,
        Value::String(text) => format!("{name}={}", encode_component(text)),
        Value::Bool(flag) => format!("{name}={}", u8::from(*flag)),
        other => format!("{name}={}", encode_component(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_said_again_as_a_form() {
        let Value::Object(params) = json!({"a": ["1", "2"], "b": "ä x+&=;", "c": null, "d": 5, "e": true}) else {
            panic!()
        };
        assert_eq!(encode_form(&params), "a=1&a=2&b=%C3%A4%20x%2B%26%3D%3B&c&d=5&e=1");
    }
}

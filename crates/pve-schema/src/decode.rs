//! The parameters of a request as they come in: query strings, form bodies, JSON bodies (reference 03 §2.1, §2.2,
//! 01 §3.2 "Parameter decoding").

use serde_json::{Map, Value};

use crate::text::decode_bytes;

/// Parameters as sent, unchecked.
pub type Raw = Map<String, Value>;

/// ExtJS adds this one to get round caches; it is always removed.
const CACHE_BUSTER: &str = "_dc";

/// Reads a query string or form body.
///
/// Pairs are separated by `&` or `;`. A name without `=` is null, a repeated name an array. Only the first two pieces
/// of `a=b=c` count. Empty segments are skipped.
pub fn form(text: &str) -> Raw {
    let mut raw = Raw::new();
    // The text "0" is no parameter, since upstream takes it for "nothing sent".
    if text == "0" {
        return raw;
    }
    for segment in text.split(['&', ';']).filter(|segment| !segment.is_empty()) {
        let mut pieces = segment.split('=');
        let name = piece(pieces.next().unwrap_or_default());
        let value = pieces.next().map_or(Value::Null, |value| Value::String(piece(value)));
        add(&mut raw, name, value);
    }
    raw.remove(CACHE_BUSTER);
    raw
}

/// Adds a pair; the second of a name makes an array of the first.
fn add(raw: &mut Raw, name: String, value: Value) {
    match raw.get_mut(&name) {
        None => {
            raw.insert(name, value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

/// Decodes a name or value: `+` is a blank, `%HH` a byte of UTF-8.
fn piece(text: &str) -> String {
    let bytes: Vec<u8> = text.bytes().map(|b| if b == b'+' { b' ' } else { b }).collect();
    decode_bytes(&bytes)
}

/// A JSON body that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is no JSON.
    #[error("malformed JSON string, {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is not an object.
    #[error("malformed JSON string, expected an object")]
    NoObject,
}

impl crate::Failure for BodyError {
    fn status(&self) -> u16 {
        400
    }
}

/// Reads a JSON body. An empty one is an empty object: clients send none with `Content-Type: application/json`.
///
/// # Errors
/// The body is malformed or no object.
pub fn json(body: &[u8]) -> Result<Raw, BodyError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Raw::new());
    }
    match serde_json::from_slice(body)? {
        Value::Object(mut raw) => {
            raw.remove(CACHE_BUSTER);
            Ok(raw)
        }
        _ => Err(BodyError::NoObject),
    }
}

/// Body and query together: the query wins, per name.
pub fn query_over_body(mut body: Raw, query: Raw) -> Raw {
    body.extend(query);
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Reference 03 §8.2 and 01 §6 #34 to #39, #41.
    #[test]
    fn forms_are_decoded() {
        for (text, expected) in [
            ("a=1;b=2", json!({"a": "1", "b": "2"})),
            ("a=1&a=2&a=3", json!({"a": ["1", "2", "3"]})),
            ("a", json!({"a": null})),
            ("a=", json!({"a": ""})),
            ("=x", json!({"": "x"})),
            ("a=b=c", json!({"a": "b"})),
            ("a+b=c+d", json!({"a b": "c d"})),
            ("a=%zz", json!({"a": "%zz"})),
            ("net0=virtio%2Cbridge%3Dvmbr0", json!({"net0": "virtio,bridge=vmbr0"})),
            ("net0=virtio,bridge=vmbr0", json!({"net0": "virtio,bridge"})),
            ("a=%C3%A4+x%2B", json!({"a": "ä x+"})),
            ("_dc=99&x=1", json!({"x": "1"})),
            ("a=1&&b=2", json!({"a": "1", "b": "2"})),
            ("", json!({})),
            ("0", json!({})),
        ] {
            assert_eq!(Value::Object(form(text)), expected, "{text}");
        }
    }

    /// Reference 01 §6 #40.
    #[test]
    fn the_query_wins_over_the_body() {
        let both = query_over_body(form("a=1"), form("a=2&c=3"));
        assert_eq!(Value::Object(both), json!({"a": "2", "c": "3"}));
    }

    #[test]
    fn json_bodies_are_objects() {
        assert_eq!(
            Value::Object(json(b"{\"a\":[1,true],\"_dc\":1}").unwrap()),
            json!({"a": [1, true]})
        );
        assert!(json(b"").unwrap().is_empty());
        for bad in ["[]", "1", "{", "{}x"] {
            let text = json(bad.as_bytes()).unwrap_err().to_string();
            assert!(text.starts_with("malformed JSON string, "), "{text}");
        }
    }
}

//! Rust text: literals, and a pool in which equal values are one static.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::Result;

/// The members of a JSON object; everything in the contract that is not there counts as empty.
pub(crate) fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The items of a JSON array; empty when absent.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text that must be there.
pub(crate) fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str> {
    Ok(value
        .as_str()
        .ok_or_else(|| format!("{what}: expected a text, got {value}"))?)
}

/// A string literal.
pub(crate) fn literal(text: &str) -> String {
    format!("{text:?}")
}

/// `Some("…")` or `None`.
pub(crate) fn option_literal(text: Option<&str>) -> String {
    text.map_or_else(|| "None".to_owned(), |text| format!("Some({text:?})"))
}

/// The name of a static or constant: upper case, every run of other characters one `_`, none at the end.
pub(crate) fn identifier(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_uppercase());
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    out.trim_end_matches('_').to_owned()
}

/// Statics by their text: what was defined once is referred to from then on.
#[derive(Default)]
pub(crate) struct Pool {
    names: HashMap<String, String>,
    /// The definitions so far.
    pub(crate) code: String,
}

impl Pool {
    /// The name of a static of this type and value, defined now if it is new.
    pub(crate) fn define(&mut self, prefix: &str, kind: &str, value: &str) -> String {
        let key = format!("{kind}={value}");
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let name = format!("{prefix}{}", self.names.len());
        let _ = writeln!(self.code, "static {name}: {kind} = {value};");
        self.names.insert(key, name.clone());
        name
    }

    /// A `&'static [T]` of these values.
    pub(crate) fn slice(&mut self, kind: &str, values: &[String]) -> String {
        if values.is_empty() {
            return "&[]".to_owned();
        }
        let list = format!("[{}]", values.join(", "));
        format!("&{}", self.define("L", &format!("[{kind}; {}]", values.len()), &list))
    }

    /// A `&'static [&'static str]`.
    pub(crate) fn words(&mut self, words: &Value, what: &str) -> Result<String> {
        let words = items(words)
            .iter()
            .map(|word| text(word, what).map(literal))
            .collect::<Result<Vec<_>>>()?;
        Ok(self.slice("&str", &words))
    }
}

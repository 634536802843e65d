//! Which texts count as numbers: for each kind of server others do.

use serde_json::Value;

use crate::figure;

/// A scalar's text: numbers without an exponent, booleans as 0 and 1. `None` for nothing, lists and objects.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::Bool(on) => Some(u8::from(*on).to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_f64() => Some(figure::text(number.as_f64())),
        Value::Number(number) => Some(number.to_string()),
    }
}

fn without_sign(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `[+-]?[0-9]*\.?[0-9]+`: what Graphite is told.
pub(super) fn is_plain(text: &str) -> bool {
    let text = without_sign(text);
    let (whole, decimals) = text.split_once('.').unwrap_or(("", text));
    is_digits(whole) && is_digits(decimals) && !decimals.is_empty()
}

/// The same with an exponent, perhaps: what OpenTelemetry is told.
pub(super) fn is_scientific(text: &str) -> bool {
    match text.split_once(['e', 'E']) {
        Some((number, exponent)) => is_plain(number) && is_exponent(exponent),
        None => is_plain(text),
    }
}

fn is_exponent(text: &str) -> bool {
    let digits = without_sign(text);
    is_digits(digits) && !digits.is_empty()
}

/// What a text is to InfluxDB.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A number, as it is written.
    Number,
    /// One that is not finite: there is no way to write it.
    NotFinite,
    /// Anything else.
    Text,
}

/// What a text looks like: numbers may end in a dot and have an exponent.
pub(super) fn look(text: &str) -> Look {
    let bare = without_sign(text);
    if ["nan", "inf", "infinity"]
        .iter()
        .any(|word| bare.eq_ignore_ascii_case(word))
    {
        return Look::NotFinite;
    }
    let (number, exponent) = match bare.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (bare, None),
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let is_number = is_digits(whole) && is_digits(decimals) && !(whole.is_empty() && decimals.is_empty());
    match is_number && exponent.is_none_or(is_exponent) {
        true => Look::Number,
        false => Look::Text,
    }
}

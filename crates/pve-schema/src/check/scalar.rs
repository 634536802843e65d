//! Checks of one scalar, which is text by then (reference 03 §2.5, §2.6).

use crate::schema::{Kind, Schema};

/// Checks a text against a schema: its type first, then [`limits`].
///
/// `name` is the parameter's name: the keys of a property string are told as `name.key`.
///
/// # Errors
/// The message for the parameter, exactly as a client sees it.
pub fn text(schema: &Schema, text: &str, name: &str) -> Result<(), String> {
    let fits = match schema.kind {
        Kind::Any | Kind::String => true,
        Kind::Boolean => text == "1" || text == "0",
        Kind::Integer => is_integer(text),
        Kind::Number => is_number(text),
        Kind::Array | Kind::Object => return Err(format!("type check ('{}') failed", schema.kind.as_str())),
        Kind::Null => return Err("type check ('null') failed - value is not null".to_owned()),
    };
    if !fits {
        return Err(type_failure(schema.kind, &format!("'{text}'")));
    }
    limits(schema, text, name)
}

/// The message for a value of the wrong type.
pub(crate) fn type_failure(kind: Kind, got: &str) -> String {
    format!("type check ('{}') failed - got {got}", kind.as_str())
}

/// Checks all but the type, in upstream's order: format, pattern, lengths, limits, words. The first failure ends it.
pub(crate) fn limits(schema: &Schema, text: &str, name: &str) -> Result<(), String> {
    if let Some(format) = schema.format {
        format
            .check(text, name)
            .map_err(|error| format!("invalid format - {error}"))?;
    }
    if schema.pattern.is_some_and(|pattern| !pattern.matches(text)) {
        return Err("value does not match the regex pattern".to_owned());
    }
    lengths(schema, text)?;
    // Numbers are limited whatever the declared type, strings that look like numbers too.
    if let Some(number) = looks_like_number(text) {
        if let Some(maximum) = schema.maximum.filter(|maximum| number > *maximum) {
            return Err(format!("value must have a maximum value of {maximum}"));
        }
        if let Some(minimum) = schema.minimum.filter(|minimum| number < *minimum) {
            return Err(format!("value must have a minimum value of {minimum}"));
        }
    }
    if !schema.words.is_empty() && !schema.words.contains(&text) {
        let words = schema.words.join(", ");
        return Err(format!(
            "value '{text}' does not have a value in the enumeration '{words}'"
        ));
    }
    Ok(())
}

fn lengths(schema: &Schema, text: &str) -> Result<(), String> {
    if schema.max_length.is_none() && schema.min_length.is_none() {
        return Ok(());
    }
    let length = text.chars().count();
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        return Err(format!("value may only be {most} characters long"));
    }
    if let Some(fewest) = schema.min_length.filter(|fewest| length < *fewest) {
        return Err(format!("value must be at least {fewest} characters long"));
    }
    Ok(())
}

/// `^[+-]?\d+$`: leading zeros are fine, blanks are not.
pub fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// `^[+-]?(\d+\.\d+|\d+\.|\.\d+|\d+)([eE][+-]?\d+)?$`
pub fn is_number(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits = !(whole.is_empty() && fraction.is_empty()) && digits(whole) && digits(fraction);
    mantissa_fits && exponent.is_none_or(is_integer)
}

fn looks_like_number(text: &str) -> Option<f64> {
    if is_number(text) { text.parse().ok() } else { None }
}

/// The words that stand for a boolean in property strings, simple `key: value` files and on command lines, in any case.
pub fn boolean_word(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["1", "on", "yes", "true"]) {
        Some(true)
    } else if is(&["0", "off", "no", "false"]) {
        Some(false)
    } else {
        None
    }
}

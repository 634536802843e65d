//! Checks of one value of any type (reference 03 §2.4 to §2.6).

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::{Errors, scalar};
use crate::params::Param;
use crate::schema::{Kind, Schema};

/// Checks a value and turns it into a parameter; errors are collected under `name` and names below it.
///
/// `None` is an absent value, or one that failed.
pub(super) fn value(schema: &Schema, value: Option<Value>, name: &str, errors: &mut Errors) -> Option<Param> {
    match value.filter(|value| !value.is_null()) {
        Some(value) => present(schema, value, name, errors),
        None => {
            if !schema.optional && schema.kind != Kind::Null {
                errors.add(name, "property is missing and it is not optional");
            }
            None
        }
    }
}

fn present(schema: &Schema, value: Value, name: &str, errors: &mut Errors) -> Option<Param> {
    match (schema.kind, value) {
        (Kind::Array, Value::Array(items)) => Some(array(schema, items, name, errors)),
        (Kind::Object, Value::Object(members)) => Some(object(schema, members, name, errors)),
        (Kind::Any, value @ (Value::Array(_) | Value::Object(_))) => Some(unchecked(value)),
        (Kind::Array | Kind::Object | Kind::Null, other) => {
            // Only the kind matters here: these types take no text.
            if let Err(message) = scalar::text(schema, &scalar_text(&other), name) {
                errors.add(name, &message);
            }
            None
        }
        (kind, other) => match fitting_text(kind, other) {
            Ok(text) => match scalar::text(schema, &text, name) {
                Ok(()) => Some(Param::Text(text)),
                Err(message) => {
                    errors.add(name, &message);
                    None
                }
            },
            Err(got) => {
                errors.add(name, &scalar::type_failure(kind, got));
                None
            }
        },
    }
}

/// The text of a scalar; the error is what upstream calls the thing that is no scalar.
fn fitting_text(kind: Kind, value: Value) -> Result<String, &'static str> {
    match value {
        Value::Array(_) => Err("ARRAY"),
        Value::Object(_) => Err("HASH"),
        Value::Bool(_) if !matches!(kind, Kind::Boolean | Kind::Any) => Err("JSON::PP::Boolean"),
        other => Ok(scalar_text(&other)),
    }
}

/// A scalar as the text that handlers see; empty for what is none.
pub fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "1" } else { "0" }.to_owned(),
        Value::Number(number) => number_text(number),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// Significant digits of a number that is no integer, as upstream's runtime prints it (`%.15g`).
const DIGITS: usize = 15;

/// A JSON number as text: integers as they are, others with up to 15 significant digits.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_text(float),
        _ => number.to_string(),
    }
}

fn float_text(float: f64) -> String {
    let scientific = format!("{float:.*e}", DIGITS - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    let last_fixed = i32::try_from(DIGITS).unwrap_or(i32::MAX);
    if (-5..last_fixed).contains(&exponent) {
        let decimals = usize::try_from(last_fixed - 1 - exponent).unwrap_or_default();
        let fixed = format!("{float:.decimals$}");
        return if decimals == 0 { fixed } else { trimmed(&fixed) };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs())
}

fn array(schema: &Schema, items: Vec<Value>, name: &str, errors: &mut Errors) -> Param {
    let Some(item_schema) = schema.items else {
        return unchecked(Value::Array(items));
    };
    let items = items.into_iter().enumerate();
    let checked = items.filter_map(|(at, item)| value(item_schema, Some(item), &format!("{name}[{at}]"), errors));
    Param::List(checked.collect())
}

fn object(schema: &Schema, mut members: serde_json::Map<String, Value>, name: &str, errors: &mut Errors) -> Param {
    let mut checked = BTreeMap::new();
    let sent: Vec<String> = present_names(&members);
    for (key, member_schema) in schema.properties {
        if let Some(param) = value(member_schema, members.remove(*key), &below(name, key), errors) {
            checked.insert((*key).to_owned(), param);
        }
    }
    for (key, member) in members {
        match schema.additional {
            Some(member_schema) => {
                if let Some(param) = value(member_schema, Some(member), &below(name, &key), errors) {
                    checked.insert(key, param);
                }
            }
            None if schema.open => {
                checked.insert(key, unchecked(member));
            }
            None => errors.unknown(&below(name, &key)),
        }
    }
    for (key, member_schema) in schema.properties {
        let is_sent = |name: &str| sent.iter().any(|sent| sent == name);
        if let Some(required) = member_schema
            .requires
            .filter(|required| is_sent(key) && !is_sent(required))
        {
            errors.requires(&below(name, required), key);
        }
    }
    Param::Map(checked)
}

/// The names of members that are there, null being absent.
pub(super) fn present_names(members: &serde_json::Map<String, Value>) -> Vec<String> {
    let there = members.iter().filter(|(_, value)| !value.is_null());
    there.map(|(name, _)| name.clone()).collect()
}

fn below(name: &str, key: &str) -> String {
    if name.is_empty() {
        key.to_owned()
    } else {
        format!("{name}.{key}")
    }
}

/// A value without a schema, as it is; nulls inside become empty texts.
pub(super) fn unchecked(value: Value) -> Param {
    match value {
        Value::Array(items) => Param::List(items.into_iter().map(unchecked).collect()),
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, unchecked(value)));
            Param::Map(members.collect())
        }
        scalar => Param::Text(scalar_text(&scalar)),
    }
}

/// Makes of what was sent what the declared type expects (reference 03 §2.4): an array for a list format becomes one
/// text, a scalar for an array becomes its only element.
pub(super) fn normalised(schema: &Schema, value: Value) -> Value {
    match value {
        Value::Array(items) if schema.kind == Kind::String && schema.format.is_some_and(|f| f.is_list()) => {
            if items.iter().any(|item| item.is_array() || item.is_object()) {
                return Value::Array(items);
            }
            let items: Vec<String> = items.iter().map(scalar_text).collect();
            Value::String(items.join(","))
        }
        scalar @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) if schema.kind == Kind::Array => {
            match scalar_text(&scalar).as_str() {
                "" | "0" => scalar,
                _ => Value::Array(vec![scalar]),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_upstreams_runtime_does() {
        for (json, text) in [
            ("7", "7"),
            ("1e3", "1000"),
            ("1.5", "1.5"),
            ("0.30000000000000004", "0.3"),
            ("1e20", "1e+20"),
            ("1.25e-7", "1.25e-07"),
            ("0.0001", "0.0001"),
            ("-0.5", "-0.5"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(scalar_text(&value), text, "{json}");
        }
    }
}

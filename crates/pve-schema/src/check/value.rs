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

/// A JSON number as upstream's runtime prints it: integers as they are, others with up to 15 significant digits.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => {
            if float.fract() == 0.0 && float.abs() < 1e15 {
                format!("{float:.0}")
            } else {
                format!("{float}")
            }
        }
        _ => number.to_string(),
    }
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
        if let Some(required) = member_schema.requires.filter(|_| sent.iter().any(|sent| sent == key)) {
            if !sent.iter().any(|sent| sent == required) {
                errors.requires(&below(name, required), key);
            }
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

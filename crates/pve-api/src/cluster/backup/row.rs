//! A job as the API shows it: flags and numbers are numbers, property strings are objects (reference 05 §2.1).

use pve_contract::property_format;
use pve_jobs::jobs_cfg::format;
use pve_schema::property_string;
use pve_schema::schema::{Format, Kind, PropertyFormat, Schema};
use pve_schema::section_config::{Section, Value as Stored};
use serde_json::{Map, Value};

/// All options of a job, with its name and type.
pub(in crate::cluster) fn of(section: &Section) -> Map<String, Value> {
    let options = section.iter().map(|(key, value)| (key.to_owned(), option(key, value)));
    let mut row: Map<String, Value> = options.collect();
    row.insert("id".to_owned(), section.id.as_str().into());
    row.insert("type".to_owned(), section.kind.as_str().into());
    row
}

fn option(key: &str, value: &Stored) -> Value {
    let text = match value {
        Stored::List(items) => return items.clone().into(),
        Stored::Text(text) => text,
    };
    let Some(schema) = format().schema(key) else {
        return text.as_str().into();
    };
    properties(schema)
        .and_then(|format| object(format, text))
        .unwrap_or_else(|| scalar(schema.kind, text))
}

fn scalar(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Boolean | Kind::Integer => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

/// The keys of an option that is a property string.
fn properties(schema: &Schema) -> Option<&'static PropertyFormat> {
    match schema.format? {
        Format::Properties(format) => Some(format),
        Format::Named(named, _) => property_format(named.name),
    }
}

fn object(format: &'static PropertyFormat, text: &str) -> Option<Value> {
    let properties = property_string::parse(format, text).ok()?;
    let kind = |key: &str| format.key(key).map_or(Kind::String, |key| key.schema.kind);
    let fields = properties
        .iter()
        .map(|(key, value)| (key.to_owned(), scalar(kind(key), value)));
    Some(Value::Object(fields.collect()))
}

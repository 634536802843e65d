//! InfluxDB's line protocol (reference 04 §16.5): `MEASUREMENT,TAGS FIELDS TIME`.
//!
//! | where in the object | measurement | tag `instance` |
//! |---|---|---|
//! | `{cpus: 2}` | `system` | |
//! | `{memory: {free: 2}}` | `memory` | |
//! | `{nics: {eno1: {receive: 2}}}` | `nics` | `eno1` |
//! | deeper | the same | the same; only the last key is left of the path |

use std::fmt::Write as _;

use serde_json::Value;

use super::batch::Batches;
use super::config::{Influx, InfluxWay};
use super::value::Look;
use super::{Origin, Thing, sorted, things, value};
use crate::snapshot::{Object, Snapshot};

/// Where an object's own figures go.
const SYSTEM: &str = "system";
/// Told as a tag already.
const VMID: &str = "vmid";
/// Texts even where they look like numbers: a field has one type for ever.
const TEXTS: [&str; 2] = ["name", "tags"];

/// Lines in batches.
pub(super) fn encode(settings: &Influx, origin: &Origin, snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let mut batches = Batches::below(match &settings.way {
        InfluxWay::Udp { datagram } => *datagram,
        InfluxWay::Http(http) => http.largest,
    });
    for (thing, object) in things(&snapshot.objects) {
        let mut lines = Lines {
            batches: &mut batches,
            tags: tags(&thing, origin, object),
            time: snapshot.time,
        };
        lines.add(object, None, None);
    }
    batches.finish()
}

/// The tags of a thing, with a comma in front of each.
fn tags(thing: &Thing<'_>, origin: &Origin, object: &Object) -> String {
    let node = &origin.node;
    let text = |key: &str| object.get(key).and_then(value::text).filter(|text| !text.is_empty());
    match thing {
        Thing::Node => format!(",object=nodes,host={node}"),
        Thing::Guest(kind, vmid) => {
            let name = text("name").map(|name| format!(",host={}", name_or_tag(&name)));
            format!(",object={kind},vmid={vmid},nodename={node}{}", name.unwrap_or_default())
        }
        Thing::Storage(id) => {
            let kind = text("type").map(|kind| format!(",type={}", name_or_tag(&kind)));
            let id = name_or_tag(id.as_str());
            format!(",object=storages,nodename={node},host={id}{}", kind.unwrap_or_default())
        }
    }
}

struct Lines<'a> {
    batches: &'a mut Batches,
    tags: String,
    time: i64,
}

impl Lines<'_> {
    /// The lines of what is inside of an object, then its own.
    fn add(&mut self, object: &Object, measurement: Option<&str>, instance: Option<&str>) {
        let mut fields = Vec::new();
        for (key, value) in sorted(object) {
            match value {
                _ if key == VMID => {}
                Value::Object(inner) => match (measurement, instance) {
                    (None, _) => self.add(inner, Some(key), None),
                    (Some(measurement), None) => self.add(inner, Some(measurement), Some(key)),
                    (Some(_), Some(_)) => flatten(inner, &mut fields),
                },
                _ => fields.extend(field(key, value)),
            }
        }
        if fields.is_empty() {
            return;
        }
        let mut line = name_or_tag(measurement.unwrap_or(SYSTEM)) + &self.tags;
        if let Some(instance) = instance {
            let _ = write!(line, ",instance={}", name_or_tag(instance));
        }
        let _ = writeln!(line, " {} {}000000000", fields.join(","), self.time);
        self.batches.push(&line);
    }
}

/// The figures of all that is inside of an object, by their last keys.
fn flatten(object: &Object, fields: &mut Vec<String>) {
    for (key, value) in sorted(object) {
        match value {
            Value::Object(inner) => flatten(inner, fields),
            _ => fields.extend(field(key, value)),
        }
    }
}

/// A field; `None` for what cannot be one.
fn field(key: &str, value: &Value) -> Option<String> {
    let text = value::text(value).filter(|text| !text.is_empty())?;
    let key_text = name_or_tag(key);
    let look = match TEXTS.contains(&key) {
        true => Look::Text,
        false => value::look(&text),
    };
    match look {
        // A plus is no part of the protocol's numbers.
        Look::Number => Some(format!("{key_text}={}", text.trim_start_matches('+'))),
        Look::NotFinite => None,
        Look::Text => Some(format!(
            "{key_text}=\"{}\"",
            text.replace('\\', "\\\\").replace('"', "\\\"")
        )),
    }
}

/// A name, key or tag. Upstream escapes white space alone; the others would end it as well.
fn name_or_tag(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char == ',' || char == '=' || char.is_whitespace() {
            escaped.push('\\');
        }
        escaped.push(match char {
            // No escape helps a line feed, and a backslash would escape what follows.
            '\n' => ' ',
            '\\' => '/',
            char => char,
        });
    }
    escaped
}

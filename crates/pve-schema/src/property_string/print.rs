//! Writing property strings.

use super::Properties;
use crate::schema::{Format, PropertyFormat, PropertyKey};
use crate::size;

/// A value that the grammar cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal value with commas for {0}")]
pub struct CommaInValue(pub String);

impl crate::Failure for CommaInValue {}

/// Writes a property string: the default key first and bare, then the required keys, then all others, each sorted.
///
/// # Errors
/// A value holds a comma.
pub fn print(format: &'static PropertyFormat, properties: &Properties) -> Result<String, CommaInValue> {
    let folded = folded_alias(format, properties);
    let mut parts = Vec::new();
    let mut keys: Vec<_> = properties
        .iter()
        .map(|(name, value)| (rank(format, name), name, value))
        .collect();
    keys.sort_unstable();
    for (rank, name, value) in keys {
        if value.contains(',') {
            return Err(CommaInValue(name.to_owned()));
        }
        match folded {
            Some(alias) if alias.key_alias == Some(name) => {
                let target = alias
                    .alias
                    .and_then(|target| properties.get(target))
                    .unwrap_or_default();
                parts.push(format!("{value}={target}"));
                continue;
            }
            Some(alias) if alias.alias == Some(name) => continue,
            _ => {}
        }
        let value = printed(format, name, value);
        parts.push(if rank == Rank::Default {
            value
        } else {
            format!("{name}={value}")
        });
    }
    Ok(parts.join(","))
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Default,
    Required,
    Optional,
}

fn rank(format: &'static PropertyFormat, name: &str) -> Rank {
    match format.key(name) {
        Some(key) if key.default_key => Rank::Default,
        Some(key) if !key.schema.optional => Rank::Required,
        _ => Rank::Optional,
    }
}

/// The key that tells two others at once, as `virtio=MAC` tells model and address.
fn folded_alias(format: &'static PropertyFormat, properties: &Properties) -> Option<&'static PropertyKey> {
    format.keys.iter().find(|key| {
        let named = key.key_alias.and_then(|named| properties.get(named));
        named == Some(key.name) && key.alias.is_some_and(|target| properties.has(target))
    })
}

/// Sizes may be stored as bytes; they are written in the largest exact unit.
fn printed(format: &'static PropertyFormat, name: &str, value: &str) -> String {
    let is_size = matches!(
        format.key(name).and_then(|key| key.schema.format),
        Some(Format::Named(named, _)) if named.name == "disk-size"
    );
    match size::parse(value) {
        Some(bytes) if is_size => size::print(bytes),
        _ => value.to_owned(),
    }
}

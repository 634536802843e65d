//! Reading property strings.

use super::Properties;
use crate::check::{self, Errors};
use crate::failure::{Failure, ParamErrors};
use crate::schema::{Kind, PropertyFormat};

/// A text that is not what its format says.
///
/// `Display` is upstream's text without the newline at its end; [`PropertyError::text`] has it, and names the parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// A bare value, and no key that it could belong to.
    #[error("value without key, but schema does not define a default key")]
    NoDefaultKey,
    /// A key that stands twice.
    #[error("duplicate key in comma-separated list property: {0}")]
    Duplicate(String),
    /// `k=` or `=v`.
    #[error("missing key in comma-separated list property")]
    Missing,
    /// A key and its alias.
    #[error("key '{0}' is already defined (via alias)")]
    Alias(String),
    /// Two keys that give another one their names as values.
    #[error("key alias '{0}' is already defined")]
    KeyAlias(String),
    /// Values that do not fit.
    #[error("{}", keys_text(.0, "").trim_end_matches('\n'))]
    Keys(ParamErrors),
    /// The format's own rule.
    #[error("{0}")]
    Rule(String),
}

impl Failure for PropertyError {}

impl PropertyError {
    /// The text as it stands behind `invalid format - `, with the newline at its end; the keys are told as
    /// `name.key` unless the name is empty.
    pub fn text(&self, name: &str) -> String {
        match self {
            Self::Keys(errors) => keys_text(errors, name),
            other => format!("{other}\n"),
        }
    }
}

fn keys_text(errors: &ParamErrors, name: &str) -> String {
    let mut text = "format error\n".to_owned();
    for (key, message) in errors {
        let prefix = if name.is_empty() {
            String::new()
        } else {
            format!("{name}.")
        };
        text.push_str(&format!("{prefix}{key}: {message}\n"));
    }
    text
}

/// Reads a property string, checks its keys and applies the format's own rule.
///
/// # Errors
/// The text breaks the grammar, a key has a value that does not fit, or the rule refuses the whole.
pub fn parse(format: &'static PropertyFormat, text: &str) -> Result<Properties, PropertyError> {
    let mut properties = split(format, text)?;
    let errors = check(format, &properties);
    if !errors.is_empty() {
        return Err(PropertyError::Keys(errors));
    }
    if let Some(rule) = format.validator {
        rule(format, &mut properties).map_err(PropertyError::Rule)?;
    }
    Ok(properties)
}

/// Takes the text apart: default keys and aliases resolved, booleans normalised, nothing checked yet.
fn split(format: &'static PropertyFormat, text: &str) -> Result<Properties, PropertyError> {
    let mut properties = Properties::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        match part.split_once('=') {
            Some((key, value)) if key.is_empty() || value.is_empty() => return Err(PropertyError::Missing),
            Some((key, value)) => add(format, &mut properties, key, value)?,
            None => {
                let key = format.default_key().ok_or(PropertyError::NoDefaultKey)?;
                add(format, &mut properties, key.name, part)?;
            }
        }
    }
    Ok(properties)
}

fn add(
    format: &'static PropertyFormat,
    properties: &mut Properties,
    key: &str,
    value: &str,
) -> Result<(), PropertyError> {
    let known = format.key(key);
    if let Some((target, declared)) = known.and_then(|declared| declared.alias.map(|target| (target, declared))) {
        if let Some(named) = declared.key_alias {
            if properties.has(named) {
                return Err(PropertyError::KeyAlias(named.to_owned()));
            }
            properties.set(named, key);
        }
        if properties.has(target) {
            return Err(PropertyError::Alias(target.to_owned()));
        }
        properties.set(target, value);
        return Ok(());
    }
    if properties.has(key) {
        return Err(PropertyError::Duplicate(key.to_owned()));
    }
    let word = match known {
        Some(declared) if declared.schema.kind == Kind::Boolean => check::boolean_word(value),
        _ => None,
    };
    match word {
        Some(on) => properties.set_flag(key, on),
        None => properties.set(key, value),
    }
    Ok(())
}

/// Checks all keys: known ones first, then unknown names and what other keys need.
fn check(format: &'static PropertyFormat, properties: &Properties) -> ParamErrors {
    let mut errors = Errors::default();
    for key in format.keys {
        match properties.get(key.name) {
            Some(value) => {
                if let Err(message) = check::text(key.schema, value, key.name) {
                    errors.add(key.name, &message);
                }
            }
            None if key.schema.optional => {}
            None => errors.add(key.name, "property is missing and it is not optional"),
        }
    }
    for (name, _) in properties.iter() {
        match format.key(name) {
            None => errors.unknown(name),
            Some(key) => {
                if let Some(required) = key.schema.requires.filter(|required| !properties.has(required)) {
                    errors.requires(required, name);
                }
            }
        }
    }
    errors.0
}

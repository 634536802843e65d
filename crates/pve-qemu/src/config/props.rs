//! Property strings of a VM's keys: `key=value,…` (reference 03 §2.8).

use std::collections::BTreeMap;

use pve_schema::property_string::Properties;

use super::error::ConfigError;
use super::keys;

/// The keys of a property string with their values, aliases resolved and booleans as `1` and `0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Props(BTreeMap<String, String>);

impl Props {
    /// Reads the property string of a config key, by the format that the contract declares for the key.
    ///
    /// # Errors
    /// [`ConfigError::Format`] with the checker's text.
    pub fn parse(key: &str, text: &str) -> Result<Self, ConfigError> {
        match keys::parse_properties(key, text) {
            Ok(properties) => Ok(Self(own(&properties))),
            Err(message) => Err(ConfigError::Format {
                key: key.to_owned(),
                message,
            }),
        }
    }

    /// A property's text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether the property is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A boolean property.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|text| text == "1")
    }

    /// A property as a whole number; `None` when it is absent or no number.
    pub fn integer(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// A property as a number; `None` when it is absent or no number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.parse().ok()
    }

    /// Sets a property.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Takes a property out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// All properties in byte order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `,name=value` for each property.
    pub(crate) fn print_rest(&self) -> String {
        self.iter().map(|(name, value)| format!(",{name}={value}")).collect()
    }
}

fn own(properties: &Properties) -> BTreeMap<String, String> {
    properties
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

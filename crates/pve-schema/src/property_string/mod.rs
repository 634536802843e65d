//! Property strings: `key=value,key=value,…` in one text (reference 03 §2.8).
//!
//! The grammar has no quoting and no escapes: a value holds no comma. What the keys are and which may stand bare is
//! told by a [`PropertyFormat`](crate::schema::PropertyFormat), which the contract brings.

mod parse;
mod print;
pub mod validators;

#[cfg(test)]
mod tests;

use std::str::FromStr;

pub use parse::{PropertyError, parse};
pub use print::{CommaInValue, print};

/// The keys and values of one property string, in the order in which they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A key's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the key is set.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A boolean key; `None` when it is not set.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| value == "1")
    }

    /// A boolean key that is off unless set to on.
    pub fn is_set(&self, key: &str) -> bool {
        self.flag(key).unwrap_or(false)
    }

    /// An integer key; `None` when it is not set or beyond 64 bits.
    pub fn integer(&self, key: &str) -> Option<i64> {
        self.get(key)?.parse().ok()
    }

    /// A key that is a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.parse().ok()
    }

    /// A key that is a disk size, in bytes.
    pub fn size(&self, key: &str) -> Option<u64> {
        crate::size::parse(self.get(key)?)
    }

    /// A key read as a type: `Ok(None)` when it is not set.
    ///
    /// # Errors
    /// The type's own parse error.
    pub fn parse<T: FromStr>(&self, key: &str) -> Result<Option<T>, T::Err> {
        self.get(key).map(str::parse).transpose()
    }

    /// Sets a key: in its place if it is there, else at the end.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Sets a boolean key.
    pub fn set_flag(&mut self, key: &str, on: bool) {
        self.set(key, if on { "1" } else { "0" });
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    /// All keys and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether no key is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

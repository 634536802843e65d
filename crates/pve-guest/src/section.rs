//! One section of a guest config.

use std::collections::BTreeMap;

use crate::rules::boolean_word;

/// A line that is none of ours: an unknown key, a value that its key does not allow, or no `key: value` at all.
/// It stays where it is when the file is rewritten (reference 03 §7, "nothing a person wrote is lost").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignLine {
    /// The key that the line seems to set.
    pub(crate) key: Option<String>,
    /// The key that the line stood behind; empty for a line before the first key.
    pub(crate) after: String,
    /// The line.
    pub(crate) text: String,
}

/// One section: keys in byte order, each with its text. The description is the key `description`, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    keys: BTreeMap<String, String>,
    /// Pairs that are handed on to others as they are, in the order in which they stand: `lxc.*` of a container.
    pub raw: Vec<(String, String)>,
    pub(crate) foreign: Vec<ForeignLine>,
}

impl Section {
    /// A section without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// A key's text.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// Whether the key is set.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Sets a key. A line that tried to set the same key without success is replaced by this.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into();
        self.drop_foreign(&key);
        self.keys.insert(key, value.into());
    }

    /// Adds to a key's text, behind a character that stands between the parts; sets it if it is not set.
    pub(crate) fn append(&mut self, key: &str, between: char, part: &str) {
        match self.keys.get_mut(key) {
            Some(text) => {
                text.push(between);
                text.push_str(part);
            }
            None => self.set(key, part),
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.drop_foreign(key);
        self.keys.remove(key)
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.raw.is_empty()
    }

    /// All keys in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The names of all keys in byte order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// A boolean key; `None` when it is absent or no boolean.
    pub fn flag(&self, key: &str) -> Option<bool> {
        boolean_word(self.get(key)?)
    }

    /// A key as a whole number; `None` when it is absent or no number.
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// A key as a number; `None` when it is absent or no number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.parse().ok()
    }

    /// The keys that a copy for a snapshot or a template starts from.
    pub fn without_foreign_lines(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            raw: self.raw.clone(),
            foreign: Vec::new(),
        }
    }

    /// Whether the section would leave no trace in the file.
    pub(crate) fn is_blank(&self) -> bool {
        self.is_empty() && self.foreign.is_empty()
    }

    fn drop_foreign(&mut self, key: &str) {
        self.foreign.retain(|line| line.key.as_deref() != Some(key));
    }
}

impl FromIterator<(String, String)> for Section {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(iter: I) -> Self {
        Self {
            keys: iter.into_iter().collect(),
            raw: Vec::new(),
            foreign: Vec::new(),
        }
    }
}

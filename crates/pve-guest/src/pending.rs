//! Changes that wait for a guest's next cold start (reference 06a §2, §4).

use std::collections::BTreeMap;
use std::fmt;

use pve_schema::list;

use crate::config::GuestConfig;
use crate::section::Section;

/// The keys that are to be deleted, each with whether the deletion is forced: it then destroys the volume too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingDeletes(BTreeMap<String, bool>);

impl PendingDeletes {
    /// No deletions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `k1,!k2`, where `!` marks a forced one; `,`, `;` and blanks separate, and so does NUL: beside one the others
    /// would stay in the names, and be read as something else when they are written.
    pub fn parse(text: &str) -> Self {
        text.split('\0')
            .flat_map(list::split)
            .map(|name| match name.strip_prefix('!') {
                Some(name) => (name.to_owned(), true),
                None => (name.to_owned(), false),
            })
            .filter(|(name, _)| !name.is_empty())
            .collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key is to be deleted, and if so whether by force.
    pub fn get(&self, key: &str) -> Option<bool> {
        self.0.get(key).copied()
    }

    /// Notes a deletion.
    pub fn insert(&mut self, key: impl Into<String>, force: bool) {
        self.0.insert(key.into(), force);
    }

    /// Drops a deletion.
    pub fn remove(&mut self, key: &str) -> Option<bool> {
        self.0.remove(key)
    }

    /// All deletions in byte order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(key, force)| (key.as_str(), *force))
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|key, _| keep(key));
    }
}

impl FromIterator<(String, bool)> for PendingDeletes {
    fn from_iter<I: IntoIterator<Item = (String, bool)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl fmt::Display for PendingDeletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, force)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let mark = if *force { "!" } else { "" };
            write!(f, "{comma}{mark}{key}")?;
        }
        Ok(())
    }
}

/// A row of the pending list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingItem {
    /// The key.
    pub key: String,
    /// What the guest runs with.
    pub value: Option<String>,
    /// What it will run with.
    pub pending: Option<String>,
    /// Whether the key will be deleted, and if so whether by force.
    pub delete: Option<bool>,
}

impl GuestConfig {
    /// Makes a value pending.
    pub fn pend_set(&mut self, key: &str, value: impl Into<String>) {
        self.pending_deletes.remove(key);
        self.pending.set(key, value);
    }

    /// Makes a deletion pending.
    pub fn pend_delete(&mut self, key: &str, force: bool) {
        self.pending.remove(key);
        self.pending_deletes.insert(key, force);
    }

    /// Drops what is pending for a key.
    pub fn drop_pending(&mut self, key: &str) {
        self.pending.remove(key);
        self.pending_deletes.remove(key);
    }

    /// Whether anything is pending.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.pending_deletes.is_empty()
    }

    /// Drops pending values that the guest has already, and deletions of keys that it has not. Tells whether anything
    /// was dropped.
    pub fn clean_pending(&mut self) -> bool {
        let same: Vec<String> = self
            .pending
            .iter()
            .filter(|(key, value)| self.main.get(key) == Some(value))
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in &same {
            self.pending.remove(key);
        }
        let before = self.pending_deletes.0.len();
        let main = &self.main;
        self.pending_deletes.retain(|key| main.has(key));
        !same.is_empty() || self.pending_deletes.0.len() != before
    }

    /// The keys as they will be once all that is pending is applied.
    pub fn effective(&self) -> Section {
        let mut section = self.main.clone();
        for (key, _) in self.pending_deletes.iter() {
            section.remove(key);
        }
        for (key, value) in self.pending.iter() {
            section.set(key, value);
        }
        section
    }

    /// A key's text once all that is pending is applied.
    pub fn effective_value(&self, key: &str) -> Option<&str> {
        match self.pending.get(key) {
            Some(value) => Some(value),
            None if self.pending_deletes.get(key).is_some() => None,
            None => self.main.get(key),
        }
    }

    /// The rows of the pending list: every key of the main section, then keys that are only pending, then deletions of
    /// keys that are not set.
    pub fn pending_items(&self) -> Vec<PendingItem> {
        let current = self.main.iter().map(|(key, value)| PendingItem {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            pending: self.pending.get(key).map(str::to_owned),
            delete: self.pending_deletes.get(key),
        });
        let new = self
            .pending
            .iter()
            .filter(|(key, _)| !self.main.has(key))
            .map(|(key, value)| PendingItem {
                key: key.to_owned(),
                pending: Some(value.to_owned()),
                ..PendingItem::default()
            });
        let gone = self
            .pending_deletes
            .iter()
            .filter(|(key, _)| !self.main.has(key) && !self.pending.has(key))
            .map(|(key, force)| PendingItem {
                key: key.to_owned(),
                delete: Some(force),
                ..PendingItem::default()
            });
        current.chain(new).chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_are_written_as_they_are_read() {
        for (text, written) in [
            ("net0, !scsi1;args", "args,net0,!scsi1"),
            ("!net0,args/\0\x001]", "1],args/,!net0"),
            (",!;", ""),
        ] {
            let deletes = PendingDeletes::parse(text);
            assert_eq!(deletes.to_string(), written, "{text:?}");
            assert_eq!(PendingDeletes::parse(written), deletes, "{text:?}");
        }
    }
}

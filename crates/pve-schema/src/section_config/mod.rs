//! Section files: `storage.cfg`, `domains.cfg`, `jobs.cfg` and their like (reference 03 §3).
//!
//! ```text
//! dir: local
//!         path /var/lib/vz
//!         content iso,backup
//!
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`format`](self::SectionFormat) | what a file may hold: kinds of sections, their options, how single values are spelt |
//! | `parse` | reading, which never fails: what does not fit is left out with a warning |
//! | `write` | writing |
//! | `update` | the rules of the API for creating and changing a section |
//!
//! **Nothing a person wrote is lost** (the note before reference 03 §8): comments, unknown keys, lines that make no
//! sense and sections that cannot be used are kept in place when the file is written again. Values of known keys that
//! do not fit are kept until the key gets a proper value.

mod format;
mod parse;
mod update;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::params::Param;

pub use format::{Header, ReadValue, Row, SectionFormat, Use};
pub use parse::Warning;
pub use update::OptionError;
pub use write::WriteError;

/// A value of a section's option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A scalar; booleans are `1` and `0`.
    Text(String),
    /// An option of type array: one line per element.
    List(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(on: bool) -> Self {
        Self::Text(if on { "1" } else { "0" }.to_owned())
    }
}

impl From<Vec<String>> for Value {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

impl From<&Param> for Value {
    /// Maps have no place in a section; elements that are no scalars are left out.
    fn from(param: &Param) -> Self {
        let text = |param: &Param| match param {
            Param::Text(text) => Some(text.clone()),
            Param::List(_) | Param::Map(_) => None,
        };
        match param {
            Param::List(items) => Self::List(items.iter().filter_map(text).collect()),
            scalar => Self::Text(text(scalar).unwrap_or_default()),
        }
    }
}

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The kind of section: a storage type, a realm type.
    pub kind: String,
    /// The section's name.
    pub id: String,
    values: BTreeMap<String, Value>,
    kept: Vec<Kept>,
}

/// A line that is written again as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    line: String,
    /// The known option that stood behind it: the line stays before that one.
    before: Option<String>,
    /// The key on the line, if there is one: once that has a value, the line is dropped.
    key: Option<String>,
}

impl Section {
    /// A section without options.
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            id: id.into(),
            values: BTreeMap::new(),
            kept: Vec::new(),
        }
    }

    /// An option's value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A scalar option's value.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A boolean option; `None` when it is not set.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.text(key).map(|text| text == "1")
    }

    /// A boolean option that is off unless set to on.
    pub fn is_set(&self, key: &str) -> bool {
        self.flag(key).unwrap_or(false)
    }

    /// The elements of an array option; empty when it is not set.
    pub fn list(&self, key: &str) -> &[String] {
        match self.values.get(key) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// Sets an option.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.values.insert(key.into(), value.into());
    }

    /// Takes an option out, with whatever else stood there under its name.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.kept.retain(|kept| kept.key.as_deref() != Some(key));
        self.values.remove(key)
    }

    /// All options, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }
}

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SectionFile {
    items: Vec<Item>,
    /// What did not fit, in the order of the lines.
    pub warnings: Vec<Warning>,
    /// The digest of the text that was read.
    pub digest: String,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Section(Section),
    /// A section that cannot be used, as it was.
    Skipped {
        id: String,
        lines: Vec<String>,
    },
    /// A line between sections: a comment, or something that makes no sense.
    Line(String),
}

impl Item {
    fn id(&self) -> Option<&str> {
        match self {
            Self::Section(section) => Some(&section.id),
            Self::Skipped { id, .. } => Some(id),
            Self::Line(_) => None,
        }
    }
}

impl SectionFile {
    /// The sections in the order of the file.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.items.iter().filter_map(|item| match item {
            Item::Section(section) => Some(section),
            Item::Skipped { .. } | Item::Line(_) => None,
        })
    }

    /// The sections, to be changed.
    pub fn sections_mut(&mut self) -> impl Iterator<Item = &mut Section> {
        self.items.iter_mut().filter_map(|item| match item {
            Item::Section(section) => Some(section),
            Item::Skipped { .. } | Item::Line(_) => None,
        })
    }

    /// A section by its name.
    pub fn get(&self, id: &str) -> Option<&Section> {
        self.sections().find(|section| section.id == id)
    }

    /// A section by its name, to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Section> {
        self.sections_mut().find(|section| section.id == id)
    }

    /// Whether a name is taken, be it by a section that cannot be used.
    pub fn is_taken(&self, id: &str) -> bool {
        self.items.iter().any(|item| item.id() == Some(id))
    }

    /// Puts a section into the file: in the place of the one of this name, else at the end.
    pub fn insert(&mut self, section: Section) {
        let named = |item: &Item| item.id() == Some(&section.id);
        let used = |item: &Item| named(item) && matches!(item, Item::Section(_));
        let at = self.items.iter().position(used);
        let at = at.or_else(|| self.items.iter().position(named));
        match at.and_then(|at| self.items.get_mut(at)) {
            Some(item) => *item = Item::Section(section),
            None => self.items.push(Item::Section(section)),
        }
    }

    /// Puts a section in front of all others, in the place of what stands under its name.
    pub fn insert_first(&mut self, section: Section) {
        self.remove(&section.id);
        self.items.insert(0, Item::Section(section));
    }

    /// Takes a section out, with those of its name that cannot be used.
    pub fn remove(&mut self, id: &str) -> Option<Section> {
        let named = self.items.extract_if(.., |item| item.id() == Some(id));
        named.fold(None, |found, item| match item {
            Item::Section(section) => Some(section),
            Item::Skipped { .. } | Item::Line(_) => found,
        })
    }
}

//! What the API does to a section: create it, change it (reference 03 §3.4).

use super::format::SectionFormat;
use super::{Section, Value};
use crate::failure::Failure;

/// Options that cannot be set or removed like that. Status 500.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The kind of section has no such option.
    #[error("unexpected property '{0}'")]
    Unexpected(String),
    /// A required option is not there.
    #[error("missing value for required option '{0}'")]
    Missing(String),
    /// A fixed option was sent.
    #[error("can't change value of fixed parameter '{0}'")]
    Fixed(String),
    /// To be removed, and not known.
    #[error("no such option '{0}'")]
    NoSuchOption(String),
    /// To be removed, and required.
    #[error("unable to delete required option '{0}'")]
    DeleteRequired(String),
    /// To be removed, and fixed.
    #[error("unable to delete fixed option '{0}'")]
    DeleteFixed(String),
    /// To be set and to be removed.
    #[error("cannot set and delete property '{0}' at the same time!")]
    SetAndDelete(String),
    /// The section as a whole cannot be.
    #[error("{0}")]
    Incomplete(String),
}

impl Failure for OptionError {}

impl SectionFormat {
    /// A new section from what a client sent. An empty text is no value.
    ///
    /// # Errors
    /// An option is not for this kind of section, or a required one is missing.
    pub fn create(
        &self,
        kind: &str,
        id: &str,
        options: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Section, OptionError> {
        let mut section = Section::new(kind, id);
        for (key, value) in options {
            if self.usage(kind, &key).is_none() {
                return Err(OptionError::Unexpected(key));
            }
            section.put(key, value);
        }
        self.finish(&mut section)?;
        Ok(section)
    }

    /// Completes a section and looks for what it requires.
    pub(super) fn finish(&self, section: &mut Section) -> Result<(), OptionError> {
        (self.complete)(section).map_err(OptionError::Incomplete)?;
        match self.required(&section.kind).find(|key| section.get(key).is_none()) {
            Some(key) => Err(OptionError::Missing(key.to_owned())),
            None => Ok(()),
        }
    }

    /// Changes a section by what a client sent: first all is looked at, then all is done. An empty text takes the
    /// option out.
    ///
    /// # Errors
    /// An option is not for this kind of section, is fixed, or cannot be removed, or what would be left is no section.
    /// The section stays as it was.
    pub fn update(
        &self,
        section: &mut Section,
        options: impl IntoIterator<Item = (String, Value)>,
        delete: &[&str],
    ) -> Result<(), OptionError> {
        let options: Vec<(String, Value)> = options.into_iter().collect();
        for (key, _) in &options {
            match self.usage(&section.kind, key) {
                None => return Err(OptionError::Unexpected(key.clone())),
                Some(usage) if usage.fixed => return Err(OptionError::Fixed(key.clone())),
                Some(_) => {}
            }
        }
        for key in delete {
            let name = || (*key).to_owned();
            let usage = self
                .usage(&section.kind, key)
                .ok_or_else(|| OptionError::NoSuchOption(name()))?;
            if usage.required {
                return Err(OptionError::DeleteRequired(name()));
            }
            if usage.fixed {
                return Err(OptionError::DeleteFixed(name()));
            }
            if options.iter().any(|(set, _)| set == key) {
                return Err(OptionError::SetAndDelete(name()));
            }
        }
        let mut changed = section.clone();
        for key in delete {
            changed.remove(key);
        }
        for (key, value) in options {
            changed.put(key, value);
        }
        self.finish(&mut changed)?;
        *section = changed;
        Ok(())
    }
}

impl Section {
    /// Sets an option; an empty text, which no file can hold, takes it out.
    fn put(&mut self, key: String, value: Value) {
        if matches!(&value, Value::Text(text) if text.is_empty()) {
            self.remove(&key);
        } else {
            self.set(key, value);
        }
    }
}

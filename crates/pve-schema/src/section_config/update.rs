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
}

impl Failure for OptionError {}

impl SectionFormat {
    /// A new section from what a client sent.
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
            section.set(key, value);
        }
        match self.required(kind).find(|key| section.get(key).is_none()) {
            Some(key) => Err(OptionError::Missing(key.to_owned())),
            None => Ok(section),
        }
    }

    /// Changes a section by what a client sent: first all is looked at, then all is done.
    ///
    /// # Errors
    /// An option is not for this kind of section, is fixed, or cannot be removed. The section stays as it was.
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
        for key in delete {
            section.remove(key);
        }
        for (key, value) in options {
            section.set(key, value);
        }
        Ok(())
    }
}

//! Writing section files (reference 03 §3.3).

use super::format::{COMMENT, SectionFormat};
use super::{Item, Section, SectionFile, Value};
use crate::failure::Failure;
use crate::schema::Kind;

/// A section that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A value with CR or LF.
    #[error("property '{0}' contains a line feed")]
    LineFeed(String),
    /// A required option without a value.
    #[error("section '{id}' - missing value for required option '{key}'")]
    Missing {
        /// The section's name.
        id: String,
        /// The option.
        key: String,
    },
}

impl Failure for WriteError {}

/// Written second and without a value, if on.
const DISABLE: &str = "disable";

impl SectionFile {
    /// Writes the file: sections in their order, in each the comment, `disable`, the required and the other options;
    /// an empty line behind every section.
    ///
    /// # Errors
    /// A section lacks a required option, or a value cannot stand in one line.
    pub fn write(&self, format: &SectionFormat) -> Result<String, WriteError> {
        let mut out = String::new();
        for item in &self.items {
            match item {
                Item::Line(line) => {
                    out.push_str(line);
                    out.push('\n');
                }
                Item::Skipped { lines, .. } => {
                    for line in lines {
                        out.push_str(line);
                        out.push('\n');
                    }
                    out.push('\n');
                }
                Item::Section(section) => section.write(format, &mut out)?,
            }
        }
        Ok(out)
    }
}

impl Section {
    fn write(&self, format: &SectionFormat, out: &mut String) -> Result<(), WriteError> {
        let missing = format.required(&self.kind).find(|key| match self.get(key) {
            None => true,
            Some(Value::Text(text)) => text.is_empty(),
            Some(Value::List(_)) => false,
        });
        if let Some(key) = missing {
            return Err(WriteError::Missing {
                id: self.id.clone(),
                key: key.to_owned(),
            });
        }
        out.push_str(&(format.print_header)(&self.kind, &self.id));
        out.push('\n');

        let mut kept: Vec<_> = self
            .kept
            .iter()
            .filter(|kept| self.is_free(kept.key.as_deref()))
            .collect();
        for key in self.order(format) {
            kept.retain(|line| {
                let is_here = line.before.as_deref() == Some(key);
                if is_here {
                    push_line(out, &line.line);
                }
                !is_here
            });
            if let Some(value) = self.get(key) {
                self.write_option(format, key, value, out)?;
            }
        }
        kept.iter().for_each(|line| push_line(out, &line.line));
        out.push('\n');
        Ok(())
    }

    /// Whether a kept line may stand: its key, if it has one, has no value.
    fn is_free(&self, key: Option<&str>) -> bool {
        key.is_none_or(|key| self.get(key).is_none())
    }

    /// The options in the order in which they are written.
    fn order(&self, format: &SectionFormat) -> Vec<&str> {
        let rank = |key: &str| match key {
            COMMENT => 0,
            DISABLE => 1,
            _ if format.usage(&self.kind, key).is_some_and(|usage| usage.required) => 2,
            _ => 3,
        };
        let mut keys: Vec<&str> = self.values.keys().map(String::as_str).collect();
        keys.sort_by_key(|key| (rank(key), *key));
        keys
    }

    fn write_option(
        &self,
        format: &SectionFormat,
        key: &str,
        value: &Value,
        out: &mut String,
    ) -> Result<(), WriteError> {
        let mut push = |text: &str| {
            let text = (format.encode)(key, text);
            if text.contains(['\r', '\n']) {
                return Err(WriteError::LineFeed(key.to_owned()));
            }
            if !text.is_empty() {
                push_line(out, &format!("\t{key} {text}"));
            }
            Ok(())
        };
        match value {
            Value::Text(text) if key == DISABLE && format.schema(key).is_none_or(|s| s.kind == Kind::Boolean) => {
                if text == "1" {
                    push_line(out, &format!("\t{key}"));
                }
                Ok(())
            }
            Value::Text(text) => push(text),
            Value::List(items) => items.iter().try_for_each(|item| push(item)),
        }
    }
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

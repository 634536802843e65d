//! Reading section files.

use super::format::{Header, SectionFormat};
use super::{Item, Kept, Section, SectionFile, Value};
use crate::check;
use crate::digest;
use crate::schema::Kind;

/// Something in a file that does not fit. Reading goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("file {file} line {line}{place}")]
pub struct Warning {
    /// The file's name.
    pub file: &'static str,
    /// The line, from 1.
    pub line: usize,
    /// Where, and what is wrong.
    pub place: Place,
}

/// Where something does not fit, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Place {
    /// A line outside of sections.
    #[error(" - ignore config line: {0}")]
    Outside(String),
    /// A line in a section.
    #[error(" (section '{section}') - ignore config line: {line}")]
    Inside {
        /// The section's name.
        section: String,
        /// The line.
        line: String,
    },
    /// A section that cannot be used.
    #[error(" (skip section '{section}'): {reason}")]
    Section {
        /// The section's name.
        section: String,
        /// Why.
        reason: String,
    },
    /// A key that cannot be used.
    #[error(" (section '{section}') - unable to parse value of '{key}': {error}")]
    Key {
        /// The section's name.
        section: String,
        /// The key.
        key: String,
        /// Why.
        error: String,
    },
}

/// The section that is being read.
struct Open {
    section: Section,
    /// The section as it is in the file.
    lines: Vec<String>,
    /// Whether it is only kept, not used.
    skipped: bool,
}

impl SectionFile {
    /// Reads a file's content. That never fails: what does not fit is left out, with a warning; bytes that are no
    /// UTF-8 count as `U+FFFD`.
    pub fn parse(format: &SectionFormat, content: impl AsRef<[u8]>) -> Self {
        let bytes = content.as_ref();
        let text = String::from_utf8_lossy(bytes);
        let mut reader = Reader {
            format,
            file: Self {
                digest: digest::of(bytes),
                ..Self::default()
            },
            open: None,
            line: 0,
        };
        for (at, line) in text.split_terminator('\n').enumerate() {
            reader.line = at + 1;
            reader.line(line);
        }
        reader.close();
        reader.file
    }
}

struct Reader<'a> {
    format: &'a SectionFormat,
    file: SectionFile,
    open: Option<Open>,
    line: usize,
}

/// What ends a section: an empty line, or upstream's other notion of nothing.
fn is_end(line: &str) -> bool {
    line.is_empty() || line == "0"
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

impl Reader<'_> {
    fn warn(&mut self, place: Place) {
        self.file.warnings.push(Warning {
            file: self.format.file,
            line: self.line,
            place,
        });
    }

    fn line(&mut self, line: &str) {
        match self.open.take() {
            Some(open) if is_end(line) => {
                self.open = Some(open);
                self.close();
            }
            Some(mut open) => {
                open.lines.push(line.to_owned());
                if !open.skipped {
                    self.inside(&mut open.section, line);
                }
                self.open = Some(open);
            }
            None => self.outside(line),
        }
    }

    fn outside(&mut self, line: &str) {
        if is_end(line) {
            // One blank line behind a comment stays: it says that the comment is not about what follows.
            if matches!(self.file.items.last(), Some(Item::Line(last)) if !last.is_empty()) {
                self.file.items.push(Item::Line(String::new()));
            }
        } else if is_comment(line) {
            self.file.items.push(Item::Line(line.to_owned()));
        } else if let Some(header) = (self.format.parse_header)(line) {
            self.begin(header, line);
        } else {
            self.warn(Place::Outside(line.to_owned()));
            if !line.trim().is_empty() {
                self.file.items.push(Item::Line(line.to_owned()));
            }
        }
    }

    fn begin(&mut self, mut header: Header, line: &str) {
        let checked = (self.format.check_header)(&mut header);
        let reason = match checked {
            Err(reason) => Some(reason),
            Ok(()) if !self.format.has_kind(&header.kind) => Some(format!("unsupported type '{}'", header.kind)),
            Ok(()) => None,
        };
        self.open = Some(Open {
            section: Section::new(header.kind, header.id.clone()),
            lines: vec![line.to_owned()],
            skipped: reason.is_some(),
        });
        if let Some(reason) = reason {
            self.warn(Place::Section {
                section: header.id,
                reason,
            });
        }
    }

    fn inside(&mut self, section: &mut Section, line: &str) {
        if is_comment(line) {
            section.keep(line, None);
            return;
        }
        let Some((key, value)) = property(line) else {
            if !line.trim().is_empty() {
                section.keep(line, None);
            }
            self.warn(Place::Inside {
                section: section.id.clone(),
                line: line.to_owned(),
            });
            return;
        };
        if let Err(error) = self.property(section, key, value) {
            // A second value must not take the place of the first, should that be written behind it.
            if section.get(key).is_none() {
                section.keep(line, Some(key));
            }
            self.warn(Place::Key {
                section: section.id.clone(),
                key: key.to_owned(),
                error: error.trim_end().to_owned(),
            });
        }
    }

    fn property(&self, section: &mut Section, key: &str, value: Option<&str>) -> Result<(), String> {
        let schema = self.format.schema(key).ok_or("unknown property type")?;
        if self.format.usage(&section.kind, key).is_none() {
            return Err(format!("unexpected property '{key}'"));
        }
        let text = match value {
            Some(value) => (self.format.decode)(key, value)?,
            None if schema.kind == Kind::Boolean => "1".to_owned(),
            None => return Err("property is missing and it is not optional".to_owned()),
        };
        if schema.kind == Kind::Array {
            if let Some(item) = schema.items {
                check::text(item, &text, key)?;
            }
            let known = section
                .values
                .entry(key.to_owned())
                .or_insert_with(|| Value::List(Vec::new()));
            if let Value::List(items) = known {
                items.push(text);
            }
        } else {
            if section.get(key).is_some() {
                return Err("duplicate attribute".to_owned());
            }
            let Some(value) = (self.format.value)(&section.kind, key, schema, &text)? else {
                return Ok(());
            };
            section.set(key, value);
        }
        section.anchor(key);
        Ok(())
    }

    /// Ends the section that is being read.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open {
            mut section,
            lines,
            skipped,
        } = open;
        let usable = !skipped
            && match self.format.finish(&mut section) {
                Ok(()) => true,
                Err(error) => {
                    self.warn(Place::Section {
                        section: section.id.clone(),
                        reason: error.to_string(),
                    });
                    false
                }
            };
        if !usable {
            self.file.items.push(Item::Skipped { id: section.id, lines });
            return;
        }
        // Of two sections with one name the later counts, and its place.
        self.file
            .items
            .retain(|item| !matches!(item, Item::Section(known) if known.id == section.id));
        self.file.items.push(Item::Section(section));
    }
}

impl Section {
    fn keep(&mut self, line: &str, key: Option<&str>) {
        self.kept.push(Kept {
            line: line.to_owned(),
            before: None,
            key: key.map(str::to_owned),
        });
    }

    /// The lines kept so far that belong to no option yet stay before this one.
    fn anchor(&mut self, key: &str) {
        for kept in self.kept.iter_mut().rev().take_while(|kept| kept.before.is_none()) {
            kept.before = Some(key.to_owned());
        }
    }
}

/// Takes `  KEY VALUE` apart; blanks at the end are cut. A line without blanks before it is none.
fn property(line: &str) -> Option<(&str, Option<&str>)> {
    let rest = line.trim_start();
    if rest.len() == line.len() || rest.is_empty() {
        return None;
    }
    let rest = rest.trim_end();
    match rest.split_once(char::is_whitespace) {
        Some((key, value)) => Some((key, Some(value.trim_start()))),
        None => Some((rest, None)),
    }
}

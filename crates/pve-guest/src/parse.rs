//! Reading a config file (reference 06a §2).
//!
//! ```text
//! file     := section0 { "\n" header section }
//! header   := "[PENDING]" | "[special:NAME]" | "[" snapname "]" | "[" anything "]"
//! line     := "#" text | "description:" text | "snapstate: prepare|delete" | "args:" text | "delete:" list | key ":" value
//! ```
//!
//! A container's pending section is `[pve:pending]`; its lines `lxc.KEY: value` and `lxc.KEY = value` are handed on, and a
//! value that its key does not allow counts all the same (reference 07 §1.1).

use std::fmt;

use pve_cfs::GuestKind;
use pve_schema::ids::VmId;
use pve_schema::text;

use crate::config::{ENVIRONMENT, ENVIRONMENT_LINE, ForeignSection, GuestConfig, SectionName, pending_header};
use crate::pending::PendingDeletes;
use crate::rules::{KeyRules, RawLine};
use crate::section::{ForeignLine, Section};

/// Something in a config file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseWarning {
    /// Whose file it is.
    pub vmid: VmId,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// An unknown key, or a value that the key does not allow.
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        text: String,
    },
    /// No `key: value`.
    Line(String),
    /// `delete:` outside of the pending section, whose header this is.
    Delete(&'static str),
    /// A second `[PENDING]`.
    DuplicatePending,
    /// A second special section of that name.
    DuplicateSpecial(String),
    /// A second snapshot of that name.
    DuplicateSnapshot(String),
    /// A header that names no section.
    UnknownSection(String),
}

impl fmt::Display for ParseWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm {} - ", self.vmid)?;
        match &self.problem {
            Problem::Value { key, text } => write!(f, "unable to parse value of '{key}' - {text}"),
            Problem::Line(line) => write!(f, "unable to parse config: {line}"),
            Problem::Delete(header) => write!(f, "property 'delete' is only allowed in [{header}]"),
            Problem::DuplicatePending => f.write_str("duplicate section: pending"),
            Problem::DuplicateSpecial(name) => write!(f, "duplicate special section: {name}"),
            Problem::DuplicateSnapshot(name) => write!(f, "duplicate snapshot section: {name}"),
            Problem::UnknownSection(name) => write!(f, "skipping unknown section: '{name}'"),
        }
    }
}

/// A config, and what could not be used of its file.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The config.
    pub config: GuestConfig,
    /// What could not be used.
    pub warnings: Vec<ParseWarning>,
}

/// What a header line opens.
enum Header {
    Known(SectionName),
    Unknown(String),
}

struct Parser<'a> {
    rules: &'a dyn KeyRules,
    vmid: VmId,
    config: GuestConfig,
    warnings: Vec<ParseWarning>,
    /// The section that lines go to.
    name: SectionName,
    section: Section,
    deletes: PendingDeletes,
    description: Option<String>,
    /// The key of the last line that was used.
    last_key: String,
    /// Set while the lines belong to a section that is none of ours.
    foreign: Option<ForeignSection>,
}

pub(crate) fn parse(rules: &dyn KeyRules, vmid: VmId, text: &str) -> Parsed {
    let mut parser = Parser {
        rules,
        vmid,
        config: GuestConfig::new(rules.kind()),
        warnings: Vec::new(),
        name: SectionName::Main,
        section: Section::new(),
        deletes: PendingDeletes::new(),
        description: None,
        last_key: String::new(),
        foreign: None,
    };
    for line in text.split('\n') {
        parser.line(line);
    }
    parser.close_section();
    Parsed {
        config: parser.config,
        warnings: parser.warnings,
    }
}

impl Parser<'_> {
    fn line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if let Some(header) = header(self.rules.kind(), line) {
            self.open_section(header, line);
        } else if let Some(foreign) = &mut self.foreign {
            foreign.lines.push(line.to_owned());
        } else if let Some(text) = line.strip_prefix('#') {
            self.describe(&text::decode(text));
        } else {
            self.key_line(line);
        }
    }

    fn open_section(&mut self, header: Header, line: &str) {
        self.close_section();
        match header {
            Header::Known(name) => {
                if let Some(problem) = self.duplicate(&name) {
                    self.warn(problem);
                }
                self.name = name;
            }
            Header::Unknown(name) => {
                self.warn(Problem::UnknownSection(name));
                self.foreign = Some(ForeignSection {
                    after: self.name.clone(),
                    lines: vec![line.to_owned()],
                });
            }
        }
    }

    fn duplicate(&self, name: &SectionName) -> Option<Problem> {
        match name {
            SectionName::Main => None,
            SectionName::Pending => {
                let filled = !self.config.pending.is_blank() || !self.config.pending_deletes.is_empty();
                filled.then_some(Problem::DuplicatePending)
            }
            SectionName::Special(name) => self
                .config
                .special
                .contains_key(name)
                .then(|| Problem::DuplicateSpecial(name.clone())),
            SectionName::Snapshot(name) => self
                .config
                .snapshots
                .contains_key(name)
                .then(|| Problem::DuplicateSnapshot(name.clone())),
        }
    }

    /// Puts the finished section in its place; a later one of the same name replaces an earlier one.
    fn close_section(&mut self) {
        self.last_key.clear();
        if let Some(foreign) = self.foreign.take() {
            self.config.foreign.push(foreign);
            // The section before the foreign one is in its place already.
            return;
        }
        self.close_description();
        let section = std::mem::take(&mut self.section);
        match &self.name {
            SectionName::Main => self.config.main = section,
            SectionName::Pending => {
                self.config.pending = section;
                self.config.pending_deletes = std::mem::take(&mut self.deletes);
            }
            SectionName::Special(name) => {
                self.config.special.insert(name.clone(), section);
            }
            SectionName::Snapshot(name) => {
                self.config.snapshots.insert(name.clone(), section);
            }
        }
    }

    fn describe(&mut self, line: &str) {
        let text = self.description.get_or_insert_default();
        text.push_str(line);
        text.push('\n');
    }

    fn close_description(&mut self) {
        let Some(mut text) = self.description.take() else {
            return;
        };
        if self.rules.kind() == GuestKind::Qemu {
            text.truncate(text.trim_end().len());
        }
        // Only a pending description can be set to nothing.
        if !text.is_empty() || self.name == SectionName::Pending {
            self.section.set("description", text);
        }
    }

    fn key_line(&mut self, line: &str) {
        match self.rules.raw_line(line) {
            RawLine::No => {}
            RawLine::Pair(key, value) => return self.hand_on(key, value),
            RawLine::Refused => {
                self.keep(None, line);
                return self.warn(Problem::Line(line.to_owned()));
            }
        }
        let Some((key, value)) = split_key(self.rules.kind(), line) else {
            self.keep(None, line);
            return self.warn(Problem::Line(line.to_owned()));
        };
        match key {
            "description" => self.describe(&text::decode(value)),
            "delete" if self.name == SectionName::Pending => {
                self.deletes.extend(PendingDeletes::parse(value));
                key.clone_into(&mut self.last_key);
            }
            "delete" => {
                self.keep(Some(key), line);
                self.warn(Problem::Delete(pending_header(self.rules.kind())));
            }
            "args" if self.rules.kind() == GuestKind::Qemu => self.store(key, value),
            // What a container's main section says of that is said no more.
            "snapstate" if self.rules.kind() == GuestKind::Lxc && self.name == SectionName::Main => {}
            "snapstate" if matches!(value, "prepare" | "delete") => self.store(key, value),
            _ if matches!(self.name, SectionName::Special(_)) => self.store(key, value),
            _ => match self.rules.check(key, value) {
                Ok(checked) => self.store(&checked.key, &checked.value),
                Err(text) => {
                    match self.rules.kind() {
                        GuestKind::Qemu => self.keep(Some(key), line),
                        GuestKind::Lxc => self.store(key, value),
                    }
                    self.warn(Problem::Value {
                        key: key.to_owned(),
                        text,
                    });
                }
            },
        }
    }

    fn store(&mut self, key: &str, value: &str) {
        if key == ENVIRONMENT && self.rules.kind() == GuestKind::Lxc {
            self.section.set(key, variables(value));
        } else {
            self.section.set(key, value);
        }
        key.clone_into(&mut self.last_key);
    }

    fn hand_on(&mut self, key: String, value: String) {
        if key != ENVIRONMENT_LINE {
            return self.section.raw.push((key, value));
        }
        self.section.append(ENVIRONMENT, '\0', &variables(&value));
    }

    /// Keeps a line that is none of ours where it stands. One that names a key stands behind that key's value, if there is
    /// one: in front of it the value would replace it at the next reading.
    fn keep(&mut self, key: Option<&str>, line: &str) {
        let after = key.unwrap_or_default().max(&self.last_key).to_owned();
        self.section.foreign.push(ForeignLine {
            key: key.map(str::to_owned),
            after,
            text: line.to_owned(),
        });
    }

    fn warn(&mut self, problem: Problem) {
        self.warnings.push(ParseWarning {
            vmid: self.vmid,
            problem,
        });
    }
}

/// Reads `[name]`.
fn header(kind: GuestKind, line: &str) -> Option<Header> {
    let name = line.trim_end().strip_prefix('[')?.strip_suffix(']')?;
    let special = ["cloudinit", "fleecing"]
        .into_iter()
        .find(|special| name.eq_ignore_ascii_case(&format!("special:{special}")));
    Some(if name.eq_ignore_ascii_case(pending_header(kind)) {
        Header::Known(SectionName::Pending)
    } else if let Some(special) = special {
        Header::Known(SectionName::Special(special.to_owned()))
    } else if is_snapshot_name(name) {
        Header::Known(SectionName::Snapshot(name.to_owned()))
    } else {
        Header::Unknown(name.to_owned())
    })
}

/// `[A-Za-z][A-Za-z0-9_-]+`
fn is_snapshot_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Variables of a container's environment as they come back once they are written: each on a line of its own, whose value
/// has no white space around it.
fn variables(value: &str) -> String {
    let variables: Vec<&str> = value.split('\0').map(str::trim).collect();
    variables.join("\0")
}

/// Splits `key: value`; the key is `[a-z][a-z_-]*[0-9]*`, a container's without `-`, the value is not empty.
fn split_key(kind: GuestKind, line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let value = value.trim();
    let letters = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let valid = letters.starts_with(|c: char| c.is_ascii_lowercase())
        && letters
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'_' || (b == b'-' && kind == GuestKind::Qemu));
    (valid && !value.is_empty()).then_some((key, value))
}

//! A guest's config.

use std::collections::BTreeMap;

use pve_cfs::GuestKind;
use pve_schema::digest;
use pve_schema::ids::VmId;

use crate::error::GuestError;
use crate::parse::{self, Parsed};
use crate::pending::PendingDeletes;
use crate::print;
use crate::rules::KeyRules;
use crate::section::Section;

/// A container's key that holds its environment, joined by NUL; in the file it is a line per variable (reference 07 §1.1).
pub(crate) const ENVIRONMENT: &str = "env";
/// The key of those lines.
pub(crate) const ENVIRONMENT_LINE: &str = "lxc.environment.runtime";

/// The header of the section of pending changes.
pub(crate) fn pending_header(kind: GuestKind) -> &'static str {
    match kind {
        GuestKind::Qemu => "PENDING",
        GuestKind::Lxc => "pve:pending",
    }
}

/// The name that a section has in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SectionName {
    /// What stands before the first header.
    Main,
    /// `[PENDING]`
    Pending,
    /// `[special:NAME]`, in lower case.
    Special(String),
    /// `[NAME]`
    Snapshot(String),
}

/// A section that is none of ours, header included. It stays behind the section that it stood behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignSection {
    pub(crate) after: SectionName,
    pub(crate) lines: Vec<String>,
}

/// A guest's config: the main section, what is pending, and the snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestConfig {
    /// The guest's kind: the word in messages.
    pub kind: GuestKind,
    /// What the guest runs with, or will run with next.
    pub main: Section,
    /// Values that wait for the guest's next cold start.
    pub pending: Section,
    /// Deletions that wait for the guest's next cold start.
    pub pending_deletes: PendingDeletes,
    /// Sections of the suite's own, by lower-case name: `cloudinit`, `fleecing`.
    pub special: BTreeMap<String, Section>,
    /// Snapshots by name.
    pub snapshots: BTreeMap<String, Section>,
    pub(crate) foreign: Vec<ForeignSection>,
    digest: String,
}

impl GuestConfig {
    /// A config without any key.
    pub fn new(kind: GuestKind) -> Self {
        Self {
            kind,
            main: Section::new(),
            pending: Section::new(),
            pending_deletes: PendingDeletes::new(),
            special: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            foreign: Vec::new(),
            digest: digest::of(b""),
        }
    }

    /// Reads a config file. Nothing is refused: what cannot be used becomes a warning and stays in the file.
    pub fn parse(rules: &dyn KeyRules, vmid: VmId, raw: &[u8]) -> Parsed {
        let mut parsed = parse::parse(rules, vmid, &String::from_utf8_lossy(raw));
        parsed.config.digest = digest::of(raw);
        parsed
    }

    /// Reads a config that another cluster sent, where every warning is fatal.
    ///
    /// # Errors
    /// The first warning.
    pub fn parse_strict(rules: &dyn KeyRules, vmid: VmId, raw: &[u8]) -> Result<Self, GuestError> {
        let parsed = Self::parse(rules, vmid, raw);
        match parsed.warnings.into_iter().next() {
            Some(warning) => Err(GuestError::Strict(warning)),
            None => Ok(parsed.config),
        }
    }

    /// Refuses values that would print as more than one line: the rest of such a value would be read as a key of its
    /// own, whoever may set that key. A description is printed encoded.
    ///
    /// # Errors
    /// [`GuestError::LineBreak`]
    pub(crate) fn check_lines(&self) -> Result<(), GuestError> {
        let sections = [&self.main, &self.pending].into_iter();
        let mut keys = sections
            .chain(self.special.values())
            .chain(self.snapshots.values())
            .flat_map(Section::iter);
        let breaks = |value: &str| value.contains(['\n', '\r']);
        let raw = sections_raw(self).find(|(key, value)| breaks(key) || breaks(value));
        if let Some((key, _)) = raw {
            return Err(GuestError::LineBreak(key.clone()));
        }
        match keys.find(|(key, value)| *key != "description" && breaks(value)) {
            Some((key, _)) => Err(GuestError::LineBreak(key.to_owned())),
            None => Ok(()),
        }
    }

    /// The config file's text, in canonical order.
    pub fn print(&self) -> String {
        print::print(self)
    }

    /// SHA-1 of the file that this was read from, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Notes that the config now stands in the file as these bytes.
    pub fn set_digest_of(&mut self, raw: &[u8]) {
        self.digest = digest::of(raw);
    }

    /// Compares the digest that a caller sent, if any, with the file's.
    ///
    /// # Errors
    /// [`GuestError::DigestMismatch`]
    pub fn check_digest(&self, sent: Option<&str>) -> Result<(), GuestError> {
        match sent {
            Some(digest) if !digest.is_empty() && digest != self.digest => Err(GuestError::DigestMismatch),
            _ => Ok(()),
        }
    }

    /// The `lock` key: which long operation owns the guest.
    pub fn lock(&self) -> Option<&str> {
        self.main.get("lock")
    }

    /// Refuses when a long operation owns the guest.
    ///
    /// # Errors
    /// [`GuestError::Locked`]
    pub fn check_lock(&self) -> Result<(), GuestError> {
        match self.lock() {
            Some(lock) => Err(GuestError::Locked {
                kind: self.kind,
                lock: lock.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Takes the guest for a long operation.
    ///
    /// # Errors
    /// [`GuestError::Locked`] when another one has it.
    pub fn set_lock(&mut self, lock: &str) -> Result<(), GuestError> {
        self.check_lock()?;
        self.main.set("lock", lock);
        Ok(())
    }

    /// Gives the guest back.
    ///
    /// # Errors
    /// When it is not held by that operation (reference 03 §2.9).
    pub fn remove_lock(&mut self, lock: &str) -> Result<(), GuestError> {
        match self.lock() {
            Some(found) if found == lock => {
                self.main.remove("lock");
                Ok(())
            }
            Some(found) => Err(GuestError::OtherLock {
                found: found.to_owned(),
                wanted: lock.to_owned(),
            }),
            None => Err(GuestError::NoSuchLock(lock.to_owned())),
        }
    }

    /// A snapshot's section.
    ///
    /// # Errors
    /// [`GuestError::NoSnapshot`]
    pub fn snapshot(&self, name: &str) -> Result<&Section, GuestError> {
        self.snapshots
            .get(name)
            .ok_or_else(|| GuestError::NoSnapshot(name.to_owned()))
    }

    /// Whether this is a template.
    pub fn is_template(&self) -> bool {
        self.main.flag("template").unwrap_or(false)
    }

    /// Whether disks and guest are protected from removal.
    pub fn is_protected(&self) -> bool {
        self.main.flag("protection").unwrap_or(false)
    }
}

/// The pairs of all sections that are handed on as they are.
fn sections_raw(config: &GuestConfig) -> impl Iterator<Item = &(String, String)> {
    let sections = [&config.main, &config.pending].into_iter();
    sections
        .chain(config.snapshots.values())
        .flat_map(|section| section.raw.iter())
}

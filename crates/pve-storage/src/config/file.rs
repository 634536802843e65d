//! Reading and writing `storage.cfg` (reference 08 §1).
//!
//! Reading never fails because of what is inside: what cannot be understood is left out with a warning.

use std::fmt::Write;

use pve_cfs::{Cfs, digest};
use pve_schema::Site;
use pve_schema::ids::StorageId;
use pve_schema::schema::Kind;

use super::options::{self, SENSITIVE};
use super::sections::{self, RawSection};
use super::value::{self, is_legal_directory, option_kind};
use super::{StorageConfig, StorageKind};
use crate::error::StorageError;
use crate::kind::content_list;

/// The file below `/etc/pve`.
pub const STORAGE_CFG: &str = "storage.cfg";
/// The storage that is always there.
const LOCAL: &str = "local";
/// Where it is, below the site's root.
const LOCAL_PATH: &str = "/var/lib/vz";
/// What it holds when the file does not say.
const LOCAL_CONTENT: &str = "backup,images,iso,rootdir,snippets,vztmpl";

/// The configured storages, as one state of the file has them.
#[derive(Debug, Clone)]
pub struct StorageFile {
    storages: Vec<StorageConfig>,
    digest: String,
    warnings: Vec<String>,
    local_path: String,
}

impl StorageFile {
    /// Reads the file of a site; a missing one counts as empty. Warnings go to the log.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(cfs: &Cfs) -> Result<Self, StorageError> {
        let bytes = cfs.read(STORAGE_CFG)?.unwrap_or_default();
        let file = Self::parse(&bytes, cfs.site());
        for warning in file.warnings() {
            log::warn!("{warning}");
        }
        Ok(file)
    }

    /// Reads the content of the file.
    pub fn parse(bytes: &[u8], site: &Site) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut warnings = Vec::new();
        let raw = sections::split(&text, &mut |line, section, ignored| {
            let section = section.map(|id| format!(" (section '{id}')")).unwrap_or_default();
            warnings.push(format!(
                "file {STORAGE_CFG} line {line}{section} - ignore config line: {ignored}"
            ));
        });
        let mut file = Self {
            storages: Vec::new(),
            digest: digest(bytes),
            warnings,
            local_path: site.path(LOCAL_PATH).display().to_string(),
        };
        for section in raw {
            if let Some(config) = file.section(&section) {
                // The last of several takes the place of the others.
                file.storages.retain(|known| known.id != config.id);
                file.storages.push(config);
            }
        }
        file.fix_local();
        file
    }

    /// What was left out, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The digest of the file's bytes.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// All storages, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &StorageConfig> {
        self.storages.iter()
    }

    /// A storage.
    pub fn get(&self, id: &StorageId) -> Option<&StorageConfig> {
        self.storages.iter().find(|config| config.id == *id)
    }

    fn section(&mut self, raw: &RawSection) -> Option<StorageConfig> {
        let RawSection { id, line, .. } = raw;
        let skipped = |reason: String| format!("file {STORAGE_CFG} line {line} (skip section '{id}'): {reason}");
        match self.decoded(raw) {
            Ok(config) => Some(config),
            Err(reason) => {
                self.warnings.push(skipped(reason));
                None
            }
        }
    }

    /// A section with its values decoded.
    fn decoded(&mut self, raw: &RawSection) -> Result<StorageConfig, String> {
        let kind: StorageKind = raw.kind.to_lowercase().parse().map_err(|error| format!("{error}"))?;
        let id: StorageId = raw.id.parse().map_err(|error| format!("{error}"))?;
        let mut config = StorageConfig::new(id, kind);
        let mut seen = Vec::new();
        for (line, key, value) in &raw.properties {
            let decoded = if seen.contains(&key) {
                Err("duplicate attribute".to_owned())
            } else {
                decode_property(kind, key, value.as_deref())
            };
            match decoded {
                Ok(None) => {}
                Ok(Some(value)) => {
                    config.options.insert(key.clone(), value);
                }
                Err(reason) => self.warnings.push(format!(
                    "file {STORAGE_CFG} line {line} (section '{}') - unable to parse value of '{key}': {}",
                    raw.id,
                    reason.trim_end()
                )),
            }
            seen.push(key);
        }
        complete(&mut config);
        check_complete(&config, config.id.as_str() == LOCAL)?;
        Ok(config)
    }

    /// The storage `local` is always there, always at its own place, on every node.
    fn fix_local(&mut self) {
        let at = self.storages.iter().position(|config| config.id.as_str() == LOCAL);
        let own = |config: &&mut StorageConfig, path: &str| {
            let given = config.get("path").unwrap_or_default();
            config.kind == StorageKind::Dir && (given == LOCAL_PATH || given == path)
        };
        let known = at.and_then(|at| self.storages.get_mut(at));
        if let Some(config) = known.filter(|config| own(config, &self.local_path)) {
            config.options.remove("nodes");
            config.options.insert("path".to_owned(), self.local_path.clone());
            return;
        }
        if let Some(at) = at {
            self.storages.remove(at);
        }
        let Ok(id) = LOCAL.parse() else { return };
        let mut config = StorageConfig::new(id, StorageKind::Dir);
        for (option, value) in [
            ("path", self.local_path.as_str()),
            ("content", LOCAL_CONTENT),
            ("prune-backups", "keep-all=1"),
        ] {
            config.options.insert(option.to_owned(), value.to_owned());
        }
        self.storages.insert(0, config);
    }

    /// The content of the file. The place of `local` is written as it is without a root, so that the file stays the
    /// same when a site moves.
    ///
    /// # Errors
    /// A storage lacks what its type requires, or a value holds a line feed.
    pub fn to_text(&self) -> Result<String, String> {
        let mut text = String::new();
        for config in &self.storages {
            self.write_section(config, &mut text)?;
        }
        Ok(text)
    }

    fn write_section(&self, config: &StorageConfig, text: &mut String) -> Result<(), String> {
        let required = options::required(config.kind);
        let value = |option: &str| match config.get(option) {
            Some(path) if option == "path" && config.id.as_str() == LOCAL && path == self.local_path => {
                Some(LOCAL_PATH)
            }
            value => value.filter(|value| !value.is_empty()),
        };
        let mut lines = String::new();
        if config.is_disabled() {
            lines.push_str("\tdisable\n");
        }
        for option in &required {
            let value = value(option)
                .ok_or_else(|| format!("section '{}' - missing value for required option '{option}'", config.id))?;
            let _ = writeln!(lines, "\t{option} {value}");
        }
        let others = config.options().map(|(option, _)| option);
        for option in others.filter(|option| *option != "disable" && !required.contains(option)) {
            if let Some(value) = value(option) {
                let _ = writeln!(lines, "\t{option} {value}");
            }
        }
        if let Some((option, _)) = config.options().find(|(_, value)| value.contains(['\n', '\r'])) {
            return Err(format!("property '{option}' contains a line feed"));
        }
        let _ = writeln!(text, "{}: {}\n{lines}", config.kind, config.id);
        Ok(())
    }
}

/// A property of a section as it is kept.
fn decode_property(kind: StorageKind, key: &str, value: Option<&str>) -> Result<Option<String>, String> {
    if !options::is_known(key) {
        return Err("unknown property type".to_owned());
    }
    if options::use_of(kind, key).is_none() {
        return Err(format!("unexpected property '{key}'"));
    }
    let value = match value {
        Some(value) => value,
        None if option_kind(key) == Kind::Boolean => "1",
        None => return Err("property is missing and it is not optional".to_owned()),
    };
    value::decode(kind, key, value)
}

/// Fills in what a section need not say.
pub(super) fn complete(config: &mut StorageConfig) {
    if config.get("content").is_none() {
        let content = config.kind.default_content().iter().copied().collect();
        config.options.insert("content".to_owned(), content_list(&content));
    }
    let mounted = matches!(config.kind, StorageKind::Nfs | StorageKind::Cifs | StorageKind::Cephfs);
    if mounted && config.get("path").is_none() {
        let path = format!("/mnt/pve/{}", config.id);
        config.options.insert("path".to_owned(), path);
    }
}

/// Whether a section has what its type requires. The path of the built-in storage is not the user's.
///
/// # Errors
/// What is missing, or an illegal path.
pub(super) fn check_complete(config: &StorageConfig, built_in: bool) -> Result<(), String> {
    let missing = options::required(config.kind)
        .into_iter()
        .find(|option| config.get(option).is_none_or(str::is_empty));
    if let Some(option) = missing {
        return Err(format!("missing value for required option '{option}'"));
    }
    let directory = matches!(config.kind, StorageKind::Dir | StorageKind::Btrfs) && !built_in;
    match config.get("path").filter(|path| directory && !is_legal_directory(path)) {
        Some(path) => Err(format!("illegal path for directory storage: {path}")),
        None => Ok(()),
    }
}

/// Whether an option is a secret: it lives in a file of its own.
pub fn is_sensitive(option: &str) -> bool {
    SENSITIVE.contains(&option)
}

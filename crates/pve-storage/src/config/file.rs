//! Reading and writing `storage.cfg` (reference 08 §1).
//!
//! Reading never fails because of what is inside: what cannot be understood is passed over with a warning. A rewrite
//! keeps it, and comments: a section of a type that this build does not know is somebody's storage.

use std::fmt::Write;

use pve_cfs::Cfs;
use pve_schema::ids::StorageId;
use pve_schema::schema::Kind;
use pve_schema::{Site, digest};

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
    blocks: Vec<Block>,
    /// Comments after the last section.
    tail: Vec<String>,
    digest: String,
    warnings: Vec<String>,
    local_path: String,
}

/// A section with what surrounds it.
#[derive(Debug, Clone)]
struct Block {
    /// Its name, valid or not.
    id: String,
    /// Comments above it.
    above: Vec<String>,
    /// What it means; `None` if nobody can tell.
    config: Option<StorageConfig>,
    /// Without a meaning, all its lines; else comments, and properties that were passed over, by their keys.
    kept: Vec<(Option<String>, String)>,
}

impl Block {
    fn new(config: StorageConfig) -> Self {
        Self {
            id: config.id.to_string(),
            above: Vec::new(),
            config: Some(config),
            kept: Vec::new(),
        }
    }
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
            blocks: Vec::new(),
            tail: raw.tail,
            digest: digest::of(bytes),
            warnings,
            local_path: site.path(LOCAL_PATH).display().to_string(),
        };
        for section in raw.sections {
            // The last of several takes the place of the others.
            file.blocks.retain(|known| known.id != section.id);
            let block = file.block(section);
            file.blocks.push(block);
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
        self.blocks.iter().filter_map(|block| block.config.as_ref())
    }

    /// A storage.
    pub fn get(&self, id: &StorageId) -> Option<&StorageConfig> {
        self.iter().find(|config| config.id == *id)
    }

    /// Whether a name is taken, be it by a section that means nothing.
    pub(crate) fn is_taken(&self, id: &StorageId) -> bool {
        self.blocks.iter().any(|block| block.id == id.as_str())
    }

    /// Puts a storage in its place, or at the end.
    pub(crate) fn put(&mut self, config: StorageConfig) {
        match self.blocks.iter_mut().find(|block| block.id == config.id.as_str()) {
            Some(block) => block.config = Some(config),
            None => self.blocks.push(Block::new(config)),
        }
    }

    /// Takes a storage out.
    pub(crate) fn remove(&mut self, id: &StorageId) {
        self.blocks.retain(|block| block.id != id.as_str());
    }

    fn block(&mut self, raw: RawSection) -> Block {
        let mut kept = raw.comments.iter().map(|line| (None, line.clone())).collect();
        let config = match self.decoded(&raw, &mut kept) {
            Ok(config) => Some(config),
            Err(reason) => {
                let RawSection { id, line, .. } = &raw;
                let warning = format!("file {STORAGE_CFG} line {line} (skip section '{id}'): {reason}");
                self.warnings.push(warning);
                kept = raw.lines.into_iter().map(|line| (None, line)).collect();
                None
            }
        };
        Block {
            id: raw.id,
            above: raw.above,
            config,
            kept,
        }
    }

    /// A section with its values decoded; properties that are passed over are kept.
    fn decoded(&mut self, raw: &RawSection, kept: &mut Vec<(Option<String>, String)>) -> Result<StorageConfig, String> {
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
                Err(reason) => {
                    let value = value.as_deref().unwrap_or_default();
                    kept.push((Some(key.clone()), format!("\t{key} {value}").trim_end().to_owned()));
                    self.warnings.push(format!(
                        "file {STORAGE_CFG} line {line} (section '{}') - unable to parse value of '{key}': {}",
                        raw.id,
                        reason.trim_end()
                    ));
                }
            }
            seen.push(key);
        }
        complete(&mut config);
        check_complete(&config, config.id.as_str() == LOCAL)?;
        Ok(config)
    }

    /// The storage `local` is always there, always at its own place, on every node.
    fn fix_local(&mut self) {
        let path = self.local_path.clone();
        let own = |config: &&mut StorageConfig| {
            let given = config.get("path").unwrap_or_default();
            config.kind == StorageKind::Dir && (given == LOCAL_PATH || given == path)
        };
        let block = self.blocks.iter_mut().find(|block| block.id == LOCAL);
        if let Some(config) = block.and_then(|block| block.config.as_mut()).filter(own) {
            config.options.remove("nodes");
            config.options.insert("path".to_owned(), path);
            return;
        }
        self.blocks.retain(|block| block.id != LOCAL);
        let Ok(id) = LOCAL.parse() else { return };
        let mut config = StorageConfig::new(id, StorageKind::Dir);
        for (option, value) in [
            ("path", path.as_str()),
            ("content", LOCAL_CONTENT),
            ("prune-backups", "keep-all=1"),
        ] {
            config.options.insert(option.to_owned(), value.to_owned());
        }
        self.blocks.insert(0, Block::new(config));
    }

    /// The content of the file. The place of `local` is written as it is without a root, so that the file stays the
    /// same when a site moves.
    ///
    /// # Errors
    /// A storage lacks what its type requires, or a value holds a line feed.
    pub fn to_text(&self) -> Result<String, String> {
        let mut text = String::new();
        for block in &self.blocks {
            push_lines(&mut text, block.above.iter());
            match &block.config {
                Some(config) => self.write_section(config, &block.kept, &mut text)?,
                None => push_lines(&mut text, block.kept.iter().map(|(_, line)| line)),
            }
            text.push('\n');
        }
        push_lines(&mut text, self.tail.iter());
        Ok(text)
    }

    fn write_section(
        &self,
        config: &StorageConfig,
        kept: &[(Option<String>, String)],
        text: &mut String,
    ) -> Result<(), String> {
        if let Some((option, _)) = config.options().find(|(_, value)| value.contains(['\n', '\r'])) {
            return Err(format!("property '{option}' contains a line feed"));
        }
        let required = options::required(config.kind);
        let value = |option: &str| match config.get(option) {
            Some(path) if option == "path" && config.id.as_str() == LOCAL && path == self.local_path => {
                Some(LOCAL_PATH)
            }
            value => value.filter(|value| !value.is_empty()),
        };
        let _ = writeln!(text, "{}: {}", config.kind, config.id);
        let comments = kept.iter().filter(|(key, _)| key.is_none());
        push_lines(text, comments.map(|(_, line)| line));
        if config.is_disabled() {
            text.push_str("\tdisable\n");
        }
        for option in &required {
            let value = value(option)
                .ok_or_else(|| format!("section '{}' - missing value for required option '{option}'", config.id))?;
            let _ = writeln!(text, "\t{option} {value}");
        }
        let others = config.options().map(|(option, _)| option);
        for option in others.filter(|option| *option != "disable" && !required.contains(option)) {
            if let Some(value) = value(option) {
                let _ = writeln!(text, "\t{option} {value}");
            }
        }
        // What was set meanwhile takes the place of what was passed over.
        let unset = |key: &Option<String>| key.as_ref().is_some_and(|key| config.get(key).is_none());
        push_lines(text, kept.iter().filter(|(key, _)| unset(key)).map(|(_, line)| line));
        Ok(())
    }
}

fn push_lines<'a>(text: &mut String, lines: impl Iterator<Item = &'a String>) {
    for line in lines {
        text.push_str(line);
        text.push('\n');
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

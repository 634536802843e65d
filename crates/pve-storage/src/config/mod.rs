//! `storage.cfg`: what is configured (reference 08 §1 and §2).
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | which options a storage type has |
//! | [`edit`] | making, changing and removing storages |
//! | [`file`] | reading and writing the file |
//! | [`retention`] | the `prune-backups` option |

pub mod edit;
pub mod file;
pub mod options;
pub mod retention;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pve_schema::ids::{NodeName, StorageId};
use pve_schema::list;
use pve_schema::section_config::{Section, Value};

use crate::kind::{Content, ContentSet, ImageFormat, StorageKind};
use crate::path::default_content_dir;

pub use retention::Retention;
pub use value::option_kind;

pub use edit::ConfigError;
pub use file::StorageFile;

/// Protected backups per guest for users who may not allocate storages (reference 08 §2.3).
const PROTECTED_BACKUPS: i64 = 5;

/// One configured storage: its section, fixed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Its name.
    pub id: StorageId,
    /// Its type.
    pub kind: StorageKind,
    /// Its options as the file has them: booleans `0` and `1`, lists with commas.
    pub(crate) section: Section,
}

impl StorageConfig {
    /// The storage that a section is; `None` when its type or name is none of a storage.
    pub(crate) fn of(section: Section) -> Option<Self> {
        Some(Self {
            id: section.id.parse().ok()?,
            kind: section.kind.parse().ok()?,
            section,
        })
    }

    /// An option's text.
    pub fn get(&self, option: &str) -> Option<&str> {
        self.section.text(option)
    }

    /// All options, sorted by name.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.section.iter().filter_map(|(name, value)| match value {
            Value::Text(text) => Some((name, text.as_str())),
            // No option of a storage is an array.
            Value::List(_) => None,
        })
    }

    /// Whether a boolean option is on.
    pub fn flag(&self, option: &str) -> bool {
        self.section.is_set(option)
    }

    /// What it holds.
    pub fn content(&self) -> ContentSet {
        let words = list::split(self.get("content").unwrap_or_default());
        words.into_iter().filter_map(|word| word.parse().ok()).collect()
    }

    /// Whether it is configured to hold a kind of content.
    pub fn holds(&self, content: Content) -> bool {
        self.content().contains(&content)
    }

    /// The nodes that may use it; `None` is all of them.
    pub fn nodes(&self) -> Option<BTreeSet<NodeName>> {
        let nodes: BTreeSet<_> = list::split(self.get("nodes")?)
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        (!nodes.is_empty()).then_some(nodes)
    }

    /// Whether a node may use it, as far as its list of nodes goes.
    pub fn is_for_node(&self, node: &NodeName) -> bool {
        self.nodes().is_none_or(|nodes| nodes.contains(node))
    }

    /// Whether it is switched off.
    pub fn is_disabled(&self) -> bool {
        self.flag("disable")
    }

    /// Whether every node that may use it sees the same volumes.
    pub fn is_shared(&self) -> bool {
        self.kind.is_always_shared() || self.flag("shared")
    }

    /// The base directory of a file based storage.
    pub fn path(&self) -> Option<&Path> {
        self.get("path").map(Path::new)
    }

    /// The directory that holds a kind of content on a file based storage.
    pub fn content_dir(&self, content: Content) -> Option<PathBuf> {
        let default = default_content_dir(content)?;
        let below = self.content_dirs().remove(&content);
        Some(self.path()?.join(below.unwrap_or_else(|| PathBuf::from(default))))
    }

    /// The `content-dirs` option: content → directory below the base.
    fn content_dirs(&self) -> BTreeMap<Content, PathBuf> {
        let pairs = list::split(self.get("content-dirs").unwrap_or_default());
        let pair = |pair: &str| {
            let (content, directory) = pair.split_once('=')?;
            Some((content.parse().ok()?, PathBuf::from(directory)))
        };
        pairs.into_iter().filter_map(pair).collect()
    }

    /// Whether the base directory may be made.
    pub fn creates_base_path(&self) -> bool {
        let option = self.get("create-base-path").or_else(|| self.get("mkdir"));
        option != Some("0")
    }

    /// Whether the directories of the content types may be made.
    pub fn creates_subdirs(&self) -> bool {
        self.get("create-subdirs") != Some("0") && self.get("mkdir") != Some("0")
    }

    /// The directory that must be a mount point before the storage may be used.
    pub fn mount_point(&self) -> Option<PathBuf> {
        let option = self.get("is_mountpoint")?;
        match option.to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" => self.path().map(Path::to_path_buf),
            "0" | "off" | "no" | "false" => None,
            _ => Some(PathBuf::from(option)),
        }
    }

    /// The image formats that it knows, its own default first; empty when it holds no images.
    pub fn formats(&self) -> Vec<ImageFormat> {
        let mut formats = self.kind.formats().to_vec();
        if self.kind == StorageKind::Lvm && self.flag("snapshot-as-volume-chain") {
            formats.insert(0, ImageFormat::Qcow2);
        }
        let wanted = self.get("format").and_then(|format| format.parse().ok());
        if let Some(at) = wanted.and_then(|wanted| formats.iter().position(|format| *format == wanted)) {
            formats[..=at].rotate_right(1);
        }
        formats
    }

    /// The format that new images get when nobody asks for one.
    pub fn default_format(&self) -> Option<ImageFormat> {
        self.formats().first().copied()
    }

    /// Which backups are to be kept; `None` when the section does not say.
    pub fn retention(&self) -> Option<Retention> {
        self.get("prune-backups")?.parse().ok()
    }

    /// How many protected backups each guest may have; `None` is without limit. `unlimited` tells whether the caller is
    /// free of the limit that holds when none is configured (`Datastore.Allocate`).
    pub fn protected_backups(&self, unlimited: bool) -> Option<u64> {
        let configured = self.get("max-protected-backups").and_then(|text| text.parse().ok());
        let limit: i64 = match configured {
            Some(limit) => limit,
            None if unlimited => return None,
            None => PROTECTED_BACKUPS,
        };
        // -1 is without limit.
        u64::try_from(limit).ok()
    }
}

/// Sections for tests in one line.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Section, StorageConfig, StorageId};

    /// `TYPE: ID KEY=VALUE …`
    pub(crate) fn config(line: &str) -> StorageConfig {
        let (kind, rest) = line.split_once(": ").unwrap();
        let mut words = rest.split(' ');
        let id: Result<StorageId, _> = words.next().unwrap().parse();
        let mut section = Section::new(kind, id.map_or_else(|_| "aa".to_owned(), String::from));
        for word in words {
            let (option, value) = word.split_once('=').unwrap();
            section.set(option, value);
        }
        StorageConfig::of(section).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::config;
    use super::*;

    /// Reference 08, vector V4.
    #[test]
    fn mount_points() {
        for (value, expected) in [
            ("yes", Some("/p")),
            ("1", Some("/p")),
            ("no", None),
            ("0", None),
            ("/mnt/x", Some("/mnt/x")),
        ] {
            let config = config(&format!("dir: aa path=/p is_mountpoint={value}"));
            assert_eq!(config.mount_point(), expected.map(PathBuf::from), "{value}");
        }
    }

    #[test]
    fn formats_start_with_the_default() {
        use ImageFormat::{Qcow2, Raw, Subvol, Vmdk};
        assert_eq!(config("dir: aa path=/p").formats(), [Raw, Qcow2, Vmdk, Subvol]);
        assert_eq!(config("dir: aa format=vmdk").formats(), [Vmdk, Raw, Qcow2, Subvol]);
        assert_eq!(config("lvm: aa").default_format(), Some(Raw));
        assert_eq!(
            config("lvm: aa snapshot-as-volume-chain=1").default_format(),
            Some(Qcow2)
        );
        assert_eq!(config("pbs: aa").default_format(), None);
    }

    #[test]
    fn directories_are_made_unless_one_of_the_options_says_no() {
        let asked = |options: &str| {
            let config = config(&format!("dir: aa path=/p{options}"));
            (config.creates_base_path(), config.creates_subdirs())
        };
        assert_eq!(asked(""), (true, true));
        assert_eq!(asked(" mkdir=0"), (false, false));
        assert_eq!(asked(" mkdir=0 create-base-path=1"), (true, false));
        assert_eq!(asked(" create-subdirs=0"), (true, false));
    }

    #[test]
    fn protected_backups_have_a_limit_for_most_users() {
        let limits = |options: &str| {
            let config = config(&format!("dir: aa path=/p{options}"));
            (config.protected_backups(true), config.protected_backups(false))
        };
        assert_eq!(limits(""), (None, Some(5)));
        assert_eq!(limits(" max-protected-backups=-1"), (None, None));
        assert_eq!(limits(" max-protected-backups=2"), (Some(2), Some(2)));
    }
}

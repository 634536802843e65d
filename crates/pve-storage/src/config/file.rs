//! Reading and writing `storage.cfg` (reference 08 §1).
//!
//! Reading never fails because of what is inside: what cannot be understood is passed over with a warning. A rewrite
//! keeps it, and comments: a section of a type that this build does not know is somebody's storage.

use std::sync::LazyLock;

use pve_cfs::Cfs;
use pve_schema::Site;
use pve_schema::ids::StorageId;
use pve_schema::section_config::{Header, Section, SectionFile, SectionFormat, WriteError};

use super::value::{self, is_legal_directory};
use super::{StorageConfig, StorageKind, options};
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

/// What the file may hold.
pub(super) fn format() -> &'static SectionFormat {
    static FORMAT: LazyLock<SectionFormat> = LazyLock::new(|| {
        let mut format = SectionFormat::new(STORAGE_CFG);
        format.check_header = check_header;
        format.value = |kind, option, _, text| {
            let kind = kind.parse().map_err(|error| format!("{error}"))?;
            value::decode(kind, option, text)
        };
        format.complete = complete;
        format.table(&StorageKind::ALL, StorageKind::as_str, options::TABLE, value::schema)
    });
    &FORMAT
}

fn check_header(header: &mut Header) -> Result<(), String> {
    header.kind = header.kind.to_lowercase();
    let id: Result<StorageId, _> = header.id.parse();
    id.map(|_| ()).map_err(|error| error.to_string())
}

/// Fills in what a section need not say, and looks at the path of a directory. That of the built-in storage is not the
/// user's.
fn complete(section: &mut Section) -> Result<(), String> {
    let kind: StorageKind = section.kind.parse().map_err(|error| format!("{error}"))?;
    if section.get("content").is_none() {
        let content = kind.default_content().iter().copied().collect();
        section.set("content", content_list(&content));
    }
    let mounted = matches!(kind, StorageKind::Nfs | StorageKind::Cifs | StorageKind::Cephfs);
    if mounted && section.get("path").is_none() {
        let path = format!("/mnt/pve/{}", section.id);
        section.set("path", path);
    }
    let directory = matches!(kind, StorageKind::Dir | StorageKind::Btrfs) && section.id != LOCAL;
    let path = section
        .text("path")
        .filter(|path| directory && !is_legal_directory(path));
    path.map_or(Ok(()), |path| {
        Err(format!("illegal path for directory storage: {path}"))
    })
}

/// The configured storages, as one state of the file has them.
#[derive(Debug, Clone)]
pub struct StorageFile {
    file: SectionFile,
    /// What the sections mean, in their order.
    storages: Vec<StorageConfig>,
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
        let mut file = SectionFile::parse(format(), bytes);
        let local_path = site.path(LOCAL_PATH).display().to_string();
        fix_local(&mut file, &local_path);
        Self {
            storages: file.sections().cloned().filter_map(StorageConfig::of).collect(),
            warnings: file.warnings.iter().map(ToString::to_string).collect(),
            file,
            local_path,
        }
    }

    /// What was left out, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The digest of the file's bytes.
    pub fn digest(&self) -> &str {
        &self.file.digest
    }

    /// All storages, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &StorageConfig> {
        self.storages.iter()
    }

    /// A storage.
    pub fn get(&self, id: &StorageId) -> Option<&StorageConfig> {
        self.iter().find(|config| config.id == *id)
    }

    /// Whether a name is taken, be it by a section that means nothing.
    pub(crate) fn is_taken(&self, id: &StorageId) -> bool {
        self.file.is_taken(id.as_str())
    }

    /// Puts a storage in its place, or at the end.
    pub(crate) fn put(&mut self, config: StorageConfig) {
        self.file.insert(config.section.clone());
        match self.storages.iter_mut().find(|known| known.id == config.id) {
            Some(known) => *known = config,
            None => self.storages.push(config),
        }
    }

    /// Takes a storage out.
    pub(crate) fn remove(&mut self, id: &StorageId) {
        self.file.remove(id.as_str());
        self.storages.retain(|config| config.id != *id);
    }

    /// The content of the file. The place of `local` is written as it is without a root, so that the file stays the
    /// same when a site moves.
    ///
    /// # Errors
    /// A storage lacks what its type requires, or a value holds a line feed.
    pub fn to_text(&self) -> Result<String, WriteError> {
        let mut file = self.file.clone();
        let local = file.get_mut(LOCAL);
        if let Some(local) = local.filter(|local| local.text("path") == Some(&self.local_path)) {
            local.set("path", LOCAL_PATH);
        }
        file.write(format())
    }
}

/// The storage `local` is always there, always at its own place, on every node.
fn fix_local(file: &mut SectionFile, path: &str) {
    let own = |section: &&mut Section| {
        let given = section.text("path").unwrap_or_default();
        section.kind == StorageKind::Dir.as_str() && (given == LOCAL_PATH || given == path)
    };
    if let Some(local) = file.get_mut(LOCAL).filter(own) {
        local.remove("nodes");
        local.set("path", path);
        return;
    }
    let mut local = Section::new(StorageKind::Dir.as_str(), LOCAL);
    for (option, value) in [
        ("path", path),
        ("content", LOCAL_CONTENT),
        ("prune-backups", "keep-all=1"),
    ] {
        local.set(option, value);
    }
    file.insert_first(local);
}

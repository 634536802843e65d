//! What is on a storage (reference 08 §5.1, §6).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::attributes;
use crate::archive::{ArchiveInfo, ArchiveTime};
use crate::config::StorageConfig;
use crate::error::StorageError;
use crate::kind::{Content, ContentSet};
use crate::size::{SizeInfo, file_size_info};
use crate::volume::{is_backup_file, is_iso_file, is_template_file, parse_image_file_name, parse_volume_name};

/// One row of a content listing **client-visible**.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeEntry {
    /// The volume id.
    pub volid: String,
    /// What it is used for.
    pub content: Content,
    /// Its format: an image's, or one of the words of reference 08 §6.
    pub format: String,
    /// Bytes: what a guest sees of an image, else the file's.
    pub size: u64,
    /// The guest it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmid: Option<u32>,
    /// When it was made: Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctime: Option<i64>,
    /// Bytes on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// An image's backing file; an image without one says null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Option<String>>,
    /// The first line of a backup's notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// 1 for a protected backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<u8>,
    /// The type of a backup's guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtype: Option<&'static str>,
}

impl VolumeEntry {
    fn file(volid: String, content: Content, format: &str, file: &Entry) -> Self {
        Self {
            volid,
            content,
            format: format.to_owned(),
            size: file.meta.len(),
            vmid: None,
            ctime: Some(file.meta.ctime()),
            used: None,
            parent: None,
            notes: None,
            protected: None,
            subtype: None,
        }
    }
}

/// What is asked of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Only these kinds of content.
    pub(crate) content: ContentSet,
    /// Only what belongs to this guest.
    pub(crate) vmid: Option<u32>,
}

/// Lists a storage, sorted by lower-cased volume id. `is_container` tells the two kinds of guests apart.
pub(crate) fn list(
    config: &StorageConfig,
    wanted: &Wanted,
    is_container: &dyn Fn(u32) -> bool,
) -> Result<Vec<VolumeEntry>, StorageError> {
    let mut rows = Vec::new();
    for content in wanted.content.iter().copied() {
        match content {
            Content::Images | Content::Rootdir | Content::None => {}
            _ => rows.extend(files(config, content, wanted.vmid)?),
        }
    }
    if wanted.content.contains(&Content::Images) || wanted.content.contains(&Content::Rootdir) {
        let mut disks = images(config, wanted.vmid)?;
        for disk in &mut disks {
            if disk.vmid.is_some_and(is_container) {
                disk.content = Content::Rootdir;
            }
        }
        rows.extend(disks.into_iter().filter(|disk| wanted.content.contains(&disk.content)));
    }
    rows.sort_by_cached_key(|row| row.volid.to_lowercase());
    Ok(rows)
}

/// A file in a directory, symlinks followed.
struct Entry {
    name: String,
    meta: fs::Metadata,
}

/// What a directory holds; nothing if it is not there. Names that are no text, and links to nothing, are passed over.
fn entries(directory: &Path) -> Result<Vec<Entry>, StorageError> {
    let failed = StorageError::io("read", directory);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(&failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(&failed)?;
        let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), fs::metadata(entry.path())) else {
            continue;
        };
        found.push(Entry { name, meta });
    }
    Ok(found)
}

/// Lists everything that is no disk of a guest.
fn files(config: &StorageConfig, content: Content, vmid: Option<u32>) -> Result<Vec<VolumeEntry>, StorageError> {
    let Some(directory) = config.content_dir(content) else {
        return Ok(Vec::new());
    };
    let files = entries(&directory)?;
    let files = files.iter().filter(|file| file.meta.is_file());
    let rows = files.filter_map(|file| file_row(config, content, &directory, file));
    let belongs = |row: &VolumeEntry| match (content, vmid) {
        (_, None) => true,
        (Content::Iso | Content::Vztmpl, Some(_)) => false,
        (Content::Backup, wanted) => row.vmid == wanted,
        _ => true,
    };
    Ok(rows.filter(belongs).collect())
}

fn file_row(config: &StorageConfig, content: Content, directory: &Path, file: &Entry) -> Option<VolumeEntry> {
    let name = &file.name;
    let volid = format!("{}:{content}/{name}", config.id);
    match content {
        Content::Iso if is_iso_file(name) => Some(VolumeEntry::file(volid, content, "iso", file)),
        Content::Vztmpl if is_template_file(name) => {
            let format = match name.rsplit_once('.') {
                Some((_, "tar")) | None => "tar".to_owned(),
                Some((_, compression)) => format!("t{compression}"),
            };
            Some(VolumeEntry::file(volid, content, &format, file))
        }
        Content::Backup if is_backup_file(name) => backup_row(volid, directory, file),
        // A name that no volume id can hold cannot be asked for.
        Content::Snippets if !name.contains('\n') => Some(VolumeEntry::file(volid, content, "snippet", file)),
        Content::Import => {
            // Blanks are taken in volume ids but not listed.
            let listed = !name.contains(' ');
            let volume = parse_volume_name(config.kind, &format!("import/{name}")).ok()?;
            let format = volume.format.filter(|_| listed)?;
            Some(VolumeEntry::file(volid, content, &format.to_string(), file))
        }
        _ => None,
    }
}

fn backup_row(volid: String, directory: &Path, file: &Entry) -> Option<VolumeEntry> {
    let info = ArchiveInfo::of_listed(&file.name).ok()?;
    let format = match info.compression {
        _ if file.name.ends_with(".tgz") => "tgz".to_owned(),
        Some(compression) => format!("{}.{compression}", info.format),
        None => info.format.to_owned(),
    };
    let archive = directory.join(&file.name);
    let notes = attributes::notes(&archive).unwrap_or_default();
    let mut row = VolumeEntry::file(volid, Content::Backup, &format, file);
    row.subtype = Some(info.guest_type);
    row.vmid = info.vmid.filter(|vmid| *vmid >= 100);
    row.ctime = info.time.and_then(ArchiveTime::unix_seconds).or(row.ctime);
    row.notes = notes.lines().next().map(str::to_owned);
    row.protected = attributes::is_protected(&archive).then_some(1);
    Some(row)
}

/// Lists the disks of guests; all of them count as images here.
pub(crate) fn images(config: &StorageConfig, vmid: Option<u32>) -> Result<Vec<VolumeEntry>, StorageError> {
    let Some(directory) = config.content_dir(Content::Images) else {
        return Ok(Vec::new());
    };
    let mut rows = Vec::new();
    for guest in entries(&directory)? {
        let owner: Option<u32> = guest.name.parse().ok();
        // `007` would be listed under a name that means another directory.
        let owner = owner.filter(|owner| guest.meta.is_dir() && owner.to_string() == guest.name);
        let Some(owner) = owner.filter(|owner| vmid.is_none_or(|vmid| vmid == *owner)) else {
            continue;
        };
        let below = directory.join(&guest.name);
        for disk in entries(&below)? {
            rows.extend(image_row(config, owner, &below.join(&disk.name), &disk.name));
        }
    }
    Ok(rows)
}

fn image_row(config: &StorageConfig, owner: u32, path: &Path, name: &str) -> Option<VolumeEntry> {
    let format = parse_image_file_name(name).ok()?;
    if !config.formats().contains(&format) {
        return None;
    }
    let info = file_size_info(path, format).ok()??;
    let prefix = base_prefix(&info).map(|base| format!("{base}/")).unwrap_or_default();
    Some(VolumeEntry {
        volid: format!("{}:{prefix}{owner}/{name}", config.id),
        content: Content::Images,
        format: info.format,
        size: info.size,
        vmid: Some(owner),
        ctime: Some(info.ctime),
        used: Some(info.used),
        parent: Some(info.parent),
        notes: None,
        protected: None,
        subtype: None,
    })
}

/// `OWNER/NAME` of a linked clone's base volume: its backing file is `../OWNER/NAME`.
pub(crate) fn base_prefix(info: &SizeInfo) -> Option<&str> {
    let base = info.parent.as_deref()?.strip_prefix("../")?;
    let (owner, name) = base.split_once('/')?;
    let valid = owner.parse::<u32>().is_ok() && parse_image_file_name(name).is_ok();
    valid.then_some(base)
}

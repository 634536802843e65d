//! Disks in files: make, remove, resize, snapshots.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pve_daemon::command::Command;

use super::sync_directory_of;
use crate::config::StorageConfig;
use crate::error::StorageError;
use crate::kind::{Content, ImageFormat};
use crate::path::volume_path;
use crate::qemu_img::{self, SnapshotAction};
use crate::volume::{VolumeName, next_disk_name, parse_image_file_name};

/// Disks and their directories are for root alone to write and for its group to read (umask 0037).
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o740;
/// A container's directory is entered by the container.
const SUBVOLUME_MODE: u32 = 0o755;
/// To clear a file attribute takes one system call.
const CHATTR_DEADLINE: Duration = Duration::from_secs(10);

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewImage<'a> {
    /// For which guest.
    pub(crate) vmid: u32,
    /// In which format.
    pub(crate) format: ImageFormat,
    /// Its file name; the next free one if none is given.
    pub(crate) name: Option<&'a str>,
    /// How large, in KiB.
    pub(crate) size_kib: u64,
}

/// Makes a disk and returns its volume name.
pub(crate) fn alloc(config: &StorageConfig, new: NewImage<'_>) -> Result<String, StorageError> {
    let NewImage { vmid, format, .. } = new;
    if !config.formats().contains(&format) {
        return Err(StorageError::UnsupportedFormat {
            storage: config.id.clone(),
            format,
        });
    }
    if let Some(name) = new.name {
        check_name(name, format)?;
    }
    let images = config.content_dir(Content::Images).unwrap_or_default();
    let directory = images.join(vmid.to_string());
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY_MODE);
    builder
        .create(&directory)
        .map_err(StorageError::io("create", &directory))?;
    let name = match new.name {
        Some(name) => name.to_owned(),
        None => {
            let used = file_names(&directory)?;
            let used = used.iter().map(String::as_str);
            next_disk_name(config.id.as_str(), config.kind, vmid, format, used)?
        }
    };
    let path = directory.join(&name);
    let made = match format {
        ImageFormat::Subvol => create_subvolume(&path, new.size_kib),
        _ => create_file(config, &path, new),
    };
    if made.is_err() {
        // It was made for this disk unless there are others in it.
        let _ = fs::remove_dir(&directory);
    }
    made?;
    sync_directory_of(&path)?;
    Ok(format!("{vmid}/{name}"))
}

fn check_name(name: &str, format: ImageFormat) -> Result<(), StorageError> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if extension != format.as_str() {
        return Err(StorageError::WrongExtension {
            name: name.to_owned(),
            extension: extension.to_owned(),
            format,
        });
    }
    parse_image_file_name(name)?;
    Ok(())
}

fn create_subvolume(path: &Path, size_kib: u64) -> Result<(), StorageError> {
    if size_kib != 0 {
        return Err(StorageError::SubvolQuota);
    }
    match DirBuilder::new().mode(SUBVOLUME_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(StorageError::ImageExists(path.to_owned())),
        made => made.map_err(StorageError::io("create", path)),
    }
}

/// The file is ours before `qemu-img` fills it: nobody else's is overwritten, and nobody else may read what is in it.
fn create_file(config: &StorageConfig, path: &Path, new: NewImage<'_>) -> Result<(), StorageError> {
    let claimed = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match claimed {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(StorageError::ImageExists(path.to_owned()));
        }
        claimed => claimed.map_err(StorageError::io("create", path))?,
    };
    let command = qemu_img::create(path, new.format, new.size_kib, config.get("preallocation"));
    if let Err(error) = command.run() {
        let _ = fs::remove_file(path);
        return Err(StorageError::Create(error.detail()));
    }
    Ok(())
}

/// The names in a directory that are text.
fn file_names(directory: &Path) -> Result<Vec<String>, StorageError> {
    let failed = StorageError::io("read", directory);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(&failed)? {
        let name = entry.map_err(&failed)?.file_name();
        names.extend(name.into_string());
    }
    Ok(names)
}

/// Removes a volume of any content; one that is not there is only worth a warning.
pub(crate) fn free(config: &StorageConfig, volume: &VolumeName) -> Result<(), StorageError> {
    let path = volume_path(config, volume, None)?;
    if volume.is_base {
        // Only file systems that know the attribute have set it.
        let _ = Command::new("chattr", CHATTR_DEADLINE).arg("-i").arg(&path).run();
    }
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log::warn!("disk image '{}' does not exist", path.display());
            return Ok(());
        }
        Err(error) => return Err(StorageError::io("remove", &path)(error)),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
    }
    .map_err(StorageError::io("remove", &path))?;
    for companion in companions(config, volume, &path) {
        match fs::remove_file(&companion) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("unable to remove '{}' - {error}", companion.display());
            }
            _ => {}
        }
    }
    sync_directory_of(&path)?;
    if let (Content::Images, Some(directory)) = (volume.content, path.parent()) {
        // It stays while other disks of the guest are in it.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

/// Files that go when a volume goes: a backup's log and notes, the snapshots of a volume chain.
fn companions(config: &StorageConfig, volume: &VolumeName, path: &Path) -> Vec<PathBuf> {
    match volume.content {
        Content::Backup => {
            let info = crate::archive::ArchiveInfo::of_listed(&volume.name).ok();
            let names = info.map(|info| [Some(info.notes_file), info.log_file]);
            let names = names.into_iter().flatten().flatten();
            names.map(|name| path.with_file_name(name)).collect()
        }
        Content::Images if config.flag("snapshot-as-volume-chain") => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            let suffix = format!("-{}", volume.name);
            let is_snapshot = |name: &String| name.starts_with("snap-") && name.ends_with(&suffix);
            let names = file_names(directory)
                .unwrap_or_default()
                .into_iter()
                .filter(is_snapshot);
            names.map(|name| directory.join(name)).collect()
        }
        _ => Vec::new(),
    }
}

/// Sets a disk's size; `bytes` are rounded up to whole KiB. For guests that do not run: a running one is told by QMP.
pub(crate) fn resize(config: &StorageConfig, volume: &VolumeName, bytes: u64) -> Result<(), StorageError> {
    const KIB: u64 = 1024;
    let format = image_format(volume);
    let format = format.filter(|format| [ImageFormat::Raw, ImageFormat::Qcow2].contains(format));
    let format = format.ok_or(StorageError::Resize)?;
    let path = volume_path(config, volume, None)?;
    let bytes = bytes.div_ceil(KIB).saturating_mul(KIB);
    qemu_img::resize(&path, format, bytes, config.get("preallocation")).run()?;
    Ok(())
}

/// Takes, applies or removes a snapshot inside a disk's file. For guests that do not run.
pub(crate) fn snapshot(
    config: &StorageConfig,
    volume: &VolumeName,
    action: SnapshotAction,
    name: &str,
) -> Result<(), StorageError> {
    if image_format(volume) != Some(ImageFormat::Qcow2) {
        return Err(StorageError::Snapshot);
    }
    if config.flag("snapshot-as-volume-chain") {
        return Err(StorageError::NotYet("a snapshot as a volume chain"));
    }
    let path = volume_path(config, volume, None)?;
    qemu_img::snapshot(&path, action, name).run()?;
    Ok(())
}

fn image_format(volume: &VolumeName) -> Option<ImageFormat> {
    if volume.content != Content::Images {
        return None;
    }
    volume.format.as_ref().and_then(|format| format.image())
}

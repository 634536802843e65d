//! Where the contents of a VM's drives are, as QEMU is to read them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use pve_storage::{StorageError, Storages};

use crate::command::{Backing, BlockDriver};
use crate::config::{Drive, DriveKey, Source, VmConfig};

/// The node's CD-ROM drive.
const HOST_CDROM: &str = "/dev/cdrom";

/// The backing of each drive that has one.
///
/// # Errors
/// A volume without a path.
pub(crate) fn of(storages: &Storages, vm: VmConfig<'_>) -> Result<BTreeMap<DriveKey, Backing>, StorageError> {
    let mut backings = BTreeMap::new();
    for drive in vm.drives() {
        if let Some(backing) = backing(storages, &drive)? {
            backings.insert(drive.key, backing);
        }
    }
    Ok(backings)
}

/// The backing of one drive, if it has one.
///
/// # Errors
/// A volume without a path.
pub(crate) fn backing(storages: &Storages, drive: &Drive) -> Result<Option<Backing>, StorageError> {
    Ok(match drive.source() {
        Source::Empty | Source::Other(_) => None,
        Source::HostCdrom => Some(Backing {
            driver: BlockDriver::HostCdrom(HOST_CDROM.into()),
            ..Backing::file("", "raw")
        }),
        Source::Path(path) => Some(at(Path::new(&path), drive.options.get("format").unwrap_or("raw"))),
        Source::Volume(volume) => {
            let (path, format) = storages.path_and_format(&volume)?;
            let format = format.as_ref().and_then(pve_storage::volume::VolumeFormat::image);
            Some(at(&path, format.map_or("raw", pve_storage::ImageFormat::as_str)))
        }
    })
}

/// A file or a block device, whichever is there.
fn at(path: &Path, format: &str) -> Backing {
    let is_device = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
    if is_device {
        Backing::device(path)
    } else {
        Backing::file(path, format)
    }
}

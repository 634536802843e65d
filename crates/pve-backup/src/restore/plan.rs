//! Which drive goes to which new volume.

use std::collections::{BTreeMap, BTreeSet};

use pve_access::UserConfig;
use pve_qemu::config::{Bus, DriveKey};
use pve_qemu::restored::Archived;
use pve_schema::ids::{AuthId, StorageId, VmId, VolumeId};
use pve_storage::{Content, ImageFormat, StorageConfig, StorageKind, Storages};

use super::error::RestoreError;
use crate::vma::{Device, DriveMap, Header};

/// What a cloud-init drive takes, in KiB.
const CLOUDINIT_KIB: u64 = 4096;
/// Where drives go that come from nowhere.
const DEFAULT_STORAGE: &str = "local";

/// A volume that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) key: DriveKey,
    pub(super) storage: StorageId,
    pub(super) format: ImageFormat,
    /// Its file or device name, if it has to have that one.
    pub(super) name: Option<String>,
    pub(super) size_kib: u64,
    /// What it is filled with; a cloud-init drive is filled at the next start.
    pub(super) device: Option<Device>,
    /// Whether it has to be zeroed where the archive is zero.
    pub(super) write_zeros: bool,
}

/// All volumes that are to be made, in the order of the keys as text.
pub(super) fn volumes(
    storages: &Storages,
    vmid: VmId,
    header: &Header,
    config: &str,
    archived: &Archived,
    wanted: Option<&StorageId>,
) -> Result<Vec<Planned>, RestoreError> {
    let mut planned = BTreeMap::new();
    let mut devices = BTreeSet::new();
    for (map, device) in DriveMap::of_config(config, header)? {
        let disk = disk(storages, &map, device, wanted)?;
        if !devices.insert(device.id) || planned.insert(map.drive.clone(), disk).is_some() {
            return Err(RestoreError::Ambiguous(map.drive));
        }
    }
    for drive in archived.drives().iter().filter(|drive| drive.is_cloudinit()) {
        let key = drive.key.to_string();
        let can = matches!(drive.key.bus, Bus::Ide | Bus::Sata | Bus::Scsi);
        if let Some(volume) = drive.volume().filter(|_| can && !planned.contains_key(&key)) {
            planned.insert(key, cloudinit(storages, vmid, drive.key, &volume, wanted)?);
        }
    }
    Ok(planned.into_values().collect())
}

fn disk(
    storages: &Storages,
    map: &DriveMap,
    device: &Device,
    wanted: Option<&StorageId>,
) -> Result<Planned, RestoreError> {
    let key: DriveKey = map
        .drive
        .parse()
        .map_err(|_| RestoreError::UnknownDrive(map.drive.clone()))?;
    if key.bus == Bus::Unused {
        return Err(RestoreError::UnknownDrive(map.drive.clone()));
    }
    let recorded = map.storage.as_deref().unwrap_or(DEFAULT_STORAGE);
    let storage = match wanted {
        Some(storage) => storage.clone(),
        None => recorded
            .parse()
            .map_err(|_| RestoreError::StorageName(recorded.to_owned()))?,
    };
    let config = storages.check_enabled(&storage, None)?;
    let format = map.format.as_deref().and_then(|format| format.parse().ok());
    Ok(Planned {
        key,
        format: supported(storages, config, format)?,
        write_zeros: !reads_as_zero(config.kind),
        storage,
        name: None,
        size_kib: device.size.div_ceil(1024),
        device: Some(device.clone()),
    })
}

fn cloudinit(
    storages: &Storages,
    vmid: VmId,
    key: DriveKey,
    old: &VolumeId,
    wanted: Option<&StorageId>,
) -> Result<Planned, RestoreError> {
    let storage = wanted.unwrap_or(&old.storage).clone();
    let config = storages.check_enabled(&storage, None)?;
    let format = ImageFormat::of_file_name(&old.name).map(|(_, format)| format);
    let format = supported(storages, config, format)?;
    let name = if config.kind.is_file_based() {
        format!("vm-{vmid}-cloudinit.{}", format.as_str())
    } else {
        format!("vm-{vmid}-cloudinit")
    };
    Ok(Planned {
        key,
        storage,
        format,
        name: Some(name),
        size_kib: CLOUDINIT_KIB,
        device: None,
        write_zeros: false,
    })
}

/// The format if the storage has it, else the storage's own.
fn supported(
    storages: &Storages,
    config: &StorageConfig,
    format: Option<ImageFormat>,
) -> Result<ImageFormat, RestoreError> {
    match format.filter(|format| *format != ImageFormat::Subvol && config.formats().contains(format)) {
        Some(format) => Ok(format),
        None => Ok(storages.default_format(&config.id)?),
    }
}

/// Whether a new volume of a storage reads as zero: files do, and what is allotted when it is written. A thick logical
/// volume, or one that exists already, holds what was there before.
fn reads_as_zero(kind: StorageKind) -> bool {
    use StorageKind::{Btrfs, Cephfs, Cifs, Dir, Lvmthin, Nfs, Rbd, Zfs, Zfspool};
    matches!(kind, Btrfs | Cephfs | Cifs | Dir | Lvmthin | Nfs | Rbd | Zfs | Zfspool)
}

/// Refuses storages that hold no disks, or that the caller may not use.
pub(super) fn check_storages(
    storages: &Storages,
    planned: &[Planned],
    rights: &UserConfig,
    who: &AuthId,
) -> Result<(), RestoreError> {
    let used: BTreeSet<&StorageId> = planned.iter().map(|volume| &volume.storage).collect();
    for storage in used {
        rights.require_all(who, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
        if !storages.supports(storage, Content::Images)? {
            return Err(RestoreError::NoImages(storage.clone()));
        }
    }
    Ok(())
}

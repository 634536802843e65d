//! A config that tells of the VM's volumes as they are (reference 05 §15 step 8).

use std::collections::BTreeSet;

use pve_schema::Context;
use pve_schema::ids::{VmId, VolumeId};
use pve_storage::{Content, Storages};

use crate::config::{Drive, DriveKey, VmConfig, format_size};
use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::update::{UpdateError, volumes};

/// Records the sizes of disks as they are, and lists volumes of the VM that nothing refers to as unused.
///
/// # Errors
/// The config cannot be read or written, or there is no number left for a volume. A storage that cannot be looked at is
/// a warning.
pub fn rescan(context: &Context, vmid: VmId, journal: &mut dyn Journal) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let storages = Storages::open(context)?;
    let mut config = files::load(context, vmid)?;
    let before = config.print();
    for mut drive in VmConfig::new(&config.main).drives() {
        if let Some(size) = actual_size(&storages, vmid, &drive) {
            let new = format_size(size);
            let old = drive.options.get("size").unwrap_or("unknown").to_owned();
            journal.log(&format!(
                "VM {vmid} ({}): size of disk '{}' updated from {old} to {new}",
                drive.key, drive.file
            ));
            drive.set_size(size);
            config.main.set(drive.key.to_string(), drive.to_string());
        }
    }
    for volume in on_storages(&storages, vmid, journal) {
        let text = volume.to_string();
        if volumes::is_used(&config, &text, None) || is_internal(&volume) {
            continue;
        }
        let mut keys = DriveKey::all_unused().map(|key| key.to_string());
        let key = keys
            .find(|key| !config.main.has(key))
            .ok_or(UpdateError::NoUnusedSlot)?;
        journal.log(&format!("add unreferenced volume '{volume}' as '{key}' to config"));
        config.main.set(key, text);
    }
    if config.print() == before {
        return Ok(());
    }
    Ok(files::save(context, vmid, &mut config)?)
}

/// The size of a disk, where the config has another one.
fn actual_size(storages: &Storages, vmid: VmId, drive: &Drive) -> Option<u64> {
    let volume = drive
        .volume()
        .filter(|volume| volumes::is_owned(storages, vmid, volume))?;
    let size = storages.size_info(&volume).ok()?.size;
    (drive.size() != Some(size)).then_some(size)
}

/// All disks of the VM.
fn on_storages(storages: &Storages, vmid: VmId, journal: &mut dyn Journal) -> BTreeSet<VolumeId> {
    let mut found = BTreeSet::new();
    for storage in storages.iter() {
        if !storage.holds(Content::Images) || storages.check_enabled(&storage.id, None).is_err() {
            continue;
        }
        match storages.list(&storage.id, Some(Content::Images), Some(vmid)) {
            Ok(entries) => found.extend(entries.iter().filter_map(|entry| entry.volid.parse::<VolumeId>().ok())),
            Err(error) => journal.warn(&format!("unable to list volumes of storage '{}' - {error}", storage.id)),
        }
    }
    found.retain(|volume| volumes::is_owned(storages, vmid, volume));
    found
}

/// Volumes that come and go with the VM's life, and are never offered as disks.
fn is_internal(volume: &VolumeId) -> bool {
    let name = volume.name.rsplit('/').next().unwrap_or_default();
    let what = name
        .trim_start_matches("vm-")
        .trim_start_matches(|c: char| c.is_ascii_digit());
    what.starts_with("-state-") || what.starts_with("-cloudinit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_cloud_init_data_are_no_disks() {
        for (name, internal) in [
            ("105/vm-105-disk-0.raw", false),
            ("105/vm-105-my-state-disk.raw", false),
            ("105/vm-105-state-s1.raw", true),
            ("vm-105-state-s1", true),
            ("105/vm-105-cloudinit.qcow2", true),
        ] {
            assert_eq!(is_internal(&format!("st:{name}").parse().unwrap()), internal, "{name}");
        }
    }
}

//! The volumes that a VM uses and owns.

use std::collections::BTreeSet;

use pve_guest::{GuestConfig, Section};
use pve_schema::ids::{VmId, VolumeId};
use pve_storage::{Content, StorageError, Storages};

use crate::config::VmConfig;

/// The volumes that a start needs, each once, in the order of drives.
pub(crate) fn used(vm: VmConfig<'_>) -> Vec<VolumeId> {
    let mut seen = BTreeSet::new();
    let volumes = vm.drives().into_iter().filter_map(|drive| drive.volume());
    volumes.filter(|volume| seen.insert(volume.clone())).collect()
}

/// Makes volumes usable for a start.
///
/// # Errors
/// A storage that may not hold what is used of it, or what is missing.
pub(crate) fn activate(storages: &Storages, volumes: &[VolumeId]) -> Result<(), StorageError> {
    for volume in volumes {
        let (config, name) = storages.parse(volume)?;
        if matches!(name.content, Content::Images | Content::Iso) && !config.holds(name.content) {
            return Err(StorageError::NoContent {
                storage: config.id.clone(),
                content: name.content,
            });
        }
    }
    storages.activate_volumes(volumes)
}

/// The volumes that go with the VM: disks in use, unused, pending, of snapshots, and saved states – as far as their
/// names say that they are this VM's.
pub(crate) fn owned(storages: &Storages, vmid: VmId, config: &GuestConfig) -> BTreeSet<VolumeId> {
    let sections = [&config.main, &config.pending]
        .into_iter()
        .chain(config.snapshots.values());
    sections
        .flat_map(named)
        .filter(|volume| is_owned(storages, vmid, volume))
        .collect()
}

/// All volumes that a section names.
fn named(section: &Section) -> Vec<VolumeId> {
    let vm = VmConfig::new(section);
    let drives = vm.drives().into_iter().chain(vm.unused());
    let state = vm.get("vmstate").and_then(|text| text.parse().ok());
    drives.filter_map(|drive| drive.volume()).chain(state).collect()
}

fn is_owned(storages: &Storages, vmid: VmId, volume: &VolumeId) -> bool {
    storages
        .parse(volume)
        .is_ok_and(|(_, name)| name.content == Content::Images && name.owner == Some(vmid.get()))
}

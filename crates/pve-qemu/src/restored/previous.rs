//! What becomes of the volumes of a VM that is overwritten (reference 05 §15 step 4).

use std::collections::BTreeSet;

use pve_guest::{GuestConfig, GuestKind};
use pve_schema::Context;
use pve_schema::ids::{VmId, VolumeId};
use pve_storage::Storages;

use super::LOCK;
use crate::config::{DriveKey, VmConfig};
use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::update::UpdateError;
use crate::volumes::owned;

/// The memory of a VM that is nothing yet, in MiB.
const PLACE_HOLDER_MEMORY: &str = "128";

/// Makes room: the config becomes a place-holder, the volumes of drives that are restored go, the others become unused
/// ones without snapshots. What the new config will still refer to, `referenced`, stays.
///
/// # Errors
/// The VM is not the restore's any more, has too many volumes, or its config cannot be written. What cannot be freed is
/// a warning.
pub fn give_way(
    context: &Context,
    vmid: VmId,
    storages: &Storages,
    restored: &BTreeSet<DriveKey>,
    referenced: &BTreeSet<VolumeId>,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let mut previous = files::load(context, vmid)?;
    previous.remove_lock(LOCK)?;
    let fate = Fate::of(storages, vmid, &previous, restored, referenced);
    let mut config = GuestConfig::new(GuestKind::Qemu);
    config.set_lock(LOCK)?;
    config.main.set("memory", PLACE_HOLDER_MEMORY);
    let mut keys = DriveKey::all_unused();
    for volume in &fate.kept {
        let key = keys.next().ok_or(UpdateError::NoUnusedSlot)?;
        config.main.set(key.to_string(), volume.to_string());
    }
    files::save(context, vmid, &mut config)?;
    for volume in &fate.freed {
        match storages.free(volume) {
            Ok(()) => journal.log(&format!("removed volume '{volume}'")),
            Err(error) => journal.warn(&format!("unable to remove volume '{volume}' - {error}")),
        }
    }
    for (volume, snapshot) in fate
        .kept
        .iter()
        .flat_map(|volume| previous.snapshots.keys().map(move |s| (volume, s)))
    {
        // A volume that was added after the snapshot has none.
        if let Err(error) = storages.snapshot_delete(volume, snapshot) {
            journal.log(&format!("snapshot '{snapshot}' of volume '{volume}' stays - {error}"));
        }
    }
    Ok(())
}

/// Which volumes stay.
struct Fate {
    kept: BTreeSet<VolumeId>,
    freed: BTreeSet<VolumeId>,
}

impl Fate {
    fn of(
        storages: &Storages,
        vmid: VmId,
        previous: &GuestConfig,
        restored: &BTreeSet<DriveKey>,
        referenced: &BTreeSet<VolumeId>,
    ) -> Self {
        let mut kept = owned(storages, vmid, previous);
        let sections = || std::iter::once(&previous.main).chain(previous.snapshots.values());
        let states = sections().filter_map(|section| section.get("vmstate")?.parse().ok());
        let drives = VmConfig::new(&previous.main).drives();
        let going = |key: DriveKey, is_cloudinit: bool| is_cloudinit || restored.contains(&key);
        let replaced = drives
            .iter()
            .filter(|drive| going(drive.key, drive.is_cloudinit()))
            .filter_map(crate::config::Drive::volume);
        let stays: BTreeSet<VolumeId> = drives
            .iter()
            .filter(|drive| !going(drive.key, drive.is_cloudinit()))
            .filter_map(crate::config::Drive::volume)
            .collect();
        let freed: BTreeSet<VolumeId> = replaced
            .filter(|volume| !stays.contains(volume) && !referenced.contains(volume))
            .chain(states)
            .filter(|volume| kept.contains(volume))
            .collect();
        kept.retain(|volume| !freed.contains(volume));
        Self { kept, freed }
    }
}

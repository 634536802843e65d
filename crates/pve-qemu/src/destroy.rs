//! Destroying a VM (reference 06b §8).

use pve_guest::{GuestConfig, GuestKind};
use pve_schema::ids::VmId;
use pve_schema::{Context, Failure};
use pve_storage::{Content, Storages};
use serde::{Deserialize, Serialize};

use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::process;
use crate::runtime::Runtime;
use crate::volumes;

/// The lock of a config that is only a place-holder: its volumes are going.
const LOCK: &str = "destroyed";

/// Why a VM is not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its `protection` key is set.
    #[error("can't remove VM {0} - protection mode enabled")]
    Protected(VmId),
    /// It runs.
    #[error("VM {0} is running - destroy failed")]
    Running(VmId),
}

impl Failure for Refusal {}

/// What goes along.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Scope {
    /// The `lock` key is ignored.
    pub skip_lock: bool,
    /// What else of the cluster names the VM forgets it.
    pub purge: bool,
    /// Volumes of the VM that its config does not name go too.
    pub unreferenced_disks: bool,
}

/// Refuses what may not be destroyed: before the task starts, so that the caller hears of it at once, and again in it.
///
/// # Errors
/// [`Refusal`], the lock, or that there is no such VM.
pub fn check(context: &Context, vmid: VmId, skip_lock: bool) -> Result<GuestConfig, VmError> {
    let config = files::load(context, vmid)?;
    if config.is_protected() {
        return Err(Refusal::Protected(vmid).into());
    }
    // A saved state goes with the VM.
    if !skip_lock && config.lock() != Some("suspended") {
        config.check_lock()?;
    }
    if process::is_running(&context.site, vmid) {
        return Err(Refusal::Running(vmid).into());
    }
    Ok(config)
}

/// What makes the rest of the cluster forget a VM: jobs that name it, for one. This crate knows nothing of them.
pub type Forget<'a> = &'a dyn Fn(&Context, VmId) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Destroys a VM: volumes first, then rights and other files, then what `forget` does if all is to be purged, the config
/// last, so that a failure leaves something to try again with.
///
/// # Errors
/// [`check`]'s, a volume that others depend on, and what `forget` says.
pub fn destroy(
    context: &Context,
    vmid: VmId,
    scope: Scope,
    forget: Forget<'_>,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let config = check(context, vmid, scope.skip_lock)?;
    let storages = Storages::open(context)?;
    free_owned(&storages, vmid, &config, journal)?;
    if scope.unreferenced_disks {
        free_unreferenced(&storages, vmid, journal);
    }
    let mut place_holder = GuestConfig::new(GuestKind::Qemu);
    place_holder.main.set("lock", LOCK);
    files::save(context, vmid, &mut place_holder)?;
    pve_access::edit::remove_guest_access(context, vmid).unwrap_or_else(|error| journal.warn(&error.to_string()));
    remove_firewall(context, vmid, journal);
    if scope.purge {
        // Replication jobs and high availability are not part of the suite yet: none can name the VM.
        journal.log(&format!("purging VM {vmid} from related configurations.."));
        forget(context, vmid).map_err(VmError::Forget)?;
    }
    Runtime::new(&context.site, vmid).remove_all();
    files::remove(context, vmid)?;
    Ok(())
}

fn free_owned(storages: &Storages, vmid: VmId, config: &GuestConfig, journal: &mut dyn Journal) -> Result<(), VmError> {
    for volume in volumes::owned(storages, vmid, config) {
        match storages.free(&volume) {
            Ok(()) => journal.log(&format!("removed volume '{volume}'")),
            Err(error @ pve_storage::StorageError::BaseInUse(_)) => return Err(error.into()),
            // A storage that is gone must not make the VM immortal.
            Err(error) => journal.warn(&format!("unable to remove volume '{volume}' - {error}")),
        }
    }
    Ok(())
}

fn free_unreferenced(storages: &Storages, vmid: VmId, journal: &mut dyn Journal) {
    for storage in storages.iter() {
        if storage.is_disabled() || !storage.holds(Content::Images) {
            continue;
        }
        let Ok(entries) = storages.list(&storage.id, Some(Content::Images), Some(vmid)) else {
            journal.warn(&format!("unable to list volumes of storage '{}'", storage.id));
            continue;
        };
        for volume in entries.iter().filter_map(|entry| entry.volid.parse().ok()) {
            match storages.free(&volume) {
                Ok(()) => journal.log(&format!("removed unreferenced volume '{volume}'")),
                Err(error) => journal.warn(&format!("unable to remove volume '{volume}' - {error}")),
            }
        }
    }
}

fn remove_firewall(context: &Context, vmid: VmId, journal: &mut dyn Journal) {
    if let Err(error) = pve_cfs::Cfs::new(context).remove(&format!("firewall/{vmid}.fw")) {
        journal.warn(&error.to_string());
    }
}

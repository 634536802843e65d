//! What of an archived config its caller may have.
//!
//! Upstream checks bridges and mappings. A config in an archive may come from whoever can upload one, so here also what
//! only root may set needs root, and a drive that is not restored from the archive needs the right to use its volume –
//! unless the VM that is overwritten has just that value already.

use std::collections::BTreeSet;

use pve_access::UserConfig;
use pve_guest::{GuestConfig, Section};
use pve_schema::ids::{AuthId, VmId};
use pve_storage::Storages;

use crate::config::{Drive, DriveKey};
use crate::error::VmError;
use crate::update::{Caller, Requirement, UpdateError, required_privileges, volumes};

/// Keys that every VM has and a restore keeps or makes anew, though no user may set them.
const EXEMPT: [&str; 2] = ["meta", "vmgenid"];

/// Refuses an archived config with something that the caller may not have.
///
/// `restored` are the drives with data in the archive, `own` the keys for which the caller gives a value of his own,
/// `previous` the config that is overwritten.
///
/// # Errors
/// The first refusal.
pub fn check(
    storages: &Storages,
    (who, rights): (&AuthId, &UserConfig),
    vmid: VmId,
    archived: &GuestConfig,
    previous: &Section,
    restored: &BTreeSet<DriveKey>,
    own: &dyn Fn(&str) -> bool,
) -> Result<(), VmError> {
    if who.is_root() {
        return Ok(());
    }
    let caller = Caller { id: who, rights };
    for (key, value) in archived.main.iter() {
        if EXEMPT.contains(&key) || own(key) || previous.get(key) == Some(value) {
            continue;
        }
        if let Ok(key) = key.parse::<DriveKey>() {
            if !restored.contains(&key) {
                volumes::check_access(storages, &caller, vmid, &Drive::parse(key, value)?, None)?;
            }
            continue;
        }
        for requirement in required_privileges(vmid, key, None, Some(value)) {
            check_requirement(&caller, key, requirement)?;
        }
    }
    Ok(())
}

/// What a privilege on the VM itself would allow comes with the right to restore it.
fn check_requirement(caller: &Caller<'_>, key: &str, requirement: Requirement) -> Result<(), UpdateError> {
    match requirement {
        Requirement::AnyOf { path, .. } if path == "/" || path.starts_with("/vms/") => Ok(()),
        Requirement::AnyOf { path, privileges } => caller.check_any(&path, &privileges),
        Requirement::Root => Err(UpdateError::RootOnly(key.to_owned())),
        Requirement::RootForDevice => Err(UpdateError::RootOnlyDevice(key.to_owned())),
    }
}

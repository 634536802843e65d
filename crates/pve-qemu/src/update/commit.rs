//! What is pending becomes what is: for a guest that does not run, or for one key that was changed while it runs.

use pve_guest::GuestConfig;
use pve_schema::ids::VmId;
use pve_storage::Storages;

use super::cloudinit;
use super::error::UpdateError;
use super::volumes;
use crate::config::{Drive, DriveKey};
use crate::journal::Journal;

/// Puts everything that is pending into force. A key that cannot be changed stays pending; its error is told by key.
pub fn all(
    storages: &Storages,
    vmid: VmId,
    config: &mut GuestConfig,
    journal: &mut dyn Journal,
) -> pve_schema::ParamErrors {
    let deletes: Vec<String> = config.pending_deletes.iter().map(|(key, _)| key.to_owned()).collect();
    let sets: Vec<String> = config.pending.names().map(str::to_owned).collect();
    let mut errors = pve_schema::ParamErrors::new();
    for key in deletes.into_iter().chain(sets) {
        if let Err(error) = one(storages, vmid, config, &key, journal) {
            errors.insert(key.clone(), format!("unable to apply pending change {key} : {error}"));
        }
    }
    config.clean_pending();
    errors
}

/// Puts what is pending for one key into force, as far as the config and volumes go. Whoever does this for a running
/// guest has changed the guest before.
///
/// # Errors
/// [`UpdateError::NoUnusedSlot`]
pub fn one(
    storages: &Storages,
    vmid: VmId,
    config: &mut GuestConfig,
    key: &str,
    journal: &mut dyn Journal,
) -> Result<(), UpdateError> {
    if let Some(force) = config.pending_deletes.get(key) {
        return delete(storages, vmid, config, key, force, journal);
    }
    let Some(new) = config.pending.get(key).map(str::to_owned) else {
        return Ok(());
    };
    let old = drive(config, key);
    cloudinit::record(config, key, Some(&new));
    config.main.set(key, new);
    config.drop_pending(key);
    match old {
        Some(old) => volumes::keep_unused(storages, vmid, config, &old, journal),
        None => Ok(()),
    }
}

fn delete(
    storages: &Storages,
    vmid: VmId,
    config: &mut GuestConfig,
    key: &str,
    force: bool,
    journal: &mut dyn Journal,
) -> Result<(), UpdateError> {
    let old = drive(config, key);
    cloudinit::record(config, key, None);
    config.main.remove(key);
    config.drop_pending(key);
    let Some(old) = old else { return Ok(()) };
    let volume = old.volume().filter(|volume| volumes::is_owned(storages, vmid, volume));
    match volume {
        Some(volume) if force && !volumes::is_used(config, &old.file, None) => {
            volumes::free(storages, &volume, journal);
            Ok(())
        }
        _ => volumes::keep_unused(storages, vmid, config, &old, journal),
    }
}

/// The drive that a key of the main section is.
fn drive(config: &GuestConfig, key: &str) -> Option<Drive> {
    let key: DriveKey = key.parse().ok()?;
    Drive::parse(key, config.main.get(&key.to_string())?).ok()
}

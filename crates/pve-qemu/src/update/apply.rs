//! The change itself, as far as the config goes: steps 10 to 14 of reference 06a §4.
//!
//! ```text
//! revert ─▶ delete ─▶ set (drives first, boot order last) ─▶ drop what changes nothing
//! ```

use pve_guest::GuestConfig;
use pve_guest::tags::{self, TagStyle};
use pve_schema::ids::VmId;
use pve_storage::Storages;

use super::change::Change;
use super::error::UpdateError;
use super::volumes::{self, Allocator};
use crate::command::pin_for_windows;
use crate::config::{Boot, Drive, DriveKey, OsType, Props, Version, VmConfig};
use crate::journal::Journal;

/// What a change needs to know besides the config.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The VM.
    pub vmid: VmId,
    /// The storages.
    pub storages: &'a Storages,
    /// How tags are written.
    pub tag_style: TagStyle,
    /// The installed QEMU, to which a Windows guest is pinned.
    pub qemu: Version,
}

/// Refuses a change of a config that is not as the caller believes, or is taken (step 10).
///
/// # Errors
/// The digest, the lock, the balloon.
pub fn check_state(config: &GuestConfig, change: &Change) -> Result<(), UpdateError> {
    config.check_digest(change.digest.as_deref())?;
    if !change.skip_lock {
        config.check_lock()?;
    }
    let balloon = change.set.get("balloon").and_then(|text| text.parse::<u64>().ok());
    if let Some(balloon) = balloon.filter(|balloon| *balloon > 0) {
        let new = |text: &String| Props::parse("memory", text).ok()?.integer("current");
        let effective = config.effective();
        let memory = change
            .set
            .get("memory")
            .and_then(new)
            .unwrap_or_else(|| VmConfig::new(&effective).memory());
        if balloon > memory {
            return Err(UpdateError::Balloon);
        }
    }
    Ok(())
}

/// Makes a change pending. Volumes are allocated, and freed again when something fails; the caller then throws the
/// config away.
///
/// # Errors
/// [`UpdateError`]
pub fn make_pending(
    around: &Surroundings<'_>,
    config: &mut GuestConfig,
    change: &Change,
    journal: &mut dyn Journal,
) -> Result<(), UpdateError> {
    let mut allocator = Allocator::new(around.storages, around.vmid, None);
    let mut apply = Apply {
        around,
        config,
        change,
        allocator: &mut allocator,
        journal,
    };
    let done = apply.run();
    if done.is_err() {
        allocator.undo(journal);
    }
    done
}

struct Apply<'a, 'b> {
    around: &'a Surroundings<'a>,
    config: &'a mut GuestConfig,
    change: &'a Change,
    allocator: &'a mut Allocator<'b>,
    journal: &'a mut dyn Journal,
}

impl Apply<'_, '_> {
    fn run(&mut self) -> Result<(), UpdateError> {
        for key in &self.change.revert {
            self.revert(key)?;
        }
        for key in &self.change.delete {
            self.delete(key)?;
        }
        let is_drive = |key: &str| key.parse::<DriveKey>().is_ok();
        let keys = || self.change.set.iter().filter(|(key, _)| *key != "boot");
        for (key, value) in keys().filter(|(key, _)| is_drive(key)) {
            self.set_drive(key, value)?;
        }
        for (key, value) in keys().filter(|(key, _)| !is_drive(key)) {
            self.set(key, value)?;
        }
        if let Some(value) = self.change.set.get("boot") {
            self.set_boot(value)?;
        }
        self.config.clean_pending();
        Ok(())
    }

    /// What was pending is as if it had never been; a volume made for it becomes unused.
    fn revert(&mut self, key: &str) -> Result<(), UpdateError> {
        let dropped = self.pending_drive(key);
        self.config.drop_pending(key);
        self.keep(dropped)
    }

    fn delete(&mut self, key: &str) -> Result<(), UpdateError> {
        if !self.config.main.has(key) && !self.config.pending.has(key) {
            self.config.drop_pending(key);
            self.journal
                .warn(&format!("cannot delete '{key}' - not set in current configuration!"));
            return Ok(());
        }
        self.leave_boot_order(key);
        match key {
            "tags" => {
                self.config.drop_pending(key);
                self.config.main.remove(key);
            }
            "vmstate" => self.delete_state(),
            _ => match key.parse::<DriveKey>() {
                Ok(drive) if drive.bus == crate::config::Bus::Unused => self.delete_unused(key, drive)?,
                Ok(_) => self.delete_drive(key)?,
                Err(_) => self.config.pend_delete(key, self.change.force),
            },
        }
        Ok(())
    }

    fn delete_unused(&mut self, key: &str, drive: DriveKey) -> Result<(), UpdateError> {
        let Some(drive) = self
            .config
            .main
            .get(key)
            .and_then(|text| Drive::parse(drive, text).ok())
        else {
            self.config.main.remove(key);
            return Ok(());
        };
        if self.config.is_protected() {
            return Err(UpdateError::ProtectedUnused(drive.file));
        }
        if let Some(volume) = drive.volume()
            && volumes::is_owned(self.around.storages, self.around.vmid, &volume)
        {
            if volumes::is_used(self.config, &drive.file, Some(key)) {
                return Err(UpdateError::InUse(drive.file));
            }
            self.around.storages.free(&volume)?;
        }
        self.config.main.remove(key);
        Ok(())
    }

    fn delete_drive(&mut self, key: &str) -> Result<(), UpdateError> {
        if self.config.is_protected() {
            return Err(UpdateError::ProtectedDrive(key.to_owned()));
        }
        let dropped = self.pending_drive(key);
        self.config.pend_delete(key, self.change.force);
        self.keep(dropped)
    }

    /// The saved state of a suspended guest.
    fn delete_state(&mut self) {
        let state = self.config.main.remove("vmstate");
        if let Some(volume) = state.and_then(|text| text.parse().ok()) {
            volumes::free(self.around.storages, &volume, self.journal);
        }
        for key in ["runningmachine", "runningcpu", "running-nets-host-mtu"] {
            self.config.main.remove(key);
        }
        if self.config.lock() == Some("suspended") {
            self.config.main.remove("lock");
        }
    }

    /// A device that goes is not booted from.
    fn leave_boot_order(&mut self, key: &str) {
        let Some(Boot::Order(devices)) = self.boot() else {
            return;
        };
        if devices.iter().any(|device| device == key) {
            let rest: Vec<String> = devices.into_iter().filter(|device| device != key).collect();
            self.pend_boot(rest);
        }
    }

    fn boot(&self) -> Option<Boot> {
        Boot::parse(self.config.effective_value("boot")?).ok()
    }

    /// An empty order cannot be stored: then the key goes.
    fn pend_boot(&mut self, devices: Vec<String>) {
        if devices.is_empty() {
            self.config.pend_delete("boot", false);
        } else {
            self.config.pend_set("boot", Boot::Order(devices).to_string());
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), UpdateError> {
        if self.config.pending.get(key) == Some(value) {
            return Ok(());
        }
        match key {
            "cipassword" => {
                let stored = self.stored_password(value)?;
                self.config.drop_pending(key);
                self.config.main.set(key, stored);
            }
            "tags" => self.config.pend_set(key, tags::normalise(value, self.around.tag_style)),
            "ostype" => {
                self.pin_windows(value);
                self.config.pend_set(key, value);
            }
            _ => self.config.pend_set(key, value),
        }
        Ok(())
    }

    /// A guest that becomes a Windows keeps the hardware that it has now.
    fn pin_windows(&mut self, ostype: &str) {
        let (new, old) = (OsType::parse(ostype), VmConfig::new(&self.config.main).ostype());
        if !new.is_windows() || old.is_windows() || self.change.set.contains_key("machine") {
            return;
        }
        let effective = self.config.effective();
        let Ok(machine) = VmConfig::new(&effective).machine() else {
            return;
        };
        let Some(pinned) = pin_for_windows(machine.kind, self.around.qemu) else {
            return;
        };
        self.journal
            .log(&format!("pinning machine type to '{pinned}' for Windows guest OS"));
        let mut props = VmConfig::new(&effective)
            .props("machine")
            .ok()
            .flatten()
            .unwrap_or_default();
        props.take("type");
        self.config
            .pend_set("machine", format!("{pinned}{}", props.print_rest()));
    }

    /// Passwords are stored as hashes, except for Windows, which wants the text.
    fn stored_password(&self, value: &str) -> Result<String, UpdateError> {
        let ostype = self
            .change
            .set
            .get("ostype")
            .map(String::as_str)
            .or_else(|| self.config.effective_value("ostype"));
        let windows = ostype.is_some_and(|ostype| OsType::parse(ostype).is_windows());
        if windows || is_hash(value) {
            return Ok(value.to_owned());
        }
        Ok(pve_access::password::hash(value)?)
    }

    fn set_drive(&mut self, key: &str, value: &str) -> Result<(), UpdateError> {
        if self.config.pending.get(key) == Some(value) {
            return Ok(());
        }
        let drive_key: DriveKey = key
            .parse()
            .map_err(|_| UpdateError::at(key, "unable to parse drive options"))?;
        let wanted = Drive::parse(drive_key, value)?;
        let old = self
            .config
            .main
            .get(key)
            .and_then(|text| Drive::parse(drive_key, text).ok());
        self.check_tpm(old.as_ref(), &wanted)?;
        let effective = self.config.effective();
        let stored = self.allocator.drive(&wanted, VmConfig::new(&effective), self.journal)?;
        let dropped = self.pending_drive(key).filter(|pending| pending.file != stored.file);
        let is_new = !self.config.main.has(key) && !self.config.pending.has(key);
        self.config.pend_set(key, stored.to_string());
        self.keep(dropped)?;
        if is_new && stored.is_plain_cdrom() {
            self.join_boot_order(key);
        }
        Ok(())
    }

    fn check_tpm(&self, old: Option<&Drive>, new: &Drive) -> Result<(), UpdateError> {
        let version = |drive: &Drive| drive.options.get("version").unwrap_or("v1.2").to_owned();
        match old.filter(|old| old.key.bus == crate::config::Bus::Tpmstate && old.file == new.file) {
            Some(old) if version(old) != version(new) => Err(UpdateError::TpmVersion),
            _ => Ok(()),
        }
    }

    /// A new CD-ROM drive can be booted from, last.
    fn join_boot_order(&mut self, key: &str) {
        let Some(Boot::Order(mut devices)) = self.boot() else {
            return;
        };
        if !devices.iter().any(|device| device == key) {
            devices.push(key.to_owned());
            self.pend_boot(devices);
        }
    }

    fn set_boot(&mut self, value: &str) -> Result<(), UpdateError> {
        if let Boot::Order(devices) = Boot::parse(value)? {
            let effective = self.config.effective();
            if let Some(missing) = devices.into_iter().find(|device| !effective.has(device)) {
                return Err(UpdateError::BootOrder(missing));
            }
            if self.config.main.has("bootdisk") {
                self.config.pend_delete("bootdisk", false);
            }
        }
        self.config.pend_set("boot", value);
        Ok(())
    }

    fn pending_drive(&self, key: &str) -> Option<Drive> {
        Drive::parse(key.parse().ok()?, self.config.pending.get(key)?).ok()
    }

    fn keep(&mut self, dropped: Option<Drive>) -> Result<(), UpdateError> {
        match dropped {
            Some(drive) => volumes::keep_unused(
                self.around.storages,
                self.around.vmid,
                self.config,
                &drive,
                self.journal,
            ),
            None => Ok(()),
        }
    }
}

/// Whether a password looks hashed already: `^\$(?:[156]|2[ay])(\$.+){2}`
fn is_hash(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('$') else {
        return false;
    };
    let mut parts = rest.splitn(3, '$');
    let scheme = parts
        .next()
        .is_some_and(|scheme| ["1", "5", "6", "2a", "2y"].contains(&scheme));
    scheme && parts.next().is_some_and(|part| !part.is_empty()) && parts.next().is_some_and(|part| !part.is_empty())
}

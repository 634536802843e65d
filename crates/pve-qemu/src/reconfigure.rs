//! Changing a VM's config from the parameters of a call: [`crate::update`] with all that it needs of the node.
//!
//! [`check`] runs before any task, so that the caller hears of mistakes at once; [`carry_out`] checks again under the
//! lock and makes the change, in force at once where the guest is off or can take it.

use std::path::Path;

use pve_access::UserConfig;
use pve_cfs::{Cfs, Datacenter};
use pve_schema::ids::{AuthId, VmId};
use pve_schema::{Context, Params};
use pve_storage::Storages;

use crate::accel::Accel;
use crate::config::{Drive, DriveKey, Version};
use crate::error::VmError;
use crate::files;
use crate::hotplug;
use crate::journal::Journal;
use crate::process;
use crate::start::{host, probe};
use crate::tags;
use crate::update::rights::check_change;
use crate::update::{self, Caller, Change, Defaults, Live, Surroundings, volumes};

/// Reads a change from the parameters of a call, fills in what is missing, and checks that it may be made.
///
/// # Errors
/// What is wrong with the change, who may not make it, or that the VM is not as the caller believes.
pub fn check(
    context: &Context,
    vmid: VmId,
    params: &Params,
    rights: &UserConfig,
    who: &AuthId,
) -> Result<Change, VmError> {
    let caller = Caller { id: who, rights };
    let mut change = Change::from_params(params, &caller, has_cgroup_v2())?;
    let datacenter = Datacenter::read(&Cfs::new(context))?;
    let storages = Storages::open(context)?;
    fill_in(&storages, &mut change, &datacenter)?;
    permit(context, vmid, &change, &caller, &storages, &datacenter)?;
    Ok(change)
}

/// Checks a change that only takes keys away.
///
/// # Errors
/// As [`check`].
pub fn check_unlink(
    context: &Context,
    vmid: VmId,
    keys: &str,
    force: bool,
    rights: &UserConfig,
    who: &AuthId,
) -> Result<Change, VmError> {
    let change = Change::unlink(keys, force);
    let datacenter = Datacenter::read(&Cfs::new(context))?;
    let storages = Storages::open(context)?;
    permit(
        context,
        vmid,
        &change,
        &Caller { id: who, rights },
        &storages,
        &datacenter,
    )?;
    Ok(change)
}

/// Fills in hardware addresses and ids, and brings drives into form.
pub(crate) fn fill_in(storages: &Storages, change: &mut Change, datacenter: &Datacenter) -> Result<(), VmError> {
    let mut random = random;
    let mut defaults = Defaults {
        mac_prefix: datacenter.text("mac_prefix"),
        random: &mut random,
    };
    Ok(update::prepare(storages, &mut change.set, &mut defaults)?)
}

fn permit(
    context: &Context,
    vmid: VmId,
    change: &Change,
    caller: &Caller<'_>,
    storages: &Storages,
    datacenter: &Datacenter,
) -> Result<(), VmError> {
    let config = files::load(context, vmid)?;
    let tag_access = tags::access(datacenter, context, caller.rights, caller.id);
    check_change(caller, vmid, &config, change, &tag_access)?;
    for (key, text) in &change.set {
        if let Ok(key) = key.parse::<DriveKey>() {
            volumes::check_access(storages, caller, vmid, &Drive::parse(key, text)?, None)?;
        }
    }
    Ok(update::check_state(&config, change)?)
}

/// Makes a change that was checked.
///
/// # Errors
/// What is refused under the lock after all; status 400 by key for what could not be put into force, which is pending
/// then.
pub fn carry_out(context: &Context, vmid: VmId, change: &Change, journal: &mut dyn Journal) -> Result<(), VmError> {
    // The same thread takes the lock again inside: that a VM starts or stops meanwhile is kept out by this.
    let _lock = files::lock(context, vmid)?;
    let datacenter = Datacenter::read(&Cfs::new(context))?;
    let storages = Storages::open(context)?;
    let around = Surroundings {
        vmid,
        storages: &storages,
        tag_style: tags::style(&datacenter),
        qemu: installed_version(context)?,
    };
    journal.log(&format!("update VM {vmid}: {}", change.summary()));
    let mut by_monitor = |config: &mut _, plan, journal: &mut dyn Journal| {
        hotplug::carry_out(context, vmid, &storages, config, plan, journal)
    };
    let live: Option<Live<'_>> = if process::is_running(&context.site, vmid) {
        Some(&mut by_monitor)
    } else {
        None
    };
    Ok(update::update(context, &around, change, live, journal)?)
}

/// The version of the installed QEMU.
pub(crate) fn installed_version(context: &Context) -> Result<Version, VmError> {
    let probe = probe::of(&context.site, &host::program(Accel::Tcg)).map_err(host::HostError::from)?;
    let version = Version::parse(&probe.version);
    Ok(version.ok_or(host::HostError::Version(probe.version))?)
}

/// Random bytes from the system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), String> {
    getrandom::fill(bytes).map_err(|error| error.to_string())
}

fn has_cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

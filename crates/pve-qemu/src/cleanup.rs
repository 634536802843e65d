//! What is done once a VM has gone (reference 06b §6.4, §6.5).
//!
//! Whoever stops a VM cleans up after it ([`after_stop`]); of a VM that ended by itself the event daemon hears
//! ([`after_exit`]). Both may come at once: the config lock lets one go first, and the `.cleanup` marker tells the other
//! that nothing is left to do. The marker also outlives a daemon that was killed in between: [`leftovers`].

use std::fs;
use std::time::Duration;

use pve_guest::GuestConfig;
use pve_schema::ids::VmId;
use pve_schema::{Context, Site};

use crate::config::VmConfig;
use crate::error::VmError;
use crate::events::Exit;
use crate::files;
use crate::hook::{self, Phase};
use crate::journal::Journal;
use crate::network::{self, tap_name};
use crate::process;
use crate::runtime::{self, Runtime};
use crate::update;

/// How long the event daemon waits for whoever stops the VM at the same time.
const LOCK: Duration = Duration::from_secs(60);
/// How long a process may take to end after it closed its event connection.
const STILL_RUNNING: Duration = Duration::from_secs(30);

/// How much is cleaned up.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// The volumes stay active.
    pub keep_active: bool,
    /// What waited for the stop is put into force.
    pub apply_pending: bool,
}

/// What a VM that ended by itself leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Rest,
    /// It is to be started again.
    Start,
}

/// Cleans up after a VM that has gone, unless somebody did already. Called under the config lock.
///
/// # Errors
/// What putting pending changes into force says.
pub fn after_stop(
    context: &Context,
    vmid: VmId,
    config: &mut GuestConfig,
    scope: Scope,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    let runtime = Runtime::new(&context.site, vmid);
    if !runtime.is_cleanup_due() {
        return Ok(());
    }
    // Files of a directory need no deactivation; storages that do are not part of the suite yet (`scope.keep_active`).
    remove_taps(context, vmid, config);
    runtime.remove_sockets();
    remove_shared_memory(context, vmid, config);
    let applied = if scope.apply_pending && config.has_pending() {
        update::apply_pending(context, vmid, config, journal).map_err(VmError::from)
    } else {
        Ok(())
    };
    hook::run_if_set(context, vmid, config, Phase::PostStop, journal)?;
    runtime.clear_cleanup_due();
    applied
}

/// Cleans up after a VM that ended by itself, and says whether it is to be started again.
///
/// # Errors
/// When the lock is not to be had, or the process does not end.
pub fn after_exit(context: &Context, exit: Exit, journal: &mut dyn Journal) -> Result<Next, VmError> {
    let vmid = exit.vmid;
    let _lock = files::lock_within(context, vmid, LOCK)?;
    let runtime = Runtime::new(&context.site, vmid);
    if !files::exists(context, vmid)? {
        // Destroyed meanwhile: nothing says what it used, so only its own files go.
        if !process::is_running(&context.site, vmid) {
            runtime.remove_all();
        }
        return Ok(Next::Rest);
    }
    let mut config = files::load(context, vmid)?;
    if config.lock() == Some("rollback") {
        return Ok(Next::Rest);
    }
    // A process that closes its event connection is about to end.
    if exit.process.is_some_and(|process| !process.wait_gone(STILL_RUNNING)) {
        journal.warn("aborting cleanup, VM is still running after 30 seconds");
        return Ok(Next::Rest);
    }
    // Somebody stopped it, cleaned up and started it again meanwhile; or a backup did.
    if process::is_running(&context.site, vmid) {
        return Ok(Next::Rest);
    }
    let how = if exit.graceful { "shut down" } else { "died" };
    journal.log(&format!("VM {vmid} {how}; cleaning up"));
    if !exit.graceful {
        remove_taps(context, vmid, &config);
    }
    let scope = Scope {
        keep_active: false,
        apply_pending: true,
    };
    if let Err(error) = after_stop(context, vmid, &mut config, scope, journal) {
        journal.warn(&error.to_string());
    }
    if runtime.take_restart_request() {
        return Ok(Next::Start);
    }
    Ok(Next::Rest)
}

/// VMs that ended while nobody listened: their clean-up is still due and their process has gone.
pub fn leftovers(site: &Site) -> Vec<VmId> {
    let entries = fs::read_dir(runtime::directory(site));
    let names = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_suffix(".cleanup")?.parse().ok())
        .filter(|vmid| !process::is_running(site, *vmid))
        .collect()
}

/// Removes a VM's taps, pending cards' included.
pub(crate) fn remove_taps(context: &Context, vmid: VmId, config: &GuestConfig) {
    for section in [&config.main, &config.pending] {
        for (number, _) in VmConfig::new(section).net_texts() {
            network::unplug(&tap_name(&context.site, vmid, number));
        }
    }
}

/// Removes the memory that the VM shared with others, if it had any.
fn remove_shared_memory(context: &Context, vmid: VmId, config: &GuestConfig) {
    let Ok(Some(shared)) = VmConfig::new(&config.main).props("ivshmem") else {
        return;
    };
    let name = shared.get("name").map_or_else(|| vmid.to_string(), str::to_owned);
    let mark = context.site.instance.as_ref().map_or("", |instance| instance.as_str());
    if let Err(error) = fs::remove_file(format!("/dev/shm/{mark}pve-shm-{name}")) {
        log::debug!("unable to remove the shared memory of VM {vmid} - {error}");
    }
}

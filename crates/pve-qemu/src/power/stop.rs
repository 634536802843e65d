//! Stopping a VM: hard, or by asking the guest (reference 06b §6.2).
//!
//! ```text
//!           asked: quit | powerdown | agent ── refused ──▶ forced? ── no ──▶ "… failed"
//!             │                                              │ yes
//!             ▼                                              ▼
//!           gone in time? ── no ──▶ forced? ── yes ──▶ SIGTERM, 10 s ──▶ SIGKILL, 1 s
//!             │ yes                   │ no                   │
//!             ▼                       ▼                      ▼
//!          stop-cleanup         "… got timeout"         stop-cleanup
//! ```

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pve_guest::GuestConfig;
use pve_schema::Context;
use pve_schema::clock::deadline;
use pve_schema::ids::VmId;
use serde_json::Value;

use crate::cleanup::{self, Scope};
use crate::config::VmConfig;
use crate::error::VmError;
use crate::files;
use crate::hook::{self, Phase};
use crate::journal::Journal;
use crate::process::{self, Process};
use crate::qmp::{self, Agent};

/// How long the guest has when nobody says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long QEMU has after SIGTERM: it flushes its disks.
const AFTER_TERM: Duration = Duration::from_secs(10);
/// How long the kernel has after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(1);
/// How often a wait looks whether the task is to end.
const STEP: Duration = Duration::from_millis(200);

/// How a VM is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// End the process.
    Quit,
    /// Ask the guest.
    Shutdown,
}

/// How a VM is to be stopped.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Whether the guest is asked.
    pub way: Way,
    /// How long it has; `None` for the config's or the usual time.
    pub timeout: Option<Duration>,
    /// Whether the process is ended when the guest does not follow.
    pub force: bool,
    /// Whether the `lock` key is ignored.
    pub skip_lock: bool,
    /// Whether the volumes stay active.
    pub keep_active: bool,
}

/// Stops a VM. One that does not run is stopped already.
///
/// # Errors
/// [`VmError::StopTimeout`], [`VmError::StopFailed`], and what the config or its lock says.
pub fn stop(context: &Context, vmid: VmId, order: Order, journal: &mut dyn Journal) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let Some(process) = process::find(&context.site, vmid) else {
        return Ok(());
    };
    let mut config = files::load(context, vmid)?;
    if !order.skip_lock {
        config.check_lock()?;
    }
    hook::run_if_set(context, vmid, &config, Phase::PreStop, journal)?;
    let deadline = deadline(limit(&config, order));
    if let Err(error) = ask(context, vmid, &config, order.way) {
        journal.warn(&error.to_string());
        // A process that just ended cannot answer: that is no failure.
        if process.is_alive() {
            refused(&process, order, journal)?;
        }
    } else {
        wait(&process, deadline, order, journal)?;
    }
    let scope = Scope {
        keep_active: order.keep_active,
        apply_pending: true,
    };
    cleanup::after_stop(context, vmid, &mut config, scope, journal)
}

fn limit(config: &GuestConfig, order: Order) -> Duration {
    let configured = match order.way {
        Way::Shutdown => VmConfig::new(&config.main)
            .startup()
            .down
            .map(|down| Duration::from_secs(down.into())),
        Way::Quit => None,
    };
    order.timeout.or(configured).unwrap_or(DEFAULT_TIMEOUT)
}

/// Asks QEMU or the guest to end.
fn ask(context: &Context, vmid: VmId, config: &GuestConfig, way: Way) -> Result<(), VmError> {
    let site = &context.site;
    match way {
        Way::Quit => qmp::execute(site, vmid, "quit", Value::Null)?,
        Way::Shutdown => {
            let agent = Agent::new(site, vmid);
            let configured = VmConfig::new(&config.main).agent().is_some();
            match agent.check(configured) {
                Ok(()) => agent.execute("guest-shutdown", Value::Null)?,
                Err(_) => qmp::execute(site, vmid, "system_powerdown", Value::Null)?,
            }
        }
    };
    Ok(())
}

/// Waits for the process to end, and ends it if that is wanted.
fn wait(process: &Process, deadline: Instant, order: Order, journal: &mut dyn Journal) -> Result<(), VmError> {
    while !process.wait_gone(STEP) {
        if journal.is_interrupted() {
            return Err(VmError::Interrupted);
        }
        if Instant::now() < deadline {
            continue;
        }
        if !order.force {
            return Err(VmError::StopTimeout);
        }
        journal.warn("VM still running - terminating now with SIGTERM");
        return terminate(process, journal);
    }
    Ok(())
}

fn refused(process: &Process, order: Order, journal: &mut dyn Journal) -> Result<(), VmError> {
    if !order.force {
        return Err(VmError::StopFailed);
    }
    journal.warn("VM quit/powerdown failed - terminating now with SIGTERM");
    terminate(process, journal)
}

/// Ends a process by signals.
///
/// # Errors
/// [`VmError::Unkillable`].
pub(crate) fn terminate(process: &Process, journal: &mut dyn Journal) -> Result<(), VmError> {
    process.signal(Signal::SIGTERM);
    if process.wait_gone(AFTER_TERM) {
        return Ok(());
    }
    journal.warn("VM still running - terminating now with SIGKILL");
    process.signal(Signal::SIGKILL);
    if process.wait_gone(AFTER_KILL) {
        return Ok(());
    }
    Err(VmError::Unkillable)
}

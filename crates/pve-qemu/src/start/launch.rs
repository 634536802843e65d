//! Runs QEMU until it has detached itself.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use pve_daemon::command::{Command, CommandError};
use pve_schema::Site;
use pve_schema::ids::VmId;

use crate::error::VmError;
use crate::journal::Journal;
use crate::process::{self, Process};
use crate::scope::{Limits, VmScope};

/// Nobody but root uses what QEMU makes: its sockets give control over the guest.
const UMASK: Mode = Mode::from_bits_truncate(0o077);
/// Becomes QEMU once it is told to: its control group must be around it before there is anything that runs in it.
const GATE: &str = "read -r go || exit 1; exec \"$0\" \"$@\" </dev/null";
/// What it is told.
const GO: &str = "go\n";
/// How long a QEMU that missed its deadline may take to go.
const KILL: Duration = Duration::from_secs(5);

/// The VM's scope, without what an earlier run left of it. A guest without limits is better than none, so it is not
/// fatal if systemd cannot be reached.
fn scope(site: &Site, vmid: VmId, journal: &mut dyn Journal) -> Result<Option<VmScope>, VmError> {
    match VmScope::of(site, vmid) {
        Ok(Some(scope)) => {
            scope.remove_stale().map_err(|error| VmError::Scope(vmid, error))?;
            Ok(Some(scope))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            journal.warn(&format!("VM {vmid} runs without a control group of its own - {error}"));
            Ok(None)
        }
    }
}

/// Runs QEMU and returns its process once the guest is set up. What it prints goes to the journal. Where systemd runs,
/// it and what it starts are in the VM's scope, with these limits.
///
/// # Errors
/// [`VmError::QemuExit`], [`VmError::QemuSignal`], [`VmError::StartTimeout`], [`VmError::Start`]; no process is left then.
pub(crate) fn launch(
    site: &Site,
    vmid: VmId,
    program: &Path,
    arguments: &[String],
    limits: &Limits,
    limit: Duration,
    journal: &mut dyn Journal,
) -> Result<Process, VmError> {
    let scope = scope(site, vmid, journal)?;
    let command = match &scope {
        Some(_) => Command::new("/bin/sh", limit).args(["-c", GATE]).arg(program).input(GO),
        None => Command::new(program, limit),
    };
    let mut refused = None;
    let mut enter = |pid| {
        let entered = scope.as_ref().map_or(Ok(()), |scope| scope.enter(pid, limits));
        entered.map_err(|error| {
            refused = Some(error);
            io::ErrorKind::Other.into()
        })
    };
    let before = umask(UMASK);
    let outcome = command
        .args(arguments)
        .run_lines_once_ready(&mut enter, &mut |_, line| journal.log(line));
    umask(before);
    if let Some(error) = refused {
        return Err(VmError::Scope(vmid, error));
    }
    let started = match outcome {
        Ok(_) => process::find(site, vmid).ok_or_else(|| VmError::Start("QEMU ended at once".to_owned())),
        Err(CommandError::ExitCode { code, .. }) => Err(VmError::QemuExit(code)),
        Err(CommandError::Signal { signal, .. }) => Err(VmError::QemuSignal(signal)),
        Err(CommandError::Timeout { .. }) => Err(VmError::StartTimeout),
        Err(error) => Err(VmError::Start(error.to_string())),
    };
    // It forks to detach itself: the half that was started may be gone while the other still sets up.
    if started.is_err()
        && let Some(process) = process::find(site, vmid)
    {
        process.signal(Signal::SIGKILL);
        process.wait_gone(KILL);
    }
    started
}

//! Runs QEMU until it has detached itself.

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

/// Nobody but root uses what QEMU makes: its sockets give control over the guest.
const UMASK: Mode = Mode::from_bits_truncate(0o077);
/// How long a QEMU that missed its deadline may take to go.
const KILL: Duration = Duration::from_secs(5);

/// Runs QEMU and returns its process once the guest is set up. What it prints goes to the journal.
///
/// # Errors
/// [`VmError::QemuExit`], [`VmError::QemuSignal`], [`VmError::StartTimeout`], [`VmError::Start`]; no process is left then.
pub(crate) fn launch(
    site: &Site,
    vmid: VmId,
    program: &Path,
    arguments: &[String],
    limit: Duration,
    journal: &mut dyn Journal,
) -> Result<Process, VmError> {
    let command = Command::new(program, limit).args(arguments);
    let before = umask(UMASK);
    let outcome = command.run_lines(&mut |_, line| journal.log(line));
    umask(before);
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

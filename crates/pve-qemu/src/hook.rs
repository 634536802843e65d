//! The hook script: a snippet of the user's that is run at turns of a VM's life (reference 06b §6.1, §6.4).

use std::time::Duration;

use pve_daemon::command::Command;
use pve_guest::GuestConfig;
use pve_schema::Context;
use pve_schema::ids::{VmId, VolumeId};
use pve_storage::Storages;

use crate::error::VmError;
use crate::journal::Journal;

/// How long a script may take: it may wait for other machines, but nothing waits for ever.
const LIMIT: Duration = Duration::from_secs(600);

/// A turn in a VM's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the start; a failure stops the start.
    PreStart,
    /// After the start.
    PostStart,
    /// Before the guest is asked to stop.
    PreStop,
    /// After the stop.
    PostStop,
}

impl Phase {
    /// The script's second argument.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::PreStart => "pre-start",
            Self::PostStart => "post-start",
            Self::PreStop => "pre-stop",
            Self::PostStop => "post-stop",
        }
    }
}

/// Runs a VM's hook script, if it has one; its output goes to the journal.
///
/// # Errors
/// [`VmError::Hook`], only before a start: at every other turn a failure is a warning.
pub(crate) fn run_if_set(
    context: &Context,
    vmid: VmId,
    config: &GuestConfig,
    phase: Phase,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    let Some(script) = config.main.get("hookscript") else {
        return Ok(());
    };
    let Err(text) = run(context, vmid, script, phase, journal) else {
        return Ok(());
    };
    let error = VmError::Hook {
        vmid,
        phase: phase.word(),
        text,
    };
    if phase == Phase::PreStart {
        return Err(error);
    }
    journal.warn(&error.to_string());
    Ok(())
}

fn run(context: &Context, vmid: VmId, script: &str, phase: Phase, journal: &mut dyn Journal) -> Result<(), String> {
    let volume: VolumeId = script.parse().map_err(|error| format!("{error}"))?;
    let path = Storages::open(context).and_then(|storages| {
        storages.activate(&volume.storage)?;
        storages.path(&volume)
    });
    let path = path.map_err(|error| error.to_string())?;
    Command::new(path, LIMIT)
        .arg(vmid.to_string())
        .arg(phase.word())
        .run_lines(&mut |_, line| journal.log(line))
        .map(drop)
        .map_err(|error| error.to_string())
}
